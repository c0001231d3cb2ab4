//! Configurations over the real socket and on disk: deltas, several control planes, bursts, trouble with the folder, staleness.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod stand;

use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use ringway_snapshot::Snapshot;
use ringway_snapshot::message::{Nack, Reason, ToControlplane, ToDataplane};
use serde_json::{Value, json};
use stand::{Gateway, connect, named_node, read_to_close, snapshot, wait_until};

fn route(uri: &str, node: &str) -> Value {
    json!({"uri": uri, "upstream": {"nodes": {node: 1}}})
}

fn get(gateway: &Gateway, path: &str) -> String {
    gateway.exchange(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes())
}

/// A page of the status endpoint.
fn status(gateway: &Gateway, path: &str) -> String {
    let mut stream = connect(gateway.status);
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap();
    read_to_close(&mut stream)
}

fn metric(gateway: &Gateway, name: &str) -> u64 {
    let page = status(gateway, "/metrics");
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or_default();
    line.parse().unwrap_or_else(|_| panic!("{name} in {page}"))
}

#[test]
fn a_delta_changes_what_it_names_and_one_from_elsewhere_asks_for_everything() {
    let gateway = Gateway::start();
    let (a, b) = (named_node("a").to_string(), named_node("b").to_string());
    let first = snapshot(1, &[("routes", "1", route("/one", &a)), ("routes", "2", route("/two", &a))]);
    let second = snapshot(2, &[("routes", "1", route("/one", &b)), ("routes", "3", route("/three", &b))]);
    let mut feed = gateway.feed();
    assert!(matches!(feed.offer(first.clone()), ToControlplane::Ack(_)));
    assert!(matches!(feed.offer_delta(&first, &second), ToControlplane::Ack(_)));
    assert!(get(&gateway, "/one").ends_with("\r\n\r\nb") && get(&gateway, "/three").ends_with("\r\n\r\nb"));
    assert!(get(&gateway, "/two").starts_with("HTTP/1.1 404 "));
    let third = snapshot(3, &[]);
    let answer = feed.offer_delta(&first, &third);
    assert!(
        matches!(&answer, ToControlplane::Nack(Nack { reason: Reason::Base(Some(served)), .. }) if *served == second.version),
        "{answer:?}"
    );
    assert!(matches!(feed.offer(third), ToControlplane::Ack(_)));
    assert_eq!(metric(&gateway, "ringway_config_applied_total{form=\"delta\"}"), 1);
    assert_eq!(metric(&gateway, "ringway_config_applied_total{form=\"full\"}"), 2);
}

#[test]
fn other_control_planes_are_told_what_one_brought_those_of_schema_1_in_words_they_know() {
    let gateway = Gateway::start();
    let (mut one, mut other, mut old) = (gateway.feed(), gateway.feed(), gateway.feed_as(1));
    let first = snapshot(1, &[]);
    assert!(matches!(one.offer(first.clone()), ToControlplane::Ack(_)));
    other.send(&ToDataplane::Ping);
    assert_eq!(other.hear(), ToControlplane::Pong);
    assert_eq!(other.hear(), ToControlplane::Serves(first.version));
    // Once is enough.
    other.send(&ToDataplane::Ping);
    assert_eq!(other.hear(), ToControlplane::Pong);
    let second = snapshot(2, &[]);
    assert!(matches!(other.offer_delta(&first, &second), ToControlplane::Ack(_)));
    // The old one hears nothing that it could not read, and is as good a control plane as ever.
    old.send(&ToDataplane::Ping);
    assert_eq!(old.hear(), ToControlplane::Pong);
    assert!(matches!(old.offer(snapshot(3, &[])), ToControlplane::Ack(_)));
    let beyond = &mut gateway.feed_as(0);
    assert!(beyond.is_closed(), "no schema in common");
}

/// Resident bytes of a process.
fn resident(pid: u32) -> usize {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn thousands_of_changes_in_a_row_leave_no_memory_behind_and_the_last_one_is_served_and_kept() {
    const ROUTES: usize = 2_000;
    const TAKES: Duration = Duration::from_secs(6);
    let mut gateway = Gateway::start();
    let a = named_node("a").to_string();
    let ids: Vec<String> = (0..ROUTES).map(|n| format!("r{n}")).collect();
    let objects: Vec<(&str, &str, Value)> =
        ids.iter().map(|id| ("routes", id.as_str(), route(&format!("/{id}"), &a))).collect();
    let mut served: Snapshot = snapshot(1, &objects);
    let mut feed = gateway.feed();
    assert!(matches!(feed.offer(served.clone()), ToControlplane::Ack(_)));
    let (started, mut revision, mut resident_at_first) = (Instant::now(), 1, 0);
    while started.elapsed() < TAKES {
        revision += 1;
        let id = &ids[revision as usize * 7 % ROUTES];
        let uri = format!("/changed/{revision}");
        let one = snapshot(revision, &[("routes", id, route(&uri, &a))]);
        let mut target = served.clone();
        for entry in &one.entries {
            let old = target.entries.put(std::sync::Arc::clone(entry)).unwrap();
            target.version.digest = target.version.digest.without(old.digest).with(entry.digest);
        }
        target.version.revision = revision;
        let answer = feed.offer_delta(&served, &target);
        assert!(matches!(answer, ToControlplane::Ack(_)), "{answer:?}");
        served = target;
        if revision == 500 {
            resident_at_first = resident(gateway.pid());
        }
    }
    let grown = resident(gateway.pid()).saturating_sub(resident_at_first);
    // Each version left behind would be at least a part of a table: some 10 KiB.
    println!("{revision} versions, {grown} bytes more than after 500");
    assert!(revision > 500, "only {revision} versions: this says nothing");
    assert!(grown < 32 << 20, "{grown} bytes more after {revision} versions");
    assert!(get(&gateway, &format!("/changed/{revision}")).ends_with("\r\n\r\na"));
    assert!(metric(&gateway, "ringway_config_versions_alive") <= 3);
    gateway.ctl("shutdown");
    gateway.wait();
    let gateway = Gateway::start_in(gateway.kill(), &[]);
    assert_eq!(gateway.feed().served, Some(served.version));
}

#[test]
fn a_folder_that_cannot_be_written_is_told_everywhere_and_mended_without_a_restart() {
    let gateway = Gateway::start();
    let folder = gateway.folder.path().join("state");
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "in the way").unwrap();
    let a = named_node("a").to_string();
    gateway.configure(1, &[("routes", "1", route("/", &a))]);
    let told = wait_until("the complaint", || {
        gateway.ctl_json("show info")["disk_error"].as_str().map(str::to_owned)
    });
    assert!(told.contains("cannot be written"), "{told}");
    assert_eq!(metric(&gateway, "ringway_config_unsaved"), 1);
    assert!(get(&gateway, "/").ends_with("\r\n\r\na"));
    fs::remove_file(&folder).unwrap();
    wait_until("the cure", || gateway.ctl_json("show info")["disk_error"].is_null().then_some(()));
    assert_eq!(metric(&gateway, "ringway_config_saved_revision"), 1);
    let gateway = Gateway::start_in(gateway.kill(), &[]);
    assert_eq!(gateway.feed().served.unwrap().revision, 1);
}

#[test]
fn a_write_that_fails_leaves_the_older_snapshot_until_it_succeeds() {
    let gateway = Gateway::start();
    let folder = gateway.folder.path().join("state");
    let saved = |gateway: &Gateway, revision: u64| {
        wait_until("the disk", || {
            (gateway.ctl_json("show info")["saved_version"]["revision"] == revision).then_some(())
        });
    };
    gateway.configure(1, &[]);
    saved(&gateway, 1);
    // The next one cannot be written here.
    fs::create_dir(folder.join("next.snapshot")).unwrap();
    gateway.configure(2, &[]);
    wait_until("the complaint", || gateway.ctl_json("show info")["disk_error"].as_str().map(str::to_owned));
    assert!(folder.join("current.snapshot").exists());
    fs::remove_dir(folder.join("next.snapshot")).unwrap();
    saved(&gateway, 2);
    assert!(gateway.ctl_json("show info")["disk_error"].is_null());
}

#[test]
fn a_damaged_snapshot_gives_way_to_the_one_before_which_is_told_and_written_anew() {
    let gateway = Gateway::start();
    let folder = gateway.folder.path().join("state");
    let current = folder.join("current.snapshot");
    for revision in [1, 2] {
        gateway.configure(revision, &[]);
        wait_until("the disk", || {
            (gateway.ctl_json("show info")["saved_version"]["revision"] == revision).then_some(())
        });
    }
    let folder = gateway.kill();
    let mut bytes = fs::read(&current).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&current, bytes).unwrap();
    let gateway = Gateway::start_in(folder, &[]);
    assert_eq!(gateway.feed().served.unwrap().revision, 1);
    // It heals by itself: what is served is the newest that is good.
    let current = gateway.folder.path().join("state/current.snapshot");
    wait_until("the cure", || {
        let bytes = fs::read(&current).ok()?;
        let frame =
            ringway_snapshot::frame::decode::<Snapshot>(ringway_snapshot::frame::FrameKind::Disk, &bytes);
        (frame.ok()?.version.revision == 1).then_some(())
    });
    wait_until("the end of the complaint", || {
        gateway.ctl_json("show info")["disk_error"].is_null().then_some(())
    });
}

#[test]
fn silence_of_control_planes_is_told_to_whoever_asks_and_requests_are_served_on() {
    let gateway = Gateway::start_in(tempfile::tempdir().unwrap(), &["--stale-after-s", "3600"]);
    let a = named_node("a").to_string();
    gateway.configure(1, &[("routes", "1", route("/", &a))]);
    assert!(status(&gateway, "/readyz?max_age=600").starts_with("HTTP/1.1 200 "));
    assert!(status(&gateway, "/readyz?max_age=soon").starts_with("HTTP/1.1 400 "));
    let page = wait_until("staleness", || {
        let page = status(&gateway, "/readyz?max_age=0");
        page.starts_with("HTTP/1.1 503 ").then_some(page)
    });
    assert!(page.contains("no control plane was heard for"), "{page}");
    wait_until("a second of silence", || {
        (metric(&gateway, "ringway_controlplane_silence_seconds") >= 1).then_some(())
    });
    assert!(status(&gateway, "/readyz").starts_with("HTTP/1.1 200 "));
    assert!(get(&gateway, "/").ends_with("\r\n\r\na"));
    // After a restart without a control plane it counts from when the snapshot was written.
    let current = gateway.folder.path().join("state/current.snapshot");
    wait_until("the disk", || current.exists().then_some(()));
    let folder = gateway.kill();
    let file = fs::File::options().append(true).open(folder.path().join("state/current.snapshot")).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(7200)).unwrap();
    let gateway = Gateway::start_in(folder, &["--stale-after-s", "3600"]);
    assert!(status(&gateway, "/readyz").starts_with("HTTP/1.1 503 "));
    assert!(get(&gateway, "/").ends_with("\r\n\r\na"));
}
