//! When a node that says nothing is hung, and not just slow.
//!
//! A hung node takes connections and requests (the kernel does that for it) and says nothing, so that only time tells. How long is too
//! long depends on what is usual: at least `ringway.silence-ms`, and at least twice what the slowest first byte of an answer took lately. So an upstream
//! that makes reports for half a minute is judged by that after the first one, and needs no option.
//!
//! Time alone says nothing against a node either: one request may be a long one. So several must have waited for too long there, and another
//! node must have answered somebody meanwhile. Where none has, one request may ask another node: see [`Suspicion`].

/// For so long, and up to twice as long, what was slowest is remembered.
const WINDOW_MS: u64 = 600_000;
/// A first byte may take so many times what the slowest one took.
const USUAL_TIMES: u64 = 2;
/// Requests that have waited for too long, before a node that was well until then is suspected.
pub(super) const WAITING_MIN: u32 = 2;
/// Who waits for too long looks again after this, and after ever longer times.
const AGAIN_MS_MIN: u64 = 500;
/// Of the time that it has waited, such a part passes before it looks again.
const AGAIN_PART: u64 = 4;

/// What a request's wait for its node says of that node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspicion {
    /// Nothing so far; to be asked again after so many milliseconds.
    None {
        /// See there.
        again_ms: u64,
    },
    /// It may hang, or everything takes as long at present: a try elsewhere would tell which.
    Some,
    /// It hangs: others wait, too, and another node has answered meanwhile. That counts as its failure.
    Strong,
}

impl Suspicion {
    pub(super) fn none(quiet_ms: u64) -> Suspicion {
        Suspicion::None { again_ms: (quiet_ms / AGAIN_PART).max(AGAIN_MS_MIN) }
    }
}

/// What is usual for one cluster on one core, and who answers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Silence {
    /// The slowest in this window and in the one before.
    slowest_ms: [u64; 2],
    window_ms: u64,
    /// The two nodes that were heard last, the last first, and when.
    heard: [(u32, u64); 2],
    /// Tries elsewhere that were to tell, since a node was heard.
    scouts: u32,
    scout_ms: u64,
}

impl Silence {
    /// The first byte of an answer took so long.
    pub(super) fn took(&mut self, waited_ms: u64, now_ms: u64) {
        let passed = now_ms.saturating_sub(self.window_ms) / WINDOW_MS;
        let [this, _] = self.slowest_ms;
        if passed > 0 {
            self.slowest_ms = [0, if passed == 1 { this } else { 0 }];
            self.window_ms = now_ms;
        }
        let [this, _] = &mut self.slowest_ms;
        *this = waited_ms.max(*this);
    }

    /// How long is not yet too long; `None`: nothing is.
    pub(super) fn patience_ms(&self, silence_ms: u32) -> Option<u64> {
        let [this, before] = self.slowest_ms;
        (silence_ms > 0).then(|| this.max(before).saturating_mul(USUAL_TIMES).max(silence_ms.into()))
    }

    /// A node says something.
    pub(super) fn heard(&mut self, stamp: u32, now_ms: u64) {
        let [last, other] = self.heard;
        self.heard = [(stamp, now_ms), if last.0 == stamp { other } else { last }];
        self.scouts = 0;
    }

    /// Whether a node other than this one has been heard after `since_ms`.
    pub(super) fn others_heard(&self, stamp: u32, since_ms: u64) -> bool {
        self.heard.iter().any(|(other, at_ms)| *other != stamp && *at_ms > since_ms)
    }

    /// Whether a request may find out whether others answer. As long as none does, that becomes ever rarer: the whole upstream is slow.
    pub(super) fn may_scout(&mut self, patience_ms: u64, now_ms: u64) -> bool {
        let wait_ms = patience_ms.saturating_mul(1 << self.scouts.min(20));
        let may = self.scouts == 0 || now_ms.saturating_sub(self.scout_ms) >= wait_ms;
        if may {
            self.scouts = self.scouts.saturating_add(1);
            self.scout_ms = now_ms;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_with_what_is_usual_and_shrinks_when_that_was_long_ago() {
        let mut silence = Silence::default();
        assert_eq!((silence.patience_ms(0), silence.patience_ms(3_000)), (None, Some(3_000)));
        silence.took(1_000, 0);
        assert_eq!(silence.patience_ms(3_000), Some(3_000));
        silence.took(20_000, 0);
        assert_eq!(silence.patience_ms(3_000), Some(40_000));
        silence.took(100, WINDOW_MS);
        assert_eq!(silence.patience_ms(3_000), Some(40_000));
        silence.took(100, 2 * WINDOW_MS);
        assert_eq!(silence.patience_ms(3_000), Some(3_000));
    }

    #[test]
    fn the_two_nodes_that_were_heard_last_are_known() {
        let mut silence = Silence::default();
        assert!(!silence.others_heard(1, 0));
        for (stamp, at_ms) in [(1, 100), (2, 200), (2, 300), (2, 400)] {
            silence.heard(stamp, at_ms);
        }
        assert!(silence.others_heard(1, 300) && !silence.others_heard(1, 400));
        assert!(silence.others_heard(2, 99) && !silence.others_heard(2, 100));
        assert!(silence.others_heard(3, 399));
    }

    #[test]
    fn what_nobody_answers_is_tried_ever_more_rarely() {
        let mut silence = Silence::default();
        let mut tried = Vec::new();
        for now_ms in (3_000..=60_000).step_by(100) {
            if silence.may_scout(3_000, now_ms) {
                tried.push(now_ms);
            }
        }
        assert_eq!(tried, [3_000, 9_000, 21_000, 45_000]);
        silence.heard(1, 60_000);
        assert!(silence.may_scout(3_000, 60_000));
    }
}
