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
use super::answer::Answer;
use super::nodes;
use super::work::Committed;
use crate::board::Board;

/// How often the table of nodes is looked at while one waits.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where a wait was asked for: completes the answer to a write when it is over. The request and what it held are gone by then, so that
/// one who waits for a node is in nobody's way.
pub(super) async fn end(shared: &Shared, mut answer: Answer, limit: Option<Duration>) -> Answer {
    let (Some(limit), Some(committed)) = (limit, answer.committed()) else { return answer };
    let deadline = Instant::now() + limit;
    let mut nodes = vec![local(&shared.board, committed, deadline).await];
    nodes.extend(others(shared, committed, deadline).await);
    let applied = nodes.iter().all(|node| node["applied"] == true);
    answer.complete(|document| {
        document["revision"] = json!(committed.revision);
        document["applied"] = json!({"everywhere": applied, "nodes": nodes});
    });
    if applied { answer } else { answer.but(StatusCode::ACCEPTED) }
}

/// Whether a version of this database is this one or a later one.
fn reaches(version: &Version, committed: Committed) -> bool {
    version.lineage == committed.lineage && version.order() >= (committed.timeline, committed.revision)
}

async fn local(board: &Board, committed: Committed, deadline: Instant) -> Value {
    let serves = |version: &Version| committed.ahead.is_none() && reaches(version, committed);
    let (mut served, mut report) = (board.served(), board.report());
    let told = async {
        loop {
            if served.borrow_and_update().as_ref().is_some_and(serves) {
                return json!({"node": board.node(), "applied": true});
            }
            let faults = report.borrow_and_update().refusal.as_ref().and_then(|refusal| {
                reaches(&refusal.version, committed)
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
            let reason = match (board.dataplane_trouble(), committed.ahead, now) {
                (Some(trouble), ..) => format!("the data plane is not connected: {trouble}"),
                (None, Some(ahead), _) => format!(
                    "it serves revision {ahead}, which this database did not have yet: it is an older copy; `ringway status` says what to do"
                ),
                (None, None, Some(now)) => format!("it still serves revision {now}"),
                (None, None, None) => "it serves nothing yet".to_owned(),
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
