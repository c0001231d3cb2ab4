//! A body on its way from one connection to the other, reframed where it lies.
//!
//! The driver reads into a buffer behind some headroom and hands both in. All the payload of one read becomes one
//! contiguous range, moved together by a single forward pass, and is framed as at most one chunk by writing the chunk's size
//! into the bytes before it. So one read makes one send, without a copy when the read held one chunk.
//!
//! Invariants: bytes from `consumed_end` on are never touched; the payload sent is exactly the payload received; the
//! work is linear in the bytes received.

use std::ops::Range;

use super::chunked::{ChunkDecoder, ChunkEvent, ChunkLimits};
use super::error::BodyError;
use super::framing::{BodyFraming, SinkFraming};

/// Bytes in front of the filled range that may be overwritten: by `relay` with a chunk's size, or by a head that is somewhat
/// longer than the one that was read there.
pub const HEADROOM_BYTES: usize = 128;
/// Bytes to leave behind the filled range. Nothing breaks without them, but a chunk that fills the buffer to its end
/// is then moved as a whole to make room for its CRLF.
pub const TAILROOM_BYTES: usize = 8;

/// Digits of the largest size, and CRLF.
const SIZE_LINE_BYTES_MAX: usize = 18;
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Bounds of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    pub payload_bytes_max: u64,
    pub chunk: ChunkLimits,
    /// Forward trailer fields, when both sides are chunked. They are dropped by default.
    pub forward_trailers: bool,
}

impl Default for BodyLimits {
    fn default() -> BodyLimits {
        BodyLimits { payload_bytes_max: u64::MAX, chunk: ChunkLimits::default(), forward_trailers: false }
    }
}

/// What came of one read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relayed {
    /// Bytes of the buffer to send on, framed. Then, when `end`, those of `epilogue`.
    pub send: Range<usize>,
    /// The payload alone, inside `send` unless the sink takes none.
    pub payload: Range<usize>,
    /// What lies between here and the end of the filled range belongs to what follows the message.
    pub consumed_end: usize,
    /// The message has ended.
    pub end: bool,
    pub payload_bytes: u64,
}

/// Relays one body.
#[derive(Debug, Default)]
pub struct Relay {
    source: BodyFraming,
    sink: SinkFraming,
    limits: BodyLimits,
    /// What is left of a body of known length.
    remaining: u64,
    payload_bytes_total: u64,
    done: bool,
    /// Why the body was refused. Nothing of it is understood after that.
    failed: Option<BodyError>,
    decoder: ChunkDecoder,
    epilogue: Vec<u8>,
}

impl Relay {
    pub fn new(source: BodyFraming, sink: SinkFraming, limits: BodyLimits) -> Relay {
        let mut relay = Relay::default();
        relay.restart(source, sink, limits);
        relay
    }

    /// Begins a new body, keeping the allocations.
    pub fn restart(&mut self, source: BodyFraming, sink: SinkFraming, limits: BodyLimits) {
        self.source = source;
        self.sink = sink;
        self.limits = limits;
        self.remaining = match source {
            BodyFraming::Length(length) => length,
            _ => 0,
        };
        self.payload_bytes_total = 0;
        self.failed = None;
        // A sink that is chunked must still be told that nothing comes: by `relay` of an empty range.
        self.done = source.is_empty() && sink != SinkFraming::Chunked;
        // Of no other body is the decoder ever asked: it is large, and most bodies are of known length.
        if source == BodyFraming::Chunked {
            self.decoder.restart(limits.chunk);
        }
        self.epilogue.clear();
    }

    /// From here on the body is only read to find its end.
    pub fn discard(&mut self) {
        self.sink = SinkFraming::None;
    }

    /// Whether the message has ended and nothing more is to be read for it.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Payload bytes seen so far.
    pub fn payload_bytes_total(&self) -> u64 {
        self.payload_bytes_total
    }

    /// How many bytes of the body are still to come, when that is known.
    pub fn remaining_bytes(&self) -> Option<u64> {
        match self.source {
            BodyFraming::None | BodyFraming::Length(_) => Some(self.remaining),
            BodyFraming::Chunked | BodyFraming::UntilClose => None,
        }
    }

    /// Bytes to send behind those of the last `Relayed`: the end of the message, when it found no room in place.
    pub fn epilogue(&self) -> &[u8] {
        &self.epilogue
    }

    /// Takes the bytes at `filled`, which are the next ones of the body and perhaps what follows it. The bytes of
    /// `buf` before and behind `filled` may be overwritten; before it there must be `HEADROOM_BYTES`.
    /// After an error the message is lost, and every further call gives the same error.
    pub fn relay(&mut self, buf: &mut [u8], filled: Range<usize>) -> Result<Relayed, BodyError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let relayed = self.advance(buf, filled);
        self.failed = relayed.as_ref().err().copied();
        relayed
    }

    fn advance(&mut self, buf: &mut [u8], filled: Range<usize>) -> Result<Relayed, BodyError> {
        let filled = filled.start..filled.end.min(buf.len());
        if filled.start < HEADROOM_BYTES || filled.start > filled.end {
            return Err(BodyError::Headroom);
        }
        let (payload, consumed_end) =
            if self.done { (filled.start..filled.start, filled.start) } else { self.payload(buf, &filled)? };
        let payload_bytes = payload.len() as u64;
        self.payload_bytes_total = self.payload_bytes_total.saturating_add(payload_bytes);
        if self.payload_bytes_total > self.limits.payload_bytes_max {
            return Err(BodyError::TooLarge);
        }
        let ended_before = self.done;
        self.done = match self.source {
            BodyFraming::None => true,
            BodyFraming::Length(_) => self.remaining == 0,
            BodyFraming::Chunked => self.decoder.is_done(),
            BodyFraming::UntilClose => false,
        };
        let ends = self.done && !ended_before;
        // Room for what is written behind the payload: never the bytes of the next message.
        let room_end = if consumed_end < filled.end { consumed_end } else { buf.len() };
        let (send, payload) = match self.sink {
            SinkFraming::None => (filled.start..filled.start, payload),
            SinkFraming::Length | SinkFraming::UntilClose => (payload.clone(), payload),
            SinkFraming::Chunked => self.frame(buf, payload, room_end, ends)?,
        };
        Ok(Relayed { send, payload, consumed_end, end: self.done, payload_bytes })
    }

    /// The connection that the body came from has ended. What is still to be sent for the message, when that
    /// ends it rightly (RFC 9112 section 8).
    pub fn finish_on_eof(&mut self) -> Result<&'static [u8], BodyError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.done {
            return Ok(&[]);
        }
        match self.source {
            BodyFraming::UntilClose | BodyFraming::None | BodyFraming::Length(0) => {
                self.done = true;
                Ok(if self.sink == SinkFraming::Chunked { LAST_CHUNK } else { &[] })
            }
            BodyFraming::Length(_) | BodyFraming::Chunked => Err(BodyError::Truncated),
        }
    }

    /// Finds the payload in `filled` and moves it together. Gives back where it is and where the message's bytes end.
    fn payload(&mut self, buf: &mut [u8], filled: &Range<usize>) -> Result<(Range<usize>, usize), BodyError> {
        match self.source {
            BodyFraming::None => Ok((filled.start..filled.start, filled.start)),
            BodyFraming::UntilClose => Ok((filled.clone(), filled.end)),
            BodyFraming::Length(_) => {
                let length = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(filled.len());
                self.remaining = self.remaining.saturating_sub(length as u64);
                let end = filled.start + length;
                Ok((filled.start..end, end))
            }
            BodyFraming::Chunked => {
                let mut payload = filled.start..filled.start;
                let mut at = filled.start;
                loop {
                    let received = buf.get(..filled.end).unwrap_or(&[]);
                    match self.decoder.next(received, &mut at)? {
                        ChunkEvent::Data(data) if payload.is_empty() => payload = data,
                        ChunkEvent::Data(data) => {
                            let length = data.len();
                            if data.start != payload.end {
                                buf.copy_within(data, payload.end);
                            }
                            payload.end += length;
                        }
                        ChunkEvent::Partial | ChunkEvent::End => return Ok((payload, at)),
                    }
                }
            }
        }
    }

    /// Makes one chunk of the payload, and the last chunk behind it when the message `ends`.
    fn frame(
        &mut self,
        buf: &mut [u8],
        payload: Range<usize>,
        room_end: usize,
        ends: bool,
    ) -> Result<(Range<usize>, Range<usize>), BodyError> {
        let mut payload = payload;
        if !payload.is_empty() && !ends && room_end.saturating_sub(payload.end) < 2 {
            // No room for CRLF behind the payload: make it in front.
            let start = payload.start.checked_sub(2).ok_or(BodyError::Headroom)?;
            buf.copy_within(payload.clone(), start);
            payload = start..payload.end - 2;
        }
        let mut send = payload.clone();
        if !payload.is_empty() {
            let (line, length) = size_line(payload.len());
            let line = line.get(line.len() - length..).unwrap_or(&[]);
            send.start = payload.start.checked_sub(length).ok_or(BodyError::Headroom)?;
            put(buf, send.start, line)?;
            if !ends {
                put(buf, payload.end, b"\r\n")?;
                send.end += 2;
            }
        }
        if ends {
            send = self.end_message(buf, send, room_end, !payload.is_empty())?;
        }
        Ok((send, payload))
    }

    /// Writes the end of the message behind `send`, in place when it fits, else as the epilogue.
    fn end_message(
        &mut self,
        buf: &mut [u8],
        send: Range<usize>,
        room_end: usize,
        ends_chunk: bool,
    ) -> Result<Range<usize>, BodyError> {
        let forwards = self.limits.forward_trailers && self.source == BodyFraming::Chunked;
        let trailers: &[u8] = if forwards { self.decoder.trailers() } else { &[] };
        let chunk_end: &[u8] = if ends_chunk { b"\r\n" } else { &[] };
        self.epilogue.clear();
        self.epilogue.extend_from_slice(chunk_end);
        self.epilogue.extend_from_slice(b"0\r\n");
        self.epilogue.extend_from_slice(trailers);
        self.epilogue.extend_from_slice(b"\r\n");
        let length = self.epilogue.len();
        let mut send = send;
        if room_end.saturating_sub(send.end) >= length {
            put(buf, send.end, &self.epilogue)?;
            send.end += length;
            self.epilogue.clear();
        } else if send.is_empty() && length <= HEADROOM_BYTES {
            send.start = send.end.checked_sub(length).ok_or(BodyError::Headroom)?;
            put(buf, send.start, &self.epilogue)?;
            self.epilogue.clear();
        }
        Ok(send)
    }
}

/// A chunk's size line, at the end of the array, and its length.
fn size_line(size: usize) -> ([u8; SIZE_LINE_BYTES_MAX], usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut line = [0_u8; SIZE_LINE_BYTES_MAX];
    let mut left = size;
    let mut length = 0;
    for (place, slot) in line.iter_mut().rev().enumerate() {
        *slot = match place {
            0 => b'\n',
            1 => b'\r',
            _ => DIGITS.get(left & 0xf).copied().unwrap_or(b'0'),
        };
        if place >= 2 {
            left >>= 4;
        }
        length = place + 1;
        if place >= 2 && left == 0 {
            break;
        }
    }
    (line, length)
}

fn put(buf: &mut [u8], at: usize, bytes: &[u8]) -> Result<(), BodyError> {
    let slot = buf.get_mut(at..at.saturating_add(bytes.len())).ok_or(BodyError::Headroom)?;
    slot.copy_from_slice(bytes);
    Ok(())
}
