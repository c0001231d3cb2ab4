//! The control plane dies, or stands still. Nothing that serves needs it.

use std::time::Duration;

use anyhow::Result;
use rustix::process::Signal;

use crate::fault::load;
use crate::fault::scenario::{Needs, Outcome, Scenario};
use crate::fault::stage::Stage;

pub(crate) const KILL: Scenario = Scenario {
    name: "controlplane-kill",
    title: "control plane kill -9, started again",
    about: "Changes that are committed meanwhile are served after its start.",
    needs: Needs::NOTHING,
    streams: load::ALL,
    short: true,
    run: kill,
};

pub(crate) const STOP: Scenario = Scenario {
    name: "controlplane-stop",
    title: "control plane stopped (SIGSTOP) for 12 s",
    about: "Longer than the 10 s after which the data plane closes the silent connection.",
    needs: Needs::NOTHING,
    streams: load::ALL,
    short: false,
    run: stop,
};

fn kill(stage: &mut Stage<'_>) -> Result<Outcome> {
    stage.fault("control plane killed");
    stage.rig.kill_control();
    stage.hold(Duration::from_secs(4))?;
    stage.rig.start_control()?;
    stage.healed("control plane started");
    Ok(Outcome::Done)
}

fn stop(stage: &mut Stage<'_>) -> Result<Outcome> {
    stage.fault("control plane stopped");
    stage.rig.control()?.signal(Signal::STOP);
    stage.hold(Duration::from_secs(12))?;
    stage.rig.control()?.signal(Signal::CONT);
    stage.healed("control plane continues");
    Ok(Outcome::Done)
}
