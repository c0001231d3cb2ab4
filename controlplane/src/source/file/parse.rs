//! The declarative file's text: lists of objects by kind, in the shape of APISIX's standalone file, as YAML or JSON.
//!
//! `routes:`, `services:`, `upstreams:` and the other kinds each hold a list of objects. An object without an `id` is called
//! `arr_1`, `arr_2` ... after its place in its list. APISIX's last line `#END` is accepted and not needed. A
//! key that is no kind is refused, so that a misspelt one does not silently lose its routes.

use ringway_snapshot::{Fault, Kind};
use serde_json::Value;

use super::variables::substitute;
use crate::store::Store;

/// Events and nodes of one YAML file; a million routes fit. The limits on aliases are the parser's own.
const YAML_NODES_MAX: usize = 100_000_000;
/// Bytes of all scalars of one YAML file.
const YAML_SCALAR_BYTES_MAX: usize = 1 << 30;
/// What stands in `kind` of a fault that belongs to the file and to no object.
const FILE: &str = "file";

/// Reads a whole file, with the variables of this process's environment. What is wrong stands in the store as faults.
pub(super) fn parse(name: &str, text: &str) -> Store {
    parse_with(name, text, &|variable| std::env::var(variable).ok())
}

fn parse_with(name: &str, text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Store {
    let mut store = Store::default();
    // Written on purpose by nobody: it is what a write that was cut short, a full disk or a crash leaves.
    if text.trim().is_empty() {
        store.put_fault(whole(name, "is empty; write {} if it is to hold no objects"));
        return store;
    }
    let mut document = read(text);
    if let Ok(document) = &mut document {
        substitute(name, document, variable).into_iter().for_each(|fault| store.put_fault(fault));
    }
    match document {
        Ok(Value::Object(lists)) => {
            for (key, list) in &lists {
                put_list(&mut store, key, list);
            }
        }
        // A file that holds only comments.
        Ok(Value::Null) => {}
        Ok(_) => {
            store.put_fault(whole(name, "must hold keys such as \"routes:\", each with a list of objects"));
        }
        Err(reason) => store.put_fault(whole(name, &reason)),
    }
    store
}

/// The objects as they were written, whether they are valid or not.
pub(super) fn objects(text: &str) -> Result<Vec<super::Written>, String> {
    let mut found = Vec::new();
    let Value::Object(lists) = read(text)? else { return Ok(found) };
    for (key, list) in lists {
        let (Some(kind), Value::Array(objects)) = (Kind::from_name(&key), list) else { continue };
        for (index, object) in objects.into_iter().enumerate() {
            let id = id(kind, &object, index);
            let kind = kind.in_list(&id);
            if let Value::Object(mut fields) = object {
                fields.remove("id");
                found.push((kind, id, fields));
            }
        }
    }
    Ok(found)
}

/// A fault of the file as such.
pub(super) fn whole(name: &str, reason: &str) -> Fault {
    Fault { kind: FILE.into(), id: name.into(), pointer: String::new(), reason: reason.into() }
}

/// YAML, or JSON where the text begins with a brace.
pub(super) fn read(text: &str) -> Result<Value, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim_start().starts_with('{') {
        let json = text.trim_end();
        let json = json.strip_suffix("#END").unwrap_or(json);
        return super::json::parse(json).map_err(|error| format!("is not valid JSON: {error}"));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: YAML_NODES_MAX,
            max_nodes: YAML_NODES_MAX,
            max_total_scalar_bytes: YAML_SCALAR_BYTES_MAX,
        },
        strict_booleans: true,
        with_snippet: false,
    };
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let text = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        format!("is not valid YAML: {text}")
    })
}

fn put_list(store: &mut Store, key: &str, list: &Value) {
    let fault = |reason: String| Fault {
        kind: FILE.into(),
        id: key.into(),
        pointer: format!("/{}", key.replace('~', "~0").replace('/', "~1")),
        reason,
    };
    let Some(kind) = Kind::from_name(key) else {
        let names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        return store.put_fault(fault(format!("unknown key; the keys are {}", names.join(", "))));
    };
    let objects = match list {
        Value::Array(objects) => objects,
        Value::Null => return,
        _ => return store.put_fault(fault("must be a list of objects".to_owned())),
    };
    for (index, object) in objects.iter().enumerate() {
        let id = id(kind, object, index);
        let kind = kind.in_list(&id).name();
        if store.contains(kind, &id) {
            let pointer = format!("/{key}/{index}/id");
            let reason = "another object of the file has the same id".to_owned();
            store.put_fault(Fault { kind: kind.into(), id, pointer, reason });
        } else {
            store.put(kind, &id, object);
        }
    }
}

/// An object's id: its own, a consumer's name, or one made of its place in the list.
fn id(kind: Kind, object: &Value, index: usize) -> String {
    let own = object.get("id").or_else(|| object.get(kind.naming_field()?));
    match own {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => format!("arr_{}", index + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        match parse("a.yaml", text).snapshot(1, 1, 1) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn variables_have_their_values_and_one_that_is_not_set_refuses_the_file() {
        let text = "routes:\n  - {id: 1, uri: '${{PATH_OF_IT:=/a}}', priority: '${{N}}'}\n";
        let parsed = |set: bool| parse_with("f", text, &|name| (set && name == "N").then(|| "7".to_owned()));
        let same = parse("f", "routes:\n  - {id: 1, uri: /a, priority: 7}\n").snapshot(1, 1, 1).unwrap();
        assert_eq!(parsed(true).snapshot(1, 1, 1).unwrap(), same);
        let faults = parsed(false).snapshot(1, 1, 1).unwrap_err();
        assert!(
            faults
                .iter()
                .any(|fault| fault.to_string().contains("/routes/0/priority: the variable \"N\" is not set")),
            "{faults:?}"
        );
        assert!(objects(text).unwrap()[0].2["priority"] == "${{N}}", "what is shown is what was written");
    }

    #[test]
    fn yaml_and_json_give_the_same_objects() {
        let yaml = "routes:\n  - id: 1\n    uri: /a\n    upstream_id: u\n  - uri: /b\nupstreams:\n  - id: u\n    nodes:\n      \"127.0.0.1:1980\": 1\n#END\n";
        let json = r#"{"routes": [{"id": "1", "uri": "/a", "upstream_id": "u"}, {"uri": "/b"}],
            "upstreams": [{"id": "u", "nodes": {"127.0.0.1:1980": 1}}], "services": []}
#END
"#;
        let from_yaml = parse("f", yaml).snapshot(1, 1, 1).unwrap();
        assert_eq!(from_yaml, parse("f", json).snapshot(1, 1, 1).unwrap());
        let ids: Vec<&str> = from_yaml.entries.iter().map(|entry| &*entry.id).collect();
        assert_eq!(ids, ["1", "arr_2", "u"]);
    }

    #[test]
    fn a_file_of_zero_bytes_is_refused_and_one_that_says_nothing_is_an_empty_configuration() {
        assert_eq!(faults(""), ["file/a.yaml: is empty; write {} if it is to hold no objects"]);
        assert_eq!(faults("\n"), faults(""));
        for text in ["# nothing yet\n", "{}", "routes:\n", "---\n", "routes: []\n#END"] {
            assert_eq!(faults(text), Vec::<String>::new(), "{text:?}");
        }
    }

    #[test]
    fn consumers_are_called_by_their_names_and_credentials_may_stand_among_them() {
        let text = "consumers:\n  - username: jack\n    group_id: g\n    plugins: {key-auth: {key: a}}\n\
            \x20 - {id: jack/credentials/1, plugins: {key-auth: {key: b}}}\n\
            credentials:\n  - {id: jack/credentials/2, plugins: {key-auth: {key: c}}}\n\
            consumer_groups:\n  - {id: g, plugins: {cors: }}\n";
        let read = parse("f", text).snapshot(1, 1, 1).unwrap();
        let ids: Vec<&str> = read.entries.iter().map(|entry| &*entry.id).collect();
        assert_eq!(ids, ["jack", "jack/credentials/1", "jack/credentials/2", "g"]);
        let written: Vec<String> = objects(text).unwrap().into_iter().map(|(_, id, _)| id).collect();
        assert!(ids.iter().all(|id| written.iter().any(|own| own == id)), "{written:?}");
        for (text, want) in [
            ("consumers: [{plugins: {}}, {username: 'a#b'}]", "consumers/a#b at /id: a consumer's name"),
            ("consumers: [{username: a}, {username: a}]", "consumers/a at /consumers/1/id: another"),
            ("consumers: [{username: a, group_id: g}]", "there is no consumer group \"g\""),
            ("consumers: [{id: a/credentials/1, plugins: {}}]", "there is no consumer \"a\""),
        ] {
            let faults = faults(text).join("\n");
            assert!(faults.contains(want), "{text}: {faults}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, want) in [
            ("routes: [", "file/a.yaml: is not valid YAML"),
            ("{\"routes\": [", "file/a.yaml: is not valid JSON"),
            ("{\"routes\": [], \"routes\": []}", "\"routes\" stands twice"),
            ("routes: []\nroutes: []\n", "not valid YAML"),
            ("- a\n", "must hold keys"),
            ("route: []\n", "file/route at /route: unknown key"),
            ("routes: {}\n", "file/routes at /routes: must be a list"),
            ("routes:\n  - 5\n", "routes/arr_1: expected a JSON object"),
            (
                "routes:\n  - {id: 1, uri: /a}\n  - {id: '1', uri: /b}\n",
                "routes/1 at /routes/1/id: another object",
            ),
            ("routes:\n  - {id: 1, uri: a}\n", "routes/1 at /uri: "),
            ("routes:\n  - {id: x y, uri: /a}\n", "routes/x y at /id: "),
        ] {
            let faults = faults(text).join("\n");
            assert!(faults.contains(want) && faults.lines().count() == 1, "{text:?}: {faults}");
        }
    }
}
