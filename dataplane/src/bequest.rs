//! What a process knows of nodes, as it is handed to its successor: JSON with a number of its own.
//!
//! A successor says with its hello up to which number it understands; one of a release that says nothing gets nothing, and begins with
//! every node healthy. Fields that are not known are left out by whoever reads, so that a number changes only when a meaning does.

use std::net::IpAddr;

use ringway_engine::upstream::{FailureKind, KnownHealth, KnownOrder, Memory, Order, Rows};
use serde::{Deserialize, Serialize};

/// The highest number that is understood here.
pub(crate) const SCHEMA: u32 = 1;

/// See the module.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Bequest {
    healths: Vec<NodeHealth>,
    orders: Vec<NodeOrder>,
    names: Vec<(String, Vec<IpAddr>)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct NodeHealth {
    upstream: String,
    /// As `show upstreams` tells it.
    node: String,
    sick_by: Option<Kind>,
    #[serde(default)]
    in_requests: bool,
    #[serde(default)]
    successes: u32,
    #[serde(default)]
    failures: [u32; 3],
    for_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct NodeOrder {
    upstream: String,
    /// As `show upstreams` tells it.
    node: String,
    order: OrderWord,
    weight: Option<u32>,
    configured_weight: u32,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Http,
    Tcp,
    Timeout,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum OrderWord {
    Ready,
    Drain,
    Down,
}

/// Writes it down.
pub(crate) fn write(memory: Memory) -> serde_json::Result<Vec<u8>> {
    let health = |known: KnownHealth| NodeHealth {
        upstream: known.key,
        node: known.address.to_string(),
        sick_by: known.sick.map(|(kind, _)| match kind {
            FailureKind::Http => Kind::Http,
            FailureKind::Tcp => Kind::Tcp,
            FailureKind::Timeout => Kind::Timeout,
        }),
        in_requests: known.sick.is_some_and(|(_, in_requests)| in_requests),
        successes: known.successes,
        failures: [known.failures.http, known.failures.tcp, known.failures.timeout],
        for_ms: known.for_ms,
    };
    let order = |known: KnownOrder| NodeOrder {
        upstream: known.key,
        node: known.address.to_string(),
        order: match known.order {
            Order::Ready => OrderWord::Ready,
            Order::Drain => OrderWord::Drain,
            Order::Down => OrderWord::Down,
        },
        weight: known.weight,
        configured_weight: known.configured,
    };
    serde_json::to_vec(&Bequest {
        healths: memory.healths.into_iter().map(health).collect(),
        orders: memory.orders.into_iter().map(order).collect(),
        names: memory.names,
    })
}

/// Reads what a predecessor wrote.
pub(crate) fn read(bytes: &[u8]) -> serde_json::Result<Memory> {
    let bequest: Bequest = serde_json::from_slice(bytes)?;
    let health = |known: NodeHealth| {
        let [http, tcp, timeout] = known.failures;
        let kind = known.sick_by.map(|kind| match kind {
            Kind::Http => FailureKind::Http,
            Kind::Tcp => FailureKind::Tcp,
            Kind::Timeout => FailureKind::Timeout,
        });
        Some(KnownHealth {
            key: known.upstream,
            address: known.node.parse().ok()?,
            sick: kind.map(|kind| (kind, known.in_requests)),
            successes: known.successes,
            failures: Rows { http, tcp, timeout },
            for_ms: known.for_ms,
        })
    };
    let order = |known: NodeOrder| {
        Some(KnownOrder {
            key: known.upstream,
            address: known.node.parse().ok()?,
            order: match known.order {
                OrderWord::Ready => Order::Ready,
                OrderWord::Drain => Order::Drain,
                OrderWord::Down => Order::Down,
            },
            weight: known.weight,
            configured: known.configured_weight,
        })
    };
    Ok(Memory {
        healths: bequest.healths.into_iter().filter_map(health).collect(),
        orders: bequest.orders.into_iter().filter_map(order).collect(),
        names: bequest.names,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_not_known_is_left_out() {
        let memory = Memory {
            healths: vec![KnownHealth {
                key: "upstreams/u".into(),
                address: "10.0.0.1:80".parse().unwrap(),
                sick: Some((FailureKind::Timeout, true)),
                successes: 1,
                failures: Rows { http: 1, tcp: 2, timeout: 3 },
                for_ms: 7,
            }],
            orders: vec![KnownOrder {
                key: "routes/1".into(),
                address: "[::1]:80".parse().unwrap(),
                order: Order::Drain,
                weight: Some(4),
                configured: 1,
            }],
            names: vec![("a.test".into(), vec!["10.0.0.9".parse().unwrap()])],
        };
        assert_eq!(read(&write(memory.clone()).unwrap()).unwrap(), memory);
        let newer = br#"{"mood": 1, "healths": [{"upstream": "u", "node": "10.0.0.1:80", "sick_by": null, "for_ms": 1, "x": 2}]}"#;
        assert_eq!(read(newer).unwrap().healths.len(), 1);
        assert!(read(b"nonsense").is_err());
    }
}
