//! `ringway history` and `rollback`: who changed what and when, and an old state made the newest.
//!
//! A rollback is a revision like any other, so that it can be taken back in turn; the line that it ends with says how.

use serde_json::Value;

use crate::api::{ApiArgs, Question, Refused, Wait, segment};
use crate::outcome;
use crate::plan::{Change, Op};
use crate::terminal::{plain, say};

/// What to tell.
#[derive(Debug, clap::Args)]
pub(crate) struct HistoryArgs {
    /// How many changes of objects, the newest first; at most 1000
    #[arg(short = 'n', default_value = "20", value_parser = clap::value_parser!(u16).range(1..=1000))]
    number: u16,
    /// Of one object, such as routes/cart, or of one kind, such as routes
    #[arg(long, value_name = "KIND/ID")]
    object: Option<String>,
    /// Show each field before and after
    #[arg(long)]
    fields: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// What to go back to.
#[derive(Debug, clap::Args)]
pub(crate) struct RollbackArgs {
    /// The revision whose content becomes the newest
    revision: u64,
    /// Wait until every node serves it, such as 10s; at most 60s
    #[arg(long, value_name = "TIME")]
    wait: Option<Wait>,
    /// As the Admin API answers
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Tells the history.
pub(crate) fn history(args: &HistoryArgs) -> u8 {
    outcome::told(args.json, listed(args), 1)
}

/// Goes back.
pub(crate) fn rollback(args: &RollbackArgs) -> u8 {
    outcome::told(args.json, rolled_back(args), 1)
}

fn listed(args: &HistoryArgs) -> Result<u8, Refused> {
    let mut path = format!("/v1/changes?limit={}", args.number);
    if let Some(object) = &args.object {
        let (kind, id) = match object.split_once('/') {
            Some((kind, id)) => (kind, Some(id)),
            None => (object.as_str(), None),
        };
        path.push_str(&format!("&kind={}", segment(kind)));
        if let Some(id) = id {
            path.push_str(&format!("&id={}", segment(id)));
        }
    }
    let document =
        args.api.find()?.ask(&Question { method: "GET", path, ..Question::default() }, &())?.document;
    if args.json {
        say(&document.to_string());
        return Ok(0);
    }
    let list = document["list"].as_array().map(Vec::as_slice).unwrap_or_default();
    lines(list, args.fields).iter().for_each(|line| say(line));
    Ok(0)
}

fn lines(list: &[Value], fields: bool) -> Vec<String> {
    let cell = |entry: &Value, name: &str| plain(entry[name].as_str().unwrap_or_default());
    let width = |name: &str| list.iter().map(|entry| cell(entry, name).chars().count()).max().unwrap_or(0);
    let who_width = width("actor").max(3);
    let mut lines = vec![format!("REVISION  {:24}  {:who_width$}  CHANGE", "WHEN", "WHO")];
    for entry in list {
        let change = Change::read(entry);
        let what = match &change {
            Some(change) if change.op == Op::Change && !fields => {
                format!("{} {}", change.lines().swap_remove(0), change.pointers())
            }
            Some(change) => change.lines().swap_remove(0),
            // A row that was written as it was.
            None => format!("= {}/{}", cell(entry, "kind"), cell(entry, "id")),
        };
        let (when, who) = (cell(entry, "at"), cell(entry, "actor"));
        let revision = entry["revision"].as_u64().unwrap_or_default();
        lines.push(format!("{revision:>8}  {when:24}  {who:who_width$}  {what}"));
        if fields {
            lines.extend(change.iter().flat_map(|change| change.lines().into_iter().skip(1)));
        }
    }
    lines
}

fn rolled_back(args: &RollbackArgs) -> Result<u8, Refused> {
    let path = format!("/v1/rollback/{}", args.revision);
    let question = Question { method: "POST", path, wait: args.wait, ..Question::default() };
    let answer = args.api.find()?.ask(&question, &())?;
    let document = &answer.document;
    if args.json {
        say(&document.to_string());
        return Ok(outcome::everywhere(&answer, true));
    }
    let objects = document["objects"].as_u64().unwrap_or_default();
    for object in document["changed"].as_array().into_iter().flatten() {
        let cell = |name: &str| object[name].as_str().unwrap_or_default();
        say(&plain(&format!("  {}/{}", cell("kind"), cell("id"))));
    }
    if objects == 0 {
        say(&format!("no changes: all is as in revision {}", args.revision));
    } else {
        let (revision, before) = (&document["revision"], &document["from"]);
        let plural = if objects == 1 { "" } else { "s" };
        say(&format!(
            "revision {revision}: {objects} object{plural} as in revision {}; `ringway rollback {before}` takes it back",
            args.revision
        ));
    }
    Ok(outcome::everywhere(&answer, false))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_change_is_a_line_and_its_fields_if_asked() {
        let list = [
            json!({"revision": 3, "at": "2026-01-01T00:00:00.000Z", "actor": "admin:me", "kind": "routes", "id": "a",
                "before": {"uri": "/a"}, "after": {"uri": "/b", "desc": "x"}}),
            json!({"revision": 2, "at": "2026-01-01T00:00:00.000Z", "actor": "dba", "kind": "routes", "id": "b",
                "before": {"uri": "/a"}, "after": null}),
        ];
        let told = lines(&list, false);
        assert!(told[1].starts_with("       3  2026-"), "{told:?}");
        assert!(told[1].ends_with("admin:me  ~ routes/a /desc /uri"), "{told:?}");
        assert!(told[2].ends_with("dba       - routes/b"), "{told:?}");
        assert_eq!(lines(&list, true)[3], "    ~ /uri: \"/a\" -> \"/b\"");
    }
}
