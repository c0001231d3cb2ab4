//! The network between the control plane and PostgreSQL: silent, resetting, slow. Commits go on, by another way.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::fault::cut::Wire;
use crate::fault::load;
use crate::fault::scenario::{Needs, Outcome, Scenario};
use crate::fault::stage::Stage;

pub(crate) const SILENT: Scenario = Scenario {
    name: "network-silent",
    title: "network to PostgreSQL silent for 8 s",
    about: "Bytes vanish in both directions and are still acknowledged by the kernel, as before a frozen server: only a deadline of the control plane's own notices.",
    needs: Needs::CUT,
    streams: load::ALL,
    short: false,
    run: |stage| cut(stage, Wire::Silent, "network silent", Duration::from_secs(8)),
};

pub(crate) const RESET: Scenario = Scenario {
    name: "network-reset",
    title: "network to PostgreSQL resets every connection for 4 s",
    about: "Changes that are committed meanwhile are served after it.",
    needs: Needs::CUT,
    streams: load::ALL,
    short: false,
    run: |stage| cut(stage, Wire::Reset, "network resets", Duration::from_secs(4)),
};

pub(crate) const SLOW: Scenario = Scenario {
    name: "network-slow",
    title: "network to PostgreSQL delays each way by 100 ms for 6 s",
    about: "Changes are late by some round trips, and none is lost.",
    needs: Needs::CUT,
    streams: load::ALL,
    short: false,
    run: |stage| cut(stage, Wire::Slow(Duration::from_millis(100)), "network slow", Duration::from_secs(6)),
};

fn cut(stage: &mut Stage<'_>, wire: Wire, text: &str, duration: Duration) -> Result<Outcome> {
    stage.fault(text);
    stage.rig.cut.as_ref().context("no wire to cut")?.set(wire);
    stage.hold(duration)?;
    stage.rig.cut.as_ref().context("no wire to cut")?.set(Wire::Open);
    stage.healed("network whole");
    stage.hold(Duration::from_secs(2))?;
    Ok(Outcome::Done)
}
