//! How a command that speaks to the Admin API ends: one line on stderr and an exit code, and with `--json` a document on standard output.

use serde_json::Value;

use crate::api::{Answer, Refused};
use crate::terminal::{plain, say, warn};

/// Tells a refusal; `code` is its exit code.
pub(crate) fn told(as_json: bool, done: Result<u8, Refused>, code: u8) -> u8 {
    done.unwrap_or_else(|refused| {
        if as_json {
            say(&refused.document().to_string());
        }
        warn(&format!("ringway: {refused}"));
        code
    })
}

/// Tells which nodes serve what was written, if that was waited for; 1 when one does not.
pub(crate) fn everywhere(answer: &Answer, as_json: bool) -> u8 {
    let applied = &answer.document["applied"];
    let Some(nodes) = applied["nodes"].as_array() else { return 0 };
    let name = |node: &Value| plain(node["node"].as_str().unwrap_or("a node"));
    let (served, behind): (Vec<_>, Vec<_>) = nodes.iter().partition(|node| node["applied"] == true);
    if applied["everywhere"] == true && answer.status != 202 {
        if !as_json {
            let names: Vec<String> = served.into_iter().map(name).collect();
            say(&format!("every node serves it: {}", names.join(", ")));
        }
        return 0;
    }
    let told = |node: &&Value| {
        let reason = node["reason"].as_str().unwrap_or("no reason given");
        format!("{} ({})", name(node), plain(reason))
    };
    let behind: Vec<String> = behind.iter().map(told).collect();
    warn(&format!(
        "ringway: it is written, but not served by every node: {}; `ringway status --fleet` tells more",
        behind.join(", ")
    ));
    1
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_that_does_not_serve_it_is_a_failure() {
        let answer = |status, document| Answer { status, tag: None, document };
        assert_eq!(everywhere(&answer(200, json!({"revision": 1})), true), 0);
        let served = json!({"applied": {"everywhere": true, "nodes": [{"node": "a", "applied": true}]}});
        assert_eq!(everywhere(&answer(200, served), true), 0);
        let behind = json!({"applied": {"everywhere": false, "nodes": [{"node": "a", "applied": false, "reason": "x"}]}});
        assert_eq!(everywhere(&answer(202, behind), true), 1);
    }
}
