//! The raw client: sends a row's bytes exactly as they are and reads the answers strictly.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};

use super::message::{self, Message};

const READ_BYTES: usize = 64 * 1024;
const WRITE_WITHIN: Duration = Duration::from_secs(5);

/// A final answer with the interim ones before it.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    pub(crate) interims: Vec<Message>,
    pub(crate) last: Message,
}

/// How the connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Clean,
    Reset,
}

#[derive(Debug)]
pub(crate) struct Client {
    stream: Option<TcpStream>,
    bytes: Vec<u8>,
    interims: Vec<Message>,
    /// Methods of the requests, in order; GET beyond.
    methods: Vec<Vec<u8>>,
    pub(crate) answers: Vec<Answered>,
    pub(crate) violation: Option<String>,
    pub(crate) end: Option<End>,
    /// What came behind a 101.
    pub(crate) tunnelled: Option<Vec<u8>>,
}

impl Client {
    /// Connects, from an address of ours when the lane has one.
    pub(crate) fn connect(
        target: SocketAddr,
        from: Option<IpAddr>,
        methods: Vec<Vec<u8>>,
    ) -> io::Result<Client> {
        let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        if let Some(from) = from {
            sockopt::set_socket_reuseaddr(&socket, true)?;
            bind(&socket, &SocketAddr::new(from, 0))?;
        }
        connect(&socket, &target)?;
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_WITHIN))?;
        Ok(Client {
            stream: Some(stream),
            bytes: Vec::new(),
            interims: Vec::new(),
            methods,
            answers: Vec::new(),
            violation: None,
            end: None,
            tunnelled: None,
        })
    }

    /// Sends. A gateway that has ended the connection meanwhile is seen when reading.
    pub(crate) fn send(&self, bytes: &[u8]) {
        if let Some(mut stream) = self.stream.as_ref() {
            let _ = stream.write_all(bytes);
        }
    }

    pub(crate) fn end_sending(&self) {
        if let Some(stream) = &self.stream {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(&mut self) {
        if let Some(stream) = self.stream.take() {
            let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
        }
        self.end = Some(End::Reset);
    }

    pub(crate) fn interims(&self) -> usize {
        self.interims.len()
    }

    /// Reads until this holds, the connection ends or the deadline passes. Whether it holds.
    pub(crate) fn read_until(&mut self, deadline: Instant, done: impl Fn(&Client) -> bool) -> bool {
        loop {
            if done(self) {
                return true;
            }
            if self.end.is_some() || self.violation.is_some() || !self.read(deadline) {
                return done(self);
            }
        }
    }

    /// Reads once and takes what is whole. Whether to go on.
    fn read(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(mut stream) = self.stream.as_ref() else { return false };
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return false;
        }
        let mut piece = vec![0; READ_BYTES];
        match stream.read(&mut piece) {
            Ok(0) => self.end = Some(End::Clean),
            Ok(length) => self.bytes.extend_from_slice(piece.get(..length).unwrap_or_default()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return false;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return true,
            Err(_) => self.end = Some(End::Reset),
        }
        if let Err(violation) = self.take() {
            self.violation = Some(format!("{violation}, in {}", message::show(&self.bytes)));
        }
        true
    }

    /// Takes the whole answers out of the bytes.
    fn take(&mut self) -> Result<(), String> {
        while !self.bytes.is_empty() {
            if let Some(tunnelled) = &mut self.tunnelled {
                tunnelled.append(&mut self.bytes);
                break;
            }
            let Some(answer) = self.front()?.filter(|answer| answer.complete) else { break };
            self.bytes.drain(..answer.bytes.min(self.bytes.len()));
            match answer.status() {
                101 => {
                    self.answers
                        .push(Answered { interims: std::mem::take(&mut self.interims), last: answer });
                    self.tunnelled = Some(Vec::new());
                }
                100..=199 => self.interims.push(answer),
                _ => {
                    self.answers
                        .push(Answered { interims: std::mem::take(&mut self.interims), last: answer });
                }
            }
        }
        Ok(())
    }

    fn front(&self) -> Result<Option<Message>, String> {
        let method = self.methods.get(self.answers.len()).map_or(&b"GET"[..], Vec::as_slice);
        message::response(&self.bytes, method, self.end == Some(End::Clean))
    }

    /// Everything there was: an answer in part counts as one that is not complete, and what is none as a violation.
    pub(crate) fn conclude(&mut self) {
        if self.violation.is_some() || self.bytes.is_empty() || self.tunnelled.is_some() {
            return;
        }
        match self.front() {
            Ok(Some(answer)) => {
                self.answers.push(Answered { interims: std::mem::take(&mut self.interims), last: answer });
            }
            Ok(None) => self.violation = Some(format!("part of a head: {}", message::show(&self.bytes))),
            Err(violation) => self.violation = Some(violation),
        }
    }
}
