//! The objects' own paths: GET, PUT, POST, PATCH, DELETE as APISIX's Admin API answers them.
//!
//! Beyond APISIX: `ETag` and `If-Match` hold revisions, so that lost updates are refused (412); `?wait=5s` answers when the nodes
//! serve it. `force=true` deletes what is referred to and takes the reference out of who refers, in the same revision, because a reference
//! to nothing would make the whole configuration invalid; a route that loses a service or a plugin configuration is disabled by it,
//! as it might otherwise be open to more than before. `?ttl=60` has the object removed when that many seconds are over, unless something
//! refers to it; any later write without it lets the object stay.

use std::collections::BTreeSet;

use axum::http::{Method, StatusCode};
use ringway_snapshot::Kind;
use ringway_snapshot::model::credential;
use serde_json::{Map, Value, json};

use super::Shared;
use super::answer::{Answer, Outcome};
use super::filter::Filter;
use super::item::{Fields, Item, Place, key, supported};
use super::object::{self, Naming};
use super::patch;
use super::request::{Asked, Condition};
use super::schema::singular;
use super::work::{Changes, Committed, Work, in_use};

/// Kinds that are made by PUT alone.
pub(super) const WITHOUT_POST: [Kind; 7] = [
    Kind::Consumer,
    Kind::Credential,
    Kind::ConsumerGroup,
    Kind::PluginConfig,
    Kind::GlobalRule,
    Kind::PluginMetadata,
    Kind::Secret,
];
/// Kinds that are written whole.
pub(super) const WITHOUT_PATCH: [Kind; 3] = [Kind::Consumer, Kind::Credential, Kind::PluginMetadata];

/// What a path names.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) kind: Kind,
    pub(super) id: Option<String>,
    /// The consumer whose credentials are meant.
    pub(super) owner: Option<String>,
    /// Below the object, for PATCH.
    pub(super) sub_path: Vec<String>,
}

/// Answers.
pub(super) async fn answer(shared: &Shared, asked: &Asked, target: Target) -> Outcome {
    let kind = target.kind;
    let word = singular(kind).replace('_', " ");
    let refused = match asked.method {
        Method::POST => WITHOUT_POST.contains(&kind),
        Method::PATCH => WITHOUT_PATCH.contains(&kind),
        _ => false,
    };
    if refused {
        return Err(Answer::method(format!("not supported `{}` method for {word}", asked.method)));
    }
    if asked.method != Method::PATCH && !target.sub_path.is_empty() {
        let below = target.sub_path.join("/");
        let reason =
            format!("there is nothing at this path: only PATCH reaches into a {word}, as with /{below}");
        return Err(Answer::error(StatusCode::NOT_FOUND, reason));
    }
    match (asked.method.as_str(), target.id) {
        ("GET" | "HEAD", Some(id)) => one(shared, (kind, id)).await,
        ("GET" | "HEAD", None) => list(shared, asked, kind, target.owner.as_deref()).await,
        ("PUT", id) => {
            let naming = match (&target.owner, &id) {
                (Some(owner), None) => Naming::Of(owner),
                _ => Naming::Given(id.as_deref()),
            };
            put(shared, asked, kind, naming).await
        }
        ("POST", None) => post(shared, asked, kind).await,
        ("POST", Some(_)) => Err(Answer::bad(format!("wrong {word} id, do not need it"))),
        ("PATCH", Some(id)) => patched(shared, asked, (kind, id), &target.sub_path).await,
        ("DELETE", Some(id)) => delete(shared, asked, (kind, id)).await,
        ("PATCH" | "DELETE", None) => Err(Answer::bad(format!("missing {word} id"))),
        (method, _) => Err(Answer::method(format!("not supported `{method}` method for {word}"))),
    }
}

async fn one(shared: &Shared, place: Place) -> Outcome {
    let item = shared.shelf.one(&place).await?.ok_or_else(Answer::not_found)?;
    Ok(item.expiring(Answer::json(StatusCode::OK, &item.shown()).tagged(item.revision)))
}

async fn list(shared: &Shared, asked: &Asked, kind: Kind, owner: Option<&str>) -> Outcome {
    let filter = Filter::parse(&asked.query)?;
    let slice = filter.slice.filter(|_| filter.is_everything());
    let within = owner.map(|owner| format!("{owner}/credentials/")).unwrap_or_default();
    let (mut total, mut items) = shared.shelf.all(kind, &within, slice).await?;
    if owner.is_some() && total == 0 {
        return Err(Answer::not_found());
    }
    if slice.is_none() {
        items.retain(|item| filter.fits(item));
        total = u64::try_from(items.len()).unwrap_or(u64::MAX);
        if let Some(slice) = filter.slice {
            let place = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
            items = items.into_iter().skip(place(slice.skip)).take(place(slice.take)).collect();
        }
    }
    // Object by object, so that a hundred thousand are never in memory as one tree, and not on the thread that answers pings.
    let printed = tokio::task::spawn_blocking(move || {
        let list: Vec<String> = items.iter().map(|item| item.shown().to_string()).collect();
        format!("{{\"list\":[{}],\"total\":{total}}}", list.join(","))
    });
    let text = printed.await.map_err(|error| Answer::unavailable(format!("printing failed: {error}")))?;
    Ok(Answer::text(StatusCode::OK, text))
}

async fn put(shared: &Shared, asked: &Asked, kind: Kind, naming: Naming<'_>) -> Outcome {
    let (id, fields) = object::read(kind, naming, body(asked)?, false)?;
    let place = (kind, id);
    let condition = asked.condition()?;
    shared
        .written(asked, place, async |work, place| {
            if let Some((consumer, _)) = credential(&place.1).filter(|_| place.0 == Kind::Credential) {
                let consumer = work.item(&(Kind::Consumer, consumer.to_owned())).await?;
                consumer.ok_or_else(|| Answer::error(StatusCode::NOT_FOUND, "consumer not found"))?;
            }
            let before = work.item(place).await?;
            condition.check(before.as_ref().map(|item| item.revision))?;
            Ok((fields, before))
        })
        .await
}

async fn post(shared: &Shared, asked: &Asked, kind: Kind) -> Outcome {
    // Spelling first: a bad body needs no connection.
    let (_, fields) = object::read(kind, Naming::Made("new"), body(asked)?, false)?;
    let ttl_s = asked.query.ttl_s()?;
    let mut lease = shared.shelf.writer().await?;
    supported(kind).map_err(Answer::bad)?;
    let work = shared.begin(&mut lease, asked).await?;
    let mut place = (kind, made_id(work.head));
    // Somebody may have taken that very text for an id of his own.
    while work.item(&place).await?.is_some() {
        place.1.push('x');
    }
    let changes = Changes::from([(place.clone(), Some(fields))]);
    work.write(&changes).await?;
    work.end_after(&place, ttl_s).await?;
    let item = work.item(&place).await?;
    let committed = work.commit().await?;
    lease.give_back();
    Ok(shown(item, StatusCode::CREATED, committed))
}

async fn patched(shared: &Shared, asked: &Asked, place: Place, sub_path: &[String]) -> Outcome {
    if asked.body.is_empty() {
        return Err(Answer::bad("missing new configuration"));
    }
    let change: Value = asked.json()?;
    if sub_path.is_empty() && !change.is_object() {
        return Err(Answer::bad("invalid configuration"));
    }
    let condition = asked.condition()?;
    shared
        .written(asked, place, async |work, (kind, id)| {
            let before = work.item(&(*kind, id.clone())).await?.ok_or_else(Answer::not_found)?;
            condition.check(Some(before.revision))?;
            let mut fields = before.spec.clone();
            match (change, sub_path) {
                (Value::Object(change), []) => patch::merge(&mut fields, change),
                (change, path) => patch::set(&mut fields, path, change)?,
            }
            let (_, fields) = object::read(*kind, Naming::Given(Some(id)), Value::Object(fields), true)?;
            Ok((fields, Some(before)))
        })
        .await
}

async fn delete(shared: &Shared, asked: &Asked, place: Place) -> Outcome {
    let condition = asked.condition()?;
    let force = asked.query.get("force") == Some("true");
    let mut lease = shared.shelf.writer().await?;
    let mut work = shared.begin(&mut lease, asked).await?;
    let before = work.item(&place).await?;
    if condition != Condition::Always {
        condition.check(before.as_ref().map(|item| item.revision))?;
    }
    if before.is_none() {
        return Err(Answer::not_found());
    }
    let mut changes = Changes::from([(place.clone(), None)]);
    if place.0 == Kind::Consumer {
        // Its credentials are a part of it.
        changes.extend(work.credentials(&place.1).await?.into_iter().map(|place| (place, None)));
    }
    let referrers = work.referrers(&BTreeSet::from([place.clone()]), &changes).await?;
    let mut detached = Vec::new();
    for (referrer, spec, _, field) in referrers {
        if !force || !detach(referrer.0, spec.clone(), &field, &referrer, &mut changes) {
            return Err(in_use(&place, &referrer, &field));
        }
        detached.push(key(referrer.0, &referrer.1));
    }
    // Who loses a reference was not written anew, and keeps its own time.
    work.keep_ends();
    let committed = work.finish(&changes).await?;
    lease.give_back();
    let mut document = json!({"deleted": place.1, "key": key(place.0, &place.1)});
    if !detached.is_empty() {
        document["detached"] = json!(detached);
    }
    Ok(Answer::written(StatusCode::OK, &document, committed))
}

/// Takes a reference out of who refers; false where that cannot be done without changing what it protects.
fn detach(kind: Kind, spec: Fields, field: &str, referrer: &Place, changes: &mut Changes) -> bool {
    let mut fields = match changes.get(referrer) {
        Some(Some(fields)) => fields.clone(),
        _ => spec,
    };
    match (kind, field) {
        (Kind::Route | Kind::Service, "upstream_id") | (Kind::Consumer, "group_id") => {}
        (Kind::Route, "service_id" | "plugin_config_id") => {
            fields.insert("status".to_owned(), json!(0));
        }
        _ => return false,
    }
    fields.remove(field);
    changes.insert(referrer.clone(), Some(fields));
    true
}

/// An id that no other revision makes.
pub(super) fn made_id(head: u64) -> String {
    format!("{:020}", head.saturating_add(1))
}

fn body(asked: &Asked) -> Result<Value, Answer> {
    if asked.body.is_empty() {
        return Ok(Value::Null);
    }
    asked.json()
}

fn shown(item: Option<Item>, status: StatusCode, committed: Committed) -> Answer {
    let revision = item.as_ref().map_or(committed.revision, |item| item.revision);
    let document = item.as_ref().map_or_else(|| Value::Object(Map::new()), Item::written);
    let answer = Answer::written(status, &document, committed).tagged(revision);
    match item {
        Some(item) => item.expiring(answer),
        None => answer,
    }
}

impl Shared {
    /// Begins a transaction for the one who asks.
    pub(super) async fn begin<'a>(
        &self,
        lease: &'a mut super::pool::Lease<'_>,
        asked: &Asked,
    ) -> Result<Work<'a>, Answer> {
        let refused = self.board.report().borrow().refusal.clone();
        let published = self.board.version().map_or(0, |version| version.timeline);
        let mut work = Work::begin(lease, &asked.actor, refused, published).await?;
        work.seen(self.board.served().borrow().as_ref());
        Ok(work)
    }

    /// One object written whole. `after` is given the transaction and tells the object, and what stood there before.
    async fn written(
        &self,
        asked: &Asked,
        place: Place,
        after: impl AsyncFnOnce(&Work<'_>, &Place) -> Result<(Fields, Option<Item>), Answer>,
    ) -> Outcome {
        let ttl_s = asked.query.ttl_s()?;
        let mut lease = self.shelf.writer().await?;
        supported(place.0).map_err(Answer::bad)?;
        let work = self.begin(&mut lease, asked).await?;
        let (fields, before) = after(&work, &place).await?;
        let status = if before.is_some() { StatusCode::OK } else { StatusCode::CREATED };
        work.write(&Changes::from([(place.clone(), Some(fields))])).await?;
        work.end_after(&place, ttl_s).await?;
        let item = work.item(&place).await?;
        let committed = work.commit().await?;
        lease.give_back();
        Ok(shown(item, status, committed))
    }
}
