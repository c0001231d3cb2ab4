//! A run's tally as a table and a page for people and as JSON for programs.
//!
//! Durations in JSON are integers in nanoseconds with the unit in the name, so that nobody has to guess.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::chart::{Curve, curve_points, percentiles};
use crate::client::tally::Tally;
use crate::page;

/// The quantiles that are reported, by name.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// The result of one run.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) tally: &'a Tally,
    pub(crate) elapsed: Duration,
    pub(crate) requests_per_second_intended: Option<f64>,
    pub(crate) connections: usize,
    pub(crate) threads: usize,
}

impl Report<'_> {
    pub(crate) fn json(&self) -> Value {
        let tally = self.tally;
        let failures: serde_json::Map<String, Value> =
            tally.failures.iter().map(|(failure, count)| (failure.to_string(), json!(count))).collect();
        json!({
            "requests": tally.succeeded + tally.failed(),
            "succeeded": tally.succeeded,
            "failed": tally.failed(),
            "failures": failures,
            "failed_ns_max": tally.failed_ns_max,
            "elapsed_ns": u64::try_from(self.elapsed.as_nanos()).unwrap_or(u64::MAX),
            "requests_per_second": self.requests_per_second(),
            "requests_per_second_intended": self.requests_per_second_intended,
            "body_bytes": tally.body_bytes,
            "connections": self.connections,
            "threads": self.threads,
            "connections_opened": tally.opened,
            "connections_closed_idle": tally.closed_idle,
            "connections_not_closed": tally.not_closed,
            "latency_ns": quantiles_json(&tally.latency_ns),
            "send_delay_ns": quantiles_json(&tally.send_delay_ns),
        })
    }

    pub(crate) fn table(&self) -> String {
        let tally = self.tally;
        let mut text = String::new();
        let mut line = |name: &str, value: String| text.push_str(&format!("{name:<14}{value}\n"));
        let loop_kind = match self.requests_per_second_intended {
            Some(rate) => format!("open loop, {rate} requests/s intended"),
            None => "closed loop".to_owned(),
        };
        line("load", format!("{loop_kind}, {} connections, {} threads", self.connections, self.threads));
        line(
            "answered",
            format!(
                "{} good, {} failed in {:.2} s: {:.0} good answers/s, {:.1} MB/s of bodies",
                tally.succeeded,
                tally.failed(),
                self.elapsed.as_secs_f64(),
                self.requests_per_second(),
                tally.body_bytes as f64 / 1e6 / self.elapsed.as_secs_f64().max(1e-9),
            ),
        );
        line(
            "connections",
            format!("{} opened, {} closed by the peer while idle", tally.opened, tally.closed_idle),
        );
        if tally.not_closed > 0 {
            line("", format!("{} not closed by the peer although it was asked to", tally.not_closed));
        }
        let heads: String = QUANTILES.iter().map(|(name, _)| format!("{name:>11}")).collect();
        line("", format!("{heads}{:>11}", "max"));
        line("latency", quantiles_row(&tally.latency_ns));
        line("send delay", quantiles_row(&tally.send_delay_ns));
        for (failure, count) in &tally.failures {
            line("failed", format!("{count} {failure}"));
        }
        text
    }

    /// The same as a page: latency and send delay by percentile, and what stands in the table.
    pub(crate) fn html(&self, title: &str) -> String {
        let (latency, delay) = (&self.tally.latency_ns, &self.tally.send_delay_ns);
        let curves = [("latency", 0, latency), ("send delay", 2, delay)].map(|(name, colour, histogram)| {
            Curve { name: name.to_owned(), colour, points: curve_points(histogram) }
        });
        let heads: Vec<&str> =
            [""].into_iter().chain(QUANTILES.map(|(name, _)| name)).chain(["max"]).collect();
        let rows = [("latency", latency), ("send delay", delay)].map(|(name, histogram)| {
            let values = QUANTILES.iter().map(|(_, quantile)| histogram.value_at_quantile(*quantile));
            let values = values.chain([histogram.max()]).map(duration_text);
            [name.to_owned()].into_iter().chain(values).collect::<Vec<_>>()
        });
        let plot = format!("<figure>{}</figure>{}", percentiles(&curves, "time"), page::table(&heads, &rows));
        let is_good = self.tally.failed() == 0 && self.tally.succeeded > 0;
        let words = if is_good { "Every answer was good" } else { "Not every answer was good" };
        // What the plot shows is not repeated.
        let figures: Vec<String> = self.table().lines().take(3).map(str::to_owned).collect();
        let failures: String = self
            .tally
            .failures
            .iter()
            .map(|(failure, count)| format!("failed: {count} {failure}\n"))
            .collect();
        let parts = page::section(
            "By percentile",
            "Latency counts from the time at which a request was due; the send delay is the part of it before sending.",
            &plot,
        ) + &page::remarks(&failures);
        page::document(title, Some((is_good, words)), &figures, &parts)
    }

    fn requests_per_second(&self) -> f64 {
        self.tally.succeeded as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

pub(crate) fn quantiles_json(histogram: &Histogram<u64>) -> Value {
    let mut map: serde_json::Map<String, Value> = QUANTILES
        .iter()
        .map(|(name, quantile)| ((*name).to_owned(), json!(histogram.value_at_quantile(*quantile))))
        .collect();
    map.insert("max".to_owned(), json!(histogram.max()));
    map.insert("mean".to_owned(), json!(histogram.mean()));
    map.insert("count".to_owned(), json!(histogram.len()));
    Value::Object(map)
}

fn quantiles_row(histogram: &Histogram<u64>) -> String {
    if histogram.is_empty() {
        return format!("{:>11}", "none");
    }
    let cells = QUANTILES.iter().map(|(_, quantile)| histogram.value_at_quantile(*quantile));
    cells.chain([histogram.max()]).map(|ns| format!("{:>11}", duration_text(ns))).collect()
}

/// Three significant digits and the unit that keeps them readable.
pub(crate) fn duration_text(ns: u64) -> String {
    let (value, unit) = match ns {
        0..1_000 => return format!("{ns} ns"),
        1_000..1_000_000 => (ns as f64 / 1e3, "µs"),
        1_000_000..1_000_000_000 => (ns as f64 / 1e6, "ms"),
        _ => (ns as f64 / 1e9, "s"),
    };
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tally::Failure;

    fn tally() -> Tally {
        let mut tally = Tally::default();
        for micros in 1..=10_000 {
            tally.started(Duration::ZERO);
            tally.succeed(Duration::from_micros(micros), 1);
        }
        tally.fail(Failure::Status(502), Duration::from_millis(3));
        tally.fail(Failure::Connect, Duration::from_millis(3));
        tally
    }

    fn report(tally: &Tally) -> Report<'_> {
        Report {
            tally,
            elapsed: Duration::from_secs(2),
            requests_per_second_intended: Some(5000.0),
            connections: 8,
            threads: 2,
        }
    }

    #[test]
    fn percentiles_are_within_a_thousandth() {
        let json = report(&tally()).json();
        for (name, micros) in
            [("p50", 5000.0), ("p90", 9000.0), ("p99", 9900.0), ("p99.9", 9990.0), ("max", 10_000.0)]
        {
            let got = json["latency_ns"][name].as_u64().unwrap() as f64 / 1e3;
            assert!((got / micros - 1.0).abs() < 0.001, "{name}: {got} instead of {micros}");
        }
    }

    #[test]
    fn everything_counted_is_reported() {
        let tally = tally();
        let json = report(&tally).json();
        assert_eq!(json["requests"], 10_002);
        assert_eq!(json["failed"], 2);
        assert_eq!(json["failures"]["status_502"], 1);
        assert_eq!(json["failures"]["connect"], 1);
        assert_eq!(json["requests_per_second"], 5000.0);
        let table = report(&tally).table();
        for expected in ["10000 good, 2 failed", "1 status_502", "1 connect", "p99.9", "open loop, 5000"] {
            assert!(table.contains(expected), "{expected:?} is not in\n{table}");
        }
    }

    #[test]
    fn the_page_shows_the_curves_and_what_failed() {
        let page = report(&tally()).html("Load on <x>");
        for wanted in [
            "Load on &lt;x&gt;",
            "Not every answer",
            "10000 good, 2 failed",
            "failed: 1 status_502",
            "9.90 ms",
            "<path",
        ] {
            assert!(page.contains(wanted), "{wanted:?} is not in\n{page}");
        }
    }

    #[test]
    fn durations_keep_three_digits() {
        for (ns, text) in [
            (999, "999 ns"),
            (1_234, "1.23 µs"),
            (45_678, "45.7 µs"),
            (678_900_000, "679 ms"),
            (1_500_000_000, "1.50 s"),
        ] {
            assert_eq!(duration_text(ns), text);
        }
    }
}
