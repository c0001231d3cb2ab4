//! What a run found: a row a scenario, as a table for a terminal and as JSON; `page` draws the same.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::commits::Done;
use super::judge::{Delays, Verdict, could_not_but};
use super::scenario::Scenario;
use super::stage::{Excuse, Mark, MarkKind, Record};

/// The width of one bar of a plot.
pub(crate) const BUCKET: Duration = Duration::from_millis(100);
/// More points than a plot has pixels help nobody.
const POINTS_MAX: usize = 500;

#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) scenario: &'static Scenario,
    pub(crate) round: usize,
    pub(crate) took: Duration,
    pub(crate) outcome: Judged,
}

#[derive(Clone, Debug)]
pub(crate) enum Judged {
    Skipped(String),
    /// It could not be carried out.
    Broken(String),
    Done(Box<(Verdict, Series)>),
}

/// What the plots show. Times are in seconds from the first request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    pub(crate) seconds: f64,
    /// By the time when a request was due: good, failed, excused.
    pub(crate) buckets: Vec<[u32; 3]>,
    /// Each core's revision, whenever it changed; `None` breaks the line.
    pub(crate) cores: Vec<Vec<(f64, Option<u64>)>>,
    /// Revisions that PostgreSQL acknowledged.
    pub(crate) commits: Vec<(f64, u64)>,
    pub(crate) marks: Vec<(f64, bool, String)>,
}

#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) machine: String,
    pub(crate) executables: PathBuf,
}

impl Row {
    pub(crate) fn skipped(scenario: &'static Scenario, reason: String) -> Self {
        Self { scenario, round: 0, took: Duration::ZERO, outcome: Judged::Skipped(reason) }
    }

    pub(crate) fn broken(scenario: &'static Scenario, error: &str) -> Self {
        Self { scenario, round: 0, took: Duration::ZERO, outcome: Judged::Broken(error.to_owned()) }
    }

    pub(crate) fn judged(scenario: &'static Scenario, verdict: Verdict, series: Series) -> Self {
        let outcome = Judged::Done(Box::new((verdict, series)));
        Self { scenario, round: 0, took: Duration::ZERO, outcome }
    }

    pub(crate) fn is_good(&self) -> bool {
        match &self.outcome {
            Judged::Skipped(_) => true,
            Judged::Broken(_) => false,
            Judged::Done(done) => done.0.is_good(),
        }
    }

    /// One word.
    pub(crate) fn result(&self) -> &'static str {
        match &self.outcome {
            Judged::Skipped(_) => "skipped",
            _ if self.is_good() => "ok",
            _ => "FAILED",
        }
    }

    fn json(&self) -> Value {
        let mut document = json!({
            "name": self.scenario.name,
            "title": self.scenario.title,
            "about": self.scenario.about,
            "round": self.round + 1,
            "took_ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "result": self.result(),
        });
        let more = match &self.outcome {
            Judged::Skipped(reason) => json!({"skipped": reason}),
            Judged::Broken(error) => json!({"problems": [error]}),
            Judged::Done(done) => verdict_json(&done.0, &done.1),
        };
        if let (Value::Object(fields), Value::Object(more)) = (&mut document, more) {
            fields.extend(more);
        }
        document
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.scenario.name.to_owned()];
        match &self.outcome {
            Judged::Done(done) => cells.extend(figures(&done.0)),
            Judged::Skipped(_) | Judged::Broken(_) => cells.extend(vec!["-".to_owned(); HEADS.len() - 2]),
        }
        cells.push(self.result().to_owned());
        cells
    }

    /// What the table has no column for.
    pub(crate) fn remarks(&self) -> Vec<String> {
        match &self.outcome {
            Judged::Skipped(reason) => vec![format!("skipped: {reason}")],
            Judged::Broken(error) => vec![format!("could not be carried out: {error}")],
            Judged::Done(done) => {
                let verdict = &done.0;
                let mut lines: Vec<String> = verdict.problems.clone();
                if !verdict.failed.is_empty() {
                    lines.push(format!("failed: {}", kinds(&verdict.failed)));
                }
                if !verdict.excused.is_empty() {
                    let why = verdict.excuse.unwrap_or_default();
                    lines.push(format!("excused, because {why}: {}", kinds(&verdict.excused)));
                }
                if verdict.lost_by_postgresql > 0 {
                    lines.push(format!(
                        "{} acknowledged changes were lost by PostgreSQL's failover itself",
                        verdict.lost_by_postgresql
                    ));
                }
                lines.extend(verdict.notes.clone());
                lines
            }
        }
    }
}

/// The heads of the table.
pub(crate) const HEADS: [&str; 16] = [
    "fault",
    "requests",
    "failed",
    "excused",
    "gap ms",
    "p99 ms",
    "out ms",
    "in ms",
    "changes",
    "before ms",
    "during ms",
    "after ms",
    "caught up ms",
    "lost",
    "back",
    "result",
];

/// The figures between the name and the result.
pub(crate) fn figures(verdict: &Verdict) -> [String; 14] {
    [
        verdict.requests.to_string(),
        verdict.failures().to_string(),
        verdict.excused.values().sum::<u64>().to_string(),
        format!("{:.0}", verdict.gap_ms),
        format!("{:.1}", verdict.latency_p99_ms),
        milliseconds(verdict.recovery.out_ms),
        milliseconds(verdict.recovery.back_ms),
        verdict.commits.to_string(),
        pair(&verdict.before),
        pair(&verdict.during),
        pair(&verdict.after),
        milliseconds(verdict.caught_up_ms),
        verdict.lost.to_string(),
        verdict.reversed.to_string(),
    ]
}

fn milliseconds(ms: Option<f64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.0}"))
}

fn pair(delays: &Delays) -> String {
    match (delays.median_ms, delays.max_ms) {
        (Some(median), Some(max)) => format!("{median:.0} / {max:.0}"),
        _ => "-".to_owned(),
    }
}

fn kinds(counts: &BTreeMap<String, u64>) -> String {
    let all: Vec<String> = counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    all.join(", ")
}

fn verdict_json(verdict: &Verdict, series: &Series) -> Value {
    let delays = |delays: &Delays| json!({"changes": delays.count, "median_ms": delays.median_ms, "max_ms": delays.max_ms});
    json!({
        "requests": verdict.requests,
        "failed": verdict.failures(),
        "failures": verdict.failed,
        "excused": verdict.excused,
        "gap_ms": verdict.gap_ms,
        "latency_ms": {
            "p50": verdict.latency_p50_ms, "p99": verdict.latency_p99_ms, "max": verdict.latency_max_ms,
        },
        "nodes_out_ms": verdict.recovery.out_ms,
        "nodes_in_ms": verdict.recovery.back_ms,
        "changes": verdict.commits,
        "commit_to_every_core": {
            "before": delays(&verdict.before), "during": delays(&verdict.during), "after": delays(&verdict.after),
        },
        "caught_up_ms": verdict.caught_up_ms,
        "lost": verdict.lost,
        "back": verdict.reversed,
        "lost_by_postgresql": verdict.lost_by_postgresql,
        "problems": verdict.problems,
        "notes": verdict.notes,
        "series": {
            "seconds": series.seconds,
            "bucket_ms": BUCKET.as_millis() as u64,
            "good_failed_excused": series.buckets,
            "cores": series.cores,
            "commits": series.commits,
            "marks": series.marks.iter().map(|(at, is_fault, text)| json!({"s": at, "fault": is_fault, "text": text})).collect::<Vec<_>>(),
        },
    })
}

impl Report {
    pub(crate) fn new(rows: Vec<Row>, executables: PathBuf) -> Self {
        Self { rows, machine: crate::compare::machine_text(), executables }
    }

    pub(crate) fn is_good(&self) -> bool {
        self.rows.iter().all(Row::is_good)
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "machine": self.machine,
            "executables": self.executables.display().to_string(),
            "good": self.is_good(),
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
        })
    }

    /// Requests, failures, requests that were excused; how many scenarios were done and skipped.
    pub(crate) fn totals(&self) -> [u64; 5] {
        let mut totals = [0; 5];
        let [requests, failed, excused, done_rows, skipped] = &mut totals;
        for row in &self.rows {
            match &row.outcome {
                Judged::Done(done) => {
                    *requests += done.0.requests;
                    *failed += done.0.failures();
                    *excused += done.0.excused.values().sum::<u64>();
                    *done_rows += 1;
                }
                Judged::Broken(_) => *done_rows += 1,
                Judged::Skipped(_) => *skipped += 1,
            }
        }
        totals
    }

    pub(crate) fn table(&self) -> String {
        let rows: Vec<Vec<String>> = self.rows.iter().map(Row::cells).collect();
        let widths: Vec<usize> = HEADS
            .iter()
            .enumerate()
            .map(|(column, head)| {
                let cells = rows.iter().filter_map(|row| row.get(column)).map(String::len);
                cells.max().unwrap_or(0).max(head.len())
            })
            .collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let padded = cells.zip(&widths).enumerate().map(|(column, (cell, width))| {
                if column == 0 { format!("{cell:<width$}") } else { format!("  {cell:>width$}") }
            });
            padded.collect::<String>().trim_end().to_owned() + "\n"
        };
        let mut text = format!("{}\n\n{}", self.machine, line(&mut HEADS.into_iter()));
        for (row, cells) in self.rows.iter().zip(&rows) {
            text.push_str(&line(&mut cells.iter().map(String::as_str)));
            for remark in row.remarks() {
                text.push_str(&format!("    {}\n", remark.trim_end().replace('\n', "\n      ")));
            }
        }
        let [requests, failed, excused, done, skipped] = self.totals();
        text.push_str(&format!(
            "\n{done} faults, {skipped} skipped; {requests} requests, {failed} failed, {excused} excused. \
             before, during, after: median / maximum from COMMIT to the last core.\n"
        ));
        text
    }
}

impl Series {
    pub(crate) fn new(
        begun: Instant,
        record: &Record,
        done: &Done,
        marks: &[Mark],
        excuses: &[Excuse],
    ) -> Self {
        let seconds = |at: Instant| at.saturating_duration_since(begun).as_secs_f64();
        let mut series = Self::default();
        for sent in &record.sent {
            let event = sent.event;
            let bucket = (seconds(event.intended) / BUCKET.as_secs_f64()) as usize;
            if series.buckets.len() <= bucket {
                series.buckets.resize(bucket + 1, [0; 3]);
            }
            let kind = match event.failure {
                None => 0,
                Some(failure) if could_not_but(excuses, &event, failure) => 2,
                Some(_) => 1,
            };
            if let Some(count) = series.buckets.get_mut(bucket).and_then(|counts| counts.get_mut(kind)) {
                *count += 1;
            }
        }
        let cores = record.seen.iter().map(|seen| seen.cores.len()).max().unwrap_or(0);
        series.cores = vec![Vec::new(); cores];
        let mut generation = 0;
        for seen in &record.seen {
            for (core, line) in series.cores.iter_mut().enumerate() {
                let revision = seen.cores.get(core).copied().flatten().map(|place| place.revision);
                if seen.generation != generation {
                    line.push((seconds(seen.at), None));
                }
                if line.last().is_none_or(|(_, last)| *last != revision) {
                    line.push((seconds(seen.at), revision));
                }
            }
            generation = seen.generation;
        }
        series.commits =
            done.commits.iter().map(|commit| (seconds(commit.acked), commit.place.revision)).collect();
        series.seconds = series.buckets.len() as f64 * BUCKET.as_secs_f64();
        for core in &mut series.cores {
            thin(core);
        }
        thin(&mut series.commits);
        series.marks = marks
            .iter()
            .map(|mark| (seconds(mark.at), mark.kind == MarkKind::Fault, mark.text.clone()))
            .collect();
        series
    }
}

/// Leaves out what lies between points that stay; the last one stays.
fn thin<T: Copy>(points: &mut Vec<T>) {
    let step = points.len() / POINTS_MAX + 1;
    let last = points.last().copied();
    if step > 1 {
        *points = points.iter().step_by(step).copied().chain(last).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::scenarios;

    fn row(verdict: Verdict) -> Row {
        Row::judged(&scenarios::ALL[0], verdict, Series::default())
    }

    fn report(rows: Vec<Row>) -> Report {
        Report { rows, machine: "a machine".into(), executables: PathBuf::from("/bin") }
    }

    #[test]
    fn a_table_tells_every_figure_and_remark() {
        let verdict = Verdict {
            requests: 1234,
            failed: BTreeMap::from([("status_502".to_owned(), 2)]),
            excused: BTreeMap::from([("reset".to_owned(), 7)]),
            caught_up_ms: Some(41.6),
            notes: vec!["a note".into()],
            ..Verdict::default()
        };
        let report = report(vec![row(verdict), Row::skipped(&scenarios::ALL[1], "no root".into())]);
        let table = report.table();
        for needed in ["1234", "2 status_502", "7 reset", " 42 ", "a note", "FAILED", "skipped: no root"] {
            assert!(table.contains(needed), "{needed:?} is not in\n{table}");
        }
        assert!(!report.is_good());
        assert_eq!(report.json()["rows"][0]["failures"]["status_502"], 2);
    }

    #[test]
    fn skipped_is_good_and_broken_is_not() {
        let skipped = || Row::skipped(&scenarios::ALL[1], "no root".into());
        assert!(report(vec![row(Verdict::default()), skipped()]).is_good());
        assert!(!report(vec![skipped(), Row::broken(&scenarios::ALL[1], "no")]).is_good());
        for verdict in [
            Verdict { lost: 1, ..Verdict::default() },
            Verdict { reversed: 1, ..Verdict::default() },
            Verdict { problems: vec!["p".into()], ..Verdict::default() },
        ] {
            assert!(!report(vec![row(verdict)]).is_good());
        }
    }

    #[test]
    fn thinned_points_keep_both_ends() {
        let mut points: Vec<u32> = (0..12_345).collect();
        thin(&mut points);
        assert!(points.len() <= POINTS_MAX + 1);
        assert_eq!((points.first(), points.last()), (Some(&0), Some(&12_344)));
    }
}
