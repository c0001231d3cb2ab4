//! `GET /v1/nodes`: what each node runs, from the table `ringway.node` that the control planes keep.
//!
//! Where there is no such table (the file source, an older schema), this node alone is told.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::Shared;
use super::answer::{Answer, Outcome};
use super::shelf::Shelf;
use super::work::Committed;

const THERE: &str = "select to_regclass('ringway.node') is not null";
const NODES: &str = "select to_jsonb(n)::text, n.stale_at > now() from ringway.node n order by node, control";

/// One row.
#[derive(Debug)]
pub(super) struct Node {
    document: Value,
    alive: bool,
}

/// Answers.
pub(super) async fn answer(shared: &Shared) -> Outcome {
    let mut nodes: Vec<Value> = Vec::new();
    for node in rows(shared).await? {
        let mut document = node.document;
        document["alive"] = json!(node.alive);
        nodes.push(document);
    }
    Ok(Answer::json(
        StatusCode::OK,
        &json!({"this": shared.board.document(), "total": nodes.len(), "list": nodes}),
    ))
}

/// The live ones but this one, which is asked directly.
pub(super) async fn others(shared: &Shared) -> Result<Vec<Node>, Answer> {
    let own = shared.board.node();
    let mut nodes = rows(shared).await?;
    nodes.retain(|node| node.alive && node.document["node"] != own);
    Ok(nodes)
}

async fn rows(shared: &Shared) -> Result<Vec<Node>, Answer> {
    let Shelf::Postgresql(pool) = &shared.shelf else { return Ok(Vec::new()) };
    let mut lease = pool.reader().await?;
    let there: bool = lease.client().query_one(THERE, &[]).await?.try_get(0)?;
    let rows = if there { lease.client().query(NODES, &[]).await? } else { Vec::new() };
    lease.give_back();
    let read = |row: &tokio_postgres::Row| -> Result<Node, Answer> {
        let document = serde_json::from_str(row.try_get(0)?).unwrap_or_default();
        Ok(Node { document, alive: row.try_get(1)? })
    };
    rows.iter().map(read).collect()
}

impl Node {
    /// Whether it serves this revision or a later one.
    pub(super) fn serves(&self, committed: Committed) -> bool {
        let number = |field: &str| self.document[field].as_u64();
        // A row of a node that follows another cluster came with a dump.
        if self.document["lineage"].as_i64() != Some(committed.lineage.cast_signed()) {
            return false;
        }
        match (number("timeline"), number("revision")) {
            (Some(timeline), Some(revision)) => {
                (timeline, revision) >= (u64::from(committed.timeline), committed.revision)
            }
            _ => false,
        }
    }

    /// Whether it refuses something at present and does not serve this revision.
    pub(super) fn refuses(&self, committed: Committed) -> bool {
        self.document["refusing"] == true && !self.serves(committed)
    }

    /// For the answer to a write.
    pub(super) fn told(&self, committed: Committed) -> Value {
        let node = &self.document["node"];
        if self.serves(committed) {
            return json!({"node": node, "applied": true});
        }
        let reason = match (&self.document["refusal"], &self.document["revision"]) {
            (Value::String(refusal), _) if self.refuses(committed) => format!("refused: {refusal}"),
            (_, Value::Number(revision)) => format!("it still serves revision {revision}"),
            _ => "it serves nothing yet".to_owned(),
        };
        json!({"node": node, "applied": false, "reason": reason})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_serves_refuses_or_lags() {
        let committed = Committed { revision: 7, timeline: 2, lineage: u64::MAX, ahead: None };
        let told_of = |lineage: i64, mut document: Value| {
            document["lineage"] = json!(lineage);
            Node { document, alive: true }.told(committed)["reason"].clone()
        };
        let told = |document: Value| told_of(-1, document);
        let other = told_of(5, json!({"node": "a", "timeline": 2, "revision": 8, "refusing": false}));
        assert_eq!(other, "it still serves revision 8");
        assert!(told(json!({"node": "a", "timeline": 2, "revision": 8, "refusing": false})).is_null());
        assert!(told(json!({"node": "a", "timeline": 3, "revision": 1, "refusing": false})).is_null());
        let lagging = told(json!({"node": "a", "timeline": 2, "revision": 6, "refusing": false}));
        assert_eq!(lagging, "it still serves revision 6");
        let refusing =
            told(json!({"node": "a", "timeline": 1, "revision": 9, "refusing": true, "refusal": "x"}));
        assert_eq!(refusing, "refused: x");
    }
}
