//! Chains as a whole, and what single plugins decide.

use ringway_snapshot::plugin::Plugin;
use serde_json::{Value, json};

use super::*;
use crate::facts::tests::with_facts;

fn chain(plugins: &[(&str, Value)], places: &[Option<u32>]) -> Chain {
    let steps = plugins.iter().filter_map(|(name, conf)| {
        let plugin = Plugin::read(name, conf).unwrap_or_else(|wrong| panic!("{name}: {wrong:?}"))?;
        Some(Arc::new(Step::new("routes/1", plugin, places.into())))
    });
    Chain::new(steps.collect()).unwrap()
}

/// What the chain makes of a request, and of an answer of that status to it.
fn run(chain: &Chain, request: &str, look: impl FnOnce(Verdict, &Course)) {
    with_facts(request, |facts| {
        let (mut course, mut chance) = (Course::default(), Chance::new(1));
        let verdict = chain.request(&mut Asked { facts, course: &mut course, chance: &mut chance });
        look(verdict, &course);
    });
}

fn uri_of(conf: Value, request: &str) -> String {
    let mut uri = String::new();
    run(&chain(&[("proxy-rewrite", conf)], &[]), request, |_, course| {
        uri = String::from_utf8(course.uri.clone()).unwrap();
    });
    uri
}

#[test]
fn plugins_act_by_priority_and_their_filter() {
    let both = chain(
        &[
            ("traffic-split", json!({})),
            ("proxy-mirror", json!({"host": "http://127.0.0.1:1", "_meta": {"priority": 1}})),
            ("proxy-rewrite", json!({"uri": "/x", "_meta": {"filter": [["arg_a", "==", "1"]]}})),
            ("response-rewrite", json!({"_meta": {"disable": true}})),
        ],
        &[Some(3)],
    );
    assert_eq!(
        both.steps().map(Step::name).collect::<Vec<_>>(),
        ["proxy-rewrite", "traffic-split", "proxy-mirror"]
    );
    run(&both, "GET /?a=1 HTTP/1.1\r\nHost: h\r\n\r\n", |verdict, course| {
        assert_eq!((verdict, &*course.uri, course.copies.len()), (Verdict::Continue, &b"/x?a=1"[..], 1));
    });
    run(&both, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", |_, course| assert!(course.uri.is_empty()));
}

#[test]
fn shares_go_by_weight_and_the_first_rule_that_holds_decides() {
    let conf = json!({"rules": [
        {"match": [{"vars": [["arg_a", "==", "1"]]}, {"vars": [["arg_b", "==", "1"]]}],
         "weighted_upstreams": [{"upstream_id": "x", "weight": 2}, {"weight": 1}]},
        {"match": [{"vars": [["arg_c", "==", "1"]]}], "weighted_upstreams": [{"upstream_id": "y", "weight": 5}, {"upstream_id": "z", "weight": 0}]},
        {"match": [{"vars": [["arg_d", "==", "1"]]}], "weighted_upstreams": [{"upstream_id": "y", "weight": 0}]},
    ]});
    let split = chain(&[("traffic-split", conf)], &[Some(10), Some(20), Some(30), Some(40)]);
    for (query, want) in [("a=1", [(Some(10), 200), (None, 100)]), ("b=1", [(Some(10), 200), (None, 100)])] {
        let (mut chance, mut counts) = (Chance::new(9), std::collections::BTreeMap::new());
        for _ in 0..300 {
            with_facts(&format!("GET /?{query} HTTP/1.1\r\nHost: h\r\n\r\n"), |facts| {
                let mut course = Course::default();
                split.request(&mut Asked { facts, course: &mut course, chance: &mut chance });
                *counts.entry(course.place).or_insert(0i64) += 1;
            });
        }
        for (place, count) in want {
            assert!((counts[&place] - count).abs() <= 3, "{query}: {counts:?}");
        }
    }
    for (query, place) in [("c=1", Some(20)), ("d=1", None), ("", None)] {
        run(&split, &format!("GET /?{query} HTTP/1.1\r\nHost: h\r\n\r\n"), |_, course| {
            assert_eq!(course.place, place, "{query}");
        });
    }
}

#[test]
fn paths_are_rewritten_as_in_apisix() {
    let request = "GET /test/plugin/a%20b?q=apisix HTTP/1.1\r\nHost: h\r\n\r\n";
    for (conf, uri) in [
        (json!({"uri": "/new"}), "/new?q=apisix"),
        (json!({"uri": "/new?x=1"}), "/new?x=1&q=apisix"),
        (json!({"uri": "/n/$arg_q"}), "/n/apisix?q=apisix"),
        (json!({"regex_uri": ["^/test/(.*)/(.*)$", "/$1-$2"]}), "/plugin-/test/plugin/a%20b?q=apisix"),
        (json!({"regex_uri": ["^/nope", "/a", "^/test/(.*)$", "/v2/$1"]}), "/v2/plugin/a%20b?q=apisix"),
        (json!({"regex_uri": ["^/nope", "/a"]}), ""),
        (json!({"use_real_request_uri_unsafe": true}), "/test/plugin/a%20b?q=apisix"),
    ] {
        let uri = if uri.starts_with("/plugin-/") { "/plugin-a%20b?q=apisix" } else { uri };
        // The facts of these tests have the path as it was received; the data plane has it decoded.
        let found = uri_of(conf.clone(), request).replace("%2520", "%20");
        assert_eq!(found, uri, "{conf}");
    }
}

#[test]
fn a_variable_with_a_question_mark_stays_part_of_the_path_and_is_escaped_once() {
    let request = "GET /?a=x%3Fy%3D1 HTTP/1.1\r\nHost: h\r\n\r\n";
    for (conf, uri) in [
        (json!({"uri": "/n/$arg_a"}), "/n/x%3Fy=1?a=x%3Fy%3D1"),
        (json!({"uri": "/n/$arg_a?b=$arg_a"}), "/n/x%3Fy=1?b=x?y=1&a=x%3Fy%3D1"),
        (json!({"uri": "/n/$arg_a", "use_real_request_uri_unsafe": true}), "/n/x%3Fy=1"),
    ] {
        assert_eq!(uri_of(conf.clone(), request), uri, "{conf}");
    }
}

#[test]
fn a_redirect_names_a_place_that_can_be_written_down() {
    let request = "GET /?a=x%0d%0aSet-Cookie:%20b%C3%A9 HTTP/1.1\r\nHost: h\r\n\r\n";
    for encode in [false, true] {
        let redirect = chain(&[("redirect", json!({"uri": " /to/$arg_a", "encode_uri": encode}))], &[]);
        run(&redirect, request, |_, course| {
            let location = course.answer.value(b"Location").map(String::from_utf8_lossy);
            assert_eq!(location.as_deref(), Some("/to/x%0D%0ASet-Cookie:%20b%C3%A9"), "{encode}");
        });
    }
}

#[test]
fn fields_host_and_method_are_rewritten() {
    let conf = json!({"host": "up:81", "method": "POST", "regex_uri": ["^/(a)/(.*)", "/$2"], "headers": {
        "set": {"X-A": "$remote_addr", "X-B": "$2-$1"}, "add": {"X-C": "1"}, "remove": ["Accept"]}});
    let rewrite = chain(&[("proxy-rewrite", conf)], &[]);
    run(&rewrite, "GET /a/b HTTP/1.1\r\nHost: h\r\n\r\n", |_, course| {
        assert_eq!((&*course.host, &*course.method, &*course.uri), (&b"up:81"[..], &b"POST"[..], &b"/b"[..]));
        let lists = course.request.lists();
        assert_eq!(lists.set.as_slice(), [(&b"X-A"[..], &b"10.0.0.1"[..]), (b"X-B", b"b-a")]);
        assert_eq!(lists.add.as_slice(), [(&b"X-C"[..], &b"1"[..])]);
        assert_eq!(lists.remove.as_slice(), [&b"Accept"[..]]);
    });
}

#[test]
fn answers_are_rewritten_where_vars_hold() {
    let conf = json!({"status_code": 201, "body": "new", "headers": {"X-A": "$status", "Server": ""},
        "vars": [["status", "==", 200]]});
    let rewrite = Arc::new(chain(&[("response-rewrite", conf)], &[]));
    with_facts("GET / HTTP/1.1\r\nHost: h\r\n\r\n", |facts| {
        let (rules, course) = ([Arc::clone(&rewrite)], Course::default());
        let chains = Chains { global: &rules, route: None };
        assert!(chains.have_answer_phase());
        let changes = chains.answer(200, facts, &course);
        assert_eq!((changes.status, changes.body), (Some(201), Some(&b"new"[..])));
        assert_eq!(changes.edits.value(b"x-a"), Some(&b"200"[..]));
        assert!(changes.edits.lists().remove.contains(&&b"Server"[..]));
        let changes = chains.answer(404, facts, &course);
        assert!(changes.status.is_none() && changes.body.is_none() && changes.edits.is_empty());
    });
}

/// A plugin, its status and body for the request below (0: it lets it pass), and a field of its answer.
type Row = (&'static str, Value, u16, &'static str, Option<(&'static str, &'static str)>);

fn answered() -> Vec<Row> {
    vec![
        (
            "fault-injection",
            json!({"abort": {"http_status": 403, "body": "no $remote_addr", "headers": {"X-A": "1"}}}),
            403,
            "no 10.0.0.1",
            Some(("X-A", "1")),
        ),
        ("fault-injection", json!({"abort": {"http_status": 403, "percentage": 0}}), 0, "", None),
        (
            "fault-injection",
            json!({"abort": {"http_status": 403, "vars": [[["arg_x", "==", "2"]]]}}),
            0,
            "",
            None,
        ),
        (
            "redirect",
            json!({"uri": "/to$uri", "ret_code": 301, "append_query_string": true}),
            301,
            "",
            Some(("Location", "/to/test/a?x=1")),
        ),
        (
            "redirect",
            json!({"regex_uri": ["^/test/(.*)", "http://t/${1}?q=1"], "append_query_string": true}),
            302,
            "",
            Some(("Location", "http://t/a?q=1&x=1")),
        ),
        ("redirect", json!({"regex_uri": ["^/nope", "/x"]}), 0, "", None),
        ("redirect", json!({"http_to_https": true}), 301, "", Some(("Location", "https://h/test/a?x=1"))),
        ("ip-restriction", json!({"whitelist": ["10.0.0.0/8"]}), 0, "", None),
        (
            "ip-restriction",
            json!({"blacklist": ["10.0.0.1"], "message": "no"}),
            403,
            "{\"message\":\"no\"}\n",
            None,
        ),
        ("referer-restriction", json!({"whitelist": ["*.a.com"]}), 0, "", None),
        (
            "referer-restriction",
            json!({"whitelist": ["a.com"]}),
            403,
            "{\"message\":\"Your referer host is not allowed\"}\n",
            None,
        ),
        (
            "mocking",
            json!({"response_example": "hi", "response_headers": {"X-A": "$host"}}),
            200,
            "hi",
            Some(("X-A", "h")),
        ),
        (
            "ip-restriction",
            json!({"blacklist": ["10.0.0.1"], "_meta": {"error_response": {"error": 1}}}),
            403,
            "{\"error\":1}",
            None,
        ),
    ]
}

#[test]
fn requests_are_answered_by_plugins() {
    let request = "GET /test/a?x=1 HTTP/1.1\r\nHost: h\r\nReferer: http://user@www.A.com:81/p\r\n\r\n";
    for (name, conf, status, body, field) in answered() {
        run(&chain(&[(name, conf.clone())], &[]), request, |verdict, course| {
            assert_eq!(verdict == Verdict::Answer, status != 0, "{name} {conf}");
            assert_eq!(
                (course.reply.status, String::from_utf8_lossy(&course.reply.body).as_ref()),
                (status, body),
                "{name} {conf}"
            );
            if let Some((field, value)) = field {
                let found = course.answer.value(field.as_bytes()).map(String::from_utf8_lossy);
                assert_eq!(found.as_deref(), Some(value), "{name} {conf}");
            }
        });
    }
}

#[test]
fn a_request_keeps_its_name_or_gets_one() {
    let named = chain(&[("request-id", json!({}))], &[]);
    run(&named, "GET / HTTP/1.1\r\nHost: h\r\nX-Request-ID: 123\r\n\r\n", |_, course| {
        assert_eq!(course.answer.value(b"x-request-id"), Some(&b"123"[..]));
    });
    run(&named, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", |_, course| {
        let id = course.request.value(b"x-request-id").unwrap();
        let groups: Vec<usize> = id.split(|byte| *byte == b'-').map(<[u8]>::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12]);
        assert!(id[14] == b'4' && b"89ab".contains(&id[19]), "{}", String::from_utf8_lossy(id));
        assert_eq!(course.answer.value(b"x-request-id"), Some(id));
    });
}

#[test]
fn delays_add_up() {
    let both = [
        ("fault-injection", json!({"delay": {"duration": 0.5}})),
        ("mocking", json!({"response_example": "", "delay": 2})),
    ];
    run(&chain(&both, &[]), "GET / HTTP/1.1\r\nHost: h\r\n\r\n", |_, course| {
        assert_eq!(course.delay_ms, 2_500);
    });
}
