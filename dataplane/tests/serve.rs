//! The data plane alone, configured over its feed socket: requests, answers, refusals, the disk.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod stand;

use std::io::{BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use ringway_snapshot::message::{Reason, ToControlplane};
use serde_json::json;
use stand::{Gateway, named_node, node, read_message_text, snapshot, wait_until};

#[test]
fn a_request_goes_to_the_node_of_its_route_and_the_connection_stays() {
    let gateway = Gateway::start();
    let (a, b) = (named_node("a"), named_node("b"));
    gateway.configure(
        1,
        &[
            ("routes", "a", json!({"uri": "/a/*", "upstream": {"nodes": {a.to_string(): 1}}})),
            ("routes", "b", json!({"uri": "/b", "host": "b.test", "upstream_id": "u"})),
            ("upstreams", "u", json!({"nodes": {b.to_string(): 1}})),
        ],
    );
    let mut stream = gateway.connect();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for (path, host, status, body) in [
        ("/a/x", "x", "200", "a"),
        ("/b", "b.test:9080", "200", "b"),
        ("/b", "x", "404", ""),
        ("/a/y?z", "x", "200", "a"),
    ] {
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).unwrap();
        let (head, answer) = read_message_text(&mut reader).unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        if status == "200" {
            assert_eq!(String::from_utf8_lossy(&answer), body);
        }
    }
}

#[test]
fn bodies_are_carried_both_ways_in_every_framing() {
    let echo = node(|stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some((head, body)) = read_message_text(&mut reader) {
            let body = if head.contains("Transfer-Encoding: chunked") {
                let mut whole = Vec::new();
                loop {
                    let mut line = String::new();
                    std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
                    let size = usize::from_str_radix(line.trim(), 16).unwrap();
                    let mut chunk = vec![0; size + 2];
                    reader.read_exact(&mut chunk).unwrap();
                    if size == 0 {
                        break whole;
                    }
                    whole.extend_from_slice(&chunk[..size]);
                }
            } else {
                body
            };
            let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for part in body.chunks(10_000) {
                answer.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                answer.extend_from_slice(part);
                answer.extend_from_slice(b"\r\n");
            }
            answer.extend_from_slice(b"0\r\n\r\n");
            writer.write_all(&answer).unwrap();
        }
    });
    let gateway = Gateway::start();
    gateway
        .configure(1, &[("routes", "1", json!({"uri": "/*", "upstream": {"nodes": {echo.to_string(): 1}}}))]);
    let body: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    for chunked in [false, true] {
        let mut request = b"POST /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".to_vec();
        if chunked {
            request.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for part in body.chunks(7_777) {
                request.extend_from_slice(format!("{:x};ext=1\r\n", part.len()).as_bytes());
                request.extend_from_slice(part);
                request.extend_from_slice(b"\r\n");
            }
            request.extend_from_slice(b"0\r\n\r\n");
        } else {
            request.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            request.extend_from_slice(&body);
        }
        let mut stream = gateway.connect();
        let mut sender = stream.try_clone().unwrap();
        let sending = std::thread::spawn(move || sender.write_all(&request).unwrap());
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        sending.join().unwrap();
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("Transfer-Encoding: chunked\r\n"), "{head}");
        assert_eq!(dechunk(&answer[end..]), body, "chunked: {chunked}");
    }
}

fn dechunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let line_end = bytes.windows(2).position(|w| w == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line_end]).unwrap(), 16).unwrap();
        let data = &bytes[line_end + 2..];
        if size == 0 {
            assert_eq!(data, b"\r\n");
            return whole;
        }
        whole.extend_from_slice(&data[..size]);
        assert_eq!(&data[size..size + 2], b"\r\n");
        bytes = &data[size + 2..];
    }
}

#[test]
fn what_is_not_http_is_answered_with_400_and_the_end_of_the_connection() {
    let gateway = Gateway::start();
    gateway.configure(1, &[]);
    for bad in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "\u{16}\u{3}\u{1}",
    ] {
        let answer = gateway.exchange(bad.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{bad:?}: {answer}");
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
    }
}

#[test]
fn a_node_that_refuses_is_passed_over_and_one_that_is_alone_is_told_of() {
    let refusing = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let good = named_node("good");
    let gateway = Gateway::start();
    gateway.configure(
        1,
        &[
            (
                "routes",
                "1",
                json!({"uri": "/two", "upstream": {"nodes": {refusing.to_string(): 1, good.to_string(): 1}}}),
            ),
            ("routes", "2", json!({"uri": "/one", "upstream": {"nodes": {refusing.to_string(): 1}}})),
            ("routes", "3", json!({"uri": "/none", "upstream": {"nodes": {good.to_string(): 0}}})),
        ],
    );
    for _ in 0..10 {
        let answer = gateway
            .exchange(b"POST /two HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi");
        assert!(answer.ends_with("good"), "{answer}");
    }
    let answer = gateway.exchange(b"GET /one HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("connect_failed"), "{answer}");
    let answer = gateway.exchange(b"GET /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("no_usable_node"), "{answer}");
}

#[test]
fn a_bad_configuration_is_refused_with_its_place_and_the_old_one_serves_on() {
    let gateway = Gateway::start();
    let a = named_node("a");
    let good = ("routes", "1", json!({"uri": "/", "upstream": {"nodes": {a.to_string(): 1}}}));
    gateway.configure(1, std::slice::from_ref(&good));
    let answer = gateway
        .feed()
        .offer(snapshot(2, &[good, ("routes", "2", json!({"uri": "/x", "upstream_id": "gone"}))]));
    let ToControlplane::Nack(nack) = answer else { panic!("{answer:?}") };
    let Reason::Faults(faults) = nack.reason else { panic!("{nack:?}") };
    assert_eq!((faults[0].id.as_str(), faults[0].pointer.as_str()), ("2", "/upstream_id"));
    let info = gateway.ctl_json("show info");
    assert_eq!(info["version"]["revision"], 1);
    assert_eq!(info["last_refusal"]["faults"][0]["pointer"], "/upstream_id");
    assert!(
        gateway.exchange(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").ends_with("\r\n\r\na")
    );
    gateway.configure(3, &[]);
    assert!(gateway.ctl_json("show info")["last_refusal"].is_null());
}

#[test]
fn versions_only_go_up_and_another_lineage_needs_to_be_adopted() {
    let gateway = Gateway::start();
    gateway.configure(5, &[]);
    assert!(matches!(gateway.feed().offer(snapshot(4, &[])), ToControlplane::Nack(_)));
    let mut other = snapshot(1, &[]);
    other.version.lineage = 0xabc;
    assert!(matches!(gateway.feed().offer(other.clone()), ToControlplane::Nack(_)));
    assert!(gateway.ctl("adopt 0000000000000abc").contains("will replace"));
    assert!(matches!(gateway.feed().offer(other), ToControlplane::Ack(_)));
    assert_eq!(gateway.ctl_json("show info")["version"]["lineage"], "0000000000000abc");
}

#[test]
fn after_a_kill_it_serves_from_disk_with_nobody_else_there() {
    let gateway = Gateway::start();
    let a = named_node("a");
    gateway.configure(7, &[("routes", "1", json!({"uri": "/", "upstream": {"nodes": {a.to_string(): 1}}}))]);
    let folder = gateway.folder.path().join("state/current.snapshot");
    wait_until("the snapshot on disk", || folder.exists().then_some(()));
    let gateway = Gateway::start_in(gateway.kill(), &[]);
    let info = gateway.ctl_json("show info");
    assert_eq!((&info["version"]["revision"], &info["booted_from_disk"]), (&json!(7), &json!(true)));
    assert!(
        gateway.exchange(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").ends_with("\r\n\r\na")
    );
    assert_eq!(gateway.feed().served.unwrap().revision, 7);
}

#[test]
fn damaged_frames_end_the_connection_and_nothing_else() {
    let gateway = Gateway::start();
    gateway.configure(1, &[]);
    let mut feed = gateway.feed();
    feed.send_bytes(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(feed.is_closed());
    gateway.configure(2, &[]);
}

#[test]
fn a_request_in_hand_is_finished_when_the_process_is_told_to_end() {
    let (started, start) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (started, released) = (std::sync::Mutex::new(started), std::sync::Mutex::new(released));
    let slow = node(move |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        read_message_text(&mut reader).unwrap();
        started.lock().unwrap().send(()).unwrap();
        released.lock().unwrap().recv().unwrap();
        (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").unwrap();
    });
    let mut gateway = Gateway::start();
    gateway
        .configure(1, &[("routes", "1", json!({"uri": "/", "upstream": {"nodes": {slow.to_string(): 1}}}))]);
    let mut stream = gateway.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    start.recv().unwrap();
    assert!(gateway.ctl("shutdown").contains("finished first"));
    wait_until("readyz to fail", || {
        let mut status = stand::connect(gateway.status);
        status.write_all(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        stand::read_to_close(&mut status).starts_with("HTTP/1.1 503 ").then_some(())
    });
    release.send(()).unwrap();
    let answer = stand::read_to_close(&mut stream);
    assert!(answer.contains("Connection: close\r\n") && answer.ends_with("done"), "{answer}");
    assert!(gateway.wait().success());
}

#[test]
fn explain_tells_the_route_the_node_and_what_was_tried() {
    let gateway = Gateway::start();
    gateway.configure(
        1,
        &[
            (
                "routes",
                "posts",
                json!({"uri": "/x/:id", "methods": ["POST"], "upstream": {"nodes": {"127.0.0.1:1": 1}}}),
            ),
            ("routes", "all", json!({"uri": "/*", "upstream": {"nodes": {"127.0.0.1:2": 1}}})),
        ],
    );
    let told = gateway.ctl_json("explain GET any.test /x/5?q=1");
    assert_eq!(told["route"], "all");
    assert_eq!(told["upstream"]["nodes"][0]["address"], "127.0.0.1:2");
    assert!(told["steps"].as_array().unwrap().iter().any(|step| step["outcome"] == "other method"), "{told}");
    let told = gateway.ctl_json("explain POST any.test /x/5");
    assert_eq!((&told["route"], &told["parameters"]["id"]), (&json!("posts"), &json!("5")));
}

#[test]
fn a_port_in_use_is_one_line_that_says_so() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = stand::command(folder.path()).args(["--listen", &address]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.lines().count() == 1, "{text}");
    assert!(text.contains(&address) && text.contains("in use") && text.contains("--listen"), "{text}");
}

#[test]
fn a_port_whose_process_was_killed_a_moment_ago_can_be_listened_on() {
    let mut folder = tempfile::tempdir().unwrap();
    let mut port = None;
    for _ in 0..8 {
        let fixed = port.map(|address: std::net::SocketAddr| address.to_string());
        let flags: Vec<&str> =
            fixed.iter().flat_map(|address| ["--workers", "4", "--listen", address]).collect();
        let gateway = Gateway::start_in(folder, &flags);
        // What its ring still has in hand when it is killed is taken apart afterwards.
        let address = *port.get_or_insert(gateway.http);
        let connections: Vec<_> = (0..64).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        folder = gateway.kill();
        drop(connections);
    }
}

#[test]
fn connections_over_a_limit_are_answered_with_503_and_the_others_served_on() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start_in(
        folder,
        &["--workers", "1", "--connections-per-client-max", "2", "--connections-max", "3"],
    );
    let a = named_node("a");
    gateway.configure(1, &[("routes", "1", json!({"uri": "/", "upstream": {"nodes": {a.to_string(): 1}}}))]);
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut kept = [gateway.connect(), gateway.connect()];
    for stream in &mut kept {
        stream.write_all(request).unwrap();
        assert!(
            read_message_text(&mut BufReader::new(stream.try_clone().unwrap())).unwrap().0.contains(" 200 ")
        );
    }
    let answer = gateway.exchange(request);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("connection_limit"), "{answer}");
    let [first, mut second] = kept;
    drop(first);
    wait_until("a place to become free", || {
        let mut stream = gateway.connect();
        stream.write_all(request).unwrap();
        let (head, _) = read_message_text(&mut BufReader::new(stream)).unwrap();
        head.contains(" 200 ").then_some(())
    });
    second.write_all(request).unwrap();
    assert!(read_message_text(&mut BufReader::new(second)).unwrap().0.contains(" 200 "));
}

#[test]
fn a_refusal_of_a_head_request_has_no_body() {
    let gateway = Gateway::start();
    gateway.configure(1, &[]);
    for bad in [
        "HEAD * HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD /\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD / HTTP/1.1\r\n\r\n",
        "HEAD / HTTP/2.0\r\nHost: a\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
    ] {
        let answer = gateway.exchange(bad.as_bytes());
        assert!(answer.starts_with("HTTP/1.1 ") && answer.ends_with("\r\n\r\n"), "{bad:?}: {answer}");
    }
}

#[test]
fn an_answer_that_breaks_off_is_a_reset_where_the_end_would_look_like_its_end() {
    let breaking = node(|mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        if read_message_text(&mut reader).is_some() {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n").unwrap();
        }
    });
    let gateway = Gateway::start();
    gateway.configure(
        1,
        &[("routes", "1", json!({"uri": "/", "upstream": {"nodes": {breaking.to_string(): 1}}}))],
    );
    // A client that is slow to read could meet the reset behind a clean end, so that one try would show little.
    for _ in 0..20 {
        let mut stream = gateway.connect();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        assert!(ended.is_err(), "a clean end behind {answer:?}");
        assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn too_many_operators_at_once_do_not_lock_all_others_out_for_good() {
    const AT_ONCE: usize = 100;
    let gateway = Gateway::start();
    let socket = gateway.folder.path().join("admin.sock");
    for _ in 0..2 {
        // Who comes in after the last place is taken hears the end.
        let mut operators: Vec<UnixStream> =
            (0..AT_ONCE).map(|_| UnixStream::connect(&socket).unwrap()).collect();
        let last = operators.last_mut().unwrap();
        last.set_read_timeout(Some(stand::PATIENCE)).unwrap();
        assert_eq!(last.read(&mut [0]).unwrap(), 0);
    }
    // The places of those who left are free when their threads have noticed.
    wait_until("a reply", || {
        let mut operator = UnixStream::connect(&socket).unwrap();
        operator.set_read_timeout(Some(stand::PATIENCE)).unwrap();
        let mut reply = String::new();
        // One that is turned away may be told by a reset.
        let _ = operator.write_all(b"show info\n").and_then(|()| operator.read_to_string(&mut reply));
        reply.contains("uptime_s").then_some(())
    });
}

#[test]
fn lines_of_an_operator_that_come_together_are_all_read_and_none_is_cut() {
    let gateway = Gateway::start();
    let say = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(gateway.folder.path().join("admin.sock")).unwrap();
        stream.set_read_timeout(Some(stand::PATIENCE)).unwrap();
        // It may be answered before all of it was read.
        let _ = stream.write_all(bytes);
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        String::from_utf8(reply).unwrap()
    };
    let reply = say(b"prompt\nshow limits\nshow route none\nquit\n");
    assert!(reply.contains("connections_max") && reply.contains("no configuration"), "{reply}");
    let long = [b"show route ".as_slice(), &[b'a'; 70_000], b"\n"].concat();
    assert!(say(&long).starts_with("error: a line has at most "));
    assert!(say(b"show route \xff\n").starts_with("error: commands are UTF-8"));
}
