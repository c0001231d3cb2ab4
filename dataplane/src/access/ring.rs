//! A bounded queue of records from one core to one thread beside it.
//!
//! Words of atomics instead of bytes, so that it needs no `unsafe`: they are written and read one by one, and what makes a record
//! visible is one store of the position behind it. The producer never waits: where there is no room, it is told so.
//!
//! Invariant: `read <= written <= read + capacity`; a word between the two belongs to the consumer, all others to the producer.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crossbeam::utils::CachePadded;

const WORD: usize = 8;

#[derive(Debug)]
struct Ring {
    words: Box<[AtomicU64]>,
    written: CachePadded<AtomicU64>,
    read: CachePadded<AtomicU64>,
}

impl Ring {
    /// The words from a position on, around the end.
    fn from(&self, position: u64) -> impl Iterator<Item = &AtomicU64> {
        let start = usize::try_from(position % self.words.len() as u64).unwrap_or(0);
        let (front, back) = self.words.split_at_checked(start).unwrap_or((&[], &self.words));
        back.iter().chain(front)
    }
}

/// The core's end.
#[derive(Debug)]
pub(crate) struct Producer {
    ring: Arc<Ring>,
    written: Cell<u64>,
    /// What was last seen of the consumer: looked at again only when there seems to be no room.
    read: Cell<u64>,
}

/// The other end.
#[derive(Debug)]
pub(crate) struct Consumer {
    ring: Arc<Ring>,
    read: u64,
}

/// A queue of so many bytes.
pub(crate) fn ring(bytes: usize) -> (Producer, Consumer) {
    let words = (0..(bytes / WORD).max(2)).map(|_| AtomicU64::new(0)).collect();
    let ring = Arc::new(Ring { words, written: CachePadded::default(), read: CachePadded::default() });
    let producer = Producer { ring: Arc::clone(&ring), written: Cell::new(0), read: Cell::new(0) };
    (producer, Consumer { ring, read: 0 })
}

impl Producer {
    /// Adds a record, or does nothing and says so: there is no room.
    #[must_use]
    pub(crate) fn push(&self, record: &[u8]) -> bool {
        let (whole, rest) = record.as_chunks::<WORD>();
        let written = self.written.get();
        let behind = written + 1 + whole.len() as u64 + u64::from(!rest.is_empty());
        let capacity = self.ring.words.len() as u64;
        if behind - self.read.get() > capacity {
            // Pairs with the consumer's release: what it has read may be overwritten.
            self.read.set(self.ring.read.load(Acquire));
            if behind - self.read.get() > capacity {
                return false;
            }
        }
        let mut last = [0; WORD];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        let length = std::iter::once(record.len() as u64);
        let words = length.chain(whole.iter().map(|word| u64::from_le_bytes(*word)));
        let last = (!rest.is_empty()).then(|| u64::from_le_bytes(last));
        self.ring.from(written).zip(words.chain(last)).for_each(|(slot, word)| slot.store(word, Relaxed));
        self.written.set(behind);
        self.ring.written.store(behind, Release);
        true
    }
}

impl Consumer {
    /// Takes the oldest record into `record`; `false`: there is none.
    pub(crate) fn pop(&mut self, record: &mut Vec<u8>) -> bool {
        // Pairs with the producer's release: what lies before is written.
        if self.read == self.ring.written.load(Acquire) {
            return false;
        }
        let mut words = self.ring.from(self.read).map(|slot| slot.load(Relaxed));
        let length = usize::try_from(words.next().unwrap_or(0)).unwrap_or(0);
        let count = length.div_ceil(WORD);
        record.clear();
        words.take(count).for_each(|word| record.extend_from_slice(&word.to_le_bytes()));
        record.truncate(length);
        self.read += 1 + count as u64;
        self.ring.read.store(self.read, Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_order_and_what_has_no_room_is_refused() {
        let (producer, mut consumer) = ring(64);
        let mut out = Vec::new();
        assert!(!consumer.pop(&mut out));
        for round in 0..100_u8 {
            let record: Vec<u8> = (0..round % 40).collect();
            assert!(producer.push(&record), "{round}");
            assert!(!producer.push(&[0; 64]), "a record of the ring's size never fits");
            assert!(consumer.pop(&mut out));
            assert_eq!(out, record);
        }
        assert!(producer.push(&[1; 24]) && producer.push(&[2; 24]));
        assert!(!producer.push(&[]), "full");
        assert!(consumer.pop(&mut out) && producer.push(&[]));
        assert!(consumer.pop(&mut out) && out == [2; 24]);
        assert!(consumer.pop(&mut out) && out.is_empty());
        assert!(!consumer.pop(&mut out));
    }

    #[test]
    fn another_thread_reads_each_record_whole() {
        let (producer, mut consumer) = ring(1024);
        let reader = std::thread::spawn(move || {
            let (mut out, mut next) = (Vec::new(), 0_u64);
            while next < 20_000 {
                if consumer.pop(&mut out) {
                    let (number, rest) = out.split_first_chunk::<8>().unwrap();
                    assert_eq!(u64::from_le_bytes(*number), next);
                    assert!(rest.iter().all(|byte| u64::from(*byte) == next % 251));
                    next += 1;
                } else {
                    std::thread::yield_now();
                }
            }
        });
        for number in 0..20_000_u64 {
            let mut record = number.to_le_bytes().to_vec();
            record.resize(8 + usize::try_from(number % 50).unwrap(), u8::try_from(number % 251).unwrap());
            while !producer.push(&record) {
                std::thread::yield_now();
            }
        }
        reader.join().unwrap();
    }
}
