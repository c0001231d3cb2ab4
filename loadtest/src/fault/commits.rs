//! The changes: a thread that commits by a timetable, and remembers what PostgreSQL acknowledged.
//!
//! Change number N is one transaction that inserts the route `/change/N` and makes the route `/told` answer `cN`. The
//! first shows at the end whether anything was lost, the second at any time which change a core has applied, both together
//! that a transaction is seen as a whole. A transaction whose connection broke may have happened: it is kept apart.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::cluster::DATABASE;
use super::sql::{Session, SqlError};

const RETRY_EVERY: Duration = Duration::from_millis(50);
const NAP: Duration = Duration::from_millis(2);
/// More would measure this program's memory.
const CHANGES_MAX: u64 = 100_000;

/// The place of a change among all: the data plane's versions are ordered by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) timeline: u64,
    pub(crate) revision: u64,
}

/// A change that PostgreSQL acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Commit {
    pub(crate) number: u64,
    pub(crate) place: Place,
    pub(crate) acked: Instant,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    pub(crate) commits: Vec<Commit>,
    /// Numbers of changes whose outcome is unknown.
    pub(crate) unsure: Vec<u64>,
}

#[derive(Debug)]
pub(crate) struct Committer {
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Folder of the socket of the server that takes the changes.
    server: PathBuf,
    /// Changes with every target; a session to another server is closed.
    generation: u64,
    per_second: f64,
    ended: bool,
    /// A transaction is under way.
    busy: bool,
    done: Done,
}

impl Committer {
    pub(crate) fn start(server: PathBuf, per_second: f64) -> std::io::Result<Self> {
        let shared = Arc::new(Mutex::new(Shared {
            server,
            generation: 0,
            per_second,
            ended: false,
            busy: false,
            done: Done::default(),
        }));
        let thread = std::thread::Builder::new().name("changes".into()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&shared)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Changes go to that server from now on.
    pub(crate) fn aim(&self, server: PathBuf) {
        let mut shared = lock(&self.shared);
        shared.server = server;
        shared.generation += 1;
    }

    /// Changes a second from now on; 0 pauses.
    pub(crate) fn pace(&self, per_second: f64) {
        lock(&self.shared).per_second = per_second;
    }

    /// Whether a transaction is under way.
    pub(crate) fn is_busy(&self) -> bool {
        lock(&self.shared).busy
    }

    pub(crate) fn last(&self) -> Option<Commit> {
        lock(&self.shared).done.commits.last().copied()
    }

    pub(crate) fn count(&self) -> usize {
        lock(&self.shared).done.commits.len()
    }

    pub(crate) fn finish(mut self) -> Done {
        self.end();
        lock(&self.shared).done.clone()
    }

    fn end(&mut self) {
        lock(&self.shared).ended = true;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(shared: &Mutex<Shared>) {
    let mut session: Option<(u64, Session)> = None;
    let mut number = 0;
    let mut due = Instant::now();
    loop {
        let (server, generation, per_second) = {
            let mut shared = lock(shared);
            shared.busy = false;
            if shared.ended || number >= CHANGES_MAX {
                return;
            }
            (shared.server.clone(), shared.generation, shared.per_second)
        };
        let now = Instant::now();
        if per_second <= 0.0 {
            due = now;
            std::thread::sleep(NAP);
            continue;
        }
        if due > now {
            std::thread::sleep((due - now).min(NAP));
            continue;
        }
        if session.as_ref().is_none_or(|(of, _)| *of != generation) {
            session = Session::connect(&server, DATABASE).ok().map(|session| (generation, session));
        }
        let Some((_, open)) = &mut session else {
            std::thread::sleep(RETRY_EVERY);
            continue;
        };
        // What the server missed while it was away is not made up for: that would be another fault.
        let step = Duration::from_secs_f64(1.0 / per_second);
        due = (due + step).max(now.checked_sub(step * 50).unwrap_or(now));
        number += 1;
        {
            let mut shared = lock(shared);
            // It was paused or aimed elsewhere in between.
            if shared.per_second <= 0.0 || shared.generation != generation {
                continue;
            }
            shared.busy = true;
        }
        match commit(open, number) {
            Ok(place) => {
                let acked = Instant::now();
                lock(shared).done.commits.push(Commit { number, place, acked });
            }
            // A standby that is not promoted yet, for example.
            Err(SqlError::Refused(_)) => {
                session = None;
                std::thread::sleep(RETRY_EVERY);
            }
            Err(SqlError::Broken(_)) => {
                lock(shared).done.unsure.push(number);
                session = None;
            }
        }
    }
}

fn commit(session: &mut Session, number: u64) -> Result<Place, SqlError> {
    let rows = session.run(&format!(
        "BEGIN; \
         INSERT INTO ringway.resource (kind, id, spec) VALUES \
           ('routes', 'change-{number}', '{{\"uri\": \"/change/{number}\", \"upstream_id\": \"nodes\"}}'); \
         UPDATE ringway.resource SET spec = jsonb_set(spec, '{{upstream,upstream_host}}', '\"c{number}\"') \
           WHERE kind = 'routes' AND id = 'told'; \
         COMMIT; \
         SELECT timeline, revision FROM ringway.head"
    ))?;
    place(rows.first()).ok_or_else(|| SqlError::Refused("ringway.head has no row".into()))
}

/// Timeline and revision, in that order.
pub(crate) fn place(row: Option<&Vec<String>>) -> Option<Place> {
    let [timeline, revision, ..] = row?.as_slice() else { return None };
    Some(Place { timeline: timeline.parse().ok()?, revision: revision.parse().ok()? })
}

fn lock(mutex: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
