//! A gateway that knows its zone, with real nodes: its own zone's serve, and others when those are gone, over changes and an upgrade.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod stand;

use std::collections::BTreeSet;
use std::io::{BufReader, Write};
use std::net::SocketAddr;

use serde_json::{Value, json};
use stand::{Gateway, named_node, read_message_text, wait_until};

fn upstream(nodes: &[(SocketAddr, &str)], prefer: &str) -> Value {
    let nodes: Vec<Value> = nodes
        .iter()
        .map(|(address, zone)| {
            json!({"host": address.ip().to_string(), "port": address.port(), "weight": 1, "metadata": {"zone": zone}})
        })
        .collect();
    json!({"nodes": nodes, "labels": {"ringway.zone-prefer": prefer}})
}

fn configure(gateway: &Gateway, revision: u64, upstream: Value) {
    let route = json!({"uri": "/*", "upstream_id": "u"});
    gateway.configure(revision, &[("upstreams", "u", upstream), ("routes", "1", route)]);
}

/// Who answers forty requests, of which none may fail.
fn served(gateway: &Gateway) -> BTreeSet<String> {
    let one = |_| {
        let mut stream = gateway.connect();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let (head, body) = read_message_text(&mut BufReader::new(stream)).expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        String::from_utf8(body).unwrap()
    };
    (0..40).map(one).collect()
}

/// What operators said reaches the cores with a tick.
fn wait_for(gateway: &Gateway, names: &[&str]) {
    let want: BTreeSet<String> = names.iter().map(|name| (*name).to_owned()).collect();
    wait_until(&format!("{names:?} to serve"), || (served(gateway) == want).then_some(()));
}

#[test]
fn the_own_zone_serves_and_the_others_stand_in_for_it() {
    let nodes = [
        (named_node("near 1"), "a"),
        (named_node("near 2"), "a"),
        (named_node("far 1"), "b"),
        (named_node("far 2"), "b"),
    ];
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--workers", "1", "--zone", "a"]);
    configure(&gateway, 1, upstream(&nodes, "on"));
    assert_eq!(served(&gateway), ["near 1", "near 2"].map(str::to_owned).into());
    let told = gateway.ctl_json("show upstream u");
    assert_eq!((&told["zone_kept_percent"], &told["nodes"][2]["zone"]), (&json!(100), &json!("b")), "{told}");
    let explained = gateway.ctl_json("explain GET a /");
    let zone = explained["upstream"]["zone"].as_str().unwrap();
    assert!(zone.starts_with("a: 2 of 4 nodes first"), "{explained}");
    assert_eq!(gateway.ctl_json("show info")["zone"], "a");
    // Half of the zone is gone: some requests leave it, so that the other half is not overrun.
    gateway.ctl(&format!("set server u/{} drain", nodes[0].0));
    wait_for(&gateway, &["near 2", "far 1", "far 2"]);
    assert_eq!(gateway.ctl_json("show upstream u")["zone_kept_percent"], 71);
    gateway.ctl(&format!("set server u/{} down", nodes[1].0));
    wait_for(&gateway, &["far 1", "far 2"]);
    gateway.ctl(&format!("set server u/{} ready", nodes[0].0));
    gateway.ctl(&format!("set server u/{} ready", nodes[1].0));
    wait_for(&gateway, &["near 1", "near 2"]);
    // Another configuration, made of this one.
    configure(&gateway, 2, upstream(&nodes[1..], "on"));
    wait_for(&gateway, &["near 2", "far 1", "far 2"]);
    configure(&gateway, 3, upstream(&nodes, "off"));
    assert_eq!(served(&gateway).len(), 4);
}

#[test]
fn a_zone_whose_nodes_are_dead_costs_no_request() {
    let closed = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let nodes = [(closed(), "a"), (closed(), "a"), (named_node("far"), "b")];
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--workers", "1", "--zone", "a"]);
    configure(&gateway, 1, upstream(&nodes, "on"));
    assert_eq!(served(&gateway), ["far".to_owned()].into());
    let unzoned = Gateway::start_in(tempfile::tempdir().unwrap(), &["--workers", "1"]);
    configure(&unzoned, 1, upstream(&nodes, "on"));
    assert_eq!(served(&unzoned), ["far".to_owned()].into());
    let told = unzoned.ctl("show upstream u");
    assert!(told.contains("none is preferred: this gateway was started without --zone"), "{told}");
}
