//! A node's zone: `metadata: {"zone": "a"}`, where APISIX lets nodes carry what it does not act on itself.
//!
//! Metadata without a zone is a node of no zone. What else stands there belongs to other tools, and so does all of it where an
//! upstream does not prefer zones.

use serde_json::Value;

use crate::limits::ZONE_BYTES_MAX;
use crate::model::Node;

/// The zone that a node says it is in.
pub fn zone_of(node: &Node) -> Result<Option<Box<str>>, String> {
    let Some(metadata) = &node.metadata else { return Ok(None) };
    match metadata.value().get("zone") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(zone)) if is_zone(zone) => Ok(Some(zone.as_str().into())),
        Some(_) => Err(format!("must be a name of 1 to {ZONE_BYTES_MAX} bytes")),
    }
}

/// Whether this can be a zone's name.
pub fn is_zone(zone: &str) -> bool {
    !zone.is_empty() && zone.len() <= ZONE_BYTES_MAX && !zone.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_a_name_or_nothing() {
        let zone = |metadata: &str| {
            let json = format!(r#"{{"host": "10.0.0.1", "weight": 1, "metadata": {metadata}}}"#);
            zone_of(&serde_json::from_str(&json).unwrap())
        };
        assert_eq!(zone(r#"{"zone": "eu-1a", "rack": 7}"#), Ok(Some("eu-1a".into())));
        for none in ["null", "{}", "5", "[1]", r#"{"zone": null}"#] {
            assert_eq!(zone(none), Ok(None), "{none}");
        }
        let long = format!(r#"{{"zone": "{}"}}"#, "z".repeat(ZONE_BYTES_MAX + 1));
        for wrong in [r#"{"zone": 5}"#, r#"{"zone": ""}"#, r#"{"zone": "a\nb"}"#, &long] {
            assert!(zone(wrong).is_err(), "{wrong}");
        }
    }
}
