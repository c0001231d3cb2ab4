//! An HTTP/1.1 client on one keep-alive connection, written for these tests only: it must not share a fault
//! with what it tests.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use serde_json::Value;

use super::DEADLINE;

/// One connection.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    answers: u64,
    last: Instant,
}

/// A whole response.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A field's value.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body, which is JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// Which backend answered.
    pub(crate) fn backend(&self) -> String {
        self.json()["backend"].as_str().unwrap_or_default().to_owned()
    }
}

impl Client {
    pub(crate) fn connect(addr: SocketAddr) -> Client {
        Client::try_connect(addr).unwrap_or_else(|error| panic!("connecting to {addr}: {error}"))
    }

    pub(crate) fn try_connect(addr: SocketAddr) -> std::io::Result<Client> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Client { stream: BufReader::new(stream), answers: 0, last: Instant::now() })
    }

    /// A request that must be answered.
    pub(crate) fn get(&mut self, host: &str, path: &str) -> Answer {
        let idle = self.last.elapsed();
        self.try_get(host, path).unwrap_or_else(|error| {
            let (answers, since) = (self.answers, self.last.elapsed());
            panic!("GET {path} of {host}: {error}; after {answers} answers on this connection, sent {idle:?} and failed {since:?} after the last one")
        })
    }

    /// A request.
    pub(crate) fn try_get(&mut self, host: &str, path: &str) -> std::io::Result<Answer> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
    }

    /// Any bytes; one final answer is read.
    pub(crate) fn send(&mut self, request: &[u8]) -> std::io::Result<Answer> {
        let no_body = request.starts_with(b"HEAD ");
        self.stream.get_mut().write_all(request)?;
        loop {
            let answer = self.read(no_body)?;
            if answer.status >= 200 {
                self.answers += 1;
                self.last = Instant::now();
                return Ok(answer);
            }
        }
    }

    fn read(&mut self, no_body: bool) -> std::io::Result<Answer> {
        let line = self.line()?;
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| bad(&format!("status line {line:?}")))?;
        let mut answer = Answer { status, fields: Vec::new(), body: Vec::new() };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad(&format!("field {line:?}")))?;
            answer.fields.push((name.to_owned(), value.trim().to_owned()));
        }
        if no_body || status < 200 || status == 204 || status == 304 {
            return Ok(answer);
        }
        if answer.field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            self.chunks(&mut answer.body)?;
        } else {
            let length = answer.field("content-length").and_then(|length| length.parse().ok());
            let length: usize = length.ok_or_else(|| bad("neither a length nor chunks"))?;
            answer.body.resize(length, 0);
            self.stream.read_exact(&mut answer.body)?;
        }
        Ok(answer)
    }

    fn chunks(&mut self, body: &mut Vec<u8>) -> std::io::Result<()> {
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(&line, 16).map_err(|_| bad(&format!("chunk size {line:?}")))?;
            let start = body.len();
            body.resize(start + size, 0);
            self.stream.read_exact(body.get_mut(start..).unwrap_or_default())?;
            if size > 0 {
                self.line()?;
                continue;
            }
            while !self.line()?.is_empty() {}
            return Ok(());
        }
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err(bad(&format!("the connection ended in {line:?}"))),
        }
    }
}

fn bad(what: &str) -> std::io::Error {
    std::io::Error::other(what.to_owned())
}
