//! The seam between the two sources and the one pipeline behind them.
//!
//! A source waits until it has something that the pipeline has not seen, and gives it parsed and validated, or refused whole.
//! It never fails: what goes wrong on the way it logs, notes on the board, and tries again.

use std::time::Instant;

use ringway_snapshot::{Fault, Snapshot, Version};

pub mod file;
pub mod postgresql;

/// One configuration as a source has it.
#[derive(Debug)]
pub struct Loaded {
    /// Which. The digest is 0 where it is refused.
    pub version: Version,
    /// The configuration, or what is wrong with it.
    pub outcome: Result<Snapshot, Vec<Fault>>,
    /// How long it took, for the log.
    pub times: Times,
}

impl Loaded {
    /// Gives a snapshot or its faults the version that belongs to them.
    pub fn new(
        lineage: u64,
        timeline: u32,
        revision: u64,
        outcome: Result<Snapshot, Vec<Fault>>,
        times: Times,
    ) -> Loaded {
        let version = match &outcome {
            Ok(snapshot) => snapshot.version,
            Err(_) => Version { lineage, timeline, revision, ..Version::default() },
        };
        Loaded { version, outcome, times }
    }
}

/// When a configuration passed the stages before it was sent.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// When the source told that there is something new, or was looked at.
    pub noticed: Instant,
    /// Microseconds from the transaction's revision to the look that found it; `None` where the source cannot tell.
    pub committed_us_before: Option<u64>,
    /// When all objects were read, parsed and validated.
    pub loaded: Instant,
}

/// Where the configuration comes from.
#[derive(Debug)]
pub enum Source {
    /// A PostgreSQL database.
    Postgresql(Box<postgresql::Postgresql>),
    /// A declarative file.
    File(Box<file::File>),
}

impl Source {
    /// Waits for the next configuration.
    pub async fn next(&mut self) -> Loaded {
        match self {
            Source::Postgresql(source) => source.next().await,
            Source::File(source) => source.next().await,
        }
    }
}
