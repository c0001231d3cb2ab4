//! PostgreSQL is restarted under commits.

use std::time::Duration;

use anyhow::Result;

use crate::fault::load;
use crate::fault::scenario::{Needs, Outcome, Scenario};
use crate::fault::stage::Stage;

pub(crate) const RESTART: Scenario = Scenario {
    name: "postgresql-restart",
    title: "PostgreSQL stopped, away for 3 s, started",
    about: "Nothing can be committed meanwhile; what is committed after it is served as before.",
    needs: Needs::NOTHING,
    streams: load::ALL,
    short: true,
    run: restart,
};

fn restart(stage: &mut Stage<'_>) -> Result<Outcome> {
    stage.fault("PostgreSQL stopped");
    stage.rig.primary.stop();
    stage.hold(Duration::from_secs(3))?;
    let workshop = stage.rig.workshop;
    stage.rig.primary.start(&workshop.programs, &workshop.stop)?;
    stage.healed("PostgreSQL started");
    stage.hold(Duration::from_secs(3))?;
    Ok(Outcome::Done)
}
