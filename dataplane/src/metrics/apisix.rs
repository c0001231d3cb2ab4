//! The page under the names of APISIX's `prometheus` plugin, for dashboards and alerts that exist already.
//!
//! By route only with `--metrics-per-route`; without it `route` and `service` are empty. Latency is in milliseconds, as there. Labels that
//! have no meaning here (consumer, matched URI and host, node) are empty, and names that have none are left out.

use std::collections::BTreeMap;

use super::page::{BOUNDS, Page, escaped, milliseconds};
use crate::access::{Routes, Times};
use crate::latency::Counts;
use crate::state::{Core, State};

/// The whole page.
pub(crate) fn page(state: &State) -> String {
    let mut page = Page::default();
    let sum = |value: fn(&Core) -> u64| -> u64 { state.cores.iter().map(|core| value(core)).sum() };
    let name = "apisix_node_info";
    page.head(name, "gauge", "Info of the node.");
    let hostname = escaped(&state.node);
    page.row(name, &format!("hostname=\"{hostname}\",version=\"{}\"", env!("CARGO_PKG_VERSION")), 1);
    page.single(
        "apisix_http_requests_total",
        "counter",
        "Requests of clients.",
        sum(|core| core.counters.requests.get()),
    );
    let name = "apisix_nginx_http_current_connections";
    page.head(name, "gauge", "Client connections; accepted and handled are counts since the start.");
    let open = sum(|core| core.counters.connections.get());
    let busy = sum(|core| core.counters.busy.get());
    let accepted = sum(|core| core.counters.accepted.get());
    for (kind, value) in [
        ("active", open),
        ("accepted", accepted),
        ("handled", accepted),
        ("writing", busy),
        ("waiting", open.saturating_sub(busy)),
    ] {
        page.row(name, &format!("state=\"{kind}\""), value);
    }
    match state.ledger.routes() {
        Some(routes) => by_route(&mut page, &routes),
        None => whole(&mut page, state),
    }
    page.finish()
}

const STATUS: (&str, &str) = ("apisix_http_status", "Answers by status.");
const LATENCY: (&str, &str) = ("apisix_http_latency", "Time of requests in milliseconds.");
const BANDWIDTH: (&str, &str) = ("apisix_bandwidth", "Bytes of clients' requests and answers.");

fn labels(route: &str, service: &str) -> String {
    format!("route=\"{}\",service=\"{}\",consumer=\"\",node=\"\"", escaped(route), escaped(service))
}

fn by_route(page: &mut Page, routes: &Routes) {
    // Several upstreams of one route are told as one here: the names have no place for them.
    let mut statuses: BTreeMap<(String, u16), u64> = BTreeMap::new();
    let mut bytes: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    let mut times: BTreeMap<String, [Times; 3]> = BTreeMap::new();
    for (key, route) in routes.iter() {
        let labels = labels(&key.route, &key.service);
        for (code, count) in &route.codes {
            *statuses.entry((labels.clone(), *code)).or_default() += count;
        }
        let [ingress, egress] = bytes.entry(labels.clone()).or_default();
        *ingress += route.received_bytes;
        *egress += route.sent_bytes;
        let [request, upstream, own] = times.entry(labels).or_default();
        request.add(&route.request);
        upstream.add(&route.upstream);
        own.add(&route.own);
    }
    page.head(STATUS.0, "counter", STATUS.1);
    for ((labels, code), count) in statuses {
        page.row(STATUS.0, &format!("code=\"{code}\",matched_uri=\"\",matched_host=\"\",{labels}"), count);
    }
    page.head(LATENCY.0, "histogram", LATENCY.1);
    for (labels, times) in times {
        for (kind, times) in ["request", "upstream", "apisix"].iter().zip(times) {
            latency(page, &format!("type=\"{kind}\",{labels},"), times.buckets_summed(), times.sum_us);
        }
    }
    page.head(BANDWIDTH.0, "counter", BANDWIDTH.1);
    for (labels, both) in bytes {
        for (kind, bytes) in ["ingress", "egress"].iter().zip(both) {
            page.row(BANDWIDTH.0, &format!("type=\"{kind}\",{labels}"), bytes);
        }
    }
}

fn whole(page: &mut Page, state: &State) {
    let labels = labels("", "");
    page.head(STATUS.0, "counter", STATUS.1);
    for (code, count) in super::codes(state) {
        page.row(STATUS.0, &format!("code=\"{code}\",matched_uri=\"\",matched_host=\"\",{labels}"), count);
    }
    page.head(LATENCY.0, "histogram", LATENCY.1);
    let [request, upstream] = super::durations(state);
    for (kind, counts) in [("request", request), ("upstream", upstream)] {
        let count = |counts: &Counts, us| counts.at_most(us);
        let buckets = BOUNDS.iter().map(|(us, _)| count(&counts, *us)).chain([counts.count()]).collect();
        latency(page, &format!("type=\"{kind}\",{labels},"), buckets, counts.sum_us);
    }
    page.head(BANDWIDTH.0, "counter", BANDWIDTH.1);
    let sum = |value: fn(&Core) -> u64| -> u64 { state.cores.iter().map(|core| value(core)).sum() };
    let ingress = sum(|core| core.counters.received_bytes.get());
    let egress = sum(|core| core.counters.sent_bytes.get());
    page.row(BANDWIDTH.0, &format!("type=\"ingress\",{labels}"), ingress);
    page.row(BANDWIDTH.0, &format!("type=\"egress\",{labels}"), egress);
}

/// One histogram: `buckets` are sums up to each bound, and at last of all.
fn latency(page: &mut Page, labels: &str, buckets: Vec<u64>, sum_us: u64) {
    let bounds = BOUNDS.iter().map(|(us, _)| milliseconds(*us).to_string()).chain(["+Inf".to_owned()]);
    let count = buckets.last().copied().unwrap_or(0);
    for (bound, value) in bounds.zip(buckets) {
        page.row("apisix_http_latency_bucket", &format!("{labels}le=\"{bound}\""), value);
    }
    let labels = labels.trim_end_matches(',');
    page.row("apisix_http_latency_sum", labels, milliseconds(sum_us));
    page.row("apisix_http_latency_count", labels, count);
}
