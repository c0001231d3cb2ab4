//! JSON values as YAML for people: blocks, one field a line, the id first.
//!
//! Whatever could be read as something else than the text that it is stands in double quotes (YAML 1.2 section 7.3.1), so that reading
//! gives the same value again; `ringway dump` depends on that.

use serde_json::{Map, Value};

/// Deeper than this, values are written in one line.
const DEPTH_MAX: usize = 64;

/// A whole document.
pub(crate) fn document(value: &Value) -> String {
    let mut out = String::new();
    match value {
        Value::Object(fields) if !fields.is_empty() => mapping(fields, 0, false, &mut out),
        Value::Array(items) if !items.is_empty() => sequence(items, 0, &mut out),
        other => {
            out.push_str(&flow(other));
            out.push('\n');
        }
    }
    out
}

fn mapping(fields: &Map<String, Value>, depth: usize, begun: bool, out: &mut String) {
    let first = fields.get_key_value("id");
    let rest = fields.iter().filter(|(name, _)| *name != "id");
    for (index, (name, value)) in first.into_iter().chain(rest).enumerate() {
        if index > 0 || !begun {
            indent(depth, out);
        }
        out.push_str(&scalar(name));
        out.push(':');
        match value {
            Value::Object(fields) if !fields.is_empty() && depth < DEPTH_MAX => {
                out.push('\n');
                mapping(fields, depth + 1, false, out);
            }
            Value::Array(items) if !items.is_empty() && depth < DEPTH_MAX && has_blocks(items) => {
                out.push('\n');
                sequence(items, depth, out);
            }
            other => {
                out.push(' ');
                out.push_str(&flow(other));
                out.push('\n');
            }
        }
    }
}

fn sequence(items: &[Value], depth: usize, out: &mut String) {
    for item in items {
        indent(depth, out);
        out.push_str("- ");
        match item {
            Value::Object(fields) if !fields.is_empty() && depth < DEPTH_MAX => {
                mapping(fields, depth + 1, true, out);
            }
            other => {
                out.push_str(&flow(other));
                out.push('\n');
            }
        }
    }
}

/// Lists of plain values are short and stand in one line.
fn has_blocks(items: &[Value]) -> bool {
    items.iter().any(Value::is_object)
}

fn indent(depth: usize, out: &mut String) {
    (0..depth).for_each(|_| out.push_str("  "));
}

fn flow(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{}: {}", scalar(name), flow(value))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// A text, in quotes unless it can be nothing else.
fn scalar(text: &str) -> String {
    let begins = |c: char| c.is_ascii_alphabetic() || c == '_' || c == '/';
    let goes_on = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    // What some YAML reads as no text, whatever its case.
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let is_plain = text.starts_with(begins)
        && text.chars().all(goes_on)
        && !words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_plain { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            // Not printable in YAML, or the end of a line for some readers.
            c if c.is_control()
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') =>
            {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use ringway_controlplane::source::file;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let texts = [
            "",
            " ",
            "a",
            "true",
            "No",
            "~",
            "null",
            "1",
            "1.5",
            "0x1f",
            "1e3",
            "-",
            "- a",
            "a: b",
            "a #b",
            "#",
            "[x]",
            "{x",
            "&a",
            "*a",
            "!a",
            "|",
            ">",
            "%a",
            "@a",
            "`a",
            "'",
            "\"",
            "\\",
            "a\nb",
            "\ttab",
            "\r",
            "\u{0}\u{7f}\u{85}\u{a0}\u{2028}\u{feff}",
            "/users/*",
            "10.0.0.1:80",
            "\u{e9}\u{1f600}",
            "...",
            "---",
            ".inf",
            ".nan",
            "=",
            "<<",
            "2001-01-01",
            "?",
            "a?b",
            "1_000",
            "y",
        ];
        let mut value = json!({
            "texts": texts.as_slice(), "empty": {}, "none": [], "nil": null, "truth": [true, false], "lists": [[1, [2]], [], [{}], {"a": []}],
            "numbers": [0, -1, 18_446_744_073_709_551_615_u64, i64::MIN, 1.0, -0.5, 1e300, 1e-7],
            "routes": [{"uri": "/a", "id": "1", "plugins": {"x": {"rules": [{"a": {"b": [1]}}, {"c": "d"}]}}}],
        });
        for text in texts {
            value[format!("key {text}")] = json!({ text: text });
        }
        let text = document(&value);
        assert_eq!(file::read(&text).unwrap_or_else(|error| panic!("{error} in\n{text}")), value, "{text}");
    }

    #[test]
    fn it_is_written_for_people() {
        let value = json!({"upstreams": [{"nodes": {"10.0.0.5:80": 1}, "id": "shop"}], "routes": [{"id": "cart", "uri": "/cart/*", "methods": ["GET"]}]});
        let want = "routes:\n- id: cart\n  methods: [GET]\n  uri: \"/cart/*\"\nupstreams:\n- id: shop\n  nodes:\n    \"10.0.0.5:80\": 1\n";
        assert_eq!(document(&value), want);
    }
}
