//! What every node tells in PostgreSQL about itself, and what any of them tells about all.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod cluster;
mod feed;
mod program;

use std::time::{Duration, Instant};

use cluster::Cluster;
use feed::Feed;
use program::{Program, WAIT_MAX};
use serde_json::Value;

const ROUTE: &str =
    r#"insert into ringway.resource (kind, id, spec) values ('routes', '1', '{"uri": "/a"}')"#;

#[track_caller]
fn wait_sql(cluster: &Cluster, query: &str, wanted: &str) {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        let found = cluster.sql(query);
        if found == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{query}\nanswers {found}\nand not {wanted}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[track_caller]
fn wait_fleet(program: &Program, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + WAIT_MAX;
    loop {
        let fleet = program.fleet();
        if wanted(&fleet) {
            return fleet;
        }
        assert!(Instant::now() < deadline, "not within the limit: {what}\n{fleet:#}\n{}", program.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_node_is_told_by_any_with_its_version_and_beats_take_no_revision() {
    let cluster = Cluster::start();
    let (here, there) = (program::directory(), program::directory());
    let feeds = [&here, &there].map(|directory| Feed::listen(&directory.path().join("feed.sock")));
    let first = Program::start(here.path(), "n1", &["--database-url", &cluster.url()]);
    let second = Program::start(there.path(), "n2", &["--database-url", &cluster.url()]);
    let mut links = [feeds[0].accept(None), feeds[1].accept(None)];
    for link in &mut links {
        link.until(|snapshot| snapshot.version.revision == 0);
    }
    cluster.sql(ROUTE);
    let versions = links.each_mut().map(|link| link.until(|snapshot| snapshot.version.revision == 1).version);
    let text = versions[0].to_string();
    let fleet = wait_fleet(&first, "both nodes", |fleet| {
        let nodes = fleet["nodes"].as_array().map_or(&[][..], Vec::as_slice);
        nodes.len() == 2 && nodes.iter().all(|node| node["version"]["text"] == text.as_str())
    });
    assert_eq!((&fleet["head"]["text"], &fleet["asked"]), (&text.as_str().into(), &"n1".into()));
    for (node, name) in fleet["nodes"].as_array().unwrap().iter().zip(["n1", "n2"]) {
        assert_eq!(node["node"], name);
        assert_eq!(node["version"]["digest"], versions[0].digest.to_string());
        assert_eq!((&node["dataplane"]["state"], &node["stale"]), (&"connected".into(), &false.into()));
        assert_eq!((&node["refusing"], &node["last_refusal"]), (&false.into(), &Value::Null));
        assert!(node["serving_s"].as_f64().unwrap() < 60.0 && node["build"].is_string());
    }
    // Two beats of each later nothing has happened to the configuration.
    for _ in 0..2 {
        cluster.sql("create table if not exists seen as select * from ringway.node limit 0; truncate seen; insert into seen select * from ringway.node");
        wait_sql(
            &cluster,
            "select count(*) from ringway.node n join seen s using (node) where n.seen_at > s.seen_at and n.serving_since = s.serving_since",
            "2",
        );
    }
    assert_eq!(cluster.sql("select revision from ringway.head"), "1");
    assert_eq!(cluster.sql("select count(*) from ringway.change"), "1");
    // A node that is gone is silent after some beats, and is removed after a day.
    drop(second);
    cluster.sql("update ringway.node set stale_at = now() - interval '1 s' where node = 'n2'");
    let fleet = wait_fleet(&first, "a silent node", |fleet| fleet["nodes"][1]["stale"] == true);
    assert_eq!(fleet["nodes"][0]["stale"], false);
    cluster.sql("update ringway.node set stale_at = now() - interval '2 days' where node = 'n2'");
    let third = Program::start(there.path(), "n3", &["--database-url", &cluster.url()]);
    wait_sql(&cluster, "select string_agg(node, ',' order by node) from ringway.node", "n1,n3");
    drop(third);
}

#[test]
fn two_control_planes_of_one_node_do_not_overwrite_each_others_refusals() {
    let cluster = Cluster::start();
    let (here, there) = (program::directory(), program::directory());
    let feed = Feed::listen(&here.path().join("feed.sock"));
    let mut one = Program::start(here.path(), "n1", &["--database-url", &cluster.url()]);
    let mut two = Program::start(there.path(), "n1", &["--database-url", &cluster.url()]);
    let mut link = feed.accept(None);
    link.until(|snapshot| snapshot.version.revision == 0);
    cluster.sql("insert into ringway.resource (kind, id, spec) values ('routes', '1', '{\"uri\": \"x\"}')");
    for program in [&mut one, &mut two] {
        program.wait_status("the refusal", |status| status["refused"]["revision"] == 1);
    }
    let refusals = "select count(*), count(distinct control), min(node), max(node) from ringway.refusal";
    wait_sql(&cluster, refusals, "2|2|n1|n1");
    wait_sql(
        &cluster,
        "select count(*) from ringway.node where refusing and refusal like 'revision 1: routes/1 at /uri%'",
        "2",
    );
    // One of them alone ends its refusal; a restart takes its own row over.
    assert!(two.terminate().success());
    wait_sql(&cluster, refusals, "2|2|n1|n1");
    cluster.sql("update ringway.resource set spec = '{\"uri\": \"/a\"}'");
    link.until(|snapshot| snapshot.version.revision == 2);
    wait_sql(&cluster, refusals, "1|1|n1|n1");
    let _two = Program::start(there.path(), "n1", &["--database-url", &cluster.url()]);
    wait_sql(&cluster, refusals, "0|0||");
    wait_sql(
        &cluster,
        "select count(*), count(distinct instance) from ringway.node where not refusing and refusal is not null",
        "2|2",
    );
}

#[test]
fn a_fleet_that_cannot_be_told_says_why() {
    let mut cluster = Cluster::start();
    let directory = program::directory();
    let file = directory.path().join("a.yaml");
    std::fs::write(&file, "routes: []\n").unwrap();
    let alone = Program::start(directory.path(), "file", &["--file", &file.display().to_string()]);
    let fleet = wait_fleet(&alone, "an answer", |fleet| !fleet.is_null());
    assert_eq!(fleet["error"], "the source is a file, which knows no other nodes");
    let mut program = Program::start(directory.path(), "n1", &["--database-url", &cluster.url()]);
    wait_fleet(&program, "its row", |fleet| fleet["nodes"][0]["node"] == "n1");
    assert!(program.terminate().success());
    // One that may not write is missing, and can tell of the others.
    cluster.sql(
        "create role reader login; grant usage on schema ringway to reader;
         grant select on all tables in schema ringway to reader",
    );
    let mut reader =
        Program::start(directory.path(), "reader", &["--database-url", &cluster.url_as("reader")]);
    reader.wait_log("cannot write table ringway.node: permission denied for table node");
    let fleet = reader.fleet();
    assert_eq!((&fleet["nodes"][0]["node"], &fleet["nodes"][1]), (&"n1".into(), &Value::Null));
    cluster.kill();
    reader.wait_status("disconnected", |status| status["source"]["state"] == "disconnected");
    let error = reader.fleet()["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("the source is disconnected: "), "{error}");
}
