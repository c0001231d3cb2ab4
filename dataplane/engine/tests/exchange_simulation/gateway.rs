//! The driver: carries exchanges between pipes as the data plane's own driver does between sockets, one step at a poll.
//!
//! It decides nothing that the engine decides. What it adds is what a driver must add: the order of sends, the pool, the tries.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ringway_engine::exchange::{Exchange, Expectation, ResponseContext, UpstreamFault};
use ringway_engine::http1::{
    CONTINUE, HEADROOM_BYTES, HeadLimits, OwnResponse, Parse, RequestEdits, RequestHead, TAILROOM_BYTES,
    encode_own_response, encode_request,
};
use ringway_engine::route::{Captures, Query};
use ringway_engine::upstream::{Ask, Cluster, Outcome as NodeOutcome, Roster};
use ringway_engine::view::View;

use crate::chance::Chance;
use crate::node::NodeConnection;
use crate::pipe::{Connection, Read};

const LEAVE_AFTER: u64 = 150;
const NODE_WAIT: u64 = 1_500;
const CLIENT_WAIT: u64 = 2_500;
const LINGER: u64 = 400;

/// What all connections of the gateway share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) view: Arc<View>,
    pub(crate) calm: bool,
    pub(crate) nodes: Vec<NodeLink>,
    pub(crate) reuses: usize,
    pub(crate) retries: usize,
    /// Beside each request the revision of the view that it pinned.
    pub(crate) pinned: HashMap<usize, u64>,
    pool: HashMap<SocketAddr, Vec<usize>>,
    balancers: HashMap<Box<str>, Roster>,
}

#[derive(Debug)]
pub(crate) struct NodeLink {
    pub(crate) connection: Connection,
    pub(crate) node: NodeConnection,
    address: SocketAddr,
}

impl Shared {
    pub(crate) fn new(view: Arc<View>, calm: bool) -> Shared {
        Shared {
            view,
            calm,
            nodes: Vec::new(),
            reuses: 0,
            retries: 0,
            pinned: HashMap::new(),
            pool: HashMap::new(),
            balancers: HashMap::new(),
        }
    }

    /// A kept connection that is still silent, or a new one. `None`: refused.
    fn connect(
        &mut self,
        address: SocketAddr,
        fresh: bool,
        now: u64,
        chance: &mut Chance,
    ) -> Option<(usize, bool)> {
        while let Some(kept) = self.pool.get_mut(&address).filter(|_| !fresh).and_then(Vec::pop) {
            if self.nodes[kept].connection.inward.is_ready(now) {
                self.nodes[kept].connection.near_closes(now);
            } else {
                self.reuses += 1;
                return Some((kept, true));
            }
        }
        if !self.calm && chance.one_in(15) {
            return None;
        }
        let SocketAddr::V4(v4) = address else { panic!("nodes have addresses of version 4") };
        let node = NodeConnection::new(usize::from(v4.ip().octets()[3]), self.calm);
        self.nodes.push(NodeLink { connection: Connection::default(), node, address });
        Some((self.nodes.len() - 1, false))
    }
}

/// One client's connection as the gateway has it.
#[derive(Debug)]
pub(crate) struct Front {
    buffer: Vec<u8>,
    at: usize,
    head: RequestHead,
    exchange: Exchange,
    phase: Phase,
    to_client: Vec<u8>,
}

#[derive(Debug)]
enum Phase {
    Head,
    Carry(Box<Carry>),
    Discard,
    Linger { since: Option<u64> },
    Tunnel { node: usize, to_node: Vec<u8>, client_ended: bool, node_ended: bool },
    Over,
}

/// A request on its way.
#[derive(Debug)]
struct Carry {
    cluster: Arc<Cluster>,
    excluded: Vec<usize>,
    tries_left: u32,
    fresh: bool,
    index: usize,
    node: Option<usize>,
    reused: bool,
    to_node: Vec<u8>,
    /// A byte of this try went out.
    sent: bool,
    head_out: bool,
    /// What came of the body with the head, framed.
    start: Vec<u8>,
    next_at: usize,
    leftover: Vec<u8>,
    repeatable: bool,
    deaf: bool,
    asks_leave: bool,
    go_on: bool,
    partial: Vec<u8>,
    progress_at: u64,
}

/// How a step ends an exchange.
enum Outcome {
    Goes,
    Answered,
    ClientGone,
    ClientSlow,
    Failed { fault: UpstreamFault, stale: bool },
}

impl Front {
    pub(crate) fn new() -> Front {
        Front {
            buffer: vec![0; HEADROOM_BYTES],
            at: HEADROOM_BYTES,
            head: RequestHead::new(),
            exchange: Exchange::default(),
            phase: Phase::Head,
            to_client: Vec::new(),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    pub(crate) fn poll(
        &mut self,
        client: &mut Connection,
        shared: &mut Shared,
        now: u64,
        chance: &mut Chance,
    ) {
        if self.is_over() {
            return;
        }
        if !self.to_client.is_empty() {
            match client.inward.write(now, &self.to_client, chance) {
                Ok(taken) => drop(self.to_client.drain(..taken)),
                Err(()) => return self.abandon(client, shared, now, true),
            }
        }
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Over => {}
            Phase::Head => self.read_head(client, shared, now, chance),
            Phase::Carry(mut carry) => {
                let outcome = self.carry(&mut carry, client, shared, now, chance);
                self.conclude(carry, outcome, client, shared, now, chance);
            }
            Phase::Discard => self.read_and_drop(client, now, chance),
            Phase::Linger { since } => self.linger(since, client, now, chance),
            Phase::Tunnel { node, to_node, client_ended, node_ended } => {
                self.tunnel(node, to_node, (client_ended, node_ended), client, shared, now, chance);
            }
        }
    }

    /// Ends both connections at once.
    fn abandon(&mut self, client: &mut Connection, shared: &mut Shared, now: u64, reset: bool) {
        if let Phase::Carry(carry) = &self.phase
            && let Some(node) = carry.node
        {
            shared.nodes[node].connection.near_closes(now);
        }
        if reset {
            client.reset();
        } else {
            client.far_closes(now);
        }
        self.phase = Phase::Over;
    }

    fn read_head(&mut self, client: &mut Connection, shared: &mut Shared, now: u64, chance: &mut Chance) {
        if self.at > HEADROOM_BYTES {
            self.buffer.drain(HEADROOM_BYTES..self.at);
            self.at = HEADROOM_BYTES;
        }
        let bytes = self.buffer.get(self.at..).unwrap_or_default();
        if !bytes.is_empty() {
            match self.head.parse(bytes, &HeadLimits::default()) {
                Ok(Parse::Done(())) => return self.begin(client, shared, now, chance),
                Ok(Parse::Partial) => {}
                Err(error) => panic!("{error} in {}", bytes.escape_ascii()),
            }
        }
        match client.outward.read(now, chance) {
            Read::Bytes(read) => self.buffer.extend_from_slice(&read),
            Read::Nothing => {}
            Read::End | Read::Reset => return self.abandon(client, shared, now, false),
        }
        self.phase = Phase::Head;
    }

    /// A head is whole: pins the view, routes, takes what came of the body, tries the first node.
    fn begin(&mut self, client: &mut Connection, shared: &mut Shared, now: u64, chance: &mut Chance) {
        let view = Arc::clone(&shared.view);
        let bytes = self.buffer.get(self.at..).unwrap_or_default();
        let path = self.head.target.path_bytes(bytes);
        let query = Query {
            method: self.head.method_span.of(bytes),
            host: b"sim",
            path,
            remote: [127, 0, 0, 1].into(),
            facts: None,
        };
        let target = view.routes.find(&query, &mut Captures::default()).expect("a route");
        let id: usize = std::str::from_utf8(&path[1..]).unwrap().parse().expect("a request's number");
        shared.pinned.insert(id, view.version.revision);
        self.exchange.begin(&self.head, target.may_upgrade);
        let from = self.at + self.head.head_bytes;
        let mut framed = vec![0; HEADROOM_BYTES];
        framed.extend_from_slice(&self.buffer[from..]);
        let filled = HEADROOM_BYTES..framed.len();
        let (mut start, mut next_at) = (Vec::new(), from);
        if !filled.is_empty() && !self.exchange.request.is_complete() {
            let relayed = self.exchange.request.relay(&mut framed, filled).expect("a good body");
            start.extend_from_slice(&framed[relayed.send]);
            start.extend_from_slice(self.exchange.request.epilogue());
            next_at = from + relayed.consumed_end - HEADROOM_BYTES;
        }
        let cluster = Arc::clone(view.cluster(target).expect("an upstream"));
        let mut carry = Box::new(Carry {
            excluded: Vec::new(),
            tries_left: cluster.tries_max(),
            cluster,
            fresh: false,
            index: 0,
            node: None,
            reused: false,
            to_node: Vec::new(),
            sent: false,
            head_out: false,
            start,
            next_at,
            leftover: Vec::new(),
            repeatable: true,
            deaf: false,
            asks_leave: self.exchange.request.expectation() == Expectation::Waiting,
            go_on: false,
            partial: Vec::new(),
            progress_at: now,
        });
        let outcome = self.begin_try(&mut carry, shared, now, chance);
        self.conclude(carry, outcome, client, shared, now, chance);
    }

    fn begin_try(
        &mut self,
        carry: &mut Carry,
        shared: &mut Shared,
        now: u64,
        chance: &mut Chance,
    ) -> Outcome {
        let cluster = &carry.cluster;
        let balancer = shared
            .balancers
            .entry(cluster.key.clone())
            .or_insert_with(|| Roster::new(Arc::clone(cluster), None, 0, now));
        balancer.follow(cluster);
        carry.node = None;
        carry.sent = false;
        let ask = Ask { hash: 0, excluded: &carry.excluded, now_ms: now };
        let picked = if carry.tries_left == 0 { None } else { balancer.pick(&ask) };
        // Which node fails is this simulation's to decide: the roster hears nothing of it.
        let index = picked.map(|ticket| {
            balancer.finish(ticket, NodeOutcome::Unknown, now);
            ticket.index
        });
        let Some(index) = index else {
            carry.tries_left = 0;
            return Outcome::Failed { fault: UpstreamFault::Connect, stale: false };
        };
        carry.index = index;
        let endpoint = &cluster.endpoints[index];
        let Some((node, reused)) = shared.connect(endpoint.address.tcp().unwrap(), carry.fresh, now, chance)
        else {
            return Outcome::Failed { fault: UpstreamFault::Connect, stale: false };
        };
        (carry.node, carry.reused, carry.head_out, carry.progress_at) = (Some(node), reused, false, now);
        let bytes = &self.buffer[self.at..];
        let facts = self.exchange.response.facts();
        let edits = RequestEdits {
            path_and_query: self.head.target.path_and_query.of(bytes),
            host: self.head.host.map_or(&b"sim"[..], |host| host.whole.of(bytes)),
            upgrade: facts.may_upgrade.then_some(b"websocket"),
            te_trailers: facts.trailers,
            expect_continue: self.exchange.request.expectation() == Expectation::Waiting,
            body: self.exchange.request.body_header(),
            ..RequestEdits::default()
        };
        carry.to_node.clear();
        encode_request(&self.head, bytes, &edits, &mut carry.to_node);
        carry.to_node.extend_from_slice(&carry.start);
        Outcome::Goes
    }

    /// Moves one direction or both on, in any order.
    fn carry(
        &mut self,
        carry: &mut Carry,
        client: &mut Connection,
        shared: &mut Shared,
        now: u64,
        chance: &mut Chance,
    ) -> Outcome {
        let Some(node) = carry.node else { return Outcome::Goes };
        let link = &mut shared.nodes[node].connection;
        if !carry.to_node.is_empty() {
            match link.outward.write(now, &carry.to_node, chance) {
                Ok(taken) => {
                    carry.to_node.drain(..taken);
                    carry.sent |= taken > 0;
                    if taken > 0 {
                        carry.progress_at = now;
                    }
                    if carry.to_node.is_empty() {
                        carry.head_out = true;
                        self.exchange.request.sent();
                    }
                }
                Err(()) if !carry.head_out => {
                    return Outcome::Failed { fault: UpstreamFault::Closed, stale: carry.reused };
                }
                Err(()) => {
                    carry.deaf = true;
                    carry.to_node.clear();
                }
            }
        }
        if !carry.head_out {
            let late = now > carry.progress_at + NODE_WAIT;
            let fault = UpstreamFault::SendTimeout;
            return if late { Outcome::Failed { fault, stale: false } } else { Outcome::Goes };
        }
        if !self.exchange.request.is_complete() {
            carry.repeatable = false;
        }
        let first = chance.one_in(2);
        for inward in [first, !first] {
            let outcome = if inward {
                self.inward(carry, link, now, chance)
            } else {
                self.outward(carry, client, now, chance)
            };
            if !matches!(outcome, Outcome::Goes) {
                return outcome;
            }
        }
        Outcome::Goes
    }

    /// From the node to the client.
    fn inward(&mut self, carry: &mut Carry, link: &mut Connection, now: u64, chance: &mut Chance) -> Outcome {
        if !self.to_client.is_empty() {
            return Outcome::Goes;
        }
        let side = &mut self.exchange.response;
        if side.is_done() || side.is_tunnel() {
            return Outcome::Answered;
        }
        let waits = carry.asks_leave && !carry.go_on && side.status().is_none();
        if waits && now > carry.progress_at + LEAVE_AFTER {
            carry.go_on = true;
            carry.progress_at = now;
            self.to_client.extend_from_slice(CONTINUE);
            return Outcome::Goes;
        }
        let limits = HeadLimits::default();
        let context = ResponseContext {
            limits: &limits,
            interim_responses_max: 8,
            close: !self.head.keep_alive,
            awaits_leave: carry.asks_leave && !carry.go_on,
            date: b"now",
            via: None,
            plugins: None,
        };
        let fault = match link.inward.read(now, chance) {
            Read::Bytes(bytes) => {
                carry.progress_at = now;
                let mut buffer = vec![0; HEADROOM_BYTES];
                buffer.append(&mut carry.partial);
                buffer.extend_from_slice(&bytes);
                let filled = HEADROOM_BYTES..buffer.len();
                let end = filled.end;
                buffer.resize(end + TAILROOM_BYTES, 0);
                match side.receive(&mut buffer, filled, &context, &mut self.to_client) {
                    Ok(step) => {
                        self.to_client.extend_from_slice(&buffer[step.send]);
                        self.to_client.extend_from_slice(side.epilogue());
                        carry.partial.extend_from_slice(&buffer[step.keep..end]);
                        carry.go_on |= step.go_on;
                        return Outcome::Goes;
                    }
                    Err(fault) => fault,
                }
            }
            Read::End => match side.receive_end(&context, &mut self.to_client) {
                Ok(tail) => {
                    self.to_client.extend_from_slice(tail);
                    return Outcome::Goes;
                }
                Err(fault) => fault,
            },
            Read::Reset => UpstreamFault::Closed,
            // The node is waited for only once it has all of the request.
            Read::Nothing if self.exchange.request.is_complete() && now > carry.progress_at + NODE_WAIT => {
                UpstreamFault::ReadTimeout
            }
            Read::Nothing => return Outcome::Goes,
        };
        Outcome::Failed { fault, stale: carry.reused && fault == UpstreamFault::Closed }
    }

    /// From the client to the node.
    fn outward(
        &mut self,
        carry: &mut Carry,
        client: &mut Connection,
        now: u64,
        chance: &mut Chance,
    ) -> Outcome {
        let side = &mut self.exchange.request;
        let waits = side.expectation() == Expectation::Waiting && !carry.go_on;
        if side.is_complete() || !carry.to_node.is_empty() || carry.deaf || waits {
            return Outcome::Goes;
        }
        let bytes = match client.outward.read(now, chance) {
            Read::Bytes(bytes) => bytes,
            Read::Nothing if now > carry.progress_at + CLIENT_WAIT => return Outcome::ClientSlow,
            Read::Nothing => return Outcome::Goes,
            Read::End | Read::Reset => return Outcome::ClientGone,
        };
        carry.progress_at = now;
        let mut buffer = vec![0; HEADROOM_BYTES];
        buffer.extend_from_slice(&bytes);
        let end = buffer.len();
        buffer.resize(end + TAILROOM_BYTES, 0);
        let relayed = side.relay(&mut buffer, HEADROOM_BYTES..end).expect("a good body");
        carry.leftover.extend_from_slice(&buffer[relayed.consumed_end..end]);
        carry.to_node.extend_from_slice(&buffer[relayed.send]);
        carry.to_node.extend_from_slice(side.epilogue());
        if carry.to_node.is_empty() {
            side.sent();
        }
        Outcome::Goes
    }

    fn conclude(
        &mut self,
        mut carry: Box<Carry>,
        outcome: Outcome,
        client: &mut Connection,
        shared: &mut Shared,
        now: u64,
        chance: &mut Chance,
    ) {
        let mut outcome = outcome;
        loop {
            match outcome {
                Outcome::Goes => {
                    self.phase = Phase::Carry(carry);
                    return;
                }
                Outcome::Answered => return self.answered(*carry, shared, now),
                Outcome::ClientGone | Outcome::ClientSlow => {
                    let reset = self.exchange.response.ends_with_connection();
                    self.phase = Phase::Carry(carry);
                    return self.abandon(client, shared, now, reset);
                }
                Outcome::Failed { .. } if self.exchange.response.status().is_some() => {
                    self.phase = Phase::Carry(carry);
                    return self.abandon(client, shared, now, true);
                }
                Outcome::Failed { fault, stale } => {
                    if let Some(node) = carry.node {
                        shared.nodes[node].connection.near_closes(now);
                    }
                    let may_retry =
                        carry.tries_left > 0 && self.exchange.may_retry(&fault, carry.sent, carry.repeatable);
                    if !may_retry {
                        return self.give_up(*carry, &fault);
                    }
                    carry.fresh = stale;
                    if !stale {
                        carry.tries_left -= 1;
                        let index = carry.index;
                        carry.excluded.push(index);
                    }
                    shared.retries += 1;
                    carry.deaf = false;
                    carry.partial.clear();
                    self.exchange.begin_try();
                    outcome = self.begin_try(&mut carry, shared, now, chance);
                }
            }
        }
    }

    /// The answer is out.
    fn answered(&mut self, carry: Carry, shared: &mut Shared, now: u64) {
        let node = carry.node.expect("whose answer was it");
        if self.exchange.response.is_tunnel() {
            let to_node = self.buffer[carry.next_at..].to_vec();
            self.phase = Phase::Tunnel { node, to_node, client_ended: false, node_ended: false };
            return;
        }
        if self.exchange.upstream_reusable() {
            assert!(carry.to_node.is_empty(), "a connection in the middle of a send is not kept");
            let address = shared.nodes[node].address;
            shared.pool.entry(address).or_default().push(node);
        } else {
            shared.nodes[node].connection.near_closes(now);
        }
        self.at = carry.next_at;
        self.buffer.extend_from_slice(&carry.leftover);
        self.phase = match () {
            () if self.exchange.response.closes_downstream() => Phase::Linger { since: None },
            () if self.exchange.request.is_complete() => Phase::Head,
            () => {
                self.exchange.request.discard();
                Phase::Discard
            }
        };
    }

    fn give_up(&mut self, carry: Carry, fault: &UpstreamFault) {
        self.at = carry.next_at;
        self.buffer.extend_from_slice(&carry.leftover);
        self.exchange.request.discard();
        let keep = self.head.keep_alive && self.exchange.request.expectation() == Expectation::None;
        let reason = fault.to_string();
        let response = OwnResponse {
            status: fault.status(),
            version: self.head.version,
            keep_alive: keep,
            fields: &[(b"Ringway-Reason", reason.as_bytes())],
            ..OwnResponse::default()
        };
        encode_own_response(&response, &mut self.to_client);
        self.phase = match () {
            () if !keep => Phase::Linger { since: None },
            () if self.exchange.request.is_complete() => Phase::Head,
            () => Phase::Discard,
        };
    }

    /// Looks for the end of a body that nobody wants.
    fn read_and_drop(&mut self, client: &mut Connection, now: u64, chance: &mut Chance) {
        self.phase = Phase::Discard;
        if !self.to_client.is_empty() {
            return;
        }
        match client.outward.read(now, chance) {
            Read::Nothing => {}
            Read::End | Read::Reset => {
                client.far_closes(now);
                self.phase = Phase::Over;
            }
            Read::Bytes(bytes) => {
                let mut buffer = vec![0; HEADROOM_BYTES];
                buffer.extend_from_slice(&bytes);
                let filled = HEADROOM_BYTES..buffer.len();
                let relayed = self.exchange.request.relay(&mut buffer, filled).expect("a good body");
                if relayed.end {
                    self.buffer.truncate(HEADROOM_BYTES);
                    self.buffer.extend_from_slice(&buffer[relayed.consumed_end..]);
                    self.at = HEADROOM_BYTES;
                    self.phase = Phase::Head;
                }
            }
        }
    }

    fn linger(&mut self, since: Option<u64>, client: &mut Connection, now: u64, chance: &mut Chance) {
        if !self.to_client.is_empty() {
            self.phase = Phase::Linger { since };
            return;
        }
        client.inward.end(now);
        let since = since.unwrap_or(now);
        let ended = matches!(client.outward.read(now, chance), Read::End | Read::Reset);
        if ended || now > since + LINGER {
            client.far_closes(now);
        } else {
            self.phase = Phase::Linger { since: Some(since) };
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one phase")]
    fn tunnel(
        &mut self,
        node: usize,
        mut to_node: Vec<u8>,
        (mut client_ended, mut node_ended): (bool, bool),
        client: &mut Connection,
        shared: &mut Shared,
        now: u64,
        chance: &mut Chance,
    ) {
        let link = &mut shared.nodes[node].connection;
        let mut broken = false;
        if !to_node.is_empty() {
            match link.outward.write(now, &to_node, chance) {
                Ok(taken) => drop(to_node.drain(..taken)),
                Err(()) => broken = true,
            }
        } else if !client_ended {
            match client.outward.read(now, chance) {
                Read::Nothing => {}
                Read::Bytes(bytes) => to_node = bytes,
                Read::End => {
                    client_ended = true;
                    link.outward.end(now);
                }
                Read::Reset => broken = true,
            }
        }
        if self.to_client.is_empty() && !node_ended {
            match link.inward.read(now, chance) {
                Read::Nothing => {}
                Read::Bytes(bytes) => self.to_client = bytes,
                Read::End => {
                    node_ended = true;
                    client.inward.end(now);
                }
                Read::Reset => broken = true,
            }
        }
        if broken || (client_ended && node_ended) {
            link.near_closes(now);
            client.far_closes(now);
        } else {
            self.phase = Phase::Tunnel { node, to_node, client_ended, node_ended };
        }
    }
}
