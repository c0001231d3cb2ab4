//! What one core knows of one cluster's nodes, and which of them the next request gets.
//!
//! Keyed by addresses, so that it survives versions: a node that stays keeps its place in the order of turns, its open requests, its
//! latency and its breaker. Requests of an older version are given that version's nodes, without disturbing the order of the present
//! one. Costs O(1) or O(log n) a pick and allocates nothing then; only a change of nodes or of what is known of them costs more.
//!
//! A node that says nothing to anybody while it should is taken for hung (`silence.rs`); one that comes back may begin with a small share
//! (`warmth.rs`).
//!
//! Where an upstream prefers the gateway's own zone, the nodes of a priority stand in two tiers, and `zones.rs` says which of the two a request is
//! given to first; what that one has no room or no node for goes to the other.
//!
//! Invariants: a node that is ordered down or drained, has weight 0, has as many requests as it may have, or is excluded is never
//! picked. One that is unhealthy or kept out by its breaker is picked only in panic: when fewer nodes of its priority than the
//! configured share are usable, and no lower priority has better ones.

use std::sync::Arc;

use super::breaker::{Breaker, State};
use super::budget::Budget;
use super::picker::{Kept, Picker};
use super::round_robin::mix;
use super::silence::{Silence, Suspicion, WAITING_MIN};
use super::standing::{NodeStanding, Standing};
use super::tally::{FailureKind, Tally};
use super::warmth::{self, Warmth};
use super::zones::{Part, Spill, Weights};
use super::{Address, Cluster, Endpoint};
use crate::exchange::UpstreamFault;

/// Picks that a core makes in advance, so that cores do not march in step.
const HEAD_START_MAX: u64 = 64;
/// Turns of breakers that wait to be told; more are lost.
const TURNS_MAX: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Roster {
    cluster: Arc<Cluster>,
    standing: Option<Arc<Standing>>,
    /// Beside the cluster's endpoints.
    nodes: Vec<Node>,
    by_address: HashMap<Address, u32>,
    by_stamp: HashMap<u32, u32>,
    tiers: Vec<Tier>,
    budget: Budget,
    seed: u64,
    /// Tells a node from another one that later has its address.
    stamps: u32,
    /// When the next breaker lets a request try.
    turn_at_ms: u64,
    /// Nodes with something in their tally.
    told: Vec<u32>,
    turns: Vec<Turn>,
    strays: usize,
    silence: Silence,
    /// Requests that wait for room.
    pending: u32,
    /// It is being made: what is usable now has been so all along.
    is_building: bool,
}

type HashMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;

#[derive(Debug, Clone)]
struct Node {
    stamp: u32,
    open: u32,
    /// Requests that it was given, and those of them that it failed.
    given: u64,
    failed: u64,
    breaker: Breaker,
    tally: Tally,
    standing: NodeStanding,
    weight: u32,
    tier: u32,
    /// Its number within the tier.
    place: u32,
    /// It may get requests.
    usable: bool,
    /// It may get them in panic.
    able: bool,
    /// When it said something last.
    heard_ms: u64,
    /// Requests that have waited for too long since then.
    waiting: u32,
    warmth: Warmth,
    /// What it adds to its tier's weights.
    weighs: Weights,
}

/// A breaker that opened or closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Of which node.
    pub address: Address,
    /// For how long it leaves the node out; `None`: it has closed.
    pub out_ms: Option<u64>,
}

#[derive(Debug)]
struct Tier {
    picker: Picker,
    usable: u32,
    able: u32,
    panics: bool,
    weights: Weights,
    /// Of a tier of the own zone: what of the requests stays there.
    spill: Spill,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// See [`super::hash_of`]; of no effect without consistent hashing.
    pub hash: u64,
    /// Indices of nodes that failed this request.
    pub excluded: &'a [usize],
    /// The core's clock.
    pub now_ms: u64,
}

/// A node that a request was given. It has to be brought back with [`Roster::finish`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Ticket {
    /// Index of the endpoint in the cluster that was asked for.
    pub index: usize,
    node: u32,
    stamp: u32,
    begun_ms: u64,
    /// When its wait was found to be too long; 0: never.
    waited_ms: u64,
}

/// What became of a request at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Answered {
        /// With this status.
        status: u16,
        /// After so long.
        latency_us: u64,
    },
    /// It did not.
    Failed(UpstreamFault),
    /// Nothing that says anything about it.
    Unknown,
}

/// A node as an operator wants to see it.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeReport {
    /// Where it is.
    pub address: Address,
    /// Open requests of this core.
    pub open: u32,
    /// Requests that this core gave it so far; a request that was tried twice counts twice.
    pub given: u64,
    /// Of them, those that it failed.
    pub failed: u64,
    /// Failures in a row that this core saw.
    pub failures: u32,
    /// `closed`, `open` or `half-open`.
    pub breaker: &'static str,
    /// How long it is still kept out.
    pub out_ms: u64,
    /// With [`ringway_snapshot::model::Balancer::Ewma`].
    pub latency_us: Option<f64>,
    /// It may get requests from this core.
    pub usable: bool,
    /// It may get them now although it is not usable: too few others are.
    pub panics: bool,
    /// How many percent of the requests stay in the own zone, where nodes of this priority are in it and others are not.
    pub kept_percent: Option<u8>,
}

impl Roster {
    /// The state of a cluster on one core, which `core` tells from the others.
    pub fn new(cluster: Arc<Cluster>, standing: Option<Arc<Standing>>, core: usize, now_ms: u64) -> Roster {
        let mut roster = Roster {
            standing,
            nodes: Vec::new(),
            by_address: HashMap::default(),
            by_stamp: HashMap::default(),
            tiers: Vec::new(),
            budget: Budget::new(now_ms),
            seed: mix(core as u64),
            stamps: 0,
            turn_at_ms: u64::MAX,
            told: Vec::new(),
            turns: Vec::new(),
            strays: core,
            silence: Silence::default(),
            pending: 0,
            is_building: false,
            cluster,
        };
        roster.rebuild(&[]);
        for (tier, members) in roster.tiers.iter_mut().zip(&roster.cluster.tiers) {
            let weights = members.members.iter().filter_map(|index| roster.nodes.get(*index as usize));
            let total: u64 = weights.map(|node| u64::from(node.weight)).sum();
            let picks = (core as u64).checked_rem(total.min(HEAD_START_MAX)).unwrap_or(0);
            if let Picker::RoundRobin(picker) = &mut tier.picker {
                for _ in 0..picks {
                    let _ = picker.pick(|_| false);
                }
            }
        }
        roster.check_invariants();
        roster
    }

    /// The cluster that it follows.
    pub fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    /// Follows the cluster of a newer version.
    pub fn follow(&mut self, cluster: &Arc<Cluster>) {
        if Arc::ptr_eq(&self.cluster, cluster) {
            return;
        }
        let old = std::mem::replace(&mut self.cluster, Arc::clone(cluster));
        let same = old.endpoints == cluster.endpoints
            && old.balancer == cluster.balancer
            && old.tuning == cluster.tuning;
        if !same {
            let kept = old.balancer == cluster.balancer;
            let endpoints: Vec<Endpoint> = old.endpoints.to_vec();
            self.rebuild(if kept { &endpoints } else { &[] });
        }
        self.check_invariants();
    }

    /// Hears what probes and operators say of the nodes.
    pub fn heed(&mut self, standing: Option<&Arc<Standing>>) {
        if self.standing.as_ref().map(Arc::as_ptr) == standing.map(Arc::as_ptr) {
            return;
        }
        self.standing = standing.cloned();
        for index in 0..self.nodes.len() {
            self.instruct(index);
        }
        self.check_invariants();
    }

    /// A request has come; further tries are counted against requests.
    pub fn request(&mut self) {
        self.budget.request(self.cluster.tuning.retry_percent);
    }

    /// Whether a request may be tried again after `fault`.
    pub fn may_retry(&mut self, fault: &UpstreamFault, now_ms: u64) -> bool {
        let free = matches!(fault, UpstreamFault::Connect | UpstreamFault::ConnectTimeout);
        free || self.budget.take(self.cluster.tuning.retry_percent, now_ms)
    }

    /// The next node.
    pub fn pick(&mut self, ask: &Ask<'_>) -> Option<Ticket> {
        self.turn(ask.now_ms);
        let index = [false, true].into_iter().find_map(|panics| self.pick_where(panics, ask))?;
        self.begin(index as usize, index, ask.now_ms)
    }

    /// The next node of the highest priority that has one, among those that panic or those that do not.
    fn pick_where(&mut self, panics: bool, ask: &Ask<'_>) -> Option<u32> {
        let mut number = 0;
        while let Some((tier, compiled)) = self.tiers.get_mut(number).zip(self.cluster.tiers.get(number)) {
            let is_pair = matches!(compiled.part, Part::Own { .. });
            let next = number + 1 + usize::from(is_pair);
            if tier.panics == panics {
                let hash = compiled.ring.is_some().then_some(ask.hash);
                let found = if !is_pair {
                    self.pick_in(number, ask)
                } else if tier.spill.keeps(hash) {
                    self.pick_in(number, ask).or_else(|| self.pick_in(number + 1, ask))
                } else {
                    self.pick_in(number + 1, ask).or_else(|| self.pick_in(number, ask))
                };
                if found.is_some() {
                    return found;
                }
            }
            number = next;
        }
        None
    }

    fn pick_in(&mut self, number: usize, ask: &Ask<'_>) -> Option<u32> {
        let (tier, compiled) = (self.tiers.get_mut(number)?, self.cluster.tiers.get(number)?);
        let member = |place: u32| compiled.members.get(place as usize).copied();
        let is_excluded = |place: u32| {
            !ask.excluded.is_empty()
                && member(place).is_none_or(|index| ask.excluded.contains(&(index as usize)))
        };
        member(tier.picker.pick(ask.hash, ask.now_ms, is_excluded)?)
    }

    /// A node of another version of the cluster, for a request that holds that one.
    pub fn pick_of(&mut self, cluster: &Cluster, ask: &Ask<'_>) -> Option<Ticket> {
        self.turn(ask.now_ms);
        self.strays = self.strays.wrapping_add(1);
        let known = |endpoint: &Endpoint| {
            self.by_address
                .get(&endpoint.address)
                .and_then(|node| Some((*node, self.nodes.get(*node as usize)?)))
        };
        let is_full = |node: &Node| self.cluster.tuning.node_requests_max.is_some_and(|max| node.open >= max);
        let strays = self.strays;
        let candidates = || {
            cluster.tiers.iter().flat_map(move |tier| {
                let members = tier.members.len();
                let turned = (0..members).map(move |at| tier.members.get((at + strays % members) % members));
                turned.flatten().map(|index| *index as usize)
            })
        };
        let open = |index: &usize| {
            !ask.excluded.contains(index)
                && cluster.endpoints.get(*index).is_some_and(|endpoint| endpoint.weight > 0)
        };
        let found =
            [true, false].into_iter().find_map(|usable| {
                candidates().filter(open).find(|index| {
                    cluster.endpoints.get(*index).and_then(known).is_none_or(|(_, node)| {
                        !is_full(node) && if usable { node.usable } else { node.able }
                    })
                })
            })?;
        let endpoint = cluster.endpoints.get(found)?;
        match known(endpoint).map(|(node, _)| node) {
            Some(node) => self.begin(found, node, ask.now_ms),
            None => {
                Some(Ticket { index: found, node: u32::MAX, stamp: 0, begun_ms: ask.now_ms, waited_ms: 0 })
            }
        }
    }

    /// A request has ended at a node.
    pub fn finish(&mut self, ticket: Ticket, outcome: Outcome, now_ms: u64) {
        let Some(index) = self.find(&ticket) else { return };
        if let Some(node) = self.nodes.get_mut(index) {
            node.open = node.open.saturating_sub(1);
        }
        self.learn(index, outcome, now_ms);
    }

    /// What is known of a request that goes on for long, as a tunnel does. Its end is then [`Outcome::Unknown`].
    pub fn tell(&mut self, ticket: &Ticket, outcome: Outcome, now_ms: u64) {
        if let Some(index) = self.find(ticket) {
            self.learn(index, outcome, now_ms);
        }
    }

    /// Whether there is something for [`Roster::take_tallies`] or [`Roster::take_turns`].
    pub fn has_tallies(&self) -> bool {
        !self.told.is_empty() || !self.turns.is_empty()
    }

    /// Gives the turns of breakers since the last time.
    pub fn take_turns(&mut self) -> impl Iterator<Item = Turn> + '_ {
        self.turns.drain(..)
    }

    /// How long a request may be without a byte of its answer before [`Roster::suspicion`] is to be asked. `None`: for as long as it takes, as
    /// where there is no other node.
    pub fn patience_ms(&self) -> Option<u64> {
        if self.nodes.len() < 2 { None } else { self.silence.patience_ms(self.cluster.tuning.silence_ms) }
    }

    /// The first byte of an answer came; `usual` when that tells how long answers may take.
    pub fn heard(&mut self, ticket: &Ticket, usual: bool, now_ms: u64) {
        if usual {
            self.silence.took(now_ms.saturating_sub(ticket.begun_ms), now_ms);
        }
        let Some(node) = self.find(ticket).and_then(|index| self.nodes.get_mut(index)) else { return };
        (node.heard_ms, node.waiting) = (now_ms, 0);
        self.silence.heard(node.stamp, now_ms);
    }

    /// Asked for a request whose patience is over. A strong suspicion is a failure of the node; what becomes of this request there is
    /// [`Outcome::Unknown`] then. `may_scout`: the request could be tried elsewhere.
    pub fn suspicion(&mut self, ticket: &mut Ticket, may_scout: bool, now_ms: u64) -> Suspicion {
        let never = Suspicion::None { again_ms: u64::MAX };
        let Some(patience_ms) = self.patience_ms() else { return never };
        let Some(index) = self.find(ticket) else { return never };
        let Some(node) = self.nodes.get_mut(index) else { return never };
        let since_ms = node.heard_ms.max(ticket.begun_ms);
        let quiet_ms = now_ms.saturating_sub(since_ms);
        if quiet_ms < patience_ms {
            return Suspicion::None { again_ms: patience_ms - quiet_ms };
        }
        if ticket.waited_ms <= node.heard_ms {
            ticket.waited_ms = now_ms;
            node.waiting = node.waiting.saturating_add(1);
        }
        if node.usable && node.waiting < WAITING_MIN {
            return Suspicion::none(quiet_ms);
        }
        if self.silence.others_heard(node.stamp, since_ms) {
            self.learn(index, Outcome::Failed(UpstreamFault::ReadTimeout), now_ms);
            return Suspicion::Strong;
        }
        let scouts = may_scout && self.silence.may_scout(patience_ms, now_ms);
        if scouts { Suspicion::Some } else { Suspicion::none(quiet_ms) }
    }

    /// Whether a request may be sent to another node beside the one that says nothing. That is free where this node is left out and others
    /// are not: it is what the request would have cost there from the start.
    pub fn may_go_beside(&mut self, ticket: &Ticket, now_ms: u64) -> bool {
        let is_out =
            self.find(ticket).and_then(|index| self.nodes.get(index)).is_some_and(|node| !node.usable);
        let free = is_out && self.tiers.iter().any(|tier| tier.usable > 0);
        free || self.budget.take(self.cluster.tuning.retry_percent, now_ms)
    }

    /// Whether there are nodes that would take a request if they had not as many as they may have.
    pub fn is_full(&self, excluded: &[usize]) -> bool {
        let Some(max) = self.cluster.tuning.node_requests_max else { return false };
        let mut nodes = self.nodes.iter().enumerate();
        nodes.any(|(index, node)| node.able && node.open >= max && !excluded.contains(&index))
    }

    /// A request wants to wait until there is room. Each that may has to [`Roster::leave`].
    pub fn enter(&mut self, excluded: &[usize]) -> bool {
        let enters = self.pending < self.cluster.tuning.pending_max && self.is_full(excluded);
        self.pending = self.pending.saturating_add(u32::from(enters));
        enters
    }

    /// A request waits no longer.
    pub fn leave(&mut self) {
        self.pending = self.pending.saturating_sub(1);
    }

    fn learn(&mut self, index: usize, outcome: Outcome, now_ms: u64) {
        let tuning = self.cluster.tuning;
        let (Some(node), cluster) = (self.nodes.get_mut(index), &self.cluster) else { return };
        node.failed = node.failed.wrapping_add(u64::from(matches!(outcome, Outcome::Failed(_))));
        let was = node.breaker.state();
        match outcome {
            Outcome::Answered { .. } => {
                (node.heard_ms, node.waiting) = (now_ms, 0);
                self.silence.heard(node.stamp, now_ms);
                node.breaker.success(now_ms);
            }
            Outcome::Failed(fault) if is_connection(&fault) => node.breaker.failure(now_ms, &tuning),
            Outcome::Failed(_) | Outcome::Unknown => node.breaker.neutral(node.open == 0),
        }
        if node.breaker.waits() {
            self.turn_at_ms = self.turn_at_ms.min(node.breaker.until_ms());
        }
        if node.breaker.state() != was
            && matches!(node.breaker.state(), State::Open | State::Closed)
            && self.turns.len() < TURNS_MAX
            && let Some(endpoint) = cluster.endpoints.get(index)
        {
            let is_open = node.breaker.state() == State::Open;
            let out_ms = is_open.then(|| node.breaker.until_ms().saturating_sub(now_ms));
            self.turns.push(Turn { address: endpoint.address.clone(), out_ms });
        }
        let was_silent = node.tally.is_empty();
        tell(&mut node.tally, cluster, &outcome);
        if was_silent && !node.tally.is_empty() {
            self.told.push(u32::try_from(index).unwrap_or(u32::MAX));
        }
        let (place, open) = (node.place, node.open);
        if let Some(tier) = self.tiers.get_mut(node.tier as usize) {
            tier.picker.load(place, open);
            if let Outcome::Answered { latency_us, .. } = outcome {
                tier.picker.answered(place, latency_us, now_ms);
            }
        }
        self.note(index);
        self.check_invariants();
    }

    /// Gives what requests told of the nodes' health since the last time.
    pub fn take_tallies(&mut self, mut give: impl FnMut(Address, Tally)) {
        for index in self.told.drain(..) {
            let endpoint = self.cluster.endpoints.get(index as usize);
            if let (Some(node), Some(endpoint)) = (self.nodes.get_mut(index as usize), endpoint) {
                give(endpoint.address.clone(), std::mem::take(&mut node.tally));
            }
        }
    }

    /// The nodes as they stand.
    pub fn report(&self, now_ms: u64) -> impl Iterator<Item = NodeReport> + '_ {
        self.nodes.iter().zip(&self.cluster.endpoints).map(move |(node, endpoint)| {
            let tier = self.tiers.get(node.tier as usize);
            let state = node.breaker.state();
            NodeReport {
                address: endpoint.address.clone(),
                open: node.open,
                given: node.given,
                failed: node.failed,
                failures: node.breaker.failures(),
                breaker: match state {
                    State::Closed => "closed",
                    State::Open => "open",
                    State::HalfOpen(_) => "half-open",
                },
                out_ms: if state == State::Open { node.breaker.until_ms().saturating_sub(now_ms) } else { 0 },
                latency_us: tier.and_then(|tier| tier.picker.latency_us(node.place, now_ms)),
                usable: node.usable,
                panics: node.able && !node.usable && tier.is_some_and(|tier| tier.panics),
                kept_percent: self.kept_percent(node.tier as usize),
            }
        })
    }

    /// Lets breakers whose time has come admit a request.
    fn turn(&mut self, now_ms: u64) {
        if now_ms < self.turn_at_ms {
            return;
        }
        self.turn_at_ms = u64::MAX;
        for index in 0..self.nodes.len() {
            let Some(node) = self.nodes.get_mut(index) else { continue };
            if node.breaker.turn(now_ms) {
                self.refresh(index);
            } else if node.breaker.waits() {
                self.turn_at_ms = self.turn_at_ms.min(node.breaker.until_ms());
            }
            let Some(node) = self.nodes.get_mut(index) else { continue };
            if let Some(next_ms) = node.warmth.turn(now_ms, self.cluster.tuning.slow_start_s) {
                self.turn_at_ms = self.turn_at_ms.min(next_ms);
                self.refresh(index);
            }
        }
    }

    fn begin(&mut self, index: usize, number: u32, now_ms: u64) -> Option<Ticket> {
        let tuning = self.cluster.tuning;
        let node = self.nodes.get_mut(number as usize)?;
        node.open = node.open.saturating_add(1);
        node.given = node.given.wrapping_add(1);
        node.breaker.begin(now_ms, &tuning);
        if node.breaker.waits() {
            self.turn_at_ms = self.turn_at_ms.min(node.breaker.until_ms());
        }
        let (stamp, place, open) = (node.stamp, node.place, node.open);
        if let Some(tier) = self.tiers.get_mut(node.tier as usize) {
            tier.picker.load(place, open);
        }
        self.note(number as usize);
        self.check_invariants();
        Some(Ticket { index, node: number, stamp, begun_ms: now_ms, waited_ms: 0 })
    }

    /// Where a ticket's node is now, if it is still the same.
    fn find(&self, ticket: &Ticket) -> Option<usize> {
        let is_same =
            |number: u32| self.nodes.get(number as usize).is_some_and(|node| node.stamp == ticket.stamp);
        let moved = || self.by_stamp.get(&ticket.stamp).copied();
        let number = Some(ticket.node).filter(|number| is_same(*number)).or_else(moved);
        number.filter(|number| is_same(*number)).map(|number| number as usize)
    }

    /// Makes everything anew for the present cluster, and carries over what is known of the nodes that were `before`.
    fn rebuild(&mut self, before: &[Endpoint]) {
        let kept: Vec<(Node, Kept)> = self
            .nodes
            .iter()
            .map(|node| {
                let picker = self.tiers.get(node.tier as usize).map(|tier| &tier.picker);
                (node.clone(), picker.map_or(Kept::Nothing, |picker| picker.keep(node.place)))
            })
            .collect();
        let known = std::mem::take(&mut self.by_address);
        let cluster = Arc::clone(&self.cluster);
        self.told.clear();
        self.nodes.clear();
        self.by_stamp.clear();
        self.tiers.clear();
        for (index, endpoint) in (0u32..).zip(&cluster.endpoints) {
            self.by_address.entry(endpoint.address.clone()).or_insert(index);
            let old = known.get(&endpoint.address).and_then(|old| kept.get(*old as usize));
            let is_first = self.by_address.get(&endpoint.address) == Some(&index);
            let node = match old.filter(|_| is_first) {
                Some((node, _)) => {
                    Node { usable: false, able: false, weighs: Weights::default(), ..node.clone() }
                }
                None => Node { warmth: warmth::of_a_new_node(!before.is_empty()), ..self.new_node() },
            };
            if !node.tally.is_empty() {
                self.told.push(index);
            }
            self.by_stamp.insert(node.stamp, index);
            self.nodes.push(node);
        }
        for (number, tier) in (0u32..).zip(&cluster.tiers) {
            let seed = mix(self.seed ^ u64::from(number));
            let picker = Picker::new(&cluster, tier, seed);
            let (weights, spill) = (Weights::default(), Spill::new(seed));
            self.tiers.push(Tier { picker, usable: 0, able: 0, panics: true, weights, spill });
            for (place, index) in (0u32..).zip(&tier.members) {
                if let Some(node) = self.nodes.get_mut(*index as usize) {
                    (node.tier, node.place) = (number, place);
                }
            }
        }
        self.is_building = true;
        for index in 0..self.nodes.len() {
            self.instruct(index);
        }
        self.is_building = false;
        // Nodes may have to be warmed.
        self.turn_at_ms = 0;
        self.resume(before, &known, &kept);
    }

    /// Puts nodes where they stood in the order of turns.
    fn resume(&mut self, before: &[Endpoint], known: &HashMap<Address, u32>, kept: &[(Node, Kept)]) {
        for (node, endpoint) in self.nodes.iter().zip(&self.cluster.endpoints) {
            let Some(tier) = self.tiers.get_mut(node.tier as usize) else { continue };
            tier.picker.load(node.place, node.open);
            let old = known.get(&endpoint.address).filter(|old| (**old as usize) < before.len());
            if let Some((_, kept)) = old.and_then(|old| kept.get(*old as usize)) {
                tier.picker.resume(node.place, *kept);
            }
        }
    }

    fn new_node(&mut self) -> Node {
        self.stamps = self.stamps.wrapping_add(1).max(1);
        Node {
            stamp: self.stamps,
            open: 0,
            given: 0,
            failed: 0,
            breaker: Breaker::default(),
            tally: Tally::default(),
            standing: NodeStanding::default(),
            weight: 0,
            tier: 0,
            place: 0,
            usable: false,
            able: false,
            heard_ms: 0,
            waiting: 0,
            warmth: Warmth::default(),
            weighs: Weights::default(),
        }
    }

    fn check_invariants(&self) {
        if cfg!(debug_assertions) && self.nodes.len() <= 32 {
            for (number, tier) in (0u32..).zip(&self.tiers) {
                let of_it = || self.nodes.iter().filter(|node| node.tier == number);
                debug_assert_eq!(of_it().filter(|node| node.usable).count(), tier.usable as usize);
                debug_assert_eq!(of_it().filter(|node| node.able).count(), tier.able as usize);
            }
            debug_assert!(self.nodes.iter().all(|node| node.able || !node.usable), "usable, but not able");
            debug_assert_eq!(self.nodes.len(), self.cluster.endpoints.len());
        }
    }
}

/// Whether a failure is one that only a node or the way to it can have.
fn is_connection(fault: &UpstreamFault) -> bool {
    matches!(
        fault,
        UpstreamFault::Connect
            | UpstreamFault::ConnectTimeout
            | UpstreamFault::Closed
            | UpstreamFault::SendTimeout
            | UpstreamFault::ReadTimeout
    )
}

/// What passive checks make of it: as in APISIX a 504 of ours is a time-out, and another failure one of the connection.
fn tell(tally: &mut Tally, cluster: &Cluster, outcome: &Outcome) {
    let Some(passive) = cluster.checks.as_ref().and_then(|checks| checks.passive.as_ref()) else { return };
    match outcome {
        Outcome::Answered { status, .. } => {
            if passive.healthy.http_statuses.contains(status) {
                tally.success();
            } else if passive.unhealthy.http_statuses.contains(status) {
                tally.failure(FailureKind::Http);
            }
        }
        Outcome::Failed(UpstreamFault::Body(_) | UpstreamFault::Filters | UpstreamFault::NoDescriptor)
        | Outcome::Unknown => {}
        Outcome::Failed(fault) if fault.status() == 504 => tally.failure(FailureKind::Timeout),
        Outcome::Failed(_) => tally.failure(FailureKind::Tcp),
    }
}

mod placing;

#[cfg(test)]
mod option_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod zone_tests;
