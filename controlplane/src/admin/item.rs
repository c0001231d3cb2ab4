//! One stored object, and how it is shown: APISIX's `{key, value, createdIndex, modifiedIndex}`.
//!
//! What is stored is what was written, without `id` and times, which the row has. What is shown has them, and the defaults that
//! APISIX would have written into it. Indexes are revisions.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::http::HeaderName;
use ringway_snapshot::Kind;
use ringway_snapshot::model::credential;
use ringway_snapshot::parse::parse_object;
use serde_json::{Map, Value, json};
use tokio_postgres::Row;

use super::answer::Answer;
use crate::source::postgresql::Trouble;

/// An object's fields.
pub(super) type Fields = Map<String, Value>;

/// Kind and id.
pub(super) type Place = (Kind, String);

/// The columns of [`Item::from_row`]. The revision that made an object is told by the history; where that was cut off, the
/// last one stands for it.
pub(super) const COLUMNS: &str = "r.kind, r.id, r.spec::text, r.revision, \
    coalesce((select c.revision from ringway.change c where c.kind = r.kind and c.id = r.id and c.before is null \
              order by c.seq desc limit 1), r.revision), \
    extract(epoch from r.created_at)::bigint, extract(epoch from r.updated_at)::bigint, \
    ceil(extract(epoch from r.expires_at))::bigint";

/// Tells with an object when it will be removed, in seconds since 1970.
const EXPIRES_AT: HeaderName = HeaderName::from_static("ringway-expires-at");

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) kind: Kind,
    pub(super) id: String,
    pub(super) spec: Fields,
    pub(super) revision: u64,
    created: u64,
    created_s: i64,
    updated_s: i64,
    expires_s: Option<i64>,
}

impl Item {
    /// An object of the declarative file, which knows no times.
    pub(super) fn of_file(kind: Kind, id: String, spec: Fields, revision: u64) -> Item {
        Item { kind, id, spec, revision, created: revision, created_s: 0, updated_s: 0, expires_s: None }
    }

    /// Reads [`COLUMNS`]; `None` for a row of a kind that this program does not know.
    pub(super) fn from_row(row: &Row) -> Result<Option<Item>, Answer> {
        let failed = |error: tokio_postgres::Error| Answer::from(Trouble::from(error));
        let Some(kind) = Kind::from_name(row.try_get(0).map_err(failed)?) else { return Ok(None) };
        let number = |at: usize| row.try_get::<_, i64>(at).map_err(failed);
        Ok(Some(Item {
            kind,
            id: row.try_get(1).map_err(failed)?,
            spec: fields(row.try_get(2).map_err(failed)?),
            revision: number(3)?.unsigned_abs(),
            created: number(4)?.unsigned_abs(),
            created_s: number(5)?,
            updated_s: number(6)?,
            expires_s: row.try_get(7).map_err(failed)?,
        }))
    }

    /// Kind and id.
    pub(super) fn place(&self) -> Place {
        (self.kind, self.id.clone())
    }

    /// The object as APISIX would show it.
    pub(super) fn value(&self) -> Value {
        let mut fields = self.spec.clone();
        match self.kind {
            Kind::Consumer => {
                fields.entry("username").or_insert_with(|| json!(self.id));
            }
            // Its consumer stands in the path.
            Kind::Credential => {
                let own = credential(&self.id).map_or(&*self.id, |(_, own)| own);
                fields.insert("id".to_owned(), json!(own));
            }
            _ => {
                fields.insert("id".to_owned(), json!(self.id));
            }
        }
        for (name, seconds) in [("create_time", self.created_s), ("update_time", self.updated_s)] {
            if seconds != 0 {
                fields.entry(name).or_insert_with(|| json!(seconds));
            }
        }
        add_defaults(self.kind, &mut fields);
        Value::Object(fields)
    }

    /// The object as it was written, and its id.
    pub(super) fn as_written(&self) -> Value {
        let mut fields = self.spec.clone();
        fields.insert("id".to_owned(), json!(self.id));
        Value::Object(fields)
    }

    /// As in a list or an answer to GET.
    pub(super) fn shown(&self) -> Value {
        json!({
            "key": key(self.kind, &self.id),
            "value": self.value(),
            "createdIndex": self.created,
            "modifiedIndex": self.revision,
        })
    }

    /// An answer that shows it, and tells when it goes, if it does.
    pub(super) fn expiring(&self, answer: Answer) -> Answer {
        match self.expires_s {
            Some(seconds) => answer.with(EXPIRES_AT, &seconds.to_string()),
            None => answer,
        }
    }

    /// As the answer to a write.
    pub(super) fn written(&self) -> Value {
        json!({"key": key(self.kind, &self.id), "value": self.value()})
    }
}

/// The key under which APISIX would keep it in etcd.
pub(super) fn key(kind: Kind, id: &str) -> String {
    match (kind, credential(id)) {
        (Kind::Credential, Some(_)) => format!("/apisix/consumers/{id}"),
        _ => format!("/apisix/{}/{id}", kind.name()),
    }
}

/// Text from the database, which holds nothing but objects.
pub(super) fn fields(text: &str) -> Fields {
    serde_json::from_str(text).unwrap_or_default()
}

fn add_defaults(kind: Kind, fields: &mut Fields) {
    let defaults: &[(&str, Value)] = match kind {
        Kind::Route => &[("priority", json!(0)), ("status", json!(1))],
        Kind::Upstream => &[
            ("type", json!("roundrobin")),
            ("hash_on", json!("vars")),
            ("pass_host", json!("pass")),
            ("scheme", json!("http")),
        ],
        _ => &[],
    };
    for (name, value) in defaults {
        fields.entry(*name).or_insert_with(|| value.clone());
    }
    if kind != Kind::Upstream
        && let Some(Value::Object(upstream)) = fields.get_mut("upstream")
    {
        add_defaults(Kind::Upstream, upstream);
    }
}

/// Whether both are shown alike: they differ in nothing but defaults that one of them spells out.
pub(super) fn shown_alike(kind: Kind, one: &Fields, other: &Fields) -> bool {
    let whole = |fields: &Fields| {
        let mut fields = fields.clone();
        add_defaults(kind, &mut fields);
        fields
    };
    one == other || whole(one) == whole(other)
}

/// What an object refers to, and in which field.
pub(super) fn references((kind, id): &Place, spec: &Fields) -> BTreeMap<Place, String> {
    let mut found = BTreeMap::new();
    if let Some((consumer, _)) = credential(id).filter(|_| *kind == Kind::Credential) {
        found.insert((Kind::Consumer, consumer.to_owned()), "id".to_owned());
    }
    let top: &[(&str, Kind)] = match kind {
        Kind::Route | Kind::StreamRoute => &[
            ("service_id", Kind::Service),
            ("plugin_config_id", Kind::PluginConfig),
            ("upstream_id", Kind::Upstream),
        ],
        Kind::Service => &[("upstream_id", Kind::Upstream)],
        Kind::Consumer => &[("group_id", Kind::ConsumerGroup)],
        _ => &[],
    };
    for (field, to) in top {
        if let Some(id) = spec.get(*field).and_then(id_text) {
            found.insert((*to, id), (*field).to_owned());
        }
    }
    if let Some(Value::Object(plugins)) = spec.get("plugins") {
        for (name, plugin) in plugins {
            in_plugin(name, plugin, &mut found);
        }
    }
    found
}

fn in_plugin(name: &str, value: &Value, found: &mut BTreeMap<Place, String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let to = match field.as_str() {
                    "upstream_id" => Some(Kind::Upstream),
                    "proto_id" => Some(Kind::Proto),
                    _ => None,
                };
                match (to, id_text(value)) {
                    (Some(to), Some(id)) => {
                        found.entry((to, id)).or_insert_with(|| format!("plugins/{name}"));
                    }
                    _ => in_plugin(name, value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| in_plugin(name, item, found)),
        _ => {}
    }
}

/// An id in JSON: text or a whole number.
pub(super) fn id_text(value: &Value) -> Option<String> {
    match value {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) if id.is_u64() || id.is_i64() => Some(id.to_string()),
        _ => None,
    }
}

/// Whether this release acts on objects of a kind; told by the contract itself.
pub(super) fn supported(kind: Kind) -> Result<(), String> {
    static ALL: LazyLock<BTreeMap<Kind, Result<(), String>>> =
        LazyLock::new(|| Kind::ALL.into_iter().map(|kind| (kind, ask_contract(kind))).collect());
    ALL.get(&kind).cloned().unwrap_or(Ok(()))
}

/// Whether anything may refer to objects of a kind; see [`references`].
pub(super) fn may_be_referred_to(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Service
            | Kind::PluginConfig
            | Kind::Upstream
            | Kind::Consumer
            | Kind::ConsumerGroup
            | Kind::Proto
    )
}

fn ask_contract(kind: Kind) -> Result<(), String> {
    match parse_object(kind.name(), "any", &json!({})) {
        Err(fault)
            if fault.pointer.is_empty() && fault.reason.contains("are not supported by this release") =>
        {
            Err(fault.reason)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: &Value) -> Fields {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn an_object_is_shown_with_its_id_and_defaults() {
        let spec = object(&json!({"uri": "/a", "status": 0, "upstream": {"nodes": {}}}));
        let item = Item::of_file(Kind::Route, "1".into(), spec, 7);
        assert_eq!(
            item.shown(),
            json!({"key": "/apisix/routes/1", "createdIndex": 7, "modifiedIndex": 7, "value": {
                "id": "1", "uri": "/a", "status": 0, "priority": 0,
                "upstream": {"nodes": {}, "type": "roundrobin", "hash_on": "vars", "pass_host": "pass", "scheme": "http"}}})
        );
    }

    #[test]
    fn references_are_found_at_the_top_and_in_plugins() {
        let spec = object(&json!({"service_id": 1, "upstream_id": "u", "plugins": {
            "traffic-split": {"rules": [{"weighted_upstreams": [{"upstream_id": 3, "weight": 1}]}]},
            "grpc-transcode": {"proto_id": "p"}}}));
        let found: Vec<Place> = references(&(Kind::Route, "r".to_owned()), &spec).into_keys().collect();
        assert_eq!(
            found,
            [
                (Kind::Service, "1".to_owned()),
                (Kind::Upstream, "3".to_owned()),
                (Kind::Upstream, "u".to_owned()),
                (Kind::Proto, "p".to_owned())
            ]
        );
        assert!(found.iter().all(|(kind, _)| may_be_referred_to(*kind)));
        let upstream = (Kind::Upstream, "u".to_owned());
        assert!(references(&upstream, &object(&json!({"nodes": {}}))).is_empty());
        let credential = (Kind::Credential, "jack/credentials/1".to_owned());
        let found: Vec<Place> = references(&credential, &Fields::new()).into_keys().collect();
        assert_eq!(found, [(Kind::Consumer, "jack".to_owned())]);
    }

    #[test]
    fn the_contract_tells_which_kinds_are_supported() {
        assert!(supported(Kind::Route).is_ok() && supported(Kind::Upstream).is_ok());
    }
}
