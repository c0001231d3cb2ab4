//! A node's side of one connection: reads requests with a parser of its own, records what it saw, and answers well or badly.

use crate::chance::Chance;
use crate::message::{Framing, Head, Request, body, chunks, read_body};
use crate::pipe::{Connection, Read};

/// What one node saw.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) id: usize,
    pub(crate) view: usize,
    /// The body came whole.
    pub(crate) whole: bool,
}

/// What comes behind an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Keep,
    Close,
    Reset,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Between requests, or inside one.
    Reading,
    Echoing,
    Ended,
}

#[derive(Debug)]
pub(crate) struct NodeConnection {
    view: usize,
    calm: bool,
    state: State,
    received: Vec<u8>,
    /// The request in hand: its record, its head and where its body begins.
    current: Option<(usize, Head, usize)>,
    answers_at_head: bool,
    answered: bool,
    gave_leave: bool,
    sending: Vec<u8>,
    /// Sent at once with the last bytes of the answer.
    excess: Vec<u8>,
    after: After,
    /// Nothing is read before this.
    deaf_until: u64,
    /// The last exchange left nothing behind, so that another one may follow.
    clean: bool,
    /// The present answer leaves nothing behind.
    keeps: bool,
}

impl NodeConnection {
    pub(crate) fn new(view: usize, calm: bool) -> NodeConnection {
        NodeConnection {
            view,
            calm,
            state: State::Reading,
            received: Vec::new(),
            current: None,
            answers_at_head: false,
            answered: false,
            gave_leave: false,
            sending: Vec::new(),
            excess: Vec::new(),
            after: After::Keep,
            deaf_until: 0,
            clean: true,
            keeps: true,
        }
    }

    pub(crate) fn poll(
        &mut self,
        connection: &mut Connection,
        now: u64,
        requests: &[Request],
        seen: &mut Vec<Seen>,
        chance: &mut Chance,
    ) {
        if self.state == State::Ended {
            return;
        }
        if !self.sending.is_empty() {
            if connection
                .inward
                .write(now, &self.sending, chance)
                .map(|taken| self.sending.drain(..taken))
                .is_err()
            {
                return self.end(connection, now, After::Close);
            }
            if self.sending.is_empty() && !self.excess.is_empty() {
                self.clean = false;
                if connection.inward.write_together(now, &std::mem::take(&mut self.excess)).is_err() {
                    return self.end(connection, now, After::Close);
                }
            }
        }
        if self.sending.is_empty() && self.answered && self.after != After::Keep {
            return self.end(connection, now, self.after);
        }
        if now >= self.deaf_until {
            match connection.outward.read(now, chance) {
                Read::Nothing => {}
                Read::Bytes(bytes) => self.received.extend_from_slice(&bytes),
                Read::End | Read::Reset => return self.end(connection, now, After::Close),
            }
        }
        if self.state == State::Echoing {
            self.sending.append(&mut self.received);
            return;
        }
        self.advance(now, requests, seen, chance);
        // A connection may die of age at any moment between two requests.
        if !self.calm && self.current.is_none() && self.received.is_empty() && chance.one_in(400) {
            self.end(connection, now, chance.pick(&[After::Close, After::Reset]));
        }
    }

    fn end(&mut self, connection: &mut Connection, now: u64, how: After) {
        self.state = State::Ended;
        match how {
            After::Reset => connection.reset(),
            After::Close | After::Keep => connection.far_closes(now),
        }
    }

    /// Reads on, and answers when its plan says so.
    fn advance(&mut self, now: u64, requests: &[Request], seen: &mut Vec<Seen>, chance: &mut Chance) {
        if self.current.is_none() {
            let Some((head, head_bytes)) = Head::read(&self.received) else { return };
            if !self.sending.is_empty() || (self.answered && self.after != After::Keep) {
                return;
            }
            assert!(
                self.clean,
                "a request on a connection whose last exchange did not end cleanly: {head:?}"
            );
            self.clean = false;
            let id = judge_head(&head, requests);
            seen.push(Seen { id, view: self.view, whole: false });
            self.current = Some((seen.len() - 1, head, head_bytes));
            self.answered = false;
            self.gave_leave = false;
            self.answers_at_head = !self.calm && chance.one_in(4);
            self.deaf_until = if !self.calm && chance.one_in(10) { now + 600 } else { 0 };
            if self.answers_at_head {
                self.answer(&requests[id], chance);
            }
        }
        if self.state == State::Echoing {
            return;
        }
        let Some((record, head, head_bytes)) = &self.current else { return };
        let request = &requests[seen[*record].id];
        let (framing, length) = head.framing();
        let (body, whole) = read_body(&self.received[*head_bytes..], framing, length);
        assert!(request.body.starts_with(&body), "the body of request {}", request.id);
        let waits = head.value("expect").is_some() && body.is_empty() && !request.body.is_empty();
        if waits && !self.answered && !self.gave_leave && self.sending.is_empty() && chance.one_in(20) {
            self.gave_leave = true;
            self.sending = b"HTTP/1.1 100 Continue\r\n\r\n".to_vec();
        }
        let Some(body_bytes) = whole else { return };
        assert_eq!(body, request.body, "the body of request {}", request.id);
        seen[*record].whole = true;
        if !self.answered {
            if !self.sending.is_empty() {
                return;
            }
            let request = request.clone();
            return self.answer(&request, chance);
        }
        if !self.sending.is_empty() || self.after != After::Keep {
            return;
        }
        self.received.drain(..head_bytes + body_bytes);
        self.current = None;
        self.clean = self.keeps;
    }

    /// Decides what is answered, and how it goes wrong.
    fn answer(&mut self, request: &Request, chance: &mut Chance) {
        self.answered = true;
        self.after = After::Keep;
        self.keeps = true;
        if !self.calm && chance.one_in(10) {
            self.keeps = false;
            match chance.below(4) {
                0 => self.after = After::Close,
                1 => self.after = After::Reset,
                2 => self.sending = b"HTTP/9.9 what is this\r\n\r\n".to_vec(),
                _ => {} // Says nothing, for ever.
            }
            return;
        }
        if chance.one_in(4) {
            self.sending.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        }
        if chance.one_in(12) {
            // It announces a body that an interim answer cannot have; none follows, but who knows that.
            self.sending.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n");
            self.keeps = false;
        }
        if request.socket {
            self.sending.extend_from_slice(
                b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            );
            // A switch needs a request without content, so that all that was received is its head.
            self.received.clear();
            self.state = State::Echoing;
            return;
        }
        let head_end = self.final_answer(request, chance);
        if !self.calm && chance.one_in(10) {
            // Cut off inside; a body that ends with its connection can only be seen to be cut by a reset.
            let until_close = self.after == After::Close && !self.keeps;
            self.sending.truncate(chance.below(self.sending.len()));
            let inside_head = self.sending.len() < head_end;
            self.after = if until_close && !inside_head {
                After::Reset
            } else {
                chance.pick(&[After::Close, After::Reset])
            };
            self.keeps = false;
        } else if !self.calm && self.after == After::Keep && chance.one_in(10) {
            self.excess =
                b"HTTP/1.1 200 OK\r\nX-Answer: 999999\r\nX-Length: 6\r\nContent-Length: 6\r\n\r\npoison"
                    .to_vec();
            self.keeps = false;
        }
    }

    /// Writes a whole answer; where its head ends.
    fn final_answer(&mut self, request: &Request, chance: &mut Chance) -> usize {
        let status =
            if request.method == "HEAD" { 200 } else { chance.pick(&[200, 200, 200, 200, 204, 304]) };
        let length = if status == 200 { chance.size() } else { 0 };
        let body = body('A', request.id, length);
        let framing = match status {
            200 => chance.pick(&[Framing::Length, Framing::Chunked, Framing::Chunked, Framing::UntilClose]),
            _ => Framing::None,
        };
        let says_close = framing == Framing::UntilClose || chance.one_in(10);
        let version =
            if framing != Framing::Chunked && says_close && chance.one_in(2) { "1.0" } else { "1.1" };
        let mut head =
            format!("HTTP/{version} {status} OK\r\nX-Answer: {}\r\nX-Length: {length}\r\n", request.id);
        match framing {
            Framing::Length => head.push_str(&format!("Content-Length: {length}\r\n")),
            Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
            Framing::None | Framing::UntilClose => {}
        }
        if says_close {
            head.push_str("Connection: close\r\n");
            self.after = After::Close;
            self.keeps = false;
        }
        head.push_str("\r\n");
        self.sending.extend_from_slice(head.as_bytes());
        let head_end = self.sending.len();
        if request.method != "HEAD" && status == 200 {
            match framing {
                Framing::Chunked => self.sending.extend(chunks(&body, chance.one_in(2), chance)),
                _ => self.sending.extend_from_slice(&body),
            }
        }
        head_end
    }
}

/// Checks that a request is one that a client sent, and whose.
fn judge_head(head: &Head, requests: &[Request]) -> usize {
    let mut parts = head.start.split(' ');
    let (method, path, version) = (parts.next(), parts.next(), parts.next());
    let id = path.and_then(|path| path.strip_prefix('/')).and_then(|id| id.parse::<usize>().ok());
    let request = id.and_then(|id| requests.get(id)).unwrap_or_else(|| panic!("nobody sent this: {head:?}"));
    assert_eq!((method, version, parts.next()), (Some(request.method), Some("HTTP/1.1"), None), "{head:?}");
    assert_eq!(head.value("host"), Some("sim"));
    let framing = if request.framing == Framing::UntilClose { Framing::None } else { request.framing };
    assert_eq!(head.framing().0, framing, "{head:?}");
    assert_eq!(head.value("upgrade"), request.socket.then_some("websocket"));
    request.id
}
