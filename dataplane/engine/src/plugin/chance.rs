//! Turns, random numbers and the time for plugins, which draw none themselves and read no clock.
//!
//! A share of requests (`weight`, `sample_ratio`) goes by turns and not by luck: after any number of requests each share is met to within a few.
//! The turn's number times the golden ratio, without its whole part, falls evenly over 0 to 1 however the shares are cut. Each core
//! counts for itself, from another turn on.

const COUNTERS: usize = 256;
/// 2^64 over the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// See the module. One for each core.
#[derive(Debug)]
pub struct Chance {
    turns: Box<[u64]>,
    state: u64,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
}

impl Chance {
    /// `seed` is random, or a test's.
    pub fn new(seed: u64) -> Chance {
        Chance { turns: vec![seed & 0xffff; COUNTERS].into_boxed_slice(), state: seed, unix_ms: 0 }
    }

    /// The next turn of whoever has that key, as a fraction of 2^64. Keys that share a counter only change their order of turns.
    pub fn turn(&mut self, key: u64) -> u64 {
        let place = usize::try_from(key % COUNTERS as u64).unwrap_or(0);
        let Some(turn) = self.turns.get_mut(place) else { return 0 };
        *turn = turn.wrapping_add(1);
        turn.wrapping_mul(STEP)
    }

    /// A random number; not for secrets.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A fraction of 2^64 as a number below `bound`.
pub(super) fn below(fraction: u64, bound: u64) -> u64 {
    ((u128::from(fraction) * u128::from(bound)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_met_after_any_number_of_turns() {
        for (seed, bound) in [(0, 3), (77, 5), (12_345, 10), (9, 100)] {
            let mut chance = Chance::new(seed);
            let mut counts = vec![0i64; bound as usize];
            for turn in 1..=1_000i64 {
                counts[below(chance.turn(7), bound) as usize] += 1;
                for count in &counts {
                    let due = turn as f64 / bound as f64;
                    assert!((*count as f64 - due).abs() < 4.0, "{bound}: {count} of {turn}");
                }
            }
        }
    }

    #[test]
    fn others_turns_do_not_change_mine() {
        let (mut alone, mut among) = (Chance::new(5), Chance::new(5));
        for other in 0..500 {
            among.turn(other % 3 + 8);
            assert_eq!(alone.turn(7), among.turn(7));
        }
    }
}
