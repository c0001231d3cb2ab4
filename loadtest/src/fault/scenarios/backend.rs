//! One of three backends dies, or is restarted. Two healthy ones can answer everything.

use std::time::Duration;

use anyhow::Result;

use crate::fault::load;
use crate::fault::scenario::{Needs, Outcome, Scenario};
use crate::fault::stage::Stage;

pub(crate) const KILL: Scenario = Scenario {
    name: "backend-kill",
    title: "one of three backends kill -9, away for 4 s",
    about: "Only GET: a POST that was in flight on the node that died must not be repeated by a proxy. No request may fail, those in flight included.",
    needs: Needs::NOTHING,
    streams: load::IDEMPOTENT,
    short: true,
    run: |stage| away(stage, 1, Duration::from_secs(4)),
};

pub(crate) const RESTART: Scenario = Scenario {
    name: "backend-restart",
    title: "each of three backends restarted in turn",
    about: "A rolling update without any draining: kill -9, back at once. Only GET, as above.",
    needs: Needs::NOTHING,
    streams: load::IDEMPOTENT,
    short: false,
    run: |stage| away(stage, 3, Duration::from_millis(500)),
};

fn away(stage: &mut Stage<'_>, nodes: usize, duration: Duration) -> Result<Outcome> {
    for number in 0..nodes {
        stage.fault(&format!("node {number} killed"));
        stage.rig.kill_node(number)?;
        stage.hold(duration)?;
        stage.rig.start_node(number)?;
        stage.healed(&format!("node {number} back"));
        stage.hold(Duration::from_secs(2))?;
    }
    Ok(Outcome::Done)
}
