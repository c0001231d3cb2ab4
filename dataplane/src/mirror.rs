//! Copies of requests that go aside (`proxy-mirror`): sent without touching the request's own fate.
//!
//! A copy is made only where all of its body is at hand when the request goes out and is small; it is then sent by a task of its own on the
//! same core, over a connection of its own, and what is answered is read to its end or to a bound and dropped. So many copies are under
//! way on a core at once and no more: one too many is left out and counted, and the client never waits for any.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ringway_engine::exchange::Expectation;
use ringway_engine::http1::{Forwarded, RequestEdits, encode_request};
use ringway_engine::plugin::Copy;
use ringway_engine::upstream::{Address, Cluster};
use ringway_engine::view::View;

use crate::body::BodyStart;
use crate::buf::Room;
use crate::core::Core;
use crate::downstream::Downstream;
use crate::io::Socket;

/// Copies under way on one core.
const COPIES_MAX: u32 = 256;
/// Bytes of a copy's body.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Bytes of an answer that are read before the connection is closed.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// For each step of a copy, and for its answer as a whole.
const STEP_WAIT: Duration = Duration::from_secs(10);

/// How many copies are under way on this core.
#[derive(Debug, Default)]
pub(crate) struct Mirrors(Cell<u32>);

/// Sends the copies that plugins want of the request that is about to go out.
pub(crate) fn send(connection: &Downstream, view: &View, body: &BodyStart) {
    let Some(course) = connection.course.as_deref() else { return };
    for copy in &course.copies {
        let core = &connection.core;
        let address = view.cluster_at(copy.place).and_then(|cluster| address(core, cluster));
        let message = written(connection, body, copy);
        let ((Some(message), Some(address)), true) = ((message, address), core.mirrors.0.get() < COPIES_MAX)
        else {
            core.count(|counters| counters.copies_left_out.up());
            continue;
        };
        core.count(|counters| counters.copies.up());
        core.mirrors.0.set(core.mirrors.0.get().saturating_add(1));
        let under_way = UnderWay(Rc::clone(core));
        monoio::spawn(carry(under_way, address, message));
    }
}

/// Counts a copy as under way, however it ends.
struct UnderWay(Rc<Core>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.mirrors.0.set(self.0.mirrors.0.get().saturating_sub(1));
    }
}

/// The copy as it is sent; `None`: its body is not all here, or too large.
fn written(connection: &Downstream, body: &BodyStart, copy: &Copy) -> Option<Vec<u8>> {
    let request = &connection.exchange.request;
    if !request.is_complete() || request.expectation() != Expectation::None {
        return None;
    }
    let payload = body.framed(connection).filter(|payload| payload.len() <= BODY_BYTES_MAX)?;
    let bytes = connection.buffer.get(connection.at..).unwrap_or_default();
    let head = &connection.head;
    let sent = match connection.rewritten.as_slice() {
        [] => head.target.path_and_query_bytes(bytes),
        rewritten => rewritten,
    };
    let split = sent.iter().position(|byte| *byte == b'?').unwrap_or(sent.len());
    let (path, query) = sent.split_at(split);
    let mut target = Vec::with_capacity(sent.len());
    if let Some(other) = &copy.path {
        target.extend_from_slice(other.as_bytes());
    }
    if copy.path.is_none() || copy.is_prefix {
        target.extend_from_slice(path);
    }
    target.extend_from_slice(query);
    let course = connection.course.as_deref()?;
    let lists = course.request.lists();
    let edits = RequestEdits {
        method: Some(&*course.method).filter(|method| !method.is_empty()),
        path_and_query: &target,
        host: copy.authority.as_bytes(),
        set: &lists.set,
        add: &lists.add,
        remove: &lists.remove,
        // What the client says of itself is not passed on as if it had been judged.
        forwarded: Some(Forwarded { real_ip: Some(b""), ..Forwarded::default() }),
        body: request.body_header(),
        close: true,
        ..RequestEdits::default()
    };
    let mut message = Vec::with_capacity(1_024 + payload.len());
    encode_request(head, bytes, &edits, &mut message);
    message.extend_from_slice(payload);
    Some(message)
}

/// Where the copy goes; `None` while its name has not been looked up or is unknown.
fn address(core: &Core, cluster: &Arc<Cluster>) -> Option<Address> {
    let resolved = if cluster.names.is_empty() { None } else { Some(core.rosters.resolved(cluster)?) };
    let cluster = resolved.as_ref().unwrap_or(cluster);
    cluster.endpoints.first().map(|endpoint| endpoint.address.clone())
}

async fn carry(under_way: UnderWay, address: Address, message: Vec<u8>) {
    let core = &under_way.0;
    let Ok(mut socket) = Socket::connect(&address, STEP_WAIT, &core.deadlines).await else { return };
    let end = message.len();
    if socket.writer.write_all(message, 0..end, STEP_WAIT).await.result.is_err() {
        return;
    }
    let mut dropped = 0;
    let until_ms = core.deadlines.until_ms(STEP_WAIT);
    while let Some(left) = core.deadlines.left(until_ms).filter(|_| dropped < ANSWER_BYTES_MAX) {
        let read = socket.reader.read(core.buffers.take(Room::Head), left).await;
        dropped += read.buffer.len();
        core.buffers.give(read.buffer);
        if !matches!(read.result, Ok(1..)) {
            return;
        }
    }
}
