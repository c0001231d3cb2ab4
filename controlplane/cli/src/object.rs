//! `ringway get`, `put` and `delete`: single objects by kind and id.
//!
//! `get` shows what APISIX's Admin API shows: defaults and times included. Who wants to write an object back takes it from `dump`.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use ringway_controlplane::source::file;
use ringway_snapshot::Kind;
use ringway_snapshot::model::credential;
use serde_json::Value;

use crate::api::{ApiArgs, Question, Refused, Wait, segment};
use crate::declared::{text, without_times};
use crate::failure::{Doing as _, Failure};
use crate::outcome;
use crate::terminal::{plain, say};
use crate::yaml;

/// Characters of an object's summary.
const SUMMARY_CHARS_MAX: usize = 120;

/// What to show.
#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    /// routes, services, upstreams ...
    #[arg(value_parser = kinds(), hide_possible_values = true)]
    kind: Kind,
    /// One object [default: a list of all]
    id: Option<String>,
    /// As the Admin API answers
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// What to write.
#[derive(Debug, clap::Args)]
pub(crate) struct PutArgs {
    /// routes, services, upstreams ...
    #[arg(value_parser = kinds(), hide_possible_values = true)]
    kind: Kind,
    id: String,
    /// The object's fields (YAML or JSON), `-` for standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Wait until every node serves it, such as 10s; at most 60s
    #[arg(long, value_name = "TIME")]
    wait: Option<Wait>,
    /// As the Admin API answers
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// What to delete.
#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// routes, services, upstreams ...
    #[arg(value_parser = kinds(), hide_possible_values = true)]
    kind: Kind,
    id: String,
    /// Also what others refer to: the reference is taken out of them, and a route that loses its service is disabled
    #[arg(long)]
    force: bool,
    /// Wait until no node serves it any more, such as 10s; at most 60s
    #[arg(long, value_name = "TIME")]
    wait: Option<Wait>,
    /// As the Admin API answers
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Shows one or all of a kind.
pub(crate) fn get(args: &GetArgs) -> u8 {
    outcome::told(args.json, shown(args), 1)
}

/// Writes one.
pub(crate) fn put(args: &PutArgs) -> u8 {
    outcome::told(args.json, written(args), 1)
}

/// Deletes one.
pub(crate) fn delete(args: &DeleteArgs) -> u8 {
    outcome::told(args.json, deleted(args), 1)
}

/// A kind by its plural; the singular is understood as well.
fn kinds() -> impl TypedValueParser<Value = Kind> {
    let values = Kind::ALL.map(|kind| {
        let name = kind.name();
        PossibleValue::new(name).alias(name.strip_suffix('s').unwrap_or(name))
    });
    PossibleValuesParser::new(values).try_map(|name| {
        let known = Kind::ALL.into_iter().find(|kind| kind.name().strip_suffix('s') == Some(&name));
        known.or_else(|| Kind::from_name(&name)).ok_or("not a kind of object")
    })
}

fn path(kind: Kind, id: Option<&str>) -> String {
    if let (Kind::Credential, Some(id)) = (kind, id) {
        // A consumer's name alone stands for all of its own.
        let (consumer, own) = credential(id).map_or((id, None), |(consumer, own)| (consumer, Some(own)));
        let own = own.map_or_else(String::new, |own| format!("/{}", segment(own)));
        return format!("/apisix/admin/consumers/{}/credentials{own}", segment(consumer));
    }
    let id = id.map_or_else(String::new, |id| format!("/{}", segment(id)));
    format!("/apisix/admin/{}{id}", kind.name())
}

fn shown(args: &GetArgs) -> Result<u8, Refused> {
    if args.kind == Kind::Credential && args.id.is_none() {
        let why = "credentials are their consumers': give one's name (`ringway get credentials NAME`), or its name and a credential's id (`NAME/credentials/ID`)";
        return Err(Failure::new(why).into());
    }
    let question =
        Question { method: "GET", path: path(args.kind, args.id.as_deref()), ..Question::default() };
    let api = args.api.find()?;
    let document = match &args.id {
        Some(id) => api.ask(&question, &format!("{}/{id}", args.kind.name()))?.document,
        None => api.ask(&question, &())?.document,
    };
    if args.json {
        say(&document.to_string());
    } else if document["value"].is_object() {
        say(yaml::document(&document["value"]).trim_end());
    } else {
        table(args.kind, document["list"].as_array().map(Vec::as_slice).unwrap_or_default());
    }
    Ok(0)
}

fn table(kind: Kind, list: &[Value]) {
    let own = |item: &Value| item["value"][kind.naming_field().unwrap_or("id")].as_str().map(plain);
    let id = |item: &Value| own(item).unwrap_or_default();
    let width = list.iter().map(|item| id(item).chars().count()).max().unwrap_or(0).max(2);
    say(&format!("{:width$}  REVISION  WHAT", "ID"));
    for item in list {
        let what: String = plain(&summary(kind, &item["value"])).chars().take(SUMMARY_CHARS_MAX).collect();
        let revision = item["modifiedIndex"].as_u64().unwrap_or_default();
        let line = format!("{:width$}  {revision:>8}  {what}", id(item));
        say(line.trim_end());
    }
}

/// What an object does, in a few words.
fn summary(kind: Kind, value: &Value) -> String {
    let several = |one: &str, many: &str| -> String {
        let list = value[many].as_array().into_iter().flatten().filter_map(Value::as_str);
        value[one].as_str().into_iter().chain(list).collect::<Vec<_>>().join(",")
    };
    let nodes = |upstream: &Value| match &upstream["nodes"] {
        Value::Object(nodes) => nodes.keys().cloned().collect::<Vec<_>>().join(" "),
        Value::Array(nodes) => {
            let node =
                |node: &Value| format!("{}:{}", node["host"].as_str().unwrap_or_default(), node["port"]);
            nodes.iter().map(node).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    };
    let to = match (value["service_id"].as_str(), value["upstream_id"].as_str()) {
        (Some(id), _) => format!("-> services/{id}"),
        (None, Some(id)) => format!("-> upstreams/{id}"),
        (None, None) if value["upstream"].is_object() => format!("-> {}", nodes(&value["upstream"])),
        (None, None) => String::new(),
    };
    let words = match kind {
        Kind::Route => {
            let off = if value["status"] == 0 { "(disabled)" } else { "" };
            let methods = several("", "methods");
            vec![
                methods,
                format!("{}{}", several("host", "hosts"), several("uri", "uris")),
                to,
                off.to_owned(),
            ]
        }
        Kind::Upstream => vec![nodes(value)],
        Kind::Consumer | Kind::Credential | Kind::ConsumerGroup => {
            let plugins = value["plugins"].as_object().into_iter().flatten().map(|(name, _)| name.as_str());
            let group = value["group_id"].as_str().map(|id| format!("in consumer_groups/{id}"));
            vec![several("name", ""), plugins.collect::<Vec<_>>().join(" "), group.unwrap_or_default()]
        }
        _ => vec![several("name", ""), several("", "hosts"), to],
    };
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn written(args: &PutArgs) -> Result<u8, Refused> {
    let name = args.file.display();
    let text = text(&args.file).doing(|| format!("read {name}"))?;
    let mut object = file::read(&text).map_err(|why| Failure::new(format!("{name}: {why}")))?;
    if !object.is_object() || Kind::ALL.iter().any(|kind| object[kind.name()].is_array()) {
        let why = "expected the fields of one object; `ringway apply -f` takes lists of objects";
        return Err(Failure::new(format!("{name}: {why}")).into());
    }
    without_times(&mut object);
    let question = Question {
        method: "PUT",
        path: path(args.kind, Some(&args.id)),
        body: Some(&object),
        wait: args.wait,
        ..Question::default()
    };
    let named = format!("{}/{}", args.kind.name(), args.id);
    let answer = args.api.find()?.ask(&question, &named)?;
    if args.json {
        say(&answer.document.to_string());
    } else {
        let revision = answer.tag.as_deref().unwrap_or_default().trim_matches('"');
        say(&format!("{named} is written; its revision is {revision}"));
    }
    Ok(outcome::everywhere(&answer, args.json))
}

fn deleted(args: &DeleteArgs) -> Result<u8, Refused> {
    let mut path = path(args.kind, Some(&args.id));
    if args.force {
        path.push_str("?force=true");
    }
    let question = Question { method: "DELETE", path, wait: args.wait, ..Question::default() };
    let named = format!("{}/{}", args.kind.name(), args.id);
    let answer = args.api.find()?.ask(&question, &named).map_err(|refused| match args.force {
        false if refused.to_string().contains("which would be deleted") => {
            refused.advised("--force takes the reference out of who refers")
        }
        _ => refused,
    })?;
    if args.json {
        say(&answer.document.to_string());
    } else {
        say(&format!("{named} is deleted"));
        for key in answer.document["detached"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            say(&format!("{} no longer refers to it", plain(key.trim_start_matches("/apisix/"))));
        }
    }
    Ok(outcome::everywhere(&answer, args.json))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_credential_is_asked_for_below_its_consumer() {
        for (id, want) in [
            ("jack/credentials/a b", "/apisix/admin/consumers/jack/credentials/a%20b"),
            ("jack", "/apisix/admin/consumers/jack/credentials"),
        ] {
            assert_eq!(path(Kind::Credential, Some(id)), want);
        }
        assert_eq!(path(Kind::Consumer, Some("jack")), "/apisix/admin/consumers/jack");
    }

    #[test]
    fn an_object_is_told_in_a_few_words() {
        for (kind, value, want) in [
            (
                Kind::Route,
                json!({"methods": ["GET", "PUT"], "host": "a", "uris": ["/b", "/c"], "upstream_id": "u", "status": 0}),
                "GET,PUT a/b,/c -> upstreams/u (disabled)",
            ),
            (Kind::Upstream, json!({"nodes": {"a:1": 1, "b:2": 1}}), "a:1 b:2"),
            (
                Kind::Consumer,
                json!({"username": "jack", "group_id": "g", "plugins": {"key-auth": {"key": "70707"}}}),
                "key-auth in consumer_groups/g",
            ),
            (Kind::Upstream, json!({"nodes": [{"host": "a", "port": 1, "weight": 1}]}), "a:1"),
            (
                Kind::Service,
                json!({"name": "n", "hosts": ["h"], "upstream": {"nodes": {"a:1": 1}}}),
                "n h -> a:1",
            ),
        ] {
            assert_eq!(summary(kind, &value), want);
        }
    }
}
