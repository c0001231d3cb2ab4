//! The client side: a fixed set of connections that sends one request (or one of many alike) over and over, by a pace.
//!
//! `Client` is driven from outside (`start_due`, `on_ready`, `next_wakeup`), so that `hammer` can run it in one loop
//! with an origin. Invariants: a connection carries one request at a time (no pipelining); every request whose time
//! came is accounted for exactly once, as an answer or as a failure; latency counts from the time the pace intended,
//! whenever the request could really be sent.

pub(crate) mod connection;
pub(crate) mod pace;
pub(crate) mod request;
pub(crate) mod tally;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::http::response::Answer;
use crate::poll::{Poller, Ready};
use connection::{Connection, Step};
use pace::Pace;
use request::Request;
use tally::{Failure, Tally};

/// One request of a client that keeps a record of each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) intended: Instant,
    pub(crate) ended: Instant,
    pub(crate) failure: Option<Failure>,
}

/// How often the deadlines of waiting requests are looked at.
const TIMEOUT_SCAN: Duration = Duration::from_millis(20);
/// A closed loop pauses a connection this long after a failed connect, or it would spin on a dead server.
const REST_AFTER_CONNECT_FAILURE: Duration = Duration::from_millis(10);
/// How long a server that was asked to close may take before the client closes.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// Read at once; large enough that 1 MiB answers take few calls.
const SCRATCH_BYTES: usize = 256 * 1024;

/// What to send where, and what counts as a good answer.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) address: SocketAddr,
    pub(crate) request: Request,
    pub(crate) connections: usize,
    pub(crate) new_connection: bool,
    pub(crate) timeout: Duration,
    /// When given, an answer of any other size is a failure.
    pub(crate) body_bytes_expected: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Client {
    plan: Plan,
    pace: Pace,
    tally: Tally,
    slots: Vec<Slot>,
    /// Slots that can send. First in, first out, so that an open loop below capacity still uses every connection.
    idle: VecDeque<usize>,
    resting: VecDeque<(Instant, usize)>,
    /// Slots that stopped reading in the middle to let others have a turn.
    unfinished: VecDeque<usize>,
    scratch: Vec<u8>,
    active: usize,
    /// Requests begun so far.
    begun: u64,
    scan_at: Instant,
    /// Every request so far, where somebody wants them one by one.
    events: Option<Vec<Event>>,
}

#[derive(Debug, Default)]
struct Slot {
    connection: Option<Connection>,
    generation: u32,
    waiting: Option<Waiting>,
    /// The request under way, when it is not always the same.
    own: Vec<u8>,
    /// Answered; waits for the server to close.
    closing_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    intended: Instant,
    deadline: Instant,
}

impl Client {
    pub(crate) fn new(plan: Plan, pace: Pace) -> Self {
        let now = Instant::now();
        Self {
            pace,
            tally: Tally::default(),
            slots: (0..plan.connections).map(|_| Slot::default()).collect(),
            idle: (0..plan.connections).collect(),
            resting: VecDeque::new(),
            unfinished: VecDeque::new(),
            scratch: vec![0; SCRATCH_BYTES],
            active: 0,
            begun: 0,
            scan_at: now + TIMEOUT_SCAN,
            events: None,
            plan,
        }
    }

    /// Keeps every request from now on, for `take_events`.
    pub(crate) fn keep_events(&mut self) {
        self.events = Some(Vec::new());
    }

    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        self.events.take().unwrap_or_default()
    }

    /// Goes on by another timetable, on the same connections.
    pub(crate) fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Nothing is due any more from `now` on; what is under way goes on.
    pub(crate) fn stop(&mut self, now: Instant) {
        self.pace.stop(now);
    }

    /// Opens every connection ahead of the first request, so that handshakes do not count as latency. Pointless when
    /// each request opens its own.
    pub(crate) fn open_all(&mut self, poller: &Poller) {
        if self.plan.new_connection {
            return;
        }
        for index in 0..self.slots.len() {
            // One that fails here fails again, and is counted, when a request needs it.
            let _ = self.open(poller, index);
        }
    }

    /// Sends what is due as far as connections are free; gives up on what waited too long.
    pub(crate) fn start_due(&mut self, poller: &Poller, now: Instant) {
        while let Some((until, index)) = self.resting.front().copied()
            && until <= now
        {
            self.resting.pop_front();
            self.idle.push_back(index);
        }
        while let Some(intended) = self.pace.expired(now, self.plan.timeout) {
            self.count(intended, now, Some(Failure::QueueTimeout), 0);
        }
        // At most one turn a slot: a slot that fails at once comes back to the queue's end.
        for _ in 0..self.idle.len() {
            if !self.pace.is_due(now) {
                break;
            }
            let Some(index) = self.idle.pop_front() else { break };
            let Some(intended) = self.pace.take(now) else { break };
            self.start(poller, index, intended, now);
        }
        for _ in 0..self.unfinished.len() {
            if let Some(index) = self.unfinished.pop_front() {
                self.advance(index, true);
            }
        }
        if now >= self.scan_at {
            self.scan(now);
        }
    }

    pub(crate) fn on_ready(&mut self, ready: Ready) {
        let (index, generation) = split_token(ready.token);
        let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.generation == generation) else {
            return;
        };
        let Some(connection) = &mut slot.connection else { return };
        if ready.ended {
            connection.note_end();
        }
        self.advance(index, ready.readable);
    }

    /// When `start_due` has something to do even if no socket becomes ready; `None` when it is finished.
    pub(crate) fn next_wakeup(&self, now: Instant) -> Option<Instant> {
        if self.is_finished(now) {
            return None;
        }
        if !self.unfinished.is_empty() {
            return Some(now);
        }
        let due = if self.idle.is_empty() { None } else { self.pace.next_at(now) };
        let rested = self.resting.front().map(|(until, _)| *until);
        [due, rested, Some(self.scan_at)].into_iter().flatten().min()
    }

    /// Nothing is due any more and nothing is under way.
    pub(crate) fn is_finished(&self, now: Instant) -> bool {
        self.active == 0 && self.pace.is_finished(now)
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Takes what was counted so far and starts counting anew.
    pub(crate) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    fn start(&mut self, poller: &Poller, index: usize, intended: Instant, now: Instant) {
        self.tally.started(now.saturating_duration_since(intended));
        let fresh = self.slots.get(index).is_none_or(|slot| slot.connection.is_none());
        let opened = if fresh { self.open(poller, index) } else { Ok(()) };
        let head_request = self.plan.request.is_head();
        let deadline = intended + self.plan.timeout;
        let Some(slot) = self.slots.get_mut(index) else { return };
        self.active += 1;
        slot.waiting = Some(Waiting { intended, deadline });
        self.plan.request.write(self.begun, &mut slot.own);
        self.begun += 1;
        slot.closing_until = None;
        if opened.is_err() {
            self.fail(index, Failure::Connect);
            return;
        }
        if let Some(connection) = &mut slot.connection {
            connection.begin(head_request);
        }
        self.advance(index, false);
    }

    fn open(&mut self, poller: &Poller, index: usize) -> io::Result<()> {
        let connection = Connection::open(self.plan.address)?;
        let Some(slot) = self.slots.get_mut(index) else { return Ok(()) };
        // 31 bits, so that the token's top bit stays free for whoever shares the poller.
        slot.generation = (slot.generation + 1) & 0x7fff_ffff;
        poller.add(connection.stream(), make_token(index, slot.generation))?;
        slot.connection = Some(connection);
        self.tally.opened += 1;
        Ok(())
    }

    fn advance(&mut self, index: usize, readable: bool) {
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(connection) = &mut slot.connection else { return };
        let waiting = slot.waiting.is_some();
        let request = self.plan.request.fixed().unwrap_or(&slot.own);
        match connection.advance(request, readable, &mut self.scratch) {
            Step::Pending => {}
            Step::Again => self.unfinished.push_back(index),
            Step::Answered(answer) => self.answered(index, answer),
            Step::Failed(failure) if waiting => self.fail(index, failure),
            // Between requests a server may close whenever it likes, but it has nothing to say.
            Step::Failed(failure) => {
                let closing = slot.closing_until.take().is_some();
                slot.connection = None;
                if failure == Failure::Stray {
                    let now = Instant::now();
                    self.count(now, now, Some(Failure::Stray), 0);
                } else if !closing {
                    self.tally.closed_idle += 1;
                }
                if closing {
                    self.release(index);
                }
            }
        }
    }

    fn answered(&mut self, index: usize, answer: Answer) {
        let now = Instant::now();
        let Some(slot) = self.slots.get_mut(index) else { return };
        let Some(waiting) = slot.waiting.take() else { return };
        let new_connection = self.plan.new_connection;
        if new_connection {
            // The server closes first, so that the client's ports are free again at once (no TIME_WAIT here).
            slot.closing_until = Some(now + CLOSE_WAIT);
        } else if !answer.reusable {
            slot.connection = None;
        }
        let failure = if !(200..300).contains(&answer.status) {
            Some(Failure::Status(answer.status))
        } else if self.plan.body_bytes_expected.is_some_and(|expected| expected != answer.body_bytes) {
            Some(Failure::WrongSize)
        } else {
            None
        };
        self.count(waiting.intended, now, failure, answer.body_bytes);
        if new_connection {
            self.advance(index, true);
        } else {
            self.release(index);
        }
    }

    fn count(&mut self, intended: Instant, now: Instant, failure: Option<Failure>, body_bytes: u64) {
        let waited = now.saturating_duration_since(intended);
        match failure {
            Some(failure) => self.tally.fail(failure, waited),
            None => self.tally.succeed(waited, body_bytes),
        }
        if let Some(events) = &mut self.events {
            events.push(Event { intended, ended: now, failure });
        }
    }

    fn fail(&mut self, index: usize, failure: Failure) {
        let now = Instant::now();
        let Some(slot) = self.slots.get_mut(index) else { return };
        slot.connection = None;
        slot.closing_until = None;
        if let Some(waiting) = slot.waiting.take() {
            self.count(waiting.intended, now, Some(failure), 0);
        }
        if failure == Failure::Connect && self.pace.is_closed_loop() {
            self.active = self.active.saturating_sub(1);
            self.resting.push_back((now + REST_AFTER_CONNECT_FAILURE, index));
        } else {
            self.release(index);
        }
    }

    /// The slot can carry the next request.
    fn release(&mut self, index: usize) {
        self.active = self.active.saturating_sub(1);
        self.idle.push_back(index);
    }

    fn scan(&mut self, now: Instant) {
        self.scan_at = now + TIMEOUT_SCAN;
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(index) else { break };
            if slot.waiting.is_some_and(|waiting| waiting.deadline <= now) {
                self.fail(index, Failure::Timeout);
            } else if slot.closing_until.is_some_and(|until| until <= now) {
                slot.closing_until = None;
                slot.connection = None;
                self.tally.not_closed += 1;
                self.release(index);
            }
        }
    }
}

fn make_token(index: usize, generation: u32) -> u64 {
    (u64::from(generation) << 32) | (index as u64 & 0xffff_ffff)
}

fn split_token(token: u64) -> (usize, u32) {
    ((token & 0xffff_ffff) as usize, (token >> 32) as u32 & 0x7fff_ffff)
}
