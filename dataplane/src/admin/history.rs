//! When a node's state changed lately, and why: checks, breakers of cores, operators.

use std::time::{Duration, SystemTime};

use ringway_engine::upstream::{Change, Changes};
use serde_json::{Value, json};

use super::command::NodeName;
use super::{nodes, show};
use crate::state::State;

/// `show health KEY/ADDRESS history`.
pub(super) fn of(state: &State, node: &NodeName) -> Result<Value, String> {
    let view = state.feed().view.clone().ok_or_else(show::no_configuration)?;
    let ward = state.ward.open();
    let found = nodes::find(&view, &node.upstream);
    // A node that is gone has a history, too.
    let key = found.as_ref().map_or(&*node.upstream, |cluster| &cluster.key);
    let is_there = found.as_ref().is_ok_and(|cluster| {
        ward.whole(cluster).endpoints.iter().any(|endpoint| endpoint.address == node.address)
    });
    let none = Changes::default();
    let changes = match ward.history.of(key, &node.address) {
        Some(changes) => changes,
        None if is_there => &none,
        None => {
            return Err(found.err().unwrap_or_else(|| {
                format!(
                    "{key} has no node {}, and had none lately; `show upstreams` lists them",
                    node.address
                )
            }));
        }
    };
    let now_ms = state.uptime_ms();
    let change = |change: &Change| {
        let ago_ms = now_ms.saturating_sub(change.at_ms);
        let at = SystemTime::now().checked_sub(Duration::from_millis(ago_ms));
        let at = at.map(httpdate::fmt_http_date);
        json!({ "at": at, "ago_ms": ago_ms, "to": change.to, "why": change.why })
    };
    Ok(json!({
        "upstream": key,
        "node": node.address.to_string(),
        "configured": is_there,
        "older_left_out": changes.dropped,
        "changes": changes.kept.iter().map(change).collect::<Vec<_>>(),
    }))
}

/// A line for each change, the oldest first.
pub(super) fn text(document: &Value) -> String {
    let of = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    let mut lines = vec![format!("{} of {}", of(document, "node"), of(document, "upstream"))];
    if let Some(dropped) = document.get("older_left_out").and_then(Value::as_u64).filter(|count| *count > 0) {
        lines.push(format!("  {dropped} older changes are left out"));
    }
    let changes = document.get("changes").and_then(Value::as_array).into_iter().flatten();
    lines.extend(changes.map(|change| {
        let ago_s = change.get("ago_ms").and_then(Value::as_u64).unwrap_or(0) / 1_000;
        format!("  {} ({ago_s} s ago)  {}: {}", of(change, "at"), of(change, "to"), of(change, "why"))
    }));
    if lines.len() == 1 {
        lines.push("  no change since this process started".to_owned());
    }
    lines.join("\n")
}
