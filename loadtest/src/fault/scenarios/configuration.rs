//! Configuration that is wrong, and configuration that changes very often.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::fault::load;
use crate::fault::scenario::{Needs, Outcome, Scenario};
use crate::fault::stage::Stage;

const PATIENCE: Duration = Duration::from_secs(30);
const STORM_PER_SECOND: f64 = 1000.0;

pub(crate) const INVALID: Scenario = Scenario {
    name: "invalid-configuration",
    title: "invalid route by SQL, for 4 s",
    about: "The old configuration serves on; every revision that holds the wrong row is refused as a whole, so that other changes wait for the correction; the refusal names the row.",
    needs: Needs::NOTHING,
    streams: load::ALL,
    short: true,
    run: invalid,
};

pub(crate) const STORM: Scenario = Scenario {
    name: "change-storm",
    title: "as many transactions as PostgreSQL takes, up to 1,000 a second, for 5 s",
    about: "Two rows each, one session. Revisions may be skipped on the way, none may be lost in the end.",
    needs: Needs::NOTHING,
    streams: load::ALL,
    short: false,
    run: storm,
};

fn invalid(stage: &mut Stage<'_>) -> Result<Outcome> {
    stage.fault("invalid route");
    let mut session = stage.rig.session()?;
    session.run(
        "INSERT INTO ringway.resource (kind, id, spec) VALUES \
         ('routes', 'wrong', '{\"uri\": \"/wrong\", \"colour\": \"blue\", \"upstream_id\": \"nodes\"}')",
    )?;
    stage.await_that("ringway.refusal names the row", PATIENCE, |_| {
        let query = "SELECT count(*) FROM ringway.refusal WHERE kind = 'routes' AND id = 'wrong'";
        session.value(query).is_ok_and(|count| count != "0")
    })?;
    stage.hold(Duration::from_secs(4))?;
    let mut session = stage.rig.session()?;
    session.run("DELETE FROM ringway.resource WHERE kind = 'routes' AND id = 'wrong'")?;
    stage.healed("row deleted");
    stage.await_that("ringway.refusal is empty", PATIENCE, |_| {
        session.value("SELECT count(*) FROM ringway.refusal").is_ok_and(|count| count == "0")
    })?;
    stage.hold(Duration::from_secs(2))?;
    Ok(Outcome::Done)
}

fn storm(stage: &mut Stage<'_>) -> Result<Outcome> {
    stage.fault("up to 1,000 changes a second");
    let (begun, before) = (Instant::now(), stage.changes.count());
    stage.changes.pace(STORM_PER_SECOND);
    stage.hold(Duration::from_secs(5))?;
    let reached = (stage.changes.count() - before) as f64 / begun.elapsed().as_secs_f64();
    stage.resume_changes();
    stage.healed("back to the usual pace");
    stage.note(format!("PostgreSQL took {reached:.0} transactions a second, {:.0} rows", 2.0 * reached));
    stage.hold(Duration::from_secs(2))?;
    Ok(Outcome::Done)
}
