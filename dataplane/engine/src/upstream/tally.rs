//! What requests told of a node's health since it was last asked for: kept by each core, merged by whoever watches health.
//!
//! Counts in a row matter, so a tally keeps the longest rows of failures before the last success, the successes, and the rows since.
//! Merging plays them in that order: what a core alone saw in a row is never lost, and what is merged is never more than was seen.

/// Kinds of failure, which have limits of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// A status that speaks against the node.
    Http,
    /// The connection was refused or broke.
    Tcp,
    /// It took too long.
    Timeout,
}

/// Failures in a row, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rows {
    /// Of [`FailureKind::Http`].
    pub http: u32,
    /// Of [`FailureKind::Tcp`].
    pub tcp: u32,
    /// Of [`FailureKind::Timeout`].
    pub timeout: u32,
}

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// The longest rows that a success ended.
    pub before: Rows,
    /// Successes in a row, at most.
    pub successes: u32,
    /// Rows that are not ended yet.
    pub since: Rows,
    row: u32,
}

impl Rows {
    pub(super) fn of(&mut self, kind: FailureKind) -> &mut u32 {
        match kind {
            FailureKind::Http => &mut self.http,
            FailureKind::Tcp => &mut self.tcp,
            FailureKind::Timeout => &mut self.timeout,
        }
    }
}

impl Tally {
    /// A request spoke for the node.
    pub fn success(&mut self) {
        for kind in [FailureKind::Http, FailureKind::Tcp, FailureKind::Timeout] {
            let since = std::mem::take(self.since.of(kind));
            let before = self.before.of(kind);
            *before = since.max(*before);
        }
        self.row = self.row.saturating_add(1);
        self.successes = self.successes.max(self.row);
    }

    /// A request spoke against it.
    pub fn failure(&mut self, kind: FailureKind) {
        self.row = 0;
        let since = self.since.of(kind);
        *since = since.saturating_add(1);
    }

    /// Whether nothing was told.
    pub fn is_empty(&self) -> bool {
        *self == Tally::default()
    }
}
