//! The health thread: probes nodes, merges what requests told the cores, and lets every core know of a change.
//!
//! One thread for the process, with a runtime of its own, so that no core is ever held up by a probe. Who is probed when, and what
//! follows from it, the engine decides (`upstream/watch.rs`). A new configuration is followed within a tick: from then on nodes that are
//! gone are not probed, and findings of probes under way are dropped.

mod probe;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use monoio::{LegacyDriver, RuntimeBuilder};
use ringway_engine::upstream::{Finding, Orders, Probe, Standings, Watch};
use ringway_engine::view::View;

use crate::config::IoDriver;
use crate::io::{Deadlines, TICK};
use crate::publish::Herald;
use crate::state::State;
use crate::worker;

/// Probes of all upstreams at once.
const PROBES_MAX: usize = 1_024;

/// What is known of nodes, for this thread and for operators.
#[derive(Debug)]
pub(crate) struct Ward(Mutex<Inside>);

/// See [`Ward`].
#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) watch: Watch,
    pub(crate) orders: Orders,
    /// The cores are to be told anew.
    pub(crate) changed: bool,
}

impl Default for Ward {
    fn default() -> Ward {
        let seed = u64::from(std::process::id());
        Ward(Mutex::new(Inside { watch: Watch::new(seed), orders: Orders::default(), changed: false }))
    }
}

impl Ward {
    /// A thread that panicked while it held this left it whole.
    pub(crate) fn open(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Works until the process ends.
pub(crate) fn run(driver: IoDriver, state: &Arc<State>, herald: Herald) {
    let work = Work {
        state: Arc::clone(state),
        herald: RefCell::new(herald),
        deadlines: Rc::new(Deadlines::new(Instant::now())),
        followed: RefCell::new(None),
        found: Rc::default(),
        under_way: Rc::default(),
    };
    if let Err(error) = work.block_on(driver) {
        tracing::error!("nodes cannot be probed: {error}");
    }
}

struct Work {
    state: Arc<State>,
    herald: RefCell<Herald>,
    deadlines: Rc<Deadlines>,
    followed: RefCell<Option<Arc<View>>>,
    found: Rc<RefCell<Vec<(Probe, Finding)>>>,
    under_way: Rc<Cell<usize>>,
}

impl Work {
    fn block_on(self, driver: IoDriver) -> io::Result<()> {
        match driver {
            IoDriver::Uring => worker::uring()?.block_on(self.turns()),
            IoDriver::Epoll => {
                RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?.block_on(self.turns());
            }
        }
        Ok(())
    }

    async fn turns(self) {
        loop {
            monoio::time::sleep(TICK).await;
            self.deadlines.turn(Instant::now());
            self.turn();
        }
    }

    fn turn(&self) {
        let now_ms = self.state.uptime_ms();
        let view = self.state.feed().view.clone();
        let mut ward = self.state.ward.open();
        if let Some(view) = view {
            self.follow(&mut ward, view, now_ms);
        }
        for core in &self.state.cores {
            let tallies = std::mem::take(&mut *core.tallies.lock().unwrap_or_else(PoisonError::into_inner));
            for (cluster, address, tally) in tallies {
                let tell = |watch: &mut Watch| watch.tallied(&cluster.key, address, &tally, now_ms);
                noting(&mut ward.watch, &cluster.key, address, "requests", tell);
            }
        }
        for (probe, finding) in self.found.borrow_mut().drain(..) {
            let tell = |watch: &mut Watch| watch.found(&probe, finding, now_ms);
            noting(&mut ward.watch, &probe.key, probe.address, "probes", tell);
        }
        while self.under_way.get() < PROBES_MAX {
            let Some(probe) = ward.watch.probe(now_ms) else { break };
            self.spawn(probe);
        }
        if ward.watch.take_changed() | std::mem::take(&mut ward.changed) {
            let mut standings: Standings =
                ward.watch.sick().map(|(key, standing)| (key.into(), Arc::new(standing))).collect();
            ward.orders.apply(&mut standings);
            self.herald.borrow_mut().tell(standings);
        }
    }

    fn follow(&self, ward: &mut Inside, view: Arc<View>, now_ms: u64) {
        let mut followed = self.followed.borrow_mut();
        if followed.as_ref().is_some_and(|followed| Arc::ptr_eq(followed, &view)) {
            return;
        }
        ward.watch.follow(view.clusters(), now_ms);
        ward.changed |= ward.orders.follow(|key| view.cluster_of(key).map(|cluster| &**cluster));
        // Only the present view is held, so that the feed can free it when it is replaced: within a tick.
        *followed = Some(view);
    }

    fn spawn(&self, probe: Probe) {
        self.under_way.set(self.under_way.get() + 1);
        let (deadlines, found) = (Rc::clone(&self.deadlines), Rc::clone(&self.found));
        let under_way = Rc::clone(&self.under_way);
        monoio::spawn(async move {
            let finding = probe::carry_out(&probe, &deadlines).await;
            found.borrow_mut().push((probe, finding));
            under_way.set(under_way.get() - 1);
        });
    }
}

/// Does something to a node's health, and logs it when the node changes sides.
fn noting(watch: &mut Watch, key: &str, address: SocketAddr, by: &str, change: impl FnOnce(&mut Watch)) {
    let look = |watch: &Watch| Some(watch.report(key, address, 0)?.health.is_healthy());
    let was = look(watch);
    change(watch);
    match (was, look(watch)) {
        (Some(true), Some(false)) => {
            tracing::warn!(upstream = key, node = %address, by, "a node is unhealthy");
        }
        (Some(false), Some(true)) => {
            tracing::info!(upstream = key, node = %address, by, "a node is healthy again");
        }
        _ => {}
    }
}
