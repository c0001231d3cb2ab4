//! A request's body read before the request goes out, for whoever looks into it.
//!
//! Each read is judged and framed as `pump.rs` does it on the way to a node, and put behind the one before. Where the framing is not the
//! payload's own (chunks), that is kept beside it until it has been looked into.

use std::io;
use std::rc::Rc;

use ringway_engine::http1::{BodyFraming, HEADROOM_BYTES, TAILROOM_BYTES};

use super::{BodyStart, FRONT_BYTES, Part};
use crate::buf::{LARGE_BYTES, Room};
use crate::downstream::Downstream;
use crate::look::{Held, Missed};

/// Where the payload of a whole body is.
#[derive(Debug)]
pub(crate) enum Payload {
    /// It is what goes to the node.
    AsSent,
    /// Without its framing.
    Apart(Vec<u8>),
}

impl Payload {
    /// Its bytes, where `start` is what was gathered with it.
    pub(crate) fn of<'a>(&'a self, start: &'a BodyStart) -> &'a [u8] {
        match (self, &start.part) {
            (Payload::Apart(payload), _) => payload,
            (Payload::AsSent, Part::Apart { buffer, start }) => buffer.get(*start..).unwrap_or_default(),
            (Payload::AsSent, Part::InPlace(_)) => &[],
        }
    }
}

impl BodyStart {
    /// Takes what came of the body with the head, and reads on to its end or until it is larger than `bytes_max`; then there is no payload.
    pub(crate) async fn gather_all(
        connection: &mut Downstream,
        bytes_max: u64,
        held: &mut Held,
    ) -> Result<(BodyStart, Option<Payload>), Missed> {
        let core = Rc::clone(&connection.core);
        let request = &mut connection.exchange.request;
        let is_chunked = request.framing() == BodyFraming::Chunked;
        let begin = connection.at.saturating_add(connection.head.head_bytes).min(connection.buffer.len());
        let came = connection.buffer.get(begin..).unwrap_or_default();
        let (mut framed, mut payload, mut leftover) = (vec![0; FRONT_BYTES], Vec::new(), Vec::new());
        let mut next_at = None;
        let mut piece = core.buffers.take(Room::for_bytes(came.len() as u64));
        piece.extend_from_slice(came);
        loop {
            let end = piece.len();
            piece.resize(end + TAILROOM_BYTES, 0);
            let relayed = request.relay(&mut piece, HEADROOM_BYTES..end).map_err(Missed::Bad)?;
            let sent = piece.get(relayed.send.clone()).unwrap_or_default();
            let more = sent.len() + if is_chunked { relayed.payload.len() } else { 0 };
            if !held.add(more) {
                return Err(Missed::Full);
            }
            framed.extend_from_slice(sent);
            framed.extend_from_slice(request.epilogue());
            if is_chunked {
                payload.extend_from_slice(piece.get(relayed.payload).unwrap_or_default());
            }
            match next_at {
                None => next_at = Some(begin + relayed.consumed_end - HEADROOM_BYTES),
                Some(_) => {
                    leftover.extend_from_slice(piece.get(relayed.consumed_end..end).unwrap_or_default());
                }
            }
            let is_large = request.payload_bytes() > bytes_max;
            if request.is_complete() || is_large {
                core.buffers.give(piece);
                let part = Part::Apart { buffer: framed, start: FRONT_BYTES };
                let next_at = next_at.unwrap_or(connection.buffer.len());
                let start = BodyStart { part, next_at, leftover, went_beyond: false };
                let payload = if is_chunked { Payload::Apart(payload) } else { Payload::AsSent };
                return Ok((start, (!is_large).then_some(payload)));
            }
            let room = if request.payload_bytes() >= LARGE_BYTES as u64 { Room::Large } else { Room::Small };
            piece = core.buffers.renew(piece, room);
            let read = connection.socket.reader.read(piece, core.limits.request_body_idle).await;
            piece = read.buffer;
            match read.result {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(Missed::Slow),
                Ok(0) | Err(_) => return Err(Missed::Gone),
            }
        }
    }
}
