//! Slow start: a node that is new or came back gets a share that grows to its whole one in equal steps, so that cold caches and empty
//! pools are not hit by a full share at once.
//!
//! Its time begins with the first request that the core has for the cluster, not with the news. Consistent hashing has no shares that
//! could grow: with it nothing of this has an effect.

/// Steps from nothing to all.
const STEPS: u32 = 16;

/// How far a node has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Warmth {
    /// It has its whole share.
    #[default]
    Warm,
    /// It begins with the next request.
    Cold,
    /// Since then; with so many steps of its share.
    Warming { since_ms: u64, steps: u32 },
}

/// A node that was not there before.
pub(super) fn of_a_new_node(others_were_there: bool) -> Warmth {
    if others_were_there { Warmth::Cold } else { Warmth::Warm }
}

impl Warmth {
    /// Goes on with time. Gives when it goes on next, which is now when that was its last step; `None`: it is warm.
    pub(super) fn turn(&mut self, now_ms: u64, slow_start_s: u32) -> Option<u64> {
        let since_ms = match *self {
            Warmth::Warm => return None,
            Warmth::Cold => now_ms,
            Warmth::Warming { since_ms, .. } => since_ms,
        };
        let step_ms = (u64::from(slow_start_s) * 1_000 / u64::from(STEPS)).max(1);
        let done = now_ms.saturating_sub(since_ms) / step_ms;
        match u32::try_from(done).ok().and_then(|done| done.checked_add(1)).filter(|steps| *steps < STEPS) {
            Some(steps) if slow_start_s > 0 => {
                *self = Warmth::Warming { since_ms, steps };
                Some(since_ms.saturating_add(u64::from(steps).saturating_mul(step_ms)))
            }
            _ => {
                *self = Warmth::Warm;
                Some(u64::MAX)
            }
        }
    }

    /// A weight in steps, beside which those of other nodes are weighed by the same.
    pub(super) fn weigh(self, weight: u32) -> u32 {
        let steps = match self {
            Warmth::Warm => STEPS,
            Warmth::Cold => 1,
            Warmth::Warming { steps, .. } => steps,
        };
        weight.saturating_mul(steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_grows_in_steps_from_the_first_request_on() {
        let mut warmth = Warmth::Cold;
        let mut weights = Vec::new();
        let mut now_ms = 5_000;
        while let Some(next_ms) = warmth.turn(now_ms, 16) {
            weights.push(warmth.weigh(10));
            assert!(next_ms == u64::MAX || next_ms == now_ms + 1_000);
            now_ms += 1_000;
        }
        assert_eq!(weights, (1..=16).map(|step| step * 10).collect::<Vec<_>>());
        assert_eq!(now_ms, 5_000 + 16_000);
        let mut warmth = Warmth::Cold;
        assert_eq!((warmth.turn(7, 0), warmth), (Some(u64::MAX), Warmth::Warm));
    }
}
