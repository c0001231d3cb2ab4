//! The health thread: probes nodes, merges what requests told the cores, and lets every core know of a change.
//!
//! It also keeps the addresses of nodes that are told by name (`health/names.rs` looks them up).
//!
//! One thread for the process, with a runtime of its own, so that no core is ever held up by a probe. Who is probed when, and what
//! follows from it, the engine decides (`upstream/watch.rs`). A new configuration is followed within a tick: from then on nodes that are
//! gone are not probed, and findings of probes under way are dropped.

mod names;
mod probe;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use monoio::{LegacyDriver, RuntimeBuilder};
use ringway_engine::upstream::{Address, Cluster, Finding, Names, Orders, Probe, Resolved, Standings, Watch};
use ringway_engine::view::View;

use self::names::Resolver;
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
    pub(crate) names: Names,
    /// By key, the clusters whose nodes are told by name.
    pub(crate) resolved: HashMap<Box<str>, Resolved>,
    /// The cores are to be told anew.
    pub(crate) changed: bool,
}

impl Default for Ward {
    fn default() -> Ward {
        let seed = u64::from(std::process::id());
        Ward(Mutex::new(Inside {
            watch: Watch::new(seed),
            orders: Orders::default(),
            names: Names::default(),
            resolved: HashMap::new(),
            changed: false,
        }))
    }
}

impl Inside {
    /// The cluster with the addresses that its names have.
    pub(crate) fn whole<'c>(&'c self, cluster: &'c Arc<Cluster>) -> &'c Arc<Cluster> {
        self.resolved.get(&cluster.key).map_or(cluster, |resolved| &resolved.cluster)
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
    let resolver = match Resolver::start() {
        Ok(resolver) => resolver,
        Err(error) => {
            tracing::error!("nodes cannot be probed, nor names looked up: {error}");
            return;
        }
    };
    let work = Work {
        state: Arc::clone(state),
        herald: RefCell::new(herald),
        deadlines: Rc::new(Deadlines::new(Instant::now())),
        followed: RefCell::new(None),
        found: Rc::default(),
        under_way: Rc::default(),
        resolver,
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
    resolver: Resolver,
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
        let mut renamed = false;
        for (name, answer) in self.resolver.answers() {
            if answer.is_none() && ward.names.failures(&name) == 0 {
                tracing::warn!(name = &*name, "cannot be looked up; what was known of it stays");
            }
            renamed |= ward.names.answered(&name, answer, now_ms) || ward.names.addresses(&name).is_empty();
        }
        if let Some(view) = view {
            self.follow(&mut ward, view, renamed, now_ms);
        }
        ward.names.due(now_ms).into_iter().for_each(|name| self.resolver.ask(name));
        for core in &self.state.cores {
            let tallies = std::mem::take(&mut *core.tallies.lock().unwrap_or_else(PoisonError::into_inner));
            for (cluster, address, tally) in tallies {
                let tell = |watch: &mut Watch| watch.tallied(&cluster.key, &address, &tally, now_ms);
                noting(&mut ward.watch, &cluster.key, &address, "requests", tell);
            }
        }
        for (probe, finding) in self.found.borrow_mut().drain(..) {
            let tell = |watch: &mut Watch| watch.found(&probe, finding, now_ms);
            noting(&mut ward.watch, &probe.key, &probe.address, "probes", tell);
        }
        while self.under_way.get() < PROBES_MAX {
            let Some(probe) = ward.watch.probe(now_ms) else { break };
            self.spawn(probe);
        }
        if ward.watch.take_changed() | std::mem::take(&mut ward.changed) {
            let mut standings: Standings =
                ward.watch.sick().map(|(key, standing)| (key.into(), Arc::new(standing))).collect();
            ward.orders.apply(&mut standings);
            for (key, resolved) in &ward.resolved {
                Arc::make_mut(standings.entry(key.clone()).or_default()).resolved = Some(resolved.clone());
            }
            self.herald.borrow_mut().tell(standings);
        }
    }

    fn follow(&self, ward: &mut Inside, view: Arc<View>, renamed: bool, now_ms: u64) {
        let mut followed = self.followed.borrow_mut();
        if !renamed && followed.as_ref().is_some_and(|followed| Arc::ptr_eq(followed, &view)) {
            return;
        }
        let named = || view.clusters().filter(|cluster| !cluster.names.is_empty());
        ward.names.follow(named().flat_map(|cluster| cluster.names.iter().map(|named| &*named.host)));
        let known = std::mem::take(&mut ward.resolved);
        for cluster in named() {
            let old = known.get(&cluster.key);
            let resolved = match old.filter(|old| !renamed && Arc::ptr_eq(&old.base, cluster)) {
                Some(old) => old.clone(),
                None => {
                    ward.changed = true;
                    resolve(&ward.names, cluster, old)
                }
            };
            ward.resolved.insert(cluster.key.clone(), resolved);
        }
        ward.changed |= known.len() != ward.resolved.len();
        let Inside { watch, orders, resolved, .. } = ward;
        let whole = |cluster| -> &Arc<Cluster> {
            let cluster: &Arc<Cluster> = cluster;
            resolved.get(&cluster.key).map_or(cluster, |resolved| &resolved.cluster)
        };
        watch.follow(view.clusters().map(whole), now_ms);
        ward.changed |= orders.follow(|key| view.cluster_of(key).map(|cluster| &**whole(cluster)));
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

/// A cluster with the addresses of its names. Where they are what they were, it is the same as before.
fn resolve(names: &Names, cluster: &Arc<Cluster>, old: Option<&Resolved>) -> Resolved {
    let whole = cluster.with_addresses(|name| names.addresses(name));
    let pending = cluster.names.iter().any(|named| names.is_pending(&named.host));
    let same = old.filter(|old| Arc::ptr_eq(&old.base, cluster) && old.cluster.endpoints == whole.endpoints);
    let whole = same.map_or_else(|| Arc::new(whole), |old| Arc::clone(&old.cluster));
    Resolved { base: Arc::clone(cluster), cluster: whole, pending }
}

/// Does something to a node's health, and logs it when the node changes sides.
fn noting(watch: &mut Watch, key: &str, address: &Address, by: &str, change: impl FnOnce(&mut Watch)) {
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
