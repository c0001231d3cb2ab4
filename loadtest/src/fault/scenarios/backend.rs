//! Backends die, hang, refuse, reset, flap: one of four, half of them. What is left can answer everything.
//!
//! Nothing is configured: no checks, no timeouts, no labels. What is asked is what the defaults do.

use std::time::Duration;

use anyhow::Result;

use crate::fault::load;
use crate::fault::scenario::{Needs, Outcome, Scenario};
use crate::fault::stage::Stage;

pub(crate) const KILL: Scenario = Scenario {
    name: "backend-kill",
    title: "one of four backends kill -9, away for 4 s",
    about: "Only GET: a POST that was in flight on the node that died must not be repeated by a proxy. No request may fail, those in flight included.",
    needs: Needs::NOTHING,
    streams: load::IDEMPOTENT,
    short: true,
    run: |stage| kill(stage, &[0], "node 0"),
};

pub(crate) const RESTART: Scenario = Scenario {
    name: "backend-restart",
    title: "each of four backends restarted in turn",
    about: "A rolling update without any draining: kill -9, back at once. Only GET, as above.",
    needs: Needs::NOTHING,
    streams: load::IDEMPOTENT,
    short: false,
    run: |stage| {
        for number in 0..stage.rig.nodes.len() {
            stage.fault(&format!("node {number} killed"));
            stage.rig.kill_node(number)?;
            stage.hold(Duration::from_millis(500))?;
            stage.rig.start_node(number)?;
            back(stage, &format!("node {number} back"))?;
        }
        Ok(Outcome::Done)
    },
};

pub(crate) const HANG: Scenario = Scenario {
    name: "backend-hang",
    title: "one of four backends hangs for 10 s: accepts, never answers",
    about: "SIGSTOP. Requests that wait for it are sent to another node beside it when it has been silent for 3 s, and it is left out; each time it is tried again one request waits as long. Only GET.",
    needs: Needs::NOTHING,
    streams: load::IDEMPOTENT,
    short: true,
    run: |stage| hang(stage, &[0], "node 0"),
};

pub(crate) const HALF_HANG: Scenario = Scenario {
    name: "backend-half-hang",
    title: "half of the backends hang for 10 s",
    about: "As above; a request may find a second node that hangs, and then waits twice as long. Only GET.",
    needs: Needs::NOTHING,
    streams: load::IDEMPOTENT,
    short: false,
    run: |stage| hang(stage, &[1, 2], "nodes 1 and 2"),
};

pub(crate) const HALF_DOWN: Scenario = Scenario {
    name: "backend-half-down",
    title: "half of the backends kill -9, away for 4 s",
    about: "The other half gets twice its share at once. Only GET.",
    needs: Needs::NOTHING,
    streams: load::IDEMPOTENT,
    short: false,
    run: |stage| kill(stage, &[1, 2], "nodes 1 and 2"),
};

pub(crate) const SLOW: Scenario = Scenario {
    name: "backend-slow",
    title: "one of four backends answers everything 1.5 s late, for 6 s",
    about: "It answers, so it stays: with `roundrobin` a quarter of the requests is slow, and none fails. `least_conn` and `ewma` would send it less: see `ringway-loadtest balance`. Only GET.",
    needs: Needs::NOTHING,
    streams: load::IDEMPOTENT,
    short: false,
    run: |stage| other(stage, &["--delay-ms", "1500"], "slow", false),
};

pub(crate) const RESETTING: Scenario = Scenario {
    name: "backend-reset",
    title: "one of four backends accepts and resets every connection, for 6 s",
    about: "A process behind a port that another one holds open: nothing is refused, and nothing answered. Only GET.",
    needs: Needs::NOTHING,
    streams: load::IDEMPOTENT,
    short: false,
    run: |stage| other(stage, &["--resets"], "resetting", true),
};

pub(crate) const FLAPPING: Scenario = Scenario {
    name: "backend-flap",
    title: "one of four backends dies and comes back every second, eight times",
    about: "Each death finds requests in flight and kept connections. Only GET.",
    needs: Needs::NOTHING,
    streams: load::IDEMPOTENT,
    short: false,
    run: |stage| {
        stage.fault("node 3 flaps");
        for _ in 0..8 {
            stage.rig.kill_node(3)?;
            stage.hold(Duration::from_millis(500))?;
            stage.rig.start_node(3)?;
            stage.hold(Duration::from_millis(500))?;
        }
        back(stage, "node 3 stays")
    },
};

fn kill(stage: &mut Stage<'_>, nodes: &[usize], who: &str) -> Result<Outcome> {
    stage.fault(&format!("{who} killed"));
    for number in nodes {
        stage.rig.kill_node(*number)?;
    }
    stage.await_out(nodes)?;
    stage.hold(Duration::from_secs(4))?;
    for number in nodes {
        stage.rig.start_node(*number)?;
    }
    back(stage, &format!("{who} back"))
}

fn hang(stage: &mut Stage<'_>, nodes: &[usize], who: &str) -> Result<Outcome> {
    stage.fault(&format!("{who} stopped"));
    for number in nodes {
        stage.rig.hang_node(*number)?;
    }
    stage.await_out(nodes)?;
    stage.hold(Duration::from_secs(7))?;
    for number in nodes {
        stage.rig.wake_node(*number)?;
    }
    back(stage, &format!("{who} going on"))
}

/// Node 2 becomes another one, and itself again.
fn other(stage: &mut Stage<'_>, flags: &[&str], how: &str, is_left_out: bool) -> Result<Outcome> {
    stage.fault(&format!("node 2 {how}"));
    stage.rig.kill_node(2)?;
    stage.rig.start_node_as(2, flags)?;
    if is_left_out {
        stage.await_out(&[2])?;
    }
    stage.hold(Duration::from_secs(6))?;
    stage.rig.kill_node(2)?;
    stage.rig.start_node(2)?;
    back(stage, "node 2 well")
}

fn back(stage: &mut Stage<'_>, text: &str) -> Result<Outcome> {
    stage.healed(text);
    stage.await_back()?;
    stage.hold(Duration::from_secs(1))?;
    Ok(Outcome::Done)
}
