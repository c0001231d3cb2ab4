//! The suite's own strict reading of HTTP/1.1 messages (RFC 9112), for what a gateway sends to either side.
//!
//! It forgives nothing: CRLF alone ends a line, names are tokens, one way of framing, chunks to the letter. What a gateway
//! generates has no excuse for less, and a reader that guesses would hide a desynchronisation. It does no I/O and shares no
//! code with the rest of this tool, so that a mistake here cannot agree with one there.

use super::chunks::{self, Chunks};

/// A field as it came, without the white space around its value.
pub(crate) type Field = (Vec<u8>, Vec<u8>);

/// How a message's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Neither Content-Length nor Transfer-Encoding, and nothing follows.
    None,
    Length(u64),
    Chunked,
    /// A response that ends with its connection.
    UntilClose,
}

/// The three parts of a start line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) line: [Vec<u8>; 3],
    pub(crate) fields: Vec<Field>,
}

/// A message, whole or as far as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) head: Head,
    pub(crate) framing: Framing,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<Field>,
    pub(crate) complete: bool,
    /// Bytes it takes up, so far.
    pub(crate) bytes: usize,
}

impl Head {
    /// All values of a field.
    pub(crate) fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        values(&self.fields, name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.values(name).next().is_some()
    }
}

/// All values of a field in a list of fields.
pub(crate) fn values<'a>(fields: &'a [Field], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    fields
        .iter()
        .filter(move |(field, _)| field.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value.as_slice())
}

impl Message {
    /// The status of a response, 0 if it is none.
    pub(crate) fn status(&self) -> u16 {
        std::str::from_utf8(&self.head.line[1]).ok().and_then(|status| status.parse().ok()).unwrap_or(0)
    }
}

/// Reads the request at the front of `bytes`. `None` while its head is not whole.
pub(crate) fn request(bytes: &[u8]) -> Result<Option<Message>, String> {
    let Some((head, length)) = head(bytes)? else { return Ok(None) };
    let [method, target, version] = &head.line;
    if !is_token(method) {
        return Err(format!("method {} is no token", show(method)));
    }
    check_target(method, target)?;
    check_version(version)?;
    let hosts: Vec<&[u8]> = head.values("host").collect();
    match (hosts.as_slice(), version.as_slice()) {
        ([_], _) | ([], b"HTTP/1.0") => {}
        _ => return Err(format!("{} Host fields", hosts.len())),
    }
    let framing = declared(&head)?.unwrap_or(Framing::None);
    finish(head, framing, bytes, length, false).map(Some)
}

/// Reads the response at the front of `bytes` to a request of that method. `ended`: no more bytes will come, and the end was
/// no reset. `None` while its head is not whole.
pub(crate) fn response(bytes: &[u8], method: &[u8], ended: bool) -> Result<Option<Message>, String> {
    let Some((head, length)) = head(bytes)? else { return Ok(None) };
    let [version, status, _] = &head.line;
    check_version(version)?;
    if !(status.len() == 3 && status.iter().all(u8::is_ascii_digit) && status[0] != b'0') {
        return Err(format!("status {}", show(status)));
    }
    let declared = declared(&head)?;
    let framing = match (status.as_slice(), declared) {
        ([b'1', ..] | b"204", Some(_)) => {
            return Err(format!("a {} with a framing field", show(status)));
        }
        ([b'1', ..] | b"204" | b"304", _) => Framing::None,
        _ if method == b"HEAD" => Framing::None,
        ([b'2', ..], _) if method == b"CONNECT" => Framing::None,
        (_, Some(framing)) => framing,
        (_, None) => Framing::UntilClose,
    };
    finish(head, framing, bytes, length, ended).map(Some)
}

fn finish(
    head: Head,
    framing: Framing,
    bytes: &[u8],
    head_bytes: usize,
    ended: bool,
) -> Result<Message, String> {
    let rest = bytes.get(head_bytes..).unwrap_or_default();
    let mut message =
        Message { head, framing, body: Vec::new(), trailers: Vec::new(), complete: true, bytes: head_bytes };
    match framing {
        Framing::None => {}
        Framing::Length(length) => {
            let taken = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
            message.body.extend_from_slice(rest.get(..taken).unwrap_or_default());
            message.bytes += taken;
            message.complete = taken as u64 == length;
        }
        Framing::UntilClose => {
            message.body.extend_from_slice(rest);
            message.bytes = bytes.len();
            message.complete = ended;
        }
        Framing::Chunked => {
            let Chunks { body, trailers, complete, bytes } = chunks::read(rest)?;
            message.body = body;
            message.trailers = trailers;
            message.complete = complete;
            message.bytes += bytes;
        }
    }
    Ok(message)
}

/// The framing that the fields declare. Two ways, or a doubtful one, are an error.
fn declared(head: &Head) -> Result<Option<Framing>, String> {
    let lengths: Vec<&[u8]> = head.values("content-length").collect();
    let codings: Vec<&[u8]> = head.values("transfer-encoding").collect();
    match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => Ok(None),
        ([length], []) => {
            let digits = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
            let number =
                std::str::from_utf8(length).ok().filter(|_| digits).and_then(|text| text.parse().ok());
            number
                .map(|number| Some(Framing::Length(number)))
                .ok_or_else(|| format!("Content-Length {}", show(length)))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => {
            if head.line.iter().any(|part| part == b"HTTP/1.0") {
                return Err("Transfer-Encoding in HTTP/1.0".to_owned());
            }
            Ok(Some(Framing::Chunked))
        }
        ([], codings) => Err(format!("Transfer-Encoding {}", show(&codings.join(&b"|"[..])))),
        (lengths, []) => Err(format!("{} Content-Length fields", lengths.len())),
        _ => Err("Content-Length with Transfer-Encoding".to_owned()),
    }
}

fn check_target(method: &[u8], target: &[u8]) -> Result<(), String> {
    // `"<>\^`{|}` are outside of RFC 3986 and harmless on the wire; what a parser could end the target at is not.
    let printable = target.iter().all(|&byte| byte > 0x20 && byte != 0x7f);
    let form = match target {
        [b'/', ..] => method != b"CONNECT",
        b"*" => method == b"OPTIONS",
        _ => method == b"CONNECT",
    };
    if printable && form { Ok(()) } else { Err(format!("target {} of {}", show(target), show(method))) }
}

fn check_version(version: &[u8]) -> Result<(), String> {
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" => Ok(()),
        _ => Err(format!("version {}", show(version))),
    }
}

/// Start line and fields, and the bytes that they take up. `None` while they are not whole and nothing is wrong yet.
fn head(bytes: &[u8]) -> Result<Option<(Head, usize)>, String> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        check_line_ends(bytes)?;
        return Ok(None);
    };
    let text = bytes.get(..end).unwrap_or_default();
    check_line_ends(text)?;
    let mut lines = split_lines(text);
    let start = lines.next().unwrap_or_default();
    let mut parts = start.splitn(3, |&byte| byte == b' ');
    let (Some(first), Some(second), Some(third)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(format!("start line {}", show(start)));
    };
    let fields = lines.map(field).collect::<Result<Vec<_>, _>>()?;
    let line = [first.to_vec(), second.to_vec(), third.to_vec()];
    if line.iter().flatten().any(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
        return Err(format!("control in start line {}", show(start)));
    }
    Ok(Some((Head { line, fields }, end + 4)))
}

/// Every CR is followed by LF and every LF preceded by CR.
fn check_line_ends(bytes: &[u8]) -> Result<(), String> {
    let mut earlier = 0;
    for &byte in bytes {
        match (earlier, byte) {
            (b'\r', b'\n') => {}
            (b'\r', _) => return Err("bare CR".to_owned()),
            (_, b'\n') => return Err("bare LF".to_owned()),
            _ => {}
        }
        earlier = byte;
    }
    Ok(())
}

/// The lines of text whose line ends were checked.
fn split_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// One field line without its CRLF.
pub(super) fn field(line: &[u8]) -> Result<Field, String> {
    let colon = line.iter().position(|&byte| byte == b':');
    let Some((name, rest)) = colon.and_then(|colon| line.split_at_checked(colon)) else {
        return Err(format!("field line {} without colon", show(line)));
    };
    let value = trim(rest.get(1..).unwrap_or_default());
    if !is_token(name) {
        return Err(format!("field name {}", show(name)));
    }
    if value.iter().any(|&byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
        return Err(format!("control in the value of {}: {}", show(name), show(value)));
    }
    Ok((name.to_vec(), value.to_vec()))
}

/// Without SP and HTAB at both ends.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// `token` of RFC 9110 section 5.6.2.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// Bytes for people, shortened.
pub(crate) fn show(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 400;
    let shown = bytes.get(..SHOWN_MAX).unwrap_or(bytes).escape_ascii();
    if bytes.len() > SHOWN_MAX {
        format!("\"{shown}...\" ({} bytes)", bytes.len())
    } else {
        format!("\"{shown}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_to_its_end_and_no_further() {
        let bytes = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhiGET";
        let message = request(bytes).unwrap().unwrap();
        assert!(message.complete);
        assert_eq!((message.body.as_slice(), message.bytes), (&b"hi"[..], bytes.len() - 3));
        assert!(!request(&bytes[..bytes.len() - 4]).unwrap().unwrap().complete);
        assert_eq!(request(b"GET / HTTP/1.1\r\nHo"), Ok(None));
    }

    #[test]
    fn what_two_readers_could_read_differently_is_an_error() {
        for bad in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: \x0b\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        ] {
            assert!(request(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_response_ends_as_its_status_method_and_fields_say() {
        let whole = |text: &str, method: &str, ended| {
            response(text.as_bytes(), method.as_bytes(), ended)
                .map(|read| read.map(|message| message.complete))
        };
        assert_eq!(whole("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", "GET", true), Ok(Some(false)));
        assert_eq!(whole("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", "HEAD", false), Ok(Some(true)));
        assert_eq!(whole("HTTP/1.1 304 \r\nContent-Length: 1\r\n\r\n", "GET", false), Ok(Some(true)));
        assert_eq!(whole("HTTP/1.1 200 OK\r\n\r\n", "GET", false), Ok(Some(false)));
        assert_eq!(whole("HTTP/1.1 200 OK\r\n\r\n", "GET", true), Ok(Some(true)));
        assert!(whole("HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n", "GET", false).is_err());
        assert!(whole("HTTP/1.1 99 No\r\n\r\n", "GET", false).is_err());
    }
}
