//! All backends are down, and come back.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::fault::load;
use crate::fault::scenario::{Needs, Outcome, Scenario};
use crate::fault::stage::Stage;

pub(crate) const DOWN: Scenario = Scenario {
    name: "backends-down",
    title: "all backends kill -9, away for 4 s",
    about: "Answers of 502, 503 and 504 are excused from the first death until the last node listens again: nobody could have answered. From then on nothing is. No change is committed meanwhile, because changes are looked at through these nodes.",
    needs: Needs::NOTHING,
    streams: load::IDEMPOTENT,
    short: false,
    run: down,
};

fn down(stage: &mut Stage<'_>) -> Result<Outcome> {
    stage.pause_changes()?;
    stage.caught_up()?;
    // The probe has asked for the last change's own route by then.
    stage.hold_fully(Duration::from_millis(500))?;
    let nodes: Vec<usize> = (0..stage.rig.nodes.len()).collect();
    let from = Instant::now();
    stage.fault("all nodes killed");
    for number in &nodes {
        stage.rig.kill_node(*number)?;
    }
    stage.hold(Duration::from_secs(4))?;
    for number in &nodes {
        stage.rig.start_node(*number)?;
    }
    stage.excuse_no_backend_since(from, "no backend was there");
    stage.healed("all nodes back");
    stage.await_back()?;
    stage.resume_changes();
    stage.hold(Duration::from_secs(2))?;
    Ok(Outcome::Done)
}
