//! What changes cost, as a table, JSON and a page. Refuses to say anything when a request failed or a change never came.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::changes::{Applied, Change, STAGES, propagation};
use crate::chart::{Bar, Curve, Group, curve_points, percentiles, ranges};
use crate::client::tally::Tally;
use crate::compare::machine_text;
use crate::compare::summary::Spread;
use crate::page;
use crate::report::{duration_text, quantiles_json};

/// What p99.9 with changes may be to that without.
const GOAL: f64 = 1.10;
/// More than this makes a phase worth a remark.
const FOREIGN_CORES_NOTED: f64 = 0.1;
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
const TAIL: f64 = 0.999;

/// One phase of one round.
#[derive(Debug)]
pub(crate) struct Phase {
    pub(crate) round: usize,
    pub(crate) has_changes: bool,
    pub(crate) tally: Tally,
    /// The serving thread: running, and ready to run while something else had its core.
    pub(crate) serving_cores: f64,
    pub(crate) serving_waiting_cores: f64,
    pub(crate) foreign_cores: f64,
}

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) phases: Vec<Phase>,
    pub(crate) unmeasured: Tally,
    pub(crate) changes: Vec<Change>,
    pub(crate) applied: Vec<Applied>,
    pub(crate) has_priority: bool,
    pub(crate) routes: u32,
    pub(crate) changes_per_second: f64,
    pub(crate) requests_per_second: f64,
    pub(crate) gateway_core: usize,
    pub(crate) other_core: usize,
}

impl Report {
    /// Everything that makes the figures worthless.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for tally in self.phases.iter().map(|phase| &phase.tally).chain([&self.unmeasured]) {
            problems
                .extend(tally.failures.iter().map(|(failure, count)| format!("{count} requests: {failure}")));
        }
        if self.phases.iter().any(|phase| phase.tally.succeeded == 0) {
            problems.push("a phase without a good answer".to_owned());
        }
        let arrived = propagation(&self.changes, &self.applied).len();
        if arrived != self.changes.len() || arrived == 0 {
            problems.push(format!("{arrived} of {} changes arrived", self.changes.len()));
        }
        problems
    }

    /// All rounds of one kind.
    fn pooled(&self, has_changes: bool) -> Tally {
        let mut pooled = Tally::default();
        for phase in self.phases.iter().filter(|phase| phase.has_changes == has_changes) {
            pooled.merge(&phase.tally);
        }
        pooled
    }

    /// p99.9 with changes to that without, of each round.
    fn ratios(&self) -> Vec<f64> {
        let tail = |phase: &Phase| phase.tally.latency_ns.value_at_quantile(TAIL) as f64;
        let with = self.phases.iter().filter(|phase| phase.has_changes);
        let ratio = |phase: &Phase| {
            let other = self.phases.iter().find(|other| other.round == phase.round && !other.has_changes)?;
            Some(tail(phase) / tail(other).max(1.0))
        };
        with.filter_map(ratio).collect()
    }

    fn pooled_ratio(&self) -> f64 {
        let tail = |has_changes| self.pooled(has_changes).latency_ns.value_at_quantile(TAIL) as f64;
        tail(true) / tail(false).max(1.0)
    }

    /// Microseconds as a histogram of nanoseconds.
    fn propagation(&self) -> Histogram<u64> {
        histogram(propagation(&self.changes, &self.applied))
    }

    fn stage(&self, stage: usize) -> Histogram<u64> {
        let first = self.changes.first().map_or(u64::MAX, |change| change.revision);
        let of_changes = self.applied.iter().filter(|applied| applied.revision >= first);
        histogram(of_changes.filter_map(|applied| applied.stages_us.get(stage).copied().flatten()).collect())
    }

    fn versions(&self) -> usize {
        let first = self.changes.first().map_or(u64::MAX, |change| change.revision);
        self.applied.iter().filter(|applied| applied.revision >= first).count()
    }

    fn about(&self) -> Vec<String> {
        vec![
            machine_text(),
            format!(
                "{} routes, {} requests/s (open loop), without changes and with {} transactions/s by SQL",
                self.routes, self.requests_per_second, self.changes_per_second
            ),
            format!(
                "Core {}: the data plane's serving thread alone. Core {}: its other threads, the control plane, PostgreSQL (fsync off), \
                 the committer, clients and backend, all together.",
                self.gateway_core, self.other_core
            ),
        ]
    }

    /// What a reader should know before trusting it, a line each.
    fn notes(&self) -> String {
        let mut text = String::new();
        if !self.has_priority {
            text.push_str(
                "NOTE: clients and backend got no real-time priority (chrt needs CAP_SYS_NICE): what they wait for their core is in the latency.\n",
            );
        }
        let foreign = self.phases.iter().map(|phase| phase.foreign_cores).fold(0.0, f64::max);
        text.push_str(&format!("Foreign load: at most {foreign:.2} cores in any phase.\n"));
        if foreign > FOREIGN_CORES_NOTED {
            text.push_str("NOTE: other programs were busy; trust the tails less.\n");
        }
        let waited = self.phases.iter().map(|phase| phase.serving_waiting_cores).fold(0.0, f64::max);
        text.push_str(&format!(
            "The serving thread waited for its core at most {:.2} % of the time, and used {:.1} % without changes, {:.1} % with.\n",
            waited * 100.0,
            self.serving_percent(false),
            self.serving_percent(true)
        ));
        text.push_str(
            "A change's time begins when its COMMIT is sent and ends when the control plane knows that every core has it.\n",
        );
        text
    }

    fn serving_percent(&self, has_changes: bool) -> f64 {
        let of = self.phases.iter().filter(|phase| phase.has_changes == has_changes);
        Spread::of(of.map(|phase| phase.serving_cores * 100.0).collect()).map_or(0.0, |spread| spread.median)
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!("{}\n\n", self.about().join("\n"));
        let heads: String = QUANTILES.iter().map(|(name, _)| format!("{name:>11}")).collect();
        text.push_str(&format!("{:<18}{:>10}{heads}{:>11}\n", "requests", "count", "max"));
        for (name, has_changes) in [("without changes", false), ("with changes", true)] {
            text.push_str(&row(name, &self.pooled(has_changes).latency_ns));
        }
        let ratios = Spread::of(self.ratios()).unwrap_or(Spread { median: 0.0, min: 0.0, max: 0.0 });
        text.push_str(&format!(
            "p99.9 with / without: {:.3} of all rounds together; of single rounds {:.3} (median), {:.3} - {:.3}; goal {GOAL:.2}\n\n",
            self.pooled_ratio(),
            ratios.median,
            ratios.min,
            ratios.max
        ));
        text.push_str(&format!("{:<18}{:>10}{heads}{:>11}\n", "changes", "count", "max"));
        text.push_str(&row("COMMIT, last core", &self.propagation()));
        text.push_str(&row("  of it COMMIT", &self.commits()));
        text.push_str(&format!("in {} versions; the stages of one:\n", self.versions()));
        for (stage, (name, meaning)) in STAGES.iter().enumerate() {
            let histogram = self.stage(stage);
            text.push_str(&format!(
                "  {name:<24}{:>11}{:>11}   {meaning}\n",
                duration_text(histogram.value_at_quantile(0.5)),
                duration_text(histogram.value_at_quantile(0.99)),
            ));
        }
        text + "\n" + &self.notes()
    }

    fn commits(&self) -> Histogram<u64> {
        histogram(self.changes.iter().map(|change| change.commit_us).collect())
    }

    pub(crate) fn json(&self) -> Value {
        let stages: serde_json::Map<String, Value> = STAGES
            .iter()
            .enumerate()
            .map(|(stage, (name, _))| {
                (format!("{}ns", name.trim_end_matches("us")), quantiles_json(&self.stage(stage)))
            })
            .collect();
        let phases = self.phases.iter().map(|phase| {
            json!({
                "round": phase.round,
                "changes": phase.has_changes,
                "latency_ns": quantiles_json(&phase.tally.latency_ns),
                "send_delay_ns": quantiles_json(&phase.tally.send_delay_ns),
                "serving_cores": phase.serving_cores,
                "serving_waiting_cores": phase.serving_waiting_cores,
                "foreign_cores": phase.foreign_cores,
            })
        });
        json!({
            "about": self.about(),
            "routes": self.routes,
            "requests_per_second": self.requests_per_second,
            "changes_per_second": self.changes_per_second,
            "has_priority": self.has_priority,
            "p999_ratio": self.pooled_ratio(),
            "p999_ratio_of_rounds": self.ratios(),
            "without_ns": quantiles_json(&self.pooled(false).latency_ns),
            "with_ns": quantiles_json(&self.pooled(true).latency_ns),
            "changes": self.changes.len(),
            "versions": self.versions(),
            "commit_to_last_core_ns": quantiles_json(&self.propagation()),
            "commit_ns": quantiles_json(&self.commits()),
            "stages": stages,
            "phases": phases.collect::<Vec<_>>(),
        })
    }

    pub(crate) fn html(&self) -> String {
        let (without, with) = (self.pooled(false).latency_ns, self.pooled(true).latency_ns);
        let curve = |name: &str, colour, histogram: &Histogram<u64>| Curve {
            name: name.to_owned(),
            colour,
            points: curve_points(histogram),
        };
        let latency =
            percentiles(&[curve("without changes", 0, &without), curve("with changes", 2, &with)], "latency");
        let heads = ["", "count", "p50", "p90", "p99", "p99.9", "max"];
        let requests = [cells("without changes", &without), cells("with changes", &with)];
        let mut parts = page::section(
            "Requests",
            "Latency from the time at which each request was due, all rounds together.",
            &format!("<figure>{latency}</figure>{}", page::table(&heads, &requests)),
        );
        let bar =
            Bar { name: "rounds".into(), colour: 2, median: self.pooled_ratio(), points: self.ratios() };
        let group =
            Group { title: "p99.9 with changes to p99.9 without".into(), goal: Some(GOAL), bars: vec![bar] };
        parts.push_str(&page::section(
            "What changes cost",
            "Each point is one round; the stroke and the number are all rounds together; the red stroke is the goal.",
            &format!("<figure>{}</figure>", ranges(&[group], "ratio", Some(1.0), 3)),
        ));
        let (whole, commit) = (self.propagation(), self.commits());
        let curves = [
            curve("from COMMIT to the last core", 0, &whole),
            curve("of it PostgreSQL's COMMIT", 1, &commit),
        ];
        let mut rows = vec![cells("COMMIT to the last core", &whole), cells("of it COMMIT", &commit)];
        rows.extend(STAGES.iter().enumerate().map(|(stage, (name, _))| cells(name, &self.stage(stage))));
        parts.push_str(&page::section(
            "Changes",
            &format!("{} changes in {} versions.", self.changes.len(), self.versions()),
            &format!("<figure>{}</figure>{}", percentiles(&curves, "time"), page::table(&heads, &rows)),
        ));
        let meanings: String = STAGES.iter().map(|(name, meaning)| format!("{name}: {meaning}\n")).collect();
        parts.push_str(&page::section(
            "How far to trust it",
            "",
            &page::remarks(&(self.notes() + &meanings)),
        ));
        page::document("Ringway under constant change", None, &self.about(), &parts)
    }
}

fn row(name: &str, histogram: &Histogram<u64>) -> String {
    let values = QUANTILES.iter().map(|(_, quantile)| histogram.value_at_quantile(*quantile));
    let values: String =
        values.chain([histogram.max()]).map(|ns| format!("{:>11}", duration_text(ns))).collect();
    format!("{name:<18}{:>10}{values}\n", histogram.len())
}

fn cells(name: &str, histogram: &Histogram<u64>) -> Vec<String> {
    let values = QUANTILES.iter().map(|(_, quantile)| histogram.value_at_quantile(*quantile));
    let values = values.chain([histogram.max()]).map(duration_text);
    [name.to_owned(), histogram.len().to_string()].into_iter().chain(values).collect()
}

fn histogram(microseconds: Vec<u64>) -> Histogram<u64> {
    let mut tally = Tally::default();
    for us in microseconds {
        tally.succeed(std::time::Duration::from_micros(us), 0);
    }
    tally.latency_ns
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::client::tally::Failure;

    fn phase(round: usize, has_changes: bool, tail_ms: u64) -> Phase {
        let mut tally = Tally::default();
        for _ in 0..990 {
            tally.succeed(Duration::from_millis(1), 128);
        }
        for _ in 0..10 {
            tally.succeed(Duration::from_millis(tail_ms), 128);
        }
        Phase {
            round,
            has_changes,
            tally,
            serving_cores: 0.1,
            serving_waiting_cores: 0.001,
            foreign_cores: 0.2,
        }
    }

    fn report() -> Report {
        Report {
            phases: vec![phase(0, false, 10), phase(0, true, 12), phase(1, true, 11), phase(1, false, 10)],
            unmeasured: Tally::default(),
            changes: vec![Change { revision: 5, sent_us: 1_000, commit_us: 300 }],
            applied: vec![Applied { revision: 5, at_us: 7_000, stages_us: [Some(1_000); STAGES.len()] }],
            has_priority: false,
            routes: 100_000,
            changes_per_second: 100.0,
            requests_per_second: 2_000.0,
            gateway_core: 0,
            other_core: 1,
        }
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_of_all_together() {
        let ratios = report().ratios();
        assert!((ratios[0] - 1.2).abs() < 0.01 && (ratios[1] - 1.1).abs() < 0.01, "{ratios:?}");
        assert!((report().pooled_ratio() - 1.2).abs() < 0.01);
        assert!(report().problems().is_empty());
        let json = report().json();
        assert!(
            (json["commit_to_last_core_ns"]["p50"].as_f64().unwrap() / 6e6 - 1.0).abs() < 0.001,
            "{json:#}"
        );
        assert_eq!(json["stages"]["load_ns"]["count"], 1);
    }

    #[test]
    fn a_failed_request_or_a_lost_change_is_told_instead_of_a_table() {
        let mut failed = report();
        failed.phases[1].tally.fail(Failure::Status(502), Duration::ZERO);
        assert_eq!(failed.problems(), ["1 requests: status_502"]);
        let mut lost = report();
        lost.changes.push(Change { revision: 6, sent_us: 1, commit_us: 1 });
        assert_eq!(lost.problems(), ["1 of 2 changes arrived"]);
    }

    #[test]
    fn table_and_page_say_what_shares_a_core_and_what_to_doubt() {
        for text in [report().table(), report().html()] {
            for wanted in [
                "PostgreSQL (fsync off)",
                "no real-time priority",
                "other programs were busy",
                "6.00 ms",
                "compiled_us",
            ] {
                assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
            }
        }
    }
}
