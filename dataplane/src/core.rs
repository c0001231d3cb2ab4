//! What the tasks of one core share. Nothing in here is seen by another core.
//!
//! Invariant: a request takes [`Core::view`] once, when its head is parsed, and uses that until its end.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crossbeam::utils::CachePadded;
use httpdate::HttpDate;
use ringway_engine::plugin::Chance;
use ringway_engine::route::Captures;
use ringway_engine::view::View;
use ringway_snapshot::{Cidr, Version};
use smallvec::SmallVec;

use crate::access::Recorder;
use crate::buf::Buffers;
use crate::config::Limits;
use crate::io::{Deadlines, TICK};
use crate::mirror::Mirrors;
use crate::pool::Pool;
use crate::rosters::Rosters;
use crate::state::{self, Counters, State};
use crate::sys;

/// Length of an HTTP date (RFC 9110 section 5.6.7).
pub(crate) const DATE_BYTES: usize = 29;

/// A turn of the loop that is later than this is told.
const STALL: Duration = Duration::from_millis(50);
/// While descriptors lack, each core says so at most this often.
const DESCRIPTORS_TOLD_EVERY: Duration = Duration::from_secs(10);

/// One core's world.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) id: usize,
    pub(crate) state: Arc<State>,
    /// This core's part of `state`.
    shared: Option<Arc<CachePadded<state::Core>>>,
    pub(crate) limits: Limits,
    pub(crate) options: Options,
    pub(crate) buffers: Buffers,
    pub(crate) scratch: RefCell<Scratch>,
    /// Turns and random numbers for plugins.
    pub(crate) chance: RefCell<Chance>,
    pub(crate) mirrors: Mirrors,
    pub(crate) deadlines: Rc<Deadlines>,
    pub(crate) pool: Pool,
    view: RefCell<Option<Rc<Pinned>>>,
    pub(crate) rosters: Rosters,
    date: Cell<[u8; DATE_BYTES]>,
    /// Connections have become idle, and their memory has not gone back to the kernel.
    pub(crate) rested: Cell<bool>,
    requests_last_turn: Cell<u64>,
    /// What this thread had allocated when the last turn ended, and in all between turns.
    #[cfg(debug_assertions)]
    spent: Cell<(u64, u64)>,
    turned_at: Cell<Instant>,
    pub(crate) clients: Clients,
    /// How often descriptors had been lacking when this core last gave its own.
    descriptors_lacked: Cell<u64>,
    /// Until when the lack of descriptors is not told again.
    descriptors_told_until_ms: Cell<u64>,
    /// Connections over a limit that are being answered.
    pub(crate) shedding: Cell<u32>,
    /// Where records of finished requests go, if anybody wants them.
    pub(crate) recorder: Option<Recorder>,
}

/// Memory that routing works in, one request after the other.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) path: Vec<u8>,
    pub(crate) captures: Captures,
}

/// What the operator chose for every answer.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) hide_reasons: bool,
    pub(crate) via: bool,
    /// Who may say where a request comes from.
    pub(crate) trusted: Arc<[Cidr]>,
}

impl Options {
    /// Whether that client may say where a request comes from.
    pub(crate) fn trusts(&self, client: IpAddr) -> bool {
        self.trusted.iter().any(|block| block.contains(client))
    }
}

/// A view as this core holds it: cloning it touches no memory of another core.
#[derive(Debug)]
pub(crate) struct Pinned(Arc<View>);

impl std::ops::Deref for Pinned {
    type Target = View;

    fn deref(&self) -> &View {
        &self.0
    }
}

impl Core {
    pub(crate) fn new(
        id: usize,
        state: Arc<State>,
        limits: Limits,
        options: Options,
        recorder: Option<Recorder>,
    ) -> Core {
        let deadlines = Rc::new(Deadlines::new(Instant::now()));
        let core = Core {
            id,
            shared: state.cores.get(id).cloned(),
            state,
            limits,
            options,
            buffers: Buffers::default(),
            scratch: RefCell::default(),
            chance: RefCell::new(Chance::new(RandomState::new().hash_one(id))),
            mirrors: Mirrors::default(),
            pool: Pool::new(Rc::clone(&deadlines)),
            rosters: Rosters::new(id, Rc::clone(&deadlines)),
            deadlines,
            view: RefCell::new(None),
            date: Cell::new([b' '; DATE_BYTES]),
            rested: Cell::new(false),
            requests_last_turn: Cell::new(0),
            #[cfg(debug_assertions)]
            spent: Cell::default(),
            turned_at: Cell::new(Instant::now()),
            clients: Clients::default(),
            descriptors_lacked: Cell::new(0),
            descriptors_told_until_ms: Cell::new(0),
            shedding: Cell::new(0),
            recorder,
        };
        core.turn();
        core
    }

    /// The configuration of a request that begins now.
    pub(crate) fn view(&self) -> Option<Rc<Pinned>> {
        self.view.borrow().clone()
    }

    /// Takes another configuration for the requests that begin from now on.
    pub(crate) fn swap(&self, view: Arc<View>) {
        self.rosters.forget(&view);
        *self.view.borrow_mut() = Some(Rc::new(Pinned(view)));
    }

    /// Has requests that wait for room look again, as what they wait for may have changed.
    pub(crate) fn look_again(&self) {
        let view = self.view();
        self.rosters.look_again(view.as_deref().map(|view| &**view));
    }

    /// Tells the other threads what this core serves.
    pub(crate) fn publish_version(&self, version: Version) {
        if let Some(core) = self.state.cores.get(self.id) {
            *core.version.lock().unwrap_or_else(PoisonError::into_inner) = Some(version);
        }
    }

    /// What this core tells the others.
    pub(crate) fn shared(&self) -> Option<&state::Core> {
        self.shared.as_ref().map(|core| &***core)
    }

    pub(crate) fn counters(&self) -> Option<&Counters> {
        self.shared().map(|core| &core.counters)
    }

    /// Counts something.
    pub(crate) fn count(&self, count: impl FnOnce(&Counters)) {
        if let Some(counters) = self.counters() {
            count(counters);
        }
    }

    /// The present time as an HTTP date, exact to a tick.
    pub(crate) fn date(&self) -> [u8; DATE_BYTES] {
        self.date.get()
    }

    /// Whether connections should end with their next answer.
    pub(crate) fn is_closing(&self) -> bool {
        self.state.life.is_closing()
    }

    /// This process has no descriptor left for somebody: connections to nodes that are only kept give theirs, here at once and on the
    /// other cores with their next turn.
    pub(crate) fn free_descriptors(&self) {
        self.pool.clear();
        self.state.descriptors_lacked.fetch_add(1, Relaxed);
    }

    fn give_descriptors(&self) {
        let lacked = self.state.descriptors_lacked.load(Relaxed);
        if self.descriptors_lacked.replace(lacked) == lacked {
            return;
        }
        self.pool.clear();
        if self.deadlines.now_ms() >= self.descriptors_told_until_ms.get() {
            self.descriptors_told_until_ms.set(self.deadlines.until_ms(DESCRIPTORS_TOLD_EVERY));
            tracing::warn!(
                core = self.id,
                "the limit of open files is reached: kept connections to nodes were closed; raise it (LimitNOFILE)"
            );
        }
    }

    /// Gives freed memory back when nobody waits for this core.
    fn tidy(&self) {
        let requests = self.counters().map_or(0, |counters| counters.requests.get());
        let quiet = requests == self.requests_last_turn.replace(requests);
        if quiet && self.rested.take() {
            self.buffers.tidy();
            self.deadlines.tidy();
            sys::give_memory_back();
        }
    }

    /// Counts a turn that came late: what the loop did in between held everything else up.
    fn note_stall(&self, now: Instant) {
        let late = now.saturating_duration_since(self.turned_at.replace(now)).saturating_sub(TICK);
        if late >= STALL {
            self.count(|counters| {
                counters.stalls.up();
                counters.stalled_us.add(u64::try_from(late.as_micros()).unwrap_or(u64::MAX));
            });
        }
    }

    /// What is due every tick: deadlines, the date, the sign of life.
    pub(crate) fn turn(&self) {
        #[cfg(debug_assertions)]
        self.show_spent();
        self.deadlines.turn(Instant::now());
        self.note_stall(Instant::now());
        self.give_descriptors();
        if let Some(pooled) = self.pool.sweep() {
            self.count(|counters| counters.pooled.set(pooled as u64));
        }
        if let Some(recorder) = &self.recorder {
            recorder.turn();
        }
        if let Some(core) = self.state.cores.get(self.id) {
            self.rosters.tell(core);
        }
        self.tidy();
        let mut date = [b' '; DATE_BYTES];
        if write!(date.as_mut_slice(), "{}", HttpDate::from(SystemTime::now())).is_ok() {
            self.date.set(date);
        }
        if let Some(core) = self.state.cores.get(self.id) {
            core.turned_ms.store(self.state.uptime_ms(), Relaxed);
            #[cfg(debug_assertions)]
            show_fault(core);
        }
        #[cfg(debug_assertions)]
        self.spent.set((sys::allocations(), self.spent.get().1));
    }

    /// Tells tests how many requests there were and what was allocated for them: what turns allocate is left out.
    #[cfg(debug_assertions)]
    fn show_spent(&self) {
        let (before, spent) = self.spent.get();
        let spent = spent.wrapping_add(sys::allocations().wrapping_sub(before));
        self.spent.set((before, spent));
        if let Some(core) = self.state.cores.get(self.id) {
            let requests = core.counters.requests.get();
            *core.spent.lock().unwrap_or_else(PoisonError::into_inner) = (requests, spent);
        }
    }
}

/// Stands still or dies, so that tests see what becomes of it.
#[cfg(debug_assertions)]
fn show_fault(core: &state::Core) {
    match core.fault.swap(0, Relaxed) {
        0 => {}
        u64::MAX => panic!("this core was told to die"),
        ms => std::thread::sleep(Duration::from_millis(ms)),
    }
}

/// How many connections each client address has on this core. Kept only when there is a limit.
#[derive(Debug, Default)]
pub(crate) struct Clients(RefCell<hashbrown::HashMap<IpAddr, u32, foldhash::fast::RandomState>>);

impl Clients {
    /// Counts one more, unless that is over the limit.
    pub(crate) fn enter(&self, client: IpAddr, connections_max: u32) -> bool {
        let mut counts = self.0.borrow_mut();
        let count = counts.entry(client.to_canonical()).or_insert(0);
        let enters = *count < connections_max;
        *count += u32::from(enters);
        enters
    }

    /// Counts one less.
    pub(crate) fn leave(&self, client: IpAddr) {
        let mut counts = self.0.borrow_mut();
        let client = client.to_canonical();
        let left = counts.get_mut(&client).map(|count| {
            *count = count.saturating_sub(1);
            *count
        });
        if left == Some(0) {
            counts.remove(&client);
        }
    }
}

/// Where clients come in: the same for all connections that one listener takes.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) ip: IpAddr,
    pub(crate) port: u16,
    pub(crate) port_digits: Box<[u8]>,
}

impl Local {
    pub(crate) fn new(local: SocketAddr) -> Local {
        let port_digits = local.port().to_string().into_bytes().into();
        Local { ip: local.ip(), port: local.port(), port_digits }
    }
}

/// Who is at the two ends of a client's connection, as forwarded fields need it.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) client: SocketAddr,
    /// In words, and in place: every request needs it, and a block of its own would be one more to touch.
    pub(crate) client_ip: SmallVec<[u8; IP_BYTES_USUAL]>,
    pub(crate) local: Rc<Local>,
}

/// Every IPv4 address in words, and every IPv6 address.
const IP_BYTES_USUAL: usize = 39;

impl Ends {
    pub(crate) fn new(client: SocketAddr, local: Rc<Local>) -> Ends {
        let client_ip = client.ip().to_canonical().to_string();
        Ends { client, client_ip: SmallVec::from_slice(client_ip.as_bytes()), local }
    }
}
