//! `GET /v1/openapi.json`: the Admin API as an OpenAPI 3.1 document, made of what the code itself goes by: the kinds, their schemas, which
//! methods each has, and whether this release acts on it.
//!
//! It tells every status that an operation answers with; an answer that is not in it is a mistake here or there, and a test looks for
//! such. Kinds that this release refuses have reads only.

use std::sync::LazyLock;

use axum::http::StatusCode;
use ringway_snapshot::Kind;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Outcome};
use super::dataplane::SHOWN;
use super::item::supported;
use super::resource::{WITHOUT_PATCH, WITHOUT_POST};
use super::schema::{self, singular};

/// What an operation answers with a body, by the name of its schema; `""`: no body, `"text"`: a word.
type Replies = &'static [(u16, &'static str)];

/// Whatever is asked: what cannot be read, no key, a body that is late or too large, no database.
const ALWAYS: Replies = &[(400, "Error"), (401, "Error"), (408, "Error"), (413, "Error"), (503, "Error")];
/// Whatever is written: the file source, somebody else's broken object, a condition that does not hold.
const WRITES: Replies = &[(403, "Error"), (409, "Error"), (412, "Error")];

/// One operation.
struct Operation {
    method: &'static str,
    path: String,
    summary: String,
    /// Names in [`parameters`].
    takes: &'static [&'static str],
    /// Schema of the body.
    body: Option<Value>,
    replies: Vec<(u16, &'static str)>,
}

/// Answers.
pub(super) fn answer() -> Outcome {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());
    Ok(Answer::text(StatusCode::OK, TEXT.clone()))
}

/// The document.
fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations() {
        let place = paths.entry(operation.path.clone()).or_insert_with(|| json!({}));
        let (method, told) = (operation.method.to_lowercase(), operation.told());
        place[method] = told;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Ringway Admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-API-KEY"}},
            "parameters": parameters(),
            "schemas": schemas(),
        },
    })
}

impl Operation {
    fn new(method: &'static str, path: impl Into<String>, summary: impl Into<String>) -> Operation {
        let (path, summary) = (path.into(), summary.into());
        Operation { method, path, summary, takes: &[], body: None, replies: Vec::new() }
    }

    fn takes(mut self, names: &'static [&'static str]) -> Operation {
        self.takes = names;
        self
    }

    fn body(mut self, schema: Value) -> Operation {
        self.body = Some(schema);
        self
    }

    fn replies(mut self, replies: Replies) -> Operation {
        self.replies.extend(replies);
        self
    }

    fn told(&self) -> Value {
        let replies = self.replies.iter().chain(ALWAYS);
        let replies: Map<String, Value> =
            replies.map(|(status, schema)| (status.to_string(), reply(*status, schema))).collect();
        let mut names: Vec<&str> =
            self.path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
        names.extend(self.takes);
        let names: Vec<Value> =
            names.iter().map(|name| json!({"$ref": format!("#/components/parameters/{name}")})).collect();
        let mut told = json!({"summary": self.summary, "parameters": names, "responses": replies});
        if let Some(schema) = &self.body {
            told["requestBody"] =
                json!({"required": true, "content": {"application/json": {"schema": schema}}});
        }
        told
    }
}

fn reply(status: u16, schema: &str) -> Value {
    let words =
        StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    match schema {
        "" => json!({"description": words}),
        "text" => json!({"description": words, "content": {"text/plain": {"schema": {"type": "string"}}}}),
        name => json!({"description": words, "content": {"application/json": {"schema": named(name)}}}),
    }
}

fn named(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn operations() -> Vec<Operation> {
    let mut all: Vec<Operation> = Kind::ALL.into_iter().flat_map(of_kind).collect();
    all.extend(of_many());
    all.extend(of_history());
    all.extend(of_catalog());
    all.extend(of_dataplane());
    all
}

/// APISIX's objects.
fn of_kind(kind: Kind) -> Vec<Operation> {
    let (plural, word) = (kind.name(), singular(kind).replace('_', " "));
    let list = match kind {
        Kind::Credential => "/apisix/admin/consumers/{owner}/credentials".to_owned(),
        _ => format!("/apisix/admin/{plural}"),
    };
    let one = match kind {
        Kind::Secret => format!("{list}/{{manager}}/{{id}}"),
        _ => format!("{list}/{{id}}"),
    };
    let schema = || named(singular(kind));
    let mut all = vec![
        Operation::new("GET", &list, format!("All objects of the kind {plural}"))
            .takes(&["page", "page_size", "name", "label", "uri", "filter"])
            .replies(if kind == Kind::Credential {
                &[(200, "List"), (404, "Error")]
            } else {
                &[(200, "List")]
            }),
        Operation::new("GET", &one, format!("One {word}")).replies(&[(200, "Item"), (404, "Error")]),
    ];
    if supported(kind).is_err() {
        return all;
    }
    all.push(
        Operation::new("PUT", &one, format!("Writes a {word} whole"))
            .takes(&["wait", "ttl", "if_match", "if_none_match", "errors"])
            .body(schema())
            .replies(&[(200, "Written"), (201, "Written"), (202, "Written")])
            .replies(if kind == Kind::Credential { &[(404, "Error")] } else { &[] })
            .replies(WRITES),
    );
    all.extend(named_by_its_body(kind, &list, &word));
    all.push(
        Operation::new("DELETE", &one, format!("Deletes a {word}"))
            .takes(&["wait", "force", "if_match", "errors"])
            .replies(&[(200, "Deleted"), (202, "Deleted"), (404, "Error")])
            .replies(WRITES),
    );
    if !WITHOUT_POST.contains(&kind) {
        all.push(
            Operation::new("POST", &list, format!("Makes a {word}; its id is made too"))
                .takes(&["wait", "ttl", "errors"])
                .body(schema())
                .replies(&[(201, "Written"), (202, "Written")])
                .replies(WRITES),
        );
    }
    if !WITHOUT_PATCH.contains(&kind) {
        all.push(
            Operation::new("PATCH", &one, format!("Changes a part of a {word}"))
                .takes(&["wait", "ttl", "if_match", "errors"])
                .body(json!({"type": "object"}))
                .replies(&[(200, "Written"), (202, "Written"), (404, "Error")])
                .replies(WRITES),
        );
        all.push(
            Operation::new("PATCH", format!("{one}/{{sub_path}}"), format!("Sets one place in a {word}"))
                .takes(&["wait", "ttl", "if_match", "errors"])
                .body(json!({}))
                .replies(&[(200, "Written"), (202, "Written"), (404, "Error")])
                .replies(WRITES),
        );
    }
    all
}

/// These may be called by what their body says.
fn named_by_its_body(kind: Kind, list: &str, word: &str) -> Option<Operation> {
    matches!(kind, Kind::Consumer | Kind::Credential).then(|| {
        Operation::new("PUT", list, format!("Writes a {word} whole, named by its body"))
            .takes(&["wait", "if_match", "if_none_match", "errors"])
            .body(named(singular(kind)))
            .replies(&[(200, "Written"), (201, "Written"), (202, "Written"), (404, "Error")])
            .replies(WRITES)
    })
}

/// Many objects at once.
fn of_many() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/apisix/admin/configs", "The whole configuration")
            .takes(&["written"])
            .replies(&[(200, "Whole"), (406, "Error")]),
        Operation::new("PUT", "/apisix/admin/configs", "Writes the whole configuration")
            .takes(&["digest", "wait"])
            .body(named("Whole"))
            .replies(&[(200, "Object"), (202, ""), (204, "")])
            .replies(WRITES),
        Operation::new("POST", "/apisix/admin/configs/validate", "Checks a whole configuration")
            .body(named("Whole"))
            .replies(&[(200, "")]),
        Operation::new("POST", "/v1/transaction", "Many objects, one revision")
            .takes(&["wait", "if_match"])
            .body(named("Transaction"))
            .replies(&[(200, "Object"), (202, "Object"), (404, "Error")])
            .replies(WRITES),
        Operation::new("POST", "/v1/plan", "What a transaction would change, and which routes it reaches")
            .takes(&["if_match"])
            .body(named("Transaction"))
            .replies(&[(200, "Object"), (404, "Error")])
            .replies(WRITES),
    ]
}

fn of_history() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/v1/changes", "Who changed what, and when")
            .takes(&["kind", "of_id", "actor", "before", "since", "until", "limit"])
            .replies(&[(200, "Object"), (501, "Error")]),
        Operation::new("POST", "/v1/rollback/{revision}", "A new revision with an old one's content")
            .takes(&["wait"])
            .replies(&[(200, "Object"), (202, "Object"), (404, "Error"), (501, "Error")])
            .replies(WRITES),
        Operation::new("GET", "/v1/nodes", "What each node runs").replies(&[(200, "Object")]),
        Operation::new("GET", "/v1/openapi.json", "This document").replies(&[(200, "Object")]),
    ]
}

fn of_catalog() -> Vec<Operation> {
    vec![
        Operation::new("GET", "/apisix/admin/plugins/list", "The plugins' names").replies(&[(200, "Names")]),
        Operation::new("GET", "/apisix/admin/plugins/{plugin}", "A plugin's schema")
            .takes(&["subsystem", "schema_type"])
            .replies(&[(200, "Object"), (404, "Error")]),
        Operation::new("PUT", "/apisix/admin/plugins/reload", "Has nothing to do here")
            .replies(&[(200, "text")]),
        Operation::new("GET", "/apisix/admin/schema", "All schemas").replies(&[(200, "Object")]),
        Operation::new("GET", "/apisix/admin/schema/{word}", "A kind's schema").replies(&[(200, "Object")]),
        Operation::new("GET", "/apisix/admin/schema/plugins/{plugin}", "A plugin's schema")
            .takes(&["schema_type"])
            .replies(&[(200, "Object"), (404, "Error")]),
        Operation::new("POST", "/apisix/admin/schema/validate/{word}", "Checks one object by itself")
            .body(json!({"type": "object"}))
            .replies(&[(200, ""), (404, "Error")]),
    ]
}

/// Questions to this node's data plane.
fn of_dataplane() -> Vec<Operation> {
    let asks = |path: &str, summary: &str| {
        let replies: Replies = &[(200, "Told"), (409, "Error")];
        Operation::new("GET", format!("/v1/dataplane/{path}"), summary).replies(replies)
    };
    vec![
        asks("{question}", "What this node's data plane tells of itself").replies(&[(404, "Error")]),
        asks("routes", "Routes in force, searched").takes(&["search", "limit"]),
        asks("explain", "Which route a request would take, and why")
            .takes(&["host", "method", "path", "from"]),
    ]
}

fn parameters() -> Value {
    let path = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}});
    let query = |name: &str, schema: Value| json!({"name": name, "in": "query", "schema": schema});
    let header = |name: &str, required: bool| json!({"name": name, "in": "header", "required": required, "schema": {"type": "string"}});
    let (text, number) = (json!({"type": "string"}), json!({"type": "integer", "minimum": 0}));
    let mut all: Map<String, Value> = ["id", "owner", "manager", "sub_path", "plugin", "word"]
        .into_iter()
        .map(|name| (name.to_owned(), path(name)))
        .collect();
    all.insert(
        "revision".into(),
        json!({"name": "revision", "in": "path", "required": true, "schema": {"type": "integer", "minimum": 0}}),
    );
    for name in ["page", "page_size", "before", "since", "until", "limit"] {
        all.insert(name.into(), query(name, number.clone()));
    }
    all.insert(
        "question".into(),
        json!({"name": "question", "in": "path", "required": true, "schema": {"type": "string", "enum": SHOWN}}),
    );
    all.insert("host".into(), json!({"name": "host", "in": "query", "required": true, "schema": text}));
    for name in ["name", "label", "uri", "filter", "kind", "actor", "search", "method", "path", "from"] {
        all.insert(name.into(), query(name, text.clone()));
    }
    all.insert("of_id".into(), query("id", text));
    all.insert("wait".into(), query("wait", json!({"type": "string", "pattern": "^[0-9]{1,4}ms$"})));
    // Long enough that what is tried by this document does not vanish meanwhile.
    all.insert("ttl".into(), query("ttl", json!({"type": "integer", "minimum": 3600, "maximum": 1_000_000})));
    for name in ["force", "errors", "written"] {
        all.insert(name.into(), query(name, json!({"type": "boolean"})));
    }
    all.insert("subsystem".into(), query("subsystem", json!({"enum": ["http", "stream"]})));
    all.insert("schema_type".into(), query("schema_type", json!({"enum": ["consumer"]})));
    all.insert("if_match".into(), header("If-Match", false));
    all.insert("if_none_match".into(), header("If-None-Match", false));
    all.insert("digest".into(), header("X-Digest", true));
    Value::Object(all)
}

fn schemas() -> Value {
    let object = |required: &[&str], properties: Value| json!({"type": "object", "required": required, "properties": properties});
    let mut all: Map<String, Value> = Kind::ALL
        .into_iter()
        .filter_map(|kind| Some((singular(kind).to_owned(), schema::of(kind)?.clone())))
        .collect();
    let (text, number) = (json!({"type": "string"}), json!({"type": "integer", "minimum": 0}));
    let applied = json!({"type": "object", "required": ["everywhere", "nodes"], "properties": {
        "everywhere": {"type": "boolean"}, "nodes": {"type": "array", "items": {"type": "object"}}}});
    let item =
        json!({"key": text, "value": {"type": "object"}, "createdIndex": number, "modifiedIndex": number});
    let operation = object(
        &["op", "kind"],
        json!({"op": {"enum": ["put", "post", "patch", "delete"]}, "kind": {"enum": Kind::ALL.map(Kind::name)},
            "id": {"type": ["string", "integer"]}, "value": {"type": "object"}, "if_match": number}),
    );
    let own = [
        (
            "Error",
            object(
                &["error_msg"],
                json!({"error_msg": text, "errors": {"type": "array", "items": {"type": "object"}}}),
            ),
        ),
        ("Item", object(&["key", "value", "createdIndex", "modifiedIndex"], item)),
        (
            "List",
            object(
                &["total", "list"],
                json!({"total": number, "list": {"type": "array", "items": named("Item")}}),
            ),
        ),
        (
            "Written",
            object(
                &["key", "value"],
                json!({"key": text, "value": {"type": "object"}, "revision": number, "applied": applied}),
            ),
        ),
        ("Deleted", object(&["key", "deleted"], json!({"key": text, "deleted": text, "applied": applied}))),
        (
            "Transaction",
            object(&["operations"], json!({"operations": {"type": "array", "items": operation}})),
        ),
        ("Names", json!({"type": "array", "items": text})),
        ("Object", json!({"type": "object"})),
        ("Whole", json!({"type": "object"})),
        ("Told", json!({"type": ["object", "array"]})),
    ];
    all.extend(own.map(|(name, schema)| (name.to_owned(), schema)));
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_leads_somewhere_and_no_operation_stands_twice() {
        let document = document();
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
        let mut seen = std::collections::BTreeSet::new();
        for operation in operations() {
            assert!(seen.insert((operation.method, operation.path.clone())), "{}", operation.path);
            assert!(!operation.replies.is_empty(), "{}", operation.path);
        }
        assert!(document["paths"]["/apisix/admin/routes/{id}"]["patch"].is_object());
    }
}
