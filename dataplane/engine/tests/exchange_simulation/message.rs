//! What clients send and nodes answer, and a reader of HTTP that shares nothing with the one under test.
//!
//! Every body is a function of its request's number, so that a byte in the wrong place is seen.

use crate::chance::Chance;

/// One request of a client.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) id: usize,
    pub(crate) method: &'static str,
    pub(crate) body: Vec<u8>,
    pub(crate) framing: Framing,
    pub(crate) waits: bool,
    pub(crate) close: bool,
    pub(crate) old: bool,
    pub(crate) trailers: bool,
    pub(crate) socket: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length,
    Chunked,
    UntilClose,
}

const METHODS: [&str; 7] = ["GET", "GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"];

impl Request {
    pub(crate) fn draw(id: usize, last: bool, chance: &mut Chance) -> Request {
        let method = chance.pick(&METHODS);
        let old = chance.one_in(8);
        let framing = match method {
            "PUT" | "POST" | "PATCH" if old => Framing::Length,
            "PUT" | "POST" | "PATCH" => chance.pick(&[Framing::Length, Framing::Chunked]),
            _ => Framing::None,
        };
        let length = if framing == Framing::None { 0 } else { chance.size() };
        Request {
            id,
            method,
            body: body('a', id, length),
            framing,
            waits: framing != Framing::None && !old && chance.one_in(4),
            close: last && chance.one_in(2),
            old,
            trailers: !old && chance.one_in(3),
            socket: method == "GET" && last && !old && chance.one_in(4),
        }
    }

    pub(crate) fn head(&self) -> Vec<u8> {
        let version = if self.old { "1.0" } else { "1.1" };
        let mut head = format!("{} /{} HTTP/{version}\r\nHost: sim\r\n", self.method, self.id);
        match self.framing {
            Framing::Length => head.push_str(&format!("Content-Length: {}\r\n", self.body.len())),
            Framing::Chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
            Framing::None | Framing::UntilClose => {}
        }
        if self.waits {
            head.push_str("Expect: 100-continue\r\n");
        }
        match (self.socket, self.close, self.old) {
            (true, _, _) => head.push_str("Connection: Upgrade\r\nUpgrade: websocket\r\n"),
            (_, true, false) => head.push_str("Connection: close\r\n"),
            (_, false, true) => head.push_str("Connection: keep-alive\r\n"),
            _ => {}
        }
        if self.trailers {
            head.push_str("Connection: TE\r\nTE: trailers\r\n");
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    pub(crate) fn body_on_the_wire(&self, chance: &mut Chance) -> Vec<u8> {
        match self.framing {
            Framing::Chunked => chunks(&self.body, chance.one_in(2), chance),
            _ => self.body.clone(),
        }
    }

    /// RFC 9110 section 9.2.2.
    pub(crate) fn is_idempotent(&self) -> bool {
        !matches!(self.method, "POST" | "PATCH")
    }
}

/// A body that tells whose it is.
pub(crate) fn body(first: char, id: usize, length: usize) -> Vec<u8> {
    (0..length).map(|n| first as u8 + ((id * 7 + n * 11 + n / 26) % 26) as u8).collect()
}

/// A body in chunks of any size, with extensions and perhaps with trailers.
pub(crate) fn chunks(body: &[u8], trailers: bool, chance: &mut Chance) -> Vec<u8> {
    let mut wire = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let size = if chance.one_in(2) { rest.len() } else { 1 + chance.below(rest.len()) };
        let extension = if chance.one_in(4) { ";a=\"b;c\"" } else { "" };
        wire.extend_from_slice(format!("{size:x}{extension}\r\n").as_bytes());
        wire.extend_from_slice(&rest[..size]);
        wire.extend_from_slice(b"\r\n");
        rest = &rest[size..];
    }
    wire.extend_from_slice(b"0\r\n");
    if trailers {
        wire.extend_from_slice(b"X-Sum:1\r\nX-More:quite a long one, longer than what room there is\r\n");
    }
    wire.extend_from_slice(b"\r\n");
    wire
}

/// A head as lines.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) start: String,
    fields: Vec<(String, String)>,
}

impl Head {
    /// The head at the front of `bytes` and its length, when it is whole.
    pub(crate) fn read(bytes: &[u8]) -> Option<(Head, usize)> {
        let length = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let text = std::str::from_utf8(&bytes[..length - 4]).expect("a head of text");
        let mut lines = text.split("\r\n");
        let start = lines.next().expect("a first line").to_owned();
        let fields = lines
            .map(|line| line.split_once(": ").unwrap_or_else(|| panic!("no field: {line:?} in {text:?}")))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Some((Head { start, fields }, length))
    }

    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect()
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() <= 1, "{name} more than once: {self:?}");
        values.first().copied()
    }

    /// How the body comes: its framing and length.
    pub(crate) fn framing(&self) -> (Framing, usize) {
        match (self.value("content-length"), self.value("transfer-encoding")) {
            (Some(_), Some(_)) => panic!("two framings: {self:?}"),
            (Some(length), None) => (Framing::Length, length.parse().expect("a length")),
            (None, Some(coding)) => {
                assert_eq!(coding, "chunked");
                (Framing::Chunked, 0)
            }
            (None, None) => (Framing::None, 0),
        }
    }
}

/// What is there of a body, and when it is whole, its length on the wire.
pub(crate) fn read_body(bytes: &[u8], framing: Framing, length: usize) -> (Vec<u8>, Option<usize>) {
    match framing {
        Framing::None => (Vec::new(), Some(0)),
        Framing::Length if bytes.len() >= length => (bytes[..length].to_vec(), Some(length)),
        Framing::Length | Framing::UntilClose => (bytes.to_vec(), None),
        Framing::Chunked => read_chunks(bytes),
    }
}

fn read_chunks(bytes: &[u8]) -> (Vec<u8>, Option<usize>) {
    let mut body = Vec::new();
    let mut at = 0;
    let line = |at: usize| bytes[at..].windows(2).position(|window| window == b"\r\n").map(|end| at + end);
    while let Some(end) = line(at) {
        let text = std::str::from_utf8(&bytes[at..end]).expect("a chunk's size");
        let size = usize::from_str_radix(text, 16).unwrap_or_else(|_| panic!("no chunk size: {text:?}"));
        at = end + 2;
        if size == 0 {
            // Trailers, up to the empty line.
            while let Some(end) = line(at) {
                let empty = end == at;
                at = end + 2;
                if empty {
                    return (body, Some(at));
                }
            }
            return (body, None);
        }
        let data = &bytes[at..bytes.len().min(at + size)];
        body.extend_from_slice(data);
        if bytes.len() < at + size + 2 {
            return (body, None);
        }
        assert_eq!(&bytes[at + size..at + size + 2], b"\r\n", "the end of a chunk");
        at += size + 2;
    }
    (body, None)
}
