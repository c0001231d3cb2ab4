//! The real executable against itself: an origin and a generator on a port that the kernel chose.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_ringway-loadtest");

/// An origin that ends with the test.
struct Origin {
    child: Child,
    address: String,
}

impl Origin {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(EXECUTABLE)
            .args(["origin", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the executable starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a first line");
        let address = line.trim().strip_prefix("listening ").expect("the first line says where").to_owned();
        Self { child, address }
    }

    fn run(&self, path: &str, arguments: &[&str]) -> Output {
        Command::new(EXECUTABLE)
            .args(["run", &format!("http://{}{path}", self.address)])
            .args(arguments)
            .output()
            .expect("the executable starts")
    }

    fn run_json(&self, path: &str, arguments: &[&str]) -> (serde_json::Value, Option<i32>) {
        let output = self.run(path, &[arguments, &["--json"]].concat());
        let json = serde_json::from_slice(&output.stdout).expect("JSON on standard output");
        (json, output.status.code())
    }

    /// Sends bytes on one connection, reads until the origin closes.
    fn raw(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).expect("the origin accepts");
        stream.write_all(request.as_bytes()).expect("the origin reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the origin closes");
        answer
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_open_loop_sends_what_was_intended() {
    let origin = Origin::start(&["--threads", "2"]);
    let (json, code) =
        origin.run_json("/", &["--rate", "2000", "--duration", "1s", "--connections", "8", "--threads", "2"]);
    assert_eq!(code, Some(0), "{json:#}");
    assert_eq!(json["requests"], 2000);
    assert_eq!(json["succeeded"], 2000);
    assert_eq!(json["body_bytes"], 2000 * 128);
    assert_eq!(json["latency_ns"]["count"], 2000);
    assert!(json["elapsed_ns"].as_u64().unwrap() >= 999_000_000, "{json:#}");
    let (p50, max) =
        (json["latency_ns"]["p50"].as_u64().unwrap(), json["latency_ns"]["max"].as_u64().unwrap());
    assert!(p50 > 0 && p50 <= max, "{json:#}");
}

#[test]
fn a_closed_loop_counts_its_requests_in_every_mode() {
    let origin = Origin::start(&[]);
    for (path, arguments) in [
        ("/bytes/1048576", &["--expect-bytes", "1048576"][..]),
        ("/echo", &["--body-bytes", "65536", "--expect-bytes", "65536"]),
        ("/", &["--new-connection", "--expect-bytes", "128"]),
        ("/bytes/300", &["--method", "HEAD", "--expect-bytes", "0"]),
        ("/status/204", &["--expect-bytes", "0"]),
    ] {
        let (json, code) =
            origin.run_json(path, &[arguments, &["--requests", "200", "--connections", "4"]].concat());
        assert_eq!(code, Some(0), "{path}: {json:#}");
        assert_eq!(json["succeeded"], 200, "{path}: {json:#}");
    }
}

#[test]
fn latency_counts_from_the_intended_time() {
    // One connection, 50 ms an answer, one request due each 10 ms: the last of 20 waits for nineteen others.
    let origin = Origin::start(&[]);
    let (json, _) =
        origin.run_json("/delay/50", &["--rate", "100", "--requests", "20", "--connections", "1"]);
    assert_eq!(json["succeeded"], 20, "{json:#}");
    let max_ms = json["latency_ns"]["max"].as_u64().unwrap() / 1_000_000;
    assert!(max_ms >= 20 * 50 - 19 * 10 - 5, "{json:#}");
    let delay_ms = json["send_delay_ns"]["max"].as_u64().unwrap() / 1_000_000;
    assert!(delay_ms >= 19 * 40 - 5, "{json:#}");
}

#[test]
fn failures_are_counted_by_kind() {
    let origin = Origin::start(&[]);
    let requests = ["--requests", "10", "--connections", "2"];
    let (json, code) = origin.run_json("/status/503", &requests);
    assert_eq!((code, &json["failures"]["status_503"]), (Some(1), &serde_json::json!(10)), "{json:#}");
    let (json, _) = origin.run_json("/delay/60000", &[&requests[..], &["--timeout", "100ms"]].concat());
    assert_eq!(json["failures"]["timeout"], 10, "{json:#}");
    let (json, _) = origin.run_json("/bytes/5", &[&requests[..], &["--expect-bytes", "6"]].concat());
    assert_eq!(json["failures"]["wrong_size"], 10, "{json:#}");
}

#[test]
fn an_unreachable_server_is_a_connect_failure() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = Command::new(EXECUTABLE)
        .args(["run", &format!("http://{unused}/"), "--requests", "3", "--connections", "1", "--json"])
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["failures"]["connect"], 3, "{json:#}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_run_writes_a_page_with_its_curves() {
    let origin = Origin::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("run.html");
    let output = Command::new(EXECUTABLE)
        .args(["run", &format!("http://{}/", origin.address), "--rate", "500", "--duration", "500ms"])
        .args(["--connections", "4", "--quiet", "--html"])
        .arg(&page)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let page = std::fs::read_to_string(page).unwrap();
    for wanted in ["open loop, 500 requests/s", "Every answer was good", "<path", "send delay"] {
        assert!(page.contains(wanted), "{wanted:?} is not in\n{page}");
    }
}

#[test]
fn answers_that_break_off_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        for answer in
            [&b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"[..], b"", b"HTTP/1.1 2", b"SSH-2.0"]
        {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend_from_slice(&byte);
            }
            stream.write_all(answer).unwrap();
        }
    });
    let output = Command::new(EXECUTABLE)
        .args(["run", &format!("http://{address}/"), "--requests", "4", "--connections", "1", "--json"])
        // Each failed connection is replaced only when a request needs it, so the server sees just four.
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    server.join().unwrap();
    assert_eq!(
        json["failures"],
        serde_json::json!({"short_body": 1, "closed": 1, "malformed": 2}),
        "{json:#}"
    );
}

#[test]
fn an_origin_answers_pipelined_and_chunked_requests() {
    let origin = Origin::start(&["--name", "east-1", "--body-bytes", "3"]);
    let answers = origin.raw(concat!(
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        "GET /status/201 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    ));
    assert_eq!(answers.matches("X-Origin: east-1\r\n").count(), 3, "{answers}");
    assert!(answers.starts_with("HTTP/1.1 200 OK\r\n"), "{answers}");
    assert!(answers.contains("\r\n\r\nabcdeHTTP/1.1 201 Created\r\n"), "{answers}");
    assert!(answers.ends_with("Connection: close\r\n\r\nrrr"), "{answers}");
}

#[test]
fn an_origin_refuses_ambiguous_framing() {
    let origin = Origin::start(&[]);
    let answer = origin.raw(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    );
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn an_origin_answers_a_client_that_closes_its_half_at_once() {
    let origin = Origin::start(&[]);
    let mut stream = TcpStream::connect(&origin.address).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    // Returns only when the origin has noticed the end and closed.
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in
        [&["run", "https://a/"][..], &["run", "http://127.0.0.1:1/", "--rate", "0"], &["nonsense"]]
    {
        let output = Command::new(EXECUTABLE).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_hammer_without_a_proxy_says_so() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = Command::new(EXECUTABLE)
        .args(["hammer", &format!("http://{unused}/"), "--listen", "127.0.0.1:0", "--ready-within", "100ms"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no good answer within 100ms"), "{output:?}");
}

/// Whether this machine has what a comparison needs.
fn can_compare() -> bool {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if cores < 2 {
        eprintln!("not tested: a comparison needs two cores");
    }
    cores >= 2
}

const SHORT: [&str; 8] =
    ["compare", "--rounds", "1", "--duration", "200ms", "--warmup", "50ms", "--case=keepalive-64"];

#[test]
fn a_comparison_in_which_answers_are_wrong_prints_no_table() {
    if !can_compare() {
        return;
    }
    // An origin in the place of a proxy: its answers look good, but the backend never gave them.
    let impostor = Origin::start(&[]);
    let target = format!("impostor={}={}", impostor.address, impostor.child.id());
    let origin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let output = Command::new(EXECUTABLE)
        .args(SHORT)
        .args(["--target", &target, "--origin", &origin, "--peer", "impostor"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("but the backend gave 0"), "{output:?}");
}

#[test]
fn peers_that_are_installed_can_be_compared() {
    if !can_compare() {
        return;
    }
    let installed = ["nginx", "haproxy"]
        .into_iter()
        .filter(|name| std::path::Path::new("/usr/sbin").join(name).is_file());
    for peer in installed {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("compare.html");
        let output = Command::new(EXECUTABLE)
            .args(SHORT)
            .args(["--peer", peer, "--baseline", peer, "--case=hosts-10k", "--json", "-", "--html"])
            .arg(&page)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let row = &json["rows"][0];
        assert_eq!(row["peer"], peer);
        assert!(row["cpu_ns_per_request"]["median"].as_f64().unwrap() > 0.0, "{json:#}");
        assert_eq!(json["rows"][1]["case"], "hosts-10k");
        assert_eq!(json["rows"][1]["ratio"]["median"], 1.0);
        let page = std::fs::read_to_string(page).unwrap();
        assert!(page.contains("10,000 hosts") && page.contains("<circle"), "{page}");
    }
}
