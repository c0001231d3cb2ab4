//! The score by category, and each failure with what was sent, allowed and seen.

use std::time::Duration;

use serde_json::{Value, json};

use super::CutRuns;
use super::case::{Act, Case, Step};
use super::lane::Run;
use super::message::show;

/// Failures of cut runs that are shown; one fault shows itself at many positions.
const CUT_FINDINGS_SHOWN: usize = 20;

#[derive(Debug)]
pub(crate) struct Report {
    name: String,
    /// Category, rows that passed, rows.
    scores: Vec<(&'static str, usize, usize)>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) cuts: Option<CutRuns>,
    pub(crate) took: Duration,
}

/// A row that failed.
#[derive(Debug)]
pub(crate) struct Finding {
    row: String,
    source: &'static str,
    sent: Vec<String>,
    /// What is wrong with each allowed outcome.
    faults: Vec<String>,
    seen: Vec<String>,
}

impl Finding {
    pub(crate) fn of(case: &Case, run: &Run) -> Finding {
        let mut sent: Vec<String> = case.steps.iter().map(step).collect();
        for (place, answer) in case.answers.iter().enumerate() {
            let acts: Vec<String> = answer.acts.iter().map(act).collect();
            sent.push(format!("origin's answer {}, {:?}: {}", place + 1, answer.when, acts.join(", ")));
        }
        Finding {
            row: format!("{}/{}", case.category, case.name),
            source: case.source,
            sent,
            faults: run.verdict.clone().err().unwrap_or_default(),
            seen: run.seen.clone(),
        }
    }

    fn print(&self) {
        println!("\nFAILED {} ({})", self.row, self.source);
        for line in &self.sent {
            println!("  sent      {line}");
        }
        for fault in &self.faults {
            println!("  wrong     {fault}");
        }
        for line in &self.seen {
            println!("  seen      {line}");
        }
    }

    fn json(&self) -> Value {
        json!({
            "row": self.row,
            "source": self.source,
            "sent": self.sent,
            "wrong": self.faults,
            "seen": self.seen,
        })
    }
}

fn step(step: &Step) -> String {
    match step {
        Step::Send(bytes) => format!("client: {}", show(bytes)),
        other => format!("client: {other:?}"),
    }
}

fn act(act: &Act) -> String {
    match act {
        Act::Send(bytes) => show(bytes),
        other => format!("{other:?}"),
    }
}

impl Report {
    pub(crate) fn new(name: String) -> Report {
        Report { name, scores: Vec::new(), findings: Vec::new(), cuts: None, took: Duration::ZERO }
    }

    pub(crate) fn count(&mut self, category: &'static str, passed: bool) {
        let at = self.scores.iter().position(|(name, ..)| *name == category).unwrap_or_else(|| {
            self.scores.push((category, 0, 0));
            self.scores.len() - 1
        });
        if let Some((_, good, all)) = self.scores.get_mut(at) {
            *good += usize::from(passed);
            *all += 1;
        }
    }

    pub(crate) fn is_good(&self) -> bool {
        self.findings.is_empty() && self.cuts.as_ref().is_none_or(|cuts| cuts.findings.is_empty())
    }

    fn totals(&self) -> (usize, usize) {
        self.scores.iter().fold((0, 0), |(good, all), (_, more_good, more)| (good + more_good, all + more))
    }

    pub(crate) fn print(&self) {
        for finding in &self.findings {
            finding.print();
        }
        if let Some(cuts) = &self.cuts {
            for finding in cuts.findings.iter().take(CUT_FINDINGS_SHOWN) {
                finding.print();
            }
        }
        println!("\n{}\n", self.name);
        for (category, good, all) in &self.scores {
            let mark = if good == all { "" } else { "  <--" };
            println!("  {category:<20} {good:>4} of {all:>4}{mark}");
        }
        let (good, all) = self.totals();
        let percent = good as f64 * 100.0 / all.max(1) as f64;
        println!("  {:<20} {good:>4} of {all:>4}  {percent:.1} %", "all");
        if let Some(CutRuns { planned, done, findings }) = &self.cuts {
            println!(
                "  {:<20} {:>4} of {done:>4}  ({planned} planned)",
                "cut runs",
                done - findings.len().min(*done)
            );
        }
        println!("  in {:.1} s", self.took.as_secs_f64());
    }

    pub(crate) fn print_json(&self) {
        let (good, all) = self.totals();
        let categories: serde_json::Map<String, Value> = self
            .scores
            .iter()
            .map(|(name, good, all)| ((*name).to_owned(), json!({"passed": good, "rows": all})))
            .collect();
        let cuts = self.cuts.as_ref().map(|cuts| {
            json!({
                "planned": cuts.planned,
                "runs": cuts.done,
                "failures": cuts.findings.iter().map(Finding::json).collect::<Vec<_>>(),
            })
        });
        let report = json!({
            "gateway": self.name,
            "passed": good,
            "rows": all,
            "categories": categories,
            "failures": self.findings.iter().map(Finding::json).collect::<Vec<_>>(),
            "cuts": cuts,
            "seconds": self.took.as_secs_f64(),
        });
        println!("{report:#}");
    }
}
