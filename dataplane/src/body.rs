//! The first bytes of a request's body: those that are there when its head has been read.
//!
//! They go out with the head in one send, and where the request may be sent twice they stay at hand until an answer begins, so that a
//! try on another node can send them again. The head's bytes in the connection's buffer stay untouched for the same reason.
//!
//! Invariant: no more is held than a large buffer takes, and no more than the client has sent already; but for a body that somebody
//! looks into (`look.rs`), which is read on for, up to that look's limit.

mod whole;

use std::ops::Range;

use ringway_engine::exchange::Expectation;
use ringway_engine::http1::{BodyError, BodyFraming, HEADROOM_BYTES};

use crate::buf::{Buffers, LARGE_BYTES, Room};
use crate::core::Core;
use crate::downstream::Downstream;

/// Room in front of bytes that are kept apart: an ordinary head fits.
const FRONT_BYTES: usize = HEADROOM_BYTES + 2_048;

/// What came of the body with the head, framed for the node.
#[derive(Debug)]
pub(crate) struct BodyStart {
    part: Part,
    /// Where in the connection's buffer the bytes of the next request begin.
    next_at: usize,
    /// Bytes of the next request that came with the rest of the body.
    leftover: Vec<u8>,
    /// More of the body than this has gone to a node, or this is not held any more.
    went_beyond: bool,
}

#[derive(Debug)]
enum Part {
    /// It lies in the connection's buffer as it is sent.
    InPlace(Range<usize>),
    /// In a buffer of their own from `start` on, with room for a head in front.
    Apart { buffer: Vec<u8>, start: usize },
}

impl BodyStart {
    /// Takes what came with the head out of the connection's buffer, where it also stays.
    pub(crate) fn take(connection: &mut Downstream) -> Result<BodyStart, BodyError> {
        if let Some(gathered) = connection.looked.as_mut().and_then(|looked| looked.start.take()) {
            return Ok(gathered);
        }
        let request = &mut connection.exchange.request;
        let start = connection.at.saturating_add(connection.head.head_bytes).min(connection.buffer.len());
        let end = connection.buffer.len();
        let (part, next_at) = if request.framing() == BodyFraming::Chunked && start < end {
            // Framing writes in front of the payload, where the head still is: so it is done elsewhere.
            let mut buffer = room_with_front(connection.core.as_ref(), end - start);
            buffer.extend_from_slice(connection.buffer.get(start..end).unwrap_or_default());
            let filled = FRONT_BYTES..buffer.len();
            let relayed = request.relay(&mut buffer, filled)?;
            buffer.truncate(relayed.send.end);
            buffer.extend_from_slice(request.epilogue());
            (Part::Apart { buffer, start: relayed.send.start }, start + relayed.consumed_end - FRONT_BYTES)
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

    /// Adds what the client has sent of a body of known length since its head was read, so that it need not be sent in two
    /// pieces. Nobody waits.
    pub(crate) fn gather(&mut self, connection: &mut Downstream) -> Result<(), BodyError> {
        let request = &mut connection.exchange.request;
        let Part::InPlace(there) = &self.part else { return Ok(()) };
        if request.expectation() != Expectation::None || !request.expects_at_least(1) {
            return Ok(());
        }
        let unread =
            connection.socket.unread_bytes().min(LARGE_BYTES.saturating_sub(FRONT_BYTES + there.len()));
        if unread == 0 {
            return Ok(());
        }
        let mut buffer = room_with_front(connection.core.as_ref(), there.len() + unread);
        buffer.extend_from_slice(connection.buffer.get(there.clone()).unwrap_or_default());
        let received = buffer.len();
        // An end or an error is found by the read that comes next.
        let _ = connection.socket.receive_now(&mut buffer, unread);
        let filled = received..buffer.len();
        let end = filled.end;
        if !filled.is_empty() {
            let relayed = request.relay(&mut buffer, filled)?;
            self.leftover.extend_from_slice(buffer.get(relayed.consumed_end..end).unwrap_or_default());
            buffer.truncate(relayed.send.end);
        }
        self.part = Part::Apart { buffer, start: FRONT_BYTES };
        Ok(())
    }

    /// The head and these bytes, to be sent in one piece: a buffer and what to send of it. [`BodyStart::sent`] takes it back.
    pub(crate) fn join(&mut self, mut head: Vec<u8>, connection: &Downstream) -> (Vec<u8>, Range<usize>) {
        let bytes = match &mut self.part {
            Part::InPlace(range) => connection.buffer.get(range.clone()).unwrap_or_default(),
            Part::Apart { buffer, start } => {
                let end = buffer.len();
                if let Some(from) = start.checked_sub(head.len())
                    && let Some(front) = buffer.get_mut(from..*start)
                {
                    front.copy_from_slice(&head);
                    connection.core.buffers.give(head);
                    return (std::mem::take(buffer), from..end);
                }
                buffer.get(*start..).unwrap_or_default()
            }
        };
        head.extend_from_slice(bytes);
        let end = head.len();
        (head, 0..end)
    }

    /// Takes back what [`BodyStart::join`] gave. `again`: another try may need it; where none does, the buffer is for others, which get it
    /// while it is in the caches, and not when an answer has come.
    pub(crate) fn sent(&mut self, sent: Vec<u8>, buffers: &Buffers, again: bool) {
        match &mut self.part {
            Part::Apart { buffer, .. } if buffer.is_empty() && again => *buffer = sent,
            Part::Apart { buffer, .. } if buffer.is_empty() => {
                buffers.give(sent);
                self.went_beyond = true;
            }
            _ => buffers.give(sent),
        }
    }

    /// What came of the body so far, framed for the node.
    pub(crate) fn framed<'a>(&'a self, connection: &'a Downstream) -> Option<&'a [u8]> {
        match &self.part {
            Part::InPlace(range) => connection.buffer.get(range.clone()),
            Part::Apart { buffer, start } => buffer.get(*start..),
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
        if let Part::Apart { buffer, .. } = self.part {
            connection.core.buffers.give(buffer);
        }
    }
}

fn room_with_front(core: &Core, bytes: usize) -> Vec<u8> {
    let mut buffer = core.buffers.take(Room::for_bytes((FRONT_BYTES + bytes) as u64));
    buffer.resize(FRONT_BYTES, 0);
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sent_buffer_is_for_others_unless_another_try_may_need_it() {
        let buffers = Buffers::default();
        let part = || Part::Apart { buffer: Vec::new(), start: 2 };
        let start = || BodyStart { part: part(), next_at: 0, leftover: Vec::new(), went_beyond: false };
        let filled = || {
            let mut buffer = buffers.take(Room::Large);
            buffer.clear();
            buffer.extend_from_slice(b"..body");
            buffer
        };
        let (mut kept, buffer) = (start(), filled());
        let address = buffer.as_ptr();
        kept.sent(buffer, &buffers, true);
        assert!(kept.is_repeatable());
        assert!(matches!(&kept.part, Part::Apart { buffer, .. } if buffer == b"..body"));
        let (mut given, other) = (start(), filled());
        assert_ne!(other.as_ptr(), address, "the first one is still needed");
        let address = other.as_ptr();
        given.sent(other, &buffers, false);
        assert!(!given.is_repeatable());
        let taken = buffers.take(Room::Large);
        assert_eq!(taken.as_ptr(), address);
    }
}
