//! Connections of one core to nodes, kept for the next request.
//!
//! Keyed by address, so that they outlive every configuration. A kept connection has a read armed: when the node closes it, the
//! read is over and the connection is not used; when it is used, that same read brings the answer.
//!
//! How many an upstream says to keep counts for those that nobody has needed since the last sweep, not for each moment: a turn of
//! the loop may end hundreds of requests before it begins the next hundreds, and what those need would be closed and dialled
//! again.
//!
//! Invariants: only a connection whose exchange ended cleanly comes in; of those that were not used between two sweeps, at most so
//! many stay for each address as the upstream says, and none longer than it says; and none while a request of any core lacks a
//! descriptor for a connection of its own.

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
    nodes: RefCell<hashbrown::HashMap<Address, Kept, foldhash::fast::FixedState>>,
}

/// The kept connections to one node. What was used last is taken first, so that what nobody needs gathers at the front.
#[derive(Debug, Default)]
struct Kept {
    idle: Vec<Idle>,
    /// The fewest that there were since the last sweep: so many at the front were not used.
    spare: usize,
    /// So many spare ones may stay.
    size: usize,
}

#[derive(Debug)]
struct Idle {
    /// In a block of its own, so that it is not copied from here to the request and back.
    upstream: Box<Upstream>,
    until_ms: u64,
}

impl Pool {
    pub(crate) fn new(deadlines: Rc<Deadlines>) -> Pool {
        Pool { deadlines, sweep_at_ms: Cell::new(0), nodes: RefCell::default() }
    }

    /// The connection that was used last and is still open.
    pub(crate) fn take(&self, address: &Address) -> Option<Box<Upstream>> {
        let mut nodes = self.nodes.borrow_mut();
        let kept = nodes.get_mut(address)?;
        let mut upstream = kept.pop_open(self.deadlines.now_ms())?;
        upstream.requests = upstream.requests.saturating_add(1);
        Some(upstream)
    }

    /// Keeps a connection for later, unless it has carried as many requests as it may.
    pub(crate) fn keep(&self, mut upstream: Box<Upstream>, rule: &KeepalivePool, buffers: &Buffers) {
        if upstream.requests >= rule.requests || upstream.socket.reader.is_armed() {
            return;
        }
        upstream.socket.reader.arm(buffers.take(upstream.room));
        let until_ms = match rule.idle_timeout {
            seconds if seconds > 0.0 => self.deadlines.now_ms().saturating_add(milliseconds(seconds)),
            _ => u64::MAX,
        };
        let mut nodes = self.nodes.borrow_mut();
        let kept = nodes.entry_ref(&upstream.address).or_default();
        kept.size = rule.size as usize;
        kept.idle.push(Idle { upstream, until_ms });
    }

    /// Drops all of them.
    pub(crate) fn clear(&self) {
        self.nodes.borrow_mut().clear();
    }

    /// Drops what has been idle too long, what was closed by its node, and what is spare beyond what its upstream keeps.
    /// Tells how many are left, when it was time to look.
    pub(crate) fn sweep(&self) -> Option<usize> {
        let now_ms = self.deadlines.now_ms();
        if now_ms < self.sweep_at_ms.get() {
            return None;
        }
        self.sweep_at_ms.set(now_ms.saturating_add(SWEEP_EVERY_MS));
        let mut nodes = self.nodes.borrow_mut();
        nodes.retain(|_, kept| {
            kept.sweep(now_ms);
            !kept.idle.is_empty()
        });
        Some(nodes.values().map(|kept| kept.idle.len()).sum())
    }
}

impl Kept {
    fn pop_open(&mut self, now_ms: u64) -> Option<Box<Upstream>> {
        let found = loop {
            match self.idle.pop() {
                Some(mut idle) => {
                    if idle.is_open(now_ms) {
                        break Some(idle.upstream);
                    }
                }
                None => break None,
            }
        };
        self.spare = self.spare.min(self.idle.len());
        found
    }

    fn sweep(&mut self, now_ms: u64) {
        self.idle.retain_mut(|idle| idle.is_open(now_ms));
        let surplus = self.spare.min(self.idle.len()).saturating_sub(self.size);
        self.idle.drain(..surplus);
        self.spare = self.idle.len();
    }
}

impl Idle {
    fn is_open(&mut self, now_ms: u64) -> bool {
        self.until_ms > now_ms && !self.upstream.socket.reader.is_ready()
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
