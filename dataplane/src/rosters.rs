//! One core's nodes: which one a request gets, and what became of it there. The decisions are the engine's (`upstream/roster.rs`).
//!
//! A request holds its node by a [`Lease`], which counts as open until it is dropped, however the request ends.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use ringway_engine::exchange::UpstreamFault;
use ringway_engine::upstream::{Ask, Cluster, Outcome, Roster, Standing, Standings, Suspicion, Ticket};
use ringway_engine::view::View;
use ringway_snapshot::model::Balancer;

use crate::io::Deadlines;
use crate::queue::Queue;
use crate::state;

/// Rosters of clusters that are gone, kept beside as many as there are clusters.
const SPARE_MAX: usize = 64;
/// Turns of breakers that wait for the health thread; more are lost.
const TURNS_MAX: usize = 4_096;
/// Nodes that one core shows to an operator: more would hold its requests up.
pub(crate) const SHOWN_MAX: usize = 4_096;

/// All clusters' nodes, as this core sees them.
#[derive(Debug)]
pub(crate) struct Rosters {
    core: usize,
    deadlines: Rc<Deadlines>,
    held: RefCell<hashbrown::HashMap<Box<str>, Rc<Held>, foldhash::fast::FixedState>>,
    /// The one that was asked for last: mostly it is asked for again, and then found without its key.
    last: RefCell<Option<Rc<Held>>>,
    standings: RefCell<Option<Arc<Standings>>>,
    /// Goes up with each change of `standings`.
    generation: Cell<u64>,
    /// Rosters with something to tell of nodes' health.
    telling: RefCell<Vec<Rc<Held>>>,
    /// Rosters at which requests wait for room, or did lately.
    crowded: RefCell<Vec<Rc<Held>>>,
}

#[derive(Debug)]
struct Held {
    roster: RefCell<Roster>,
    generation: Cell<u64>,
    tells: Cell<bool>,
    /// Requests that wait for room.
    queue: Queue,
    /// It is among the crowded.
    is_crowded: Cell<bool>,
}

/// A node that a request was given.
#[derive(Debug)]
pub(crate) struct Lease<'c> {
    rosters: &'c Rosters,
    held: Rc<Held>,
    ticket: Ticket,
    outcome: Outcome,
    /// Where the balancer goes by time.
    begun: Option<Instant>,
    /// The node was taken for hung, which has been told as its failure.
    is_suspect: bool,
}

impl Rosters {
    pub(crate) fn new(core: usize, deadlines: Rc<Deadlines>) -> Rosters {
        Rosters {
            core,
            deadlines,
            held: RefCell::default(),
            last: RefCell::default(),
            standings: RefCell::default(),
            generation: Cell::new(0),
            telling: RefCell::default(),
            crowded: RefCell::default(),
        }
    }

    /// The next node of a cluster, none of `excluded`. `view` is what new requests get; `first` counts the request, against which
    /// its further tries are counted.
    pub(crate) fn lease(
        &self,
        cluster: &Arc<Cluster>,
        view: Option<&View>,
        hash: u64,
        excluded: &[usize],
        first: bool,
    ) -> Option<Lease<'_>> {
        let held = self.held(cluster, view);
        let ask = Ask { hash, excluded, now_ms: self.deadlines.now_ms() };
        let mut roster = held.roster.borrow_mut();
        let is_followed = Arc::ptr_eq(roster.cluster(), cluster);
        let ticket = if is_followed { roster.pick(&ask) } else { roster.pick_of(cluster, &ask) }?;
        if first {
            roster.request();
        }
        drop(roster);
        let begun = (cluster.balancer == Balancer::Ewma).then(Instant::now);
        Some(Lease { rosters: self, held, ticket, outcome: Outcome::Unknown, begun, is_suspect: false })
    }

    /// Lets a request wait for room at the cluster. `None`: nothing of it is full, or too many wait already.
    pub(crate) fn enter(
        &self,
        cluster: &Arc<Cluster>,
        view: Option<&View>,
        excluded: &[usize],
    ) -> Option<Waiting> {
        let held = self.held(cluster, view);
        let enters = held.roster.borrow_mut().enter(excluded);
        if enters && !held.is_crowded.replace(true) {
            self.crowded.borrow_mut().push(Rc::clone(&held));
        }
        enters.then(|| Waiting(held))
    }

    /// Whoever waits for room at the cluster looks again.
    pub(crate) fn call_next(&self, cluster: &Arc<Cluster>, view: Option<&View>) {
        self.held(cluster, view).queue.call();
    }

    /// Whether nodes of the cluster have as many requests as they may have, and would take this one otherwise.
    pub(crate) fn is_full(&self, cluster: &Arc<Cluster>, view: Option<&View>, excluded: &[usize]) -> bool {
        self.held(cluster, view).roster.borrow().is_full(excluded)
    }

    /// Whether a request to the cluster may be tried again after `fault`.
    pub(crate) fn may_retry(
        &self,
        cluster: &Arc<Cluster>,
        view: Option<&View>,
        fault: &UpstreamFault,
    ) -> bool {
        self.held(cluster, view).roster.borrow_mut().may_retry(fault, self.deadlines.now_ms())
    }

    /// A cluster whose nodes are told by name, with the addresses that those have at present. `None`: they are still being looked up. Until
    /// the health thread has told of that very version of the cluster, and for requests of an older one, they are those of its publication.
    pub(crate) fn resolved(&self, cluster: &Arc<Cluster>) -> Option<Arc<Cluster>> {
        let standings = self.standings.borrow();
        let standing = standings.as_ref().and_then(|standings| standings.get(&cluster.key));
        let (resolved, pending) = latest(cluster, standing)?;
        (!pending || resolved.usable() > 0).then(|| Arc::clone(resolved))
    }

    /// Something is otherwise than it was: where requests wait, the roster follows what new ones get, and who waits looks again.
    pub(crate) fn look_again(&self, view: Option<&View>) {
        let crowded = std::mem::take(&mut *self.crowded.borrow_mut());
        for held in crowded {
            if held.queue.is_empty() {
                held.is_crowded.set(false);
                continue;
            }
            let key = held.roster.borrow().cluster().key.clone();
            if let Some(present) = view.and_then(|view| view.cluster_of(&key)) {
                let resolved = if present.names.is_empty() { None } else { self.resolved(present) };
                self.look_up(resolved.as_ref().unwrap_or(present), view);
            }
            held.queue.call();
            self.crowded.borrow_mut().push(held);
        }
    }

    /// Hears what probes and operators say.
    pub(crate) fn heed(&self, standings: Arc<Standings>) {
        *self.standings.borrow_mut() = Some(standings);
        self.generation.set(self.generation.get().wrapping_add(1));
    }

    /// Forgets clusters that are gone, when they could have become many.
    pub(crate) fn forget(&self, view: &View) {
        let mut held = self.held.borrow_mut();
        if held.len() > 2 * view.cluster_count() + SPARE_MAX {
            held.retain(|key, _| view.has_cluster(key));
            self.last.take();
        }
    }

    /// Tells the other threads what they want to know.
    pub(crate) fn tell(&self, shared: &state::Core) {
        if !self.telling.borrow().is_empty()
            && let Ok(mut tallies) = shared.tallies.try_lock()
        {
            for held in self.telling.borrow_mut().drain(..) {
                held.tells.set(false);
                let mut roster = held.roster.borrow_mut();
                let cluster = Arc::clone(roster.cluster());
                roster.take_tallies(|address, tally| tallies.push((Arc::clone(&cluster), address, tally)));
                let mut turns = shared.turns.lock().unwrap_or_else(PoisonError::into_inner);
                let room = TURNS_MAX.saturating_sub(turns.len());
                turns.extend(roster.take_turns().take(room).map(|turn| (Arc::clone(&cluster), turn)));
            }
        }
        if shared.wanted.swap(false, Relaxed) {
            let now_ms = self.deadlines.now_ms();
            let held = self.held.borrow();
            let (mut nodes, mut cut) = (Vec::new(), 0u64);
            for (key, held) in &*held {
                let roster = held.roster.borrow();
                let room = SHOWN_MAX - nodes.len();
                nodes.extend(roster.report(now_ms).take(room).map(|node| (key.clone(), node)));
                cut += roster.cluster().endpoints.len().saturating_sub(room) as u64;
            }
            shared.nodes_cut.store(cut, Relaxed);
            *shared.nodes.lock().unwrap_or_else(PoisonError::into_inner) = Some(nodes);
        }
    }

    fn held(&self, cluster: &Arc<Cluster>, view: Option<&View>) -> Rc<Held> {
        let mut last = self.last.borrow_mut();
        // It follows that very cluster, and has heard the latest.
        let is_it = |held: &&Rc<Held>| {
            held.generation.get() == self.generation.get()
                && Arc::ptr_eq(held.roster.borrow().cluster(), cluster)
        };
        if let Some(held) = last.as_ref().filter(is_it) {
            return Rc::clone(held);
        }
        let held = self.look_up(cluster, view);
        *last = Some(Rc::clone(&held));
        held
    }

    fn look_up(&self, cluster: &Arc<Cluster>, view: Option<&View>) -> Rc<Held> {
        let mut all = self.held.borrow_mut();
        let generation = self.generation.get();
        let standings = self.standings.borrow();
        let standing = || standings.as_ref().and_then(|standings| standings.get(&cluster.key));
        let Some(held) = all.get(&cluster.key) else {
            let roster =
                Roster::new(Arc::clone(cluster), standing().cloned(), self.core, self.deadlines.now_ms());
            let held = Rc::new(Held {
                roster: RefCell::new(roster),
                generation: Cell::new(generation),
                tells: Cell::new(false),
                queue: Queue::default(),
                is_crowded: Cell::new(false),
            });
            all.insert(cluster.key.clone(), Rc::clone(&held));
            return held;
        };
        let mut roster = held.roster.borrow_mut();
        let is = |latest: &Arc<Cluster>| Arc::ptr_eq(latest, cluster);
        let is_present = |base: &Arc<Cluster>| {
            is(base) || latest(base, standing()).is_some_and(|(resolved, _)| is(resolved))
        };
        if !is(roster.cluster())
            && view.and_then(|view| view.cluster_of(&cluster.key)).is_some_and(is_present)
        {
            roster.follow(cluster);
        }
        if held.generation.replace(generation) != generation {
            roster.heed(standing());
        }
        drop(roster);
        Rc::clone(held)
    }
}

/// A cluster with the addresses of its names, and whether some name has not been looked up yet.
fn latest<'a>(
    cluster: &'a Arc<Cluster>,
    standing: Option<&'a Arc<Standing>>,
) -> Option<(&'a Arc<Cluster>, bool)> {
    let told = standing.and_then(|standing| standing.resolved.as_ref());
    match told.filter(|told| Arc::ptr_eq(&told.base, cluster)) {
        Some(told) => Some((&told.cluster, told.pending)),
        None => cluster.published().map(|published| (published, true)),
    }
}

impl Lease<'_> {
    /// Index of the node among the cluster's endpoints.
    pub(crate) fn index(&self) -> usize {
        self.ticket.index
    }

    /// The node has answered.
    pub(crate) fn answered(&mut self, status: u16) {
        let latency_us = self.begun.map_or(0, |begun| begun.elapsed().as_micros());
        self.outcome =
            Outcome::Answered { status, latency_us: u64::try_from(latency_us).unwrap_or(u64::MAX) };
    }

    /// The node has answered, and the request goes on for long.
    pub(crate) fn switched(&mut self, status: u16) {
        self.answered(status);
        let outcome = std::mem::replace(&mut self.outcome, Outcome::Unknown);
        self.held.roster.borrow_mut().tell(&self.ticket, outcome, self.rosters.deadlines.now_ms());
    }

    /// The node has failed.
    pub(crate) fn failed(&mut self, fault: UpstreamFault) {
        if !self.is_suspect {
            self.outcome = Outcome::Failed(fault);
        }
    }

    /// How long nothing may come before [`Lease::suspicion`] is to be asked.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.held.roster.borrow().patience_ms().map(Duration::from_millis)
    }

    /// The first byte of an answer has come; `raced` when another node had as good a chance to be first. A node that goes on after it was
    /// taken for hung does not show how long answers take otherwise.
    pub(crate) fn heard(&self, raced: bool) {
        let usual = raced || !self.is_suspect;
        self.held.roster.borrow_mut().heard(&self.ticket, usual, self.rosters.deadlines.now_ms());
    }

    /// What the wait for the node says of it; see [`Roster::suspicion`].
    pub(crate) fn suspicion(&mut self, may_scout: bool) -> Suspicion {
        if self.is_suspect {
            return Suspicion::Strong;
        }
        let now_ms = self.rosters.deadlines.now_ms();
        let suspicion = self.held.roster.borrow_mut().suspicion(&mut self.ticket, may_scout, now_ms);
        if suspicion == Suspicion::Strong {
            self.is_suspect = true;
            self.note();
        }
        suspicion
    }

    /// Whether the request may be sent to another node beside this one.
    pub(crate) fn may_go_beside(&self) -> bool {
        self.held.roster.borrow_mut().may_go_beside(&self.ticket, self.rosters.deadlines.now_ms())
    }

    /// What the roster has to tell of its nodes is fetched with the next tick.
    fn note(&self) {
        if self.held.roster.borrow().has_tallies() && !self.held.tells.replace(true) {
            self.rosters.telling.borrow_mut().push(Rc::clone(&self.held));
        }
    }
}

/// A request that waits for room, and counts until this is dropped.
pub(crate) struct Waiting(Rc<Held>);

impl Waiting {
    /// Waits until there may be room again. `false`: that has lasted too long. Who has waited before waits in front.
    pub(crate) async fn room(&self, until: Instant, has_waited: bool) -> bool {
        self.0.queue.wait(until.saturating_duration_since(Instant::now()), has_waited).await
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.roster.borrow_mut().leave();
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let now_ms = self.rosters.deadlines.now_ms();
        self.held.roster.borrow_mut().finish(self.ticket, self.outcome, now_ms);
        self.note();
        self.held.queue.call();
    }
}
