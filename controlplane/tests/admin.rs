//! The Admin API over a real PostgreSQL: APISIX's shapes and refusals, and that nothing wrong is ever written.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod api;
mod cluster;
mod feed;
mod program;
mod stand;

use api::{ADMIN, VIEWER, start};
use cluster::Cluster;
use serde_json::{Value, json};
use stand::Stand;

const ROUTES: &str = "/apisix/admin/routes";
const UPSTREAMS: &str = "/apisix/admin/upstreams";

fn upstream() -> Value {
    json!({"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}})
}

#[test]
fn objects_are_made_read_changed_and_deleted_in_apisixs_shapes() {
    let stand = Stand::new();
    let api = stand.api;
    let made = api.ask("PUT", "/apisix/admin/upstreams/u", Some(&upstream()));
    assert_eq!((made.status, &made.body["key"]), (201, &json!("/apisix/upstreams/u")), "{made:?}");
    assert_eq!(made.body.as_object().unwrap().len(), 2, "key and value, nothing else: {made:?}");
    let route = json!({"uri": "/a", "upstream_id": "u", "labels": {"env": "dev"}, "name": "first"});
    let made = api.ask("PUT", "/apisix/admin/routes/1", Some(&route));
    assert_eq!((made.status, made.header("etag")), (201, Some("\"2\"")));
    assert_eq!(api.ask("PUT", "/apisix/admin/routes/1", Some(&route)).status, 200);

    let posted = api.ask("POST", ROUTES, Some(&json!({"uri": "/b", "upstream_id": "u"})));
    assert_eq!(posted.status, 201);
    let id = posted.body["value"]["id"].as_str().unwrap().to_owned();
    assert_eq!(id, "00000000000000000003");

    let patched =
        api.ask("PATCH", "/apisix/admin/routes/1", Some(&json!({"labels": {"team": "x"}, "name": null})));
    assert_eq!(patched.status, 200, "{patched:?}");
    assert_eq!(patched.body["value"]["labels"], json!({"env": "dev", "team": "x"}));
    let patched = api.ask("PATCH", "/apisix/admin/routes/1/uri", Some(&json!("/c")));
    assert_eq!(patched.body["value"]["uri"], "/c");

    let one = api.ask("GET", "/apisix/admin/routes/1", None);
    assert_eq!((&one.body["createdIndex"], &one.body["modifiedIndex"]), (&json!(2), &json!(5)));
    let value = &one.body["value"];
    assert!(
        value["name"].is_null() && value["status"] == 1 && value["priority"] == 0 && value["id"] == "1",
        "{one:?}"
    );
    assert!(value["create_time"].as_i64() > Some(1_700_000_000) && value["update_time"].is_i64());

    let list = api.ask("GET", ROUTES, None);
    assert_eq!((&list.body["total"], list.body["list"].as_array().unwrap().len()), (&json!(2), 2));
    assert_eq!(api.ask("GET", "/apisix/admin/services", None).text, "{\"list\":[],\"total\":0}\n");
    let deleted = api.ask("DELETE", "/apisix/admin/routes/1", None);
    assert_eq!(deleted.body, json!({"deleted": "1", "key": "/apisix/routes/1"}));
    assert_eq!(api.ask("DELETE", "/apisix/admin/routes/1", None).status, 404);
    assert_eq!(api.ask("GET", "/apisix/admin/routes/1", None).status, 404);
    // What a DBA sees is what was written, without what the row itself tells.
    let spec = stand.cluster.sql("select spec from ringway.resource where kind = 'upstreams'");
    assert_eq!(spec, r#"{"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}}"#);
}

#[test]
fn lists_are_filtered_and_cut_into_pages() {
    let stand = Stand::new();
    stand.cluster.sql(
        "insert into ringway.resource (kind, id, spec) select 'routes', 'r' || to_char(n, 'FM000'), \
         jsonb_build_object('uri', '/' || n, 'name', 'n' || n % 7, 'labels', jsonb_build_object('env', 'e' || n % 3)) \
         from generate_series(1, 60) n",
    );
    let ids = |query: &str| -> (u64, Vec<String>) {
        let reply = stand.api.ask("GET", &format!("{ROUTES}?{query}"), None);
        assert_eq!(reply.status, 200, "{reply:?}");
        let list = reply.body["list"].as_array().unwrap();
        let ids = list.iter().map(|item| item["value"]["id"].as_str().unwrap().to_owned()).collect();
        (reply.body["total"].as_u64().unwrap(), ids)
    };
    let (total, page) = ids("page=2&page_size=25");
    assert_eq!((total, page.len(), page[0].as_str()), (60, 25, "r026"));
    assert_eq!(ids("page=3&page_size=25").1.len(), 10);
    assert_eq!(ids("uri=/59"), (1, vec!["r059".to_owned()]));
    assert_eq!(ids("name=n0&label=env:e0").0, 2);
    let (total, page) = ids("label=env:e1&page=2&page_size=15");
    assert_eq!((total, page.len()), (20, 5));
    assert_eq!(stand.api.ask("GET", &format!("{ROUTES}?page=x"), None).status, 400);
}

#[test]
fn what_is_wrong_is_refused_with_field_and_reason_and_nothing_is_written() {
    let stand = Stand::new();
    let api = stand.api;
    assert_eq!(api.ask("PUT", "/apisix/admin/upstreams/u", Some(&upstream())).status, 201);
    let before = stand.all();
    for (method, path, body, status, want) in [
        (
            "PUT",
            "/apisix/admin/routes/1",
            json!({"uri": "/a", "urii": 1}),
            400,
            "additional properties forbidden, found urii",
        ),
        (
            "PUT",
            "/apisix/admin/routes/1",
            json!({"uri": 5}),
            400,
            "property \"uri\" validation failed: wrong type: expected string, got number",
        ),
        ("PUT", "/apisix/admin/routes/1", json!({"uri": "a"}), 400, "property \"uri\" validation failed"),
        (
            "PUT",
            "/apisix/admin/routes/1",
            json!({"uri": "/a", "plugins": {"no-such": {}}}),
            400,
            "unknown plugin [no-such]",
        ),
        (
            "PUT",
            "/apisix/admin/routes/1",
            json!({"uri": "/a", "upstream_id": "x"}),
            400,
            "failed to fetch upstream info by upstream id [x], response code: 404",
        ),
        ("PUT", "/apisix/admin/routes/1", json!({"uri": "/a", "id": "2"}), 400, "wrong route id"),
        ("PUT", "/apisix/admin/routes", json!({"uri": "/a"}), 400, "missing route id"),
        ("PUT", "/apisix/admin/routes/a%20b", json!({"uri": "/a"}), 400, "property \"id\" validation failed"),
        (
            "PUT",
            "/apisix/admin/routes/1",
            json!({"uri": "/a", "create_time": 1}),
            400,
            "the property is forbidden",
        ),
        ("PUT", "/apisix/admin/routes/1?wait=x", json!({"uri": "/a"}), 400, "wait is a time"),
        (
            "PUT",
            "/apisix/admin/routes/1?ttl=0",
            json!({"uri": "/a"}),
            400,
            "ttl is a whole number of seconds",
        ),
        ("POST", "/apisix/admin/routes/1", json!({"uri": "/a"}), 400, "wrong route id, do not need it"),
        ("POST", "/apisix/admin/consumers", json!({}), 405, "not supported `POST` method for consumer"),
        ("PATCH", "/apisix/admin/upstreams/u/nodes", json!({"127.0.0.1:0": 1}), 400, "nodes"),
        (
            "PUT",
            "/apisix/admin/upstreams/w",
            json!({"nodes": [{"host": "127.0.0.1", "port": 0, "weight": 1}], "type": "chash"}),
            400,
            "property \"nodes\" validation failed: object matches none of the required",
        ),
        (
            "PUT",
            "/apisix/admin/consumers/jack/credentials/3401-be",
            json!({"plugins": {}}),
            404,
            "consumer not found",
        ),
        (
            "GET",
            "/apisix/admin/plugins/cors?subsystem=stream",
            json!(null),
            404,
            "plugin not found in subsystem stream",
        ),
        ("PATCH", "/apisix/admin/upstreams/none", json!({"retries": 1}), 404, "Key not found"),
        ("PATCH", "/apisix/admin/upstreams/u", json!([1]), 400, "invalid configuration"),
        ("PUT", "/apisix/admin/routs/1", json!({}), 400, "Unsupported resource type: routs"),
        ("DELETE", "/apisix/admin/routes", json!(null), 400, "missing route id"),
        (
            "POST",
            "/v1/transaction",
            json!({"operations": [{"op": "put", "kind": "routes", "id": "1", "value": {"uri": "/a"}},
            {"op": "put", "kind": "upstreams", "id": "w", "value": {"nodes": 1}}]}),
            400,
            "operation 1: invalid configuration: property \"nodes\"",
        ),
    ] {
        let reply = api.ask(method, path, Some(&body));
        assert!(reply.status == status && reply.error().contains(want), "{method} {path} {body}: {reply:?}");
    }
    let raw = |body: &[u8]| api.raw("PUT", "/apisix/admin/routes/1", body, &[("X-API-KEY", ADMIN)]);
    assert!(raw(b"{\"uri\": ").error().contains("invalid request body"));
    assert!(raw(b"{\"uri\": \"/a\\u0000\"}").status == 400);
    let large = raw(format!("{{\"uri\": \"/a\", \"desc\": \"{}\"}}", "x".repeat(1_600_000)).as_bytes());
    assert!(large.status == 413 && large.error().contains("greater than the maximum size"), "{large:?}");
    // A body that is no body is not told as one that is too large.
    let mut stream = std::net::TcpStream::connect(api.address()).unwrap();
    let head = format!(
        "PUT /apisix/admin/routes/1 HTTP/1.1\r\nHost: a\r\nX-API-KEY: {ADMIN}\r\nConnection: close\r\n"
    );
    std::io::Write::write_all(
        &mut stream,
        format!("{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n").as_bytes(),
    )
    .unwrap();
    let broken = std::io::read_to_string(&mut stream).unwrap();
    assert!(broken.starts_with("HTTP/1.1 400"), "{broken}");
    assert_eq!(stand.all(), before);
}

#[test]
fn a_path_below_an_object_and_a_key_that_stands_twice_are_refused_and_write_nothing() {
    let stand = Stand::new();
    let api = stand.api;
    api.ask("PUT", "/apisix/admin/upstreams/u", Some(&upstream()));
    api.ask("PUT", "/apisix/admin/consumers/jack", Some(&json!({"username": "jack"})));
    let before = stand.all();
    let route = json!({"uri": "/a", "upstream_id": "u"});
    let key = json!({"plugins": {"key-auth": {"key": "k"}}});
    for (method, path, body) in [
        ("PUT", "routes/1/foo/bar", Some(&route)),
        ("POST", "routes/1/foo", Some(&route)),
        ("GET", "upstreams/u/nodes", None),
        ("DELETE", "upstreams/u/nodes", None),
        ("PUT", "consumers/jack/foo", Some(&key)),
        ("PUT", "consumers/jack/credentials/a/b", Some(&key)),
        ("GET", "consumers/jack/credentials/a/b", None),
        ("DELETE", "consumers/jack/x", None),
    ] {
        let reply = api.ask(method, &format!("/apisix/admin/{path}"), body);
        assert_eq!((reply.status, reply.error().contains("at this path")), (404, true), "{path}: {reply:?}");
    }
    let fields = [("X-API-KEY", ADMIN)];
    for (method, path, body, place) in [
        ("PUT", "/apisix/admin/routes/1", r#"{"uri": "/a", "upstream_id": "u", "uri": "/b"}"#, "/uri "),
        (
            "PATCH",
            "/apisix/admin/upstreams/u",
            r#"{"nodes": {"127.0.0.1:1": 1, "127.0.0.1:1": 2}}"#,
            "/nodes/127.0.0.1:1 ",
        ),
        (
            "PUT",
            "/apisix/admin/consumers",
            "{\"username\": \"jill\", \"desc\": \"a\nb\", \"username\": \"jack\"}",
            "/username ",
        ),
        (
            "POST",
            "/v1/transaction",
            r#"{"operations": [{"op": "delete", "op": "put", "kind": "upstreams", "id": "u"}]}"#,
            "/operations/0/op ",
        ),
    ] {
        let reply = api.raw(method, path, body.as_bytes(), &fields);
        assert_eq!(reply.status, 400, "{reply:?}");
        assert!(reply.error().contains(place) && reply.error().contains("twice"), "{reply:?}");
    }
    assert_eq!(stand.all(), before);
}

#[test]
fn keys_have_roles() {
    let stand = Stand::new();
    let ask = |method: &str, path: &str, fields: &[(&str, &str)]| {
        let reply = stand.api.with(method, path, Some(&json!({"uri": "/a"})), fields);
        (reply.status, reply.body["description"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(ask("GET", ROUTES, &[]), (401, "missing apikey".to_owned()));
    assert_eq!(ask("GET", ROUTES, &[("X-API-KEY", "no")]), (401, "wrong apikey".to_owned()));
    assert_eq!(ask("GET", ROUTES, &[("X-API-KEY", VIEWER)]).0, 200);
    assert_eq!(ask("GET", &format!("{ROUTES}?api_key={VIEWER}"), &[]).0, 200);
    let refused = (401, "invalid method for role viewer".to_owned());
    assert_eq!(ask("PUT", "/apisix/admin/routes/1", &[("X-API-KEY", VIEWER)]), refused);
    assert_eq!(ask("POST", "/v1/rollback/0", &[("X-API-KEY", VIEWER)]), refused);
    assert_eq!(ask("PUT", "/apisix/admin/routes/1", &[("X-API-KEY", ADMIN)]).0, 201);
    let log = stand.program.log();
    assert!(!log.contains(ADMIN) && !log.contains(VIEWER), "{log}");
    assert_eq!(stand.cluster.sql("select actor from ringway.change"), "admin:boss");
}

#[test]
fn what_is_referred_to_is_not_deleted_unless_forced_and_then_nothing_opens() {
    let stand = Stand::new();
    let api = stand.api;
    api.ask("PUT", "/apisix/admin/upstreams/u", Some(&upstream()));
    api.ask("PUT", "/apisix/admin/services/s", Some(&json!({"upstream_id": "u", "hosts": ["a.example"]})));
    api.ask("PUT", "/apisix/admin/routes/1", Some(&json!({"uri": "/a", "service_id": "s"})));
    let refused = api.ask("DELETE", "/apisix/admin/services/s?force=anyvalue", None);
    assert_eq!(
        (refused.status, refused.error()),
        (400, "can not delete this service, route [1] is still using it now")
    );
    let refused = api.ask("DELETE", "/apisix/admin/upstreams/u", None);
    assert_eq!(refused.error(), "can not delete this upstream, service [s] is still using it now");
    let forced = api.ask("DELETE", "/apisix/admin/services/s?force=true", None);
    assert_eq!(
        forced.body,
        json!({"deleted": "s", "key": "/apisix/services/s", "detached": ["/apisix/routes/1"]})
    );
    // Without its service the route would match every host: it is disabled in the same revision.
    let route = api.ask("GET", "/apisix/admin/routes/1", None).body;
    assert!(route["value"]["service_id"].is_null() && route["value"]["status"] == 0, "{route}");
    assert_eq!(route["modifiedIndex"], 4);
    assert_eq!(api.ask("DELETE", "/apisix/admin/upstreams/u", None).status, 200);
}

#[test]
fn of_fifty_writers_that_saw_one_revision_exactly_one_wins() {
    let stand = Stand::new();
    let api = stand.api;
    api.ask("PUT", "/apisix/admin/upstreams/u", Some(&upstream()));
    for round in 0..3 {
        let tag = api.ask("GET", "/apisix/admin/upstreams/u", None).header("etag").unwrap().to_owned();
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..50)
                .map(|writer| {
                    let (tag, desc) = (&tag, format!("round {round} writer {writer}"));
                    scope.spawn(move || {
                        let fields = [("X-API-KEY", ADMIN), ("If-Match", tag.as_str())];
                        let body = json!({"desc": desc});
                        api.with("PATCH", "/apisix/admin/upstreams/u", Some(&body), &fields).status
                    })
                })
                .collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let count = |status: u16| statuses.iter().filter(|own| **own == status).count();
        assert_eq!((count(200), count(412)), (1, 49), "{statuses:?}");
    }
    assert_eq!(stand.cluster.sql("select revision from ringway.head"), "4");
    let only_new = [("X-API-KEY", ADMIN), ("If-None-Match", "*")];
    assert_eq!(api.with("PUT", "/apisix/admin/upstreams/u", Some(&upstream()), &only_new).status, 412);
    assert_eq!(api.with("PUT", "/apisix/admin/upstreams/v", Some(&upstream()), &only_new).status, 201);
}

#[test]
fn writers_of_objects_that_refer_to_each_other_never_leave_a_reference_to_nothing() {
    let stand = Stand::new();
    let api = stand.api;
    for round in 0..10 {
        assert!(api.ask("PUT", "/apisix/admin/upstreams/u", Some(&upstream())).status < 300);
        let (deleted, written) = std::thread::scope(|scope| {
            let route = json!({"uri": "/a", "upstream_id": "u", "desc": format!("{round}")});
            let writer = scope.spawn(move || api.ask("PUT", "/apisix/admin/routes/1", Some(&route)).status);
            let deleted = api.ask("DELETE", "/apisix/admin/upstreams/u", None).status;
            (deleted, writer.join().unwrap())
        });
        assert!((deleted == 200) != (written < 300), "round {round}: {deleted} {written}");
        api.ask("DELETE", "/apisix/admin/routes/1", None);
    }
}

#[test]
fn with_the_file_source_reads_work_and_writes_are_told_where_to_go() {
    let directory = program::directory();
    let file = directory.path().join("ringway.yaml");
    let text = "routes:\n  - {id: 1, uri: /a, upstream_id: u}\nupstreams:\n  - {id: u, nodes: {\"127.0.0.1:1\": 1}}\n";
    std::fs::write(&file, text).unwrap();
    let (mut program, api) = start(directory.path(), "n1", &["--file", file.to_str().unwrap()]);
    program.wait_status("the file is read", |status| status["version"]["objects"] == 2);
    let one = api.ask("GET", "/apisix/admin/routes/1", None);
    assert_eq!((one.status, &one.body["value"]["uri"]), (200, &json!("/a")));
    assert_eq!(api.ask("GET", UPSTREAMS, None).body["total"], 1);
    let refused = api.ask("PUT", "/apisix/admin/routes/2", Some(&json!({"uri": "/b"})));
    assert!(refused.status == 403 && refused.error().contains("ringway.yaml"), "{refused:?}");
    assert_eq!(api.ask("GET", "/v1/changes", None).status, 501);
}

#[test]
fn while_postgresql_is_down_it_says_so_and_then_goes_on() {
    let mut stand = Stand::new();
    let api = stand.api;
    assert_eq!(api.ask("PUT", "/apisix/admin/upstreams/u", Some(&upstream())).status, 201);
    stand.cluster.kill();
    // A server's child that has not noticed yet still answers.
    api.until("GET", UPSTREAMS, |reply| reply.status == 503);
    for (method, path) in [("PUT", "/apisix/admin/upstreams/u"), ("GET", UPSTREAMS), ("GET", "/v1/changes")] {
        let reply = api.ask(method, path, Some(&upstream()));
        assert!(reply.status == 503 && reply.error().contains("PostgreSQL"), "{method} {path}: {reply:?}");
        assert!(reply.header("retry-after").is_some());
    }
    stand.cluster.start_server();
    api.until("GET", UPSTREAMS, |reply| reply.status == 200);
    assert_eq!(api.ask("PUT", "/apisix/admin/upstreams/v", Some(&upstream())).status, 201);
    drop(stand.directory);
}

#[test]
fn a_server_that_dies_in_the_middle_of_a_write_leaves_nothing_of_it() {
    let mut stand = Stand::new();
    let api = stand.api;
    assert_eq!(api.ask("PUT", "/apisix/admin/upstreams/u", Some(&upstream())).status, 201);
    // Another transaction holds the lock, so that the write stands in the middle.
    let mut holder =
        stand.cluster.spawn_sql("begin; select from ringway.head for update; select pg_sleep(600)");
    let waiting = |query: &str| {
        let deadline = std::time::Instant::now() + program::WAIT_MAX;
        while stand.cluster.sql(query) == "0" {
            assert!(std::time::Instant::now() < deadline, "{query}");
        }
    };
    waiting(
        "select count(*) from pg_stat_activity where query like '%pg_sleep(600)%' and wait_event = 'PgSleep'",
    );
    let list = json!({"operations": [{"op": "put", "kind": "routes", "id": "1", "value": {"uri": "/a"}},
                                     {"op": "put", "kind": "routes", "id": "2", "value": {"uri": "/b"}}]});
    let writer = std::thread::spawn(move || api.ask("POST", "/v1/transaction", Some(&list)));
    waiting(
        "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%ringway.head for update%'",
    );
    stand.cluster.kill();
    let reply = writer.join().unwrap();
    assert!(reply.status == 503 && reply.error().contains("nothing was written"), "{reply:?}");
    let _ = holder.kill();
    let _ = holder.wait();
    stand.cluster.start_server();
    assert_eq!(stand.cluster.sql("select kind, id from ringway.resource"), "upstreams|u");
    api.until("GET", UPSTREAMS, |reply| reply.status == 200);
}

#[test]
fn a_server_that_dies_during_commit_leaves_an_outcome_that_is_told_as_unknown() {
    let mut stand = Stand::new();
    let api = stand.api;
    // The COMMIT of whoever writes objects waits for a standby that never comes: written, and not yet answered.
    stand.cluster.reconfigure("synchronous_standby_names = 'nobody'\nsynchronous_commit = local\n");
    stand.cluster.sql(
        "create function ringway.wait() returns trigger language plpgsql as \
         $$ begin perform set_config('synchronous_commit', 'on', true); return null; end $$; \
         create trigger wait after insert on ringway.resource execute function ringway.wait()",
    );
    api.until("GET", UPSTREAMS, |reply| reply.status == 200);
    let writer = std::thread::spawn(move || api.ask("PUT", "/apisix/admin/upstreams/u", Some(&upstream())));
    let deadline = std::time::Instant::now() + program::WAIT_MAX;
    while stand.cluster.sql("select count(*) from pg_stat_activity where wait_event = 'SyncRep'") == "0" {
        assert!(std::time::Instant::now() < deadline, "nobody waits in COMMIT");
    }
    stand.cluster.kill();
    let reply = writer.join().unwrap();
    assert!(
        reply.status == 503 && reply.error().contains("whether it was written is not known"),
        "{reply:?}"
    );
    assert!(!reply.error().contains("nothing was written"), "{reply:?}");
    stand.cluster.start_server();
    stand.cluster.sql("drop trigger wait on ringway.resource");
    // Whoever looks sees it whole: the object and its line of history, or neither.
    let seen = api.until("GET", UPSTREAMS, |reply| reply.status == 200).body["total"].as_u64().unwrap();
    let listed = api.ask("GET", "/v1/changes", None).body["list"].as_array().unwrap().len();
    assert_eq!((seen, listed), (1, 1), "what PostgreSQL had flushed is there after the crash");
}

#[test]
fn of_fifty_writers_without_a_condition_none_is_lost_from_the_history() {
    let stand = Stand::new();
    let api = stand.api;
    api.ask("PUT", "/apisix/admin/upstreams/u", Some(&upstream()));
    std::thread::scope(|scope| {
        for writer in 0..50 {
            scope.spawn(move || {
                let body = json!({"labels": {format!("w{writer}"): "here"}});
                let reply = api.ask("PATCH", "/apisix/admin/upstreams/u", Some(&body));
                assert_eq!(reply.status, 200, "{reply:?}");
            });
        }
    });
    let labels = api.ask("GET", "/apisix/admin/upstreams/u", None).body["value"]["labels"].clone();
    assert_eq!(labels.as_object().unwrap().len(), 50, "a merge saw an older object: {labels}");
    let list = api.ask("GET", "/v1/changes?kind=upstreams&id=u&limit=100", None).body["list"].clone();
    let list = list.as_array().unwrap();
    // Newest first: each begins where the one below it ended.
    assert_eq!(list.len(), 51);
    for pair in list.windows(2) {
        assert_eq!(pair[0]["before"], pair[1]["after"]);
    }
    let revisions: Vec<u64> = list.iter().rev().map(|change| change["revision"].as_u64().unwrap()).collect();
    assert_eq!(revisions, (1..=51).collect::<Vec<u64>>());
}

#[test]
fn while_somebody_else_broke_the_configuration_only_its_cure_is_taken() {
    let mut stand = Stand::new();
    stand
        .cluster
        .sql("insert into ringway.resource (kind, id, spec) values ('routes', 'bad', '{\"uri\": \"x\"}')");
    stand.program.wait_status("the refusal", |status| status["refused"]["revision"] == 1);
    let refused = stand.api.ask("PUT", "/apisix/admin/upstreams/u", Some(&upstream()));
    assert!(refused.status == 409 && refused.error().contains("routes/bad at /uri"), "{refused:?}");
    assert_eq!(stand.api.ask("DELETE", "/apisix/admin/routes/bad", None).status, 200);
    assert_eq!(stand.api.ask("PUT", "/apisix/admin/upstreams/u", Some(&upstream())).status, 201);
}

/// A small generator, so that a failure can be repeated by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[test]
fn no_sequence_of_accepted_writes_makes_an_invalid_configuration() {
    let stand = Stand::new();
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed_u64);
    println!("SEED={seed}");
    let mut dice = Dice(seed);
    let (mut accepted, mut refused) = (0, 0);
    for step in 0..250 {
        let (kind, id) = (["routes", "services", "upstreams"][dice.roll(3) as usize], dice.roll(4));
        let mut object = match kind {
            "routes" => json!({"uri": if dice.roll(8) == 0 { "bad" } else { "/a" }}),
            "services" => json!({"desc": format!("{step}")}),
            _ => json!({"nodes": {"127.0.0.1:1": dice.roll(5)}}),
        };
        if kind != "upstreams" && dice.roll(2) == 0 {
            object["upstream_id"] = json!(dice.roll(4));
        }
        if kind == "routes" && dice.roll(2) == 0 {
            object["service_id"] = json!(dice.roll(4));
        }
        let path = format!("/apisix/admin/{kind}/{id}");
        let reply = match dice.roll(6) {
            0..=2 => stand.api.ask("PUT", &path, Some(&object)),
            3 => stand.api.ask("PATCH", &path, Some(&object)),
            4 => stand.api.ask("DELETE", &format!("{path}?force={}", dice.roll(2) == 0), None),
            _ => {
                let other = json!({"op": "delete", "kind": "upstreams", "id": dice.roll(4)});
                let put = json!({"op": "put", "kind": kind, "id": id, "value": object});
                stand.api.ask("POST", "/v1/transaction", Some(&json!({"operations": [put, other]})))
            }
        };
        match reply.status {
            200 | 201 => accepted += 1,
            400 | 404 => refused += 1,
            _ => panic!("step {step}: {reply:?}"),
        }
        let mut store = ringway_controlplane::store::Store::default();
        let rows = stand.cluster.sql("select kind || ' ' || id || ' ' || spec from ringway.resource");
        for row in rows.lines() {
            let mut words = row.splitn(3, ' ');
            let mut next = || words.next().unwrap();
            store.put_text(next(), next(), next());
        }
        assert!(store.snapshot(1, 1, 1).is_ok(), "SEED={seed} step {step}: {reply:?}\n{rows}");
    }
    assert!(accepted > 40 && refused > 40, "{accepted} accepted, {refused} refused");
}

#[test]
fn a_route_is_written_and_deleted_among_many_without_a_look_at_all_of_them() {
    const ROWS: u64 = 5_000;
    let mut stand = Stand::new();
    stand.cluster.sql(&format!(
        "alter table ringway.resource set (autovacuum_enabled = false);
         insert into ringway.resource (kind, id, spec) select 'routes', n, jsonb_build_object('uri', '/r/' || n)
         from generate_series(1, {ROWS}) n; analyze ringway.resource"
    ));
    stand.program.wait_status("all of them", |status| status["version"]["revision"] == 1);
    assert_eq!(stand.api.ask("PUT", "/apisix/admin/routes/7", Some(&json!({"uri": "/b"}))).status, 200);
    assert_eq!(stand.api.ask("DELETE", "/apisix/admin/routes/8", None).status, 200);
    assert!(stand.program.terminate().success());
    let deadline = std::time::Instant::now() + program::WAIT_MAX;
    // A server process tells its counts at its end at the latest.
    let others = "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()";
    while stand.cluster.sql(others) != "0" {
        assert!(std::time::Instant::now() < deadline, "connections stay");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let read: u64 = stand
        .cluster
        .sql("select seq_tup_read from pg_stat_user_tables where schemaname = 'ringway' and relname = 'resource'")
        .parse()
        .unwrap();
    assert!(read < ROWS, "{read} rows were read by sequential scans");
}

#[test]
fn pages_of_other_origins_are_let_in_by_name_and_with_a_key_alone() {
    let cluster = Cluster::start();
    let directories = [(); 3].map(|()| program::directory());
    let start_with = |place: usize, arguments: &[&str]| {
        let url = cluster.url();
        let arguments = [&["--database-url", &url], arguments].concat();
        let (mut program, api) = start(directories[place].path(), "n1", &arguments);
        program.wait_status("the schema is there", |status| status["version"]["revision"] == 0);
        (program, api)
    };
    let (origin, allowed) = ("https://ops.example.com", "access-control-allow-origin");
    let (mut program, api) = start_with(0, &[]);
    let asked = api.with("OPTIONS", ROUTES, None, &[("Origin", origin)]);
    assert_eq!((asked.status, asked.header(allowed)), (401, None), "off unless asked for");
    assert!(program.terminate().success());

    let (mut program, api) = start_with(1, &["--admin-cors-origins", origin]);
    let asked = api.with("OPTIONS", ROUTES, None, &[("Origin", origin)]);
    assert_eq!((asked.status, asked.header(allowed)), (200, Some(origin)));
    assert_eq!(asked.header("access-control-allow-headers"), Some("*"));
    assert_eq!(asked.header("access-control-allow-credentials"), None);
    let other = api.with("OPTIONS", ROUTES, None, &[("Origin", "https://ops.example.com.evil")]);
    assert_eq!((other.header(allowed), other.header("vary")), (None, Some("Origin")));
    let without_key = api.with("GET", ROUTES, None, &[("Origin", origin)]);
    assert_eq!((without_key.status, without_key.header(allowed)), (401, Some(origin)));
    let with_key = api.with("GET", ROUTES, None, &[("Origin", origin), ("X-API-KEY", VIEWER)]);
    assert_eq!((with_key.status, with_key.header(allowed)), (200, Some(origin)));
    assert!(program.terminate().success());

    let (_program, api) = start_with(2, &["--admin-cors-origins", "*"]);
    assert_eq!(api.ask("GET", ROUTES, None).header(allowed), Some("*"));
}

#[test]
fn no_page_of_another_origin_writes_with_the_key_that_a_browser_has_as_a_cookie() {
    let stand = Stand::new();
    let (body, cookie) = (json!({"uri": "/a", "upstream": upstream()}), format!("x_api_key={ADMIN}"));
    // As these tests call the host.
    let own = ("Origin", "http://admin");
    let post = |fields: &[(&str, &str)]| {
        let fields = [&[("Cookie", cookie.as_str()), ("Content-Type", "text/plain")], fields].concat();
        stand.api.with("POST", ROUTES, Some(&body), &fields).status
    };
    for foreign in [
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Origin", "http://admin:8080"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ] {
        assert_eq!(post(&[foreign]), 401, "{foreign:?}");
    }
    assert_eq!(stand.cluster.sql("select count(*) from ringway.resource"), "0");
    for (count, fields) in [&[][..], &[own, ("Sec-Fetch-Site", "same-origin")]].iter().enumerate() {
        assert_eq!(post(fields), 201, "{fields:?}");
        assert_eq!(stand.cluster.sql("select count(*) from ringway.resource"), (count + 1).to_string());
    }
}
