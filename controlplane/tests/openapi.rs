//! Every operation of the OpenAPI document answers, and only as documented. `make openapi` asks much more of it.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod api;
mod cluster;
mod program;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;

use api::{ADMIN, Api, Reply};
use serde_json::{Value, json};

/// Sends one and holds its answer against the document.
#[track_caller]
fn ask(
    api: Api,
    document: &Value,
    place: &str,
    method: &str,
    body: &Value,
    fields: &[(&str, &str)],
) -> Reply {
    let path = place
        .replace("{revision}", "1")
        .replace("{word}", "routes")
        .replace("{sub_path}", "desc")
        .replace("{plugin}", "no-such")
        .replace("{question}", "info")
        .split('/')
        .map(|segment| if segment.starts_with('{') { "x1" } else { segment })
        .collect::<Vec<_>>()
        .join("/");
    let reply = api.with(&method.to_uppercase(), &path, Some(body), fields);
    let documented = &document["paths"][place][method]["responses"][reply.status.to_string()];
    assert!(documented.is_object(), "{method} {path} {body}: not documented: {reply:?}");
    let content = documented["content"].as_object();
    match content.and_then(|content| content.keys().next()) {
        None => assert!(reply.text.is_empty(), "{method} {path}: a body that is not documented: {reply:?}"),
        Some(kind) => assert_eq!(reply.header("content-type"), Some(kind.as_str()), "{method} {path}"),
    }
    let name = documented.pointer("/content/application~1json/schema/$ref").and_then(Value::as_str);
    if let Some(schema) = name.and_then(|name| document.pointer(name.trim_start_matches('#'))) {
        for field in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            assert!(!reply.body[field].is_null(), "{method} {path}: no {field}: {reply:?}");
        }
    }
    assert!(reply.status < 500 || reply.status == 501, "{method} {path}: {reply:?}");
    assert!(!reply.text.contains("there is nothing at this path"), "{method} {path}: {reply:?}");
    reply
}

/// A data plane's admin socket that answers every question with an empty document.
fn answering(path: &Path) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut question = String::new();
            let _ = BufReader::new(&stream).read_line(&mut question);
            let _ = stream.write_all(b"{}");
        }
    });
}

#[test]
fn every_operation_answers_as_documented() {
    let cluster = cluster::Cluster::start();
    let directory = program::directory();
    answering(&directory.path().join("admin.sock"));
    let (mut program, api) = api::start(directory.path(), "n1", &["--database-url", &cluster.url()]);
    program.wait_status("the schema is there", |status| status["version"]["revision"] == 0);
    let document = api.ask("GET", "/v1/openapi.json", None).body;
    assert_eq!(document["openapi"], "3.1.0");
    let mut seen = 0;
    for (place, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let key = [("X-API-KEY", ADMIN), ("X-Digest", "one")];
            let refused = ask(api, &document, place, method, &json!({}), &[]);
            assert_eq!(refused.status, 401, "{method} {place}");
            for body in [
                json!({}),
                json!([1]),
                json!({"uri": "/a"}),
                json!({"nodes": {"127.0.0.1:1": 1}}),
                json!({"operations": [{"op": "put", "kind": "routes", "id": "t", "value": {"uri": "/t"}}]}),
                json!({"operations": [{"op": "delete", "kind": "routes", "id": "none"}]}),
                json!({"routes": [{"id": "w", "uri": "/w"}]}),
                json!("text"),
            ] {
                ask(api, &document, place, method, &body, &key);
                let conditions = [("X-API-KEY", ADMIN), ("If-Match", "999"), ("X-Digest", "two")];
                ask(api, &document, place, method, &body, &conditions);
            }
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen} operations");
    // What a viewer may ask is answered, and what he may not is refused.
    let viewer = [("X-API-KEY", api::VIEWER), ("X-Digest", "one")];
    for (place, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let status = ask(api, &document, place, method, &json!({}), &viewer).status;
            assert_eq!(status == 401, method != "get", "{method} {place}: {status}");
        }
    }
}
