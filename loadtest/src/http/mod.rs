//! The load tester's own HTTP/1.1 code, written apart from the gateway's so that the two cannot share a mistake.
//!
//! It reads heads (`head`), chunked bodies (`chunked`) and whole responses (`response`) from bytes that may be cut
//! anywhere. It does no I/O. It refuses what RFC 9112 calls ambiguous instead of guessing, because a tester that
//! forgives hides faults of the gateway under test.

pub(crate) mod chunked;
pub(crate) mod head;
pub(crate) mod response;

/// The longest head (start line and fields) accepted from either side.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Why bytes are not the HTTP/1.1 message they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    StartLine,
    Field,
    HeadTooLong,
    ContentLength,
    AmbiguousFraming,
    TransferEncoding,
    Chunk,
    /// The peer closed before the message was complete.
    Truncated,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::StartLine => "malformed start line",
            Self::Field => "malformed header field",
            Self::HeadTooLong => "head too long",
            Self::ContentLength => "malformed Content-Length",
            Self::AmbiguousFraming => "both Content-Length and Transfer-Encoding, or two different lengths",
            Self::TransferEncoding => "a Transfer-Encoding other than chunked",
            Self::Chunk => "malformed chunk",
            Self::Truncated => "closed before the end of the message",
        })
    }
}
