//! Prometheus' text format (<https://prometheus.io/docs/instrumenting/exposition_formats/>): families one after the other.
//!
//! Invariant: a family's lines follow its head without another one between.

use std::fmt::{Display, Write};

use crate::access::Times;
use crate::latency::Counts;

/// Upper bounds of a histogram's buckets, in microseconds, and as they are told.
pub(crate) const BOUNDS: [(u64, &str); 16] = [
    (100, "0.0001"),
    (250, "0.00025"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_500, "0.0025"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (25_000, "0.025"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (250_000, "0.25"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_500_000, "2.5"),
    (10_000_000, "10"),
    (60_000_000, "60"),
];

/// A page in the making.
#[derive(Debug, Default)]
pub(crate) struct Page {
    text: String,
}

impl Page {
    /// The finished text.
    pub(crate) fn finish(self) -> String {
        self.text
    }

    /// Begins a family.
    pub(crate) fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One line of it; `labels` as they stand between the braces.
    pub(crate) fn row(&mut self, name: &str, labels: &str, value: impl Display) {
        let _ = writeln!(self.text, "{name}{{{labels}}} {value}");
    }

    /// A family of one line.
    pub(crate) fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        let _ = writeln!(self.text, "{name} {value}");
    }

    /// A histogram without labels.
    pub(crate) fn histogram(&mut self, name: &str, help: &str, counts: &Counts) {
        self.head(name, "histogram", help);
        self.buckets(name, "", counts);
    }

    /// One histogram of a family whose head is written. `labels` ends with a comma where there are any.
    pub(crate) fn buckets(&mut self, name: &str, labels: &str, counts: &Counts) {
        for (us, bound) in BOUNDS {
            self.row(&format!("{name}_bucket"), &format!("{labels}le=\"{bound}\""), counts.at_most(us));
        }
        self.end_of_histogram(name, labels, counts.count(), counts.sum_us);
    }

    /// As [`Page::buckets`], of what was counted by route.
    pub(crate) fn times(&mut self, name: &str, labels: &str, times: &Times) {
        for ((_, bound), count) in BOUNDS.iter().zip(times.buckets_summed()) {
            self.row(&format!("{name}_bucket"), &format!("{labels}le=\"{bound}\""), count);
        }
        self.end_of_histogram(name, labels, times.count, times.sum_us);
    }

    fn end_of_histogram(&mut self, name: &str, labels: &str, count: u64, sum_us: u64) {
        self.row(&format!("{name}_bucket"), &format!("{labels}le=\"+Inf\""), count);
        let labels = match labels.trim_end_matches(',') {
            "" => String::new(),
            labels => format!("{{{labels}}}"),
        };
        let _ = writeln!(self.text, "{name}_sum{labels} {}", seconds(sum_us));
        let _ = writeln!(self.text, "{name}_count{labels} {count}");
    }
}

/// A label's value between its quotes.
pub(crate) fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Microseconds as milliseconds.
#[expect(clippy::cast_precision_loss, reason = "a sum of times is told to 15 digits")]
pub(crate) fn milliseconds(us: u64) -> f64 {
    us as f64 / 1e3
}

/// Microseconds as seconds.
#[expect(clippy::cast_precision_loss, reason = "a sum of times is told to 15 digits")]
pub(crate) fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}
