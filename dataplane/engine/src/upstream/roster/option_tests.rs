//! What a roster does about nodes that say nothing, that are new, or full; each only where it is asked to.

use std::collections::HashMap as Map;

use proptest::prelude::*;

use super::tests::{OK, ask, cluster, spread, standing};
use super::*;
use crate::upstream::Order;

const SICK: NodeStanding = NodeStanding { order: Order::Ready, weight: None, healthy: false };
const CLOSED: Outcome = Outcome::Failed(UpstreamFault::Closed);

fn two_nodes() -> Roster {
    Roster::new(cluster("roundrobin", &[(1, 1, 0), (2, 1, 0)], ""), None, 0, 0)
}

/// So many requests to each of two nodes.
fn held(roster: &mut Roster, count: u64, now_ms: u64) -> (Vec<Ticket>, Vec<Ticket>) {
    let held: Vec<Ticket> =
        (0..2 * count).map(|hash| roster.pick(&ask(hash, &[], now_ms)).unwrap()).collect();
    held.into_iter().partition(|ticket| ticket.index == 0)
}

fn usable(roster: &Roster) -> Vec<bool> {
    roster.report(0).map(|node| node.usable).collect()
}

fn is_unsuspected(roster: &mut Roster, ticket: &mut Ticket, now_ms: u64) -> bool {
    matches!(roster.suspicion(ticket, true, now_ms), Suspicion::None { .. })
}

#[test]
fn a_node_that_answers_nobody_is_left_out_and_one_that_answers_somebody_is_not() {
    let mut roster = two_nodes();
    assert_eq!(roster.patience_ms(), Some(3_000));
    let (mut hung, mut well) = held(&mut roster, 10, 0);
    // Node 2 answers one of ten; the others wait there no longer than that.
    roster.finish(well[0], OK, 2_000);
    for ticket in &mut well[1..] {
        assert_eq!(roster.suspicion(ticket, true, 3_000), Suspicion::None { again_ms: 2_000 });
    }
    assert_eq!(roster.suspicion(&mut hung[0], true, 2_900), Suspicion::None { again_ms: 100 });
    assert!(is_unsuspected(&mut roster, &mut hung[0], 3_000), "one alone may be a long one");
    assert!(is_unsuspected(&mut roster, &mut hung[0], 3_000), "and counts once");
    for ticket in &mut hung[1..] {
        assert_eq!(roster.suspicion(ticket, false, 3_000), Suspicion::Strong);
    }
    assert_eq!(usable(&roster), [false, true]);
    assert_eq!(roster.suspicion(&mut hung[0], false, 3_500), Suspicion::Strong, "now that it is not alone");
    let turns: Vec<Turn> = roster.take_turns().collect();
    assert_eq!((turns.len(), turns[0].address.tcp().unwrap().port(), turns[0].out_ms), (1, 1, Some(2_000)));
    // Any number: it costs the others what they would have got from the start.
    assert!((0..10_000).all(|_| roster.may_go_beside(&hung[0], 3_000)));
    hung.into_iter().chain(well.into_iter().skip(1)).for_each(|t| roster.finish(t, Outcome::Unknown, 3_000));
    assert_eq!(usable(&roster), [false, true]);
    // Whoever tries it again need not wait for a second one.
    let mut trial = roster.pick(&ask(0, &[1], 5_000)).unwrap();
    let other = roster.pick(&ask(0, &[0], 7_000)).unwrap();
    roster.finish(other, OK, 7_500);
    assert_eq!((trial.index, roster.suspicion(&mut trial, false, 8_000)), (0, Suspicion::Strong));
    assert_eq!(usable(&roster), [false, true]);
    roster.finish(trial, Outcome::Unknown, 8_000);
}

#[test]
fn one_long_request_says_nothing_against_its_node() {
    let mut roster = two_nodes();
    let mut long = roster.pick(&ask(0, &[1], 0)).unwrap();
    for now_ms in (3_000..=30_000).step_by(500) {
        let other = roster.pick(&ask(0, &[0], now_ms)).unwrap();
        roster.finish(other, OK, now_ms);
        assert!(is_unsuspected(&mut roster, &mut long, now_ms));
    }
    // From then on it is known how long some take.
    roster.heard(&long, true, 30_000);
    roster.finish(long, OK, 30_000);
    assert_eq!(roster.patience_ms(), Some(60_000));
}

#[test]
fn an_upstream_that_is_slow_as_a_whole_is_not_taken_for_hung() {
    let mut roster = two_nodes();
    let (mut first, mut second) = held(&mut roster, 50, 0);
    let mut tries = 0;
    for now_ms in (3_000..5_000).step_by(100) {
        for ticket in first.iter_mut().chain(&mut second) {
            let suspicion = roster.suspicion(ticket, true, now_ms);
            assert_ne!(suspicion, Suspicion::Strong);
            tries += u32::from(suspicion == Suspicion::Some);
        }
    }
    assert_eq!(tries, 1, "of a hundred requests one finds out");
    assert_eq!(usable(&roster), [true, true]);
    roster.heard(&first[0], true, 5_000);
    assert!(second.iter_mut().all(|ticket| is_unsuspected(&mut roster, ticket, 5_000)));
    first.into_iter().chain(second).for_each(|ticket| roster.finish(ticket, OK, 5_000));
    assert_eq!(roster.patience_ms(), Some(10_000));
    assert_eq!(roster.report(0).map(|node| node.failed).sum::<u64>(), 0);
}

#[test]
fn a_spare_node_is_asked_once_whether_it_answers() {
    let nodes = [(1, 1, 1), (2, 1, 0)];
    let mut roster = Roster::new(cluster("roundrobin", &nodes, ""), None, 0, 0);
    let mut hung: Vec<Ticket> = (0..6).map(|hash| roster.pick(&ask(hash, &[], 0)).unwrap()).collect();
    assert!(hung.iter().all(|ticket| ticket.index == 0));
    assert!(is_unsuspected(&mut roster, &mut hung[0], 3_000));
    assert!(
        roster.suspicion(&mut hung[1], false, 3_000) != Suspicion::Some,
        "it could not be tried elsewhere"
    );
    assert_eq!(roster.suspicion(&mut hung[2], true, 3_000), Suspicion::Some);
    let scout = roster.pick(&ask(2, &[0], 3_000)).unwrap();
    assert!(is_unsuspected(&mut roster, &mut hung[3], 3_000));
    roster.finish(scout, OK, 3_100);
    for ticket in &mut hung {
        assert_eq!(roster.suspicion(ticket, true, 3_500), Suspicion::Strong);
    }
    assert_eq!(usable(&roster), [false, true]);
    hung.into_iter().for_each(|ticket| roster.finish(ticket, Outcome::Unknown, 3_500));
}

#[test]
fn a_single_node_is_waited_for_as_long_as_it_takes_and_a_hung_one_does_not_teach_patience() {
    let mut single = Roster::new(cluster("roundrobin", &[(1, 1, 0)], ""), None, 0, 0);
    assert_eq!(single.patience_ms(), None);
    let mut ticket = single.pick(&ask(0, &[], 0)).unwrap();
    assert!(is_unsuspected(&mut single, &mut ticket, 50_000));
    single.finish(ticket, OK, 50_000);
    let mut roster = two_nodes();
    let (hung, _) = held(&mut roster, 1, 0);
    roster.heard(&hung[0], false, 20_000);
    assert_eq!(roster.patience_ms(), Some(3_000));
}

#[test]
fn tries_beside_are_limited_where_no_node_is_better() {
    let mut roster = Roster::new(cluster("roundrobin", &[(1, 1, 0), (2, 1, 0)], ""), None, 0, 0);
    let ticket = roster.pick(&ask(0, &[], 0)).unwrap();
    assert_eq!((0..1_000).filter(|_| roster.may_go_beside(&ticket, 0)).count(), 100, "what was saved up");
    roster.heed(Some(&standing(&[(1, SICK), (2, SICK)])));
    assert!(!roster.may_go_beside(&ticket, 0), "all are out, so none is better");
    roster.finish(ticket, OK, 0);
}

#[test]
fn a_node_that_resets_every_connection_is_left_out() {
    for kind in ["roundrobin", "chash", "least_conn", "ewma"] {
        let mut roster = Roster::new(cluster(kind, &[(1, 1, 0), (2, 1, 0)], ""), None, 0, 0);
        let mut failed = 0;
        for hash in 0..400 {
            let ticket = roster.pick(&ask(hash, &[], 0)).unwrap();
            failed += u32::from(ticket.index == 0);
            roster.finish(ticket, if ticket.index == 0 { CLOSED } else { OK }, 0);
        }
        assert_eq!(failed, 5, "{kind}");
    }
}

#[test]
fn the_share_of_a_node_that_comes_back_grows_to_its_whole_one() {
    for kind in ["roundrobin", "least_conn", "ewma"] {
        let labels = r#""ringway.slow-start-s": "16""#;
        let nodes: Vec<(u16, u32, i32)> = (1..=4).map(|port| (port, 2, 0)).collect();
        let mut roster = Roster::new(cluster(kind, &nodes, labels), None, 0, 0);
        let share = |roster: &mut Roster, now_ms: u64| {
            let counts: Map<u16, u64> = spread(roster, 6_400, now_ms);
            counts.get(&4).copied().unwrap_or(0) as f64 / 6_400.0
        };
        let near = |share: f64, steps: f64, when: &str| {
            let ideal = steps / (48.0 + steps);
            assert!((share - ideal).abs() < 0.03, "{kind}, {when}: {share} for {ideal}");
        };
        near(share(&mut roster, 0), 16.0, "at the start all are equal");
        roster.heed(Some(&standing(&[(4, SICK)])));
        near(share(&mut roster, 1_000), 0.0, "sick");
        roster.heed(None);
        // The time begins with the first request that could go there.
        near(share(&mut roster, 100_000), 1.0, "just back");
        near(share(&mut roster, 107_500), 8.0, "half way");
        near(share(&mut roster, 116_000), 16.0, "done");
        // A new node begins so, too; the others keep what they have.
        let more: Vec<(u16, u32, i32)> = [5, 1, 2, 4].into_iter().map(|port| (port, 2, 0)).collect();
        roster.follow(&cluster(kind, &more, labels));
        let counts = spread(&mut roster, 6_400, 116_000);
        let new = counts.get(&5).copied().unwrap_or(0) as f64 / 6_400.0;
        near(new, 1.0, "new");
    }
}

#[test]
fn as_many_wait_for_room_as_may() {
    let labels = r#""ringway.node-requests-max": "1", "ringway.pending-max": "2""#;
    let mut roster = Roster::new(cluster("roundrobin", &[(1, 1, 0), (2, 1, 0)], labels), None, 0, 0);
    assert!(!roster.enter(&[]), "there is room");
    let held: Vec<Ticket> = (0..2).map(|hash| roster.pick(&ask(hash, &[], 0)).unwrap()).collect();
    assert!(roster.is_full(&[]) && roster.is_full(&[0]) && !roster.is_full(&[0, 1]));
    assert!(!roster.enter(&[0, 1]), "no node is left for it");
    assert!(roster.enter(&[]) && roster.enter(&[1]) && !roster.enter(&[]));
    roster.leave();
    assert!(roster.enter(&[]));
    held.into_iter().for_each(|ticket| roster.finish(ticket, OK, 0));
    assert!(!roster.is_full(&[]));
    let mut none = Roster::new(cluster("roundrobin", &[(1, 1, 0)], ""), None, 0, 0);
    let held = none.pick(&ask(0, &[], 0)).unwrap();
    assert!(!none.enter(&[]) && !none.is_full(&[]));
    none.finish(held, OK, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Over any time with nodes that come and go, a warming node never gets more than its whole share, and always something.
    #[test]
    fn warming_never_gives_more_than_the_whole_share(
        kind in 0usize..2,
        weights in proptest::collection::vec(1u32..5, 2..24),
        seconds in 1u32..40,
        after_ms in 0u64..60_000,
    ) {
        let kind = ["roundrobin", "least_conn"][kind];
        let labels = format!(r#""ringway.slow-start-s": "{seconds}""#);
        let nodes: Vec<(u16, u32, i32)> = (1..).zip(&weights).map(|(port, weight)| (port, *weight, 0)).collect();
        let mut roster = Roster::new(cluster(kind, &nodes, &labels), None, 0, 0);
        roster.heed(Some(&standing(&[(1, SICK)])));
        roster.heed(None);
        let first = roster.pick(&ask(0, &[], 1_000)).unwrap();
        roster.finish(first, OK, 1_000);
        let picks = 20_000;
        let got = spread(&mut roster, picks, 1_000 + after_ms).get(&1).copied().unwrap_or(0) as f64 / picks as f64;
        let whole = f64::from(weights[0]) / f64::from(weights.iter().sum::<u32>());
        prop_assert!(got > 0.0 && got < whole + 0.01, "{got} of {whole}");
        if after_ms >= u64::from(seconds) * 1_000 {
            prop_assert!((got - whole).abs() < 0.01, "{got} of {whole}");
        }
    }
}
