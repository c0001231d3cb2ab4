//! The metrics page, in Prometheus' text format (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! Names are stable and carry their unit; counters are told for each core, so that an uneven spread is seen.

pub(crate) mod apisix;
mod page;
mod routes;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

pub(crate) use self::page::BOUNDS;
use self::page::{Page, escaped, seconds};
use crate::access;
use crate::latency::Counts;
use crate::state::{Core, State};

/// The whole page.
pub(crate) fn page(state: &State) -> String {
    let mut page = Page::default();
    page.single("ringway_uptime_seconds", "gauge", "Time since the start.", state.uptime_ms() / 1000);
    page.single("ringway_ready", "gauge", "Whether /readyz says so.", u64::from(state.not_ready().is_none()));
    let draining = state.life.phase() != crate::drain::Phase::Serving;
    page.single("ringway_draining", "gauge", "Whether it is on its way out.", u64::from(draining));
    let name = "ringway_build_info";
    page.head(name, "gauge", "Which build runs, and on which node.");
    let labels = format!("version=\"{}\",node=\"{}\"", env!("CARGO_PKG_VERSION"), escaped(&state.node));
    page.row(name, &labels, 1);
    cores(&mut page, state);
    times(&mut page, state);
    access_log(&mut page, state);
    if let Some(routes) = state.ledger.routes() {
        routes::append(&mut page, &routes);
    }
    nodes(&mut page, state);
    feed(&mut page, state);
    page.finish()
}

type Row = (&'static str, &'static str, &'static str, fn(&Core) -> u64);

const CORE_ROWS: [Row; 25] = [
    ("ringway_connections_open", "gauge", "Client connections.", |c| c.counters.connections.get()),
    ("ringway_connections_accepted_total", "counter", "Client connections taken.", |c| {
        c.counters.accepted.get()
    }),
    ("ringway_connections_shed_total", "counter", "Client connections dropped at the limit.", |c| {
        c.counters.shed.get()
    }),
    ("ringway_requests_total", "counter", "Requests whose head was whole.", |c| c.counters.requests.get()),
    ("ringway_requests_refused_total", "counter", "Requests that are not HTTP.", |c| {
        c.counters.refused_heads.get()
    }),
    ("ringway_requests_unrouted_total", "counter", "Requests that no route matched.", |c| {
        c.counters.no_route.get()
    }),
    ("ringway_requests_client_gone_total", "counter", "Clients that left before their answer.", |c| {
        c.counters.client_gone.get()
    }),
    ("ringway_received_bytes_total", "counter", "Bytes of finished requests that came from clients.", |c| {
        c.counters.received_bytes.get()
    }),
    ("ringway_sent_bytes_total", "counter", "Bytes of finished requests that went to clients.", |c| {
        c.counters.sent_bytes.get()
    }),
    ("ringway_upstream_failures_total", "counter", "Tries that a node failed.", |c| {
        c.counters.upstream_failures.get()
    }),
    ("ringway_upstream_connects_total", "counter", "Connections made to nodes.", |c| {
        c.counters.upstream_connects.get()
    }),
    ("ringway_upstream_reuses_total", "counter", "Requests on kept connections.", |c| {
        c.counters.upstream_reuses.get()
    }),
    ("ringway_upstream_retries_total", "counter", "Further tries.", |c| c.counters.retries.get()),
    (
        "ringway_upstream_retries_refused_total",
        "counter",
        "Further tries that the retry budget did not allow.",
        |c| c.counters.retries_refused.get(),
    ),
    ("ringway_mirrored_requests_total", "counter", "Copies of requests sent aside (proxy-mirror).", |c| {
        c.counters.copies.get()
    }),
    (
        "ringway_mirrored_requests_left_out_total",
        "counter",
        "Copies of requests that were not sent: too many under way, too large, or nowhere to go.",
        |c| c.counters.copies_left_out.get(),
    ),
    (
        "ringway_request_bodies_looked_into_total",
        "counter",
        "Bodies that were read before their requests were routed, for conditions on them (post_arg).",
        |c| c.counters.bodies_looked_into.get(),
    ),
    (
        "ringway_request_bodies_too_large_to_look_into_total",
        "counter",
        "Bodies that conditions asked for, and that were larger than --looked-body-bytes-max.",
        |c| c.counters.bodies_not_looked_into.get(),
    ),
    (
        "ringway_looked_into_bytes_held",
        "gauge",
        "Bytes of bodies that requests hold because of conditions on them.",
        |c| c.counters.looked_bytes.get(),
    ),
    (
        "ringway_answers_too_costly_to_filter_total",
        "counter",
        "Answers that were not given because filtering them (response-rewrite) takes too much work.",
        |c| c.counters.filters_too_costly.get(),
    ),
    ("ringway_connection_panics_total", "counter", "Connections ended by a bug of ours.", |c| {
        c.counters.panics.get()
    }),
    ("ringway_core_dead", "gauge", "Whether the core's thread has died.", |c| {
        u64::from(c.dead.load(Relaxed))
    }),
    ("ringway_core_stalls_total", "counter", "Turns of its loop that came late by 50 ms or more.", |c| {
        c.counters.stalls.get()
    }),
    (
        "ringway_upstream_connections_idle",
        "gauge",
        "Kept connections to nodes, as of the last second.",
        |c| c.counters.pooled.get(),
    ),
    ("ringway_core_revision", "gauge", "Revision that the core serves.", |c| {
        c.served_version().map_or(0, |v| v.revision)
    }),
];

/// In microseconds here, in seconds on the page.
const CORE_TIMES: [Row; 2] = [
    (
        "ringway_core_stuck_seconds",
        "gauge",
        "For how long its loop has not turned, once that is too long.",
        |c| c.stuck_ms.load(Relaxed).saturating_mul(1_000),
    ),
    ("ringway_core_stalled_seconds_total", "counter", "Time by which those turns came late.", |c| {
        c.counters.stalled_us.get()
    }),
];

fn cores(page: &mut Page, state: &State) {
    for (name, kind, help, us) in CORE_TIMES {
        page.head(name, kind, help);
        for (number, core) in state.cores.iter().enumerate() {
            page.row(name, &format!("core=\"{number}\""), seconds(us(core)));
        }
    }
    for (name, kind, help, value) in CORE_ROWS {
        page.head(name, kind, help);
        for (number, core) in state.cores.iter().enumerate() {
            page.row(name, &format!("core=\"{number}\""), value(core));
        }
    }
    let name = "ringway_responses_total";
    page.head(name, "counter", "Answers to clients by class of status.");
    for (number, core) in state.cores.iter().enumerate() {
        let counters = &core.counters;
        for (class, counter) in [
            ("1xx", &counters.responses_1xx),
            ("2xx", &counters.responses_2xx),
            ("3xx", &counters.responses_3xx),
            ("4xx", &counters.responses_4xx),
            ("5xx", &counters.responses_5xx),
        ] {
            page.row(name, &format!("core=\"{number}\",class=\"{class}\""), counter.get());
        }
    }
}

/// How long things took, and how they were answered, of all cores together.
fn times(page: &mut Page, state: &State) {
    let name = "ringway_responses_by_code_total";
    page.head(name, "counter", "Answers to clients by status; 600 stands for what is no status of HTTP.");
    for (code, count) in codes(state) {
        page.row(name, &format!("code=\"{code}\""), count);
    }
    let [requests, tries] = durations(state);
    page.histogram(
        "ringway_request_duration_seconds",
        "From a request's first byte to the last byte of its answer, without tunnels.",
        &requests,
    );
    page.histogram(
        "ringway_upstream_duration_seconds",
        "From the start of a try at a node to its end, without tunnels.",
        &tries,
    );
}

/// Answers by status, of all cores.
fn codes(state: &State) -> BTreeMap<u16, u64> {
    let mut codes = BTreeMap::new();
    for (code, count) in state.cores.iter().flat_map(|core| core.counters.statuses.seen()) {
        *codes.entry(code).or_default() += count;
    }
    codes
}

/// Times of requests and of tries at nodes, of all cores.
fn durations(state: &State) -> [Counts; 2] {
    let mut sums = [Counts::default(), Counts::default()];
    for core in &state.cores {
        sums[0].add(&core.latency.request.copy());
        sums[1].add(&core.latency.upstream.copy());
    }
    sums
}

fn access_log(page: &mut Page, state: &State) {
    let lines = state.ledger.lines.load(Relaxed);
    page.single(
        "ringway_access_log_lines_total",
        "counter",
        "Lines of the access log that were written.",
        lines,
    );
    let name = "ringway_access_log_dropped_total";
    page.head(
        name,
        "counter",
        "Those that were lost: at the cores because nobody took them, or because they could not be written.",
    );
    let (rings, lines) = access::dropped(state);
    page.row(name, "at=\"core\"", rings);
    page.row(name, "at=\"file\"", lines);
}

fn nodes(page: &mut Page, state: &State) {
    let ward = state.ward.open();
    let sick: usize = ward.watch.sick().map(|(_, standing)| standing.nodes.len()).sum();
    let watched = ward.watch.watched();
    drop(ward);
    page.single("ringway_upstream_nodes_checked", "gauge", "Nodes that are probed.", watched as u64);
    page.single(
        "ringway_upstream_nodes_unhealthy",
        "gauge",
        "Of them, those that are unhealthy.",
        sick as u64,
    );
}

fn feed(page: &mut Page, state: &State) {
    let name = "ringway_controlplane_silence_seconds";
    page.single(name, "gauge", "Time since a control plane was heard.", state.silence().as_secs());
    let feed = state.feed();
    let version = feed.view.as_ref().map(|view| view.version).unwrap_or_default();
    page.single("ringway_config_revision", "gauge", "Revision that every core serves.", version.revision);
    page.single(
        "ringway_config_timeline",
        "gauge",
        "Timeline of that revision.",
        u64::from(version.timeline),
    );
    page.single("ringway_config_versions_alive", "gauge", "Versions in memory.", feed.views_alive as u64);
    page.single(
        "ringway_config_refused",
        "gauge",
        "Whether a newer one is refused.",
        u64::from(feed.last_refusal.is_some()),
    );
    page.single(
        "ringway_config_unsaved",
        "gauge",
        "Whether it cannot be written to disk.",
        u64::from(feed.disk_error.is_some()),
    );
    let counts = feed.view.as_ref().map(|view| view.counts).unwrap_or_default();
    page.single("ringway_config_routes", "gauge", "Routes in it.", counts.routes as u64);
    if let Some(applied) = feed.applied_at {
        page.single(
            "ringway_config_age_seconds",
            "gauge",
            "Time since it was applied.",
            applied.elapsed().as_secs(),
        );
    }
    let saved = feed.saved.map_or(0, |version| version.revision);
    page.single("ringway_config_saved_revision", "gauge", "Revision that is on disk.", saved);
    let name = "ringway_config_applied_total";
    page.head(name, "counter", "Configurations applied, by how they came.");
    page.row(name, "form=\"full\"", feed.fulls);
    page.row(name, "form=\"delta\"", feed.deltas);
    if let Some(stages) = feed.stages {
        let name = "ringway_config_apply_stage_seconds";
        page.head(
            name,
            "gauge",
            "Time from the first byte of the last configuration to the end of each stage.",
        );
        for (stage, us) in [
            ("received", stages.received_us),
            ("decoded", stages.decoded_us),
            ("compiled", stages.compiled_us),
            ("first_core", stages.first_core_us),
            ("last_core", stages.last_core_us),
        ] {
            page.row(name, &format!("stage=\"{stage}\""), seconds(us));
        }
    }
}
