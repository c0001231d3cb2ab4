//! APISIX's objects: answers of its Admin API, or its standalone file.
//!
//! The objects are Ringway's own, so they pass as they are; what this release does not act on, the validator names ([`super::settle`]). Read are: lists
//! by kind (`routes: [...]`, as the standalone file and `GET configs` have them), the answer to a list (`{"list": [{"key", "value"}]}`), and
//! the answer to one object (`{"key", "value"}`).

use ringway_controlplane::source::file;
use ringway_snapshot::Kind;
use serde_json::{Map, Value};

use super::found::Found;
use crate::declared::without_times;
use crate::failure::Failure;

/// Fields that an answer has and an object does not.
const BESIDE: [&str; 3] = ["createdIndex", "modifiedIndex", "update_time"];

/// Reads a file's text.
pub(super) fn read(name: &str, text: &str, found: &mut Found) -> Result<(), Failure> {
    let failed = |why: &str| Failure::new(format!("{name}: {why}"));
    let document = file::read(text).map_err(|why| failed(&why))?;
    let Value::Object(fields) = document else {
        return Err(failed("is neither an answer of APISIX's Admin API nor its standalone file"));
    };
    if let Some(Value::Array(list)) = fields.get("list") {
        list.iter()
            .enumerate()
            .for_each(|(index, item)| answered(&format!("{name}: list[{index}]"), item, found));
        return Ok(());
    }
    if fields.contains_key("key") && fields.contains_key("value") {
        answered(name, &Value::Object(fields), found);
        return Ok(());
    }
    for (key, list) in fields {
        let items: Vec<Value> = match (Kind::from_name(&key), list) {
            (_, Value::Null) => continue,
            (Some(kind), list) => {
                // An answer to a list may stand under its kind too.
                let items = match list {
                    Value::Array(items) => items,
                    Value::Object(mut answer) => match answer.remove("list") {
                        Some(Value::Array(items)) => items,
                        _ => return Err(failed(&format!("{key} must be a list of objects"))),
                    },
                    _ => return Err(failed(&format!("{key} must be a list of objects"))),
                };
                for (index, item) in items.into_iter().enumerate() {
                    object(kind, &format!("{key}[{index}]"), index, &item, found);
                }
                continue;
            }
            // The digest's companion of `GET configs`; it says nothing about an object.
            (None, Value::Number(_)) if key.ends_with("_conf_version") => continue,
            (None, other) => vec![other],
        };
        for _ in items {
            found.leave_out(name, key.clone(), "is no kind of object that Ringway knows");
        }
    }
    Ok(())
}

/// An item of an answer: its key ends with kind and id.
fn answered(at: &str, item: &Value, found: &mut Found) {
    let key = item["key"].as_str().unwrap_or_default();
    let mut words = key.trim_start_matches('/').split('/').skip(1);
    match (words.next().and_then(Kind::from_name), item.get("value")) {
        (Some(kind), Some(_)) => object(kind, at, 0, item, found),
        _ => found.leave_out(at, key.to_owned(), "names no kind of object that Ringway knows"),
    }
}

fn object(kind: Kind, at: &str, index: usize, item: &Value, found: &mut Found) {
    // Unwrapped, where it is an item of an answer.
    let value = match (item.get("key").and_then(Value::as_str), item.get("value")) {
        (Some(key), Some(value)) if key.contains('/') => value,
        _ => item,
    };
    // Of a credential only the key tells whose it is.
    let path = item.get("key").and_then(Value::as_str).and_then(|key| key.split_once("/consumers/"));
    let path = path.map(|(_, id)| id).filter(|id| kind.in_list(id) == Kind::Credential);
    let Value::Object(fields) = value else {
        found.leave_out(at, "this entry", "is not an object");
        return;
    };
    let mut fields: Map<String, Value> = fields.clone();
    let id = ["id", "username"].iter().find_map(|name| match fields.get(*name) {
        Some(Value::String(id)) => Some(id.clone()),
        Some(Value::Number(id)) => Some(id.to_string()),
        _ => None,
    });
    let id = path.map(str::to_owned).or(id);
    fields.remove("id");
    BESIDE.iter().for_each(|name| drop(fields.remove(*name)));
    let mut whole = Value::Object(fields);
    without_times(&mut whole);
    if let Value::Object(fields) = whole {
        let id = id.unwrap_or_else(|| format!("arr_{}", index + 1));
        found.add(kind.in_list(&id), &id, fields);
    }
}
