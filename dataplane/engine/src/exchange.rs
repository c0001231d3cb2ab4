//! One request and its answer between a client and a node: what each side's bytes mean, what goes out, what may follow.
//!
//! The driver owns the sockets, the buffers and the clock. It hands in what it has read and sends what it is given;
//! the two directions advance independently, so that an answer may overtake a body. After the exchange it asks which
//! connections may live on, and after a failure whether the request may be tried again.
//!
//! Invariants:
//! - Nothing reaches the client but a whole, judged head and a body framed anew. A truncated body is never ended cleanly.
//! - A connection to a node is used again only when both messages ended exactly where their framing said.
//! - A request is repeated only when nothing of an answer was received, and it is idempotent or no byte of it was sent.
//! - Protocols are switched only by a request without content (RFC 9110 section 7.8), so that nothing of it can be under way.

mod request;
mod response;
#[cfg(test)]
mod tests;

pub use request::{Expectation, RequestSide};
pub use response::{ResponseContext, ResponseSide, ResponseStep};

use crate::http1::{BodyError, HeadError, Method, RequestHead, Version};

/// What of the request decides how its answer is treated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestFacts {
    /// Its method.
    pub method: Method,
    /// The method that the node gets.
    pub sent: Method,
    /// The client's version.
    pub version: Version,
    /// The client accepts trailers.
    pub trailers: bool,
    /// It offers WebSocket, and the route allows it.
    pub may_upgrade: bool,
}

impl RequestFacts {
    /// The facts of a parsed head. `may_upgrade` is the route's decision.
    pub fn of(head: &RequestHead, may_upgrade: bool) -> RequestFacts {
        // RFC 6455 section 4.1: the opening handshake is a GET, and has no content.
        let may_upgrade = may_upgrade
            && head.method == Method::Get
            && head.body.is_empty()
            && head.upgrade.is_some_and(|upgrade| upgrade.is_websocket);
        RequestFacts {
            method: head.method,
            sent: head.method,
            version: head.version,
            trailers: head.te_trailers,
            may_upgrade,
        }
    }
}

/// One exchange; used again for the next one of the same client connection, keeping its allocations.
#[derive(Debug, Default)]
pub struct Exchange {
    /// From the client to the node.
    pub request: RequestSide,
    /// From the node to the client.
    pub response: ResponseSide,
}

impl Exchange {
    /// Begins the exchange of a parsed request.
    pub fn begin(&mut self, head: &RequestHead, may_upgrade: bool) {
        self.request.begin(head);
        self.response.begin(RequestFacts::of(head, may_upgrade));
    }

    /// The request's route allows a change of the protocol. To be said before anything is sent.
    pub fn permit_upgrade(&mut self, head: &RequestHead) {
        self.response.permit_upgrade(RequestFacts::of(head, true).may_upgrade);
    }

    /// The node gets the request with another method than the client sent. It must not be HEAD.
    pub fn sends(&mut self, method: Method) {
        self.response.sends(method);
    }

    /// Begins another try of the same request on another connection, after [`Exchange::may_retry`] said yes.
    pub fn begin_try(&mut self) {
        self.request.begin_try();
        self.response.begin_try();
    }

    /// Whether the request may be sent again on another connection after `fault`. `sent` tells whether any byte of it
    /// went out; `repeatable` whether all of what went out is still at hand.
    pub fn may_retry(&self, fault: &UpstreamFault, sent: bool, repeatable: bool) -> bool {
        let safe = !sent || (self.is_idempotent() && repeatable);
        safe && fault.is_transport() && !self.response.has_received()
    }

    /// Whether it does no harm to send the request twice. Where it does, it is not sent again once any of it went out.
    pub fn is_idempotent(&self) -> bool {
        let facts = self.response.facts();
        facts.method.is_idempotent() && facts.sent.is_idempotent()
    }

    /// Whether the node's connection may carry another request now.
    pub fn upstream_reusable(&self) -> bool {
        self.request.is_delivered() && self.response.is_reusable()
    }
}

/// Why a node failed a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamFault {
    /// It refused the connection, or there is no way to it.
    #[error("connection refused or unreachable")]
    Connect,
    /// The connection was not made in time.
    #[error("connecting timed out")]
    ConnectTimeout,
    /// This process could open no connection to it: no descriptor was left. Says nothing of the node.
    #[error("this gateway has no file descriptor left for a connection")]
    NoDescriptor,
    /// It closed or reset the connection before it answered.
    #[error("connection closed before a response")]
    Closed,
    /// It did not take the request in time.
    #[error("sending the request timed out")]
    SendTimeout,
    /// It did not answer in time.
    #[error("no response in time")]
    ReadTimeout,
    /// Its answer is not HTTP.
    #[error("invalid response head: {0}")]
    Head(HeadError),
    /// Its answer's body is not what the head announced.
    #[error("invalid response body: {0}")]
    Body(BodyError),
    /// The filters of its answer's body would take more work than they may. Says nothing of the node.
    #[error("filtering the response takes more work than is allowed")]
    Filters,
    /// It sent too many 1xx.
    #[error("too many interim responses")]
    Interims,
    /// It switched protocols without having been asked to, or to another one.
    #[error("switched protocols unasked")]
    UnaskedUpgrade,
}

impl UpstreamFault {
    /// What the client is answered, when nothing has been answered yet.
    pub fn status(&self) -> u16 {
        match self {
            UpstreamFault::ConnectTimeout | UpstreamFault::SendTimeout | UpstreamFault::ReadTimeout => 504,
            UpstreamFault::NoDescriptor => 503,
            _ => 502,
        }
    }

    /// Whether another node may well do better: the fault is of the connection, not of the answer.
    fn is_transport(&self) -> bool {
        matches!(
            self,
            UpstreamFault::Connect
                | UpstreamFault::ConnectTimeout
                | UpstreamFault::Closed
                | UpstreamFault::SendTimeout
                | UpstreamFault::ReadTimeout
        )
    }
}
