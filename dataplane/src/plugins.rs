//! The plugins of one request, between the connection and the engine's `plugin` room, which decides everything.
//!
//! Here a chain gets what it may know (the head, the client, turns and random numbers of this core), and what it decided is kept
//! with the connection until the request has ended. A request without plugins comes here for [`forget`] and [`begin`] alone, which look
//! at one pointer.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ringway_engine::facts::{Facts, Known};
use ringway_engine::http1::{Method, RequestHead};
use ringway_engine::plugin::{Answering, Asked, Chains, Course, Edits, Verdict};
use ringway_engine::route::path;
use ringway_engine::upstream::Cluster;
use ringway_engine::view::{Target, View};
use ringway_snapshot::limits::{FILTER_STEPS_MAX, FILTERED_OUTPUT_BYTES_MAX};
use ringway_snapshot::replacement::Replacement;

use crate::core::{Core, Ends, Scratch};
use crate::downstream::Downstream;
use crate::look;
use crate::proxy::facts;

/// How the gateway's own answer is changed. Filters are few and hold their tables together: copying them is cheap.
#[derive(Debug, Default)]
pub(crate) struct OwnChanges {
    pub(crate) status: Option<u16>,
    pub(crate) edits: Edits,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) filters: Vec<Replacement>,
}

impl OwnChanges {
    /// The body after all filters; `None` where they have nothing to do with it.
    pub(crate) fn filtered(&self, body: &[u8]) -> Option<Vec<u8>> {
        let mut steps_left = FILTER_STEPS_MAX;
        self.filters.iter().fold(None, |made, filter| {
            let before = made.as_deref().unwrap_or(body);
            let next = filter.apply(before, FILTERED_OUTPUT_BYTES_MAX, &mut steps_left);
            // Of our own words nothing is so secret that no answer were better.
            next.ok().flatten().or(made)
        })
    }
}

/// A request begins: what was decided for the one before holds no more.
pub(crate) fn forget(connection: &mut Downstream) {
    if let Some(course) = &mut connection.course {
        course.clear();
        connection.own = None;
    }
}

/// The upstream of the request: which its plugins chose, else its route's.
pub(crate) fn cluster<'v>(
    connection: &Downstream,
    view: &'v View,
    target: &Target,
) -> Option<&'v Arc<Cluster>> {
    let chosen = connection.course.as_ref().and_then(|course| course.place);
    chosen.map_or_else(|| view.cluster(target), |place| view.cluster_at(place))
}

/// Who counts as the request's client.
pub(crate) fn client(connection: &Downstream) -> SocketAddr {
    let chosen = connection.course.as_ref().and_then(|course| course.client.as_ref());
    chosen.map_or(connection.ends.client, |client| SocketAddr::new(client.address, client.port))
}

/// Lets the plugins look at the request that was just routed. Holds it for as long as they say.
pub(crate) async fn request(connection: &mut Downstream, chains: Chains<'_>) -> Verdict {
    let verdict = decide(connection, chains);
    let delay_ms = connection.course.as_ref().map_or(0, |course| course.delay_ms);
    if delay_ms > 0 {
        // Boxed: rare, and every connection's task has room for what it may wait for.
        Box::pin(monoio::time::sleep(Duration::from_millis(delay_ms))).await;
    }
    verdict
}

fn decide(connection: &mut Downstream, chains: Chains<'_>) -> Verdict {
    let mut course = connection.course.take().unwrap_or_default();
    course.clear();
    let bytes = connection.buffer.get(connection.at..).unwrap_or_default();
    let mut scratch = connection.core.scratch.borrow_mut();
    let Scratch { path: decoded, captures } = &mut *scratch;
    let raw = connection.head.target.path_bytes(bytes);
    let path = path::normalize(raw, decoded).map_or(raw, |normal| normal.path);
    let mut known = facts(&connection.head, bytes, path, &connection.ends, &connection.core);
    known.parameters = Some(captures);
    known.content = look::known(connection.looked.as_deref());
    let mut chance = connection.core.chance.borrow_mut();
    chance.unix_ms = unix_ms();
    let callers = chains.callers;
    let asked = &mut Asked { facts: &known, course: &mut course, chance: &mut chance, callers };
    let verdict = chains.request(asked);
    if chains.have_answer_phase(&course) {
        course.path.extend_from_slice(path);
    }
    if !course.uri.is_empty() {
        connection.rewritten.clear();
        connection.rewritten.extend_from_slice(&course.uri);
    }
    if !course.hidden.is_empty() {
        if connection.rewritten.is_empty() {
            let received = connection.head.target.path_and_query_bytes(bytes);
            connection.rewritten.extend_from_slice(received);
        }
        course.hide_arguments(&mut connection.rewritten);
    }
    connection.course = Some(course);
    verdict
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The exchange begins: it has to know what the node gets.
pub(crate) fn begin(connection: &mut Downstream) {
    if let Some(course) = connection.course.as_ref().filter(|course| !course.method.is_empty()) {
        connection.exchange.sends(Method::from_bytes(&course.method));
    }
}

/// What an answer of a node is changed by. Boxed: it waits with the answer, and most requests have none.
pub(crate) fn changing<'c>(
    course: Option<&'c Course>,
    (head, bytes, content): (&'c RequestHead, &'c [u8], Known<'c>),
    ends: &'c Ends,
    core: &'c Core,
    chains: Chains<'c>,
) -> Option<Box<Answering<'c>>> {
    let course = course.filter(|course| !course.answer.is_empty() || chains.have_answer_phase(course))?;
    let facts = Facts { content, ..facts(head, bytes, &course.path, ends, core) };
    Some(Box::new(Answering { chains, facts, course }))
}

/// Decides how an answer of our own of that status is changed; `None`: the plugins' reply.
pub(crate) fn own_answer(connection: &mut Downstream, chains: Chains<'_>, status: Option<u16>) {
    let core = Rc::clone(&connection.core);
    let bytes = connection.buffer.get(connection.at..).unwrap_or_default();
    let course = connection.course.as_deref();
    let received = (&connection.head, bytes, look::known(connection.looked.as_deref()));
    let Some(changing) = changing(course, received, &connection.ends, &core, chains) else {
        return;
    };
    // Where nodes were tried, what the client gets stands for what they did not say.
    let upstream = status.filter(|_| connection.access.has_tried());
    let changes = changing.decide(status.unwrap_or(changing.course.reply.status), upstream);
    let body = changes.body.map(<[u8]>::to_vec);
    let filters = changes.filters.iter().copied().flatten().cloned().collect();
    let own = OwnChanges { status: changes.status, edits: changes.edits, body, filters };
    connection.own = Some(Box::new(own));
}
