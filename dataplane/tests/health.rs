//! Health checks with real sockets: probes and requests take nodes out and bring them back, over changes of the configuration.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod stand;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering::SeqCst};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::{Value, json};
use stand::{Gateway, PATIENCE, node, read_message_text, wait_until};

/// A node whose statuses can be changed, and that counts probes.
#[derive(Clone)]
struct Node {
    address: SocketAddr,
    /// Of probes; 0: none is answered.
    health: Arc<AtomicU16>,
    /// Of requests.
    status: Arc<AtomicU16>,
    probes: Arc<AtomicU32>,
}

fn start(name: &'static str) -> Node {
    let (health, status) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicU16::new(200)));
    let probes = Arc::new(AtomicU32::new(0));
    let (own_health, own_status, own_probes) =
        (Arc::clone(&health), Arc::clone(&status), Arc::clone(&probes));
    let address = node(move |stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some((head, _)) = read_message_text(&mut reader) {
            let is_probe = head.starts_with("GET /status HTTP/1.1\r\n");
            let status = if is_probe { &own_health } else { &own_status }.load(SeqCst);
            if is_probe {
                own_probes.fetch_add(1, SeqCst);
                assert!(
                    head.contains("\r\nHost: foo.com\r\n") && head.contains("\r\nX-Probe: 1\r\n"),
                    "{head}"
                );
            }
            if status == 0 {
                // Until the gateway gives up.
                let _ = read_message_text(&mut reader);
                return;
            }
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{name}", name.len());
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    Node { address, health, status, probes }
}

fn checks() -> Value {
    json!({"active": {
        "http_path": "/status", "host": "foo.com", "timeout": 0.5, "req_headers": ["X-Probe: 1"],
        "healthy": {"interval": 1, "successes": 1}, "unhealthy": {"interval": 1, "http_failures": 2, "timeouts": 1}
    }})
}

fn configure(gateway: &Gateway, revision: u64, nodes: &[&Node], checks: &Value) {
    let nodes: Vec<Value> = nodes
        .iter()
        .map(|node| json!({"host": node.address.ip().to_string(), "port": node.address.port(), "weight": 1}))
        .collect();
    let upstream = json!({"nodes": nodes, "checks": checks});
    let route = json!({"uri": "/*", "upstream_id": "u"});
    gateway.configure(revision, &[("upstreams", "u", upstream), ("routes", "1", route)]);
}

fn get(gateway: &Gateway) -> (u16, String) {
    let mut stream = gateway.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let (head, body) = read_message_text(&mut BufReader::new(stream)).expect("an answer");
    (head[9..12].parse().unwrap(), String::from_utf8(body).unwrap())
}

fn state_of(gateway: &Gateway, address: SocketAddr) -> String {
    let told = gateway.ctl_json("show upstream u");
    let nodes = told["nodes"].as_array().unwrap_or_else(|| panic!("{told}"));
    let node =
        nodes.iter().find(|node| node["address"] == address.to_string()).unwrap_or_else(|| panic!("{told}"));
    node["state"].as_str().unwrap().to_owned()
}

fn wait_for(gateway: &Gateway, node: SocketAddr, state: &str) {
    wait_until(&format!("{node} to be {state}"), || (state_of(gateway, node) == state).then_some(()));
}

/// The cores hear of it a moment after the operator can see it.
fn wait_for_only(gateway: &Gateway, name: &str) {
    wait_until(&format!("only {name} to serve"), || {
        (0..8).all(|_| get(gateway) == (200, name.to_owned())).then_some(())
    });
}

#[test]
fn probes_take_a_node_out_and_bring_it_back() {
    let (good, ill) = (start("good"), start("ill"));
    let gateway = Gateway::start();
    configure(&gateway, 1, &[&good, &ill], &checks());
    for status in [500, 0] {
        ill.health.store(status, SeqCst);
        wait_for(&gateway, ill.address, "unhealthy");
        wait_for_only(&gateway, "good");
        ill.health.store(200, SeqCst);
        wait_for(&gateway, ill.address, "ready");
        wait_until("both to serve", || (get(&gateway).1 == "ill").then_some(()));
    }
}

#[test]
fn an_unhealthy_node_stays_out_over_changes_and_one_that_is_gone_is_not_probed() {
    let (good, ill, new) = (start("good"), start("ill"), start("new"));
    let gateway = Gateway::start();
    configure(&gateway, 1, &[&good, &ill], &checks());
    ill.health.store(503, SeqCst);
    wait_for(&gateway, ill.address, "unhealthy");
    wait_for_only(&gateway, "good");
    // Another node joins: not one request goes to the ill one.
    configure(&gateway, 2, &[&good, &ill, &new], &checks());
    for _ in 0..60 {
        assert_ne!(get(&gateway).1, "ill");
    }
    // It goes, and the upstream with it, and comes back: still not one.
    configure(&gateway, 3, &[&good], &checks());
    let probed = new.probes.load(SeqCst).max(1);
    wait_until("a tick, in which probes that were under way may still come", || {
        (good.probes.load(SeqCst) > 3).then_some(())
    });
    let (ill_probes, good_probes) = (ill.probes.load(SeqCst), good.probes.load(SeqCst));
    wait_until("more probes of the node that stays", || {
        (good.probes.load(SeqCst) >= good_probes + 2).then_some(())
    });
    assert_eq!(ill.probes.load(SeqCst), ill_probes, "probed although it is gone");
    assert!(new.probes.load(SeqCst) <= probed + 1);
    gateway.configure(4, &[]);
    configure(&gateway, 5, &[&good, &ill], &checks());
    wait_for(&gateway, ill.address, "unhealthy");
    wait_for_only(&gateway, "good");
    ill.health.store(200, SeqCst);
    wait_for(&gateway, ill.address, "ready");
}

#[test]
fn requests_take_a_node_out_and_when_nobody_is_healthy_everybody_serves() {
    let (good, ill) = (start("good"), start("ill"));
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--workers", "1"]);
    let mut checks = checks();
    checks["active"]["healthy"] = json!({"interval": 3600, "successes": 1});
    checks["active"]["unhealthy"] = json!({"interval": 3600});
    checks["passive"] = json!({"unhealthy": {"http_statuses": [500], "http_failures": 3}});
    configure(&gateway, 1, &[&good, &ill], &checks);
    ill.status.store(500, SeqCst);
    wait_until("the ill node to be out", || {
        get(&gateway);
        (state_of(&gateway, ill.address) == "unhealthy").then_some(())
    });
    wait_for_only(&gateway, "good");
    good.status.store(500, SeqCst);
    wait_until("both to be out", || {
        get(&gateway);
        (state_of(&gateway, good.address) == "unhealthy").then_some(())
    });
    wait_until("both to serve", || (get(&gateway) == (500, "ill".to_owned())).then_some(()));
    wait_until("both to serve", || (get(&gateway) == (500, "good".to_owned())).then_some(()));
}

#[test]
fn a_connection_is_enough_for_tcp_checks_on_another_port() {
    let (good, ill) = (start("good"), start("ill"));
    let gateway = Gateway::start();
    let door = TcpListener::bind("127.0.0.1:0").unwrap();
    let checks = |port: u16| json!({"active": {"type": "tcp", "port": port, "unhealthy": {"tcp_failures": 1}, "healthy": {"successes": 1}}});
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    configure(&gateway, 1, &[&good, &ill], &checks(door.local_addr().unwrap().port()));
    wait_until("a probe", || door.accept().ok());
    configure(&gateway, 2, &[&good, &ill], &checks(closed));
    wait_for(&gateway, good.address, "unhealthy");
    assert_eq!(get(&gateway).0, 200, "nobody is healthy, so everybody serves");
    configure(&gateway, 3, &[&good, &ill], &checks(door.local_addr().unwrap().port()));
    wait_for(&gateway, good.address, "ready");
}

/// An operator's connection that stays open: where no descriptor is left there would be no other one.
struct Operator(BufReader<UnixStream>);

impl Operator {
    fn of(gateway: &Gateway) -> Operator {
        let mut stream = UnixStream::connect(gateway.folder.path().join("admin.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"prompt\n").unwrap();
        let mut operator = Operator(BufReader::new(stream));
        operator.reply();
        operator
    }

    fn ask(&mut self, command: &str) -> String {
        self.0.get_mut().write_all(format!("{command}\n").as_bytes()).unwrap();
        self.reply()
    }

    /// Up to the next prompt.
    fn reply(&mut self) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"> ") {
            assert!(self.0.read_until(b' ', &mut bytes).unwrap() > 0, "the connection ended");
        }
        String::from_utf8(bytes).unwrap()
    }
}

#[test]
fn a_gateway_without_descriptors_does_not_take_its_nodes_for_ill() {
    let well = start("well");
    let gateway = Gateway::start();
    let mut quick = checks();
    quick["active"]["unhealthy"] = json!({"interval": 1, "tcp_failures": 1, "timeouts": 1});
    configure(&gateway, 1, &[&well], &quick);
    let mut operator = Operator::of(&gateway);
    let mut wait_for = |last: &str| {
        wait_until(last, || operator.ask("show upstream u").contains(last).then_some(()));
    };
    wait_for("\"last_probe\":200");
    let pid = Pid::from_raw(i32::try_from(gateway.pid()).unwrap());
    let none = Rlimit { current: Some(3), ..getrlimit(Resource::Nofile) };
    let before = prlimit(pid, Resource::Nofile, none).unwrap();
    wait_for("\"last_probe\":\"not made: the gateway has no file descriptor left\"");
    prlimit(pid, Resource::Nofile, before).unwrap();
    wait_for("\"last_probe\":200");
    let history = gateway.ctl(&format!("show health u/{} history", well.address));
    assert!(history.contains("no change"), "{history}");
}
