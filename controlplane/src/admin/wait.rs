//! `?wait=5s`: the answer comes when the nodes serve the revision, or says which does not and why.
//!
//! The write is committed before the waiting begins and stays so, whatever the nodes say. 200 and 201 mean that it is served; 202 that
//! it is stored and not known to be served everywhere.

use std::time::Duration;

use axum::http::StatusCode;
use ringway_snapshot::Version;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};

use super::Shared;
use super::answer::{Answer, Outcome};
use super::nodes;
use super::request::Asked;
use super::work::Committed;
use crate::board::Board;

/// How often the table of nodes is looked at while one waits.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The answer to a write, after the wait that was asked for.
pub(super) async fn with(
    shared: &Shared,
    asked: &Asked,
    status: StatusCode,
    mut document: Value,
    committed: Committed,
) -> Outcome {
    let Some(limit) = asked.query.wait()? else { return Ok(Answer::json(status, &document)) };
    let deadline = Instant::now() + limit;
    let mut nodes = vec![local(&shared.board, committed, deadline).await];
    nodes.extend(others(shared, committed, deadline).await);
    let applied = nodes.iter().all(|node| node["applied"] == true);
    document["revision"] = json!(committed.revision);
    document["applied"] = json!({"everywhere": applied, "nodes": nodes});
    Ok(Answer::json(if applied { status } else { StatusCode::ACCEPTED }, &document))
}

/// Whether a served version is this one or a later one.
fn serves(version: &Version, committed: Committed) -> bool {
    version.order() >= (committed.timeline, committed.revision)
}

async fn local(board: &Board, committed: Committed, deadline: Instant) -> Value {
    let (mut served, mut report) = (board.served(), board.report());
    let told = async {
        loop {
            if served.borrow_and_update().as_ref().is_some_and(|version| serves(version, committed)) {
                return json!({"node": board.node(), "applied": true});
            }
            let faults = report.borrow_and_update().refusal.as_ref().and_then(|refusal| {
                serves(&refusal.version, committed)
                    .then(|| refusal.faults.first().map(ToString::to_string).unwrap_or_default())
            });
            if let Some(reason) = faults {
                return json!({"node": board.node(), "applied": false, "reason": format!("refused: {reason}")});
            }
            tokio::select! {
                changed = served.changed() => if changed.is_err() { std::future::pending::<()>().await },
                changed = report.changed() => if changed.is_err() { std::future::pending::<()>().await },
            }
        }
    };
    match timeout_at(deadline, told).await {
        Ok(told) => told,
        Err(_) => {
            let now = board.served().borrow().map(|version| version.revision);
            let reason = match (board.dataplane_trouble(), now) {
                (Some(trouble), _) => format!("the data plane is not connected: {trouble}"),
                (None, Some(now)) => format!("it still serves revision {now}"),
                (None, None) => "it serves nothing yet".to_owned(),
            };
            json!({"node": board.node(), "applied": false, "reason": reason})
        }
    }
}

/// The other live nodes, where the database has a table of them.
async fn others(shared: &Shared, committed: Committed, deadline: Instant) -> Vec<Value> {
    loop {
        let Ok(nodes) = nodes::others(shared).await else {
            return vec![
                json!({"node": "others", "applied": false, "reason": "the table of nodes cannot be read"}),
            ];
        };
        let waiting = nodes.iter().any(|node| !node.serves(committed) && !node.refuses(committed));
        let late = Instant::now() + LOOK_EVERY > deadline;
        if !waiting || late {
            return nodes.iter().map(|node| node.told(committed)).collect();
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
