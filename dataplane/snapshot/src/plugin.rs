//! Plugins' configurations: which there are, what each may say, and in which order they act.
//!
//! What a plugin is told is typed and checked here, so that both planes refuse the same with the same words; what it does then is in the
//! engine's room of the same name. A plugin is its file here, its line in the list below, and its file and line there.
//!
//! Names, fields, defaults and priorities are APISIX's. What is not supported is refused by name; nothing is ignored.

use serde::Deserialize;
use serde_json::Value;

use crate::expression::Expression;
use crate::limits::RESTRICTIONS_MAX;
use crate::model::{Id, Plugins, Upstream};
use crate::parse::typed;

mod headers;
pub mod login;
mod meta;

pub use headers::{Fields, Headers};
pub use login::Login;
pub use meta::{ErrorResponse, Meta};

/// Where below a plugin's configuration something is wrong, and what.
pub type Wrong = (String, String);

/// What is known of a plugin as such.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Its name in APISIX.
    pub name: &'static str,
    /// The higher acts first.
    pub priority: i32,
    /// The JSON schema of its configuration.
    pub schema: &'static str,
    /// Whether it may name or hold upstreams.
    pub upstreams: bool,
}

/// Makes the closed set of plugins: module, type, and nothing else.
macro_rules! plugins {
    ($($module:ident::$conf:ident),* $(,)?) => {
        $(pub mod $module;)*

        /// What a plugin is told.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Conf {
            $(
                #[doc = concat!("See [`", stringify!($module), "`].")]
                $conf($module::$conf),
            )*
        }

        /// All plugins.
        pub const ALL: &[About] = &[$($module::ABOUT),*];

        fn read_conf(name: &str, value: Value) -> Option<Result<(About, Conf), Wrong>> {
            $(
                if name == $module::ABOUT.name {
                    return Some($module::$conf::read(value).map(|conf| ($module::ABOUT, Conf::$conf(conf))));
                }
            )*
            let _ = value;
            None
        }
    };
}

plugins! {
    basic_auth::BasicAuth,
    consumer_restriction::ConsumerRestriction,
    cors::Cors,
    fault_injection::FaultInjection,
    ip_restriction::IpRestriction,
    key_auth::KeyAuth,
    mocking::Mocking,
    proxy_mirror::ProxyMirror,
    proxy_rewrite::ProxyRewrite,
    real_ip::RealIp,
    redirect::Redirect,
    referer_restriction::RefererRestriction,
    request_id::RequestId,
    response_rewrite::ResponseRewrite,
    traffic_split::TrafficSplit,
    ua_restriction::UaRestriction,
    uri_blocker::UriBlocker,
}

/// A plugin of an object, read and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    /// Its name.
    pub name: &'static str,
    /// The higher acts first.
    pub priority: i32,
    /// What `_meta` says, beside that.
    pub meta: Meta,
    /// What it is told.
    pub conf: Conf,
    /// Whether what it is told names the request's body.
    pub looks_at_body: bool,
}

/// An upstream that a plugin names or holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Destination {
    /// One of the configuration's.
    Id(Id),
    /// Its own.
    Own(Box<Upstream>),
}

impl Plugin {
    /// Reads a plugin's configuration; `None` where it is told to be off.
    pub fn read(name: &str, conf: &Value) -> Result<Option<Plugin>, Wrong> {
        let mut fields = match conf {
            Value::Object(fields) => fields.clone(),
            // In YAML a plugin that is told nothing is its name and a colon.
            Value::Null => serde_json::Map::new(),
            _ => return Err((String::new(), "expected a JSON object".to_owned())),
        };
        let looks_at_body = names_body(conf);
        let meta = Meta::read(fields.remove("_meta"))?;
        let Some(read) = read_conf(name, Value::Object(fields)) else {
            return Err((
                String::new(),
                format!("unknown plugin [{name}]: it is not supported by this release; remove it"),
            ));
        };
        let (about, conf) = read?;
        let priority = meta.priority.unwrap_or(about.priority);
        Ok((!meta.disable).then_some(Plugin { name: about.name, priority, meta, conf, looks_at_body }))
    }

    /// The upstreams it names or holds, in the order in which it numbers them, and where they stand.
    pub fn destinations(&self) -> Vec<(String, &Destination)> {
        match &self.conf {
            Conf::TrafficSplit(conf) => conf.destinations(),
            Conf::ProxyMirror(conf) => vec![(String::new(), &conf.to)],
            _ => Vec::new(),
        }
    }
}

/// What is known of the plugin of that name.
pub fn about(name: &str) -> Option<&'static About> {
    ALL.iter().find(|about| about.name == name)
}

/// The plugins of an object that name or hold upstreams. Reading one takes time, and most objects have none.
pub fn with_upstreams(plugins: &Plugins) -> impl Iterator<Item = Plugin> {
    let some = plugins.iter().filter(|(name, _)| about(name).is_some_and(|about| about.upstreams));
    some.filter_map(|(name, conf)| Plugin::read(name, &conf.value()).ok().flatten())
}

/// `vars` of a plugin; none given: it always holds. Its conditions are taken off.
fn vars(field: &str, rules: Option<&Value>, tests_left: &mut usize) -> Result<Option<Expression>, Wrong> {
    let read = rules.map(|rules| Expression::read_within(rules, tests_left)).transpose();
    read.map_err(|(place, reason)| {
        (format!("{field}{place}"), format!("failed to validate the 'vars' expression: {reason}"))
    })
}

/// Whether any text in it names a variable that needs the request's body. Who merely says such a word has the body read too, which
/// does no harm; so no plugin has to tell.
fn names_body(conf: &Value) -> bool {
    match conf {
        Value::String(text) => text.contains("post_arg"),
        Value::Array(list) => list.iter().any(names_body),
        Value::Object(fields) => fields.values().any(names_body),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Text or a number, which becomes text.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged, expecting = "expected a string or a number")]
enum Scalar {
    Text(String),
    Number(serde_json::Number),
}

impl Scalar {
    fn text(&self) -> String {
        match self {
            Scalar::Text(text) => text.clone(),
            Scalar::Number(number) => number.to_string(),
        }
    }
}

/// The body of a refusal, as APISIX words it.
fn message(text: &str) -> Box<str> {
    format!("{}\n", serde_json::json!({ "message": text })).into()
}

/// Of a whitelist and a blacklist the one that is given: its entries, its place, and whether it names those who may.
fn only_list(
    whitelist: Option<Vec<String>>,
    blacklist: Option<Vec<String>>,
) -> Result<(Vec<String>, &'static str, bool), Wrong> {
    either([("/whitelist", whitelist), ("/blacklist", blacklist)])
}

/// The same of two lists at these places, of which the first names those who may.
fn either(
    [(allowed, those), (denied, others)]: [(&'static str, Option<Vec<String>>); 2],
) -> Result<(Vec<String>, &'static str, bool), Wrong> {
    let (list, place, allows) = match (those, others) {
        (Some(list), None) => (list, allowed, true),
        (None, Some(list)) => (list, denied, false),
        _ => {
            let names = [allowed, denied].map(|place| place.trim_start_matches('/'));
            let reason =
                format!("value should match only one schema: give either {} or {}", names[0], names[1]);
            return Err(at("", reason));
        }
    };
    if list.is_empty() || list.len() > RESTRICTIONS_MAX {
        return Err(at(place, format!("needs 1 to {RESTRICTIONS_MAX} entries")));
    }
    Ok((list, place, allows))
}

fn at(place: &str, reason: impl Into<String>) -> Wrong {
    (place.to_owned(), reason.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    #[test]
    fn every_plugin_has_a_schema_and_a_name_of_its_own() {
        let names: BTreeSet<_> = ALL.iter().map(|about| about.name).collect();
        assert_eq!(names.len(), ALL.len());
        for about in ALL {
            let schema: Value =
                serde_json::from_str(about.schema).unwrap_or_else(|error| panic!("{}: {error}", about.name));
            assert_eq!(schema["type"], "object", "{}", about.name);
        }
    }

    #[test]
    fn a_plugin_that_names_the_body_anywhere_is_told_from_others() {
        let looks = |name: &str, conf: Value| {
            Plugin::read(name, &conf).unwrap().is_some_and(|plugin| plugin.looks_at_body)
        };
        let filter = json!([["post_arg.a", "==", "1"]]);
        assert!(looks("cors", json!({"_meta": {"filter": filter}})));
        assert!(looks("fault-injection", json!({"abort": {"http_status": 500, "vars": [filter]}})));
        assert!(looks("proxy-rewrite", json!({"headers": {"set": {"X-A": "$post_arg_a"}}})));
        assert!(!looks("proxy-rewrite", json!({"headers": {"set": {"X-A": "$arg_a"}}})));
    }

    #[test]
    fn unknown_plugins_and_fields_are_told_by_name() {
        let (place, reason) = Plugin::read("limit-countx", &json!({})).unwrap_err();
        assert!(place.is_empty() && reason.contains("unknown plugin [limit-countx]"), "{reason}");
        let (place, reason) = Plugin::read("proxy-rewrite", &json!({"urn": "/a"})).unwrap_err();
        assert_eq!((&*place, &*reason), ("/urn", "unknown field \"urn\"; did you mean \"uri\"?"));
    }
}
