//! `?ttl=`: objects vanish when their time is over, by one revision, whoever dies meanwhile; and never from under who refers to them.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod api;
mod cluster;
mod feed;
mod program;
mod stand;

use api::start;
use program::Program;
use serde_json::{Value, json};
use stand::Stand;

const UPSTREAM: &str = "/apisix/admin/upstreams/u";
const ROUTE: &str = "/apisix/admin/routes/r";

fn upstream() -> Value {
    json!({"type": "roundrobin", "nodes": {"127.0.0.1:1980": 1}})
}

fn route() -> Value {
    json!({"uri": "/a", "upstream_id": "u"})
}

const OBJECTS: &str = "select count(*) from ringway.resource";

#[test]
fn objects_vanish_together_by_one_revision_however_many_control_planes_look() {
    let stand = Stand::new();
    let other = program::directory();
    let (mut second, _) = start(other.path(), "n2", &["--database-url", &stand.cluster.url()]);
    second.wait_status("it reads", |status| status["version"]["revision"] == 0);
    let made = stand.api.ask("PUT", &format!("{UPSTREAM}?ttl=1"), Some(&upstream()));
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.body.as_object().unwrap().len(), 2, "key and value, nothing else: {made:?}");
    let end: i64 = made.header("ringway-expires-at").unwrap().parse().unwrap();
    assert!(end > made.body["value"]["create_time"].as_i64().unwrap(), "{made:?}");
    // The route's time ends later, and the upstream waits for it.
    assert_eq!(stand.api.ask("PUT", &format!("{ROUTE}?ttl=2"), Some(&route())).status, 201);
    stand.wait_sql(OBJECTS, "0");
    let history = "select string_agg(concat_ws(' ', revision, actor, kind, after is null), ', ' order by kind) \
        from ringway.change where revision > 2";
    assert_eq!(stand.cluster.sql(history), "3 ttl routes t, 3 ttl upstreams t");
    assert_eq!(stand.cluster.sql("select revision from ringway.head"), "3");
    assert_eq!(stand.api.ask("GET", ROUTE, None).status, 404);
    second.wait_status("it follows", |status| status["version"]["revision"] == 3);
}

#[test]
fn what_is_referred_to_stays_until_nobody_does() {
    let mut stand = Stand::new();
    assert_eq!(stand.api.ask("PUT", &format!("{UPSTREAM}?ttl=1"), Some(&upstream())).status, 201);
    let split = json!({"uri": "/b", "plugins": {"traffic-split": {"rules": [
        {"weighted_upstreams": [{"upstream_id": "u", "weight": 1}]}]}}, "upstream": upstream()});
    assert_eq!(stand.api.ask("PUT", "/apisix/admin/routes/s", Some(&split)).status, 201);
    assert_eq!(stand.api.ask("PUT", ROUTE, Some(&route())).status, 201);
    stand.program.wait_log("upstreams/u is past its time and stays");
    assert_eq!(stand.api.ask("DELETE", ROUTE, None).status, 200);
    // Only the plugin still names it.
    assert_eq!(stand.cluster.sql("select count(*) from ringway.expired(clock_timestamp())"), "0");
    assert_eq!(stand.api.ask("GET", UPSTREAM, None).status, 200);
    assert_eq!(stand.api.ask("DELETE", "/apisix/admin/routes/s", None).status, 200);
    stand.wait_sql(OBJECTS, "0");
    stand.program.wait_status("all of it was valid", |status| {
        status["version"]["revision"] == 6 && status["refused"].is_null()
    });
}

#[test]
fn a_consumer_past_its_time_is_let_in_no_more_by_its_credentials_either() {
    let mut stand = Stand::new();
    let key = |key: &str| json!({"plugins": {"key-auth": {"key": key}}});
    let (guest, stays) = ("/apisix/admin/consumers/guest", "/apisix/admin/consumers/guest-2");
    for (path, name, key_of_it) in [(guest, "guest", "a"), (stays, "guest-2", "b")] {
        let mut consumer = key(key_of_it);
        consumer["username"] = json!(name);
        assert_eq!(stand.api.ask("PUT", &format!("{path}?ttl=3600"), Some(&consumer)).status, 201);
    }
    for (path, of_it) in [(guest, "c"), (stays, "d")] {
        let made = stand.api.ask("PUT", &format!("{path}/credentials/{of_it}"), Some(&key(of_it)));
        assert_eq!(made.status, 201, "{made:?}");
    }
    stand.cluster.sql("update ringway.resource set expires_at = now() where id = 'guest'");
    let left = "select string_agg(id, ' ' order by id) from ringway.resource";
    stand.wait_sql(left, "guest-2 guest-2/credentials/d");
    stand.program.wait_status("by one revision", |status| {
        status["version"]["revision"] == 5 && status["refused"].is_null()
    });
}

#[test]
fn a_write_without_it_lets_the_object_stay() {
    let stand = Stand::new();
    let ends = "select string_agg(id, ',' order by id) from ringway.resource where expires_at is not null";
    let (api, path) = (stand.api, |id: &str, query: &str| format!("/apisix/admin/upstreams/{id}{query}"));
    for id in ["put", "same", "patch", "kept"] {
        assert_eq!(api.ask("PUT", &path(id, "?ttl=3600"), Some(&upstream())).status, 201);
    }
    assert_eq!(stand.cluster.sql(ends), "kept,patch,put,same");
    let changed = json!({"type": "ewma", "nodes": {"127.0.0.1:1980": 1}});
    assert_eq!(api.ask("PUT", &path("put", ""), Some(&changed)).status, 200);
    assert_eq!(api.ask("PUT", &path("same", ""), Some(&upstream())).status, 200);
    assert_eq!(api.ask("PATCH", &path("patch", ""), Some(&json!({"desc": "x"}))).status, 200);
    assert_eq!(stand.cluster.sql(ends), "kept");
    assert!(api.ask("GET", &path("kept", ""), None).header("ringway-expires-at").is_some());
    assert!(api.ask("GET", &path("put", ""), None).header("ringway-expires-at").is_none());
    let patched = api.ask("PATCH", &path("put", "?ttl=7200"), Some(&json!({"desc": "y"})));
    assert!(patched.header("ringway-expires-at").is_some(), "{patched:?}");
    let posted = api.ask("POST", "/apisix/admin/upstreams?ttl=60", Some(&upstream()));
    assert!(posted.status == 201 && posted.header("ringway-expires-at").is_some(), "{posted:?}");
    // SQL that does not speak of it leaves it alone, and so does losing a reference to what is deleted by force.
    stand.cluster.sql("update ringway.resource set spec = spec || '{\"desc\": \"z\"}' where id = 'kept'");
    let refers = json!({"uri": "/a", "upstream_id": "put"});
    assert_eq!(api.ask("PUT", &format!("{ROUTE}?ttl=3600"), Some(&refers)).status, 201);
    assert_eq!(api.ask("DELETE", &path("put", "?force=true"), None).status, 200);
    let named = format!("{ends} and id in ('kept', 'r')");
    assert_eq!(stand.cluster.sql(&named), "kept,r");
    for bad in ["?ttl=0", "?ttl=-1", "?ttl=soon", "?ttl="] {
        let refused = api.ask("PUT", &path("bad", bad), Some(&upstream()));
        assert!(refused.status == 400 && refused.error().contains("ttl is a whole number"), "{refused:?}");
    }
}

#[test]
fn a_time_that_ended_while_nobody_ran_is_over_at_the_next_start_whatever_the_role() {
    let mut stand = Stand::new();
    assert_eq!(stand.api.ask("PUT", &format!("{UPSTREAM}?ttl=1"), Some(&upstream())).status, 201);
    // Within its first second, unless this machine stands still; then it is gone already, which is as well.
    assert!(stand.program.terminate().success());
    let past = "select count(*) from ringway.resource where expires_at > now()";
    stand.wait_sql(past, "0");
    stand.cluster.sql(
        "create role reader login; grant usage on schema ringway to reader; \
        grant select on all tables in schema ringway to reader",
    );
    let url = stand.cluster.url_as("reader");
    let mut program = Program::start(stand.directory.path(), "n1", &["--database-url", &url]);
    program.wait_status("it is gone", |status| status["version"]["revision"] == 2);
    assert_eq!(stand.cluster.sql(OBJECTS), "0");
}

#[test]
fn an_end_set_by_sql_counts_and_a_lock_on_the_head_is_waited_for_by_nobody() {
    let mut stand = Stand::new();
    assert_eq!(stand.api.ask("PUT", UPSTREAM, Some(&upstream())).status, 201);
    stand.cluster.sql("create table go (at int)");
    assert_eq!(stand.api.ask("PUT", &format!("{ROUTE}?ttl=1"), Some(&route())).status, 201);
    let mut holder = stand.cluster.spawn_sql(
        "begin; select 1 from ringway.head for update; do $$ begin loop exit when exists (select from go); \
         perform pg_sleep(0.02); end loop; end $$; commit;",
    );
    stand.wait_sql("select count(*) from pg_stat_activity where wait_event = 'PgSleep'", "1");
    stand.wait_sql("select count(*) from ringway.resource where expires_at <= clock_timestamp()", "1");
    // It does not wait, as the source's one connection would with it.
    assert_eq!(stand.cluster.sql("select gone, busy from ringway.expire()"), "0|t");
    stand.cluster.sql("insert into go values (1)");
    assert!(holder.wait().unwrap().success());
    stand.wait_sql(OBJECTS, "1");
    stand.cluster.sql("update ringway.resource set expires_at = now() where id = 'u'");
    stand.wait_sql(OBJECTS, "0");
    stand.program.wait_status("it follows", |status| status["version"]["revision"] == 4);
    assert!(!stand.program.log().contains("PostgreSQL:"), "{}", stand.program.log());
}
