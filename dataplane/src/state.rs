//! What the threads of the process tell each other beside views: counters, health, the feed's last news.
//!
//! Counters have one writer each, their core, so that an increment is a load and a store without a locked bus.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;
use ringway_engine::site::Site;
use ringway_engine::upstream::{Address, Cluster, NodeReport, Tally, Turn};
use ringway_engine::view::View;
use ringway_snapshot::message::Ack;
use ringway_snapshot::{Entries, Fault, Version};

use crate::access::Ledger;
use crate::drain::{Life, Phase};
use crate::health::Ward;
use crate::latency::{Copies, Latency};

/// What all threads see.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) node: String,
    /// Its zone and its environment.
    pub(crate) site: Site,
    pub(crate) started: Instant,
    pub(crate) cores: Vec<Arc<CachePadded<Core>>>,
    /// How far the process is on its way out.
    pub(crate) life: Life,
    pub(crate) feed: Mutex<Feed>,
    /// What probes and operators say of nodes.
    pub(crate) ward: Ward,
    /// Silence of control planes after which this process says that it is not ready; `None`: never.
    pub(crate) stale_after: Option<Duration>,
    /// Earlier states of the cores' histograms.
    pub(crate) latencies: Copies,
    /// How often a core had no descriptor left.
    pub(crate) descriptors_lacked: AtomicU64,
    /// What is known of the access log.
    pub(crate) ledger: Arc<Ledger>,
}

/// What one core tells.
#[derive(Debug, Default)]
pub(crate) struct Core {
    pub(crate) cpu: usize,
    /// Milliseconds since the start at which its loop last turned.
    pub(crate) turned_ms: AtomicU64,
    pub(crate) dead: AtomicBool,
    /// For how long its loop has not turned, once that is too long; else 0.
    pub(crate) stuck_ms: AtomicU64,
    /// Its loop runs.
    pub(crate) running: AtomicBool,
    /// It takes connections.
    pub(crate) listening: AtomicBool,
    /// Its listening sockets once more, for a successor. Dropped when it stops taking connections or dies: a socket that is
    /// open and served by nobody would swallow its share of all connections.
    pub(crate) sockets: Mutex<Vec<Listening>>,
    /// A fault to show, for tests: milliseconds to stand still, or the highest number to die.
    #[cfg(debug_assertions)]
    pub(crate) fault: AtomicU64,
    /// For tests: requests, and what was allocated from one tick to the next (and not in between), as of the last tick.
    #[cfg(debug_assertions)]
    pub(crate) spent: Mutex<(u64, u64)>,
    pub(crate) counters: Counters,
    pub(crate) latency: Latency,
    pub(crate) version: Mutex<Option<Version>>,
    /// What its requests told of nodes' health since the health thread last looked.
    pub(crate) tallies: Mutex<Vec<Told>>,
    /// Breakers that opened or closed since then.
    pub(crate) turns: Mutex<Vec<(Arc<Cluster>, Turn)>>,
    /// An operator wants to see its nodes.
    pub(crate) wanted: AtomicBool,
    /// Its nodes, by their clusters' keys, as of when they were last wanted.
    pub(crate) nodes: Mutex<Option<Vec<Reported>>>,
    /// How many more it has than it told then.
    pub(crate) nodes_cut: AtomicU64,
}

/// A node, and what requests told of its health.
pub(crate) type Told = (Arc<Cluster>, Address, Tally);
/// A node, by its cluster's key, as a core sees it.
pub(crate) type Reported = (Box<str>, NodeReport);

/// A listening socket and which `--listen` it is of.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) flag: usize,
    pub(crate) socket: TcpListener,
}

/// The counters of one core.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) connections: Counter,
    /// Of them, those with a request in hand.
    pub(crate) busy: Counter,
    pub(crate) accepted: Counter,
    pub(crate) shed: Counter,
    pub(crate) requests: Counter,
    pub(crate) responses_1xx: Counter,
    pub(crate) responses_2xx: Counter,
    pub(crate) responses_3xx: Counter,
    pub(crate) responses_4xx: Counter,
    pub(crate) responses_5xx: Counter,
    pub(crate) refused_heads: Counter,
    pub(crate) no_route: Counter,
    pub(crate) upstream_failures: Counter,
    pub(crate) upstream_connects: Counter,
    pub(crate) upstream_reuses: Counter,
    pub(crate) retries: Counter,
    /// Further tries that the budget did not allow.
    pub(crate) retries_refused: Counter,
    pub(crate) client_gone: Counter,
    /// Copies of requests that were sent aside.
    pub(crate) copies: Counter,
    /// Those that were not: too many under way, too large, or nowhere to go.
    pub(crate) copies_left_out: Counter,
    /// Bytes that came from clients, and that went to them.
    pub(crate) received_bytes: Counter,
    pub(crate) sent_bytes: Counter,
    /// Records of requests that found no room.
    pub(crate) access_dropped: Counter,
    pub(crate) panics: Counter,
    /// Turns of its loop that came late, and by how much.
    pub(crate) stalls: Counter,
    pub(crate) stalled_us: Counter,
    /// Kept connections to nodes.
    pub(crate) pooled: Counter,
    /// Answers by status.
    pub(crate) statuses: Statuses,
}

/// Answers by status, from 100 to 599; others are as one.
#[derive(Debug)]
pub(crate) struct Statuses(Box<[Counter]>);

impl Default for Statuses {
    fn default() -> Statuses {
        Statuses((0..=500).map(|_| Counter::default()).collect())
    }
}

impl Statuses {
    fn up(&self, status: u16) {
        let place = usize::from(status).checked_sub(100).unwrap_or(500).min(500);
        if let Some(counter) = self.0.get(place) {
            counter.up();
        }
    }

    /// Those that there were, by number; 600 stands for all outside of 100 to 599.
    pub(crate) fn seen(&self) -> impl Iterator<Item = (u16, u64)> {
        (100..).zip(self.0.iter().map(Counter::get)).filter(|(_, count)| *count > 0)
    }
}

/// A number with one writer and many readers.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    pub(crate) fn up(&self) {
        self.add(1);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    pub(crate) fn down(&self) {
        self.0.store(self.0.load(Relaxed).saturating_sub(1), Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Counters {
    pub(crate) fn response(&self, status: u16) {
        self.statuses.up(status);
        match status / 100 {
            1 => self.responses_1xx.up(),
            2 => self.responses_2xx.up(),
            3 => self.responses_3xx.up(),
            4 => self.responses_4xx.up(),
            _ => self.responses_5xx.up(),
        }
    }
}

/// The feed's last news.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// What every core serves.
    pub(crate) view: Option<Arc<View>>,
    /// The objects it was made of.
    pub(crate) entries: Entries,
    pub(crate) applied_at: Option<Instant>,
    pub(crate) stages: Option<Ack>,
    pub(crate) views_alive: usize,
    pub(crate) booted_from_disk: bool,
    pub(crate) last_refusal: Option<RefusalNews>,
    /// When a control plane was last heard.
    pub(crate) heard_at: Option<Instant>,
    /// Why the last snapshot is not on disk, or what was wrong with what is there.
    pub(crate) disk_error: Option<String>,
    /// What is on disk.
    pub(crate) saved: Option<Version>,
    /// How old the file was that this process started from.
    pub(crate) age_at_boot: Option<Duration>,
    /// Configurations applied that came whole, and those that came as deltas.
    pub(crate) fulls: u64,
    pub(crate) deltas: u64,
    /// The operator allowed this lineage to replace the present one.
    pub(crate) adopted: Option<u64>,
}

/// A configuration that was refused after the served one.
#[derive(Debug, Clone)]
pub(crate) struct RefusalNews {
    /// Who refused it: `control plane` or `data plane`.
    pub(crate) by: &'static str,
    pub(crate) version: Version,
    pub(crate) text: String,
    pub(crate) faults: Vec<Fault>,
}

impl Feed {
    pub(crate) fn count(&mut self, is_delta: bool) {
        let count = if is_delta { &mut self.deltas } else { &mut self.fulls };
        *count = count.saturating_add(1);
    }
}

impl State {
    /// The feed's news; a thread that panicked while it held them left them whole.
    pub(crate) fn feed(&self) -> std::sync::MutexGuard<'_, Feed> {
        self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Client connections of all cores.
    pub(crate) fn connections(&self) -> u64 {
        self.cores.iter().map(|core| core.counters.connections.get()).sum()
    }

    pub(crate) fn uptime_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// How long no control plane has been heard: since when something newer may exist that this process does not know. One that
    /// started from disk counts from when that was written.
    pub(crate) fn silence(&self) -> Duration {
        let feed = self.feed();
        match feed.heard_at {
            Some(heard) => heard.elapsed(),
            None => self.started.elapsed().saturating_add(feed.age_at_boot.unwrap_or_default()),
        }
    }

    /// Why what is served is too old for whoever asks, if so.
    pub(crate) fn stale(&self, age_max: Duration) -> Option<String> {
        let silence = self.silence();
        (silence > age_max).then(|| {
            let (silence, age_max) = (silence.as_secs(), age_max.as_secs());
            format!("stale: no control plane was heard for {silence} s, more than {age_max} s; what is served may be outdated")
        })
    }

    /// Why this process should get no traffic, if so.
    pub(crate) fn not_ready(&self) -> Option<&'static str> {
        // With a successor this answer is about what is behind the address, which is the successor.
        if self.life.phase() != Phase::Serving && !self.life.has_successor() {
            return Some("draining");
        }
        if self.not_alive().is_some() {
            return Some("a core has died or is stuck");
        }
        if !self.cores.iter().all(|core| core.listening.load(Relaxed)) {
            return Some("not listening yet");
        }
        if self.feed().view.is_none() {
            return Some("no configuration yet: neither a snapshot on disk nor one from a control plane");
        }
        None
    }

    /// Why this process should be restarted, if so.
    pub(crate) fn not_alive(&self) -> Option<String> {
        let mut trouble = Vec::new();
        for (number, core) in self.cores.iter().enumerate() {
            let stuck_ms = core.stuck_ms.load(Relaxed);
            if core.dead.load(Relaxed) {
                trouble.push(format!("core {number} has died"));
            } else if stuck_ms > 0 {
                trouble.push(format!(
                    "core {number} has been stuck for {:.1} s",
                    Duration::from_millis(stuck_ms).as_secs_f64()
                ));
            }
        }
        if trouble.is_empty() { None } else { Some(trouble.join("; ")) }
    }
}

impl Core {
    /// Its sockets for a successor; a thread that panicked while it held them left them whole.
    pub(crate) fn sockets(&self) -> std::sync::MutexGuard<'_, Vec<Listening>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn served_version(&self) -> Option<Version> {
        *self.version.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
