//! The data plane dies, under a supervisor that starts it again at once.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::fault::load;
use crate::fault::scenario::{Needs, Outcome, Scenario};
use crate::fault::stage::Stage;

const TIMES: u32 = 3;

pub(crate) const KILL: Scenario = Scenario {
    name: "dataplane-kill",
    title: "data plane kill -9 three times, restarted at once",
    about: "With one data plane a host has nobody who answers until the new process listens: connections that failed in that gap are excused and shown apart; everything else counts.",
    needs: Needs::NOTHING,
    streams: load::ALL,
    short: true,
    run: kill,
};

fn kill(stage: &mut Stage<'_>) -> Result<Outcome> {
    for _ in 0..TIMES {
        let from = Instant::now();
        stage.fault("data plane killed");
        stage.rig.kill_data();
        let starts = stage.rig.start_data()?;
        stage.excuse_since(from, "no data plane ran");
        stage.note(format!("listened again after {} ms", from.elapsed().as_millis()));
        stage.expect(starts == 1, format!("it started at the {starts}. attempt only"));
        stage.healed("data plane listens");
        stage.hold(Duration::from_secs(3))?;
    }
    Ok(Outcome::Done)
}
