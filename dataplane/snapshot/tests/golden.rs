//! The bytes of each schema number, written down.
//!
//! A node's planes may be one release apart, and a snapshot on disk outlives the program that wrote it: what a released schema
//! number means may never change. A value with every field set encodes to exactly the committed bytes, and they decode to
//! the value. When this fails, either the change was not meant, or it needs a new schema number with a file of its own;
//! `RINGWAY_GOLDEN_WRITE=1 cargo test -p ringway-snapshot --test golden` writes the file of a number not yet released.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;

use ringway_snapshot::frame::{self, FrameKind};
use ringway_snapshot::message::{Ack, Nack, Peer, Reason, ToControlplane, ToDataplane};
use ringway_snapshot::parse::parse_object;
use ringway_snapshot::version::Refusal;
use ringway_snapshot::{Delta, Digest, Entry, Fault, Snapshot, Version};
use serde_json::{Value, json};

#[test]
fn schema_1_is_what_it_was() {
    let mut golden = Golden::open("schema1.hex", 1);
    messages_of_schema_1(&mut golden);
    golden.close();
}

#[test]
fn schema_2_is_what_schema_1_is_and_has_deltas() {
    let mut golden = Golden::open("schema2.hex", 2);
    messages_of_schema_2(&mut golden);
    golden.close();
}

#[test]
fn schema_3_is_what_schema_2_is_and_has_plugin_configurations_and_global_rules() {
    let mut golden = Golden::open("schema3.hex", 3);
    messages_of_schema_3(&mut golden);
    golden.close();
}

#[test]
fn schema_4_is_what_schema_3_is_and_has_consumers() {
    assert_eq!(frame::SCHEMA, 4, "a new number needs a file of its own, beside the old ones");
    let mut golden = Golden::open("schema4.hex", 4);
    messages_of_schema_3(&mut golden);
    let objects = vec![
        entry("consumers", "jack", &consumer()),
        entry("credentials", "jack/credentials/1", &credential()),
        entry("consumer_groups", "g", &credential()),
    ];
    let with_consumers = Snapshot::new(0x0123_4567_89ab_cdef, 3, 79, objects);
    assert_eq!((with_consumers.schema(), snapshot().schema()), (4, 1));
    golden.check("snapshot with consumers", FrameKind::Disk, &with_consumers);
    let delta = Delta::between(&snapshot(), &with_consumers);
    assert_eq!(delta.schema(), 4);
    assert_eq!(Delta::between(&with_consumers, &snapshot()).schema(), 2, "a removal was always known");
    golden.check("control plane: delta with consumers", FrameKind::ToDataplane, &ToDataplane::Delta(delta));
    golden.close();
}

fn messages_of_schema_3(golden: &mut Golden) {
    messages_of_schema_2(golden);
    let (config, rule) =
        (entry("plugin_configs", "p", &plugin_config()), entry("global_rules", "g", &global_rule()));
    let with_plugins = Snapshot::new(0x0123_4567_89ab_cdef, 3, 78, vec![config, rule]);
    assert_eq!((with_plugins.schema(), snapshot().schema()), (3, 1));
    golden.check("snapshot with plugins", FrameKind::Disk, &with_plugins);
    let delta = Delta::between(&snapshot(), &with_plugins);
    assert_eq!(delta.schema(), 3);
    assert_eq!(Delta::between(&with_plugins, &snapshot()).schema(), 2, "a removal was always known");
    golden.check("control plane: delta with plugins", FrameKind::ToDataplane, &ToDataplane::Delta(delta));
}

fn messages_of_schema_2(golden: &mut Golden) {
    messages_of_schema_1(golden);
    let base = Snapshot::new(0x0123_4567_89ab_cdef, 3, 76, vec![entry("upstreams", "gone", &upstream())]);
    let delta = Delta::between(&base, &snapshot());
    golden.check("control plane: delta", FrameKind::ToDataplane, &ToDataplane::Delta(delta));
    golden.check("data plane: serves", FrameKind::ToControlplane, &ToControlplane::Serves(version()));
    for (name, served) in [("base", Some(version())), ("base, nothing served", None)] {
        let nack = ToControlplane::Nack(Nack { version: version(), reason: Reason::Base(served) });
        golden.check(&format!("data plane: nack, {name}"), FrameKind::ToControlplane, &nack);
    }
}

fn messages_of_schema_1(golden: &mut Golden) {
    golden.check("snapshot on disk", FrameKind::Disk, &snapshot());
    golden.check("control plane: hello", FrameKind::ToDataplane, &ToDataplane::Hello(peer()));
    golden.check("control plane: full", FrameKind::ToDataplane, &ToDataplane::Full(snapshot()));
    golden.check("control plane: ping", FrameKind::ToDataplane, &ToDataplane::Ping);
    let refused = ToDataplane::SourceRefused { version: version(), faults: vec![fault()] };
    golden.check("control plane: source refused", FrameKind::ToDataplane, &refused);
    let hello = ToControlplane::Hello(peer(), Some(version()));
    golden.check("data plane: hello", FrameKind::ToControlplane, &hello);
    let hello = ToControlplane::Hello(peer(), None);
    golden.check("data plane: hello without a version", FrameKind::ToControlplane, &hello);
    golden.check("data plane: ack", FrameKind::ToControlplane, &ToControlplane::Ack(ack()));
    for (name, reason) in reasons() {
        let nack = ToControlplane::Nack(Nack { version: version(), reason });
        golden.check(&format!("data plane: nack, {name}"), FrameKind::ToControlplane, &nack);
    }
    golden.check("data plane: pong", FrameKind::ToControlplane, &ToControlplane::Pong);
}

/// Every variant of every closed set that travels stands at its place: postcard writes the place and not the name.
#[test]
fn schema_1_has_every_variant_at_its_place() {
    let mut golden = Golden::open("schema1-variants.hex", 1);
    let upstream = |field: &str, value: &str| {
        let mut spec = json!({"nodes": {}});
        spec[field] = json!(value);
        entry("upstreams", "u", &spec)
    };
    for value in ["roundrobin", "chash", "ewma", "least_conn"] {
        golden.check(&format!("type {value}"), FrameKind::Disk, &upstream("type", value));
    }
    for value in ["http", "https", "grpc", "grpcs", "tcp", "tls", "udp", "kafka"] {
        golden.check(&format!("scheme {value}"), FrameKind::Disk, &upstream("scheme", value));
    }
    for value in ["pass", "node", "rewrite"] {
        golden.check(&format!("pass_host {value}"), FrameKind::Disk, &upstream("pass_host", value));
    }
    for status in [0, 1] {
        let route = entry("routes", "r", &json!({"uri": "/", "status": status}));
        golden.check(&format!("status {status}"), FrameKind::Disk, &route);
    }
    for kind in ringway_snapshot::Kind::ALL {
        golden.check(&format!("kind {}", kind.name()), FrameKind::Disk, &kind);
    }
    golden.close();
}

fn snapshot() -> Snapshot {
    let entries = vec![
        entry("routes", "r", &route()),
        entry("services", "s", &service()),
        entry("upstreams", "u", &upstream()),
    ];
    Snapshot::new(0x0123_4567_89ab_cdef, 3, 77, entries)
}

fn entry(kind: &str, id: &str, spec: &Value) -> Entry {
    parse_object(kind, id, spec).unwrap()
}

/// Every field of a route; together they would not validate, which is not the question here.
fn route() -> Value {
    json!({
        "name": "n", "desc": "d", "labels": {"a": "1", "b": "2"}, "uri": "/a", "uris": ["/b", "/c/*"], "host": "h",
        "hosts": ["*.i", "j"], "remote_addr": "::1", "remote_addrs": ["10.0.0.0/8"],
        "methods": ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PURGE", "QUERY"],
        "priority": -5, "vars": [["arg_a", "==", 1.5]], "filter_func": "f", "script": {"x": [null, true]},
        "script_id": 9, "plugins": {"p": {"k": [1]}}, "plugin_config_id": "pc", "upstream": upstream(),
        "upstream_id": "u", "service_id": "s", "service_protocol": "grpc",
        "timeout": {"connect": 0.5, "send": 1, "read": 2.25}, "enable_websocket": true, "status": 0,
        "create_time": 1_700_000_000, "update_time": -1
    })
}

fn service() -> Value {
    json!({
        "name": "n", "desc": "d", "labels": {"a": "1"}, "hosts": ["k"], "plugins": {"p": {}}, "upstream": upstream(),
        "upstream_id": "u", "script": "x", "enable_websocket": false, "create_time": 1, "update_time": 2
    })
}

fn plugin_config() -> Value {
    json!({
        "name": "n", "desc": "d", "labels": {"a": "1"}, "plugins": {"p": {"k": [1]}, "q": {}}, "create_time": 1,
        "update_time": 2
    })
}

fn global_rule() -> Value {
    json!({"plugins": {"p": {"k": null}}, "create_time": 1, "update_time": 2})
}

fn consumer() -> Value {
    json!({
        "username": "jack", "desc": "d", "labels": {"custom_id": "1"}, "plugins": {"p": {"k": "v"}, "q": {}}, "group_id": 7,
        "create_time": 1, "update_time": 2
    })
}

/// Of a consumer group too.
fn credential() -> Value {
    json!({
        "name": "n", "desc": "d", "labels": {"a": "1"}, "plugins": {"p": {"k": [1]}}, "create_time": 1, "update_time": 2
    })
}

fn upstream() -> Value {
    json!({
        "name": "n", "desc": "d", "labels": {"a": "1"},
        "nodes": [
            {"host": "10.0.0.1", "port": 8080, "weight": 3, "priority": -2, "metadata": {"zone": "z"}},
            {"host": "::1", "weight": 0}
        ],
        "type": "chash", "hash_on": "header", "key": "k", "checks": {"active": {}}, "retries": 2, "retry_timeout": 0.25,
        "timeout": {"connect": 1, "send": 2, "read": 3}, "scheme": "grpcs", "pass_host": "rewrite", "upstream_host": "x",
        "keepalive_pool": {"size": 1, "idle_timeout": 2.5, "requests": 3}, "tls": {"verify": true}, "service_name": "sn",
        "discovery_type": "dns", "discovery_args": {"a": 1}, "warm_up_conf": {"slow": 2}, "create_time": 1,
        "update_time": 2
    })
}

fn version() -> Version {
    Version {
        lineage: u64::MAX - 1,
        timeline: 2,
        revision: 300,
        digest: Digest(0x0011_2233_4455_6677_8899_aabb_ccdd_eeff),
    }
}

fn peer() -> Peer {
    Peer { node: "n1".into(), build: "0.1.0".into(), schema_min: 1, schema_max: 1 }
}

fn fault() -> Fault {
    Fault { kind: "routes".into(), id: "r".into(), pointer: "/uri".into(), reason: "wrong".into() }
}

fn ack() -> Ack {
    Ack {
        version: version(),
        cores: 4,
        received_us: 1,
        decoded_us: 200,
        compiled_us: 30_000,
        first_core_us: 4_000_000,
        last_core_us: u64::MAX,
    }
}

fn reasons() -> Vec<(&'static str, Reason)> {
    let (current, offered) = (version(), Version { revision: 299, ..version() });
    vec![
        ("other lineage", Reason::Version(Refusal::OtherLineage { current, offered })),
        ("older", Reason::Version(Refusal::Older { current, offered })),
        ("diverged", Reason::Version(Refusal::Diverged { current, offered })),
        ("faults", Reason::Faults(vec![fault(), fault()])),
        ("damaged", Reason::Damaged("cut".into())),
    ]
}

/// A file of lines `name: hex`.
struct Golden {
    path: PathBuf,
    schema: u16,
    committed: Vec<(String, String)>,
    seen: Vec<(String, String)>,
}

impl Golden {
    fn open(name: &str, schema: u16) -> Golden {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let line = |line: &str| line.rsplit_once(": ").map(|(name, hex)| (name.to_owned(), hex.to_owned()));
        Golden { committed: text.lines().filter_map(line).collect(), path, schema, seen: Vec::new() }
    }

    #[track_caller]
    fn check<T>(&mut self, name: &str, kind: FrameKind, value: &T)
    where
        T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + Debug,
    {
        let bytes = frame::encode_as(self.schema, kind, value).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        if !writes() {
            let committed = self.committed.iter().find(|(known, _)| known == name);
            let (_, committed) =
                committed.unwrap_or_else(|| panic!("{name} is not in {}", self.path.display()));
            assert_eq!(&hex, committed, "{name}: the bytes have changed");
            let bytes: Vec<u8> = (0..committed.len() / 2)
                .map(|place| u8::from_str_radix(&committed[place * 2..place * 2 + 2], 16).unwrap())
                .collect();
            assert_eq!(&frame::decode::<T>(kind, &bytes).unwrap(), value, "{name}");
        }
        self.seen.push((name.to_owned(), hex));
    }

    #[track_caller]
    fn close(self) {
        if writes() {
            let lines: String = self.seen.iter().map(|(name, hex)| format!("{name}: {hex}\n")).collect();
            fs::create_dir_all(self.path.parent().unwrap()).unwrap();
            fs::write(&self.path, lines).unwrap();
        } else {
            assert_eq!(self.seen, self.committed, "{} has lines that nothing checks", self.path.display());
        }
    }
}

fn writes() -> bool {
    std::env::var_os("RINGWAY_GOLDEN_WRITE").is_some()
}
