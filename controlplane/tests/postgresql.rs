//! From a row in a real PostgreSQL to a frame on the data plane's socket, by the real executable.
#![forbid(unsafe_code)]

mod cluster;
mod feed;
mod program;

use cluster::Cluster;
use feed::Feed;
use program::Program;
use ringway_snapshot::{Object, Snapshot};

const ROUTE: &str = r#"insert into ringway.resource (kind, id, spec) values ('routes', '1', '{"uri": "/a"}')"#;

fn uris(snapshot: &Snapshot) -> Vec<String> {
    snapshot
        .entries
        .iter()
        .filter_map(|entry| match &entry.object {
            Object::Route(route) => route.uri.clone(),
            _ => None,
        })
        .collect()
}

#[test]
fn a_row_becomes_a_frame_and_each_change_another() {
    let cluster = Cluster::start();
    let directory = program::directory();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let mut program = Program::start(directory.path(), "n1", &["--database-url", &cluster.url(), "--poll-ms", "60000"]);
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
