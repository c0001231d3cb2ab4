//! Sockets of one core, and the only place that ends an operation before its time.
//!
//! A dropped read may already have consumed bytes, and a dropped accept or connect may already own a descriptor. So
//! no future is dropped at a deadline: the core's [`Deadlines`] shut the *socket* down, and the pending operation then
//! completes by itself, with an error or with the bytes it still got. That also costs a request no timer
//! and no allocation: setting a deadline is storing a number.
//!
//! Invariants: every wait on a socket has a deadline; a deadline never fires early, and at most four [`TICK`]s late. Time in
//! which the loop stood still does not count: what came meanwhile is looked at first.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use monoio::buf::{IoBuf, IoBufMut};
use monoio::io::{
    AsyncReadRent, AsyncWriteRent, CancelHandle, CancelableAsyncReadRent, Canceller, OwnedReadHalf,
    OwnedWriteHalf, Splitable,
};
use monoio::net::{TcpStream, UnixStream};
use ringway_engine::http1::TAILROOM_BYTES;

use crate::sys::{self, Block, Side};

mod dial;

/// How often due deadlines are looked for.
pub(crate) const TICK: Duration = Duration::from_millis(TICK_MS);
const TICK_MS: u64 = 100;
const SLOTS: u32 = 128;
/// More ticks than this in one turn mean that the loop stood still. Two, because a sleep of one tick lasts a little longer.
const TICKS_PER_TURN_MAX: u32 = 2;
const NEVER: u32 = u32::MAX;
/// Turns after which a read that is to end soon is cancelled; it has lasted one tick less at least.
const SOON_TURNS: usize = 4;
/// See [`Deadlines::hasten_idle`].
const SPREAD_PLACES: u32 = 97;

/// The deadlines of one core: a hashed wheel of sockets, turned by [`Deadlines::turn`].
pub(crate) struct Deadlines {
    tick: Cell<u32>,
    /// When the first tick began, moved by the time in which the loop stood still.
    started: Cell<Instant>,
    slots: RefCell<Vec<Vec<Rc<Watch>>>>,
    /// See [`Reader::begin_soon`]: the handles of reads by the turn in which they began, the earliest first.
    soon: RefCell<VecDeque<Canceller>>,
}

impl std::fmt::Debug for Deadlines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deadlines").field("tick", &self.tick.get()).finish_non_exhaustive()
    }
}

impl Deadlines {
    pub(crate) fn new(now: Instant) -> Deadlines {
        Deadlines {
            tick: Cell::new(0),
            started: Cell::new(now),
            slots: RefCell::new(vec![Vec::new(); SLOTS as usize]),
            soon: RefCell::new((0..SOON_TURNS).map(|_| Canceller::new()).collect()),
        }
    }

    /// Milliseconds since this core started, exact to a tick.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::from(self.tick.get()) * TICK_MS
    }

    /// When `wait` from now will be over, on the clock of [`Deadlines::now_ms`].
    pub(crate) fn until_ms(&self, wait: Duration) -> u64 {
        self.now_ms().saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
    }

    /// What is left until then, if anything.
    pub(crate) fn left(&self, until_ms: u64) -> Option<Duration> {
        let left_ms = until_ms.saturating_sub(self.now_ms());
        (left_ms > 0).then(|| Duration::from_millis(left_ms))
    }

    /// Ends the operations of every socket that is due.
    pub(crate) fn turn(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.started.get()).as_millis() / TICK.as_millis();
        let elapsed = u32::try_from(elapsed).unwrap_or(NEVER - 1);
        let target = elapsed.min(self.tick.get().saturating_add(TICKS_PER_TURN_MAX));
        if elapsed > target {
            // A deadline that was set while the loop stood still counts from the last tick, and bytes may have come that
            // nobody has looked at.
            self.started.set(now.checked_sub(TICK * target).unwrap_or(now));
        }
        if self.tick.get() < target {
            self.end_soon();
        }
        while self.tick.get() < target {
            let tick = self.tick.get() + 1;
            self.tick.set(tick);
            let mut due = match self.slots.borrow_mut().get_mut((tick % SLOTS) as usize) {
                Some(slot) => std::mem::take(slot),
                None => continue,
            };
            for watch in due.drain(..) {
                self.visit(&watch, tick);
            }
            if let Some(slot) = self.slots.borrow_mut().get_mut((tick % SLOTS) as usize)
                && slot.is_empty()
            {
                *slot = due; // Keeps its allocation.
            }
        }
    }

    /// Cancels the reads that began [`SOON_TURNS`] turns ago. One handle serves all of a turn: one for each socket would be memory
    /// of its own, touched twice a request.
    fn end_soon(&self) {
        let mut soon = self.soon.borrow_mut();
        if let Some(earliest) = soon.pop_front() {
            soon.push_back(earliest.cancel());
        }
    }

    /// Gives back what many reads of the last turns have left behind. They end early, and go on as those that are cancelled.
    pub(crate) fn tidy(&self) {
        for canceller in self.soon.borrow_mut().iter_mut() {
            std::mem::take(canceller).cancel();
        }
    }

    fn soon(&self) -> Option<CancelHandle> {
        self.soon.borrow().back().map(Canceller::handle)
    }

    /// Ends every read that is idle (see [`Reader::set_idle`]) earlier: after `first` to `last`, spread evenly.
    pub(crate) fn hasten_idle(&self, first: Duration, last: Duration) {
        let idle: Vec<Rc<Watch>> =
            self.slots.borrow().iter().flatten().filter(|watch| watch.idle.get()).map(Rc::clone).collect();
        for watch in idle {
            // Numbers of descriptors are dense, so that they spread well.
            let place = u32::try_from(watch.fd.get()).unwrap_or(0) % SPREAD_PLACES;
            let wait = first + last.saturating_sub(first) * place / SPREAD_PLACES;
            let due = self.due_in(wait);
            if due < watch.read_due.get() && watch.read_due.get() != NEVER {
                watch.read_due.set(due);
                self.register(&watch);
            }
        }
    }

    fn visit(&self, watch: &Rc<Watch>, tick: u32) {
        if watch.registered.get() != tick || watch.fd.get() < 0 {
            return; // It moved to an earlier slot, or its socket is gone.
        }
        watch.registered.set(NEVER);
        if watch.read_due.get() <= tick {
            watch.read_due.set(NEVER);
            if watch.rings.take() {
                watch.rang.set(true);
                if let Some(waker) = watch.waiting.take() {
                    waker.wake();
                }
            } else {
                watch.read_expired.set(true);
                sys::shutdown(watch.fd.get(), watch.read_side);
            }
        }
        if watch.write_due.get() <= tick {
            watch.write_due.set(NEVER);
            watch.write_expired.set(true);
            sys::shutdown(watch.fd.get(), Side::Both);
        }
        self.register(watch);
    }

    /// Puts a watch into the slot of its next deadline, or of the last slot of this round.
    fn register(&self, watch: &Rc<Watch>) {
        let due = watch.read_due.get().min(watch.write_due.get());
        let now = self.tick.get();
        let at = due.clamp(now.saturating_add(1), now.saturating_add(SLOTS - 1));
        if due == NEVER || watch.registered.get() <= at {
            return;
        }
        watch.registered.set(at);
        if let Some(slot) = self.slots.borrow_mut().get_mut((at % SLOTS) as usize) {
            slot.push(Rc::clone(watch));
        }
    }

    /// The tick at which a wait that starts now and may last `wait` has certainly lasted it.
    fn due_in(&self, wait: Duration) -> u32 {
        // Not by `as_millis`: that divides numbers of 128 bits, several times a request.
        let ticks = wait
            .as_secs()
            .saturating_mul(1_000 / TICK_MS)
            .saturating_add(u64::from(wait.subsec_millis()).div_ceil(TICK_MS));
        let ticks = u32::try_from(ticks).unwrap_or(NEVER);
        // The next turn may be about to count so many ticks, and then stand inside another one.
        self.tick.get().saturating_add(ticks).saturating_add(TICKS_PER_TURN_MAX + 1).min(NEVER - 1)
    }
}

/// What a socket's owner, its read in flight and the [`Deadlines`] share of it: one block of memory.
struct Watch {
    fd: Cell<RawFd>,
    read_due: Cell<u32>,
    write_due: Cell<u32>,
    registered: Cell<u32>,
    /// Nothing has come of what is read next: the end of this read loses nothing.
    idle: Cell<bool>,
    /// A read that is due goes on, and whoever waits for it is told (see [`Reader::ready_within`]).
    rings: Cell<bool>,
    rang: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
    read_expired: Cell<bool>,
    write_expired: Cell<bool>,
    read_side: Side,
    step: RefCell<Step>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch").field("fd", &self.fd.get()).finish_non_exhaustive()
    }
}

/// Where a socket's present read stands.
#[derive(Default)]
enum Step {
    /// None is wanted, or one is under way.
    #[default]
    Nothing,
    /// It is to begin, perhaps so that it can be cancelled.
    Wanted(Vec<u8>, Option<CancelHandle>),
    Done(Read),
    /// The socket's half is wanted from what reads of it (see [`Reader::rest`]).
    Asked,
    Given(ReadHalf),
}

/// What reads of a socket own.
enum ReadHalf {
    Tcp(OwnedReadHalf<TcpStream>),
    Unix(OwnedReadHalf<UnixStream>),
}

impl From<OwnedReadHalf<TcpStream>> for ReadHalf {
    fn from(half: OwnedReadHalf<TcpStream>) -> ReadHalf {
        ReadHalf::Tcp(half)
    }
}

impl From<OwnedReadHalf<UnixStream>> for ReadHalf {
    fn from(half: OwnedReadHalf<UnixStream>) -> ReadHalf {
        ReadHalf::Unix(half)
    }
}

impl Watch {
    fn start(fd: RawFd, read_side: Side) -> Watching {
        Watching(Rc::new(Watch {
            fd: Cell::new(fd),
            read_due: Cell::new(NEVER),
            write_due: Cell::new(NEVER),
            registered: Cell::new(NEVER),
            idle: Cell::new(false),
            rings: Cell::new(false),
            rang: Cell::new(false),
            waiting: RefCell::default(),
            read_expired: Cell::new(false),
            write_expired: Cell::new(false),
            read_side,
            step: RefCell::default(),
        }))
    }

    /// The next read, when one is wanted; `None`: the half is.
    fn wanted(&self) -> impl Future<Output = Option<(Vec<u8>, Option<CancelHandle>)>> {
        poll_fn(|_| {
            let mut step = self.step.borrow_mut();
            match std::mem::take(&mut *step) {
                Step::Wanted(buffer, cancel) => Poll::Ready(Some((buffer, cancel))),
                Step::Asked => Poll::Ready(None),
                other => {
                    *step = other;
                    Poll::Pending // Whoever wants the next read polls.
                }
            }
        })
    }

    fn take_done(&self) -> Option<Read> {
        let mut step = self.step.borrow_mut();
        match std::mem::take(&mut *step) {
            Step::Done(read) => Some(read),
            other => {
                *step = other;
                None
            }
        }
    }

    fn is_done(&self) -> bool {
        matches!(*self.step.borrow(), Step::Done(_))
    }
}

/// A watch as its socket's owner holds it. The wheel may keep the watch longer, and an armed read keeps the descriptor
/// alive for a moment; from the owner's end on no deadline may touch its number.
#[derive(Debug)]
struct Watching(Rc<Watch>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.fd.set(-1);
        // The wheel may hold the watch for long, and needs no buffer.
        self.0.step.take();
    }
}

/// A connection of this core, by TCP or over a Unix socket.
#[derive(Debug)]
pub(crate) struct Socket {
    watching: Watching,
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
}

impl Socket {
    /// A client's connection: when a read is overdue, answering is still possible.
    pub(crate) fn downstream(stream: TcpStream, deadlines: &Rc<Deadlines>) -> Socket {
        let fd = stream.as_raw_fd();
        let (read, write) = stream.into_split();
        Socket::new(fd, read, WriteHalf::Tcp(write), deadlines, Side::Read)
    }

    fn new<R: CancelableAsyncReadRent + Into<ReadHalf> + 'static>(
        fd: RawFd,
        read: R,
        write: WriteHalf,
        deadlines: &Rc<Deadlines>,
        read_side: Side,
    ) -> Socket {
        let watching = Watch::start(fd, read_side);
        let clock = Clock { deadlines: Rc::clone(deadlines), watch: Rc::clone(&watching.0) };
        Socket {
            watching,
            reader: Reader::new(read, clock.clone()),
            writer: Writer { half: write, clock, ended: false, bytes_written: 0 },
        }
    }

    /// Sends our end at once and takes nothing more; the descriptor itself closes a little later.
    pub(crate) fn shut(&self) {
        sys::shutdown(self.watching.0.fd.get(), Side::Both);
    }

    /// Ends this connection with a reset, so that the peer cannot take what it got for whole.
    pub(crate) fn reset(&self) -> io::Result<()> {
        sys::reset(self.watching.0.fd.get())
    }

    /// How many bytes have arrived and were not read.
    pub(crate) fn unread_bytes(&self) -> usize {
        sys::unread_bytes(self.watching.0.fd.get()).unwrap_or(0)
    }

    /// Appends at most `bytes_max` of the bytes that have arrived. No read may be armed.
    pub(crate) fn receive_now(&mut self, buffer: &mut Vec<u8>, bytes_max: usize) -> io::Result<usize> {
        debug_assert!(!self.reader.is_armed(), "two reads at a time");
        sys::receive_now(self.watching.0.fd.get(), buffer, bytes_max)
    }

    /// What its deadlines can be moved by while its halves are in use.
    pub(crate) fn clock(&self) -> Clock {
        self.reader.clock.clone()
    }
}

impl Drop for Socket {
    /// Also keeps a socket from being taken apart: a half that outlived it would have no deadlines.
    fn drop(&mut self) {
        self.watching.0.fd.set(-1);
    }
}

/// Moves the deadlines of one socket.
#[derive(Debug, Clone)]
pub(crate) struct Clock {
    deadlines: Rc<Deadlines>,
    watch: Rc<Watch>,
}

impl Clock {
    /// The read that is waited for, or the next one, may last `wait` from now on.
    pub(crate) fn read_within(&self, wait: Duration) {
        self.watch.read_due.set(self.deadlines.due_in(wait));
        self.deadlines.register(&self.watch);
    }

    /// Whatever is waited for may last `wait` from now on.
    pub(crate) fn extend(&self, wait: Duration) {
        let due = self.deadlines.due_in(wait);
        for deadline in [&self.watch.read_due, &self.watch.write_due] {
            if deadline.get() != NEVER {
                deadline.set(due);
            }
        }
    }
}

/// What a completed read gives: the buffer is its caller's again.
#[derive(Debug)]
pub(crate) struct Read {
    /// Bytes that were appended; 0 is the end of the stream.
    pub(crate) result: io::Result<usize>,
    pub(crate) buffer: Vec<u8>,
}

/// The reading half. A read can be armed and left: it goes on while nobody waits for it, so that a pooled connection
/// notices its end, and the next request's bytes come without another wait.
pub(crate) struct Reader {
    pump: Pin<Box<dyn Future<Output = ()>>>,
    armed: bool,
    clock: Clock,
    bytes_read: u64,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("armed", &self.armed).finish_non_exhaustive()
    }
}

impl Reader {
    fn new<R: CancelableAsyncReadRent + Into<ReadHalf> + 'static>(half: R, clock: Clock) -> Reader {
        let pump = Box::pin(pump(half, Rc::clone(&clock.watch)));
        Reader { pump, armed: false, clock, bytes_read: 0 }
    }

    /// Makes itself small: until [`Reader::wake`] its reads cannot be cancelled. No read may be armed.
    pub(crate) fn rest(&mut self) {
        let watch = Rc::clone(&self.clock.watch);
        match self.take_half() {
            Some(ReadHalf::Tcp(half)) => self.pump = Box::pin(slow_pump(half, watch)),
            Some(ReadHalf::Unix(half)) => self.pump = Box::pin(slow_pump(half, watch)),
            None => {}
        }
    }

    /// Makes itself fit for requests again. No read may be armed.
    pub(crate) fn wake(&mut self) {
        let watch = Rc::clone(&self.clock.watch);
        match self.take_half() {
            Some(ReadHalf::Tcp(half)) => self.pump = Box::pin(pump(half, watch)),
            Some(ReadHalf::Unix(half)) => self.pump = Box::pin(pump(half, watch)),
            None => {}
        }
    }

    /// What each read touches, as long as the reader neither rests nor wakes.
    pub(crate) fn blocks(&self) -> [Block; 2] {
        [Block::of(&*self.pump), Block::of(&*self.clock.watch)]
    }

    /// What the present pump reads of, which ends it.
    fn take_half(&mut self) -> Option<ReadHalf> {
        debug_assert!(!self.armed, "a read is under way");
        *self.clock.watch.step.borrow_mut() = Step::Asked;
        self.poll(&mut Context::from_waker(Waker::noop()));
        match self.clock.watch.step.take() {
            Step::Given(half) => Some(half),
            _ => None,
        }
    }

    /// Starts a read that appends to `buffer`, up to its capacity less [`TAILROOM_BYTES`].
    pub(crate) fn arm(&mut self, buffer: Vec<u8>) {
        self.want(buffer, None);
        self.poll(&mut Context::from_waker(Waker::noop()));
    }

    /// The read begins with the next poll.
    fn want(&mut self, buffer: Vec<u8>, cancel: Option<CancelHandle>) {
        debug_assert!(!self.armed, "one read at a time");
        debug_assert!(buffer.capacity() > buffer.len() + TAILROOM_BYTES, "a read needs room");
        *self.clock.watch.step.borrow_mut() = Step::Wanted(buffer, cancel);
        self.armed = true;
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.armed
    }

    /// Bytes that its reads have brought since this was last asked.
    pub(crate) fn take_count(&mut self) -> u64 {
        std::mem::take(&mut self.bytes_read)
    }

    /// Whether the armed read is over already: for a pooled connection that is its end.
    pub(crate) fn is_ready(&mut self) -> bool {
        self.poll(&mut Context::from_waker(Waker::noop()));
        self.clock.watch.is_done()
    }

    /// Waits for the armed read, at most `wait`; after that the result is `TimedOut`.
    pub(crate) fn finish(&mut self, wait: Duration) -> impl Future<Output = Read> {
        self.clock.read_within(wait);
        self.finish_unhurried()
    }

    /// Waits for the armed read without a deadline, unless one is set by [`Clock::read_within`] meanwhile.
    pub(crate) fn finish_unhurried(&mut self) -> impl Future<Output = Read> {
        // No async function: that would be one more state machine to walk through, each time that the task is woken.
        poll_fn(|context| self.poll_done(context).map(|read| self.judge(read)))
    }

    fn judge(&mut self, mut read: Read) -> Read {
        self.clock.watch.read_due.set(NEVER);
        if let Ok(bytes) = read.result {
            self.bytes_read = self.bytes_read.wrapping_add(bytes as u64);
        }
        // A write that was given up has ended both directions: the end that is read then is ours, not the peer's.
        let expired = self.has_expired() || self.clock.watch.write_expired.get();
        if expired && matches!(read.result, Ok(0) | Err(_)) {
            read.result = Err(io::ErrorKind::TimedOut.into());
        } else if matches!(&read.result, Err(error) if error.raw_os_error() == Some(libc::ECANCELED)) {
            read.result = Err(io::ErrorKind::Interrupted.into());
        }
        read
    }

    /// Says that the next read waits for something new, which a process on its way out does not wait for.
    pub(crate) fn set_idle(&self, idle: bool) {
        self.clock.watch.idle.set(idle);
    }

    /// Whether a read was given up, so that further reads give what is there and never wait.
    pub(crate) fn has_expired(&self) -> bool {
        self.clock.watch.read_expired.get()
    }

    /// Reads once.
    pub(crate) fn read(&mut self, buffer: Vec<u8>, wait: Duration) -> impl Future<Output = Read> {
        self.want(buffer, None);
        self.finish(wait)
    }

    /// Begins a read, to be waited for by [`Reader::finish_unhurried`], at most `wait` from now.
    pub(crate) fn begin(&mut self, buffer: Vec<u8>, wait: Duration) {
        self.want(buffer, None);
        self.clock.read_within(wait);
    }

    /// Begins a read that takes no longer than a few ticks; if it would, the error is `Interrupted`, the buffer is as it was, and the
    /// next read goes on.
    pub(crate) fn begin_soon(&mut self, buffer: Vec<u8>) {
        // Cancelled, not dropped: bytes that come at that moment are the read's.
        self.want(buffer, self.clock.deadlines.soon());
    }

    /// Waits for the armed read without taking it.
    pub(crate) async fn ready(&mut self) {
        poll_fn(|context| {
            self.poll(context);
            if self.clock.watch.is_done() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Waits for the armed read without taking it, at most `wait`. `false`: nothing has come yet, and the read goes on.
    pub(crate) async fn ready_within(&mut self, wait: Duration) -> bool {
        self.clock.watch.rings.set(true);
        self.clock.watch.rang.set(false);
        self.clock.read_within(wait);
        poll_fn(|context| {
            let is_ready = self.poll_ready(context);
            let watch = &self.clock.watch;
            if is_ready || watch.rang.get() {
                watch.rings.set(false);
                // A waker keeps its task's memory.
                watch.waiting.take();
                return Poll::Ready(is_ready);
            }
            *watch.waiting.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Whether the armed read is over; if not, the task is woken when it is.
    pub(crate) fn poll_ready(&mut self, context: &mut Context<'_>) -> bool {
        self.poll(context);
        self.clock.watch.is_done()
    }

    /// Whether the armed read is over and brought bytes.
    pub(crate) fn has_bytes(&self) -> bool {
        matches!(&*self.clock.watch.step.borrow(), Step::Done(Read { result: Ok(1..), .. }))
    }

    fn poll_done(&mut self, context: &mut Context<'_>) -> Poll<Read> {
        self.poll(context);
        match self.clock.watch.take_done() {
            Some(read) => {
                self.armed = false;
                Poll::Ready(read)
            }
            None => Poll::Pending,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) {
        if !self.clock.watch.is_done() {
            // The pump ends only when its half is asked for; what it has done stands in the watch.
            let _ = self.pump.as_mut().poll(context);
        }
    }
}

/// Does one read after the other, each when it is wanted, until its half is. One boxed future for as long as a connection has requests.
async fn pump<R: CancelableAsyncReadRent + Into<ReadHalf>>(mut half: R, watch: Rc<Watch>) {
    while let Some((buffer, cancel)) = watch.wanted().await {
        let (start, end) = (buffer.len(), buffer.capacity().saturating_sub(TAILROOM_BYTES));
        let slice = buffer.slice_mut(start..end);
        let (result, slice) = match cancel {
            Some(cancel) => half.cancelable_read(slice, cancel).await,
            None => half.read(slice).await,
        };
        *watch.step.borrow_mut() = Step::Done(Read { result, buffer: slice.into_inner() });
    }
    *watch.step.borrow_mut() = Step::Given(half.into());
}

/// The same for a connection at rest: the room that a read takes which can be cancelled is most of what an idle connection would hold.
async fn slow_pump<R: AsyncReadRent + Into<ReadHalf>>(mut half: R, watch: Rc<Watch>) {
    while let Some((buffer, _)) = watch.wanted().await {
        let (start, end) = (buffer.len(), buffer.capacity().saturating_sub(TAILROOM_BYTES));
        let (result, slice) = half.read(buffer.slice_mut(start..end)).await;
        *watch.step.borrow_mut() = Step::Done(Read { result, buffer: slice.into_inner() });
    }
    *watch.step.borrow_mut() = Step::Given(half.into());
}

/// The writing half.
#[derive(Debug)]
pub(crate) struct Writer {
    half: WriteHalf,
    clock: Clock,
    ended: bool,
    bytes_written: u64,
}

/// Reading is behind one boxed future whatever the socket; writing is not, and is told apart here.
#[derive(Debug)]
enum WriteHalf {
    Tcp(OwnedWriteHalf<TcpStream>),
    Unix(OwnedWriteHalf<UnixStream>),
}

impl Writer {
    /// Bytes that the kernel has taken since this was last asked.
    pub(crate) fn take_count(&mut self) -> u64 {
        std::mem::take(&mut self.bytes_written)
    }

    /// Writes a range of `buffer` whole; between two steps at most `wait` passes. Gives the buffer back, and how many
    /// bytes the kernel took before an error.
    pub(crate) async fn write_all(
        &mut self,
        mut buffer: Vec<u8>,
        range: std::ops::Range<usize>,
        wait: Duration,
    ) -> Written {
        let mut at = range.start;
        while at < range.end {
            self.clock.watch.write_due.set(self.clock.deadlines.due_in(wait));
            self.clock.deadlines.register(&self.clock.watch);
            let slice = buffer.slice(at..range.end);
            let (result, slice) = match &mut self.half {
                WriteHalf::Tcp(half) => half.write(slice).await,
                WriteHalf::Unix(half) => half.write(slice).await,
            };
            self.clock.watch.write_due.set(NEVER);
            buffer = slice.into_inner();
            let error = match result {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(bytes) => {
                    at += bytes;
                    self.bytes_written = self.bytes_written.wrapping_add(bytes as u64);
                    continue;
                }
                Err(_) if self.clock.watch.write_expired.get() => io::ErrorKind::TimedOut.into(),
                Err(error) => error,
            };
            return Written { result: Err(error), bytes: at - range.start, buffer };
        }
        Written { result: Ok(()), bytes: at - range.start, buffer }
    }

    /// Writes a range of `buffer` whole and then the end of the stream, in one segment where they fit. Linux answers bytes that
    /// come after both directions were shut down with a reset; so where a read was given up, the end is left to the close.
    pub(crate) async fn write_last(
        &mut self,
        buffer: Vec<u8>,
        range: std::ops::Range<usize>,
        wait: Duration,
    ) -> Written {
        if self.clock.watch.read_expired.get() {
            return self.write_all(buffer, range, wait).await;
        }
        let fd = self.clock.watch.fd.get();
        // What the kernel does not take at once, or an error, is for the ordinary way.
        let taken = sys::send_held(fd, buffer.get(range.clone()).unwrap_or_default()).unwrap_or(0);
        self.bytes_written = self.bytes_written.wrapping_add(taken as u64);
        let mut written = Written { result: Ok(()), bytes: 0, buffer };
        if taken < range.len() {
            written = self.write_all(written.buffer, range.start + taken..range.end, wait).await;
        }
        if written.result.is_ok() {
            written.result = self.end();
        }
        Written { bytes: written.bytes + taken, ..written }
    }

    /// Sends the end of the stream.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        if !self.ended {
            sys::end_writing(self.clock.watch.fd.get())?;
            self.ended = true;
        }
        Ok(())
    }
}

/// What a write gives.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) result: io::Result<()>,
    pub(crate) bytes: usize,
    pub(crate) buffer: Vec<u8>,
}

#[cfg(test)]
mod tests;
