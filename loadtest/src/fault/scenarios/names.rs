//! The DNS of nodes that are told by name is down, in every way in which it can be, and the data plane is upgraded meanwhile.

use std::time::Duration;

use anyhow::{Context, Result};

use super::upgrade;
use crate::fault::dns::Mood;
use crate::fault::load;
use crate::fault::scenario::{Needs, Outcome, Scenario};
use crate::fault::stage::Stage;

/// Longer than between two look-ups of a name.
const LOOKED_UP: Duration = Duration::from_secs(12);

pub(crate) const DOWN: Scenario = Scenario {
    name: "dns-down",
    title: "nodes are told by name; their DNS is silent, denies, and fails during an upgrade",
    about: "The last good answers stay, also over the upgrade, whose successor never had an answer of its own. Every stream is sent, and nothing is excused.",
    needs: Needs { names: true, ..Needs::NOTHING },
    streams: load::ALL,
    short: false,
    run: down,
};

fn down(stage: &mut Stage<'_>) -> Result<Outcome> {
    for (mood, text) in [(Mood::Silent, "DNS silent"), (Mood::Denies, "DNS knows no name")] {
        set(stage, mood)?;
        stage.fault(text);
        stage.hold_fully(LOOKED_UP)?;
    }
    set(stage, Mood::Fails)?;
    stage.fault("DNS fails");
    upgrade::once(stage)?;
    stage.hold_fully(LOOKED_UP)?;
    set(stage, Mood::Answers)?;
    stage.healed("DNS back");
    stage.hold(Duration::from_secs(2))?;
    Ok(Outcome::Done)
}

fn set(stage: &Stage<'_>, mood: Mood) -> Result<()> {
    stage.rig.dns.as_ref().context("there is no DNS")?.set(mood);
    Ok(())
}
