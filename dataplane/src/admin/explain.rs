//! `explain`: what would become of a request, without sending it.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ringway_engine::facts::{Facts, Known};
use ringway_engine::http1::{HeadLimits, Parse, RequestHead};
use ringway_engine::route::path::{encode, normalize};
use ringway_engine::route::{Captures, Outcome, Query, Step};
use ringway_engine::upstream::{Cluster, Endpoint, Order};
use ringway_engine::view::View;
use serde_json::{Value, json};

use super::command::Request;
use super::show;
use crate::state::State;

/// The reply to an `explain` command.
pub(crate) fn reply(state: &State, request: &Request, json: bool) -> String {
    let Some(view) = state.feed().view.clone() else {
        return "error: no configuration yet: neither a snapshot on disk nor one from a control plane"
            .to_owned();
    };
    match explain(state, &view, request) {
        Err(error) => format!("error: {error}"),
        Ok(document) if json => document.to_string(),
        Ok(document) => text(&document),
    }
}

fn explain(state: &State, view: &View, request: &Request) -> Result<Value, String> {
    let (path, _query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let mut scratch = Vec::new();
    let normal =
        normalize(path.as_bytes(), &mut scratch).map_err(|error| format!("answered with 400: {error}"))?;
    let host = match request.host.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => &request.host,
    };
    let remote = request.from.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let client_ip = remote.to_string();
    let bytes = written(request);
    let head = parsed(&bytes)?;
    let wants_body = Cell::new(false);
    let facts = Facts {
        head: &head,
        bytes: &bytes,
        edits: None,
        content: Known::Unread(&wants_body),
        path: normal.path,
        parameters: None,
        route: None,
        caller: None,
        client_ip: client_ip.as_bytes(),
        client_port: 0,
        server_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        server_port: 0,
        hostname: state.node.as_bytes(),
        status: None,
        upstream_status: None,
    };
    let query = Query {
        method: request.method.as_bytes(),
        host: host.as_bytes(),
        path: normal.path,
        remote,
        facts: Some(&facts),
    };
    let mut captures = Captures::new();
    let found = view.routes.lookup(&query, &mut captures);
    let mut sent = Vec::new();
    encode(normal.path, &mut sent);
    Ok(json!({
        "version": show::version(&view.version),
        "route": found.as_ref().map(ringway_engine::route::Match::id),
        "pattern": found.as_ref().map(|found| String::from_utf8_lossy(found.uri())),
        "parameters": captures.iter(normal.path).map(|(name, value)| {
            (String::from_utf8_lossy(name).into_owned(), Value::from(String::from_utf8_lossy(value)))
        }).collect::<serde_json::Map<_, _>>(),
        "matched_path": String::from_utf8_lossy(normal.path),
        "sent_path": if normal.dots_resolved { String::from_utf8_lossy(&sent).into_owned() } else { path.to_owned() },
        "plugins": view.chains(found.as_ref().map(ringway_engine::route::Match::payload)).names(),
        "service": found.as_ref().and_then(|found| found.payload().about.service_id.clone()),
        "upstream": found.as_ref().and_then(|found| view.cluster(found.payload())).map(|cluster| show::upstream(cluster)),
        "answer": match &found {
            None => Some("404: no route matches".to_owned()),
            Some(found) => match view.cluster(found.payload()) {
                None => Some("503: neither the route nor its service names an upstream".to_owned()),
                Some(cluster) => unusable(state, cluster),
            },
        },
        "body": wants_body.get().then_some("decides: a route that was tried has conditions on the body, which explain does not have"),
        "steps": view.routes.explain(&query).iter().map(step).collect::<Value>(),
    }))
}

/// The request as a client would write it.
fn written(request: &Request) -> Vec<u8> {
    let mut text = format!("{} {} HTTP/1.1\r\n", request.method, request.path);
    if !request.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        text.push_str(&format!("Host: {}\r\n", request.host));
    }
    for (name, value) in &request.fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

fn parsed(bytes: &[u8]) -> Result<RequestHead, String> {
    let mut head = RequestHead::new();
    match head.parse(bytes, &HeadLimits::default()) {
        Ok(Parse::Done(())) => Ok(head),
        Ok(Parse::Partial) => Err("answered with 400: the head does not end".to_owned()),
        Err(error) => Err(format!("answered with {}: {error}", error.status())),
    }
}

/// Why the upstream serves nothing at present, if so.
fn unusable(state: &State, cluster: &Arc<Cluster>) -> Option<String> {
    let ward = state.ward.open();
    let cluster = ward.whole(cluster);
    if let Some(why) = cluster.why_bare() {
        return Some(format!("503: the upstream has no usable node: {why}"));
    }
    let is_out = |endpoint: &Endpoint| {
        endpoint.weight == 0
            || ward
                .orders
                .of(&cluster.key, &endpoint.address)
                .is_some_and(|ordered| ordered.order != Order::Ready || ordered.weight == Some(0))
    };
    let all_out = cluster.endpoints.iter().all(is_out);
    all_out.then(|| "503: operators have drained or taken down every node that has weight".to_owned())
}

fn step(step: &Step) -> Value {
    match step {
        Step::Host(Some(pattern)) => json!({ "host": pattern }),
        Step::Host(None) => json!({ "host": "any" }),
        Step::Cut(count) => json!({ "left_out": count }),
        Step::Candidate { id, uri, priority, outcome } => json!({
            "route": id,
            "uri": uri,
            "priority": priority,
            "outcome": match outcome {
                Outcome::Matched => "matches",
                Outcome::OtherPath => "other path",
                Outcome::OtherMethod => "other method",
                Outcome::OtherRemote => "other client address",
                Outcome::OtherVars => "vars do not hold",
                Outcome::UnknownContent => "vars do not hold without a body",
            },
        }),
    }
}

fn text(document: &Value) -> String {
    let mut lines = Vec::new();
    if let Value::Object(fields) = document {
        for (name, value) in fields.iter().filter(|(name, value)| *name != "steps" && !value.is_null()) {
            lines.push(show::text(&json!({ name.as_str(): value })));
        }
    }
    lines.push("tried:".to_owned());
    for step in document.get("steps").and_then(Value::as_array).into_iter().flatten() {
        lines.push(match (step.get("host"), step.get("left_out")) {
            (Some(host), _) => format!("  host {}", host.as_str().unwrap_or_default()),
            (_, Some(count)) => format!("  ... {count} more"),
            _ => format!(
                "    route {} ({}, priority {}): {}",
                step.get("route").and_then(Value::as_str).unwrap_or_default(),
                step.get("uri").and_then(Value::as_str).unwrap_or_default(),
                step.get("priority").and_then(Value::as_i64).unwrap_or_default(),
                step.get("outcome").and_then(Value::as_str).unwrap_or_default(),
            ),
        });
    }
    lines.join("\n")
}
