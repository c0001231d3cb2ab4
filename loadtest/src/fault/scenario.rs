//! What a scenario is. A new fault is one file in `scenarios/` and its name in the table of `scenarios/mod.rs`.
//!
//! A scenario finds a whole gateway under load, changes being committed, everything watched. It makes one fault, lets
//! it last, ends it, and may say what must have happened meanwhile. That no request fails, that no change is lost and
//! that no core goes back is checked for every scenario alike, and is none of its business.

use std::path::PathBuf;

use anyhow::Result;
use rustix::process::geteuid;

use super::load::Stream;
use super::rig::Tmpfs;
use super::stage::Stage;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// For `--only`.
    pub(crate) name: &'static str,
    /// What happens, in one line.
    pub(crate) title: &'static str,
    /// What is expected and what is not counted as failed, for a reader of the report.
    pub(crate) about: &'static str,
    pub(crate) needs: Needs,
    pub(crate) streams: &'static [Stream],
    /// Part of `--short`.
    pub(crate) short: bool,
    pub(crate) run: fn(&mut Stage<'_>) -> Result<Outcome>,
}

/// What the gateway is built with beyond one of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    pub(crate) standby: bool,
    /// PostgreSQL is reached over a wire that can be cut.
    pub(crate) cut: bool,
    /// Snapshots are on a disk that can be filled.
    pub(crate) small_disk: bool,
    /// The planes run on a clock that can be stepped.
    pub(crate) fake_clock: bool,
    /// Nodes are told by name, and their DNS can be broken.
    pub(crate) names: bool,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Done,
    /// It cannot be done here, and why.
    Skipped(String),
}

impl Needs {
    pub(crate) const NOTHING: Self =
        Self { standby: false, cut: false, small_disk: false, fake_clock: false, names: false };
    pub(crate) const STANDBY: Self = Self { standby: true, ..Self::NOTHING };
    pub(crate) const CUT: Self = Self { cut: true, ..Self::NOTHING };

    /// Why this machine cannot give it.
    pub(crate) fn missing(self) -> Option<String> {
        if self.small_disk && !geteuid().is_root() {
            return Some("needs root, to mount a small tmpfs".to_owned());
        }
        if self.small_disk
            && let Err(error) = tempfile::tempdir()
                .map_err(anyhow::Error::from)
                .and_then(|folder| Tmpfs::mount(folder.path()).map(drop))
        {
            return Some(format!("a tmpfs cannot be mounted here: {error:#}"));
        }
        if self.names
            && let Some(reason) = super::dns::missing()
        {
            return Some(reason);
        }
        if self.fake_clock && libfaketime().is_none() {
            return Some(
                "needs libfaketime (apt-get install faketime): time namespaces leave CLOCK_REALTIME alone"
                    .to_owned(),
            );
        }
        None
    }
}

/// Where Debian's package `libfaketime` puts the library for programs with threads.
pub(crate) fn libfaketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path());
    folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|library| library.is_file())
}
