//! What a scenario works with: the rig under load, the time, and what it wants the report to say.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::commits::Committer;
use super::load::{Load, Sent};
use super::probe::{Answers, Probe};
use super::rig::Rig;
use super::scenario::Scenario;
use super::watch::{Seen, Watch};
use crate::progress::{Progress, bar};

/// For every core to have the last change.
const CAUGHT_UP_WITHIN: Duration = Duration::from_secs(60);
/// For every core to leave nodes out, or to use them again: a breaker waits a minute at most.
const RECOVERED_WITHIN: Duration = Duration::from_secs(70);
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// What `--short` leaves of a wait.
const SHORT_DIVISOR: u32 = 4;

/// How much is done during a scenario.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) requests_per_second: f64,
    pub(crate) changes_per_second: f64,
    pub(crate) is_short: bool,
}

/// A moment of the report.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    pub(crate) at: Instant,
    pub(crate) text: String,
    pub(crate) kind: MarkKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MarkKind {
    Fault,
    Healed,
}

/// A time in which connections could not but fail.
#[derive(Clone, Debug)]
pub(crate) struct Excuse {
    pub(crate) from: Instant,
    pub(crate) to: Instant,
    pub(crate) why: &'static str,
    /// There was no backend either, so that an answer of 502, 503 or 504 was right.
    pub(crate) no_backend: bool,
}

/// How long it took until every core left out the nodes that failed, and until all were in use again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recovery {
    pub(crate) out_ms: Option<f64>,
    pub(crate) back_ms: Option<f64>,
}

#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) rig: Rig<'a>,
    pub(crate) changes: Committer,
    pub(crate) begun: Instant,
    pub(crate) marks: Vec<Mark>,
    pub(crate) excuses: Vec<Excuse>,
    /// What should not have happened, beyond what is checked for every scenario.
    pub(crate) problems: Vec<String>,
    pub(crate) notes: Vec<String>,
    pub(crate) effort: Effort,
    recovery: Recovery,
    load: Load,
    watch: Watch,
    probe: Probe,
    line: Line<'a>,
}

/// Where the progress goes.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    pub(crate) progress: &'a mut Progress,
    pub(crate) name: &'static str,
    pub(crate) number: usize,
    pub(crate) total: usize,
}

/// All that was seen.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) sent: Vec<Sent>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) probed: Answers,
}

impl<'a> Stage<'a> {
    pub(crate) fn begin(rig: Rig<'a>, scenario: &Scenario, effort: Effort, line: Line<'a>) -> Result<Self> {
        let begun = Instant::now();
        let watch = Watch::start(rig.path("admin.sock"))?;
        let probe = Probe::start(rig.http)?;
        let load = Load::start(rig.http, scenario.streams, effort.requests_per_second)?;
        let changes = Committer::start(rig.primary.folder.clone(), effort.changes_per_second)?;
        let (marks, excuses, problems, notes) = Default::default();
        let recovery = Recovery::default();
        Ok(Self {
            rig,
            changes,
            begun,
            marks,
            excuses,
            problems,
            notes,
            effort,
            recovery,
            load,
            watch,
            probe,
            line,
        })
    }

    /// Lets the load go on; a quarter as long in the short form.
    pub(crate) fn hold(&mut self, long: Duration) -> Result<()> {
        self.hold_fully(if self.effort.is_short { long / SHORT_DIVISOR } else { long })
    }

    /// Lets the load go on, as long in the short form.
    pub(crate) fn hold_fully(&mut self, duration: Duration) -> Result<()> {
        let until = Instant::now() + duration;
        while Instant::now() < until {
            self.show();
            let left = until.saturating_duration_since(Instant::now());
            self.rig.workshop.stop.sleep(left.min(Duration::from_millis(250)))?;
        }
        Ok(())
    }

    /// From here on it is broken.
    pub(crate) fn fault(&mut self, text: &str) {
        self.mark(text, MarkKind::Fault);
    }

    /// From here on everything is as it should be, and must work again by itself.
    pub(crate) fn healed(&mut self, text: &str) {
        self.mark(text, MarkKind::Healed);
    }

    fn mark(&mut self, text: &str, kind: MarkKind) {
        self.marks.push(Mark { at: Instant::now(), text: text.to_owned(), kind });
        self.show();
    }

    /// From `from` until now there was nothing to connect to, or what connections led to was killed.
    pub(crate) fn excuse_since(&mut self, from: Instant, why: &'static str) {
        self.excuses.push(Excuse { from, to: Instant::now(), why, no_backend: false });
    }

    /// From `from` until now no backend could answer.
    pub(crate) fn excuse_no_backend_since(&mut self, from: Instant, why: &'static str) {
        self.excuses.push(Excuse { from, to: Instant::now(), why, no_backend: true });
    }

    /// Waits until every core leaves these nodes out, and notes how long after the fault that was.
    pub(crate) fn await_out(&mut self, nodes: &[usize]) -> Result<()> {
        let addresses = self.addresses(nodes);
        self.await_that("the nodes are left out", RECOVERED_WITHIN, |rig| {
            breakers(rig, &addresses).is_some_and(|mut all| all.all(|breaker| breaker != "closed"))
        })?;
        self.recovery.out_ms = later(self.recovery.out_ms, self.since(MarkKind::Fault));
        Ok(())
    }

    /// Waits until every core uses all nodes, and notes how long after the end of the fault that was.
    pub(crate) fn await_back(&mut self) -> Result<()> {
        let addresses = self.addresses(&(0..self.rig.nodes.len()).collect::<Vec<_>>());
        self.await_that("all nodes are used", RECOVERED_WITHIN, |rig| {
            breakers(rig, &addresses).is_some_and(|mut all| all.all(|breaker| breaker == "closed"))
        })?;
        self.recovery.back_ms = later(self.recovery.back_ms, self.since(MarkKind::Healed));
        Ok(())
    }

    fn addresses(&self, nodes: &[usize]) -> Vec<String> {
        nodes
            .iter()
            .filter_map(|node| self.rig.nodes.get(*node))
            .map(|node| node.address.to_string())
            .collect()
    }

    fn since(&self, kind: MarkKind) -> Option<f64> {
        let mark = self.marks.iter().rev().find(|mark| mark.kind == kind)?;
        Some(mark.at.elapsed().as_secs_f64() * 1e3)
    }

    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Notes a problem unless `holds`.
    pub(crate) fn expect(&mut self, holds: bool, problem: impl Into<String>) {
        if !holds {
            self.problems.push(problem.into());
        }
    }

    /// Waits until `ready`; a problem, and no end, when it takes too long.
    pub(crate) fn await_that(
        &mut self,
        what: &str,
        within: Duration,
        mut ready: impl FnMut(&Rig<'a>) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + within;
        while !ready(&self.rig) {
            self.rig.workshop.stop.check()?;
            if Instant::now() >= deadline {
                self.problems.push(format!("not within {} s: {what}", within.as_secs()));
                return Ok(());
            }
            self.show();
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Stops committing and waits until no transaction is under way.
    pub(crate) fn pause_changes(&mut self) -> Result<()> {
        self.changes.pace(0.0);
        while self.changes.is_busy() {
            self.rig.workshop.stop.check()?;
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    pub(crate) fn resume_changes(&mut self) {
        self.changes.pace(self.effort.changes_per_second);
    }

    /// Until every core runs the last change that was acknowledged so far.
    pub(crate) fn caught_up(&mut self) -> Result<()> {
        let Some(last) = self.changes.last() else { bail!("not a single change was committed") };
        let begun = Instant::now();
        while self.watch.least().is_none_or(|least| least < last.place) {
            self.rig.workshop.stop.check()?;
            if begun.elapsed() > CAUGHT_UP_WITHIN {
                let text = format!(
                    "change {} is not on every core after {} s; the oldest runs {:?}\n{}",
                    last.number,
                    CAUGHT_UP_WITHIN.as_secs(),
                    self.watch.least(),
                    self.rig.logs()
                );
                self.problems.push(text);
                return Ok(());
            }
            self.show();
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Ends load and watching; the rig goes on.
    pub(crate) fn end(self) -> Result<(Ended<'a>, Record)> {
        let sent = self.load.finish().context("the clients failed")?;
        let probed = self.probe.finish();
        let seen = self.watch.finish();
        let ended = Ended {
            rig: self.rig,
            changes: self.changes,
            begun: self.begun,
            marks: self.marks,
            excuses: self.excuses,
            problems: self.problems,
            notes: self.notes,
            recovery: self.recovery,
        };
        Ok((ended, Record { sent, seen, probed }))
    }

    fn show(&mut self) {
        use std::sync::atomic::Ordering::Relaxed;
        let line = &mut self.line;
        let mark = self.marks.last().map_or("steady", |mark| mark.text.as_str());
        let text = format!(
            "{} {}: {:.0} s, {} requests, {} failed, {} changes; {mark}",
            bar(line.number as f64 / line.total.max(1) as f64, 20),
            line.name,
            self.begun.elapsed().as_secs_f64(),
            self.load.sent.load(Relaxed),
            self.load.failed.load(Relaxed),
            self.changes.count(),
        );
        // One line of a terminal.
        line.progress.set(&text.chars().take(110).collect::<String>());
    }
}

fn later(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.into_iter().chain(other).reduce(f64::max)
}

/// What every core's breaker of some nodes says; `None` when that is not told, or not by every core.
fn breakers(rig: &Rig<'_>, addresses: &[String]) -> Option<impl Iterator<Item = String> + use<>> {
    let told = rig.admin("show upstream nodes json")?;
    if told.get("cores_silent").is_some() {
        return None;
    }
    let nodes = told.get("nodes")?.as_array()?;
    let is_asked = |node: &&serde_json::Value| {
        let address = node.get("address").and_then(serde_json::Value::as_str);
        address.is_some_and(|address| addresses.iter().any(|asked| asked == address))
    };
    let asked: Vec<_> = nodes.iter().filter(is_asked).collect();
    if asked.len() != addresses.len() {
        return None;
    }
    let of_node =
        |node: &serde_json::Value| node.get("breakers").and_then(serde_json::Value::as_array).cloned();
    let all: Vec<serde_json::Value> = asked.into_iter().filter_map(of_node).flatten().collect();
    let texts = all.into_iter().filter_map(|breaker| breaker.as_str().map(str::to_owned));
    Some(texts.collect::<Vec<_>>().into_iter())
}

/// A stage whose load has ended.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) rig: Rig<'a>,
    pub(crate) changes: Committer,
    pub(crate) begun: Instant,
    pub(crate) marks: Vec<Mark>,
    pub(crate) excuses: Vec<Excuse>,
    pub(crate) problems: Vec<String>,
    pub(crate) notes: Vec<String>,
    pub(crate) recovery: Recovery,
}
