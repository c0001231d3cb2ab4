//! Whether one node is well: counts in a row, as APISIX's checks have them, of probes and of requests alike.
//!
//! A success ends every row of failures, a failure ends the row of successes. Refused connections, time-outs and bad statuses are
//! counted apart, each with its own limit; reaching one makes the node unhealthy. A node begins as healthy.

use ringway_snapshot::upstream::{Active, Passive};

use super::finding::Finding;
use super::tally::{FailureKind, Rows, Tally};

/// Why a node is unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sickness {
    /// What there was too much of.
    pub kind: FailureKind,
    /// In requests; else in probes.
    pub in_requests: bool,
}

/// One node's health.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    sickness: Option<Sickness>,
    successes: u32,
    failures: Rows,
}

impl Health {
    /// As another process knew it. What contradicts itself is made to fit.
    pub(super) fn restored(sickness: Option<Sickness>, successes: u32, failures: Rows) -> Health {
        match sickness {
            Some(_) => Health { sickness, successes, failures: Rows::default() },
            None => Health { sickness, successes: 0, failures },
        }
    }

    /// Whether it may get requests.
    pub fn is_healthy(&self) -> bool {
        self.sickness.is_none()
    }

    /// Why it is unhealthy.
    pub fn sickness(&self) -> Option<Sickness> {
        self.sickness
    }

    /// Successes in a row, of a node that is unhealthy.
    pub fn successes(&self) -> u32 {
        self.successes
    }

    /// Failures in a row, of a node that is healthy.
    pub fn failures(&self) -> Rows {
        self.failures
    }

    /// Takes a probe's finding.
    pub fn probed(&mut self, checks: &Active, finding: Finding) {
        let limits = Rows {
            http: checks.unhealthy.http_failures,
            tcp: checks.unhealthy.tcp_failures,
            timeout: checks.unhealthy.timeouts,
        };
        let kind = match finding {
            Finding::Status(status) if checks.healthy.http_statuses.contains(&status) => {
                return self.succeed(1, checks.healthy.successes);
            }
            Finding::Status(status) if checks.unhealthy.http_statuses.contains(&status) => FailureKind::Http,
            // A status that is in neither list says nothing.
            Finding::Status(_) => return,
            Finding::Connected => return self.succeed(1, checks.healthy.successes),
            Finding::Unmade(_) => return,
            Finding::Failed(_) => FailureKind::Tcp,
            Finding::TimedOut(_) => FailureKind::Timeout,
        };
        self.fail(kind, 1, limits, false);
    }

    /// Takes what the requests of one core told.
    pub fn tallied(&mut self, checks: &Passive, tally: &Tally) {
        let limits = Rows {
            http: checks.unhealthy.http_failures,
            tcp: checks.unhealthy.tcp_failures,
            timeout: checks.unhealthy.timeouts,
        };
        self.fail_all(tally.before, limits);
        if tally.successes > 0 {
            self.succeed(tally.successes, checks.healthy.successes);
        }
        self.fail_all(tally.since, limits);
    }

    fn fail_all(&mut self, mut rows: Rows, limits: Rows) {
        for kind in [FailureKind::Http, FailureKind::Tcp, FailureKind::Timeout] {
            let count = *rows.of(kind);
            if count > 0 {
                self.fail(kind, count, limits, true);
            }
        }
    }

    fn succeed(&mut self, count: u32, limit: u32) {
        self.failures = Rows::default();
        if self.sickness.is_some() {
            self.successes = self.successes.saturating_add(count);
            if limit > 0 && self.successes >= limit {
                *self = Health::default();
            }
        }
        self.check_invariants();
    }

    fn fail(&mut self, kind: FailureKind, count: u32, mut limits: Rows, in_requests: bool) {
        self.successes = 0;
        if self.sickness.is_none() {
            let (row, limit) = (self.failures.of(kind), *limits.of(kind));
            *row = row.saturating_add(count);
            if limit > 0 && *row >= limit {
                *self = Health { sickness: Some(Sickness { kind, in_requests }), ..Health::default() };
            }
        }
        self.check_invariants();
    }

    fn check_invariants(&self) {
        let healthy = self.is_healthy();
        debug_assert!(!healthy || self.successes == 0, "successes are counted for the sick alone");
        debug_assert!(
            healthy || self.failures == Rows::default(),
            "failures are counted for the healthy alone"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Lack, ProbeFault, Stage};
    use super::*;

    #[test]
    fn rows_are_counted_apart_and_ended_by_a_success() {
        let checks = Active::default();
        let mut health = Health::default();
        let mut take = |findings: &[Finding]| {
            findings.iter().for_each(|finding| health.probed(&checks, *finding));
            health.is_healthy()
        };
        use Finding::Status;
        let (failed, timed_out) = (Finding::Failed(ProbeFault::Connect), Finding::TimedOut(Stage::Answer));
        assert!(take(&[failed, timed_out, timed_out, Status(500), Status(500), Status(500), Status(500)]));
        assert!(take(&[Status(200), failed]));
        // What could not be made says nothing about the node, and ends no row.
        assert!(take(&[Finding::Unmade(Lack::Descriptor); 100]));
        assert!(!take(&[failed]));
        assert!(!take(&[Status(200), failed, Status(200)]));
        // In neither list: it ends nothing.
        assert!(take(&[Status(418), Status(302)]));
        assert!(!take(&[Status(404), Status(404), Status(429), Status(503), Status(418), Status(505)]));
    }

    #[test]
    fn what_requests_told_counts_in_the_order_of_rows() {
        let checks = Passive::default();
        let mut tally = Tally::default();
        (0..4).for_each(|_| tally.failure(FailureKind::Http));
        tally.success();
        tally.failure(FailureKind::Http);
        let mut health = Health::default();
        health.tallied(&checks, &tally);
        assert!(health.is_healthy());
        // Four more make five in a row, over two tallies.
        let mut tally = Tally::default();
        (0..4).for_each(|_| tally.failure(FailureKind::Http));
        health.tallied(&checks, &tally);
        assert_eq!(health.sickness(), Some(Sickness { kind: FailureKind::Http, in_requests: true }));
        let mut tally = Tally::default();
        (0..5).for_each(|_| tally.success());
        health.tallied(&checks, &tally);
        assert!(health.is_healthy());
    }

    #[test]
    fn a_limit_of_nought_is_none() {
        let mut checks = Passive::default();
        checks.unhealthy.tcp_failures = 0;
        let mut tally = Tally::default();
        (0..1_000).for_each(|_| tally.failure(FailureKind::Tcp));
        let mut health = Health::default();
        health.tallied(&checks, &tally);
        assert!(health.is_healthy());
    }
}
