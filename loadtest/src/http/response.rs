//! Reads one response after another from bytes that may be cut anywhere: status, whether the connection can be used
//! again, and how many bytes of body came. The body itself is not kept.
//!
//! Framing follows RFC 9112 section 6.3: no body for HEAD, 1xx, 204 and 304; chunked; Content-Length; else until the
//! connection closes. Interim (1xx) responses are skipped.

use super::chunked::ChunkDecoder;
use super::head::{self, HeadBuffer};
use super::{Fault, HEAD_BYTES_MAX};

/// Interim responses accepted before one final response; a peer that sends more is broken.
const INTERIM_MAX: u8 = 8;

#[derive(Debug, Default)]
pub(crate) struct ResponseReader {
    head: HeadBuffer,
    state: State,
    to_head_request: bool,
    interim: u8,
    answer: Answer,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    Sized {
        left: u64,
    },
    Chunked(ChunkDecoder),
    UntilClose,
    Done,
}

/// A complete response, as far as a load test cares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body_bytes: u64,
    /// The peer will keep the connection open after this response.
    pub(crate) reusable: bool,
}

impl ResponseReader {
    /// Makes ready for the answer to the next request.
    pub(crate) fn start(&mut self, to_head_request: bool) {
        self.head.clear();
        self.state = State::Head;
        self.to_head_request = to_head_request;
        self.interim = 0;
        self.answer = Answer::default();
    }

    /// Takes input up to the end of the response; gives how many bytes it used.
    pub(crate) fn feed(&mut self, input: &[u8]) -> Result<usize, Fault> {
        let mut consumed = 0;
        while let Some(rest) = input.get(consumed..)
            && !rest.is_empty()
            && !self.is_done()
        {
            consumed += self.step(rest)?;
        }
        Ok(consumed)
    }

    /// The peer closed: the end of a body that has no other end, else a cut.
    pub(crate) fn finish(&mut self) -> Result<(), Fault> {
        match self.state {
            State::UntilClose => {
                self.state = State::Done;
                Ok(())
            }
            State::Done => Ok(()),
            _ => Err(Fault::Truncated),
        }
    }

    /// The answer, once it is complete.
    pub(crate) fn answer(&self) -> Option<Answer> {
        self.is_done().then_some(self.answer)
    }

    /// Whether anything of the current response has arrived.
    pub(crate) fn has_begun(&self) -> bool {
        self.interim > 0 || !self.head.is_empty() || !matches!(self.state, State::Head)
    }

    /// Whether the head is complete and its body is not: a close now is a short body.
    pub(crate) fn in_body(&self) -> bool {
        matches!(self.state, State::Sized { .. } | State::Chunked(_) | State::UntilClose)
    }

    fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    fn step(&mut self, input: &[u8]) -> Result<usize, Fault> {
        match &mut self.state {
            State::Head => self.read_head(input),
            State::Sized { left } => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left = left.saturating_sub(take as u64);
                self.answer.body_bytes = self.answer.body_bytes.saturating_add(take as u64);
                if *left == 0 {
                    self.state = State::Done;
                }
                Ok(take)
            }
            State::Chunked(decoder) => {
                let decoded = decoder.decode(input)?;
                self.answer.body_bytes = self.answer.body_bytes.saturating_add(decoded.data.len() as u64);
                if decoder.is_done() {
                    self.state = State::Done;
                }
                Ok(decoded.consumed)
            }
            State::UntilClose => {
                self.answer.body_bytes = self.answer.body_bytes.saturating_add(input.len() as u64);
                Ok(input.len())
            }
            State::Done => Ok(0),
        }
    }

    fn read_head(&mut self, input: &[u8]) -> Result<usize, Fault> {
        let Some(head) = self.head.push(input)? else { return Ok(input.len()) };
        let consumed = head.consumed;
        debug_assert!(head.bytes.len() <= HEAD_BYTES_MAX);
        let (start, fields) = head::split(head.bytes)?;
        let (minor, status) = read_status_line(start)?;
        self.head.clear();
        if (100..200).contains(&status) && status != 101 {
            self.interim += 1;
            return if self.interim > INTERIM_MAX { Err(Fault::StartLine) } else { Ok(consumed) };
        }
        self.answer.status = status;
        self.answer.reusable = !fields.close && (minor >= 1 || fields.keep_alive);
        self.state = if self.to_head_request || matches!(status, 101 | 204 | 304) {
            State::Done
        } else if fields.chunked {
            State::Chunked(ChunkDecoder::default())
        } else if let Some(left) = fields.content_length {
            if left == 0 { State::Done } else { State::Sized { left } }
        } else {
            self.answer.reusable = false;
            State::UntilClose
        };
        Ok(consumed)
    }
}

/// `HTTP/1.x NNN reason`: the minor version and the status.
fn read_status_line(line: &[u8]) -> Result<(u8, u16), Fault> {
    let rest = line.strip_prefix(b"HTTP/1.").ok_or(Fault::StartLine)?;
    let [minor @ (b'0' | b'1'), b' ', hundreds @ b'1'..=b'9', tens, ones, rest @ ..] = rest else {
        return Err(Fault::StartLine);
    };
    let well_formed = tens.is_ascii_digit() && ones.is_ascii_digit() && matches!(rest, [] | [b' ', ..]);
    if !well_formed {
        return Err(Fault::StartLine);
    }
    let digit = |byte: &u8| u16::from(byte.saturating_sub(b'0'));
    Ok((minor.saturating_sub(b'0'), digit(hundreds) * 100 + digit(tens) * 10 + digit(ones)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the parts; gives the answer (if complete) and the bytes that were not used.
    fn read(parts: &[&[u8]], closed: bool) -> Result<(Option<Answer>, Vec<u8>), Fault> {
        let mut reader = ResponseReader::default();
        reader.start(false);
        let mut left_over = Vec::new();
        for part in parts {
            let consumed = reader.feed(part)?;
            left_over.extend_from_slice(&part[consumed..]);
        }
        if closed {
            reader.finish()?;
        }
        Ok((reader.answer(), left_over))
    }

    fn everywhere(message: &[u8], closed: bool, expected: Answer, left_over: &[u8]) {
        for cut in 0..=message.len() {
            let (first, second) = message.split_at(cut);
            let got = read(&[first, second], closed).unwrap_or_else(|fault| panic!("cut at {cut}: {fault}"));
            assert_eq!(got, (Some(expected), left_over.to_vec()), "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = message.chunks(1).collect();
        assert_eq!(read(&bytes, closed).unwrap(), (Some(expected), left_over.to_vec()), "byte by byte");
    }

    #[test]
    fn content_length_cut_anywhere() {
        let message = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP";
        everywhere(message, false, Answer { status: 200, body_bytes: 5, reusable: true }, b"HTTP");
    }

    #[test]
    fn chunked_cut_anywhere() {
        let message = b"HTTP/1.1 503 \r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        everywhere(message, false, Answer { status: 503, body_bytes: 5, reusable: false }, b"");
    }

    #[test]
    fn delimited_by_close_cut_anywhere() {
        let message = b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nall of this";
        everywhere(message, true, Answer { status: 200, body_bytes: 11, reusable: false }, b"");
    }

    #[test]
    fn interim_responses_are_skipped() {
        let message = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
        everywhere(message, false, Answer { status: 204, body_bytes: 0, reusable: true }, b"");
    }

    #[test]
    fn a_close_before_the_end_is_a_cut() {
        for message in ["", "HTTP/1.1 2", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"] {
            assert_eq!(read(&[message.as_bytes()], true).expect_err(message), Fault::Truncated);
        }
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let mut reader = ResponseReader::default();
        reader.start(true);
        reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").unwrap();
        assert_eq!(reader.answer(), Some(Answer { status: 200, body_bytes: 0, reusable: true }));
    }

    #[test]
    fn malformed_status_lines_are_refused() {
        for line in ["HTTP/2 200 OK", "HTTP/1.1 20 OK", "HTTP/1.1 2000", "HTTP/1.2 200 OK", "ICY 200 OK"] {
            assert_eq!(read_status_line(line.as_bytes()), Err(Fault::StartLine), "{line}");
        }
        assert_eq!(read_status_line(b"HTTP/1.0 200"), Ok((0, 200)));
    }
}
