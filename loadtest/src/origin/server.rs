//! All connections of one origin thread. Driven from outside, so that `hammer` can run it beside a client in one
//! loop; its tokens have the top bit set, the client's do not.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::net::{SocketFlags, accept_with};

use super::connection::{Connection, Turn};
use super::request::REPLY_BYTES_MAX;
use crate::poll::{Poller, Ready};

/// Set in every token of a server, never in one of a client.
const SERVER_TOKEN: u64 = 1 << 63;
const LISTENER_TOKEN: u64 = u64::MAX;
/// After the kernel refused to accept (too many open files): when to try again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
const SCRATCH_BYTES: usize = 256 * 1024;
/// Below 31 bits, so that no token of a connection equals the listener's.
const GENERATIONS: u32 = 0x7fff_ffff;

#[derive(Clone, Debug)]
pub(crate) struct ServerPlan {
    pub(crate) name: String,
    pub(crate) body_bytes: u64,
    /// Beside what a request asks for.
    pub(crate) delay_ms: u64,
    pub(crate) resets: bool,
}

/// What a server did so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: u64,
    /// Of them, those for `/status/NNN`, which a gateway's probes ask for.
    pub(crate) status_requests: u64,
    pub(crate) body_bytes: u64,
    pub(crate) accepted: u64,
    pub(crate) malformed: u64,
}

#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    plan: ServerPlan,
    counts: Counts,
    slots: Vec<Slot>,
    free: Vec<usize>,
    delays: BinaryHeap<Reverse<(Instant, u64)>>,
    accept_again_at: Option<Instant>,
    scratch: Vec<u8>,
}

#[derive(Debug, Default)]
struct Slot {
    connection: Option<Connection>,
    generation: u32,
}

impl ServerPlan {
    pub(crate) fn new(name: &str, body_bytes: u64) -> Result<Self> {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            bail!("the origin's name {name:?} must be visible ASCII characters");
        }
        if body_bytes > REPLY_BYTES_MAX {
            bail!("a body of {body_bytes} bytes: the limit is {REPLY_BYTES_MAX}");
        }
        Ok(Self { name: name.to_owned(), body_bytes, delay_ms: 0, resets: false })
    }
}

impl Server {
    /// `listener` does not block.
    pub(crate) fn new(listener: TcpListener, plan: ServerPlan) -> Self {
        Self {
            listener,
            plan,
            counts: Counts::default(),
            slots: Vec::new(),
            free: Vec::new(),
            delays: BinaryHeap::new(),
            accept_again_at: None,
            scratch: vec![0; SCRATCH_BYTES],
        }
    }

    pub(crate) fn register(&self, poller: &Poller) -> Result<()> {
        poller.add(&self.listener, LISTENER_TOKEN).context("cannot watch the listener")
    }

    pub(crate) fn address(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Whether a token is one of a server.
    pub(crate) fn owns(token: u64) -> bool {
        token & SERVER_TOKEN != 0
    }

    pub(crate) fn on_ready(&mut self, poller: &Poller, ready: Ready) {
        if ready.token == LISTENER_TOKEN {
            self.accept(poller);
            return;
        }
        let Some(index) = self.index_of(ready.token) else { return };
        if ready.ended
            && let Some(connection) = self.slots.get_mut(index).and_then(|slot| slot.connection.as_mut())
        {
            connection.note_end();
        }
        self.advance(index, ready.readable);
    }

    /// Answers what was delayed until now.
    pub(crate) fn on_time(&mut self, poller: &Poller, now: Instant) {
        if self.accept_again_at.is_some_and(|at| at <= now) {
            self.accept_again_at = None;
            self.accept(poller);
        }
        while let Some(Reverse((at, token))) = self.delays.peek().copied()
            && at <= now
        {
            self.delays.pop();
            if let Some(index) = self.index_of(token) {
                let Some(connection) = self.slots.get_mut(index).and_then(|slot| slot.connection.as_mut())
                else {
                    continue;
                };
                let turn = connection.wake(&self.plan, &mut self.counts, &mut self.scratch);
                self.settle(index, &turn);
            }
        }
    }

    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        let delayed = self.delays.peek().map(|Reverse((at, _))| *at);
        [delayed, self.accept_again_at].into_iter().flatten().min()
    }

    fn accept(&mut self, poller: &Poller) {
        loop {
            match accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => self.insert(poller, TcpStream::from(socket)),
                Err(rustix::io::Errno::WOULDBLOCK) => return,
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
                Err(_) => {
                    self.accept_again_at = Some(Instant::now() + ACCEPT_PAUSE);
                    return;
                }
            }
        }
    }

    fn insert(&mut self, poller: &Poller, stream: TcpStream) {
        // A socket that is already reset refuses options; dropping it is all that is left.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        if self.plan.resets {
            // Dropped with nothing to wait for, a connection ends with a reset. Where that is refused it ends all the same.
            let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
            return;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.generation = (slot.generation + 1) % GENERATIONS;
        let connection = Connection::new(stream);
        if poller.add(connection.stream(), token(index, slot.generation)).is_err() {
            self.free.push(index);
            return;
        }
        slot.connection = Some(connection);
        self.counts.accepted += 1;
        // The request is usually there by now; trying costs less than another round of waiting.
        self.advance(index, true);
    }

    fn advance(&mut self, index: usize, readable: bool) {
        let Some(connection) = self.slots.get_mut(index).and_then(|slot| slot.connection.as_mut()) else {
            return;
        };
        let turn = connection.advance(readable, &self.plan, &mut self.counts, &mut self.scratch);
        self.settle(index, &turn);
    }

    fn settle(&mut self, index: usize, turn: &Turn) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        match turn {
            Turn::Pending => {}
            Turn::Delay { ms } => {
                let at = Instant::now() + Duration::from_millis(*ms);
                self.delays.push(Reverse((at, token(index, slot.generation))));
            }
            Turn::Close => {
                slot.connection = None;
                self.free.push(index);
            }
        }
    }

    fn index_of(&self, token: u64) -> Option<usize> {
        let index = usize::try_from(token & 0xffff_ffff).ok()?;
        let slot = self.slots.get(index)?;
        (slot.connection.is_some() && self::token(index, slot.generation) == token).then_some(index)
    }
}

fn token(index: usize, generation: u32) -> u64 {
    SERVER_TOKEN | (u64::from(generation) << 32) | (index as u64 & 0xffff_ffff)
}
