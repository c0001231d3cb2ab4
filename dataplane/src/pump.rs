//! The two directions of one exchange, carried at the same time between two sockets.
//!
//! Each direction reads, lets the engine judge and frame, and writes before it reads on: that is the back-pressure. The answer
//! may overtake the body; when it ends first, the rest of the body is no longer sent.
//!
//! Invariants: every wait has a deadline; a future that is dropped here holds a socket that is closed next, or a read that
//! stays armed.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use ringway_engine::exchange::{
    Expectation, RequestSide, ResponseContext, ResponseSide, ResponseStep, UpstreamFault,
};
use ringway_engine::http1::{BodyError, CONTINUE, HEADROOM_BYTES, TAILROOM_BYTES};
use ringway_engine::plugin::{self, Chains};
use ringway_engine::upstream::Timeouts;

use crate::access::Access;
use crate::body::BodyStart;
use crate::buf::{LARGE_BYTES, Room, SMALL_BYTES};
use crate::config::Limits;
use crate::core::Core;
use crate::downstream::{Downstream, Fate};
use crate::io::{Reader, Writer};
use crate::look;
use crate::plugins;
use crate::pool::Upstream;

/// A client that waits for leave to send its body gets it from us after this (RFC 9110 section 10.1.1).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

/// Waits towards a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    pub(crate) connect: Duration,
    pub(crate) send: Duration,
    pub(crate) read: Duration,
}

impl Waits {
    pub(crate) fn new(configured: Option<Timeouts>, limits: &Limits) -> Waits {
        match configured {
            Some(timeouts) => Waits {
                connect: Duration::from_millis(timeouts.connect_ms),
                send: Duration::from_millis(timeouts.send_ms),
                read: Duration::from_millis(timeouts.read_ms),
            },
            None => Waits {
                connect: limits.upstream_connect,
                send: limits.upstream_send,
                read: limits.upstream_read,
            },
        }
    }
}

/// Why an exchange did not come to its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The client is gone, or has been told by the end of its connection.
    Client(Fate),
    /// The client's request is wrong, and nothing has been answered yet.
    Request { status: u16, reason: String },
    /// The node failed, and nothing has been answered yet.
    Upstream {
        fault: UpstreamFault,
        /// Some of the request went out.
        sent: bool,
        /// It was a kept connection that its node had closed.
        stale: bool,
    },
}

impl Broken {
    /// The node failed on a connection that was kept before (`reused`), or on a new one.
    pub(crate) fn on(reused: bool, fault: UpstreamFault, sent: bool) -> Broken {
        let stale = reused && fault == UpstreamFault::Closed;
        Broken::Upstream { fault, sent, stale }
    }
}

/// A stable word for a fault.
pub(crate) fn code_of(fault: &UpstreamFault) -> &'static str {
    match fault {
        UpstreamFault::Connect => "connect_failed",
        UpstreamFault::ConnectTimeout => "connect_timeout",
        UpstreamFault::NoDescriptor => "no_descriptor",
        UpstreamFault::Closed => "closed_early",
        UpstreamFault::SendTimeout => "send_timeout",
        UpstreamFault::ReadTimeout => "read_timeout",
        UpstreamFault::Head(_) => "bad_response_head",
        UpstreamFault::Body(_) => "bad_response_body",
        UpstreamFault::Filters => "filters_too_costly",
        UpstreamFault::Interims => "too_many_interim_responses",
        UpstreamFault::UnaskedUpgrade => "unasked_upgrade",
    }
}

/// How the body's direction ended before the answer's.
enum RequestEnd {
    /// All of it was sent.
    Complete,
    /// The node takes no more; it may still answer.
    NodeDeaf(UpstreamFault),
    /// The client broke off.
    ClientGone,
    ClientSlow,
    Bad(BodyError),
}

/// How the answer's direction failed.
enum ResponseEnd {
    Client,
    Node { fault: UpstreamFault, started: bool },
}

/// Carries the rest of the request and the answer. The head, and what came with it of the body, have been sent.
pub(crate) async fn carry(
    connection: &mut Downstream,
    upstream: &mut Upstream,
    waits: Waits,
    body: &mut BodyStart,
    chains: Chains<'_>,
) -> Result<Fate, Broken> {
    let core = Rc::clone(&connection.core);
    let (go_on, sending) = (Cell::new(false), Cell::new(false));
    let asked = Cell::new(connection.exchange.request.is_complete());
    let close = !connection.head.keep_alive || connection.is_spent();
    if !upstream.socket.reader.is_armed() {
        upstream.socket.reader.arm(core.buffers.take(upstream.room));
    }
    let bytes = connection.buffer.get(connection.at..).unwrap_or_default();
    let received = (&connection.head, bytes, look::known(connection.looked.as_deref()));
    let course = connection.course.as_deref();
    let changing = plugins::changing(course, received, &connection.ends, &core, chains);
    let answer = Answering {
        core: &core,
        close,
        plugins: changing.as_deref(),
        wait: waits.read,
        access: &connection.access,
        go_on: &go_on,
        asked: &asked,
        sending: &sending,
        asks_leave: connection.exchange.request.expectation() == Expectation::Waiting,
    };
    let (request, response) = (&mut connection.exchange.request, &mut connection.exchange.response);
    let (reader, writer) = (&mut connection.socket.reader, &mut connection.socket.writer);
    let ended = if request.is_complete() {
        (answer.run(&mut upstream.socket.reader, writer, response).await, RequestEnd::Complete)
    } else {
        body.go_beyond();
        let clock = upstream.socket.clock();
        let asking = Asking { core: &core, wait: waits.send, go_on: &go_on };
        let mut ended = None;
        // Boxed: most requests have no body that comes later, and every connection's task has room for what it may do.
        let mut outward = Box::pin(asking.run(reader, &mut upstream.socket.writer, request, body));
        let mut inward = Box::pin(answer.run(&mut upstream.socket.reader, writer, response));
        let answered = poll_fn(|context| {
            if let Poll::Ready(answered) = inward.as_mut().poll(context) {
                return Poll::Ready(Some(answered));
            }
            if ended.is_none()
                && let Poll::Ready(end) = outward.as_mut().poll(context)
            {
                let fatal =
                    matches!(end, RequestEnd::ClientGone | RequestEnd::ClientSlow | RequestEnd::Bad(_));
                ended = Some(end);
                if fatal {
                    return Poll::Ready(None);
                }
                // The node's time begins when it has the whole request.
                asked.set(true);
                clock.read_within(waits.read);
            }
            Poll::Pending
        })
        .await;
        match answered {
            Some(answered) => (answered, ended.unwrap_or(RequestEnd::Complete)),
            None => (Ok(()), ended.unwrap_or(RequestEnd::ClientGone)),
        }
    };
    conclude(connection, ended, sending.get())
}

fn conclude(
    connection: &Downstream,
    (answered, asked): (Result<(), ResponseEnd>, RequestEnd),
    sending: bool,
) -> Result<Fate, Broken> {
    // Behind part of a head, also of an interim one, there is no place for an answer of our own.
    let started = sending || connection.exchange.response.status().is_some();
    match asked {
        RequestEnd::Complete | RequestEnd::NodeDeaf(_) => {}
        RequestEnd::ClientGone => {
            connection.core.count(|counters| counters.client_gone.up());
            return Err(Broken::Client(if started { Fate::Reset } else { Fate::Close }));
        }
        RequestEnd::ClientSlow | RequestEnd::Bad(_) if started => return Err(Broken::Client(Fate::Reset)),
        RequestEnd::ClientSlow => {
            return Err(Broken::Request {
                status: 408,
                reason: "the request's body did not come in time".into(),
            });
        }
        RequestEnd::Bad(error) => {
            return Err(Broken::Request { status: error.status(), reason: error.to_string() });
        }
    }
    let response = &connection.exchange.response;
    match answered {
        Ok(()) if response.is_tunnel() => Ok(Fate::Tunnel),
        Ok(()) if !response.closes_downstream() => Ok(Fate::Keep),
        Ok(()) if !connection.head.keep_alive && connection.exchange.request.is_complete() => Ok(Fate::Done),
        // Also behind a whole request more may come, and would turn the close into a reset that takes the answer with it.
        Ok(()) => Ok(Fate::Linger),
        Err(ResponseEnd::Client) => {
            connection.core.count(|counters| counters.client_gone.up());
            // What is queued for it must not be followed by an end that looks like the answer's.
            Err(Broken::Client(Fate::Reset))
        }
        // The client has part of an answer: only the end of its connection can tell it that the rest is missing.
        Err(ResponseEnd::Node { started: true, .. }) => Err(Broken::Client(Fate::Reset)),
        Err(ResponseEnd::Node { fault, started: false }) => {
            let fault = match (asked, fault) {
                // The end of the reads is then only what followed from the end of the writes.
                (RequestEnd::NodeDeaf(deaf), UpstreamFault::Closed | UpstreamFault::ReadTimeout) => deaf,
                _ => fault,
            };
            Err(Broken::Upstream { fault, sent: true, stale: false })
        }
    }
}

/// Reads and drops what is left of a request's body, so that the connection can go on.
pub(crate) async fn discard(connection: &mut Downstream) -> Fate {
    let core = Rc::clone(&connection.core);
    let request = &mut connection.exchange.request;
    request.discard();
    let mut dropped = 0;
    let reader = &mut connection.socket.reader;
    let until_ms = core.deadlines.until_ms(core.limits.linger);
    while dropped < core.limits.linger_bytes_max {
        if !reader.is_armed() {
            reader.arm(core.buffers.take(Room::Small));
        }
        let Some(left) = core.deadlines.left(until_ms) else { return Fate::Linger };
        let mut read = reader.finish(left).await;
        let filled = HEADROOM_BYTES..read.buffer.len();
        if !matches!(read.result, Ok(1..)) {
            return Fate::Linger;
        }
        dropped += filled.len();
        let end = filled.end;
        let Ok(relayed) = request.relay(&mut read.buffer, filled) else { return Fate::Linger };
        if relayed.end {
            connection.buffer.truncate(HEADROOM_BYTES);
            connection
                .buffer
                .extend_from_slice(read.buffer.get(relayed.consumed_end..end).unwrap_or_default());
            connection.at = HEADROOM_BYTES;
            core.buffers.give(read.buffer);
            return Fate::Keep;
        }
        core.buffers.give(read.buffer);
    }
    Fate::Linger
}

fn room(large: bool) -> Room {
    if large { Room::Large } else { Room::Small }
}

/// The body's direction.
struct Asking<'a> {
    core: &'a Core,
    wait: Duration,
    go_on: &'a Cell<bool>,
}

impl Asking<'_> {
    async fn run(
        &self,
        reader: &mut Reader,
        writer: &mut Writer,
        side: &mut RequestSide,
        body: &mut BodyStart,
    ) -> RequestEnd {
        if side.expectation() == Expectation::Waiting {
            // Set by the other direction, which is polled before this one by the same task.
            poll_fn(|_| if self.go_on.get() { Poll::Ready(()) } else { Poll::Pending }).await;
            side.release();
        }
        let mut carried = 0;
        let mut buffer = self.core.buffers.take(room(side.expects_at_least(SMALL_BYTES as u64)));
        while !side.is_complete() {
            let read = reader.read(buffer, self.core.limits.request_body_idle).await;
            buffer = read.buffer;
            match read.result {
                Ok(0) => return RequestEnd::ClientGone,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return RequestEnd::ClientSlow,
                Err(_) => return RequestEnd::ClientGone,
            }
            let filled = HEADROOM_BYTES..buffer.len();
            let end = filled.end;
            buffer.resize(end + TAILROOM_BYTES, 0);
            let relayed = match side.relay(&mut buffer, filled) {
                Ok(relayed) => relayed,
                Err(error) => return RequestEnd::Bad(error),
            };
            body.leave(buffer.get(relayed.consumed_end..end).unwrap_or_default());
            carried += relayed.payload_bytes;
            buffer = match self.send(writer, buffer, relayed.send, side).await {
                Ok(buffer) => buffer,
                Err(fault) => return RequestEnd::NodeDeaf(fault),
            };
            buffer = self.core.buffers.renew(buffer, room(carried >= LARGE_BYTES as u64));
        }
        self.core.buffers.give(buffer);
        RequestEnd::Complete
    }

    async fn send(
        &self,
        writer: &mut Writer,
        mut buffer: Vec<u8>,
        range: std::ops::Range<usize>,
        side: &mut RequestSide,
    ) -> Result<Vec<u8>, UpstreamFault> {
        buffer.truncate(range.end);
        buffer.extend_from_slice(side.epilogue());
        let end = buffer.len();
        let written = writer.write_all(buffer, range.start..end, self.wait).await;
        match written.result {
            Ok(()) => {
                side.sent();
                Ok(written.buffer)
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(UpstreamFault::SendTimeout),
            Err(_) => Err(UpstreamFault::Closed),
        }
    }
}

/// The answer's direction.
struct Answering<'a> {
    core: &'a Core,
    /// The client's connection ends with this answer.
    close: bool,
    /// What plugins change of it.
    plugins: Option<&'a plugin::Answering<'a>>,
    wait: Duration,
    access: &'a Access,
    go_on: &'a Cell<bool>,
    /// The node has all of the request, or takes no more of it. Until then it is the client that is waited for.
    asked: &'a Cell<bool>,
    /// Bytes for the client are under way.
    sending: &'a Cell<bool>,
    /// The client waits for leave to send its body.
    asks_leave: bool,
}

impl Answering<'_> {
    async fn run(
        &self,
        reader: &mut Reader,
        writer: &mut Writer,
        side: &mut ResponseSide,
    ) -> Result<(), ResponseEnd> {
        let mut from = HEADROOM_BYTES;
        let mut started = false;
        let mut carried = 0;
        loop {
            if self.asks_leave && !self.go_on.get() && side.status().is_none() {
                self.give_leave(reader, writer).await?;
            }
            let read = if self.asked.get() {
                reader.finish(self.wait).await
            } else {
                reader.finish_unhurried().await
            };
            let mut buffer = read.buffer;
            let end = buffer.len();
            let mut out = self.core.buffers.take_empty(Room::Head);
            let step = match read.result {
                Ok(0) => self.receive_end(side, end, &mut out),
                Ok(_) => {
                    self.access.node_speaks();
                    buffer.resize(end + TAILROOM_BYTES, 0);
                    self.receive(side, &mut buffer, from..end, &mut out)
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(UpstreamFault::ReadTimeout),
                Err(_) => Err(UpstreamFault::Closed),
            };
            let step = step.map_err(|fault| ResponseEnd::Node { fault, started })?;
            carried += step.send.len() as u64;
            self.sending.set(true);
            buffer = self.send(writer, buffer, end, &step, side, out).await.ok_or(ResponseEnd::Client)?;
            self.sending.set(false);
            if let Some(status) = side.status_given().filter(|_| !started) {
                self.core.count(|counters| counters.response(status));
                started = true;
            }
            if step.go_on {
                self.go_on.set(true);
            }
            if side.is_done() || side.is_tunnel() {
                self.core.buffers.give(buffer);
                return Ok(());
            }
            if step.keep < end {
                // A head in part: the rest is read behind it, into a larger buffer when this one is full.
                from = step.keep;
                buffer.truncate(end);
                if buffer.capacity() <= end + TAILROOM_BYTES {
                    buffer = self.core.buffers.grow(buffer);
                }
            } else {
                from = HEADROOM_BYTES;
                let large = carried >= LARGE_BYTES as u64 || side.expects_at_least(SMALL_BYTES as u64);
                buffer = self.core.buffers.renew(buffer, room(large));
            }
            reader.arm(buffer);
        }
    }

    /// Has the engine judge what came. Apart, so that what it is told is not kept while anything is waited for.
    fn receive(
        &self,
        side: &mut ResponseSide,
        buffer: &mut [u8],
        filled: std::ops::Range<usize>,
        out: &mut Vec<u8>,
    ) -> Result<ResponseStep, UpstreamFault> {
        side.receive(buffer, filled, &self.context(&self.core.date()), out)
    }

    fn receive_end(
        &self,
        side: &mut ResponseSide,
        end: usize,
        out: &mut Vec<u8>,
    ) -> Result<ResponseStep, UpstreamFault> {
        let tail = side.receive_end(&self.context(&self.core.date()), out)?;
        out.extend_from_slice(tail);
        Ok(ResponseStep { send: end..end, keep: end, go_on: false })
    }

    fn context<'a>(&'a self, date: &'a [u8]) -> ResponseContext<'a> {
        ResponseContext {
            limits: &self.core.limits.head,
            interim_responses_max: self.core.limits.interim_responses_max,
            close: self.close || self.core.is_closing(),
            awaits_leave: self.asks_leave && !self.go_on.get(),
            date,
            via: self.core.options.via.then_some(b"1.1 ringway"),
            plugins: self.plugins,
        }
    }

    /// Lets the client send its body when the node has said nothing for a while (RFC 9110 section 10.1.1).
    async fn give_leave(&self, reader: &mut Reader, writer: &mut Writer) -> Result<(), ResponseEnd> {
        // Boxed: it is large and rare, and every connection's task has room for what it may wait for.
        let mut patience = Box::pin(monoio::time::sleep(CONTINUE_WAIT));
        let mut ready = pin!(reader.ready());
        let node_speaks = poll_fn(|context| match ready.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => patience.as_mut().poll(context).map(|()| false),
        })
        .await;
        if !node_speaks {
            self.sending.set(true);
            let written =
                writer.write_all(CONTINUE.to_vec(), 0..CONTINUE.len(), self.core.limits.response_send).await;
            written.result.map_err(|_| ResponseEnd::Client)?;
            self.sending.set(false);
            self.go_on.set(true);
        }
        Ok(())
    }

    /// Sends heads and what came of the body in one piece: from where the body lies, when the heads fit in front of it.
    async fn send(
        &self,
        writer: &mut Writer,
        mut buffer: Vec<u8>,
        filled_end: usize,
        step: &ResponseStep,
        side: &ResponseSide,
        mut out: Vec<u8>,
    ) -> Option<Vec<u8>> {
        let wait = self.core.limits.response_send;
        let last = side.is_done() && side.closes_downstream();
        let body = step.send.clone();
        if body.is_empty() || out.len() > body.start || step.keep < filled_end {
            out.extend_from_slice(buffer.get(body).unwrap_or_default());
            out.extend_from_slice(side.epilogue());
            let end = out.len();
            let written = if last {
                writer.write_last(out, 0..end, wait).await
            } else {
                writer.write_all(out, 0..end, wait).await
            };
            self.core.buffers.give(written.buffer);
            written.result.ok()?;
            return Some(buffer);
        }
        // What stood in front has been read: the node's head, and the headroom.
        let start = body.start - out.len();
        buffer.get_mut(start..body.start)?.copy_from_slice(&out);
        self.core.buffers.give(out);
        buffer.truncate(body.end);
        buffer.extend_from_slice(side.epilogue());
        let end = buffer.len();
        let written = if last {
            writer.write_last(buffer, start..end, wait).await
        } else {
            writer.write_all(buffer, start..end, wait).await
        };
        written.result.ok()?;
        Some(written.buffer)
    }
}
