//! `${{NAME}}` and `${{NAME:=default}}` in the declarative file: variables of the control plane's environment, as APISIX's standalone file
//! has them.
//!
//! They may stand anywhere in a text or a key, several in one, and never make a new one. A text that held one and reads as a number, `true` or `false`
//! then is that. One that is not set and has no default refuses the file: an empty text in its place could open what was closed.

use std::borrow::Cow;

use ringway_snapshot::Fault;
use serde_json::{Map, Number, Value};

use super::parse::whole;

const OPEN: &str = "${{";
const CLOSE: &str = "}}";

/// Puts values in place of variables; `variable` knows them. Gives what is wrong, with its place.
pub(super) fn substitute(
    file: &str,
    document: &mut Value,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Vec<Fault> {
    let mut work = Work { file, variable, faults: Vec::new() };
    work.value(document, &mut String::new());
    work.faults
}

struct Work<'w> {
    file: &'w str,
    variable: &'w dyn Fn(&str) -> Option<String>,
    faults: Vec<Fault>,
}

impl Work<'_> {
    fn value(&mut self, value: &mut Value, place: &mut String) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(text) = self.text(text, place) {
                    *value = typed(text);
                }
            }
            Value::Array(list) => {
                for (index, item) in list.iter_mut().enumerate() {
                    self.below(place, &index.to_string(), |work, place| work.value(item, place));
                }
            }
            Value::Object(fields) => {
                self.keys(fields, place);
                for (key, field) in fields.iter_mut() {
                    self.below(place, key, |work, place| work.value(field, place));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn keys(&mut self, fields: &mut Map<String, Value>, place: &mut String) {
        let named: Vec<String> = fields.keys().filter(|key| key.contains(OPEN)).cloned().collect();
        for key in named {
            let Cow::Owned(resolved) = self.text(&key, place) else { continue };
            if fields.contains_key(&resolved) {
                self.fault(place, format!("the key {key:?} becomes one that stands there already"));
                continue;
            }
            if let Some(value) = fields.remove(&key) {
                fields.insert(resolved, value);
            }
        }
    }

    fn below(&mut self, place: &mut String, name: &str, act: impl FnOnce(&mut Self, &mut String)) {
        let length = place.len();
        place.push('/');
        place.push_str(&name.replace('~', "~0").replace('/', "~1"));
        act(self, place);
        place.truncate(length);
    }

    /// Borrowed, where no variable stands in it.
    fn text<'t>(&mut self, text: &'t str, place: &str) -> Cow<'t, str> {
        let mut out: Option<String> = None;
        let mut rest = text;
        while let Some((before, inside, after)) = next(rest) {
            let (name, default) = match inside.split_once(":=") {
                Some((name, default)) => (name.trim(), Some(default.trim())),
                None => (inside.trim(), None),
            };
            let out = out.get_or_insert_default();
            out.push_str(before);
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                self.fault(
                    place,
                    format!(
                        "{name:?} is no name of a variable; write ${{{{NAME}}}} or ${{{{NAME:=default}}}}"
                    ),
                );
            } else {
                match ((self.variable)(name), default) {
                    (Some(value), _) => out.push_str(&value),
                    (None, Some(default)) => out.push_str(default),
                    (None, None) => self.fault(
                        place,
                        format!("the variable {name:?} is not set in the control plane's environment, and has no default (${{{{{name}:=default}}}})"),
                    ),
                }
            }
            rest = after;
        }
        match out {
            Some(mut out) => {
                out.push_str(rest);
                Cow::Owned(out)
            }
            None => Cow::Borrowed(text),
        }
    }

    fn fault(&mut self, place: &str, reason: String) {
        self.faults.push(Fault { pointer: place.to_owned(), ..whole(self.file, &reason) });
    }
}

/// What stands before the next variable, in it, and behind it.
fn next(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once(OPEN)?;
    let (inside, after) = rest.split_once(CLOSE)?;
    Some((before, inside, after))
}

fn typed(text: String) -> Value {
    match text.as_str() {
        "true" => return Value::Bool(true),
        "false" => return Value::Bool(false),
        _ => {}
    }
    let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    match serde_json::from_str::<Number>(&text) {
        Ok(number) if is_number => Value::Number(number),
        _ => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn variable(name: &str) -> Option<String> {
        let value = match name {
            "HOST" => "a.example",
            "PORT" => "8080",
            "ON" => "true",
            "KEY" => "0070",
            "AGAIN" => "${{HOST}}",
            "EMPTY" => "",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn variables_stand_anywhere_and_take_the_type_that_they_read_as() {
        let mut document = json!({"routes": [{"uri": "/${{HOST}}/${{ PORT }}x", "host": "${{NONE:= b.example }}",
            "priority": "${{PORT}}", "enable_websocket": "${{ON}}", "desc": "${{AGAIN}}", "name": "x${{EMPTY}}",
            "labels": {"k": "${{KEY}}", "n": "1", "open": "${{HOST"}}],
            "upstreams": [{"nodes": {"${{HOST}}:${{PORT}}": 1}}]});
        assert_eq!(substitute("f", &mut document, &variable), Vec::new());
        let want = json!({"routes": [{"uri": "/a.example/8080x", "host": "b.example", "priority": 8080,
            "enable_websocket": true, "desc": "${{HOST}}", "name": "x",
            "labels": {"k": "0070", "n": "1", "open": "${{HOST"}}],
            "upstreams": [{"nodes": {"a.example:8080": 1}}]});
        assert_eq!(document, want);
    }

    #[test]
    fn what_is_not_set_is_told_with_its_place() {
        let mut document = json!({"a": [{"b/c": "${{NONE}}"}, "${{}}", "${{A B}}"],
            "o": {"a.example": 1, "${{HOST}}": 2}});
        let told: Vec<String> =
            substitute("f.yaml", &mut document, &variable).iter().map(ToString::to_string).collect();
        let text = told.join("\n");
        assert_eq!(told.len(), 4, "{text}");
        for want in
            ["f.yaml at /a/0/b~1c: the variable \"NONE\" is not set", "/a/1: ", "/a/2: ", "/o: the key"]
        {
            assert!(text.contains(want), "{want}: {text}");
        }
    }
}
