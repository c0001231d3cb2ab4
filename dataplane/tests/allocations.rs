//! What a request costs the allocator: nothing, once its connection and the node's are there.
//!
//! Builds with debug assertions count what each core's thread asks for, and tell it apart from what its ticks need. Requests go on
//! until there was a stretch of many without a single allocation; where every request needed one there is none, however long it takes.
#![cfg(debug_assertions)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod stand;

use std::io::{BufReader, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stand::{Gateway, node, read_message_text, wait_until};

/// Requests in a stretch.
const REQUESTS_MIN: u64 = 100;
const CONNECTIONS: usize = 4;
/// More than is taken in with a head.
const STREAMED_BYTES: usize = 200_000;
/// How long a stretch without allocations is waited for.
const LOOK_FOR: Duration = Duration::from_secs(5);

/// A node that gives every request these bytes.
fn fixed_node(answer: &'static str) -> SocketAddr {
    node(move |stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while read_message_text(&mut reader).is_some() && writer.write_all(answer.as_bytes()).is_ok() {}
    })
}

/// Requests that the core has seen, and what it has allocated for them, as of its last tick.
fn spent(gateway: &Gateway) -> (u64, u64) {
    let reply = gateway.ctl("spent 0");
    let (requests, spent) = reply.trim().split_once(' ').unwrap();
    (requests.parse().unwrap(), spent.parse().unwrap())
}

/// The stretch that allocated least for a request: its requests and allocations. Each time `request` is sent, and `answer_end` is the end of what
/// comes back.
fn least_spent(request: String, node: SocketAddr, answer_end: &'static str) -> (u64, u64) {
    least_spent_with(request, node, answer_end, (json!({}), &[]))
}

/// The same where the route has plugins, beside further objects.
fn least_spent_with(
    request: String,
    node: SocketAddr,
    answer_end: &'static str,
    (plugins, more): (Value, &[(&'static str, &'static str, Value)]),
) -> (u64, u64) {
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--workers", "1"]);
    let upstream = json!({ "nodes": { node.to_string(): 1 }, "type": "roundrobin" });
    let route = json!({ "uri": "/*", "upstream": upstream, "plugins": plugins });
    gateway.configure(1, &[&[("routes", "1", route)], more].concat());
    let (stop, request) = (Arc::new(AtomicBool::new(false)), Arc::new(request));
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (mut stream, stop, request) = (gateway.connect(), Arc::clone(&stop), Arc::clone(&request));
            std::thread::spawn(move || {
                while !stop.load(Relaxed) {
                    stream.write_all(request.as_bytes()).unwrap();
                    read_until(&mut stream, answer_end);
                }
            })
        })
        .collect();
    let until = Instant::now() + LOOK_FOR;
    let (mut last, mut least) = (spent(&gateway), (1, u64::MAX));
    while least.1 > 0 && Instant::now() < until {
        let now = wait_until("more requests", || {
            Some(spent(&gateway)).filter(|(requests, _)| *requests >= last.0 + REQUESTS_MIN)
        });
        let stretch = (now.0 - last.0, now.1 - last.1);
        // Not the one that allocated least: that would be one of few requests, at the beginning, when pools are filled.
        if stretch.1.saturating_mul(least.0) < least.1.saturating_mul(stretch.0) {
            least = stretch;
        }
        last = now;
    }
    stop.store(true, Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    least
}

fn read_until(stream: &mut impl std::io::Read, end: &str) {
    let mut answer = Vec::new();
    let mut bytes = [0; 4_096];
    while !answer.ends_with(end.as_bytes()) {
        let read = stream.read(&mut bytes).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&bytes[..read]);
    }
}

#[test]
fn a_request_without_a_body_allocates_nothing() {
    let node = fixed_node("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\nhello");
    let request =
        "GET /a/path?query=1 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n";
    assert_eq!(least_spent(request.to_owned(), node, "hello").1, 0);
}

#[test]
fn a_request_of_a_consumer_allocates_nothing() {
    let node = fixed_node("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    let consumer = json!({"plugins": {"key-auth": {"key": "a-key-of-some-length"},
        "basic-auth": {"username": "foo", "password": "bar"}}});
    for (plugin, field) in
        [("key-auth", "apikey: a-key-of-some-length"), ("basic-auth", "Authorization: Basic Zm9vOmJhcg==")]
    {
        let request =
            format!("GET /a HTTP/1.1\r\nHost: example.com\r\n{field}\r\nX-Consumer-Username: b\r\n\r\n");
        let objects =
            (json!({plugin: {"hide_credentials": true}}), &[("consumers", "jack", consumer.clone())][..]);
        assert_eq!(least_spent_with(request, node, "hello", objects).1, 0, "{plugin}");
    }
}

#[test]
fn a_request_with_a_body_that_comes_with_its_head_allocates_nothing() {
    let node = fixed_node("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    let request = "POST /a HTTP/1.1\r\nHost: example.com\r\nContent-Length: 10\r\n\r\n0123456789";
    assert_eq!(least_spent(request.to_owned(), node, "hello").1, 0);
}

#[test]
fn an_answer_in_chunks_allocates_nothing() {
    let node = fixed_node("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
    let request = "GET /a HTTP/1.1\r\nHost: example.com\r\n\r\n";
    assert_eq!(least_spent(request.to_owned(), node, "0\r\n\r\n").1, 0);
}

/// The only ones that remain, kept apart because most requests have no such body and would carry the room for it: also the proof that
/// what is counted above is counted.
#[test]
fn a_body_that_streams_allocates_its_two_directions() {
    let node = fixed_node("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    let body = "x".repeat(STREAMED_BYTES);
    let request = format!("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: {STREAMED_BYTES}\r\n\r\n{body}");
    let (requests, spent) = least_spent(request, node, "hello");
    // A request may stand across the end of the stretch, on each connection.
    let loose = CONNECTIONS as u64;
    assert!(spent + 2 * loose >= 2 * requests, "{spent} allocations for {requests} requests");
    assert!(spent <= 2 * (requests + loose), "{spent} allocations for {requests} requests");
}
