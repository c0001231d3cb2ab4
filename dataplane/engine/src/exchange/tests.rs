//! The two sides of an exchange by rows: what comes in, what goes out, what may follow.

mod request_side;
mod response_side;
mod rules;

use super::{Exchange, ResponseContext, UpstreamFault};
use crate::http1::{HEADROOM_BYTES, HeadLimits, Parse, RequestHead, TAILROOM_BYTES};

pub(super) const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
pub(super) const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
pub(super) const GET_OLD: &str = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
pub(super) const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
pub(super) const POST_CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
pub(super) const POST_WAITING: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
pub(super) const SOCKET: &str =
    "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
pub(super) const GET_TRAILERS: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: TE\r\nTE: trailers\r\n\r\n";

/// Parses a head and begins its exchange, on a route that lets WebSocket through.
pub(super) fn begin(exchange: &mut Exchange, head: &str) {
    let mut parsed = RequestHead::new();
    assert_eq!(parsed.parse(head.as_bytes(), &HeadLimits::default()), Ok(Parse::Done(())), "{head}");
    exchange.begin(&parsed, true);
}

/// An exchange whose head has been sent.
pub(super) fn begun(head: &str) -> Exchange {
    let mut exchange = Exchange::default();
    begin(&mut exchange, head);
    exchange.request.sent();
    exchange
}

pub(super) fn context() -> ResponseContext<'static> {
    static LIMITS: HeadLimits = HeadLimits {
        head_bytes_max: 4096,
        target_bytes_max: 1024,
        method_bytes_max: 32,
        fields_max: 16,
        leading_lines_max: 1,
    };
    ResponseContext {
        limits: &LIMITS,
        interim_responses_max: 3,
        close: false,
        awaits_leave: false,
        date: b"now",
        via: None,
        plugins: None,
    }
}

/// Gives a node's bytes to the exchange piece by piece, as a driver does, and collects what the client gets.
pub(super) struct Node<'a> {
    pub(super) exchange: &'a mut Exchange,
    pub(super) context: ResponseContext<'static>,
    pub(super) client: Vec<u8>,
    pub(super) went_on: bool,
    kept: Vec<u8>,
}

impl Node<'_> {
    pub(super) fn new(exchange: &mut Exchange) -> Node<'_> {
        Node { exchange, context: context(), client: Vec::new(), went_on: false, kept: Vec::new() }
    }

    pub(super) fn says(&mut self, bytes: &[u8]) -> Result<(), UpstreamFault> {
        let mut buffer = vec![0; HEADROOM_BYTES];
        buffer.append(&mut self.kept);
        buffer.extend_from_slice(bytes);
        let filled = HEADROOM_BYTES..buffer.len();
        let end = filled.end;
        buffer.resize(end + TAILROOM_BYTES, 0xee);
        let side = &mut self.exchange.response;
        let step = side.receive(&mut buffer, filled, &self.context, &mut self.client)?;
        self.client.extend_from_slice(&buffer[step.send]);
        self.client.extend_from_slice(side.epilogue());
        self.went_on |= step.go_on;
        self.kept.extend_from_slice(&buffer[step.keep..end]);
        Ok(())
    }

    /// The node's bytes one by one.
    pub(super) fn drips(&mut self, bytes: &[u8]) -> Result<(), UpstreamFault> {
        bytes.iter().try_for_each(|byte| self.says(&[*byte]))
    }

    pub(super) fn ends(&mut self) -> Result<(), UpstreamFault> {
        let tail = self.exchange.response.receive_end(&self.context, &mut self.client)?;
        self.client.extend_from_slice(tail);
        Ok(())
    }

    pub(super) fn client(&self) -> String {
        String::from_utf8_lossy(&self.client).into_owned()
    }
}

/// Gives a client's bytes of a body to the exchange, and gives back what goes to the node and what is not of the body.
pub(super) fn client_sends(exchange: &mut Exchange, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut buffer = vec![0; HEADROOM_BYTES];
    buffer.extend_from_slice(bytes);
    let end = buffer.len();
    buffer.resize(end + TAILROOM_BYTES, 0xee);
    let relayed = exchange.request.relay(&mut buffer, HEADROOM_BYTES..end).expect("a good body");
    let mut sent = buffer[relayed.send].to_vec();
    if relayed.end {
        sent.extend_from_slice(exchange.request.epilogue());
    }
    (sent, buffer[relayed.consumed_end..end].to_vec())
}
