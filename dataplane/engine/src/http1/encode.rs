//! Heads as the gateway writes them.
//!
//! Nothing of the received head is copied but names and values that the parser has judged; start line, line
//! ends, framing and connection fields are written anew. A value that a plugin computed may hold anything, so it is
//! written with CR, LF and NUL turned into spaces (RFC 9110 section 5.5), and a name that is no token is left out.

pub(crate) mod own;
pub(crate) mod request;
pub(crate) mod response;

use super::field::{Field, FieldKind};
use super::span::Span;
use super::token::{self, is_token};

/// A field's name and value.
pub type NameValue<'a> = (&'a [u8], &'a [u8]);

/// The one framing field of a head, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyHeader {
    #[default]
    None,
    Length(u64),
    Chunked,
}

/// Writes a field whose value was received and judged.
#[inline]
fn put_judged(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes a field that was computed.
fn put_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    if is_token(name) {
        put_named(out, name, value);
    }
}

/// The same, of a name that stands in this program and is a token. Inlined, so that it is written as a few words and not copied.
#[inline(always)]
fn put_named(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    debug_assert!(is_token(name), "no name of a field");
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    put_value(out, value);
    out.extend_from_slice(b"\r\n");
}

/// Writes a value that was computed, with every control but HTAB as a space.
#[inline]
fn put_value(out: &mut Vec<u8>, value: &[u8]) {
    // All that the gateway itself computes is of this kind.
    if token::is_plain_text(value) {
        out.extend_from_slice(value);
    } else {
        put_uncertain(out, token::trim(value));
    }
}

fn put_uncertain(out: &mut Vec<u8>, value: &[u8]) {
    if token::value_run(value) == value.len() {
        out.extend_from_slice(value);
    } else {
        out.extend(value.iter().map(|&byte| if token::is(byte, token::VALUE) { byte } else { b' ' }));
    }
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes the framing field.
fn put_framing(out: &mut Vec<u8>, body: BodyHeader) {
    match body {
        BodyHeader::None => {}
        BodyHeader::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            put_number(out, length);
            out.extend_from_slice(b"\r\n");
        }
        BodyHeader::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
}

fn names(name: &[u8], list: &[&[u8]]) -> bool {
    list.iter().any(|other| name.eq_ignore_ascii_case(other))
}

fn sets(name: &[u8], list: &[NameValue<'_>]) -> bool {
    list.iter().any(|(other, _)| name.eq_ignore_ascii_case(other))
}

fn nominates(name: &[u8], buf: &[u8], nominated: &[Span]) -> bool {
    nominated.iter().any(|other| name.eq_ignore_ascii_case(other.of(buf)))
}

/// Writes the fields that a plugin or the operator sets or adds, but none that frames the message or belongs to the connection.
fn put_edits(out: &mut Vec<u8>, set: &[NameValue<'_>], add: &[NameValue<'_>]) {
    for (name, value) in set.iter().chain(add) {
        if !is_reserved(FieldKind::of_name(name)) {
            put_field(out, name, value);
        }
    }
}

/// Fields that only the encoder writes.
fn is_reserved(kind: FieldKind) -> bool {
    matches!(
        kind,
        FieldKind::Host
            | FieldKind::ContentLength
            | FieldKind::TransferEncoding
            | FieldKind::Connection
            | FieldKind::KeepAlive
            | FieldKind::ProxyConnection
            | FieldKind::Upgrade
            | FieldKind::Te
            | FieldKind::Expect
    )
}

/// The edits that decide whether a received field is copied.
struct Copying<'a> {
    buf: &'a [u8],
    nominated: &'a [Span],
    set: &'a [NameValue<'a>],
    remove: &'a [&'a [u8]],
}

impl Copying<'_> {
    /// Copies a received field unless it is nominated, replaced or removed.
    #[inline]
    fn copy(&self, out: &mut Vec<u8>, field: &Field) {
        let name = field.name.of(self.buf);
        if nominates(name, self.buf, self.nominated) || sets(name, self.set) || names(name, self.remove) {
            return;
        }
        put_judged(out, name, field.value.of(self.buf));
    }
}
