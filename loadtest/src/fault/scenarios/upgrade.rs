//! The data plane's executable is replaced under load by the admin command `upgrade`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::fault::ask;
use crate::fault::load;
use crate::fault::rig::Rig;
use crate::fault::scenario::{Needs, Outcome, Scenario};
use crate::fault::stage::Stage;

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const GOOD: Scenario = Scenario {
    name: "upgrade",
    title: "data plane's executable upgraded under load, twice",
    about: "Nothing is excused: no refused connection, no reset, no request lost.",
    needs: Needs::NOTHING,
    streams: load::ALL,
    short: true,
    run: good,
};

pub(crate) const BAD: Scenario = Scenario {
    name: "upgrade-bad",
    title: "upgrade to an executable that does not start",
    about: "The old process serves on as if nothing had been asked.",
    needs: Needs::NOTHING,
    streams: load::ALL,
    short: false,
    run: bad,
};

fn good(stage: &mut Stage<'_>) -> Result<Outcome> {
    if let Some(reason) = unknown(&stage.rig)? {
        return Ok(Outcome::Skipped(reason));
    }
    for _ in 0..2 {
        stage.fault("upgrade");
        once(stage)?;
        stage.healed("upgraded");
        stage.hold(Duration::from_secs(3))?;
    }
    Ok(Outcome::Done)
}

/// Has the data plane replaced, and waits until only the new process is left.
pub(super) fn once(stage: &mut Stage<'_>) -> Result<()> {
    let before = pid(&stage.rig);
    let reply = ask::socket(&stage.rig.path("admin.sock"), "upgrade")?;
    stage.note(format!("it answered {:?}", reply.trim()));
    stage.await_that("another process answers", PATIENCE, |rig| {
        pid(rig).is_some_and(|now| Some(now) != before)
    })?;
    stage.await_that("the old process has ended", PATIENCE, |rig| {
        rig.reap();
        before.is_none_or(|pid| !is_running(pid))
    })
}

fn bad(stage: &mut Stage<'_>) -> Result<Outcome> {
    if let Some(reason) = unknown(&stage.rig)? {
        return Ok(Outcome::Skipped(reason));
    }
    let before = pid(&stage.rig);
    let program = stage.rig.path("broken");
    fs::write(&program, "#!/bin/sh\nexit 1\n")?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    stage.fault("upgrade to what ends at once");
    let reply = ask::socket(&stage.rig.path("admin.sock"), &format!("upgrade {}", program.display()))?;
    stage.note(format!("it answered {:?}", reply.trim()));
    stage.hold_fully(Duration::from_secs(4))?;
    stage.healed("as before");
    let after = pid(&stage.rig);
    stage.expect(before == after, format!("process {before:?} became {after:?}"));
    Ok(Outcome::Done)
}

/// Why there is nothing to try.
fn unknown(rig: &Rig<'_>) -> Result<Option<String>> {
    let help = ask::socket(&rig.path("admin.sock"), "help").context("the admin socket does not answer")?;
    let known = help.split_whitespace().any(|word| word == "upgrade");
    Ok((!known).then(|| "this data plane's admin socket has no command `upgrade`".to_owned()))
}

fn pid(rig: &Rig<'_>) -> Option<u64> {
    rig.admin("show info json")?.get("pid")?.as_u64()
}

/// A process that has ended and waits for its parent counts as ended.
fn is_running(pid: u64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}
