//! Reads head and objects from PostgreSQL into a [`Store`].
//!
//! Always in one `REPEATABLE READ READ ONLY` transaction, so that the objects are those of the head's revision. Where the store
//! already holds an earlier revision of the same timeline, only what `ringway.change` names since is read, if that
//! table tells every revision in between; else everything.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::{IsolationLevel, Row, Transaction};

use super::session::{QUERY_MAX, Session, limited};
use super::trouble::{NO_HEAD, Trouble};
use crate::store::Store;
use ringway_snapshot::limits::OBJECTS_MAX;

/// For one load of everything.
const LOAD_MAX: Duration = Duration::from_secs(90);

const HEAD: &str = "select revision, timeline, pg_is_in_recovery(), \
    (extract(epoch from clock_timestamp() - at) * 1000000)::bigint from ringway.head";
const ALL: &str = "select kind, id, spec::text from ringway.resource";
/// The limit keeps the planner at one look by the primary key for each changed object. Without statistics, as after an import, it would
/// take a few changes for many and read all of `ringway.resource`: 40 ms instead of 0.1 at 100,000 rows, for each load.
const CHANGED: &str = "select c.kind, c.id, r.spec \
    from (select distinct kind, id from ringway.change where revision > $1) c \
    left join lateral (select spec::text as spec from ringway.resource where kind = c.kind and id = c.id limit 1) r on true";
const REVISIONS: &str = "select count(distinct revision) from ringway.change where revision > $1";

/// The head as one look found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// The server's system identifier.
    pub(super) lineage: u64,
    /// Timeline of the last revision.
    pub(super) timeline: u32,
    /// The last revision.
    pub(super) revision: u64,
    /// Whether the server is a standby.
    pub(super) standby: bool,
    /// Microseconds since the transaction of that revision took it.
    pub(super) age_us: i64,
    /// When this was read.
    pub(super) read_at: Instant,
}

impl Head {
    /// What the objects depend on.
    pub(super) fn key(&self) -> (u64, u32, u64) {
        (self.lineage, self.timeline, self.revision)
    }
}

/// Reads the head alone.
pub(super) async fn head(session: &Session) -> Result<Head, Trouble> {
    let row = limited("reading ringway.head", QUERY_MAX, session.client.query_opt(HEAD, &[])).await;
    parse_head(row.map_err(|trouble| trouble.at("cannot read ringway.head"))?, session.facts.lineage)
}

/// What is in a store already.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base {
    /// The head whose objects it holds.
    pub(super) head: Head,
    /// Whether the connection that read it still stands: a store is only carried on along one.
    pub(super) same_session: bool,
}

/// Brings the store to the present revision.
pub(super) async fn load(
    session: &mut Session,
    store: Store,
    base: Option<Base>,
) -> Result<(Store, Head), Trouble> {
    match tokio::time::timeout(LOAD_MAX, load_all(session, store, base)).await {
        Ok(loaded) => loaded.map_err(|trouble| trouble.at("cannot load the configuration")),
        Err(_) => Err(Trouble::timeout("loading the configuration", LOAD_MAX)),
    }
}

async fn load_all(session: &mut Session, store: Store, base: Option<Base>) -> Result<(Store, Head), Trouble> {
    let lineage = session.facts.lineage;
    let transaction = session
        .client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let head = parse_head(transaction.query_opt(HEAD, &[]).await?, lineage)?;
    let changed = match base {
        Some(base) if base.same_session => changed(&transaction, &base.head, &head).await?,
        _ => None,
    };
    let (store, rows) = match changed {
        Some(rows) => (store, rows),
        None => (Store::default(), transaction.query(ALL, &[]).await?),
    };
    transaction.commit().await?;
    if rows.len() > OBJECTS_MAX {
        return Err(Trouble::refused(format!("{} objects are over the limit of {OBJECTS_MAX}", rows.len())));
    }
    // 100,000 objects take a good part of a second to parse: not on the thread that answers pings.
    let filled = tokio::task::spawn_blocking(move || fill(store, &rows)).await;
    let store =
        filled.map_err(|error| Trouble::out_of_reach(format!("parsing the objects failed: {error}")))??;
    Ok((store, head))
}

/// The rows that changed since `from`, or `None` where that cannot be told.
async fn changed(transaction: &Transaction<'_>, from: &Head, to: &Head) -> Result<Option<Vec<Row>>, Trouble> {
    if (from.lineage, from.timeline) != (to.lineage, to.timeline) || from.revision > to.revision {
        return Ok(None);
    }
    let since = i64::try_from(from.revision).unwrap_or(i64::MAX);
    let told: i64 = transaction.query_one(REVISIONS, &[&since]).await?.try_get(0)?;
    if u64::try_from(told) != Ok(to.revision - from.revision) {
        tracing::debug!(from = from.revision, to = to.revision, told, "history has gaps: loading everything");
        return Ok(None);
    }
    Ok(Some(transaction.query(CHANGED, &[&since]).await?))
}

fn fill(mut store: Store, rows: &[Row]) -> Result<Store, Trouble> {
    for row in rows {
        let (kind, id): (&str, &str) = (row.try_get(0)?, row.try_get(1)?);
        match row.try_get::<_, Option<&str>>(2)? {
            Some(spec) => store.put_text(kind, id, spec),
            None => store.remove(kind, id),
        }
    }
    Ok(store)
}

fn parse_head(row: Option<Row>, lineage: u64) -> Result<Head, Trouble> {
    let Some(row) = row else {
        return Err(Trouble::refused(NO_HEAD));
    };
    let (revision, timeline): (i64, i32) = (row.try_get(0)?, row.try_get(1)?);
    Ok(Head {
        lineage,
        timeline: timeline.cast_unsigned(),
        revision: u64::try_from(revision).unwrap_or(0),
        standby: row.try_get(2)?,
        age_us: row.try_get(3)?,
        read_at: Instant::now(),
    })
}
