//! The PostgreSQL source: one connection that listens, loads and looks again.
//!
//! A notification is a hint and nothing more: every `poll_ms` and after each reconnect the head is compared, so that a
//! lost one costs seconds and not correctness. The first change is read at once. Bursts are coalesced: between two loads at least as long passes
//! as the last load took, within bounds, so that a database which changes without pause takes half of this process at most.
//!
//! Invariants: one connection (a second one only for the moment of a search); LISTEN stands before the first load; after each reconnect
//! everything is read and compared, whatever the head says; a standby is never written to, and what it has is never
//! published once something newer was, by this program or by the data plane's own word.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use ringway_snapshot::{Fault, Snapshot, Version};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use self::expiry::Expiry;
use self::load::{Base, Head, News};
pub use self::nodes::Identity;
use self::nodes::Nodes;
use self::refusals::Refusals;
pub use self::session::Connected;
use self::session::{QUERY_MAX, Session, limited, open};
use self::target::{Target, Wanted};
pub(crate) use self::tls::SYSTEM_ROOTS;
use self::trouble::CLOSED;
pub(crate) use self::trouble::NO_HEAD;
pub use self::trouble::{Cause, Trouble};
use super::{Loaded, Times};
use crate::backoff::{Backoff, jitter};
use crate::board::{Board, FleetQuestion, Report, SourceState};
use crate::complaint::Complaint;
use crate::store::Store;

mod binding;
mod conninfo;
mod expiry;
mod load;
mod migrate;
mod nodes;
mod refusals;
mod session;
pub mod target;
mod tls;
mod trouble;
pub mod visitor;

/// The shortest pause between two loads, in which more of the same burst comes together. The first change of a burst never waits.
const PAUSE_MIN: Duration = Duration::from_millis(3);
/// The longest pause between two loads, whatever the last one took.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// A standby is looked at this often at least: it sends no notifications.
const STANDBY_POLL_MS_MAX: u64 = 1_000;
/// How often the other hosts are asked for a primary while a standby is read.
const SEARCH_ON_STANDBY_MS: u64 = 1_000;
/// How often they are asked for a primary of a higher timeline while a primary is read.
const SEARCH_ON_PRIMARY_MS: u64 = 10_000;
/// The same in the largest fleet.
const SEARCH_ON_PRIMARY_MS_MAX: u64 = 120_000;
/// All nodes together ask each of the other hosts about so often.
const FLEET_SEARCHES_PER_S: u64 = 20;
/// A connection on which nothing was heard for so long is asked whether it stands. With the limit of a statement on top, a network
/// that swallows everything is noticed within ten seconds, whatever `poll_ms` is.
const PROBE_AFTER: Duration = Duration::from_secs(5);
const RETRY_MS_FIRST: u64 = 50;
/// The cap while the server is out of reach: it may be back any moment.
const RETRY_MS_MAX: u64 = 1_500;
/// The cap while the server says no.
const REFUSED_MS_MAX: u64 = 5_000;

/// See the module.
#[derive(Debug)]
pub struct Postgresql {
    target: Target,
    poll_ms: u64,
    board: Arc<Board>,
    report: watch::Receiver<Report>,
    served: watch::Receiver<Option<Version>>,
    fleet: Option<mpsc::Receiver<FleetQuestion>>,
    nodes: Nodes,
    refusals: Refusals,
    expiry: Expiry,
    session: Option<Session>,
    /// Whether the head has to be looked at, and since when that is known.
    look: Option<Instant>,
    /// When it is looked at without a hint.
    poll_at: Instant,
    /// When the server answered last.
    heard_at: Instant,
    /// The connection is a new one: what stands behind an equal head is not known to be equal.
    unproven: bool,
    store: Store,
    base: Option<Base>,
    /// What the pipeline was given last.
    published: Option<(Head, Version)>,
    /// When the next load may begin.
    load_after: Instant,
    search: Option<JoinHandle<Result<Session, Trouble>>>,
    search_after: Instant,
    backoff: Backoff,
    refused_backoff: Backoff,
    complaint: Complaint,
    stamp_complained: bool,
}

impl Drop for Postgresql {
    fn drop(&mut self) {
        if let Some(search) = self.search.take() {
            search.abort();
        }
    }
}

/// Why the wait ended.
enum Wake {
    Hint,
    Poll,
    Closed,
    /// What is told to others has changed; what has to be written when is asked anew.
    News,
    Write,
    Expire,
    Probe,
    Fleet(FleetQuestion),
    Search,
    Found(Box<Result<Session, Trouble>>),
}

impl Postgresql {
    /// Connects to nothing yet.
    pub fn new(target: Target, poll_ms: u64, identity: Identity, board: Arc<Board>) -> Postgresql {
        let now = Instant::now();
        Postgresql {
            target,
            poll_ms,
            report: board.report(),
            served: board.served(),
            fleet: board.fleet_questions(),
            board,
            nodes: Nodes::new(identity.clone()),
            refusals: Refusals::new(identity),
            expiry: Expiry::new(),
            session: None,
            look: None,
            poll_at: now,
            heard_at: now,
            unproven: true,
            store: Store::default(),
            base: None,
            published: None,
            load_after: now,
            search: None,
            search_after: now,
            backoff: Backoff::new(RETRY_MS_FIRST, RETRY_MS_MAX),
            refused_backoff: Backoff::new(RETRY_MS_FIRST, REFUSED_MS_MAX),
            complaint: Complaint::default(),
            stamp_complained: false,
        }
    }

    /// Waits for the next revision and loads it.
    pub async fn next(&mut self) -> Loaded {
        loop {
            match self.advance().await {
                Ok(Some(loaded)) => return loaded,
                Ok(None) => {}
                Err(trouble) => self.lost(trouble).await,
            }
        }
    }

    async fn advance(&mut self) -> Result<Option<Loaded>, Trouble> {
        if self.session.is_none() {
            let session = open(self.target.clone(), None).await?;
            self.take_over(session).await?;
        }
        if let Some(noticed) = self.look.take() {
            return self.look(noticed).await;
        }
        let searches = self.searches();
        let (write_at, expire_at) = (self.write_at(), self.expire_at());
        let Some(session) = &mut self.session else { return Ok(None) };
        let wake = tokio::select! {
            changed = session.hints.changed() => if changed.is_ok() { Wake::Hint } else { Wake::Closed },
            () = sleep_until(self.poll_at) => Wake::Poll,
            // Where the board is gone nothing can change any more, and waiting for it would spin.
            _ = self.report.changed(), if self.report.has_changed().is_ok() => Wake::News,
            () = sleep_until(write_at.unwrap_or(self.poll_at)), if write_at.is_some() => Wake::Write,
            () = sleep_until(expire_at.unwrap_or(self.poll_at)), if expire_at.is_some() => Wake::Expire,
            () = sleep_until(self.heard_at + PROBE_AFTER) => Wake::Probe,
            question = asked(&mut self.fleet) => Wake::Fleet(question),
            () = sleep_until(self.search_after), if searches => Wake::Search,
            found = finished(&mut self.search) => Wake::Found(Box::new(found)),
        };
        self.woken(wake).await?;
        Ok(None)
    }

    /// When something is to be written, if this server takes writes at all.
    fn write_at(&self) -> Option<Instant> {
        let standby = self.session.as_ref().is_none_or(|session| session.facts.standby);
        let report = self.report.borrow();
        let nodes_at = self.nodes.due(&report);
        (!standby).then(|| self.refusals.due(&report.refusal).map_or(nodes_at, |at| at.min(nodes_at)))
    }

    /// When this server is asked to remove what is past its time; not before there is something to serve.
    fn expire_at(&self) -> Option<Instant> {
        let standby = self.session.as_ref().is_none_or(|session| session.facts.standby);
        (!standby && !self.unproven).then(|| self.expiry.due())
    }

    /// Whether there may be a better server than the one at hand, or a better connection to the same one.
    fn searches(&self) -> bool {
        let standby = self.session.as_ref().is_some_and(|session| session.facts.standby);
        let may_gain = match self.target.wanted {
            Wanted::Primary => true,
            Wanted::PreferStandby => !standby,
            Wanted::Standby | Wanted::ReadOnly => false,
        };
        let may_find = self.target.hosts.len() > 1 || self.only_reads();
        may_gain && may_find && self.search.is_none()
    }

    /// Whether the session is a primary's and takes no writes. That a database or role only reads is settled when a session begins: only
    /// another one shows that it is over.
    fn only_reads(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.facts.standby && !session.facts.writable)
    }

    async fn woken(&mut self, wake: Wake) -> Result<(), Trouble> {
        let noticed = Instant::now();
        match wake {
            Wake::Hint => {
                if self.load_after > noticed {
                    sleep_until(self.load_after).await;
                }
                if let Some(session) = &mut self.session {
                    session.hints.mark_unchanged();
                }
                self.expiry.changed();
                self.look = Some(noticed);
            }
            Wake::Poll => self.look = Some(noticed),
            Wake::Closed => {
                return Err(Trouble::out_of_reach(CLOSED));
            }
            Wake::News => {}
            Wake::Write => self.write(noticed).await?,
            Wake::Expire => {
                if let Some(session) = &self.session {
                    self.expiry.look(session).await?;
                    self.heard_at = Instant::now();
                }
            }
            Wake::Probe => {
                if let Some(session) = &self.session {
                    // No statement: the server answers without looking at anything.
                    limited("probing the connection", QUERY_MAX, session.client.batch_execute("")).await?;
                    self.heard_at = Instant::now();
                }
            }
            Wake::Fleet(question) => self.tell_fleet(question).await?,
            Wake::Search => {
                let here = self.session.as_ref().map(|session| session.host.clone());
                let here = here.filter(|_| !self.only_reads());
                self.search = Some(tokio::spawn(open(self.target.clone(), here)));
            }
            Wake::Found(found) => self.found(*found, noticed).await?,
        }
        Ok(())
    }

    /// Writes what is due, this node's row before its refusals: whoever removes what belongs to no node looks at it.
    async fn write(&mut self, now: Instant) -> Result<(), Trouble> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let report = self.report.borrow_and_update().clone();
        if self.nodes.due(&report) <= now {
            self.nodes.write(session, report.clone()).await?;
        }
        if self.refusals.due(&report.refusal).is_some_and(|at| at <= now) {
            self.refusals.write(session, report.refusal).await?;
        }
        Ok(())
    }

    async fn tell_fleet(&mut self, question: FleetQuestion) -> Result<(), Trouble> {
        let Some(session) = &self.session else { return Ok(()) };
        let (answer, lost) = if session.facts.standby {
            let text = "only a standby can be reached, which does not hold the table of nodes; ask again when there is a primary";
            (Err(text.to_owned()), None)
        } else {
            match nodes::fleet(session).await {
                Ok(fleet) => (Ok(fleet), None),
                Err(trouble) => {
                    (Err(trouble.text.clone()), (trouble.cause == Cause::OutOfReach).then_some(trouble))
                }
            }
        };
        // Who asked may have gone.
        let _ = question.send(answer);
        lost.map_or(Ok(()), Err)
    }

    /// What a search gave.
    async fn found(&mut self, found: Result<Session, Trouble>, now: Instant) -> Result<(), Trouble> {
        self.search = None;
        let here = self.session.as_ref().map(|session| session.facts);
        let standby = here.is_some_and(|facts| facts.standby);
        let wait_ms = if standby {
            SEARCH_ON_STANDBY_MS
        } else {
            let share_ms = self.nodes.fleet().saturating_mul(1_000) / FLEET_SEARCHES_PER_S;
            share_ms.clamp(SEARCH_ON_PRIMARY_MS, SEARCH_ON_PRIMARY_MS_MAX)
        };
        self.search_after = now + Duration::from_millis(wait_ms / 2 + jitter(wait_ms / 2));
        let Ok(session) = found else { return Ok(()) };
        let better = match self.target.wanted {
            // On a standby the timeline here is 0, so that any primary is above it.
            Wanted::Primary => {
                !session.facts.standby && session.facts.timeline > here.map_or(0, |facts| facts.timeline)
            }
            _ => session.facts.standby,
        };
        let is_current = here.is_some_and(|facts| session.facts.timeline >= facts.timeline);
        let better = better || (self.only_reads() && session.facts.writable && is_current);
        if better {
            let timeline = session.facts.timeline;
            tracing::info!(host = session.host, timeline, "found a better server");
            self.take_over(session).await?;
        }
        Ok(())
    }

    /// Makes a session the one in use: listens, brings the schema to level, stamps the timeline.
    async fn take_over(&mut self, mut session: Session) -> Result<(), Trouble> {
        if !session.facts.standby {
            limited("LISTEN", QUERY_MAX, session.client.batch_execute("listen ringway")).await?;
        }
        migrate::migrate(&mut session).await.map_err(|trouble| trouble.at(&session.host))?;
        if !session.facts.standby {
            self.stamp(&session).await?;
        }
        let Session { host, facts, .. } = &session;
        if facts.standby {
            tracing::info!(
                host,
                "reading a standby by polling: there is no primary, or a standby was asked for"
            );
        } else {
            tracing::info!(host, timeline = facts.timeline, "connected to PostgreSQL");
        }
        if let Some(base) = &mut self.base {
            base.same_session = false;
        }
        self.nodes.forget();
        self.refusals.forget();
        self.expiry.forget();
        self.session = Some(session);
        self.unproven = true;
        self.look = Some(Instant::now());
        Ok(())
    }

    /// One empty revision, where this primary writes a higher timeline than the head tells, or is another lineage.
    async fn stamp(&mut self, session: &Session) -> Result<(), Trouble> {
        let stamped = limited(
            "stamping the timeline",
            QUERY_MAX,
            session.client.query_one("select ringway.stamp()", &[]),
        );
        match stamped.await {
            Ok(row) => {
                if row.try_get(0)? {
                    let timeline = session.facts.timeline;
                    tracing::info!(
                        timeline,
                        "took one empty revision: this primary writes a new timeline, or is a new cluster with a restored dump"
                    );
                }
                self.stamp_complained = false;
                Ok(())
            }
            Err(trouble) if trouble.cause == Cause::OutOfReach => Err(trouble),
            Err(trouble) => {
                if !mem::replace(&mut self.stamp_complained, true) {
                    tracing::warn!("cannot stamp the timeline of this primary: {trouble}");
                }
                Ok(())
            }
        }
    }

    /// Compares the head and loads if it has moved.
    async fn look(&mut self, noticed: Instant) -> Result<Option<Loaded>, Trouble> {
        let Some(session) = &mut self.session else { return Ok(None) };
        let started = Instant::now();
        let (head, news) = load::look(session, self.base).await?;
        if head.standby != session.facts.standby {
            tracing::info!(host = session.host, "the standby was promoted");
            session.refresh().await?;
            if let Some(session) = self.session.take() {
                self.take_over(session).await?;
            }
            return Ok(None);
        }
        self.heard_at = Instant::now();
        let poll_ms = if head.standby { self.poll_ms.min(STANDBY_POLL_MS_MAX) } else { self.poll_ms };
        // A fleet that started at one moment is not to ask at one moment for ever.
        self.poll_at = self.heard_at + Duration::from_millis(poll_ms - jitter(poll_ms / 8));
        if let Some(note) = self.behind(&head) {
            self.settled(true, Some(note));
            return Ok(None);
        }
        if !self.unproven && self.published.is_some_and(|(published, _)| published.key() == head.key()) {
            self.settled(head.standby, None);
            return Ok(None);
        }
        match news {
            Some(news) => self.follow(news, head, noticed, started).await,
            None => {
                sleep_until(self.load_after).await;
                self.load(noticed).await
            }
        }
    }

    /// Brings the store to the head by the few changes that came with it.
    async fn follow(
        &mut self,
        news: News,
        head: Head,
        noticed: Instant,
        started: Instant,
    ) -> Result<Option<Loaded>, Trouble> {
        let (is_small, store) = (news.is_small()?, mem::take(&mut self.store));
        // Until it is whole again, there is nothing to go on from.
        self.base = None;
        let work = move || news.fill(store).map(|store| checked(store, &head));
        let (store, outcome) = if is_small { work()? } else { aside(work).await?? };
        Ok(self.loaded(store, outcome, head, noticed, started))
    }

    /// Loads, and gives what the pipeline has not seen.
    async fn load(&mut self, noticed: Instant) -> Result<Option<Loaded>, Trouble> {
        let Some(session) = &mut self.session else { return Ok(None) };
        let started = Instant::now();
        let store = mem::take(&mut self.store);
        let (store, head) = load::load(session, store, self.base.take()).await?;
        let (store, outcome) = aside(move || checked(store, &head)).await?;
        Ok(self.loaded(store, outcome, head, noticed, started))
    }

    fn loaded(
        &mut self,
        store: Store,
        outcome: Result<Snapshot, Vec<Fault>>,
        head: Head,
        noticed: Instant,
        started: Instant,
    ) -> Option<Loaded> {
        self.store = store;
        self.base = Some(Base { head, same_session: true });
        self.unproven = false;
        self.heard_at = Instant::now();
        self.settled(head.standby, None);
        let ended = Instant::now();
        self.load_after = ended + (ended - started).clamp(PAUSE_MIN, PAUSE_MAX);
        let before_us = u64::try_from((head.read_at - noticed).as_micros()).unwrap_or(u64::MAX);
        let times = Times {
            noticed: noticed.into_std(),
            committed_us_before: u64::try_from(head.age_us).ok().map(|age| age.saturating_sub(before_us)),
            loaded: ended.into_std(),
        };
        let loaded = Loaded::new(head.lineage, head.timeline, head.revision, outcome, times);
        let before = self.published.replace((head, loaded.version)).map(|(_, version)| version);
        // A reconnect that found everything as it was is no news.
        (loaded.outcome.is_err() || before != Some(loaded.version)).then_some(loaded)
    }

    /// What to say where a standby shows less than this program published or the data plane serves: it may only be late.
    fn behind(&self, head: &Head) -> Option<String> {
        let served = *self.served.borrow();
        let published = self.published.map(|(_, version)| version);
        let newest = served
            .into_iter()
            .chain(published)
            .filter(|version| head.standby && version.lineage == head.lineage)
            .filter(|version| version.order() > (head.timeline, head.revision))
            .max_by_key(Version::order)?;
        let host = self.session.as_ref().map_or("?", |session| session.host.as_str());
        Some(format!(
            "the standby {host} has revision {} of timeline {} and what is served is {newest}: \
             nothing is taken from it until it has caught up",
            head.revision, head.timeline
        ))
    }

    /// The session does all that it has to. Only now is a trouble over: a server that lets us in and then refuses would
    /// otherwise be told as lost and found at every attempt.
    fn settled(&mut self, standby: bool, note: Option<String>) {
        self.backoff.reset();
        self.refused_backoff.reset();
        if let Some(lasted) = self.complaint.over(std::time::Instant::now()) {
            tracing::info!(after_ms = lasted.as_millis(), "PostgreSQL is back");
        }
        self.board.source(if standby { SourceState::Standby } else { SourceState::Connected }, note);
    }

    /// The session is of no use any more: says so once, and waits.
    async fn lost(&mut self, trouble: Trouble) {
        self.session = None;
        self.board.source(SourceState::Disconnected, Some(trouble.text.clone()));
        if let Some(line) = self.complaint.about(&trouble.text, std::time::Instant::now()) {
            tracing::warn!("PostgreSQL: {line}");
        }
        let wait = match trouble.cause {
            Cause::OutOfReach => self.backoff.wait(),
            Cause::Refused | Cause::ReadOnly => self.refused_backoff.wait(),
        };
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                question = asked(&mut self.fleet) => {
                    // Who asked may have gone.
                    let _ = question.send(Err(format!("the source is disconnected: {}", trouble.text)));
                }
            }
        }
    }
}

fn checked(mut store: Store, head: &Head) -> (Store, Result<Snapshot, Vec<Fault>>) {
    let outcome = store.snapshot(head.lineage, head.timeline, head.revision);
    (store, outcome)
}

/// Off the thread that answers pings.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Trouble> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Trouble::out_of_reach(format!("parsing or validating failed: {error}")))
}

async fn asked(questions: &mut Option<mpsc::Receiver<FleetQuestion>>) -> FleetQuestion {
    if let Some(receiver) = questions {
        if let Some(question) = receiver.recv().await {
            return question;
        }
        *questions = None;
    }
    std::future::pending().await
}

async fn finished(search: &mut Option<JoinHandle<Result<Session, Trouble>>>) -> Result<Session, Trouble> {
    match search {
        Some(handle) => {
            handle.await.unwrap_or_else(|error| Err(Trouble::out_of_reach(format!("search ended: {error}"))))
        }
        None => std::future::pending().await,
    }
}
