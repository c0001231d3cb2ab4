//! What is known of a request when it has ended: its times, its tries, its bytes, what it was answered with.
//!
//! An [`Access`] is filled as the request goes, by one line at each of a few places, and handed over once, by [`finish`]: to the core's
//! histograms and counters, and, where somebody wants it, as a record to the thread that writes the access log. The clock is read three times a request (its first byte, the node's first byte, its end)
//! and once more for each try that fails, and for each connection that is made where somebody wants records.
//!
//! Invariant: nothing in here waits, and no request allocates once a core has seen its largest record.

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
use std::time::{SystemTime, UNIX_EPOCH};

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
use crate::sys;

/// Of a core's records, what waits for the thread that takes them: some thousand.
const RING_BYTES: usize = 2 << 20;
/// Of a head that was refused, so much of its first line is told.
const REFUSED_BYTES_MAX: usize = 128;

/// Tries that are told one by one; of more than these, the last one stands in the last place.
pub(crate) const TRIES_TOLD_MAX: usize = 3;
/// What stands for the status of a request whose client was gone before it was answered; never sent.
pub(crate) const STATUS_CLIENT_GONE: u16 = 499;

/// One request, as far as it has come. Times are those of [`sys::monotonic_ns`], 0: not yet.
#[derive(Debug, Default)]
pub(crate) struct Access {
    /// When its first byte was read; 0 between requests.
    began_ns: u64,
    /// When its head was whole.
    asked_ns: u64,
    /// When the present try began.
    try_began_ns: u64,
    /// When the first byte of the node's answer was read. In a cell, because the answer's direction has only a look at this.
    answered_ns: Cell<u64>,
    /// The gateway's own answer.
    own: Option<(u16, &'static str)>,
    /// Where in the connection's buffer its head begins.
    at: usize,
    try_count: u32,
    /// Where somebody wants records. Apart: they are larger than all the rest, which every request touches.
    tries: Option<Box<[Try; TRIES_TOLD_MAX]>>,
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
    /// Of a connection's requests. `recorder` is its core's.
    pub(crate) fn new(recorder: Option<&Recorder>) -> Access {
        Access { tries: recorder.map(|_| Box::default()), ..Access::default() }
    }

    /// The first bytes of a request are there.
    pub(crate) fn arrives(&mut self) {
        if self.began_ns == 0 {
            self.began_ns = sys::monotonic_ns();
        }
    }

    /// Its head is whole; `at_once`: it came in one piece.
    pub(crate) fn begins(&mut self, at: usize, at_once: bool) {
        self.at = at;
        self.asked_ns = if at_once { self.began_ns } else { sys::monotonic_ns() };
    }

    /// It had to wait before a node could be tried.
    pub(crate) fn waited(&mut self) {
        self.asked_ns = sys::monotonic_ns();
    }

    /// A node is tried. The first try begins with the request: what was done in between took some microseconds.
    pub(crate) fn tries(&mut self, node: &Address) {
        self.try_began_ns = if self.try_count == 0 { self.asked_ns } else { sys::monotonic_ns() };
        self.answered_ns.set(0);
        self.try_count = self.try_count.saturating_add(1);
        if let Some(entry) = self.present_try() {
            *entry = Try { node: node.into(), ..Try::default() };
        }
    }

    /// Whether any node was tried.
    pub(crate) fn has_tried(&self) -> bool {
        self.try_count > 0
    }

    /// A new connection was made for the present try.
    pub(crate) fn connected(&mut self) {
        if self.tries.is_none() {
            return;
        }
        let connect_us = self.try_us(sys::monotonic_ns());
        if let Some(entry) = self.present_try() {
            entry.connect_us = connect_us;
        }
    }

    /// Bytes came from the node.
    pub(crate) fn node_speaks(&self) {
        if self.answered_ns.get() == 0 {
            self.answered_ns.set(sys::monotonic_ns());
        }
    }

    /// The present try has failed; tells how long it took, in microseconds.
    pub(crate) fn try_failed(&mut self) -> u64 {
        self.try_ends(0, sys::monotonic_ns())
    }

    /// The gateway answers by itself.
    pub(crate) fn answers(&mut self, status: u16, reason: &'static str) {
        self.own = Some((status, reason));
    }

    fn try_ends(&mut self, status: u16, now_ns: u64) -> u64 {
        // 0, and so no time at all, where the node has said nothing.
        let first_byte_us = self.try_us(self.answered_ns.get());
        let total_us = self.try_us(now_ns);
        let took_us = us_between(self.try_began_ns, now_ns);
        self.try_began_ns = 0;
        if let Some(entry) = self.present_try() {
            (entry.status, entry.first_byte_us, entry.total_us) = (status, first_byte_us, total_us);
        }
        took_us
    }

    fn try_us(&self, at_ns: u64) -> u32 {
        u32::try_from(us_between(self.try_began_ns, at_ns)).unwrap_or(u32::MAX)
    }

    fn present_try(&mut self) -> Option<&mut Try> {
        let place = (self.try_count as usize).min(TRIES_TOLD_MAX).checked_sub(1)?;
        self.tries.as_mut()?.get_mut(place)
    }

    fn reset(&mut self) {
        (self.began_ns, self.asked_ns, self.try_began_ns) = (0, 0, 0);
        (self.try_count, self.own) = (0, None);
        self.answered_ns.set(0);
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
    /// A time of [`sys::monotonic_ns`], and what time it was then, in microseconds since 1970.
    epoch: Cell<(u64, u64)>,
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
        let epoch = Cell::new((sys::monotonic_ns(), 0));
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
        self.epoch.set((sys::monotonic_ns(), u64::try_from(since.as_micros()).unwrap_or(0)));
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

    fn wall_us(&self, at_ns: u64) -> u64 {
        let (then_ns, wall_us) = self.epoch.get();
        wall_us.saturating_add(us_between(then_ns, at_ns))
    }
}

/// Hands a request over that has ended, once. `found` is what it was routed by and to; the request's head still stands in the
/// connection's buffer.
pub(crate) fn finish(connection: &mut Downstream, view: Option<&View>, found: Option<&Target>) {
    let now_ns = sys::monotonic_ns();
    let received = connection.socket.reader.take_count();
    let sent = connection.socket.writer.take_count();
    let access = &mut connection.access;
    let began_ns = access.began_ns;
    if began_ns == 0 {
        return;
    }
    let answered = connection.exchange.response.status();
    let is_tunnel = answered == Some(101);
    let Some(core) = connection.core.shared() else { return };
    if access.try_began_ns > 0 {
        let took_us = access.try_ends(answered.unwrap_or(0), now_ns);
        if !is_tunnel {
            core.latency.upstream.record(took_us);
        }
    }
    let took_us = us_between(began_ns, now_ns);
    if !is_tunnel {
        core.latency.request.record(took_us);
    }
    core.counters.received_bytes.add(received);
    core.counters.sent_bytes.add(sent);
    if let Some(recorder) = &connection.core.recorder {
        let given = connection.exchange.response.status_given();
        let status = connection.access.own.map(|(status, _)| status).or(given);
        let status = status.unwrap_or(STATUS_CLIENT_GONE);
        let logged = recorder.logs(found.and_then(|target| target.about.log_rate), status);
        if logged || recorder.rules.counts {
            let ended = Ended { logged, status, at_ns: now_ns, took_us, received, sent, is_tunnel };
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
    at_ns: u64,
    took_us: u64,
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
        set(Text::Route, target.about.route_id.as_bytes());
        set(Text::Service, target.about.service_id.as_deref().unwrap_or_default().as_bytes());
        set(Text::Upstream, cluster.map_or(&[][..], |cluster| cluster.key.as_bytes()));
    }
    let caller =
        connection.course.as_ref().zip(view).and_then(|(course, view)| course.caller(Some(view.callers())));
    set(Text::Consumer, caller.map_or(&[][..], |caller| caller.name().as_bytes()));
    set(Text::Reason, access.own.map_or(&[][..], |(_, reason)| reason.as_bytes()));
    let payload = exchange.request.payload_bytes();
    let request_bytes = (head.head_bytes as u64).saturating_add(payload);
    Record {
        logged: ended.logged,
        minor: u8::from(head.version == Version::Http11),
        status: ended.status,
        core: u16::try_from(connection.core.id).unwrap_or(u16::MAX),
        client: plugins::client(connection),
        ended_us: recorder.wall_us(ended.at_ns),
        request_us: ended.took_us,
        received_bytes: if ended.is_tunnel || method.is_empty() { ended.received } else { request_bytes },
        sent_bytes: ended.sent,
        body_bytes: if access.own.is_some() { 0 } else { exchange.response.payload_bytes() },
        timeline: version.timeline,
        revision: version.revision,
        connection_requests: connection.requests,
        try_count: access.try_count,
        tries: access.tries.as_deref().copied().unwrap_or_default(),
        texts,
    }
}

/// From one time of [`sys::monotonic_ns`] to a later one.
fn us_between(from_ns: u64, to_ns: u64) -> u64 {
    to_ns.saturating_sub(from_ns) / 1_000
}

/// Lines of the access log that were lost: at the cores, and behind them.
pub(crate) fn dropped(state: &State) -> (u64, u64) {
    let rings = state.cores.iter().map(|core| core.counters.access_dropped.get()).sum();
    (rings, state.ledger.dropped.load(std::sync::atomic::Ordering::Relaxed))
}
