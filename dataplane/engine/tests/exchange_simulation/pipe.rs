//! One direction of a connection: bytes that arrive later and in other pieces than they were sent.
//!
//! A reader that has gone makes the first write vanish and later ones fail, as TCP does; a reset loses what is under way.

use std::collections::VecDeque;

use crate::chance::Chance;

/// Bytes that may be under way.
const CAPACITY: usize = 4_096;

#[derive(Debug, Default)]
pub(crate) struct Pipe {
    segments: VecDeque<(u64, Vec<u8>)>,
    bytes: usize,
    arrives_last: u64,
    end: Option<u64>,
    reset: bool,
    reader_gone: bool,
    swallowed: bool,
}

/// What a read gives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes(Vec<u8>),
    Nothing,
    End,
    Reset,
}

impl Pipe {
    /// How many of the bytes were taken; an error when the connection is broken.
    pub(crate) fn write(&mut self, now: u64, bytes: &[u8], chance: &mut Chance) -> Result<usize, ()> {
        if self.reset || self.end.is_some() || (self.reader_gone && self.swallowed) {
            return Err(());
        }
        if self.reader_gone {
            self.swallowed = true;
            return Ok(bytes.len());
        }
        let room = CAPACITY.saturating_sub(self.bytes).min(bytes.len());
        let taken = if room > 1 && chance.one_in(3) { 1 + chance.below(room) } else { room };
        let mut rest = &bytes[..taken];
        while !rest.is_empty() {
            let cut = if chance.one_in(2) { rest.len() } else { 1 + chance.below(rest.len()) };
            self.arrives_last = self.arrives_last.max(now) + chance.pick(&[0, 0, 1, 7, 30]);
            self.segments.push_back((self.arrives_last, rest[..cut].to_vec()));
            rest = &rest[cut..];
        }
        self.bytes += taken;
        Ok(taken)
    }

    /// Writes all, whatever the capacity, to arrive at once.
    pub(crate) fn write_together(&mut self, now: u64, bytes: &[u8]) -> Result<(), ()> {
        if self.reset || self.end.is_some() || self.reader_gone {
            return Err(());
        }
        self.arrives_last = self.arrives_last.max(now);
        self.segments.push_back((self.arrives_last, bytes.to_vec()));
        self.bytes += bytes.len();
        Ok(())
    }

    pub(crate) fn read(&mut self, now: u64, chance: &mut Chance) -> Read {
        if self.reset {
            return Read::Reset;
        }
        let mut read = Vec::new();
        while let Some((arrives, segment)) = self.segments.front_mut() {
            if *arrives > now {
                break;
            }
            if chance.one_in(4) {
                let cut = 1 + chance.below(segment.len());
                read.extend(segment.drain(..cut));
                if segment.is_empty() {
                    self.segments.pop_front();
                }
                break;
            }
            read.append(segment);
            self.segments.pop_front();
        }
        self.bytes -= read.len();
        match (read.is_empty(), self.end) {
            (false, _) => Read::Bytes(read),
            (true, Some(end)) if self.segments.is_empty() && end <= now => Read::End,
            _ => Read::Nothing,
        }
    }

    /// Whether a read would give something: bytes, the end, a reset.
    pub(crate) fn is_ready(&self, now: u64) -> bool {
        self.reset
            || self.segments.front().is_some_and(|(arrives, _)| *arrives <= now)
            || (self.segments.is_empty() && self.end.is_some_and(|end| end <= now))
    }

    /// The writer has ended its direction.
    pub(crate) fn end(&mut self, now: u64) {
        if self.end.is_none() {
            self.end = Some(self.arrives_last.max(now));
        }
    }

    pub(crate) fn reset(&mut self) {
        self.reset = true;
        self.segments.clear();
        self.bytes = 0;
    }

    pub(crate) fn reader_goes(&mut self) {
        self.reader_gone = true;
        self.segments.clear();
        self.bytes = 0;
    }
}

/// Both directions. `near` is the side that connected.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    pub(crate) outward: Pipe,
    pub(crate) inward: Pipe,
}

impl Connection {
    pub(crate) fn reset(&mut self) {
        self.outward.reset();
        self.inward.reset();
    }

    /// The near side closes both directions.
    pub(crate) fn near_closes(&mut self, now: u64) {
        self.outward.end(now);
        self.inward.reader_goes();
    }

    /// The far side closes both directions.
    pub(crate) fn far_closes(&mut self, now: u64) {
        self.inward.end(now);
        self.outward.reader_goes();
    }
}
