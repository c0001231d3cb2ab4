//! Reads head and objects from PostgreSQL into a [`Store`].
//!
//! Always of one moment, so that the objects are those of the head's revision. Where the store already holds an earlier revision of
//! the same timeline, only what `ringway.change` names since is read, if that table tells every revision in between; else everything.
//! A few changes come with the head, in the one statement that [`look`] is, because each further statement costs a change as much time as the
//! reading itself; many, or everything, in a `REPEATABLE READ READ ONLY` transaction.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::{IsolationLevel, Row, Statement, Transaction};

use super::session::{QUERY_MAX, Session, limited};
use super::trouble::{NO_HEAD, Trouble};
use crate::store::Store;
use ringway_snapshot::Kind;
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
/// The head, and what changed since, where that is little: one statement sees one moment. Its plan is made once, maybe while the tables are
/// still empty, and has to be good for any size: see [`PREPARE`].
const NEWS: &str = "with told as materialized \
        (select revision, kind, id from ringway.change where revision > $1 order by revision limit 257) \
    select h.revision, h.timeline, pg_is_in_recovery(), \
        (extract(epoch from clock_timestamp() - h.at) * 1000000)::bigint, \
        (select count(*) from told), (select count(distinct revision) from told), c.kind, c.id, r.spec \
    from (select * from ringway.head limit 1) h left join (select distinct kind, id from told) c on true \
    left join lateral (select spec::text as spec from ringway.resource where kind = c.kind and id = c.id limit 1) r on true";
/// One less than the limit in [`NEWS`].
const NEWS_CHANGES_MAX: i64 = 256;
/// Planning each execution anew takes three times as long as executing it. So the plan is made without a look at the value, and by
/// indexes whatever the statistics say: one look by each index for each change.
const PREPARE: &str =
    "set plan_cache_mode = force_generic_plan; set enable_seqscan = off; set enable_bitmapscan = off";
/// The opposite, for who reads much.
const READ_MUCH: &str =
    "set local plan_cache_mode = auto; set local enable_seqscan = on; set local enable_bitmapscan = on";
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
    parse_head(row.map_err(|trouble| trouble.at("cannot read ringway.head"))?.as_ref(), session.facts.lineage)
}

/// What changed since a store's revision: few rows, ready to be filled in.
#[derive(Debug)]
pub(super) struct News(Vec<Row>);

/// The statement of [`look`], prepared once a connection.
#[derive(Debug, Clone)]
pub(super) struct Look(Statement);

/// Reads the head, and where the store is of this connection what changed since, if that is little and told without gaps.
pub(super) async fn look(session: &mut Session, base: Option<Base>) -> Result<(Head, Option<News>), Trouble> {
    let Some(base) = base.filter(|base| base.same_session) else {
        return Ok((head(session).await?, None));
    };
    let lineage = session.facts.lineage;
    let since = i64::try_from(base.head.revision).unwrap_or(i64::MAX);
    let rows = limited("reading ringway.head", QUERY_MAX, async {
        let Look(statement) = prepared(session).await?;
        session.client.query(&statement, &[&since]).await
    });
    let rows = rows.await.map_err(|trouble| trouble.at("cannot read ringway.head"))?;
    let head = parse_head(rows.first(), lineage)?;
    let news = news(&base.head, &head, rows)?;
    Ok((head, news))
}

async fn prepared(session: &mut Session) -> Result<Look, tokio_postgres::Error> {
    if let Some(look) = &session.look {
        return Ok(look.clone());
    }
    session.client.batch_execute(PREPARE).await?;
    let look = Look(session.client.prepare(NEWS).await?);
    session.look = Some(look.clone());
    Ok(look)
}

/// The changes from `from` to `to`, if the rows have all of them.
fn news(from: &Head, to: &Head, rows: Vec<Row>) -> Result<Option<News>, Trouble> {
    let Some(first) = rows.first() else { return Ok(None) };
    let (changes, revisions): (i64, i64) = (first.try_get(4)?, first.try_get(5)?);
    let whole = leads_to(from, to)
        && changes <= NEWS_CHANGES_MAX
        && u64::try_from(revisions) == Ok(to.revision - from.revision);
    Ok(whole.then_some(News(rows)))
}

/// Whether a store of `from` may be brought to `to` by what changed.
fn leads_to(from: &Head, to: &Head) -> bool {
    (from.lineage, from.timeline) == (to.lineage, to.timeline) && from.revision <= to.revision
}

impl News {
    /// Fills them in.
    pub(super) fn fill(&self, store: Store) -> Result<Store, Trouble> {
        fill(store, &self.0, NEWS_OBJECT)
    }

    /// Whether that, and validating it, takes so short that no other thread is worth its wake-up: nobody refers to a route, so that one that comes
    /// or goes has nobody else looked at.
    pub(super) fn is_small(&self) -> Result<bool, Trouble> {
        let mut bytes = 0;
        for row in &self.0 {
            let (kind, spec): (Option<&str>, Option<&str>) =
                (row.try_get(NEWS_OBJECT)?, row.try_get(NEWS_OBJECT + 2)?);
            if kind.is_some_and(|kind| kind != Kind::Route.name()) {
                return Ok(false);
            }
            bytes += spec.map_or(0, str::len);
        }
        Ok(self.0.len() <= SMALL_ROWS_MAX && bytes <= SMALL_BYTES_MAX)
    }
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

/// Rows and bytes of objects that are parsed and validated in a millisecond at most.
const SMALL_ROWS_MAX: usize = 32;
const SMALL_BYTES_MAX: usize = 32 << 10;

async fn load_all(session: &mut Session, store: Store, base: Option<Base>) -> Result<(Store, Head), Trouble> {
    let lineage = session.facts.lineage;
    let transaction = session
        .client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    transaction.batch_execute(READ_MUCH).await?;
    let head = parse_head(transaction.query_opt(HEAD, &[]).await?.as_ref(), lineage)?;
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
    let filled = tokio::task::spawn_blocking(move || fill(store, &rows, 0)).await;
    let store =
        filled.map_err(|error| Trouble::out_of_reach(format!("parsing the objects failed: {error}")))??;
    Ok((store, head))
}

/// The rows that changed since `from`, or `None` where that cannot be told.
async fn changed(transaction: &Transaction<'_>, from: &Head, to: &Head) -> Result<Option<Vec<Row>>, Trouble> {
    if !leads_to(from, to) {
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

/// Where kind, id and object begin in a row of [`NEWS`]; kind and id are null where nothing changed.
const NEWS_OBJECT: usize = 6;

/// Fills in rows whose columns from `at` on are kind, id and object; without the object it is gone.
fn fill(mut store: Store, rows: &[Row], at: usize) -> Result<Store, Trouble> {
    for row in rows {
        let (kind, id): (Option<&str>, Option<&str>) = (row.try_get(at)?, row.try_get(at + 1)?);
        let (Some(kind), Some(id)) = (kind, id) else { continue };
        match row.try_get::<_, Option<&str>>(at + 2)? {
            Some(spec) => store.put_text(kind, id, spec),
            None => store.remove(kind, id),
        }
    }
    Ok(store)
}

fn parse_head(row: Option<&Row>, lineage: u64) -> Result<Head, Trouble> {
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
