//! The health thread: probes nodes, merges what requests told the cores, and lets every core know of a change.
//!
//! It also keeps the addresses of nodes that are told by name (`health/names.rs` looks them up).
//!
//! One thread for the process, with a runtime of its own, so that no core is ever held up by a probe. Who is probed when, and what
//! follows from it, the engine decides (`upstream/watch.rs`). A new configuration is followed within a tick: from then on nodes that are
//! gone are not probed, and findings of probes under way are dropped.

mod names;
mod probe;
mod tls;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use monoio::{LegacyDriver, RuntimeBuilder};
use ringway_engine::upstream::{
    Address, Change, Cluster, FailureKind, Finding, History, Memory, Names, Orders, Probe, Resolved,
    Sickness, Standings, Watch,
};
use ringway_engine::view::View;

use self::names::Resolver;
use self::tls::Trust;
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
    /// Names have other addresses.
    renamed: bool,
    /// What became of nodes lately.
    pub(crate) history: History,
    /// Upstreams that can serve nothing as they are, as the log says.
    bare: HashSet<Box<str>>,
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
            renamed: false,
            history: History::default(),
            bare: HashSet::new(),
        }))
    }
}

impl Inside {
    /// The cluster with the addresses that its names have.
    pub(crate) fn whole<'c>(&'c self, cluster: &'c Arc<Cluster>) -> &'c Arc<Cluster> {
        self.resolved.get(&cluster.key).map_or(cluster, |resolved| &resolved.cluster)
    }

    /// What a successor has to know.
    pub(crate) fn memory(&self, now_ms: u64) -> Memory {
        Memory::of(&self.watch, &self.orders, &self.names, now_ms)
    }

    /// Takes over what a predecessor knew.
    pub(crate) fn recall(&mut self, memory: Memory, now_ms: u64) {
        tracing::info!(
            nodes = memory.healths.len(),
            orders = memory.orders.len(),
            names = memory.names.len(),
            "what the predecessor knew of nodes is taken over"
        );
        for known in &memory.healths {
            if let Some((kind, in_requests)) = known.sick {
                let why = format!("{}, as the process before knew", words(Sickness { kind, in_requests }));
                let change = Change { at_ms: now_ms.saturating_sub(known.for_ms), to: "unhealthy", why };
                self.history.note(&known.key, &known.address, change);
            }
        }
        memory.restore(&mut self.watch, &mut self.orders, &mut self.names, now_ms);
        (self.changed, self.renamed) = (true, true);
    }

    /// Whether the cores have yet to be told of something.
    pub(crate) fn is_news(&self) -> bool {
        self.changed || self.renamed
    }
}

/// What there was too much of.
pub(crate) fn words(sickness: Sickness) -> String {
    let what = match sickness.kind {
        FailureKind::Http => "bad statuses",
        FailureKind::Tcp => "failed connections",
        FailureKind::Timeout => "time-outs",
    };
    format!("{what} of {}", if sickness.in_requests { "requests" } else { "probes" })
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
        trust: Rc::default(),
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
    trust: Rc<RefCell<Trust>>,
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
        let mut renamed = std::mem::take(&mut ward.renamed);
        for (name, answer) in self.resolver.answers() {
            if answer.is_none() && ward.names.failures(&name) == 0 {
                tracing::warn!(name = &*name, "cannot be looked up; what was known of it stays");
            }
            renamed |= ward.names.answered(&name, answer, now_ms) || ward.names.addresses(&name).is_empty();
        }
        match view {
            Some(view) => self.follow(&mut ward, view, renamed, now_ms),
            None => ward.renamed = renamed,
        }
        ward.names.due(now_ms).into_iter().for_each(|name| self.resolver.ask(name));
        for (number, core) in self.state.cores.iter().enumerate() {
            let turns = std::mem::take(&mut *core.turns.lock().unwrap_or_else(PoisonError::into_inner));
            for (cluster, turn) in turns {
                let (to, why) = match turn.out_ms {
                    Some(ms) => {
                        ("ejected", format!("failures in requests: core {number} leaves it out for {ms} ms"))
                    }
                    None => ("ready", format!("it answered a request of core {number}")),
                };
                tracing::info!(upstream = &*cluster.key, node = %turn.address, "a node is {to}: {why}");
                ward.history.note(&cluster.key, &turn.address, Change { at_ms: now_ms, to, why });
            }
            let tallies = std::mem::take(&mut *core.tallies.lock().unwrap_or_else(PoisonError::into_inner));
            for (cluster, address, tally) in tallies {
                let tell = |watch: &mut Watch| watch.tallied(&cluster.key, &address, &tally, now_ms);
                noting(&mut ward, (&cluster.key, &address), None, now_ms, tell);
            }
        }
        for (probe, finding) in self.found.borrow_mut().drain(..) {
            let tell = |watch: &mut Watch| watch.found(&probe, finding, now_ms);
            noting(&mut ward, (&probe.key, &probe.address), Some(finding), now_ms, tell);
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
        let Inside { watch, orders, resolved, bare, .. } = ward;
        let whole = |cluster| -> &Arc<Cluster> {
            let cluster: &Arc<Cluster> = cluster;
            resolved.get(&cluster.key).map_or(cluster, |resolved| &resolved.cluster)
        };
        watch.follow(view.clusters().map(whole), now_ms);
        let is_pending =
            |cluster: &Arc<Cluster>| resolved.get(&cluster.key).is_some_and(|known| known.pending);
        complain(bare, view.clusters().filter(|cluster| !is_pending(cluster)).map(whole));
        ward.changed |= orders.follow(|key| view.cluster_of(key).map(|cluster| &**whole(cluster)));
        // Only the present view is held, so that the feed can free it when it is replaced: within a tick.
        *followed = Some(view);
    }

    fn spawn(&self, probe: Probe) {
        self.under_way.set(self.under_way.get() + 1);
        let (deadlines, found) = (Rc::clone(&self.deadlines), Rc::clone(&self.found));
        let (under_way, trust) = (Rc::clone(&self.under_way), Rc::clone(&self.trust));
        monoio::spawn(async move {
            let finding = probe::carry_out(&probe, &trust, &deadlines).await;
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

/// Does something to a node's health, and notes it when the node changes sides; `last` is what a probe found.
fn noting(
    ward: &mut Inside,
    (key, address): (&str, &Address),
    last: Option<Finding>,
    now_ms: u64,
    change: impl FnOnce(&mut Watch),
) {
    let look = |watch: &Watch| Some(watch.report(key, address, 0)?.health.sickness());
    let was = look(&ward.watch);
    change(&mut ward.watch);
    let (to, why) = match (was, look(&ward.watch)) {
        (Some(None), Some(Some(sickness))) => {
            let last = last.map_or_else(String::new, |last| format!("; the last one: {last}"));
            let why = format!("{}{last}", words(sickness));
            tracing::warn!(upstream = key, node = %address, "a node is unhealthy: {why}");
            ("unhealthy", why)
        }
        (Some(Some(_)), Some(None)) => {
            tracing::info!(upstream = key, node = %address, "a node is healthy again");
            ("healthy", "good answers in a row".to_owned())
        }
        _ => return,
    };
    ward.history.note(key, address, Change { at_ms: now_ms, to, why });
}

/// Says once of each upstream that it can serve nothing as it is, and why.
fn complain<'c>(bare: &mut HashSet<Box<str>>, clusters: impl Iterator<Item = &'c Arc<Cluster>>) {
    let mut still = HashSet::new();
    for cluster in clusters {
        let Some(why) = cluster.why_bare() else { continue };
        if !bare.contains(&cluster.key) {
            tracing::warn!(upstream = &*cluster.key, "requests to it are answered with 503: {why}");
        }
        still.insert(cluster.key.clone());
    }
    *bare = still;
}
