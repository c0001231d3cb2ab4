//! `show connections`, `show errors` and `show limits`: sums of counters, each of a size that does not grow with the traffic.

use ringway_snapshot::limits::NODE_WEIGHT_MAX;
use serde_json::{Value, json};

use super::Admin;
use crate::access;
use crate::state::{Counters, State};

/// A row for each core.
pub(super) fn connections(state: &State) -> Value {
    let rows = state.cores.iter().enumerate().map(|(number, core)| {
        let counters = &core.counters;
        let open = counters.connections.get();
        let busy = counters.busy.get();
        json!({
            "core": number,
            "open": open,
            "busy": busy,
            "idle": open.saturating_sub(busy),
            "accepted_total": counters.accepted.get(),
            "shed_total": counters.shed.get(),
            "upstream_connects_total": counters.upstream_connects.get(),
            "upstream_reuses_total": counters.upstream_reuses.get(),
            "received_bytes_total": counters.received_bytes.get(),
            "sent_bytes_total": counters.sent_bytes.get(),
        })
    });
    rows.collect()
}

/// What went wrong since the start, of all cores together.
pub(super) fn errors(state: &State) -> Value {
    let sum =
        |value: fn(&Counters) -> u64| -> u64 { state.cores.iter().map(|core| value(&core.counters)).sum() };
    let (rings, lines) = access::dropped(state);
    json!({
        "responses_4xx": sum(|c| c.responses_4xx.get()),
        "responses_5xx": sum(|c| c.responses_5xx.get()),
        "requests_refused": sum(|c| c.refused_heads.get()),
        "requests_unrouted": sum(|c| c.no_route.get()),
        "requests_client_gone": sum(|c| c.client_gone.get()),
        "upstream_failures": sum(|c| c.upstream_failures.get()),
        "upstream_retries": sum(|c| c.retries.get()),
        "upstream_retries_refused": sum(|c| c.retries_refused.get()),
        "connections_shed": sum(|c| c.shed.get()),
        "connection_panics": sum(|c| c.panics.get()),
        "access_records_dropped": rings,
        "access_lines_dropped": lines,
        "access_log_trouble": state.ledger.trouble(),
        "disk_error": state.feed().disk_error,
        "last_refusal": state.feed().last_refusal.as_ref().map(|refusal| refusal.text.clone()),
        "trouble": state.not_alive(),
    })
}

/// Limits that an operator may set, and how far they are used.
pub(super) fn limits(admin: &Admin) -> Value {
    let limits = &admin.limits;
    let ms = |wait: std::time::Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
    json!({
        "connections_max": limits.connections_max,
        "connections_open": admin.state.connections(),
        "connections_per_client_max": limits.connections_per_client_max,
        "looked_body_bytes_max": limits.looked_body_bytes_max,
        "looked_bodies_bytes_per_core_max": limits.looked_bodies_bytes_max,
        "requests_per_connection_max": limits.requests_per_connection_max,
        "connection_lifetime_ms": ms(limits.connection_lifetime),
        "request_head_bytes_max": limits.head.head_bytes_max,
        "request_fields_max": limits.head.fields_max,
        "request_target_bytes_max": limits.head.target_bytes_max,
        "request_head_timeout_ms": ms(limits.request_head),
        "request_body_timeout_ms": ms(limits.request_body_idle),
        "response_send_timeout_ms": ms(limits.response_send),
        "keepalive_timeout_ms": ms(limits.keepalive_idle),
        "tunnel_timeout_ms": ms(limits.tunnel_idle),
        "linger_timeout_ms": ms(limits.linger),
        "upstream_connect_timeout_ms": ms(limits.upstream_connect),
        "upstream_send_timeout_ms": ms(limits.upstream_send),
        "upstream_read_timeout_ms": ms(limits.upstream_read),
        "node_weight_max": NODE_WEIGHT_MAX,
    })
}
