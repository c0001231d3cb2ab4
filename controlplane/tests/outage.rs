//! What happens when PostgreSQL goes away, comes back, changes place, or stops telling.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod cluster;
mod feed;
mod program;
mod wire;

use cluster::Cluster;
use feed::Feed;
use program::Program;
use wire::Wire;

fn insert(id: &str) -> String {
    format!(
        "insert into ringway.resource (kind, id, spec) values ('routes', '{id}', '{{\"uri\": \"/{id}\"}}');\n"
    )
}

/// A cluster whose schema a program has made that is gone again.
fn migrated() -> Cluster {
    let cluster = Cluster::start();
    let directory = program::directory();
    let mut setup = Program::start(directory.path(), "setup", &["--database-url", &cluster.url()]);
    setup.wait_status("a version", |status| !status["version"].is_null());
    assert!(setup.terminate().success());
    cluster
}

fn url(clusters: &[&Cluster], attributes: &str) -> String {
    let hosts: Vec<String> = clusters.iter().map(|cluster| cluster.host()).collect();
    format!("postgresql:///gateway?host={}&user=postgres{attributes}", hosts.join(","))
}

#[test]
fn after_kill_9_of_postgresql_it_reconnects_and_publishes_what_changed_meanwhile() {
    let mut cluster = migrated();
    let directory = program::directory();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let mut program =
        Program::start(directory.path(), "n1", &["--database-url", &cluster.url(), "--poll-ms", "60000"]);
    let mut link = feed.accept(None);
    cluster.sql(&insert("a"));
    link.until(|snapshot| snapshot.version.revision == 1);
    cluster.kill();
    program.wait_status("disconnected", |status| status["source"]["state"] == "disconnected");
    link.quiet_for_pings(2);
    cluster.start_server();
    cluster.sql(&insert("b"));
    let after = link.until(|snapshot| snapshot.version.revision == 2);
    assert_eq!(after.entries.len(), 2);
    let status = program.wait_status("connected", |status| status["source"]["state"] == "connected");
    assert!(status["source"]["last_error"].is_null());
    program.wait_log("PostgreSQL is back");
    // And it listens again: the poll is a minute away.
    cluster.sql(&insert("c"));
    link.until(|snapshot| snapshot.version.revision == 3);
}

#[test]
fn a_change_without_a_notification_is_found_by_the_poll() {
    let cluster = migrated();
    let directory = program::directory();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let _program =
        Program::start(directory.path(), "n1", &["--database-url", &cluster.url(), "--poll-ms", "100"]);
    let mut link = feed.accept(None);
    cluster.sql(&insert("a"));
    link.until(|snapshot| snapshot.version.revision == 1);
    // No trigger: no notification, and no history either, so that everything has to be read.
    cluster.sql(&format!(
        "begin; alter table ringway.resource disable trigger all; {} delete from ringway.resource where id = 'a';
         update ringway.head set revision = 2; alter table ringway.resource enable trigger all; commit",
        insert("b")
    ));
    let found = link.until(|snapshot| snapshot.version.revision == 2);
    assert_eq!(found.entries.iter().map(|entry| &*entry.id).collect::<Vec<_>>(), ["b"]);
}

#[test]
fn a_server_that_hangs_is_noticed_and_found_again() {
    let cluster = migrated();
    let directory = program::directory();
    let mut program =
        Program::start(directory.path(), "n1", &["--database-url", &cluster.url(), "--poll-ms", "100"]);
    program.wait_status("connected", |status| status["source"]["state"] == "connected");
    cluster.signal_all("STOP");
    let status = program.wait_status("disconnected", |status| status["source"]["state"] == "disconnected");
    assert!(
        status["source"]["last_error"].as_str().unwrap().contains("no answer from PostgreSQL"),
        "{status}"
    );
    cluster.signal_all("CONT");
    program.wait_status("connected", |status| status["source"]["state"] == "connected");
}

#[test]
fn a_network_that_swallows_everything_is_noticed_whatever_the_poll_is_and_mends() {
    let cluster = migrated();
    let directory = program::directory();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let wire = Wire::to(&cluster.socket());
    let url = format!("postgresql://postgres@127.0.0.1:{}/gateway?connect_timeout=2", wire.port());
    let mut program =
        Program::start(directory.path(), "n1", &["--database-url", &url, "--poll-ms", "3600000"]);
    let mut link = feed.accept(None);
    link.until(|snapshot| snapshot.version.revision == 0);
    wire.cut();
    program.wait_status("disconnected", |status| status["source"]["state"] == "disconnected");
    program.wait_log("no answer from PostgreSQL for 5 s while ");
    // New connections are swallowed too.
    program.wait_log(
        "no answer from PostgreSQL for 2 s while connecting; is the host up, and the network between?",
    );
    cluster.sql(&insert("a"));
    wire.mend();
    link.until(|snapshot| snapshot.version.revision == 1);
    cluster.sql(&insert("b"));
    link.until(|snapshot| snapshot.version.revision == 2);
    // It listens on the last connection alone: the server has freed the others, or will.
    program.wait_status("connected", |status| status["source"]["state"] == "connected");
}

#[test]
fn while_the_network_to_the_primary_is_cut_it_reads_the_standby_and_returns_when_it_mends() {
    let primary = migrated();
    let directory = program::directory();
    let standby = primary.standby();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let (to_primary, to_standby) = (Wire::to(&primary.socket()), Wire::to(&standby.socket()));
    let url = format!(
        "postgresql://postgres@127.0.0.1:{},127.0.0.1:{}/gateway?target_session_attrs=primary&connect_timeout=2",
        to_primary.port(),
        to_standby.port()
    );
    let mut program = Program::start(directory.path(), "n1", &["--database-url", &url, "--poll-ms", "200"]);
    let mut link = feed.accept(None);
    link.until(|snapshot| snapshot.version.revision == 0);
    assert_eq!(program.status()["source"]["state"], "connected");
    to_primary.cut();
    program.wait_status("a standby", |status| status["source"]["state"] == "reading a standby");
    // The primary goes on without this node's network, and its standby tells what it writes.
    primary.sql(&insert("a"));
    link.until(|snapshot| snapshot.version.revision == 1);
    to_primary.mend();
    program.wait_status("the primary", |status| status["source"]["state"] == "connected");
    primary.sql(&insert("b"));
    link.until(|snapshot| snapshot.version.revision == 2);
    program.wait_log("found a better server");
}

#[test]
fn where_a_standby_is_preferred_it_is_read_and_the_primary_only_without_one() {
    let mut primary = migrated();
    let directory = program::directory();
    let mut standby = primary.standby();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let both = url(&[&primary, &standby], "&target_session_attrs=prefer-standby");
    let mut program = Program::start(directory.path(), "n1", &["--database-url", &both, "--poll-ms", "100"]);
    let mut link = feed.accept(None);
    link.until(|snapshot| snapshot.version.revision == 0);
    assert_eq!(program.status()["source"]["state"], "reading a standby");
    standby.kill();
    program.wait_status("the primary", |status| status["source"]["state"] == "connected");
    primary.sql(&insert("a"));
    link.until(|snapshot| snapshot.version.revision == 1);
    standby.start_server();
    program.wait_status("the standby again", |status| status["source"]["state"] == "reading a standby");
    primary.sql(&insert("b"));
    link.until(|snapshot| snapshot.version.revision == 2);
    // Where nothing but a standby is asked for, a primary is none.
    drop((program, link));
    standby.kill();
    let only = url(&[&primary, &standby], "&target_session_attrs=standby");
    let mut program = Program::start(directory.path(), "n2", &["--database-url", &only]);
    program.wait_log("is a primary, and the database URL asks for a standby (target_session_attrs)");
    primary.stop();
}

#[test]
fn after_a_reconnect_contents_are_compared_and_not_only_the_head() {
    let mut cluster = migrated();
    let directory = program::directory();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let program = Program::start(directory.path(), "n1", &["--database-url", &cluster.url()]);
    let mut link = feed.accept(None);
    cluster.sql(&insert("a"));
    let before = link.until(|snapshot| snapshot.version.revision == 1).version;
    // The same head and another content: what is left after two primaries of one timeline.
    cluster.sql(
        "begin; alter table ringway.resource disable trigger all; update ringway.resource set spec = '{\"uri\": \"/b\"}';
         alter table ringway.resource enable trigger all; commit",
    );
    link.quiet_for_pings(3);
    cluster.kill();
    cluster.start_server();
    let after = link.full().version;
    assert_eq!(after.order(), before.order());
    assert_ne!(after.digest, before.digest);
    // A reconnect that finds nothing else sends nothing.
    link.ack(after);
    cluster.kill();
    cluster.start_server();
    let mut told = program;
    told.wait_status("connected", |status| status["source"]["state"] == "connected");
    link.quiet_for_pings(2);
}

#[test]
fn with_no_primary_it_starts_from_a_standby_and_follows_it_by_polling() {
    let mut primary = migrated();
    let directory = program::directory();
    primary.sql(&insert("a"));
    let standby = primary.standby();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let both = url(&[&primary, &standby], "&target_session_attrs=read-write");
    // One that only wants a standby follows it while the primary runs.
    let only = url(&[&primary, &standby], "&target_session_attrs=read-only");
    let reader = Program::start(directory.path(), "reader", &["--database-url", &only, "--poll-ms", "100"]);
    let mut link = feed.accept(None);
    link.until(|snapshot| snapshot.version.revision == 1);
    primary.sql(&insert("b"));
    let last = link.until(|snapshot| snapshot.version.revision == 2);
    assert_eq!(reader.status()["source"]["state"], "reading a standby");
    drop((reader, link));
    primary.kill();
    let mut node = Program::start(directory.path(), "node", &["--database-url", &both, "--poll-ms", "100"]);
    let mut link = feed.accept(None);
    assert_eq!(link.full(), last, "the same version from the standby as from the primary");
    link.ack(last.version);
    let status = node.wait_status("a standby", |status| status["source"]["state"] == "reading a standby");
    assert_eq!(status["version"]["text"], last.version.to_string());
    // The primary is back: it is found, and what it writes is heard.
    primary.start_server();
    primary.sql(&insert("c"));
    link.until(|snapshot| snapshot.version.revision == 3);
    node.wait_status("the primary", |status| status["source"]["state"] == "connected");
}

#[test]
fn a_promoted_standby_that_lost_commits_wins_and_the_old_primary_never_again() {
    let mut primary = migrated();
    let directory = program::directory();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    primary.sql(&insert("a"));
    let mut standby = primary.standby();
    let urls = url(&[&primary, &standby], "");
    let mut program = Program::start(directory.path(), "n1", &["--database-url", &urls, "--poll-ms", "100"]);
    let mut link = feed.accept(None);
    assert_eq!(link.until(|snapshot| snapshot.version.revision == 1).version.timeline, 1);
    // The standby hears nothing of the next two.
    standby.stop();
    primary.sql(&format!("{} {}", insert("lost-1"), insert("lost-2")));
    let lost = link.until(|snapshot| snapshot.version.revision == 3);
    primary.kill();
    standby.start_server();
    program.wait_status("the standby", |status| status["source"]["state"] == "reading a standby");
    // It shows less than was published: nothing is sent while it may be only late.
    link.quiet_for_pings(2);
    assert_eq!(program.status()["version"]["revision"], 3);
    standby.promote();
    // One empty revision stamps the new timeline: lower in number, higher in order.
    let stamped = link.until(|snapshot| snapshot.version.timeline == 2);
    assert_eq!((stamped.version.revision, stamped.entries.len()), (2, 1));
    assert!(lost.version.admit(&stamped.version).is_ok());
    standby.sql(&insert("b"));
    link.until(|snapshot| snapshot.version.order() == (2, 3));
    // The old primary comes back and even takes writes. It stands first in the URL.
    primary.start_server();
    primary.sql(&insert("split-brain"));
    let mut second = Program::start(directory.path(), "n2", &["--database-url", &urls, "--poll-ms", "100"]);
    let mut other = feed.accept(None);
    let found = other.full();
    assert_eq!((found.version.order(), found.entries.len()), ((2, 3), 2));
    other.ack(found.version);
    standby.sql(&insert("c"));
    other.until(|snapshot| snapshot.version.order() == (2, 4));
    link.until(|snapshot| snapshot.version.order() == (2, 4));
    assert!(program.terminate().success() && second.terminate().success());
}

#[test]
fn one_that_reads_an_old_primary_finds_the_promoted_one() {
    let primary = migrated();
    let directory = program::directory();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let standby = primary.standby();
    let _program =
        Program::start(directory.path(), "n1", &["--database-url", &url(&[&primary, &standby], "")]);
    let mut link = feed.accept(None);
    link.until(|snapshot| snapshot.version.order() == (1, 0));
    // Both are primaries now, and the connection to the old one stands.
    standby.promote();
    standby.sql(&insert("a"));
    link.until(|snapshot| snapshot.version.timeline == 2 && snapshot.entries.len() == 1);
}

#[test]
fn a_primary_that_only_reads_is_read() {
    let cluster = migrated();
    let directory = program::directory();
    cluster.sql("insert into ringway.resource (kind, id, spec) values ('routes', '1', '{\"uri\": \"x\"}')");
    cluster.sql(
        "update ringway.head set timeline = 0; alter database gateway set default_transaction_read_only = on",
    );
    let mut program =
        Program::start(directory.path(), "n1", &["--database-url", &cluster.url(), "--poll-ms", "100"]);
    program.wait_status("the refusal", |status| status["refused"]["revision"] == 1);
    program.wait_log(
        "cannot stamp the timeline of this primary: cannot execute UPDATE in a read-only transaction; \
         is default_transaction_read_only on",
    );
    program.wait_log("cannot write table ringway.node: cannot execute SELECT in a read-only transaction");
    program.wait_log("cannot write table ringway.refusal: cannot execute DELETE in a read-only transaction");
    assert_eq!(program.status()["source"]["state"], "connected");
}

#[test]
fn a_primary_that_only_read_is_written_to_again_when_it_takes_writes() {
    let cluster = migrated();
    let directory = program::directory();
    cluster.sql(
        "update ringway.head set timeline = 0; alter database gateway set default_transaction_read_only = on",
    );
    let mut program = Program::start(directory.path(), "n1", &["--database-url", &cluster.url()]);
    program.wait_log("cannot write table ringway.node: cannot execute SELECT in a read-only transaction");
    cluster.sql(
        "set default_transaction_read_only = off; alter database gateway reset default_transaction_read_only",
    );
    program.wait_fleet("this node's row", |fleet| fleet["nodes"].to_string().contains("\"n1\""));
    assert_ne!(cluster.sql("select timeline from ringway.head").trim(), "0", "the timeline is stamped");
}
