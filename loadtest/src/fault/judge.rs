//! From what was seen to a verdict: which requests failed through the gateway's fault, how long changes took, whether one
//! was lost or a core went back.
//!
//! What counts as failed is every request that was not answered well, but for those whose connection failed (refused,
//! reset, closed, cut) while a scenario had killed what it led to: these are excused and shown apart. What PostgreSQL
//! itself lost in a failover is taken out of the account of lost changes, and must not be served any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::ask::Asker;
use super::commits::{Commit, Done, Place};
use super::load::{Sent, is_of_the_connection};
use super::probe::Answers;
use super::rig::Rig;
use super::stage::{Ended, Excuse, Mark, MarkKind, Record, Recovery};
use super::watch::Seen;
use crate::client::Event;
use crate::client::tally::Failure;

/// A new process answers before the watch has noticed that it is another one.
const GENERATION_BLUR: Duration = Duration::from_secs(1);
/// Every change is asked for on each of so many connections while there are few changes, else on one of them.
const CHECKERS: usize = 8;
const CHECKED_EVERYWHERE_MAX: usize = 300;

/// How long changes took from PostgreSQL's acknowledgement until every core served them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delays {
    pub(crate) count: usize,
    pub(crate) median_ms: Option<f64>,
    pub(crate) max_ms: Option<f64>,
}

/// One scenario's result.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) requests: u64,
    pub(crate) failed: BTreeMap<String, u64>,
    pub(crate) excused: BTreeMap<String, u64>,
    /// Why.
    pub(crate) excuse: Option<&'static str>,
    /// The longest time without a good answer.
    pub(crate) gap_ms: f64,
    pub(crate) latency_p50_ms: f64,
    pub(crate) latency_p99_ms: f64,
    pub(crate) latency_max_ms: f64,
    pub(crate) commits: usize,
    pub(crate) before: Delays,
    pub(crate) during: Delays,
    pub(crate) after: Delays,
    /// From the end of a fault until every change that was committed before it was served.
    pub(crate) caught_up_ms: Option<f64>,
    pub(crate) lost: u64,
    pub(crate) reversed: u64,
    pub(crate) lost_by_postgresql: u64,
    pub(crate) recovery: Recovery,
    pub(crate) problems: Vec<String>,
    pub(crate) notes: Vec<String>,
}

impl Verdict {
    pub(crate) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    pub(crate) fn is_good(&self) -> bool {
        self.failures() == 0 && self.lost == 0 && self.reversed == 0 && self.problems.is_empty()
    }
}

/// Judges, and asks the gateway a last time for every change.
pub(crate) fn judge(ended: Ended<'_>, record: &Record) -> Result<(Verdict, Done)> {
    let Ended { rig, changes, marks, excuses, problems, notes, recovery, .. } = ended;
    let done = changes.finish();
    let kept = kept_by_postgresql(&rig).context("the database cannot be asked for its changes")?;
    let is_lost = |number: u64| !kept.contains(&number);
    let commits = done.commits.len();
    let mut verdict = Verdict { commits, recovery, problems, notes, ..Verdict::default() };
    verdict.lost_by_postgresql = done.commits.iter().filter(|commit| is_lost(commit.number)).count() as u64;
    verdict.excuse = excuses.first().map(|excuse| excuse.why);
    requests(&mut verdict, &record.sent, &excuses);
    probes(&mut verdict, &record.probed, &excuses);
    delays(&mut verdict, &done.commits, &record.seen, &marks, &is_lost);
    reversals(&mut verdict, record, &done.commits, &is_lost);
    last_look(&mut verdict, &rig, &done, &kept)?;
    Ok((verdict, done))
}

fn kept_by_postgresql(rig: &Rig<'_>) -> Result<BTreeSet<u64>> {
    let rows = rig.session()?.run("SELECT substr(id, 8) FROM ringway.resource WHERE id LIKE 'change-%'")?;
    Ok(rows.iter().filter_map(|row| row.first()?.parse().ok()).collect())
}

fn is_excused(excuses: &[Excuse], began: Instant, ended: Instant) -> bool {
    excuses.iter().any(|excuse| began <= excuse.to && ended >= excuse.from)
}

/// Whether a request could not but fail.
pub(crate) fn could_not_but(excuses: &[Excuse], event: &Event, failure: Failure) -> bool {
    let of_the_time =
        excuses.iter().filter(|excuse| event.intended <= excuse.to && event.ended >= excuse.from);
    let mut of_the_time = of_the_time.peekable();
    let is_ours = matches!(failure, Failure::Status(502..=504));
    (is_of_the_connection(failure) && of_the_time.peek().is_some())
        || is_ours && of_the_time.any(|excuse| excuse.no_backend)
}

fn requests(verdict: &mut Verdict, sent: &[Sent], excuses: &[Excuse]) {
    verdict.requests = sent.len() as u64;
    let mut latencies = Vec::new();
    let mut good = Vec::new();
    for Sent { stream, event } in sent {
        let Some(failure) = event.failure else {
            // The slow ones are slow on purpose.
            if *stream != super::load::Stream::Slow {
                latencies.push(milliseconds(event.ended - event.intended));
            }
            good.push(event.ended);
            continue;
        };
        let excused = could_not_but(excuses, event, failure);
        let counted = if excused { &mut verdict.excused } else { &mut verdict.failed };
        *counted.entry(failure.to_string()).or_default() += 1;
    }
    good.sort();
    let gaps = good.windows(2).map(|pair| match pair {
        [first, second] => milliseconds(*second - *first),
        _ => 0.0,
    });
    verdict.gap_ms = gaps.fold(0.0, f64::max);
    latencies.sort_by(f64::total_cmp);
    verdict.latency_p50_ms = quantile(&latencies, 0.5).unwrap_or(0.0);
    verdict.latency_p99_ms = quantile(&latencies, 0.99).unwrap_or(0.0);
    verdict.latency_max_ms = latencies.last().copied().unwrap_or(0.0);
}

fn probes(verdict: &mut Verdict, probed: &Answers, excuses: &[Excuse]) {
    verdict.requests += (probed.answers.len() + probed.troubles.len()) as u64;
    for trouble in &probed.troubles {
        let excused = trouble.status.is_none() && is_excused(excuses, trouble.asked, trouble.at);
        let kind = trouble.status.map_or_else(
            || format!("told: {}", trouble.text),
            |status| format!("told: status_{status} {}", trouble.text.trim()),
        );
        let counted = if excused { &mut verdict.excused } else { &mut verdict.failed };
        *counted.entry(kind).or_default() += 1;
    }
}

/// When every core served `place`.
pub(crate) fn served_at(seen: &[Seen], place: Place) -> Option<(Instant, u32)> {
    let found = seen.iter().find(|seen| seen.least().is_some_and(|least| least >= place))?;
    Some((found.at, found.generation))
}

fn delays(
    verdict: &mut Verdict,
    commits: &[Commit],
    seen: &[Seen],
    marks: &[Mark],
    is_lost: &dyn Fn(u64) -> bool,
) {
    let mut phases: [Vec<f64>; 3] = Default::default();
    for commit in commits.iter().filter(|commit| !is_lost(commit.number)) {
        // One that was never served shows itself as lost, at the last look.
        let Some((served, _)) = served_at(seen, commit.place) else { continue };
        let delay = milliseconds(served.saturating_duration_since(commit.acked));
        // A fault that comes between a commit and its serving is felt by it.
        let overtaken =
            |mark: &&Mark| mark.at <= commit.acked || (mark.kind == MarkKind::Fault && mark.at <= served);
        let phase = match marks.iter().rev().find(overtaken).map(|mark| mark.kind) {
            None => 0,
            Some(MarkKind::Fault) => 1,
            Some(MarkKind::Healed) => 2,
        };
        if let Some(phase) = phases.get_mut(phase) {
            phase.push(delay);
        }
        for healed in marks.iter().filter(|mark| mark.kind == MarkKind::Healed && mark.at >= commit.acked) {
            let late = milliseconds(served.saturating_duration_since(healed.at));
            verdict.caught_up_ms = Some(verdict.caught_up_ms.unwrap_or(0.0).max(late));
        }
    }
    let [before, during, after] = phases.map(Delays::of);
    (verdict.before, verdict.during, verdict.after) = (before, during, after);
}

impl Delays {
    fn of(mut all: Vec<f64>) -> Self {
        all.sort_by(f64::total_cmp);
        Self { count: all.len(), median_ms: quantile(&all, 0.5), max_ms: all.last().copied() }
    }
}

fn reversals(verdict: &mut Verdict, record: &Record, commits: &[Commit], is_lost: &dyn Fn(u64) -> bool) {
    let mut told = Vec::new();
    for pair in record.seen.windows(2) {
        let [before, after] = pair else { continue };
        if before.generation != after.generation {
            continue;
        }
        for (core, (old, new)) in before.cores.iter().zip(&after.cores).enumerate() {
            if new < old {
                told.push(format!("core {core} went back from {old:?} to {new:?}"));
            }
        }
    }
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for answer in &record.probed.answers {
        let before = last.insert(answer.connection, answer.number).unwrap_or(0);
        if answer.number < before && !is_lost(before) {
            told.push(format!(
                "connection {} went back from change {before} to {}",
                answer.connection, answer.number
            ));
        }
        if answer.own_route.is_some_and(|status| status != 200) && !is_lost(answer.number) {
            let status = answer.own_route.unwrap_or_default();
            told.push(format!("change {} was seen in part: its own route answered {status}", answer.number));
        }
    }
    told.extend(stale(record, commits, is_lost));
    verdict.reversed = told.len() as u64;
    verdict.problems.extend(told.into_iter().take(5));
}

/// Answers that are older than what every core was said to serve when they were asked for.
fn stale(record: &Record, commits: &[Commit], is_lost: &dyn Fn(u64) -> bool) -> Vec<String> {
    let mut served: Vec<(Instant, u32, u64)> = commits
        .iter()
        .filter(|commit| !is_lost(commit.number))
        .filter_map(|commit| {
            let (at, generation) = served_at(&record.seen, commit.place)?;
            Some((at, generation, commit.number))
        })
        .collect();
    served.sort();
    let starts: Vec<Instant> = record
        .seen
        .windows(2)
        .filter_map(|pair| match pair {
            [before, after] if before.generation != after.generation => Some(after.at),
            _ => None,
        })
        .collect();
    let mut found = Vec::new();
    for answer in &record.probed.answers {
        let is_near_a_start = starts
            .iter()
            .any(|start| answer.asked < *start + GENERATION_BLUR && answer.at + GENERATION_BLUR > *start);
        let generation = starts.iter().filter(|start| **start <= answer.asked).count();
        let known = served.partition_point(|(at, ..)| *at < answer.asked);
        let newest = served
            .get(..known)
            .unwrap_or_default()
            .iter()
            .rev()
            .take(64)
            .filter(|(_, of, _)| usize::try_from(*of) == Ok(generation))
            .map(|(.., number)| *number)
            .max();
        if let Some(newest) = newest.filter(|newest| !is_near_a_start && answer.number < *newest) {
            found.push(format!(
                "change {} was answered after change {newest} was said to be on every core",
                answer.number
            ));
        }
    }
    found
}

/// Every change that the database has must be served, on every core; every one that it lost must not be.
fn last_look(verdict: &mut Verdict, rig: &Rig<'_>, done: &Done, kept: &BTreeSet<u64>) -> Result<()> {
    let mut checkers: Vec<Asker> =
        (0..CHECKERS).map(|_| Asker::connect(rig.http)).collect::<std::io::Result<_>>()?;
    let everywhere = kept.len() <= CHECKED_EVERYWHERE_MAX;
    let gone = done.commits.iter().map(|commit| commit.number).chain(done.unsure.iter().copied());
    let gone: BTreeSet<u64> = gone.filter(|number| !kept.contains(number)).collect();
    let mut wrong = Vec::new();
    for (index, (number, wanted)) in
        kept.iter().map(|number| (*number, 200)).chain(gone.iter().map(|number| (*number, 404))).enumerate()
    {
        rig.workshop.stop.check()?;
        let mut statuses = BTreeSet::new();
        for (place, checker) in checkers.iter_mut().enumerate() {
            if checker.is_over() {
                *checker = Asker::connect(rig.http)?;
            }
            if everywhere || place == index % CHECKERS {
                statuses.insert(checker.get(&format!("/change/{number}"))?.status);
            }
        }
        if statuses != BTreeSet::from([wanted]) {
            wrong.push(format!("change {number} answers {statuses:?} in the end, and {wanted} is right"));
        }
    }
    verdict.lost = wrong.len() as u64;
    verdict.problems.extend(wrong.into_iter().take(5));
    Ok(())
}

/// Of sorted values.
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * share).round() as usize).copied()
}

pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::load::Stream;
    use crate::fault::probe::Answer;

    const MS: Duration = Duration::from_millis(1);

    fn place(revision: u64) -> Place {
        Place { timeline: 1, revision }
    }

    fn seen(at: Instant, generation: u32, cores: [u64; 2]) -> Seen {
        Seen { at, generation, cores: cores.map(|core| Some(place(core))).to_vec() }
    }

    fn answer(at: Instant, connection: u64, number: u64) -> Answer {
        Answer { connection, asked: at, at, number, own_route: None }
    }

    fn record(seen: Vec<Seen>, answers: Vec<Answer>) -> Record {
        Record { sent: Vec::new(), seen, probed: Answers { answers, troubles: Vec::new() } }
    }

    fn reversed(record: &Record, commits: &[Commit], lost: &[u64]) -> u64 {
        let mut verdict = Verdict::default();
        reversals(&mut verdict, record, commits, &|number| lost.contains(&number));
        verdict.reversed
    }

    #[test]
    fn only_connections_that_failed_in_an_excused_time_are_excused() {
        let begun = Instant::now();
        let (from, to) = (begun + 10 * MS, begun + 20 * MS);
        let excuses = [Excuse { from, to, why: "", no_backend: false }];
        let sent = |from: u32, to: u32, failure| Sent {
            stream: Stream::Kept,
            event: Event { intended: begun + MS * from, ended: begun + MS * to, failure },
        };
        let all = [
            sent(0, 1, None),
            sent(5, 12, Some(Failure::Reset)),
            sent(15, 16, Some(Failure::Status(502))),
            sent(21, 22, Some(Failure::Connect)),
            sent(0, 101, None),
        ];
        let mut verdict = Verdict::default();
        requests(&mut verdict, &all, &excuses);
        assert_eq!(verdict.requests, 5);
        assert_eq!(verdict.excused, BTreeMap::from([("reset".to_owned(), 1)]));
        assert_eq!(verdict.failed, BTreeMap::from([("status_502".to_owned(), 1), ("connect".to_owned(), 1)]));
        assert_eq!(verdict.gap_ms.round(), 100.0);
        let no_backend = [Excuse { from, to, why: "", no_backend: true }];
        let mut verdict = Verdict::default();
        requests(&mut verdict, &all, &no_backend);
        assert_eq!(verdict.failed, BTreeMap::from([("connect".to_owned(), 1)]));
    }

    #[test]
    fn a_core_that_goes_back_is_found_unless_it_is_another_process() {
        let now = Instant::now();
        let back = vec![seen(now, 0, [5, 5]), seen(now + MS, 0, [5, 4])];
        assert_eq!(reversed(&record(back, Vec::new()), &[], &[]), 1);
        let restarted = vec![seen(now, 0, [5, 5]), seen(now + MS, 1, [4, 4])];
        assert_eq!(reversed(&record(restarted, Vec::new()), &[], &[]), 0);
    }

    #[test]
    fn an_answer_that_goes_back_is_found_unless_postgresql_lost_the_change() {
        let now = Instant::now();
        let answers = vec![answer(now, 1, 7), answer(now, 2, 6), answer(now, 1, 6)];
        assert_eq!(reversed(&record(Vec::new(), answers.clone()), &[], &[]), 1);
        assert_eq!(reversed(&record(Vec::new(), answers), &[], &[7]), 0);
    }

    #[test]
    fn an_answer_older_than_what_was_said_to_be_served_is_found() {
        let now = Instant::now();
        let commits = [Commit { number: 3, place: place(9), acked: now }];
        let watched = vec![seen(now, 0, [8, 9]), seen(now + 5 * MS, 0, [9, 9])];
        assert_eq!(served_at(&watched, place(9)), Some((now + 5 * MS, 0)));
        let early = record(watched.clone(), vec![answer(now + 4 * MS, 1, 2)]);
        assert_eq!(reversed(&early, &commits, &[]), 0);
        let late = record(watched, vec![answer(now + 6 * MS, 1, 2)]);
        assert_eq!(reversed(&late, &commits, &[]), 1);
    }

    #[test]
    fn half_a_transaction_is_found() {
        let now = Instant::now();
        let half = Answer { own_route: Some(404), ..answer(now, 1, 7) };
        assert_eq!(reversed(&record(Vec::new(), vec![half]), &[], &[]), 1);
        assert_eq!(reversed(&record(Vec::new(), vec![half]), &[], &[7]), 0);
    }

    #[test]
    fn delays_are_told_by_phase() {
        let now = Instant::now();
        let mark = |ms: u32, kind| Mark { at: now + MS * ms, text: String::new(), kind };
        let marks = [mark(10, MarkKind::Fault), mark(30, MarkKind::Healed)];
        let commit = |number, ms: u32| Commit { number, place: place(number), acked: now + MS * ms };
        let watched = vec![seen(now + 2 * MS, 0, [1, 1]), seen(now + 40 * MS, 0, [2, 3])];
        let mut verdict = Verdict::default();
        delays(&mut verdict, &[commit(1, 0), commit(2, 15), commit(3, 35)], &watched, &marks, &|_| false);
        assert_eq!(verdict.before.max_ms.map(f64::round), Some(2.0));
        assert_eq!(verdict.during.max_ms.map(f64::round), Some(25.0));
        // Never on every core: that shows at the last look.
        assert_eq!(verdict.after.count, 0);
        assert_eq!(verdict.caught_up_ms.map(f64::round), Some(10.0));
    }
}
