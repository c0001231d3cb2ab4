//! A client's connection: one request after the other, in order, until either side ends it.
//!
//! Invariants: a request is looked at only when its head is whole; nothing is read for a next request before the present one's
//! answer is out; a refused head ends the connection, because where its message ends is not known.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use monoio::net::TcpStream;
use ringway_engine::exchange::Exchange;
use ringway_engine::http1::{HEADROOM_BYTES, HeadError, Parse, RequestHead, TAILROOM_BYTES};
use ringway_engine::plugin::Course;

use crate::access::{self, Access};
use crate::answer::{self, Answer};
use crate::buf::Room;
use crate::core::{Core, Ends, Local};
use crate::drain::IDLE_GRACE;
use crate::io::{Read, Socket, TICK};
use crate::look::Looked;
use crate::plugins::{self, OwnChanges};
use crate::proxy;
use crate::sys::Block;

/// After so long without a request, and some ticks, a connection gives its memory back.
const IDLE_AFTER: Duration = TICK;
/// What an idle connection can take in at once: enough to see that a request comes.
const IDLE_BYTES: usize = 24;

/// A client's connection with what its present request needs.
#[derive(Debug)]
pub(crate) struct Downstream {
    pub(crate) core: Rc<Core>,
    pub(crate) socket: Socket,
    pub(crate) ends: Ends,
    /// What was read; from `at` on it belongs to the present or next request.
    pub(crate) buffer: Vec<u8>,
    pub(crate) at: usize,
    pub(crate) head: RequestHead,
    pub(crate) exchange: Exchange,
    pub(crate) access: Access,
    /// The target for the node, when it is not the received one.
    pub(crate) rewritten: Vec<u8>,
    /// What plugins decided; `None` until the first request that has some.
    pub(crate) course: Option<Box<Course>>,
    /// What of that the gateway's own answer is changed by.
    pub(crate) own: Option<Box<OwnChanges>>,
    /// The body of the present request, where somebody looked into it.
    pub(crate) looked: Option<Box<Looked>>,
    pub(crate) requests: u64,
    /// When it ends with its next answer, whatever the client wants.
    pub(crate) ends_at_ms: u64,
}

/// What becomes of a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Another request may come.
    Keep,
    /// It ends; what the client still sends is read for a while, so that it gets the answer and no reset.
    Linger,
    /// It ends as the client asked: nothing more should come from it.
    Done,
    /// It ends at once.
    Close,
    /// From here on it belongs to the protocol that both sides have switched to.
    Tunnel,
    /// It ends with a reset, so that a body that ends with the connection is not taken for whole.
    Reset,
}

/// Why there is no next request.
enum NoRequest {
    /// The client is gone, or was idle too long.
    Quiet,
    /// Nothing has come for a moment.
    Idle,
    /// Its head is refused.
    Refused(HeadError),
    /// Its head did not come in time.
    TooSlow,
}

/// A connection between two requests: what is left of it when nothing is going on.
#[derive(Debug)]
pub(crate) struct Idle {
    socket: Socket,
    client: SocketAddr,
    local: Rc<Local>,
    requests: u64,
    ends_at_ms: u64,
}

impl Idle {
    /// A connection that was just made.
    pub(crate) fn new(core: &Core, stream: TcpStream, client: SocketAddr, local: Rc<Local>) -> Box<Idle> {
        let lifetime_ms = u64::try_from(core.limits.connection_lifetime.as_millis()).unwrap_or(u64::MAX);
        // The client's port is as good as a random number here, and can be told from outside.
        let jitter_ms = lifetime_ms / 10 / 97 * u64::from(client.port() % 97);
        let ends_at_ms = core.deadlines.now_ms().saturating_add(lifetime_ms - jitter_ms);
        let socket = Socket::downstream(stream, &core.deadlines);
        Box::new(Idle { socket, client, local, requests: 0, ends_at_ms })
    }

    /// Waits for the next request's first bytes, with hardly any memory, and gives them. `None`: the connection has ended.
    pub(crate) fn wait(mut self: Box<Self>, core: &Core) -> impl Future<Output = Option<(Box<Idle>, Read)>> {
        core.rested.set(true);
        let wait = if self.requests == 0 { core.limits.request_head } else { core.limits.keepalive_idle };
        let buffer = Vec::with_capacity(IDLE_BYTES + TAILROOM_BYTES);
        let reader = &mut self.socket.reader;
        reader.set_idle(true);
        reader.begin(buffer, wait.saturating_sub(IDLE_AFTER));
        async move {
            let read = self.socket.reader.finish_unhurried().await;
            self.socket.reader.set_idle(false);
            let goes_on = matches!(read.result, Ok(1..)) || core.is_closing();
            goes_on.then(|| {
                self.socket.reader.wake();
                (self, read)
            })
        }
    }
}

/// Serves a connection until it ends, or is idle. `came` is what came while it was.
pub(crate) async fn serve(core: Rc<Core>, idle: Box<Idle>, came: Option<Read>) -> Option<Box<Idle>> {
    let Idle { socket, client, local, requests, ends_at_ms } = *idle;
    let mut connection = Box::new(Downstream {
        socket,
        ends: Ends::new(client, local),
        buffer: core.buffers.take(Room::Head),
        at: HEADROOM_BYTES,
        head: RequestHead::new(),
        exchange: Exchange::default(),
        access: Access::new(core.recorder.as_ref()),
        rewritten: Vec::new(),
        course: None,
        own: None,
        looked: None,
        requests,
        ends_at_ms,
        core,
    });
    let came = came.map(|read| connection.take_in(read));
    let blocks = connection.blocks();
    let rests = {
        let mut served = pin!(connection.serve(came));
        let own = Block::of(&*served);
        poll_fn(|context| {
            own.fetch();
            blocks.iter().for_each(Block::fetch);
            served.as_mut().poll(context)
        })
        .await
    };
    rests.then(|| connection.rest())
}

/// Counts a request as in hand, also when its connection's task ends early.
struct Busy(Rc<Core>);

impl Busy {
    fn new(core: &Rc<Core>) -> Busy {
        core.count(|counters| counters.busy.up());
        Busy(Rc::clone(core))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.count(|counters| counters.busy.down());
    }
}

impl Downstream {
    /// What every request touches of a connection, scattered over memory. With hundreds of connections none of it is in the
    /// processor's caches when the task wakes: asked for at once, it is waited for once and not block by block.
    fn blocks(&self) -> [Block; 3] {
        let [pump, watch] = self.socket.reader.blocks();
        [Block::of(self), pump, watch]
    }

    /// Serves one request after the other. `false`: the connection has ended; else nothing is going on any more.
    async fn serve(&mut self, mut came: Option<Read>) -> bool {
        loop {
            let request = self.next_request(came.take()).await;
            if matches!(request, Err(NoRequest::Idle)) {
                return true;
            }
            // Until what follows the answer is done too: an end of the process would turn it into a reset.
            let _busy = Busy::new(&self.core);
            let fate = match request {
                Ok(()) => proxy::handle(self).await,
                Err(NoRequest::Quiet | NoRequest::Idle) => Fate::Close,
                Err(NoRequest::Refused(error)) => self.refuse(error.status(), &error.to_string()).await,
                Err(NoRequest::TooSlow) => self.refuse(408, "the request's head did not come in time").await,
            };
            if fate != Fate::Keep {
                self.end(fate).await;
                return false;
            }
        }
    }

    /// Takes what came while the connection was idle, as if it had been read here.
    fn take_in(&mut self, read: Read) -> Read {
        self.buffer.extend_from_slice(&read.buffer);
        Read { result: read.result, buffer: std::mem::take(&mut self.buffer) }
    }

    /// What is left when nothing is going on.
    fn rest(self: Box<Self>) -> Box<Idle> {
        let Downstream { core, mut socket, ends, buffer, requests, ends_at_ms, .. } = *self;
        core.buffers.give(buffer);
        socket.reader.rest();
        let Ends { client, local, .. } = ends;
        Box::new(Idle { socket, client, local, requests, ends_at_ms })
    }

    /// Reads until a whole head stands in the buffer at `at`. `came` is what was read already.
    async fn next_request(&mut self, mut came: Option<Read>) -> Result<(), NoRequest> {
        let mut began_ms = None;
        loop {
            let bytes = self.buffer.get(self.at..).unwrap_or_default();
            if !bytes.is_empty() {
                self.access.arrives();
                match self.head.parse(bytes, &self.core.limits.head) {
                    Ok(Parse::Done(())) => {
                        self.requests = self.requests.saturating_add(1);
                        self.access.begins(self.at, began_ms.is_none());
                        self.core.count(|counters| counters.requests.up());
                        return Ok(());
                    }
                    Ok(Parse::Partial) => {}
                    Err(error) => return Err(NoRequest::Refused(error)),
                }
                began_ms = began_ms.or(Some(self.core.deadlines.now_ms()));
            }
            let mut read = match came.take() {
                Some(read) => read,
                None => {
                    self.begin_read(began_ms);
                    self.socket.reader.finish_unhurried().await
                }
            };
            self.socket.reader.set_idle(false);
            if began_ms.is_none() && self.core.is_closing() && self.socket.reader.has_expired() {
                // Boxed: rare, and every connection's task has room for what it may wait for.
                read = Box::pin(self.last_look(read)).await;
            }
            self.buffer = read.buffer;
            match read.result {
                Ok(0) => return Err(NoRequest::Quiet),
                Ok(_) => {}
                // Where the process is on its way out, another wait follows, which is short.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    if !self.core.is_closing() {
                        return Err(NoRequest::Idle);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut && began_ms.is_some() => {
                    return Err(NoRequest::TooSlow);
                }
                Err(_) => return Err(NoRequest::Quiet),
            }
        }
    }

    /// Begins one read behind what is there.
    fn begin_read(&mut self, began_ms: Option<u64>) {
        let wait = self.head_wait(began_ms);
        self.make_room();
        let buffer = std::mem::take(&mut self.buffer);
        let reader = &mut self.socket.reader;
        reader.set_idle(began_ms.is_none());
        let rests = began_ms.is_none() && wait > IDLE_AFTER && !self.core.is_closing();
        if rests {
            reader.begin_soon(buffer);
        } else {
            reader.begin(buffer, wait);
        }
    }

    /// A request may have come just when the wait was ended: it is still served. After this the end is sent at once, so that
    /// the time in which another one could come and be lost is that of one trip over the network (RFC 9112 section 9.5).
    async fn last_look(&mut self, read: Read) -> Read {
        if !matches!(&read.result, Err(error) if error.kind() == io::ErrorKind::TimedOut) {
            return read;
        }
        let read = self.socket.reader.read(read.buffer, TICK).await;
        if read.result.is_err() {
            self.socket.shut();
        }
        read
    }

    /// Whether this connection has lived long enough, or carried enough.
    pub(crate) fn is_spent(&self) -> bool {
        self.requests >= self.core.limits.requests_per_connection_max
            || self.core.deadlines.now_ms() >= self.ends_at_ms
    }

    /// A head has one deadline from its first byte on, however it is dripped.
    fn head_wait(&self, began_ms: Option<u64>) -> Duration {
        let limits = &self.core.limits;
        match began_ms {
            Some(began_ms) => {
                let passed = Duration::from_millis(self.core.deadlines.now_ms().saturating_sub(began_ms));
                limits.request_head.saturating_sub(passed)
            }
            None if self.core.is_closing() => IDLE_GRACE,
            None if self.requests == 0 => limits.request_head,
            None => limits.keepalive_idle,
        }
    }

    /// Moves what is left to the front, and grows the buffer when a head fills it. The parser bounds how far.
    fn make_room(&mut self) {
        if self.at > HEADROOM_BYTES {
            self.buffer.drain(HEADROOM_BYTES..self.at);
            self.at = HEADROOM_BYTES;
        }
        if self.buffer.capacity() <= self.buffer.len() + TAILROOM_BYTES {
            self.buffer = self.core.buffers.grow(std::mem::take(&mut self.buffer));
        }
    }

    /// Answers a request that is refused before it is understood, and ends the connection.
    async fn refuse(&mut self, status: u16, reason: &str) -> Fate {
        self.core.count(|counters| counters.refused_heads.up());
        // What is known of it decides whether the answer may have a body.
        let method = self.head.method;
        plugins::forget(self);
        self.head.reset();
        self.head.method = method;
        self.access.begins(self.at, false);
        let answer = Answer { status, code: "bad_request", reason };
        let fate = answer::send(self, Some(&answer), false).await;
        access::finish(self, None, None);
        fate
    }

    /// Ends the connection.
    async fn end(&mut self, fate: Fate) {
        match fate {
            Fate::Keep | Fate::Close | Fate::Tunnel => {}
            Fate::Reset => {
                // Fails only when the peer is gone already.
                let _ = self.socket.reset();
            }
            // A close with unread bytes is a reset, which could take the answer with it.
            Fate::Done if self.buffer.len() <= self.at && self.socket.unread_bytes() == 0 => {}
            Fate::Done | Fate::Linger => self.linger().await,
        }
        self.core.buffers.give(std::mem::take(&mut self.buffer));
    }

    /// Sends our end, then reads and drops what still comes (RFC 9112 section 9.6).
    async fn linger(&mut self) {
        let core = Rc::clone(&self.core);
        let until_ms = core.deadlines.until_ms(core.limits.linger);
        // As in `write_last`; the client has the answer's length to go by.
        let expired = self.socket.reader.has_expired();
        if !expired && self.socket.writer.end().is_err() {
            return;
        }
        let mut dropped = 0;
        while dropped < core.limits.linger_bytes_max {
            let Some(left) = core.deadlines.left(until_ms) else { return };
            if !self.socket.reader.is_armed() {
                self.socket.reader.arm(core.buffers.take(Room::Head));
            }
            let read = self.socket.reader.finish(left).await;
            dropped += read.buffer.len();
            core.buffers.give(read.buffer);
            match read.result {
                Ok(1..) => {}
                Err(error) if expired && error.kind() == io::ErrorKind::TimedOut => {
                    // Boxed: it is large and rare, and every connection's task has room for what it may wait for.
                    Box::pin(monoio::time::sleep(TICK)).await;
                }
                _ => return,
            }
        }
    }
}
