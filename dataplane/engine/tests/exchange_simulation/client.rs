//! A client: sends its requests, pipelined or one after the other, and judges the answers.

use crate::chance::Chance;
use crate::message::{Framing, Head, Request, body, read_body};
use crate::pipe::{Connection, Read};

/// A client that waits for 100 (Continue) sends its body anyway after this (RFC 9110 section 10.1.1).
const LEAVE_PATIENCE: u64 = 400;
/// A tunnel carries this, and the node echoes it.
pub(crate) const TUNNEL: &[u8] = b"\x81\x05hello through the tunnel\r\n\r\nGET / HTTP/1.1\r\n\r\n";

/// How a client breaks off, once it has sent so many bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BreakOff {
    pub(crate) after_bytes: usize,
    pub(crate) by_reset: bool,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) requests: Vec<Request>,
    pipelines: bool,
    break_off: Option<BreakOff>,
    /// Requests whose head has been sent, at least in part.
    pub(crate) begun: usize,
    sending: Vec<u8>,
    /// The body that waits for leave, and since when.
    waiting: Option<(Vec<u8>, u64)>,
    sent: usize,
    received: Vec<u8>,
    /// Answers that came whole.
    pub(crate) answered: usize,
    /// Of them, those that a node gave.
    pub(crate) answered_by_node: usize,
    /// What the gateway answered by itself.
    refusals: Vec<String>,
    tunnel: Option<Vec<u8>>,
    pub(crate) tunnel_echoed: bool,
    stopped: bool,
    pub(crate) gone: bool,
}

impl Client {
    pub(crate) fn new(requests: Vec<Request>, pipelines: bool, break_off: Option<BreakOff>) -> Client {
        Client {
            requests,
            pipelines,
            break_off,
            begun: 0,
            sending: Vec::new(),
            waiting: None,
            sent: 0,
            received: Vec::new(),
            answered: 0,
            answered_by_node: 0,
            refusals: Vec::new(),
            tunnel: None,
            tunnel_echoed: false,
            stopped: false,
            gone: false,
        }
    }

    pub(crate) fn poll(&mut self, connection: &mut Connection, now: u64, chance: &mut Chance) {
        if self.gone {
            return;
        }
        self.receive(connection, now, chance);
        if self.gone {
            return;
        }
        self.prepare(now, chance);
        if !self.sending.is_empty() {
            match connection.outward.write(now, &self.sending, chance) {
                Ok(taken) => {
                    self.sending.drain(..taken);
                    self.sent += taken;
                }
                Err(()) => self.stopped = true,
            }
        }
        if let Some(break_off) = self.break_off.filter(|break_off| self.sent >= break_off.after_bytes) {
            self.gone = true;
            if break_off.by_reset {
                connection.reset();
            } else {
                connection.near_closes(now);
            }
            return;
        }
        let done = self.answered == self.requests.len();
        if done && self.tunnel.as_ref().is_none_or(|_| self.tunnel_echoed) {
            self.gone = true;
            connection.near_closes(now);
        }
    }

    /// Decides what is sent next.
    fn prepare(&mut self, now: u64, chance: &mut Chance) {
        if !self.sending.is_empty() || self.stopped {
            return;
        }
        if let Some((body, since)) = self.waiting.take() {
            if now < since + LEAVE_PATIENCE {
                self.waiting = Some((body, since));
            } else {
                self.sending = body;
            }
            return;
        }
        let may_begin = self.answered == self.begun || self.pipelines;
        let Some(request) = self.requests.get(self.begun).filter(|_| may_begin) else { return };
        // What follows a switch of protocols, or a last request, would not be a request.
        if self.begun > 0 && (self.requests[self.begun - 1].close || self.requests[self.begun - 1].socket) {
            return;
        }
        self.sending = request.head();
        let body = request.body_on_the_wire(chance);
        if request.waits && !request.body.is_empty() {
            self.waiting = Some((body, now));
        } else {
            self.sending.extend_from_slice(&body);
        }
        self.begun += 1;
    }

    fn receive(&mut self, connection: &mut Connection, now: u64, chance: &mut Chance) {
        match connection.inward.read(now, chance) {
            Read::Nothing => return,
            Read::Bytes(bytes) => self.received.extend_from_slice(&bytes),
            Read::End => {
                self.judge_end();
                connection.near_closes(now);
                self.gone = true;
                return;
            }
            Read::Reset => {
                self.gone = true;
                return;
            }
        }
        while self.tunnel.is_none() && self.take_answer() {}
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.append(&mut self.received);
            assert!(TUNNEL.starts_with(tunnel), "a tunnel that changes bytes: {}", tunnel.escape_ascii());
            self.tunnel_echoed = tunnel == TUNNEL;
        }
    }

    /// Takes one message from what was received, when it is whole.
    fn take_answer(&mut self) -> bool {
        let Some((head, head_bytes)) = Head::read(&self.received) else {
            assert!(
                b"HTTP/1.1 ".starts_with(self.received.get(..9).unwrap_or(&self.received)),
                "no answer: {}",
                self.received.escape_ascii()
            );
            return false;
        };
        assert!(self.answered < self.begun, "an answer to nothing: {head:?}");
        let request = self.requests[self.answered].clone();
        let status: u16 = head.start[9..12].parse().expect("a status");
        if status < 200 {
            assert!(!request.old, "HTTP/1.0 knows no interim answers");
            self.received.drain(..head_bytes);
            if status == 101 {
                assert!(request.socket, "a switch that nobody asked for");
                self.answered += 1;
                self.answered_by_node += 1;
                self.tunnel = Some(Vec::new());
                self.sending = TUNNEL.to_vec();
            } else if status == 100
                && self.answered + 1 == self.begun
                && let Some((body, _)) = self.waiting.take()
            {
                self.sending.extend_from_slice(&body);
            }
            return true;
        }
        let (framing, length) = answer_framing(&head, &request, status);
        let (answer, whole) = read_body(&self.received[head_bytes..], framing, length);
        self.judge(&head, &request, &answer, whole.is_some());
        let closes = head.values("connection").contains(&"close");
        if self.answered + 1 == self.begun && self.waiting.take().is_some() && closes {
            self.stopped = true; // The body is not wanted.
        }
        // Without a close the body counts as taken back, as some clients do it: the next request follows.
        let Some(body_bytes) = whole else { return false };
        self.received.drain(..head_bytes + body_bytes);
        self.answered += 1;
        self.answered_by_node += usize::from(head.value("x-answer").is_some());
        self.refusals.extend(head.value("ringway-reason").map(str::to_owned));
        self.stopped |= closes;
        true
    }

    fn judge(&self, head: &Head, request: &Request, answer: &[u8], whole: bool) {
        let Some(id) = head.value("x-answer") else {
            return assert!(head.value("ringway-reason").is_some(), "whose answer is this? {head:?}");
        };
        assert_eq!(id, request.id.to_string(), "the answer to another request: {head:?}");
        let length: usize = head.value("x-length").expect("a length").parse().expect("a number");
        let expected = if request.method == "HEAD" { Vec::new() } else { body('A', request.id, length) };
        if whole {
            assert_eq!(answer, expected, "the body of answer {id}");
        } else {
            assert!(expected.starts_with(answer), "the body of answer {id}");
        }
    }

    /// A clean end ends a body that ends with its connection; it must be all of it.
    fn judge_end(&mut self) {
        let Some((head, head_bytes)) = Head::read(&self.received) else { return };
        let request = &self.requests[self.answered].clone();
        let status: u16 = head.start[9..12].parse().expect("a status");
        let (framing, _) = answer_framing(&head, request, status);
        if framing == Framing::UntilClose {
            self.judge(&head, request, &self.received[head_bytes..], true);
            self.answered += 1;
            self.answered_by_node += usize::from(head.value("x-answer").is_some());
        }
    }
}

fn answer_framing(head: &Head, request: &Request, status: u16) -> (Framing, usize) {
    let (framing, length) = head.framing();
    assert!(!request.old || framing != Framing::Chunked, "chunks for HTTP/1.0: {head:?}");
    match framing {
        _ if request.method == "HEAD" || status == 204 || status == 304 => (Framing::None, 0),
        Framing::None => (Framing::UntilClose, 0),
        known => (known, length),
    }
}
