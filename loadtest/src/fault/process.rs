//! One real process under test: started through `hold`, so that it cannot outlive this program, with a log of its own.
//!
//! Dropping it kills it. Processes that it leaves behind (an upgraded data plane, PostgreSQL's children) come to this
//! program, which is a subreaper, and are ended by [`end_orphans`]; only they, and only by their id.

use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, waitpid};

use crate::stop::Stop;

/// Until a process says where it listens, or ends when it was told to.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(2);
const LOG_LINES_SHOWN: usize = 12;
/// This executable, also when a build has replaced its file meanwhile.
pub(crate) const SELF: &str = "/proc/self/exe";

/// What to start.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// Appended to.
    pub(crate) log: &'a Path,
    /// User and group, where this program is root and that one must not be.
    pub(crate) user: Option<(u32, u32)>,
}

#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    log_before: usize,
}

impl Process {
    pub(crate) fn start(launch: Launch<'_>) -> Result<Self> {
        let log_before = fs::read(launch.log).map_or(0, |text| text.len());
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(launch.log)
            .with_context(|| format!("cannot write {}", launch.log.display()))?;
        let mut command = Command::new(SELF);
        command.args(["hold", "--parent", &std::process::id().to_string()]);
        if let Some((uid, gid)) = launch.user {
            command.args(["--uid", &uid.to_string(), "--gid", &gid.to_string()]);
        }
        command.arg("--").arg(launch.program).args(&launch.arguments);
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RINGWAY_"))
        {
            command.env_remove(name);
        }
        command.env_remove("PGDATA").envs(launch.environment).current_dir("/");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().context("cannot start a process")?;
        Ok(Self { child, log: launch.log.to_owned(), log_before })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // It may have ended by itself.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end; kills it when it takes too long.
    pub(crate) fn wait(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
        self.kill();
    }

    /// kill -9, and waits for the end.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What it has logged since it was started here.
    pub(crate) fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(self.log_before..).unwrap_or_default()).into_owned()
    }

    /// The address behind `prefix` in its log, as soon as it stands there.
    pub(crate) fn listening(&mut self, prefix: &str, stop: &Stop) -> Result<SocketAddr> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log();
            let found = log.lines().find_map(|line| line.strip_prefix(prefix)?.trim().parse().ok());
            if let Some(address) = found {
                return Ok(address);
            }
            stop.check()?;
            if self.has_ended().is_some() || Instant::now() >= deadline {
                bail!("no line {prefix:?} in {}; its end:\n{}", self.log.display(), self.end_of_log());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    pub(crate) fn end_of_log(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(LOG_LINES_SHOWN)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Processes whose parent dies become children of this one, so that they can be found and ended.
pub(crate) fn adopt_orphans() {
    // Where the kernel refuses, orphans of an upgrade would be left; it has not refused since Linux 3.4.
    let _ = set_child_subreaper(Some(Pid::INIT));
}

/// Kills and reaps the children of this program other than `kept`.
pub(crate) fn end_orphans(kept: &[u32]) {
    for pid in children().into_iter().filter(|pid| !kept.contains(pid)) {
        let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { continue };
        let _ = kill_process(pid, Signal::KILL);
        let _ = waitpid(Some(pid), WaitOptions::empty());
    }
}

/// Reaps orphans that have ended, so that nobody takes their ids for living processes.
pub(crate) fn reap_orphans(kept: &[u32]) {
    for pid in children().into_iter().filter(|pid| !kept.contains(pid)) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}

fn children() -> Vec<u32> {
    let own = std::process::id().to_string();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name in parentheses may hold anything.
        stat.rsplit_once(") ")
            .and_then(|(_, rest)| rest.split(' ').nth(1))
            .is_some_and(|parent| parent == own)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn children_are_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = super::children().contains(&child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found);
    }
}
