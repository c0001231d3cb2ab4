//! Upstreams and their nodes: who gets requests and who does not, why, and what an operator may set for the time being.
//!
//! What every core sees of a node by itself (open requests, breakers, latencies) is asked of the cores, which answer with their next tick; a
//! core that does not is left out, and told as such.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use ringway_engine::upstream::{
    Address, Change, Cluster, Endpoint, Finding, HealthReport, NodeReport, Order, Ordered, Orders,
};
use ringway_engine::view::View;
use ringway_snapshot::model::Balancer;
use ringway_snapshot::upstream::CheckKind;
use serde_json::{Value, json};

use super::command::{NodeName, Setting};
use super::{Admin, show};
use crate::rosters::SHOWN_MAX;
use crate::state::State;

/// How long a core may take to tell its nodes.
const CORES_WAIT: Duration = Duration::from_millis(1_000);
const CORES_EVERY: Duration = Duration::from_millis(5);

/// The cores' reports of one node.
type Reports = HashMap<(Box<str>, Address), Vec<NodeReport>>;

/// `show upstreams`.
pub(super) fn upstreams(admin: &Admin) -> Result<Value, String> {
    let (reports, silent) = ask_cores(admin);
    show::with_view(&admin.state, |view| {
        view.clusters().map(|cluster| told(&admin.state, cluster, &reports, silent)).collect()
    })
}

/// `show upstream KEY`.
pub(super) fn upstream(admin: &Admin, key: &str) -> Result<Value, String> {
    let view = admin.state.feed().view.clone().ok_or_else(show::no_configuration)?;
    let cluster = find(&view, key)?;
    let (reports, silent) = ask_cores(admin);
    Ok(told(&admin.state, cluster, &reports, silent))
}

/// A line for each upstream, and one for each of its nodes.
pub(super) fn text(document: &Value) -> String {
    let upstreams = match document {
        Value::Array(rows) if rows.is_empty() => return "none".to_owned(),
        Value::Array(rows) => rows.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut lines = Vec::new();
    for upstream in upstreams {
        let mut fields = upstream.as_object().cloned().unwrap_or_default();
        let nodes = fields.remove("nodes");
        lines.push(show::row(&Value::Object(fields)));
        let nodes = nodes.as_ref().and_then(Value::as_array).into_iter().flatten();
        lines.extend(nodes.map(|node| format!("  {}", show::row(node))));
    }
    lines.join("\n")
}

/// `set server` and `set weight`.
pub(super) fn set(state: &State, node: &NodeName, setting: Setting) -> String {
    let Some(view) = state.feed().view.clone() else { return format!("error: {}", show::no_configuration()) };
    let cluster = match find(&view, &node.upstream) {
        Ok(cluster) => cluster,
        Err(error) => return format!("error: {error}"),
    };
    if cluster.balancer == Balancer::Chash && matches!(setting, Setting::Weight(Some(1..))) {
        return "error: weights of a \"chash\" upstream place its keys; change them in the configuration (0, drain and down work)".to_owned();
    }
    let mut ward = state.ward.open();
    let cluster = Arc::clone(ward.whole(cluster));
    let found = ward.orders.set(&cluster, &node.address, |ordered| match setting {
        Setting::Order(order) => ordered.order = order,
        Setting::Weight(weight) => ordered.weight = weight,
    });
    if !found {
        return format!("error: {} has no node {}; `show upstreams` lists them", cluster.key, node.address);
    }
    ward.changed = true;
    let (to, at_ms) = (to(setting), state.uptime_ms());
    let why = match setting {
        Setting::Weight(Some(weight)) => format!("weight {weight}, by an operator"),
        _ => "by an operator".to_owned(),
    };
    ward.history.note(&cluster.key, &node.address, Change { at_ms, to, why });
    let until = "until the configuration gives the node another weight or takes it away, or this data plane ends; an upgrade hands it on";
    match ward.orders.of(&cluster.key, &node.address) {
        Some(ordered) => format!("{} of {}: {}, {until}", node.address, cluster.key, words(&ordered)),
        None => format!("{} of {}: as configured", node.address, cluster.key),
    }
}

fn to(setting: Setting) -> &'static str {
    match setting {
        Setting::Order(Order::Ready) => "ready",
        Setting::Order(Order::Drain) => "drain",
        Setting::Order(Order::Down) => "down",
        Setting::Weight(Some(_)) => "another weight",
        Setting::Weight(None) => "the configured weight",
    }
}

/// An id alone is that of an upstream that is an object of its own.
pub(super) fn find<'v>(view: &'v View, key: &str) -> Result<&'v Arc<Cluster>, String> {
    let cluster = view.cluster_of(key).or_else(|| view.cluster_of(&format!("upstreams/{key}")));
    cluster.ok_or_else(|| format!("there is no upstream {key:?}; `show upstreams` lists them"))
}

fn words(ordered: &Ordered) -> String {
    let order = match ordered.order {
        Order::Ready => "ready",
        Order::Drain => "drain",
        Order::Down => "down",
    };
    ordered.weight.map_or_else(|| order.to_owned(), |weight| format!("{order}, weight {weight}"))
}

/// What every core sees; and how many did not say.
fn ask_cores(admin: &Admin) -> (Reports, usize) {
    let _one = admin.asking.lock().unwrap_or_else(PoisonError::into_inner);
    let cores = &admin.state.cores;
    for core in cores {
        *core.nodes.lock().unwrap_or_else(PoisonError::into_inner) = None;
        core.wanted.store(true, Relaxed);
    }
    let deadline = Instant::now() + CORES_WAIT;
    let (mut reports, mut silent) = (Reports::new(), 0);
    for core in cores {
        let nodes = loop {
            let nodes = core.nodes.lock().unwrap_or_else(PoisonError::into_inner).take();
            if nodes.is_some() || Instant::now() >= deadline {
                break nodes;
            }
            std::thread::sleep(CORES_EVERY);
        };
        silent += usize::from(nodes.is_none());
        for (key, node) in nodes.into_iter().flatten() {
            reports.entry((key, node.address.clone())).or_default().push(node);
        }
    }
    (reports, silent)
}

fn told(state: &State, cluster: &Arc<Cluster>, reports: &Reports, silent: usize) -> Value {
    let ward = state.ward.open();
    let cluster = ward.whole(cluster);
    let mut told = show::upstream(cluster);
    let now_ms = state.uptime_ms();
    let nodes = cluster.endpoints.iter().map(|endpoint| {
        let health = ward.watch.report(&cluster.key, &endpoint.address, now_ms);
        let none = Vec::new();
        let cores = reports.get(&(cluster.key.clone(), endpoint.address.clone())).unwrap_or(&none);
        node(cluster, endpoint, &ward.orders, health, cores)
    });
    if let Value::Object(fields) = &mut told {
        let checks = cluster.checks.as_ref();
        fields.insert(
            "checks".to_owned(),
            match checks {
                None => json!("none"),
                Some(checks) if checks.passive.is_some() => json!("active and passive"),
                Some(_) => json!("active"),
            },
        );
        if let Some(checks) = checks {
            fields
                .insert("checks_type".to_owned(), json!(format!("{:?}", checks.active.kind).to_lowercase()));
            if checks.active.kind == CheckKind::Https {
                let verified = checks.active.https_verify_certificate;
                let words = if verified { "verified" } else { "not verified: any will do" };
                fields.insert("checks_certificate".to_owned(), json!(words));
            }
        }
        if !cluster.names.is_empty() {
            let names = cluster.names.iter().map(|named| {
                let (addresses, failures) =
                    (ward.names.addresses(&named.host), ward.names.failures(&named.host));
                json!({ "name": named.host, "addresses": addresses, "failures_in_a_row": failures })
            });
            fields.insert("names".to_owned(), names.collect());
        }
        let of_it = reports.iter().filter(|((key, _), _)| *key == cluster.key);
        let kept = of_it.flat_map(|(_, cores)| cores).filter_map(|core| core.kept_percent).min();
        if let Some(percent) = kept {
            fields.insert("zone_kept_percent".to_owned(), json!(percent));
        }
        if silent > 0 {
            fields.insert("cores_silent".to_owned(), json!(silent));
        }
        let is_told =
            |endpoint: &&Endpoint| reports.contains_key(&(cluster.key.clone(), endpoint.address.clone()));
        let left_out = cluster.endpoints.len() - cluster.endpoints.iter().filter(is_told).count();
        let cut: u64 = state.cores.iter().map(|core| core.nodes_cut.load(Relaxed)).max().unwrap_or(0);
        if left_out > 0 && cut > 0 {
            let note = format!(
                "left out for {left_out} of {} nodes: a core tells {SHOWN_MAX} nodes at most and has {cut} more",
                cluster.endpoints.len()
            );
            fields.insert("open_requests_and_breakers".to_owned(), json!(note));
        }
        fields.insert("nodes".to_owned(), nodes.collect());
    }
    told
}

fn node(
    cluster: &Cluster,
    endpoint: &Endpoint,
    orders: &Orders,
    health: Option<HealthReport>,
    cores: &[NodeReport],
) -> Value {
    let ordered = orders.of(&cluster.key, &endpoint.address);
    let out = cores.iter().filter(|core| core.breaker == "open").count();
    let panics = cores.iter().any(|core| core.panics);
    let sick = health.and_then(|health| health.health.sickness());
    let (word, why) = match (ordered.map(|ordered| ordered.order), sick) {
        (Some(Order::Down), _) => ("down", Some("by an operator".to_owned())),
        (Some(Order::Drain), _) => ("drain", Some("by an operator".to_owned())),
        _ if ordered.and_then(|ordered| ordered.weight).unwrap_or(endpoint.weight) == 0 => {
            ("drain", Some("its weight is 0".to_owned()))
        }
        (_, Some(sickness)) => ("unhealthy", Some(crate::health::words(sickness))),
        _ if out > 0 => {
            let for_ms = cores.iter().map(|core| core.out_ms).max().unwrap_or(0);
            let why = format!(
                "failures in a row: {out} of {} cores leave it out, for {for_ms} ms more",
                cores.len()
            );
            (if out == cores.len() { "ejected" } else { "ready" }, Some(why))
        }
        _ => ("ready", None),
    };
    let mut fields = BTreeMap::from([
        ("address", json!(endpoint.address.to_string())),
        ("state", json!(word)),
        ("weight", json!(ordered.and_then(|ordered| ordered.weight).unwrap_or(endpoint.weight))),
        ("priority", json!(endpoint.priority)),
        ("open_requests", json!(cores.iter().map(|core| u64::from(core.open)).sum::<u64>())),
        ("requests", json!(cores.iter().map(|core| core.given).sum::<u64>())),
        ("failures", json!(cores.iter().map(|core| core.failed).sum::<u64>())),
        ("breakers", json!(cores.iter().map(|core| core.breaker).collect::<Vec<_>>())),
    ]);
    fields.extend(why.map(|why| ("why", json!(why))));
    fields.extend(endpoint.zone.as_ref().map(|zone| ("zone", json!(zone))));
    if let Some(ordered) = ordered {
        fields.insert("temporary", json!(words(&ordered)));
        fields.insert("configured_weight", json!(endpoint.weight));
    }
    if panics {
        fields.insert("in_use", json!("yes: too few others are usable"));
    }
    let latencies: Vec<f64> = cores.iter().filter_map(|core| core.latency_us).collect();
    if let Some(slowest) = latencies.into_iter().reduce(f64::max) {
        fields.insert("ewma_us_max", json!(slowest.round()));
    }
    fields.extend(health.map(|health| ("checks", checks(&health))));
    json!(fields)
}

fn checks(health: &HealthReport) -> Value {
    let last = health.last.map(|last| match last {
        Finding::Status(status) => json!(status),
        other => json!(other.to_string()),
    });
    let failures = health.health.failures();
    json!({
        "healthy": health.health.is_healthy(),
        "for_ms": health.for_ms,
        "last_probe": last,
        "successes_in_a_row": health.health.successes(),
        "failures_in_a_row": { "http": failures.http, "tcp": failures.tcp, "timeout": failures.timeout },
    })
}
