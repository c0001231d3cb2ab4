//! Pooled buffers of one core.
//!
//! A buffer is a `Vec<u8>` whose first [`HEADROOM_BYTES`] stay free, so that a chunk's size can be written in front of data
//! that was read. Three sizes: what waits for a head holds little, so that thousands of waiting connections stay in the
//! processor's caches; a streaming body may hold much.
//!
//! Invariant: a pool keeps at most its named maximum; what comes back above it is freed.

use std::cell::RefCell;

use ringway_engine::http1::{HEADROOM_BYTES, TAILROOM_BYTES};

/// Room for this many bytes of payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Room {
    /// An ordinary head, or a small answer.
    Head,
    /// A large head, or the first of a body.
    Small,
    /// While a body streams.
    Large,
}

/// Bytes of payload in a buffer for a head. Its capacity is no power of two: were it one, all buffers would begin at the
/// same few lines of a cache.
pub(crate) const HEAD_BYTES: usize = 2_560 - MARGIN_BYTES;
/// Bytes of payload in a small buffer: 16 KiB with a head in front.
pub(crate) const SMALL_BYTES: usize = 20 * 1024 - MARGIN_BYTES;
/// Bytes of payload in a large buffer: 64 KiB with a head in front.
pub(crate) const LARGE_BYTES: usize = 80 * 1024 - MARGIN_BYTES;

const MARGIN_BYTES: usize = HEADROOM_BYTES + TAILROOM_BYTES;
const KEPT_MAX: usize = 1024;
/// Free buffers that a core keeps when nobody waits for it.
const KEPT_QUIET: usize = 16;

impl Room {
    const fn capacity(self) -> usize {
        match self {
            Room::Head => HEAD_BYTES + MARGIN_BYTES,
            Room::Small => SMALL_BYTES + MARGIN_BYTES,
            Room::Large => LARGE_BYTES + MARGIN_BYTES,
        }
    }

    /// The least room that takes so many bytes at once, or the largest.
    pub(crate) fn for_bytes(bytes: u64) -> Room {
        if bytes <= HEAD_BYTES as u64 {
            Room::Head
        } else if bytes <= SMALL_BYTES as u64 {
            Room::Small
        } else {
            Room::Large
        }
    }
}

/// The free buffers of one core. What was used last is taken first: it is in the caches.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pools: [RefCell<Vec<Vec<u8>>>; 3],
}

impl Buffers {
    /// A buffer with nothing but its headroom.
    pub(crate) fn take(&self, room: Room) -> Vec<u8> {
        let mut buffer = self.pop(room);
        // Mostly a truncation, which touches no memory.
        buffer.resize(HEADROOM_BYTES, 0);
        buffer
    }

    /// A buffer with nothing at all, for a head that is written.
    pub(crate) fn take_empty(&self, room: Room) -> Vec<u8> {
        let mut buffer = self.pop(room);
        buffer.clear();
        buffer
    }

    fn pop(&self, room: Room) -> Vec<u8> {
        let pooled = self.pool(room).and_then(|pool| pool.borrow_mut().pop());
        pooled.unwrap_or_else(|| Vec::with_capacity(room.capacity()))
    }

    /// A buffer for the next read: the same one, or one with as much `room` in its place.
    pub(crate) fn renew(&self, mut buffer: Vec<u8>, room: Room) -> Vec<u8> {
        if buffer.capacity() < room.capacity() {
            self.give(buffer);
            return self.take(room);
        }
        buffer.truncate(HEADROOM_BYTES);
        buffer
    }

    /// The same bytes with more room behind them.
    pub(crate) fn grow(&self, mut buffer: Vec<u8>) -> Vec<u8> {
        let room = if buffer.capacity() < Room::Small.capacity() { Room::Small } else { Room::Large };
        if buffer.capacity() >= room.capacity() {
            buffer.reserve(buffer.len());
            return buffer;
        }
        let mut larger = self.take(room);
        larger.clear();
        larger.extend_from_slice(&buffer);
        self.give(buffer);
        larger
    }

    /// Takes a buffer back. One that grew beyond its size is freed, so that a rare large head does not stay.
    pub(crate) fn give(&self, buffer: Vec<u8>) {
        let rooms = [Room::Head, Room::Small, Room::Large];
        let Some(room) = rooms.into_iter().find(|room| room.capacity() == buffer.capacity()) else { return };
        let Some(mut pool) = self.pool(room).map(RefCell::borrow_mut) else { return };
        if pool.len() < KEPT_MAX {
            pool.push(buffer);
        }
    }

    /// Keeps only a few of the free buffers.
    pub(crate) fn tidy(&self) {
        for pool in &self.pools {
            let mut pool = pool.borrow_mut();
            pool.truncate(KEPT_QUIET);
            pool.shrink_to(KEPT_QUIET);
        }
    }

    fn pool(&self, room: Room) -> Option<&RefCell<Vec<Vec<u8>>>> {
        self.pools.get(room as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_a_grown_one_does_not_come_back() {
        let buffers = Buffers::default();
        let mut first = buffers.take(Room::Small);
        first.extend_from_slice(b"GET / HTTP/1.1");
        let address = first.as_ptr();
        buffers.give(first);
        let second = buffers.take(Room::Small);
        assert_eq!(second.as_ptr(), address);
        assert_eq!(second.len(), HEADROOM_BYTES);
        let mut grown = buffers.take(Room::Small);
        grown.reserve(4 * SMALL_BYTES);
        buffers.give(grown);
        assert!(buffers.pools.iter().all(|pool| pool.borrow().is_empty()));
    }

    #[test]
    fn what_a_buffer_holds_moves_with_it_when_it_grows() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take(Room::Head);
        buffer.extend_from_slice(b"GET / HTTP/1.1");
        for capacity in [Room::Small.capacity(), Room::Large.capacity()] {
            buffer = buffers.grow(buffer);
            assert_eq!(buffer.capacity(), capacity);
            assert_eq!(&buffer[HEADROOM_BYTES..], b"GET / HTTP/1.1");
        }
        let grown = buffers.grow(buffer);
        assert!(grown.capacity() >= Room::Large.capacity());
        assert_eq!(Room::for_bytes(HEAD_BYTES as u64), Room::Head);
        assert_eq!(Room::for_bytes(HEAD_BYTES as u64 + 1), Room::Small);
        assert_eq!(Room::for_bytes(u64::MAX), Room::Large);
    }
}
