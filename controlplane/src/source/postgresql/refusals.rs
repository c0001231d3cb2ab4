//! Keeps this control plane's rows of `ringway.refusal` equal to what its node refuses, so that a DBA sees it with plain SQL.
//!
//! Rows are keyed by node and control plane: two on one node may follow different servers and refuse different things.
//! What is refused is a state and not an event: it is written when it has changed, again after each reconnect, and never
//! more often than once a second. A server or role that may not write is no reason to stop reading.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::nodes::Identity;
use super::session::{QUERY_MAX, Session};
use super::trouble::{Cause, Trouble};
use crate::board::Refusal;

/// At a thousand broken revisions a second a fleet would otherwise write more than it reads.
const WRITE_EVERY: Duration = Duration::from_secs(1);

/// What was written, and when the next may be.
#[derive(Debug)]
pub(super) struct Refusals {
    identity: Identity,
    written: Option<Option<Arc<Refusal>>>,
    next_at: Instant,
    complained: bool,
}

impl Refusals {
    /// For the rows of that control plane.
    pub(super) fn new(identity: Identity) -> Refusals {
        Refusals { identity, written: None, next_at: Instant::now(), complained: false }
    }

    /// Another connection, perhaps another server: what it holds is not known.
    pub(super) fn forget(&mut self) {
        self.written = None;
    }

    /// When [`Refusals::write`] is due for this state; `None` if it is written.
    pub(super) fn due(&self, wanted: &Option<Arc<Refusal>>) -> Option<Instant> {
        (self.written.as_ref() != Some(wanted)).then_some(self.next_at)
    }

    /// Replaces this control plane's rows.
    pub(super) async fn write(
        &mut self,
        session: &mut Session,
        wanted: Option<Arc<Refusal>>,
    ) -> Result<(), Trouble> {
        self.next_at = Instant::now() + WRITE_EVERY;
        let replaced =
            tokio::time::timeout(QUERY_MAX, replace(session, &self.identity, wanted.as_deref())).await;
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

async fn replace(
    session: &mut Session,
    identity: &Identity,
    wanted: Option<&Refusal>,
) -> Result<(), Trouble> {
    let Identity { node, control } = identity;
    let there = "select from ringway.refusal where node = $1 and control = $2 limit 1";
    let there = session.client.query_opt(there, &[node, control]).await?;
    if there.is_none() && wanted.is_none() {
        return Ok(());
    }
    let transaction = session.client.transaction().await?;
    let clear = "delete from ringway.refusal where node = $1 and control = $2";
    transaction.execute(clear, &[node, control]).await?;
    for fault in wanted.map_or(&[][..], |refusal| &refusal.faults) {
        let version = wanted.map(|refusal| refusal.version).unwrap_or_default();
        let revision = i64::try_from(version.revision).unwrap_or(i64::MAX);
        transaction
            .execute(
                "insert into ringway.refusal (node, control, revision, timeline, kind, id, pointer, reason) \
                 values ($1, $2, $3, $4, $5, $6, $7, $8)",
                &[
                    node,
                    control,
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
