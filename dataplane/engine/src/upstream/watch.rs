//! Who is to be probed when, and what is known of every node's health, over the whole process.
//!
//! Keyed by the upstream's key and the node's address: a new version, another list of nodes or an upstream that is deleted and made
//! again does not make a sick node healthy. A node that is gone is not probed again, from the moment on in which that is known; what was
//! known of it is kept for a while.
//!
//! Invariants: one probe of a node at a time; of an upstream at most as many at once as it says; findings of probes that were begun
//! before a node went are dropped.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use ringway_snapshot::upstream::Checks;

use super::finding::Finding;
use super::health::Health;
use super::memory::KnownHealth;
use super::round_robin::mix;
use super::tally::Tally;
use super::{Address, Cluster, NodeStanding, Standing};

/// For so long the health of a node that is gone is kept.
const KEPT_MS: u64 = 600_000;
/// Of so many nodes that are gone.
const KEPT_MAX: usize = 65_536;
/// First probes come within this time, in no order.
const FIRST_MS_MAX: u64 = 1_000;
/// When an upstream has as many probes under way as it may have.
const BUSY_MS: u64 = 100;

type HashMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;

/// See the module.
#[derive(Debug)]
pub struct Watch {
    groups: HashMap<Arc<str>, Group>,
    due: BinaryHeap<Reverse<Due>>,
    gone: HashMap<(Arc<str>, Address), Gone>,
    numbers: u64,
    seed: u64,
    generation: u64,
    changed: bool,
}

/// An upstream with checks.
#[derive(Debug)]
struct Group {
    cluster: Arc<Cluster>,
    checks: Arc<Checks>,
    nodes: HashMap<Address, Watched>,
    under_way: u32,
    generation: u64,
}

#[derive(Debug)]
struct Watched {
    health: Health,
    /// Number of the next probe, or of the one that is under way.
    number: u64,
    under_way: bool,
    last: Option<Finding>,
    /// When its health last changed.
    since_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Gone {
    health: Health,
    since_ms: u64,
    at_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Due {
    at_ms: u64,
    number: u64,
    key: Arc<str>,
    address: Address,
}

/// A probe to be made.
#[derive(Debug, Clone)]
pub struct Probe {
    /// The upstream's key.
    pub key: Arc<str>,
    /// The node.
    pub address: Address,
    /// How, and for how long.
    pub checks: Arc<Checks>,
    /// The cluster that it was ordered for.
    pub cluster: Arc<Cluster>,
    number: u64,
}

/// One node as an operator wants to see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthReport {
    /// Its health.
    pub health: Health,
    /// What the last probe found.
    pub last: Option<Finding>,
    /// For how long its health has been this.
    pub for_ms: u64,
}

impl Watch {
    /// Nothing is watched yet. `seed` spreads probes of several gateways over time.
    pub fn new(seed: u64) -> Watch {
        Watch {
            groups: HashMap::default(),
            due: BinaryHeap::new(),
            gone: HashMap::default(),
            numbers: 0,
            seed,
            generation: 0,
            changed: false,
        }
    }

    /// Follows a configuration: all its clusters.
    pub fn follow<'c>(&mut self, clusters: impl Iterator<Item = &'c Arc<Cluster>>, now_ms: u64) {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        for cluster in clusters {
            let Some(checks) = &cluster.checks else { continue };
            if let Some(group) = self.groups.get_mut(&*cluster.key) {
                group.generation = generation;
                if Arc::ptr_eq(&group.cluster, cluster) {
                    continue;
                }
            }
            self.follow_group(cluster, checks, now_ms);
        }
        let is_left = |group: &Group| group.generation != generation;
        let left: Vec<Arc<str>> =
            self.groups.iter().filter(|(_, group)| is_left(group)).map(|(key, _)| Arc::clone(key)).collect();
        for key in left {
            if let Some(group) = self.groups.remove(&key) {
                group.nodes.into_iter().for_each(|(address, node)| self.bury(&key, address, &node, now_ms));
            }
        }
        self.gone.retain(|_, gone| now_ms.saturating_sub(gone.at_ms) < KEPT_MS);
        self.check_invariants();
    }

    fn follow_group(&mut self, cluster: &Arc<Cluster>, checks: &Arc<Checks>, now_ms: u64) {
        let key: Arc<str> = self
            .groups
            .get_key_value(&*cluster.key)
            .map_or_else(|| (*cluster.key).into(), |(key, _)| Arc::clone(key));
        let mut group = self.groups.remove(&key).unwrap_or_else(|| Group {
            cluster: Arc::clone(cluster),
            checks: Arc::clone(checks),
            nodes: HashMap::default(),
            under_way: 0,
            generation: self.generation,
        });
        let hurry = group.checks != *checks;
        (group.cluster, group.checks) = (Arc::clone(cluster), Arc::clone(checks));
        let wanted: hashbrown::HashSet<Address, foldhash::fast::FixedState> = cluster
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.weight > 0)
            .map(|endpoint| endpoint.address.clone())
            .collect();
        let left: Vec<Address> =
            group.nodes.keys().filter(|address| !wanted.contains(*address)).cloned().collect();
        for address in left {
            if let Some(node) = group.nodes.remove(&address) {
                group.under_way = group.under_way.saturating_sub(u32::from(node.under_way));
                self.bury(&key, address, &node, now_ms);
            }
        }
        for address in wanted {
            let known = group.nodes.contains_key(&address);
            let node = group.nodes.entry(address.clone()).or_insert_with(|| {
                let gone = self.gone.remove(&(Arc::clone(&key), address.clone()));
                self.changed |= gone.is_some_and(|gone| !gone.health.is_healthy());
                Watched {
                    health: gone.map(|gone| gone.health).unwrap_or_default(),
                    number: 0,
                    under_way: false,
                    last: None,
                    since_ms: gone.map_or(now_ms, |gone| gone.since_ms),
                }
            });
            if !known || (hurry && !node.under_way) {
                self.numbers = self.numbers.wrapping_add(1);
                node.number = self.numbers;
                let wait_ms = mix(self.seed ^ self.numbers) % FIRST_MS_MAX;
                let at_ms = now_ms.saturating_add(wait_ms);
                self.due.push(Reverse(Due { at_ms, number: self.numbers, key: Arc::clone(&key), address }));
            }
        }
        self.groups.insert(key, group);
    }

    fn bury(&mut self, key: &Arc<str>, address: Address, node: &Watched, now_ms: u64) {
        self.changed |= !node.health.is_healthy();
        if node.health != Health::default() && self.gone.len() < KEPT_MAX {
            let gone = Gone { health: node.health, since_ms: node.since_ms, at_ms: now_ms };
            self.gone.insert((Arc::clone(key), address), gone);
        }
    }

    /// When the next probe is due.
    pub fn next_ms(&self) -> Option<u64> {
        self.due.peek().map(|Reverse(due)| due.at_ms)
    }

    /// The next probe to begin now. Its finding has to be given to [`Watch::found`].
    pub fn probe(&mut self, now_ms: u64) -> Option<Probe> {
        while self.due.peek().is_some_and(|Reverse(due)| due.at_ms <= now_ms) {
            let Reverse(mut due) = self.due.pop()?;
            let Some(group) = self.groups.get_mut(&due.key) else { continue };
            let Some(node) = group.nodes.get_mut(&due.address) else { continue };
            if node.number != due.number || node.under_way {
                continue;
            }
            if group.under_way >= group.checks.active.concurrency {
                due.at_ms = now_ms.saturating_add(BUSY_MS);
                self.due.push(Reverse(due));
                continue;
            }
            node.under_way = true;
            group.under_way = group.under_way.saturating_add(1);
            let (checks, cluster) = (Arc::clone(&group.checks), Arc::clone(&group.cluster));
            self.check_invariants();
            return Some(Probe { key: due.key, address: due.address, checks, cluster, number: due.number });
        }
        None
    }

    /// Takes what a probe found, and sets the time of the next one.
    pub fn found(&mut self, probe: &Probe, finding: Finding, now_ms: u64) {
        let Some(group) = self.groups.get_mut(&probe.key) else { return };
        let Some(node) = group.nodes.get_mut(&probe.address) else { return };
        if !node.under_way || node.number != probe.number {
            return; // Of a node that was gone meanwhile.
        }
        group.under_way = group.under_way.saturating_sub(1);
        node.under_way = false;
        node.last = Some(finding);
        let was = node.health.is_healthy();
        node.health.probed(&group.checks.active, finding);
        self.changed |= node.settle(was, now_ms);
        let active = &group.checks.active;
        let interval_s =
            if node.health.is_healthy() { active.healthy.interval } else { active.unhealthy.interval };
        self.numbers = self.numbers.wrapping_add(1);
        node.number = self.numbers;
        // A tenth more or less, so that probes of many nodes do not come together, nor those of many gateways.
        let interval_ms = u64::from(interval_s) * 1_000;
        let jitter_ms = mix(self.seed ^ self.numbers) % (interval_ms / 5 + 1);
        let at_ms = now_ms.saturating_add(interval_ms - interval_ms / 10).saturating_add(jitter_ms);
        let (key, address) = (Arc::clone(&probe.key), probe.address.clone());
        self.due.push(Reverse(Due { at_ms, number: self.numbers, key, address }));
        self.check_invariants();
    }

    /// Takes what requests told of a node.
    pub fn tallied(&mut self, key: &str, address: &Address, tally: &Tally, now_ms: u64) {
        let Some(group) = self.groups.get_mut(key) else { return };
        let (Some(node), Some(passive)) = (group.nodes.get_mut(address), &group.checks.passive) else {
            return;
        };
        let was = node.health.is_healthy();
        node.health.tallied(passive, tally);
        self.changed |= node.settle(was, now_ms);
    }

    /// Whether the health of any node has changed since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The nodes that are unhealthy, by upstream.
    pub fn sick(&self) -> impl Iterator<Item = (&str, Standing)> + '_ {
        self.groups.iter().filter_map(|(key, group)| {
            let sick = group.nodes.iter().filter(|(_, node)| !node.health.is_healthy());
            let standing = |(address, _): (&Address, _)| {
                (address.clone(), NodeStanding { healthy: false, ..NodeStanding::default() })
            };
            let nodes: HashMap<_, _> = sick.map(standing).collect();
            (!nodes.is_empty()).then_some((&**key, Standing { nodes, resolved: None }))
        })
    }

    /// What is known of a node that is watched.
    pub fn report(&self, key: &str, address: &Address, now_ms: u64) -> Option<HealthReport> {
        let node = self.groups.get(key)?.nodes.get(address)?;
        let for_ms = now_ms.saturating_sub(node.since_ms);
        Some(HealthReport { health: node.health, last: node.last, for_ms })
    }

    /// What is known of all nodes, those that are gone too, as far as it is not what a new one has.
    pub(super) fn remember(&self, now_ms: u64) -> Vec<KnownHealth> {
        let known = |key: &str, address: &Address, health: &Health, since_ms: u64| {
            (*health != Health::default())
                .then(|| KnownHealth::new(key, address.clone(), health, now_ms.saturating_sub(since_ms)))
        };
        let watched = self.groups.iter().flat_map(|(key, group)| {
            group.nodes.iter().filter_map(|(address, node)| known(key, address, &node.health, node.since_ms))
        });
        let gone = self
            .gone
            .iter()
            .filter_map(|((key, address), gone)| known(key, address, &gone.health, gone.since_ms));
        watched.chain(gone).collect()
    }

    /// Takes over what another process knew of a node.
    pub(super) fn recall(&mut self, known: &KnownHealth, now_ms: u64) {
        let (health, since_ms) = (known.health(), now_ms.saturating_sub(known.for_ms));
        let node = self.groups.get_mut(&*known.key).and_then(|group| group.nodes.get_mut(&known.address));
        match node {
            Some(node) => {
                self.changed |= node.health.is_healthy() != health.is_healthy();
                (node.health, node.since_ms) = (health, since_ms);
            }
            None if self.gone.len() < KEPT_MAX => {
                let gone = Gone { health, since_ms, at_ms: now_ms };
                self.gone.insert((Arc::from(&*known.key), known.address.clone()), gone);
            }
            None => {}
        }
    }

    /// How many nodes are watched.
    pub fn watched(&self) -> usize {
        self.groups.values().map(|group| group.nodes.len()).sum()
    }

    fn check_invariants(&self) {
        if cfg!(debug_assertions) && self.groups.len() <= 16 {
            for group in self.groups.values() {
                let under_way = group.nodes.values().filter(|node| node.under_way).count();
                debug_assert_eq!(under_way, group.under_way as usize, "probes are lost");
            }
        }
    }
}

impl Watched {
    fn settle(&mut self, was_healthy: bool, now_ms: u64) -> bool {
        let changed = was_healthy != self.health.is_healthy();
        if changed {
            self.since_ms = now_ms;
        }
        changed
    }
}
