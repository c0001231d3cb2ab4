//! Which node a request gets: balancers, priorities, what operators set, and nodes that die, hang, refuse and flap while another is well.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod stand;

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use stand::{Gateway, PATIENCE, named_node, node, read_message_text, wait_until};

/// What a node does with requests.
const WELL: u8 = 0;
/// Accepts, and never answers.
const HANGING: u8 = 1;
/// Closes when a request has come.
const CLOSING: u8 = 2;

/// A node whose behaviour can be changed, and that counts requests.
#[derive(Clone)]
struct Moody {
    mood: Arc<AtomicU8>,
    requests: Arc<AtomicU32>,
    address: SocketAddr,
}

fn moody(name: &'static str) -> Moody {
    let (mood, requests) = (Arc::new(AtomicU8::new(WELL)), Arc::new(AtomicU32::new(0)));
    let (own_mood, own_requests) = (Arc::clone(&mood), Arc::clone(&requests));
    let held = Mutex::new(Vec::new());
    let address = node(move |stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while read_message_text(&mut reader).is_some() {
            own_requests.fetch_add(1, SeqCst);
            match own_mood.load(SeqCst) {
                HANGING => {
                    held.lock().unwrap().push(writer);
                    return;
                }
                CLOSING => return,
                _ => {}
            }
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    Moody { mood, requests, address }
}

impl Moody {
    fn is(&self, mood: u8) {
        self.mood.store(mood, SeqCst);
    }

    fn requests(&self) -> u32 {
        self.requests.load(SeqCst)
    }
}

/// An address at which connections are refused.
fn refusing() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn route(upstream: &Value) -> Value {
    json!({"uri": "/*", "upstream": upstream})
}

fn listed(nodes: &[(SocketAddr, u32, i32)]) -> Value {
    let node = |(address, weight, priority): &(SocketAddr, u32, i32)| json!({"host": address.ip().to_string(), "port": address.port(), "weight": weight, "priority": priority});
    nodes.iter().map(node).collect()
}

/// Status and body of one request on a connection of its own.
fn request(gateway: &Gateway, method: &str, headers: &str) -> (u16, String) {
    let mut stream = gateway.connect();
    let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let (head, body) = read_message_text(&mut BufReader::new(stream)).expect("an answer");
    (head[9..12].parse().unwrap(), String::from_utf8(body).unwrap())
}

fn get(gateway: &Gateway) -> (u16, String) {
    request(gateway, "GET", "")
}

/// Who answered, and how often; every request must be answered with 200.
fn answers(gateway: &Gateway, requests: u32) -> BTreeMap<String, u32> {
    let mut answers = BTreeMap::new();
    for _ in 0..requests {
        let (status, body) = get(gateway);
        assert_eq!(status, 200, "{body}\n{}", gateway.ctl("show upstreams"));
        *answers.entry(body).or_insert(0) += 1;
    }
    answers
}

fn only(name: &str, requests: u32) -> BTreeMap<String, u32> {
    BTreeMap::from([(name.to_owned(), requests)])
}

/// What `show upstream` tells of a node.
fn shown(gateway: &Gateway, upstream: &str, address: SocketAddr) -> Value {
    let told = gateway.ctl_json(&format!("show upstream {upstream}"));
    let nodes = told["nodes"].as_array().unwrap_or_else(|| panic!("{told}"));
    nodes
        .iter()
        .find(|node| node["address"] == address.to_string())
        .unwrap_or_else(|| panic!("{told}"))
        .clone()
}

#[test]
fn consistent_hashing_keeps_a_key_at_its_node_while_others_come_and_go() {
    let nodes: Vec<SocketAddr> = ["a", "b", "c", "d"].into_iter().map(named_node).collect();
    let gateway = Gateway::start();
    let upstream = |nodes: &[SocketAddr]| {
        let nodes: Vec<_> = nodes.iter().map(|address| (*address, 1, 0)).collect();
        json!({"type": "chash", "hash_on": "header", "key": "X-Key", "nodes": listed(&nodes)})
    };
    let placed = |gateway: &Gateway| {
        let at = |key: u32| request(gateway, "GET", &format!("X-Key: {key}\r\n"));
        (0..40)
            .map(at)
            .map(|(status, body)| if status == 200 { body } else { panic!("{status}") })
            .collect::<Vec<_>>()
    };
    gateway.configure(1, &[("routes", "1", route(&upstream(&nodes)))]);
    let before = placed(&gateway);
    assert_eq!(placed(&gateway), before);
    gateway.configure(2, &[("routes", "1", route(&upstream(&nodes[..3])))]);
    let after = placed(&gateway);
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after || before == "d", "a key of {before} moved to {after}");
    }
    assert!(before.contains(&"d".to_owned()) && !after.contains(&"d".to_owned()));
}

#[test]
fn every_balancer_serves_and_avoids_a_node_that_refuses() {
    let gateway = Gateway::start();
    let (well, dead) = (named_node("well"), refusing());
    for (revision, kind) in (1..).zip(["roundrobin", "chash", "least_conn", "ewma"]) {
        let nodes = listed(&[(well, 1, 0), (dead, 1, 0)]);
        let upstream = json!({"type": kind, "hash_on": "vars", "key": "remote_port", "nodes": nodes});
        gateway.configure(revision, &[("routes", "1", route(&upstream))]);
        assert_eq!(answers(&gateway, 60), only("well", 60), "{kind}");
        // Five refusals in a row on each core, and then it is left alone.
        let node = shown(&gateway, "routes/1", dead);
        assert!(node["breakers"].as_array().unwrap().contains(&json!("open")), "{kind}: {node}");
    }
}

#[test]
fn a_lower_priority_stands_in_and_stands_back() {
    let (first, spare) = (moody("first"), named_node("spare"));
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--workers", "1"]);
    let labels = json!({"ringway.eject-ms": "50", "ringway.eject-failures": "1"});
    let nodes = listed(&[(first.address, 1, 1), (spare, 100, 0)]);
    let timeout = json!({"connect": 1, "send": 1, "read": 1});
    let upstream = json!({"nodes": nodes, "labels": labels, "timeout": timeout});
    gateway.configure(1, &[("routes", "1", route(&upstream))]);
    assert_eq!(answers(&gateway, 10), only("first", 10));
    first.is(HANGING);
    assert_eq!(get(&gateway), (200, "spare".to_owned()), "the next priority is tried");
    first.is(WELL);
    wait_until("the first to serve again", || (get(&gateway).1 == "first").then_some(()));
    assert_eq!(answers(&gateway, 10), only("first", 10));
}

#[test]
fn no_idempotent_request_fails_while_one_node_hangs_closes_and_flaps() {
    let (steady, moody) = (named_node("steady"), moody("moody"));
    let gateway = Gateway::start();
    let nodes = listed(&[(steady, 1, 0), (moody.address, 1, 0)]);
    let upstream = json!({"nodes": nodes, "timeout": {"connect": 1, "send": 1, "read": 0.3}});
    gateway.configure(1, &[("routes", "1", route(&upstream))]);
    for mood in [HANGING, WELL, CLOSING, WELL, HANGING, CLOSING] {
        moody.is(mood);
        // At once, so that a hanging node holds many of them up together.
        let clients: Vec<_> = (0..20)
            .map(|_| {
                let stream = gateway.connect();
                std::thread::spawn(move || exchange(stream))
            })
            .collect();
        for client in clients {
            let (status, body) = client.join().unwrap();
            assert_eq!(status, 200, "mood {mood}: {body}");
        }
    }
}

fn exchange(mut stream: TcpStream) -> (u16, String) {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let (head, body) = read_message_text(&mut BufReader::new(stream)).expect("an answer");
    (head[9..12].parse().unwrap(), String::from_utf8(body).unwrap())
}

#[test]
fn no_idempotent_request_fails_while_a_node_is_killed_and_comes_back() {
    let steady = named_node("steady");
    let gateway = Gateway::start();
    let address = refusing();
    let upstream =
        json!({"nodes": listed(&[(steady, 1, 0), (address, 1, 0)]), "labels": {"ringway.eject-ms": "100"}});
    gateway.configure(1, &[("routes", "1", route(&upstream))]);
    for _ in 0..3 {
        assert_eq!(answers(&gateway, 40), only("steady", 40));
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&address.into()).unwrap();
        socket.listen(128).unwrap();
        let listener = TcpListener::from(socket);
        let serving = std::thread::spawn(move || {
            // One answer a connection, then the connection ends without a word.
            for stream in listener.incoming().take(6) {
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut reader = BufReader::new(stream);
                if read_message_text(&mut reader).is_some() {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nagain";
                    reader.get_mut().write_all(answer).unwrap();
                }
            }
        });
        wait_until("the node to serve again and to be killed", || {
            let (status, _) = get(&gateway);
            assert_eq!(status, 200);
            serving.is_finished().then_some(())
        });
    }
}

#[test]
fn a_request_that_is_not_idempotent_is_sent_once() {
    let (one, other) = (moody("one"), moody("other"));
    one.is(CLOSING);
    other.is(CLOSING);
    let gateway = Gateway::start();
    let upstream = json!({"nodes": listed(&[(one.address, 1, 0), (other.address, 1, 0)])});
    gateway.configure(1, &[("routes", "1", route(&upstream))]);
    assert_eq!(request(&gateway, "POST", "Content-Length: 0\r\n").0, 502);
    assert_eq!(one.requests() + other.requests(), 1);
}

#[test]
fn retries_cannot_melt_a_cluster_down() {
    let (one, other) = (moody("one"), moody("other"));
    one.is(CLOSING);
    other.is(CLOSING);
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--workers", "1"]);
    let upstream = json!({"nodes": listed(&[(one.address, 1, 0), (other.address, 1, 0)])});
    gateway.configure(1, &[("routes", "1", route(&upstream))]);
    for _ in 0..400 {
        assert_eq!(get(&gateway).0, 502);
    }
    let tries = one.requests() + other.requests();
    // A fifth more, what was saved up, and one for each second.
    assert!((400 + 100..400 + 80 + 100 + 60).contains(&tries), "{tries}");
    one.is(WELL);
    other.is(WELL);
    assert_eq!(get(&gateway).0, 200);
}

#[test]
fn an_operator_takes_a_node_out_until_the_configuration_says_otherwise() {
    let (a, b) = (named_node("a"), named_node("b"));
    let gateway = Gateway::start();
    let upstream = |weight: u32| json!({"nodes": listed(&[(a, weight, 0), (b, 1, 0)])});
    gateway.configure(
        1,
        &[("upstreams", "u", upstream(1)), ("routes", "1", json!({"uri": "/*", "upstream_id": "u"}))],
    );
    let waits = |name: &'static str| {
        // Each core hears it at its own moment.
        let all = || (0..24).all(|_| get(&gateway) == (200, name.to_owned()));
        wait_until("the cores to hear it", || all().then_some(()));
    };
    for order in ["drain", "down"] {
        let said = gateway.ctl(&format!("set server u/{a} {order}"));
        assert!(said.contains("until the configuration"), "{said}");
        waits("b");
        let node = shown(&gateway, "u", a);
        assert_eq!((&node["state"], &node["temporary"]), (&json!(order), &json!(order)));
    }
    // Both: nobody is left, however healthy.
    gateway.ctl(&format!("set server upstreams/u/{b} drain"));
    wait_until("nobody to serve", || (get(&gateway).0 == 503).then_some(()));
    gateway.ctl(&format!("set server u/{b} ready"));
    waits("b");
    // Another version that says nothing of the node leaves it alone; another weight does not.
    let route = json!({"uri": "/*", "upstream_id": "u", "desc": "changed"});
    gateway.configure(2, &[("upstreams", "u", upstream(1)), ("routes", "1", route.clone())]);
    assert_eq!(answers(&gateway, 8), only("b", 8));
    gateway.configure(3, &[("upstreams", "u", upstream(7)), ("routes", "1", route)]);
    wait_until("the node to serve again", || answers(&gateway, 8).contains_key("a").then_some(()));
    wait_until("the order to be gone", || shown(&gateway, "u", a).get("temporary").is_none().then_some(()));
    let said = gateway.ctl(&format!("set weight u/{b} 0; set weight u/{a} 3"));
    assert_eq!(said.lines().count(), 2, "{said}");
    waits("a");
    assert_eq!(shown(&gateway, "u", a)["configured_weight"], 7);
    gateway.ctl(&format!("set weight u/{b} configured"));
    wait_until("both to serve", || (answers(&gateway, 20).len() == 2).then_some(()));
    for (command, told) in [
        (format!("set server nope/{a} drain"), "there is no upstream"),
        ("set server u/10.9.9.9:1 drain".to_owned(), "has no node"),
        (format!("set server u/{a} away"), "ready|drain|down"),
    ] {
        let said = gateway.ctl(&command);
        assert!(said.starts_with("error: ") && said.contains(told), "{said}");
    }
}

#[test]
fn nodes_may_be_told_by_name() {
    let seen = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&seen);
    let node = node(move |stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some((head, _)) = read_message_text(&mut reader) {
            *told.lock().unwrap() = head;
            writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        }
    });
    let gateway = Gateway::start();
    let upstream =
        |weight: u32| json!({"nodes": {format!("localhost:{}", node.port()): weight}, "pass_host": "node"});
    let nowhere = json!({"uri": "/nowhere", "upstream": {"nodes": {"nowhere.invalid:80": 1}}});
    let route = json!({"uri": "/", "upstream_id": "u"});
    for revision in 1..=5u32 {
        let upstream = upstream(revision);
        let objects =
            [("upstreams", "u", upstream), ("routes", "1", route.clone()), ("routes", "2", nowhere.clone())];
        gateway.configure(u64::from(revision), &objects);
        // At once, also the first time, when the name has never been looked up.
        for _ in 0..10 {
            assert_eq!(get(&gateway).0, 200, "{}", gateway.ctl("show upstreams"));
        }
        let head = seen.lock().unwrap().clone();
        assert!(head.contains(&format!("\r\nHost: localhost:{}\r\n", node.port())), "{head}");
    }
    wait_until("the present weight", || (shown(&gateway, "u", node)["weight"] == 5).then_some(()));
    let answer = gateway.exchange(b"GET /nowhere HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("no address is known for"), "{answer}");
    let told = gateway.ctl(&format!("set server u/{node} drain"));
    assert!(
        told.contains("drain") && told.contains("or this data plane ends; an upgrade hands it on"),
        "{told}"
    );
    wait_until("the node to be drained", || (0..24).all(|_| get(&gateway).0 == 503).then_some(()));
}

#[test]
fn no_request_goes_to_names_of_before_once_a_change_is_acknowledged() {
    let (a, b) = (named_node("a"), named_node("b"));
    let gateway = Gateway::start();
    let route = json!({"uri": "/", "upstream_id": "u"});
    for revision in 1..=20u64 {
        let (name, node) = if revision % 2 == 0 { ("a", a) } else { ("b", b) };
        let upstream = json!({"nodes": {format!("localhost:{}", node.port()): 1}});
        gateway.configure(revision, &[("upstreams", "u", upstream), ("routes", "1", route.clone())]);
        assert_eq!(get(&gateway), (200, name.to_owned()), "revision {revision}");
        assert_eq!(shown(&gateway, "u", node)["weight"], 1, "operators are told of what is served");
    }
}

#[test]
fn a_name_that_is_new_is_looked_up_before_its_change_is_acknowledged() {
    let (a, b) = (named_node("a"), named_node("b"));
    let gateway = Gateway::start();
    let route = json!({"uri": "/", "upstream_id": "u"});
    for revision in [1, 3, 5] {
        // An upstream without names, so that the name is forgotten.
        let upstream = json!({"nodes": {a.to_string(): 1}});
        gateway.configure(revision, &[("upstreams", "u", upstream), ("routes", "1", route.clone())]);
        assert_eq!(get(&gateway), (200, "a".to_owned()));
        let upstream = json!({"nodes": {format!("localhost:{}", b.port()): 1}});
        gateway.configure(revision + 1, &[("upstreams", "u", upstream), ("routes", "1", route.clone())]);
        assert_eq!(shown(&gateway, "u", b)["weight"], 1, "revision {revision}");
        assert_eq!(get(&gateway), (200, "b".to_owned()));
    }
}

#[test]
fn kept_connections_give_their_descriptors_to_requests_that_lack_one() {
    // With so few descriptors it takes 16 clients, and what is kept for ten upstreams' requests would be more than there are.
    const CLIENTS: usize = 16;
    let gateway = Gateway::start_with_descriptors(140);
    let nodes: Vec<SocketAddr> = (0..10)
        .map(|_| {
            // Answers when all clients ask at once, so that each of them has a connection of its own.
            let all = Arc::new(std::sync::Barrier::new(CLIENTS));
            node(move |stream| {
                let mut writer = stream.try_clone().unwrap();
                let mut reader = BufReader::new(stream);
                while read_message_text(&mut reader).is_some() {
                    all.wait();
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    if writer.write_all(answer).is_err() {
                        return;
                    }
                }
            })
        })
        .collect();
    let ids: Vec<String> = (0..nodes.len()).map(|number| number.to_string()).collect();
    let routes = nodes.iter().zip(&ids).map(|(address, id)| {
        let upstream = json!({"nodes": {address.to_string(): 1}});
        ("routes", id.as_str(), json!({"uri": format!("/{id}"), "upstream": upstream}))
    });
    gateway.configure(1, &routes.collect::<Vec<_>>());
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| gateway.connect()).collect();
    for id in &ids {
        for client in &mut clients {
            client.write_all(format!("GET /{id} HTTP/1.1\r\nHost: h\r\n\r\n").as_bytes()).unwrap();
        }
        for client in &mut clients {
            let (head, body) = read_message_text(&mut BufReader::new(client)).expect("an answer");
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}{}", String::from_utf8_lossy(&body));
        }
    }
    let lacked = gateway.ctl_json("show upstreams");
    for upstream in lacked.as_array().unwrap() {
        assert_eq!(upstream["nodes"][0]["failures"], 0, "{upstream}");
    }
}
