//! A seeded simulation of exchanges: clients, the gateway and nodes over pipes that cut, delay and break anything.
//!
//! Judged by readers and records of their own: each request that a node saw is one that a client sent, at most once where it may
//! not be repeated, with its body; each answer belongs to its request, in order, with its body; a truncated one is
//! never cleanly ended; a node's connection is used again only after a clean end; a request keeps the view it began with.
//!
//! `SIMULATION_SEED=n` replays one seed, `SIMULATION_SEEDS=n` runs so many. A failure prints its seed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::needless_pass_by_value,
    reason = "a simulation that cannot go on has failed"
)]

mod chance;
mod client;
mod gateway;
mod message;
mod node;
mod pipe;

use std::sync::Arc;

use ringway_engine::view::View;
use ringway_snapshot::Snapshot;
use ringway_snapshot::parse::parse_object;

use crate::chance::Chance;
use crate::client::{BreakOff, Client};
use crate::gateway::{Front, Shared};
use crate::message::Request;
use crate::node::Seen;
use crate::pipe::Connection;

const SEEDS: u64 = 256;
/// More than any exchange may take; a simulation that comes here is stuck.
const ROUNDS_MAX: u64 = 200_000;
const VIEWS: u64 = 6;

/// What a seed came to, to see that the simulation does what it is for.
#[derive(Debug, Default)]
struct Tally {
    requests: usize,
    answered: usize,
    answered_by_node: usize,
    reuses: usize,
    retries: usize,
    tunnels: usize,
    swaps: usize,
    calm: usize,
}

#[test]
fn exchanges_keep_their_promises_under_every_seed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("SIMULATION_SEED") {
        println!("{:#?}", run(seed));
        return;
    }
    let mut tally = Tally::default();
    for seed in 0..number("SIMULATION_SEEDS").unwrap_or(SEEDS) {
        let ended = std::panic::catch_unwind(|| run(seed));
        let Ok(one) = ended else { panic!("replay with SIMULATION_SEED={seed}") };
        tally.requests += one.requests;
        tally.answered += one.answered;
        tally.answered_by_node += one.answered_by_node;
        tally.reuses += one.reuses;
        tally.retries += one.retries;
        tally.tunnels += one.tunnels;
        tally.swaps += one.swaps;
        tally.calm += one.calm;
    }
    println!("{tally:#?}");
    assert!(tally.answered_by_node * 2 > tally.requests, "most requests are answered: {tally:?}");
    let rare = [tally.reuses, tally.retries, tally.tunnels, tally.swaps, tally.calm];
    assert!(rare.iter().all(|count| *count > 0), "something never happened: {tally:?}");
}

#[test]
fn a_seed_repeats_itself() {
    assert_eq!(format!("{:?}", run(7)), format!("{:?}", run(7)));
}

/// Revision `n` knows the nodes 127.0.0.n and 127.0.0.(n + 1).
fn view(revision: u64) -> Arc<View> {
    let nodes = serde_json::json!({
        format!("127.0.0.{revision}:1"): 1, format!("127.0.0.{}:1", revision + 1): 1,
    });
    let route = serde_json::json!({"uri": "/*", "enable_websocket": true, "upstream": {"nodes": nodes}});
    let entries = vec![parse_object("routes", "1", &route).expect("a route")];
    Arc::new(View::compile(&Snapshot::new(1, 1, revision, entries)).expect("a view"))
}

fn run(seed: u64) -> Tally {
    let mut chance = Chance::new(seed);
    let calm = chance.one_in(4);
    let mut requests = Vec::new();
    let mut clients: Vec<Client> =
        (0..1 + chance.below(3)).map(|_| draw_client(&mut requests, calm, &mut chance)).collect();
    let mut links: Vec<Connection> = clients.iter().map(|_| Connection::default()).collect();
    let mut fronts: Vec<Front> = clients.iter().map(|_| Front::new()).collect();
    let mut shared = Shared::new(view(1), calm);
    let mut seen: Vec<Seen> = Vec::new();
    let mut tally = Tally { calm: usize::from(calm), ..Tally::default() };
    let mut now = 0;
    while fronts.iter().any(|front| !front.is_over()) || clients.iter().any(|client| !client.gone) {
        now += 1;
        assert!(now < ROUNDS_MAX, "stuck: {fronts:#?}\n{clients:#?}");
        if chance.one_in(200) && shared.view.version.revision < VIEWS {
            shared.view = view(shared.view.version.revision + 1);
            tally.swaps += 1;
        }
        for (n, client) in clients.iter_mut().enumerate() {
            if chance.one_in(2) {
                client.poll(&mut links[n], now, &mut chance);
            }
            if chance.one_in(2) {
                fronts[n].poll(&mut links[n], &mut shared, now, &mut chance);
            }
        }
        for link in &mut shared.nodes {
            if chance.one_in(2) {
                link.node.poll(&mut link.connection, now, &requests, &mut seen, &mut chance);
            }
        }
    }
    judge(&clients, &requests, &seen, &shared);
    tally.requests = clients.iter().map(|client| client.begun).sum();
    tally.answered = clients.iter().map(|client| client.answered).sum();
    tally.answered_by_node = clients.iter().map(|client| client.answered_by_node).sum();
    tally.tunnels = clients.iter().filter(|client| client.tunnel_echoed).count();
    (tally.reuses, tally.retries) = (shared.reuses, shared.retries);
    tally
}

/// A client with its requests, whose numbers go on from those of the others.
fn draw_client(requests: &mut Vec<Request>, calm: bool, chance: &mut Chance) -> Client {
    let count = 1 + chance.below(6);
    let mut own = Vec::new();
    for n in 0..count {
        let last = n + 1 == count;
        let mut request = Request::draw(requests.len(), last, chance);
        // An answer to HTTP/1.0 may have to end the connection, and the rest would stay unanswered.
        while calm && request.old && !last {
            request = Request::draw(requests.len(), last, chance);
        }
        requests.push(request.clone());
        own.push(request);
    }
    let breaks = !calm && chance.one_in(6);
    let break_off = breaks.then(|| BreakOff { after_bytes: 1 + chance.size(), by_reset: chance.one_in(2) });
    Client::new(own, chance.one_in(2), break_off)
}

/// What must hold when all is over.
fn judge(clients: &[Client], requests: &[Request], seen: &[Seen], shared: &Shared) {
    for request in requests {
        let tries: Vec<&Seen> = seen.iter().filter(|seen| seen.id == request.id).collect();
        let begun =
            clients.iter().any(|client| client.requests[..client.begun].iter().any(|r| r.id == request.id));
        assert!(begun || tries.is_empty(), "a node saw request {}, which was never sent", request.id);
        assert!(request.is_idempotent() || tries.len() <= 1, "sent twice: {request:?} {tries:?}");
        if let Some(revision) = shared.pinned.get(&request.id) {
            let revision = usize::try_from(*revision).expect("a small number");
            let of_view = |seen: &&Seen| seen.view == revision || seen.view == revision + 1;
            assert!(tries.iter().all(of_view), "another view's node: {revision} {tries:?}");
        }
    }
    if !shared.calm {
        return;
    }
    for client in clients {
        assert_eq!(client.answered_by_node, client.requests.len(), "unanswered on a calm day: {client:?}");
        for request in &client.requests {
            let whole = seen.iter().filter(|seen| seen.id == request.id && seen.whole).count();
            assert_eq!(whole, 1, "{request:?}");
        }
    }
}
