//! Nodes that are Unix sockets: requests, bodies and tunnels over them, what becomes of them when they are not there, probes, and what
//! operators see and order.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod stand;

use std::io::{BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use stand::{Gateway, PATIENCE, named_node, read_message_text, wait_until};

/// A backend at a Unix socket, which can be ended with all its connections.
struct Backend {
    path: PathBuf,
    connections: Arc<AtomicU32>,
    heads: Arc<Mutex<Vec<String>>>,
    open: Arc<Mutex<Vec<UnixStream>>>,
    over: Arc<AtomicBool>,
}

impl Backend {
    /// Answers with `name`, or with the body that it got.
    fn start(path: &Path, name: &'static str) -> Backend {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path).unwrap();
        let backend = Backend {
            path: path.to_owned(),
            connections: Arc::default(),
            heads: Arc::default(),
            open: Arc::default(),
            over: Arc::default(),
        };
        let (connections, heads) = (Arc::clone(&backend.connections), Arc::clone(&backend.heads));
        let (open, over) = (Arc::clone(&backend.open), Arc::clone(&backend.over));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if over.load(SeqCst) {
                    return;
                }
                connections.fetch_add(1, SeqCst);
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                open.lock().unwrap().push(stream.try_clone().unwrap());
                let heads = Arc::clone(&heads);
                std::thread::spawn(move || answer(stream, name, &heads));
            }
        });
        backend
    }

    fn node(&self) -> String {
        format!("unix:{}", self.path.display())
    }

    fn heads(&self) -> Vec<String> {
        std::mem::take(&mut *self.heads.lock().unwrap())
    }

    /// Closes everything, as a process that ends; its file stays, as files of sockets do.
    fn end(self) {
        self.over.store(true, SeqCst);
        let _ = UnixStream::connect(&self.path); // Wakes the accept.
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        wait_until("the socket to refuse", || UnixStream::connect(&self.path).is_err().then_some(()));
    }
}

fn answer(stream: UnixStream, name: &str, heads: &Mutex<Vec<String>>) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some((head, body)) = read_message_text(&mut reader) {
        heads.lock().unwrap().push(head.clone());
        if head.to_ascii_lowercase().contains("\r\nupgrade: websocket") {
            let switched =
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
            writer.write_all(switched.as_bytes()).unwrap();
            let mut echo = [0; 4];
            while reader.read_exact(&mut echo).is_ok() {
                writer.write_all(&echo).unwrap();
            }
            return;
        }
        let body = if body.is_empty() { name.as_bytes().to_vec() } else { body };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        if writer.write_all(&[head.as_bytes(), &body].concat()).is_err() {
            return;
        }
    }
}

fn configure(gateway: &Gateway, revision: u64, upstream: &Value) {
    let route = json!({"uri": "/*", "upstream_id": "app", "enable_websocket": true});
    gateway.configure(revision, &[("upstreams", "app", upstream.clone()), ("routes", "all", route)]);
}

fn request(gateway: &Gateway, method: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = gateway.connect();
    let head = format!(
        "{method} /p HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let (head, body) = read_message_text(&mut BufReader::new(stream)).expect("an answer");
    (head[9..12].parse().unwrap(), body)
}

fn get(gateway: &Gateway) -> (u16, String) {
    let (status, body) = request(gateway, "GET", b"");
    (status, String::from_utf8(body).unwrap())
}

fn state_of(gateway: &Gateway, address: &str) -> String {
    let told = gateway.ctl_json("show upstream app");
    let nodes = told["nodes"].as_array().unwrap_or_else(|| panic!("{told}"));
    let node = nodes.iter().find(|node| node["address"] == address).unwrap_or_else(|| panic!("{told}"));
    node["state"].as_str().unwrap().to_owned()
}

#[test]
fn requests_bodies_and_tunnels_go_over_a_unix_socket_and_its_connections_are_kept() {
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--workers", "1"]);
    let backend = Backend::start(&gateway.folder.path().join("app.sock"), "app");
    configure(&gateway, 1, &json!({"nodes": {backend.node(): 1}}));
    for _ in 0..5 {
        assert_eq!(get(&gateway), (200, "app".to_owned()));
    }
    assert_eq!(backend.connections.load(SeqCst), 1, "the connection was not kept");
    let large: Vec<u8> = (0..3_000_000u32).map(|at| (at % 251) as u8).collect();
    let (status, echoed) = request(&gateway, "POST", &large);
    assert!(status == 200 && echoed == large, "{status}, {} bytes", echoed.len());
    assert!(backend.heads().iter().all(|head| head.contains("\r\nHost: shop.test\r\n")));

    let mut tunnel = gateway.connect();
    tunnel
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
        .unwrap();
    let mut reader = BufReader::new(tunnel.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(std::io::BufRead::read_line(&mut reader, &mut head).unwrap(), 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for word in [b"abcd", b"efgh"] {
        tunnel.write_all(word).unwrap();
        let mut echo = [0; 4];
        reader.read_exact(&mut echo).unwrap();
        assert_eq!(&echo, word);
    }
}

#[test]
fn the_host_is_localhost_with_pass_host_node_and_as_given_with_rewrite() {
    let gateway = Gateway::start();
    let backend = Backend::start(&gateway.folder.path().join("app.sock"), "app");
    let nodes = json!([{"host": format!("unix://{}", backend.path.display()), "port": 0, "weight": 1}]);
    configure(&gateway, 1, &json!({"nodes": nodes, "pass_host": "node"}));
    assert_eq!(get(&gateway).0, 200);
    assert!(backend.heads()[0].contains("\r\nHost: localhost\r\n"));
    configure(&gateway, 2, &json!({"nodes": nodes, "pass_host": "rewrite", "upstream_host": "app.test"}));
    assert_eq!(get(&gateway).0, 200);
    assert!(backend.heads()[0].contains("\r\nHost: app.test\r\n"));
}

#[test]
fn a_socket_that_is_not_there_or_refuses_is_tried_elsewhere_and_alone_gives_502() {
    let gateway = Gateway::start();
    let missing = gateway.folder.path().join("missing.sock");
    configure(&gateway, 1, &json!({"nodes": {format!("unix:{}", missing.display()): 1}}));
    let (status, told) = get(&gateway);
    assert!(status == 502 && told.contains("connect"), "{status} {told}");

    let backend = Backend::start(&gateway.folder.path().join("app.sock"), "app");
    let spare = named_node("tcp");
    let nodes = json!({format!("unix:{}", missing.display()): 1, backend.node(): 1, spare.to_string(): 1});
    configure(&gateway, 2, &json!({"nodes": nodes}));
    let answers: Vec<_> = (0..12).map(|_| get(&gateway)).collect();
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    let count = |name: &str| answers.iter().filter(|(_, body)| body == name).count();
    assert!(count("app") > 0 && count("tcp") > 0, "{answers:?}");
    // Its file stays, and refuses; kept connections end. A request that does not find that out in time is tried elsewhere.
    backend.end();
    for _ in 0..12 {
        assert_eq!(get(&gateway), (200, "tcp".to_owned()));
    }
}

#[test]
fn a_second_try_that_cannot_connect_is_told_by_its_own_cause_when_the_first_is_over() {
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--workers", "1"]);
    let (near, far) = (gateway.folder.path().join("a.sock"), gateway.folder.path().join("b.sock"));
    let first = UnixListener::bind(&near).unwrap();
    // Its queue is full, so that whoever connects waits, until it is closed and refuses.
    let second = UnixListener::bind(&far).unwrap();
    let mut queued = Vec::new();
    loop {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        match socket.connect(&socket2::SockAddr::unix(&far).unwrap()) {
            Ok(()) => queued.push(socket),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    let nodes = json!([
        {"host": format!("unix:{}", near.display()), "weight": 1, "priority": 1},
        {"host": format!("unix:{}", far.display()), "weight": 1},
    ]);
    let labels = json!({"ringway.hedge-ms": "10", "ringway.silence-ms": "off"});
    configure(&gateway, 1, &json!({"nodes": nodes, "labels": labels, "retries": 1}));
    let mut client = gateway.connect();
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let (stream, _) = first.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    read_message_text(&mut BufReader::new(&stream)).unwrap();
    wait_until("the second try", || {
        (gateway.ctl_json("show counters")[0]["upstream_connects"].as_u64() >= Some(2)).then_some(())
    });
    stream.shutdown(std::net::Shutdown::Both).unwrap();
    drop(stream);
    // What comes after that end is seen after it.
    let later =
        gateway.exchange(b"OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nConnection: close\r\n\r\n");
    assert!(later.starts_with("HTTP/1.1 200 "), "{later}");
    drop(second);
    let answer = stand::read_to_close(&mut client);
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("connect_failed"), "{answer}");
}

#[test]
fn probes_go_over_the_socket_and_a_backend_that_comes_back_is_used_again() {
    for kind in ["http", "tcp"] {
        let gateway = Gateway::start();
        let path = gateway.folder.path().join("app.sock");
        let backend = Backend::start(&path, "app");
        let (node, spare) = (backend.node(), named_node("tcp"));
        let active = json!({"type": kind, "http_path": "/health", "healthy": {"successes": 1}, "unhealthy": {"tcp_failures": 1}});
        let nodes = json!([{"host": node, "weight": 1, "priority": 1}, {"host": "127.0.0.1", "port": spare.port(), "weight": 1}]);
        configure(&gateway, 1, &json!({"nodes": nodes, "checks": {"active": active}}));
        assert_eq!(get(&gateway), (200, "app".to_owned()));
        if kind == "http" {
            let probe = wait_until("a probe", || {
                backend.heads().into_iter().find(|head| head.starts_with("GET /health "))
            });
            assert!(probe.contains("\r\nHost: localhost\r\n"), "{probe}");
        }
        backend.end();
        wait_until("it to be unhealthy", || (state_of(&gateway, &node) == "unhealthy").then_some(()));
        let _again = Backend::start(&path, "app");
        wait_until("it to be healthy", || (state_of(&gateway, &node) == "ready").then_some(()));
        wait_until("requests to go there", || (get(&gateway).1 == "app").then_some(()));
    }
}

#[test]
fn operators_see_a_unix_socket_and_order_it_down() {
    let gateway = Gateway::start();
    let backend = Backend::start(&gateway.folder.path().join("app.sock"), "app");
    let (node, spare) = (backend.node(), named_node("tcp"));
    configure(
        &gateway,
        1,
        &json!({"nodes": {node.clone(): 1, spare.to_string(): 1}, "type": "chash", "key": "arg_k"}),
    );
    let told = gateway.ctl_json("explain GET shop.test /p");
    let listed = told["upstream"]["nodes"].as_array().unwrap();
    assert!(listed.iter().any(|shown| shown["address"] == node.as_str()), "{told}");
    let told = gateway.ctl(&format!("set server app/{node} down"));
    assert!(told.contains("down") && !told.contains("error"), "{told}");
    assert_eq!(state_of(&gateway, &node), "down");
    wait_until("no request to go there", || {
        (0..20).all(|_| get(&gateway) == (200, "tcp".to_owned())).then_some(())
    });
}
