//! What is known of a request when it has ended: its times, its tries, its bytes, what it was answered with.
//!
//! An [`Access`] is filled as the request goes, by one line at each of a few places, and handed over once, by [`finish`]: to the core's
//! histograms and counters. The clock is read three times a request (its first byte, the node's first byte, its end)
//! and once more for each connection that is made and each try that fails.
//!
//! Invariant: nothing in here waits or allocates.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringway_engine::view::{Target, View};

use crate::downstream::Downstream;

/// Tries that are told one by one; of more than these, the last one stands in the last place.
pub(crate) const TRIES_TOLD_MAX: usize = 3;
/// What stands for the status of a request whose client was gone before it was answered; never sent.
pub(crate) const STATUS_CLIENT_GONE: u16 = 499;

/// One request, as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Access {
    /// When its first byte was read; `None` between requests.
    began: Option<Instant>,
    /// When its head was whole.
    asked: Option<Instant>,
    tries: [Try; TRIES_TOLD_MAX],
    try_count: u32,
    /// When the present try began.
    try_began: Option<Instant>,
    /// When the first byte of the node's answer was read. In a cell, because the answer's direction has only a look at this.
    answered: Cell<Option<Instant>>,
    /// The gateway's own answer.
    own: Option<(u16, &'static str)>,
}

/// One try at a node.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Try {
    pub(crate) node: Option<SocketAddr>,
    /// 0: it gave no answer.
    pub(crate) status: u16,
    /// 0 on a kept connection.
    pub(crate) connect_us: u32,
    /// From its beginning to the first byte of the answer; 0: none came.
    pub(crate) first_byte_us: u32,
    pub(crate) total_us: u32,
}

impl Access {
    /// The first bytes of a request are there.
    pub(crate) fn arrives(&mut self) {
        if self.began.is_none() {
            self.began = Some(Instant::now());
        }
    }

    /// Its head is whole; `at_once`: it came in one piece.
    pub(crate) fn begins(&mut self, at_once: bool) {
        self.asked = if at_once { self.began } else { Some(Instant::now()) };
    }

    /// It had to wait before a node could be tried.
    pub(crate) fn waited(&mut self) {
        self.asked = Some(Instant::now());
    }

    /// A node is tried. The first try begins with the request: what was done in between took some microseconds.
    pub(crate) fn tries(&mut self, node: SocketAddr) {
        self.try_began = if self.try_count == 0 { self.asked } else { Some(Instant::now()) };
        self.answered.set(None);
        let place = (self.try_count as usize).min(TRIES_TOLD_MAX - 1);
        self.try_count = self.try_count.saturating_add(1);
        if let Some(entry) = self.tries.get_mut(place) {
            *entry = Try { node: Some(node), ..Try::default() };
        }
    }

    /// A new connection was made for the present try.
    pub(crate) fn connected(&mut self) {
        let connect_us = self.try_us(Instant::now());
        if let Some(entry) = self.present_try() {
            entry.connect_us = connect_us;
        }
    }

    /// Bytes came from the node.
    pub(crate) fn node_speaks(&self) {
        if self.answered.get().is_none() {
            self.answered.set(Some(Instant::now()));
        }
    }

    /// The present try has failed; tells how long it took.
    pub(crate) fn try_failed(&mut self) -> Duration {
        self.try_ends(0, Instant::now())
    }

    /// The gateway answers by itself.
    pub(crate) fn answers(&mut self, status: u16, reason: &'static str) {
        self.own = Some((status, reason));
    }

    fn try_ends(&mut self, status: u16, now: Instant) -> Duration {
        let first_byte_us = self.answered.get().map_or(0, |at| self.try_us(at));
        let total_us = self.try_us(now);
        let total = self.try_began.take().map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        if let Some(entry) = self.present_try() {
            (entry.status, entry.first_byte_us, entry.total_us) = (status, first_byte_us, total_us);
        }
        total
    }

    fn try_us(&self, at: Instant) -> u32 {
        let passed = self.try_began.map_or(Duration::ZERO, |began| at.saturating_duration_since(began));
        u32::try_from(passed.as_micros()).unwrap_or(u32::MAX)
    }

    fn present_try(&mut self) -> Option<&mut Try> {
        let place = (self.try_count as usize).min(TRIES_TOLD_MAX).checked_sub(1)?;
        self.tries.get_mut(place)
    }

    fn reset(&mut self) {
        (self.began, self.asked, self.try_began, self.own) = (None, None, None, None);
        self.try_count = 0;
        self.answered.set(None);
    }
}

/// Hands a request over that has ended, once. `found` is what it was routed by and to; the request's head still stands in the
/// connection's buffer.
pub(crate) fn finish(connection: &mut Downstream, _view: Option<&View>, _found: Option<&Target>) {
    let now = Instant::now();
    let received = connection.socket.reader.take_count();
    let sent = connection.socket.writer.take_count();
    let access = &mut connection.access;
    let Some(began) = access.began else { return };
    let answered = connection.exchange.response.status();
    let is_tunnel = answered == Some(101);
    if let Some(core) = connection.core.shared() {
        if access.try_began.is_some() {
            let took = access.try_ends(answered.unwrap_or(0), now);
            if !is_tunnel {
                core.latency.upstream.record(took);
            }
        }
        if !is_tunnel {
            core.latency.request.record(now.saturating_duration_since(began));
        }
        core.counters.received_bytes.add(received);
        core.counters.sent_bytes.add(sent);
    }
    access.reset();
}
