//! Counts by route, where `--metrics-per-route` asks for them.

use super::page::{Page, escaped};
use crate::access::{Key, Routes};

/// Appends them.
pub(super) fn append(page: &mut Page, routes: &Routes) {
    let labels = |key: &Key| {
        let (route, service, upstream) = (escaped(&key.route), escaped(&key.service), escaped(&key.upstream));
        format!("route=\"{route}\",service=\"{service}\",upstream=\"{upstream}\"")
    };
    let name = "ringway_route_responses_total";
    page.head(name, "counter", "Answers by route, upstream and status; status 499 is a client that left.");
    for (key, route) in routes.iter() {
        for (code, count) in &route.codes {
            page.row(name, &format!("{},code=\"{code}\"", labels(key)), count);
        }
    }
    let name = "ringway_route_request_duration_seconds";
    page.head(name, "histogram", "From a request's first byte to the last byte of its answer, by route.");
    for (key, route) in routes.iter() {
        page.times(name, &format!("{},", labels(key)), &route.request);
    }
    let name = "ringway_route_upstream_duration_seconds";
    page.head(name, "histogram", "The part of it that nodes took, all tries together, by route.");
    for (key, route) in routes.iter() {
        page.times(name, &format!("{},", labels(key)), &route.upstream);
    }
    let name = "ringway_route_received_bytes_total";
    page.head(name, "counter", "Bytes of requests by route.");
    for (key, route) in routes.iter() {
        page.row(name, &labels(key), route.received_bytes);
    }
    let name = "ringway_route_sent_bytes_total";
    page.head(name, "counter", "Bytes sent to clients by route.");
    for (key, route) in routes.iter() {
        page.row(name, &labels(key), route.sent_bytes);
    }
}
