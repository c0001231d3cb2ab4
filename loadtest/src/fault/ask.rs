//! Blocking questions: HTTP on one kept connection, and one line on a Unix socket. Every wait has a deadline.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::http::HEAD_BYTES_MAX;

/// Longer than any healthy answer takes on a busy machine.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// One connection to the gateway.
#[derive(Debug)]
pub(crate) struct Asker {
    stream: TcpStream,
    held: Vec<u8>,
    /// The last answer said that the connection ends with it.
    closing: bool,
}

#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Asker {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self { stream, held: Vec::new(), closing: false })
    }

    /// Whether the other side has ended the connection, which it may do at any time between two requests, or said that
    /// it will (RFC 9112 section 9.6).
    pub(crate) fn is_over(&self) -> bool {
        if self.closing {
            return true;
        }
        let looked = self.stream.set_nonblocking(true).and_then(|()| self.stream.peek(&mut [0]));
        let restored = self.stream.set_nonblocking(false);
        !matches!(looked, Err(error) if error.kind() == io::ErrorKind::WouldBlock) || restored.is_err()
    }

    pub(crate) fn get(&mut self, path: &str) -> io::Result<Told> {
        self.stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: fault.test\r\n\r\n").as_bytes())?;
        let head_end = loop {
            if let Some(at) = self.held.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if self.held.len() > HEAD_BYTES_MAX {
                return Err(invalid());
            }
            self.read_more()?;
        };
        let head =
            String::from_utf8_lossy(self.held.get(..head_end).unwrap_or_default()).to_ascii_lowercase();
        let status = head.get(9..12).and_then(|digits| digits.parse().ok()).ok_or_else(invalid)?;
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
            .filter(|length| *length <= BODY_BYTES_MAX)
            .ok_or_else(invalid)?;
        self.closing = head.lines().any(|line| line.starts_with("connection:") && line.contains("close"));
        while self.held.len() < head_end + length {
            self.read_more()?;
        }
        let rest = self.held.split_off(head_end + length);
        let body = self.held.get(head_end..).unwrap_or_default();
        let told = Told { status, body: String::from_utf8_lossy(body).into_owned() };
        self.held = rest;
        Ok(told)
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.held.extend_from_slice(bytes.get(..count).unwrap_or_default());
                Ok(())
            }
        }
    }
}

/// One command to a Unix socket, and all that it answers before it closes.
pub(crate) fn socket(path: &Path, command: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(format!("{command}\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The same, where JSON is expected; `None` when nobody answers.
pub(crate) fn document(path: &Path, command: &str) -> Option<Value> {
    serde_json::from_str(&socket(path, command).ok()?).ok()
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer with a length")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Answers one request with these bytes, and keeps the connection.
    fn answering(answer: &'static str) -> (Asker, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let asker = Asker::connect(listener.local_addr().unwrap()).unwrap();
        let mut server = listener.accept().unwrap().0;
        // Ahead of the question: the socket holds it.
        server.write_all(answer.as_bytes()).unwrap();
        (asker, server)
    }

    #[test]
    fn an_answer_is_read_to_its_length_and_the_connection_stays() {
        let (mut asker, _server) = answering("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno");
        let told = asker.get("/").unwrap();
        assert_eq!((told.status, told.body.as_str()), (404, "no"));
        assert!(!asker.is_over());
    }

    #[test]
    fn a_connection_that_was_said_to_end_is_over() {
        let (mut asker, _server) =
            answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        assert_eq!(asker.get("/").unwrap().status, 200);
        assert!(asker.is_over());
    }

    #[test]
    fn a_connection_that_ended_is_over() {
        let (asker, server) = answering("");
        drop(server);
        let deadline = std::time::Instant::now() + ANSWER_WITHIN;
        while !asker.is_over() {
            assert!(std::time::Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
