//! The conformance suite against a gateway that is known to be bad: one that passes every byte on as it came.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;

/// Joins each client with a connection of its own to the origin.
fn pipe_to(port: u16) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(origin) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            let ways = [
                (client.try_clone().unwrap(), origin.try_clone().unwrap()),
                (origin.try_clone().unwrap(), client),
            ];
            for (from, to) in ways {
                std::thread::spawn(move || copy(from, to));
            }
        }
    });
    address
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    // Both: a side that is gone ends the other one too.
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

/// Exit code and report of a run with those rows.
fn run(only: &str) -> (i32, serde_json::Value) {
    // A port that was free a moment ago: the suite listens on it, and the pipe leads to it.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let target = pipe_to(port).to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_ringway-loadtest"))
        .args([
            "conformance",
            "--json",
            "--target",
            &target,
            "--upstream-port",
            &port.to_string(),
            "--only",
            only,
        ])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), report)
}

#[test]
fn what_is_valid_passes_through_a_pipe() {
    for only in [
        "request_line/plain",
        "content_length/5",
        "chunked/two chunks",
        "pipelining/GET, HEAD, GET",
        "interim/five",
    ] {
        let (code, report) = run(only);
        assert_eq!((code, &report["failures"]), (0, &serde_json::json!([])), "{only}");
        assert_eq!(report["passed"], 1, "{only}");
    }
}

#[test]
fn what_is_ambiguous_fails_through_a_pipe_and_is_told_in_full() {
    for only in [
        "content_length/two lines, 5 and 6",
        "chunked/LF behind the size",
        "hop_by_hop/named: one",
        "smuggling/a second answer behind a length",
        "host/missing, other",
        "response_framing/length \"+5\"",
    ] {
        let (code, report) = run(only);
        assert_eq!((code, &report["passed"]), (1, &serde_json::json!(0)), "{only}: {report:#}");
        let failure = &report["failures"][0];
        for part in ["sent", "wrong", "seen"] {
            assert!(failure[part].as_array().is_some_and(|lines| !lines.is_empty()), "{only}: {failure:#}");
        }
    }
}

#[test]
fn cut_runs_find_nothing_where_bytes_pass_as_they_are() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let target = pipe_to(port).to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_ringway-loadtest"))
        .args([
            "conformance",
            "--json",
            "--cuts",
            "--only",
            "content_length/leading zeros",
            "--target",
            &target,
        ])
        .args(["--upstream-port", &port.to_string()])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["cuts"]["failures"], serde_json::json!([]));
    assert_eq!(report["cuts"]["runs"], report["cuts"]["planned"]);
    assert!(report["cuts"]["runs"].as_u64().unwrap() > 50, "{report:#}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn rows_are_listed_with_their_sources() {
    let output = Command::new(env!("CARGO_BIN_EXE_ringway-loadtest"))
        .args(["conformance", "--list"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.lines().count() > 400 && text.lines().all(|line| line.contains(" - ")), "{text}");
}
