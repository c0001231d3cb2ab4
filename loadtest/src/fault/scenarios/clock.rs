//! The host's clock is stepped, as after a wrong NTP answer and its correction.

use std::fs;
use std::time::Duration;

use anyhow::Result;

use crate::fault::load;
use crate::fault::scenario::{Needs, Outcome, Scenario};
use crate::fault::stage::Stage;

pub(crate) const STEP: Scenario = Scenario {
    name: "clock-step",
    title: "clock stepped an hour ahead, then two back",
    about: "By libfaketime, for both planes; the monotonic clock goes on, as the kernel's does.",
    needs: Needs { fake_clock: true, ..Needs::NOTHING },
    streams: load::ALL,
    short: false,
    run: step,
};

fn step(stage: &mut Stage<'_>) -> Result<Outcome> {
    for offset in ["+3600", "-3600"] {
        stage.fault(&format!("clock {offset} s"));
        fs::write(stage.rig.path("clock"), format!("{offset}\n"))?;
        stage.hold(Duration::from_secs(3))?;
    }
    fs::write(stage.rig.path("clock"), "+0\n")?;
    stage.healed("clock right");
    stage.hold(Duration::from_secs(2))?;
    Ok(Outcome::Done)
}
