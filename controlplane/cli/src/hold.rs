//! `ringway hold`: becomes another program that does not outlive its parent.
//!
//! `up` starts every child through this hidden command. It takes another user's rights when asked to, asks the kernel for a
//! signal at the death of its parent, and then replaces itself by the program. The kernel forgets that wish
//! when rights change, which is why the order is fixed here, in one place, before there is a second thread.
//! It refuses to go on when the parent has died in the meantime.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

use crate::failure::{Doing as _, Failure};

/// What to become.
#[derive(Debug, clap::Args)]
pub(crate) struct HoldArgs {
    /// Process whose death ends this one.
    #[arg(long)]
    parent: i32,
    /// Signal at that death: int or term.
    #[arg(long, default_value = "term")]
    signal: String,
    /// User to become.
    #[arg(long, requires = "gid")]
    uid: Option<u32>,
    /// Group to become.
    #[arg(long, requires = "uid")]
    gid: Option<u32>,
    /// Program to become.
    program: PathBuf,
    /// Its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Does not return unless it fails.
pub(crate) fn run(args: &HoldArgs) -> Result<(), Failure> {
    if let (Some(uid), Some(gid)) = (args.uid, args.gid) {
        let (uid, gid) = (rustix::process::Uid::from_raw(uid), rustix::process::Gid::from_raw(gid));
        // Only this thread exists, so that the thread's rights are the process's.
        set_thread_groups(&[])
            .and_then(|()| set_thread_gid(gid))
            .and_then(|()| set_thread_uid(uid))
            .doing(|| format!("take the rights of user {}", uid.as_raw()))?;
    }
    let signal = if args.signal == "int" { Signal::INT } else { Signal::TERM };
    rustix::process::set_parent_process_death_signal(Some(signal))
        .doing(|| "ask for a signal at the parent's death".to_owned())?;
    let parent = rustix::process::getppid().map(rustix::process::Pid::as_raw_pid);
    if parent != Some(args.parent) {
        return Err(Failure::new("the parent has died; not starting"));
    }
    let error = Command::new(&args.program).args(&args.arguments).exec();
    Err(Failure::new(format!("cannot run {}: {error}", args.program.display())))
}
