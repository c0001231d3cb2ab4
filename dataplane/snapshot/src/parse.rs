//! From one object's JSON to its typed form.
//!
//! Refuses unknown fields and wrong types with a JSON pointer to the place (RFC 6901). Rules that need
//! more than one field are in [`crate::validate`].

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

use crate::json::{canonical, depth};
use crate::limits::{CONSUMER_BYTES_MAX, ID_BYTES_MAX, JSON_DEPTH_MAX, OBJECT_BYTES_MAX};
use crate::model::{Kind, Object, credential};
use crate::snapshot::Entry;
use crate::validate::Fault;
use crate::version::Digest;

/// Reads one object. `kind` and `id` are those of the row, the file's key or the request's path.
pub fn parse_object(kind: &str, id: &str, spec: &Value) -> Result<Entry, Fault> {
    parse_owned(kind, id, spec.clone())
}

/// The same of a value that is not needed any more.
pub fn parse_owned(kind: &str, id: &str, spec: Value) -> Result<Entry, Fault> {
    let fault =
        |pointer: String, reason: String| Fault { kind: kind.to_owned(), id: id.to_owned(), pointer, reason };
    let Some(known) = Kind::from_name(kind) else {
        let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        return Err(fault(String::new(), format!("unknown kind; the kinds are {}", names.join(", "))));
    };
    check_id(known, id).map_err(|reason| fault("/id".to_owned(), reason))?;
    let mut fields = match spec {
        Value::Object(fields) => fields,
        other => {
            return Err(fault(String::new(), format!("expected a JSON object, found {}", type_name(&other))));
        }
    };
    match fields.remove("id") {
        None => {}
        Some(Value::String(own)) if own == id => {}
        Some(Value::Number(own)) if own.to_string() == id => {}
        Some(own) => {
            return Err(fault("/id".to_owned(), format!("is {own} where the object's id is {id:?}")));
        }
    }
    let fields = Value::Object(fields);
    if depth(&fields) > JSON_DEPTH_MAX {
        return Err(fault(String::new(), format!("nests deeper than {JSON_DEPTH_MAX} levels")));
    }
    let text = canonical(&fields);
    if text.len() > OBJECT_BYTES_MAX {
        return Err(fault(
            String::new(),
            format!("has {} bytes; the limit is {OBJECT_BYTES_MAX}", text.len()),
        ));
    }
    let digest = Digest::of_object(known, id, &text);
    let typed = match known {
        Kind::Route => typed(fields).map(|route| Object::Route(Arc::new(route))),
        Kind::Service => typed(fields).map(|service| Object::Service(Arc::new(service))),
        Kind::Upstream => typed(fields).map(|upstream| Object::Upstream(Arc::new(upstream))),
        Kind::PluginConfig => typed(fields).map(|config| Object::PluginConfig(Arc::new(config))),
        Kind::GlobalRule => typed(fields).map(|rule| Object::GlobalRule(Arc::new(rule))),
        Kind::Consumer => typed(fields).map(|consumer| Object::Consumer(Arc::new(consumer))),
        Kind::Credential => typed(fields).map(|credential| Object::Credential(Arc::new(credential))),
        Kind::ConsumerGroup => typed(fields).map(|group| Object::ConsumerGroup(Arc::new(group))),
        _ => Err((String::new(), format!("{kind} are not supported by this release; remove the object"))),
    };
    let object = typed.map_err(|(pointer, reason)| fault(pointer, reason))?;
    Ok(Entry { id: id.into(), digest, object })
}

/// A value's typed form, or where it is not one.
pub(crate) fn typed<T: DeserializeOwned>(fields: Value) -> Result<T, (String, String)> {
    serde_path_to_error::deserialize(fields)
        .map_err(|error| (pointer(error.path()), reason(&error.inner().to_string())))
}

/// RFC 6901 section 3.
fn pointer(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}

/// serde lists every field it knows after an unknown one; the nearest is enough.
fn reason(message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field `") else { return message.to_owned() };
    let Some((unknown, list)) = rest.split_once('`') else { return message.to_owned() };
    let nearest = list
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|known| (edit_distance(unknown, known), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len().div_ceil(3));
    match nearest {
        Some((_, known)) => format!("unknown field {unknown:?}; did you mean {known:?}?"),
        None => format!("unknown field {unknown:?}"),
    }
}

/// Levenshtein's distance, in bytes; both texts are field names.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().take(64).enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(b.bytes()) {
            let change = diagonal + usize::from(from != to);
            diagonal = *cell;
            left = change.min(left + 1).min(*cell + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

fn check_id(kind: Kind, id: &str) -> Result<(), String> {
    match kind {
        Kind::Consumer => check_name(id),
        Kind::Credential => {
            let (consumer, own) = credential(id)
                .ok_or("the id of a credential is its consumer's name, /credentials/ and its own id")?;
            check_name(consumer)?;
            check_own_id(own)
        }
        _ => check_own_id(id),
    }
}

/// A consumer's name, as APISIX has it.
fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > CONSUMER_BYTES_MAX {
        return Err(format!("a consumer's name has 1 to {CONSUMER_BYTES_MAX} characters"));
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))) {
        Some(bad) => {
            Err(format!("a consumer's name consists of letters, digits, '_' and '-'; found {bad:?}"))
        }
        None => Ok(()),
    }
}

fn check_own_id(id: &str) -> Result<(), String> {
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return Err(format!("an id has 1 to {ID_BYTES_MAX} characters"));
    }
    match id.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
        Some(bad) => Err(format!("an id consists of letters, digits, '.', '_' and '-'; found {bad:?}")),
        None => Ok(()),
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(kind: &str, spec: impl Into<Value>) -> (String, String) {
        let fault = parse_object(kind, "1", &spec.into()).unwrap_err();
        (fault.pointer, fault.reason)
    }

    #[test]
    fn an_unknown_field_is_named_and_the_nearest_known_one_offered() {
        let (pointer, reason) = refused("routes", json!({"uri": "/a", "method": ["GET"]}));
        assert_eq!(
            (pointer.as_str(), reason.as_str()),
            ("/method", "unknown field \"method\"; did you mean \"methods\"?")
        );
        let (pointer, reason) =
            refused("upstreams", json!({"nodes": [{"host": "a", "port": 1, "wieght": 1}]}));
        assert!(pointer.starts_with("/nodes/0"), "{pointer}");
        assert!(reason.contains("did you mean \"weight\""), "{reason}");
    }

    #[test]
    fn a_wrong_type_is_told_with_its_place() {
        let (pointer, reason) = refused(
            "routes",
            json!({"uri": "/a", "upstream": {"timeout": {"connect": "1", "send": 1, "read": 1}}}),
        );
        assert_eq!(pointer, "/upstream/timeout/connect");
        assert!(reason.contains("invalid type: string"), "{reason}");
    }

    #[test]
    fn integers_serve_as_ids_and_the_row_wins() {
        let entry = parse_object("routes", "7", &json!({"id": 7, "uri": "/a", "upstream_id": 3})).unwrap();
        let Object::Route(route) = &entry.object else { panic!() };
        assert_eq!(route.upstream_id.as_deref(), Some("3"));
        assert_eq!(refused("routes", json!({"id": "2", "uri": "/a"})).0, "/id");
        assert!(parse_object("routes", "a b", &json!({})).is_err());
    }

    #[test]
    fn the_digest_does_not_see_the_id_field_or_the_order_of_keys() {
        let a = parse_object("routes", "7", &json!({"id": 7, "uri": "/a", "priority": 1})).unwrap();
        let b = parse_object("routes", "7", &json!({"priority": 1, "uri": "/a"})).unwrap();
        assert_eq!(a.digest, b.digest);
    }

    #[test]
    fn consumers_and_credentials_have_ids_of_their_own_form() {
        let long = "a".repeat(100);
        for (kind, id, is_one) in [
            ("consumers", "Jack-and-Rose_123", true),
            ("consumers", &*long, true),
            ("consumers", "a.b", false),
            ("consumers", "jwt#auth", false),
            ("credentials", "jack/credentials/a.b-1", true),
            ("credentials", "jack", false),
            ("credentials", "jack/credentials/", false),
            ("credentials", "a.b/credentials/1", false),
            ("credentials", "jack/credentials/a/credentials/b", false),
            ("consumer_groups", "a/credentials/b", false),
        ] {
            assert_eq!(parse_object(kind, id, &json!({})).is_ok(), is_one, "{kind} {id}");
        }
    }

    #[test]
    fn other_kinds_are_refused_by_name() {
        assert!(refused("ssls", json!({"snis": ["a"]})).1.contains("ssls are not supported"));
        assert!(refused("rotues", json!({})).1.contains("unknown kind"));
    }
}
