//! A view made of changes, one after the other, against one compiled whole: same routes, same targets, same decisions.
//!
//! Objects are drawn from few ids, so that they refer to each other, change what others refer to, and come and go. Configurations that
//! are not valid are left out, as the feed does; a version may skip several.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use ringway_engine::plugin::{Chain, Step};
use ringway_engine::route::{Captures, Query};
use ringway_engine::view::{Target, View};
use ringway_snapshot::parse::parse_object;
use ringway_snapshot::validate::validate;
use ringway_snapshot::{Delta, Entry, Snapshot, Validator};
use serde_json::{Value, json};

const HOSTS: [&str; 4] = ["a.com", "*.b.com", "*", "c.com"];
const URIS: [&str; 6] = ["/x", "/x/*", "/x/:id", "/y*", "/x/:id/z", "/"];

fn upstream(form: u8) -> Value {
    json!({
        "nodes": {(format!("127.0.0.1:{}", 8000 + u16::from(form % 3))): 1},
        "timeout": if form > 7 { json!({"connect": 1, "send": 2, "read": form}) } else { Value::Null },
    })
}

/// Plugins that hold upstreams, name some, and do neither.
fn plugins(form: u8) -> Value {
    let id = (form % 3).to_string();
    let split = |to: Value| json!({"rules": [{"weighted_upstreams": [to, {"weight": 1}]}]});
    match form % 7 {
        0 => json!({"traffic-split": split(json!({"upstream_id": id}))}),
        1 => {
            json!({"traffic-split": split(json!({"upstream": {"nodes": {(format!("127.0.0.1:{}", 9000 + u16::from(form))): 1}}}))})
        }
        2 => json!({"proxy-mirror": {"host": format!("http://127.0.0.1:{}", 7000 + u16::from(form))}}),
        3 => json!({"proxy-rewrite": {"uri": format!("/{form}")}, "response-rewrite": {"status_code": 201}}),
        4 => json!({"proxy-rewrite": {"_meta": {"disable": true}, "uri": "/off"}}),
        _ => json!({}),
    }
}

/// Who may call: by key, with all that is known of them.
fn callers(view: &View) -> String {
    let told = |name: String| {
        let caller = view.callers().get(view.callers().by_key(name.as_bytes())?)?;
        let steps = caller.layer.iter().flat_map(|layer| layer.steps());
        let steps = steps.map(|step| with_clusters(view, step)).collect::<Vec<_>>();
        Some(format!("{} {:?} {:?} {steps:?}", caller.id, caller.group, caller.custom_id))
    };
    let keys = (0..20).flat_map(|id| (0..3).map(move |form| (id, form)));
    keys.filter_map(|(id, form)| told(format!("c{id}-{form}")).or_else(|| told(format!("k{id}-{form}"))))
        .collect::<Vec<_>>()
        .join(" | ")
}

fn with_clusters(view: &View, step: &Step) -> String {
    let clusters =
        step.places().iter().map(|place| view.cluster_at((*place)?).map(|cluster| format!("{cluster:?}")));
    format!("{} {:?}", step.name(), clusters.collect::<Vec<_>>())
}

/// A chain's plugins, each with the upstreams that it would send to: places are numbered as views came about.
fn chains(view: &View, target: Option<&Target>) -> String {
    let chains = view.chains(target);
    let steps = chains.global.iter().map(|chain| &**chain).chain(chains.route).flat_map(Chain::steps);
    let told = steps.map(|step| with_clusters(view, step));
    told.collect::<Vec<_>>().join(" | ")
}

fn object(kind: u8, id: u8, form: u8) -> Entry {
    let (reference, host) = ((form % 3).to_string(), HOSTS[usize::from(form) % HOSTS.len()]);
    let shows = |what: &str| json!({"key": format!("{what}{id}-{}", form % 3)});
    let consumer = |mut plugins: Value| {
        plugins["key-auth"] = shows("c");
        plugins
    };
    let (kind, mut spec) = match kind % 8 {
        5 => ("consumers", json!({"plugins": consumer(plugins(form)), "labels": {"custom_id": reference}})),
        6 => ("credentials", json!({"plugins": {"key-auth": shows("k")}})),
        7 => ("consumer_groups", json!({"plugins": plugins(form)})),
        0 => ("upstreams", upstream(form)),
        1 => ("services", json!({"enable_websocket": form.is_multiple_of(2), "plugins": plugins(form / 3)})),
        3 => ("plugin_configs", json!({"plugins": plugins(form)})),
        4 => ("global_rules", json!({"plugins": plugins(form / 2)})),
        _ => ("routes", json!({"uri": URIS[usize::from(form / 3) % URIS.len()], "priority": form % 5 / 3})),
    };
    if kind == "routes" {
        match form % 4 {
            0 => spec["host"] = json!(host),
            1 => spec["hosts"] = json!([host, "d.com"]),
            _ => {}
        }
        match form / 4 % 4 {
            0 => spec["upstream_id"] = json!(reference),
            1 | 2 => spec["service_id"] = json!(reference),
            _ => spec["upstream"] = upstream(form),
        }
        if form % 16 == 1 {
            // Both: the one that is named counts.
            (spec["upstream_id"], spec["upstream"]) = (json!(reference), upstream(form));
        }
        spec["status"] = json!(u8::from(!form.is_multiple_of(11)));
        if form.is_multiple_of(3) {
            spec["plugin_config_id"] = json!(reference);
        }
        if form.is_multiple_of(5) {
            spec["plugins"] = plugins(form);
        }
    } else if kind == "services" {
        match form / 2 % 4 {
            0 => spec["upstream_id"] = json!(reference),
            1 => spec["upstream"] = upstream(form),
            2 => spec["hosts"] = json!([host]),
            3 if form > 99 => {
                (spec["upstream_id"], spec["upstream"]) = (json!(reference), upstream(form));
            }
            _ => {}
        }
    }
    if kind == "consumers" && !form.is_multiple_of(4) {
        spec["group_id"] = json!(form % 3);
    }
    let id = if kind == "credentials" { format!("{}/credentials/{id}", id % 3) } else { id.to_string() };
    parse_object(kind, &id, &spec).unwrap()
}

/// All that a view says, as text.
fn told(view: &View) -> (Vec<String>, Vec<String>, String) {
    let mut routes: Vec<String> = view
        .routes
        .iter()
        .map(|listed| {
            let cluster = view.cluster(listed.payload);
            let timeouts = cluster.map(|cluster| listed.payload.timeouts(cluster));
            let target =
                (listed.payload.may_upgrade, &listed.payload.about.service_id, &listed.payload.about.route);
            let chains = chains(view, Some(listed.payload));
            format!(
                "{} {:?} {:?} {} {target:?} {cluster:?} {timeouts:?} {chains}",
                listed.id, listed.host, listed.uri, listed.priority
            )
        })
        .collect();
    routes.sort();
    let clusters = view.clusters().map(|cluster| format!("{cluster:?}")).collect();
    (
        routes,
        clusters,
        format!(
            "{:?} {:?} {} {} {} {}",
            view.version,
            view.counts,
            view.cluster_count(),
            view.routes.len(),
            chains(view, None),
            callers(view)
        ),
    )
}

fn decisions(view: &View) -> Vec<Option<String>> {
    let mut decisions = Vec::new();
    for host in ["a.com", "x.b.com", "c.com", "d.com", "e.com"] {
        for path in ["/x", "/x/1", "/x/1/z", "/y", "/yy/z", "/", "/q"] {
            let remote = IpAddr::from([127, 0, 0, 1]);
            let query =
                Query { method: b"GET", host: host.as_bytes(), path: path.as_bytes(), remote, facts: None };
            let found = view.routes.find(&query, &mut Captures::new());
            decisions.push(found.map(|target| {
                format!("{} {:?}", target.about.route_id, view.cluster(target).map(|c| &c.key))
            }));
        }
    }
    decisions
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn any_sequence_of_changes_gives_what_compiling_the_end_gives(
        rounds in prop::collection::vec(
            prop::collection::vec((0u8..8, 0u8..3, 0u8..6, prop::option::weighted(0.9, any::<u8>())), 1..8), 1..12),
    ) {
        // All that can be referred to is there at first, so that most configurations are valid.
        let start = (0..3).flat_map(|id| [object(0, id, id), object(1, id, id), object(3, id, id + 3), object(5, id, id), object(7, id, id + 1)]).collect();
        let mut wanted = Snapshot::new(1, 1, 0, start);
        let mut served = wanted.clone();
        let mut view = View::compile(&served).unwrap();
        let mut validator = Validator::new(&served.entries);
        for (revision, round) in (1..).zip(rounds) {
            for (kind, id, route, form) in round {
                let id = if kind == 2 || kind == 6 { id * 6 + route } else { id };
                match form {
                    Some(form) => drop(wanted.entries.put(Arc::new(object(kind, id, form)))),
                    None => drop(wanted.entries.remove(&object(kind, id, 0).key())),
                }
            }
            if !validate(&wanted.entries).is_empty() {
                continue;
            }
            let target = Snapshot::new(1, 1, revision, wanted.entries.iter().map(|entry| Entry::clone(entry)).collect());
            let newer = Delta::between(&served, &target).apply(&served).unwrap();
            prop_assert_eq!(newer.check_integrity(), Ok(()));
            prop_assert_eq!(newer.version.digest, target.version.digest);
            validator.change(&served.entries.changes(&newer.entries), &newer.entries);
            prop_assert_eq!(validator.faults(), Vec::new());
            let old_told = told(&view);
            let next = view.update(&served, &newer, &validator).unwrap();
            // The old one still serves requests that hold it.
            prop_assert_eq!(told(&view), old_told);
            let whole = View::compile(&target).unwrap();
            prop_assert_eq!(told(&next), told(&whole));
            prop_assert_eq!(decisions(&next), decisions(&whole));
            (served, view) = (newer, next);
        }
    }
}
