//! What an import has found: objects by kind and id, what was left out, and which routes that opens.

use std::collections::{BTreeMap, BTreeSet};

use ringway_snapshot::Kind;
use serde_json::{Map, Value, json};

/// An object's kind and id.
pub(super) type Key = (Kind, String);

/// Something without a counterpart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LeftOut {
    /// File and line, or object and field.
    pub(super) at: String,
    pub(super) what: String,
    pub(super) why: String,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Found {
    objects: BTreeMap<Key, Map<String, Value>>,
    left_out: Vec<LeftOut>,
    notes: Vec<String>,
    /// Routes, and what they refer to, that lost something that kept requests away.
    opened: BTreeSet<Key>,
    /// Routes that lost a condition, and would get more requests than before.
    widened: BTreeSet<String>,
    disabled: BTreeSet<String>,
    closed: BTreeSet<String>,
    /// Of the closed ones, those that refused nobody before: a route of the same place takes theirs.
    yielding: BTreeSet<String>,
}

/// What answers instead of an upstream. A route that is only switched off would leave its requests to the next one that matches.
const CLOSER: &str = "fault-injection";
pub(super) const CLOSED_STATUS: u16 = 403;

impl Found {
    /// Adds an object. One that is there already is kept and the new one listed.
    pub(super) fn add(&mut self, kind: Kind, id: &str, fields: Map<String, Value>) {
        let key = (kind, id.to_owned());
        if self.objects.get(&key).is_some_and(|known| *known != fields) {
            self.leave_out(
                format!("{}/{id}", kind.name()),
                "the second object of this id",
                "an id stands once; give it another",
            );
            return;
        }
        self.objects.insert(key, fields);
    }

    /// An id that no object of this kind has.
    pub(super) fn free_id(&self, kind: Kind, wanted: &str) -> String {
        let wanted = id_of(wanted);
        let numbered =
            |number: usize| if number == 1 { wanted.clone() } else { format!("{wanted}-{number}") };
        (1..).map(numbered).find(|id| !self.objects.contains_key(&(kind, id.clone()))).unwrap_or_default()
    }

    /// The id of an upstream with these fields: of one that is there, or a new one.
    pub(super) fn upstream(&mut self, wanted: &str, fields: &Map<String, Value>) -> String {
        let same = |(key, known): &(&Key, &Map<String, Value>)| key.0 == Kind::Upstream && *known == fields;
        if let Some(((_, id), _)) = self.objects.iter().find(same) {
            return id.clone();
        }
        let id = self.free_id(Kind::Upstream, wanted);
        self.add(Kind::Upstream, &id, fields.clone());
        id
    }

    /// Lists something that has no counterpart.
    pub(super) fn leave_out(
        &mut self,
        at: impl Into<String>,
        what: impl Into<String>,
        why: impl Into<String>,
    ) {
        self.left_out.push(LeftOut { at: at.into(), what: what.into(), why: why.into() });
    }

    /// Says what the operator should know, though nothing was left out.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// Something was taken from this object that kept requests away.
    pub(super) fn opens(&mut self, kind: Kind, id: &str) {
        self.opened.insert((kind, id.to_owned()));
    }

    /// A condition was taken from this route.
    pub(super) fn widens(&mut self, id: &str) {
        self.widened.insert(id.to_owned());
    }

    /// Adds a route that answers by itself, for what no node answered before. With a `status` requests were refused there, which counts
    /// also where another server passed them on: routes know no ports.
    pub(super) fn shut(&mut self, id: &str, mut fields: Map<String, Value>, status: Option<u16>) {
        if let Some(other) = self.route_at(&fields).map(str::to_owned) {
            if status.is_some() {
                self.yielding.remove(&other);
                self.opens(Kind::Route, &other);
            }
            return;
        }
        close(&mut fields, status.unwrap_or(CLOSED_STATUS));
        self.add(Kind::Route, id, fields);
        self.closed.insert(id.to_owned());
        if status.is_none() {
            self.yielding.insert(id.to_owned());
        }
    }

    /// Whether a route of that place takes this one's.
    pub(super) fn yields(&self, id: &str) -> bool {
        self.yielding.contains(id)
    }

    /// Closes the routes that would be open to more than before, and switches off those that would get more requests than before.
    pub(super) fn close_opened(&mut self) {
        let opened = &self.opened;
        for ((kind, id), fields) in &mut self.objects {
            if *kind != Kind::Route || fields.get("status") == Some(&json!(0)) {
                continue;
            }
            let refers = |name: &str, kind: Kind| match fields.get(name) {
                Some(Value::String(id)) => opened.contains(&(kind, id.clone())),
                Some(Value::Number(id)) => opened.contains(&(kind, id.to_string())),
                _ => false,
            };
            if opened.contains(&(Kind::Route, id.clone()))
                || refers("service_id", Kind::Service)
                || refers("plugin_config_id", Kind::PluginConfig)
            {
                close(fields, CLOSED_STATUS);
                self.closed.insert(id.clone());
            } else if self.widened.contains(id) {
                fields.insert("status".to_owned(), json!(0));
                self.disabled.insert(id.clone());
            }
        }
    }

    pub(super) fn objects(&self) -> &BTreeMap<Key, Map<String, Value>> {
        &self.objects
    }

    pub(super) fn object_mut(&mut self, key: &Key) -> Option<&mut Map<String, Value>> {
        self.objects.get_mut(key)
    }

    pub(super) fn remove(&mut self, key: &Key) {
        self.objects.remove(key);
        if key.0 == Kind::Route {
            self.closed.remove(&key.1);
            self.yielding.remove(&key.1);
        }
    }

    /// The route that has the same hosts and path.
    pub(super) fn route_at(&self, fields: &Map<String, Value>) -> Option<&str> {
        let is_same = |other: &Map<String, Value>| {
            other.get("uri") == fields.get("uri") && other.get("hosts") == fields.get("hosts")
        };
        let mut routes = self.objects.iter().filter(|((kind, _), _)| *kind == Kind::Route);
        routes.find(|(_, other)| is_same(other)).map(|((_, id), _)| id.as_str())
    }

    pub(super) fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    pub(super) fn notes(&self) -> &[String] {
        &self.notes
    }

    pub(super) fn disabled(&self) -> &BTreeSet<String> {
        &self.disabled
    }

    pub(super) fn closed(&self) -> &BTreeSet<String> {
        &self.closed
    }

    pub(super) fn count(&self) -> usize {
        self.objects.len()
    }

    /// Lists by kind, as a declarative file has them.
    pub(super) fn document(&self) -> Value {
        let mut lists: Map<String, Value> = Map::new();
        for ((kind, id), fields) in &self.objects {
            let mut object = fields.clone();
            object.insert("id".to_owned(), json!(id));
            let list = lists.entry(kind.name()).or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.push(Value::Object(object));
            }
        }
        Value::Object(lists)
    }
}

/// Has the gateway answer a route's requests.
fn close(route: &mut Map<String, Value>, status: u16) {
    let body = "closed by ringway import: see its report";
    let plugins = route.entry("plugins").or_insert_with(|| json!({}));
    if let Value::Object(plugins) = plugins {
        plugins.insert(CLOSER.to_owned(), json!({"abort": {"http_status": status, "body": body}}));
    }
}

/// A text as an id: letters, digits, `.`, `_` and `-`, at most 64.
fn id_of(text: &str) -> String {
    let mut id = String::new();
    for c in text.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') => id.push(c),
            _ if !id.ends_with('-') && !id.is_empty() => id.push('-'),
            _ => {}
        }
    }
    // Room for a number.
    id.truncate(56);
    let id = id.trim_end_matches('-');
    if id.is_empty() { "root".to_owned() } else { id.to_owned() }
}
