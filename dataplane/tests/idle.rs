//! What a keep-alive connection costs in memory while nothing is going on.
//!
//! The bound is for builds with debug assertions, whose tasks are larger than those of a release; it is there so that a buffer or a
//! task that stays is seen. Memory is given back some ticks after the last answer, and the test waits for that.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod stand;

use std::io::{Read, Write};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use stand::{Gateway, named_node, wait_until};

/// Enough that the process's other memory does not matter.
const CONNECTIONS: usize = 3_000;
const BYTES_EACH_MAX: usize = 2_600;

/// VmRSS of a process (proc(5)).
fn resident_bytes(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix("kB").unwrap().trim().parse::<usize>().unwrap() * 1_024
}

#[test]
fn an_idle_connection_holds_little_memory_and_still_answers() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--workers", "1", "--small-pages"]);
    let upstream = json!({ "nodes": { named_node("a").to_string(): 1 }, "type": "roundrobin" });
    gateway.configure(1, &[("routes", "1", json!({ "uri": "/*", "upstream": upstream }))]);
    let ask = |stream: &mut std::net::TcpStream| {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\na") {
            let mut bytes = [0; 1_024];
            let length = stream.read(&mut bytes).unwrap();
            assert!(length > 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&bytes[..length]);
        }
    };
    ask(&mut gateway.connect());
    let before = resident_bytes(gateway.pid());
    let mut streams: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut stream = gateway.connect();
            ask(&mut stream);
            stream
        })
        .collect();
    wait_until("idle connections to give their memory back", || {
        let bytes_each = resident_bytes(gateway.pid()).saturating_sub(before) / CONNECTIONS;
        (bytes_each <= BYTES_EACH_MAX).then_some(())
    });
    streams.iter_mut().for_each(ask);
}
