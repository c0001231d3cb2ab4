//! A few connections to PostgreSQL, opened when somebody asks and closed when nobody does.
//!
//! A fleet pays for every connection, so a node whose Admin API is not used has none. A connection is given back only after its work
//! ended in good order; any other end (an error, a client that went away in the middle) drops it, and the server rolls
//! back what was open. So nothing half-done is ever carried into the next request.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::Client;

use super::answer::Answer;
use crate::source::postgresql::target::Target;
use crate::source::postgresql::visitor::Visitor;

/// A session's own limit, shorter than the source's: somebody waits for the answer, and others for the connection.
const SETTINGS: &str = "set lock_timeout = '5s'";
/// How long a request may have a connection. The server's limit on a statement is of no use where the server itself hangs.
const READ_MAX: Duration = Duration::from_secs(30);
/// The same for a transaction, which may change a hundred thousand objects.
const WRITE_MAX: Duration = Duration::from_secs(90);
/// Connections at one time.
const CONNECTIONS_MAX: usize = 4;
/// How long a request waits for one.
const TURN_MAX: Duration = Duration::from_secs(10);
/// After how long without use one is closed.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// For a server that is stopped but not dead to be noticed before a statement is sent to it.
const CHECK_AFTER: Duration = Duration::from_secs(5);
/// For the answer to that.
const CHECK_MAX: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug)]
pub(super) struct Pool {
    target: Target,
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<(Visitor, Instant)>>,
}

/// One connection for one request.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    pool: &'a Pool,
    visitor: Visitor,
    _turn: OwnedSemaphorePermit,
    _limit: Limit,
}

/// Cuts the connection when a request has had it for too long.
#[derive(Debug)]
struct Limit(JoinHandle<()>);

impl Drop for Limit {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Limit {
    fn on(visitor: &Visitor, limit: Duration) -> Limit {
        let connection = visitor.cutter();
        Limit(tokio::spawn(async move {
            tokio::time::sleep(limit).await;
            tracing::warn!(
                "Admin API: a request got no answer from PostgreSQL within {} s; its connection is closed",
                limit.as_secs()
            );
            connection.abort();
        }))
    }
}

impl Pool {
    /// Connects to nothing yet.
    pub(super) fn new(target: Target) -> Pool {
        Pool { target, turns: Arc::new(Semaphore::new(CONNECTIONS_MAX)), idle: Mutex::default() }
    }

    /// A connection to read with.
    pub(super) async fn reader(&self) -> Result<Lease<'_>, Answer> {
        self.lease(READ_MAX).await
    }

    async fn lease(&self, limit: Duration) -> Result<Lease<'_>, Answer> {
        let Ok(Ok(turn)) = timeout(TURN_MAX, Arc::clone(&self.turns).acquire_owned()).await else {
            return Err(Answer::unavailable(format!(
                "all {CONNECTIONS_MAX} connections to PostgreSQL were in use for {} s; nothing was written",
                TURN_MAX.as_secs()
            )));
        };
        while let Some((mut visitor, since)) = self.take() {
            let fresh = since.elapsed() < CHECK_AFTER
                || matches!(timeout(CHECK_MAX, visitor.client().batch_execute("")).await, Ok(Ok(())));
            if fresh && !visitor.is_closed() {
                return Ok(Lease { _limit: Limit::on(&visitor, limit), pool: self, visitor, _turn: turn });
            }
        }
        let mut visitor = Visitor::connect(&self.target).await?;
        let lease_limit = Limit::on(&visitor, limit);
        visitor.client().batch_execute(SETTINGS).await?;
        Ok(Lease { _limit: lease_limit, pool: self, visitor, _turn: turn })
    }

    /// A connection to write with.
    pub(super) async fn writer(&self) -> Result<Lease<'_>, Answer> {
        let lease = self.lease(WRITE_MAX).await?;
        if lease.visitor.is_standby() {
            return Err(Answer::unavailable(
                "PostgreSQL only reads at present: a standby answers and no primary; nothing was written",
            ));
        }
        Ok(lease)
    }

    /// Closes what was not used for a while; called now and then.
    pub(super) fn close_idle(&self) {
        self.idle().retain(|(visitor, since)| since.elapsed() < IDLE_MAX && !visitor.is_closed());
    }

    fn take(&self) -> Option<(Visitor, Instant)> {
        self.idle().pop()
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(Visitor, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease<'_> {
    /// To send statements with.
    pub(super) fn client(&mut self) -> &mut Client {
        self.visitor.client()
    }

    /// The server's system identifier.
    pub(super) fn lineage(&self) -> u64 {
        self.visitor.lineage()
    }

    /// Timeline of the WAL that the server writes.
    pub(super) fn timeline(&self) -> u32 {
        self.visitor.timeline()
    }

    /// Keeps the connection for the next request.
    pub(super) fn give_back(self) {
        if !self.visitor.is_closed() && !self.visitor.is_standby() {
            self.pool.idle().push((self.visitor, Instant::now()));
        }
    }
}
