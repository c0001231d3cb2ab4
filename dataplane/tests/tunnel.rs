//! WebSocket connections: what goes through a tunnel arrives unharmed, both ways at once, while versions swap under it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod stand;

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::{Value, json};
use stand::{Gateway, node, read_message_text, read_to_close};

const REQUEST: &[u8] =
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// A message of 16 MiB, as one frame or many: to a tunnel it is bytes.
const MESSAGE_BYTES: usize = 16 << 20;

fn route(node: SocketAddr, may_upgrade: bool) -> Vec<(&'static str, &'static str, Value)> {
    let upstream = json!({"nodes": {node.to_string(): 1}});
    vec![("routes", "1", json!({"uri": "/*", "enable_websocket": may_upgrade, "upstream": upstream}))]
}

/// Bytes that differ by place, so that a lost, doubled or moved one is noticed.
fn message(salt: usize) -> Vec<u8> {
    (0..MESSAGE_BYTES).map(|at| u8::try_from((at / 251 + at * 7 + salt) % 256).unwrap()).collect()
}

/// Sends in uneven pieces, then ends its direction.
fn send(stream: &TcpStream, bytes: &[u8]) {
    let mut left = bytes;
    for size in [1, 125, 126, 65_535, 65_536, 100_000].into_iter().cycle() {
        let (piece, rest) = left.split_at(size.min(left.len()));
        let mut writer = stream;
        writer.write_all(piece).unwrap();
        left = rest;
        if left.is_empty() {
            break;
        }
    }
    stream.shutdown(Shutdown::Write).unwrap();
}

/// Reads the 101 and nothing behind it.
fn read_head(mut stream: &TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

#[test]
fn large_messages_go_both_ways_at_once_while_versions_swap() {
    let (to_client, to_node) = (message(1), message(2));
    let sent = to_client.clone();
    let (told, received) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let chat = node(move |stream| {
        read_message_text(&mut BufReader::new(&stream)).unwrap();
        (&stream).write_all(SWITCH).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| send(&stream, &sent));
            let mut bytes = Vec::new();
            (&stream).read_to_end(&mut bytes).unwrap();
            told.lock().unwrap().send(bytes).unwrap();
        });
    });
    let gateway = Gateway::start();
    gateway.configure(1, &route(chat, true));
    let client = gateway.connect();
    (&client).write_all(REQUEST).unwrap();
    let head = read_head(&client);
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("Sec-WebSocket-Accept"), "{head}");
    std::thread::scope(|scope| {
        scope.spawn(|| send(&client, &to_node));
        scope.spawn(|| (2..60).for_each(|revision| gateway.configure(revision, &route(chat, true))));
        let mut bytes = Vec::new();
        (&client).read_to_end(&mut bytes).unwrap();
        assert!(bytes == to_client, "{} of {MESSAGE_BYTES} bytes came to the client, or others", bytes.len());
    });
    let bytes = received.recv().unwrap();
    assert!(bytes == to_node, "{} of {MESSAGE_BYTES} bytes came to the node, or others", bytes.len());
}

#[test]
fn where_the_route_allows_no_switch_the_node_is_not_asked_for_one() {
    let (told, received) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let chat = node(move |stream| {
        let (head, _) = read_message_text(&mut BufReader::new(&stream)).unwrap();
        told.lock().unwrap().send(head).unwrap();
        (&stream).write_all(SWITCH).unwrap();
    });
    let gateway = Gateway::start();
    gateway.configure(1, &route(chat, false));
    let mut client = gateway.connect();
    client.write_all(REQUEST).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let answer = read_to_close(&mut client);
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("unasked_upgrade"), "{answer}");
    let head = received.recv().unwrap().to_ascii_lowercase();
    assert!(!head.contains("upgrade"), "{head}");
}
