//! A transaction is one change: all of it at once, or none of it, and never back.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::stand::{Client, Stand, wait_until};

/// Connections that readers hold; the kernel spreads them over the two cores by a hash of their ports.
const READERS: usize = 12;
const TRANSACTIONS: u64 = 1_000;
/// Between two turns of a reader. Readers at full speed would take the machine from the planes they watch.
const PACE: Duration = Duration::from_millis(2);

fn route(id: &str, uri: &str, node: SocketAddr) -> String {
    format!(
        r#"INSERT INTO ringway.resource (kind, id, spec)
           VALUES ('routes', '{id}', '{{"uri": "{uri}", "upstream": {{"nodes": {{"{node}": 1}}}}}}')"#
    )
}

#[test]
fn insert_update_and_delete_of_one_transaction_are_seen_at_once_on_every_core() {
    let mut stand = Stand::whole();
    let (old, new) = (stand.backend("old"), stand.backend("new"));
    let sql = stand.cluster.sql();
    let before = sql.change(&format!("{}; {}", route("kept", "/kept", old), route("gone", "/gone", old)));
    stand.wait_for_every_core(before);
    assert_eq!(stand.client().get("x", "/added").status, 404);

    let stop = AtomicBool::new(false);
    let laps = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let readers: Vec<_> =
            (0..READERS).map(|_| scope.spawn(|| see_the_change_once(stand.client(), &stop, &laps))).collect();
        wait_until("the readers to read", || (laps.load(Ordering::Relaxed) > 100).then_some(()));
        let change = format!(
            r#"{};
               UPDATE ringway.resource SET spec = jsonb_set(spec, '{{upstream,nodes}}', '{{"{new}": 1}}') WHERE id = 'kept';
               DELETE FROM ringway.resource WHERE id = 'gone'"#,
            route("added", "/added", new)
        );
        let after = sql.change(&change);
        assert_eq!(after, before + 1, "one transaction is one revision");
        stand.wait_for_every_core(after);
        let then = laps.load(Ordering::Relaxed);
        wait_until("the readers to read on", || (laps.load(Ordering::Relaxed) > then + 100).then_some(()));
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap(), "a reader has not seen the change");
        }
    });
    let cores = stand.admin("show cores json").unwrap();
    for core in cores.as_array().unwrap() {
        assert!(core["requests"].as_u64().unwrap() > 0, "a core has served nobody: {cores}");
    }
}

/// Reads the three routes in turn. The first answer that shows the change must be the last one that differs.
fn see_the_change_once(mut client: Client, stop: &AtomicBool, laps: &AtomicU64) -> bool {
    let mut changed = false;
    while !stop.load(Ordering::Relaxed) {
        for path in ["/added", "/kept", "/gone"] {
            let answer = client.get("x", path);
            let backend = if answer.status == 200 { answer.backend() } else { answer.status.to_string() };
            let shows_change = match (path, backend.as_str()) {
                ("/added", "404") | ("/kept" | "/gone", "old") => false,
                ("/added" | "/kept", "new") | ("/gone", "404") => true,
                other => panic!("unexpected answer {other:?}"),
            };
            assert!(shows_change || !changed, "{path} is as before after the change was seen");
            changed = shows_change;
        }
        laps.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(PACE);
    }
    changed
}

#[test]
fn a_broken_row_is_refused_by_name_and_healed_by_its_correction() {
    let mut stand = Stand::whole();
    let node = stand.backend("b");
    let sql = stand.cluster.sql();
    stand.wait_for_every_core(sql.change(&route("good", "/good", node)));

    // The whole revision is refused, also what is right in it.
    let refused = sql.change(&format!(
        r#"{}; INSERT INTO ringway.resource (kind, id, spec) VALUES ('routes', 'broken', '{{"uri": "no-slash", "upstream_id": "nobody"}}')"#,
        route("also-good", "/also-good", node)
    ));
    let report = wait_until("the refusal in the control plane's status", || {
        let refused = stand.control_status()?["refused"].clone();
        (!refused.is_null()).then(|| refused.to_string())
    });
    for told in ["broken", "/uri", "/upstream_id", "nobody"] {
        assert!(report.contains(told), "{told} is not in {report}");
    }
    wait_until("the refusal in PostgreSQL", || {
        let rows =
            sql.text("SELECT kind || '/' || id || ' at ' || pointer || ': ' || reason FROM ringway.refusal");
        (rows.contains("routes/broken at /uri: ") && rows.contains("routes/broken at /upstream_id: "))
            .then_some(())
    });
    wait_until("the refusal in the data plane's log", || {
        let log = std::fs::read_to_string(stand.dir().join("dataplane.log")).unwrap();
        (log.contains("broken") && log.contains("/uri")).then_some(())
    });
    let log = std::fs::read_to_string(stand.dir().join("controlplane.log")).unwrap();
    assert!(log.contains("broken") && log.contains("/uri"), "{log}");
    let (code, text) = stand.ringway(&["status"]);
    assert!(code == 1 && text.contains("routes/broken at /uri"), "{code}: {text}");
    assert!(text.contains("is refused by the control plane: routes/broken"), "{text}");
    // With the control plane gone the data plane still tells who refused.
    stand.kill_control();
    let (_, text) = stand.ringway(&["status"]);
    assert!(text.contains("the control plane refused version"), "{text}");
    assert!(!text.contains("the data plane refused"), "{text}");
    stand.start_control();
    assert_eq!(stand.client().get("x", "/good").status, 200, "the old configuration serves on");
    assert_eq!(stand.client().get("x", "/also-good").status, 404, "nothing of a refused revision is served");

    let healed = sql.change(&format!(
        r#"UPDATE ringway.resource SET spec = '{{"uri": "/healed", "upstream": {{"nodes": {{"{node}": 1}}}}}}' WHERE id = 'broken'"#
    ));
    assert_eq!(healed, refused + 1);
    stand.wait_for_every_core(healed);
    for path in ["/good", "/also-good", "/healed"] {
        assert_eq!(stand.client().get("x", path).status, 200, "{path}");
    }
    wait_until("the refusal to be forgotten", || {
        let gone = stand.control_status()?["refused"].is_null()
            && sql.number("SELECT count(*) FROM ringway.refusal") == 0;
        gone.then_some(())
    });
    wait_until("a status that is in step", || (stand.ringway(&["status"]).0 == 0).then_some(()));
}

/// In transaction n both routes go to the upstream that the same transaction gave the mark n, so that a route of one
/// version with an upstream of another one would show an older mark.
#[test]
fn no_request_is_served_by_a_mixture_of_versions_and_no_core_goes_back() {
    let mut stand = Stand::whole();
    let node = stand.backend("b");
    let sql = stand.cluster.sql();
    let upstream = |id: &str, mark: u64| {
        format!(
            r#"('upstreams', '{id}', '{{"nodes": {{"{node}": 1}}, "pass_host": "rewrite", "upstream_host": "{mark}"}}')"#
        )
    };
    let first = sql.change(&format!(
        r#"INSERT INTO ringway.resource (kind, id, spec) VALUES {}, {},
           ('routes', 'x', '{{"uri": "/x", "upstream_id": "u0"}}'), ('routes', 'y', '{{"uri": "/y", "upstream_id": "u0"}}')"#,
        upstream("u0", 0),
        upstream("u1", 0)
    ));
    stand.wait_for_every_core(first);

    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> =
            (0..READERS).map(|_| scope.spawn(|| read_marks_that_only_rise(stand.client(), &stop))).collect();
        let watcher = scope.spawn(|| revisions_that_only_rise(&stand, &stop));
        for mark in 1..=TRANSACTIONS {
            let target = mark % 2;
            sql.run(&format!(
                r#"BEGIN;
                   UPDATE ringway.resource SET spec = jsonb_set(spec, '{{upstream_host}}', '"{mark}"') WHERE kind = 'upstreams' AND id = 'u{target}';
                   UPDATE ringway.resource SET spec = jsonb_set(spec, '{{upstream_id}}', '"u{target}"') WHERE kind = 'routes' AND id IN ('x', 'y');
                   COMMIT"#
            ));
        }
        stand.wait_for_every_core(first + TRANSACTIONS);
        stop.store(true, Ordering::Relaxed);
        let seen: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert!(seen > 0 && watcher.join().unwrap() > 0);
    });
    assert_eq!(
        sql.number("SELECT revision FROM ringway.head"),
        first + TRANSACTIONS,
        "a gap in the revisions"
    );
    for _ in 0..READERS {
        assert_eq!(mark_of(&mut stand.client(), "/x"), TRANSACTIONS);
    }
}

fn mark_of(client: &mut Client, path: &str) -> u64 {
    let answer = client.get("any", path);
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()["headers"]["host"].as_str().unwrap().parse().unwrap()
}

/// How many requests it made.
fn read_marks_that_only_rise(mut client: Client, stop: &AtomicBool) -> u64 {
    let (mut highest, mut requests) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        for path in ["/x", "/y"] {
            let mark = mark_of(&mut client, path);
            assert!(mark >= highest, "{path} shows {mark} after {highest} was seen on the same core");
            highest = mark;
            requests += 1;
        }
        std::thread::sleep(PACE);
    }
    requests
}

/// How often a core was seen on another revision than before.
fn revisions_that_only_rise(stand: &Stand, stop: &AtomicBool) -> u64 {
    let mut before = vec![None; 2];
    let mut steps = 0;
    while !stop.load(Ordering::Relaxed) {
        let now = stand.revisions().expect("the data plane answers");
        for (before, now) in before.iter().zip(&now) {
            assert!(now >= before, "a core went from revision {before:?} to {now:?}");
            steps += u64::from(now != before);
        }
        before = now;
        std::thread::sleep(PACE);
    }
    steps
}
