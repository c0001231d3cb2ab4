//! The scripted origin of one lane: answers as the present row says and writes down all that the gateway sent.
//!
//! Each connection has a thread. Connections stay open from row to row unless the row ended one, so that the gateway's pool is
//! under test too; `retire` ends them all when a row has left doubts. Everything is read strictly: a connection that does
//! not carry whole valid requests and nothing else is a violation, whatever the row is about.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::sockopt::set_socket_linger;

use super::GAP;
use super::case::{Act, Answer, When};
use super::message::{self, Message};

/// One read.
const READ_BYTES: usize = 64 * 1024;
/// How long a write may take before the gateway counts as stuck.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

/// A request as it reached the origin.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    /// Its place among all requests of the row.
    pub(crate) order: usize,
    pub(crate) connection: usize,
    pub(crate) message: Message,
}

/// What a row left at the origin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// In the order of arrival.
    pub(crate) requests: Vec<Arrived>,
    pub(crate) violations: Vec<String>,
    /// Begun heads that never came whole, on connections that ended.
    pub(crate) stray: Vec<Vec<u8>>,
    /// Connections with an unfinished request that are still open.
    pub(crate) hanging: usize,
}

#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    script: Vec<Answer>,
    /// Requests that took an answer of the script.
    scripted: usize,
    arrived: usize,
    /// Answers of the script that were given to their end.
    done: usize,
    /// Goes up with each row: what an older row's request still does is not the present one's.
    row: usize,
    connections: Vec<Connection>,
    accepted: usize,
    /// Connections of the runner's own, by their addresses: when one is accepted, all before it were.
    markers: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Connection {
    id: usize,
    /// `None` when it has ended.
    stream: Option<Arc<TcpStream>>,
    requests: Vec<Arrived>,
    violation: Option<String>,
    /// Its thread has taken bytes and not yet noted them.
    busy: bool,
    /// Bytes behind the last whole head that are no whole head yet.
    rest: Vec<u8>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked has said so; what it left is still a log.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a new connection, unless it is a marker.
    fn register(&self, stream: TcpStream) -> Option<(usize, Arc<TcpStream>)> {
        let peer = stream.peer_addr().ok();
        let mut state = self.state();
        let markers = state.markers.len();
        state.markers.retain(|marker| Some(*marker) != peer);
        let is_marker = state.markers.len() < markers;
        let registered = (!is_marker).then(|| {
            let _ = stream.set_nodelay(true);
            let _ = stream.set_write_timeout(Some(WRITE_WITHIN));
            let stream = Arc::new(stream);
            state.accepted += 1;
            let id = state.accepted;
            state.connections.push(Connection {
                id,
                stream: Some(Arc::clone(&stream)),
                requests: Vec::new(),
                violation: None,
                busy: false,
                rest: Vec::new(),
            });
            (id, stream)
        });
        drop(state);
        self.changed.notify_all();
        registered
    }
}

impl Connection {
    /// Whether bytes that the kernel has are still to be noted.
    fn has_news(&self) -> bool {
        let unread =
            self.stream.as_ref().and_then(|stream| rustix::io::ioctl_fionread(stream).ok()).unwrap_or(0);
        self.stream.is_some() && (self.busy || unread > 0)
    }
}

impl Origin {
    /// Listens on a port of the kernel's choice, or on this one.
    pub(crate) fn start(port: u16) -> io::Result<Origin> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        std::thread::Builder::new().name("origin".to_owned()).spawn(move || {
            for stream in listener.incoming().flatten() {
                let Some((id, stream)) = accepting.register(stream) else { continue };
                let shared = Arc::clone(&accepting);
                // Without a thread nobody answers, which the row will tell.
                let _ = std::thread::Builder::new().spawn(move || serve(&shared, id, stream));
            }
        })?;
        Ok(Origin { address, shared })
    }

    /// Begins a row.
    pub(crate) fn begin(&self, script: &[Answer]) {
        let mut state = self.shared.state();
        state.script = script.to_vec();
        state.scripted = 0;
        state.arrived = 0;
        state.done = 0;
        state.row += 1;
        state.connections.retain(|connection| connection.stream.is_some());
        for connection in &mut state.connections {
            connection.requests.clear();
        }
    }

    /// Waits for so many request heads. Whether they came.
    pub(crate) fn wait_for_heads(&self, heads: usize, deadline: Instant) -> bool {
        self.wait(deadline, |state| state.arrived >= heads)
    }

    /// Waits until so many answers of the script were given to their end. Whether they were.
    pub(crate) fn wait_for_answers(&self, answers: usize, deadline: Instant) -> bool {
        self.wait(deadline, |state| state.done >= answers)
    }

    /// Waits until everything that was sent to the origin so far is noted.
    pub(crate) fn catch_up(&self, deadline: Instant) {
        let marker = {
            // Held until the address is known, so that the marker cannot be taken for a gateway's connection.
            let mut state = self.shared.state();
            let Ok(marker) = TcpStream::connect(self.address) else { return };
            state.markers.extend(marker.local_addr());
            marker
        };
        self.wait(deadline, |state| state.markers.is_empty());
        drop(marker);
        self.wait_by_looking(deadline, |state| !state.connections.iter().any(Connection::has_news));
    }

    /// What the row left. Unfinished requests get until the deadline to end.
    pub(crate) fn log(&self, deadline: Instant) -> Log {
        let hangs = |connection: &Connection| {
            let unfinished = connection.requests.iter().any(|request| !request.message.complete);
            connection.stream.is_some() && (unfinished || !connection.rest.is_empty())
        };
        self.wait(deadline, |state| !state.connections.iter().any(hangs));
        let state = self.shared.state();
        let mut log = Log::default();
        for connection in &state.connections {
            log.requests.extend(connection.requests.iter().cloned());
            log.violations.extend(connection.violation.clone());
            if !connection.rest.is_empty() {
                log.stray.push(connection.rest.clone());
            }
            log.hanging += usize::from(hangs(connection));
        }
        log.requests.sort_by_key(|request| request.order);
        log
    }

    /// Ends every connection.
    pub(crate) fn retire(&self) {
        let mut state = self.shared.state();
        for connection in state.connections.drain(..) {
            if let Some(stream) = connection.stream {
                // It may have ended by itself.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }

    /// As `wait`, for what changes without a word, like the kernel's buffers.
    fn wait_by_looking(&self, deadline: Instant, done: impl Fn(&State) -> bool) {
        while !done(&self.shared.state()) && Instant::now() < deadline {
            std::thread::sleep(GAP);
        }
    }

    fn wait(&self, deadline: Instant, done: impl Fn(&State) -> bool) -> bool {
        let mut state = self.shared.state();
        while !done(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            (state, _) =
                self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }
}

/// One connection's thread.
struct Serving<'a> {
    shared: &'a Shared,
    stream: Arc<TcpStream>,
    id: usize,
    bytes: Vec<u8>,
    /// The row and place of the present request in the log.
    present: Option<(usize, usize)>,
    method: Vec<u8>,
    target: Vec<u8>,
    ended: bool,
}

fn serve(shared: &Shared, id: usize, stream: Arc<TcpStream>) {
    let mut serving = Serving {
        shared,
        stream,
        id,
        bytes: Vec::new(),
        present: None,
        method: Vec::new(),
        target: Vec::new(),
        ended: false,
    };
    if let Err(violation) = serving.run() {
        serving.update(|connection| connection.violation = Some(violation));
        let _ = serving.stream.shutdown(Shutdown::Both);
    }
    serving.update(|connection| {
        connection.stream = None;
        connection.busy = false;
    });
}

impl Serving<'_> {
    fn run(&mut self) -> Result<(), String> {
        while !self.ended {
            if self.look()? {
                self.answer()?;
            } else {
                self.read();
            }
        }
        // What came before the end is judged too.
        self.look().map(|_| ())
    }

    /// Reads once. What there is stays in `bytes`.
    fn read(&mut self) {
        self.update(|connection| connection.busy = false);
        // Only looks: what is there counts as news until it is noted.
        let _ = poll(&mut [PollFd::new(&*self.stream, PollFlags::IN)], None);
        self.update(|connection| connection.busy = true);
        let mut piece = vec![0; READ_BYTES];
        match (&*self.stream).read(&mut piece) {
            Ok(0) | Err(_) => self.ended = true,
            Ok(length) => self.bytes.extend_from_slice(piece.get(..length).unwrap_or_default()),
        }
    }

    /// Looks at what came for the present request and logs it. Whether its answer is due.
    fn look(&mut self) -> Result<bool, String> {
        let Some(message) = message::request(&self.bytes)? else {
            let rest = self.bytes.clone();
            self.update(|connection| connection.rest = rest);
            return Ok(false);
        };
        self.method.clone_from(&message.head.line[0]);
        self.target.clone_from(&message.head.line[1]);
        let complete = message.complete;
        self.note(message);
        Ok(complete || self.is_answered_early())
    }

    fn note(&mut self, message: Message) {
        let mut state = self.shared.state();
        let row = state.row;
        let order = state.arrived;
        let known = self.present.is_some();
        let (own_row, id) = (self.present.map_or(row, |(row, _)| row), self.id);
        if let Some(connection) = state.connections.iter_mut().find(|connection| connection.id == id) {
            connection.rest.clear();
            match self.present {
                None => {
                    self.present = Some((row, connection.requests.len()));
                    connection.requests.push(Arrived { order, connection: id, message });
                }
                Some((_, at)) if own_row == row => {
                    if let Some(request) = connection.requests.get_mut(at) {
                        request.message = message;
                    }
                }
                Some(_) => {}
            }
        }
        if !known {
            state.arrived += 1;
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// The script's answer that is next, unless the request is the runner's own.
    fn next_answer(&self) -> Option<Answer> {
        if self.target == super::PROBE.as_bytes() {
            return None;
        }
        let state = self.shared.state();
        state.script.get(state.scripted).cloned()
    }

    fn is_answered_early(&self) -> bool {
        self.next_answer().is_some_and(|answer| answer.when == When::Head)
    }

    /// Answers the present request, reads it to its end, and begins the next.
    fn answer(&mut self) -> Result<(), String> {
        match self.next_answer() {
            Some(answer) => {
                self.shared.state().scripted += 1;
                for act in &answer.acts {
                    self.act(act)?;
                }
                self.shared.state().done += 1;
                self.shared.changed.notify_all();
            }
            None => self.send(&self.own_answer()),
        }
        self.whole()?;
        if let Some(message) = message::request(&self.bytes)? {
            self.bytes.drain(..message.bytes.min(self.bytes.len()));
        }
        self.present = None;
        Ok(())
    }

    fn act(&mut self, act: &Act) -> Result<(), String> {
        match act {
            Act::Send(bytes) => self.send(bytes),
            Act::Gap => std::thread::sleep(GAP),
            Act::Whole => self.whole()?,
            Act::Echo => self.echo(),
            Act::End => {
                let _ = self.stream.shutdown(Shutdown::Write);
            }
            Act::Reset => {
                let _ = set_socket_linger(&*self.stream, Some(Duration::ZERO));
                self.ended = true;
            }
        }
        Ok(())
    }

    /// Reads until the present request is whole or the connection ends.
    fn whole(&mut self) -> Result<(), String> {
        while !self.ended {
            match message::request(&self.bytes)? {
                Some(message) if message.complete => {
                    self.note(message);
                    return Ok(());
                }
                Some(message) => self.note(message),
                None => return Ok(()),
            }
            self.read();
        }
        Ok(())
    }

    /// Plays the other end of a tunnel: what follows the request goes back as it came.
    fn echo(&mut self) {
        let taken = message::request(&self.bytes).ok().flatten().map_or(0, |message| message.bytes);
        let early = self.bytes.split_off(taken.min(self.bytes.len()));
        self.send(&early);
        let mut piece = vec![0; READ_BYTES];
        while let Ok(length @ 1..) = (&*self.stream).read(&mut piece) {
            self.send(piece.get(..length).unwrap_or_default());
        }
        let _ = self.stream.shutdown(Shutdown::Write);
        self.ended = true;
    }

    fn send(&self, bytes: &[u8]) {
        // A gateway that has gone away is seen by the client.
        let _ = (&*self.stream).write_all(bytes);
    }

    /// Says which request this answers, so that an answer that went astray is noticed.
    fn own_answer(&self) -> Vec<u8> {
        let body = own_body(&self.method, &self.target);
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        if self.method != b"HEAD" {
            answer.extend_from_slice(&body);
        }
        answer
    }

    fn update(&self, change: impl FnOnce(&mut Connection)) {
        let mut state = self.shared.state();
        if let Some(connection) = state.connections.iter_mut().find(|connection| connection.id == self.id) {
            change(connection);
        }
        drop(state);
        self.shared.changed.notify_all();
    }
}

/// The body of the origin's own answer.
pub(crate) fn own_body(method: &[u8], target: &[u8]) -> Vec<u8> {
    [method, b" ", target].concat()
}
