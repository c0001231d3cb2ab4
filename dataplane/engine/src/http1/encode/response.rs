//! The response as it goes to the client: always with the gateway's own version (RFC 9112 section 2.3), with at most
//! one framing field, and with a Connection field that says what will happen to the connection.
//!
//! A 1xx or 204 never gets a framing field (RFC 9110 section 8.6) and an HTTP/1.0 client never gets chunks
//! (RFC 9112 section 6.1).

use super::super::field::FieldKind;
use super::super::response::ResponseHead;
use super::super::span::Version;
use super::own::reason_phrase;
use super::{
    BodyHeader, Copying, NameValue, names, put_edits, put_framing, put_judged, put_named, put_number, sets,
};

/// How the response for the client differs from the one received.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseEdits<'a> {
    /// Another status, with its usual reason phrase.
    pub status: Option<u16>,
    /// Replace every field of that name.
    pub set: &'a [NameValue<'a>],
    /// Added beside any field of that name.
    pub add: &'a [NameValue<'a>],
    pub remove: &'a [&'a [u8]],
    /// The client's version.
    pub version: Version,
    /// The client's connection ends with this exchange.
    pub close: bool,
    pub body: BodyHeader,
    /// Pass the Trailer field.
    pub trailers: bool,
    /// Pass the upgrade that a 101 agrees to.
    pub upgrade: bool,
    /// Added when the upstream sent no Date (RFC 9110 section 6.6.1).
    pub date: Option<&'a [u8]>,
    /// Replaces the upstream's Server.
    pub server: Option<&'a [u8]>,
    /// Added to Via.
    pub via: Option<&'a [u8]>,
}

/// Appends the head of the client's response to `out`.
pub fn encode_response(head: &ResponseHead, buf: &[u8], edits: &ResponseEdits<'_>, out: &mut Vec<u8>) {
    let status = edits.status.unwrap_or(head.status);
    put_status_line(head, buf, status, out);
    let copying = Copying { buf, nominated: &head.nominated, set: edits.set, remove: edits.remove };
    let mut has_date = false;
    for field in &head.fields {
        let copies = match field.kind {
            FieldKind::Trailer => edits.trailers && edits.body == BodyHeader::Chunked,
            FieldKind::Server => edits.server.is_none(),
            FieldKind::Date if has_date => false,
            FieldKind::Date => {
                has_date = true;
                true
            }
            kind => !kind.is_rewritten(),
        };
        if copies {
            copying.copy(out, field);
        }
    }
    put_edits(out, edits.set, edits.add);
    let is_edited = |name: &[u8]| sets(name, edits.set) || names(name, edits.remove);
    let is_interim = (100..200).contains(&status);
    if let Some(date) = edits.date.filter(|_| !has_date && !is_interim && !is_edited(b"Date")) {
        put_named(out, b"Date", date);
    }
    if let Some(server) = edits.server.filter(|_| !is_interim && !is_edited(b"Server")) {
        put_named(out, b"Server", server);
    }
    if let Some(via) = edits.via {
        put_named(out, b"Via", via);
    }
    if status == 101 {
        if edits.upgrade {
            let protocols = head.upgrade.map_or(&b"websocket"[..], |span| span.of(buf));
            put_judged(out, b"Connection", b"Upgrade");
            put_judged(out, b"Upgrade", protocols);
        }
    } else if !is_interim {
        put_final(head, buf, edits, out);
    }
    out.extend_from_slice(b"\r\n");
}

/// Framing and persistence, as one decision.
fn put_final(head: &ResponseHead, buf: &[u8], edits: &ResponseEdits<'_>, out: &mut Vec<u8>) {
    let status = edits.status.unwrap_or(head.status);
    let is_http10 = edits.version == Version::Http10;
    let unframed = is_http10 && edits.body == BodyHeader::Chunked;
    if status != 204 && !unframed {
        put_framing(out, edits.body);
    }
    match head.upgrade.filter(|_| status == 426) {
        // RFC 9110 section 15.5.22: a 426 must say what to upgrade to, and section 7.8 wants the option with it.
        Some(protocols) => {
            put_judged(out, b"Upgrade", protocols.of(buf));
            let closes = edits.close || unframed;
            put_judged(out, b"Connection", if closes { b"Upgrade, close" } else { b"Upgrade" });
        }
        None => put_persistence(edits.close || unframed, edits.version, out),
    }
}

/// Says that the connection closes, or to an HTTP/1.0 client that it does not (RFC 9112 section 9.3).
pub(super) fn put_persistence(close: bool, version: Version, out: &mut Vec<u8>) {
    if close {
        put_judged(out, b"Connection", b"close");
    } else if version == Version::Http10 {
        put_judged(out, b"Connection", b"keep-alive");
    }
}

fn put_status_line(head: &ResponseHead, buf: &[u8], status: u16, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    put_number(out, u64::from(status));
    out.push(b' ');
    if status == head.status {
        out.extend_from_slice(head.reason.of(buf));
    } else {
        out.extend_from_slice(reason_phrase(status).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}
