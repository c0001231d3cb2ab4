//! What a roster promises: shares, priorities, panic, breakers, versions; and with random steps, what it must never pick.

use std::collections::HashMap as Map;
use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::upstream::{NodeStanding, Order};

const TYPES: [&str; 4] = ["roundrobin", "chash", "least_conn", "ewma"];

/// Nodes as port, weight and priority.
pub(super) fn cluster(kind: &str, nodes: &[(u16, u32, i32)], labels: &str) -> Arc<Cluster> {
    let nodes: Vec<String> = nodes
        .iter()
        .map(|(port, weight, priority)| {
            format!(r#"{{"host":"10.0.0.1","port":{port},"weight":{weight},"priority":{priority}}}"#)
        })
        .collect();
    let json = format!(
        r#"{{"type": "{kind}", "key": "remote_addr", "labels": {{{labels}}}, "nodes": [{}]}}"#,
        nodes.join(",")
    );
    Arc::new(Cluster::compile("upstreams/1".into(), &serde_json::from_str(&json).unwrap()).unwrap())
}

pub(super) fn port(cluster: &Cluster, ticket: &Ticket) -> u16 {
    cluster.endpoints[ticket.index].address.tcp().unwrap().port()
}

pub(super) fn ask(hash: u64, excluded: &[usize], now_ms: u64) -> Ask<'_> {
    Ask { hash: mix(hash), excluded, now_ms }
}

pub(super) fn standing(nodes: &[(u16, NodeStanding)]) -> Arc<Standing> {
    let nodes =
        nodes.iter().map(|(port, standing)| (SocketAddr::new([10, 0, 0, 1].into(), *port).into(), *standing));
    Arc::new(Standing { nodes: nodes.collect(), resolved: None })
}

pub(super) const OK: Outcome = Outcome::Answered { status: 200, latency_us: 1_000 };
const REFUSED: Outcome = Outcome::Failed(UpstreamFault::Connect);

pub(super) fn spread(roster: &mut Roster, picks: u64, now_ms: u64) -> Map<u16, u64> {
    let mut counts = Map::new();
    for hash in 0..picks {
        let ticket = roster.pick(&ask(hash, &[], now_ms)).unwrap();
        *counts.entry(port(roster.cluster(), &ticket)).or_insert(0) += 1;
        roster.finish(ticket, OK, now_ms);
    }
    counts
}

#[test]
fn every_balancer_spreads_by_weight() {
    let nodes: Vec<(u16, u32, i32)> =
        [3, 1, 0, 6, 2, 8].into_iter().zip(1..).map(|(weight, port)| (port, weight, 0)).collect();
    let many: Vec<(u16, u32, i32)> = (1..=40).map(|port| (port, 1 + u32::from(port % 3), 0)).collect();
    for (kind, nodes) in TYPES.into_iter().flat_map(|kind| [(kind, &nodes), (kind, &many)]) {
        let total: u32 = nodes.iter().map(|(_, weight, _)| weight).sum();
        for core in [0, 3] {
            let counts = spread(&mut Roster::new(cluster(kind, nodes, ""), None, core, 0), 100_000, 0);
            for (port, weight, _) in nodes {
                let share = counts.get(port).copied().unwrap_or(0) as f64 / 1e5;
                let ideal = f64::from(*weight) / f64::from(total);
                assert!((share - ideal).abs() < 0.01, "{kind}: node {port} has {share} for {ideal}");
                assert!(*weight > 0 || share == 0.0);
            }
        }
    }
}

#[test]
fn cores_do_not_march_in_step() {
    for nodes in [3u16, 40] {
        let same = cluster("roundrobin", &(1..=nodes).map(|port| (port, 1, 0)).collect::<Vec<_>>(), "");
        let mut firsts = Map::new();
        for core in 0..usize::from(nodes) {
            let mut roster = Roster::new(Arc::clone(&same), None, core, 0);
            *firsts.entry(roster.pick(&ask(0, &[], 0)).unwrap().index).or_insert(0) += 1;
        }
        assert!(firsts.values().all(|count| *count <= 4), "{nodes} nodes: {firsts:?}");
    }
}

#[test]
fn a_lower_priority_serves_only_while_no_higher_node_is_usable() {
    for kind in TYPES {
        let cluster = cluster(kind, &[(1, 1, 5), (2, 1, 5), (3, 1, 0), (4, 0, 9)], "");
        let mut roster = Roster::new(cluster, None, 0, 0);
        let ports = |roster: &mut Roster| {
            let mut ports: Vec<u16> = spread(roster, 100, 0).into_keys().collect();
            ports.sort_unstable();
            ports
        };
        assert_eq!(ports(&mut roster), [1, 2], "{kind}");
        let sick = NodeStanding { healthy: false, ..NodeStanding::default() };
        roster.heed(Some(&standing(&[(1, sick)])));
        assert_eq!(ports(&mut roster), [2], "{kind}");
        roster.heed(Some(&standing(&[(1, sick), (2, sick)])));
        assert_eq!(ports(&mut roster), [3], "{kind}");
        // A request that the lower one failed may still go to those above.
        let ticket = roster.pick(&ask(1, &[2], 0)).unwrap();
        assert!(ticket.index < 2, "{kind}");
        roster.finish(ticket, OK, 0);
        roster.heed(Some(&standing(&[(1, sick), (2, sick), (3, sick)])));
        assert_eq!(ports(&mut roster), [1, 2], "{kind}: none is healthy, all of the highest serve");
        let down = NodeStanding { order: Order::Down, ..sick };
        roster.heed(Some(&standing(&[(1, down), (2, down), (3, down)])));
        assert_eq!(roster.pick(&ask(0, &[], 0)), None, "{kind}");
    }
}

#[test]
fn with_fewer_healthy_nodes_than_the_threshold_all_serve() {
    let nodes: Vec<(u16, u32, i32)> = (1..=4).map(|port| (port, 1, 0)).collect();
    let sick = NodeStanding { healthy: false, ..NodeStanding::default() };
    for (percent, sick_count, served) in [(0, 3, 1), (50, 2, 2), (51, 2, 4), (100, 1, 4)] {
        let labels = format!(r#""ringway.panic-percent": "{percent}""#);
        let mut roster = Roster::new(cluster("roundrobin", &nodes, &labels), None, 0, 0);
        roster.heed(Some(&standing(&(1..=sick_count).map(|port| (port, sick)).collect::<Vec<_>>())));
        assert_eq!(spread(&mut roster, 100, 0).len(), served, "{sick_count} of 4 sick at {percent} %");
    }
}

#[test]
fn a_node_that_refuses_is_left_alone_until_one_request_found_it_well() {
    for kind in TYPES {
        let mut roster = Roster::new(cluster(kind, &[(1, 1, 0), (2, 1, 0)], ""), None, 0, 0);
        let mut refused = 0;
        let mut serve = |roster: &mut Roster, now_ms: u64, dead: bool| {
            let mut refused_now = 0;
            for hash in 0..200 {
                let ticket = roster.pick(&ask(hash, &[], now_ms)).unwrap();
                let fails = dead && ticket.index == 0;
                refused_now += u32::from(fails);
                roster.finish(ticket, if fails { REFUSED } else { OK }, now_ms);
            }
            refused += refused_now;
            refused_now
        };
        assert_eq!(serve(&mut roster, 0, true), 5, "{kind}");
        assert_eq!(serve(&mut roster, 1_999, true), 0, "{kind}");
        assert!(serve(&mut roster, 2_000, true) <= 1, "{kind}: one tries");
        assert_eq!(serve(&mut roster, 20_000, false), 0);
        let report: Vec<_> = roster.report(20_000).collect();
        assert!(report.iter().all(|node| node.usable && node.open == 0), "{kind}: {report:?}");
    }
}

#[test]
fn another_node_or_weight_keeps_what_is_known_of_the_rest() {
    let mut roster = Roster::new(cluster("least_conn", &[(1, 1, 0), (2, 1, 0)], ""), None, 0, 0);
    let held: Vec<Ticket> = (0..4).map(|hash| roster.pick(&ask(hash, &[], 0)).unwrap()).collect();
    roster.follow(&cluster("least_conn", &[(9, 1, 0), (2, 1, 0), (1, 1, 0)], ""));
    let open = |roster: &Roster| roster.report(0).map(|node| node.open).collect::<Vec<_>>();
    assert_eq!(open(&roster), [0, 2, 2]);
    // Gone and back: what ends now was not begun at this node.
    roster.follow(&cluster("least_conn", &[(2, 1, 0)], ""));
    roster.follow(&cluster("least_conn", &[(1, 1, 0), (2, 1, 0)], ""));
    assert_eq!(open(&roster), [0, 2]);
    held.into_iter().for_each(|ticket| roster.finish(ticket, OK, 0));
    assert_eq!(open(&roster), [0, 0]);
    let mut roster = Roster::new(cluster("roundrobin", &[(1, 1, 0), (2, 1, 0), (3, 1, 0)], ""), None, 0, 0);
    let ticket = roster.pick(&ask(0, &[], 0)).unwrap();
    assert_eq!(port(roster.cluster(), &ticket), 1);
    roster.follow(&cluster("roundrobin", &[(1, 1, 0), (2, 1, 0)], ""));
    // A restart of the cycle would pick the first node again.
    let ticket = roster.pick(&ask(0, &[], 0)).unwrap();
    assert_eq!(port(roster.cluster(), &ticket), 2);
}

#[test]
fn a_request_of_an_older_version_gets_that_versions_nodes() {
    let older = cluster("roundrobin", &[(1, 1, 0), (2, 1, 0)], "");
    let mut roster = Roster::new(cluster("roundrobin", &[(2, 1, 0), (3, 1, 0)], ""), None, 0, 0);
    let ticket = roster.pick_of(&older, &ask(0, &[1], 0)).unwrap();
    assert_eq!((ticket.index, port(&older, &ticket)), (0, 1));
    roster.finish(ticket, REFUSED, 0);
    let ticket = roster.pick_of(&older, &ask(0, &[0], 0)).unwrap();
    assert_eq!((ticket.index, port(&older, &ticket)), (1, 2));
    assert_eq!(roster.report(0).map(|node| node.open).collect::<Vec<_>>(), [1, 0]);
    roster.finish(ticket, OK, 0);
    assert_eq!(roster.pick_of(&older, &ask(0, &[0, 1], 0)), None);
    assert_eq!(roster.pick_of(&cluster("chash", &[], ""), &ask(0, &[], 0)), None);
}

#[test]
fn a_full_node_is_passed_over_even_in_panic() {
    let labels = r#""ringway.node-requests-max": "2""#;
    let mut roster = Roster::new(cluster("roundrobin", &[(1, 1, 0), (2, 1, 0)], labels), None, 0, 0);
    let held: Vec<_> = (0..4).filter_map(|hash| roster.pick(&ask(hash, &[], 0))).collect();
    assert_eq!(held.len(), 4);
    assert_eq!(roster.pick(&ask(0, &[], 0)), None);
    roster.finish(held[1], OK, 0);
    assert_eq!(roster.pick(&ask(0, &[], 0)).map(|ticket| ticket.index), Some(held[1].index));
}

#[test]
fn requests_tell_passive_checks_what_counts_in_a_row() {
    let json = r#"{"nodes": {"10.0.0.1:1": 1}, "checks": {"active": {}, "passive": {}}}"#;
    let cluster = Cluster::compile("u".into(), &serde_json::from_str(json).unwrap()).unwrap();
    let mut roster = Roster::new(Arc::new(cluster), None, 0, 0);
    let answered = |status| Outcome::Answered { status, latency_us: 1 };
    for outcome in [
        answered(500),
        answered(500),
        answered(200),
        answered(404),
        Outcome::Unknown,
        Outcome::Failed(UpstreamFault::Closed),
        Outcome::Failed(UpstreamFault::ReadTimeout),
    ] {
        let ticket = roster.pick(&ask(0, &[], 0)).unwrap();
        roster.finish(ticket, outcome, 0);
    }
    let mut told = Vec::new();
    roster.take_tallies(|_, tally| told.push((tally.before.http, tally.successes, tally.since)));
    roster.take_tallies(|_, _| panic!("told twice"));
    let since = super::super::Rows { http: 0, tcp: 1, timeout: 1 };
    assert_eq!(told, [(2, 1, since)]);
}

const LIMITED: &str =
    r#""ringway.node-requests-max": "3", "ringway.eject-failures": "2", "ringway.slow-start-s": "5""#;

#[derive(Debug, Clone)]
enum Step {
    Pick { excluded: Vec<usize>, of_older: bool },
    Finish { which: usize, fails: bool },
    Heed(Vec<(u16, bool, u8, Option<u32>)>),
    Follow(Vec<(u16, u32, i32)>),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let nodes = proptest::collection::vec((1u16..24, 0u32..4, 0i32..3), 0..22);
    let sight = (1u16..24, any::<bool>(), 0u8..3, proptest::option::of(0u32..3));
    prop_oneof![
        8 => (proptest::collection::vec(0usize..22, 0..3), proptest::bool::weighted(0.1))
            .prop_map(|(excluded, of_older)| Step::Pick { excluded, of_older }),
        6 => (any::<usize>(), proptest::bool::weighted(0.4)).prop_map(|(which, fails)| Step::Finish { which, fails }),
        1 => proptest::collection::vec(sight, 0..20).prop_map(Step::Heed),
        1 => nodes.prop_map(Step::Follow),
        1 => (0u64..5_000).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever happens: none that is down, drained, weightless or excluded, and none that is sick while a better one is there.
    #[test]
    fn no_balancer_picks_what_it_must_not(
        kind in 0usize..4,
        limit in proptest::bool::ANY,
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        let labels = if limit { LIMITED } else { r#""ringway.eject-failures": "1""# };
        let make = |nodes: &[(u16, u32, i32)]| {
            let mut nodes = nodes.to_vec();
            nodes.sort_unstable_by_key(|(port, ..)| *port);
            nodes.dedup_by_key(|(port, ..)| *port);
            cluster(TYPES[kind], &nodes, labels)
        };
        let mut older = make(&[]);
        let mut roster = Roster::new(make(&[(1, 1, 0), (2, 2, 0), (3, 1, 1)]), None, 1, 0);
        let (mut held, mut now_ms) = (Vec::new(), 0);
        for (hash, step) in (0u64..).zip(steps) {
            match step {
                Step::Pick { excluded, of_older: true } => {
                    if let Some(ticket) = roster.pick_of(&older, &ask(hash, &excluded, now_ms)) {
                        prop_assert!(!excluded.contains(&ticket.index));
                        held.push(ticket);
                    }
                }
                Step::Pick { excluded, .. } => {
                    let before: Vec<Node> = {
                        roster.turn(now_ms);
                        roster.nodes.clone()
                    };
                    let endpoints = roster.cluster.endpoints.clone();
                    let is_free = |index: usize| !limit || before[index].open < 3;
                    let may = |index: &usize| !excluded.contains(index) && is_free(*index);
                    let best = (0..before.len()).filter(may).filter(|index| before[*index].usable);
                    let best_priority = best.map(|index| endpoints[index].priority).max();
                    let picked = roster.pick(&ask(hash, &excluded, now_ms));
                    if let Some(ticket) = picked {
                        let index = ticket.index;
                        prop_assert!(may(&index) && before[index].able, "{index}");
                        if let Some(priority) = best_priority {
                            prop_assert!(before[index].usable, "{index} is not well, another is");
                            prop_assert_eq!(endpoints[index].priority, priority);
                        }
                        held.push(ticket);
                    } else {
                        prop_assert_eq!(best_priority, None);
                    }
                }
                Step::Finish { which, fails } if !held.is_empty() => {
                    let ticket = held.swap_remove(which % held.len());
                    roster.finish(ticket, if fails { REFUSED } else { OK }, now_ms);
                }
                Step::Finish { .. } => {}
                Step::Heed(sights) => {
                    let of = |(port, healthy, order, weight): (u16, bool, u8, Option<u32>)| {
                        let order = [Order::Ready, Order::Drain, Order::Down][usize::from(order)];
                        (port, NodeStanding { order, weight, healthy })
                    };
                    roster.heed(Some(&standing(&sights.into_iter().map(of).collect::<Vec<_>>())));
                }
                Step::Follow(nodes) => {
                    older = Arc::clone(roster.cluster());
                    roster.follow(&make(&nodes));
                }
                Step::Wait(ms) => now_ms += ms,
            }
        }
        held.into_iter().for_each(|ticket| roster.finish(ticket, OK, now_ms));
        prop_assert!(roster.nodes.iter().all(|node| node.open == 0), "requests are counted that have ended");
    }
}
