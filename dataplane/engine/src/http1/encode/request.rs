//! The request as it goes to the upstream: always HTTP/1.1, in the form that its method wants (RFC 9112
//! section 3.2), with exactly one Host
//! and at most one framing field.
//!
//! Fields keep their order, their case and their repetition. Left out are Connection and what it nominates,
//! Keep-Alive, Proxy-Connection, HTTP2-Settings, Upgrade, TE, Expect and framing (RFC 9110 section 7.6.1; written anew where the
//! caller says so), `Proxy` (CGI would read it as its HTTP_PROXY), and look-alikes of the gateway's own names.

use super::super::field::FieldKind;
use super::super::request::RequestHead;
use super::{
    BodyHeader, Copying, NameValue, put_edits, put_framing, put_judged, put_named, put_number, put_value,
    sets,
};
use crate::http1::{is_token, token};

/// What the gateway tells the upstream about the client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forwarded<'a> {
    /// For X-Forwarded-For.
    pub client_ip: &'a [u8],
    /// `http` or `https`, for X-Forwarded-Proto.
    pub proto: &'a [u8],
    /// For X-Forwarded-Host.
    pub host: &'a [u8],
    /// For X-Forwarded-Port.
    pub port: &'a [u8],
    /// For X-Real-IP, which is always replaced; by none where this is empty.
    pub real_ip: Option<&'a [u8]>,
    /// The peer may say who the client is: what it sent in X-Forwarded-Proto, -Host and -Port and in Forwarded stays.
    /// Otherwise it is replaced, and Forwarded removed.
    pub trusted: bool,
    /// The client's address is appended to the X-Forwarded-For that the peer sent. Otherwise it replaces that.
    pub append_for: bool,
}

/// How the request for the upstream differs from the one received. The default changes nothing but the connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestEdits<'a> {
    pub method: Option<&'a [u8]>,
    /// Path and query, or `*`. An empty path becomes `/`; bytes that no target may hold are percent-encoded. CONNECT
    /// takes `host` instead (RFC 9112 section 3.2.3).
    pub path_and_query: &'a [u8],
    /// The value of Host.
    pub host: &'a [u8],
    /// Replace every field of that name.
    pub set: &'a [NameValue<'a>],
    /// Added beside any field of that name.
    pub add: &'a [NameValue<'a>],
    pub remove: &'a [&'a [u8]],
    /// `None` passes what the peer sent.
    pub forwarded: Option<Forwarded<'a>>,
    /// Offer this protocol to the upstream.
    pub upgrade: Option<&'a [u8]>,
    /// Tell the upstream that trailers are welcome in its response.
    pub te_trailers: bool,
    /// Pass the request's Trailer field, because its trailers are passed too.
    pub trailers: bool,
    /// Ask the upstream for 100 (Continue).
    pub expect_continue: bool,
    pub body: BodyHeader,
    /// Added to Via (RFC 9110 section 7.6.3): the protocol version and who received it with that.
    pub via: Option<&'a [u8]>,
    /// The upstream connection ends with this exchange.
    pub close: bool,
}

/// Appends the head of the upstream's request to `out`.
pub fn encode_request(head: &RequestHead, buf: &[u8], edits: &RequestEdits<'_>, out: &mut Vec<u8>) {
    let method = edits.method.filter(|method| is_token(method)).unwrap_or_else(|| head.method_span.of(buf));
    out.extend_from_slice(method);
    out.push(b' ');
    match (method, edits.path_and_query) {
        (b"CONNECT", _) => put_host(out, edits.host),
        (b"OPTIONS", b"*") => out.push(b'*'),
        (_, b"*") => out.push(b'/'),
        (_, target) => put_target(out, target),
    }
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    put_host(out, edits.host);
    out.extend_from_slice(b"\r\n");
    put_received(head, buf, edits, out);
    put_edits(out, edits.set, edits.add);
    if let Some(forwarded) = &edits.forwarded {
        put_forwarded(head, buf, edits, forwarded, out);
    }
    if let Some(left) = head.max_forwards {
        out.extend_from_slice(b"Max-Forwards: ");
        put_number(out, left.saturating_sub(1));
        out.extend_from_slice(b"\r\n");
    }
    if let Some(via) = edits.via {
        put_named(out, b"Via", via);
    }
    if edits.expect_continue {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
    put_framing(out, edits.body);
    put_connection(edits, out);
    out.extend_from_slice(b"\r\n");
}

fn put_received(head: &RequestHead, buf: &[u8], edits: &RequestEdits<'_>, out: &mut Vec<u8>) {
    let copying = Copying { buf, nominated: &head.nominated, set: edits.set, remove: edits.remove };
    let trusted = edits.forwarded.is_none_or(|forwarded| forwarded.trusted);
    for field in &head.fields {
        let copies = match field.kind {
            FieldKind::Host | FieldKind::Expect => false,
            FieldKind::MaxForwards => head.max_forwards.is_none(),
            FieldKind::Trailer => edits.trailers && edits.body == BodyHeader::Chunked,
            FieldKind::XForwardedFor => edits.forwarded.is_none(),
            FieldKind::XRealIp => edits.forwarded.is_none_or(|forwarded| forwarded.real_ip.is_none()),
            FieldKind::XForwardedProto
            | FieldKind::XForwardedHost
            | FieldKind::XForwardedPort
            | FieldKind::Forwarded => trusted,
            kind => !kind.is_rewritten(),
        };
        if copies {
            copying.copy(out, field);
        }
    }
}

/// Writes the X-Forwarded fields and X-Real-IP, but none that is removed or set by name.
fn put_forwarded(
    head: &RequestHead,
    buf: &[u8],
    edits: &RequestEdits<'_>,
    forwarded: &Forwarded<'_>,
    out: &mut Vec<u8>,
) {
    let is_edited = |name: &[u8]| sets(name, edits.set) || super::names(name, edits.remove);
    let is_kept = |kind: FieldKind| forwarded.trusted && head.fields.iter().any(|field| field.kind == kind);
    if !is_edited(b"X-Forwarded-For") {
        put_forwarded_for(head, buf, forwarded, out);
    }
    let is_ours =
        |name: &[u8], kind: FieldKind, value: &[u8]| !value.is_empty() && !is_edited(name) && !is_kept(kind);
    if is_ours(b"X-Forwarded-Proto", FieldKind::XForwardedProto, forwarded.proto) {
        put_named(out, b"X-Forwarded-Proto", forwarded.proto);
    }
    if is_ours(b"X-Forwarded-Host", FieldKind::XForwardedHost, forwarded.host) {
        put_named(out, b"X-Forwarded-Host", forwarded.host);
    }
    if is_ours(b"X-Forwarded-Port", FieldKind::XForwardedPort, forwarded.port) {
        put_named(out, b"X-Forwarded-Port", forwarded.port);
    }
    if let Some(real_ip) = forwarded.real_ip.filter(|ip| !ip.is_empty() && !is_edited(b"X-Real-IP")) {
        put_named(out, b"X-Real-IP", real_ip);
    }
}

/// One X-Forwarded-For line: what the peer's lines held, when it is to be kept, and the client's address.
fn put_forwarded_for(head: &RequestHead, buf: &[u8], forwarded: &Forwarded<'_>, out: &mut Vec<u8>) {
    if forwarded.client_ip.is_empty() && !forwarded.append_for {
        return;
    }
    let received =
        head.fields.iter().filter(|field| forwarded.append_for && field.kind == FieldKind::XForwardedFor);
    let mut separator: &[u8] = b"X-Forwarded-For: ";
    let start = out.len();
    for value in received.map(|field| field.value.of(buf)).filter(|value| !value.is_empty()) {
        out.extend_from_slice(separator);
        out.extend_from_slice(value);
        separator = b", ";
    }
    if !forwarded.client_ip.is_empty() {
        out.extend_from_slice(separator);
        put_value(out, forwarded.client_ip);
    }
    if out.len() > start {
        out.extend_from_slice(b"\r\n");
    }
}

/// Connection with its options, and the fields they stand for.
fn put_connection(edits: &RequestEdits<'_>, out: &mut Vec<u8>) {
    if let Some(protocol) = edits.upgrade {
        put_named(out, b"Upgrade", protocol);
    }
    if edits.te_trailers {
        put_judged(out, b"TE", b"trailers");
    }
    let options: &[u8] = match (edits.upgrade.is_some(), edits.te_trailers, edits.close) {
        (false, false, false) => return,
        (false, false, true) => b"close",
        (false, true, false) => b"TE",
        (false, true, true) => b"TE, close",
        (true, false, _) => b"Upgrade",
        (true, true, _) => b"Upgrade, TE",
    };
    put_judged(out, b"Connection", options);
}

/// Writes a target, with `/` in front when it has no path, and percent-encoding what cannot stand in a request line.
fn put_target(out: &mut Vec<u8>, target: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if !matches!(target, [b'/', ..]) {
        out.push(b'/');
    }
    if token::is_graphic(target) && !target.contains(&b'#') {
        return out.extend_from_slice(target);
    }
    for &byte in target {
        if byte > 0x20 && byte < 0x7f && byte != b'#' {
            out.push(byte);
        } else {
            let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
}

/// Writes Host's value without anything that could end it.
fn put_host(out: &mut Vec<u8>, host: &[u8]) {
    if token::is_graphic(host) {
        return out.extend_from_slice(host);
    }
    out.extend(host.iter().copied().filter(|byte| *byte > 0x20 && *byte < 0x7f));
}
