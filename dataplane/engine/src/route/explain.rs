//! What a lookup does, told step by step for an operator.
//!
//! Candidates are listed from the exact path and from every prefix whose literal part begins the path; what a lookup skips by
//! its index is listed as [`Outcome::OtherPath`]. The list is cut at [`EXPLAIN_STEPS_MAX`]; the winner is always told.

use ringway_snapshot::model::Id;

/// Steps of one explanation.
pub const EXPLAIN_STEPS_MAX: usize = 1_000;

/// One step of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The routes of this host pattern are searched; `None`: those without a host.
    Host(Option<Box<str>>),
    /// A route is tested.
    Candidate {
        /// The route's id.
        id: Id,
        /// Its pattern.
        uri: Box<str>,
        /// Its priority.
        priority: i64,
        /// What came of it.
        outcome: Outcome,
    },
    /// That many steps are left out.
    Cut(usize),
}

/// What came of testing one route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It takes the request; the search ends.
    Matched,
    /// Its literal part begins the path, but the rest does not fit.
    OtherPath,
    /// It does not take this method.
    OtherMethod,
    /// It does not take this client address.
    OtherRemote,
    /// Its `vars` do not hold.
    OtherVars,
    /// Its `vars` do not hold without the request's content, which is not known.
    UnknownContent,
}

/// Collects steps.
#[derive(Debug, Default)]
pub(super) struct Steps {
    list: Vec<Step>,
    cut: usize,
}

impl Steps {
    pub(super) fn host(&mut self, pattern: Option<String>) {
        self.push(Step::Host(pattern.map(String::into_boxed_str)), false);
    }

    pub(super) fn candidate(&mut self, id: &str, uri: &str, priority: i64, outcome: Outcome) {
        let step = Step::Candidate { id: id.into(), uri: uri.into(), priority, outcome };
        self.push(step, outcome == Outcome::Matched);
    }

    pub(super) fn into_list(self) -> Vec<Step> {
        self.list
    }

    fn push(&mut self, step: Step, always: bool) {
        if self.list.len() < EXPLAIN_STEPS_MAX {
            self.list.push(step);
            return;
        }
        self.cut = self.cut.saturating_add(usize::from(!always));
        self.list.truncate(EXPLAIN_STEPS_MAX);
        self.list.push(Step::Cut(self.cut));
        if always {
            self.list.push(step);
        }
    }
}
