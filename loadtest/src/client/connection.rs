//! One connection of the client: writes the request, reads the answer, names what went wrong.
//!
//! It knows no time and no retry: the first failure ends it. Bytes that nobody asked for are a failure of their own
//! (`Stray`), because a gateway that mixes up two answers shows itself by them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::tally::Failure;
use crate::http::Fault;
use crate::http::response::{Answer, ResponseReader};
use crate::socket;

/// Full reads in a row before other connections get their turn.
const READS_PER_TURN_MAX: usize = 16;

#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    reader: ResponseReader,
    phase: Phase,
    connected: bool,
    /// The peer has sent its last byte; it may not all have been read yet.
    ended: bool,
    sent: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Exchanging,
}

#[derive(Debug)]
pub(crate) enum Step {
    /// Waits for the socket.
    Pending,
    /// There may be more to read; call again without waiting.
    Again,
    Answered(Answer),
    Failed(Failure),
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            stream: socket::connecting(address)?,
            reader: ResponseReader::default(),
            phase: Phase::Idle,
            connected: false,
            ended: false,
            sent: 0,
        })
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The poller saw the end of the stream.
    pub(crate) fn note_end(&mut self) {
        self.ended = true;
    }

    /// Turns to the next request; `advance` sends it.
    pub(crate) fn begin(&mut self, head_request: bool) {
        self.reader.start(head_request);
        self.phase = Phase::Exchanging;
        self.sent = 0;
    }

    /// Goes on as far as the socket allows. `readable` spares a read that would surely block.
    pub(crate) fn advance(&mut self, request: &[u8], readable: bool, scratch: &mut [u8]) -> Step {
        if self.phase == Phase::Exchanging
            && let Err(failure) = self.send(request)
            // The server may have answered and closed without reading all of the request: the answer counts.
            && !(self.connected && readable)
        {
            return Step::Failed(failure);
        }
        if !readable {
            return Step::Pending;
        }
        for _ in 0..READS_PER_TURN_MAX {
            match (&self.stream).read(scratch) {
                Ok(0) => return self.on_eof(request),
                Ok(count) => {
                    let more = self.ended || count == scratch.len();
                    match self.on_bytes(scratch.get(..count).unwrap_or_default(), request) {
                        Step::Pending if more => {}
                        step => return step,
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Step::Pending,
                    ErrorKind::Interrupted => {}
                    _ => return Step::Failed(self.failure_of(&error)),
                },
            }
        }
        Step::Again
    }

    fn send(&mut self, request: &[u8]) -> Result<(), Failure> {
        while let Some(rest) = request.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match (&self.stream).write(rest) {
                Ok(count) => {
                    self.connected = true;
                    self.sent += count;
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(()),
                    ErrorKind::Interrupted => {}
                    _ => return Err(self.failure_of(&error)),
                },
            }
        }
        Ok(())
    }

    fn on_bytes(&mut self, bytes: &[u8], request: &[u8]) -> Step {
        if self.phase == Phase::Idle {
            return Step::Failed(Failure::Stray);
        }
        match self.reader.feed(bytes) {
            Err(_) => Step::Failed(Failure::Malformed),
            Ok(consumed) if consumed < bytes.len() => Step::Failed(Failure::Stray),
            Ok(_) => self.take_answer(request),
        }
    }

    fn on_eof(&mut self, request: &[u8]) -> Step {
        if self.phase == Phase::Idle {
            return Step::Failed(Failure::Closed);
        }
        match self.reader.finish() {
            Ok(()) => self.take_answer(request),
            Err(Fault::Truncated) if self.reader.in_body() => Step::Failed(Failure::ShortBody),
            Err(Fault::Truncated) if self.reader.has_begun() => Step::Failed(Failure::Malformed),
            Err(_) => Step::Failed(Failure::Closed),
        }
    }

    fn take_answer(&mut self, request: &[u8]) -> Step {
        let Some(mut answer) = self.reader.answer() else { return Step::Pending };
        self.phase = Phase::Idle;
        // An answer that came before the request was all sent leaves the connection in the middle of it.
        answer.reusable &= self.sent == request.len() && !self.ended;
        Step::Answered(answer)
    }

    fn failure_of(&self, error: &io::Error) -> Failure {
        if !self.connected {
            return Failure::Connect;
        }
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
                Failure::Reset
            }
            _ => Failure::Io,
        }
    }
}
