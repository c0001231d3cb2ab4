//! One finished request as it travels from its core to the thread that writes it down: flat bytes, with bounded texts.
//!
//! Only this process reads what it wrote, so the form is free to change. A text that is longer than its bound is cut, and told as
//! cut. Reading refuses what is too short and never panics.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::node::{Node, Path};
use super::{TRIES_TOLD_MAX, Try};

/// The texts of a record, in their order, with the bytes that each may have.
pub(crate) const TEXT_BYTES_MAX: [usize; TEXTS] = [32, 256, 2_048, 512, 512, 64, 64, 80, 32, 100];
/// How many there are.
pub(crate) const TEXTS: usize = 10;

/// The place of each text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text {
    Method,
    Host,
    RequestUri,
    UserAgent,
    Referer,
    Route,
    Service,
    Upstream,
    Reason,
    Consumer,
}

/// A text, and whether it was cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bounded<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) cut: bool,
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Record<'a> {
    /// It is to be written to the access log; otherwise it is only counted.
    pub(crate) logged: bool,
    /// Minor version of HTTP/1.
    pub(crate) minor: u8,
    pub(crate) status: u16,
    pub(crate) core: u16,
    pub(crate) client: SocketAddr,
    /// When it ended, in microseconds since 1970.
    pub(crate) ended_us: u64,
    pub(crate) request_us: u64,
    /// Head and body without its framing; of a tunnel all bytes.
    pub(crate) received_bytes: u64,
    /// All that was sent to the client.
    pub(crate) sent_bytes: u64,
    /// Of it, the node's body.
    pub(crate) body_bytes: u64,
    pub(crate) timeline: u32,
    pub(crate) revision: u64,
    /// Its place among the requests of its connection.
    pub(crate) connection_requests: u64,
    pub(crate) try_count: u32,
    pub(crate) tries: [Try; TRIES_TOLD_MAX],
    pub(crate) texts: [Bounded<'a>; TEXTS],
}

impl<'a> Record<'a> {
    /// The tries that are told.
    pub(crate) fn tries_told(&self) -> &[Try] {
        let count = (self.try_count as usize).min(TRIES_TOLD_MAX);
        self.tries.get(..count).unwrap_or_default()
    }

    pub(crate) fn text(&self, text: Text) -> Bounded<'a> {
        self.texts.get(text as usize).copied().unwrap_or_default()
    }

    /// Replaces the content of `out`, which allocates only while it grows to the size of the largest record.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&[u8::from(self.logged), self.minor]);
        out.extend_from_slice(&self.status.to_le_bytes());
        out.extend_from_slice(&self.core.to_le_bytes());
        address(self.client, out);
        for number in [
            self.ended_us,
            self.request_us,
            self.received_bytes,
            self.sent_bytes,
            self.body_bytes,
            self.revision,
            self.connection_requests,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.timeline.to_le_bytes());
        out.extend_from_slice(&self.try_count.to_le_bytes());
        for entry in self.tries_told() {
            node(&entry.node, out);
            out.extend_from_slice(&entry.status.to_le_bytes());
            for us in [entry.connect_us, entry.first_byte_us, entry.total_us] {
                out.extend_from_slice(&us.to_le_bytes());
            }
        }
        for (text, bytes_max) in self.texts.iter().zip(TEXT_BYTES_MAX) {
            let kept = text.bytes.get(..bytes_max).unwrap_or(text.bytes);
            let cut = text.cut || kept.len() < text.bytes.len();
            let length = u16::try_from(kept.len()).unwrap_or(0) | if cut { CUT } else { 0 };
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(kept);
        }
    }

    /// Reads what [`Record::encode`] wrote.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Record<'a>> {
        let mut rest = bytes;
        let rest = &mut rest;
        let [logged, minor] = take::<2>(rest)?;
        let status = u16::from_le_bytes(take(rest)?);
        let core = u16::from_le_bytes(take(rest)?);
        let client = take_address(rest)?;
        let mut number = || Some(u64::from_le_bytes(take(rest)?));
        let (ended_us, request_us) = (number()?, number()?);
        let (received_bytes, sent_bytes, body_bytes) = (number()?, number()?, number()?);
        let (revision, connection_requests) = (number()?, number()?);
        let timeline = u32::from_le_bytes(take(rest)?);
        let try_count = u32::from_le_bytes(take(rest)?);
        let mut tries = [Try::default(); TRIES_TOLD_MAX];
        for entry in tries.iter_mut().take(try_count as usize) {
            entry.node = take_node(rest)?;
            entry.status = u16::from_le_bytes(take(rest)?);
            entry.connect_us = u32::from_le_bytes(take(rest)?);
            entry.first_byte_us = u32::from_le_bytes(take(rest)?);
            entry.total_us = u32::from_le_bytes(take(rest)?);
        }
        let mut texts = [Bounded::default(); TEXTS];
        for text in &mut texts {
            let length = u16::from_le_bytes(take(rest)?);
            let (bytes, behind) = rest.split_at_checked(usize::from(length & !CUT))?;
            *rest = behind;
            *text = Bounded { bytes, cut: length & CUT != 0 };
        }
        Some(Record {
            logged: logged != 0,
            minor,
            status,
            core,
            client,
            ended_us,
            request_us,
            received_bytes,
            sent_bytes,
            body_bytes,
            timeline,
            revision,
            connection_requests,
            try_count,
            tries,
            texts,
        })
    }
}

/// Stands in a text's length when it was cut.
const CUT: u16 = 0x8000;

fn node(node: &Node, out: &mut Vec<u8>) {
    match node {
        Node::Nowhere => out.push(0),
        Node::Tcp(to) => {
            out.push(1);
            address(*to, out);
        }
        Node::Unix(path) => {
            let text = path.text();
            out.extend_from_slice(&[if path.cut { 3 } else { 2 }, u8::try_from(text.len()).unwrap_or(0)]);
            out.extend_from_slice(text);
        }
    }
}

fn take_node(rest: &mut &[u8]) -> Option<Node> {
    match take::<1>(rest)? {
        [0] => Some(Node::Nowhere),
        [1] => Some(Node::Tcp(take_address(rest)?)),
        [kind] => {
            let [length] = take(rest)?;
            let (path, behind) = rest.split_at_checked(usize::from(length))?;
            *rest = behind;
            Some(Node::Unix(Path::new(path, kind == 3)))
        }
    }
}

fn address(address: SocketAddr, out: &mut Vec<u8>) {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    out.extend_from_slice(&ip.octets());
    out.extend_from_slice(&address.port().to_le_bytes());
}

fn take_address(rest: &mut &[u8]) -> Option<SocketAddr> {
    let ip = Ipv6Addr::from(take::<16>(rest)?).to_canonical();
    Some(SocketAddr::new(ip, u16::from_le_bytes(take(rest)?)))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (bytes, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*bytes)
}

#[cfg(test)]
pub(super) fn sample<'a>(texts: [&'a [u8]; TEXTS]) -> Record<'a> {
    let tcp = |address: &str| Node::Tcp(address.parse().unwrap());
    let node = tcp("10.0.0.5:8080");
    let entry = Try { node, status: 200, connect_us: 150, first_byte_us: 1_200, total_us: 1_500 };
    let failed = Try { node: tcp("[2001:db8::1]:80"), total_us: 2_000_000, ..Try::default() };
    Record {
        logged: true,
        minor: 1,
        status: 200,
        core: 3,
        client: SocketAddr::from(([192, 0, 2, 7], 51_000)),
        ended_us: 1_795_441_673_123_456,
        request_us: 2_001_700,
        received_bytes: 320,
        sent_bytes: 5_432,
        body_bytes: 5_120,
        timeline: 1,
        revision: 42,
        connection_requests: 2,
        try_count: 2,
        tries: [failed, entry, Try::default()],
        texts: texts.map(|bytes| Bounded { bytes, cut: false }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written_up_to_the_bounds(
            texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3_000), TEXTS),
            try_count in 0_u32..6,
        ) {
            let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
            let mut record = sample(texts.clone().try_into().unwrap());
            record.try_count = try_count;
            record.tries[2].node = Node::Unix(Path::new(texts[0], false));
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            let mut expected = record;
            for (text, bytes_max) in expected.texts.iter_mut().zip(TEXT_BYTES_MAX) {
                text.cut = text.bytes.len() > bytes_max;
                text.bytes = &text.bytes[..text.bytes.len().min(bytes_max)];
            }
            let read = Record::decode(&bytes).unwrap();
            prop_assert_eq!(read.texts, expected.texts);
            prop_assert_eq!(format!("{:?}", read.tries_told()), format!("{:?}", expected.tries_told()));
            prop_assert_eq!((read.client, read.ended_us, read.revision), (record.client, record.ended_us, 42));
            for length in 0..bytes.len() {
                prop_assert!(Record::decode(&bytes[..length]).is_none());
            }
        }
    }
}
