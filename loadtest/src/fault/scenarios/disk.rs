//! The disk of snapshots: a file that is cut off, and no room left.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;
use serde_json::Value;

use crate::fault::load;
use crate::fault::scenario::{Needs, Outcome, Scenario};
use crate::fault::stage::Stage;

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const TORN: Scenario = Scenario {
    name: "torn-snapshot",
    title: "newest snapshot on disk cut in half, data plane boots alone",
    about: "The control plane is stopped, so that the older snapshot has to serve. Connections that failed while no data plane ran are excused.",
    needs: Needs::NOTHING,
    streams: load::ALL,
    short: true,
    run: torn,
};

pub(crate) const FULL: Scenario = Scenario {
    name: "disk-full",
    title: "disk of the snapshots full for 5 s",
    about: "Changes are served all the same; the admin socket tells of the disk; a change after the fault is saved again.",
    needs: Needs { small_disk: true, ..Needs::NOTHING },
    streams: load::ALL,
    short: false,
    run: full,
};

fn torn(stage: &mut Stage<'_>) -> Result<Outcome> {
    stage.pause_changes()?;
    stage.caught_up()?;
    let from = Instant::now();
    stage.fault("snapshot torn");
    stage.rig.control()?.signal(Signal::STOP);
    stage.rig.kill_data();
    let newest = newest(&stage.rig.path("snapshots"))?;
    let bytes = fs::metadata(&newest)?.len();
    fs::OpenOptions::new().write(true).open(&newest)?.set_len(bytes / 2)?;
    stage.rig.start_data()?;
    stage.excuse_since(from, "no data plane ran");
    stage.hold(Duration::from_secs(2))?;
    let log = stage.rig.data()?.log();
    let told = log.lines().any(|line| line.contains("skipping ") && line.contains("current.snapshot"));
    stage.expect(told, "the log does not tell of the torn snapshot");
    stage.rig.control()?.signal(Signal::CONT);
    stage.healed("control plane continues");
    stage.resume_changes();
    stage.hold(Duration::from_secs(2))?;
    Ok(Outcome::Done)
}

fn full(stage: &mut Stage<'_>) -> Result<Outcome> {
    stage.fault("disk full");
    let filler = stage.rig.path("snapshots").join("filler");
    fill(&filler)?;
    stage.await_that("the admin socket tells of the full disk", PATIENCE, |rig| {
        disk_error(rig.admin("show info json")).is_some()
    })?;
    stage.hold(Duration::from_secs(5))?;
    fs::remove_file(&filler)?;
    stage.healed("room again");
    stage.await_that("snapshots are saved again", PATIENCE, |rig| {
        rig.admin("show info json").is_some_and(|info| disk_error(Some(info)).is_none())
    })?;
    Ok(Outcome::Done)
}

fn disk_error(info: Option<Value>) -> Option<String> {
    Some(info?.get("disk_error")?.as_str()?.to_owned())
}

fn fill(path: &Path) -> Result<()> {
    let mut file = fs::File::create(path)?;
    for block in [64 * 1024, 1] {
        while file.write_all(&vec![0; block]).is_ok() {}
    }
    Ok(())
}

fn newest(folder: &Path) -> Result<std::path::PathBuf> {
    let files = fs::read_dir(folder)?.flatten().filter_map(|entry| {
        let changed = entry.metadata().ok().filter(fs::Metadata::is_file)?.modified().ok()?;
        let is_snapshot = entry.path().extension().is_some_and(|extension| extension == "snapshot");
        is_snapshot.then(|| (changed, entry.path()))
    });
    files.max().map(|(_, path)| path).context("there is no snapshot on disk")
}
