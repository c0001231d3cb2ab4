//! Has objects removed whose time is over (`?ttl=`), by the primary that is read, as one revision of the actor `ttl`.
//!
//! What may go is decided by `ringway.expire()` under the lock that every writer takes: whatever somebody still refers to stays,
//! because a reference to nothing would make the whole configuration invalid. Every control plane asks, at the moment that the last answer
//! named and now and then besides; one does the work at a time, so that it does not matter how many there are, nor which of them dies.
//!
//! It refuses to be in the way: a role or server that may not do it is told once, and reading goes on.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Row;

use super::session::{QUERY_MAX, Session, limited};
use super::trouble::{Cause, Trouble};
use crate::backoff::jitter;

/// Between two looks that nobody asked for: somebody may have set an end by SQL, which takes no revision.
const LOOK_MS_MAX: u64 = 10_000;
/// Between two looks because of changes, of which there may be a thousand a second.
const LOOK_MS_MIN: u64 = 500;
/// Until the next look where somebody else does it or holds the lock, and how much later than an end one looks at most.
const AGAIN_MS: u64 = 200;
/// After a failure: each attempt is a line in the server's log.
const FAILED_MS: u64 = 60_000;
/// Where something is due: who refers to it is looked for among all objects.
const EXPIRE_MAX: Duration = Duration::from_secs(30);

/// Asked first, by the index alone: mostly nothing is due, and a server that is not there is to be noticed soon.
const DUE: &str = "select ceil(extract(epoch from min(expires_at) - clock_timestamp()) * 1000)::bigint from ringway.resource";
const EXPIRE: &str = "select gone, kept, example, busy, next_ms from ringway.expire()";

/// When it is looked at next, and what was told.
#[derive(Debug)]
pub(super) struct Expiry {
    look_at: Instant,
    looked_at: Option<Instant>,
    complained: bool,
    kept: i64,
}

impl Expiry {
    /// Looks at once.
    pub(super) fn new() -> Expiry {
        Expiry { look_at: Instant::now(), looked_at: None, complained: false, kept: 0 }
    }

    /// Another connection, perhaps another server.
    pub(super) fn forget(&mut self) {
        *self = Expiry { kept: self.kept, ..Expiry::new() };
    }

    /// When [`Expiry::look`] is due.
    pub(super) fn due(&self) -> Instant {
        self.look_at
    }

    /// Something was changed: there may be an end that comes sooner, or something is referred to no more.
    pub(super) fn changed(&mut self) {
        let earliest = self.looked_at.map_or_else(Instant::now, |at| at + Duration::from_millis(LOOK_MS_MIN));
        if !self.complained {
            self.look_at = self.look_at.min(earliest);
        }
    }

    /// Has removed what is past its time.
    pub(super) async fn look(&mut self, session: &Session) -> Result<(), Trouble> {
        let outcome = self.ask(session).await;
        let now = Instant::now();
        self.looked_at = Some(now);
        match outcome {
            Ok(wait_ms) => {
                self.complained = false;
                self.look_at = now + Duration::from_millis(wait_ms);
            }
            Err(trouble) if trouble.cause == Cause::OutOfReach => return Err(trouble),
            Err(trouble) => {
                self.look_at = now + Duration::from_millis(FAILED_MS);
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!("cannot remove what is past its time: {trouble}");
                }
            }
        }
        Ok(())
    }

    async fn ask(&mut self, session: &Session) -> Result<u64, Trouble> {
        let due = limited("looking for what is past its time", QUERY_MAX, session.client.query_one(DUE, &[]));
        let due_ms: Option<i64> = due.await?.try_get(0)?;
        if due_ms.is_none_or(|ms| ms > 0) {
            self.kept = 0;
            return Ok(until_next(due_ms));
        }
        let asked =
            limited("removing what is past its time", EXPIRE_MAX, session.client.query_one(EXPIRE, &[]));
        Ok(self.heard(&asked.await?)?)
    }

    /// Tells what was done, and after how many milliseconds the next look is due.
    fn heard(&mut self, row: &Row) -> Result<u64, tokio_postgres::Error> {
        let (gone, kept): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        let example: Option<String> = row.try_get(2)?;
        let busy: bool = row.try_get(3)?;
        let next_ms: Option<i64> = row.try_get(4)?;
        if gone > 0 {
            tracing::info!(objects = gone, "their time is over: removed");
        }
        if busy {
            return Ok(AGAIN_MS + jitter(AGAIN_MS));
        }
        if kept > self.kept {
            let example = example.unwrap_or_default();
            tracing::warn!(
                objects = kept,
                "{example} is past its time and stays, because others refer to it; it goes with the last of them"
            );
        }
        self.kept = kept;
        Ok(until_next(next_ms))
    }
}

/// Until the next look, where the next end is so far away.
fn until_next(end_ms: Option<i64>) -> u64 {
    let usual_ms = LOOK_MS_MAX - jitter(LOOK_MS_MAX / 8);
    let end_ms = end_ms.and_then(|ms| u64::try_from(ms).ok());
    end_ms.map_or(usual_ms, |ms| usual_ms.min(ms.saturating_add(jitter(AGAIN_MS))))
}
