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
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use monoio::{LegacyDriver, RuntimeBuilder};
use ringway_engine::upstream::{
    Address, Change, Cluster, FailureKind, Finding, History, Memory, Names, Orders, Probe, Resolved,
    Sickness, Standings, Watch,
};
use ringway_engine::view::View;

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
pub(crate) struct Ward {
    inside: Mutex<Inside>,
    /// A name has been looked up.
    answered: Condvar,
}

/// See [`Ward`].
#[derive(Debug)]
pub(crate) struct Inside {
    pub(crate) watch: Watch,
    pub(crate) orders: Orders,
    pub(crate) names: Names,
    /// Where to ask for names, once somebody looks them up.
    questions: Option<Sender<Box<str>>>,
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
        let inside = Mutex::new(Inside {
            watch: Watch::new(seed),
            orders: Orders::default(),
            names: Names::default(),
            questions: None,
            resolved: HashMap::new(),
            changed: false,
            renamed: false,
            history: History::default(),
            bare: HashSet::new(),
        });
        Ward { inside, answered: Condvar::new() }
    }
}

impl Inside {
    /// The cluster with the addresses that its names have.
    pub(crate) fn whole<'c>(&'c self, cluster: &'c Arc<Cluster>) -> &'c Arc<Cluster> {
        let told = self.resolved.get(&cluster.key).filter(|told| Arc::ptr_eq(&told.base, cluster));
        told.map(|told| &told.cluster).or(cluster.published()).unwrap_or(cluster)
    }

    /// Has the names looked up that are due.
    fn ask(&mut self, now_ms: u64) {
        let Some(questions) = &self.questions else { return };
        for name in self.names.due(now_ms) {
            // Who looks up ends only with the process.
            let _ = questions.send(name);
        }
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
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who looks names up listens there from now on.
    fn listen(&self, questions: Sender<Box<str>>) {
        self.open().questions = Some(questions);
    }

    /// A name has been looked up, or could not be.
    fn answer(&self, name: &str, answer: Option<Vec<IpAddr>>, now_ms: u64) {
        let mut inside = self.open();
        if answer.is_none() && inside.names.failures(name) == 0 {
            tracing::warn!(name, "cannot be looked up; what was known of it stays");
        }
        let changed = inside.names.answered(name, answer, now_ms);
        inside.renamed |= changed || inside.names.addresses(name).is_empty();
        self.answered.notify_all();
    }

    /// Gives the clusters that are new in a view the addresses of their names, before any core sees it. Names that nobody has used before are
    /// looked up first, for `wait` at most: one that takes longer holds up this version alone, as it is not new to the next.
    pub(crate) fn resolve(&self, view: &View, now_ms: u64, wait: Duration) {
        let named = view.named_anew();
        if named.is_empty() {
            return;
        }
        let used = named.iter().flat_map(|cluster| cluster.names.iter().map(|named| &*named.host));
        let mut inside = self.open();
        let mut new = inside.names.expect(used);
        inside.ask(now_ms);
        let deadline = Instant::now() + wait;
        while inside.questions.is_some() {
            new.retain(|name| inside.names.is_pending(name));
            let left = deadline.saturating_duration_since(Instant::now());
            if new.is_empty() || left.is_zero() {
                break;
            }
            let waited = self.answered.wait_timeout(inside, left);
            inside = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if !new.is_empty() && !wait.is_zero() {
            let names = new.join(", ");
            tracing::warn!(version = %view.version, "served before these names were looked up, which takes too long: {names}");
        }
        for cluster in named {
            cluster.publish_with(|name| inside.names.addresses(name));
        }
    }

    /// That view is the present one.
    pub(crate) fn arrived(&self, view: &View) {
        if !view.named_anew().is_empty() {
            self.open().names.arrived();
        }
    }
}

/// Works until the process ends.
pub(crate) fn run(driver: IoDriver, state: &Arc<State>, herald: Herald) {
    match names::start(state) {
        Ok(questions) => state.ward.listen(questions),
        Err(error) => {
            tracing::error!("nodes cannot be probed, nor names looked up: {error}");
            return;
        }
    }
    let work = Work {
        state: Arc::clone(state),
        herald: RefCell::new(herald),
        deadlines: Rc::new(Deadlines::new(Instant::now())),
        followed: RefCell::new(None),
        found: Rc::default(),
        under_way: Rc::default(),
        trust: Rc::default(),
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
        let renamed = std::mem::take(&mut ward.renamed);
        match view {
            Some(view) => self.follow(&mut ward, view, renamed, now_ms),
            None => ward.renamed = renamed,
        }
        ward.ask(now_ms);
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
    let told = old.filter(|old| Arc::ptr_eq(&old.base, cluster)).map(|old| &old.cluster);
    let same = told.or(cluster.published()).filter(|same| same.endpoints == whole.endpoints);
    let whole = same.map_or_else(|| Arc::new(whole), Arc::clone);
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

#[cfg(test)]
mod tests {
    use ringway_snapshot::Snapshot;
    use ringway_snapshot::parse::parse_object;
    use serde_json::json;

    use super::*;

    /// Longer than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn view(nodes: &serde_json::Value) -> View {
        let upstream = parse_object("upstreams", "u", &json!({"nodes": nodes})).unwrap();
        View::compile(&Snapshot::new(1, 1, 1, vec![upstream])).unwrap()
    }

    #[test]
    fn a_name_that_hangs_holds_up_one_version_and_a_name_that_is_found_none() {
        let (ward, (questions, asked)) = (Ward::default(), crossbeam::channel::unbounded());
        ward.listen(questions);
        let wait = Duration::from_millis(20);
        let both = view(&json!({"10.0.0.1:80": 1, "hangs.test:80": 1}));
        let begun = Instant::now();
        ward.resolve(&both, 0, wait);
        ward.arrived(&both);
        assert!(begun.elapsed() >= wait && asked.try_iter().count() == 1);
        let published = both.named_anew()[0].published().unwrap();
        assert_eq!(published.endpoints.len(), 1, "what is known serves");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let name = asked.recv_timeout(PATIENCE).unwrap();
                ward.answer(&name, Some(vec![IpAddr::from([10, 0, 0, 2])]), 1);
            });
            let begun = Instant::now();
            let other = view(&json!({"hangs.test:80": 1, "found.test:80": 1}));
            ward.resolve(&other, 1, PATIENCE);
            assert!(begun.elapsed() < PATIENCE, "a name that hangs is waited for once");
            let addresses: Vec<String> = other.named_anew()[0]
                .published()
                .unwrap()
                .endpoints
                .iter()
                .map(|e| e.address.to_string())
                .collect();
            assert_eq!(addresses, ["10.0.0.2:80"]);
        });
    }
}
