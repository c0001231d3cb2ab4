//! What is still to be sent on one connection: a buffer with the head (and a small body), then filler bytes that are
//! never copied, only written again and again from one static block.

use std::io::{self, ErrorKind, IoSlice, Write};
use std::net::TcpStream;

/// Bodies are this letter.
const FILL: u8 = b'r';
static FILLER: [u8; 256 * 1024] = [FILL; 256 * 1024];
/// Bodies up to this are copied behind the head, so that one buffer is one write.
const COPIED_BODY_BYTES_MAX: u64 = 4096;

#[derive(Debug, Default)]
pub(crate) struct Reply {
    bytes: Vec<u8>,
    sent: usize,
    filler_left: u64,
    /// What was last filled in had filler behind its bytes; they alone are not the whole reply.
    had_filler: bool,
}

/// The body of a reply.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body<'a> {
    Filler(u64),
    Bytes(&'a [u8]),
    /// The status allows none: no Content-Length either (RFC 9110 section 8.6).
    None,
}

impl Reply {
    /// Puts a reply in, in place of the last one, which has been sent.
    pub(crate) fn fill(
        &mut self,
        status: u16,
        origin: &str,
        body: Body<'_>,
        head_request: bool,
        keep_alive: bool,
    ) {
        self.bytes.clear();
        self.sent = 0;
        self.filler_left = 0;
        self.had_filler = false;
        // Writing into a Vec cannot fail.
        let _ = write!(self.bytes, "HTTP/1.1 {status} {}\r\nX-Origin: {origin}\r\n", reason(status));
        let length = match body {
            Body::Filler(length) => Some(length),
            Body::Bytes(bytes) => Some(bytes.len() as u64),
            Body::None => None,
        };
        if let Some(length) = length {
            let _ = write!(self.bytes, "Content-Type: text/plain\r\nContent-Length: {length}\r\n");
        }
        if !keep_alive {
            self.bytes.extend_from_slice(b"Connection: close\r\n");
        }
        self.bytes.extend_from_slice(b"\r\n");
        if head_request {
            return;
        }
        match body {
            Body::Filler(length) if length <= COPIED_BODY_BYTES_MAX => {
                self.bytes.resize(self.bytes.len() + length as usize, FILL);
            }
            Body::Filler(length) => {
                self.filler_left = length;
                self.had_filler = length > 0;
            }
            Body::Bytes(bytes) => self.bytes.extend_from_slice(bytes),
            Body::None => {}
        }
    }

    /// Sends the same bytes as last time, which must have been all copied ones.
    pub(crate) fn repeat(&mut self) {
        self.sent = 0;
    }

    /// Whether what was last filled in can be repeated.
    pub(crate) fn is_repeatable(&self) -> bool {
        !self.bytes.is_empty() && !self.had_filler
    }

    /// The line that lets a client go on which waits before it sends its body.
    pub(crate) fn fill_continue(&mut self) {
        self.bytes.clear();
        self.sent = 0;
        self.filler_left = 0;
        self.bytes.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    }

    pub(crate) fn is_sent(&self) -> bool {
        self.sent >= self.bytes.len() && self.filler_left == 0
    }

    /// Sends as much as the socket takes; `Ok(true)` when all is sent.
    pub(crate) fn send(&mut self, stream: &mut TcpStream) -> io::Result<bool> {
        while !self.is_sent() {
            let bytes = self.bytes.get(self.sent..).unwrap_or_default();
            let filler_bytes = usize::try_from(self.filler_left).unwrap_or(usize::MAX).min(FILLER.len());
            let filler = FILLER.get(..filler_bytes).unwrap_or_default();
            let result = if filler.is_empty() {
                stream.write(bytes)
            } else if bytes.is_empty() {
                stream.write(filler)
            } else {
                stream.write_vectored(&[IoSlice::new(bytes), IoSlice::new(filler)])
            };
            match result {
                Ok(count) => {
                    let of_bytes = count.min(bytes.len());
                    self.sent += of_bytes;
                    self.filler_left = self.filler_left.saturating_sub((count - of_bytes) as u64);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        404 => "Not Found",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Chosen By Path",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(status: u16, body: Body<'_>, head_request: bool) -> String {
        let mut reply = Reply::default();
        reply.fill(status, "a", body, head_request, true);
        String::from_utf8(reply.bytes).unwrap()
    }

    #[test]
    fn a_reply_has_length_name_and_body() {
        let expected =
            "HTTP/1.1 200 OK\r\nX-Origin: a\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(text(200, Body::Bytes(b"hi"), false), format!("{expected}hi"));
        assert_eq!(text(200, Body::Bytes(b"hi"), true), expected);
        assert_eq!(text(204, Body::None, false), "HTTP/1.1 204 No Content\r\nX-Origin: a\r\n\r\n");
    }

    #[test]
    fn a_large_body_is_not_copied() {
        let mut reply = Reply::default();
        reply.fill(200, "a", Body::Filler(1 << 30), false, true);
        assert!(reply.bytes.len() < 200);
        assert!(!reply.is_sent());
    }

    #[test]
    fn a_large_reply_that_was_sent_is_not_repeated_without_its_body() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (receiver, _) = listener.accept().unwrap();
        let reader = std::thread::spawn(move || io::copy(&mut &receiver, &mut io::sink()).unwrap());
        let mut reply = Reply::default();
        reply.fill(200, "a", Body::Filler(1 << 20), false, true);
        assert!(reply.send(&mut sender).unwrap());
        assert!(!reply.is_repeatable());
        reply.fill(200, "a", Body::Filler(100), false, true);
        assert!(reply.send(&mut sender).unwrap());
        assert!(reply.is_repeatable());
        drop(sender);
        assert!(reader.join().unwrap() > (1 << 20) + 100);
    }
}
