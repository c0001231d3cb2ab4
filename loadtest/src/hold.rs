//! `hold`: becomes another program that does not outlive its parent, with another user's rights when asked to.
//!
//! Hidden: only this program's own children are started through it. The kernel forgets the wish for a signal at the
//! parent's death when rights change, which fixes the order. It ends with the *thread* that started it, too: whoever
//! starts a process that is to stay does so from a thread that stays.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use rustix::process::{Gid, Pid, Signal, Uid, getppid, set_parent_process_death_signal};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Process whose death ends this one
    #[arg(long)]
    parent: i32,
    #[arg(long, requires = "gid")]
    uid: Option<u32>,
    #[arg(long, requires = "uid")]
    gid: Option<u32>,
    program: PathBuf,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Returns only when it fails.
pub(crate) fn execute(arguments: &Arguments) -> Result<()> {
    if let (Some(uid), Some(gid)) = (arguments.uid, arguments.gid) {
        // There is only this thread yet, so that its rights are the process's.
        set_thread_groups(&[])
            .and_then(|()| set_thread_gid(Gid::from_raw(gid)))
            .and_then(|()| set_thread_uid(Uid::from_raw(uid)))
            .with_context(|| format!("cannot take the rights of user {uid}"))?;
    }
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot bind to the parent's life")?;
    if getppid().map(Pid::as_raw_pid) != Some(arguments.parent) {
        bail!("the parent has died; not starting");
    }
    let error = Command::new(&arguments.program).args(&arguments.arguments).exec();
    Err(anyhow!(error)).with_context(|| format!("cannot run {}", arguments.program.display()))
}
