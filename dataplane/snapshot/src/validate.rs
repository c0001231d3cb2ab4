//! What must hold of a configuration beyond its types: patterns, ranges, references, and the list of what this
//! release does not act on yet, refused by name so that nothing is silently ignored.
//!
//! Both planes validate; the control plane before it publishes, the data plane before it compiles. Here a whole configuration is looked
//! at; [`crate::validator`] looks at what changed.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};

use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};

use crate::expression::Expression;
use crate::json::Json;
use crate::limits::{
    FAULTS_REPORTED_MAX, HOST_BYTES_MAX, HOSTS_PER_OBJECT_MAX, NODE_WEIGHT_MAX, OBJECTS_MAX, URI_BYTES_MAX,
    URI_SEGMENTS_MAX, URIS_PER_ROUTE_MAX,
};
use crate::log_rate::LogRate;
use crate::model::{
    Balancer, Id, KeepalivePool, Kind, Node, Object, PassHost, Plugins, Route, Scheme, Service, Timeout,
    Upstream, credential,
};
use crate::plugin::{Destination, Plugin, with_upstreams};
use crate::snapshot::{Entries, Entry};
use crate::upstream::{Checks, HashOn, Tuning, is_host_name, unix_path, zone_of};
use crate::variable::Variable;

mod consumers;

pub use consumers::logins;

/// One thing wrong with one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Plural name of the object's kind.
    pub kind: String,
    /// The object's id.
    pub id: String,
    /// JSON pointer (RFC 6901) to the field; empty for the object as a whole.
    pub pointer: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Fault { kind, id, pointer, reason } = self;
        if pointer.is_empty() {
            write!(f, "{kind}/{id}: {reason}")
        } else {
            write!(f, "{kind}/{id} at {pointer}: {reason}")
        }
    }
}

/// Checks a whole configuration. At most [`FAULTS_REPORTED_MAX`] faults are told; an empty list means it is valid.
pub fn validate(entries: &Entries) -> Vec<Fault> {
    let mut list = Vec::from_iter(too_many(entries));
    // Those that others refer to, and who was the first to show something.
    let mut known: HashSet<(Kind, &str), FixedState> = HashSet::default();
    let mut claims: HashMap<u128, (Kind, &Id), FixedState> = HashMap::default();
    for entry in entries {
        let kind = entry.object.kind();
        if !matches!(kind, Kind::Route | Kind::GlobalRule | Kind::Credential) {
            known.insert((kind, &entry.id));
        }
        for login in logins(entry) {
            claims.entry(login.claim()).or_insert((kind, &entry.id));
        }
    }
    let is_known = |kind: Kind, id: &str| known.contains(&(kind, id));
    let holder = |claim: u128| claims.get(&claim).map(|(kind, id)| (*kind, (*id).clone()));
    for entry in entries {
        list.extend(validate_entry(entry, &is_known, &holder));
        if list.len() >= FAULTS_REPORTED_MAX {
            break;
        }
    }
    list.truncate(FAULTS_REPORTED_MAX);
    list
}

/// What is wrong with one object, where `is_known` tells which objects there are that others refer to, and `holder` who was the
/// first to show something (see [`crate::plugin::Login::claim`]).
pub(crate) fn validate_entry(
    entry: &Entry,
    is_known: &dyn Fn(Kind, &str) -> bool,
    holder: &dyn Fn(u128) -> Option<(Kind, Id)>,
) -> Vec<Fault> {
    let mut faults = Faults { object: entry.key(), is_known, holder, list: Vec::new() };
    match &entry.object {
        Object::Route(route) => faults.route(route),
        Object::Service(service) => faults.service(service),
        Object::Upstream(upstream) => faults.upstream("", upstream),
        Object::PluginConfig(config) => faults.plugins(&config.plugins),
        Object::GlobalRule(rule) => faults.plugins(&rule.plugins),
        Object::Consumer(consumer) => faults.consumer(&entry.id, consumer),
        Object::Credential(credential) => faults.credential(&entry.id, credential),
        Object::ConsumerGroup(group) => faults.consumer_group(group),
    }
    faults.list
}

/// The one fault of a configuration that has too many objects.
pub(crate) fn too_many(entries: &Entries) -> Option<Fault> {
    let reason = format!("{} objects are over the limit of {OBJECTS_MAX}", entries.len());
    let (kind, id, pointer) = (String::new(), String::new(), String::new());
    (entries.len() > OBJECTS_MAX).then_some(Fault { kind, id, pointer, reason })
}

/// Tells the objects that an object names, each maybe more than once.
pub(crate) fn references(entry: &Entry, mut tell: impl FnMut(Kind, &str)) {
    let fields = match &entry.object {
        Object::Route(route) => [
            route.service_id.as_deref().map(|id| (Kind::Service, id)),
            route.plugin_config_id.as_deref().map(|id| (Kind::PluginConfig, id)),
            route.upstream_id.as_deref().map(|id| (Kind::Upstream, id)),
        ],
        Object::Service(service) => {
            [service.upstream_id.as_deref().map(|id| (Kind::Upstream, id)), None, None]
        }
        Object::Consumer(consumer) => {
            [consumer.group_id.as_deref().map(|id| (Kind::ConsumerGroup, id)), None, None]
        }
        Object::Credential(_) => {
            [credential(&entry.id).map(|(consumer, _)| (Kind::Consumer, consumer)), None, None]
        }
        _ => [None; 3],
    };
    fields.into_iter().flatten().for_each(|(kind, id)| tell(kind, id));
    for plugin in entry.object.plugins().into_iter().flat_map(with_upstreams) {
        for (_, destination) in plugin.destinations() {
            if let Destination::Id(id) = destination {
                tell(Kind::Upstream, id);
            }
        }
    }
}

/// Collects what is wrong with the object at hand. A place is only written out where something is wrong: valid objects, the
/// common case, are looked at without one allocation.
struct Faults<'a> {
    object: (Kind, &'a str),
    is_known: &'a dyn Fn(Kind, &str) -> bool,
    holder: &'a dyn Fn(u128) -> Option<(Kind, Id)>,
    list: Vec<Fault>,
}

impl Faults<'_> {
    fn add(&mut self, pointer: impl Into<String>, reason: impl Into<String>) {
        let (kind, id) = (self.object.0.name().to_owned(), self.object.1.to_owned());
        self.list.push(Fault { kind, id, pointer: pointer.into(), reason: reason.into() });
    }

    fn unsupported(&mut self, at: &str, field: &str, given: bool) {
        if given {
            self.add(format!("{at}/{field}"), "is not supported by this release; remove the field");
        }
    }

    fn route(&mut self, route: &Route) {
        match (&route.uri, &route.uris) {
            (None, None) => self.add("/uri", "a route needs \"uri\" or \"uris\""),
            (Some(_), Some(_)) => self.add("/uris", "give either \"uri\" or \"uris\", not both"),
            (_, Some(uris)) if uris.is_empty() => self.add("/uris", "is empty"),
            (_, Some(uris)) if uris.len() > URIS_PER_ROUTE_MAX => {
                self.add("/uris", format!("has {} patterns; the limit is {URIS_PER_ROUTE_MAX}", uris.len()));
            }
            _ => {}
        }
        self.patterns("uri", route.uri.as_deref(), route.uris.as_deref(), check_uri);
        if route.host.is_some() && route.hosts.is_some() {
            self.add("/hosts", "give either \"host\" or \"hosts\", not both");
        }
        self.hosts(route.host.as_deref(), route.hosts.as_deref());
        if route.remote_addr.is_some() && route.remote_addrs.is_some() {
            self.add("/remote_addrs", "give either \"remote_addr\" or \"remote_addrs\", not both");
        }
        self.patterns("remote_addr", route.remote_addr.as_deref(), route.remote_addrs.as_deref(), check_cidr);
        if route.methods.as_ref().is_some_and(|methods| methods.is_empty()) {
            self.add("/methods", "is empty; leave the field out to match every method");
        }
        self.vars(route.vars.as_ref());
        self.unsupported("", "filter_func", route.filter_func.is_some());
        self.unsupported("", "script", route.script.is_some());
        self.unsupported("", "script_id", route.script_id.is_some());
        self.unsupported("", "service_protocol", route.service_protocol.is_some());
        self.plugins(&route.plugins);
        for (pointer, reason) in LogRate::check(&route.labels) {
            self.add(pointer, reason);
        }
        self.timeout("", route.timeout);
        self.target(route.upstream.as_deref(), route.upstream_id.as_deref());
        if let Some(id) =
            route.plugin_config_id.as_deref().filter(|id| !(self.is_known)(Kind::PluginConfig, id))
        {
            self.add("/plugin_config_id", format!("there is no plugin configuration {id:?}"));
        }
        if let Some(id) = route.service_id.as_deref().filter(|id| !(self.is_known)(Kind::Service, id)) {
            self.add("/service_id", format!("there is no service {id:?}"));
        }
    }

    fn service(&mut self, service: &Service) {
        self.hosts(None, service.hosts.as_deref());
        self.unsupported("", "script", service.script.is_some());
        self.plugins(&service.plugins);
        self.target(service.upstream.as_deref(), service.upstream_id.as_deref());
    }

    fn target(&mut self, own: Option<&Upstream>, reference: Option<&str>) {
        if let Some(upstream) = own {
            self.upstream("/upstream", upstream);
        }
        if let Some(id) = reference.filter(|id| !(self.is_known)(Kind::Upstream, id)) {
            self.add("/upstream_id", format!("there is no upstream {id:?}"));
        }
    }

    fn upstream(&mut self, at: &str, upstream: &Upstream) {
        match &upstream.nodes {
            None => self.add(format!("{at}/nodes"), "an upstream needs nodes"),
            Some(nodes) => {
                for (index, node) in nodes.0.iter().enumerate() {
                    self.node(at, index, node);
                }
            }
        }
        self.free_fields(at, upstream);
        if upstream.scheme != Scheme::Http {
            self.add(format!("{at}/scheme"), "only \"http\" is supported by this release");
        }
        match (upstream.pass_host, upstream.upstream_host.as_deref()) {
            (PassHost::Rewrite, None) => {
                self.add(format!("{at}/upstream_host"), "is needed with pass_host \"rewrite\"");
            }
            (_, Some(host)) => {
                if let Err(reason) = check_authority(host) {
                    self.add(format!("{at}/upstream_host"), reason);
                }
            }
            _ => {}
        }
        if upstream.retry_timeout.is_some_and(|seconds| !seconds.is_finite() || seconds < 0.0) {
            self.add(format!("{at}/retry_timeout"), "must be a number of seconds, 0 or more");
        }
        for (field, given) in [
            ("tls", upstream.tls.is_some()),
            ("service_name", upstream.service_name.is_some()),
            ("discovery_type", upstream.discovery_type.is_some()),
            ("discovery_args", upstream.discovery_args.is_some()),
            ("warm_up_conf", upstream.warm_up_conf.is_some()),
        ] {
            self.unsupported(at, field, given);
        }
        self.timeout(at, upstream.timeout);
        self.keepalive_pool(at, upstream.keepalive_pool);
    }

    /// What the model carries as text.
    fn free_fields(&mut self, at: &str, upstream: &Upstream) {
        let checks = upstream.checks.as_ref().and_then(|checks| Checks::read(checks).err());
        let tuning = Tuning::read(&upstream.labels).err();
        let hash_on = match upstream.balancer {
            Balancer::Chash => HashOn::read(upstream).err(),
            _ => None,
        };
        let has_socket =
            || upstream.nodes.iter().flat_map(|nodes| &nodes.0).any(|n| unix_path(&n.host).is_some());
        if let Some(checks) = &upstream.checks
            && Checks::read(checks).is_ok_and(|checks| checks.active.port.is_some())
            && has_socket()
        {
            self.add(
                format!("{at}/checks/active/port"),
                "cannot be given: a node is a Unix socket, which has none",
            );
        }
        if Tuning::read(&upstream.labels).is_ok_and(|tuning| tuning.zone_prefer) {
            for (index, node) in upstream.nodes.iter().flat_map(|nodes| &nodes.0).enumerate() {
                if let Err(reason) = zone_of(node) {
                    self.add(format!("{at}/nodes/{index}/metadata/zone"), reason);
                }
            }
        }
        for (pointer, reason) in checks.into_iter().chain(tuning).flatten().chain(hash_on) {
            self.add(format!("{at}{pointer}"), reason);
        }
    }

    fn node(&mut self, at: &str, index: usize, node: &Node) {
        let unix = unix_path(&node.host);
        let is_unix = unix.is_some();
        match unix {
            Some(Ok(_)) if node.port.is_some_and(|port| port != 0) => {
                self.add(format!("{at}/nodes/{index}/port"), "must be 0 or absent: a Unix socket has none");
            }
            Some(Ok(_)) => {}
            Some(Err(reason)) => self.add(format!("{at}/nodes/{index}/host"), reason),
            None if node.host.parse::<IpAddr>().is_ok() || is_host_name(&node.host) => {}
            None => self.add(
                format!("{at}/nodes/{index}/host"),
                format!("{:?} is neither an IP address, a host name nor unix:/path", node.host),
            ),
        }
        if node.port == Some(0) && !is_unix {
            self.add(format!("{at}/nodes/{index}/port"), "must be 1 to 65535");
        }
        if node.weight > NODE_WEIGHT_MAX {
            self.add(format!("{at}/nodes/{index}/weight"), format!("is over the limit of {NODE_WEIGHT_MAX}"));
        }
    }

    fn keepalive_pool(&mut self, at: &str, pool: Option<KeepalivePool>) {
        let Some(pool) = pool else { return };
        if pool.size == 0 {
            self.add(format!("{at}/keepalive_pool/size"), "must be 1 or more");
        }
        if pool.requests == 0 {
            self.add(format!("{at}/keepalive_pool/requests"), "must be 1 or more");
        }
        if !pool.idle_timeout.is_finite() || pool.idle_timeout < 0.0 {
            self.add(format!("{at}/keepalive_pool/idle_timeout"), "must be a number of seconds, 0 or more");
        }
    }

    fn timeout(&mut self, at: &str, timeout: Option<Timeout>) {
        let Some(Timeout { connect, send, read }) = timeout else { return };
        for (field, seconds) in [("connect", connect), ("send", send), ("read", read)] {
            if !seconds.is_finite() || seconds <= 0.0 {
                self.add(format!("{at}/timeout/{field}"), "must be a number of seconds above 0");
            }
        }
    }

    fn vars(&mut self, vars: Option<&Json>) {
        let Some(vars) = vars else { return };
        match Expression::read(&vars.value()) {
            Err((place, reason)) => {
                self.add(format!("/vars{place}"), reason);
            }
            Ok(vars) if vars.names(&Variable::needs_route) => {
                self.add(
                    "/vars",
                    "names what is known only when the route is, such as \"uri_param_...\", \"status\" or \"route_id\"",
                );
            }
            Ok(_) => {}
        }
    }

    fn plugins(&mut self, plugins: &Plugins) {
        for (name, conf) in plugins.iter() {
            self.plugin(name, &conf.value());
        }
    }

    fn plugin(&mut self, name: &str, conf: &serde_json::Value) {
        let at = plugin_place(name);
        let plugin = match Plugin::read(name, conf) {
            Ok(Some(plugin)) => plugin,
            Ok(None) => return,
            Err((place, reason)) => return self.add(format!("{at}{place}"), reason),
        };
        for (place, destination) in plugin.destinations() {
            match destination {
                Destination::Own(upstream) => self.upstream(&format!("{at}{place}/upstream"), upstream),
                Destination::Id(id) if (self.is_known)(Kind::Upstream, id) => {}
                Destination::Id(id) => {
                    self.add(format!("{at}{place}/upstream_id"), format!("there is no upstream {id:?}"));
                }
            }
        }
    }

    fn hosts(&mut self, one: Option<&str>, many: Option<&[Box<str>]>) {
        if many.is_some_and(<[Box<str>]>::is_empty) {
            self.add("/hosts", "is empty; leave the field out to match every host");
        }
        if many.is_some_and(|hosts| hosts.len() > HOSTS_PER_OBJECT_MAX) {
            self.add("/hosts", format!("has more than {HOSTS_PER_OBJECT_MAX} patterns"));
        }
        self.patterns("host", one, many, check_host_pattern);
    }

    fn patterns(
        &mut self,
        field: &str,
        one: Option<&str>,
        many: Option<&[Box<str>]>,
        check: fn(&str) -> Result<(), String>,
    ) {
        if let Some(Err(reason)) = one.map(check) {
            self.add(format!("/{field}"), reason);
        }
        for (index, text) in many.into_iter().flatten().enumerate() {
            if let Err(reason) = check(text) {
                self.add(format!("/{field}s/{index}"), reason);
            }
        }
    }
}

/// Where a plugin stands in an object.
fn plugin_place(name: &str) -> String {
    format!("/plugins/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// A path pattern: `/exact`, `/prefix*`, `/users/:id`, `/files/*rest`.
fn check_uri(uri: &str) -> Result<(), String> {
    if !uri.starts_with('/') && uri != "*" {
        return Err(format!("{uri:?} must start with '/'"));
    }
    if uri.len() > URI_BYTES_MAX {
        return Err(format!("has {} bytes; the limit is {URI_BYTES_MAX}", uri.len()));
    }
    let (mut segments, mut nameless, mut both) = (0_usize, false, false);
    for segment in uri.as_bytes().split(|byte| *byte == b'/') {
        segments += 1;
        nameless |= segment == b":";
        both |= matches!(segment, [b':', .., b'*']);
    }
    if segments > URI_SEGMENTS_MAX {
        return Err(format!("has more than {URI_SEGMENTS_MAX} segments"));
    }
    if let Some(bad) = uri.bytes().find(|b| b.is_ascii_control() || matches!(b, b' ' | b'?' | b'#')) {
        return Err(format!("{:?} cannot stand in a path", char::from(bad)));
    }
    if let Some(star) = uri.find('*') {
        let after_slash = uri.get(..star).is_some_and(|head| head.ends_with('/'));
        let tail = uri.get(star + 1..).unwrap_or_default();
        if tail.contains(['*', '/']) || (!tail.is_empty() && !after_slash) {
            return Err("'*' stands last (\"/prefix*\"), or names the rest of the path after a slash (\"/files/*rest\")".to_owned());
        }
    }
    if nameless {
        return Err("a parameter needs a name: \"/users/:id\"".to_owned());
    }
    // Which of the two it would be is a guess, and the router's would be another than its author's.
    if both {
        return Err(
            "a segment is a parameter (\"/users/:id\") or ends in '*' (\"/users/*\"), not both".to_owned()
        );
    }
    if let Some(escape) = escape(uri) {
        return Err(format!(
            "{escape:?} never matches: requests are matched by their decoded path; write the character that it stands for"
        ));
    }
    Ok(())
}

/// A percent sign with two hex digits. Others are plain characters, which `%25` in a request stands for.
fn escape(uri: &str) -> Option<&str> {
    uri.match_indices('%').find_map(|(at, _)| {
        let escape = uri.get(at..at + 3)?;
        escape.bytes().skip(1).all(|byte| byte.is_ascii_hexdigit()).then_some(escape)
    })
}

/// A host pattern: `example.com`, `*.example.com`, `*`. APISIX's `host_def`.
fn check_host(host: &str) -> Result<(), String> {
    if host.is_empty() || host.len() > HOST_BYTES_MAX {
        return Err(format!("a host has 1 to {HOST_BYTES_MAX} characters"));
    }
    let name = host.strip_prefix('*').unwrap_or(host);
    let may_stand = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    // By bytes, which is what a million hosts cost little by; a character is only made of what is refused.
    let bad = name.bytes().position(|byte| !may_stand(byte));
    match bad.and_then(|at| name.get(at..)?.chars().next()) {
        Some('*') => Err("'*' may stand only at the start of a host".to_owned()),
        Some(bad) => Err(format!("{bad:?} cannot stand in a host")),
        None => Ok(()),
    }
}

/// A host pattern that requests can match, whose ports are not looked at.
fn check_host_pattern(host: &str) -> Result<(), String> {
    check_host(host)?;
    let name = host.strip_prefix('*').unwrap_or(host);
    let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(address) if address.parse::<Ipv6Addr>().is_ok() => Ok(()),
        None if !name.bytes().any(|byte| matches!(byte, b':' | b'[' | b']')) => Ok(()),
        _ => Err(format!(
            "{host:?} never matches: hosts are matched without their port; leave it out (an IPv6 address stands in brackets)"
        )),
    }
}

/// A Host field's value, which may have a port.
fn check_authority(host: &str) -> Result<(), String> {
    if host.starts_with('*') { Err("must be a host, not a pattern".to_owned()) } else { check_host(host) }
}

/// An address or a CIDR block.
fn check_cidr(text: &str) -> Result<(), String> {
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let bits_max = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return Err(format!("{text:?} is not an IP address or a block such as 10.0.0.0/8")),
    };
    match length.map(str::parse::<u8>) {
        None => Ok(()),
        Some(Ok(bits)) if bits <= bits_max => Ok(()),
        Some(_) => Err(format!("the prefix length of {text:?} must be 0 to {bits_max}")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::parse::parse_object;

    fn faults(objects: &[(&str, &str, Value)]) -> Vec<String> {
        let entries = objects.iter().map(|(kind, id, spec)| parse_object(kind, id, spec).unwrap());
        validate(&entries.map(Arc::new).collect()).iter().map(ToString::to_string).collect()
    }

    fn route_fault(spec: Value) -> String {
        faults(&[("routes", "1", spec)]).join("\n")
    }

    #[test]
    fn a_plain_configuration_is_valid() {
        let objects = [
            ("upstreams", "u", json!({"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}})),
            (
                "upstreams",
                "z",
                json!({"nodes": [{"host": "10.0.0.1", "weight": 1, "metadata": {"zone": 5}}]}),
            ),
            ("services", "s", json!({"upstream_id": "u", "hosts": ["*.example.com"]})),
            ("routes", "a", json!({"uri": "/a/*", "service_id": "s", "methods": ["GET", "PURGE"]})),
            (
                "routes",
                "b",
                json!({"uris": ["/b", "/users/:id/*rest", "*"], "host": "*", "upstream": {"nodes": {}}}),
            ),
            (
                "upstreams",
                "sockets",
                json!({"nodes": [{"host": "unix:/run/a.sock", "port": 0, "weight": 1}, {"host": "unix:///run/b.sock", "weight": 1}], "checks": {"active": {}}}),
            ),
        ];
        assert_eq!(faults(&objects), Vec::<String>::new());
    }

    #[test]
    fn references_to_nothing_are_told_with_their_place() {
        let text = route_fault(json!({"uri": "/", "service_id": "s", "upstream_id": 9}));
        assert!(text.contains("routes/1 at /upstream_id: there is no upstream \"9\""), "{text}");
        assert!(text.contains("routes/1 at /service_id: there is no service \"s\""), "{text}");
    }

    #[test]
    fn every_unsupported_field_is_refused_by_name() {
        for (pointer, spec) in [
            ("/vars/0/0", json!({"vars": [["graphql_name", "==", "1"]]})),
            ("/filter_func", json!({"filter_func": "function() end"})),
            ("/script", json!({"script": "x"})),
            ("/plugin_config_id", json!({"plugin_config_id": 1})),
            ("/vars", json!({"vars": [["uri_param_a", "==", "1"]]})),
            ("/plugins/proxy-rewrite/urn", json!({"plugins": {"proxy-rewrite": {"urn": "/a"}}})),
            (
                "/plugins/traffic-split/rules/0/weighted_upstreams/0/upstream_id",
                json!({"plugins": {"traffic-split": {"rules": [{"weighted_upstreams": [{"upstream_id": 5}]}]}}}),
            ),
            (
                "/plugins/traffic-split/rules/0/weighted_upstreams/0/upstream/scheme",
                json!({"plugins": {"traffic-split": {"rules": [
                    {"weighted_upstreams": [{"upstream": {"nodes": {}, "scheme": "https"}}]}]}}}),
            ),
            ("/plugins/limit-count", json!({"plugins": {"limit-count": {}}})),
            ("/upstream/key", json!({"upstream": {"type": "chash", "nodes": {}}})),
            ("/upstream/labels/ringway.x", json!({"upstream": {"labels": {"ringway.x": "1"}, "nodes": {}}})),
            ("/upstream/checks", json!({"upstream": {"nodes": {}, "checks": {}}})),
            (
                "/upstream/nodes/0/metadata/zone",
                json!({"upstream": {"labels": {"ringway.zone-prefer": "on"},
                    "nodes": [{"host": "10.0.0.1", "weight": 1, "metadata": {"zone": 5}}]}}),
            ),
            ("/upstream/tls", json!({"upstream": {"nodes": {}, "tls": {}}})),
            ("/upstream/nodes/0/host", json!({"upstream": {"nodes": {"unix:app.sock": 1}}})),
            ("/upstream/nodes/0/host", json!({"upstream": {"nodes": {"unix:/app.sock:80": 1}}})),
            (
                "/upstream/nodes/0/port",
                json!({"upstream": {"nodes": [{"host": "unix:/a", "port": 80, "weight": 1}]}}),
            ),
            (
                "/upstream/nodes/0/port",
                json!({"upstream": {"nodes": [{"host": "10.0.0.1", "port": 0, "weight": 1}]}}),
            ),
            (
                "/upstream/checks/active/port",
                json!({"upstream": {"nodes": {"unix:/a": 1}, "checks": {"active": {"port": 80}}}}),
            ),
            ("/upstream/scheme", json!({"upstream": {"nodes": {}, "scheme": "https"}})),
            (
                "/upstream/nodes/0/host",
                json!({"upstream": {"nodes": {"exa mple.com:80": 1, "10.0.0:80": 1}}}),
            ),
        ] {
            let mut spec = spec;
            spec["uri"] = json!("/");
            let text = route_fault(spec);
            assert!(text.contains(&format!("at {pointer}: ")), "{pointer}: {text}");
        }
    }

    #[test]
    fn bad_patterns_are_refused() {
        for uri in ["", "a", "/a b", "/a?b", "/a*/b", "/a*b", "/*a*", "/:", "/a\u{7f}"] {
            assert!(check_uri(uri).is_err(), "{uri:?}");
        }
        for host in ["", "a*b", "a b", "**", "a/b"] {
            assert!(check_host_pattern(host).is_err(), "{host:?}");
        }
        for cidr in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "a"] {
            assert!(check_cidr(cidr).is_err(), "{cidr:?}");
        }
    }

    #[test]
    fn what_the_router_would_never_match_or_would_read_otherwise_is_refused_by_name() {
        for (uri, told) in [("/a/:id*", "not both"), ("/a%20b", "\"%20\" never"), ("/%2F*", "\"%2F\" never")]
        {
            let text = route_fault(json!({"uri": uri}));
            assert!(text.contains("at /uri: ") && text.contains(told), "{uri}: {text}");
        }
        for host in ["example.com:8080", "*.example.com:80", "[::1]:80", "::1", "[x]"] {
            let text = route_fault(json!({"uri": "/", "host": host}));
            assert!(text.contains("at /host: ") && text.contains("without their port"), "{host}: {text}");
        }
        for good in [
            json!({"uri": "/100%", "host": "[::1]"}),
            json!({"uri": "/%zz", "host": "*"}),
            json!({"uri": "/a:b*", "upstream": {"nodes": {}, "pass_host": "rewrite", "upstream_host": "a:8080"}}),
        ] {
            assert_eq!(route_fault(good), "");
        }
    }

    #[test]
    fn either_one_or_many_but_not_both() {
        let text = route_fault(
            json!({"uri": "/", "uris": ["/"], "host": "a", "hosts": ["b"], "remote_addr": "::1", "remote_addrs": ["::2"]}),
        );
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    #[test]
    fn a_flood_of_faults_is_cut_at_its_limit() {
        let objects: Vec<_> = (0..300).map(|n| ("routes", n.to_string(), json!({"uri": "bad"}))).collect();
        let objects: Vec<_> =
            objects.iter().map(|(kind, id, spec)| (*kind, id.as_str(), spec.clone())).collect();
        assert_eq!(faults(&objects).len(), FAULTS_REPORTED_MAX);
    }
}
