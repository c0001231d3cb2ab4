//! Spans, versions and the answer of an incremental parse.
//!
//! A parsed head owns no bytes: it holds spans into the buffer that was parsed, which stay right when the buffer
//! is moved as long as its beginning stays the message's beginning. Reading a span never panics: a span that
//! does not fit the buffer reads as empty.

/// Offsets into the buffer that was parsed: `start..end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: u32,
    pub end: u32,
}

impl Span {
    pub const EMPTY: Span = Span { start: 0, end: 0 };

    /// A span of these offsets. Heads are limited to far less than 4 GiB, so saturating loses nothing.
    #[inline]
    pub(crate) fn new(start: usize, end: usize) -> Span {
        Span { start: u32::try_from(start).unwrap_or(u32::MAX), end: u32::try_from(end).unwrap_or(u32::MAX) }
    }

    /// The bytes, or nothing when the span does not fit `buf`.
    #[inline]
    pub fn of<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        buf.get(self.start as usize..self.end as usize).unwrap_or(&[])
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.end <= self.start
    }
}

/// The protocol version a message is processed as. A minor version above 1 is processed as 1.1 (RFC 9110
/// section 2.5); any other major version is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    Http10,
    #[default]
    Http11,
}

/// What an incremental parse came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse<T> {
    /// Everything so far may become valid; call again with the same bytes and more behind them.
    Partial,
    Done(T),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_outside_the_buffer_reads_as_empty() {
        assert_eq!(Span { start: 1, end: 3 }.of(b"abcd"), b"bc");
        assert_eq!(Span { start: 1, end: 9 }.of(b"abcd"), b"");
        assert_eq!(Span { start: 3, end: 1 }.of(b"abcd"), b"");
        assert_eq!(Span { start: 3, end: 1 }.len(), 0);
    }
}
