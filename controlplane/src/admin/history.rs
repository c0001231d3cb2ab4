//! History: `GET /v1/changes` tells who changed what and when; `POST /v1/rollback/{revision}` makes an old state the newest.
//!
//! A rollback is a revision like any other: it is checked, recorded and can be rolled back itself. It needs the history of every
//! revision above the one it goes back to; where older rows were deleted, it says how far it can go.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use ringway_snapshot::Kind;
use ringway_snapshot::plugin::login::hide_changed_secrets;
use serde_json::{Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::Shared;
use super::answer::{Answer, Outcome};
use super::item::{Place, fields};
use super::request::Asked;
use super::work::{Changes, Work};

/// Changes in one answer, unless fewer are asked for.
const CHANGES: i64 = 100;
const CHANGES_MAX: u64 = 1_000;
/// Objects that one rollback may change.
const ROLLBACK_MAX: usize = 200_000;

const LIST: &str = "select c.revision, to_char(c.at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), c.actor, c.kind, c.id, \
    c.before::text, c.after::text, c.seq from ringway.change c where c.seq < $1 and c.revision <= $2 and c.revision >= $3 \
    and ($4::text is null or c.kind = $4) and ($5::text is null or c.id = $5) and ($6::text is null or c.actor = $6) \
    order by c.seq desc limit $7";
/// The state at a revision is what the first change after it found.
const UNDO: &str = "select distinct on (kind, id) kind, id, before::text from ringway.change \
    where revision > $1 order by kind, id, seq";
const OLDEST: &str = "select min(revision) from ringway.change";

/// Answers `GET /v1/changes`.
pub(super) async fn changes(shared: &Shared, asked: &Asked) -> Outcome {
    let number = |name: &str, default: i64| -> Result<i64, Answer> {
        Ok(asked.query.number(name)?.map_or(default, |number| i64::try_from(number).unwrap_or(i64::MAX)))
    };
    let (before, until, since) =
        (number("before", i64::MAX)?, number("until", i64::MAX)?, number("since", 0)?);
    let limit = asked.query.number("limit")?.map_or(CHANGES, |limit| limit.min(CHANGES_MAX).cast_signed());
    let (kind, id, actor) = (asked.query.get("kind"), asked.query.get("id"), asked.query.get("actor"));
    if let Some(kind) = kind.filter(|kind| Kind::from_name(kind).is_none()) {
        return Err(Answer::bad(format!(
            "kind is one of the objects' kinds, such as routes; found {kind:?}"
        )));
    }
    let mut lease = shared.shelf.reader().await?;
    let parameters: [&(dyn ToSql + Sync); 7] = [&before, &until, &since, &kind, &id, &actor, &limit];
    let rows = lease.client().query(LIST, &parameters).await?;
    lease.give_back();
    let list = rows.iter().map(change).collect::<Result<Vec<Value>, Answer>>()?;
    // Where the page is full there may be more: below the last row's number.
    let next = match list.last() {
        Some(last) if i64::try_from(list.len()) == Ok(limit) => last["seq"].clone(),
        _ => Value::Null,
    };
    Ok(Answer::json(StatusCode::OK, &json!({"list": list, "next_before": next})))
}

fn change(row: &Row) -> Result<Value, Answer> {
    let object = |at: usize| -> Result<Value, Answer> {
        let text: Option<&str> = row.try_get(at)?;
        Ok(text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default())
    };
    let (mut before, mut after) = (object(5)?, object(6)?);
    // Who reads the history need not know how others log in. A rollback reads the table itself.
    hide_changed_secrets(&mut before, &mut after);
    Ok(json!({
        "revision": row.try_get::<_, i64>(0)?,
        "at": row.try_get::<_, &str>(1)?,
        "actor": row.try_get::<_, &str>(2)?,
        "kind": row.try_get::<_, &str>(3)?,
        "id": row.try_get::<_, &str>(4)?,
        "before": before,
        "after": after,
        "seq": row.try_get::<_, i64>(7)?,
    }))
}

/// Answers `POST /v1/rollback/{revision}`.
pub(super) async fn rollback(shared: &Shared, asked: &Asked, to: &str) -> Outcome {
    let to: u64 = to
        .parse()
        .map_err(|_| Answer::bad(format!("a rollback goes to the number of a revision, found {to:?}")))?;
    let condition = asked.condition()?;
    let mut lease = shared.shelf.writer().await?;
    let work = shared.begin(&mut lease, asked).await?;
    condition.check(Some(work.head))?;
    let changes = undo(&work, to).await?;
    let changed: Vec<Value> = changes
        .keys()
        .map(|(kind, id)| json!({"kind": kind.name(), "id": id}))
        .take(CHANGES_MAX as usize)
        .collect();
    let (before, objects) = (work.head, changes.len());
    let committed = work.finish(&changes).await?;
    lease.give_back();
    let document = json!({
        "revision": committed.revision,
        "from": before,
        "to_state_of": to,
        "objects": objects,
        "changed": changed,
    });
    Ok(Answer::written(StatusCode::OK, &document, committed).tagged(committed.revision))
}

/// What has to be written so that all is as it was at a revision.
async fn undo(work: &Work<'_>, to: u64) -> Result<Changes, Answer> {
    if to > work.head {
        return Err(Answer::error(
            StatusCode::NOT_FOUND,
            format!("there is no revision {to}: the last one is {}", work.head),
        ));
    }
    let oldest: Option<i64> = work.transaction().query_one(OLDEST, &[]).await?.try_get(0)?;
    let reach = oldest.map_or(work.head, |oldest| oldest.unsigned_abs().saturating_sub(1));
    if to < reach {
        return Err(Answer::error(
            StatusCode::GONE,
            format!(
                "the history (table ringway.change) begins after revision {reach}: it is not known what revision {to} held"
            ),
        ));
    }
    let revision = i64::try_from(to).unwrap_or(i64::MAX);
    let rows = work.transaction().query(UNDO, &[&revision]).await?;
    if rows.len() > ROLLBACK_MAX {
        return Err(Answer::bad(format!(
            "{} objects have changed since; the limit is {ROLLBACK_MAX}",
            rows.len()
        )));
    }
    let mut old: BTreeMap<Place, Option<_>> = BTreeMap::new();
    for row in &rows {
        if let Some(kind) = Kind::from_name(row.try_get(0)?) {
            old.insert((kind, row.try_get(1)?), row.try_get::<_, Option<&str>>(2)?.map(fields));
        }
    }
    // What has come back to the old state by itself, or was made and deleted in between, need not be written.
    let places: Vec<Place> = old.keys().cloned().collect();
    let now: BTreeMap<Place, _> =
        work.items(&places).await?.into_iter().map(|item| (item.place(), item.spec)).collect();
    old.retain(|place, before| now.get(place) != before.as_ref());
    Ok(old)
}
