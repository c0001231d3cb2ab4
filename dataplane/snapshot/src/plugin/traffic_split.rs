//! `traffic-split`: shares of a route's requests go to other upstreams.
//!
//! The first rule with a match that holds decides; its upstreams get requests by weight, and an entry without an upstream stands for the
//! route's own. A rule without `match` always holds.

use serde::Deserialize;
use serde_json::Value;

use super::{About, Destination, Wrong, at, typed, vars};
use crate::expression::Expression;
use crate::limits::{SPLIT_RULES_MAX, SPLIT_TESTS_MAX, SPLIT_UPSTREAMS_MAX};
use crate::model::{Id, Upstream};

/// See [`About`].
pub const ABOUT: About = About { name: "traffic-split", priority: 966, schema: SCHEMA, upstreams: true };

const SCHEMA: &str = r#"{"type": "object", "properties": {"rules": {"type": "array", "items": {"type": "object", "properties": {
  "match": {"type": "array", "items": {"type": "object", "properties": {"vars": {"type": "array"}}}},
  "weighted_upstreams": {"type": "array", "minItems": 1, "maxItems": 20, "default": [{"weight": 1}],
    "items": {"type": "object", "properties": {
      "upstream_id": {"anyOf": [{"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-zA-Z0-9-_.]+$"},
                                {"type": "integer", "minimum": 1}]},
      "upstream": {"type": "object"},
      "weight": {"description": "used to split traffic between various upstreams for plugin configuration",
                 "type": "integer", "default": 1, "minimum": 0}}}}}}}}}"#;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct TrafficSplit {
    /// Tried in order.
    pub rules: Box<[Rule]>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// One of them has to hold; none given: it always applies.
    pub matches: Option<Box<[Expression]>>,
    /// Who gets requests.
    pub shares: Box<[Share]>,
    /// The sum of their weights.
    pub weight: u64,
}

/// A share of the requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// Beside the others of its rule.
    pub weight: u64,
    /// `None`: the route's own upstream.
    pub to: Option<Destination>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(default)]
    rules: Vec<RuleFields>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFields {
    #[serde(rename = "match")]
    matches: Option<Vec<Match>>,
    weighted_upstreams: Option<Vec<Weighted>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Match {
    vars: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Weighted {
    upstream: Option<Box<Upstream>>,
    upstream_id: Option<Value>,
    #[serde(default = "one")]
    weight: u32,
}

fn one() -> u32 {
    1
}

impl TrafficSplit {
    pub(super) fn read(conf: Value) -> Result<TrafficSplit, Wrong> {
        let fields: Fields = typed(conf)?;
        if fields.rules.len() > SPLIT_RULES_MAX {
            return Err(at("/rules", format!("has more than {SPLIT_RULES_MAX} rules")));
        }
        let rules = fields.rules.into_iter().enumerate();
        let mut tests_left = SPLIT_TESTS_MAX;
        let rules = rules.map(|(index, rule)| {
            Rule::read(rule, &mut tests_left)
                .map_err(|(place, reason)| (format!("/rules/{index}{place}"), reason))
        });
        Ok(TrafficSplit { rules: rules.collect::<Result<_, _>>()? })
    }

    pub(super) fn destinations(&self) -> Vec<(String, &Destination)> {
        let all = self.rules.iter().enumerate().flat_map(|(rule, found)| {
            let shares = found.shares.iter().enumerate();
            shares.filter_map(move |(share, found)| {
                Some((format!("/rules/{rule}/weighted_upstreams/{share}"), found.to.as_ref()?))
            })
        });
        all.collect()
    }
}

impl Rule {
    fn read(fields: RuleFields, tests_left: &mut usize) -> Result<Rule, Wrong> {
        let mut matches = Vec::new();
        for (index, Match { vars: rules }) in fields.matches.iter().flatten().enumerate() {
            let holds = vars(&format!("/match/{index}/vars"), rules.as_ref(), tests_left)?;
            matches.push(holds.unwrap_or_else(|| Expression::All(Box::default())));
        }
        let weighted = fields
            .weighted_upstreams
            .unwrap_or_else(|| vec![Weighted { upstream: None, upstream_id: None, weight: 1 }]);
        if weighted.is_empty() || weighted.len() > SPLIT_UPSTREAMS_MAX {
            return Err(at("/weighted_upstreams", format!("needs 1 to {SPLIT_UPSTREAMS_MAX} entries")));
        }
        let shares = weighted.into_iter().enumerate().map(|(index, weighted)| {
            Share::read(weighted)
                .map_err(|(place, reason)| (format!("/weighted_upstreams/{index}{place}"), reason))
        });
        let shares: Box<[Share]> = shares.collect::<Result<_, _>>()?;
        let weight = shares.iter().map(|share| share.weight).sum();
        let matches = (!matches.is_empty()).then(|| matches.into_boxed_slice());
        Ok(Rule { matches, shares, weight })
    }
}

impl Share {
    fn read(weighted: Weighted) -> Result<Share, Wrong> {
        let id = match weighted.upstream_id {
            None => None,
            Some(Value::String(id)) => Some(Id::from(id)),
            Some(Value::Number(id)) if id.is_u64() => Some(id.to_string().into()),
            Some(_) => return Err(at("/upstream_id", "must be a string or an integer")),
        };
        let to = match (id, weighted.upstream) {
            (Some(_), Some(_)) => {
                return Err(at("/upstream_id", "give either \"upstream\" or \"upstream_id\", not both"));
            }
            (Some(id), None) => Some(Destination::Id(id)),
            (None, upstream) => upstream.map(Destination::Own),
        };
        Ok(Share { weight: weighted.weight.into(), to })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_are_those_of_apisix() {
        assert_eq!(TrafficSplit::read(json!({})).unwrap().rules.len(), 0);
        let split = TrafficSplit::read(
            json!({"rules": [{}, {"weighted_upstreams": [{}, {"upstream_id": 7, "weight": 3}]}]}),
        );
        let split = split.unwrap();
        assert_eq!((split.rules[0].weight, split.rules[1].weight), (1, 4));
        assert_eq!(split.rules[0].shares[0].to, None);
        let places: Vec<_> = split.destinations().into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, ["/rules/1/weighted_upstreams/1"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (conf, place) in [
            (json!({"rules": [{"match": [{"vars": [["arg_a", "?", 1]]}]}]}), "/rules/0/match/0/vars/0/1"),
            (json!({"rules": [{"weighted_upstreams": []}]}), "/rules/0/weighted_upstreams"),
            (
                json!({"rules": [{"weighted_upstreams": [{"weight": -1}]}]}),
                "/rules/0/weighted_upstreams/0/weight",
            ),
            (
                json!({"rules": [{"weighted_upstreams": [{"upstream_id": "a", "upstream": {"nodes": {}}}]}]}),
                "/rules/0/weighted_upstreams/0/upstream_id",
            ),
            (json!({"rule": []}), "/rule"),
        ] {
            assert_eq!(TrafficSplit::read(conf).unwrap_err().0, place);
        }
    }
}
