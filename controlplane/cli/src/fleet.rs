//! `ringway status --fleet`: every node's version, as PostgreSQL knows it, and whether all agree.
//!
//! It asks the control plane of this host, whichever it is, which reads the table `ringway.node`. It judges: 0 when every node serves
//! the last revision, 1 when one does not, refuses something or is silent, 2 when it cannot be told. A node that was silent for a
//! day is no longer in the table; one that was never there cannot be missed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::socket::{self, Sockets};
use crate::terminal::{plain, say};

/// Prints the fleet and gives the exit code.
pub(crate) fn run(sockets: &Sockets, as_json: bool) -> u8 {
    let fleet = socket::document(&sockets.fleet()).map_err(|error| error.to_string()).and_then(|text| {
        serde_json::from_str(&text)
            .map_err(|error| format!("the control plane answers what is not JSON: {error}"))
    });
    let (document, lines, code) = judged(&fleet.unwrap_or_else(|error| json!({ "error": error })));
    if as_json {
        say(&document.to_string());
    } else {
        lines.iter().for_each(|line| say(line));
    }
    code
}

fn judged(fleet: &Value) -> (Value, Vec<String>, u8) {
    if let Some(error) = fleet["error"].as_str() {
        let error = format!("the fleet cannot be told: {}", plain(error));
        let document = json!({ "verdict": "unknown", "problems": [error], "head": null, "nodes": [] });
        return (document, vec!["fleet: unknown".to_owned(), String::new(), format!("! {error}")], 2);
    }
    let problems = problems(fleet);
    let verdict = if problems.is_empty() { "in step" } else { "degraded" };
    let document =
        json!({ "verdict": verdict, "problems": problems, "head": fleet["head"], "nodes": fleet["nodes"] });
    let mut lines = table(fleet, verdict);
    if !problems.is_empty() {
        lines.push(String::new());
        lines.extend(problems.iter().map(|problem| format!("! {problem}")));
    }
    (document, lines, u8::from(!problems.is_empty()))
}

fn nodes(fleet: &Value) -> impl Iterator<Item = &Value> {
    fleet["nodes"].as_array().into_iter().flatten()
}

fn problems(fleet: &Value) -> Vec<String> {
    let head = fleet["head"]["text"].as_str().unwrap_or_default();
    let mut problems = Vec::new();
    let mut digests: BTreeMap<String, (String, String)> = BTreeMap::new();
    for node in nodes(fleet) {
        let name = name(fleet, node);
        if node["stale"] == true {
            let seen = seconds(&node["seen_s_ago"]);
            problems.push(format!(
                "node {name} is silent for {seen}: its host, its control plane or its network is down"
            ));
            continue;
        }
        if node["dataplane"]["state"] != "connected" {
            problems.push(format!("node {name}: its control plane does not reach its data plane"));
        }
        match (version(node), node["refusing"] == true) {
            (_, true) => {
                let text = node["last_refusal"]["text"].as_str().unwrap_or("no reason given");
                problems.push(format!("node {name} refuses {}", plain(text)));
            }
            (None, _) => problems.push(format!("node {name} has no configuration yet")),
            (Some(version), _) if version != head => {
                problems.push(format!("node {name} runs {version}, PostgreSQL has {}", plain(head)));
            }
            _ => {}
        }
        if let (Some(version), Some(digest)) = (version(node), node["version"]["digest"].as_str()) {
            let (first, known) = digests.entry(version.clone()).or_insert((name.clone(), digest.to_owned()));
            if known != digest {
                problems.push(format!(
                    "nodes {first} and {name} run {version} with different contents: two primaries wrote it"
                ));
            }
        }
    }
    let asked = fleet["asked"].as_str().unwrap_or_default();
    if !nodes(fleet).any(|node| node["node"] == asked) {
        let asked = plain(asked);
        problems.push(format!(
            "node {asked} is not in the table: its control plane cannot write ringway.node; see its log"
        ));
    }
    problems
}

fn table(fleet: &Value, verdict: &str) -> Vec<String> {
    let rows: Vec<[String; 7]> = nodes(fleet)
        .map(|node| {
            let state = if node["stale"] == true {
                "silent"
            } else if node["refusing"] == true {
                "refuses"
            } else if node["dataplane"]["state"] != "connected" {
                "no data plane"
            } else {
                "serves"
            };
            [
                name(fleet, node),
                state.to_owned(),
                version(node).unwrap_or_else(|| "-".to_owned()),
                seconds(&node["serving_s"]),
                shown(&node["build"]),
                shown(&node["dataplane"]["build"]),
                format!("{} ago", seconds(&node["seen_s_ago"])),
            ]
        })
        .collect();
    let titles =
        ["node", "state", "version", "for", "control plane", "data plane", "seen"].map(str::to_owned);
    let widths: Vec<usize> = (0..titles.len())
        .map(|column| {
            std::iter::once(&titles)
                .chain(&rows)
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or_default()
        })
        .collect();
    let head = plain(fleet["head"]["text"].as_str().unwrap_or("-"));
    let mut lines = vec![format!("fleet: {verdict}; PostgreSQL has {head}"), String::new()];
    lines.extend(std::iter::once(&titles).chain(&rows).map(|row| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    }));
    lines
}

/// The node's name; where it has several control planes, with which one.
fn name(fleet: &Value, node: &Value) -> String {
    let several = nodes(fleet).filter(|other| other["node"] == node["node"]).count() > 1;
    let name = shown(&node["node"]);
    if several { format!("{name} ({})", shown(&node["control"])) } else { name }
}

fn version(node: &Value) -> Option<String> {
    node["version"]["text"].as_str().map(plain)
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| "-".to_owned(), plain)
}

fn seconds(value: &Value) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(s) if s < 600.0 => format!("{s:.0} s"),
        Some(s) if s < 36_000.0 => format!("{:.0} min", s / 60.0),
        Some(s) => format!("{:.0} h", s / 3_600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, revision: u64, digest: &str) -> Value {
        json!({
            "node": name, "control": "/run/c.sock", "build": "0.1.0",
            "dataplane": {"state": "connected", "build": "0.1.0"},
            "version": {"text": format!("ab:1:{revision}"), "digest": digest}, "serving_s": 70.0,
            "refusing": false, "last_refusal": null, "seen_s_ago": 2.0, "stale": false,
        })
    }

    fn fleet(nodes: &[Value]) -> Value {
        json!({"asked": "a", "head": {"text": "ab:1:5"}, "nodes": nodes})
    }

    #[test]
    fn all_on_the_last_revision_is_in_step() {
        let (document, lines, code) = judged(&fleet(&[node("a", 5, "0f"), node("b", 5, "0f")]));
        assert_eq!((code, &document["verdict"]), (0, &json!("in step")));
        assert!(lines.iter().any(|line| line.starts_with("b     serves  ab:1:5")), "{lines:#?}");
    }

    #[test]
    fn one_that_is_behind_silent_refusing_or_different_is_named() {
        let mut silent = node("s", 5, "0f");
        (silent["stale"], silent["seen_s_ago"]) = (json!(true), json!(41.0));
        let mut refusing = node("r", 4, "0e");
        refusing["refusing"] = json!(true);
        refusing["last_refusal"] = json!({"text": "revision 5: routes/1: no"});
        let mut alone = node("d", 5, "0f");
        alone["dataplane"] = json!({"state": "disconnected", "build": null});
        let rows = [node("a", 5, "0f"), node("b", 4, "0e"), silent, refusing, alone, node("x", 5, "ff")];
        let (document, _, code) = judged(&fleet(&rows));
        assert_eq!(code, 1);
        assert_eq!(
            document["problems"],
            json!([
                "node b runs ab:1:4, PostgreSQL has ab:1:5",
                "node s is silent for 41 s: its host, its control plane or its network is down",
                "node r refuses revision 5: routes/1: no",
                "node d: its control plane does not reach its data plane",
                "nodes a and x run ab:1:5 with different contents: two primaries wrote it",
            ])
        );
        let (document, _, _) = judged(&fleet(&[node("b", 5, "0f")]));
        assert!(document["problems"][0].as_str().unwrap().starts_with("node a is not in the table"));
    }

    #[test]
    fn what_cannot_be_told_is_unknown() {
        let (document, _, code) = judged(&json!({"asked": "a", "error": "no primary"}));
        assert_eq!((code, &document["verdict"]), (2, &json!("unknown")));
        assert_eq!(document["problems"], json!(["the fleet cannot be told: no primary"]));
    }
}
