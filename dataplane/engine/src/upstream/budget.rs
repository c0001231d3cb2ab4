//! How many further tries a cluster's requests may make, so that retries cannot melt it down.
//!
//! Each request adds a share of a try, time adds a few, and a try takes one. Only tries that may have loaded a node are charged: a
//! connection that was refused cost the cluster nothing, and the next try is its request's first load.
//!
//! Invariant: over any time, charged tries are at most `retry_percent` of the requests, plus the floor, plus what was saved up.

/// A try, in the unit of the balance.
const TRY: u64 = 1_000;
/// Tries that can be saved up; what a new cluster begins with.
const SAVED_MAX: u64 = 100 * TRY;
/// Tries that time adds each second.
const FLOOR_PER_S: u64 = 1;

/// One core's budget for one cluster.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    balance: u64,
    at_ms: u64,
}

impl Budget {
    pub(super) fn new(now_ms: u64) -> Budget {
        Budget { balance: SAVED_MAX, at_ms: now_ms }
    }

    /// A request has come.
    pub(super) fn request(&mut self, percent: Option<u32>) {
        let share = u64::from(percent.unwrap_or(0)) * TRY / 100;
        self.balance = self.balance.saturating_add(share).min(SAVED_MAX);
    }

    /// Takes a try, if there is one.
    pub(super) fn take(&mut self, percent: Option<u32>, now_ms: u64) -> bool {
        if percent.is_none() {
            return true;
        }
        let passed_ms = now_ms.saturating_sub(self.at_ms);
        self.at_ms = self.at_ms.max(now_ms);
        let by_time = passed_ms.saturating_mul(FLOOR_PER_S * TRY / 1_000);
        self.balance = self.balance.saturating_add(by_time).min(SAVED_MAX);
        match self.balance.checked_sub(TRY) {
            Some(rest) => {
                self.balance = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charged_tries_stay_a_share_of_the_requests() {
        let mut budget = Budget::new(0);
        let mut tries = 0;
        for request in 0..10_000u64 {
            budget.request(Some(20));
            tries += u32::from(budget.take(Some(20), request)); // 10 s
        }
        assert!((2_000..=2_000 + 100 + 10).contains(&tries), "{tries}");
        assert!((0..1_000).all(|_| budget.take(None, 0)));
    }

    #[test]
    fn a_quiet_cluster_may_still_try_now_and_then() {
        let mut budget = Budget::new(0);
        while budget.take(Some(0), 0) {}
        assert!(!budget.take(Some(0), 500));
        assert!(budget.take(Some(0), 1_000) && !budget.take(Some(0), 1_000));
    }
}
