//! Connections of one core to nodes, kept for the next request.
//!
//! Keyed by address, so that they outlive every configuration. A kept connection has a read armed: when the node closes it, the
//! read is over and the connection is not used; when it is used, that same read brings the answer.
//!
//! Invariants: only a connection whose exchange ended cleanly comes in; at most so many are kept for each address as the upstream
//! says, none longer than it says; and none while a request of any core lacks a descriptor for a connection of its own.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use ringway_engine::upstream::Address;
use ringway_snapshot::model::KeepalivePool;

use crate::buf::{Buffers, Room};
use crate::core::Core;
use crate::io::{Deadlines, Socket};

/// One connection to a node.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) socket: Socket,
    pub(crate) address: Address,
    /// Requests that it has carried, with the present one.
    pub(crate) requests: u32,
    /// What its last answer would have fitted into at once: the next one gets that from the start.
    pub(crate) room: Room,
}

/// The kept connections.
#[derive(Debug)]
pub(crate) struct Pool {
    deadlines: Rc<Deadlines>,
    sweep_at_ms: Cell<u64>,
    idle: RefCell<hashbrown::HashMap<Address, Vec<Idle>, foldhash::fast::FixedState>>,
}

#[derive(Debug)]
struct Idle {
    /// In a block of its own, so that it is not copied from here to the request and back.
    upstream: Box<Upstream>,
    until_ms: u64,
}

impl Pool {
    pub(crate) fn new(deadlines: Rc<Deadlines>) -> Pool {
        Pool { deadlines, sweep_at_ms: Cell::new(0), idle: RefCell::default() }
    }

    /// The connection that was used last and is still open.
    pub(crate) fn take(&self, address: &Address) -> Option<Box<Upstream>> {
        let mut pool = self.idle.borrow_mut();
        let idle = pool.get_mut(address)?;
        let now_ms = self.deadlines.now_ms();
        while let Some(Idle { mut upstream, until_ms }) = idle.pop() {
            if until_ms > now_ms && !upstream.socket.reader.is_ready() {
                upstream.requests = upstream.requests.saturating_add(1);
                return Some(upstream);
            }
        }
        None
    }

    /// Keeps a connection for later, when there is room.
    pub(crate) fn keep(&self, mut upstream: Box<Upstream>, rule: &KeepalivePool, buffers: &Buffers) {
        if upstream.requests >= rule.requests || upstream.socket.reader.is_armed() {
            return;
        }
        let mut pool = self.idle.borrow_mut();
        let idle = pool.entry_ref(&upstream.address).or_default();
        if idle.len() >= rule.size as usize {
            return;
        }
        upstream.socket.reader.arm(buffers.take(upstream.room));
        let until_ms = match rule.idle_timeout {
            seconds if seconds > 0.0 => self.deadlines.now_ms().saturating_add(milliseconds(seconds)),
            _ => u64::MAX,
        };
        idle.push(Idle { upstream, until_ms });
    }

    /// Drops all of them.
    pub(crate) fn clear(&self) {
        self.idle.borrow_mut().clear();
    }

    /// Drops what has been idle too long or was closed by its node.
    /// Tells how many are left, when it was time to look.
    pub(crate) fn sweep(&self) -> Option<usize> {
        let now_ms = self.deadlines.now_ms();
        if now_ms < self.sweep_at_ms.get() {
            return None;
        }
        self.sweep_at_ms.set(now_ms.saturating_add(SWEEP_EVERY_MS));
        let mut pool = self.idle.borrow_mut();
        for idle in pool.values_mut() {
            idle.retain_mut(|idle| idle.until_ms > now_ms && !idle.upstream.socket.reader.is_ready());
        }
        pool.retain(|_, idle| !idle.is_empty());
        Some(pool.values().map(Vec::len).sum())
    }
}

const SWEEP_EVERY_MS: u64 = 1_000;
/// How long a connection waits for a descriptor, and how often it looks: other cores give theirs with their next turn.
const DESCRIPTOR_WAIT: Duration = Duration::from_secs(2);
const DESCRIPTOR_EVERY: Duration = Duration::from_millis(10);

/// A new connection. Where this process has no descriptor left for it, those that are only kept give theirs.
pub(crate) async fn connect(core: &Core, address: &Address, wait: Duration) -> io::Result<Box<Upstream>> {
    let until_ms = core.deadlines.until_ms(wait.min(DESCRIPTOR_WAIT));
    loop {
        match Socket::connect(address, wait, &core.deadlines).await {
            Ok(socket) => {
                let (address, room) = (address.clone(), Room::Small);
                return Ok(Box::new(Upstream { socket, address, requests: 1, room }));
            }
            Err(error) if lacks_descriptor(&error) && core.deadlines.left(until_ms).is_some() => {
                core.free_descriptors();
                // Boxed: rare, and every connection's task has room for what it may wait for.
                Box::pin(monoio::time::sleep(DESCRIPTOR_EVERY)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether the process, or the host, has no descriptor left.
pub(crate) fn lacks_descriptor(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is what is wanted"
)]
fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).ceil() as u64
}
