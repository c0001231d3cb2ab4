//! The trailer section of a chunked body (RFC 9112 section 7.1.2): collected, bounded, validated, filtered.
//!
//! Fields that say how to frame, route, authenticate or read a message take effect in a head only and are dropped
//! here (RFC 9110 section 6.5.1), so that no next hop merges them into a head that this one has already judged.

use super::error::BodyError;
use super::field::FieldKind;
use super::line::{FieldLine, field_line};

/// Trailer fields that may be forwarded, each as a whole line.
#[derive(Debug, Default)]
pub(crate) struct Trailers {
    line: Vec<u8>,
    allowed: Vec<u8>,
    bytes: usize,
    fields: usize,
}

impl Trailers {
    pub(crate) fn clear(&mut self) {
        self.line.clear();
        self.allowed.clear();
        self.bytes = 0;
        self.fields = 0;
    }

    /// The lines to forward, each ended by CRLF.
    pub(crate) fn allowed(&self) -> &[u8] {
        &self.allowed
    }

    /// Takes bytes of the section, which may be cut anywhere. Gives back how many were taken and whether the
    /// section has ended with them.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        bytes_max: usize,
        fields_max: usize,
    ) -> Result<(usize, bool), BodyError> {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            let line_length = memchr::memchr(b'\n', rest).map(|at| at + 1);
            let piece = rest.get(..line_length.unwrap_or(rest.len())).unwrap_or(&[]);
            self.bytes = self.bytes.saturating_add(piece.len());
            if self.bytes > bytes_max {
                return Err(BodyError::TrailerTooLarge);
            }
            self.line.extend_from_slice(piece);
            taken += piece.len();
            if line_length.is_none() {
                self.check_unfinished()?;
                break;
            }
            if self.line == b"\r\n" {
                self.line.clear();
                return Ok((taken, true));
            }
            self.fields += 1;
            if self.fields > fields_max {
                return Err(BodyError::TrailerTooLarge);
            }
            self.take_line()?;
        }
        Ok((taken, false))
    }

    /// Refuses early what cannot become a trailer line.
    fn check_unfinished(&self) -> Result<(), BodyError> {
        match self.line.as_slice() {
            [b'\r'] | [] => Ok(()),
            [b'\r' | b' ' | b'\t' | b':' | 0, ..] => Err(BodyError::Trailer),
            _ => Ok(()),
        }
    }

    fn take_line(&mut self) -> Result<(), BodyError> {
        let Ok(FieldLine::Field { field, next }) = field_line(&self.line, 0, false) else {
            return Err(BodyError::Trailer);
        };
        if next != self.line.len() {
            return Err(BodyError::Trailer);
        }
        let name = field.name.of(&self.line);
        if is_allowed(name, field.kind) {
            self.allowed.extend_from_slice(name);
            self.allowed.extend_from_slice(b": ");
            self.allowed.extend_from_slice(field.value.of(&self.line));
            self.allowed.extend_from_slice(b"\r\n");
        }
        self.line.clear();
        Ok(())
    }
}

/// Whether a field may stand in a trailer section: only one that this gateway gives no meaning of its own.
fn is_allowed(name: &[u8], kind: FieldKind) -> bool {
    const FORBIDDEN: [&[u8]; 19] = [
        b"accept-ranges",
        b"age",
        b"allow",
        b"alt-svc",
        b"clear-site-data",
        b"expires",
        b"if-match",
        b"if-modified-since",
        b"if-none-match",
        b"if-range",
        b"if-unmodified-since",
        b"max-forwards",
        b"pragma",
        b"range",
        b"retry-after",
        b"strict-transport-security",
        b"vary",
        b"warning",
        b"www-authenticate",
    ];
    // An application may take `_` for `-`.
    let is_same =
        |(given, own): (&u8, &u8)| given.eq_ignore_ascii_case(own) || (*given == b'_' && *own == b'-');
    let starts_with =
        |prefix: &[u8]| name.get(..prefix.len()).is_some_and(|start| start.iter().zip(prefix).all(is_same));
    kind == FieldKind::Other
        && (!starts_with(b"content-") || name.eq_ignore_ascii_case(b"content-digest"))
        && !starts_with(b"proxy-")
        && !starts_with(b"x-forwarded")
        // By these nodes hear who calls.
        && !starts_with(b"x-consumer-")
        && !starts_with(b"x-credential-")
        && !starts_with(b"access-control-")
        && !starts_with(b"sec-")
        && !FORBIDDEN.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden))
}
