//! The declarative file: taken whole or refused whole, numbered upwards over restarts.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod feed;
mod program;

use std::fs;
use std::path::Path;

use feed::Feed;
use program::Program;
use ringway_snapshot::message::ToDataplane;
use ringway_snapshot::{Snapshot, Version};

const A: &str = "routes:\n  - id: r\n    uri: /a\n#END\n";
const B: &str = "routes:\n  - id: r\n    uri: /b\n#END\n";

/// Writes beside and renames, as one should.
fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).expect("write");
    fs::rename(beside, path).expect("rename");
}

fn uri(snapshot: &Snapshot) -> String {
    match &snapshot.entries.iter().next().unwrap().object {
        ringway_snapshot::Object::Route(route) => route.uri.clone().unwrap_or_default().into_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_change_is_taken_a_broken_file_refused_and_the_next_write_heals() {
    let directory = program::directory();
    let path = directory.path().join("gateway.yaml");
    fs::write(&path, A).unwrap();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let mut program = Program::start(directory.path(), "n1", &["--file", path.to_str().unwrap()]);
    let mut link = feed.accept(None);
    let first = link.full();
    assert_eq!((first.version.timeline, first.version.revision, uri(&first)), (1, 1, "/a".to_owned()));
    link.ack(first.version);
    replace(&path, B);
    let second = link.full();
    assert_eq!((second.version.revision, uri(&second)), (2, "/b".to_owned()));
    assert_eq!(second.version.lineage, first.version.lineage);
    link.ack(second.version);
    // Half of a file, as a slow writer leaves it.
    fs::write(&path, "routes:\n  - id: r\n    uri: \"/c").unwrap();
    let ToDataplane::SourceRefused { version, faults } = link.next() else { panic!("not refused") };
    assert_eq!(
        (version.revision, faults[0].kind.as_str(), faults[0].id.as_str()),
        (3, "file", "gateway.yaml")
    );
    let status = program.wait_status("the refusal", |status| status["refused"]["revision"] == 3);
    assert_eq!(status["version"]["revision"], 2);
    assert_eq!(status["source"]["kind"], "file");
    // The old content again: a new number, so that everyone hears of the cure.
    fs::write(&path, B).unwrap();
    let healed = link.full();
    assert_eq!((healed.version.revision, healed.version.digest), (3, second.version.digest));
    link.ack(healed.version);
    // One broken object refuses the whole.
    replace(&path, "routes:\n  - {id: r, uri: /d}\n  - {id: s, uri: /e, upstream_id: gone}\n");
    let ToDataplane::SourceRefused { faults, .. } = link.next() else { panic!("not refused") };
    assert_eq!(faults[0].to_string(), "routes/s at /upstream_id: there is no upstream \"gone\"");
    replace(&path, "routes:\n  - {id: r, uri: /d}\n  - {id: s, uri: /e}\n");
    assert_eq!(link.full().entries.len(), 2);
    assert!(program.terminate().success());
}

#[test]
fn touching_or_rewriting_the_same_content_changes_nothing() {
    let directory = program::directory();
    let path = directory.path().join("gateway.yaml");
    fs::write(&path, A).unwrap();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let _program = Program::start(directory.path(), "n1", &["--file", path.to_str().unwrap()]);
    let mut link = feed.accept(None);
    link.until(|snapshot| snapshot.version.revision == 1);
    replace(&path, A);
    link.quiet_for_pings(2);
    replace(&path, B);
    assert_eq!(link.full().version.revision, 2);
}

#[test]
fn the_revision_survives_a_restart_and_a_change_meanwhile_takes_the_next() {
    let directory = program::directory();
    let path = directory.path().join("gateway.json");
    fs::write(&path, r#"{"routes": [{"id": 1, "uri": "/a"}]}"#).unwrap();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let argument = path.to_str().unwrap().to_owned();
    let mut program = Program::start(directory.path(), "n1", &["--file", &argument]);
    let mut link = feed.accept(None);
    link.until(|snapshot| snapshot.version.revision == 1);
    replace(&path, r#"{"routes": [{"id": 1, "uri": "/b"}]}"#);
    let second = link.until(|snapshot| snapshot.version.revision == 2);
    assert!(program.terminate().success());
    // Nothing changed: the data plane has it, and is sent nothing.
    let program = Program::start(directory.path(), "n1", &["--file", &argument]);
    let mut link = feed.accept(Some(second.version));
    link.quiet_for_pings(2);
    assert_eq!(program.status()["version"]["text"], second.version.to_string());
    drop(program);
    replace(&path, r#"{"routes": [{"id": 1, "uri": "/c"}]}"#);
    let _program = Program::start(directory.path(), "n1", &["--file", &argument]);
    let mut link = feed.accept(Some(second.version));
    let third = link.full();
    assert_eq!((third.version.lineage, third.version.revision), (second.version.lineage, 3));
}

#[test]
fn a_lost_state_directory_is_made_up_for_by_what_the_data_plane_says() {
    let directory = program::directory();
    let path = directory.path().join("gateway.yaml");
    fs::write(&path, A).unwrap();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let argument = path.to_str().unwrap().to_owned();
    let program = Program::start(directory.path(), "n1", &["--file", &argument]);
    let first = feed.accept(None).full();
    drop(program);
    fs::remove_dir_all(directory.path().join("state")).unwrap();
    // The data plane has a higher number with another content: this one goes above it.
    let ahead = Version { revision: 41, digest: ringway_snapshot::Digest(5), ..first.version };
    let program = Program::start(directory.path(), "n1", &["--file", &argument]);
    let mut link = feed.accept(Some(ahead));
    let above = link.full();
    assert_eq!((above.version.revision, above.version.digest), (42, first.version.digest));
    drop((program, link));
    fs::remove_dir_all(directory.path().join("state")).unwrap();
    // It has a higher number with the same content: that is its number.
    let mut program = Program::start(directory.path(), "n1", &["--file", &argument]);
    let mut link = feed.accept(Some(above.version));
    link.quiet_for_pings(2);
    program.wait_status("its number", |status| status["version"]["revision"] == 42);
    // Another file's data plane says nothing about this one.
    drop(link);
    let mut link = feed.accept(Some(Version { lineage: 7, revision: 999, ..first.version }));
    assert_eq!(link.full().version.revision, 42);
}

#[test]
fn a_file_that_is_gone_is_told_and_what_was_read_stays_in_force() {
    let directory = program::directory();
    let path = directory.path().join("gateway.yaml");
    fs::write(&path, A).unwrap();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let mut program = Program::start(directory.path(), "n1", &["--file", path.to_str().unwrap()]);
    let mut link = feed.accept(None);
    link.until(|snapshot| snapshot.version.revision == 1);
    fs::remove_file(&path).unwrap();
    let status = program.wait_status("gone", |status| status["source"]["state"] == "disconnected");
    assert!(status["source"]["last_error"].as_str().unwrap().contains("stays in force"));
    assert_eq!(status["version"]["revision"], 1);
    link.quiet_for_pings(2);
    fs::write(&path, B).unwrap();
    assert_eq!(link.full().version.revision, 2);
    program.wait_status("back", |status| status["source"]["state"] == "connected");
}

#[test]
fn a_state_directory_that_cannot_be_written_is_told_and_the_gateway_works() {
    let directory = program::directory();
    let path = directory.path().join("gateway.yaml");
    fs::write(&path, A).unwrap();
    // A file where the directory should be: not even root can write below it.
    fs::write(directory.path().join("state"), "").unwrap();
    let feed = Feed::listen(&directory.path().join("feed.sock"));
    let mut program = Program::start(directory.path(), "n1", &["--file", path.to_str().unwrap()]);
    let mut link = feed.accept(None);
    link.until(|snapshot| snapshot.version.revision == 1);
    replace(&path, B);
    link.until(|snapshot| snapshot.version.revision == 2);
    program.wait_log("give a writable --state-dir");
    assert_eq!(program.log().matches("give a writable --state-dir").count(), 1);
}
