//! The Admin API beside a PostgreSQL that is there and of no use: locked, hanging, of another release, damaged by hand, an older copy.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod api;
mod cluster;
mod feed;
mod program;
mod stand;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use api::ADMIN;
use feed::Feed;
use program::WAIT_MAX;
use ringway_snapshot::Version;
use serde_json::{Value, json};
use stand::Stand;

const UPSTREAM: &str = "/apisix/admin/upstreams/u";

fn upstream(desc: &str) -> Value {
    json!({"nodes": {"127.0.0.1:1980": 1}, "desc": desc})
}

#[test]
fn a_server_that_stops_while_the_api_asks_it_is_given_up() {
    let stand = Stand::new();
    // A connection that was used just now is not asked whether it stands.
    assert_eq!(stand.api.ask("PUT", UPSTREAM, Some(&upstream("a"))).status, 201);
    stand.cluster.signal_all("STOP");
    let mut stream = TcpStream::connect(stand.api.address()).unwrap();
    // Longer than the limit of a reader.
    stream.set_read_timeout(Some(WAIT_MAX * 3)).unwrap();
    write!(stream, "GET {UPSTREAM} HTTP/1.1\r\nHost: a\r\nX-API-KEY: {ADMIN}\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    stand.cluster.signal_all("CONT");
    assert!(read.is_ok() && answer.starts_with("HTTP/1.1 503"), "{read:?} {answer}");
    assert_eq!(stand.api.until("GET", UPSTREAM, |reply| reply.status != 503).status, 200);
    assert!(
        stand.program.log().contains("a request got no answer from PostgreSQL"),
        "{}",
        stand.program.log()
    );
}

#[test]
fn a_lock_on_the_objects_is_told_as_what_it_is_and_soon() {
    let stand = Stand::new();
    let mut holder = stand.cluster.spawn_sql("begin; lock table ringway.resource; select pg_sleep(600)");
    stand.wait_sql("select count(*) from pg_stat_activity where wait_event = 'PgSleep'", "1");
    // The client's own limit is that of the source's session, which is what a reader had to wait for before.
    for (method, body) in [("GET", None), ("PUT", Some(upstream("a")))] {
        let reply = stand.api.ask(method, UPSTREAM, body.as_ref());
        assert!(reply.status == 503 && reply.error().contains("holds a lock"), "{reply:?}");
        assert!(reply.error().contains("pg_locks") && !reply.error().contains("ringway.head"), "{reply:?}");
    }
    let _ = holder.kill();
    let _ = holder.wait();
}

#[test]
fn a_writer_behind_another_one_is_served_whatever_isolation_the_role_has_by_default() {
    let stand = Stand::with("alter role postgres set default_transaction_isolation = 'serializable'");
    let list = json!({"operations": [{"op": "put", "kind": "upstreams", "id": "u", "value": upstream("a")}]});
    // It commits when the API's transaction waits behind it.
    let mut holder = stand.cluster.spawn_sql(
        "begin isolation level read committed; \
         insert into ringway.resource (kind, id, spec) values ('upstreams', 'v', '{\"nodes\": {}}'); \
         do $$ begin loop perform pg_stat_clear_snapshot(); exit when exists (select from pg_stat_activity \
         where wait_event_type = 'Lock' and query like '%for update'); perform pg_sleep(0.01); end loop; end $$; commit",
    );
    stand.wait_sql("select count(*) from pg_stat_activity where wait_event = 'PgSleep'", "1");
    let reply = stand.api.ask("POST", "/v1/transaction", Some(&list));
    assert_eq!((reply.status, &reply.body["revision"]), (200, &json!(2)), "{reply:?}");
    let _ = holder.wait();
}

#[test]
fn a_schema_of_a_newer_release_is_not_written_to() {
    let stand = Stand::new();
    stand
        .cluster
        .sql("insert into ringway.migration (number, name, checksum) values (1000, '1000_later', 'x')");
    for (method, body) in [("PUT", Some(upstream("a"))), ("GET", None)] {
        let reply = stand.api.ask(method, UPSTREAM, body.as_ref());
        assert!(reply.status == 503 && reply.error().contains("older than the schema"), "{reply:?}");
    }
    assert_eq!(stand.head(), 0);
    stand.cluster.sql("delete from ringway.migration where number = 1000");
    assert_eq!(stand.api.ask("PUT", UPSTREAM, Some(&upstream("a"))).status, 201);
}

#[test]
fn what_to_do_about_a_head_that_was_deleted_is_told_and_helps() {
    let mut stand = Stand::new();
    assert_eq!(stand.api.ask("PUT", UPSTREAM, Some(&upstream("a"))).status, 201);
    stand.cluster.sql("delete from ringway.head");
    let reply = stand.api.ask("PUT", UPSTREAM, Some(&upstream("b")));
    assert_eq!(reply.status, 503, "{reply:?}");
    let told = |text: &str| text.split_once("restore it with ").map(|(_, statement)| statement.to_owned());
    let status = stand.program.wait_status("the source's trouble", |status| {
        status["source"]["last_error"].as_str().and_then(told).is_some()
    });
    let statement = told(reply.error()).unwrap();
    assert_eq!(told(status["source"]["last_error"].as_str().unwrap()).as_ref(), Some(&statement));
    stand.cluster.sql(&statement);
    stand.program.wait_status("healed", |status| status["version"]["revision"] == 2);
    assert_eq!(stand.api.ask("PUT", UPSTREAM, Some(&upstream("b"))).status, 200);
}

#[test]
fn a_roles_limit_on_idle_sessions_does_not_end_the_sources() {
    let mut stand = Stand::with("alter role postgres set idle_session_timeout = '200ms'");
    let pids =
        "select count(*), min(pid) from pg_stat_activity where application_name like 'ringway-controlplane%'";
    let before = stand.cluster.sql(pids);
    // Notifications come over the same connection for as long as it stands.
    for revision in 1..=3 {
        stand.wait_sql("select pg_sleep(0.3)::text = ''", "t");
        stand.cluster.sql(&format!(
            "insert into ringway.resource (kind, id, spec) values ('upstreams', 'u{revision}', '{{\"nodes\": {{}}}}')"
        ));
        stand.program.wait_status("the revision", |status| status["version"]["revision"] == revision);
    }
    assert_eq!(stand.cluster.sql(pids), before);
}

/// What `?wait=` tells of this node while the data plane serves `served`.
fn waited(stand: &mut Stand, served: Version) -> Value {
    let feed = Feed::listen(&stand.directory.path().join("feed.sock"));
    let _link = feed.accept(Some(served));
    let revision = served.revision;
    stand.program.wait_status("served", |status| status["dataplane"]["version"]["revision"] == revision);
    let reply = stand.api.ask("PUT", &format!("{UPSTREAM}?wait=300ms"), Some(&upstream("a")));
    assert_eq!(reply.status, 202, "stored and not served: {reply:?}");
    assert_eq!(reply.body["applied"]["everywhere"], false, "{reply:?}");
    reply.body["applied"]["nodes"][0]["reason"].clone()
}

#[test]
fn a_wait_does_not_take_what_another_database_wrote_for_what_was_written_now() {
    let mut stand = Stand::new();
    let own = stand.program.status()["version"].clone();
    let lineage = u64::from_str_radix(own["lineage"].as_str().unwrap(), 16).unwrap();
    let reason =
        waited(&mut stand, Version { lineage: lineage ^ 1, timeline: 9, revision: 35, ..Version::default() });
    assert_eq!(reason, "it still serves revision 35");
}

#[test]
fn a_wait_does_not_take_what_a_lost_copy_of_the_database_wrote_for_what_was_written_now() {
    let mut stand = Stand::new();
    let own = stand.program.status()["version"].clone();
    let lineage = u64::from_str_radix(own["lineage"].as_str().unwrap(), 16).unwrap();
    let reason = waited(&mut stand, Version { lineage, timeline: 1, revision: 35, ..Version::default() });
    let reason = reason.as_str().unwrap();
    assert!(reason.contains("serves revision 35, which this database did not have"), "{reason}");
}

#[test]
fn who_waits_for_nodes_holds_up_no_other_large_request() {
    let stand = Stand::new();
    let api = stand.api;
    let list = |id: &str| json!({"operations": [{"op": "put", "kind": "upstreams", "id": id, "value": upstream("a")}]});
    let waiter = std::thread::spawn({
        let list = list("u");
        move || {
            let begun = Instant::now();
            (api.ask("POST", "/v1/transaction?wait=25s", Some(&list)), begun.elapsed())
        }
    });
    stand.wait_sql("select revision from ringway.head", "1");
    let begun = Instant::now();
    let plan = api.ask("POST", "/v1/plan", Some(&list("v")));
    assert_eq!(plan.status, 200, "{plan:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    // No data plane is there, so it waits to its end.
    let (reply, took) = waiter.join().unwrap();
    assert!(reply.status == 202 && took >= Duration::from_secs(25), "{reply:?} after {took:?}");
    assert_eq!((&reply.body["revision"], &reply.body["objects"]), (&json!(1), &json!(1)), "{reply:?}");
}
