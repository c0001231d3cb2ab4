//! What a routing table is compiled from: one rule for each route that is in use.

use std::net::IpAddr;
use std::sync::Arc;

use ringway_snapshot::model::{Id, Status};
use ringway_snapshot::{Cidr, Expression, Route, Service};

use super::host::Asked;
use super::method::MethodSet;
use super::vars;

/// One route as the table sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule<T> {
    /// The route's id, unique in a table.
    pub id: Id,
    /// Host patterns; none: every host.
    pub hosts: Vec<Box<str>>,
    /// Path patterns.
    pub uris: Vec<Box<str>>,
    /// Methods it takes.
    pub methods: MethodSet,
    /// Client addresses it takes; none: every one.
    pub remotes: Vec<Cidr>,
    /// What must hold of the request's variables.
    pub vars: Option<Box<Expression>>,
    /// Among equal patterns the higher is tried first.
    pub priority: i64,
    /// What a lookup gives back; small and cheap to clone, since each pattern at each host has its own.
    pub payload: T,
}

/// The rule that a route means; `None` where the route is not in use. `service` is the one that the route names: its
/// hosts count where the route has none.
pub fn rules_of<T>(
    id: &str,
    route: &Route,
    service: Option<&Service>,
    payload: T,
) -> Result<Option<Rule<T>>, RuleError> {
    if route.status == Status::Disabled {
        return Ok(None);
    }
    // Leaving out a condition would let requests in that the operator shut out.
    if route.filter_func.is_some() {
        return Err(RuleError::Condition("filter_func"));
    }
    let vars = route.vars.as_ref().map(|vars| Expression::read(&vars.value()).map(Box::new)).transpose();
    let vars = vars.map_err(|(place, reason)| RuleError::Vars(place, reason))?;
    let hosts = hosts(route, service);
    let parse = |text: &str| text.parse().map_err(|_| RuleError::RemoteAddr(text.into()));
    Ok(Some(Rule {
        id: id.into(),
        hosts,
        uris: route.uris().map(Box::from).collect(),
        methods: MethodSet::of_field(route.methods.as_deref()),
        remotes: route.remote_addrs().map(parse).collect::<Result<_, _>>()?,
        vars: vars.filter(|vars| !matches!(&**vars, Expression::All(members) if members.is_empty())),
        priority: route.priority,
        payload,
    }))
}

/// Names a rule that a table holds, so that it can be taken out without a search through all hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Its id.
    pub id: Id,
    /// The hosts it had, as they were given.
    pub hosts: Vec<Box<str>>,
    /// The path patterns it had, as they were given.
    pub uris: Vec<Box<str>>,
}

impl Removal {
    /// The removal of the rule that a route made; `None` where it made none.
    pub fn of(id: &str, route: &Route, service: Option<&Service>) -> Option<Removal> {
        let (hosts, uris) = (hosts(route, service), route.uris().map(Box::from).collect());
        (route.status == Status::Enabled).then(|| Removal { id: id.into(), hosts, uris })
    }
}

fn hosts(route: &Route, service: Option<&Service>) -> Vec<Box<str>> {
    let own: Vec<Box<str>> = route.hosts().map(Box::from).collect();
    match service.and_then(|service| service.hosts.as_deref()) {
        Some(shared) if own.is_empty() => shared.to_vec(),
        _ => own,
    }
}

impl<T> From<&Rule<T>> for Removal {
    fn from(rule: &Rule<T>) -> Removal {
        Removal { id: rule.id.clone(), hosts: rule.hosts.clone(), uris: rule.uris.clone() }
    }
}

/// Why a route makes no rule. The validator refuses all of these before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The table cannot test this.
    #[error("{0} is a condition that the routing table does not test")]
    Condition(&'static str),
    /// Not an address or block.
    #[error("{0:?} is not an IP address or a block such as 10.0.0.0/8")]
    RemoteAddr(Box<str>),
    /// Not an expression; where below it, and why.
    #[error("vars{0}: {1}")]
    Vars(String, String),
}

/// The parts of a rule that all its hosts and patterns share. Requests read it only where it has conditions.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) remotes: Box<[Cidr]>,
    pub(super) vars: Option<Box<Expression>>,
    pub(super) id: Id,
    pub(super) priority: i64,
    pub(super) methods: MethodSet,
}

impl Shared {
    /// Whether it takes this client address.
    pub(super) fn takes(&self, remote: IpAddr) -> bool {
        self.remotes.is_empty() || self.remotes.iter().any(|block| block.contains(remote))
    }

    /// Whether it has conditions that not every request fulfils.
    pub(super) fn has_conditions(&self) -> bool {
        !self.remotes.is_empty() || self.vars.is_some()
    }

    /// Whether its variables are as they must be. Of a request that nothing is known of they are not.
    pub(super) fn holds(&self, asked: &Asked<'_>) -> bool {
        self.vars.as_ref().is_none_or(|vars| asked.facts.is_some_and(|facts| vars::holds(vars, facts)))
    }
}

/// A rule split into what its patterns share, its hosts and its patterns.
pub(super) struct Parts<T> {
    pub(super) shared: Arc<Shared>,
    pub(super) payload: T,
    pub(super) hosts: Vec<Box<str>>,
    pub(super) uris: Vec<Box<str>>,
}

impl<T> From<Rule<T>> for Parts<T> {
    fn from(rule: Rule<T>) -> Parts<T> {
        let Rule { id, hosts, uris, methods, remotes, vars, priority, payload } = rule;
        let shared = Shared { id, methods, remotes: remotes.into_boxed_slice(), vars, priority };
        Parts { shared: Arc::new(shared), payload, hosts, uris }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_takes_its_services_hosts_only_where_it_has_none() {
        let service = Service { hosts: Some(["s.com".into()].into()), ..Service::default() };
        let mut route = Route { uri: Some("/a".into()), ..Route::default() };
        let hosts = |route: &Route| rules_of("1", route, Some(&service), ()).unwrap().unwrap().hosts;
        assert_eq!(hosts(&route), [Box::from("s.com")]);
        route.host = Some("r.com".into());
        assert_eq!(hosts(&route), [Box::from("r.com")]);
    }

    #[test]
    fn a_route_out_of_use_makes_no_rule_and_an_untested_condition_an_error() {
        let mut route = Route { uri: Some("/a".into()), status: Status::Disabled, ..Route::default() };
        assert_eq!(rules_of("1", &route, None, ()), Ok(None));
        route.status = Status::Enabled;
        route.remote_addr = Some("x".into());
        assert_eq!(rules_of("1", &route, None, ()), Err(RuleError::RemoteAddr("x".into())));
        route.vars = Some(serde_json::from_str(r#"[["nope", "==", "1"]]"#).unwrap());
        assert!(matches!(rules_of("1", &route, None, ()), Err(RuleError::Vars(place, _)) if place == "/0/0"));
        route.filter_func = Some("f".into());
        assert_eq!(rules_of("1", &route, None, ()), Err(RuleError::Condition("filter_func")));
    }
}
