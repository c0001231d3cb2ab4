//! What plugins decided for one request, for the driver to act on.
//!
//! Used again for the next request of the same client connection, keeping its memory.

use std::net::IpAddr;

use ringway_snapshot::limits::FILTERED_OUTPUT_BYTES_MAX;
use ringway_snapshot::replacement::{Replacement, TooLong};
use smallvec::SmallVec;

use super::edits::Edits;
use crate::facts::Facts;

/// See the module.
#[derive(Debug, Default)]
pub struct Course {
    /// Place of the upstream that takes it in place of the route's.
    pub place: Option<u32>,
    /// Path and query for the node; empty: as without plugins.
    pub uri: Vec<u8>,
    /// The method for the node; empty: the client's.
    pub method: SmallVec<[u8; 16]>,
    /// Host for the node; empty: as without plugins.
    pub host: Vec<u8>,
    /// Who counts as the client, where that is not who connected.
    pub client: Option<Client>,
    /// Fields of the request for the node.
    pub request: Edits,
    /// Fields of the answer for the client.
    pub answer: Edits,
    /// Copies that go aside.
    pub copies: SmallVec<[Copy; 1]>,
    /// How long it is held before anything else.
    pub delay_ms: u64,
    /// With [`Verdict::Answer`](super::Verdict::Answer).
    pub reply: Reply,
    /// The path as it was matched, for what is decided when the answer comes.
    pub path: Vec<u8>,
}

/// Who counts as the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// The address in words.
    pub ip: SmallVec<[u8; 39]>,
}

impl Client {
    /// Of that address and port.
    pub fn new(address: IpAddr, port: u16) -> Client {
        let address = address.to_canonical();
        Client { address, port, ip: SmallVec::from_slice(address.to_string().as_bytes()) }
    }
}

/// A copy of a request that goes aside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copy {
    /// Place of the upstream that gets it.
    pub place: u32,
    /// Its Host.
    pub authority: Box<str>,
    /// In place of its path, or in front of it.
    pub path: Option<Box<str>>,
    /// The path stands in front.
    pub is_prefix: bool,
}

/// A plugin's own answer.
#[derive(Debug, Default)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Empty: none.
    pub content_type: &'static [u8],
    /// Its body.
    pub body: Vec<u8>,
}

/// How an answer is changed.
#[derive(Debug, Default)]
pub struct Changes<'a> {
    /// Another status.
    pub status: Option<u16>,
    /// Its fields.
    pub edits: Edits,
    /// Another body.
    pub body: Option<&'a [u8]>,
    /// What is replaced in the body.
    pub filters: SmallVec<[&'a [Replacement]; 1]>,
}

impl Changes<'_> {
    /// Puts the body through the filters, one after the other.
    pub fn filtered(&self, mut body: Vec<u8>) -> Result<Vec<u8>, TooLong> {
        for filter in self.filters.iter().copied().flatten() {
            if let Some(made) = filter.apply(&body, FILTERED_OUTPUT_BYTES_MAX)? {
                body = made;
            }
        }
        Ok(body)
    }
}

impl Course {
    /// What is known of the request after what was decided so far.
    pub fn facts<'a>(&'a self, facts: Facts<'a>) -> Facts<'a> {
        seen(facts, &self.request, self.client.as_ref())
    }

    /// Forgets everything, keeping the memory.
    pub fn clear(&mut self) {
        let Course { place, uri, method, host, client, request, answer, copies, delay_ms, reply, path } =
            self;
        (*place, *delay_ms, *client) = (None, 0, None);
        uri.clear();
        method.clear();
        host.clear();
        request.clear();
        answer.clear();
        copies.clear();
        reply.status = 0;
        reply.content_type = b"";
        reply.body.clear();
        path.clear();
    }
}

/// What is known of a request with changed fields, or from another client.
pub(super) fn seen<'a>(facts: Facts<'a>, request: &'a Edits, client: Option<&'a Client>) -> Facts<'a> {
    Facts {
        edits: Some(request).filter(|edits| !edits.is_empty()),
        client_ip: client.map_or(facts.client_ip, |client| &client.ip),
        client_port: client.map_or(facts.client_port, |client| client.port),
        ..facts
    }
}
