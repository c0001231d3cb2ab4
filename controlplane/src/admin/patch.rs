//! PATCH as APISIX has it: objects are merged, null removes, lists are replaced; or one place is set by its path.

use serde_json::{Map, Value};

use super::answer::Answer;

/// Merges one object into another.
pub(super) fn merge(origin: &mut Map<String, Value>, extend: Map<String, Value>) {
    for (key, value) in extend {
        match (origin.get_mut(&key), value) {
            (_, Value::Null) => {
                origin.remove(&key);
            }
            // An empty object cannot be told from an empty list in APISIX, and lists are replaced.
            (Some(Value::Object(old)), Value::Object(new)) if !old.is_empty() => merge(old, new),
            (_, value) => {
                origin.insert(key, without_nulls(value));
            }
        }
    }
}

/// Sets what stands at a path; null removes it. What is missing on the way is made.
pub(super) fn set(origin: &mut Map<String, Value>, path: &[String], value: Value) -> Result<(), Answer> {
    let bad = || Answer::bad(format!("invalid sub-path: /{}", path.join("/")));
    let Some((last, way)) = path.split_last() else { return Err(bad()) };
    let mut place = origin;
    let mut way = way.iter().peekable();
    while let Some(name) = way.next() {
        let inner = place.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
        if let Value::Array(items) = inner {
            // The rest of the path goes through a list: an index, and then perhaps an object's field.
            let rest: Vec<&String> = way.chain([last]).collect();
            return set_in_list(items, &rest, value).ok_or_else(bad);
        }
        place = inner.as_object_mut().ok_or_else(bad)?;
    }
    match (place.get_mut(last), value) {
        (_, Value::Null) => {
            place.remove(last);
        }
        (_, value) => {
            place.insert(last.clone(), without_nulls(value));
        }
    }
    Ok(())
}

fn set_in_list(items: &mut [Value], path: &[&String], value: Value) -> Option<()> {
    let (first, rest) = path.split_first()?;
    // Lua counts from 1, and so do APISIX's paths.
    let item = items.get_mut(first.parse::<usize>().ok()?.checked_sub(1)?)?;
    match rest {
        [] => *item = value,
        [field] => {
            item.as_object_mut()?.insert((*field).clone(), value);
        }
        _ => return None,
    }
    Some(())
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect(),
        ),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn objects_merge_lists_are_replaced_null_removes() {
        let mut origin = object(
            &json!({"desc": "a", "methods": ["GET"], "upstream": {"nodes": {"a:1": 1}, "retries": 2}}),
        );
        let extend = json!({"desc": null, "methods": ["PUT"], "upstream": {"nodes": {"b:1": 2}, "retries": null}, "new": {"x": null}});
        merge(&mut origin, object(&extend));
        assert_eq!(
            Value::Object(origin),
            json!({"methods": ["PUT"], "upstream": {"nodes": {"a:1": 1, "b:1": 2}}, "new": {}})
        );
    }

    #[test]
    fn a_sub_path_sets_one_place() {
        let mut origin =
            object(&json!({"upstream": {"nodes": {"a:1": 1}}, "uris": ["/a", "/b"], "desc": "x"}));
        let path = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
        set(&mut origin, &path("upstream/nodes"), json!({"b:1": 1})).unwrap();
        set(&mut origin, &path("uris/2"), json!("/c")).unwrap();
        set(&mut origin, &path("labels/env"), json!("dev")).unwrap();
        set(&mut origin, &path("desc"), Value::Null).unwrap();
        assert!(set(&mut origin, &path("uris/9"), json!("/c")).is_err());
        assert_eq!(
            Value::Object(origin),
            json!({"upstream": {"nodes": {"b:1": 1}}, "uris": ["/a", "/c"], "labels": {"env": "dev"}})
        );
        let mut origin = object(&json!({"desc": "x"}));
        assert!(set(&mut origin, &path("desc/deep"), json!(1)).is_err());
    }
}
