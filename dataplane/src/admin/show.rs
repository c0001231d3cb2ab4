//! The `show` commands: one JSON document each; the text for people is made from it.

use std::sync::atomic::Ordering::Relaxed;

use ringway_engine::upstream::{Cluster, HostRule};
use ringway_engine::view::View;
use ringway_snapshot::plugin::login::hide_secrets;
use ringway_snapshot::{Kind, Version};
use serde_json::{Value, json};

use super::command::Show;
use super::{Admin, history, latency, nodes, tally};
use crate::drain::Phase;
use crate::state::State;

/// The reply to a `show` command.
pub(crate) fn reply(admin: &Admin, what: Show, json: bool) -> String {
    let of_nodes = matches!(what, Show::Upstreams | Show::Upstream(_));
    let is_history = matches!(what, Show::History(_));
    let document = match what {
        Show::Info => Ok(info(admin)),
        Show::Snapshot => snapshot(&admin.state),
        Show::Cores => Ok(cores(&admin.state)),
        Show::Counters => Ok(counters(&admin.state)),
        Show::Connections => Ok(tally::connections(&admin.state)),
        Show::Errors => Ok(tally::errors(&admin.state)),
        Show::Limits => Ok(tally::limits(admin)),
        Show::Latency if json => Ok(latency::document(&admin.state)),
        Show::Latency => return latency::text(&admin.state),
        Show::Routes => with_view(&admin.state, routes),
        Show::Route(id) => with_view(&admin.state, |view| route(view, &id)).and_then(|found| {
            if found.is_null() {
                Err(format!("there is no route {id:?}; `show routes` lists them"))
            } else {
                Ok(found)
            }
        }),
        Show::Upstreams => nodes::upstreams(admin),
        Show::Upstream(key) => nodes::upstream(admin, &key),
        Show::Objects(kind, id) => objects(&admin.state, kind, id.as_deref()),
        Show::History(node) => history::of(&admin.state, &node),
    };
    match document {
        Err(error) => format!("error: {error}"),
        Ok(document) if json => document.to_string(),
        Ok(document) if of_nodes => nodes::text(&document),
        Ok(document) if is_history => history::text(&document),
        Ok(document) => text(&document),
    }
}

/// A version as every JSON document tells it.
pub(crate) fn version(version: &Version) -> Value {
    json!({
        "text": version.to_string(),
        "lineage": format!("{:016x}", version.lineage),
        "timeline": version.timeline,
        "revision": version.revision,
        "digest": version.digest.to_string(),
    })
}

pub(super) fn with_view(state: &State, show: impl FnOnce(&View) -> Value) -> Result<Value, String> {
    let view = state.feed().view.clone();
    view.map(|view| show(&view)).ok_or_else(no_configuration)
}

pub(super) fn no_configuration() -> String {
    "no configuration yet: neither a snapshot on disk nor one from a control plane".to_owned()
}

fn info(admin: &Admin) -> Value {
    let state = &admin.state;
    let sum = |value: fn(&crate::state::Counters) -> u64| {
        state.cores.iter().map(|core| value(&core.counters)).sum::<u64>()
    };
    let silence = state.silence();
    let feed = state.feed();
    json!({
        "build": env!("CARGO_PKG_VERSION"),
        "node": state.node,
        "zone": state.site.zone,
        "pid": std::process::id(),
        "uptime_s": state.uptime_ms() / 1000,
        "workers": state.cores.len(),
        "io_driver": admin.flags.io_driver.name(),
        "listen": admin.listening.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "status": admin.status.to_string(),
        "feed_socket": admin.flags.feed_socket.display().to_string(),
        "version": feed.view.as_ref().map(|view| version(&view.version)),
        "versions_alive": feed.views_alive,
        "booted_from_disk": feed.booted_from_disk,
        "connections": sum(|c| c.connections.get()),
        "requests_total": sum(|c| c.requests.get()),
        "draining": state.life.phase() != Phase::Serving,
        "successor": state.life.has_successor(),
        "trouble": state.not_alive(),
        "executable": admin.executable.display().to_string(),
        "last_refusal": feed.last_refusal.as_ref().map(|refusal| json!({
            "by": refusal.by,
            "version": refusal.version.to_string(),
            "text": refusal.text,
            "faults": refusal.faults,
        })),
        "disk_error": feed.disk_error,
        "saved_version": feed.saved.as_ref().map(version),
        "silence_s": silence.as_secs(),
        "last_control_plane_ms_ago": feed.heard_at.map(|at| milliseconds(at.elapsed())),
    })
}

fn snapshot(state: &State) -> Result<Value, String> {
    let feed = state.feed();
    let view = feed.view.as_ref().ok_or_else(no_configuration)?;
    Ok(json!({
        "version": version(&view.version),
        "routes": view.counts.routes,
        "services": view.counts.services,
        "upstreams": view.counts.upstreams,
        "consumers": view.counts.consumers,
        "credentials": view.counts.credentials,
        "unusable_logins": view.unusable(),
        "patterns": view.routes.patterns(),
        "routing_table_bytes": view.routes.memory_bytes(),
        "applied_ms_ago": feed.applied_at.map(|at| milliseconds(at.elapsed())),
        "booted_from_disk": feed.booted_from_disk,
        "stages_us": feed.stages.map(|stages| json!({
            "received": stages.received_us,
            "decoded": stages.decoded_us,
            "compiled": stages.compiled_us,
            "first_core": stages.first_core_us,
            "last_core": stages.last_core_us,
        })),
    }))
}

fn cores(state: &State) -> Value {
    let now_ms = state.uptime_ms();
    let rows = state.cores.iter().enumerate().map(|(number, core)| {
        json!({
            "core": number,
            "cpu": core.cpu,
            "version": core.served_version().as_ref().map(version),
            "connections": core.counters.connections.get(),
            "requests": core.counters.requests.get(),
            "turned_ms_ago": now_ms.saturating_sub(core.turned_ms.load(Relaxed)),
            "dead": core.dead.load(Relaxed),
            "stuck_ms": core.stuck_ms.load(Relaxed),
            "listening": core.listening.load(Relaxed),
            "sockets": core.sockets().len(),
        })
    });
    rows.collect()
}

/// With the process's own time, so that whoever asks twice knows the rates without a clock in common.
fn counters(state: &State) -> Value {
    let rows = state.cores.iter().enumerate().map(|(number, core)| {
        let c = &core.counters;
        json!({
            "core": number,
            "at_ms": state.uptime_ms(),
            "connections": c.connections.get(),
            "busy": c.busy.get(),
            "accepted": c.accepted.get(),
            "shed": c.shed.get(),
            "requests": c.requests.get(),
            "responses_1xx": c.responses_1xx.get(),
            "responses_2xx": c.responses_2xx.get(),
            "responses_3xx": c.responses_3xx.get(),
            "responses_4xx": c.responses_4xx.get(),
            "responses_5xx": c.responses_5xx.get(),
            "refused_heads": c.refused_heads.get(),
            "no_route": c.no_route.get(),
            "client_gone": c.client_gone.get(),
            "upstream_failures": c.upstream_failures.get(),
            "upstream_connects": c.upstream_connects.get(),
            "upstream_reuses": c.upstream_reuses.get(),
            "upstream_retries": c.retries.get(),
            "upstream_retries_refused": c.retries_refused.get(),
            "panics": c.panics.get(),
        })
    });
    rows.collect()
}

fn routes(view: &View) -> Value {
    let rows = view.routes.iter().map(|listed| {
        json!({
            "id": listed.id,
            "host": listed.host,
            "uri": String::from_utf8_lossy(listed.uri),
            "priority": listed.priority,
            "methods": listed.payload.about.route.methods,
            "upstream": view.cluster(listed.payload).map(|cluster| &cluster.key),
        })
    });
    rows.collect()
}

fn route(view: &View, id: &str) -> Value {
    let found = view.routes.iter().find(|listed| listed.id == id);
    found.map_or(Value::Null, |listed| serde_json::to_value(&*listed.payload.about.route).unwrap_or_default())
}

/// Objects that are in force. The lock is held for no longer than it takes to share them.
fn objects(state: &State, kind: Kind, id: Option<&str>) -> Result<Value, String> {
    let feed = state.feed();
    let revision = feed.view.as_ref().ok_or_else(no_configuration)?.version.revision;
    let entries = feed.entries.clone();
    drop(feed);
    let of_kind = entries.iter().filter(|entry| entry.object.kind() == kind);
    let wanted = of_kind.filter(|entry| id.is_none_or(|id| *entry.id == *id));
    let rows: Result<Vec<Value>, serde_json::Error> = wanted
        .map(|entry| {
            // Its fields stand below the name of its kind.
            let fields = match serde_json::to_value(&entry.object)? {
                Value::Object(named) => named.into_iter().next().map(|(_, fields)| fields),
                _ => None,
            };
            let fields = fields.map(|mut fields| {
                hide_secrets(&mut fields);
                fields
            });
            Ok(json!({ "id": entry.id, "value": fields }))
        })
        .collect();
    let rows = rows.map_err(|error| error.to_string())?;
    Ok(json!({ "revision": revision, "objects": rows }))
}

/// One upstream, as it is configured.
pub(crate) fn upstream(cluster: &Cluster) -> Value {
    let nodes = cluster.endpoints.iter().map(|endpoint| {
        let mut node = json!({ "address": endpoint.address.to_string(), "weight": endpoint.weight, "priority": endpoint.priority });
        if let (Some(zone), Value::Object(fields)) = (&endpoint.zone, &mut node) {
            fields.insert("zone".to_owned(), json!(zone));
        }
        node
    });
    let mut told = json!({
        "key": cluster.key,
        "type": cluster.balancer,
        "tries_max": cluster.tries_max(),
        "host": match &cluster.host {
            HostRule::Pass => "the client's".to_owned(),
            HostRule::Node => "the node's".to_owned(),
            HostRule::Rewrite(host) => String::from_utf8_lossy(host).into_owned(),
        },
        "nodes": nodes.collect::<Value>(),
    });
    if let (Some(preference), Value::Object(fields)) = (zone_preference(cluster), &mut told) {
        fields.insert("zone".to_owned(), json!(preference));
    }
    told
}

/// What an upstream that prefers zones makes of the gateway's own.
fn zone_preference(cluster: &Cluster) -> Option<String> {
    if !cluster.tuning.zone_prefer {
        return None;
    }
    let Some(own) = &cluster.own_zone else {
        return Some("none is preferred: this gateway was started without --zone".to_owned());
    };
    let count = cluster.endpoints.iter().filter(|endpoint| cluster.is_own(endpoint)).count();
    Some(match (count, cluster.tuning.zone_spill_percent) {
        (0, _) => format!("{own}, of which there is no node: all zones alike"),
        (count, percent) => format!(
            "{own}: {count} of {} nodes first; others too when less than {percent} % of it is usable",
            cluster.endpoints.len()
        ),
    })
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `key: value` lines; an object in a list is one line.
pub(crate) fn text(document: &Value) -> String {
    match document {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name}: {}", scalar(value)))
            .collect::<Vec<_>>()
            .join("\n"),
        Value::Array(rows) if rows.is_empty() => "none".to_owned(),
        Value::Array(rows) => rows.iter().map(row).collect::<Vec<_>>().join("\n"),
        other => scalar(other),
    }
}

pub(super) fn row(value: &Value) -> String {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| format!("{name}={}", scalar(value)))
            .collect::<Vec<_>>()
            .join(" "),
        other => scalar(other),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Object(fields) => match fields.get("text") {
            Some(Value::String(text)) => text.clone(),
            _ => value.to_string(),
        },
        other => other.to_string(),
    }
}
