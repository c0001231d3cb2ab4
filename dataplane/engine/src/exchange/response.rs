//! The answer's direction: interim heads, the final head, the body, a tunnel.

use std::ops::Range;

use super::{RequestFacts, UpstreamFault};
use crate::http1::{
    BodyError, BodyFraming, BodyHeader, BodyLimits, HeadLimits, Method, Parse, Relay, ResponseEdits,
    ResponseHead, SinkFraming, Version, encode_response,
};
use crate::plugin::{Answering, Changes, Lists};
use ringway_snapshot::limits::FILTERED_BODY_BYTES_MAX;
use ringway_snapshot::replacement::Unfiltered;

/// What the driver adds to a final head, asked for when the head is there.
#[derive(Debug, Clone, Copy)]
pub struct ResponseContext<'a> {
    /// Limits of the node's heads.
    pub limits: &'a HeadLimits,
    /// 1xx answers that are forwarded before the node is given up.
    pub interim_responses_max: u32,
    /// The client's connection ends with this exchange.
    pub close: bool,
    /// The client waits for 100 (Continue) and has not got one: whether it will send its body after a final answer cannot be
    /// known (RFC 9110 section 10.1.1), so its connection ends, lest its next request be taken for that body.
    pub awaits_leave: bool,
    /// For answers without a Date (RFC 9110 section 6.6.1).
    pub date: &'a [u8],
    /// Added to Via, when the operator wants it.
    pub via: Option<&'a [u8]>,
    /// What plugins change of a final head.
    pub plugins: Option<&'a Answering<'a>>,
}

/// What came of one read from the node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResponseStep {
    /// Behind what was put into `out`: bytes of the buffer to send.
    pub send: Range<usize>,
    /// Bytes of the buffer from here on are not understood yet: a head that came in part. Nothing, when it is the length.
    pub keep: usize,
    /// A 100 (Continue) was passed on: the client may send its body.
    pub go_on: bool,
}

/// Whether the node's body does not go to the client.
fn replaces_body(changes: &Changes<'_>) -> bool {
    changes.body.is_some() || changes.status.is_some_and(|status| !has_body(status))
}

/// RFC 9110 sections 15.3.5 and 15.4.5.
fn has_body(status: u16) -> bool {
    status >= 200 && status != 204 && status != 304
}

/// Where the answer stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Head,
    Body,
    /// The body is held, and the head with it, until all of it is there.
    Held,
    Done,
    Tunnel,
    Failed,
}

/// An answer whose body is filtered, as far as it has come.
#[derive(Debug)]
struct Held {
    head: Vec<u8>,
    body: Vec<u8>,
    /// When the head came, the client's connection was to end with it.
    close: bool,
}

/// The answer on its way.
#[derive(Debug, Default)]
pub struct ResponseSide {
    facts: RequestFacts,
    head: ResponseHead,
    relay: Relay,
    phase: Phase,
    sink: SinkFraming,
    interims: u32,
    /// Any byte came from the node in this try.
    received: bool,
    /// The final status of the node, once the client was given an answer.
    status: Option<u16>,
    /// The one that plugins gave the client in its place.
    status_changed: Option<u16>,
    /// Bytes came behind the end of the answer.
    excess: bool,
    /// An interim head said that the connection ends, or announced a body that it cannot have.
    doubtful: bool,
    close: bool,
    held: Option<Box<Held>>,
}

impl ResponseSide {
    pub(super) fn permit_upgrade(&mut self, may_upgrade: bool) {
        debug_assert!(!self.received, "too late");
        self.facts.may_upgrade = may_upgrade;
    }

    /// The node gets the request with that method.
    pub(super) fn sends(&mut self, method: Method) {
        self.facts.sent = method;
    }

    pub(super) fn begin(&mut self, facts: RequestFacts) {
        self.facts = facts;
        self.interims = 0;
        (self.status, self.status_changed) = (None, None);
        self.sink = SinkFraming::None;
        self.close = false;
        self.received = false;
        // What the last answer left behind would be sent in front of this one.
        self.relay.restart(BodyFraming::None, SinkFraming::None, BodyLimits::default());
        self.begin_try();
    }

    /// Begins another try of the same request.
    pub(super) fn begin_try(&mut self) {
        debug_assert!(!self.received, "a request whose answer has begun is not repeated");
        self.head.reset();
        self.excess = false;
        self.doubtful = false;
        self.held = None;
        self.phase = Phase::Head;
        self.check_invariants();
    }

    /// What was said at [`super::Exchange::begin`].
    pub fn facts(&self) -> &RequestFacts {
        &self.facts
    }

    /// Whether any byte of an answer came.
    pub fn has_received(&self) -> bool {
        self.received
    }

    /// The node's final status, once the client was given an answer.
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// The final status that the client was given: the node's, unless plugins changed it.
    pub fn status_given(&self) -> Option<u16> {
        self.status_changed.or(self.status)
    }

    /// Whether the answer has ended.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Whether bytes from here on belong to a tunnel.
    pub fn is_tunnel(&self) -> bool {
        self.phase == Phase::Tunnel
    }

    /// Bytes of the answer's body so far.
    pub fn payload_bytes(&self) -> u64 {
        self.relay.payload_bytes_total()
    }

    /// Whether a body of at least `bytes` is still to come, or one of unknown length.
    pub fn expects_at_least(&self, bytes: u64) -> bool {
        matches!(self.phase, Phase::Body | Phase::Held)
            && match self.head.body {
                BodyFraming::Length(length) => {
                    length.saturating_sub(self.relay.payload_bytes_total()) >= bytes
                }
                BodyFraming::Chunked | BodyFraming::UntilClose => self.relay.payload_bytes_total() >= bytes,
                BodyFraming::None => false,
            }
    }

    /// Whether the client was told, or has to notice, that its connection ends here.
    pub fn closes_downstream(&self) -> bool {
        self.close || self.phase != Phase::Done
    }

    /// Whether the end of the connection is the end of the client's body, so that a truncation has to be a reset.
    pub fn ends_with_connection(&self) -> bool {
        self.status.is_some() && self.sink == SinkFraming::UntilClose
    }

    pub(super) fn is_reusable(&self) -> bool {
        self.phase == Phase::Done
            && self.head.keep_alive
            && !self.excess
            && !self.doubtful
            && !self.has_body_unread()
    }

    /// The node was asked with another method than HEAD and sends a body that this client's HEAD has no place for. It is not read,
    /// and would be taken for the answer to the next request.
    fn has_body_unread(&self) -> bool {
        let silenced = self.facts.method == Method::Head && self.facts.sent != Method::Head;
        silenced && has_body(self.head.status) && self.head.content_length != Some(0)
    }

    /// Bytes to send behind those of the last step.
    pub fn epilogue(&self) -> &[u8] {
        self.relay.epilogue()
    }

    /// Takes bytes that the node sent, at `filled`. Heads for the client are appended to `out`, which goes first; then
    /// come `send` and the epilogue. After an error nothing of this call is to be sent, and `out` is as it was.
    pub fn receive(
        &mut self,
        buffer: &mut [u8],
        filled: Range<usize>,
        context: &ResponseContext<'_>,
        out: &mut Vec<u8>,
    ) -> Result<ResponseStep, UpstreamFault> {
        let (statuses, out_bytes) = ((self.status, self.status_changed), out.len());
        let step = self.advance(buffer, filled, context, out);
        if step.is_err() {
            self.phase = Phase::Failed;
            (self.status, self.status_changed) = statuses;
            out.truncate(out_bytes);
        }
        self.check_invariants();
        step
    }

    /// The node ended its stream. Gives what the client is still to be sent behind what was appended to `out`.
    pub fn receive_end(
        &mut self,
        context: &ResponseContext<'_>,
        out: &mut Vec<u8>,
    ) -> Result<&'static [u8], UpstreamFault> {
        let end = self.advance_to_end(context, out);
        if end.is_err() {
            self.phase = Phase::Failed;
        }
        self.check_invariants();
        end
    }

    fn advance_to_end(
        &mut self,
        context: &ResponseContext<'_>,
        out: &mut Vec<u8>,
    ) -> Result<&'static [u8], UpstreamFault> {
        match self.phase {
            Phase::Body => {
                let bytes = self.relay.finish_on_eof().map_err(UpstreamFault::Body)?;
                self.phase = Phase::Done;
                Ok(bytes)
            }
            Phase::Held => {
                self.relay.finish_on_eof().map_err(UpstreamFault::Body)?;
                self.release(context, out)?;
                Ok(&[])
            }
            Phase::Done | Phase::Tunnel => Ok(&[]),
            Phase::Head | Phase::Failed => Err(UpstreamFault::Closed),
        }
    }

    fn advance(
        &mut self,
        buffer: &mut [u8],
        filled: Range<usize>,
        context: &ResponseContext<'_>,
        out: &mut Vec<u8>,
    ) -> Result<ResponseStep, UpstreamFault> {
        self.received |= !filled.is_empty();
        if self.phase == Phase::Failed {
            return Err(UpstreamFault::Closed);
        }
        let mut at = filled.start;
        let mut go_on = false;
        while self.phase == Phase::Head {
            let bytes = buffer.get(at..filled.end).unwrap_or_default();
            match self.head.parse(bytes, context.limits, self.facts.method).map_err(UpstreamFault::Head)? {
                Parse::Partial => {
                    return Ok(ResponseStep { send: at..at, keep: at, go_on });
                }
                Parse::Done(()) => {
                    go_on |= self.head.status == 100;
                    let close = context.close || (context.awaits_leave && !go_on);
                    self.take_head(bytes, &ResponseContext { close, ..*context }, out)?;
                    at = at.saturating_add(self.head.head_bytes).min(filled.end);
                }
            }
        }
        if self.phase == Phase::Tunnel {
            return Ok(ResponseStep { send: at..filled.end, keep: filled.end, go_on });
        }
        let relayed = self.relay.relay(buffer, at..filled.end).map_err(UpstreamFault::Body)?;
        if let Some(held) = &mut self.held {
            held.body.extend_from_slice(buffer.get(relayed.send).unwrap_or_default());
            if relayed.end {
                self.release(context, out)?;
            }
            self.excess |= relayed.consumed_end < filled.end;
            return Ok(ResponseStep { send: filled.end..filled.end, keep: filled.end, go_on });
        }
        if relayed.end {
            self.phase = Phase::Done;
        }
        // An answer that nobody asked for would be the answer to the next request (response queue poisoning).
        self.excess |= relayed.consumed_end < filled.end;
        Ok(ResponseStep { send: relayed.send, keep: filled.end, go_on })
    }

    /// Writes a head for the client and decides what follows it.
    fn take_head(
        &mut self,
        bytes: &[u8],
        context: &ResponseContext<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), UpstreamFault> {
        if self.head.is_interim() {
            self.interims = self.interims.saturating_add(1);
            if self.interims > context.interim_responses_max {
                return Err(UpstreamFault::Interims);
            }
            self.doubtful |= !self.head.keep_alive;
            // RFC 9110 section 15.2: a client of HTTP/1.0 does not know them.
            if self.facts.version == Version::Http11 {
                let edits = ResponseEdits { version: self.facts.version, ..ResponseEdits::default() };
                encode_response(&self.head, bytes, &edits, out);
            }
            return Ok(());
        }
        if self.head.is_tunnel && !self.switches_as_asked(bytes) {
            return Err(UpstreamFault::UnaskedUpgrade);
        }
        let changes = match context.plugins {
            Some(plugins) if !self.head.is_tunnel => plugins.decide(self.head.status, Some(self.head.status)),
            _ => Changes::default(),
        };
        if self.is_filtered(bytes, &changes) {
            return self.hold(bytes, context, out);
        }
        let (body, sink) = self.framing(&changes);
        self.write_head(bytes, &changes, (body, sink), context, out);
        let limits = BodyLimits { forward_trailers: self.facts.trailers, ..BodyLimits::default() };
        self.relay.restart(self.head.body, sink, limits);
        if replaces_body(&changes) {
            // It goes with the head; what the node sends is only read to find its end.
            self.relay.discard();
            if self.facts.method != Method::Head && has_body(changes.status.unwrap_or(self.head.status)) {
                out.extend_from_slice(changes.body.unwrap_or_default());
            }
        }
        self.phase = match () {
            () if self.head.is_tunnel => Phase::Tunnel,
            () if self.relay.is_done() => Phase::Done,
            () => Phase::Body,
        };
        Ok(())
    }

    fn write_head(
        &mut self,
        bytes: &[u8],
        changes: &Changes<'_>,
        (body, sink): (BodyHeader, SinkFraming),
        context: &ResponseContext<'_>,
        out: &mut Vec<u8>,
    ) {
        self.sink = sink;
        self.close = context.close || sink == SinkFraming::UntilClose || self.head.is_tunnel;
        let lists = (!changes.edits.is_empty()).then(|| changes.edits.lists());
        let (set, add, remove) = lists.as_ref().map(Lists::slices).unwrap_or_default();
        let edits = ResponseEdits {
            status: changes.status,
            set,
            add,
            remove,
            version: self.facts.version,
            close: self.close,
            body,
            trailers: self.facts.trailers,
            upgrade: self.head.is_tunnel,
            date: Some(context.date),
            via: context.via,
            ..ResponseEdits::default()
        };
        encode_response(&self.head, bytes, &edits, out);
        (self.status, self.status_changed) = (Some(self.head.status), changes.status);
    }

    /// Whether filters have something to do: with a body, and one that is not compressed.
    fn is_filtered(&self, bytes: &[u8], changes: &Changes<'_>) -> bool {
        let is_plain = |value: &[u8]| value.eq_ignore_ascii_case(b"identity") || value.is_empty();
        !changes.filters.is_empty()
            && !replaces_body(changes)
            && !self.head.body.is_empty()
            && self.head.values(bytes, b"content-encoding").all(is_plain)
    }

    /// Holds the answer until its body is whole. Nothing of it has gone to the client, so that one which is too long can still be
    /// answered with an error, and not with what should have been filtered.
    fn hold(
        &mut self,
        bytes: &[u8],
        context: &ResponseContext<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), UpstreamFault> {
        let payload_bytes_max = FILTERED_BODY_BYTES_MAX as u64;
        if matches!(self.head.body, BodyFraming::Length(length) if length > payload_bytes_max) {
            return Err(UpstreamFault::Body(BodyError::TooLarge));
        }
        let head = bytes.get(..self.head.head_bytes).unwrap_or(bytes).to_vec();
        self.held = Some(Box::new(Held { head, body: Vec::new(), close: context.close }));
        // The bare payload is wanted, without any framing.
        let limits = BodyLimits { payload_bytes_max, ..BodyLimits::default() };
        self.relay.restart(self.head.body, SinkFraming::UntilClose, limits);
        self.phase = Phase::Held;
        if self.relay.is_done() { self.release(context, out) } else { Ok(()) }
    }

    /// The held body is whole: head and body go out.
    fn release(&mut self, context: &ResponseContext<'_>, out: &mut Vec<u8>) -> Result<(), UpstreamFault> {
        let (Some(held), Some(plugins)) = (self.held.take(), context.plugins) else {
            return Err(UpstreamFault::Closed);
        };
        // They say what they said when the head came: nothing that they know has changed.
        let changes = plugins.decide(self.head.status, Some(self.head.status));
        let body = changes.filtered(held.body).map_err(|why| match why {
            Unfiltered::TooLong => UpstreamFault::Body(BodyError::TooLarge),
            Unfiltered::TooCostly => UpstreamFault::Filters,
        })?;
        let framing = (BodyHeader::Length(body.len() as u64), SinkFraming::Length);
        let context = &ResponseContext { close: held.close || context.close, ..*context };
        self.write_head(&held.head, &changes, framing, context, out);
        out.extend_from_slice(&body);
        self.phase = Phase::Done;
        Ok(())
    }

    /// Whether the 101 is for the protocol that was offered, and names no other (RFC 9110 section 7.8).
    fn switches_as_asked(&self, bytes: &[u8]) -> bool {
        let mut protocols = self.head.values(bytes, b"upgrade");
        let is_websocket = protocols.next().is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
        self.facts.may_upgrade && self.head.status == 101 && is_websocket && protocols.next().is_none()
    }

    /// How the body comes, and how it goes on to this client.
    fn framing(&self, changes: &Changes<'_>) -> (BodyHeader, SinkFraming) {
        let chunks = self.facts.version == Version::Http11;
        if replaces_body(changes) {
            let length = changes.body.unwrap_or_default().len() as u64;
            let has_body = has_body(changes.status.unwrap_or(self.head.status));
            return (
                if has_body { BodyHeader::Length(length) } else { BodyHeader::None },
                SinkFraming::Length,
            );
        }
        match self.head.body {
            BodyFraming::Length(length) => (BodyHeader::Length(length), SinkFraming::Length),
            BodyFraming::Chunked | BodyFraming::UntilClose if chunks => {
                (BodyHeader::Chunked, SinkFraming::Chunked)
            }
            BodyFraming::Chunked | BodyFraming::UntilClose => (BodyHeader::None, SinkFraming::UntilClose),
            // What filters would leave of the body is not known.
            BodyFraming::None if self.facts.method == Method::Head && !changes.filters.is_empty() => {
                (BodyHeader::None, SinkFraming::Length)
            }
            BodyFraming::None => (self.bodiless_header(changes), SinkFraming::Length),
        }
    }

    /// What an answer without a body says of its length.
    fn bodiless_header(&self, changes: &Changes<'_>) -> BodyHeader {
        let status = changes.status.unwrap_or(self.head.status);
        if self.facts.method == Method::Head || status == 304 {
            // RFC 9110 section 8.6: they may tell the length that a GET would have had.
            self.head.content_length.map_or(BodyHeader::None, BodyHeader::Length)
        } else if has_body(status) {
            // It was a 204 or 304. With the new status a client waits for a body, and for the end of the connection if nothing else
            // tells where that ends.
            BodyHeader::Length(0)
        } else {
            BodyHeader::None
        }
    }

    fn check_invariants(&self) {
        let answered = self.status.is_some();
        debug_assert!(!answered || self.received, "an answer from nothing");
        match self.phase {
            Phase::Head => debug_assert!(!answered, "a final head was taken"),
            Phase::Body => debug_assert!(answered && !self.relay.is_done(), "a body that has ended"),
            Phase::Held => debug_assert!(!answered && self.held.is_some(), "an answer before its end"),
            Phase::Done => debug_assert!(answered && self.relay.is_done(), "an end before the end"),
            Phase::Tunnel => debug_assert!(self.facts.may_upgrade && self.status == Some(101), "unasked"),
            Phase::Failed => {}
        }
        let chunks = answered && self.sink == SinkFraming::Chunked;
        debug_assert!(!chunks || self.facts.version == Version::Http11, "chunks for HTTP/1.0");
        debug_assert!(!self.ends_with_connection() || self.close, "a body that ends with nothing");
    }
}
