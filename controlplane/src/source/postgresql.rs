//! The PostgreSQL source: one connection that listens, loads and looks again.
//!
//! A notification is a hint and nothing more: every `poll_ms` and after each reconnect the head is compared, so that a
//! lost one costs seconds and not correctness. Bursts are coalesced: between two loads at least as long passes as the last
//! load took, within a bound, so that a database which changes without pause takes half of this process at most.
//!
//! Invariants: one connection (a second one only for the moment of a search); LISTEN stands before the first load; a standby is
//! never written to, and what it has is never published once something newer was.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use self::load::{Base, Head};
use self::refusals::Refusals;
use self::session::{QUERY_MAX, Session, limited, open};
use self::target::{Target, Wanted};
pub use self::trouble::{Cause, Trouble};
use super::{Loaded, Times};
use crate::backoff::{Backoff, jitter};
use crate::board::{Board, Refusal, SourceState};
use crate::complaint::Complaint;
use crate::store::Store;

mod load;
mod migrate;
mod refusals;
mod session;
pub mod target;
mod trouble;
pub mod visitor;

/// After a hint, how long to wait for more of the same burst.
const COALESCE: Duration = Duration::from_millis(3);
/// The longest pause between two loads, whatever the last one took.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// A standby is looked at this often at least: it sends no notifications.
const STANDBY_POLL_MS_MAX: u64 = 1_000;
/// How often the other hosts are asked for a primary while a standby is read.
const SEARCH_ON_STANDBY: Duration = Duration::from_secs(1);
/// How often they are asked for a primary of a higher timeline while a primary is read.
const SEARCH_ON_PRIMARY_MS: u64 = 10_000;
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
    refusal: watch::Receiver<Option<Arc<Refusal>>>,
    refusals: Refusals,
    session: Option<Session>,
    /// Whether the head has to be looked at, and since when that is known.
    look: Option<Instant>,
    store: Store,
    base: Option<Base>,
    /// What the pipeline was given last.
    published: Option<Head>,
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
    Refusal,
    Search,
    Found(Box<Result<Session, Trouble>>),
}

impl Postgresql {
    /// Connects to nothing yet.
    pub fn new(target: Target, poll_ms: u64, node: String, board: Arc<Board>) -> Postgresql {
        let now = Instant::now();
        Postgresql {
            target,
            poll_ms,
            refusal: board.refusal(),
            board,
            refusals: Refusals::new(node),
            session: None,
            look: None,
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
        let Some(session) = &mut self.session else { return Ok(None) };
        let standby = session.facts.standby;
        let poll_ms = if standby { self.poll_ms.min(STANDBY_POLL_MS_MAX) } else { self.poll_ms };
        // A fleet that started at one moment is not to ask at one moment for ever.
        let poll_ms = poll_ms - jitter(poll_ms / 8);
        let write_at = if standby { None } else { self.refusals.due(&self.refusal.borrow()) };
        let searches =
            self.target.hosts.len() > 1 && self.search.is_none() && self.target.wanted == Wanted::Primary;
        let wake = tokio::select! {
            changed = session.hints.changed() => if changed.is_ok() { Wake::Hint } else { Wake::Closed },
            () = sleep(Duration::from_millis(poll_ms)) => Wake::Poll,
            // Ends the wait, so that `due` is asked again.
            changed = self.refusal.changed(), if write_at.is_none() && changed_can_come(&self.refusal) => {
                let _ = changed;
                return Ok(None);
            }
            () = sleep_until(write_at.unwrap_or(self.search_after)), if write_at.is_some() => Wake::Refusal,
            () = sleep_until(self.search_after), if searches => Wake::Search,
            found = finished(&mut self.search) => Wake::Found(Box::new(found)),
        };
        self.woken(wake).await?;
        Ok(None)
    }

    async fn woken(&mut self, wake: Wake) -> Result<(), Trouble> {
        let noticed = Instant::now();
        match wake {
            Wake::Hint => {
                sleep_until(self.load_after.max(noticed + COALESCE)).await;
                if let Some(session) = &mut self.session {
                    session.hints.mark_unchanged();
                }
                self.look = Some(noticed);
            }
            Wake::Poll => self.look = Some(noticed),
            Wake::Closed => {
                return Err(Trouble::out_of_reach("the connection to PostgreSQL was closed"));
            }
            Wake::Refusal => {
                let wanted = self.refusal.borrow_and_update().clone();
                if let Some(session) = &mut self.session {
                    self.refusals.write(session, wanted).await?;
                }
            }
            Wake::Search => {
                let here = self.session.as_ref().map(|session| session.host.clone());
                self.search = Some(tokio::spawn(open(self.target.clone(), here)));
            }
            Wake::Found(found) => {
                self.search = None;
                let standby = self.session.as_ref().is_some_and(|session| session.facts.standby);
                let wait_ms = SEARCH_ON_PRIMARY_MS / 2 + jitter(SEARCH_ON_PRIMARY_MS / 2);
                self.search_after =
                    noticed + if standby { SEARCH_ON_STANDBY } else { Duration::from_millis(wait_ms) };
                let timeline = self.session.as_ref().map_or(0, |session| session.facts.timeline);
                match *found {
                    // On a standby the timeline here is 0, so that any primary is above it.
                    Ok(session) if !session.facts.standby && session.facts.timeline > timeline => {
                        tracing::info!(
                            host = session.host,
                            timeline = session.facts.timeline,
                            "found a better primary"
                        );
                        self.take_over(session).await?;
                    }
                    _ => {}
                }
            }
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
        self.refusals.forget();
        self.session = Some(session);
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
                    tracing::info!(timeline, "took one empty revision: the primary writes a new timeline");
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
        let head = load::head(session).await?;
        if head.standby != session.facts.standby {
            tracing::info!(host = session.host, "the standby was promoted");
            session.refresh().await?;
            if let Some(session) = self.session.take() {
                self.take_over(session).await?;
            }
            return Ok(None);
        }
        let known = self.published.is_some_and(|published| {
            published.key() == head.key() || (head.standby && is_behind(&head, &published))
        });
        if known {
            self.settled(head.standby);
            return Ok(None);
        }
        sleep_until(self.load_after).await;
        let started = Instant::now();
        let store = mem::take(&mut self.store);
        let (store, head) = load::load(session, store, self.base.take()).await?;
        let Head { lineage, timeline, revision, .. } = head;
        let checked = tokio::task::spawn_blocking(move || {
            let outcome = store.snapshot(lineage, timeline, revision);
            (store, outcome)
        });
        let (store, outcome) =
            checked.await.map_err(|error| Trouble::out_of_reach(format!("validation failed: {error}")))?;
        self.store = store;
        self.base = Some(Base { head, same_session: true });
        self.published = Some(head);
        self.settled(head.standby);
        let loaded = Instant::now();
        self.load_after = loaded + (loaded - started).min(PAUSE_MAX);
        let before_us = u64::try_from((head.read_at - noticed).as_micros()).unwrap_or(u64::MAX);
        let times = Times {
            noticed: noticed.into_std(),
            committed_us_before: u64::try_from(head.age_us).ok().map(|age| age.saturating_sub(before_us)),
            loaded: loaded.into_std(),
        };
        Ok(Some(Loaded::new(lineage, timeline, revision, outcome, times)))
    }

    /// The session does all that it has to. Only now is a trouble over: a server that lets us in and then refuses would
    /// otherwise be told as lost and found at every attempt.
    fn settled(&mut self, standby: bool) {
        self.backoff.reset();
        self.refused_backoff.reset();
        if let Some(lasted) = self.complaint.over(std::time::Instant::now()) {
            tracing::info!(after_ms = lasted.as_millis(), "PostgreSQL is back");
        }
        self.board.source(if standby { SourceState::Standby } else { SourceState::Connected }, None);
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
        sleep(wait).await;
    }
}

/// Whether a standby shows less than was published already.
fn is_behind(head: &Head, published: &Head) -> bool {
    head.lineage == published.lineage
        && (head.timeline, head.revision) < (published.timeline, published.revision)
}

/// Where the board is gone nothing can change any more, and waiting for it would spin.
fn changed_can_come(refusal: &watch::Receiver<Option<Arc<Refusal>>>) -> bool {
    refusal.has_changed().is_ok()
}

async fn finished(search: &mut Option<JoinHandle<Result<Session, Trouble>>>) -> Result<Session, Trouble> {
    match search {
        Some(handle) => {
            handle.await.unwrap_or_else(|error| Err(Trouble::out_of_reach(format!("search ended: {error}"))))
        }
        None => std::future::pending().await,
    }
}
