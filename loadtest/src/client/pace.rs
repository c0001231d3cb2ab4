//! When requests are due. An open loop has a timetable that does not care how the server does; a closed loop sends
//! the next request on a connection when the last one is answered.
//!
//! The timetable is a formula (`start + n / rate`), so that no error adds up and a backlog takes no memory.
//! Requests that could not be sent in time keep their intended time: that is what makes latencies free of
//! coordinated omission.

use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
pub(crate) struct Pace {
    kind: Kind,
    start: Instant,
    stop: Instant,
    taken: u64,
    requests_max: u64,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Closed,
    Open { requests_per_second: f64 },
}

impl Pace {
    /// As fast as the answers come, until `stop` or `requests_max` requests.
    pub(crate) fn closed(start: Instant, stop: Instant, requests_max: u64) -> Self {
        Self { kind: Kind::Closed, start, stop, taken: 0, requests_max }
    }

    /// By the timetable. `requests_per_second` is finite and above zero.
    pub(crate) fn open(start: Instant, stop: Instant, requests_max: u64, requests_per_second: f64) -> Self {
        Self { kind: Kind::Open { requests_per_second }, start, stop, taken: 0, requests_max }
    }

    /// Nothing is due any more from `now` on.
    pub(crate) fn stop(&mut self, now: Instant) {
        self.stop = self.stop.min(now);
    }

    pub(crate) fn is_closed_loop(&self) -> bool {
        matches!(self.kind, Kind::Closed)
    }

    /// Whether a request should go out now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next_at(now).is_some_and(|at| at <= now)
    }

    /// When the next request is (or was) due; `None` when there is none any more.
    pub(crate) fn next_at(&self, now: Instant) -> Option<Instant> {
        if self.taken >= self.requests_max {
            return None;
        }
        let at = match self.kind {
            Kind::Closed => now.max(self.start),
            Kind::Open { requests_per_second } => {
                let offset = Duration::try_from_secs_f64(self.taken as f64 / requests_per_second).ok()?;
                self.start.checked_add(offset)?
            }
        };
        (at < self.stop).then_some(at)
    }

    /// Takes the next request off the timetable; gives the time it was meant for.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Instant> {
        let at = self.next_at(now)?;
        self.taken += 1;
        Some(at)
    }

    /// Takes the next request if its time to be answered has already run out while it waited.
    pub(crate) fn expired(&mut self, now: Instant, timeout: Duration) -> Option<Instant> {
        if self.is_closed_loop() || self.next_at(now)? + timeout > now {
            return None;
        }
        self.take(now)
    }

    /// No request will be due any more.
    pub(crate) fn is_finished(&self, now: Instant) -> bool {
        self.next_at(now).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_timetable_does_not_drift() {
        let start = Instant::now();
        let mut pace = Pace::open(start, start + 1000 * SECOND, u64::MAX, 30_000.0);
        let mut last = start;
        for _ in 0..3_000_000 {
            last = pace.take(start).unwrap();
        }
        let expected = start + Duration::from_secs_f64(2_999_999.0 / 30_000.0);
        let off = last.max(expected) - last.min(expected);
        assert!(off <= Duration::from_nanos(1), "{off:?}");
    }

    #[test]
    fn a_late_request_keeps_its_intended_time() {
        let start = Instant::now();
        let mut pace = Pace::open(start, start + SECOND, u64::MAX, 10.0);
        let late = start + SECOND / 2;
        assert_eq!(pace.take(late), Some(start));
        assert_eq!(pace.take(late), Some(start + SECOND / 10));
        assert!(pace.is_due(late));
    }

    #[test]
    fn an_open_loop_has_rate_times_duration_requests_whenever_they_are_taken() {
        let start = Instant::now();
        let mut pace = Pace::open(start, start + 2 * SECOND, u64::MAX, 50.0);
        let long_after = start + 60 * SECOND;
        let taken = std::iter::from_fn(|| pace.take(long_after)).count();
        assert_eq!(taken, 100);
        assert!(pace.is_finished(long_after));
    }

    #[test]
    fn what_waited_longer_than_the_timeout_expires() {
        let start = Instant::now();
        let mut pace = Pace::open(start, start + 10 * SECOND, u64::MAX, 1.0);
        let now = start + 3 * SECOND;
        let expired: Vec<_> = std::iter::from_fn(|| pace.expired(now, SECOND)).collect();
        assert_eq!(expired, [start, start + SECOND, start + 2 * SECOND]);
        assert_eq!(pace.take(now), Some(now));
    }

    #[test]
    fn a_closed_loop_stops_at_its_count_and_at_its_time() {
        let start = Instant::now();
        let mut counted = Pace::closed(start, start + SECOND, 2);
        assert_eq!(std::iter::from_fn(|| counted.take(start)).count(), 2);
        assert!(counted.is_finished(start));
        let timed = Pace::closed(start, start + SECOND, u64::MAX);
        assert!(!timed.is_finished(start));
        assert!(timed.is_finished(start + SECOND));
    }
}
