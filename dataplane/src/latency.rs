//! How long requests take: histograms with fixed memory, one writer each, read by other threads as counters are.
//!
//! Buckets are log-linear: 32 of equal width for each doubling, from one microsecond to 71 minutes, so that a figure is exact to
//! 3 % and recording one is a load and a store. Percentiles of the last 10 seconds and of the last minute are differences
//! of copies that the watchdog's thread takes every [`COPY_EVERY`]; cores know nothing of them.
//!
//! Invariant: a histogram never forgets. What a window shows is a difference of two of its states.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;

use crate::state::{Core, Counter};

/// Buckets of one doubling: 2 to this power.
const STEP_BITS: u32 = 5;
const STEPS: u64 = 1 << STEP_BITS;
/// Longer times are counted as this long, in microseconds.
const LONGEST_US: u64 = (1 << 32) - 1;
/// How many buckets there are.
const BUCKETS: usize = 28 * 32;
/// Between two copies.
const COPY_EVERY: Duration = Duration::from_secs(2);
/// What is shown beside the time since the start.
const WINDOWS: [(&str, Duration); 2] =
    [("last_10s", Duration::from_secs(10)), ("last_1m", Duration::from_secs(60))];
/// Copies that are kept: a minute of them, and one that is older.
const COPIES_MAX: usize = 32;

/// One core's histograms.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    /// From a request's first byte to the last byte of its answer.
    pub(crate) request: Histogram,
    /// From the start of a try to the last byte of the node's answer, or the failure.
    pub(crate) upstream: Histogram,
}

/// Times, with one writer.
#[derive(Debug)]
pub(crate) struct Histogram {
    buckets: Box<[Counter]>,
    sum_us: Counter,
    max_us: Counter,
}

impl Default for Histogram {
    fn default() -> Histogram {
        let buckets = (0..BUCKETS).map(|_| Counter::default()).collect();
        Histogram { buckets, sum_us: Counter::default(), max_us: Counter::default() }
    }
}

impl Histogram {
    /// Counts one time. Only its writer does.
    pub(crate) fn record(&self, us: u64) {
        let us = us.min(LONGEST_US);
        if let Some(bucket) = self.buckets.get(bucket_of(us)) {
            bucket.up();
        }
        self.sum_us.add(us);
        if us > self.max_us.get() {
            self.max_us.set(us);
        }
    }

    /// What it holds now.
    pub(crate) fn copy(&self) -> Counts {
        Counts {
            buckets: self.buckets.iter().map(Counter::get).collect(),
            sum_us: self.sum_us.get(),
            max_us: Some(self.max_us.get()),
        }
    }
}

/// The bucket of a time.
fn bucket_of(us: u64) -> usize {
    let bits = us.max(1).ilog2();
    let place = match bits.checked_sub(STEP_BITS) {
        // Up to two times `STEPS` each microsecond has a bucket.
        None | Some(0) => us,
        Some(shift) => u64::from(shift) * STEPS + (us >> shift),
    };
    usize::try_from(place).unwrap_or(BUCKETS)
}

/// The shortest time of a bucket.
fn floor_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    match (bucket / STEPS).saturating_sub(1) {
        0 => bucket,
        shift => (bucket - shift * STEPS) << shift,
    }
}

/// The longest time of a bucket.
fn ceiling_of(bucket: usize) -> u64 {
    floor_of(bucket + 1) - 1
}

/// A histogram's content, or the difference of two, or the sum of several.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    buckets: Vec<u64>,
    pub(crate) sum_us: u64,
    /// The longest time, where it is known exactly.
    max_us: Option<u64>,
}

/// What is told of a histogram, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) mean_us: u64,
    pub(crate) p50_us: u64,
    pub(crate) p90_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
}

impl Counts {
    /// What came after `before`.
    fn since(&self, before: &Counts) -> Counts {
        let earlier = before.buckets.iter().chain(std::iter::repeat(&0));
        Counts {
            buckets: self.buckets.iter().zip(earlier).map(|(now, then)| now.saturating_sub(*then)).collect(),
            sum_us: self.sum_us.saturating_sub(before.sum_us),
            max_us: None,
        }
    }

    /// Adds another core's.
    pub(crate) fn add(&mut self, other: &Counts) {
        if self.buckets.is_empty() {
            return self.clone_from(other);
        }
        for (own, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *own = own.saturating_add(*more);
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.max_us = self.max_us.zip(other.max_us).map(|(own, other)| own.max(other));
    }

    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// How many were at most so long, to the width of a bucket.
    pub(crate) fn at_most(&self, us: u64) -> u64 {
        let whole = self
            .buckets
            .iter()
            .enumerate()
            .take_while(|(bucket, _)| floor_of(*bucket).midpoint(ceiling_of(*bucket)) <= us);
        whole.map(|(_, count)| count).sum()
    }

    pub(crate) fn summary(&self) -> Summary {
        let count = self.count();
        let last = self.buckets.iter().rposition(|count| *count > 0);
        let max_us = self.max_us.unwrap_or_else(|| last.map_or(0, ceiling_of));
        let at = |thousandths: u64| self.percentile(count, thousandths).min(max_us);
        Summary {
            count,
            mean_us: self.sum_us.checked_div(count).unwrap_or(0),
            p50_us: at(500),
            p90_us: at(900),
            p99_us: at(990),
            p999_us: at(999),
            max_us,
        }
    }

    /// The longest time of the bucket in which this share of all times is reached.
    fn percentile(&self, count: u64, thousandths: u64) -> u64 {
        let rank = count.saturating_mul(thousandths).div_ceil(1000).max(1);
        let mut seen = 0_u64;
        let reached = self.buckets.iter().position(|count| {
            seen = seen.saturating_add(*count);
            seen >= rank
        });
        reached.map_or(0, ceiling_of)
    }
}

type Cores = [Arc<CachePadded<Core>>];

/// The copies that windows are made of.
#[derive(Debug, Default)]
pub(crate) struct Copies(Mutex<VecDeque<Taken>>);

/// Every core's histograms at one time.
#[derive(Debug, Clone)]
struct Taken {
    at: Instant,
    cores: Vec<[Counts; 2]>,
}

/// One window as it is told: all cores together, then each.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) name: &'static str,
    pub(crate) seconds: f64,
    pub(crate) whole: [Counts; 2],
    pub(crate) cores: Vec<[Counts; 2]>,
}

impl Copies {
    /// Takes a copy, if it is time for one.
    pub(crate) fn take(&self, cores: &Cores, now: Instant) {
        let mut copies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if copies.back().is_some_and(|last| now.saturating_duration_since(last.at) < COPY_EVERY) {
            return;
        }
        copies.push_back(Taken::of(cores, now));
        if copies.len() > COPIES_MAX {
            copies.pop_front();
        }
    }

    /// The windows up to now, and the time since the start. Where the process is younger than a window, it is as old as the process.
    pub(crate) fn windows(&self, cores: &Cores, started: Instant) -> Vec<Window> {
        let now = Taken::of(cores, Instant::now());
        let copies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut windows = Vec::new();
        for (name, length) in WINDOWS {
            let old_enough = |taken: &&Taken| now.at.saturating_duration_since(taken.at) >= length;
            let before = copies.iter().rev().find(old_enough);
            let begun = before.map_or(started, |taken| taken.at);
            let none = [Counts::default(), Counts::default()];
            let earlier = before.map(|taken| &*taken.cores).unwrap_or_default();
            let cores = now.cores.iter().enumerate().map(|(core, [request, upstream])| {
                let [request_then, upstream_then] = earlier.get(core).unwrap_or(&none);
                [request.since(request_then), upstream.since(upstream_then)]
            });
            windows.push(Window::new(name, now.at.saturating_duration_since(begun), cores.collect()));
        }
        let age = now.at.saturating_duration_since(started);
        windows.push(Window::new("since_start", age, now.cores));
        windows
    }
}

impl Taken {
    fn of(cores: &Cores, at: Instant) -> Taken {
        let both = |core: &Core| [core.latency.request.copy(), core.latency.upstream.copy()];
        Taken { at, cores: cores.iter().map(|core| both(core)).collect() }
    }
}

impl Window {
    fn new(name: &'static str, length: Duration, cores: Vec<[Counts; 2]>) -> Window {
        let mut whole = [Counts::default(), Counts::default()];
        for core in &cores {
            whole.iter_mut().zip(core).for_each(|(whole, core)| whole.add(core));
        }
        Window { name, seconds: length.as_secs_f64(), whole, cores }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_without_gaps_and_are_narrow() {
        for bucket in 0..BUCKETS - 1 {
            let (floor, ceiling) = (floor_of(bucket), ceiling_of(bucket));
            assert_eq!(bucket_of(floor), bucket, "{bucket}");
            assert_eq!(bucket_of(ceiling), bucket, "{bucket}");
            assert_eq!(floor_of(bucket + 1), ceiling + 1, "{bucket}");
            assert!((ceiling - floor) * 32 <= floor, "{bucket}: {floor} to {ceiling}");
        }
        assert_eq!(bucket_of(LONGEST_US), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let histogram = Histogram::default();
        for us in 1..=1000 {
            histogram.record(us);
        }
        let summary = histogram.copy().summary();
        assert_eq!((summary.count, summary.max_us, summary.mean_us), (1000, 1000, 500));
        for (told, true_value) in
            [(summary.p50_us, 500), (summary.p90_us, 900), (summary.p99_us, 990), (summary.p999_us, 999)]
        {
            assert!((true_value..=true_value * 33 / 32).contains(&told), "{told} for {true_value}");
        }
        let counts = histogram.copy();
        assert_eq!((counts.at_most(0), counts.at_most(31), counts.at_most(5_000)), (0, 31, 1000));
        assert_eq!(Counts::default().summary(), Summary::default());
    }

    #[test]
    fn a_window_is_what_came_after_its_beginning() {
        let histogram = Histogram::default();
        histogram.record(9_999_999_000_000);
        let before = histogram.copy();
        histogram.record(7);
        let window = histogram.copy().since(&before);
        assert_eq!((window.count(), window.summary().max_us, window.sum_us), (1, 7, 7));
        let mut whole = window.clone();
        whole.add(&before);
        assert_eq!((whole.count(), whole.summary().max_us), (2, LONGEST_US));
    }
}
