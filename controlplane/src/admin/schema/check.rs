//! Checks a value against a JSON schema: the part of draft 7 that the objects' schemas use, in the words of APISIX's validator.
//!
//! A keyword that is not known is not looked at, so schemas here hold only what stands below. The first thing
//! wrong is told; where several are, properties come in the order of their names.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use regex_lite::Regex;
use serde_json::{Map, Value};

/// How deep a value is looked into.
const DEPTH_MAX: usize = 64;

/// What is wrong, or nothing.
pub(crate) fn check(schema: &Value, value: &Value) -> Result<(), String> {
    at(schema, value, 0)
}

fn at(schema: &Value, value: &Value, depth: usize) -> Result<(), String> {
    let Value::Object(rules) = schema else { return Ok(()) };
    if depth > DEPTH_MAX {
        return Err(format!("nests deeper than {DEPTH_MAX} levels"));
    }
    if let Some(Value::String(wanted)) = rules.get("type")
        && !is_type(wanted, value)
    {
        return Err(format!("wrong type: expected {wanted}, got {}", lua_type(value)));
    }
    if let Some(Value::Array(allowed)) = rules.get("enum")
        && !allowed.contains(value)
    {
        return Err("matches none of the enum values".to_owned());
    }
    match value {
        Value::String(text) => string(rules, text)?,
        Value::Number(number) => numeric(rules, number.as_f64().unwrap_or(0.0))?,
        Value::Array(items) => array(rules, items, depth)?,
        Value::Object(fields) => object(rules, fields, depth)?,
        Value::Null | Value::Bool(_) => {}
    }
    combined(rules, value, depth)
}

fn is_type(wanted: &str, value: &Value) -> bool {
    match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        _ => true,
    }
}

fn lua_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "userdata",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) | Value::Object(_) => "table",
    }
}

fn count(rules: &Map<String, Value>, name: &str) -> Option<usize> {
    rules.get(name).and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok())
}

fn string(rules: &Map<String, Value>, text: &str) -> Result<(), String> {
    let length = text.len();
    if let Some(least) = count(rules, "minLength").filter(|least| length < *least) {
        return Err(format!("string too short, expected at least {least}, got {length}"));
    }
    if let Some(most) = count(rules, "maxLength").filter(|most| length > *most) {
        return Err(format!("string too long, expected at most {most}, got {length}"));
    }
    match rules.get("pattern").and_then(Value::as_str) {
        Some(pattern) if !matches(pattern, text) => {
            Err(format!("failed to match pattern \"{pattern}\" with \"{text}\""))
        }
        _ => Ok(()),
    }
}

fn numeric(rules: &Map<String, Value>, number: f64) -> Result<(), String> {
    let bound = |name: &str| rules.get(name).and_then(Value::as_f64);
    if let Some(least) = bound("minimum").filter(|least| number < *least) {
        return Err(format!("expected {number} to be at least {least}"));
    }
    if let Some(least) = bound("exclusiveMinimum").filter(|least| number <= *least) {
        return Err(format!("expected {number} to be strictly greater than {least}"));
    }
    if let Some(most) = bound("maximum").filter(|most| number > *most) {
        return Err(format!("expected {number} to be at most {most}"));
    }
    Ok(())
}

fn array(rules: &Map<String, Value>, items: &[Value], depth: usize) -> Result<(), String> {
    if let Some(least) = count(rules, "minItems").filter(|least| items.len() < *least) {
        return Err(format!("expect array to have at least {least} items"));
    }
    if let Some(most) = count(rules, "maxItems").filter(|most| items.len() > *most) {
        return Err(format!("expect array to have at most {most} items"));
    }
    if let Some(schema) = rules.get("items") {
        for (index, item) in items.iter().enumerate() {
            at(schema, item, depth + 1)
                .map_err(|why| format!("failed to validate item {}: {why}", index + 1))?;
        }
    }
    if rules.get("uniqueItems") == Some(&Value::Bool(true)) {
        let mut seen = BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            if let Some(first) = seen.insert(item.to_string(), index) {
                let (a, b) = (first + 1, index + 1);
                return Err(format!("expected unique items but items {a} and {b} are equal"));
            }
        }
    }
    Ok(())
}

fn object(rules: &Map<String, Value>, fields: &Map<String, Value>, depth: usize) -> Result<(), String> {
    let none = Map::new();
    let properties = rules.get("properties").and_then(Value::as_object).unwrap_or(&none);
    for (name, schema) in properties {
        if let Some(value) = fields.get(name) {
            at(schema, value, depth + 1)
                .map_err(|why| format!("property \"{name}\" validation failed: {why}"))?;
        }
    }
    for name in
        rules.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    {
        if !fields.contains_key(name) {
            return Err(format!("property \"{name}\" is required"));
        }
    }
    if let Some(least) = count(rules, "minProperties").filter(|least| fields.len() < *least) {
        return Err(format!("expect object to have at least {least} properties"));
    }
    if let Some(most) = count(rules, "maxProperties").filter(|most| fields.len() > *most) {
        return Err(format!("expect object to have at most {most} properties"));
    }
    let patterns = rules.get("patternProperties").and_then(Value::as_object).unwrap_or(&none);
    for (name, value) in fields.iter().filter(|(name, _)| !properties.contains_key(*name)) {
        let mut known = false;
        for (pattern, schema) in patterns.iter().filter(|(pattern, _)| matches(pattern, name)) {
            known = true;
            at(schema, value, depth + 1)
                .map_err(|why| format!("failed to validate {name} (matching \"{pattern}\"): {why}"))?;
        }
        match rules.get("additionalProperties") {
            Some(Value::Bool(false)) if !known => {
                return Err(format!("additional properties forbidden, found {name}"));
            }
            Some(schema) if !known => at(schema, value, depth + 1)
                .map_err(|why| format!("failed to validate additional property {name}: {why}"))?,
            _ => {}
        }
    }
    Ok(())
}

fn combined(rules: &Map<String, Value>, value: &Value, depth: usize) -> Result<(), String> {
    let listed = |name: &str| rules.get(name).and_then(Value::as_array);
    let fits = |schema: &Value| at(schema, value, depth + 1).is_ok();
    if listed("anyOf").is_some_and(|schemas| !schemas.iter().any(fits)) {
        return Err("object matches none of the required".to_owned());
    }
    if let Some(schemas) = listed("oneOf") {
        let mut fitting =
            schemas.iter().enumerate().filter(|(_, schema)| fits(schema)).map(|(index, _)| index + 1);
        match (fitting.next(), fitting.next()) {
            (None, _) => return Err("value should match only one schema, but matches none".to_owned()),
            (Some(a), Some(b)) => {
                return Err(format!(
                    "value should match only one schema, but matches both schemas {a} and {b}"
                ));
            }
            (Some(_), None) => {}
        }
    }
    if rules.get("not").is_some_and(fits) {
        return Err("value wasn't supposed to match schema".to_owned());
    }
    Ok(())
}

/// Compiled once each; patterns come from schemas and never from a request.
fn matches(pattern: &str, text: &str) -> bool {
    static COMPILED: LazyLock<Mutex<BTreeMap<String, Option<Regex>>>> = LazyLock::new(Mutex::default);
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if !compiled.contains_key(pattern) {
        // In these patterns a dash between classes stands for itself.
        let own = pattern.replace("9-_", "9\\-_").replace("Z-.", "Z\\-.").replace("9-.", "9\\-.");
        compiled.insert(pattern.to_owned(), Regex::new(&own).ok());
    }
    compiled.get(pattern).is_some_and(|regex| regex.as_ref().is_some_and(|regex| regex.is_match(text)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keywords_refuse_in_their_words() {
        for (schema, value, want) in [
            (json!({"type": "integer"}), json!(1.5), "wrong type: expected integer, got number"),
            (
                json!({"type": "array", "uniqueItems": true}),
                json!([1, 2, 1]),
                "expected unique items but items 1 and 3 are equal",
            ),
            (
                json!({"items": {"type": "string"}}),
                json!(["a", {}]),
                "failed to validate item 2: wrong type: expected string, got table",
            ),
            (json!({"exclusiveMinimum": 0}), json!(0), "expected 0 to be strictly greater than 0"),
            (json!({"minProperties": 1}), json!({}), "expect object to have at least 1 properties"),
            (
                json!({"additionalProperties": {"type": "string"}}),
                json!({"a": 1}),
                "failed to validate additional property a: wrong type: expected string, got number",
            ),
            (json!({"not": {"required": ["a"]}}), json!({"a": 1}), "value wasn't supposed to match schema"),
        ] {
            assert_eq!(check(&schema, &value), Err(want.to_owned()));
        }
        assert_eq!(check(&json!({"type": "integer"}), &json!(2.0)), Ok(()));
    }
}
