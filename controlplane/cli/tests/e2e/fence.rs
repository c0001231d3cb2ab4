//! No rollback by accident: which of two databases a data plane follows, and what `ringway status` says of the other one.

use std::net::SocketAddr;

use crate::stand::{Cluster, Stand, wait_until};

fn insert(id: &str, node: SocketAddr) -> String {
    format!(
        r#"INSERT INTO ringway.resource (kind, id, spec)
           VALUES ('routes', '{id}', '{{"uri": "/{id}", "upstream": {{"nodes": {{"{node}": 1}}}}}}')"#
    )
}

/// Timeline and revision of what every core runs, where all run the same.
fn served(stand: &Stand) -> Option<(u64, u64)> {
    let cores = stand.admin("show cores json")?;
    let versions: Vec<_> = cores.as_array()?.iter().map(|core| core["version"].clone()).collect();
    let first = versions.first()?;
    let whole = versions.iter().all(|version| version == first);
    whole.then_some((first["timeline"].as_u64()?, first["revision"].as_u64()?))
}

fn wait_served(stand: &Stand, version: (u64, u64)) {
    wait_until(&format!("every core to serve {version:?}"), || (served(stand)? == version).then_some(()));
}

/// Waits until `ringway status` of that control plane tells exactly one problem, and gives it.
fn problem(stand: &Stand, control: &str, told: &str) -> String {
    let line = wait_until(&format!("{told:?} in the status"), || {
        let (code, text) = stand.ringway_of(control, &["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&text).ok()?;
        let problems = status["problems"].as_array()?;
        let found =
            problems.iter().filter_map(|problem| problem.as_str()).find(|line| line.contains(told))?;
        (code == 1).then(|| found.to_owned())
    });
    assert_eq!(line.lines().count(), 1);
    line
}

fn url(clusters: &[&Cluster]) -> String {
    let hosts: Vec<String> = clusters.iter().map(|cluster| cluster.host()).collect();
    format!("postgresql:///gateway?host={}&user=postgres", hosts.join(","))
}

#[test]
fn after_a_failover_that_lost_commits_the_new_timeline_is_served_and_the_old_primary_is_refused() {
    let mut stand = Stand::whole();
    let node = stand.backend("b");
    stand.wait_for_every_core(stand.cluster.sql().change(&insert("kept", node)));
    let mut standby = stand.cluster.standby();
    stand.kill_control();
    let control = stand.control_on("control", &url(&[&stand.cluster, &standby]));
    // The standby hears nothing of these two.
    standby.stop();
    let sql = stand.cluster.sql();
    sql.change(&insert("lost-1", node));
    stand.wait_for_every_core(sql.change(&insert("lost-2", node)));
    assert_eq!(served(&stand), Some((1, 3)));
    stand.cluster.kill();
    standby.start_again();
    // A standby that is behind is read, and takes nothing back.
    let late = problem(&stand, "control", "nothing is taken from it until it has caught up");
    assert!(late.contains("reads a standby") && late.contains("has revision 1 of timeline 1"), "{late}");
    assert_eq!(stand.client().get("x", "/lost-2").status, 200);
    standby.promote();
    // One empty revision stamps the new timeline: lower in number, higher in order.
    wait_served(&stand, (2, 2));
    assert_eq!(stand.client().get("x", "/lost-2").status, 404);
    assert_eq!(stand.client().get("x", "/kept").status, 200);
    wait_until("a status that is in step", || (stand.ringway(&["status"]).0 == 0).then_some(()));

    // The old primary runs again and takes writes; only its own control plane believes it.
    stand.cluster.start_again();
    stand.cluster.sql().change(&insert("split-brain", node));
    let old = stand.control_on("old", &stand.cluster.url());
    let line = problem(&stand, "old", "is refused by the data plane");
    assert!(line.contains(":1:4 is older than ") && line.contains(":2:2, which is being served"), "{line}");
    assert!(line.contains("it comes from a primary that a promoted standby has replaced"), "{line}");
    standby.sql().change(&insert("new", node));
    wait_served(&stand, (2, 3));
    assert_eq!(stand.client().get("x", "/split-brain").status, 404);
    assert_eq!(stand.client().get("x", "/new").status, 200);
    // The fleet as the new primary knows it agrees; as the old one knows it, it does not.
    wait_until("a fleet in step", || (stand.ringway(&["status", "--fleet"]).0 == 0).then_some(()));
    let (code, text) = stand.ringway_of("old", &["status", "--fleet"]);
    assert_eq!(code, 1, "{text}");
    drop((control, old));
}

#[test]
fn a_restored_backup_is_refused_until_somebody_says_that_it_is_meant() {
    let mut stand = Stand::whole();
    let node = stand.backend("b");
    let sql = stand.cluster.sql();
    stand.wait_for_every_core(sql.change(&insert("one", node)));
    let backup = stand.cluster.restored();
    stand.wait_for_every_core(sql.change(&insert("two", node)));
    stand.kill_control();
    let _control = stand.control_on("control", &backup.url());
    let line = problem(&stand, "control", "is refused by the data plane");
    assert!(line.contains(":1:1 is older than ") && line.contains("the source went back"), "{line}");
    let told = "UPDATE ringway.head SET revision = 3";
    assert!(line.ends_with(told), "{line}");
    assert_eq!(stand.client().get("x", "/two").status, 200);
    // As the line says.
    backup.sql().run(told);
    wait_served(&stand, (1, 3));
    assert_eq!(stand.client().get("x", "/two").status, 404);
    wait_until("a status that is in step", || (stand.ringway(&["status"]).0 == 0).then_some(()));
}

#[test]
fn two_primaries_of_one_timeline_that_wrote_the_same_revision_are_told_apart() {
    let mut stand = Stand::whole();
    let node = stand.backend("b");
    let sql = stand.cluster.sql();
    stand.wait_for_every_core(sql.change(&insert("one", node)));
    let other = stand.cluster.restored();
    stand.wait_for_every_core(sql.change(&insert("here", node)));
    assert_eq!(other.sql().change(&insert("there", node)), 2);
    let _other = stand.control_on("other", &other.url());
    let line = problem(&stand, "other", "is refused by the data plane");
    assert!(line.contains("two sources wrote the same revision; stop the wrong one"), "{line}");
    assert_eq!(stand.client().get("x", "/here").status, 200);
    assert_eq!(stand.client().get("x", "/there").status, 404);
    let log = std::fs::read_to_string(stand.dir().join("dataplane.log")).unwrap();
    assert!(log.contains("ERROR") && log.contains("two sources wrote the same revision"), "{log}");
    // The status of the right one tells it too: it is what the data plane refused last.
    let line = problem(&stand, "control", "the data plane refused version");
    assert!(line.contains("two sources wrote the same revision"), "{line}");
}

#[test]
fn another_database_is_refused_until_it_is_adopted() {
    let mut stand = Stand::whole();
    let node = stand.backend("b");
    stand.wait_for_every_core(stand.cluster.sql().change(&insert("one", node)));
    let other = Cluster::start();
    stand.kill_control();
    let _control = stand.control_on("control", &other.url());
    let line = problem(&stand, "control", "is refused by the data plane");
    let command = line.split('`').nth(1).unwrap_or_else(|| panic!("no command in {line}"));
    assert!(line.contains("comes from another source (lineage)"), "{line}");
    assert_eq!(stand.client().get("x", "/one").status, 200);
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    let (code, text) = stand.ringway(&words);
    assert_eq!((words.first(), code), (Some(&"adopt"), 0), "{text}");
    stand.wait_for_every_core(other.sql().change(&insert("two", node)));
    wait_until("the new database's routes", || {
        let (old, new) = (stand.client().get("x", "/one").status, stand.client().get("x", "/two").status);
        ((old, new) == (404, 200)).then_some(())
    });
    wait_until("a status that is in step", || (stand.ringway(&["status"]).0 == 0).then_some(()));
}
