//! One request: find its route, choose a node, carry it there and the answer back, try again where that is allowed.
//!
//! What HTTP allows is decided in the engine's `exchange`; here are the sockets, the waits and the tries.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_engine::exchange::{Expectation, UpstreamFault};
use ringway_engine::facts::{Facts, Known};
use ringway_engine::http1::{Forwarded, Method, RequestEdits, RequestHead, encode_request};
use ringway_engine::plugin::{Chains, Lists, Verdict};
use ringway_engine::route::Query;
use ringway_engine::route::path::{self, PathError};
use ringway_engine::upstream::{Cluster, Endpoint, HostRule, Timeouts, hash_of};
use ringway_engine::view::{Target, View};
use ringway_snapshot::upstream::HashOn;
use smallvec::SmallVec;

use crate::access;
use crate::answer::{self, Answer};
use crate::body::BodyStart;
use crate::buf::Room;
use crate::core::{Core, Ends, Pinned, Scratch};
use crate::downstream::{Downstream, Fate};
use crate::look::Missed;
use crate::pool::{self, Upstream};
use crate::pump::{self, Broken, Waits};
use crate::rescue::Asking;
use crate::rosters::Lease;
use crate::{look, mirror, plugins, tunnel};

/// Room that is kept for an answer's head.
const HEAD_BYTES_USUAL: u64 = 1_024;
/// How long a request waits for names that have never been looked up.
const RESOLVE_WAIT: Duration = Duration::from_secs(2);
const RESOLVE_EVERY: Duration = Duration::from_millis(10);
/// How this gateway calls itself in Via.
const VIA: &[u8] = b"1.1 ringway";

/// Handles the request whose head stands in the connection's buffer.
pub(crate) async fn handle(connection: &mut Downstream) -> Fate {
    let view = connection.core.view();
    let mut found = None;
    let fate = respond(connection, view.as_deref(), &mut found).await;
    access::finish(connection, view.as_deref().map(|view| &**view), found);
    connection.looked = None;
    if fate == Fate::Keep && !connection.exchange.request.is_complete() {
        return pump::discard(connection).await;
    }
    fate
}

/// Answers the request, or has a node answer it. `found` is where it was routed to.
async fn respond<'v>(
    connection: &mut Downstream,
    view: Option<&'v Pinned>,
    found: &mut Option<&'v Target>,
) -> Fate {
    let core = Rc::clone(&connection.core);
    connection.exchange.begin(&connection.head, false);
    plugins::forget(connection);
    if connection.head.method == Method::Connect {
        return decline(connection, 405, "no_tunnels", "this gateway opens no tunnels").await;
    }
    if connection.head.max_forwards == Some(0) {
        // RFC 9110 section 7.6.2: this gateway is the one that was meant.
        let status = if connection.head.method == Method::Options { 200 } else { 405 };
        return decline(
            connection,
            status,
            "max_forwards",
            "the request was to go no further than this gateway",
        )
        .await;
    }
    let Some(view) = view else {
        let reason = "no configuration has arrived yet; is a control plane running?";
        return decline(connection, 503, "no_configuration", reason).await;
    };
    let target = match route(connection, view).await {
        Ok(target) => target,
        Err(Unrouted::Path(error)) => return decline(connection, 400, "bad_path", &error.to_string()).await,
        Err(Unrouted::Body(missed)) => return look::refuse(connection, missed).await,
    };
    *found = target;
    let chains = view.chains(target);
    if !chains.is_empty()
        && let Some(fate) = pass_plugins(connection, chains).await
    {
        return fate;
    }
    let Some(target) = target else {
        core.count(|counters| counters.no_route.up());
        plugins::own_answer(connection, chains, Some(404));
        return decline(connection, 404, "no_route", "no route matches this host, path and method").await;
    };
    let Some(cluster) = plugins::cluster(connection, view, target) else {
        let reason =
            format!("route {} names no upstream, and neither does its service", target.about.route_id);
        plugins::own_answer(connection, chains, Some(503));
        return decline(connection, 503, "no_upstream", &reason).await;
    };
    let resolved;
    let cluster = if cluster.names.is_empty() {
        cluster
    } else {
        resolved = resolve(&core, cluster).await;
        connection.access.waited();
        &resolved
    };
    if cluster.hash_on.as_ref().is_some_and(HashOn::needs_body)
        && let Err(missed) = Box::pin(look::look(connection)).await
    {
        return look::refuse(connection, missed).await;
    }
    if target.may_upgrade {
        connection.exchange.permit_upgrade(&connection.head);
    }
    plugins::begin(connection);
    let matched = Matched { view, cluster, timeouts: target.timeouts(cluster), chains };
    forward(connection, &matched).await
}

/// Lets the plugins look at the request, and at its body where any of them wants to. `Some`: it has been answered.
async fn pass_plugins(connection: &mut Downstream, chains: Chains<'_>) -> Option<Fate> {
    // Boxed: rare, and every connection's task has room for what it may wait for.
    if chains.look_at_body()
        && let Err(missed) = Box::pin(look::look(connection)).await
    {
        return Some(look::refuse(connection, missed).await);
    }
    if plugins::request(connection, chains).await == Verdict::Answer {
        plugins::own_answer(connection, chains, None);
        return Some(answer_here(connection, None).await);
    }
    None
}

/// What of a request's route counts once its upstream is known.
#[derive(Debug)]
struct Matched<'v> {
    view: &'v View,
    cluster: &'v Arc<Cluster>,
    timeouts: Option<Timeouts>,
    chains: Chains<'v>,
}

/// The cluster with the addresses that its nodes' names have; where they are being looked up for the first time, that is waited for.
async fn resolve(core: &Core, cluster: &Arc<Cluster>) -> Arc<Cluster> {
    let until_ms = core.deadlines.until_ms(RESOLVE_WAIT);
    loop {
        match core.rosters.resolved(cluster) {
            Some(resolved) => return resolved,
            None if core.deadlines.now_ms() >= until_ms => return Arc::clone(cluster),
            None => Box::pin(monoio::time::sleep(RESOLVE_EVERY)).await,
        }
    }
}

/// Why a request has neither a route nor none.
enum Unrouted {
    Path(PathError),
    Body(Missed),
}

/// The target of the request in the connection's buffer. Where a route that it meets on the way has conditions on its body, that is
/// read, and then the search begins anew: only so a request whose body nobody asks for pays nothing, whatever other routes there are.
async fn route<'v>(connection: &mut Downstream, view: &'v View) -> Result<Option<&'v Target>, Unrouted> {
    let (target, wants_body) = find(connection, view).map_err(Unrouted::Path)?;
    // Boxed: rare, and every connection's task has room for what it may wait for.
    let may_look = wants_body && !connection.head.body.is_empty();
    if may_look && Box::pin(look::look(connection)).await.map_err(Unrouted::Body)? {
        return Ok(find(connection, view).map_err(Unrouted::Path)?.0);
    }
    Ok(target)
}

/// The target of the request in the connection's buffer as far as its body is known, and whether one that is not known yet was
/// asked for. Where the path has dot segments, the node gets it without them: it must not see another path than the one that was
/// routed.
fn find<'v>(connection: &mut Downstream, view: &'v View) -> Result<(Option<&'v Target>, bool), PathError> {
    let bytes = connection.buffer.get(connection.at..).unwrap_or_default();
    let head = &connection.head;
    let mut scratch = connection.core.scratch.borrow_mut();
    let Scratch { path: decoded, captures } = &mut *scratch;
    let normal = path::normalize(head.target.path_bytes(bytes), decoded)?;
    let wants_body = Cell::new(false);
    let mut facts = facts(head, bytes, normal.path, &connection.ends, &connection.core);
    facts.content = match connection.looked.as_deref() {
        None => Known::Unread(&wants_body),
        looked => look::known(looked),
    };
    let query = Query {
        method: head.method_span.of(bytes),
        host: head.host.map_or(&[][..], |authority| authority.host.of(bytes)),
        path: normal.path,
        remote: connection.ends.client.ip().to_canonical(),
        facts: Some(&facts),
    };
    let target = view.routes.find(&query, captures);
    connection.rewritten.clear();
    if normal.dots_resolved {
        path::encode(normal.path, &mut connection.rewritten);
        if let Some(query) = head.target.query {
            connection.rewritten.push(b'?');
            connection.rewritten.extend_from_slice(query.of(bytes));
        }
    }
    Ok((target, wants_body.get()))
}

/// Answers by ourselves, without a node, and looks for the end of the request's body.
async fn decline(connection: &mut Downstream, status: u16, code: &'static str, reason: &str) -> Fate {
    answer_here(connection, Some(&Answer { status, code, reason })).await
}

/// The same; without an answer the plugins' own is sent.
async fn answer_here(connection: &mut Downstream, answer: Option<&Answer<'_>>) -> Fate {
    let waits_for_leave = connection.exchange.request.expectation() == Expectation::Waiting;
    let keep = connection.head.keep_alive && !waits_for_leave && connection.head.method != Method::Connect;
    connection.exchange.request.discard();
    let Ok(body) = BodyStart::take(connection) else {
        return answer::send(connection, answer, false).await;
    };
    let fate = answer::send(connection, answer, keep).await;
    body.finish(connection);
    fate
}

/// The tries of one request.
pub(crate) struct Tries {
    /// Nodes that failed it, and those that it waits for.
    pub(crate) excluded: SmallVec<[usize; 4]>,
    pub(crate) left: u32,
    /// What consistent hashing takes the request for.
    pub(crate) hash: u64,
    /// Until when it may wait for room, once it has begun to.
    room_until: Option<Instant>,
    /// After this no further one begins; the first may have waited for room for longer.
    until_ms: u64,
    /// A kept connection turned out to be closed: the next one is made anew.
    fresh: bool,
    last: Option<UpstreamFault>,
}

impl Tries {
    fn new(connection: &Downstream, view: &View, cluster: &Cluster) -> Tries {
        let now_ms = connection.core.deadlines.now_ms();
        Tries {
            excluded: SmallVec::new(),
            left: cluster.tries_max(),
            hash: cluster.hash_on.as_ref().map_or(0, |rule| hash(connection, view, rule)),
            room_until: None,
            until_ms: cluster.retry_ms_max.map_or(u64::MAX, |ms| now_ms.saturating_add(ms)),
            fresh: false,
            last: None,
        }
    }

    /// Whether none may begin any more.
    fn is_over(&self, first: bool, now_ms: u64) -> bool {
        self.left == 0 || (!first && now_ms > self.until_ms)
    }
}

async fn forward(connection: &mut Downstream, matched: &Matched<'_>) -> Fate {
    let (core, cluster) = (Rc::clone(&connection.core), matched.cluster);
    let body = BodyStart::take(connection).and_then(|mut body| body.gather(connection).map(|()| body));
    let mut body = match body {
        Ok(body) => body,
        Err(error) => {
            core.count(|counters| counters.refused_heads.up());
            let answer = Answer { status: error.status(), code: "bad_body", reason: &error.to_string() };
            plugins::own_answer(connection, matched.chains, Some(answer.status));
            return answer::send(connection, Some(&answer), false).await;
        }
    };
    mirror::send(connection, matched.view, &body);
    let mut tries = Tries::new(connection, matched.view, cluster);
    loop {
        let Some((mut lease, endpoint)) = next_node(&core, cluster, &tries, tries.last.is_none()) else {
            if cluster.tuning.pending_max > 0 && Box::pin(room(&core, cluster, &mut tries)).await {
                continue;
            }
            break;
        };
        if tries.last.is_some() {
            core.count(|counters| counters.retries.up());
        }
        let ended = attempt(&core, connection, matched, endpoint, &mut body, &mut tries, &mut lease).await;
        let index = lease.index();
        conclude(&mut lease, &ended, connection.exchange.response.status());
        drop(lease);
        match ended {
            Ok(fate) => {
                body.finish(connection);
                return fate;
            }
            Err(Broken::Client(fate)) => return fate,
            Err(Broken::Request { status, reason }) => {
                plugins::own_answer(connection, matched.chains, Some(status));
                let answer = Answer { status, code: "bad_body", reason: &reason };
                return answer::send(connection, Some(&answer), false).await;
            }
            Err(Broken::Upstream { fault, sent, stale }) => {
                tries.last = Some(fault);
                core.count(|counters| counters.failure(&fault));
                let took_us = connection.access.try_failed();
                if !stale && let Some(shared) = core.shared() {
                    shared.latency.upstream.record(took_us);
                }
                if !connection.exchange.may_retry(&fault, sent, body.is_repeatable()) {
                    break;
                }
                tries.fresh = stale;
                if !stale {
                    // A kept connection that its node closed says nothing against the node.
                    tries.left = tries.left.saturating_sub(1);
                    tries.excluded.push(index);
                    let view = core.view();
                    let view = view.as_deref().map(|view| &**view);
                    if tries.left > 0 && !core.rosters.may_retry(cluster, view, &fault) {
                        core.count(|counters| counters.retries_refused.up());
                        break;
                    }
                }
                connection.exchange.begin_try();
            }
        }
    }
    give_up(connection, matched, &tries, body).await
}

/// What became of a try, as far as that says something of the node.
fn conclude(lease: &mut Lease<'_>, ended: &Result<Fate, Broken>, status: Option<u16>) {
    match (ended, status) {
        // A kept connection that its node closed says nothing against the node.
        (Err(Broken::Upstream { stale: true, .. }), _) => {}
        (Err(Broken::Upstream { fault, .. }), _) => lease.failed(*fault),
        // A tunnel has been told of when it began.
        (_, Some(status)) if status != 101 => lease.answered(status),
        _ => {}
    }
}

/// Waits for room where all nodes have as many requests as they may have. `false`: there is none.
async fn room(core: &Core, cluster: &Arc<Cluster>, tries: &mut Tries) -> bool {
    let view = core.view();
    let view = view.as_deref().map(|view| &**view);
    let is_over = tries.is_over(tries.last.is_none(), core.deadlines.now_ms());
    let waiting = if is_over { None } else { core.rosters.enter(cluster, view, &tries.excluded) };
    let Some(waiting) = waiting else {
        if tries.room_until.is_some() {
            // It may have been called, and somebody else may be able to go.
            core.rosters.call_next(cluster, view);
        }
        return false;
    };
    let wait = Duration::from_millis(cluster.tuning.pending_wait_ms.into());
    let has_waited = tries.room_until.is_some();
    let until = *tries.room_until.get_or_insert_with(|| Instant::now() + wait);
    waiting.room(until, has_waited).await
}

pub(crate) fn next_node<'a>(
    core: &'a Core,
    cluster: &'a Arc<Cluster>,
    tries: &Tries,
    first: bool,
) -> Option<(Lease<'a>, &'a Endpoint)> {
    if tries.is_over(first, core.deadlines.now_ms()) {
        return None;
    }
    let view = core.view();
    let view = view.as_deref().map(|view| &**view);
    let lease = core.rosters.lease(cluster, view, tries.hash, &tries.excluded, first)?;
    if tries.room_until.is_some() {
        // It has waited for room, and there may be more.
        core.rosters.call_next(cluster, view);
    }
    let endpoint = cluster.endpoints.get(lease.index())?;
    Some((lease, endpoint))
}

/// What is known of a request before its route is.
pub(crate) fn facts<'a>(
    head: &'a RequestHead,
    bytes: &'a [u8],
    path: &'a [u8],
    ends: &'a Ends,
    core: &'a Core,
) -> Facts<'a> {
    Facts {
        head,
        bytes,
        edits: None,
        content: Known::Nothing,
        path,
        parameters: None,
        route: None,
        caller: None,
        client_ip: &ends.client_ip,
        client_port: ends.client.port(),
        server_ip: ends.local.ip,
        server_port: ends.local.port,
        hostname: core.state.node.as_bytes(),
        status: None,
        upstream_status: None,
    }
}

/// What consistent hashing takes the request for.
fn hash(connection: &Downstream, view: &View, rule: &HashOn) -> u64 {
    let bytes = connection.buffer.get(connection.at..).unwrap_or_default();
    let head = &connection.head;
    let mut scratch = connection.core.scratch.borrow_mut();
    let raw = head.target.path_bytes(bytes);
    let normal = path::normalize(raw, &mut scratch.path);
    let path = normal.map_or(raw, |normal| normal.path);
    let mut facts = facts(head, bytes, path, &connection.ends, &connection.core);
    facts.content = look::known(connection.looked.as_deref());
    let callers = Some(view.callers());
    let facts = connection.course.as_deref().map_or(facts, |course| course.facts(facts, callers));
    hash_of(rule, &facts)
}

/// Tells the client that no node answered.
async fn give_up(connection: &mut Downstream, matched: &Matched<'_>, tries: &Tries, body: BodyStart) -> Fate {
    let (core, cluster) = (Rc::clone(&connection.core), matched.cluster);
    let view = core.view();
    let view = view.as_deref().map(|view| &**view);
    connection.exchange.request.discard();
    let (status, code, reason) = match &tries.last {
        None if core.rosters.is_full(cluster, view, &tries.excluded) => {
            let waited =
                tries.room_until.map_or("", |_| ", and there was no room in time (ringway.pending-wait-ms)");
            let reason = format!(
                "upstream {}: every usable node has as many open requests as it may have (ringway.node-requests-max){waited}",
                cluster.key
            );
            (503, "nodes_full", reason)
        }
        None => {
            let why = cluster.why_bare();
            let why =
                why.as_deref().unwrap_or("operators have drained or taken down every node that has weight");
            let reason = format!("upstream {} has no usable node: {why}", cluster.key);
            (503, "no_usable_node", reason)
        }
        Some(fault) => (fault.status(), pump::code_of(fault), format!("upstream {}: {fault}", cluster.key)),
    };
    let keep = connection.head.keep_alive && connection.exchange.request.expectation() == Expectation::None;
    // While the request's head still is where the connection reads: what plugins know of it lies there.
    plugins::own_answer(connection, matched.chains, Some(status));
    body.finish(connection);
    answer::send(connection, Some(&Answer { status, code, reason: &reason }), keep).await
}

/// Tries one node.
async fn attempt<'c>(
    core: &'c Rc<Core>,
    connection: &mut Downstream,
    matched: &Matched<'c>,
    endpoint: &Endpoint,
    body: &mut BodyStart,
    tries: &mut Tries,
    lease: &mut Lease<'c>,
) -> Result<Fate, Broken> {
    let (cluster, waits) = (matched.cluster, Waits::new(matched.timeouts, &core.limits));
    connection.access.tries(&endpoint.address);
    let mut upstream = connect(core, endpoint, tries.fresh, waits.connect).await?;
    let reused = upstream.requests > 1;
    if !reused {
        connection.access.connected();
    }
    let mut out = core.buffers.take_empty(Room::Head);
    write_head(connection, cluster, endpoint, &mut out);
    let (out, range) = body.join(out, connection);
    let written = upstream.socket.writer.write_all(out, range, waits.send).await;
    let again = written.result.is_err() || connection.exchange.is_idempotent();
    body.sent(written.buffer, &core.buffers, again);
    if let Err(error) = written.result {
        return Err(Broken::on(reused, send_fault(&error), written.bytes > 0));
    }
    connection.exchange.request.sent();
    let hedges = cluster.tuning.hedge_ms.is_some();
    let patience = lease.patience().filter(|patience| *patience < waits.read);
    if connection.exchange.request.is_complete() && (hedges || patience.is_some()) {
        if !upstream.socket.reader.is_armed() {
            upstream.socket.reader.arm(core.buffers.take(upstream.room));
        }
        let waited = patience.filter(|_| !hedges).unwrap_or_default();
        if !waited.is_zero() && upstream.socket.reader.ready_within(waited).await {
            if upstream.socket.reader.has_bytes() {
                lease.heard(false);
            }
        } else {
            let first = lease.index();
            let asking = Asking { connection, core, cluster, tries, waits, waited };
            let sought = Box::pin(asking.seek(upstream, lease)).await;
            if let Some(endpoint) = cluster.endpoints.get(lease.index()).filter(|_| lease.index() != first) {
                connection.access.try_failed();
                connection.access.tries(&endpoint.address);
            }
            upstream = sought?;
        }
    }
    let reused = upstream.requests > 1;
    match pump::carry(connection, &mut upstream, waits, body, matched.chains).await {
        Ok(Fate::Tunnel) => {
            lease.switched(101);
            let early = body.behind(&connection.buffer).to_vec();
            Ok(Box::pin(tunnel::run(connection, &mut upstream, early)).await)
        }
        Ok(fate) => {
            if connection.exchange.upstream_reusable() {
                let answer_bytes = connection.exchange.response.payload_bytes();
                upstream.room = Room::for_bytes(answer_bytes.saturating_add(HEAD_BYTES_USUAL));
                core.pool.keep(upstream, &cluster.keepalive, &core.buffers);
            }
            Ok(fate)
        }
        Err(Broken::Upstream { fault, sent, .. }) => Err(Broken::on(reused, fault, sent)),
        Err(broken) => Err(broken),
    }
}

async fn connect(
    core: &Core,
    endpoint: &Endpoint,
    fresh: bool,
    wait: Duration,
) -> Result<Box<Upstream>, Broken> {
    if !fresh && let Some(upstream) = core.pool.take(&endpoint.address) {
        core.count(|counters| counters.upstream_reuses.up());
        return Ok(upstream);
    }
    core.count(|counters| counters.upstream_connects.up());
    pool::connect(core, &endpoint.address, wait).await.map_err(|error| {
        tracing::debug!(node = %endpoint.address, "cannot connect: {error}");
        Broken::Upstream { fault: connect_fault(&error), sent: false, stale: false }
    })
}

pub(crate) fn connect_fault(error: &io::Error) -> UpstreamFault {
    match error.kind() {
        io::ErrorKind::TimedOut => UpstreamFault::ConnectTimeout,
        _ if pool::lacks_descriptor(error) => UpstreamFault::NoDescriptor,
        _ => UpstreamFault::Connect,
    }
}

pub(crate) fn send_fault(error: &io::Error) -> UpstreamFault {
    match error.kind() {
        io::ErrorKind::TimedOut => UpstreamFault::SendTimeout,
        _ => UpstreamFault::Closed,
    }
}

/// Appends the request's head as the node gets it.
pub(crate) fn write_head(connection: &Downstream, cluster: &Cluster, endpoint: &Endpoint, out: &mut Vec<u8>) {
    let (head, ends) = (&connection.head, &connection.ends);
    let bytes = connection.buffer.get(connection.at..).unwrap_or_default();
    let client_host = head.host.map_or(&[][..], |authority| authority.whole.of(bytes));
    let course = connection.course.as_deref();
    let host = match &cluster.host {
        HostRule::Pass if course.is_some_and(|course| !course.host.is_empty()) => {
            course.map_or(&[][..], |course| &course.host)
        }
        HostRule::Pass if !client_host.is_empty() => client_host,
        HostRule::Pass | HostRule::Node => &endpoint.authority,
        HostRule::Rewrite(host) => host,
    };
    let client = course.and_then(|course| course.client.as_ref());
    let client_ip = client.map_or(&*ends.client_ip, |client| &*client.ip);
    let facts = connection.exchange.response.facts();
    let lists = course.map(|course| course.request.lists());
    let (set, add, remove) = lists.as_ref().map(Lists::slices).unwrap_or_default();
    let edits = RequestEdits {
        method: course.map(|course| &*course.method).filter(|method| !method.is_empty()),
        set,
        add,
        remove,
        path_and_query: match connection.rewritten.as_slice() {
            [] => head.target.path_and_query_bytes(bytes),
            rewritten => rewritten,
        },
        host,
        forwarded: Some(Forwarded {
            client_ip,
            proto: b"http",
            host: client_host,
            port: &ends.local.port_digits,
            real_ip: Some(client_ip),
            trusted: connection.core.options.trusts(ends.client.ip()),
            append_for: true,
        }),
        upgrade: facts.may_upgrade.then_some(b"websocket"),
        te_trailers: facts.trailers,
        trailers: true,
        expect_continue: connection.exchange.request.expectation() == Expectation::Waiting,
        body: connection.exchange.request.body_header(),
        via: connection.core.options.via.then_some(VIA),
        ..RequestEdits::default()
    };
    encode_request(head, bytes, &edits, out);
}
