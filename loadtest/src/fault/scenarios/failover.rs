//! The primary dies and its standby takes over: with everything, without the last commits, and with the old primary
//! coming back beside it.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::fault::ask::Asker;
use crate::fault::load;
use crate::fault::scenario::{Needs, Outcome, Scenario};
use crate::fault::stage::Stage;

pub(crate) const PROMOTION: Scenario = Scenario {
    name: "promotion",
    title: "primary killed, synchronous standby promoted",
    about: "Commits wait for the standby, so that nothing acknowledged may be lost.",
    needs: Needs::STANDBY,
    streams: load::ALL,
    short: false,
    run: promotion,
};

pub(crate) const LOSSY: Scenario = Scenario {
    name: "failover-lossy",
    title: "asynchronous failover that loses the last commits",
    about: "PostgreSQL loses them, not Ringway: they are counted apart, must be gone from every core, and the promoted server's revisions, which are lower, must replace them.",
    needs: Needs::STANDBY,
    streams: load::ALL,
    short: true,
    run: lossy,
};

pub(crate) const TWO_PRIMARIES: Scenario = Scenario {
    name: "two-primaries",
    title: "old primary returns beside the promoted one, and takes commits",
    about: "The control plane is restarted with both in its URL, the old one first. What is committed to the old one must never be served; the new one's changes go on.",
    needs: Needs::STANDBY,
    streams: load::ALL,
    short: false,
    run: two_primaries,
};

/// Committed to the old primary only.
const ROGUE: &str = "/rogue";
const ROGUES: u32 = 200;

fn promotion(stage: &mut Stage<'_>) -> Result<Outcome> {
    let mut session = stage.rig.primary.session()?;
    session.run("ALTER SYSTEM SET synchronous_standby_names = '*'")?;
    session.run("SELECT pg_reload_conf()")?;
    stage.rig.until("a synchronous standby", || {
        let query = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        (session.value(query).ok()? == "1").then_some(())
    })?;
    stage.hold(Duration::from_secs(2))?;
    stage.fault("primary killed");
    fail_over(stage, Duration::from_secs(2))?;
    stage.hold(Duration::from_secs(3))?;
    Ok(Outcome::Done)
}

fn lossy(stage: &mut Stage<'_>) -> Result<Outcome> {
    lose_the_last(stage)?;
    fail_over(stage, Duration::from_secs(2))?;
    stage.hold(Duration::from_secs(3))?;
    Ok(Outcome::Done)
}

fn two_primaries(stage: &mut Stage<'_>) -> Result<Outcome> {
    lose_the_last(stage)?;
    fail_over(stage, Duration::ZERO)?;
    stage.hold(Duration::from_secs(2))?;
    stage.caught_up()?;
    stage.fault("old primary returns");
    let workshop = stage.rig.workshop;
    stage.rig.primary.start(&workshop.programs, &workshop.stop)?;
    let mut old = stage.rig.primary.session()?;
    // So many that the old one's revision is above the new one's: only the timeline tells them apart.
    for number in 0..ROGUES {
        let id = if number == 0 { "rogue".to_owned() } else { format!("rogue-{number}") };
        old.run(&format!(
            "INSERT INTO ringway.resource (kind, id, spec) VALUES \
             ('routes', '{id}', '{{\"uri\": \"/{id}\", \"upstream_id\": \"nodes\"}}')"
        ))?;
    }
    stage.rig.kill_control();
    stage.rig.start_control()?;
    stage.hold(Duration::from_secs(6))?;
    let status = Asker::connect(stage.rig.http)?.get(ROGUE)?.status;
    stage.expect(status == 404, format!("{ROGUE} of the old primary is served: {status}"));
    let both: u64 = old.value("SELECT revision FROM ringway.head")?.parse().context("revision")?;
    stage.note(format!("the old primary went up to revision {both}"));
    stage.rig.primary.stop();
    stage.healed("old primary gone");
    stage.hold(Duration::from_secs(2))?;
    Ok(Outcome::Done)
}

/// Cuts the standby off, and lets changes go on that it will never see.
fn lose_the_last(stage: &mut Stage<'_>) -> Result<()> {
    stage.hold(Duration::from_secs(2))?;
    let standby = stage.rig.standby.as_ref().context("no standby")?;
    let mut session = standby.session()?;
    session.run("ALTER SYSTEM SET primary_conninfo = ''")?;
    session.run("SELECT pg_reload_conf()")?;
    stage.rig.until("a standby that is cut off", || {
        (session.value("SELECT count(*) FROM pg_stat_wal_receiver").ok()? == "0").then_some(())
    })?;
    stage.hold_fully(Duration::from_secs(1))?;
    stage.pause_changes()?;
    // All of it was served before the primary dies: the worst case.
    stage.caught_up()?;
    stage.fault("primary killed, its last commits lost");
    Ok(())
}

/// Kills the primary, promotes the standby after `away`, and sends changes there.
fn fail_over(stage: &mut Stage<'_>, away: Duration) -> Result<()> {
    stage.rig.primary.kill();
    stage.hold(away)?;
    let standby = stage.rig.standby.as_ref().context("no standby")?;
    standby.promote()?;
    stage.changes.aim(standby.folder.clone());
    stage.rig.is_promoted = true;
    stage.resume_changes();
    stage.healed("standby promoted");
    Ok(())
}
