//! The first bytes of a request's body: those that came with its head.
//!
//! They go out with the head in one send, and stay at hand until an answer begins, so that a try on another node can
//! send them again. The head's bytes in the connection's buffer stay untouched for the same reason.

use std::ops::Range;

use ringway_engine::http1::{BodyError, BodyFraming, HEADROOM_BYTES};

use crate::buf::Room;
use crate::downstream::Downstream;

/// What came of the body with the head, framed for the node.
#[derive(Debug)]
pub(crate) struct BodyStart {
    part: Part,
    /// Where in the connection's buffer the bytes of the next request begin.
    next_at: usize,
    /// Bytes of the next request that came with the rest of the body.
    leftover: Vec<u8>,
    /// More of the body than this has gone to a node.
    went_beyond: bool,
}

#[derive(Debug)]
enum Part {
    /// It lies in the connection's buffer as it is sent.
    InPlace(Range<usize>),
    /// Chunks were framed anew, in a buffer of their own.
    Framed(Vec<u8>),
}

impl BodyStart {
    /// Takes what came with the head out of the connection's buffer, where it also stays.
    pub(crate) fn take(connection: &mut Downstream) -> Result<BodyStart, BodyError> {
        let request = &mut connection.exchange.request;
        let start = connection.at.saturating_add(connection.head.head_bytes).min(connection.buffer.len());
        let end = connection.buffer.len();
        let (part, next_at) = if request.framing() == BodyFraming::Chunked && start < end {
            // Framing writes in front of the payload, where the head still is: so it is done elsewhere.
            let mut framed = connection.core.buffers.take(Room::for_bytes((end - start) as u64));
            framed.extend_from_slice(connection.buffer.get(start..end).unwrap_or_default());
            let filled = HEADROOM_BYTES..framed.len();
            let relayed = request.relay(&mut framed, filled)?;
            framed.truncate(relayed.send.end);
            framed.drain(..relayed.send.start);
            framed.extend_from_slice(request.epilogue());
            (Part::Framed(framed), start + relayed.consumed_end - HEADROOM_BYTES)
        } else if request.is_complete() {
            (Part::InPlace(start..start), start)
        } else if start == end {
            (Part::InPlace(start..start), end)
        } else {
            let relayed = request.relay(&mut connection.buffer, start..end)?;
            (Part::InPlace(relayed.send), relayed.consumed_end)
        };
        Ok(BodyStart { part, next_at, leftover: Vec::new(), went_beyond: false })
    }

    /// The bytes to send behind the head.
    pub(crate) fn bytes<'a>(&'a self, buffer: &'a [u8]) -> &'a [u8] {
        match &self.part {
            Part::InPlace(range) => buffer.get(range.clone()).unwrap_or_default(),
            Part::Framed(framed) => framed,
        }
    }

    /// Whether all of the body that any node has got is still here.
    pub(crate) fn is_repeatable(&self) -> bool {
        !self.went_beyond
    }

    /// More of the body goes to a node.
    pub(crate) fn go_beyond(&mut self) {
        self.went_beyond = true;
    }

    /// What the client has sent behind this request so far.
    pub(crate) fn behind<'a>(&self, buffer: &'a [u8]) -> &'a [u8] {
        buffer.get(self.next_at..).unwrap_or_default()
    }

    /// Bytes behind the end of the body.
    pub(crate) fn leave(&mut self, bytes: &[u8]) {
        self.leftover.extend_from_slice(bytes);
    }

    /// The exchange is over: the connection's buffer goes on with the next request.
    pub(crate) fn finish(self, connection: &mut Downstream) {
        connection.at = self.next_at;
        connection.buffer.extend_from_slice(&self.leftover);
        if let Part::Framed(framed) = self.part {
            connection.core.buffers.give(framed);
        }
    }
}
