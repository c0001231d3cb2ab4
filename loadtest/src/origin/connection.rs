//! One connection of the origin: reads requests one after another, discards or collects their bodies, answers.
//!
//! Input behind a request that is still being answered waits in `carry`, and nothing more is read meanwhile, so
//! that a client that pipelines without reading cannot make memory grow.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;

use super::reply::{Body, Reply};
use super::request::{Action, RequestHead};
use super::server::{Counts, ServerPlan};
use crate::http::Fault;
use crate::http::chunked::ChunkDecoder;
use crate::http::head::HeadBuffer;

/// The most that `/echo` keeps before it refuses with 413.
const ECHO_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    head: HeadBuffer,
    state: State,
    request: Option<RequestHead>,
    last: Option<RequestHead>,
    echo: Vec<u8>,
    echo_overflow: bool,
    carry: Vec<u8>,
    reply: Reply,
    /// The socket may have more; with edge-triggered readiness nobody will say so again.
    readable: bool,
    /// The peer has sent its last byte; it may not all have been read yet.
    ended: bool,
}

#[derive(Debug)]
enum State {
    Head,
    Sized { left: u64 },
    Chunked(ChunkDecoder),
    Waiting,
    Replying { keep_alive: bool },
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Pending,
    /// Call `wake` after so long.
    Delay {
        ms: u64,
    },
    Close,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            head: HeadBuffer::default(),
            state: State::Head,
            request: None,
            last: None,
            echo: Vec::new(),
            echo_overflow: false,
            carry: Vec::new(),
            reply: Reply::default(),
            readable: false,
            ended: false,
        }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The poller saw the end of the stream.
    pub(crate) fn note_end(&mut self) {
        self.ended = true;
    }

    /// The delay that `Turn::Delay` asked for is over.
    pub(crate) fn wake(&mut self, plan: &ServerPlan, counts: &mut Counts, scratch: &mut [u8]) -> Turn {
        if matches!(self.state, State::Waiting) {
            self.answer(plan, counts);
        }
        self.advance(false, plan, counts, scratch)
    }

    /// Goes on as far as the socket allows.
    pub(crate) fn advance(
        &mut self,
        readable: bool,
        plan: &ServerPlan,
        counts: &mut Counts,
        scratch: &mut [u8],
    ) -> Turn {
        self.readable |= readable;
        loop {
            match self.reply.send(&mut self.stream) {
                Ok(true) => {}
                Ok(false) => return Turn::Pending,
                Err(_) => return Turn::Close,
            }
            match self.state {
                State::Waiting => return Turn::Pending,
                State::Replying { keep_alive: false } => return Turn::Close,
                State::Replying { keep_alive: true } => self.state = State::Head,
                State::Head | State::Sized { .. } | State::Chunked(_) => {}
            }
            let outcome = if self.carry.is_empty() {
                if !self.readable {
                    return Turn::Pending;
                }
                match self.stream.read(scratch) {
                    Ok(0) => return Turn::Close,
                    Ok(count) => {
                        self.readable = self.ended || count == scratch.len();
                        self.take(scratch.get(..count).unwrap_or_default(), plan, counts)
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        self.readable = false;
                        return Turn::Pending;
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(_) => return Turn::Close,
                }
            } else {
                let carry = std::mem::take(&mut self.carry);
                self.take(&carry, plan, counts)
            };
            match outcome {
                Ok(None) => {}
                Ok(Some(ms)) => return Turn::Delay { ms },
                Err(_) => {
                    counts.malformed += 1;
                    self.reply.fill(400, &plan.name, Body::Bytes(b"malformed request\n"), false, false);
                    self.state = State::Replying { keep_alive: false };
                }
            }
        }
    }

    /// Takes input until it ends or a request is complete; gives the delay in milliseconds that the request asks for.
    fn take(&mut self, input: &[u8], plan: &ServerPlan, counts: &mut Counts) -> Result<Option<u64>, Fault> {
        let mut rest = input;
        loop {
            if self.is_complete() {
                self.carry.extend_from_slice(rest);
                return Ok(self.complete(plan, counts));
            }
            if rest.is_empty() {
                return Ok(None);
            }
            let consumed = self.step(rest, counts)?;
            rest = rest.get(consumed..).unwrap_or_default();
        }
    }

    fn is_complete(&self) -> bool {
        match &self.state {
            State::Sized { left } => *left == 0,
            State::Chunked(decoder) => decoder.is_done(),
            State::Head | State::Waiting | State::Replying { .. } => false,
        }
    }

    fn step(&mut self, input: &[u8], counts: &mut Counts) -> Result<usize, Fault> {
        let (consumed, data) = match &mut self.state {
            State::Head => {
                let Some(head) = self.head.push(input)? else { return Ok(input.len()) };
                let consumed = head.consumed;
                let request = RequestHead::read(head.bytes)?;
                self.head.clear();
                self.state = if request.fields.chunked {
                    State::Chunked(ChunkDecoder::default())
                } else {
                    State::Sized { left: request.fields.content_length.unwrap_or(0) }
                };
                if request.fields.expect_continue && consumed == input.len() && !self.is_complete() {
                    self.reply.fill_continue();
                    self.last = None;
                }
                self.request = Some(request);
                return Ok(consumed);
            }
            State::Sized { left } => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left = left.saturating_sub(take as u64);
                (take, input.get(..take).unwrap_or_default())
            }
            State::Chunked(decoder) => {
                let decoded = decoder.decode(input)?;
                (decoded.consumed, decoded.data)
            }
            State::Waiting | State::Replying { .. } => (input.len(), &[][..]),
        };
        counts.body_bytes = counts.body_bytes.saturating_add(data.len() as u64);
        if self.request.is_some_and(|request| request.action == Action::Echo) {
            if self.echo.len().saturating_add(data.len()) > ECHO_BYTES_MAX {
                self.echo_overflow = true;
            } else {
                self.echo.extend_from_slice(data);
            }
        }
        Ok(consumed)
    }

    fn complete(&mut self, plan: &ServerPlan, counts: &mut Counts) -> Option<u64> {
        let asked_ms = match self.request {
            Some(RequestHead { action: Action::Delay { ms }, .. }) => ms,
            _ => 0,
        };
        let delay_ms = asked_ms + plan.delay_ms;
        if delay_ms > 0 {
            self.state = State::Waiting;
            return Some(delay_ms);
        }
        self.answer(plan, counts);
        None
    }

    fn answer(&mut self, plan: &ServerPlan, counts: &mut Counts) {
        let Some(request) = self.request.take() else { return };
        counts.requests += 1;
        counts.status_requests += u64::from(matches!(request.action, Action::Status(_)));
        self.state = State::Replying { keep_alive: request.keep_alive };
        // The same request again, as in every load test: the bytes of the last reply are the right ones.
        if self.last == Some(request) && self.reply.is_repeatable() {
            self.reply.repeat();
            return;
        }
        let (status, body) = match request.action {
            Action::Default | Action::Delay { .. } => (200, Body::Filler(plan.body_bytes)),
            Action::Bytes(count) => (200, Body::Filler(count)),
            Action::Echo if self.echo_overflow => (413, Body::Bytes(b"too long to echo\n")),
            Action::Echo => (200, Body::Bytes(&self.echo)),
            Action::Status(status @ (204 | 304)) => (status, Body::None),
            Action::Status(status) => (status, Body::Filler(plan.body_bytes)),
            Action::Refuse => (400, Body::Bytes(b"no such action\n")),
        };
        self.reply.fill(status, &plan.name, body, request.head_request, request.keep_alive);
        self.last = (request.action != Action::Echo).then_some(request);
        self.echo = Vec::new();
        self.echo_overflow = false;
    }
}
