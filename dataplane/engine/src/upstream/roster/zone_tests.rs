//! The own zone: who is preferred, what spills over, and what other options make of it.

use std::collections::HashMap as Map;

use proptest::prelude::*;

use super::tests::{OK, ask, port, standing};
use super::*;
use crate::upstream::Order;

const SICK: NodeStanding = NodeStanding { order: Order::Ready, weight: None, healthy: false };
const DRAINED: NodeStanding = NodeStanding { order: Order::Drain, weight: None, healthy: true };
const TYPES: [&str; 4] = ["roundrobin", "chash", "least_conn", "ewma"];

/// Nodes as port, weight, priority and zone, for a gateway in zone a.
fn cluster(kind: &str, nodes: &[(u16, u32, i32, &str)], labels: &str) -> Arc<Cluster> {
    cluster_in(Some("a"), kind, nodes, labels)
}

fn cluster_in(zone: Option<&str>, kind: &str, nodes: &[(u16, u32, i32, &str)], labels: &str) -> Arc<Cluster> {
    let nodes: Vec<String> = nodes
        .iter()
        .map(|(port, weight, priority, zone)| {
            format!(
                r#"{{"host":"10.0.0.1","port":{port},"weight":{weight},"priority":{priority},"metadata":{{"zone":"{zone}"}}}}"#
            )
        })
        .collect();
    let json = format!(
        r#"{{"type": "{kind}", "key": "remote_addr", "labels": {{"ringway.zone-prefer": "on"{labels}}}, "nodes": [{}]}}"#,
        nodes.join(",")
    );
    Arc::new(Cluster::compile_in(zone, "upstreams/1".into(), &serde_json::from_str(&json).unwrap()).unwrap())
}

/// Four nodes in each of three zones: 1 to 4 in a, 5 to 8 in b, 9 to 12 in c.
fn three_zones() -> Vec<(u16, u32, i32, &'static str)> {
    (1..=12).map(|port| (port, 1, 0, ["a", "b", "c"][usize::from(port - 1) / 4])).collect()
}

fn spread(roster: &mut Roster, picks: u64, now_ms: u64) -> Map<u16, u64> {
    let mut counts = Map::new();
    for hash in 0..picks {
        let ticket = roster.pick(&ask(hash, &[], now_ms)).unwrap();
        *counts.entry(port(roster.cluster(), &ticket)).or_insert(0) += 1;
        roster.finish(ticket, OK, now_ms);
    }
    counts
}

/// Of requests, those that stay at the nodes 1 to 4.
fn own_share(roster: &mut Roster, now_ms: u64) -> f64 {
    let counts = spread(roster, 10_000, now_ms);
    counts.iter().filter(|(port, _)| **port <= 4).map(|(_, count)| *count as f64).sum::<f64>() / 1e4
}

#[test]
fn the_own_zone_serves_while_it_can_and_spills_over_in_proportion() {
    for kind in TYPES {
        let mut roster = Roster::new(cluster(kind, &three_zones(), ""), None, 0, 0);
        for (sick, want) in [(0, 1.0), (1, 1.0), (2, 0.714), (3, 0.357), (4, 0.0)] {
            let sights: Vec<_> = (1..=sick).map(|port| (port, SICK)).collect();
            roster.heed(Some(&standing(&sights)));
            let share = own_share(&mut roster, 0);
            assert!((share - want).abs() < 0.02, "{kind}, {sick} sick: {share} for {want}");
            let counts = spread(&mut roster, 4_000, 0);
            assert!((1..=sick).all(|port| !counts.contains_key(&port)), "{kind}: {counts:?}");
            let told: Vec<_> = roster.report(0).map(|node| node.kept_percent.unwrap()).collect();
            assert!(told.iter().all(|percent| f64::from(*percent) <= want * 100.0 + 1.0), "{told:?}");
        }
        // Operators' drains count as what they are: the zone can carry less.
        roster.heed(Some(&standing(&[(1, DRAINED), (2, DRAINED)])));
        let share = own_share(&mut roster, 0);
        assert!((share - 0.714).abs() < 0.02, "{kind}: {share}");
    }
}

#[test]
fn without_a_zone_or_without_the_option_nothing_is_preferred() {
    let all = |roster: &mut Roster| spread(roster, 1_200, 0).len();
    let other = cluster_in(None, "roundrobin", &three_zones(), "");
    assert_eq!(all(&mut Roster::new(other, None, 0, 0)), 12);
    let off = cluster("roundrobin", &three_zones(), r#", "ringway.zone-prefer": "off""#);
    assert_eq!(all(&mut Roster::new(off, None, 0, 0)), 12);
    let elsewhere = cluster_in(Some("d"), "roundrobin", &three_zones(), "");
    assert_eq!(all(&mut Roster::new(elsewhere, None, 0, 0)), 12);
}

#[test]
fn priority_comes_before_the_zone() {
    for kind in TYPES {
        let nodes = [(1, 1, 0, "a"), (2, 1, 9, "b"), (3, 1, 9, "a"), (4, 1, 0, "b")];
        let mut roster = Roster::new(cluster(kind, &nodes, ""), None, 0, 0);
        let mut next = |sights: &[(u16, NodeStanding)]| {
            roster.heed(Some(&standing(sights)));
            let mut ports: Vec<u16> = spread(&mut roster, 100, 0).into_keys().collect();
            ports.sort_unstable();
            ports
        };
        assert_eq!(next(&[]), [3], "{kind}");
        assert_eq!(next(&[(3, SICK)]), [2], "{kind}");
        assert_eq!(next(&[(3, SICK), (2, SICK)]), [1], "{kind}");
        assert_eq!(next(&[(3, SICK), (2, SICK), (1, SICK)]), [4], "{kind}");
        assert_eq!(
            next(&[(3, SICK), (2, SICK), (1, SICK), (4, SICK)]),
            [2, 3],
            "{kind}: panic knows no zone"
        );
    }
}

#[test]
fn a_request_that_its_zone_failed_goes_to_another_one() {
    for kind in TYPES {
        let mut roster = Roster::new(cluster(kind, &three_zones(), ""), None, 0, 0);
        for hash in 0..100 {
            let mut excluded = Vec::new();
            while let Some(ticket) = roster.pick(&ask(hash, &excluded, 0)) {
                assert_eq!(ticket.index < 4, excluded.len() < 4, "{kind}: {excluded:?}");
                excluded.push(ticket.index);
                roster.finish(ticket, Outcome::Unknown, 0);
            }
            assert_eq!(excluded.len(), 12, "{kind}");
        }
    }
}

#[test]
fn breakers_full_nodes_and_panic_let_requests_out_of_the_zone() {
    let labels = r#", "ringway.node-requests-max": "2""#;
    let mut roster = Roster::new(cluster("roundrobin", &three_zones(), labels), None, 0, 0);
    let held: Vec<Ticket> = (0..24).filter_map(|hash| roster.pick(&ask(hash, &[], 0))).collect();
    assert!(held[..8].iter().all(|ticket| ticket.index < 4), "the zone fills first");
    assert_eq!((held.len(), roster.pick(&ask(0, &[], 0))), (24, None));
    assert!(roster.is_full(&[]));
    held.into_iter().for_each(|ticket| roster.finish(ticket, OK, 0));
    // All of the zone refuse: only what finds that out is lost to it, and what is tried again is answered elsewhere.
    let mut roster = Roster::new(cluster("roundrobin", &three_zones(), ""), None, 0, 0);
    let mut refused = 0;
    for hash in 0..1_000 {
        let mut excluded = Vec::new();
        loop {
            let ticket = roster.pick(&ask(hash, &excluded, 0)).expect("a node of another zone");
            if ticket.index >= 4 {
                roster.finish(ticket, OK, 0);
                break;
            }
            refused += 1;
            excluded.push(ticket.index);
            roster.finish(ticket, Outcome::Failed(UpstreamFault::Connect), 0);
        }
    }
    assert_eq!(refused, 20, "five in a row for each of four nodes");
    // Half of everything is sick, and that is panic here: nothing is preferred.
    let labels = r#", "ringway.panic-percent": "60""#;
    let mut roster = Roster::new(cluster("roundrobin", &three_zones(), labels), None, 0, 0);
    let sick: Vec<_> = [1, 2, 3, 4, 5, 6].map(|port| (port, SICK)).to_vec();
    roster.heed(Some(&standing(&sick)));
    let counts = spread(&mut roster, 1_200, 0);
    assert!((1..=12).all(|port| (95..=105).contains(&counts[&port])), "{counts:?}");
}

#[test]
fn a_zone_that_comes_back_cold_takes_its_requests_back_bit_by_bit() {
    let labels = r#", "ringway.slow-start-s": "16""#;
    let mut roster = Roster::new(cluster("roundrobin", &three_zones(), labels), None, 0, 0);
    let sick: Vec<_> = [1, 2, 3, 4].map(|port| (port, SICK)).to_vec();
    roster.heed(Some(&standing(&sick)));
    assert_eq!(own_share(&mut roster, 0), 0.0);
    roster.heed(None);
    let mut shares = Vec::new();
    for second in 0..=16 {
        shares.push(own_share(&mut roster, 1_000 + second * 1_000));
    }
    assert!(shares[0] < 0.10, "{shares:?}");
    assert!(shares.is_sorted() && shares[16] == 1.0, "{shares:?}");
}

#[test]
fn a_key_that_need_not_move_does_not() {
    let mut roster = Roster::new(cluster("chash", &three_zones(), ""), None, 0, 0);
    let homes = |roster: &mut Roster| -> Vec<usize> {
        let mut home = |hash| {
            let ticket = roster.pick(&ask(hash, &[], 0)).unwrap();
            roster.finish(ticket, OK, 0);
            ticket.index
        };
        (0..5_000).map(&mut home).collect()
    };
    let before = homes(&mut roster);
    // Three of four still carry all: only the keys of the fourth move.
    roster.heed(Some(&standing(&[(1, SICK)])));
    let after = homes(&mut roster);
    assert!(before.iter().zip(&after).all(|(before, after)| before == after || *before == 0));
    assert_eq!(homes(&mut roster), after);
    // Another core, or another gateway of the zone, agrees.
    let mut other = Roster::new(cluster("chash", &three_zones(), ""), None, 5, 0);
    assert_eq!(homes(&mut other), before);
}

#[derive(Debug, Clone)]
enum Step {
    Pick(Vec<usize>),
    Finish(usize, bool),
    Heed(Vec<(u16, bool, u8, Option<u32>)>),
    Follow(Vec<(u16, u32, i32, usize)>),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let nodes = proptest::collection::vec((1u16..24, 0u32..4, 0i32..2, 0usize..3), 0..22);
    let sight = (1u16..24, any::<bool>(), 0u8..3, proptest::option::of(0u32..3));
    prop_oneof![
        8 => proptest::collection::vec(0usize..22, 0..4).prop_map(Step::Pick),
        6 => (any::<usize>(), proptest::bool::weighted(0.4)).prop_map(|(which, fails)| Step::Finish(which, fails)),
        1 => proptest::collection::vec(sight, 0..20).prop_map(Step::Heed),
        1 => nodes.prop_map(Step::Follow),
        1 => (0u64..5_000).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// With zones as without: none that is down, drained, weightless, full or excluded; none that is sick while a better one is there, in
    /// whatever zone; no request without a node while one may have it; and nothing leaves a zone that keeps all.
    #[test]
    fn a_zone_is_never_a_reason_for_a_worse_node(
        kind in 0usize..4,
        options in 0usize..4,
        steps in proptest::collection::vec(step(), 1..150),
    ) {
        let labels = [
            r#", "ringway.eject-failures": "1""#,
            r#", "ringway.node-requests-max": "3", "ringway.eject-failures": "2""#,
            r#", "ringway.slow-start-s": "5", "ringway.zone-spill-percent": "100""#,
            r#", "ringway.panic-percent": "50", "ringway.zone-spill-percent": "0""#,
        ][options];
        let make = |nodes: &[(u16, u32, i32, usize)]| {
            let mut nodes = nodes.to_vec();
            nodes.sort_unstable_by_key(|(port, ..)| *port);
            nodes.dedup_by_key(|(port, ..)| *port);
            let named: Vec<_> = nodes.iter().map(|(port, w, p, zone)| (*port, *w, *p, ["a", "b", "c"][*zone])).collect();
            cluster(TYPES[kind], &named, labels)
        };
        let mut roster = Roster::new(make(&[(1, 1, 0, 0), (2, 2, 0, 1), (3, 1, 1, 2)]), None, 1, 0);
        let (mut held, mut now_ms) = (Vec::new(), 0);
        for (hash, step) in (0u64..).zip(steps) {
            match step {
                Step::Pick(excluded) => {
                    roster.turn(now_ms);
                    let sight = Sight::of(&roster, &excluded, (options == 1).then_some(3));
                    match roster.pick(&ask(hash, &excluded, now_ms)) {
                        Some(ticket) => {
                            sight.judge(ticket.index);
                            held.push(ticket);
                        }
                        None => assert!(!sight.has_any(), "a request without a node"),
                    }
                }
                Step::Finish(which, fails) if !held.is_empty() => {
                    let ticket = held.swap_remove(which % held.len());
                    let outcome = if fails { Outcome::Failed(UpstreamFault::Connect) } else { OK };
                    roster.finish(ticket, outcome, now_ms);
                }
                Step::Finish(..) => {}
                Step::Heed(sights) => {
                    let of = |(port, healthy, order, weight): (u16, bool, u8, Option<u32>)| {
                        let order = [Order::Ready, Order::Drain, Order::Down][usize::from(order)];
                        (port, NodeStanding { order, weight, healthy })
                    };
                    roster.heed(Some(&standing(&sights.into_iter().map(of).collect::<Vec<_>>())));
                }
                Step::Follow(nodes) => roster.follow(&make(&nodes)),
                Step::Wait(ms) => now_ms += ms,
            }
            roster.check_zones();
        }
        held.into_iter().for_each(|ticket| roster.finish(ticket, OK, now_ms));
        prop_assert!(roster.nodes.iter().all(|node| node.open == 0), "requests are counted that have ended");
    }
}

/// What a pick may be, as it stands before it.
struct Sight {
    /// Those that may be picked at all.
    may: Vec<bool>,
    usable: Vec<bool>,
    panics: Vec<bool>,
    kept: Vec<Option<u8>>,
    cluster: Arc<Cluster>,
}

impl Sight {
    fn of(roster: &Roster, excluded: &[usize], open_max: Option<u32>) -> Sight {
        let nodes = || roster.nodes.iter();
        let is_free = |node: &Node| open_max.is_none_or(|max| node.open < max);
        let may = |(index, node): (usize, &Node)| !excluded.contains(&index) && is_free(node) && node.able;
        Sight {
            may: nodes().enumerate().map(may).collect(),
            usable: nodes().map(|node| node.usable).collect(),
            panics: nodes().map(|node| roster.tiers[node.tier as usize].panics).collect(),
            kept: nodes().map(|node| roster.kept_percent(node.tier as usize)).collect(),
            cluster: Arc::clone(&roster.cluster),
        }
    }

    fn has_any(&self) -> bool {
        (0..self.may.len()).any(|index| self.may[index] && (self.usable[index] || self.panics[index]))
    }

    fn judge(&self, index: usize) {
        let endpoints = &self.cluster.endpoints;
        assert!(self.may[index], "{index} must not be picked");
        let well = |index: &usize| self.may[*index] && self.usable[*index] && !self.panics[*index];
        let all_well = || (0..self.may.len()).filter(well);
        let Some(priority) = all_well().map(|index| endpoints[index].priority).max() else { return };
        assert!(well(&index), "{index} is not well, another is");
        assert_eq!(endpoints[index].priority, priority);
        let is_own = |index: usize| self.cluster.is_own(&endpoints[index]);
        let own_could = all_well().any(|index| is_own(index) && endpoints[index].priority == priority);
        if own_could && !is_own(index) {
            assert!(self.kept[index].is_some_and(|kept| kept < 100), "left a zone that keeps all");
        }
    }
}

impl Roster {
    /// What is counted bit by bit is what counting anew gives.
    fn check_zones(&self) {
        for (number, tier) in (0u32..).zip(&self.tiers) {
            let mut anew = Weights::default();
            for node in self.nodes.iter().filter(|node| node.tier == number) {
                anew.replace(Weights::default(), node.weighs);
                assert_eq!(node.weighs.usable > 0, node.usable);
                assert_eq!(node.weighs.able > 0, node.able);
            }
            assert_eq!(anew, tier.weights);
        }
    }
}
