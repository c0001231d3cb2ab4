//! Consumers from the configuration to what becomes of their requests.

use ringway_snapshot::Snapshot;
use ringway_snapshot::parse::parse_object;
use serde_json::{Value, json};

use super::*;
use crate::facts::tests::with_facts;
use crate::route::{Captures, Query};
use crate::view::View;

fn view(objects: &[(&str, &str, Value)]) -> View {
    let entries = objects.iter().map(|(kind, id, spec)| parse_object(kind, id, spec).unwrap());
    View::compile(&Snapshot::new(1, 1, 1, entries.collect())).unwrap()
}

/// What becomes of a request for `/`, and what is known of it afterwards.
fn run<R>(view: &View, fields: &str, look: impl FnOnce(Verdict, &Course, &Facts<'_>, Chains<'_>) -> R) -> R {
    let remote = std::net::IpAddr::from([10, 0, 0, 1]);
    let query = Query { method: b"GET", host: b"h", path: b"/", remote, facts: None };
    let target = view.routes.find(&query, &mut Captures::new());
    let chains = view.chains(target.map(|target| &**target));
    with_facts(&format!("GET /?q=1 HTTP/1.1\r\nHost: h\r\n{fields}\r\n"), |facts| {
        let (mut course, mut chance) = (Course::default(), Chance::new(1));
        let asked = &mut Asked { facts, course: &mut course, chance: &mut chance, callers: chains.callers };
        let verdict = chains.request(asked);
        look(verdict, &course, &course.facts(*facts, chains.callers), chains)
    })
}

fn refusal(view: &View, fields: &str) -> Option<(u16, String, String)> {
    run(view, fields, |verdict, course, _, _| {
        let challenge = course.answer.value(b"WWW-Authenticate").unwrap_or_default();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (verdict == Verdict::Answer)
            .then(|| (course.reply.status, text(&course.reply.body).trim().to_owned(), text(challenge)))
    })
}

fn route(plugins: Value) -> (&'static str, &'static str, Value) {
    let mut route = json!({"uri": "/*", "upstream": {"nodes": {}}});
    route["plugins"] = plugins;
    ("routes", "r", route)
}

fn told(message: &str) -> String {
    format!("{{\"message\":\"{message}\"}}")
}

#[test]
fn a_key_lets_in_and_everybody_else_is_refused_as_with_apisix() {
    let view = view(&[
        route(json!({"key-auth": {"realm": "shop"}})),
        ("consumers", "jack", json!({"plugins": {"key-auth": {"key": "k1"}}, "labels": {"custom_id": "c7"}})),
        ("credentials", "jack/credentials/x", json!({"plugins": {"key-auth": {"key": "k2"}}})),
    ]);
    let challenge = "apikey realm=\"shop\"".to_owned();
    for (fields, message) in [
        ("", "Missing API key in request"),
        ("apikey: k3\r\n", "Invalid API key in request"),
        ("apikey:\r\n", "Invalid API key in request"),
        ("apikey: k1\r\napikey: k1\r\n", "Invalid API key in request"),
        ("Authorization: k1\r\n", "Missing API key in request"),
    ] {
        assert_eq!(refusal(&view, fields), Some((401, told(message), challenge.clone())), "{fields}");
    }
    let forged = "X-Consumer-Username: root\r\nX_Consumer_Username: root\r\nx-credential-identifier: y\r\n\
        X-Consumer-Custom_ID: z\r\n";
    for (key, credential) in [("k1", None), ("k2", Some(&b"x"[..]))] {
        run(&view, &format!("APIKEY: {key}\r\n{forged}"), |verdict, course, facts, _| {
            assert_eq!(verdict, Verdict::Continue);
            let caller = facts.caller.unwrap();
            assert_eq!((caller.name(), caller.credential().map(str::as_bytes)), ("jack", credential));
            assert_eq!(course.request.value(b"x-consumer-username"), Some(&b"jack"[..]));
            assert_eq!(course.request.value(b"x-credential-identifier"), credential);
            assert_eq!(course.request.value(b"x-consumer-custom-id"), Some(&b"c7"[..]));
            let lists = course.request.lists();
            let gone = |name: &[u8]| lists.remove.iter().any(|removed| removed.eq_ignore_ascii_case(name));
            assert!(gone(b"X_Consumer_Username") && gone(b"X-Consumer-Custom_ID"));
            assert!(credential.is_some() || gone(b"X-Credential-Identifier"));
            assert!(!gone(b"apikey"));
        });
    }
}

#[test]
fn nodes_do_not_see_what_is_hidden_wherever_it_stood() {
    let conf = json!({"query": "q", "hide_credentials": true});
    let rewrite = json!({"uri": "/new?b=2", "_meta": {"filter": [["http_x_new", "==", "1"]]}});
    let view = view(&[
        route(json!({"key-auth": conf, "proxy-rewrite": rewrite})),
        ("consumers", "jack", json!({"plugins": {"key-auth": {"key": "1"}}})),
    ]);
    run(&view, "", |verdict, course, _, _| {
        assert_eq!(verdict, Verdict::Continue);
        for (uri, want) in [
            ("/?q=1", "/"),
            ("/?a=1&q=1&%71=2&b", "/?a=1&b"),
            ("/?qq=1&aq=2", "/?qq=1&aq=2"),
            ("/?", "/?"),
            ("/q=1", "/q=1"),
        ] {
            let mut bytes = uri.as_bytes().to_vec();
            course.hide_arguments(&mut bytes);
            assert_eq!(String::from_utf8_lossy(&bytes), want);
        }
    });
    // What a later plugin makes of the path has the query as it came; it is taken out at the end.
    run(&view, "X-New: 1\r\n", |_, course, _, _| {
        let mut uri = course.uri.clone();
        assert_eq!(String::from_utf8_lossy(&uri), "/new?b=2&q=1");
        course.hide_arguments(&mut uri);
        assert_eq!(String::from_utf8_lossy(&uri), "/new?b=2");
    });
    run(&view, "apikey: 1\r\n", |_, course, _, _| {
        assert!(course.request.lists().remove.contains(&&b"apikey"[..]) && course.hidden.is_empty());
    });
}

#[test]
fn a_name_and_a_password_let_in_and_everybody_else_is_refused_as_with_apisix() {
    let view = view(&[
        route(json!({"basic-auth": {"hide_credentials": true}})),
        ("consumers", "jack", json!({"plugins": {"basic-auth": {"username": "foo", "password": "bar"}}})),
        ("consumers", "jill", json!({"plugins": {"basic-auth": {"username": "a", "password": "b:c d"}}})),
    ]);
    let challenge = "Basic realm=\"basic\"".to_owned();
    for (fields, message) in [
        ("", "Missing authorization in request"),
        ("Authorization: Bad_header YmFyOmJhcgo=\r\n", "Invalid authorization in request"),
        ("Authorization: Basic aca_a\r\n", "Invalid authorization in request"),
        ("Authorization: Basic YmFy\r\n", "Invalid authorization in request"),
        ("Authorization: Basic YmFyOmJhcgo=\r\n", "Invalid user authorization"),
        ("Authorization: Basic Zm9vOmZvbwo=\r\n", "Invalid user authorization"),
        // foo: with nothing behind it
        ("Authorization: Basic Zm9vOg==\r\n", "Invalid user authorization"),
    ] {
        assert_eq!(refusal(&view, fields), Some((401, told(message), challenge.clone())), "{fields}");
    }
    // foo:bar, foo:bar and a line end, a:b:c d
    for (value, name) in [("Zm9vOmJhcg==", "jack"), ("Zm9vOmJhcgo=", "jack"), ("YTpiOmMgZA==", "jill")] {
        run(&view, &format!("Authorization: basic {value}\r\n"), |verdict, course, facts, _| {
            assert_eq!((verdict, facts.caller.unwrap().name()), (Verdict::Continue, name));
            assert!(course.request.lists().remove.contains(&&b"Authorization"[..]));
        });
    }
}

#[test]
fn whoever_shows_nothing_is_the_anonymous_consumer_where_there_is_one() {
    let conf = |name: &str| json!({"key-auth": {"anonymous_consumer": name, "hide_credentials": true}});
    let guest = ("consumers", "guest", json!({"labels": {"custom_id": "g"}}));
    let open = view(&[route(conf("guest")), guest.clone()]);
    for fields in ["", "apikey: wrong\r\n"] {
        run(&open, fields, |verdict, course, facts, _| {
            assert_eq!((verdict, facts.caller.unwrap().name()), (Verdict::Continue, "guest"), "{fields}");
            assert_eq!(course.hidden.as_slice(), [Box::from("apikey")]);
            assert_eq!(fields.is_empty(), !course.request.lists().remove.contains(&&b"apikey"[..]));
        });
    }
    let closed = view(&[route(conf("nobody")), guest]);
    let want = (401, told("Invalid user authorization"), "apikey realm=\"key\"".to_owned());
    assert_eq!(refusal(&closed, ""), Some(want));
}

#[test]
fn a_consumers_plugins_stand_before_its_groups_and_these_before_the_routes() {
    let set = |value: &str| json!({"headers": {"set": {"X-From": value}}});
    let plugins = |value: &str| json!({"response-rewrite": set(value), "key-auth": {}});
    let mut consumer = json!({"plugins": {"key-auth": {"key": "both"}, "response-rewrite": set("consumer"),
        "ip-restriction": {"blacklist": ["10.0.0.2"]}}, "group_id": "g"});
    let view = view(&[
        route(plugins("route")),
        (
            "consumer_groups",
            "g",
            json!({"plugins": {"response-rewrite": set("group"), "proxy-rewrite": {"uri": "/g"}}}),
        ),
        ("consumers", "both", consumer.take()),
        ("consumers", "group", json!({"plugins": {"key-auth": {"key": "group"}}, "group_id": "g"})),
        ("consumers", "plain", json!({"plugins": {"key-auth": {"key": "plain"}}})),
        ("credentials", "group/credentials/1", json!({"plugins": {"key-auth": {"key": "credential"}}})),
        (
            "consumers",
            "off",
            json!({"plugins": {"key-auth": {"key": "off"}, "response-rewrite": {"_meta": {"disable": true}}}}),
        ),
        (
            "consumers",
            "barred",
            json!({"plugins": {"key-auth": {"key": "barred"}, "ip-restriction": {"blacklist": ["10.0.0.1"]}}}),
        ),
    ]);
    for (key, from, uri) in [
        ("both", Some("consumer"), "/g?q=1"),
        ("group", Some("group"), "/g?q=1"),
        ("credential", Some("group"), "/g?q=1"),
        ("plain", Some("route"), ""),
        ("off", None, ""),
    ] {
        run(&view, &format!("apikey: {key}\r\n"), |verdict, course, facts, chains| {
            assert_eq!(verdict, Verdict::Continue, "{key}");
            assert_eq!(String::from_utf8_lossy(&course.uri), uri, "{key}");
            // The route's own looks at answers whoever asks.
            assert!(chains.have_answer_phase(course));
            let changes = chains.answer(facts, course);
            assert_eq!(changes.edits.value(b"X-From"), from.map(str::as_bytes), "{key}");
        });
    }
    assert_eq!(refusal(&view, "apikey: barred\r\n").unwrap().0, 403);
}

#[test]
fn plugins_of_route_and_consumer_act_in_one_order() {
    let view = view(&[
        route(json!({"key-auth": {}, "mocking": {"response_example": "route"},
            "ua-restriction": {"denylist": ["x"], "_meta": {"priority": 5}}})),
        (
            "consumers",
            "a",
            json!({"plugins": {"key-auth": {"key": "a"}, "referer-restriction": {"whitelist": ["y"]},
            "ip-restriction": {"whitelist": ["10.0.0.1"], "_meta": {"priority": 7}}}}),
        ),
    ]);
    run(&view, "apikey: a\r\n", |_, course, _, chains| {
        let names: Vec<_> = Merged::new(chains.route, chains.layer(course)).map(Step::name).collect();
        assert_eq!(
            names,
            ["mocking", "referer-restriction", "key-auth", "ip-restriction", "ua-restriction"]
                .into_iter()
                .filter(|name| names.contains(name))
                .collect::<Vec<_>>()
        );
        let priorities: Vec<_> =
            Merged::new(chains.route, chains.layer(course)).map(|step| step.plugin.priority).collect();
        assert!(priorities.is_sorted_by(|a, b| a >= b) && names.len() == 5, "{names:?} {priorities:?}");
    });
}

#[test]
fn consumers_are_let_in_and_kept_out_by_name_group_route_and_method() {
    let consumers = |conf: Value| {
        view(&[
            route(json!({"key-auth": {}, "consumer-restriction": conf})),
            ("consumer_groups", "g", json!({"plugins": {}})),
            ("consumers", "a", json!({"plugins": {"key-auth": {"key": "a"}}, "group_id": "g"})),
            ("consumers", "b", json!({"plugins": {"key-auth": {"key": "b"}}})),
        ])
    };
    let methods = |list: Value| json!([{"user": "a", "methods": list}]);
    for (conf, a, b) in [
        (json!({"whitelist": ["a"]}), None, Some(403)),
        (json!({"blacklist": ["a"], "rejected_code": 404}), Some(404), None),
        (json!({"blacklist": ["a"], "whitelist": ["a"]}), Some(403), Some(403)),
        (json!({"allowed_by_methods": methods(json!(["POST"]))}), Some(403), None),
        (json!({"allowed_by_methods": methods(json!(["POST", "GET"]))}), None, None),
        (json!({"whitelist": ["a"], "allowed_by_methods": methods(json!(["POST"]))}), None, Some(403)),
        (json!({"blacklist": ["a"], "allowed_by_methods": methods(json!(["GET"]))}), Some(403), None),
        (json!({"type": "consumer_group_id", "whitelist": ["g"]}), None, Some(401)),
        (json!({"type": "route_id", "whitelist": ["r"]}), None, None),
        (json!({"type": "service_id", "whitelist": ["s"]}), Some(401), Some(401)),
    ] {
        let view = consumers(conf.clone());
        let status = |key: &str| refusal(&view, &format!("apikey: {key}\r\n")).map(|(status, ..)| status);
        assert_eq!((status("a"), status("b")), (a, b), "{conf}");
    }
    let view = view(&[route(json!({"consumer-restriction": {"whitelist": ["a"]}}))]);
    let message = "The request is rejected, please check the consumer_name for this request";
    assert_eq!(refusal(&view, ""), Some((401, told(message), String::new())));
}

#[test]
fn a_global_rule_tells_consumers_apart_too_and_a_request_without_a_route_gets_no_further() {
    let view = view(&[
        ("global_rules", "g", json!({"plugins": {"key-auth": {}}})),
        ("routes", "r", json!({"uri": "/", "upstream": {"nodes": {}}})),
        ("consumers", "a", json!({"plugins": {"key-auth": {"key": "a"}, "proxy-rewrite": {"uri": "/of-a"}}})),
    ]);
    assert_eq!(refusal(&view, "").unwrap().0, 401);
    run(&view, "apikey: a\r\n", |verdict, course, _, _| {
        assert_eq!((verdict, &*course.uri), (Verdict::Continue, &b"/of-a?q=1"[..]));
    });
}
