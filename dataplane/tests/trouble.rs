//! Nodes that hang or are full, upstreams that can serve nothing: what becomes of requests, and what operators are told of it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod stand;

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stand::{Gateway, PATIENCE, named_node, node, read_message_text, wait_until};

fn route(upstream: &Value) -> Value {
    json!({"uri": "/*", "upstream": upstream})
}

fn nodes(addresses: &[SocketAddr]) -> Value {
    addresses.iter().map(|address| (address.to_string(), json!(1))).collect::<serde_json::Map<_, _>>().into()
}

/// Sends one request and gives status and body; a request's time may be as long as a test's.
fn send(stream: TcpStream, method: &str) -> (u16, String) {
    send_with(stream, method, "")
}

fn send_with(mut stream: TcpStream, method: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let head =
        format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.write_all((head + body).as_bytes()).unwrap();
    // To the end, because an answer to HEAD has no body whatever its head says.
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer");
    (head[9..12].parse().unwrap(), body.to_owned())
}

/// Open requests at all nodes of the only route.
fn open_requests(gateway: &Gateway) -> u64 {
    let told = gateway.ctl_json("show upstream routes/1");
    let nodes = told["nodes"].as_array().cloned().unwrap_or_default();
    nodes.iter().filter_map(|node| node["open_requests"].as_u64()).sum()
}

fn get(gateway: &Gateway) -> (u16, String) {
    send(gateway.connect(), "GET")
}

/// A node that takes requests and answers when it is told to; and what it saw of each connection's end.
struct Holding {
    address: SocketAddr,
    lets_go: Arc<AtomicBool>,
    held: Arc<Mutex<Vec<TcpStream>>>,
}

fn holding(name: &'static str) -> Holding {
    let (lets_go, held) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let (own_lets_go, own_held) = (Arc::clone(&lets_go), Arc::clone(&held));
    let address = node(move |stream| {
        let mut writer = stream.try_clone().unwrap();
        own_held.lock().unwrap().push(stream.try_clone().unwrap());
        let mut reader = BufReader::new(stream);
        while read_message_text(&mut reader).is_some() {
            wait_until("leave to answer", || own_lets_go.load(SeqCst).then_some(()));
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    Holding { address, lets_go, held }
}

/// Takes connections (the kernel does), and nobody is there.
fn hung() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn no_idempotent_request_waits_for_a_node_that_hangs_until_its_timeout() {
    let (well, (_listener, hanging)) = (named_node("well"), hung());
    let gateway = Gateway::start();
    gateway.configure(1, &[("routes", "1", route(&json!({"nodes": nodes(&[well, hanging])})))]);
    let clients: Vec<_> = (0..60)
        .map(|number| {
            let stream = gateway.connect();
            let method = ["GET", "HEAD", "DELETE"][number % 3];
            std::thread::spawn(move || send(stream, method))
        })
        .collect();
    for client in clients {
        // The read timeout is a minute, which is longer than these clients wait.
        let (status, body) = client.join().unwrap();
        assert_eq!(status, 200, "{body}");
    }
    let left_out = || {
        let told = gateway.ctl_json("show upstream routes/1");
        let nodes = told["nodes"].as_array().unwrap().clone();
        let node = nodes.into_iter().find(|node| node["address"] == hanging.to_string()).unwrap();
        node["breakers"].as_array().unwrap().contains(&json!("open")).then_some(())
    };
    wait_until("the node to be left out", left_out);
    // The health thread hears of it after the core.
    wait_until("the history to tell it", || {
        let history = gateway.ctl(&format!("show health routes/1/{hanging} history"));
        history.contains("ejected: failures in requests: core").then_some(())
    });
    let told = gateway.ctl_json(&format!("show health routes/1/{hanging} history"));
    assert_eq!(told["changes"][0]["to"], "ejected", "{told}");
    assert!(gateway.ctl("help").contains("show health KEY/ADDRESS history"));
    for (command, said) in [
        (format!("show health routes/1/{well} history"), "no change since this process started"),
        ("show health routes/1/10.9.9.9:1 history".to_owned(), "error: routes/1 has no node"),
        ("show health nope/10.9.9.9:1 history".to_owned(), "error: there is no upstream"),
    ] {
        let reply = gateway.ctl(&command);
        assert!(reply.contains(said), "{command}: {reply}");
    }
}

#[test]
fn a_request_that_is_not_idempotent_or_has_a_body_is_not_sent_beside_a_node_that_hangs() {
    let (well, (_listener, hanging)) = (named_node("well"), hung());
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--workers", "1"]);
    let upstream = json!({"nodes": nodes(&[well, hanging]),
        "labels": {"ringway.silence-ms": "100", "ringway.hedge-ms": "100"},
        "timeout": {"connect": 1, "send": 1, "read": 3}});
    gateway.configure(1, &[("routes", "1", route(&upstream))]);
    let read_timeout = Duration::from_secs(3);
    let send_all = |method: &'static str, body: &'static str| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let stream = gateway.connect();
                std::thread::spawn(move || {
                    let begun = Instant::now();
                    (send_with(stream, method, body).0, begun.elapsed())
                })
            })
            .collect();
        wait_until("half of them to wait", || (open_requests(&gateway) == 4).then_some(()));
        // So that it is known which node hangs.
        (0..4).for_each(|_| assert_eq!(get(&gateway).0, 200));
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    };
    let posts = send_all("POST", "");
    assert_eq!(posts.iter().filter(|(status, _)| *status == 504).count(), 4, "{posts:?}");
    gateway.configure(2, &[("routes", "1", route(&json!({"nodes": nodes(&[well])})))]);
    assert_eq!(get(&gateway).0, 200);
    gateway.configure(3, &[("routes", "1", route(&upstream))]);
    // Idempotent: tried again once its time is over, and not before.
    let puts = send_all("PUT", "body");
    assert!(puts.iter().all(|(status, _)| *status == 200), "{puts:?}");
    assert_eq!(puts.iter().filter(|(_, took)| *took >= read_timeout).count(), 4, "{puts:?}");
}

#[test]
fn a_slow_answer_wins_where_no_other_node_is_faster() {
    let slow = holding("slow");
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--workers", "1"]);
    let (_listener, hanging) = hung();
    let upstream = json!({"nodes": nodes(&[slow.address, hanging]), "labels": {"ringway.silence-ms": "100"}});
    gateway.configure(1, &[("routes", "1", route(&upstream))]);
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let stream = gateway.connect();
            std::thread::spawn(move || send(stream, "GET"))
        })
        .collect();
    // No node says anything to anybody: one of the requests finds out whether the other one would.
    wait_until("a try at the other node", || (open_requests(&gateway) > 4).then_some(()));
    slow.lets_go.store(true, SeqCst);
    for client in clients {
        assert_eq!(client.join().unwrap(), (200, "slow".to_owned()));
    }
    wait_until("no request to be open", || (open_requests(&gateway) == 0).then_some(()));
}

#[test]
fn a_hedged_request_is_answered_by_the_first_and_the_other_connection_is_closed() {
    let (fast, slow) = (named_node("fast"), holding("slow"));
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--workers", "1"]);
    let upstream = |labels: Value| json!({"nodes": nodes(&[fast, slow.address]), "labels": labels});
    let hedged = upstream(json!({"ringway.hedge-ms": "30", "ringway.silence-ms": "off"}));
    gateway.configure(1, &[("routes", "1", route(&hedged))]);
    for _ in 0..6 {
        assert_eq!(get(&gateway), (200, "fast".to_owned()));
    }
    let held: Vec<TcpStream> =
        slow.held.lock().unwrap().iter().map(|held| held.try_clone().unwrap()).collect();
    assert!(!held.is_empty(), "no request went to the slow node");
    slow.lets_go.store(true, SeqCst);
    for mut stream in held {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // An end or a reset; a time-out would be neither.
        let end = stream.read(&mut [0; 16]);
        assert!(!matches!(&end, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "{end:?}");
    }
}

#[test]
fn requests_wait_for_room_at_a_full_node_and_no_more_than_may() {
    let full = holding("full");
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--workers", "1"]);
    let upstream = |wait: &str| {
        let labels = json!({"ringway.node-requests-max": "1", "ringway.pending-max": "2", "ringway.pending-wait-ms": wait, "ringway.silence-ms": "off"});
        json!({"nodes": nodes(&[full.address]), "labels": labels})
    };
    gateway.configure(1, &[("routes", "1", route(&upstream("60000")))]);
    let (done, answers) = mpsc::channel();
    let ask = || {
        let (stream, done) = (gateway.connect(), done.clone());
        std::thread::spawn(move || done.send(send(stream, "GET")).unwrap());
    };
    // One at the node, two that wait, and one too many, whichever that is.
    (0..4).for_each(|_| ask());
    let (status, body) = answers.recv_timeout(PATIENCE).unwrap();
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("ringway.node-requests-max") && !body.contains("pending-wait-ms"), "{body}");
    full.lets_go.store(true, SeqCst);
    for _ in 0..3 {
        assert_eq!(answers.recv_timeout(PATIENCE).unwrap(), (200, "full".to_owned()));
    }
    full.lets_go.store(false, SeqCst);
    gateway.configure(2, &[("routes", "1", route(&upstream("50")))]);
    let begun = Instant::now();
    (0..2).for_each(|_| ask());
    let (status, body) = answers.recv_timeout(PATIENCE).unwrap();
    assert_eq!(status, 503, "{body}");
    assert!(begun.elapsed() >= Duration::from_millis(50) && body.contains("pending-wait-ms"), "{body}");
    full.lets_go.store(true, SeqCst);
    assert_eq!(answers.recv_timeout(PATIENCE).unwrap().0, 200);
}

/// A full node, one request that it holds and others that wait for it.
fn waiting(upstream: &Value, requests: usize) -> (Gateway, Holding, mpsc::Receiver<(u16, String)>) {
    let full = holding("full");
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--workers", "1"]);
    let mut upstream = upstream.clone();
    upstream["nodes"] = nodes(&[full.address]);
    let pending_max = (requests - 1).to_string();
    upstream["labels"] = json!({"ringway.node-requests-max": "1", "ringway.pending-max": pending_max, "ringway.pending-wait-ms": "60000", "ringway.silence-ms": "off"});
    gateway.configure(1, &[("routes", "1", route(&upstream))]);
    let (done, answers) = mpsc::channel();
    for _ in 0..requests {
        let (stream, done) = (gateway.connect(), done.clone());
        std::thread::spawn(move || done.send(send(stream, "GET")));
    }
    wait_until("all requests are there", || {
        let cores = gateway.ctl_json("show cores");
        (cores[0]["requests"].as_u64() >= Some(requests as u64)).then_some(())
    });
    (gateway, full, answers)
}

#[test]
fn a_first_try_may_wait_for_room_for_longer_than_further_tries_may_begin() {
    let (_gateway, full, answers) = waiting(&json!({"retry_timeout": 0.05}), 3);
    let begun = Instant::now();
    wait_until("the time for further tries is over", || {
        (begun.elapsed() > Duration::from_millis(200)).then_some(())
    });
    full.lets_go.store(true, SeqCst);
    for _ in 0..3 {
        assert_eq!(answers.recv_timeout(PATIENCE).unwrap(), (200, "full".to_owned()));
    }
}

#[test]
fn requests_that_wait_go_on_when_a_change_makes_room() {
    let (gateway, full, answers) = waiting(&json!({}), 4);
    let at_the_node = |requests: usize| (full.held.lock().unwrap().len() == requests).then_some(());
    wait_until("the first request at the node", || at_the_node(1));
    let labels = |max: &str| json!({"ringway.node-requests-max": max, "ringway.pending-max": "3", "ringway.pending-wait-ms": "60000", "ringway.silence-ms": "off"});
    for (revision, max) in [(2, "2"), (3, "4")] {
        let upstream = json!({"nodes": nodes(&[full.address]), "labels": labels(max)});
        gateway.configure(revision, &[("routes", "1", route(&upstream))]);
        wait_until("as many requests as there is room for", || at_the_node(max.parse().unwrap()));
    }
    full.lets_go.store(true, SeqCst);
    for _ in 0..4 {
        assert_eq!(answers.recv_timeout(PATIENCE).unwrap(), (200, "full".to_owned()));
    }
}

#[test]
fn who_is_called_and_cannot_go_calls_the_next_one() {
    let (gateway, full, answers) = waiting(&json!({}), 4);
    gateway.ctl(&format!("set server routes/1/{} drain", full.address));
    // No place is left to wait at, so that this one is told at once.
    wait_until("the core to hear", || get(&gateway).1.contains("drained").then_some(()));
    full.lets_go.store(true, SeqCst);
    let mut statuses: Vec<_> = (0..4).map(|_| answers.recv_timeout(PATIENCE).unwrap().0).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503, 503, 503]);
}

#[test]
fn an_upstream_that_can_serve_nothing_says_why() {
    let well = named_node("well");
    let gateway = Gateway::start();
    let checks = json!({"active": {"type": "tcp", "unhealthy": {"interval": 1, "tcp_failures": 1}}});
    let (_listener, dead) = {
        let (listener, dead) = hung();
        drop(listener);
        ((), dead)
    };
    let upstreams = [
        ("none", json!({"nodes": {}}), "no node is configured"),
        ("weightless", json!({"nodes": {well.to_string(): 0}}), "every node has weight 0"),
        ("nameless", json!({"nodes": {"nowhere.invalid:80": 1}}), "no address is known for nowhere.invalid"),
        ("drained", json!({"nodes": {well.to_string(): 1}}), "operators have drained or taken down"),
    ];
    let mut objects = Vec::new();
    for (id, upstream, _) in &upstreams {
        objects.push(("routes", *id, json!({"uri": format!("/{id}"), "upstream": upstream})));
    }
    let checked = json!({"uri": "/checked", "upstream": {"nodes": nodes(&[dead]), "checks": checks}});
    objects.push(("routes", "checked", checked));
    gateway.configure(1, &objects);
    gateway.ctl(&format!("set server routes/drained/{well} drain"));
    for (id, _, why) in &upstreams {
        let answered = || {
            let reply = gateway
                .exchange(format!("GET /{id} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes());
            (reply.starts_with("HTTP/1.1 503") && reply.contains(why)).then_some(())
        };
        wait_until(&format!("the answer for {id}"), answered);
        let explained = || {
            let told = gateway.ctl(&format!("explain GET a /{id}"));
            (told.contains("503") && told.contains(why)).then_some(())
        };
        wait_until(&format!("the explanation for {id}"), explained);
    }
    // A check that cannot connect: the only node is sick, so it is used all the same, and the answer says what is wrong.
    let sick = || {
        let told = gateway.ctl(&format!("show health routes/checked/{dead} history"));
        told.contains("unhealthy: failed connections of probes").then_some(())
    };
    wait_until("the check to fail", sick);
    let reply = gateway.exchange(b"GET /checked HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(reply.starts_with("HTTP/1.1 502") && reply.contains("connect_failed"), "{reply}");
    assert!(gateway.ctl("show upstream routes/checked").contains("failed connections of probes"));
}

#[test]
fn nodes_that_cores_leave_out_of_what_they_show_are_said_to_be() {
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--workers", "1"]);
    let well = named_node("well");
    let mut many = serde_json::Map::new();
    many.insert(well.to_string(), json!(1_000_000));
    for number in 0..5_000u32 {
        many.insert(format!("127.9.{}.{}:9", number / 250, 1 + number % 250), json!(1));
    }
    gateway.configure(1, &[("routes", "1", route(&json!({"nodes": many})))]);
    assert_eq!(get(&gateway).0, 200);
    let told = gateway.ctl("show upstreams");
    let first = told.lines().next().unwrap();
    assert!(first.contains("left out for 905 of 5001 nodes"), "{first}");
    gateway.configure(2, &[("routes", "1", route(&json!({"nodes": nodes(&[well])})))]);
    assert_eq!(get(&gateway).0, 200);
    assert!(!gateway.ctl("show upstreams").contains("left out"));
}
