//! The objects' JSON schemas: what `schema/...` tells, and the first check of what is written.
//!
//! They hold the whole vocabulary of APISIX's objects, also what the data plane does not act on yet; the contract's own parser and
//! rules (`ringway_snapshot`) then refuse that by name. So a client that speaks APISIX's language first hears about its
//! spelling, and then about this release.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use ringway_snapshot::Kind;
use ringway_snapshot::plugin::login::{LOGINS, login_about};
use ringway_snapshot::plugin::{self, About};
use serde_json::{Value, json};

pub(super) mod check;

const DEFINITIONS: &str = include_str!("schema/definitions.json");

/// All schemas by the singular name of their kind. `{"$use": NAME}` stands for the definition of that name.
static SCHEMAS: LazyLock<BTreeMap<String, Value>> = LazyLock::new(|| {
    let raw: BTreeMap<String, Value> = serde_json::from_str(DEFINITIONS).unwrap_or_default();
    raw.iter().map(|(name, schema)| (name.clone(), resolved(schema, &raw, 0))).collect()
});

/// The schemas of plugins' configurations by name.
static PLUGINS: LazyLock<BTreeMap<&'static str, Value>> = LazyLock::new(|| {
    let read = |about: &About| {
        let mut schema: Value = serde_json::from_str(about.schema).unwrap_or_default();
        if let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) {
            fields.insert("_meta".to_owned(), json!({"type": "object"}));
        }
        (about.name, schema)
    };
    plugin::ALL.iter().map(read).collect()
});

/// The schemas of what consumers tell plugins that tell them apart, by the plugin's name.
static LOGIN_SCHEMAS: LazyLock<BTreeMap<&'static str, Value>> = LazyLock::new(|| {
    LOGINS.iter().map(|about| (about.name, serde_json::from_str(about.schema).unwrap_or_default())).collect()
});

/// How deep one definition may use others.
const DEPTH_MAX: usize = 16;

fn resolved(schema: &Value, raw: &BTreeMap<String, Value>, depth: usize) -> Value {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(name)) = fields.get("$use")
                && depth < DEPTH_MAX
            {
                return raw.get(name).map_or(Value::Null, |used| resolved(used, raw, depth + 1));
            }
            fields.iter().map(|(key, value)| (key.clone(), resolved(value, raw, depth))).collect()
        }
        Value::Array(items) => items.iter().map(|item| resolved(item, raw, depth)).collect(),
        other => other.clone(),
    }
}

/// The word for one object of a kind: in schemas' paths with underscores, in messages with spaces.
pub(super) fn singular(kind: Kind) -> &'static str {
    match kind {
        Kind::Route => "route",
        Kind::Service => "service",
        Kind::Upstream => "upstream",
        Kind::Consumer => "consumer",
        Kind::Credential => "credential",
        Kind::ConsumerGroup => "consumer_group",
        Kind::PluginConfig => "plugin_config",
        Kind::GlobalRule => "global_rule",
        Kind::Ssl => "ssl",
        Kind::Secret => "secret",
        Kind::StreamRoute => "stream_route",
        Kind::PluginMetadata => "plugin_metadata",
        Kind::Proto => "proto",
    }
}

/// The schema of a kind.
pub(super) fn of(kind: Kind) -> Option<&'static Value> {
    SCHEMAS.get(singular(kind))
}

/// The schema by the name in `schema/NAME` (singular; the plural is understood too).
pub(super) fn named(name: &str) -> Option<&'static Value> {
    let kind = Kind::ALL.into_iter().find(|kind| singular(*kind) == name || kind.name() == name)?;
    of(kind)
}

/// All of them.
pub(super) fn all() -> Value {
    let kinds = Kind::ALL.iter().filter_map(|kind| Some((singular(*kind).to_owned(), of(*kind)?.clone())));
    let plugins: serde_json::Map<_, _> =
        PLUGINS.iter().map(|(name, schema)| ((*name).to_owned(), json!({"schema": schema}))).collect();
    json!({"main": kinds.collect::<serde_json::Map<_, _>>(), "plugins": plugins, "stream_plugins": {}})
}

/// The schema of a plugin's configuration.
pub(super) fn of_plugin(name: &str) -> Option<&'static Value> {
    PLUGINS.get(name)
}

/// The schema of what consumers tell a plugin; `None`: nothing.
pub(super) fn of_login(name: &str) -> Option<&'static Value> {
    LOGIN_SCHEMAS.get(name)
}

/// What `plugins?all=true` tells of a plugin.
pub(super) fn plugins() -> Value {
    let told = |about: &About| {
        let schema = of_plugin(about.name);
        let mut told = json!({"priority": about.priority, "schema": schema, "version": 0.1});
        if let Some(schema) = of_login(about.name) {
            (told["consumer_schema"], told["type"]) = (schema.clone(), json!("auth"));
        }
        (about.name.to_owned(), told)
    };
    Value::Object(plugin::ALL.iter().map(told).collect())
}

/// Checks the plugins of an object, as far as their schemas go.
fn check_plugins(kind: Kind, object: &Value) -> Result<(), String> {
    let of_consumer = matches!(kind, Kind::Consumer | Kind::Credential);
    let plugins = object.get("plugins").and_then(Value::as_object);
    for (name, conf) in plugins.into_iter().flatten() {
        check_plugin(name, conf, of_consumer).map_err(|why| match of_consumer {
            true => format!("invalid plugins configuration: {why}"),
            false => why,
        })?;
    }
    if kind == Kind::Credential
        && plugins.is_some_and(|plugins| plugins.keys().any(|name| login_about(name).is_none()))
    {
        return Err("only supports auth type plugins in consumer credential".to_owned());
    }
    Ok(())
}

fn check_plugin(name: &str, conf: &Value, of_consumer: bool) -> Result<(), String> {
    if !conf.is_object() && !conf.is_array() {
        return Err(format!("invalid plugin conf {conf} for plugin [{name}]"));
    }
    let Some(schema) = of_login(name).filter(|_| of_consumer).or_else(|| of_plugin(name)) else {
        return Err(format!("unknown plugin [{name}]"));
    };
    check::check(schema, conf)
        .map_err(|why| format!("failed to check the configuration of plugin {name} err: {why}"))
}

/// Checks an object. The message is APISIX's.
pub(super) fn check(kind: Kind, object: &Value) -> Result<(), String> {
    let Some(schema) = of(kind) else { return Ok(()) };
    let told = |why: String| format!("invalid configuration: {why}");
    check::check(schema, object).map_err(told)?;
    check_plugins(kind, object)?;
    for upstream in
        [Some(object).filter(|_| kind == Kind::Upstream), object.get("upstream")].into_iter().flatten()
    {
        hashing(upstream)?;
    }
    Ok(())
}

/// What consistent hashing needs beside each field's own type.
fn hashing(upstream: &Value) -> Result<(), String> {
    if upstream.get("type").and_then(Value::as_str) != Some("chash") {
        return Ok(());
    }
    let on = upstream.get("hash_on").and_then(Value::as_str).unwrap_or("vars");
    if on == "consumer" {
        return Ok(());
    }
    let Some(key) = upstream.get("key") else { return Err("missing key".to_owned()) };
    let rule = match on {
        "vars" => "upstream_key_vars",
        "header" | "cookie" => "upstream_key_name",
        _ => return Ok(()),
    };
    let checked = SCHEMAS.get(rule).map_or(Ok(()), |schema| check::check(schema, key));
    checked.map_err(|why| format!("invalid configuration: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_schema_without_holes() {
        for kind in Kind::ALL {
            let schema = of(kind).unwrap_or_else(|| panic!("{kind:?} has no schema"));
            let text = schema.to_string();
            assert!(!text.contains("$use") && !text.contains("null"), "{kind:?}: {text}");
            assert_eq!(named(singular(kind)), Some(schema));
        }
        assert_eq!(named("noexits"), None);
    }

    #[test]
    fn plain_objects_pass() {
        for (kind, object) in [
            (
                Kind::Route,
                json!({"uri": "/a", "plugins": {"proxy-rewrite": {"uri": "/b"}}, "vars": [["arg_a", "==", "1"]]}),
            ),
            (
                Kind::Route,
                json!({"uris": ["/a"], "upstream": {"nodes": {"127.0.0.1:80": 1}, "type": "roundrobin"}}),
            ),
            (Kind::Service, json!({})),
            (Kind::Upstream, json!({"nodes": [{"host": "[::1]", "port": 8082, "weight": 1}]})),
            (Kind::Upstream, json!({"nodes": [{"host": "unix:/run/a.sock", "port": 0, "weight": 1}]})),
            (Kind::Upstream, json!({"nodes": {}, "type": "chash", "hash_on": "header", "key": "x-user"})),
            (Kind::Consumer, json!({"username": "Jack-and-Rose_123"})),
        ] {
            assert_eq!(check(kind, &object), Ok(()), "{object}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_in_apisixs_words() {
        let upstream = json!({"nodes": {"127.0.0.1:8080": 1}});
        for (kind, object, want) in [
            (
                Kind::Route,
                json!({"uri": "/a", "labels": "a"}),
                "property \"labels\" validation failed: wrong type: expected object, got string",
            ),
            (
                Kind::Service,
                json!({"labels": {"env": ["a"]}}),
                "property \"labels\" validation failed: failed to validate env (matching \".*\"): wrong type: expected string, got table",
            ),
            (Kind::Consumer, json!({"id": "jack"}), "property \"username\" is required"),
            (
                Kind::Upstream,
                json!({"nodes": {}, "retries": -1}),
                "property \"retries\" validation failed: expected -1 to be at least 0",
            ),
            (
                Kind::Upstream,
                json!({"nodes": [{"host": "127.#.%.1", "port": 8080, "weight": 1}]}),
                "property \"nodes\" validation failed: object matches none of the required",
            ),
            (
                Kind::Upstream,
                json!({"nodes": {}, "hash_on": "x"}),
                "property \"hash_on\" validation failed: matches none of the enum values",
            ),
            (Kind::Upstream, json!({"nodes": {}, "_x": 1}), "additional properties forbidden, found _x"),
            (Kind::Service, json!({"upstream": {"nodes": {}, "type": "chash"}}), "missing key"),
            (
                Kind::Upstream,
                json!({"nodes": {}, "type": "chash", "hash_on": "cookie", "key": "$#^@"}),
                "failed to match pattern \"^[a-zA-Z0-9-_]+$\" with \"$#^@\"",
            ),
            (
                Kind::Service,
                json!({"id": -100}),
                "property \"id\" validation failed: object matches none of the required",
            ),
            (
                Kind::Route,
                json!({"uri": "/", "uris": ["/"], "upstream": upstream}),
                "value should match only one schema, but matches both schemas 1 and 2",
            ),
            (
                Kind::Route,
                json!({"uris": []}),
                "property \"uris\" validation failed: expect array to have at least 1 items",
            ),
            (
                Kind::Service,
                json!({"name": "1".repeat(257)}),
                "property \"name\" validation failed: string too long, expected at most 256, got 257",
            ),
        ] {
            let want = match want {
                "missing key" => want.to_owned(),
                want => format!("invalid configuration: {want}"),
            };
            assert_eq!(check(kind, &object), Err(want), "{object}");
        }
    }
}
