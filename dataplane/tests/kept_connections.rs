//! Connections to nodes between requests: how many stay, for how long and for how many requests (`keepalive_pool`).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod stand;

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier};

use serde_json::{Value, json};
use stand::{Gateway, node, read_message_text, wait_until};

const CLIENTS: usize = 24;
const ROUNDS: usize = 12;

/// A node that answers when as many requests as `together` are there, and counts its connections.
struct Node {
    address: SocketAddr,
    taken: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

fn counting_node(together: usize) -> Node {
    let (taken, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (own_taken, own_open, barrier) = (Arc::clone(&taken), Arc::clone(&open), Barrier::new(together));
    let address = node(move |mut stream| {
        own_taken.fetch_add(1, SeqCst);
        own_open.fetch_add(1, SeqCst);
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while read_message_text(&mut reader).is_some() {
            barrier.wait();
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na").is_err() {
                break;
            }
        }
        own_open.fetch_sub(1, SeqCst);
    });
    Node { address, taken, open }
}

fn gateway(node: &Node, keepalive_pool: &Value) -> Gateway {
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--workers", "1"]);
    let upstream = json!({"nodes": {node.address.to_string(): 1}, "keepalive_pool": keepalive_pool});
    gateway.configure(1, &[("routes", "1", json!({"uri": "/*", "upstream": upstream}))]);
    gateway
}

/// A request of each client, all of them at once.
fn ask_all(clients: &mut [(TcpStream, BufReader<TcpStream>)]) {
    for (stream, _) in clients.iter_mut() {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    for (_, reader) in clients {
        let (head, body) = read_message_text(reader).expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200 ") && body == b"a", "{head}");
    }
}

fn clients(gateway: &Gateway, count: usize) -> Vec<(TcpStream, BufReader<TcpStream>)> {
    let client = || {
        let stream = gateway.connect();
        (stream.try_clone().unwrap(), BufReader::new(stream))
    };
    (0..count).map(|_| client()).collect()
}

#[test]
fn connections_that_the_next_requests_need_are_not_closed_for_want_of_room() {
    let node = counting_node(CLIENTS);
    let gateway = gateway(&node, &json!({"size": 2}));
    let mut clients = clients(&gateway, CLIENTS);
    ask_all(&mut clients);
    // A round that comes so late that it finds nothing kept may happen; that each one does may not.
    let kept = (0..ROUNDS).any(|_| {
        let before = node.taken.load(SeqCst);
        ask_all(&mut clients);
        node.taken.load(SeqCst) == before
    });
    assert!(kept, "{} connections for {ROUNDS} rounds of {CLIENTS} requests", node.taken.load(SeqCst));
    wait_until("what nobody needs to be closed", || (node.open.load(SeqCst) == 2).then_some(()));
}

#[test]
fn a_connection_carries_as_many_requests_as_it_may() {
    let node = counting_node(1);
    let gateway = gateway(&node, &json!({"requests": 3}));
    let mut clients = clients(&gateway, 1);
    for _ in 0..7 {
        ask_all(&mut clients);
    }
    assert_eq!(node.taken.load(SeqCst), 3);
}

#[test]
fn a_connection_that_was_idle_too_long_is_closed() {
    let node = counting_node(1);
    let gateway = gateway(&node, &json!({"idle_timeout": 0.2}));
    ask_all(&mut clients(&gateway, 1));
    wait_until("the idle connection to be closed", || (node.open.load(SeqCst) == 0).then_some(()));
}
