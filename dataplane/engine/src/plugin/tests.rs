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
        let verdict =
            chain.request(&mut Asked { facts, course: &mut course, chance: &mut chance, callers: None });
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
                split.request(&mut Asked { facts, course: &mut course, chance: &mut chance, callers: None });
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
        let chains = Chains { global: &rules, ..Chains::default() };
        assert!(chains.have_answer_phase(&course));
        let changes = chains.answer(&Facts { status: Some(200), ..*facts }, &course);
        assert_eq!((changes.status, changes.body), (Some(201), Some(&b"new"[..])));
        assert_eq!(changes.edits.value(b"x-a"), Some(&b"200"[..]));
        assert!(changes.edits.lists().remove.contains(&&b"Server"[..]));
        let changes = chains.answer(&Facts { status: Some(404), ..*facts }, &course);
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
        (
            "mocking",
            json!({"response_example": "hi", "response_headers": {"X-A": "$host"}}),
            200,
            "hi",
            Some(("X-A", "h")),
        ),
    ]
}

fn restricted() -> Vec<Row> {
    vec![
        ("uri-blocker", json!({"block_rules": ["^/nope", "root.exe", "x=[0-9]"]}), 403, "", None),
        (
            "uri-blocker",
            json!({"block_rules": ["TEST"], "case_insensitive": true, "rejected_code": 451, "rejected_msg": "no"}),
            451,
            "{\"error_msg\":\"no\"}\n",
            None,
        ),
        ("uri-blocker", json!({"block_rules": ["TEST"]}), 0, "", None),
        ("ua-restriction", json!({"allowlist": ["my-(bot|tool)"]}), 0, "", None),
        ("ua-restriction", json!({"denylist": ["curl"]}), 0, "", None),
        (
            "ua-restriction",
            json!({"denylist": ["curl", "tool/1"]}),
            403,
            "{\"message\":\"Not allowed\"}\n",
            None,
        ),
        (
            "ua-restriction",
            json!({"allowlist": ["curl"], "message": "no"}),
            403,
            "{\"message\":\"no\"}\n",
            None,
        ),
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
    let request = "GET /test/a?x=1 HTTP/1.1\r\nHost: h\r\nReferer: http://user@www.A.com:81/p\r\nUser-Agent: my-tool/1.0\r\n\r\n";
    for (name, conf, status, body, field) in answered().into_iter().chain(restricted()) {
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

#[test]
fn who_sends_no_user_agent_is_refused_unless_told_otherwise() {
    for (bypass, verdict) in [(false, Verdict::Answer), (true, Verdict::Continue)] {
        let conf = json!({"denylist": ["curl"], "bypass_missing": bypass});
        run(&chain(&[("ua-restriction", conf)], &[]), "GET / HTTP/1.1\r\nHost: h\r\n\r\n", |found, _| {
            assert_eq!(found, verdict);
        });
    }
}

#[test]
fn what_came_over_tls_is_not_sent_there_again() {
    let to_https = chain(&[("redirect", json!({"http_to_https": true}))], &[]);
    for (proto, verdict) in [("https", Verdict::Continue), ("http", Verdict::Answer)] {
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-Proto: {proto}\r\n\r\n");
        run(&to_https, &request, |found, _| assert_eq!(found, verdict, "{proto}"));
    }
}

#[test]
fn later_plugins_see_what_earlier_ones_made_of_the_fields() {
    let both = chain(
        &[
            (
                "proxy-rewrite",
                json!({"headers": {"set": {"X-A": "new"}, "add": {"X-B": "2"}, "remove": ["X-C"]}}),
            ),
            (
                "mocking",
                json!({"response_example": "$http_x_a|$http_x_b|$http_x_c", "_meta": {"priority": 1}}),
            ),
        ],
        &[],
    );
    let request = "GET / HTTP/1.1\r\nHost: h\r\nX-A: old\r\nX-B: 1\r\nX-C: 3\r\n\r\n";
    run(&both, request, |_, course| assert_eq!(course.reply.body, b"new|1, 2|"));
    // Whether one acts, is decided on that too; and where the answer comes.
    let named = Arc::new(chain(
        &[
            ("proxy-rewrite", json!({"headers": {"X-A": "new"}})),
            ("redirect", json!({"uri": "/b", "_meta": {"filter": [["http_x_a", "==", "new"]]}})),
            ("response-rewrite", json!({"status_code": 201, "vars": [["http_x_a", "==", "new"]]})),
        ],
        &[],
    ));
    with_facts(request, |facts| {
        let (mut course, mut chance) = (Course::default(), Chance::new(1));
        let rules = [Arc::clone(&named)];
        let chains = Chains { global: &rules, ..Chains::default() };
        let verdict =
            chains.request(&mut Asked { facts, course: &mut course, chance: &mut chance, callers: None });
        assert_eq!((verdict, course.reply.status), (Verdict::Answer, 302));
        assert_eq!(chains.answer(facts, &course).status, Some(201));
    });
}

#[test]
fn behind_trusted_proxies_another_address_is_the_client() {
    let list = "http_x_forwarded_for";
    for (conf, fields, client) in [
        (json!({"source": "http_xff"}), "XFF: 1.1.1.1", Some(("1.1.1.1", 5000))),
        (json!({"source": "http_xff"}), "XFF: 1.1.1.1:80", Some(("1.1.1.1", 80))),
        (json!({"source": "http_xff"}), "XFF: [::2]:81", Some(("::2", 81))),
        (json!({"source": "http_xff"}), "XFF: [::2]", Some(("::2", 5000))),
        (json!({"source": "http_xff"}), "XFF: ::ffff:1.2.3.4", Some(("1.2.3.4", 5000))),
        (json!({"source": "http_xff"}), "XFF: 1.1.1.1.1", None),
        (json!({"source": "http_xff"}), "XFF: 1.1.1.1:65536", None),
        (json!({"source": "http_xff"}), "XFF: 1.1.1.1:0", None),
        (json!({"source": "http_xff"}), "A: b", None),
        (json!({"source": list}), "X-Forwarded-For: 1.1.1.1, 2.2.2.2", Some(("2.2.2.2", 5000))),
        (
            json!({"source": list}),
            "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2",
            Some(("2.2.2.2", 5000)),
        ),
        (json!({"source": list, "trusted_addresses": ["9.0.0.0/8"]}), "X-Forwarded-For: 1.1.1.1", None),
        (
            json!({"source": list, "trusted_addresses": ["10.0.0.0/8"]}),
            "X-Forwarded-For: 1.1.1.1, 10.2.2.2",
            Some(("10.2.2.2", 5000)),
        ),
        (
            json!({"source": list, "trusted_addresses": ["10.0.0.0/8"], "recursive": true}),
            "X-Forwarded-For: 6.6.6.6, 1.1.1.1, 10.2.2.2, 10.3.3.3",
            Some(("1.1.1.1", 5000)),
        ),
        (
            json!({"source": list, "trusted_addresses": ["10.0.0.0/8"], "recursive": true}),
            "X-Forwarded-For: 10.2.2.2, 10.3.3.3",
            Some(("10.2.2.2", 5000)),
        ),
        (
            json!({"source": list, "trusted_addresses": ["10.0.0.0/8"], "recursive": true}),
            "X-Forwarded-For: 1.1.1.1, nonsense, 10.2.2.2",
            None,
        ),
    ] {
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n");
        let chain = chain(
            &[
                ("real-ip", conf.clone()),
                ("mocking", json!({"response_example": "$remote_addr $remote_port"})),
            ],
            &[],
        );
        run(&chain, &request, |_, course| {
            let found = course.client.as_ref().map(|client| (client.address.to_string(), client.port));
            let want = client.map(|(address, port)| (address.to_owned(), port));
            assert_eq!(found, want, "{conf} {fields}");
            let (address, port) = client.unwrap_or(("10.0.0.1", 5000));
            assert_eq!(course.reply.body, format!("{address} {port}").as_bytes(), "{conf} {fields}");
        });
    }
}

/// The fields of the answer to a request with that origin, sorted.
fn cors_fields(conf: &Value, fields: &str) -> Vec<(String, String)> {
    let cors = Arc::new(chain(&[("cors", conf.clone())], &[]));
    let mut found = Vec::new();
    with_facts(&format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"), |facts| {
        let rules = [Arc::clone(&cors)];
        let chains = Chains { global: &rules, ..Chains::default() };
        let changes = chains.answer(facts, &Course::default());
        let lists = changes.edits.lists();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        found = lists.set.iter().chain(&lists.add).map(|(name, value)| (text(name), text(value))).collect();
    });
    found.sort();
    found.into_iter().map(|(name, value)| (name.replace("Access-Control-", ""), value)).collect()
}

#[test]
fn pages_of_origins_that_are_named_may_read_and_no_others() {
    let pairs = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let any =
        pairs(&[("Allow-Headers", "*"), ("Allow-Methods", "*"), ("Allow-Origin", "*"), ("Max-Age", "5")]);
    assert_eq!(cors_fields(&json!({}), ""), any);
    assert_eq!(cors_fields(&json!({}), "Origin: http://a\r\n"), any);
    let listed = json!({"allow_origins": "http://a,http://b", "allow_methods": "GET", "allow_headers": "**",
        "expose_headers": "X-E", "max_age": 50, "allow_credential": true, "timing_allow_origins": "http://a"});
    let allowed = cors_fields(&listed, "Origin: http://b\r\nAccess-Control-Request-Headers: x-y\r\n");
    let want = [
        ("Allow-Credentials", "true"),
        ("Allow-Headers", "x-y"),
        ("Allow-Methods", "GET"),
        ("Allow-Origin", "http://b"),
        ("Expose-Headers", "X-E"),
        ("Max-Age", "50"),
        ("Vary", "Origin"),
    ];
    assert_eq!(allowed, pairs(&want));
    for fields in ["", "Origin: http://c\r\n", "Origin: http://a.b\r\n"] {
        assert_eq!(cors_fields(&listed, fields), pairs(&[("Vary", "Origin")]), "{fields}");
    }
    assert!(
        cors_fields(&listed, "Origin: http://a\r\n")
            .contains(&("Timing-Allow-Origin".into(), "http://a".into()))
    );
    let each = json!({"allow_origins": "**"});
    assert!(cors_fields(&each, "Origin: http://q\r\n").contains(&("Allow-Origin".into(), "http://q".into())));
    assert!(cors_fields(&each, "").contains(&("Allow-Origin".into(), "*".into())));
    // Patterns alone count where there are some.
    let matching = json!({"allow_origins": "http://a", "allow_origins_by_regex": [".*\\.test\\.com$"]});
    let origin = |origin: &str| {
        let found = cors_fields(&matching, &format!("Origin: {origin}\r\n"));
        found.into_iter().find(|(name, _)| name == "Allow-Origin").map(|(_, value)| value)
    };
    assert_eq!(origin("http://x.test.com").as_deref(), Some("http://x.test.com"));
    assert_eq!((origin("http://a"), origin("http://x.test.com.evil")), (None, None));
}

#[test]
fn preflights_are_answered_before_anybody_else_refuses_them() {
    let both = chain(&[("cors", json!({})), ("uri-blocker", json!({"block_rules": ["/"]}))], &[]);
    run(&both, "OPTIONS / HTTP/1.1\r\nHost: h\r\nOrigin: http://a\r\n\r\n", |verdict, course| {
        assert_eq!((verdict, course.reply.status, course.reply.body.len()), (Verdict::Answer, 200, 0));
    });
    run(&both, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", |_, course| assert_eq!(course.reply.status, 403));
}
