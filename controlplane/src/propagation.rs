//! How long changes take, from the transaction to the last core: histograms that only grow.
//!
//! The whole is counted until this program hears of the last core's swap, so it is a few microseconds too long rather than too short.

use std::time::Duration;

/// Upper bounds of the buckets in seconds, as they are told.
pub const BOUNDS: [(f64, &str); 14] = [
    (0.0001, "0.0001"),
    (0.00025, "0.00025"),
    (0.0005, "0.0005"),
    (0.001, "0.001"),
    (0.0025, "0.0025"),
    (0.005, "0.005"),
    (0.01, "0.01"),
    (0.025, "0.025"),
    (0.05, "0.05"),
    (0.1, "0.1"),
    (0.25, "0.25"),
    (1.0, "1"),
    (5.0, "5"),
    (30.0, "30"),
];

/// Times of one kind.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// Those in the bucket and in none before it.
    buckets: [u64; BOUNDS.len()],
    /// All.
    pub count: u64,
    /// Their sum.
    pub sum_seconds: f64,
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        let place = BOUNDS.iter().position(|(bound, _)| seconds <= *bound);
        if let Some(bucket) = place.and_then(|place| self.buckets.get_mut(place)) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum_seconds += seconds;
    }

    /// How many were at most as long as each bound.
    pub fn sums(&self) -> impl Iterator<Item = u64> {
        self.buckets.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        })
    }
}

/// One configuration's way. Stages follow each other; each is told by the time that it took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Way {
    /// From the transaction's revision to its being noticed; `None` where the source cannot tell.
    pub notice: Option<Duration>,
    /// Reading, parsing and validating.
    pub load: Duration,
    /// For the data plane to be free.
    pub wait: Duration,
    /// In the data plane, to each stage's end: received, decoded, compiled, first core, last core.
    pub dataplane: [Duration; 5],
    /// From the notice until the last core's swap was heard of.
    pub noticed_to_heard: Duration,
}

/// The names of the stages, in their order.
pub const STAGES: [&str; 8] =
    ["notice", "load", "wait", "receive", "decode", "compile", "first_core", "last_core"];

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Propagation {
    /// From the transaction to the last core, where the source tells when the transaction was; else from the notice.
    pub whole: Histogram,
    /// Each stage.
    pub stages: [Histogram; STAGES.len()],
    /// Bytes sent, whole configurations and deltas.
    pub sent_bytes: [u64; 2],
    /// Configurations acknowledged, whole ones and deltas.
    pub applied: [u64; 2],
    /// Configurations that the data plane refused.
    pub refused: u64,
}

impl Propagation {
    /// A configuration has arrived everywhere.
    pub fn record(&mut self, way: &Way, bytes: usize, is_delta: bool) {
        self.whole.record(way.notice.unwrap_or_default() + way.noticed_to_heard);
        let [notice, load, wait, dataplane @ ..] = &mut self.stages;
        if let Some(time) = way.notice {
            notice.record(time);
        }
        load.record(way.load);
        wait.record(way.wait);
        let mut before = Duration::ZERO;
        for (stage, end) in dataplane.iter_mut().zip(way.dataplane) {
            stage.record(end.saturating_sub(before));
            before = end;
        }
        let form = usize::from(is_delta);
        if let (Some(sent), Some(applied)) = (self.sent_bytes.get_mut(form), self.applied.get_mut(form)) {
            *sent += bytes as u64;
            *applied += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_told_by_what_each_took_and_the_whole_by_all_of_it() {
        let ms = Duration::from_millis;
        let mut propagation = Propagation::default();
        let dataplane = [ms(1), ms(3), ms(6), ms(6), ms(10)];
        let way = Way { notice: Some(ms(2)), load: ms(4), wait: ms(0), dataplane, noticed_to_heard: ms(15) };
        propagation.record(&way, 100, true);
        let sums =
            propagation.stages.iter().map(|stage| (stage.sum_seconds * 1e3).round()).collect::<Vec<_>>();
        assert_eq!(sums, [2.0, 4.0, 0.0, 1.0, 2.0, 3.0, 0.0, 4.0]);
        assert_eq!(propagation.whole.sums().collect::<Vec<_>>(), [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!((propagation.sent_bytes, propagation.applied), ([0, 100], [0, 1]));
    }
}
