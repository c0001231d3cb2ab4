//! A process that the supervisor waits for: one that it started, or the successor of one.
//!
//! A data plane that is upgraded starts its successor itself. `up` is a subreaper (prctl(2)), so that the successor becomes its
//! child when the predecessor ends; until then only /proc tells whether it lives.

use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};

use rustix::process::{Pid, WaitOptions, waitpid};

/// A process of ours.
#[derive(Debug)]
pub(super) struct Process {
    pid: i32,
    child: Option<Child>,
    ended: Option<ExitStatus>,
}

impl Process {
    /// One that was started here.
    pub(super) fn own(child: Child) -> Process {
        Process { pid: child.id().cast_signed(), child: Some(child), ended: None }
    }

    /// One that `of` started to take its place, or that has become a child of this process because `of` has ended.
    pub(super) fn successor(pid: i32, of: &Process) -> Option<Process> {
        let parent = parent_of(pid)?;
        let ours = parent == of.pid || parent == std::process::id().cast_signed();
        (ours && pid != of.pid).then_some(Process { pid, child: None, ended: None })
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// The file that it runs, unless that has been deleted.
    pub(super) fn program(&self) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/exe", self.pid)).ok().filter(|path| path.is_file())
    }

    /// How it has ended, if it has.
    pub(super) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if let Some(child) = &mut self.child {
            return child.try_wait();
        }
        if self.ended.is_none() {
            self.ended = match waitpid(Pid::from_raw(self.pid), WaitOptions::NOHANG) {
                Ok(None) => None,
                Ok(Some((_, status))) => Some(ExitStatus::from_raw(status.as_raw())),
                // Not a child yet: its predecessor is still there.
                Err(_) if parent_of(self.pid).is_some() => None,
                // Its predecessor, or init, has taken the news.
                Err(_) => Some(ExitStatus::from_raw(0)),
            };
        }
        Ok(self.ended)
    }
}

fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc_pid_stat(5): after the command in parentheses stand the state and the parent.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// Orphans of children become children of this process: takes the news of their end, which nobody else waits for.
pub(super) fn reap_orphans(ours: &[i32]) {
    let own = std::process::id();
    let Ok(children) = fs::read_to_string(format!("/proc/{own}/task/{own}/children")) else { return };
    let strangers = children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok());
    for pid in strangers.filter(|pid| !ours.contains(pid)) {
        let _ = waitpid(Pid::from_raw(pid), WaitOptions::NOHANG);
    }
}
