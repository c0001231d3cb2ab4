//! The thread that takes the cores' records: it counts them by route where that is wanted, formats and writes them.
//!
//! It looks for records by itself, some times a second: a core never wakes it. While it is held up (a slow disk, a busy
//! machine) the cores' rings fill, and then what comes is dropped there and counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::format::Format;
use super::moment::Moments;
use super::record::Record;
use super::ring::Consumer;
use super::routes::Routes;
use super::sink::Sink;

/// Between two looks while there are records.
const BUSY_WAIT: Duration = Duration::from_millis(10);
/// And while there are none.
const IDLE_WAIT: Duration = Duration::from_millis(50);
/// Records that are taken from one core before the next one's turn.
const TURN_RECORDS: usize = 1_024;
/// How long the end of the process waits for what is left.
const END_WAIT: Duration = Duration::from_secs(1);

/// What other threads see of it, and tell it.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Whether there is an access log.
    pub(crate) logs: bool,
    pub(crate) lines: AtomicU64,
    /// Lines that could not be written.
    pub(crate) dropped: AtomicU64,
    trouble: Mutex<Option<String>>,
    reopen: AtomicBool,
    ends: AtomicBool,
    ended: AtomicBool,
    routes: Option<Mutex<Routes>>,
}

impl Ledger {
    pub(crate) fn new(logs: bool, routes_max: usize) -> Ledger {
        let routes = (routes_max > 0).then(|| Mutex::new(Routes::new(routes_max)));
        Ledger { logs, routes, ..Ledger::default() }
    }

    /// The file is to be opened anew.
    pub(crate) fn reopen(&self) {
        self.reopen.store(true, Relaxed);
    }

    /// Why lines are not written at present.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts by route, where they are wanted.
    pub(crate) fn routes(&self) -> Option<MutexGuard<'_, Routes>> {
        let routes = self.routes.as_ref()?;
        Some(routes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The process ends: waits a moment for what is left to be written.
    pub(crate) fn end(&self) {
        self.ends.store(true, Relaxed);
        let patience = Instant::now() + END_WAIT;
        while !self.ended.load(Relaxed) && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// There is nothing to wait for.
    pub(crate) fn idle(&self) {
        self.ended.store(true, Relaxed);
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Scribe {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) rings: Vec<Consumer>,
    pub(crate) log: Option<(Format, Sink)>,
}

impl Scribe {
    /// Runs until the process ends.
    pub(crate) fn run(mut self) {
        let mut moments = Moments::default();
        let mut bytes = Vec::new();
        loop {
            // Looked at first: what came before the end is still taken.
            let ends = self.ledger.ends.load(Relaxed);
            let taken = self.pass(&mut moments, &mut bytes);
            self.settle();
            if ends && taken == 0 {
                return self.ledger.idle();
            }
            if !ends {
                std::thread::sleep(if taken > 0 { BUSY_WAIT } else { IDLE_WAIT });
            }
        }
    }

    /// Takes what is there; tells how many records.
    fn pass(&mut self, moments: &mut Moments, bytes: &mut Vec<u8>) -> usize {
        let mut taken = 0;
        let mut routes = self.ledger.routes();
        loop {
            let before = taken;
            for ring in &mut self.rings {
                for _ in 0..TURN_RECORDS {
                    if !ring.pop(bytes) {
                        break;
                    }
                    taken += 1;
                    let Some(record) = Record::decode(bytes) else { continue };
                    if let Some(routes) = &mut routes {
                        routes.count(&record);
                    }
                    if let Some((format, sink)) = self.log.as_mut().filter(|_| record.logged)
                        && let Some(room) = sink.room()
                    {
                        format.write(&record, moments, room);
                    }
                }
            }
            // The metrics page must not wait for long.
            if taken == before || taken >= TURN_RECORDS * 16 {
                return taken;
            }
        }
    }

    /// Writes, looks after the file, tells.
    fn settle(&mut self) {
        let Some((_, sink)) = &mut self.log else { return };
        sink.look(self.ledger.reopen.swap(false, Relaxed));
        sink.flush();
        self.ledger.lines.store(sink.written, Relaxed);
        self.ledger.dropped.store(sink.dropped, Relaxed);
        let mut told = self.ledger.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if told.as_deref() != sink.trouble() {
            *told = sink.trouble().map(str::to_owned);
        }
    }
}
