//! The changes: transactions by a timetable, and when each was on the last core.
//!
//! Of ten changes eight change a route, one makes and one removes one. A change counts from the moment at which its COMMIT
//! was *sent* until the control plane has the data plane's word that every core runs it, so the figure is above the true
//! one by PostgreSQL's own commit and a message's way. The control plane logs that word with its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

use super::rig::PATHS;
use crate::fault::sql::Session;

const NAP_MAX: Duration = Duration::from_millis(20);

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    /// Before COMMIT was sent, in microseconds since 1970.
    pub(crate) sent_us: u64,
    /// From there to PostgreSQL's answer.
    pub(crate) commit_us: u64,
}

/// All changes in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    pub(crate) heard: Vec<Change>,
    /// Those that the control plane heard of only later, all of a phase together.
    pub(crate) unheard: Vec<Change>,
}

impl Changes {
    /// Whether a version is made of changes that were heard at once.
    pub(crate) fn is_of_heard(&self, applied: &Applied) -> bool {
        self.heard.binary_search_by_key(&applied.revision, |change| change.revision).is_ok()
    }
}

/// One word of the data plane: up to this revision everything is on every core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    pub(crate) revision: u64,
    pub(crate) at_us: u64,
    /// By the names of `STAGES`.
    pub(crate) stages_us: [Option<u64>; STAGES.len()],
}

/// Fields of the log line, and what they mean for a reader.
pub(crate) const STAGES: [(&str, &str); 9] = [
    ("committed_to_noticed_us", "revision taken in PostgreSQL, until the control plane hears of it"),
    ("load_us", "until it is read and checked"),
    ("wait_us", "until the data plane is free"),
    ("received_us", "from the frame's first byte: read"),
    ("decoded_us", "decoded and checked"),
    ("compiled_us", "the table made"),
    ("first_core_us", "the first core has it"),
    ("last_core_us", "the last core has it"),
    ("ack_us", "from sending the frame until the control plane knows"),
];

#[derive(Debug)]
pub(crate) struct Committer {
    thread: Option<JoinHandle<Result<Vec<Change>>>>,
    stop: Arc<AtomicBool>,
}

impl Committer {
    /// Commits `per_second` until it is finished. `first` numbers the changes on from those of earlier phases.
    pub(crate) fn start(session: Session, routes: u32, per_second: f64, first: u64) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("changes".into()).spawn({
            let stop = Arc::clone(&stop);
            move || commit_all(session, routes, per_second, first, &stop)
        })?;
        Ok(Self { thread: Some(thread), stop })
    }

    pub(crate) fn finish(mut self) -> Result<Vec<Change>> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("already finished")?;
        thread.join().map_err(|_| anyhow!("the thread of the changes panicked"))?
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn commit_all(
    mut session: Session,
    routes: u32,
    per_second: f64,
    first: u64,
    stop: &AtomicBool,
) -> Result<Vec<Change>> {
    let begun = Instant::now();
    let mut changes = Vec::new();
    for index in 0_u64.. {
        let due = begun + Duration::from_secs_f64(index as f64 / per_second);
        loop {
            if stop.load(Ordering::Relaxed) {
                return Ok(changes);
            }
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(NAP_MAX));
        }
        changes.push(commit(&mut session, routes, first + index)?);
    }
    Ok(changes)
}

fn commit(session: &mut Session, routes: u32, number: u64) -> Result<Change> {
    let rows =
        session.run(&format!("BEGIN; {}; SELECT revision FROM ringway.head", statement(routes, number)))?;
    let revision = rows.first().and_then(|row| row.first()).and_then(|text| text.parse().ok());
    let (sent, sent_us) = (Instant::now(), unix_us(SystemTime::now()));
    session.run("COMMIT")?;
    let commit_us = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(Change { revision: revision.context("ringway.head has no revision")?, sent_us, commit_us })
}

fn statement(routes: u32, number: u64) -> String {
    // Far apart, so that no two changes in a row touch the same host.
    let place = number.wrapping_mul(7919) % u64::from(routes.max(1));
    let (host, path) = (place / u64::from(PATHS), place % u64::from(PATHS));
    let own = number / 10;
    match number % 10 {
        4 => format!(
            "INSERT INTO ringway.resource (kind, id, spec) VALUES ('routes', 'x-{own}', \
             '{{\"uri\": \"/x/{own}\", \"upstream_id\": \"backend\"}}')"
        ),
        9 => format!("DELETE FROM ringway.resource WHERE kind = 'routes' AND id = 'x-{own}'"),
        _ => format!(
            "UPDATE ringway.resource SET spec = jsonb_set(spec, '{{priority}}', '{}') \
             WHERE kind = 'routes' AND id = 'r-{host}-{path}'",
            // Never the zero that it was made with: a row that stays the same takes no revision.
            number % 1000 + 1
        ),
    }
}

/// What the control plane's log (JSON lines) says of versions that are on every core, in its order.
pub(crate) fn applied(log: &str) -> Vec<Applied> {
    let read = |line: &str| -> Option<Applied> {
        let line: Value = serde_json::from_str(line).ok()?;
        if line.get("message")?.as_str()? != "applied" {
            return None;
        }
        // lineage:timeline:revision
        let revision = line.get("version")?.as_str()?.rsplit(':').next()?.parse().ok()?;
        let at_us = read_time(line.get("timestamp")?.as_str()?)?;
        Some(Applied { revision, at_us, stages_us: STAGES.map(|(name, _)| line.get(name)?.as_u64()) })
    };
    log.lines().filter(|line| line.contains("applied")).filter_map(read).collect()
}

/// Microseconds from COMMIT to the last core, of each change that arrived.
pub(crate) fn propagation(changes: &[Change], applied: &[Applied]) -> Vec<u64> {
    let of = |change: &Change| {
        let place = applied.partition_point(|applied| applied.revision < change.revision);
        Some(applied.get(place)?.at_us.saturating_sub(change.sent_us))
    };
    changes.iter().filter_map(of).collect()
}

/// `2026-01-31T12:34:56.123456Z` as microseconds since 1970.
fn read_time(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock = clock.split(':').map(str::parse::<u64>);
    let (hour, minute, second) = (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
    let micros: u64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days of the proleptic Gregorian calendar, counted in years that begin with March, so that a leap day is a year's last.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (months * 153 + 2) / 5 + day;
    // 719,469 is the same count of 1970-01-01.
    let seconds = days.checked_sub(719_469)? * 86_400 + hour * 3600 + minute * 60 + second;
    Some(seconds * 1_000_000 + micros)
}

fn unix_us(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_log_are_read() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00.000000Z", 951_825_600),
            ("2000-03-01T00:00:00Z", 951_868_800),
            ("2026-11-23T14:00:00Z", 1_795_442_400),
        ] {
            assert_eq!(read_time(text), Some(seconds * 1_000_000), "{text}");
        }
        assert_eq!(read_time("1970-01-01T00:00:01.5Z"), Some(1_500_000));
        for text in ["", "1970-01-01", "1970-13-01T00:00:00Z", "1970-01-01T00:00:00+02:00"] {
            assert_eq!(read_time(text), None, "{text}");
        }
    }

    #[test]
    fn a_change_is_there_with_the_first_version_that_has_it() {
        let log = "{\"timestamp\":\"1970-01-01T00:00:01.000000Z\",\"level\":\"INFO\",\"message\":\"applied\",\
                   \"version\":\"00ab:1:5\",\"load_us\":7}\nnoise applied\n\
                   {\"timestamp\":\"1970-01-01T00:00:02.000000Z\",\"message\":\"applied\",\"version\":\"00ab:1:8\"}\n";
        let applied = applied(log);
        assert_eq!(applied.len(), 2);
        assert_eq!(applied[0].stages_us[1], Some(7));
        let change = |revision| Change { revision, sent_us: 900_000, commit_us: 1 };
        let times = propagation(&[change(4), change(5), change(6), change(9)], &applied);
        assert_eq!(times, [100_000, 100_000, 1_100_000]);
    }

    #[test]
    fn what_is_made_is_removed_again() {
        assert!(statement(100_000, 24).contains("'x-2'") && statement(100_000, 24).starts_with("INSERT"));
        assert!(statement(100_000, 29).contains("'x-2'") && statement(100_000, 29).starts_with("DELETE"));
        assert!(statement(100_000, 0).starts_with("UPDATE") && statement(100_000, 0).contains("'1'"));
    }
}
