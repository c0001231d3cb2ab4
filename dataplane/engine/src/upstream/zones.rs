//! How many of the requests stay in the gateway's own zone, and which.
//!
//! All of them, as long as the zone's usable weight is enough: `ringway.zone-spill-percent` of what it has when it is whole, and as much of an even
//! share of the upstream (a zone with one node of ten cannot carry what every third gateway gets). With less, the part that is
//! kept shrinks in proportion, so that none of the zone's nodes gets more than 100/70 of what it has in good times, and the rest
//! goes to the other zones; but never so much that those are worse off than this one.
//!
//! Which requests stay is decided by turns, or with consistent hashing by the key: a key that spilled over stays there until the zone is
//! better. No randomness, no clock.

use super::round_robin::mix;

/// All requests.
const ALL: u32 = 1 << 16;
/// Tells what stays from what the key decides otherwise.
const SALT: u64 = 0x7a6f_6e65;

/// Which part of a priority's nodes a tier has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of them.
    Whole,
    /// Those of the own zone; the next tier has the others. All of them together are of so many zones.
    Own { zones: u32 },
    /// The others.
    Rest,
}

/// Weights of nodes, in steps of warmth.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weights {
    /// When all is well.
    pub(super) whole: u64,
    /// Of those that may get requests in panic.
    pub(super) able: u64,
    /// Of those that may get them.
    pub(super) usable: u64,
}

/// What stays in the own zone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spill {
    kept: u32,
    credit: u32,
}

impl Weights {
    /// Counts a node as `after`, that counted as `before`.
    pub(super) fn replace(&mut self, before: Weights, after: Weights) {
        let moved = |sum: u64, minus: u64, plus: u64| sum.saturating_sub(minus).saturating_add(plus);
        self.whole = moved(self.whole, before.whole, after.whole);
        self.able = moved(self.able, before.able, after.able);
        self.usable = moved(self.usable, before.usable, after.usable);
    }
}

impl Spill {
    /// All stays. `seed` tells cores apart, so that they do not spill in step.
    pub(super) fn new(seed: u64) -> Spill {
        let credit = u32::try_from(mix(seed) % u64::from(ALL)).unwrap_or(0);
        Spill { kept: ALL, credit }
    }

    /// The part that stays from now on. In panic there is no preference: all nodes get their share.
    pub(super) fn settle(&mut self, own: &Weights, rest: &Weights, zones: u32, percent: u8, panics: bool) {
        let zones = u128::from(zones.max(1));
        let (usable, others) = (u128::from(own.usable), u128::from(rest.usable));
        self.kept = if panics {
            share(own.able.into(), u128::from(own.able) + u128::from(rest.able))
        } else if usable == 0 {
            0
        } else if percent == 0 || others == 0 {
            ALL
        } else {
            let whole = u128::from(own.whole);
            let fair = (whole * zones).max(whole + u128::from(rest.whole));
            let enough = share(usable * zones * 100, fair * u128::from(percent));
            let even = share(usable * zones, usable + others);
            enough.max(even)
        };
    }

    /// Whether the next request stays; with consistent hashing, the one of this hash.
    pub(super) fn keeps(&mut self, hash: Option<u64>) -> bool {
        if let Some(hash) = hash {
            return mix(hash ^ SALT) >> 48 < u64::from(self.kept);
        }
        self.credit = self.credit.saturating_add(self.kept);
        let keeps = self.credit >= ALL;
        if keeps {
            self.credit -= ALL;
        }
        keeps
    }

    /// In percent, for operators; what is not quite all is not told as all.
    pub(super) fn percent(&self) -> u8 {
        u8::try_from(u64::from(self.kept) * 100 / u64::from(ALL)).unwrap_or(100)
    }
}

fn share(part: u128, whole: u128) -> u32 {
    let share = part.saturating_mul(ALL.into()).checked_div(whole).unwrap_or(0);
    u32::try_from(share).unwrap_or(ALL).min(ALL)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn weights(whole: u64, usable: u64) -> Weights {
        Weights { whole, able: whole, usable }
    }

    fn kept(own: Weights, rest: Weights, zones: u32, percent: u8, panics: bool) -> f64 {
        let mut spill = Spill::new(1);
        spill.settle(&own, &rest, zones, percent, panics);
        f64::from(spill.kept) / f64::from(ALL)
    }

    #[test]
    fn what_stays_follows_what_the_zone_can_carry() {
        for (own, rest, zones, percent, want) in [
            ((10, 10), (20, 20), 3, 70, 1.0),
            ((10, 7), (20, 20), 3, 70, 1.0),
            ((10, 5), (20, 20), 3, 70, 0.714),
            ((10, 1), (20, 20), 3, 70, 0.143),
            ((10, 0), (20, 20), 3, 70, 0.0),
            // One node of ten cannot carry a third of everything.
            ((1, 1), (9, 9), 3, 70, 0.428),
            // The others are as badly off, or worse.
            ((10, 5), (20, 10), 3, 70, 1.0),
            ((10, 5), (20, 2), 3, 70, 1.0),
            ((10, 1), (20, 0), 3, 70, 1.0),
            ((10, 1), (20, 20), 3, 0, 1.0),
            ((10, 9), (10, 10), 2, 100, 0.947),
        ] {
            let got = kept(weights(own.0, own.1), weights(rest.0, rest.1), zones, percent, false);
            assert!((got - want).abs() < 0.001, "{own:?} {rest:?} {zones} {percent}: {got} for {want}");
        }
        assert_eq!(kept(weights(10, 1), weights(30, 0), 2, 70, true), 0.25);
    }

    #[test]
    fn turns_are_even_and_keys_stay_where_they_went() {
        let mut spill = Spill::new(3);
        spill.settle(&weights(10, 5), &weights(10, 10), 2, 70, false);
        let stayed = (0..10_000).filter(|_| spill.keeps(None)).count();
        assert!((7_140..=7_145).contains(&stayed), "{stayed}");
        let before: Vec<bool> = (0..10_000).map(|key| spill.keeps(Some(mix(key)))).collect();
        spill.settle(&weights(10, 3), &weights(10, 10), 2, 70, false);
        let after: Vec<bool> = (0..10_000).map(|key| spill.keeps(Some(mix(key)))).collect();
        assert!(before.iter().zip(&after).all(|(before, after)| *before || !after), "a key came back");
        let stayed = after.iter().filter(|stays| **stays).count();
        assert!((4_600..=4_750).contains(&stayed), "{stayed}");
    }

    proptest! {
        /// Of gateways that are spread over the zones evenly, none gives a node of its zone more than the allowed part above the larger of what it
        /// has when its zone is whole and what all would have if they shared evenly.
        #[test]
        fn no_node_of_the_own_zone_is_overloaded(
            zones in 2u32..6, own in 1u64..50, rest in 1u64..200, down in 0u64..50, others_down in 0u64..200, percent in 1u8..=100,
        ) {
            let (own, rest) = (weights(own, own.saturating_sub(down)), weights(rest, rest.saturating_sub(others_down)));
            prop_assume!(own.usable > 0);
            let load = kept(own, rest, zones, percent, false) / own.usable as f64;
            let zones = f64::from(zones);
            let in_good_times = (1.0 / own.whole as f64).min(zones / (own.whole + rest.whole) as f64);
            let even = zones / (own.usable + rest.usable) as f64;
            let most = (in_good_times * 100.0 / f64::from(percent)).max(even);
            prop_assert!(load <= most * 1.001 || rest.usable == 0, "{load} of {most}");
        }
    }
}
