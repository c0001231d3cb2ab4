//! What travels: deltas where both ends know them and know what is served, else whole configurations.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod feed;
mod program;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use feed::Feed;
use program::Program;
use ringway_snapshot::Version;
use ringway_snapshot::message::Reason;
use ringway_snapshot::version::Refusal;

/// A file of 50 routes, of which one has that path.
fn write(path: &Path, changing: &str) {
    write_with(path, changing, "");
}

/// The same with more objects behind.
fn write_with(path: &Path, changing: &str, more: &str) {
    let mut text = "routes:\n".to_owned();
    for id in 0..50 {
        let uri = if id == 25 { changing.to_owned() } else { format!("/r{id}") };
        writeln!(text, "  - {{id: r{id}, uri: {uri}}}").unwrap();
    }
    let beside = path.with_extension("new");
    fs::write(&beside, text + more + "#END\n").unwrap();
    fs::rename(beside, path).unwrap();
}

fn start(directory: &Path) -> (Feed, Program) {
    let path = directory.join("gateway.yaml");
    write(&path, "/a");
    let feed = Feed::listen(&directory.join("feed.sock"));
    let program = Program::start(directory, "n1", &["--file", path.to_str().unwrap()]);
    (feed, program)
}

#[test]
fn after_a_whole_configuration_only_what_changed_is_sent_also_over_a_reconnect() {
    let directory = program::directory();
    let (feed, _program) = start(directory.path());
    let path = directory.path().join("gateway.yaml");
    let mut link = feed.accept(None);
    let first = link.full();
    assert_eq!(link.deltas, 0);
    link.ack(first.version);
    write(&path, "/b");
    let second = link.full();
    assert_eq!((second.entries.len(), link.deltas), (50, 1));
    link.ack(second.version);
    let known = link.known.take();
    drop(link);
    // The same data plane, as its version shows.
    let mut link = feed.accept(Some(second.version));
    link.known = known;
    write(&path, "/c");
    let third = link.full();
    assert_eq!((third.version.revision, link.deltas), (3, 1));
    // It lost the base after all: everything comes.
    link.nack(third.version, Reason::Base(Some(first.version)));
    assert_eq!(link.full(), third);
    assert_eq!(link.deltas, 1);
    link.ack(third.version);
    drop(link);
    // Another data plane, or one that was set back.
    let mut link = feed.accept(Some(first.version));
    assert_eq!(link.full(), third);
    assert_eq!(link.deltas, 0);
}

#[test]
fn a_data_plane_of_schema_1_gets_whole_configurations_in_frames_it_reads() {
    let directory = program::directory();
    let (feed, _program) = start(directory.path());
    let mut link = feed.accept_as(1, None);
    let first = link.full();
    link.ack(first.version);
    write(&directory.path().join("gateway.yaml"), "/b");
    let second = link.full();
    assert_eq!((second.entries.len(), link.deltas), (50, 0));
    link.ack(second.version);
    link.quiet_for_pings(1);
}

#[test]
fn a_data_plane_of_schema_2_is_sent_no_kind_that_it_does_not_know_and_the_log_says_why() {
    let directory = program::directory();
    let (feed, mut program) = start(directory.path());
    let path = directory.path().join("gateway.yaml");
    let mut link = feed.accept_as(2, None);
    let first = link.full();
    link.ack(first.version);
    write_with(&path, "/b", "global_rules:\n  - {id: g, plugins: {request-id: {}}}\n");
    assert_eq!(link.offered(), None);
    program.wait_log("speaks schemas up to 2; update it");
    assert_eq!(feed.accept_as(2, Some(first.version)).offered(), None);
    // One that was updated gets it.
    let whole = feed.accept(Some(first.version)).offered().unwrap();
    assert_eq!(whole.entries.len(), 51);
    // Without that object the old one goes on too; until the file was looked at, it still is refused.
    write(&path, "/c");
    let third = std::iter::repeat_with(|| feed.accept_as(2, Some(first.version)).offered()).flatten().next();
    assert_eq!(third.unwrap().entries.len(), 50);
}

#[test]
fn what_another_control_plane_brought_is_not_sent_again_and_one_that_is_behind_keeps_quiet() {
    let directory = program::directory();
    let (feed, _program) = start(directory.path());
    let mut link = feed.accept(None);
    let first = link.full();
    link.ack(first.version);
    // From another lineage nothing follows for this one; of its own, something above it does.
    let ahead = Version { revision: 9, digest: first.version.digest, ..first.version };
    link.serves(Version { timeline: 2, ..ahead });
    link.quiet_for_pings(3);
    // An older word than the last is no news.
    link.serves(first.version);
    link.quiet_for_pings(1);
}

#[test]
fn a_refused_number_is_followed_by_a_higher_one() {
    let directory = program::directory();
    let (feed, _program) = start(directory.path());
    let mut link = feed.accept(None);
    let first = link.full();
    let current = Version { revision: 41, ..first.version };
    link.nack(first.version, Reason::Version(Refusal::Older { current, offered: first.version }));
    drop(link);
    let mut link = feed.accept(Some(Version { digest: ringway_snapshot::Digest(7), ..current }));
    assert_eq!(link.full().version.revision, 42);
}
