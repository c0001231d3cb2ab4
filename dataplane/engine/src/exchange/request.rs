//! The request's direction: the body from the client to the node, and `Expect: 100-continue`.

use std::ops::Range;

use crate::http1::{
    BodyError, BodyFraming, BodyHeader, BodyLimits, Relay, Relayed, RequestHead, SinkFraming,
};

/// Whether the client waits before it sends its body (RFC 9110 section 10.1.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expectation {
    /// It does not, or has been told to go on.
    #[default]
    None,
    /// It waits for 100 (Continue) from the node.
    Waiting,
}

/// The request's body on its way.
#[derive(Debug, Default)]
pub struct RequestSide {
    relay: Relay,
    framing: BodyFraming,
    expectation: Expectation,
    /// Something of the request is not with the node yet: its head, or bytes that were relayed last.
    owes: bool,
    /// The rest of the body does not go to the node.
    discards: bool,
}

impl RequestSide {
    pub(super) fn begin(&mut self, head: &RequestHead) {
        self.framing = head.body;
        let sink = match head.body {
            BodyFraming::Chunked => SinkFraming::Chunked,
            _ => SinkFraming::Length,
        };
        let limits = BodyLimits { forward_trailers: true, ..BodyLimits::default() };
        self.relay.restart(head.body, sink, limits);
        self.expectation = if head.expect_continue { Expectation::Waiting } else { Expectation::None };
        self.discards = false;
        self.begin_try();
    }

    /// Another connection has got nothing yet.
    pub(super) fn begin_try(&mut self) {
        self.owes = true;
        self.check_invariants();
    }

    /// How the body comes.
    pub fn framing(&self) -> BodyFraming {
        self.framing
    }

    /// The framing field for the node's request.
    pub fn body_header(&self) -> BodyHeader {
        match self.framing {
            BodyFraming::None | BodyFraming::UntilClose => BodyHeader::None,
            BodyFraming::Length(length) => BodyHeader::Length(length),
            BodyFraming::Chunked => BodyHeader::Chunked,
        }
    }

    /// Whether the client still waits for leave to send its body.
    pub fn expectation(&self) -> Expectation {
        self.expectation
    }

    /// The client has been told to go on, or did so by itself.
    pub fn release(&mut self) {
        self.expectation = Expectation::None;
    }

    /// From here on the rest of the body is only read to find its end.
    pub fn discard(&mut self) {
        self.discards = true;
        self.relay.discard();
        self.check_invariants();
    }

    /// Everything that was to be sent so far has been: the head, and what [`RequestSide::relay`] gave. It has to be said
    /// after each send, and never while one is under way.
    pub fn sent(&mut self) {
        self.owes = false;
    }

    /// Whether the body has been read to its end.
    pub fn is_complete(&self) -> bool {
        self.relay.is_done()
    }

    /// Whether the node has got the request to its end. Until then the connection to it cannot carry another one: the node
    /// would take that for the rest of this one's body.
    pub fn is_delivered(&self) -> bool {
        self.relay.is_done() && !self.owes && !self.discards
    }

    /// Whether so many bytes of the body are certainly still to come.
    pub fn expects_at_least(&self, bytes: u64) -> bool {
        self.relay.remaining_bytes().is_some_and(|remaining| remaining >= bytes)
    }

    /// Bytes of the body so far, without its framing.
    pub fn payload_bytes(&self) -> u64 {
        self.relay.payload_bytes_total()
    }

    /// Takes bytes of the body that lie at `filled`; see [`Relay::relay`].
    pub fn relay(&mut self, buffer: &mut [u8], filled: Range<usize>) -> Result<Relayed, BodyError> {
        self.expectation = Expectation::None;
        self.owes = true;
        let relayed = self.relay.relay(buffer, filled);
        self.check_invariants();
        relayed
    }

    /// What is to be sent behind the last relayed bytes.
    pub fn epilogue(&self) -> &[u8] {
        self.relay.epilogue()
    }

    fn check_invariants(&self) {
        let waits = self.expectation == Expectation::Waiting;
        debug_assert!(!waits || !self.framing.is_empty(), "nothing to wait for");
        debug_assert!(!waits || self.relay.payload_bytes_total() == 0, "the body has begun");
        debug_assert!(self.framing != BodyFraming::UntilClose, "no request ends with its connection");
    }
}
