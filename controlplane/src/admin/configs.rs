//! The whole configuration at once, as APISIX's standalone mode has it: `GET|HEAD|PUT /apisix/admin/configs` and
//! `POST .../validate`. A PUT is one transaction and one revision here.
//!
//! The client names a digest (`X-Digest`) and may number each kind (`routes_conf_version` ...): the same digest changes nothing, the
//! same number leaves that kind as it is, a lower one is refused. Digest and numbers are the client's and are kept for every
//! control plane; where others have written since, GET tells another digest and higher numbers. `written=true` tells the
//! objects as they were written, without the times and defaults that APISIX would show, for who writes them back.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::header::ACCEPT;
use axum::http::{HeaderName, StatusCode};
use ringway_snapshot::Kind;
use serde_json::{Map, Value, json};
use tokio_postgres::{Client, IsolationLevel};

use super::Shared;
use super::answer::{Answer, Outcome};
use super::item::{COLUMNS, Fields, Item, Place, fields, id_text, shown_alike};
use super::object::{self, Naming};
use super::request::Asked;
use super::shelf::Shelf;
use super::work::{Changes, Work};

const DIGEST: HeaderName = HeaderName::from_static("x-digest");
const LAST_MODIFIED: HeaderName = HeaderName::from_static("x-last-modified");
/// Bytes of the client's digest.
const DIGEST_BYTES_MAX: usize = 256;

const STATE: &str = "select s.digest, s.versions::text, s.revision, extract(epoch from coalesce(s.modified_at, h.at))::bigint, \
    h.revision, extract(epoch from h.at)::bigint from ringway.head h left join ringway.standalone s on true";
const SINCE: &str =
    "select kind, count(distinct revision) from ringway.change where revision > $1 group by kind";
const KEEP: &str = "insert into ringway.standalone (one, digest, versions, revision) values (true, $1, $2::text::jsonb, $3) \
    on conflict (one) do update set digest = excluded.digest, versions = excluded.versions, \
    revision = excluded.revision, modified_at = clock_timestamp()";

/// What is known beside the objects.
struct State {
    digest: String,
    versions: BTreeMap<Kind, u64>,
    modified_s: i64,
}

/// Answers GET and HEAD.
pub(super) async fn get(shared: &Shared, asked: &Asked) -> Outcome {
    if asked.headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(b"application/yaml")) {
        return Err(Answer::error(
            StatusCode::NOT_ACCEPTABLE,
            "only application/json is told by this release",
        ));
    }
    let (state, items) = match &shared.shelf {
        Shelf::Postgresql(_) => {
            let mut lease = shared.shelf.reader().await?;
            let whole = whole(lease.client()).await?;
            lease.give_back();
            whole
        }
        Shelf::File(_, board) => {
            let digest = board.version().map_or_else(String::new, |version| version.digest.to_string());
            let revision = board.version().map_or(0, |version| version.revision);
            let versions = Kind::ALL.map(|kind| (kind, revision)).into();
            let items = shared.shelf.whole_file().await?.unwrap_or_default();
            (State { digest, versions, modified_s: 0 }, items)
        }
    };
    let mut document = Map::new();
    for kind in Kind::ALL {
        document.insert(version_key(kind), json!(state.versions.get(&kind).copied().unwrap_or(0)));
    }
    let written = asked.query.get("written") == Some("true");
    let printed = tokio::task::spawn_blocking(move || {
        for item in items {
            // APISIX's clients know credentials by their ids, in the list of consumers.
            let listed = if item.kind == Kind::Credential && !written { Kind::Consumer } else { item.kind };
            let list = document.entry(listed.name()).or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                let mut value = if written { item.as_written() } else { item.value() };
                if item.kind == Kind::Credential {
                    value["id"] = json!(item.id);
                }
                list.push(value);
            }
        }
        Value::Object(document).to_string()
    });
    let text = printed.await.map_err(|error| Answer::unavailable(format!("printing failed: {error}")))?;
    let answer = Answer::text(StatusCode::OK, text);
    Ok(answer.with(DIGEST, &state.digest).with(LAST_MODIFIED, &state.modified_s.to_string()))
}

/// All of it as one moment had it.
async fn whole(client: &mut Client) -> Result<(State, Vec<Item>), Answer> {
    let level = IsolationLevel::RepeatableRead;
    let transaction = client.build_transaction().isolation_level(level).read_only(true).start().await?;
    let row = transaction.query_one(STATE, &[]).await?;
    let revision: Option<i64> = row.try_get(2)?;
    let since = transaction.query(SINCE, &[&revision.unwrap_or(0)]).await?;
    let query = format!("select {COLUMNS} from ringway.resource r order by r.kind, r.id collate \"C\"");
    let rows = transaction.query(&query, &[]).await?;
    transaction.commit().await?;
    let state = told(&row, &since)?;
    let read = tokio::task::spawn_blocking(move || {
        rows.iter().filter_map(|row| Item::from_row(row).transpose()).collect::<Result<Vec<_>, _>>()
    });
    Ok((state, read.await.map_err(|error| Answer::unavailable(format!("reading failed: {error}")))??))
}

/// Answers PUT.
pub(super) async fn put(shared: &Shared, asked: &Asked) -> Outcome {
    let digest =
        asked.headers.get(DIGEST).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    if digest.is_empty() || digest.len() > DIGEST_BYTES_MAX {
        return Err(Answer::bad("missing digest header"));
    }
    let mut document = document(asked)?;
    let mut lease = shared.shelf.writer().await?;
    let work = shared.begin(&mut lease, asked).await?;
    let state = state_in(&work).await?;
    if state.digest == digest {
        return Ok(Answer::empty(StatusCode::NO_CONTENT).with(DIGEST, &digest));
    }
    let versions = numbers(&mut document, &state)?;
    let mut wanted = Changes::new();
    for kind in Kind::ALL {
        let list = document.remove(kind.name()).unwrap_or(Value::Null);
        if versions.get(&kind) != state.versions.get(&kind) {
            for (place, fields) in read_list(kind, list).map_err(|(text, _)| Answer::bad(text))? {
                wanted.insert(place, Some(fields));
            }
        }
    }
    if let Some(key) = document.keys().next() {
        return Err(Answer::bad(format!(
            "invalid configuration: additional properties forbidden, found {key}"
        )));
    }
    let kept: BTreeSet<Kind> =
        Kind::ALL.into_iter().filter(|kind| versions.get(kind) == state.versions.get(kind)).collect();
    for (place, now) in work.all().await? {
        match wanted.get(&place) {
            // A client may send back what GET told it, with the defaults that were shown.
            Some(Some(new)) if shown_alike(place.0, new, &now) => {
                wanted.remove(&place);
            }
            Some(_) => {}
            None if kept.contains(&place.0) => {}
            None => {
                wanted.insert(place, None);
            }
        }
    }
    let objects = wanted.len();
    work.write(&wanted).await?;
    let numbered: Map<String, Value> =
        versions.iter().map(|(kind, number)| (kind.name().to_owned(), json!(number))).collect();
    let revision: i64 =
        work.transaction().query_one("select revision from ringway.head", &[]).await?.try_get(0)?;
    work.transaction().execute(KEEP, &[&digest, &Value::Object(numbered).to_string(), &revision]).await?;
    let committed = work.commit().await?;
    lease.give_back();
    if asked.query.wait()?.is_none() {
        return Ok(Answer::empty(StatusCode::ACCEPTED).with(DIGEST, &digest).tagged(committed.revision));
    }
    let document = json!({"revision": committed.revision, "objects": objects});
    let answer = Answer::written(StatusCode::OK, &document, committed);
    Ok(answer.with(DIGEST, &digest).tagged(committed.revision))
}

/// Answers `POST .../validate`: nothing is written, all that is wrong is told.
pub(super) async fn validate(asked: &Asked) -> Outcome {
    let mut document = document(asked)?;
    let mut errors = Vec::new();
    let mut store = crate::store::Store::default();
    for kind in Kind::ALL {
        document.remove(&version_key(kind));
        match read_list(kind, document.remove(kind.name()).unwrap_or(Value::Null)) {
            Ok(objects) => {
                for ((_, id), fields) in objects {
                    store.put(kind.name(), &id, &Value::Object(fields));
                }
            }
            Err((_, found)) => errors.extend(found),
        }
    }
    if let Some(key) = document.keys().next() {
        errors.push(json!({"resource_type": key, "error": "unknown kind of object"}));
    }
    if errors.is_empty() {
        let checked = tokio::task::spawn_blocking(move || store.snapshot(0, 0, 0)).await;
        let checked = checked.map_err(|error| Answer::unavailable(format!("validation failed: {error}")))?;
        errors.extend(checked.err().into_iter().flatten().map(|fault| {
            json!({"resource_type": fault.kind, "resource_id": fault.id, "error": super::answer::said(&fault)})
        }));
    }
    if errors.is_empty() {
        return Ok(Answer::empty(StatusCode::OK));
    }
    let document = json!({"error_msg": "Configuration validation failed", "errors": errors});
    Ok(Answer::json(StatusCode::BAD_REQUEST, &document))
}

fn document(asked: &Asked) -> Result<Map<String, Value>, Answer> {
    match asked.json()? {
        Value::Object(document) => Ok(document),
        _ => Err(Answer::bad("invalid request body: expected an object with lists such as \"routes\"")),
    }
}

fn version_key(kind: Kind) -> String {
    format!("{}_conf_version", kind.name())
}

/// The number of each kind after this PUT; equal to the present one where the kind stays as it is.
fn numbers(document: &mut Map<String, Value>, state: &State) -> Result<BTreeMap<Kind, u64>, Answer> {
    let mut numbers = BTreeMap::new();
    for kind in Kind::ALL {
        let name = version_key(kind);
        let now = state.versions.get(&kind).copied().unwrap_or(0);
        let number = match document.remove(&name) {
            // APISIX's clients number consumers and their credentials together.
            None if kind == Kind::Credential && stays(&numbers, state, Kind::Consumer) => now,
            None => now.saturating_add(1),
            Some(given) => given.as_u64().ok_or_else(|| Answer::bad(format!("{name} must be a number")))?,
        };
        if number < now {
            return Err(Answer::bad(format!("{name} must be greater than or equal to ({now})")));
        }
        numbers.insert(kind, number);
    }
    Ok(numbers)
}

/// Whether a kind that was looked at already stays as it is.
fn stays(numbers: &BTreeMap<Kind, u64>, state: &State, kind: Kind) -> bool {
    numbers.get(&kind) == state.versions.get(&kind)
}

/// One kind's list, or the first thing wrong in APISIX's words and all of them as data.
#[expect(clippy::type_complexity, reason = "the two halves of the error are read in two places")]
fn read_list(kind: Kind, list: Value) -> Result<Vec<(Place, Fields)>, (String, Vec<Value>)> {
    let name = kind.name();
    let items = match list {
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) => items,
        _ => {
            let text = format!("invalid {name}: expected a list");
            return Err((text.clone(), vec![json!({"resource_type": name, "error": text})]));
        }
    };
    let (mut read, mut seen, mut errors, mut first) = (Vec::new(), BTreeSet::new(), Vec::new(), None);
    for (index, mut item) in items.into_iter().enumerate() {
        drop_indexes(&mut item);
        let own = item.get("id").and_then(id_text);
        let made = format!("arr_{}", index + 1);
        let id = own.as_deref().unwrap_or(&made).to_owned();
        let kind = kind.in_list(&id);
        let naming = if kind == Kind::Consumer { Naming::Given(None) } else { Naming::Given(Some(&id)) };
        let outcome = object::read(kind, naming, item, true).map_err(|answer| answer.text_of_error());
        match outcome {
            Ok((id, _)) if !seen.insert(id.clone()) => {
                let text = format!("found duplicate id {id} in {name}");
                errors.push(json!({"resource_type": name, "index": index, "resource_id": id, "error": text}));
                first.get_or_insert(text);
            }
            Ok((id, fields)) => read.push(((kind, id), without_times(fields))),
            Err(text) => {
                errors
                    .push(json!({"resource_type": name, "index": index, "resource_id": own, "error": text}));
                first.get_or_insert(format!("invalid {name} at index {index}, err: {text}"));
            }
        }
    }
    first.map_or(Ok(read), |first| Err((first, errors)))
}

/// Clients number each object for APISIX's workers, which compare by it. Here the content is compared, so the number says nothing.
fn drop_indexes(item: &mut Value) {
    let Some(fields) = item.as_object_mut() else { return };
    for name in ["modifiedIndex", "createdIndex"] {
        if fields.get(name).is_some_and(Value::is_u64) {
            fields.remove(name);
        }
    }
}

/// A client may send back what GET told it; the times are the row's own.
fn without_times(mut fields: Fields) -> Fields {
    fields.remove("create_time");
    fields.remove("update_time");
    fields
}

async fn state_in(work: &Work<'_>) -> Result<State, Answer> {
    let row = work.transaction().query_one(STATE, &[]).await?;
    let revision: Option<i64> = row.try_get(2)?;
    let since = work.transaction().query(SINCE, &[&revision.unwrap_or(0)]).await?;
    told(&row, &since)
}

fn told(row: &tokio_postgres::Row, since: &[tokio_postgres::Row]) -> Result<State, Answer> {
    let (digest, text): (Option<String>, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
    let (revision, head): (Option<i64>, i64) = (row.try_get(2)?, row.try_get(4)?);
    let kept = fields(text.as_deref().unwrap_or("{}"));
    let mut versions: BTreeMap<Kind, u64> =
        Kind::ALL.map(|kind| (kind, kept.get(kind.name()).and_then(Value::as_u64).unwrap_or(0))).into();
    for row in since {
        let count: i64 = row.try_get(1)?;
        if let Some(number) = Kind::from_name(row.try_get(0)?).and_then(|kind| versions.get_mut(&kind)) {
            *number = number.saturating_add(count.unsigned_abs());
        }
    }
    let current = revision == Some(head);
    Ok(State {
        digest: digest.filter(|_| current).unwrap_or_else(|| format!("revision-{head}")),
        versions,
        modified_s: row.try_get(if current { 3 } else { 5 })?,
    })
}
