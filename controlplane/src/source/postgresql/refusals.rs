//! Keeps this node's rows of `ringway.refusal` equal to what it refuses, so that a DBA sees it with plain SQL.
//!
//! What is refused is a state and not an event: it is written when it has changed, again after each reconnect, and never
//! more often than once a second. A server or role that may not write is no reason to stop reading.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::session::{QUERY_MAX, Session};
use super::trouble::{Cause, Trouble};
use crate::board::Refusal;

/// At a thousand broken revisions a second a fleet would otherwise write more than it reads.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// What was written, and when the next may be.
#[derive(Debug)]
pub(super) struct Refusals {
    node: String,
    written: Option<Option<Arc<Refusal>>>,
    next_at: Instant,
    complained: bool,
}

impl Refusals {
    /// For the rows of that node.
    pub(super) fn new(node: String) -> Refusals {
        Refusals { node, written: None, next_at: Instant::now(), complained: false }
    }

    /// Another connection, perhaps another server: what it holds is not known.
    pub(super) fn forget(&mut self) {
        self.written = None;
    }

    /// When [`Refusals::write`] is due for this state; `None` if it is written.
    pub(super) fn due(&self, wanted: &Option<Arc<Refusal>>) -> Option<Instant> {
        (self.written.as_ref() != Some(wanted)).then_some(self.next_at)
    }

    /// Replaces this node's rows.
    pub(super) async fn write(
        &mut self,
        session: &mut Session,
        wanted: Option<Arc<Refusal>>,
    ) -> Result<(), Trouble> {
        self.next_at = Instant::now() + WRITE_EVERY;
        let replaced = tokio::time::timeout(QUERY_MAX, replace(session, &self.node, wanted.as_deref())).await;
        match replaced.unwrap_or_else(|_| Err(Trouble::timeout("writing ringway.refusal", QUERY_MAX))) {
            Ok(()) => self.complained = false,
            Err(trouble) if trouble.cause == Cause::OutOfReach => return Err(trouble),
            Err(trouble) => {
                if !self.complained {
                    tracing::warn!("cannot write table ringway.refusal: {trouble}");
                }
                self.complained = true;
            }
        }
        self.written = Some(wanted);
        Ok(())
    }
}

async fn replace(session: &mut Session, node: &str, wanted: Option<&Refusal>) -> Result<(), Trouble> {
    let there =
        session.client.query_opt("select from ringway.refusal where node = $1 limit 1", &[&node]).await?;
    if there.is_none() && wanted.is_none() {
        return Ok(());
    }
    let transaction = session.client.transaction().await?;
    transaction.execute("delete from ringway.refusal where node = $1", &[&node]).await?;
    for fault in wanted.map_or(&[][..], |refusal| &refusal.faults) {
        let version = wanted.map(|refusal| refusal.version).unwrap_or_default();
        let revision = i64::try_from(version.revision).unwrap_or(i64::MAX);
        transaction
            .execute(
                "insert into ringway.refusal (node, revision, timeline, kind, id, pointer, reason) \
                 values ($1, $2, $3, $4, $5, $6, $7)",
                &[
                    &node,
                    &revision,
                    &version.timeline.cast_signed(),
                    &fault.kind,
                    &fault.id,
                    &fault.pointer,
                    &fault.reason,
                ],
            )
            .await?;
    }
    transaction.commit().await?;
    Ok(())
}
