//! Who may call, through the real executable: what nodes hear of consumers, what becomes of keys, what changes and restarts do.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod stand;

use std::io::{BufReader, Write};
use std::net::SocketAddr;

use ringway_snapshot::message::ToControlplane;
use serde_json::{Value, json};
use stand::{Gateway, named_node, node, read_message_text, snapshot, wait_until};

/// A node that answers with what it was sent.
fn echoing_node() -> SocketAddr {
    node(|stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some((head, _)) = read_message_text(&mut reader) {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

fn get(gateway: &Gateway, path: &str, fields: &str) -> String {
    gateway
        .exchange(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{fields}Connection: close\r\n\r\n").as_bytes())
}

fn route(node: SocketAddr, plugins: Value) -> Value {
    let mut route = json!({"uri": "/*", "upstream": {"nodes": {node.to_string(): 1}}});
    route["plugins"] = plugins;
    route
}

fn key(key: &str) -> Value {
    json!({"plugins": {"key-auth": {"key": key}}})
}

#[test]
fn nodes_hear_who_calls_and_not_what_was_hidden() {
    let gateway = Gateway::start();
    let node = echoing_node();
    gateway.configure(
        1,
        &[
            ("routes", "r", route(node, json!({"key-auth": {"hide_credentials": true}}))),
            ("consumers", "jack", json!({"labels": {"custom_id": "c7"}})),
            ("credentials", "jack/credentials/x", key("70707")),
        ],
    );
    for (path, fields) in
        [("/a?b=1&apikey=70707&c", ""), ("/a?b=1&c", "apikey: 70707\r\n"), ("/x/../a?b=1&c&apikey=70707", "")]
    {
        let forged = "X-Consumer-Username: root\r\nx_consumer_custom_id: 1\r\n";
        let answer = get(&gateway, path, &format!("{fields}{forged}"));
        assert!(answer.contains("GET /a?b=1&c HTTP/1.1\r\n"), "{answer}");
        for field in ["X-Consumer-Username: jack", "X-Credential-Identifier: x", "X-Consumer-Custom-ID: c7"] {
            assert!(answer.contains(&format!("{field}\r\n")), "{field}: {answer}");
        }
        assert!(!answer.contains("70707") && !answer.contains("root"), "{answer}");
        assert!(!answer.contains("x_consumer_custom_id"), "{answer}");
    }
    for (fields, message) in
        [("", "Missing API key in request"), ("apikey: 7\r\n", "Invalid API key in request")]
    {
        let answer = get(&gateway, "/a", fields);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
        assert!(answer.contains("WWW-Authenticate: apikey realm=\"key\"\r\n"), "{answer}");
        assert!(answer.ends_with(&format!("\r\n\r\n{{\"message\":\"{message}\"}}\n")), "{answer}");
    }
}

#[test]
fn a_key_that_is_hidden_is_so_however_its_fields_name_is_written() {
    let gateway = Gateway::start();
    let auth = json!({"key-auth": {"header": "x_api_key", "hide_credentials": true}});
    gateway
        .configure(1, &[("routes", "r", route(echoing_node(), auth)), ("consumers", "jack", key("70707"))]);
    for name in ["x_api_key", "X-Api-Key", "x-api_key"] {
        let answer = get(&gateway, "/", &format!("{name}: 70707\r\n"));
        assert!(answer.contains("X-Consumer-Username: jack\r\n"), "{answer}");
        assert!(!answer.contains("70707"), "{name}: {answer}");
    }
}

#[test]
fn a_key_in_the_environment_lets_in_and_one_that_is_not_there_lets_in_nobody() {
    let environment =
        [("JACK_KEY", "70707"), ("JILL", r#"{"user": "u-70708", "password": "70709"}"#), ("SAME", "70707")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let gateway = Gateway::start_with(tempfile::tempdir().unwrap(), &[], &environment);
    let node = echoing_node();
    let jill = json!({"basic-auth": {"username": "$env://JILL/user", "password": "$env://JILL/password"}});
    let mut basic = route(node, json!({"basic-auth": {}}));
    basic["uri"] = json!("/basic");
    let objects = vec![
        ("routes", "r", route(node, json!({"key-auth": {}}))),
        ("routes", "b", basic),
        ("consumers", "gone", key("$ENV://RINGWAY_TEST_NOT_SET")),
        ("consumers", "jack", key("$env://JACK_KEY")),
        ("consumers", "jill", json!({"plugins": jill})),
        ("consumers", "plain", key("plain")),
    ];
    gateway.configure(1, &objects);
    let is_let_in =
        |key: &str| get(&gateway, "/", &format!("apikey: {key}\r\n")).starts_with("HTTP/1.1 200 ");
    assert!(is_let_in("70707") && is_let_in("plain"));
    for key in ["$env://JACK_KEY", "$ENV://RINGWAY_TEST_NOT_SET", "$env://RINGWAY_TEST_NOT_SET", ""] {
        assert!(!is_let_in(key), "{key}");
    }
    // What the variables hold, and the references themselves.
    let basic = |shown: &str| get(&gateway, "/basic", &format!("Authorization: Basic {shown}\r\n"));
    let answer = basic("dS03MDcwODo3MDcwOQ==");
    assert!(answer.contains("X-Consumer-Username: jill\r\n"), "{answer}");
    let answer = basic("JGVudjovL0pJTEwvdXNlcjokZW52Oi8vSklMTC9wYXNzd29yZA==");
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    let told = gateway.ctl_json("show snapshot");
    let why = told["unusable_logins"]["gone"].as_str().unwrap_or_default();
    assert!(why.contains("/plugins/key-auth/key") && why.contains("RINGWAY_TEST_NOT_SET"), "{told}");
    let commands =
        ["show snapshot json", "show consumers json", "show info json", "explain GET h / apikey:x"];
    let shown = commands.map(|command| gateway.ctl(command)).concat();
    for secret in ["70707", "70708", "70709"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    // Of two whose variables hold the same none can be told from the other.
    let mut both = objects.clone();
    both.push(("consumers", "second", key("$env://SAME")));
    gateway.configure(2, &both);
    assert!(!is_let_in("70707") && is_let_in("plain"));
    let told = gateway.ctl_json("show snapshot");
    assert!(told["unusable_logins"]["second"].as_str().unwrap_or_default().contains("the same"), "{told}");
    gateway.configure(3, &objects);
    assert!(is_let_in("70707"));
}

#[test]
fn consumers_come_and_go_with_changes_and_are_there_again_after_a_start() {
    let gateway = Gateway::start();
    let node = echoing_node();
    let auth = ("routes", "r", route(node, json!({"basic-auth": {}})));
    let user = |password: &str| json!({"plugins": {"basic-auth": {"username": "foo", "password": password}}});
    let barred = json!({"plugins": {"ip-restriction": {"blacklist": ["127.0.0.1"]}}});
    let mut member = user("bar");
    member["group_id"] = json!("g");
    let one = snapshot(1, &[auth.clone(), ("consumers", "a", user("bar"))]);
    let two = snapshot(2, &[auth.clone(), ("consumers", "b", user("baz"))]);
    let three = snapshot(3, &[auth, ("consumers", "a", member), ("consumer_groups", "g", barred)]);
    // foo:bar, foo:baz
    let status = |gateway: &Gateway| {
        ["Zm9vOmJhcg==", "Zm9vOmJheg=="].map(|pair| {
            let answer = get(gateway, "/", &format!("Authorization: Basic {pair}\r\n"));
            answer.get(9..12).unwrap_or_default().to_owned()
        })
    };
    let mut feed = gateway.feed();
    assert!(matches!(feed.offer(one.clone()), ToControlplane::Ack(_)));
    assert_eq!(status(&gateway), ["200", "401"]);
    assert!(matches!(feed.offer_delta(&one, &two), ToControlplane::Ack(_)));
    assert_eq!(status(&gateway), ["401", "200"]);
    assert!(matches!(feed.offer_delta(&two, &three), ToControlplane::Ack(_)));
    assert_eq!(status(&gateway), ["403", "401"]);
    wait_until("the configuration on disk", || {
        let told = gateway.ctl_json("show info");
        (told["saved_version"] == told["version"]).then_some(())
    });
    let again = Gateway::start_in(gateway.kill(), &[]);
    assert_eq!(status(&again), ["403", "401"]);
}

#[test]
fn a_consumers_requests_stay_at_one_node() {
    let gateway = Gateway::start();
    let nodes: Vec<SocketAddr> = ["n0", "n1", "n2", "n3"].map(named_node).into();
    let list: serde_json::Map<String, Value> =
        nodes.iter().map(|node| (node.to_string(), json!(1))).collect();
    let upstream = json!({"type": "chash", "hash_on": "consumer", "nodes": list});
    let mut objects = vec![(
        "routes",
        "r".to_owned(),
        json!({"uri": "/", "upstream": upstream, "plugins": {"key-auth": {}}}),
    )];
    objects.extend((0..20).map(|n| ("consumers", format!("c{n}"), key(&format!("k{n}")))));
    let objects: Vec<_> = objects.iter().map(|(kind, id, spec)| (*kind, id.as_str(), spec.clone())).collect();
    gateway.configure(1, &objects);
    let node_of = |n: i32| {
        let answer = get(&gateway, "/", &format!("apikey: k{n}\r\n"));
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    let first: Vec<String> = (0..20).map(node_of).collect();
    let second: Vec<String> = (0..20).map(node_of).collect();
    assert_eq!(first, second);
    let used: std::collections::BTreeSet<&String> = first.iter().collect();
    assert!(used.len() > 1, "{first:?}");
}

#[test]
fn no_key_is_told_by_the_admin_socket_or_in_logs() {
    let gateway = Gateway::start();
    let node = named_node("n");
    let objects = [
        ("routes", "r", route(node, json!({"key-auth": {}}))),
        ("consumers", "jack", key("70707")),
        (
            "credentials",
            "jack/credentials/1",
            json!({"plugins": {"basic-auth": {"username": "j", "password": "70708"}}}),
        ),
    ];
    gateway.configure(1, &objects);
    for question in [
        "show objects consumers",
        "show objects credentials",
        "show snapshot",
        "show info",
        "explain GET h / apikey:70707",
    ] {
        let told = gateway.ctl(question) + &gateway.ctl_json(question).to_string();
        assert!(!told.contains("70707") && !told.contains("70708"), "{question}: {told}");
    }
    assert_eq!(
        gateway.ctl_json("show objects consumers")["objects"][0]["value"]["plugins"]["key-auth"]["key"],
        "(hidden)"
    );
    // Two that cannot be told apart are refused, with both names and without what they share.
    let twice = [objects[1].clone(), ("consumers", "jill", key("70707"))];
    let ToControlplane::Nack(nack) = gateway.feed().offer(snapshot(2, &twice)) else { panic!("taken") };
    let text = format!("{nack:?}");
    assert!(text.contains("jill") && text.contains("consumer: jack") && !text.contains("70707"), "{text}");
}
