//! What is known of a request when it has ended: its times, its tries, its bytes, what it was answered with.
//!
//! An [`Access`] is filled as the request goes, by one line at each of a few places, and handed over once, by [`finish`]: to the core's
//! histograms and counters, and, where somebody wants it, as a record to the thread that writes the access log. The clock is read three times a request (its first byte, the node's first byte, its end)
//! and once more for each connection that is made and each try that fails.
//!
//! Invariant: nothing in here waits, and nothing allocates once a core has seen its largest record.

mod escape;
mod format;
mod moment;
mod node;
mod record;
mod ring;
mod routes;
mod scribe;
mod sink;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringway_engine::http1::Version;
use ringway_engine::upstream::Address;
use ringway_engine::view::{Target, View};
use ringway_snapshot::LogRate;

pub(crate) use self::format::Format;
use self::node::Node;
use self::record::{Bounded, Record, TEXTS, Text};
use self::ring::Producer;
pub(crate) use self::routes::{Key, Routes, Times};
pub(crate) use self::scribe::{Ledger, Scribe};
pub(crate) use self::sink::{Place, Sink};
use crate::downstream::Downstream;
use crate::plugins;
use crate::state::State;

/// Of a core's records, what waits for the thread that takes them: some thousand.
const RING_BYTES: usize = 2 << 20;
/// Of a head that was refused, so much of its first line is told.
const REFUSED_BYTES_MAX: usize = 128;

/// Tries that are told one by one; of more than these, the last one stands in the last place.
pub(crate) const TRIES_TOLD_MAX: usize = 3;
/// What stands for the status of a request whose client was gone before it was answered; never sent.
pub(crate) const STATUS_CLIENT_GONE: u16 = 499;

/// One request, as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Access {
    /// When its first byte was read; `None` between requests.
    began: Option<Instant>,
    /// Where in the connection's buffer its head begins.
    at: usize,
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Try {
    pub(crate) node: Node,
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
    pub(crate) fn begins(&mut self, at: usize, at_once: bool) {
        self.at = at;
        self.asked = if at_once { self.began } else { Some(Instant::now()) };
    }

    /// It had to wait before a node could be tried.
    pub(crate) fn waited(&mut self) {
        self.asked = Some(Instant::now());
    }

    /// A node is tried. The first try begins with the request: what was done in between took some microseconds.
    pub(crate) fn tries(&mut self, node: &Address) {
        self.try_began = if self.try_count == 0 { self.asked } else { Some(Instant::now()) };
        self.answered.set(None);
        let place = (self.try_count as usize).min(TRIES_TOLD_MAX - 1);
        self.try_count = self.try_count.saturating_add(1);
        if let Some(entry) = self.tries.get_mut(place) {
            *entry = Try { node: node.into(), ..Try::default() };
        }
    }

    /// Whether any node was tried.
    pub(crate) fn has_tried(&self) -> bool {
        self.try_count > 0
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
        let total =
            self.try_began.take().map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
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

/// What becomes of a core's finished requests.
#[derive(Debug)]
pub(crate) struct Recorder {
    ring: Producer,
    rules: Rules,
    /// The record that is being made.
    bytes: RefCell<Vec<u8>>,
    /// The last number drawn.
    drawn: Cell<u64>,
    /// An instant, and what time it was then, in microseconds since 1970.
    epoch: Cell<(Instant, u64)>,
}

/// Which requests get a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Those that are logged, where their route says nothing else. `None`: there is no log.
    pub(crate) rate: Option<LogRate>,
    /// Answers from 500 on are logged whatever the rate, unless it is off.
    pub(crate) errors: bool,
    /// All are counted.
    pub(crate) counts: bool,
}

/// A recorder for each core, and who takes their records, where there is a reason for any.
pub(crate) fn recorders(
    rules: Rules,
    cores: usize,
    log: Option<(Format, Sink)>,
    ledger: &Arc<Ledger>,
) -> (Vec<Option<Recorder>>, Option<Scribe>) {
    if rules.rate.is_none() && !rules.counts {
        ledger.idle();
        return ((0..cores).map(|_| None).collect(), None);
    }
    let (mut recorders, mut rings) = (Vec::new(), Vec::new());
    for core in 0..cores {
        let (ring, other) = ring::ring(RING_BYTES);
        rings.push(other);
        let epoch = Cell::new((Instant::now(), 0));
        // Any number but 0; the cores' sequences begin far from each other.
        let drawn = Cell::new((core as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        recorders.push(Some(Recorder { ring, rules, bytes: RefCell::default(), drawn, epoch }));
    }
    (recorders, Some(Scribe { ledger: Arc::clone(ledger), rings, log }))
}

impl Recorder {
    /// Looks at the wall clock, so that records need not.
    pub(crate) fn turn(&self) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.epoch.set((Instant::now(), u64::try_from(since.as_micros()).unwrap_or(0)));
    }

    /// Whether a request with this answer is logged; `own` is what its route says.
    fn logs(&self, own: Option<LogRate>, status: u16) -> bool {
        let Some(rate) = self.rules.rate.map(|rate| own.unwrap_or(rate)) else { return false };
        if rate == LogRate::ALL || rate == LogRate::OFF {
            return rate == LogRate::ALL;
        }
        // Marsaglia's xorshift: which requests are taken need not be unpredictable, only even.
        let mut drawn = self.drawn.get();
        drawn ^= drawn << 13;
        drawn ^= drawn >> 7;
        drawn ^= drawn << 17;
        self.drawn.set(drawn);
        (self.rules.errors && status >= 500) || rate.takes((drawn >> 32) as u32)
    }

    fn wall_us(&self, at: Instant) -> u64 {
        let (then, wall_us) = self.epoch.get();
        wall_us.saturating_add(micros(at.saturating_duration_since(then)))
    }
}

/// Hands a request over that has ended, once. `found` is what it was routed by and to; the request's head still stands in the
/// connection's buffer.
pub(crate) fn finish(connection: &mut Downstream, view: Option<&View>, found: Option<&Target>) {
    let now = Instant::now();
    let received = connection.socket.reader.take_count();
    let sent = connection.socket.writer.take_count();
    let access = &mut connection.access;
    let Some(began) = access.began else { return };
    let answered = connection.exchange.response.status();
    let is_tunnel = answered == Some(101);
    let Some(core) = connection.core.shared() else { return };
    if access.try_began.is_some() {
        let took = access.try_ends(answered.unwrap_or(0), now);
        if !is_tunnel {
            core.latency.upstream.record(took);
        }
    }
    let took = now.saturating_duration_since(began);
    if !is_tunnel {
        core.latency.request.record(took);
    }
    core.counters.received_bytes.add(received);
    core.counters.sent_bytes.add(sent);
    if let Some(recorder) = &connection.core.recorder {
        let given = connection.exchange.response.status_given();
        let status = connection.access.own.map(|(status, _)| status).or(given);
        let status = status.unwrap_or(STATUS_CLIENT_GONE);
        let logged = recorder.logs(found.and_then(|target| target.log_rate), status);
        if logged || recorder.rules.counts {
            let ended = Ended { logged, status, at: now, took, received, sent, is_tunnel };
            let mut bytes = recorder.bytes.borrow_mut();
            describe(connection, recorder, &ended, view, found).encode(&mut bytes);
            if !recorder.ring.push(&bytes) {
                core.counters.access_dropped.up();
            }
        }
    }
    connection.access.reset();
}

/// How a request ended.
struct Ended {
    logged: bool,
    status: u16,
    at: Instant,
    took: Duration,
    received: u64,
    sent: u64,
    is_tunnel: bool,
}

fn describe<'a>(
    connection: &'a Downstream,
    recorder: &Recorder,
    ended: &Ended,
    view: Option<&'a View>,
    found: Option<&'a Target>,
) -> Record<'a> {
    let (access, head, exchange) = (&connection.access, &connection.head, &connection.exchange);
    let version = view.map(|view| view.version).unwrap_or_default();
    let cluster = view.zip(found).and_then(|(view, target)| plugins::cluster(connection, view, target));
    let mut texts = [Bounded::default(); TEXTS];
    let mut set = |text: Text, bytes: &'a [u8]| {
        if let Some(place) = texts.get_mut(text as usize) {
            place.bytes = bytes;
        }
    };
    let bytes = connection.buffer.get(access.at..).unwrap_or_default();
    let method = head.method_span.of(bytes);
    set(Text::Method, method);
    if method.is_empty() {
        // A head that was refused: what came instead.
        let line = bytes.get(..REFUSED_BYTES_MAX).unwrap_or(bytes);
        set(Text::RequestUri, line.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default());
    } else {
        set(Text::Host, head.host.map_or(&[][..], |authority| authority.host.of(bytes)));
        set(Text::RequestUri, head.target.path_and_query_bytes(bytes));
        for field in &head.fields {
            let text = match field.name.of(bytes) {
                name if name.eq_ignore_ascii_case(b"user-agent") => Text::UserAgent,
                name if name.eq_ignore_ascii_case(b"referer") => Text::Referer,
                _ => continue,
            };
            set(text, field.value.of(bytes));
        }
    }
    if let Some(target) = found {
        set(Text::Route, target.route_id.as_bytes());
        set(Text::Service, target.service_id.as_deref().unwrap_or_default().as_bytes());
        set(Text::Upstream, cluster.map_or(&[][..], |cluster| cluster.key.as_bytes()));
    }
    set(Text::Reason, access.own.map_or(&[][..], |(_, reason)| reason.as_bytes()));
    let payload = exchange.request.payload_bytes();
    let request_bytes = (head.head_bytes as u64).saturating_add(payload);
    Record {
        logged: ended.logged,
        minor: u8::from(head.version == Version::Http11),
        status: ended.status,
        core: u16::try_from(connection.core.id).unwrap_or(u16::MAX),
        client: plugins::client(connection),
        ended_us: recorder.wall_us(ended.at),
        request_us: micros(ended.took),
        received_bytes: if ended.is_tunnel || method.is_empty() { ended.received } else { request_bytes },
        sent_bytes: ended.sent,
        body_bytes: if access.own.is_some() { 0 } else { exchange.response.payload_bytes() },
        timeline: version.timeline,
        revision: version.revision,
        connection_requests: connection.requests,
        try_count: access.try_count,
        tries: access.tries,
        texts,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Lines of the access log that were lost: at the cores, and behind them.
pub(crate) fn dropped(state: &State) -> (u64, u64) {
    let rings = state.cores.iter().map(|core| core.counters.access_dropped.get()).sum();
    (rings, state.ledger.dropped.load(std::sync::atomic::Ordering::Relaxed))
}
