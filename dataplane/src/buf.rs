//! Pooled buffers of one core.
//!
//! A buffer is a `Vec<u8>` whose first [`HEADROOM_BYTES`] stay free, so that a chunk's size can be written in front of data
//! that was read. An idle connection holds none; a streaming body may hold a large one.
//!
//! Invariant: a pool keeps at most its named maximum; what comes back above it is freed.

use std::cell::RefCell;

use ringway_engine::http1::{HEADROOM_BYTES, TAILROOM_BYTES};

/// Bytes of an ordinary buffer: a head and the first of a body.
pub(crate) const SMALL_BYTES: usize = 16 * 1024;
/// Bytes of a buffer while a body streams.
pub(crate) const LARGE_BYTES: usize = 64 * 1024;

const SMALL_CAPACITY: usize = HEADROOM_BYTES + SMALL_BYTES + TAILROOM_BYTES;
const LARGE_CAPACITY: usize = HEADROOM_BYTES + LARGE_BYTES + TAILROOM_BYTES;

const SMALL_KEPT_MAX: usize = 1024;
const LARGE_KEPT_MAX: usize = 1024;

/// The free buffers of one core.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    small: RefCell<Vec<Vec<u8>>>,
    large: RefCell<Vec<Vec<u8>>>,
}

impl Buffers {
    /// A buffer with nothing but its headroom.
    pub(crate) fn take_small(&self) -> Vec<u8> {
        reset(self.small.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(SMALL_CAPACITY)))
    }

    /// A large buffer with nothing but its headroom.
    pub(crate) fn take_large(&self) -> Vec<u8> {
        reset(self.large.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(LARGE_CAPACITY)))
    }

    /// A buffer for the next read: the same one, or a `large` one in its place.
    pub(crate) fn renew(&self, mut buffer: Vec<u8>, large: bool) -> Vec<u8> {
        if large && buffer.capacity() < LARGE_CAPACITY {
            self.give(buffer);
            return self.take_large();
        }
        buffer.truncate(HEADROOM_BYTES);
        buffer
    }

    /// Takes a buffer back. One that grew beyond its size is freed, so that a rare large head does not stay.
    pub(crate) fn give(&self, buffer: Vec<u8>) {
        let (pool, kept_max) = match buffer.capacity() {
            capacity if capacity == SMALL_CAPACITY => (&self.small, SMALL_KEPT_MAX),
            capacity if capacity == LARGE_CAPACITY => (&self.large, LARGE_KEPT_MAX),
            _ => return,
        };
        let mut pool = pool.borrow_mut();
        if pool.len() < kept_max {
            pool.push(buffer);
        }
    }
}

fn reset(mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.clear();
    buffer.resize(HEADROOM_BYTES, 0);
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_a_grown_one_does_not_come_back() {
        let buffers = Buffers::default();
        let mut first = buffers.take_small();
        first.extend_from_slice(b"GET / HTTP/1.1");
        let address = first.as_ptr();
        buffers.give(first);
        let second = buffers.take_small();
        assert_eq!(second.as_ptr(), address);
        assert_eq!(second.len(), HEADROOM_BYTES);
        let mut grown = buffers.take_small();
        grown.reserve(4 * SMALL_BYTES);
        buffers.give(grown);
        assert!(buffers.small.borrow().is_empty());
    }
}
