//! What differs between two states of an object, field by field.
//!
//! Fields are named by JSON pointer (RFC 6901), as in every refusal. Lists of one length are compared item by item, others whole. Times and
//! the id are no difference: the one is written by the Admin API alone, the other stands beside the object.

use serde_json::{Value, json};

use crate::declared::without_times;

/// Characters of one value on the terminal.
const VALUE_CHARS_MAX: usize = 400;

/// One field that is not the same.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Difference {
    pub(crate) pointer: String,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
}

/// All differences; an object that is not there has no fields.
pub(crate) fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let clean = |state: &Value| {
        let mut state = if state.is_null() { json!({}) } else { state.clone() };
        without_times(&mut state);
        if let Value::Object(fields) = &mut state {
            fields.remove("id");
        }
        state
    };
    let mut found = Vec::new();
    compare("", Some(&clean(before)), Some(&clean(after)), &mut found);
    found
}

fn compare(pointer: &str, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    match (before, after) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let below = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
                compare(&below, before.get(name), after.get(name), found);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) if before.len() == after.len() => {
            for (index, (before, after)) in before.iter().zip(after).enumerate() {
                compare(&format!("{pointer}/{index}"), Some(before), Some(after), found);
            }
        }
        (before, after) if before != after => {
            let own = |value: Option<&Value>| value.cloned();
            found.push(Difference { pointer: pointer.to_owned(), before: own(before), after: own(after) });
        }
        _ => {}
    }
}

impl Difference {
    /// As a line.
    pub(crate) fn line(&self) -> String {
        let pointer = if self.pointer.is_empty() { "/" } else { &self.pointer };
        match (&self.before, &self.after) {
            (None, Some(after)) => format!("+ {pointer}: {}", short(after)),
            (Some(before), None) => format!("- {pointer}: {}", short(before)),
            (before, after) => {
                let told = |value: &Option<Value>| value.as_ref().map_or_else(String::new, short);
                format!("~ {pointer}: {} -> {}", told(before), told(after))
            }
        }
    }

    /// For `--json`.
    pub(crate) fn document(&self) -> Value {
        let mut document = json!({"pointer": self.pointer});
        for (name, value) in [("before", &self.before), ("after", &self.after)] {
            if let Some(value) = value {
                document[name] = value.clone();
            }
        }
        document
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(VALUE_CHARS_MAX) {
        Some((at, _)) => format!("{}... ({} bytes)", text.get(..at).unwrap_or_default(), text.len()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(before: &Value, after: &Value) -> Vec<String> {
        differences(before, after).iter().map(Difference::line).collect()
    }

    #[test]
    fn fields_are_named_by_pointer() {
        let before = json!({"id": "1", "uri": "/a", "nodes": {"a:1": 1, "b/c": 2}, "hosts": ["x", "y"], "create_time": 1});
        let after = json!({"nodes": {"a:1": 3}, "hosts": ["x", "z"], "methods": ["GET"], "uri": "/a"});
        assert_eq!(
            lines(&before, &after),
            [
                "~ /hosts/1: \"y\" -> \"z\"",
                "+ /methods: [\"GET\"]",
                "~ /nodes/a:1: 1 -> 3",
                "- /nodes/b~1c: 2"
            ]
        );
        assert_eq!(lines(&json!({"a": [1]}), &json!({"a": [1, 2]})), ["~ /a: [1] -> [1,2]"]);
        assert_eq!(lines(&json!({"a": null}), &json!({})), ["- /a: null"]);
        assert_eq!(lines(&Value::Null, &json!({"a": 1})), ["+ /a: 1"]);
        assert!(differences(&before, &before).is_empty());
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let line =
            Difference { pointer: "/a".into(), before: None, after: Some(json!("\u{e9}".repeat(900))) };
        assert!(line.line().ends_with("... (1802 bytes)"));
    }
}
