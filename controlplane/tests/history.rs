//! What the Admin API has beyond APISIX's objects: transactions, the whole configuration at once, history, rollback, waiting.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod api;
mod cluster;
mod feed;
mod program;
mod stand;

use api::ADMIN;
use feed::Feed;
use ringway_snapshot::Fault;
use ringway_snapshot::message::{Reason, ToDataplane};
use serde_json::{Value, json};
use stand::Stand;

fn upstream() -> Value {
    json!({"nodes": {"127.0.0.1:1980": 1}})
}

fn operations(list: &Value) -> Value {
    json!({ "operations": list })
}

#[test]
fn a_transaction_is_one_revision_or_nothing() {
    let stand = Stand::new();
    let api = stand.api;
    // A route before the upstream that it needs: the result counts.
    let list = json!([
        {"op": "put", "kind": "routes", "id": 1, "value": {"uri": "/a", "upstream_id": "u"}},
        {"op": "put", "kind": "upstreams", "id": "u", "value": upstream()},
        {"op": "patch", "kind": "routes", "id": "1", "value": {"desc": "x"}},
        {"op": "post", "kind": "routes", "value": {"uri": "/b", "upstream_id": "u"}},
    ]);
    let done = api.ask("POST", "/v1/transaction", Some(&operations(&list)));
    assert_eq!(
        (done.status, &done.body["revision"], &done.body["objects"]),
        (200, &json!(1), &json!(3)),
        "{done:?}"
    );
    assert_eq!(stand.head(), 1);
    let before = stand.objects();
    for (list, status, want) in [
        (json!([{"op": "delete", "kind": "upstreams", "id": "u"}]), 400, "still using it now"),
        (
            json!([{"op": "put", "kind": "routes", "id": "2", "value": {"uri": "/c"}},
                   {"op": "delete", "kind": "routes", "id": "none"}]),
            404,
            "operation 1: Key not found",
        ),
        (
            json!([{"op": "put", "kind": "routes", "id": "1", "value": {"uri": "/c"}, "if_match": 99}]),
            412,
            "its revision is 1",
        ),
        (
            json!([{"op": "put", "kind": "routes", "id": "1", "value": {"uri": "/c"}, "if_match": 0}]),
            412,
            "its revision is 1",
        ),
        (json!([{"op": "drop", "kind": "routes", "id": "1"}]), 400, "unknown variant"),
        (json!([{"op": "put", "kind": "rotues", "id": "1", "value": {}}]), 400, "unknown kind"),
    ] {
        let refused = api.ask("POST", "/v1/transaction", Some(&operations(&list)));
        assert!(refused.status == status && refused.error().contains(want), "{list}: {refused:?}");
    }
    for (list, fault) in [
        (
            json!([{"op": "delete", "kind": "upstreams", "id": "u"}]),
            json!({"kind": "routes", "id": done.body["operations"][3]["id"], "pointer": "/upstream_id", "reason": "refers to upstreams/u, which would be deleted"}),
        ),
        (
            json!([{"op": "put", "kind": "routes", "id": "2", "value": {"uri": "/c", "upstream_id": "none"}}]),
            json!({"kind": "routes", "id": "2", "pointer": "/upstream_id", "reason": "refers to upstreams/none, which does not exist"}),
        ),
    ] {
        let refused = api.ask("POST", "/v1/transaction", Some(&operations(&list)));
        assert_eq!((refused.status, &refused.body["errors"]), (400, &json!([fault])), "{refused:?}");
    }
    assert_eq!((stand.objects(), stand.head()), (before, 1));
    let written = api.ask("GET", "/apisix/admin/configs?written=true", None).body;
    assert_eq!(written["upstreams"], json!([{"id": "u", "nodes": {"127.0.0.1:1980": 1}}]), "{written}");
    assert_eq!(written["routes"].as_array().map(Vec::len), Some(2), "{written}");
    let all = json!([
        {"op": "delete", "kind": "upstreams", "id": "u"},
        {"op": "delete", "kind": "routes", "id": "1", "if_match": 1},
        {"op": "delete", "kind": "routes", "id": done.body["operations"][3]["id"]},
    ]);
    assert_eq!(api.ask("POST", "/v1/transaction", Some(&operations(&all))).status, 200);
    assert_eq!((stand.objects().as_str(), stand.head()), ("", 2));
}

#[test]
fn a_plan_tells_what_would_change_and_which_routes_that_reaches() {
    let stand = Stand::new();
    let api = stand.api;
    let list = json!([
        {"op": "put", "kind": "upstreams", "id": "u", "value": upstream()},
        {"op": "put", "kind": "services", "id": "s", "value": {"upstream_id": "u"}},
        {"op": "put", "kind": "routes", "id": "by-service", "value": {"uri": "/a", "service_id": "s"}},
        {"op": "put", "kind": "routes", "id": "direct", "value": {"uri": "/b", "upstream_id": "u"}},
        {"op": "put", "kind": "routes", "id": "other", "value": {"uri": "/c"}},
    ]);
    assert_eq!(api.ask("POST", "/v1/transaction", Some(&operations(&list))).status, 200);
    let before = stand.objects();
    let list = json!([{"op": "patch", "kind": "upstreams", "id": "u", "value": {"retries": 1}},
                      {"op": "put", "kind": "routes", "id": "new", "value": {"uri": "/d"}}]);
    let plan = api.ask("POST", "/v1/plan", Some(&operations(&list)));
    assert_eq!(
        plan.body["routes"],
        json!({"total": 3, "first": ["by-service", "direct", "new"]}),
        "{plan:?}"
    );
    assert_eq!(
        (&plan.body["changes"][0]["op"], &plan.body["changes"][1]["op"]),
        (&json!("create"), &json!("update"))
    );
    assert_eq!(plan.body["changes"][1]["before"], upstream());
    let list = json!([{"op": "delete", "kind": "upstreams", "id": "u"}]);
    assert_eq!(api.ask("POST", "/v1/plan", Some(&operations(&list))).status, 400);
    assert_eq!((stand.objects(), stand.head()), (before, 1));
}

#[test]
fn history_tells_who_changed_what_and_a_rollback_makes_the_old_state_the_newest() {
    let stand = Stand::new();
    let api = stand.api;
    let mut states = vec![stand.objects()];
    let note = |states: &mut Vec<String>| {
        states.push(stand.objects());
        assert_eq!(stand.head(), states.len() as u64 - 1);
    };
    api.ask("PUT", "/apisix/admin/upstreams/u", Some(&upstream()));
    note(&mut states);
    api.ask("PUT", "/apisix/admin/routes/1", Some(&json!({"uri": "/a", "upstream_id": "u"})));
    note(&mut states);
    stand
        .cluster
        .sql("update ringway.resource set spec = spec || '{\"desc\": \"dba\"}' where kind = 'upstreams'");
    note(&mut states);
    let list = json!([{"op": "delete", "kind": "routes", "id": "1"}, {"op": "delete", "kind": "upstreams", "id": "u"},
                      {"op": "put", "kind": "services", "id": "s", "value": {"upstream": upstream()}}]);
    api.ask("POST", "/v1/transaction", Some(&operations(&list)));
    note(&mut states);

    let changes = api.ask("GET", "/v1/changes?limit=2&kind=upstreams", None).body;
    let list = changes["list"].as_array().unwrap();
    assert_eq!(
        (&list[0]["after"], &list[0]["actor"], &list[0]["revision"]),
        (&Value::Null, &json!("admin:boss"), &json!(4))
    );
    assert_eq!((&list[1]["actor"], &list[1]["after"]["desc"]), (&json!("postgres"), &json!("dba")));
    assert_eq!(list[1]["before"], upstream());
    let next = format!("/v1/changes?kind=upstreams&before={}", changes["next_before"]);
    assert_eq!(api.ask("GET", &next, None).body["list"].as_array().unwrap().len(), 1);

    // To each state, in an order that goes back and forth; each is a new revision with the old content.
    for (count, to) in [3_usize, 1, 4, 0, 2].into_iter().enumerate() {
        let rolled = api.ask("POST", &format!("/v1/rollback/{to}"), None);
        assert_eq!(rolled.status, 200, "{rolled:?}");
        assert_eq!(stand.objects(), states[to], "state {to}");
        assert_eq!(stand.head(), 5 + count as u64);
    }
    let head = stand.head();
    assert_eq!(api.ask("POST", &format!("/v1/rollback/{head}"), None).body["objects"], 0);
    assert_eq!(stand.head(), head, "nothing to change takes no revision");
    assert_eq!(api.ask("POST", "/v1/rollback/99", None).status, 404);
    assert_eq!(api.ask("POST", "/v1/rollback/x", None).status, 400);
    stand.cluster.sql("delete from ringway.change where revision <= 3");
    let gone = api.ask("POST", "/v1/rollback/2", None);
    assert!(gone.status == 410 && gone.error().contains("begins after revision 3"), "{gone:?}");
    assert_eq!(api.ask("POST", "/v1/rollback/3", None).status, 200);
    assert_eq!(stand.objects(), states[3]);
}

#[test]
fn a_rollback_to_what_was_broken_is_refused() {
    let mut stand = Stand::new();
    stand
        .cluster
        .sql("insert into ringway.resource (kind, id, spec) values ('routes', 'r', '{\"uri\": \"x\"}')");
    stand.program.wait_status("the refusal", |status| status["refused"]["revision"] == 1);
    stand.cluster.sql("update ringway.resource set spec = '{\"uri\": \"/x\"}'");
    stand.program.wait_status("healed", |status| status["version"]["revision"] == 2);
    let refused = stand.api.ask("POST", "/v1/rollback/1", None);
    assert!(refused.status == 400 && refused.error().contains("uri"), "{refused:?}");
    assert_eq!(stand.head(), 2);
}

#[test]
fn the_whole_configuration_is_put_as_one_revision() {
    let stand = Stand::new();
    let put = |digest: &str, body: &Value| {
        let fields = [("X-API-KEY", ADMIN), ("X-Digest", digest), ("Content-Type", "application/json")];
        stand.api.with("PUT", "/apisix/admin/configs", Some(body), &fields)
    };
    let get = || stand.api.ask("GET", "/apisix/admin/configs", None);
    assert_eq!(get().body["routes_conf_version"], 0);
    assert!(get().body["routes"].is_null());
    let first = json!({"routes": [{"id": "r1", "uri": "/a", "upstream_id": "u"}, {"uri": "/b"}],
        "routes_conf_version": 1_000, "upstreams": [{"id": "u", "modifiedIndex": 1_000, "nodes": {"127.0.0.1:1980": 1}}]});
    assert_eq!(put("d1", &first).status, 202);
    assert_eq!(stand.head(), 1);
    let told = get();
    assert_eq!((told.header("x-digest"), &told.body["routes_conf_version"]), (Some("d1"), &json!(1_000)));
    assert_eq!(
        (&told.body["upstreams_conf_version"], &told.body["routes"][1]["id"]),
        (&json!(1), &json!("r1"))
    );
    assert_eq!(put("d1", &json!({})).status, 204, "the same digest changes nothing");
    let head = stand.api.ask("HEAD", "/apisix/admin/configs", None);
    assert_eq!((head.status, head.header("x-digest"), head.text.as_str()), (200, Some("d1"), ""));

    for (body, want) in [
        (json!({"routes_conf_version": 999}), "routes_conf_version must be greater than or equal to (1000)"),
        (json!({"routes_conf_version": "a"}), "routes_conf_version must be a number"),
        (
            json!({"routes": [{"id": "1", "uri": 5}]}),
            "invalid routes at index 0, err: invalid configuration: property \"uri\"",
        ),
        (
            json!({"routes": [{"id": "1", "uri": "/"}, {"id": 1, "uri": "/"}]}),
            "found duplicate id 1 in routes",
        ),
        (json!({"routes": [{"id": "1", "uri": "/", "upstream_id": "x"}]}), "failed to fetch upstream info"),
        (json!({"rotues": []}), "found rotues"),
    ] {
        let refused = put("d2", &body);
        assert!(refused.status == 400 && refused.error().contains(want), "{body}: {refused:?}");
    }
    let none = stand.api.ask("PUT", "/apisix/admin/configs", Some(&json!({})));
    assert_eq!((none.status, none.error()), (400, "missing digest header"));
    assert_eq!(stand.head(), 1);

    // The same number keeps a kind as it is, whatever its list; what is not named goes.
    let second = json!({"routes_conf_version": 1_001, "upstreams_conf_version": 1});
    assert_eq!(put("d2", &second).status, 202);
    assert_eq!(stand.cluster.sql("select kind, id from ringway.resource"), "upstreams|u");
    // Where others write, the digest is not the client's any more, and the number of the kind goes up.
    stand.api.ask("PATCH", "/apisix/admin/upstreams/u", Some(&json!({"desc": "other"})));
    let told = get();
    assert_eq!(
        (told.header("x-digest"), &told.body["upstreams_conf_version"]),
        (Some("revision-3"), &json!(2))
    );
    let wrong = json!({"routes": [{"uri": "/a"}, {"uri": 1}], "services": [{"id": "s", "upstream_id": "x"}]});
    let checked = stand.api.ask("POST", "/apisix/admin/configs/validate", Some(&wrong));
    assert!(checked.status == 400 && checked.body["errors"][0]["index"] == 1, "{checked:?}");
    let checked = stand.api.ask("POST", "/apisix/admin/configs/validate", Some(&first));
    assert_eq!((checked.status, stand.head()), (200, 3), "{checked:?}");
}

#[test]
fn putting_back_what_get_told_changes_nothing() {
    let stand = Stand::new();
    let put = |digest: &str, body: &Value| {
        let fields = [("X-API-KEY", ADMIN), ("X-Digest", digest), ("Content-Type", "application/json")];
        stand.api.with("PUT", "/apisix/admin/configs", Some(body), &fields).status
    };
    let first = json!({"routes": [{"id": "r", "uri": "/a", "upstream": {"nodes": {"127.0.0.1:1": 1}}}, {"id": "s", "uri": "/b"}],
        "upstreams": [{"id": "u", "nodes": {"127.0.0.1:1": 1}}]});
    assert_eq!(put("d1", &first), 202);
    let specs = || stand.cluster.sql("select kind, id, spec, revision from ringway.resource order by 1, 2");
    let stored = specs();
    let mut told = stand.api.ask("GET", "/apisix/admin/configs", None).body;
    assert_eq!((&told["routes"][0]["status"], &told["upstreams"][0]["scheme"]), (&json!(1), &json!("http")));
    // Without the numbers, so that each object is looked at.
    told.as_object_mut().unwrap().retain(|name, _| !name.ends_with("_conf_version"));
    assert_eq!(put("d2", &told), 202);
    assert_eq!((specs(), stand.head()), (stored, 1));
    // What differs is written as it was sent.
    told["routes"][1]["priority"] = json!(1);
    assert_eq!(put("d3", &told), 202);
    assert_eq!(stand.head(), 2);
    assert_eq!(stand.cluster.sql("select string_agg(id, ',') from ringway.resource where revision = 2"), "s");
}

#[test]
fn a_wait_ends_when_the_data_plane_serves_it_or_says_why_not() {
    let mut stand = Stand::new();
    let api = stand.api;
    let put = |query: &str, desc: &str| {
        let body = json!({"nodes": {}, "desc": desc});
        api.ask("PUT", &format!("/apisix/admin/upstreams/u?{query}"), Some(&body))
    };
    let late = put("wait=50ms", "nobody");
    let node = &late.body["applied"]["nodes"][0];
    assert!(late.status == 202 && node["reason"].as_str().unwrap().contains("not connected"), "{late:?}");

    let feed = Feed::listen(&stand.directory.path().join("feed.sock"));
    let mut link = feed.accept(None);
    let snapshot = link.full();
    link.ack(snapshot.version);
    stand.program.wait_status("served", |status| status["dataplane"]["version"]["revision"] == 1);
    let (applied, refused) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| (put("wait=30s", "good"), put("wait=30s", "bad")));
        link.until(|snapshot| snapshot.version.revision == 2);
        let bad = loop {
            if let ToDataplane::Full(snapshot) = link.next() {
                break snapshot.version;
            }
        };
        let fault = Fault {
            kind: "upstreams".into(),
            id: "u".into(),
            pointer: "/desc".into(),
            reason: "not here".into(),
        };
        link.nack(bad, Reason::Faults(vec![fault]));
        writer.join().unwrap()
    });
    assert_eq!((applied.status, &applied.body["applied"]["everywhere"]), (200, &json!(true)), "{applied:?}");
    assert_eq!(applied.body["revision"], 2);
    let node = &refused.body["applied"]["nodes"][0];
    assert!(
        refused.status == 202 && node["reason"] == "refused: upstreams/u at /desc: not here",
        "{refused:?}"
    );
    assert_eq!(api.ask("GET", "/v1/nodes", None).body["this"]["node"], "n1");
}

#[test]
fn a_wait_looks_at_every_live_node() {
    let stand = Stand::new();
    let api = stand.api;
    // The table of nodes as another node's control plane fills it.
    stand.cluster.sql(
        "create table if not exists ringway.node (node text, control text, instance text, build text, started_at timestamptz, \
         dataplane text, lineage bigint, timeline int, revision bigint, refusing boolean, refusal text, seen_at timestamptz default now(), \
         stale_at timestamptz, primary key (node, control))",
    );
    let node = |name: &str, stale: &str| {
        stand.cluster.sql(&format!(
            "insert into ringway.node (node, control, instance, build, started_at, dataplane, lineage, timeline, revision, refusing, stale_at) \
             select '{name}', '/c', 'i', 'b', now(), 'connected', lineage, 1, 0, false, now() + interval '{stale}' from ringway.head"
        ));
    };
    node("n2", "1 hour");
    node("silent", "-1 hour");
    let feed = Feed::listen(&stand.directory.path().join("feed.sock"));
    let mut link = feed.accept(None);
    link.until(|snapshot| snapshot.version.revision == 0);
    let put = |desc: &str, wait: &str| {
        api.ask(
            "PUT",
            &format!("/apisix/admin/upstreams/u?wait={wait}"),
            Some(&json!({"nodes": {}, "desc": desc})),
        )
    };
    let late = std::thread::scope(|scope| {
        let writer = scope.spawn(|| put("one", "2s"));
        link.until(|snapshot| snapshot.version.revision == 1);
        writer.join().unwrap()
    });
    let want = json!([{"node": "n1", "applied": true},
                      {"node": "n2", "applied": false, "reason": "it still serves revision 0"}]);
    assert_eq!((late.status, &late.body["applied"]["nodes"]), (202, &want), "{late:?}");
    let applied = std::thread::scope(|scope| {
        let writer = scope.spawn(|| put("two", "30s"));
        link.until(|snapshot| snapshot.version.revision == 2);
        stand.cluster.sql("update ringway.node set revision = 2 where node = 'n2'");
        writer.join().unwrap()
    });
    assert_eq!((applied.status, &applied.body["applied"]["everywhere"]), (200, &json!(true)), "{applied:?}");
    let nodes = api.ask("GET", "/v1/nodes", None).body;
    let silent =
        nodes["list"].as_array().unwrap().iter().find(|node| node["node"] == "silent").unwrap().clone();
    assert_eq!(silent["alive"], false, "{nodes}");
}
