//! Keeps this node's row of `ringway.node` current, and reads everybody's for `ringway status --fleet`.
//!
//! A fleet pays for every write, so a row is written when what it tells has changed, at most once a second, and else as a beat
//! every few seconds; both become rarer as the fleet grows, so that all nodes together write about [`FLEET_WRITES_PER_S`] times a
//! second. The table is unlogged, has no trigger, and takes no revision. A row says itself when it is stale; rows that
//! have been so for a day are removed by whoever comes by.
//!
//! It refuses to be in the way: a server or role that may not write is told once, and reading goes on.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::session::{QUERY_MAX, Session, limited};
use super::trouble::{Cause, Trouble};
use crate::backoff::jitter;
use crate::board::{Report, version_document};
use ringway_snapshot::{Digest, Version};

/// Between two beats of a small fleet.
const BEAT_MS: u64 = 5_000;
/// And of the largest.
const BEAT_MS_MAX: u64 = 60_000;
/// So many beats are missed before a node counts as silent.
const BEATS_MISSED_MAX: u64 = 3;
/// All nodes together write about so often.
const FLEET_WRITES_PER_S: u64 = 50;
/// Between two writes because something has changed, in a small fleet.
const CHANGE_MS: u64 = 1_000;
/// How often rows of nodes that are gone are looked for.
const EXPIRE_EVERY: Duration = Duration::from_secs(600);
/// Rows of a fleet that are read.
const ROWS_MAX: i64 = 20_000;
/// Bytes of a refusal in a row; all of it stands in `ringway.refusal`.
const REFUSAL_BYTES_MAX: usize = 1_000;

const WRITE: &str = "with before as (select instance from ringway.node \
        where node = $1 and control = $2 and stale_at > now()), \
    written as (insert into ringway.node as n (node, control, instance, build, started_at, dataplane, dataplane_build, \
        lineage, timeline, revision, digest, serving_since, refusing, refusal, refusal_at, stale_at) \
    values ($1, $2, $3, $4, now() - $5 * interval '1 ms', $6, $7, $8, $9, $10, $11, now() - $12 * interval '1 ms', \
        $13::text is not null, $13, case when $13 is not null then now() end, now() + $14 * interval '1 ms') \
    on conflict (node, control) do update set instance = excluded.instance, build = excluded.build, \
        started_at = case when n.instance = excluded.instance then n.started_at else excluded.started_at end, \
        dataplane = excluded.dataplane, dataplane_build = excluded.dataplane_build, \
        lineage = excluded.lineage, timeline = excluded.timeline, revision = excluded.revision, \
        digest = excluded.digest, serving_since = case \
            when (n.lineage, n.timeline, n.revision, n.digest) is not distinct from \
                 (excluded.lineage, excluded.timeline, excluded.revision, excluded.digest) \
            then n.serving_since else excluded.serving_since end, \
        refusing = excluded.refusing, refusal = coalesce(excluded.refusal, n.refusal), \
        refusal_at = case when excluded.refusal is null or excluded.refusal is not distinct from n.refusal and n.refusing \
            then n.refusal_at else now() end, \
        seen_at = now(), stale_at = excluded.stale_at) \
    select (select count(*) from ringway.node), (select instance from before)";
const EXPIRE: &str = "with gone as (delete from ringway.node where stale_at < now() - interval '1 day') \
    delete from ringway.refusal r where not exists \
        (select from ringway.node n where n.node = r.node and n.control = r.control)";
const READ: &str = "select node, control, build, dataplane, dataplane_build, lineage, timeline, revision, digest, \
    extract(epoch from now() - serving_since)::float8, refusing, refusal, \
    extract(epoch from now() - refusal_at)::float8, extract(epoch from now() - started_at)::float8, \
    extract(epoch from now() - seen_at)::float8, stale_at < now() \
    from ringway.node order by node, control limit $1";

/// Whose row it is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Name of the node.
    pub node: String,
    /// Path of the control plane's status socket.
    pub control: String,
}

/// What was written, and when the next is due.
#[derive(Debug)]
pub(super) struct Nodes {
    identity: Identity,
    instance: String,
    started: Instant,
    written: Option<Report>,
    change_at: Instant,
    beat_at: Instant,
    expire_at: Instant,
    /// Rows of the table when it was written last.
    fleet: u64,
    complained: bool,
    doubled: bool,
}

impl Nodes {
    /// For the row of that control plane.
    pub(super) fn new(identity: Identity) -> Nodes {
        let now = Instant::now();
        // Without randomness two instances are not told apart, which costs a warning.
        let instance = format!("{:016x}", getrandom::u64().unwrap_or_default());
        Nodes {
            identity,
            instance,
            started: now,
            written: None,
            change_at: now,
            beat_at: now,
            expire_at: now,
            fleet: 1,
            complained: false,
            doubled: false,
        }
    }

    /// Another connection, perhaps another server: the row may be missing.
    pub(super) fn forget(&mut self) {
        self.written = None;
        if self.complained {
            // What the one before refused, this one may take.
            let now = Instant::now();
            (self.beat_at, self.change_at) = (now, now);
        }
    }

    /// Rows of the table when it was written last.
    pub(super) fn fleet(&self) -> u64 {
        self.fleet
    }

    /// When [`Nodes::write`] is due for this state.
    pub(super) fn due(&self, report: &Report) -> Instant {
        if self.written.as_ref() == Some(report) { self.beat_at } else { self.change_at.min(self.beat_at) }
    }

    /// Writes this node's row.
    pub(super) async fn write(&mut self, session: &Session, report: Report) -> Result<(), Trouble> {
        let now = Instant::now();
        let beat_ms = (self.fleet * 1_000 / FLEET_WRITES_PER_S).clamp(BEAT_MS, BEAT_MS_MAX);
        // A fleet that lost its database at one moment is not to beat at one moment for ever.
        self.beat_at = now + Duration::from_millis(beat_ms - jitter(beat_ms / 4));
        self.change_at = now + Duration::from_millis(beat_ms * CHANGE_MS / BEAT_MS);
        let written = self.row(session, &report, beat_ms).await;
        self.written = Some(report);
        match written {
            Ok((fleet, before)) => {
                self.fleet = fleet;
                self.complained = false;
                self.tell_double(before.as_deref());
            }
            Err(trouble) if trouble.cause == Cause::OutOfReach => return Err(trouble),
            Err(trouble) => {
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!("cannot write table ringway.node: {trouble}");
                }
                // Each attempt is a line in the server's log.
                self.beat_at = now + Duration::from_millis(BEAT_MS_MAX);
                self.change_at = self.beat_at;
                return Ok(());
            }
        }
        if now >= self.expire_at {
            self.expire_at = now + EXPIRE_EVERY;
            limited("removing nodes that are gone", QUERY_MAX, session.client.execute(EXPIRE, &[])).await?;
        }
        Ok(())
    }

    async fn row(
        &self,
        session: &Session,
        report: &Report,
        beat_ms: u64,
    ) -> Result<(u64, Option<String>), Trouble> {
        let served = report.served.as_ref().map(|served| served.version);
        let serving_ms = report.served.as_ref().map(|served| elapsed_ms(served.since));
        let refusal = report.refusal.as_ref().map(|refusal| cut(&refusal.line()));
        let dataplane = if report.dataplane_build.is_some() { "connected" } else { "disconnected" };
        let values: [&(dyn ToSql + Sync); 14] = [
            &self.identity.node,
            &self.identity.control,
            &self.instance,
            &env!("CARGO_PKG_VERSION"),
            &elapsed_ms(self.started.into_std()),
            &dataplane,
            &report.dataplane_build,
            &served.map(|version| version.lineage.cast_signed()),
            &served.map(|version| version.timeline.cast_signed()),
            &served.map(|version| i64::try_from(version.revision).unwrap_or(i64::MAX)),
            &served.map(|version| version.digest.to_string()),
            &serving_ms,
            &refusal,
            &float(beat_ms.saturating_mul(BEATS_MISSED_MAX)),
        ];
        let row =
            limited("writing ringway.node", QUERY_MAX, session.client.query_one(WRITE, &values)).await?;
        let fleet: i64 = row.try_get(0)?;
        Ok((fleet.unsigned_abs().max(1), row.try_get(1)?))
    }

    /// Another instance's row under this name that is fresh, after this one has written its own, is no restart.
    fn tell_double(&mut self, before: Option<&str>) {
        let other = before.is_some_and(|instance| instance != self.instance);
        if other && self.started.elapsed() > Duration::from_millis(BEAT_MS_MAX) && !self.doubled {
            self.doubled = true;
            tracing::warn!(
                node = self.identity.node,
                "another control plane writes the row of this node too; give each host its own --node"
            );
        }
    }
}

/// All rows, as the socket for `ringway status --fleet` tells them.
pub(super) async fn fleet(session: &Session) -> Result<Value, Trouble> {
    let head = super::load::head(session).await?;
    let rows = limited("reading ringway.node", QUERY_MAX, session.client.query(READ, &[&ROWS_MAX])).await;
    let rows = rows.map_err(|trouble| trouble.at("cannot read ringway.node"))?;
    let nodes = rows.iter().map(node).collect::<Result<Vec<Value>, tokio_postgres::Error>>()?;
    let text = format!("{:016x}:{}:{}", head.lineage, head.timeline, head.revision);
    Ok(json!({ "head": { "text": text, "revision": head.revision }, "nodes": nodes }))
}

fn node(row: &Row) -> Result<Value, tokio_postgres::Error> {
    let served =
        match (row.try_get(5)?, row.try_get(6)?, row.try_get(7)?, row.try_get::<_, Option<String>>(8)?) {
            (Some(lineage), Some(timeline), Some(revision), Some(digest)) => {
                let (lineage, timeline, revision): (i64, i32, i64) = (lineage, timeline, revision);
                Some(Version {
                    lineage: lineage.cast_unsigned(),
                    timeline: timeline.cast_unsigned(),
                    revision: revision.cast_unsigned(),
                    digest: digest.parse::<Digest>().unwrap_or_default(),
                })
            }
            _ => None,
        };
    let refusal: Option<String> = row.try_get(11)?;
    let refused_s: Option<f64> = row.try_get(12)?;
    Ok(json!({
        "node": row.try_get::<_, String>(0)?,
        "control": row.try_get::<_, String>(1)?,
        "build": row.try_get::<_, String>(2)?,
        "dataplane": { "state": row.try_get::<_, String>(3)?, "build": row.try_get::<_, Option<String>>(4)? },
        "version": served.map(|version| version_document(&version, None)),
        "serving_s": row.try_get::<_, Option<f64>>(9)?,
        "refusing": row.try_get::<_, bool>(10)?,
        "last_refusal": refusal.map(|text| json!({ "text": text, "s_ago": refused_s })),
        "started_s_ago": row.try_get::<_, Option<f64>>(13)?,
        "seen_s_ago": row.try_get::<_, f64>(14)?,
        "stale": row.try_get::<_, bool>(15)?,
    }))
}

fn elapsed_ms(since: std::time::Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1_000.0
}

fn float(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64() * 1_000.0
}

fn cut(text: &str) -> String {
    // PostgreSQL's text cannot hold the character 0.
    let text = text.replace('\0', " ");
    let end = (0..=REFUSAL_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}
