//! What a gateway between two sockets can get wrong: lost bytes, wrong reuse, answers that look whole and are not, waits.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod stand;

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::json;
use stand::{Gateway, PATIENCE, node, read_message_text, read_to_close, wait_until};

/// A gateway with one route to one node.
fn gateway(node: SocketAddr, flags: &[&str]) -> Gateway {
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), flags);
    let timeout = json!({"connect": 5, "send": 1, "read": 1});
    let upstream = json!({"nodes": {node.to_string(): 1}, "timeout": timeout, "retries": 0});
    let route = json!({"uri": "/*", "enable_websocket": true, "upstream": upstream});
    gateway.configure(1, &[("routes", "1", route)]);
    gateway
}

/// A node whose connections take little before they are read, so that a sender soon has to wait.
fn narrow_node(answer: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.listen(128).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let answer = std::sync::Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, answer) = (stream.unwrap(), std::sync::Arc::clone(&answer));
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

/// Reads up to the empty line.
fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap() == 0 {
            break;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// How a stream ends: all its bytes, and whether that was a reset.
fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes);
    if let Err(error) = &end {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    (bytes, end.is_err())
}

#[test]
fn a_connection_with_an_unfinished_request_carries_no_other() {
    let (seen, told) = mpsc::channel();
    let seen = std::sync::Mutex::new(seen);
    // Answers at once, and reads the body only when the connection has ended or the next request is there.
    let node = narrow_node(move |mut stream| {
        let mut all = Vec::new();
        loop {
            let head = read_head(&mut stream);
            all.extend_from_slice(head.as_bytes());
            if head.is_empty() {
                break;
            }
            if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err() {
                break;
            }
            if head.starts_with("POST") {
                std::thread::sleep(Duration::from_millis(20));
                let length: usize = head
                    .lines()
                    .find_map(|line| line.strip_prefix("Content-Length: "))
                    .unwrap()
                    .parse()
                    .unwrap();
                let mut body = vec![0; length];
                let mut at = 0;
                while at < length {
                    match stream.read(&mut body[at..]) {
                        Ok(0) | Err(_) => break,
                        Ok(bytes) => at += bytes,
                    }
                }
                assert!(seen.lock().unwrap().send(body[..at].to_vec()).is_ok());
                if at < length {
                    break;
                }
            }
        }
    });
    let gateway = gateway(node, &["--workers", "1"]);
    for step in 1..60 {
        let length = step * 50_000;
        let mut stream = gateway.connect();
        let mut request =
            format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        request.resize(request.len() + length, b'x');
        let mut sender = stream.try_clone().unwrap();
        // The gateway may end the connection once it has answered.
        let sending = std::thread::spawn(move || {
            let _ = sender.write_all(&request);
        });
        let head = read_head(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        let mut other = gateway.connect();
        other.write_all(b"GET /other HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let answer = read_to_close(&mut other);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let body = told.recv_timeout(PATIENCE).unwrap();
        let strange = body.iter().position(|byte| *byte != b'x');
        assert_eq!(strange, None, "another request inside the body of {length} bytes");
        drop(stream);
        sending.join().unwrap();
    }
}

#[test]
fn an_answer_is_not_lost_when_more_comes_behind_the_last_request() {
    const BYTES: usize = 8 << 20;
    let node = node(|mut stream| {
        read_head(&mut stream);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&vec![b'x'; BYTES]).unwrap();
    });
    let gateway = gateway(node, &[]);
    let mut stream = gateway.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let head = read_head(&mut stream);
    assert!(head.contains("Connection: close\r\n"), "{head}");
    stream.write_all(b"GET /behind HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    // The whole answer is in the gateway's kernel or ours before the rest is read.
    wait_until("the node's connection to be done", || {
        (gateway.ctl_json("show info")["requests_total"] == 1).then_some(())
    });
    let mut body = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        let bytes = stream.read(&mut piece).unwrap();
        body.extend_from_slice(&piece[..bytes]);
        if bytes == 0 {
            break;
        }
        if body.len() < 1 << 20 {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    assert_eq!(body.len(), BYTES);
}

#[test]
fn an_early_answer_that_closes_reaches_a_client_that_is_still_sending() {
    let node = node(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig").unwrap();
        let _ = read_to_end(&mut stream);
    });
    let gateway = gateway(node, &[]);
    let mut stream = gateway.connect();
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 100000\r\n\r\nhello")
        .unwrap();
    let head = read_head(&mut stream);
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    stream.write_all(&[b'x'; 50_000]).unwrap();
    let (body, reset) = read_to_end(&mut stream);
    assert_eq!((String::from_utf8_lossy(&body).as_ref(), reset), ("big", false));
    let mut status = stand::connect(gateway.status);
    status.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let metrics = read_to_close(&mut status);
    let mut panics = metrics.lines().filter(|line| line.starts_with("ringway_connection_panics_total{"));
    assert!(panics.clone().count() == 2 && panics.all(|line| line.ends_with(" 0")), "{metrics}");
}

#[test]
fn a_long_upload_is_not_taken_for_a_slow_node() {
    let node = node(|stream| {
        let mut writer = stream.try_clone().unwrap();
        let (_, body) = read_message_text(&mut BufReader::new(stream)).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        writer.write_all(&[head.as_bytes(), &body].concat()).unwrap();
    });
    let gateway = gateway(node, &[]);
    let mut stream = gateway.connect();
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 25\r\n\r\n")
        .unwrap();
    // Longer in all than the node may take for its answer, one second.
    for _ in 0..25 {
        stream.write_all(b"x").unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    let answer = read_to_close(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("xxxxx"), "{answer}");
}

#[test]
fn a_node_that_is_silent_after_the_whole_request_is_given_up() {
    let node = node(|mut stream| {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
    });
    let gateway = gateway(node, &[]);
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\n",
    ] {
        let mut stream = gateway.connect();
        stream.write_all(request.as_bytes()).unwrap();
        if request.starts_with("POST") {
            std::thread::sleep(Duration::from_millis(50));
            stream.write_all(b"hello").unwrap();
        }
        let answer = read_to_close(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("read_timeout"), "{answer}");
    }
}

#[test]
fn a_client_that_waits_gets_leave_also_from_a_node_that_only_hints() {
    let node = node(|stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = [0; 8];
        reader.read_exact(&mut head).unwrap();
        writer.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").unwrap();
        read_message_text(&mut reader).unwrap();
        writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
    });
    let gateway = gateway(node, &[]);
    let mut stream = gateway.connect();
    stream
        .write_all(
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        )
        .unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 103 "));
    let leave = read_head(&mut stream);
    assert!(leave.starts_with("HTTP/1.1 100 "), "{leave}");
    stream.write_all(b"hello").unwrap();
    let answer = read_to_close(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok"), "{answer}");
}

#[test]
fn a_refused_expectation_ends_the_connection_instead_of_guessing() {
    let node = node(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n").unwrap();
        let _ = read_to_end(&mut stream);
    });
    let gateway = gateway(node, &[]);
    let answer =
        gateway.exchange(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 30\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("Connection: close\r\n"), "{answer}");
}

#[test]
fn a_truncated_answer_to_an_old_client_ends_with_a_reset() {
    // Its length is known to us, but to a client of HTTP/1.0 the chunks' end is the connection's.
    let node = node(|mut stream| {
        let head = read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").unwrap();
        if head.contains("/waits") {
            let _ = stream.read(&mut [0]);
        }
    });
    let gateway = gateway(node, &[]);
    for path in ["/closes", "/waits"] {
        let mut stream = gateway.connect();
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        let (_, reset) = read_to_end(&mut stream);
        assert!(reset, "{path}");
    }
}

#[test]
fn a_client_that_stops_reading_a_body_without_end_gets_a_reset_and_no_end() {
    let node = node(|mut stream| {
        read_head(&mut stream);
        let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while sent.is_ok() {
            sent = stream.write_all(&[b'x'; 64 * 1024]);
        }
    });
    let gateway = gateway(node, &["--response-send-timeout-ms", "300"]);
    let mut stream = gateway.connect();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    read_head(&mut stream);
    wait_until("the gateway to give the client up", || {
        (gateway.ctl_json("show info")["connections"] == 0).then_some(())
    });
    let (_, reset) = read_to_end(&mut stream);
    assert!(reset, "a body that ends with its connection looks whole");
}

#[test]
fn an_answer_without_length_is_not_ended_by_a_node_that_takes_no_more_of_the_request() {
    let node = narrow_node(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nthe first half, ").unwrap();
        // Neither reads nor ends: what it has still to say never comes.
        std::thread::sleep(PATIENCE);
    });
    let gateway = gateway(node, &[]);
    let mut stream = gateway.connect();
    let length = 64 << 20;
    let mut sender = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        let _ = sender.write_all(head.as_bytes());
        let _ = sender.write_all(&vec![b'x'; length]);
    });
    let (answer, _) = read_to_end(&mut stream);
    assert!(!String::from_utf8_lossy(&answer).ends_with("0\r\n\r\n"), "a truncated body was ended");
    drop(stream);
    sending.join().unwrap();
}

#[test]
fn a_dripped_body_that_nobody_wants_does_not_hold_its_connection() {
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--linger-timeout-ms", "600"]);
    gateway.configure(1, &[]);
    let mut stream = gateway.connect();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n").unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 404 "));
    let deadline = Instant::now() + PATIENCE;
    while stream.write_all(b"x").is_ok() {
        assert!(Instant::now() < deadline, "a byte now and then keeps the connection for ever");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_client_whose_head_was_too_slow_reads_why() {
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--request-head-timeout-ms", "300"]);
    gateway.configure(1, &[]);
    for _ in 0..2 {
        let mut stream = gateway.connect();
        let mut writer = stream.try_clone().unwrap();
        let dripping = std::thread::spawn(move || {
            for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX-Drip: ".iter().chain(&[b'x'; 1000]) {
                if writer.write_all(&[*byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        // Read late, when a reset would have taken the answer away.
        std::thread::sleep(Duration::from_millis(700));
        let (answer, _) = read_to_end(&mut stream);
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer:?}");
        let _ = stream.shutdown(Shutdown::Both);
        dripping.join().unwrap();
    }
}

#[test]
fn a_tunnel_with_one_busy_direction_is_not_idle() {
    let node = node(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
        for _ in 0..20 {
            stream.write_all(b"x").unwrap();
            std::thread::sleep(Duration::from_millis(100));
        }
        // Now nobody says anything: that is idle.
        let _ = stream.read(&mut [0]);
    });
    let gateway = gateway(node, &["--tunnel-timeout-ms", "500"]);
    let mut stream = gateway.connect();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        .unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 101 "));
    let (bytes, _) = read_to_end(&mut stream);
    assert_eq!(bytes.len(), 20, "the tunnel was cut while it was in use");
}

#[test]
fn a_tunnel_s_halves_end_one_after_the_other() {
    let node = node(|mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        stream.write_all(&all).unwrap();
    });
    let gateway = gateway(node, &[]);
    let mut stream = gateway.connect();
    let sent = vec![b'y'; 3 << 20];
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly")
        .unwrap();
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 101 "));
    let mut writer = stream.try_clone().unwrap();
    let expected = [b"early", &sent[..]].concat();
    let sending = std::thread::spawn(move || {
        writer.write_all(&sent).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let (echoed, reset) = read_to_end(&mut stream);
    sending.join().unwrap();
    assert!(!reset && echoed == expected, "{} of {}", echoed.len(), expected.len());
}

#[test]
fn a_body_that_came_with_its_head_is_sent_again_whole_to_another_node() {
    let body: Vec<u8> = (0..60_000_u32).map(|n| (n % 251) as u8).collect();
    let (all_written, written) = mpsc::channel::<()>();
    let written = std::sync::Mutex::new(written);
    let expected = body.clone();
    let good = node(move |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        let head = read_head(&mut reader);
        if head.starts_with("GET") {
            written.lock().unwrap().recv().unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        } else if !head.is_empty() {
            let mut received = vec![0; expected.len()];
            reader.read_exact(&mut received).unwrap();
            let verdict = if received == expected { "whole" } else { "wrong" };
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n{verdict}")
                .unwrap();
        }
    });
    // Takes what it is sent and never answers.
    let bad = node(|mut stream| drop(read_head(&mut stream)));
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--workers", "1"]);
    let upstream = json!({"nodes": {good.to_string(): 1}});
    let both = json!({"nodes": {bad.to_string(): 1000, good.to_string(): 1}, "retries": 1});
    gateway.configure(
        1,
        &[
            ("routes", "1", json!({"uri": "/wait", "upstream": upstream})),
            ("routes", "2", json!({"uri": "/put", "upstream": both})),
        ],
    );
    for large_head in [false, true] {
        let mut stream = gateway.connect();
        stream.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        // A head that does not fit in front of the body is another way.
        let cookie = if large_head { format!("Cookie: {}\r\n", "c".repeat(8_000)) } else { String::new() };
        let head = format!("PUT /put HTTP/1.1\r\nHost: a\r\n{cookie}Content-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        all_written.send(()).unwrap();
        let mut reader = BufReader::new(stream);
        let (first, _) = read_message_text(&mut reader).unwrap();
        assert!(first.contains(" 200 "), "{first}");
        let (second, answer) = read_message_text(&mut reader).unwrap();
        assert!(second.contains(" 200 ") && answer == b"whole", "{second}{answer:?}");
    }
}

#[test]
fn idle_connections_cost_little_and_serve_on() {
    const CONNECTIONS: u64 = 2_000;
    let node = node(|mut stream| {
        while !read_head(&mut stream).is_empty() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
    });
    let gateway = gateway(node, &["--workers", "1"]);
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    };
    let request = b"GET /a/path/that/is/longer/than/what/is/read/at/first HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let exchange = |stream: &mut TcpStream| {
        stream.write_all(request).unwrap();
        let (head, body) = read_message_text(&mut BufReader::new(stream)).unwrap();
        assert!(head.contains(" 200 ") && body == b"ok", "{head}");
    };
    exchange(&mut gateway.connect());
    let before = resident();
    let mut idle: Vec<TcpStream> = (0..CONNECTIONS).map(|_| gateway.connect()).collect();
    // Half have had a request, half have never said a word.
    idle.iter_mut().step_by(2).for_each(exchange);
    wait_until("what idle connections hold", || {
        let each = resident().saturating_sub(before) / CONNECTIONS;
        // With room for pages that the kernel has made huge: without giving memory back it is over 10,000.
        (each < 6_000).then_some(each)
    });
    for (number, stream) in idle.iter_mut().enumerate() {
        if number % 3 == 0 {
            // First less than an idle connection takes in.
            let (first, rest) = request.split_at(number % 60 + 1);
            stream.write_all(first).unwrap();
            stream.write_all(rest).unwrap();
            let (head, body) = read_message_text(&mut BufReader::new(&mut *stream)).unwrap();
            assert!(head.contains(" 200 ") && body == b"ok", "{head}");
        } else {
            exchange(stream);
        }
    }
}
