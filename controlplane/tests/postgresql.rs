//! From a row in a real PostgreSQL to a frame on the data plane's socket, by the real executable.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod cluster;
mod feed;
mod program;

use std::time::{Duration, Instant};

use cluster::Cluster;
use feed::Feed;
use program::{Program, WAIT_MAX};
use ringway_snapshot::message::{Reason, ToDataplane};
use ringway_snapshot::version::Refusal;
use ringway_snapshot::{Fault, Object, Snapshot, Version};

const ROUTE: &str =
    r#"insert into ringway.resource (kind, id, spec) values ('routes', '1', '{"uri": "/a"}')"#;

fn uris(snapshot: &Snapshot) -> Vec<String> {
    snapshot
        .entries
        .iter()
        .filter_map(|entry| match &entry.object {
            Object::Route(route) => route.uri.as_deref().map(str::to_owned),
            _ => None,
        })
        .collect()
}

#[test]
fn a_row_becomes_a_frame_and_each_change_another() {
    let cluster = Cluster::start();
    let directory = program::directory();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let mut program =
        Program::start(directory.path(), "n1", &["--database-url", &cluster.url(), "--poll-ms", "60000"]);
    let mut link = feed.accept(None);
    assert_eq!(link.peer.node, "n1");
    let empty = link.full();
    assert_eq!((empty.version.timeline, empty.version.revision, empty.entries.len()), (1, 0, 0));
    let lineage: u64 = cluster.sql("select system_identifier from pg_control_system()").parse().unwrap();
    assert_eq!(empty.version.lineage, lineage);
    link.ack(empty.version);
    cluster.sql(ROUTE);
    let first = link.full();
    assert_eq!((first.version.revision, uris(&first)), (1, vec!["/a".to_owned()]));
    link.ack(first.version);
    // One transaction, one revision: never one of the two routes alone.
    cluster.sql(
        r#"begin;
        insert into ringway.resource (kind, id, spec) values ('routes', '2', '{"uri": "/b"}');
        update ringway.resource set spec = '{"uri": "/c"}' where id = '1';
        commit; delete from ringway.resource where id = '2'"#,
    );
    let last = link.until(|snapshot| {
        assert_ne!(uris(snapshot), ["/a", "/b"]);
        assert_ne!(uris(snapshot), ["/b", "/a"]);
        snapshot.version.revision == 3
    });
    assert_eq!(uris(&last), ["/c"]);
    program.wait_log("applied");
    assert!(program.terminate().success());
    assert!(program.log().contains("stopping"), "{}", program.log());
}

#[test]
fn a_broken_row_is_refused_whole_told_everywhere_and_healed_by_correcting_it() {
    let cluster = Cluster::start();
    let directory = program::directory();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let mut program = Program::start(directory.path(), "n1", &["--database-url", &cluster.url()]);
    let mut link = feed.accept(None);
    link.until(|snapshot| snapshot.version.revision == 0);
    cluster.sql(ROUTE);
    let good = link.until(|snapshot| snapshot.version.revision == 1);
    cluster.sql(
        r#"begin;
        insert into ringway.resource (kind, id, spec) values ('routes', '2', '{"uri": "/b"}');
        update ringway.resource set spec = '{"uri": "/a", "upstream_id": "gone"}' where id = '1';
        commit"#,
    );
    let ToDataplane::SourceRefused { version, faults } = link.next() else { panic!("not told as refused") };
    assert_eq!((version.revision, version.lineage, faults.len()), (2, good.version.lineage, 1));
    assert_eq!(
        (faults[0].kind.as_str(), faults[0].id.as_str(), faults[0].pointer.as_str()),
        ("routes", "1", "/upstream_id")
    );
    let status = program.wait_status("the refusal", |status| status["refused"]["revision"] == 2);
    assert_eq!(status["refused"]["faults"][0]["pointer"], "/upstream_id");
    assert_eq!(status["version"]["revision"], 1, "the good one stays in force");
    program.wait_log("refused: routes/1 at /upstream_id: there is no upstream \"gone\"");
    let row = "select node, revision, timeline, kind, id, pointer, reason from ringway.refusal";
    wait_sql(&cluster, row, "n1|2|1|routes|1|/upstream_id|there is no upstream \"gone\"");
    // Another broken revision takes the rows' place.
    cluster.sql(r#"update ringway.resource set spec = '{"urii": "/a"}' where id = '1'"#);
    wait_sql(&cluster, "select revision, pointer from ringway.refusal", "3|/urii");
    let ToDataplane::SourceRefused { .. } = link.next() else { panic!("not told as refused") };
    // A data plane that comes later hears of it too, after the good one.
    drop(link);
    let mut link = feed.accept(Some(good.version));
    assert!(matches!(link.next(), ToDataplane::SourceRefused { version, .. } if version.revision == 3));
    cluster.sql(r#"update ringway.resource set spec = '{"uri": "/a"}' where id = '1'"#);
    let healed = link.until(|snapshot| snapshot.version.revision == 4);
    assert_eq!(uris(&healed), ["/a", "/b"]);
    wait_sql(&cluster, "select count(*) from ringway.refusal", "0");
    assert!(program.status()["refused"].is_null());
}

#[test]
fn what_the_data_plane_refuses_is_told_and_not_offered_again_until_it_changes() {
    let cluster = Cluster::start();
    let directory = program::directory();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let mut program = Program::start(directory.path(), "n1", &["--database-url", &cluster.url()]);
    let mut link = feed.accept(None);
    link.until(|snapshot| snapshot.version.revision == 0);
    cluster.sql(ROUTE);
    let refused = link.full();
    let fault =
        Fault { kind: "routes".into(), id: "1".into(), pointer: "/uri".into(), reason: "not here".into() };
    link.nack(refused.version, Reason::Faults(vec![fault]));
    program.wait_log("the data plane refused: routes/1 at /uri: not here");
    wait_sql(
        &cluster,
        "select revision, kind, id, pointer, reason from ringway.refusal",
        "1|routes|1|/uri|not here",
    );
    let status = program.status();
    assert_eq!(status["dataplane"]["last_error"], "routes/1 at /uri: not here");
    assert_eq!(status["dataplane"]["version"]["revision"], 0);
    link.quiet_for_pings(3);
    cluster.sql(r#"update ringway.resource set spec = '{"uri": "/b"}'"#);
    link.until(|snapshot| snapshot.version.revision == 2);
    wait_sql(&cluster, "select count(*) from ringway.refusal", "0");
    let status =
        program.wait_status("the acknowledgement", |status| status["dataplane"]["version"]["revision"] == 2);
    assert!(status["dataplane"]["last_error"].is_null() && status["dataplane"]["refused"].is_null());
    assert_eq!(status["dataplane"]["last_ack"]["last_core_us"], 5);
    // The version rule's refusals are told in its own words.
    cluster.sql(r#"update ringway.resource set spec = '{"uri": "/c"}'"#);
    let offered = link.full().version;
    let current = Version { lineage: 7, ..offered };
    link.nack(offered, Reason::Version(Refusal::OtherLineage { current, offered }));
    program.wait_log("comes from another source (lineage)");
    // An operator may allow that one on the data plane, so it is offered again, without a new line.
    assert_eq!(link.full().version, offered);
    link.ack(offered);
    assert_eq!(program.log().matches("comes from another source").count(), 1);
}

#[test]
fn nothing_is_sent_that_the_data_plane_has_and_the_newest_only_while_it_is_busy() {
    let cluster = Cluster::start();
    let directory = program::directory();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let mut program = Program::start(directory.path(), "n1", &["--database-url", &cluster.url()]);
    let mut link = feed.accept(None);
    let first = link.full();
    // Not yet acknowledged: what comes now has to wait, and of it only the last is left.
    for n in 0..20 {
        cluster.sql(&format!(
            "insert into ringway.resource (kind, id, spec) values ('routes', '{n}', '{{\"uri\": \"/{n}\"}}')"
        ));
    }
    program.wait_status("all of them", |status| status["version"]["revision"] == 20);
    link.quiet_for_pings(1);
    link.ack(first.version);
    let last = link.full();
    assert_eq!((last.version.revision, last.entries.len()), (20, 20));
    // The data plane goes away before it answers; it comes back having it, or not.
    drop(link);
    let mut link = feed.accept(Some(first.version));
    assert_eq!(link.full().version, last.version);
    link.ack(last.version);
    drop(link);
    let mut link = feed.accept(Some(last.version));
    link.quiet_for_pings(2);
    let status = program.wait_status("connected", |status| status["dataplane"]["state"] == "connected");
    assert_eq!(status["dataplane"]["version"]["text"], last.version.to_string());
    assert_eq!(status["dataplane"]["node"], "test");
    drop(link);
    drop(feed);
    program.wait_status("lost", |status| status["dataplane"]["state"] == "disconnected");
}

#[test]
fn following_change_by_change_gives_what_a_fresh_reader_finds() {
    let cluster = Cluster::start();
    let directory = program::directory();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let follower =
        Program::start(directory.path(), "follower", &["--database-url", &cluster.url(), "--log", "debug"]);
    let mut link = feed.accept(None);
    link.until(|snapshot| snapshot.version.revision == 0);
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut last = None;
    for round in 0..40 {
        let mut script = "begin; set local client_min_messages = error;\n".to_owned();
        for _ in 0..=random(6) {
            let id = random(12);
            script += &match random(6) {
                0 => format!("delete from ringway.resource where id = '{id}';\n"),
                1 if round % 10 == 9 => "truncate ringway.resource;\n".to_owned(),
                2 => format!("update ringway.resource set id = 'x{id}-{round}' where id = '{id}' and not exists (select from ringway.resource where id = 'x{id}-{round}');\n"),
                3 => format!("savepoint s; delete from ringway.resource where id < '{id}'; rollback to s;\n"),
                _ => format!(
                    "insert into ringway.resource (kind, id, spec) values ('routes', '{id}', '{{\"uri\": \"/{}\"}}')
                     on conflict (kind, id) do update set spec = excluded.spec;\n",
                    random(9)
                ),
            };
        }
        if round % 10 == 4 {
            // More than comes with a look at the head.
            script += &format!(
                "insert into ringway.resource (kind, id, spec)
                 select 'routes', 'm' || n, jsonb_build_object('uri', '/m/' || n || '/{round}') from generate_series(1, 300) n
                 on conflict (kind, id) do update set spec = excluded.spec;\n"
            );
        }
        cluster.sql(&(script + "commit"));
        let revision: u64 = cluster.sql("select revision from ringway.head").parse().unwrap();
        if last.as_ref().map_or(0, |snapshot: &Snapshot| snapshot.version.revision) != revision {
            last = Some(link.until(|snapshot| snapshot.version.revision == revision));
        }
    }
    let last = last.expect("changes");
    drop((link, follower));
    let _fresh = Program::start(directory.path(), "fresh", &["--database-url", &cluster.url()]);
    let whole = feed.accept(None).full();
    assert_eq!(whole, last, "the digest and every object");
    assert!(whole.version.revision > 20);
}

#[test]
fn a_hundred_thousand_rows_arrive_whole() {
    let cluster = Cluster::start();
    let directory = program::directory();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let _program = Program::start(directory.path(), "n1", &["--database-url", &cluster.url()]);
    let mut link = feed.accept(None);
    link.until(|snapshot| snapshot.version.revision == 0);
    cluster.sql(
        "insert into ringway.resource (kind, id, spec) select 'routes', n, jsonb_build_object('uri', '/r/' || n)
         from generate_series(1, 100000) n",
    );
    assert_eq!(link.until(|snapshot| snapshot.version.revision == 1).entries.len(), 100_000);
    cluster.sql("delete from ringway.resource where id = '777'");
    assert_eq!(link.until(|snapshot| snapshot.version.revision == 2).entries.len(), 99_999);
}

#[test]
fn a_change_among_many_rows_reads_few_of_them_also_without_statistics() {
    const ROWS: u64 = 20_000;
    let cluster = Cluster::start();
    let directory = program::directory();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let mut program = Program::start(directory.path(), "n1", &["--database-url", &cluster.url()]);
    let mut link = feed.accept(None);
    link.until(|snapshot| snapshot.version.revision == 0);
    // As right after an import: nothing has been analysed yet.
    cluster.sql(&format!(
        "alter table ringway.resource set (autovacuum_enabled = false); alter table ringway.change set (autovacuum_enabled = false);
         insert into ringway.resource (kind, id, spec) select 'routes', n, jsonb_build_object('uri', '/r/' || n)
         from generate_series(1, {ROWS}) n"
    ));
    link.until(|snapshot| snapshot.version.revision == 1);
    for revision in 2..=12 {
        cluster.sql("update ringway.resource set spec = spec || jsonb_build_object('priority', (select revision from ringway.head)) \
                     where kind = 'routes' and id = '777'");
        link.until(|snapshot| snapshot.version.revision == revision);
    }
    assert!(program.terminate().success());
    // A server process tells its counts at its end at the latest.
    let others = "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()";
    wait_sql(&cluster, others, "0");
    let read = |table: &str| -> u64 {
        let query =
            "select seq_tup_read from pg_stat_user_tables where schemaname = 'ringway' and relname = ";
        cluster.sql(&format!("{query}'{table}'")).parse().unwrap()
    };
    assert!(read("resource") < ROWS, "{} rows were read by sequential scans", read("resource"));
    // The import's own are read, and counted.
    assert!(read("change") < 4 * ROWS, "{} changes were read by sequential scans", read("change"));
}

/// Waits until a query answers as wanted.
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
