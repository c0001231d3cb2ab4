//! How long to wait before the next attempt: doubling, capped, jittered.
//!
//! Jitter keeps a fleet that lost one database at one moment from coming back at one moment. The wait is never zero,
//! so that a fault that is instant to meet does not become a busy loop.

use std::time::Duration;

/// Counts failed attempts and says how long to wait.
#[derive(Debug, Clone)]
pub struct Backoff {
    first_ms: u64,
    ms_max: u64,
    failures: u32,
}

impl Backoff {
    /// Starts at `first_ms` and never waits longer than `ms_max`.
    pub fn new(first_ms: u64, ms_max: u64) -> Backoff {
        Backoff { first_ms: first_ms.max(1), ms_max: ms_max.max(1), failures: 0 }
    }

    /// The wait after one failure more: between half and all of the doubled step.
    pub fn wait(&mut self) -> Duration {
        let step = self.first_ms.saturating_mul(1 << self.failures.min(20)).min(self.ms_max);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(step.div_ceil(2) + jitter(step / 2))
    }

    /// It worked: the next failure waits the shortest time again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A number from 0 to `max`. Where the system has no randomness, the longest wait is the safe one.
pub fn jitter(max: u64) -> u64 {
    getrandom::u64().map_or(max, |random| random % max.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_are_never_zero() {
        let mut backoff = Backoff::new(50, 1_500);
        for failures in 0..100u32 {
            let step = (50u64 << failures.min(10)).min(1_500);
            let wait = backoff.wait().as_millis() as u64;
            assert!((step / 2..=step).contains(&wait) && wait > 0, "wait {wait} of step {step}");
        }
        backoff.reset();
        assert!(backoff.wait() <= Duration::from_millis(50));
    }
}
