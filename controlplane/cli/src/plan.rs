//! What would change if the files were applied: asked of the Admin API, which checks it as it would check the write.
//!
//! An object of the files that is stored just so is no change. With `prune`, what is stored and stands in no file is deleted. Nothing
//! is written here; the plan keeps the revision that it was made for, so that it is applied to that one or not at all. Secrets are sent and
//! not shown.

use std::borrow::Cow;
use std::fmt::Write as _;

use ringway_snapshot::Kind;
use ringway_snapshot::plugin::login::hide_changed_secrets;
use serde_json::{Value, json};

use crate::api::{Api, Question, Refused};
use crate::declared::{Declared, Sent};
use crate::difference::{Difference, differences};
use crate::failure::Failure;
use crate::terminal::{plain, say};

/// Objects that the terminal is shown; `--json` tells all.
const OBJECTS_SHOWN_MAX: usize = 200;
/// Routes that are named.
const ROUTES_SHOWN_MAX: usize = 8;

/// What happens to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Create,
    Change,
    Delete,
}

/// One object that changes.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) op: Op,
    pub(crate) object: String,
    fields: Vec<Difference>,
    operation: Value,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) revision: u64,
    /// For `If-Match`.
    pub(crate) tag: Option<String>,
    pub(crate) changes: Vec<Change>,
    /// How many objects stand in the files.
    declared: usize,
    routes: Value,
}

impl Op {
    fn sign(self) -> char {
        match self {
            Op::Create => '+',
            Op::Change => '~',
            Op::Delete => '-',
        }
    }

    fn name(self) -> &'static str {
        match self {
            Op::Create => "create",
            Op::Change => "change",
            Op::Delete => "delete",
        }
    }
}

impl Change {
    /// Reads what the API or the history tells of one object; `None` where nothing differs.
    pub(crate) fn read(told: &Value) -> Option<Change> {
        Change::taken(told.clone())
    }

    /// The same of what is not needed any more.
    fn taken(mut told: Value) -> Option<Change> {
        let mut take = |name| told.get_mut(name).map(Value::take).unwrap_or_default();
        let (mut before, after) = (take("before"), take("after"));
        let (kind, id) = (told["kind"].as_str()?, told["id"].as_str()?);
        let mut shown = Cow::Borrowed(&after);
        // What is shown stands in terminals and in the logs of pipelines.
        if matches!(Kind::from_name(kind), Some(Kind::Consumer | Kind::Credential)) {
            hide_changed_secrets(&mut before, shown.to_mut());
        }
        let fields = differences(&before, &shown);
        let op = match (before.is_null(), after.is_null()) {
            (true, true) => return None,
            (true, false) => Op::Create,
            (false, true) => Op::Delete,
            (false, false) if fields.is_empty() => return None,
            (false, false) => Op::Change,
        };
        let operation = match op {
            Op::Delete => operation("delete", kind, id, None),
            _ => operation("put", kind, id, Some(after)),
        };
        Some(Change { op, object: format!("{kind}/{id}"), fields, operation })
    }

    /// The object, and its fields below it.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("{} {}", self.op.sign(), plain(&self.object))];
        // What a deleted object was is told by its name; it can be had back with a rollback.
        if self.op != Op::Delete {
            lines.extend(self.fields.iter().map(|field| format!("    {}", plain(&field.line()))));
        }
        lines
    }

    /// The fields that differ, by pointer.
    pub(crate) fn pointers(&self) -> String {
        plain(&self.fields.iter().map(|field| field.pointer.as_str()).collect::<Vec<_>>().join(" "))
    }

    /// For `--json`.
    pub(crate) fn document(&self) -> Value {
        let fields: Vec<Value> = self.fields.iter().map(Difference::document).collect();
        json!({"op": self.op.name(), "object": self.object, "fields": fields})
    }
}

impl Plan {
    /// Asks for it.
    pub(crate) fn ask(api: &Api, declared: &Declared, prune: bool) -> Result<Plan, Refused> {
        let mut operations = declared.operations();
        if prune {
            if declared.len() == 0 {
                return Err(Failure::new(
                    "there is no object in the files, and --prune would delete everything; `ringway delete` deletes single objects",
                )
                .into());
            }
            operations.extend(others(api, declared)?);
        }
        let body = body(operations);
        let sent = Sent { declared, operations: self::operations(&body) };
        let question =
            Question { method: "POST", path: "/v1/plan".into(), body: Some(&body), ..Question::default() };
        let mut answer = api.ask(&question, &sent)?;
        let mut take = |field| answer.document.get_mut(field).map(Value::take).unwrap_or_default();
        let (told, routes) = (take("changes"), take("routes"));
        let told = if let Value::Array(told) = told { told } else { Vec::new() };
        Ok(Plan {
            revision: answer.document["revision"].as_u64().unwrap_or_default(),
            tag: answer.tag,
            changes: told.into_iter().filter_map(Change::taken).collect(),
            declared: declared.len(),
            routes,
        })
    }

    /// What has to be sent, taken out of the changes.
    pub(crate) fn take_operations(&mut self) -> Vec<Value> {
        self.changes.iter_mut().map(|change| change.operation.take()).collect()
    }

    /// How many of each.
    pub(crate) fn counts(&self) -> String {
        let count = |op: Op| self.changes.iter().filter(|change| change.op == op).count();
        let (created, changed, deleted) = (count(Op::Create), count(Op::Change), count(Op::Delete));
        format!("{created} created, {changed} changed, {deleted} deleted")
    }

    /// Prints it.
    pub(crate) fn show(&self) {
        for change in self.changes.iter().take(OBJECTS_SHOWN_MAX) {
            change.lines().iter().for_each(|line| say(line));
        }
        if let Some(more) = self.changes.len().checked_sub(OBJECTS_SHOWN_MAX).filter(|more| *more > 0) {
            say(&format!("... and {more} more objects (--json tells all)"));
        }
        if self.changes.is_empty() {
            say(&format!(
                "no changes: revision {} has the {} objects as they are",
                self.revision, self.declared
            ));
        } else {
            say(&format!("{}{}", self.counts(), self.reach()));
        }
    }

    fn reach(&self) -> String {
        let total = self.routes["total"].as_u64().unwrap_or_default();
        let names = self.routes["first"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let names: Vec<&str> = names.take(ROUTES_SHOWN_MAX).collect();
        let mut text = format!("; reaches {total} route{}", if total == 1 { "" } else { "s" });
        if !names.is_empty() {
            let _ = write!(text, ": {}", plain(&names.join(", ")));
            text.push_str(if total > names.len() as u64 { ", ..." } else { "" });
        }
        text
    }

    /// For `--json`.
    pub(crate) fn document(&self) -> Value {
        let changes: Vec<Value> = self.changes.iter().map(Change::document).collect();
        json!({"revision": self.revision, "changes": changes, "routes": self.routes})
    }
}

/// One operation of a transaction.
pub(crate) fn operation(op: &str, kind: &str, id: &str, value: Option<Value>) -> Value {
    let named = [("op", op), ("kind", kind), ("id", id)];
    let named = named.map(|(name, text)| (name.to_owned(), Value::from(text)));
    // Not by the macro, which copies values field by field: there may be a hundred thousand.
    named.into_iter().chain(value.map(|value| ("value".to_owned(), value))).collect()
}

/// A transaction of these operations.
pub(crate) fn body(operations: Vec<Value>) -> Value {
    [("operations".to_owned(), Value::Array(operations))].into_iter().collect()
}

/// The operations of a body.
pub(crate) fn operations(body: &Value) -> &[Value] {
    body["operations"].as_array().map_or(&[], Vec::as_slice)
}

/// A `delete` for each stored object that stands in no file.
fn others(api: &Api, declared: &Declared) -> Result<Vec<Value>, Refused> {
    let stored = stored(api)?;
    let mut deletes = Vec::new();
    for kind in Kind::ALL {
        for object in stored[kind.name()].as_array().into_iter().flatten() {
            if let Some(id) = object["id"].as_str().filter(|id| !declared.has(kind, id)) {
                deletes.push(operation("delete", kind.name(), id, None));
            }
        }
    }
    Ok(deletes)
}

/// All objects as they were written, by kind.
pub(crate) fn stored(api: &Api) -> Result<Value, Refused> {
    let path = "/apisix/admin/configs?written=true".to_owned();
    let mut document = api.ask(&Question { method: "GET", path, ..Question::default() }, &())?.document;
    if let Value::Object(lists) = &mut document {
        lists.retain(|_, list| list.is_array());
    }
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_just_so_is_no_change() {
        let told = |before: Value, after: Value| {
            Change::read(&json!({"kind": "routes", "id": "a", "before": before, "after": after}))
        };
        assert!(told(json!({"uri": "/a", "create_time": 1}), json!({"uri": "/a"})).is_none());
        assert_eq!(told(Value::Null, json!({})).unwrap().op, Op::Create);
        let change = told(json!({"uri": "/a"}), json!({"uri": "/b"})).unwrap();
        assert_eq!(change.lines(), ["~ routes/a", "    ~ /uri: \"/a\" -> \"/b\""]);
        assert_eq!(told(json!({"uri": "/a"}), Value::Null).unwrap().lines(), ["- routes/a"]);
    }

    #[test]
    fn keys_are_sent_and_not_shown_and_another_key_is_a_change() {
        let consumer = |key: &str| json!({"username": "a", "plugins": {"key-auth": {"key": key}}});
        let told = |before: Value, after: Value| {
            Change::read(&json!({"kind": "consumers", "id": "a", "before": before, "after": after}))
        };
        let changed = told(consumer("70707"), consumer("80808")).unwrap();
        let line = "    ~ /plugins/key-auth/key: \"(hidden)\" -> \"(hidden, changed)\"";
        assert_eq!(changed.lines(), ["~ consumers/a", line]);
        assert_eq!(changed.operation["value"], consumer("80808"));
        let created = told(Value::Null, consumer("80808")).unwrap();
        for text in
            [changed.document().to_string(), created.document().to_string(), created.lines().join("\n")]
        {
            assert!(!text.contains("70707") && !text.contains("80808"), "{text}");
        }
        assert!(told(consumer("70707"), consumer("70707")).is_none());
        // The history has hidden them already.
        let hidden = told(consumer("(hidden)"), consumer("(hidden, changed)")).unwrap();
        assert_eq!(hidden.lines(), changed.lines());
    }
}
