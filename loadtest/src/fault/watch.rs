//! What each core runs, asked from the data plane's admin socket every few milliseconds.
//!
//! Only changes are kept. A new process is a new generation: it starts from disk, where the last change before a
//! kill -9 may not have arrived, so that versions are only comparable within one. An asynchronous failover is not an
//! exception: `(timeline, revision)` must rise there too.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::ask;
use super::commits::Place;

/// The resolution of "served on all cores".
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// From `at` on, the cores of the process `generation` run these.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) generation: u32,
    pub(crate) cores: Vec<Option<Place>>,
}

#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    ended: bool,
    seen: Vec<Seen>,
}

impl Seen {
    /// The oldest that any core runs.
    pub(crate) fn least(&self) -> Option<Place> {
        self.cores.iter().copied().min().flatten()
    }
}

impl Watch {
    pub(crate) fn start(admin_socket: PathBuf) -> std::io::Result<Self> {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let thread = std::thread::Builder::new().name("watch".into()).spawn({
            let shared = Arc::clone(&shared);
            move || run(&admin_socket, &shared)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The oldest version on any core now.
    pub(crate) fn least(&self) -> Option<Place> {
        lock(&self.shared).seen.last().and_then(Seen::least)
    }

    pub(crate) fn finish(mut self) -> Vec<Seen> {
        self.end();
        std::mem::take(&mut lock(&self.shared).seen)
    }

    fn end(&mut self) {
        lock(&self.shared).ended = true;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

fn run(admin_socket: &Path, shared: &Mutex<Shared>) {
    let (mut generation, mut last_pid) = (0, None);
    loop {
        // The answer is from before it was read: "served" is never told too early.
        if let Some((pid, cores)) = look(admin_socket) {
            let at = Instant::now();
            if last_pid.is_some_and(|last| last != pid) {
                generation += 1;
            }
            last_pid = Some(pid);
            let mut shared = lock(shared);
            let is_new = |last: &Seen| last.cores != cores || last.generation != generation;
            if shared.seen.last().is_none_or(is_new) {
                shared.seen.push(Seen { at, generation, cores });
            }
        }
        if lock(shared).ended {
            return;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn look(admin_socket: &Path) -> Option<(u64, Vec<Option<Place>>)> {
    let text = ask::socket(admin_socket, "show info json; show cores json").ok()?;
    let mut documents = serde_json::Deserializer::from_str(&text).into_iter::<Value>().filter_map(Result::ok);
    let pid = documents.next()?.get("pid")?.as_u64()?;
    let cores = documents.next()?;
    Some((pid, cores.as_array()?.iter().map(|core| place(core.get("version")?)).collect()))
}

/// The version of a document.
pub(crate) fn place(version: &Value) -> Option<Place> {
    Some(Place { timeline: version.get("timeline")?.as_u64()?, revision: version.get("revision")?.as_u64()? })
}

fn lock(mutex: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
