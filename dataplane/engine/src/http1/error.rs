//! Why a message was refused: what to answer, and in which words.
//!
//! Every one of these ends the connection after the answer, because the end of the refused message is not known
//! or not to be trusted (RFC 9112 sections 2.2, 3 and 6.3).

use thiserror::Error;

/// A head that is not, or can no longer become, a valid one.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HeadError {
    #[error("invalid method")]
    Method,
    #[error("method too long")]
    MethodTooLong,
    #[error("invalid request line")]
    RequestLine,
    #[error("invalid request target")]
    Target,
    #[error("request target too long")]
    TargetTooLong,
    #[error("request target form does not fit the method")]
    TargetForm,
    #[error("invalid protocol version")]
    VersionMalformed,
    #[error("unsupported protocol version")]
    VersionUnsupported,
    #[error("invalid status line")]
    StatusLine,
    #[error("too many empty lines before the request line")]
    LeadingLines,
    #[error("carriage return without line feed")]
    BareCr,
    #[error("line feed without carriage return")]
    BareLf,
    #[error("white space before the first field")]
    LeadingWhitespace,
    #[error("obsolete line folding")]
    ObsFold,
    #[error("invalid field name")]
    FieldName,
    #[error("white space between field name and colon")]
    FieldColonWhitespace,
    #[error("invalid field value")]
    FieldValue,
    #[error("too many fields")]
    TooManyFields,
    #[error("head too large")]
    HeadTooLarge,
    #[error("missing Host")]
    HostMissing,
    #[error("more than one Host")]
    HostDuplicate,
    #[error("invalid Host")]
    HostInvalid,
    #[error("invalid Content-Length")]
    ContentLength,
    #[error("more than one Content-Length")]
    ContentLengthDuplicate,
    #[error("Content-Length with Transfer-Encoding")]
    ContentLengthWithTransferEncoding,
    #[error("invalid Transfer-Encoding")]
    TransferEncoding,
    #[error("unsupported transfer coding")]
    TransferCodingUnsupported,
    #[error("Transfer-Encoding in an HTTP/1.0 message")]
    TransferEncodingHttp10,
    #[error("too many connection options")]
    ConnectionOptions,
    #[error("unknown expectation")]
    Expectation,
}

impl HeadError {
    /// The status to answer a refused request with. For a refused response the gateway answers 502.
    pub fn status(&self) -> u16 {
        match self {
            HeadError::TargetTooLong => 414,
            HeadError::Expectation => 417,
            HeadError::TooManyFields | HeadError::HeadTooLarge => 431,
            HeadError::MethodTooLong | HeadError::TransferCodingUnsupported => 501,
            HeadError::VersionUnsupported => 505,
            _ => 400,
        }
    }
}

/// A body that is not, or can no longer become, what its head announced.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BodyError {
    #[error("invalid chunk size")]
    ChunkSize,
    #[error("chunk size too large")]
    ChunkSizeTooLarge,
    #[error("invalid chunk extension")]
    ChunkExtension,
    #[error("chunk extensions too large")]
    ChunkExtensionTooLarge,
    #[error("chunk line not ended by CRLF")]
    ChunkLineEnd,
    #[error("chunk data not ended by CRLF")]
    ChunkDataEnd,
    #[error("invalid trailer field")]
    Trailer,
    #[error("trailer section too large")]
    TrailerTooLarge,
    #[error("body too large")]
    TooLarge,
    #[error("connection ended inside the body")]
    Truncated,
    #[error("no room in front of the body")]
    Headroom,
}

impl BodyError {
    /// The status to answer a request with, when nothing has been answered yet.
    pub fn status(&self) -> u16 {
        match self {
            BodyError::TooLarge => 413,
            BodyError::TrailerTooLarge => 431,
            BodyError::Headroom => 500,
            _ => 400,
        }
    }
}
