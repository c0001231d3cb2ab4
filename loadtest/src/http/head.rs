//! Finding and reading a message's head: the start line is left to the caller, the fields that decide about framing
//! and connection reuse are read here.
//!
//! Works on a complete head only; `HeadBuffer` collects one from pieces, and copies nothing when a head arrives in
//! one piece, which on loopback is nearly always.

use super::{Fault, HEAD_BYTES_MAX};

/// Collects a head that may arrive in pieces.
#[derive(Debug, Default)]
pub(crate) struct HeadBuffer {
    carry: Vec<u8>,
}

/// A complete head: its bytes up to and including the empty line, and how many bytes of the input it used.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) consumed: usize,
}

impl HeadBuffer {
    /// Takes more input. `None` means that all of `input` was kept and more is needed.
    pub(crate) fn push<'a>(&'a mut self, input: &'a [u8]) -> Result<Option<Head<'a>>, Fault> {
        if self.carry.is_empty() {
            if let Some(end) = find_end(input, 0) {
                if end > HEAD_BYTES_MAX {
                    return Err(Fault::HeadTooLong);
                }
                return Ok(input.get(..end).map(|bytes| Head { bytes, consumed: end }));
            }
            if input.len() > HEAD_BYTES_MAX {
                return Err(Fault::HeadTooLong);
            }
            self.carry.extend_from_slice(input);
            return Ok(None);
        }
        let before = self.carry.len();
        let room = (HEAD_BYTES_MAX + 1).saturating_sub(before);
        self.carry.extend_from_slice(input.get(..room.min(input.len())).unwrap_or_default());
        let Some(end) = find_end(&self.carry, before.saturating_sub(3)) else {
            return if self.carry.len() > HEAD_BYTES_MAX { Err(Fault::HeadTooLong) } else { Ok(None) };
        };
        if end > HEAD_BYTES_MAX {
            return Err(Fault::HeadTooLong);
        }
        let consumed = end.saturating_sub(before);
        Ok(self.carry.get(..end).map(|bytes| Head { bytes, consumed }))
    }

    /// Whether some bytes of an unfinished head are held.
    pub(crate) fn is_empty(&self) -> bool {
        self.carry.is_empty()
    }

    /// Forgets the head that `push` returned, so that the next one can be collected.
    pub(crate) fn clear(&mut self) {
        self.carry.clear();
    }
}

/// What a head's fields say about framing and reuse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) content_length: Option<u64>,
    pub(crate) chunked: bool,
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) expect_continue: bool,
}

/// Splits a complete head into its start line (without the line end) and its fields.
pub(crate) fn split(head: &[u8]) -> Result<(&[u8], Fields), Fault> {
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let start = lines.next().filter(|line| !line.is_empty()).ok_or(Fault::StartLine)?;
    let mut fields = Fields::default();
    for line in lines {
        if line.is_empty() {
            break;
        }
        read_field(line, &mut fields)?;
    }
    // RFC 9112 section 6.3: both at once is how requests are smuggled; nobody well-behaved sends it.
    if fields.chunked && fields.content_length.is_some() {
        return Err(Fault::AmbiguousFraming);
    }
    Ok((start, fields))
}

fn read_field(line: &[u8], fields: &mut Fields) -> Result<(), Fault> {
    let colon = line.iter().position(|byte| *byte == b':').ok_or(Fault::Field)?;
    let (name, rest) = line.split_at_checked(colon).ok_or(Fault::Field)?;
    // RFC 9112 section 5.1: no whitespace between the name and the colon; section 5.2: no folded lines.
    if name.is_empty() || name.iter().any(u8::is_ascii_whitespace) {
        return Err(Fault::Field);
    }
    let value = rest.strip_prefix(b":").unwrap_or(rest).trim_ascii();
    // The lengths are compared first, so that the many fields which do not matter here cost one comparison.
    match name.len() {
        14 if name.eq_ignore_ascii_case(b"content-length") => {
            let length = read_length(value)?;
            if fields.content_length.is_some_and(|other| other != length) {
                return Err(Fault::AmbiguousFraming);
            }
            fields.content_length = Some(length);
        }
        17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
            if fields.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::TransferEncoding);
            }
            fields.chunked = true;
        }
        10 if name.eq_ignore_ascii_case(b"connection") => {
            for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                fields.close |= option.eq_ignore_ascii_case(b"close");
                fields.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        6 if name.eq_ignore_ascii_case(b"expect") => {
            fields.expect_continue = value.eq_ignore_ascii_case(b"100-continue");
        }
        _ => {}
    }
    Ok(())
}

fn read_length(value: &[u8]) -> Result<u64, Fault> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Fault::ContentLength);
    }
    let text = std::str::from_utf8(value).map_err(|_| Fault::ContentLength)?;
    text.parse().map_err(|_| Fault::ContentLength)
}

/// The offset just past the empty line that ends a head, searching line ends from `from` on.
fn find_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let line_end = at + bytes.get(at..)?.iter().position(|byte| *byte == b'\n')?;
        match bytes.get(line_end + 1..) {
            Some([b'\n', ..]) => return Some(line_end + 2),
            Some([b'\r', b'\n', ..]) => return Some(line_end + 3),
            _ => at = line_end + 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: Upgrade, Close\r\n\r\n";

    #[test]
    fn a_head_cut_anywhere_is_the_same_head() {
        let message = [HEAD, b"hello"].concat();
        for cut in 0..message.len() {
            let mut buffer = HeadBuffer::default();
            let (first, second) = message.split_at(cut);
            let mut consumed = 0;
            let mut found = None;
            for part in [first, second] {
                if found.is_some() {
                    break;
                }
                match buffer.push(part).unwrap() {
                    Some(head) => {
                        consumed += head.consumed;
                        found = Some(head.bytes.to_vec());
                    }
                    None => consumed += part.len(),
                }
            }
            assert_eq!(found.as_deref(), Some(HEAD), "cut at {cut}");
            assert_eq!(consumed, HEAD.len(), "cut at {cut}");
        }
    }

    #[test]
    fn fields_that_decide_framing_are_read() {
        let (start, fields) = split(HEAD).unwrap();
        assert_eq!(start, b"HTTP/1.1 200 OK");
        assert_eq!(fields, Fields { content_length: Some(5), close: true, ..Fields::default() });
    }

    #[test]
    fn ambiguous_or_malformed_heads_are_refused() {
        let refused = |fields: &str| {
            split(format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n").as_bytes()).expect_err("must be refused")
        };
        assert_eq!(refused("Content-Length: 5\r\nContent-Length: 6"), Fault::AmbiguousFraming);
        assert_eq!(refused("Content-Length: 5\r\nTransfer-Encoding: chunked"), Fault::AmbiguousFraming);
        assert_eq!(refused("Transfer-Encoding: gzip, chunked"), Fault::TransferEncoding);
        assert_eq!(refused("Content-Length: +5"), Fault::ContentLength);
        assert_eq!(refused("Content-Length: 99999999999999999999"), Fault::ContentLength);
        assert_eq!(refused("Content-Length : 5"), Fault::Field);
        assert_eq!(refused("no colon"), Fault::Field);
    }

    #[test]
    fn a_head_without_end_is_refused_at_the_limit() {
        let mut buffer = HeadBuffer::default();
        let piece = [b'a'; 1000];
        let mut pushed = 0;
        let fault = loop {
            match buffer.push(&piece) {
                Ok(head) => assert!(head.is_none()),
                Err(fault) => break fault,
            }
            pushed += piece.len();
            assert!(pushed <= HEAD_BYTES_MAX, "an endless head was kept");
        };
        assert_eq!(fault, Fault::HeadTooLong);
    }
}
