//! What API7's declarative CLI (`adc`) asks of its backends `apisix` and `apisix-standalone`, request by request: the first sync, a dump, and
//! a second sync that finds nothing to do.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod api;
mod cluster;
mod program;
mod stand;

use api::ADMIN;
use serde_json::{Value, json};
use stand::Stand;

/// A stand as `adc` meets it: it asks for the version without a key, and no `Server` of APISIX's in the answer means the newest one.
fn stand() -> Stand {
    let stand = Stand::new();
    let version = stand.api.with("HEAD", "/apisix/admin", None, &[]);
    assert_eq!((version.status, version.header("server")), (200, None));
    stand
}

fn upstream() -> Value {
    json!({"name": "shop", "type": "roundrobin", "scheme": "http", "retries": 1, "pass_host": "pass",
        "timeout": {"connect": 5, "send": 6, "read": 7}, "labels": {"managed-by": "adc"},
        "nodes": [{"host": "127.0.0.1", "port": 1980, "weight": 1, "priority": 0}],
        "checks": {"active": {"type": "http", "http_path": "/status", "timeout": 1, "concurrency": 10,
            "healthy": {"interval": 2, "successes": 1, "http_statuses": [200, 302]},
            "unhealthy": {"interval": 1, "http_failures": 3, "tcp_failures": 2, "timeouts": 3, "http_statuses": [500]}}}})
}

fn with(mut object: Value, more: &Value) -> Value {
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}

/// What was sent is told back as it was sent; what else is told are defaults, id and times.
#[track_caller]
fn holds(told: &Value, sent: &Value) {
    for (name, value) in sent.as_object().unwrap() {
        assert_eq!(&told[name], value, "{name} of {told}");
    }
}

#[test]
fn backend_apisix() {
    let stand = stand();
    let lists = || {
        let kinds = [
            "services",
            "consumers",
            "ssls",
            "plugin_configs",
            "plugin_metadata",
            "stream_routes",
            "upstreams",
            "routes",
            "global_rules",
        ];
        kinds.map(|kind| {
            let reply = stand.api.ask("GET", &format!("/apisix/admin/{kind}"), None);
            assert_eq!(reply.status, 200, "{kind}: {reply:?}");
            assert_eq!(reply.body["total"], reply.body["list"].as_array().unwrap().len(), "{kind}");
            reply.body["list"].clone()
        })
    };
    assert!(lists().iter().all(|list| list == &json!([])));
    let service = json!({"name": "shop", "desc": "the shop", "hosts": ["shop.example.com"], "labels": {"team": "web"}, "upstream_id": "d09"});
    let route = json!({"name": "cart", "uris": ["/cart/*"], "methods": ["GET", "POST"], "priority": 3, "service_id": "d09", "labels": {"managed-by": "adc"}});
    for (path, object) in [("upstreams/d09", &upstream()), ("services/d09", &service), ("routes/c1a", &route)]
    {
        let reply = stand.api.ask("PUT", &format!("/apisix/admin/{path}"), Some(object));
        assert_eq!(reply.status, 201, "{path}: {reply:?}");
    }
    let after = lists();
    holds(&after[0][0]["value"], &service);
    holds(&after[6][0]["value"], &upstream());
    holds(&after[7][0]["value"], &route);
    assert_eq!(lists(), after, "a second look finds the same");
    for path in ["routes/c1a", "services/d09", "upstreams/d09"] {
        assert_eq!(stand.api.ask("DELETE", &format!("/apisix/admin/{path}"), None).status, 200, "{path}");
    }
    assert!(lists().iter().all(|list| list == &json!([])));
}

#[test]
fn backend_apisix_standalone() {
    let stand = stand();
    let ask = |method: &str, digest: &str, body: Option<&Value>| {
        let fields = [("X-API-KEY", ADMIN), ("X-Digest", digest), ("Content-Type", "application/json")];
        stand.api.with(method, "/apisix/admin/configs", body, &fields)
    };
    assert!(ask("HEAD", "", None).header("x-last-modified").is_some());
    let first = ask("GET", "", None).body;
    // What was told goes back with what is new; each new object has the number that its kind gets, the time in milliseconds.
    let number = 1_795_000_000_000_u64;
    let objects = json!({
        "upstreams": [with(upstream(), &json!({"id": "d09", "modifiedIndex": number}))], "upstreams_conf_version": number,
        "services": [{"id": "d09", "modifiedIndex": number, "name": "shop", "upstream_id": "d09"}], "services_conf_version": number,
        "routes": [{"id": "c1a", "modifiedIndex": number, "name": "cart", "uris": ["/cart/*"], "service_id": "d09"}], "routes_conf_version": number,
    });
    let reply = ask("PUT", "a1", Some(&with(first, &objects)));
    assert_eq!((reply.status, stand.head()), (202, 1), "{reply:?}");
    let second = ask("GET", "", None);
    assert_eq!(
        (second.header("x-digest"), &second.body["routes_conf_version"]),
        (Some("a1"), &json!(number))
    );
    holds(&second.body["upstreams"][0], &upstream());
    // The same again, and one route more.
    assert_eq!(ask("PUT", "a1", Some(&second.body)).status, 204);
    let mut more = second.body.clone();
    let route = json!({"id": "c1b", "modifiedIndex": number + 1, "uris": ["/more"], "service_id": "d09"});
    more["routes"].as_array_mut().unwrap().push(route);
    more["routes_conf_version"] = json!(number + 1);
    assert_eq!(ask("PUT", "a2", Some(&more)).status, 202);
    assert_eq!(stand.head(), 2);
    // The first one stays as it is: it came back with no more than the defaults that it was told with.
    let written =
        stand.cluster.sql("select kind || '/' || id from ringway.change where revision = 2 order by 1");
    assert_eq!(written, "routes/c1b");
}
