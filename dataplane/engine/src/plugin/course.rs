//! What plugins decided for one request, for the driver to act on.
//!
//! Used again for the next request of the same client connection, keeping its memory.

use std::net::IpAddr;

use ringway_snapshot::limits::{FILTER_STEPS_MAX, FILTERED_OUTPUT_BYTES_MAX};
use ringway_snapshot::replacement::{Replacement, Unfiltered};
use smallvec::SmallVec;

use super::edits::Edits;
use crate::consumer::{Caller, Callers};
use crate::facts::{Facts, unescaped};

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
    /// The number of its consumer among the view's callers, once a plugin has found it.
    pub caller: Option<u32>,
    /// Arguments that nodes do not see.
    pub hidden: SmallVec<[Box<str>; 1]>,
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
    pub fn filtered(&self, mut body: Vec<u8>) -> Result<Vec<u8>, Unfiltered> {
        let mut steps_left = FILTER_STEPS_MAX;
        for filter in self.filters.iter().copied().flatten() {
            if let Some(made) = filter.apply(&body, FILTERED_OUTPUT_BYTES_MAX, &mut steps_left)? {
                body = made;
            }
        }
        Ok(body)
    }
}

impl Course {
    /// What is known of the request after what was decided so far.
    pub fn facts<'a>(&'a self, facts: Facts<'a>, callers: Option<&'a Callers>) -> Facts<'a> {
        seen(facts, &self.request, self.client.as_ref(), self.caller(callers))
    }

    /// Its consumer, once a plugin has found it.
    pub fn caller<'a>(&self, callers: Option<&'a Callers>) -> Option<&'a Caller> {
        callers?.get(self.caller?)
    }

    /// Takes the arguments that nodes do not see out of path and query.
    pub fn hide_arguments(&self, uri: &mut Vec<u8>) {
        let Some(question) = uri.iter().position(|byte| *byte == b'?') else { return };
        let query = uri.split_off(question);
        let is_hidden = |pair: &[u8]| {
            let name = pair.split(|byte| *byte == b'=').next().map(unescaped);
            name.is_some_and(|name| self.hidden.iter().any(|hidden| *hidden.as_bytes() == *name))
        };
        let pairs = query.get(1..).unwrap_or_default().split(|byte| *byte == b'&');
        for (place, pair) in pairs.filter(|pair| !is_hidden(pair)).enumerate() {
            uri.push(if place == 0 { b'?' } else { b'&' });
            uri.extend_from_slice(pair);
        }
    }

    /// Forgets everything, keeping the memory.
    pub fn clear(&mut self) {
        let Course {
            place,
            uri,
            method,
            host,
            client,
            request,
            answer,
            copies,
            delay_ms,
            reply,
            path,
            caller,
            hidden,
        } = self;
        (*place, *delay_ms, *client, *caller) = (None, 0, None, None);
        hidden.clear();
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
pub(super) fn seen<'a>(
    facts: Facts<'a>,
    request: &'a Edits,
    client: Option<&'a Client>,
    caller: Option<&'a Caller>,
) -> Facts<'a> {
    Facts {
        caller,
        edits: Some(request).filter(|edits| !edits.is_empty()),
        client_ip: client.map_or(facts.client_ip, |client| &client.ip),
        client_port: client.map_or(facts.client_port, |client| client.port),
        ..facts
    }
}
