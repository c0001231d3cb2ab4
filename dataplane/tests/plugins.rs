//! Conditions of routes and plugins, through the real executable: which node gets what, what goes aside, what the client sees.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod stand;

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use ringway_snapshot::message::ToControlplane;
use serde_json::{Value, json};
use stand::{Gateway, named_node, node, read_message_text, snapshot, wait_until};

fn at(address: SocketAddr) -> Value {
    json!({"nodes": {address.to_string(): 1}})
}

/// A node that answers with what it was sent, and remembers it.
fn echoing_node() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let own = Arc::clone(&seen);
    let address = node(move |stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some((head, body)) = read_message_text(&mut reader) {
            let text = format!("{head}{}", String::from_utf8_lossy(&body));
            own.lock().unwrap().push(text.clone());
            let answer = format!(
                "HTTP/1.1 200 OK\r\nX-Node: echo\r\nETag: 1\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            );
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    (address, seen)
}

fn get(gateway: &Gateway, path: &str, fields: &str) -> String {
    gateway
        .exchange(format!("GET {path} HTTP/1.1\r\nHost: h\r\n{fields}Connection: close\r\n\r\n").as_bytes())
}

fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}")).1
}

#[test]
fn a_route_whose_vars_do_not_hold_leaves_the_request_to_the_next() {
    let gateway = Gateway::start();
    let (canary, usual) = (named_node("canary"), named_node("usual"));
    gateway.configure(
        1,
        &[
            (
                "routes",
                "canary",
                json!({"uri": "/a", "priority": 1, "upstream": at(canary), "vars": [
                "OR", ["http_x_canary", "==", "1"], ["arg_v", ">=", 2], ["cookie_v", "~~", "^new"]]}),
            ),
            ("routes", "usual", json!({"uri": "/a", "upstream": at(usual)})),
        ],
    );
    for (path, fields, want) in [
        ("/a", "X-Canary: 1\r\n", "canary"),
        ("/a?v=3", "", "canary"),
        ("/a", "Cookie: a=b; v=newest\r\n", "canary"),
        ("/a?v=1", "X-Canary: 2\r\n", "usual"),
    ] {
        assert_eq!(body_of(&get(&gateway, path, fields)), want, "{path} {fields}");
    }
    let told = gateway.ctl_json("explain GET h /a X-Canary:2");
    assert_eq!(
        (&told["route"], &told["steps"][1]["outcome"]),
        (&json!("usual"), &json!("vars do not hold")),
        "{told}"
    );
    assert_eq!(gateway.ctl_json("explain GET h /a X-Canary:1")["route"], "canary");
}

#[test]
fn shares_of_a_routes_requests_go_to_other_upstreams_and_follow_changes() {
    let gateway = Gateway::start();
    let (own, inline, named, next) =
        (named_node("own"), named_node("inline"), named_node("named"), named_node("next"));
    let objects = |inline: SocketAddr| {
        let rules = json!([{"match": [{"vars": [["arg_a", "==", "1"]]}], "weighted_upstreams": [
            {"upstream": at(inline), "weight": 2}, {"upstream_id": "u", "weight": 1}, {"weight": 1}]}]);
        [
            ("upstreams", "u", at(named)),
            (
                "routes",
                "r",
                json!({"uri": "/*", "upstream": at(own), "plugins": {"traffic-split": {"rules": rules}}}),
            ),
        ]
    };
    let count = |path: &str| {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..80 {
            *counts.entry(body_of(&get(&gateway, path, "")).to_owned()).or_default() += 1;
        }
        counts
    };
    gateway.configure(1, &objects(inline));
    let counts = count("/?a=1");
    for (name, due) in [("inline", 40), ("named", 20), ("own", 20)] {
        // Each core counts its turns for itself.
        assert!(counts.get(name).is_some_and(|count| count.abs_diff(due) <= 8), "{counts:?}");
    }
    assert_eq!(count("/"), BTreeMap::from([("own".to_owned(), 80)]));
    gateway.configure(2, &objects(next));
    let counts = count("/?a=1");
    assert!(counts.contains_key("next") && !counts.contains_key("inline"), "{counts:?}");
    let keys = gateway.ctl_json("show upstreams").to_string();
    assert!(keys.contains("routes/r/traffic-split.0"), "{keys}");
}

#[test]
fn copies_go_aside_and_nobody_waits_for_them() {
    let gateway = Gateway::start();
    let (mirror, seen) = echoing_node();
    let main = named_node("main");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let route =
        |uri: &str, conf: Value| json!({"uri": uri, "upstream": at(main), "plugins": {"proxy-mirror": conf}});
    let host = |address: SocketAddr| format!("http://{address}");
    gateway.configure(
        1,
        &[
            ("routes", "a", route("/a*", json!({"host": host(mirror)}))),
            (
                "routes",
                "b",
                route("/b*", json!({"host": host(mirror), "path": "/in", "path_concat_mode": "prefix"})),
            ),
            ("routes", "c", route("/c*", json!({"host": host(mirror), "path": "/other"}))),
            ("routes", "d", route("/d", json!({"host": host(silent.local_addr().unwrap())}))),
            ("routes", "e", route("/e", json!({"host": host(refusing)}))),
        ],
    );
    let post = "POST /a/x?y=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nX-Mine: 7\r\nX-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nConnection: close\r\n\r\nhello";
    assert_eq!(body_of(&gateway.exchange(post.as_bytes())), "main");
    for path in ["/b?q", "/c?q"] {
        assert_eq!(body_of(&get(&gateway, path, "")), "main");
    }
    let copies =
        wait_until("three copies", || Some(seen.lock().unwrap().clone()).filter(|seen| seen.len() == 3));
    let one = |start: &str| {
        copies.iter().find(|copy| copy.starts_with(start)).unwrap_or_else(|| panic!("{start}: {copies:?}"))
    };
    let copy = one("POST /a/x?y=1 ");
    assert!(copy.ends_with("\r\n\r\nhello") && copy.contains("X-Mine: 7\r\n"), "{copy}");
    assert!(copy.contains(&format!("Host: {mirror}\r\n")) && !copy.contains("6.6.6.6"), "{copy}");
    one("GET /in/b?q ");
    one("GET /other?q ");
    // One mirror takes connections and never answers, the other one refuses them.
    for path in ["/d", "/e"] {
        for _ in 0..20 {
            assert_eq!(body_of(&get(&gateway, path, "")), "main");
        }
    }
}

#[test]
fn the_node_and_the_client_see_what_plugins_rewrote() {
    let gateway = Gateway::start();
    let (node, seen) = echoing_node();
    let rewrite = json!({"regex_uri": ["^/old/(.*)", "/new/$1"], "host": "up.example", "headers": {
        "set": {"X-Client": "$remote_addr"}, "add": {"X-More": "1"}, "remove": ["X-Secret"]}});
    gateway.configure(
        1,
        &[
            ("routes", "a", json!({"uri": "/old/*", "upstream": at(node), "plugins": {"proxy-rewrite": rewrite}})),
            ("routes", "b", json!({"uri": "/b", "upstream": at(node), "plugins": {"response-rewrite":
                {"status_code": 201, "body": "other", "headers": {"set": {"X-Set": "$request_method"}, "remove": ["X-Node"]}}}})),
            ("routes", "c", json!({"uri": "/c", "upstream": at(node)})),
        ],
    );
    let text = get(&gateway, "/old/a%20b?q=1", "X-Secret: s\r\n");
    let sent = body_of(&text);
    for part in [
        "GET /new/a%20b?q=1 HTTP/1.1\r\n",
        "Host: up.example\r\n",
        "X-Client: 127.0.0.1\r\n",
        "X-More: 1\r\n",
    ] {
        assert!(sent.contains(part), "{part}: {sent}");
    }
    assert!(!sent.contains("X-Secret"), "{sent}");
    // Three requests on one connection: what was decided for one does not touch the next.
    let mut stream = gateway.connect();
    for (request, status, body) in [
        ("GET /b HTTP/1.1\r\nHost: h\r\n\r\n", "201 Created", "other"),
        ("POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", "201 Created", "other"),
        ("GET /c HTTP/1.1\r\nHost: h\r\n\r\n", "200 OK", ""),
    ] {
        stream.write_all(request.as_bytes()).unwrap();
        let (head, found) = read_message_text(&mut BufReader::new(&mut stream)).unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
        let is_changed = head.contains("X-Set: ") && !head.contains("X-Node") && !head.contains("ETag");
        assert_eq!(is_changed, !body.is_empty(), "{head}");
        assert!(body.is_empty() || found == body.as_bytes(), "{found:?}");
    }
    assert_eq!(seen.lock().unwrap().len(), 4);
    let head = gateway.exchange(b"HEAD /b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert!(head.contains("Content-Length: 5\r\n") && head.ends_with("\r\n\r\n"), "{head}");
}

#[test]
fn an_answer_that_no_node_gave_is_rewritten_by_its_own_request_and_not_by_what_follows_it() {
    let gateway = Gateway::start();
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rewrite =
        json!({"headers": {"set": {"X-Set": "$arg_a $http_x_mine"}}, "vars": [["arg_a", "!", "==", "3"]]});
    let route = json!({"uri": "/a", "upstream": at(refusing), "plugins": {"response-rewrite": rewrite}});
    gateway.configure(1, &[("routes", "a", route)]);
    let mut stream = gateway.connect();
    let request = |number: u32, body: &str| {
        format!(
            "POST /a?a={number} HTTP/1.1\r\nHost: h\r\nX-Mine: m{number}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    stream.write_all([request(1, "abc"), request(2, ""), request(3, "")].concat().as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    for wanted in [Some("X-Set: 1 m1\r\n"), Some("X-Set: 2 m2\r\n"), None] {
        let (head, _) = read_message_text(&mut reader).unwrap();
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
        assert_eq!(wanted.is_some(), head.contains("X-Set"), "{head}");
        assert!(wanted.is_none_or(|wanted| head.contains(wanted)), "{head}");
    }
}

#[test]
fn plugins_of_configurations_services_and_global_rules_are_merged_and_boot_from_disk() {
    let gateway = Gateway::start();
    let (node, _) = echoing_node();
    let set = |name: &str, value: &str| json!({"response-rewrite": {"headers": {"set": {name: value}}}});
    let objects = |value: &str| {
        [
            ("services", "s", json!({"upstream": at(node), "plugins": set("X-From", "service")})),
            ("plugin_configs", "p", json!({"plugins": set("X-From", value)})),
            ("global_rules", "g", json!({"plugins": set("X-Global", "yes")})),
            ("routes", "a", json!({"uri": "/a", "service_id": "s"})),
            ("routes", "b", json!({"uri": "/b", "service_id": "s", "plugin_config_id": "p"})),
            (
                "routes",
                "c",
                json!({"uri": "/c", "service_id": "s", "plugin_config_id": "p", "plugins": set("X-From", "route")}),
            ),
        ]
    };
    let check = |gateway: &Gateway, value: &str| {
        for (path, from) in [("/a", "service"), ("/b", value), ("/c", "route")] {
            let answer = get(gateway, path, "");
            assert!(answer.contains(&format!("X-From: {from}\r\n")), "{path}: {answer}");
            assert!(answer.contains("X-Global: yes\r\n"), "{path}: {answer}");
        }
        let none = get(gateway, "/none", "");
        assert!(none.starts_with("HTTP/1.1 404 ") && none.contains("X-Global: yes\r\n"), "{none}");
    };
    let (one, two) = (snapshot(1, &objects("one")), snapshot(2, &objects("two")));
    let mut feed = gateway.feed();
    assert!(matches!(feed.offer(one.clone()), ToControlplane::Ack(_)));
    check(&gateway, "one");
    assert!(matches!(feed.offer_delta(&one, &two), ToControlplane::Ack(_)));
    check(&gateway, "two");
    assert_eq!(
        gateway.ctl_json("explain GET h /c")["plugins"],
        json!(["response-rewrite", "response-rewrite"])
    );
    wait_until("the configuration on disk", || {
        let told = gateway.ctl_json("show info");
        (told["saved_version"] == told["version"]).then_some(())
    });
    let again = Gateway::start_in(gateway.kill(), &[]);
    check(&again, "two");
}

#[test]
fn the_node_and_other_plugins_see_who_the_client_is_behind_a_proxy() {
    let gateway = Gateway::start();
    let (node, seen) = echoing_node();
    let plugins = json!({"real-ip": {"source": "http_x_forwarded_for", "trusted_addresses": ["127.0.0.0/8"]},
        "ip-restriction": {"blacklist": ["9.9.9.9"]}, "cors": {"allow_origins": "http://a"}});
    gateway.configure(1, &[("routes", "r", json!({"uri": "/*", "upstream": at(node), "plugins": plugins}))]);
    let refused = get(&gateway, "/", "X-Forwarded-For: 9.9.9.9\r\nOrigin: http://a\r\n");
    assert!(refused.starts_with("HTTP/1.1 403 "), "{refused}");
    assert!(
        refused.contains("Access-Control-Allow-Origin: http://a\r\n") && refused.contains("Vary: Origin\r\n")
    );
    get(&gateway, "/", "X-Forwarded-For: 1.2.3.4\r\n");
    get(&gateway, "/", "");
    let seen = seen.lock().unwrap();
    let [behind, direct] = &seen[..] else { panic!("{seen:?}") };
    assert!(behind.contains("X-Real-IP: 1.2.3.4\r\n"), "{behind}");
    assert!(behind.contains("X-Forwarded-For: 1.2.3.4, 1.2.3.4\r\n"), "{behind}");
    assert!(direct.contains("X-Real-IP: 127.0.0.1\r\n"), "{direct}");
}

#[test]
fn plugins_know_their_route_and_what_its_node_said() {
    let gateway = Gateway::start();
    let (node, _) = echoing_node();
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let plugins = json!({"response-rewrite": {
        "headers": {"set": {"X-Of": "$route_id,$route_name,$service_id,$upstream_status"}}}});
    let rule = json!({"plugins": {"redirect": {"uri": "/at/$route_id", "_meta": {"filter": [["arg_to", "==", "1"]]}}}});
    gateway.configure(
        1,
        &[
            ("services", "s", json!({"plugins": plugins})),
            ("global_rules", "g", rule),
            ("routes", "a", json!({"uri": "/a", "name": "first", "service_id": "s", "upstream": at(node)})),
            ("routes", "b", json!({"uri": "/b", "service_id": "s", "upstream": at(refusing)})),
            ("routes", "c", json!({"uri": "/c", "service_id": "s"})),
        ],
    );
    for (path, told) in [("/a", "a,first,s,200"), ("/b", "b,,s,502"), ("/c", "c,,s,")] {
        let answer = get(&gateway, path, "");
        assert!(answer.contains(&format!("X-Of: {told}\r\n")), "{path}: {answer}");
    }
    assert!(get(&gateway, "/a?to=1", "").contains("Location: /at/a\r\n"));
    assert!(get(&gateway, "/none?to=1", "").contains("Location: /at/\r\n"));
}

#[test]
fn who_is_trusted_may_say_how_the_request_came() {
    let (node, seen) = echoing_node();
    let route = [("routes", "r", json!({"uri": "/*", "upstream": at(node)}))];
    let fields = "X-Forwarded-Proto: https\r\nX-Forwarded-Host: shop\r\n";
    for (trusted, proto, host) in [("10.0.0.0/8", "http", "h"), ("10.0.0.0/8,127.0.0.1", "https", "shop")] {
        let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--trusted-addresses", trusted]);
        gateway.configure(1, &route);
        get(&gateway, "/", fields);
        let sent = seen.lock().unwrap().pop().unwrap();
        let count = sent.matches("X-Forwarded-Proto: ").count();
        assert_eq!(count, 1, "{sent}");
        assert!(sent.contains(&format!("X-Forwarded-Proto: {proto}\r\n")), "{trusted}: {sent}");
        assert!(sent.contains(&format!("X-Forwarded-Host: {host}\r\n")), "{trusted}: {sent}");
    }
}

#[test]
fn of_two_upstreams_the_one_that_is_named_counts() {
    let gateway = Gateway::start();
    let (named, own) = (named_node("named"), named_node("own"));
    gateway.configure(
        1,
        &[
            ("upstreams", "u", at(named)),
            ("services", "s", json!({"upstream": at(own), "upstream_id": "u"})),
            ("routes", "a", json!({"uri": "/a", "upstream": at(own), "upstream_id": "u"})),
            ("routes", "b", json!({"uri": "/b", "service_id": "s"})),
            ("routes", "c", json!({"uri": "/c", "service_id": "s", "upstream": at(own)})),
        ],
    );
    for (path, node) in [("/a", "named"), ("/b", "named"), ("/c", "own")] {
        assert_eq!(body_of(&get(&gateway, path, "")), node, "{path}");
    }
}

#[test]
fn a_plugin_that_is_wrong_is_refused_with_its_place() {
    let gateway = Gateway::start();
    let wrong = json!({"uri": "/", "plugins": {"proxy-rewrite": {"uri": "no slash"}, "nope": {}}});
    let ToControlplane::Nack(nack) = gateway.feed().offer(snapshot(1, &[("routes", "r", wrong)])) else {
        panic!()
    };
    let text = format!("{:?}", nack.reason);
    assert!(text.contains("/plugins/proxy-rewrite/uri") && text.contains("unknown plugin [nope]"), "{text}");
}

#[test]
fn texts_in_bodies_are_replaced_whole_however_they_come_and_too_long_ones_are_an_error() {
    let gateway = Gateway::start();
    let (echo, seen) = echoing_node();
    let chunked = node(|stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some((head, _)) = read_message_text(&mut reader) {
            let length = if head.contains("/long") { 300_000 } else { 3 };
            let mut answer =
                b"HTTP/1.1 200 OK\r\nLast-Modified: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            for _ in 0..4 {
                answer.extend_from_slice(format!("{length:x}\r\n{}\r\n", "s".repeat(length)).as_bytes());
            }
            answer.extend_from_slice(b"6\r\nsecret\r\n0\r\n\r\n");
            if writer.write_all(&answer).is_err() {
                return;
            }
        }
    });
    let filters = |regex: &str, replace: &str| {
        json!({"response-rewrite": {"filters": [
        {"regex": regex, "replace": replace, "scope": "global"}, {"regex": "SECRET", "replace": "-", "options": "i"}]}})
    };
    gateway.configure(
        1,
        &[
            (
                "routes",
                "a",
                json!({"uri": "/a", "upstream": at(echo), "plugins": filters("^GET (\\S+)", "got $1")}),
            ),
            (
                "routes",
                "b",
                json!({"uri": "/b/*", "upstream": at(chunked), "plugins": filters("s{3,}", "$0!")}),
            ),
            ("routes", "c", json!({"uri": "/c", "plugins": filters("route c", "no route")})),
        ],
    );
    let answer = get(&gateway, "/a", "Accept-Encoding: gzip\r\n");
    assert!(body_of(&answer).starts_with("got /a HTTP/1.1\r\n"), "{answer}");
    assert!(!answer.contains("ETag") && answer.contains("X-Node: echo"), "{answer}");
    let sent = seen.lock().unwrap().concat();
    assert!(sent.contains("Accept-Encoding: identity\r\n") && !sent.contains("gzip"), "{sent}");
    let mut stream = gateway.connect();
    for _ in 0..2 {
        stream.write_all(b"GET /b/short HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let (head, body) = read_message_text(&mut BufReader::new(&mut stream)).unwrap();
        assert_eq!(String::from_utf8_lossy(&body), format!("{}!ecret", "s".repeat(13)));
        assert!(head.contains("Content-Length: 19\r\n") && !head.contains("Last-Modified"), "{head}");
    }
    let long = get(&gateway, "/b/long", "");
    assert!(long.starts_with("HTTP/1.1 502 ") && long.contains("body too large"), "{long}");
    let own = get(&gateway, "/c", "");
    assert!(own.starts_with("HTTP/1.1 503 ") && own.contains("no route names no upstream"), "{own}");
}

#[test]
fn what_is_filtered_is_no_part_of_something_and_has_no_digest_of_what_it_was() {
    let gateway = Gateway::start();
    let node = node(|stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some((head, _)) = read_message_text(&mut reader) {
            let answer: &[u8] = if head.contains("Range: ") {
                b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/9\r\nContent-Length: 3\r\n\r\nold"
            } else {
                b"HTTP/1.1 200 OK\r\nAccept-Ranges: bytes\r\nContent-Digest: sha-256=:AA==:\r\nContent-Length: 9\r\n\r\nold, old."
            };
            if writer.write_all(answer).is_err() {
                return;
            }
        }
    });
    let filters =
        json!({"response-rewrite": {"filters": [{"regex": "old", "replace": "newer", "scope": "global"}]}});
    gateway.configure(1, &[("routes", "a", json!({"uri": "/a", "upstream": at(node), "plugins": filters}))]);
    let answer = get(&gateway, "/a", "Range: bytes=0-2\r\nIf-Range: \"x\"\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(!answer.contains("Digest") && !answer.contains("Ranges"), "{answer}");
    assert_eq!(body_of(&answer), "newer, newer.");
}
