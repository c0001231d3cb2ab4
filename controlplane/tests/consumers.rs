//! Consumers, credentials and consumer groups in the Admin API over a real PostgreSQL.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod api;
mod cluster;
mod feed;
mod program;
mod stand;

use api::{ADMIN, Reply};
use serde_json::{Value, json};
use stand::Stand;

const CONSUMERS: &str = "/apisix/admin/consumers";
const GROUPS: &str = "/apisix/admin/consumer_groups";

/// Writes an object.
#[track_caller]
fn put(stand: &Stand, path: &str, body: impl Into<Value>) -> Reply {
    stand.api.ask("PUT", path, Some(&body.into()))
}

fn stored(stand: &Stand) -> String {
    stand.cluster.sql("select string_agg(kind || ':' || id, ' ' order by kind, id) from ringway.resource")
}

fn key(key: &str) -> Value {
    json!({"key-auth": {"key": key}})
}

#[test]
fn consumers_and_their_credentials_are_made_read_and_deleted_in_apisixs_shapes() {
    let stand = Stand::new();
    let api = stand.api;
    let early = put(&stand, &format!("{CONSUMERS}/jack/credentials/a"), json!({"plugins": key("a")}));
    assert_eq!((early.status, early.error()), (404, "consumer not found"));
    let made = put(&stand, CONSUMERS, json!({"username": "jack", "plugins": key("k")}));
    assert_eq!((made.status, &made.body["key"]), (201, &json!("/apisix/consumers/jack")), "{made:?}");
    assert_eq!(made.body["value"]["username"], "jack");
    assert_eq!(
        put(&stand, &format!("{CONSUMERS}/jack"), json!({"username": "jack", "plugins": key("k")})).status,
        200
    );
    assert_eq!(
        put(&stand, &format!("{CONSUMERS}/jill"), json!({"username": "jack"})).error(),
        "wrong username"
    );
    assert_eq!(api.ask("GET", &format!("{CONSUMERS}/jack/credentials"), None).status, 404);

    let path = format!("{CONSUMERS}/jack/credentials/a.1");
    let made = put(&stand, &path, json!({"plugins": key("a"), "desc": "d"}));
    assert_eq!(
        (made.status, &made.body["key"]),
        (201, &json!("/apisix/consumers/jack/credentials/a.1")),
        "{made:?}"
    );
    assert_eq!(made.body["value"]["id"], "a.1");
    let named =
        put(&stand, &format!("{CONSUMERS}/jack/credentials"), json!({"id": "b", "plugins": key("b")}));
    assert_eq!((named.status, &named.body["value"]["id"]), (201, &json!("b")), "{named:?}");
    let nameless = put(&stand, &format!("{CONSUMERS}/jack/credentials"), json!({"plugins": key("c")}));
    assert_eq!((nameless.status, nameless.error()), (400, "missing credential id"));
    for (method, what) in [("POST", "credentials"), ("PATCH", "credentials/b")] {
        let refused = api.ask(method, &format!("{CONSUMERS}/jack/{what}"), Some(&json!({})));
        assert_eq!(refused.status, 405, "{method}: {refused:?}");
    }
    let list = api.ask("GET", &format!("{CONSUMERS}/jack/credentials"), None).body;
    let ids: Vec<&Value> = list["list"].as_array().unwrap().iter().map(|item| &item["value"]["id"]).collect();
    assert_eq!((&list["total"], ids), (&json!(2), vec![&json!("a.1"), &json!("b")]));
    assert_eq!(api.ask("GET", CONSUMERS, None).body["total"], 1, "credentials are no consumers");
    assert_eq!(api.ask("GET", &path, None).body["value"]["plugins"], key("a"));

    assert_eq!(put(&stand, CONSUMERS, json!({"username": "jac", "plugins": key("z")})).status, 201);
    assert_eq!(
        put(&stand, &format!("{CONSUMERS}/jac/credentials/a.1"), json!({"plugins": key("y")})).status,
        201
    );
    assert_eq!(api.ask("DELETE", &path, None).status, 200);
    assert_eq!(api.ask("DELETE", &path, None).status, 404);
    assert_eq!(api.ask("DELETE", &format!("{CONSUMERS}/jack"), None).status, 200);
    assert_eq!(
        stored(&stand),
        "consumers:jac credentials:jac/credentials/a.1",
        "a consumer goes with its own"
    );
}

#[test]
fn what_cannot_be_told_apart_is_refused_with_the_others_name() {
    let stand = Stand::new();
    for (path, body) in [
        (CONSUMERS.to_owned(), json!({"username": "b", "plugins": key("70707")})),
        (CONSUMERS.to_owned(), json!({"username": "c"})),
        (
            format!("{CONSUMERS}/c/credentials/1"),
            json!({"plugins": {"basic-auth": {"username": "u", "password": "p"}}}),
        ),
    ] {
        assert_eq!(put(&stand, &path, body).status, 201);
    }
    for (path, body, want) in [
        (
            CONSUMERS.to_owned(),
            json!({"username": "a", "plugins": key("70707")}),
            "duplicate key of plugin key-auth found with consumer: b",
        ),
        (
            format!("{CONSUMERS}/c/credentials/2"),
            json!({"plugins": key("70707")}),
            "duplicate key of plugin key-auth found with consumer: b",
        ),
        (
            CONSUMERS.to_owned(),
            json!({"username": "a", "plugins": {"basic-auth": {"username": "u", "password": "other"}}}),
            "duplicate username of plugin basic-auth found with credential: 1 of consumer: c",
        ),
    ] {
        let refused = put(&stand, &path, body);
        assert_eq!((refused.status, refused.error()), (400, want));
        assert!(!refused.text.contains("70707"), "{refused:?}");
    }
    // Its own is nobody else's, and what moves in one transaction is there once.
    let again = put(&stand, CONSUMERS, json!({"username": "b", "desc": "new", "plugins": key("70707")}));
    assert_eq!(again.status, 200, "{again:?}");
    let moved = json!({"operations": [
        {"op": "put", "kind": "consumers", "id": "b", "value": {"username": "b", "plugins": key("new")}},
        {"op": "put", "kind": "credentials", "id": "c/credentials/2", "value": {"plugins": key("70707")}}]});
    let moved = stand.api.ask("POST", "/v1/transaction", Some(&moved));
    assert_eq!(moved.status, 200, "{moved:?}");
    let twice = json!({"operations": [
        {"op": "put", "kind": "consumers", "id": "x", "value": {"username": "x", "plugins": key("80808")}},
        {"op": "put", "kind": "consumers", "id": "y", "value": {"username": "y", "plugins": key("80808")}}]});
    let twice = stand.api.ask("POST", "/v1/transaction", Some(&twice));
    assert!(twice.status == 400 && twice.error().contains("consumer: x"), "{twice:?}");
    // Who reads the history does not learn how to log in.
    let history = stand.api.ask("GET", "/v1/changes", None).text;
    assert!(history.contains("(hidden)") && !history.contains("70707"), "{history}");
}

#[test]
fn a_group_stays_while_it_has_consumers_and_goes_by_force() {
    let stand = Stand::new();
    let api = stand.api;
    let missing = put(&stand, CONSUMERS, json!({"username": "a", "group_id": "g"}));
    assert_eq!(missing.status, 400);
    assert_eq!(
        missing.error(),
        "failed to fetch consumer group info by consumer group id [g], response code: 404"
    );
    let group = json!({"plugins": {"cors": {}}, "desc": "d"});
    assert_eq!(put(&stand, &format!("{GROUPS}/g"), group).status, 201);
    assert_eq!(
        put(&stand, CONSUMERS, json!({"username": "a", "group_id": "g", "plugins": key("k")})).status,
        201
    );
    let patched =
        api.ask("PATCH", &format!("{GROUPS}/g"), Some(&json!({"plugins": {"cors": {"max_age": 7}}})));
    assert_eq!(
        (patched.status, &patched.body["value"]["plugins"]["cors"]["max_age"]),
        (200, &json!(7)),
        "{patched:?}"
    );
    assert_eq!(api.ask("POST", GROUPS, Some(&json!({"plugins": {}}))).status, 405);
    let kept = api.ask("DELETE", &format!("{GROUPS}/g"), None);
    assert_eq!(kept.status, 400);
    assert_eq!(kept.error(), "can not delete this consumer group, consumer [a] is still using it now");
    let gone = api.ask("DELETE", &format!("{GROUPS}/g?force=true"), None);
    assert_eq!((gone.status, &gone.body["detached"]), (200, &json!(["/apisix/consumers/a"])), "{gone:?}");
    assert!(api.ask("GET", &format!("{CONSUMERS}/a"), None).body["value"]["group_id"].is_null());
}

#[test]
fn what_is_wrong_with_plugins_is_told_in_apisixs_words() {
    let stand = Stand::new();
    for (plugins, want) in [
        (
            json!({"basic-auth": {"username": "foo"}}),
            "invalid plugins configuration: failed to check the configuration of plugin basic-auth err: property \"password\" is required",
        ),
        (
            json!({"basic-auth": "blah"}),
            "invalid plugins configuration: invalid plugin conf \"blah\" for plugin [basic-auth]",
        ),
        (json!({"nope": {}}), "invalid plugins configuration: unknown plugin [nope]"),
    ] {
        let refused = put(&stand, CONSUMERS, json!({"username": "a", "plugins": plugins}));
        assert_eq!((refused.status, refused.error()), (400, want));
    }
    let referred =
        put(&stand, CONSUMERS, json!({"username": "a", "plugins": key("$secret://vault/1/70707")}));
    assert!(referred.status == 400 && referred.error().contains("reference to a secret"), "{referred:?}");
    let ask = |path: &str| stand.api.ask("GET", &format!("/apisix/admin/{path}"), None);
    assert_eq!(ask("schema/plugins/key-auth?schema_type=consumer").body["required"], json!(["key"]));
    assert!(ask("schema/plugins/key-auth").body["properties"]["hide_credentials"].is_object());
    assert_eq!(
        ask("plugins/basic-auth?schema_type=consumer").body["required"],
        json!(["username", "password"])
    );
    assert_eq!(ask("plugins/cors?schema_type=consumer").status, 400);
    assert!(ask("schema/consumer").body["properties"]["group_id"].is_object());
    for (word, body, status) in [
        ("consumer", json!({"username": "a", "group_id": "g", "plugins": key("k")}), 200),
        ("credential", json!({"id": "x", "plugins": key("k")}), 200),
        ("credential", json!({"plugins": {"cors": {}}}), 400),
    ] {
        let checked = stand.api.ask("POST", &format!("/apisix/admin/schema/validate/{word}"), Some(&body));
        assert_eq!(checked.status, status, "{checked:?}");
    }
}

#[test]
fn the_whole_configuration_has_credentials_among_consumers() {
    let stand = Stand::new();
    let put_all = |digest: &str, body: Value| {
        let fields = [("X-API-KEY", ADMIN), ("X-Digest", digest), ("Content-Type", "application/json")];
        stand.api.with("PUT", "/apisix/admin/configs", Some(&body), &fields)
    };
    let list = json!([{"username": "jack", "plugins": key("a")},
        {"id": "jack/credentials/x", "plugins": key("b"), "modifiedIndex": 7}]);
    let first = put_all("d1", json!({"consumers": list, "consumers_conf_version": 7}));
    assert_eq!(first.status, 202, "{first:?}");
    assert_eq!(stored(&stand), "consumers:jack credentials:jack/credentials/x");
    let told = stand.api.ask("GET", "/apisix/admin/configs", None).body;
    let ids: Vec<&Value> = told["consumers"].as_array().unwrap().iter().map(|item| &item["id"]).collect();
    assert_eq!(ids, [&Value::Null, &json!("jack/credentials/x")]);
    assert!(told["credentials"].is_null() && told["consumers_conf_version"] == 7, "{told}");
    // The same number leaves both as they are; what GET told may be sent back.
    assert_eq!(put_all("d2", json!({"consumers_conf_version": 7})).status, 202);
    assert_eq!(stored(&stand), "consumers:jack credentials:jack/credentials/x");
    assert_eq!(put_all("d3", json!({"consumers": told["consumers"]})).status, 202);
    assert_eq!(stored(&stand), "consumers:jack credentials:jack/credentials/x");
    let written = stand.api.ask("GET", "/apisix/admin/configs?written=true", None).body;
    assert_eq!(written["credentials"][0]["id"], "jack/credentials/x");
    let orphan = put_all("d4", json!({"consumers": [list[1]]}));
    assert!(orphan.status == 400 && orphan.error().contains("jack"), "{orphan:?}");
    assert_eq!(put_all("d5", json!({"consumers": [list[0]]})).status, 202);
    assert_eq!(stored(&stand), "consumers:jack");
}
