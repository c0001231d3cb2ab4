//! The gateway's own answers: a refusal, a 404, a redirect, 100 (Continue).

use super::super::span::Version;
use super::response::put_persistence;
use super::{BodyHeader, NameValue, put_edits, put_framing, put_named, put_number};

/// The interim response that asks for the body (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A whole response of the gateway's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnResponse<'a> {
    pub status: u16,
    /// Left out when empty.
    pub content_type: &'a [u8],
    pub body: &'a [u8],
    /// The client's version.
    pub version: Version,
    pub keep_alive: bool,
    /// The body is announced and not sent (RFC 9110 section 9.3.2).
    pub is_head: bool,
    pub fields: &'a [NameValue<'a>],
    pub date: Option<&'a [u8]>,
    pub server: Option<&'a [u8]>,
}

/// Appends the response to `out`.
pub fn encode_own_response(response: &OwnResponse<'_>, out: &mut Vec<u8>) {
    let status = response.status;
    out.extend_from_slice(b"HTTP/1.1 ");
    put_number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason_phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    if let Some(date) = response.date {
        put_named(out, b"Date", date);
    }
    if let Some(server) = response.server {
        put_named(out, b"Server", server);
    }
    let has_body = status >= 200 && status != 204 && status != 304;
    if has_body && !response.content_type.is_empty() {
        put_named(out, b"Content-Type", response.content_type);
    }
    put_edits(out, response.fields, &[]);
    if has_body {
        put_framing(out, BodyHeader::Length(response.body.len() as u64));
    }
    put_persistence(!response.keep_alive, response.version, out);
    out.extend_from_slice(b"\r\n");
    if has_body && !response.is_head {
        out.extend_from_slice(response.body);
    }
}

/// The reason phrase of a registered status code, or nothing.
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        207 => "Multi-Status",
        208 => "Already Reported",
        226 => "IM Used",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        423 => "Locked",
        424 => "Failed Dependency",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        506 => "Variant Also Negotiates",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        511 => "Network Authentication Required",
        _ => "",
    }
}
