//! Keeps a node out for a while after it failed too often, on the core that saw it, without any configured check.
//!
//! Closed: requests go to it. Open: none do until a time that doubles with each opening. Half-open: one request tries it; its success
//! closes, its failure opens again; when it takes too long to tell (a long download), another one may try too. What counts is what a node cannot mean: connections that are not made or end before an answer, and time-outs.
//! A status says nothing here, that is for health checks.
//!
//! Invariants: it opens after `eject_failures` failures in a row, or past `eject_percent` of the recent ones, and never by a success;
//! a half-open node gets one request at most in `eject_ms_max`.

use ringway_snapshot::upstream::Tuning;

/// Answers that are looked back at for the share of failures.
const WINDOW_MS: u64 = 10_000;
/// Fewer answers than this have no share.
const WINDOW_ANSWERS_MIN: u32 = 20;

/// One node's breaker on one core.
#[derive(Debug, Clone, Default)]
pub(super) struct Breaker {
    state: State,
    /// Failures in a row.
    failures: u32,
    /// Openings without a long time of good answers between them.
    openings: u32,
    /// When the last opening ended or will; half-open, when another request may try.
    until_ms: u64,
    /// Answers and failures in this window and the one before.
    window: [(u32, u32); 2],
    window_ms: u64,
}

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Closed,
    Open,
    /// One request may try; `true`: it is on its way.
    HalfOpen(bool),
}

impl Breaker {
    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn until_ms(&self) -> u64 {
        self.until_ms
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn is_usable(&self) -> bool {
        matches!(self.state, State::Closed | State::HalfOpen(false))
    }

    /// Lets one request try when the time is over. Tells whether anything changed.
    pub(super) fn turn(&mut self, now_ms: u64) -> bool {
        let due = self.waits() && now_ms >= self.until_ms;
        if due {
            self.state = State::HalfOpen(false);
        }
        due
    }

    /// Whether it changes with time.
    pub(super) fn waits(&self) -> bool {
        matches!(self.state, State::Open | State::HalfOpen(true))
    }

    /// A request goes to the node.
    pub(super) fn begin(&mut self, now_ms: u64, rules: &Tuning) {
        if self.state == State::HalfOpen(false) {
            self.state = State::HalfOpen(true);
            self.until_ms = now_ms.saturating_add(rules.eject_ms_max.into());
        }
    }

    /// A request that says nothing for or against the node has ended.
    pub(super) fn neutral(&mut self, last: bool) {
        if self.state == State::HalfOpen(true) && last {
            self.state = State::HalfOpen(false);
        }
    }

    /// The node has answered.
    pub(super) fn success(&mut self, now_ms: u64) {
        self.count(now_ms, 0);
        self.failures = 0;
        self.state = State::Closed;
    }

    /// The node has failed.
    pub(super) fn failure(&mut self, now_ms: u64, rules: &Tuning) {
        self.count(now_ms, 1);
        self.failures = self.failures.saturating_add(1);
        let (answers, failed) = self.window.iter().fold((0u32, 0u32), |(a, f), (answers, failed)| {
            (a.saturating_add(*answers), f.saturating_add(*failed))
        });
        let in_a_row = rules.eject_failures > 0 && self.failures >= rules.eject_failures;
        let by_share = rules.eject_percent > 0
            && answers >= WINDOW_ANSWERS_MIN
            && u64::from(failed) * 100 >= u64::from(answers) * u64::from(rules.eject_percent);
        let opens = match self.state {
            State::Closed => in_a_row || by_share,
            State::HalfOpen(_) => true,
            // Sent there for want of another node: the time it stays out is not made longer by that.
            State::Open => false,
        };
        if opens {
            self.open(now_ms, rules);
        }
    }

    fn open(&mut self, now_ms: u64, rules: &Tuning) {
        let long_ago = self.until_ms.saturating_add(rules.eject_ms_max.into()) < now_ms;
        self.openings = if long_ago { 0 } else { self.openings };
        let wait_ms = u64::from(rules.eject_ms).saturating_mul(1 << self.openings.min(20));
        self.openings = self.openings.saturating_add(1);
        self.until_ms = now_ms.saturating_add(wait_ms.min(rules.eject_ms_max.into()));
        self.state = State::Open;
        self.window = [(0, 0); 2];
    }

    fn count(&mut self, now_ms: u64, failed: u32) {
        let passed = now_ms.saturating_sub(self.window_ms) / WINDOW_MS;
        if passed > 0 {
            let [this, _] = self.window;
            self.window = [(0, 0), if passed == 1 { this } else { (0, 0) }];
            self.window_ms = now_ms;
        }
        let [(answers, failures), _] = &mut self.window;
        *answers = answers.saturating_add(1);
        *failures = failures.saturating_add(failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_longer_each_time() {
        let rules = Tuning::default();
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            breaker.failure(0, &rules);
        }
        breaker.success(0);
        for _ in 0..4 {
            breaker.failure(0, &rules);
        }
        assert_eq!(breaker.state(), State::Closed);
        let mut now_ms = 1_000;
        for wait_ms in [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
            breaker.failure(now_ms, &rules);
            assert_eq!((breaker.state(), breaker.until_ms()), (State::Open, now_ms + wait_ms));
            assert!(!breaker.turn(now_ms + wait_ms - 1));
            now_ms += wait_ms;
            assert!(breaker.turn(now_ms) && breaker.is_usable());
            breaker.begin(now_ms, &rules);
            assert!(!breaker.is_usable());
        }
        breaker.success(now_ms);
        assert!(breaker.is_usable());
        // After a long good time it begins anew.
        now_ms += 120_001;
        (0..5).for_each(|_| breaker.failure(now_ms, &rules));
        assert_eq!(breaker.until_ms(), now_ms + 2_000);
    }

    #[test]
    fn a_share_of_failures_opens_it_only_where_configured_and_with_enough_answers() {
        let rules = Tuning { eject_percent: 50, ..Tuning::default() };
        for (rules, opens) in [(rules, true), (Tuning::default(), false)] {
            let mut breaker = Breaker::default();
            for at in 0..9 {
                breaker.success(at);
                breaker.failure(at, &rules);
            }
            assert_eq!(breaker.state(), State::Closed);
            breaker.success(10);
            breaker.failure(10, &rules);
            assert_eq!(breaker.state() == State::Open, opens);
        }
        let off = Tuning { eject_failures: 0, ..Tuning::default() };
        let mut breaker = Breaker::default();
        (0..100).for_each(|at| breaker.failure(at, &off));
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn a_request_that_tells_nothing_leaves_the_trial_to_the_next_one() {
        let mut breaker = Breaker::default();
        (0..5).for_each(|_| breaker.failure(0, &Tuning::default()));
        breaker.turn(2_000);
        breaker.begin(2_000, &Tuning::default());
        assert!(!breaker.turn(61_999) && breaker.turn(62_000), "a trial that lasts admits another one");
        breaker.begin(62_000, &Tuning::default());
        breaker.neutral(true);
        assert_eq!(breaker.state(), State::HalfOpen(false));
    }
}
