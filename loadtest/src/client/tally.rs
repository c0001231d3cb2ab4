//! What a run counted: latencies of good answers in an HDR histogram, and every failure by its kind.
//!
//! Latencies of failures are left out of the percentiles on purpose: a server that refuses fast would look quick.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Values above are recorded as this; no test waits longer for one answer.
const LATENCY_NS_MAX: u64 = 600_000_000_000;
/// Three significant digits: percentiles within 0.1 %.
const DIGITS: u8 = 3;

/// Why a request was not answered as it should have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    /// The connection could not be made.
    Connect,
    Reset,
    /// Closed without a byte of an answer.
    Closed,
    /// Sent, and not answered in time.
    Timeout,
    /// Not even sent in time: all connections were busy.
    QueueTimeout,
    /// Closed in the middle of the answer's body.
    ShortBody,
    /// A complete answer of another size than expected.
    WrongSize,
    Malformed,
    /// Bytes that belong to no request.
    Stray,
    Io,
    /// An answer outside 200..=299.
    Status(u16),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect => f.write_str("connect"),
            Self::Reset => f.write_str("reset"),
            Self::Closed => f.write_str("closed"),
            Self::Timeout => f.write_str("timeout"),
            Self::QueueTimeout => f.write_str("queue_timeout"),
            Self::ShortBody => f.write_str("short_body"),
            Self::WrongSize => f.write_str("wrong_size"),
            Self::Malformed => f.write_str("malformed"),
            Self::Stray => f.write_str("stray"),
            Self::Io => f.write_str("io"),
            Self::Status(status) => write!(f, "status_{status}"),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Tally {
    /// From the intended time to the last byte of a good answer, in nanoseconds.
    pub(crate) latency_ns: Histogram<u64>,
    /// From the intended time to sending: what the generator or a lack of free connections added.
    pub(crate) send_delay_ns: Histogram<u64>,
    pub(crate) failures: BTreeMap<Failure, u64>,
    /// The longest that a failed request had waited.
    pub(crate) failed_ns_max: u64,
    pub(crate) succeeded: u64,
    pub(crate) body_bytes: u64,
    pub(crate) opened: u64,
    /// Connections that the server closed between two requests: allowed, but worth knowing.
    pub(crate) closed_idle: u64,
    /// Connections that the server was asked to close after the answer, and did not.
    pub(crate) not_closed: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            latency_ns: histogram(),
            send_delay_ns: histogram(),
            failures: BTreeMap::new(),
            failed_ns_max: 0,
            succeeded: 0,
            body_bytes: 0,
            opened: 0,
            closed_idle: 0,
            not_closed: 0,
        }
    }
}

impl Tally {
    pub(crate) fn started(&mut self, send_delay: Duration) {
        self.send_delay_ns.saturating_record(nanoseconds(send_delay));
    }

    pub(crate) fn succeed(&mut self, latency: Duration, body_bytes: u64) {
        self.succeeded += 1;
        self.body_bytes = self.body_bytes.saturating_add(body_bytes);
        self.latency_ns.saturating_record(nanoseconds(latency));
    }

    pub(crate) fn fail(&mut self, failure: Failure, waited: Duration) {
        *self.failures.entry(failure).or_default() += 1;
        self.failed_ns_max = self.failed_ns_max.max(nanoseconds(waited));
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Adds what another thread counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        // Both have the same bounds, so adding cannot fail.
        let _ = self.latency_ns.add(&other.latency_ns);
        let _ = self.send_delay_ns.add(&other.send_delay_ns);
        for (failure, count) in &other.failures {
            *self.failures.entry(*failure).or_default() += count;
        }
        self.failed_ns_max = self.failed_ns_max.max(other.failed_ns_max);
        self.succeeded += other.succeeded;
        self.body_bytes = self.body_bytes.saturating_add(other.body_bytes);
        self.opened += other.opened;
        self.closed_idle += other.closed_idle;
        self.not_closed += other.not_closed;
    }
}

fn histogram() -> Histogram<u64> {
    // Only bounds that make no sense are refused, and these are constants; the fallback keeps this total.
    #[allow(clippy::expect_used)]
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, DIGITS).expect("constant bounds are valid")
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_adds_everything() {
        let mut first = Tally::default();
        let mut second = Tally::default();
        for ms in 1..=50 {
            first.succeed(Duration::from_millis(ms), 10);
            second.succeed(Duration::from_millis(ms + 50), 10);
        }
        second.fail(Failure::Status(502), Duration::from_secs(1));
        first.fail(Failure::Status(502), Duration::from_secs(2));
        first.fail(Failure::Reset, Duration::ZERO);
        first.merge(&second);
        assert_eq!(first.succeeded, 100);
        assert_eq!(first.body_bytes, 1000);
        assert_eq!(first.failed(), 3);
        assert_eq!(first.failures.get(&Failure::Status(502)), Some(&2));
        assert_eq!(first.failed_ns_max, 2_000_000_000);
        assert_eq!(first.latency_ns.len(), 100);
        let median = first.latency_ns.value_at_quantile(0.5) as f64;
        assert!((median / 50e6 - 1.0).abs() < 0.001, "{median}");
    }

    #[test]
    fn failures_are_left_out_of_the_percentiles() {
        let mut tally = Tally::default();
        tally.succeed(Duration::from_millis(10), 0);
        tally.fail(Failure::Status(503), Duration::from_micros(1));
        assert_eq!(tally.latency_ns.len(), 1);
        assert!(tally.latency_ns.min() > 9_000_000);
    }
}
