//! `POST /v1/transaction`: many objects, one revision. All of it is served together or none of it is written.
//!
//! `POST /v1/plan` tells what would come of it.
//!
//! Operations are applied in their order to what stands there; each may demand a revision (`if_match`). The result is checked as a whole,
//! so a route may come before the upstream that it refers to.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use ringway_snapshot::Kind;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Shared;
use super::answer::{Answer, Outcome};
use super::item::{Fields, Place, supported};
use super::object::{self, Naming};
use super::patch;
use super::request::{Asked, Condition};
use super::resource::made_id;
use super::work::{Changes, Stored, Work, breathe};

/// Operations of one transaction.
const OPERATIONS_MAX: usize = 100_000;
/// Routes that a plan names; all are counted.
const ROUTES_TOLD_MAX: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    operations: Vec<Operation>,
}

/// One step.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation {
    op: Op,
    kind: String,
    #[serde(default)]
    id: Option<Value>,
    #[serde(default)]
    value: Value,
    /// The revision that the object has; 0: it is not there.
    #[serde(default)]
    if_match: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Put,
    Post,
    Patch,
    Delete,
}

impl Op {
    fn name(self) -> &'static str {
        match self {
            Op::Put => "put",
            Op::Post => "post",
            Op::Patch => "patch",
            Op::Delete => "delete",
        }
    }
}

/// What the operations come to.
struct Outlook {
    before: BTreeMap<Place, Stored>,
    changes: Changes,
    done: Vec<Value>,
}

/// Answers `POST /v1/transaction`.
pub(super) async fn answer(shared: &Shared, asked: &Asked) -> Outcome {
    let (operations, places) = read(asked).await?;
    let mut lease = shared.shelf.writer().await?;
    let work = shared.begin(&mut lease, asked).await?;
    let Outlook { changes, done, .. } = outlook(&work, asked, operations, places).await?;
    let objects = changes.len();
    let committed = work.finish(&changes).await?;
    lease.give_back();
    let document = json!({"revision": committed.revision, "objects": objects, "operations": done});
    Ok(Answer::written(StatusCode::OK, &document, committed).tagged(committed.revision))
}

/// Answers `POST /v1/plan`: the same checks, what would change, and which routes that reaches. Nothing is written.
pub(super) async fn plan(shared: &Shared, asked: &Asked) -> Outcome {
    let (operations, places) = read(asked).await?;
    let mut lease = shared.shelf.writer().await?;
    let work = shared.begin(&mut lease, asked).await?;
    let Outlook { before, changes, .. } = outlook(&work, asked, operations, places).await?;
    work.check(&changes).await?;
    let routes = work.reached_routes(&changes).await?;
    let head = work.head;
    work.roll_back().await?;
    lease.give_back();
    // A hundred thousand objects take a while to print, and to free.
    let printed = tokio::task::spawn_blocking(move || {
        let first: Vec<&String> = routes.iter().take(ROUTES_TOLD_MAX).collect();
        let routes = Reach { total: routes.len(), first };
        let changes = changes.iter().map(|(place, after)| planned(place, &before, after.as_ref())).collect();
        serde_json::to_string(&Told { revision: head, changes, routes })
    });
    let text = printed
        .await
        .map_err(|error| error.to_string())
        .and_then(|text| text.map_err(|error| error.to_string()));
    let text = text.map_err(|error| Answer::unavailable(format!("printing failed: {error}")))?;
    Ok(Answer::text(StatusCode::OK, text).tagged(head))
}

/// A plan, as it is told.
#[derive(Serialize)]
struct Told<'a> {
    changes: Vec<Planned<'a>>,
    revision: u64,
    routes: Reach<'a>,
}

#[derive(Serialize)]
struct Planned<'a> {
    after: Option<&'a Fields>,
    before: Option<&'a Fields>,
    id: &'a str,
    kind: &'static str,
    op: &'static str,
}

#[derive(Serialize)]
struct Reach<'a> {
    first: Vec<&'a String>,
    total: usize,
}

fn planned<'a>(
    (kind, id): &'a Place,
    before: &'a BTreeMap<Place, Stored>,
    after: Option<&'a Fields>,
) -> Planned<'a> {
    let before = before.get(&(*kind, id.clone())).map(|stored| &stored.spec);
    let op = match (before, after) {
        (_, None) => "delete",
        (None, Some(_)) => "create",
        (Some(before), Some(after)) if before == after => "none",
        (Some(_), Some(_)) => "update",
    };
    Planned { after, before, id, kind: kind.name(), op }
}

async fn read(asked: &Asked) -> Result<(Vec<Operation>, Vec<Option<Place>>), Answer> {
    let Document { operations } = asked.json_aside().await?;
    if operations.len() > OPERATIONS_MAX {
        return Err(Answer::bad(format!("more than {OPERATIONS_MAX} operations")));
    }
    let mut places = Vec::with_capacity(operations.len());
    for (index, operation) in operations.iter().enumerate() {
        places.push(place(operation).map_err(|why| at(index, &why))?);
    }
    Ok((operations, places))
}

async fn outlook(
    work: &Work<'_>,
    asked: &Asked,
    operations: Vec<Operation>,
    places: Vec<Option<Place>>,
) -> Result<Outlook, Answer> {
    asked.condition()?.check(Some(work.head))?;
    let named: Vec<Place> = places.iter().flatten().cloned().collect();
    let before = work.stored(&named).await?;
    let mut changes = Changes::new();
    let mut done = Vec::with_capacity(operations.len());
    for (index, (operation, named)) in operations.into_iter().zip(places).enumerate() {
        breathe(index).await;
        let made =
            || (kind_of(&operation.kind).unwrap_or(Kind::Route), format!("{}-{index}", made_id(work.head)));
        let place = named.unwrap_or_else(made);
        done.push(json!({"op": operation.op.name(), "kind": place.0.name(), "id": place.1}));
        apply(operation, place, &before, &mut changes).map_err(|answer| in_operation(index, answer))?;
    }
    changes.retain(|place, after| after.is_some() || before.contains_key(place));
    Ok(Outlook { before, changes, done })
}

fn kind_of(name: &str) -> Option<Kind> {
    Kind::from_name(name)
}

/// Where an operation writes; `None` where the id is made.
fn place(operation: &Operation) -> Result<Option<Place>, String> {
    let kind = kind_of(&operation.kind).ok_or_else(|| format!("unknown kind {:?}", operation.kind))?;
    supported(kind)?;
    let own = operation.id.as_ref().or_else(|| operation.value.get("id"));
    match (operation.op, own) {
        (Op::Post, None) => Ok(None),
        (Op::Post, Some(_)) => Err("a post has no id; put has".to_owned()),
        (_, Some(id)) => {
            let id = super::item::id_text(id).ok_or("the id is text or a whole number")?;
            Ok(Some((kind, id)))
        }
        (_, None) => Err("the id is missing".to_owned()),
    }
}

fn apply(
    operation: Operation,
    place: Place,
    before: &BTreeMap<Place, Stored>,
    changes: &mut Changes,
) -> Result<(), Answer> {
    let stored = before.get(&place);
    if let Some(wanted) = operation.if_match {
        let condition = if wanted == 0 { Condition::Absent } else { Condition::Revisions(vec![wanted]) };
        condition.check(stored.map(|item| item.revision))?;
    }
    let now = match changes.get(&place) {
        Some(changed) => changed.as_ref(),
        None => stored.map(|item| &item.spec),
    };
    let (kind, id) = &place;
    let after = match (operation.op, now) {
        (Op::Delete, None) => return Err(Answer::not_found()),
        (Op::Delete, Some(_)) => None,
        (Op::Put, _) => Some(object::read(*kind, Naming::Given(Some(id)), operation.value, false)?.1),
        (Op::Post, _) => Some(object::read(*kind, Naming::Made(id), operation.value, false)?.1),
        (Op::Patch, None) => return Err(Answer::not_found()),
        (Op::Patch, Some(fields)) => {
            let mut fields = fields.clone();
            let Value::Object(change) = operation.value else {
                return Err(Answer::bad("the value of a patch is an object"));
            };
            patch::merge(&mut fields, change);
            Some(object::read(*kind, Naming::Given(Some(id)), Value::Object(fields), true)?.1)
        }
    };
    changes.insert(place, after);
    Ok(())
}

fn at(index: usize, why: &str) -> Answer {
    Answer::bad(format!("operation {index}: {why}"))
}

/// The same answer, and which operation it is about.
fn in_operation(index: usize, answer: Answer) -> Answer {
    answer.prefixed(&format!("operation {index}: "))
}
