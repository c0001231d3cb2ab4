//! What changes cost, as a table, JSON and a page. Refuses to say anything when a request failed or a change never came.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::changes::{Applied, Changes, STAGES, propagation};
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

/// One kind of phases beside another.
type Compared = (Arm, Arm);
const WHOLE: Compared = (Arm::With, Arm::Without);
/// The whole's two parts.
const MACHINE: Compared = (Arm::Unheard, Arm::Without);
const OURS: Compared = (Arm::With, Arm::Unheard);

/// What a phase is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arm {
    Without,
    /// The same transactions, while the control plane stands still.
    Unheard,
    With,
}

impl Arm {
    pub(crate) const ALL: [Arm; 3] = [Arm::Without, Arm::Unheard, Arm::With];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Arm::Without => "without changes",
            Arm::Unheard => "SQL alone",
            Arm::With => "with changes",
        }
    }
}

/// One phase of one round.
#[derive(Debug)]
pub(crate) struct Phase {
    pub(crate) round: usize,
    pub(crate) arm: Arm,
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
    pub(crate) changes: Changes,
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
        let changes = &self.changes.heard;
        let arrived = propagation(changes, &self.applied).len();
        if arrived != changes.len() || arrived == 0 {
            problems.push(format!("{arrived} of {} changes arrived", changes.len()));
        }
        problems
    }

    /// All rounds of one kind.
    fn pooled(&self, arm: Arm) -> Tally {
        let mut pooled = Tally::default();
        for phase in self.phases.iter().filter(|phase| phase.arm == arm) {
            pooled.merge(&phase.tally);
        }
        pooled
    }

    /// p99.9 of one kind to that of another, of each round.
    fn ratios(&self, (arm, to): Compared) -> Vec<f64> {
        let tail = |phase: &Phase| phase.tally.latency_ns.value_at_quantile(TAIL) as f64;
        let of = self.phases.iter().filter(|phase| phase.arm == arm);
        let ratio = |phase: &Phase| {
            let other = self.phases.iter().find(|other| other.round == phase.round && other.arm == to)?;
            Some(tail(phase) / tail(other).max(1.0))
        };
        of.filter_map(ratio).collect()
    }

    fn pooled_ratio(&self, (arm, to): Compared) -> f64 {
        let tail = |arm| self.pooled(arm).latency_ns.value_at_quantile(TAIL) as f64;
        tail(arm) / tail(to).max(1.0)
    }

    /// Microseconds as a histogram of nanoseconds.
    fn propagation(&self) -> Histogram<u64> {
        histogram(propagation(&self.changes.heard, &self.applied))
    }

    fn stage(&self, stage: usize) -> Histogram<u64> {
        histogram(
            self.versions().filter_map(|applied| applied.stages_us.get(stage).copied().flatten()).collect(),
        )
    }

    fn versions(&self) -> impl Iterator<Item = &Applied> {
        self.applied.iter().filter(|applied| self.changes.is_of_heard(applied))
    }

    fn about(&self) -> Vec<String> {
        vec![
            machine_text(),
            format!(
                "{} routes, {} requests/s (open loop), without changes and with {} transactions/s by SQL, which the control plane hears or not",
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
            self.serving_percent(Arm::Without),
            self.serving_percent(Arm::With)
        ));
        text.push_str(
            "A change's time begins when its COMMIT is sent and ends when the control plane knows that every core has it.\n",
        );
        text
    }

    fn serving_percent(&self, arm: Arm) -> f64 {
        let of = self.phases.iter().filter(|phase| phase.arm == arm);
        Spread::of(of.map(|phase| phase.serving_cores * 100.0).collect()).map_or(0.0, |spread| spread.median)
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!("{}\n\n", self.about().join("\n"));
        let heads: String = QUANTILES.iter().map(|(name, _)| format!("{name:>11}")).collect();
        text.push_str(&format!("{:<18}{:>10}{heads}{:>11}\n", "requests", "count", "max"));
        for arm in Arm::ALL {
            text.push_str(&row(arm.name(), &self.pooled(arm).latency_ns));
        }
        let goal = format!("; goal {GOAL:.2}");
        for (name, compared, goal) in [
            ("with / without", WHOLE, goal.as_str()),
            ("  SQL alone / without", MACHINE, ""),
            ("  with / SQL alone", OURS, ""),
        ] {
            let ratios =
                Spread::of(self.ratios(compared)).unwrap_or(Spread { median: 0.0, min: 0.0, max: 0.0 });
            text.push_str(&format!(
                "p99.9 {name}: {:.3} of all rounds together; of single rounds {:.3} (median), {:.3} - {:.3}{goal}\n",
                self.pooled_ratio(compared),
                ratios.median,
                ratios.min,
                ratios.max
            ));
        }
        text.push('\n');
        text.push_str(&format!("{:<18}{:>10}{heads}{:>11}\n", "changes", "count", "max"));
        text.push_str(&row("COMMIT, last core", &self.propagation()));
        text.push_str(&row("  of it COMMIT", &self.commits()));
        text.push_str(&format!("in {} versions; the stages of one:\n", self.versions().count()));
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
        histogram(self.changes.heard.iter().map(|change| change.commit_us).collect())
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
                "changes": phase.arm == Arm::With,
                "unheard": phase.arm == Arm::Unheard,
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
            "p999_ratio": self.pooled_ratio(WHOLE),
            "p999_ratio_of_rounds": self.ratios(WHOLE),
            "p999_ratio_of_sql_alone": self.pooled_ratio(MACHINE),
            "p999_ratio_to_sql_alone": self.pooled_ratio(OURS),
            "without_ns": quantiles_json(&self.pooled(Arm::Without).latency_ns),
            "unheard_ns": quantiles_json(&self.pooled(Arm::Unheard).latency_ns),
            "with_ns": quantiles_json(&self.pooled(Arm::With).latency_ns),
            "changes": self.changes.heard.len(),
            "versions": self.versions().count(),
            "commit_to_last_core_ns": quantiles_json(&self.propagation()),
            "commit_ns": quantiles_json(&self.commits()),
            "stages": stages,
            "phases": phases.collect::<Vec<_>>(),
        })
    }

    pub(crate) fn html(&self) -> String {
        let pooled: Vec<_> = Arm::ALL.iter().map(|arm| (arm.name(), self.pooled(*arm).latency_ns)).collect();
        let curve = |name: &str, colour, histogram: &Histogram<u64>| Curve {
            name: name.to_owned(),
            colour,
            points: curve_points(histogram),
        };
        let curves: Vec<Curve> =
            pooled.iter().zip(0..).map(|((name, latency), colour)| curve(name, colour, latency)).collect();
        let latency = percentiles(&curves, "latency");
        let heads = ["", "count", "p50", "p90", "p99", "p99.9", "max"];
        let requests: Vec<_> = pooled.iter().map(|(name, latency)| cells(name, latency)).collect();
        let mut parts = page::section(
            "Requests",
            "Latency from the time at which each request was due, all rounds together.",
            &format!("<figure>{latency}</figure>{}", page::table(&heads, &requests)),
        );
        let group = |title: &str, compared, goal| {
            let (median, points) = (self.pooled_ratio(compared), self.ratios(compared));
            Group {
                title: title.into(),
                goal,
                bars: vec![Bar { name: "rounds".into(), colour: 2, median, points }],
            }
        };
        let groups = [
            group("p99.9 with changes to p99.9 without", WHOLE, Some(GOAL)),
            group("of it: SQL that nobody hears to none", MACHINE, None),
            group("of it: heard to not heard", OURS, None),
        ];
        parts.push_str(&page::section(
            "What changes cost",
            "Each point is one round; the stroke and the number are all rounds together; the red stroke is the goal.",
            &format!("<figure>{}</figure>", ranges(&groups, "ratio", Some(1.0), 3)),
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
            &format!("{} changes in {} versions.", self.changes.heard.len(), self.versions().count()),
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

    use super::super::changes::Change;
    use super::*;
    use crate::client::tally::Failure;

    fn phase(round: usize, arm: Arm, tail_ms: u64) -> Phase {
        let mut tally = Tally::default();
        for _ in 0..990 {
            tally.succeed(Duration::from_millis(1), 128);
        }
        for _ in 0..10 {
            tally.succeed(Duration::from_millis(tail_ms), 128);
        }
        Phase { round, arm, tally, serving_cores: 0.1, serving_waiting_cores: 0.001, foreign_cores: 0.2 }
    }

    fn report() -> Report {
        Report {
            phases: vec![
                phase(0, Arm::Without, 100),
                phase(0, Arm::With, 120),
                phase(0, Arm::Unheard, 110),
                phase(1, Arm::Unheard, 100),
                phase(1, Arm::With, 110),
                phase(1, Arm::Without, 100),
            ],
            unmeasured: Tally::default(),
            changes: Changes {
                heard: vec![Change { revision: 5, sent_us: 1_000, commit_us: 300 }],
                unheard: vec![Change { revision: 6, sent_us: 8_000, commit_us: 300 }],
            },
            applied: [5, 6]
                .map(|revision| Applied { revision, at_us: 7_000, stages_us: [Some(1_000); STAGES.len()] })
                .into(),
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
        for (compared, wanted, pooled) in [
            (WHOLE, [1.2, 1.1], 1.2),
            (MACHINE, [1.1, 1.0], 1.1),
            (OURS, [120.0 / 110.0, 1.1], 120.0 / 110.0),
        ] {
            let ratios = report().ratios(compared);
            let near = ratios.iter().zip(wanted).all(|(ratio, wanted)| (ratio / wanted - 1.0).abs() < 0.01);
            assert!(near && ratios.len() == 2, "{ratios:?}");
            assert!((report().pooled_ratio(compared) / pooled - 1.0).abs() < 0.01);
        }
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
        lost.changes.heard.push(Change { revision: 7, sent_us: 1, commit_us: 1 });
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
