//! What is counted for each route, where an operator wants that (`--metrics-per-route N`).
//!
//! Counted from the records, beside the cores, so that a request pays nothing more for it; records that a core had to drop are missing here.
//!
//! Invariant: no more than N routes are told apart. Those that come later are counted together, as [`OTHERS`].

use std::collections::BTreeMap;

use super::record::{Record, Text};
use crate::metrics::BOUNDS;

/// Stands for the routes beyond the bound.
pub(crate) const OTHERS: &str = "_others";

/// Counts by route.
#[derive(Debug)]
pub(crate) struct Routes {
    routes_max: usize,
    by_key: BTreeMap<Key, Route>,
}

/// A route, with its service and its upstream; all empty: no route matched.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) route: String,
    pub(crate) service: String,
    pub(crate) upstream: String,
}

/// One route's counts.
#[derive(Debug, Default)]
pub(crate) struct Route {
    pub(crate) codes: BTreeMap<u16, u64>,
    /// The whole, the nodes' part, the gateway's own part.
    pub(crate) request: Times,
    pub(crate) upstream: Times,
    pub(crate) own: Times,
    pub(crate) received_bytes: u64,
    pub(crate) sent_bytes: u64,
}

/// Times in the buckets of the metrics page.
#[derive(Debug, Default)]
pub(crate) struct Times {
    /// Those that are in the bucket and in none before it.
    pub(crate) buckets: [u64; BOUNDS.len()],
    pub(crate) count: u64,
    pub(crate) sum_us: u64,
}

impl Times {
    /// How many were at most as long as each bound, and at last all.
    pub(crate) fn buckets_summed(&self) -> Vec<u64> {
        let mut sum = 0;
        let sums = self.buckets.iter().map(|count| {
            sum += count;
            sum
        });
        let mut sums: Vec<u64> = sums.collect();
        sums.push(self.count);
        sums
    }

    pub(crate) fn add(&mut self, other: &Times) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(own, more)| *own += more);
        self.count += other.count;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    fn record(&mut self, us: u64) {
        let place = BOUNDS.iter().position(|(bound_us, _)| us <= *bound_us);
        if let Some(bucket) = place.and_then(|place| self.buckets.get_mut(place)) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }
}

impl Routes {
    pub(crate) fn new(routes_max: usize) -> Routes {
        Routes { routes_max, by_key: BTreeMap::new() }
    }

    /// Every route that there was, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Route)> {
        self.by_key.iter()
    }

    pub(crate) fn count(&mut self, record: &Record<'_>) {
        let text = |text| String::from_utf8_lossy(record.text(text).bytes).into_owned();
        let key =
            Key { route: text(Text::Route), service: text(Text::Service), upstream: text(Text::Upstream) };
        let is_full = self.by_key.len() >= self.routes_max;
        let key = if is_full && !key.route.is_empty() && !self.by_key.contains_key(&key) {
            Key { route: OTHERS.to_owned(), ..Key::default() }
        } else {
            key
        };
        let route = self.by_key.entry(key).or_default();
        *route.codes.entry(record.status).or_default() += 1;
        route.received_bytes = route.received_bytes.saturating_add(record.received_bytes);
        route.sent_bytes = route.sent_bytes.saturating_add(record.sent_bytes);
        if record.status == 101 {
            return;
        }
        route.request.record(record.request_us);
        let upstream_us = record.tries_told().iter().map(|entry| u64::from(entry.total_us)).sum::<u64>();
        if record.try_count > 0 {
            route.upstream.record(upstream_us);
        }
        route.own.record(record.request_us.saturating_sub(upstream_us));
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::sample;
    use super::*;

    #[test]
    fn routes_beyond_the_bound_are_counted_together() {
        let mut routes = Routes::new(2);
        for route in [b"a", b"b", b"c", b"d", b"a"] {
            routes.count(&sample([b"GET", b"", b"/", b"", b"", route, b"", b"", b"", b""]));
        }
        let told: Vec<(&str, u64)> =
            routes.iter().map(|(key, route)| (&*key.route, route.request.count)).collect();
        assert_eq!(told, [("_others", 2), ("a", 2), ("b", 1)]);
        let (_, a) = routes.iter().nth(1).unwrap();
        assert_eq!((a.codes[&200], a.sent_bytes, a.request.sum_us), (2, 10_864, 4_003_400));
        assert_eq!((a.upstream.sum_us, a.own.sum_us), (4_003_000, 400));
    }
}
