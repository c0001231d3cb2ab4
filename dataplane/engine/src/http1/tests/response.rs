//! Response heads: RFC 9112 sections 4, 5, 6.3 and 9.3.

use super::*;
use HeadError::{
    BareCr, BareLf, ContentLength, ContentLengthDuplicate, ContentLengthWithTransferEncoding, FieldName,
    FieldValue, HeadTooLarge, LeadingWhitespace, ObsFold, StatusLine, TooManyFields,
    TransferCodingUnsupported, TransferEncoding, TransferEncodingHttp10, VersionMalformed,
    VersionUnsupported,
};

#[test]
fn valid_status_lines_are_taken_apart() {
    let rows: [(&str, &str, u16, &str, Version); 20] = [
        ("9112 4", "HTTP/1.1 200 OK", 200, "OK", Version::Http11),
        ("9112 4, empty reason", "HTTP/1.1 200 ", 200, "", Version::Http11),
        ("many servers, no SP", "HTTP/1.1 200", 200, "", Version::Http11),
        ("9112 4, words", "HTTP/1.1 404 Not Found", 404, "Not Found", Version::Http11),
        ("9112 4, SP first", "HTTP/1.1 200  OK", 200, " OK", Version::Http11),
        ("9112 4, HTAB", "HTTP/1.1 200 O\tK", 200, "O\tK", Version::Http11),
        ("9112 4, obs-text", "HTTP/1.1 200 \u{e9}", 200, "\u{e9}", Version::Http11),
        ("9112 4, colon", "HTTP/1.1 200 a: b", 200, "a: b", Version::Http11),
        ("9112 4, digits", "HTTP/1.1 200 0", 200, "0", Version::Http11),
        ("9110 15", "HTTP/1.1 100 Continue", 100, "Continue", Version::Http11),
        ("9110 15", "HTTP/1.1 103 Early Hints", 103, "Early Hints", Version::Http11),
        ("9110 15", "HTTP/1.1 299 x", 299, "x", Version::Http11),
        ("9110 15", "HTTP/1.1 418 x", 418, "x", Version::Http11),
        ("9110 15", "HTTP/1.1 599 x", 599, "x", Version::Http11),
        ("9110 15, passed on", "HTTP/1.1 600 x", 600, "x", Version::Http11),
        ("9110 15, passed on", "HTTP/1.1 999 x", 999, "x", Version::Http11),
        ("9112 2.3", "HTTP/1.0 200 OK", 200, "OK", Version::Http10),
        ("9110 2.5", "HTTP/1.2 200 OK", 200, "OK", Version::Http11),
        ("9110 2.5", "HTTP/1.9 200 OK", 200, "OK", Version::Http11),
        (
            "9110 15.5",
            "HTTP/1.1 431 Request Header Fields Too Large",
            431,
            "Request Header Fields Too Large",
            Version::Http11,
        ),
    ];
    for (source, line, status, reason, version) in rows {
        let bytes = format!("{line}\r\nContent-Length: 0\r\n\r\n").into_bytes();
        let head = response(&bytes, Method::Get).unwrap_or_else(|error| panic!("{source}: {line}: {error}"));
        assert_eq!((head.status, head.version), (status, version), "{source}: {line}");
        assert_eq!(shown(head.reason.of(&bytes)), shown(reason.as_bytes()), "{source}: {line}");
        assert_eq!(head.head_bytes, bytes.len(), "{source}: {line}");
    }
}

#[test]
fn invalid_status_lines_are_refused() {
    let rows: [(&str, &str, HeadError); 42] = [
        ("9112 4", "\r\n", VersionMalformed),
        ("9112 4, empty line first", "\r\nHTTP/1.1 200 OK\r\n", VersionMalformed),
        ("9112 4", " HTTP/1.1 200 OK\r\n", VersionMalformed),
        ("9112 4", "200 OK\r\n", VersionMalformed),
        ("9112 4", "HTTP 200 OK\r\n", VersionMalformed),
        ("9112 4", "HTTP/1.1\r\n", StatusLine),
        ("9112 4", "HTTP/1.1 \r\n", StatusLine),
        ("9112 4", "HTTP/1.1  200 OK\r\n", StatusLine),
        ("9112 4", "HTTP/1.1\t200 OK\r\n", StatusLine),
        ("9112 4", "HTTP/1.1 20 OK\r\n", StatusLine),
        ("9112 4", "HTTP/1.1 2 OK\r\n", StatusLine),
        ("9112 4", "HTTP/1.1 2000 OK\r\n", StatusLine),
        ("9112 4", "HTTP/1.1 0200 OK\r\n", StatusLine),
        ("9112 4", "HTTP/1.1 200OK\r\n", StatusLine),
        ("9112 4", "HTTP/1.1 200\tOK\r\n", StatusLine),
        ("9112 4", "HTTP/1.1 20x OK\r\n", StatusLine),
        ("9112 4", "HTTP/1.1 2x0 OK\r\n", StatusLine),
        ("9112 4", "HTTP/1.1 +20 OK\r\n", StatusLine),
        ("9112 4", "HTTP/1.1 -20 OK\r\n", StatusLine),
        ("9112 4", "HTTP/1.1 2 0 OK\r\n", StatusLine),
        ("9112 4", "HTTP/1.1 200.5 OK\r\n", StatusLine),
        ("9112 4", "HTTP/1.1 OK 200\r\n", StatusLine),
        ("9110 15", "HTTP/1.1 000 OK\r\n", StatusLine),
        ("9110 15", "HTTP/1.1 099 OK\r\n", StatusLine),
        ("9112 4", "HTTP/1.1 200 O\0K\r\n", StatusLine),
        ("9112 4", "HTTP/1.1 200 O\x7fK\r\n", StatusLine),
        ("9112 4", "HTTP/1.1 200 O\x1bK\r\n", StatusLine),
        ("9112 2.2", "HTTP/1.1 200 OK\n", BareLf),
        ("9112 2.2", "HTTP/1.1 200\n", BareLf),
        ("9112 2.2", "HTTP/1.1 200 OK\rA: b\r\n", BareCr),
        ("9112 2.2", "HTTP/1.1 200 OK\r\r\n", BareCr),
        ("9112 2.3", "http/1.1 200 OK\r\n", VersionMalformed),
        ("9112 2.3", "HTTP/1 200 OK\r\n", VersionMalformed),
        ("9112 2.3", "HTTP/1.10 200 OK\r\n", StatusLine),
        ("9112 2.3", "HTTP/11.1 200 OK\r\n", VersionMalformed),
        ("9112 2.3", "HTTP/0.9 200 OK\r\n", VersionUnsupported),
        ("9112 2.3", "HTTP/2.0 200 OK\r\n", VersionUnsupported),
        ("9112 2.3", "HTTP/2 200 OK\r\n", VersionMalformed),
        ("9112 2.3", "HTTP/3.0 200\r\n", VersionUnsupported),
        ("SHOUTcast", "ICY 200 OK\r\n", VersionMalformed),
        ("not HTTP", "SSH-2.0-OpenSSH_9.2\r\n", VersionMalformed),
        ("not HTTP", "\0\0\x12\x04\0\0\0\0\0\r\n", VersionMalformed),
    ];
    for (source, line, error) in rows {
        let bytes = format!("{line}Content-Length: 0\r\n\r\n").into_bytes();
        assert_eq!(response(&bytes, Method::Get).map(|_| ()), Err(error), "{source}: {}", shown(&bytes));
    }
}

#[test]
fn the_body_ends_where_section_6_3_says() {
    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
    const FIVE: &str = "Content-Length: 5\r\n";
    use BodyFraming::{Chunked, Length, None as Empty, UntilClose};
    // Rule of RFC 9112 section 6.3, status, method, fields, framing, whether the connection persists.
    let rows: [(&str, u16, Method, &str, BodyFraming, bool); 40] = [
        ("1, HEAD", 200, Method::Head, FIVE, Empty, true),
        ("1, HEAD", 200, Method::Head, CHUNKED, Empty, true),
        ("1, HEAD", 200, Method::Head, "", Empty, true),
        ("1, HEAD", 404, Method::Head, FIVE, Empty, true),
        ("1, 304", 304, Method::Get, FIVE, Empty, true),
        ("1, 304", 304, Method::Get, CHUNKED, Empty, true),
        ("1, 304", 304, Method::Get, "", Empty, true),
        ("1, 204", 204, Method::Get, "", Empty, true),
        ("1, 204", 204, Method::Get, "Content-Length: 0\r\n", Empty, true),
        ("1, 204 with a body", 204, Method::Get, FIVE, Empty, false),
        ("1, 204 with a body", 204, Method::Get, CHUNKED, Empty, false),
        ("1, 204 to HEAD", 204, Method::Head, "", Empty, true),
        ("1, 100", 100, Method::Post, "", Empty, true),
        ("1, 102", 102, Method::Post, "", Empty, true),
        ("1, 103", 103, Method::Get, "Link: </a>\r\n", Empty, true),
        ("1, 199", 199, Method::Get, "", Empty, true),
        ("1, 100 with a body", 100, Method::Post, FIVE, Empty, false),
        ("1, 100 with a body", 100, Method::Post, CHUNKED, Empty, false),
        ("1, 101", 101, Method::Get, "Connection: Upgrade\r\nUpgrade: websocket\r\n", Empty, true),
        ("2, CONNECT", 200, Method::Connect, "", Empty, true),
        ("2, CONNECT", 299, Method::Connect, "", Empty, true),
        ("2, CONNECT refused", 403, Method::Connect, FIVE, Length(5), true),
        ("4", 200, Method::Get, CHUNKED, Chunked, true),
        ("4", 200, Method::Get, "transfer-encoding:CHUNKED\r\n", Chunked, true),
        ("4", 500, Method::Get, CHUNKED, Chunked, true),
        ("4, white space (5.1)", 200, Method::Get, "Transfer-Encoding : chunked\r\n", Chunked, true),
        ("6", 200, Method::Get, FIVE, Length(5), true),
        ("6", 200, Method::Get, "Content-Length: 0\r\n", Length(0), true),
        ("6", 200, Method::Get, "Content-Length: 0005\r\n", Length(5), true),
        ("6, white space (5.1)", 200, Method::Get, "Content-Length : 5\r\n", Length(5), true),
        ("6, white space (5.1)", 200, Method::Get, "Content-Length\t \t: 5\r\n", Length(5), true),
        ("6", 205, Method::Post, "Content-Length: 0\r\n", Length(0), true),
        ("8", 200, Method::Get, "", UntilClose, false),
        ("8", 200, Method::Post, "Connection: keep-alive\r\n", UntilClose, false),
        ("8", 205, Method::Post, "", UntilClose, false),
        ("8", 404, Method::Get, "", UntilClose, false),
        ("9.3", 200, Method::Get, "Connection: close\r\nContent-Length: 5\r\n", Length(5), false),
        ("9.3", 200, Method::Get, "Connection: x, Close\r\nContent-Length: 5\r\n", Length(5), false),
        ("9.3", 304, Method::Get, "Connection: close\r\n", Empty, false),
        ("9.3", 200, Method::Get, "Connection: keep-alive\r\nContent-Length: 5\r\n", Length(5), true),
    ];
    for (rule, status, method, fields, framing, persists) in rows {
        let bytes = format!("HTTP/1.1 {status} x\r\n{fields}\r\n").into_bytes();
        let head =
            response(&bytes, method).unwrap_or_else(|error| panic!("{rule}: {}: {error}", shown(&bytes)));
        assert_eq!((head.body, head.keep_alive), (framing, persists), "{rule}: {method:?} {}", shown(&bytes));
        let tunnel = status == 101 || (method == Method::Connect && status < 300);
        assert_eq!(head.is_tunnel, tunnel, "{rule}");
        assert_eq!(head.is_interim(), status < 200 && status != 101, "{rule}");
    }
    for (fields, persists) in
        [("", false), ("Connection: keep-alive\r\n", true), ("Connection: close\r\n", false)]
    {
        let bytes = format!("HTTP/1.0 200 x\r\nContent-Length: 5\r\n{fields}\r\n").into_bytes();
        let head = response(&bytes, Method::Get).expect("valid");
        assert_eq!((head.body, head.keep_alive), (Length(5), persists), "9112 9.3, 1.0: {fields}");
    }
}

#[test]
fn ambiguous_or_malformed_fields_are_refused() {
    let rows: [(&str, &str, HeadError); 31] = [
        (
            "9112 6.3, 3",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            ContentLengthWithTransferEncoding,
        ),
        (
            "9112 6.3, 3",
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            ContentLengthWithTransferEncoding,
        ),
        ("9112 6.3, 5", "Content-Length: 5\r\nContent-Length: 6\r\n", ContentLengthDuplicate),
        ("9110 8.6", "Content-Length: 5\r\nContent-Length: 5\r\n", ContentLengthDuplicate),
        ("9110 8.6", "Content-Length : 5\r\nContent-Length: 5\r\n", ContentLengthDuplicate),
        ("9110 8.6", "Content-Length: 5, 5\r\n", ContentLength),
        ("9110 8.6", "Content-Length: -5\r\n", ContentLength),
        ("9110 8.6", "Content-Length: +5\r\n", ContentLength),
        ("9110 8.6", "Content-Length: 0x5\r\n", ContentLength),
        ("9110 8.6", "Content-Length:\r\n", ContentLength),
        ("9110 8.6", "Content-Length: 9223372036854775808\r\n", ContentLength),
        ("9112 6.1", "Transfer-Encoding: gzip\r\n", TransferEncoding),
        ("9112 6.1", "Transfer-Encoding: identity\r\n", TransferEncoding),
        ("9112 6.1", "Transfer-Encoding: chunked, gzip\r\n", TransferEncoding),
        ("9112 6.1", "Transfer-Encoding: chunked, chunked\r\n", TransferEncoding),
        ("9112 6.1", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", TransferEncoding),
        ("9112 6.1", "Transfer-Encoding: gzip, chunked\r\n", TransferCodingUnsupported),
        ("9112 6.1", "Transfer-Encoding:\r\n", TransferEncoding),
        ("9112 5.2", "A: b\r\n c\r\n", ObsFold),
        ("9112 5.2", "Content-Length:\r\n 5\r\n", ObsFold),
        ("9112 2.2", " A: b\r\n", LeadingWhitespace),
        ("9112 2.2", "A: b\n", BareLf),
        ("9112 2.2", "A: b\rC: d\r\n", BareCr),
        ("9112 2.2", "A: b\r\r\n", BareCr),
        ("9110 5.5", "A: b\0\r\n", FieldValue),
        ("9110 5.5", "A: b\x01\r\n", FieldValue),
        ("9110 5.1", "A\r\n", FieldName),
        ("9110 5.1", ": b\r\n", FieldName),
        ("9110 5.1", " : b\r\n", LeadingWhitespace),
        ("9110 5.1", "A B: c\r\n", FieldName),
        ("9110 5.6.2", "A\x0b: c\r\n", FieldName),
    ];
    for (source, fields, error) in rows {
        for method in [Method::Get, Method::Head] {
            let bytes = format!("HTTP/1.1 200 OK\r\n{fields}\r\n").into_bytes();
            assert_eq!(response(&bytes, method).map(|_| ()), Err(error), "{source}: {}", shown(&bytes));
        }
    }
    let bytes = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(response(bytes, Method::Get).map(|_| ()), Err(TransferEncodingHttp10), "9112 6.1");
}

#[test]
fn fields_of_requests_mean_nothing_in_a_response() {
    let bytes = b"HTTP/1.1 200 OK\r\nHost: a b\r\nHost: c\r\nExpect: x\r\nContent-Length: 0\r\n\r\n";
    assert!(response(bytes, Method::Get).is_ok());
}

#[test]
fn a_head_that_never_ends_is_refused_at_its_limit() {
    let limits = HeadLimits { head_bytes_max: 100, fields_max: 3, ..HeadLimits::default() };
    let mut head = ResponseHead::new();
    let mut bytes = b"HTTP/1.1 200 OK\r\nA: ".to_vec();
    let refused = loop {
        match head.parse(&bytes, &limits, Method::Get) {
            Ok(Parse::Partial) => bytes.push(b'b'),
            Ok(Parse::Done(())) => panic!("no line end was sent"),
            Err(error) => break error,
        }
    };
    assert_eq!((refused, bytes.len()), (HeadTooLarge, 100));
    let bytes = b"HTTP/1.1 200 OK\r\nA: b\r\nA: b\r\nA: b\r\nA: b\r\n\r\n";
    assert_eq!(ResponseHead::new().parse(bytes, &limits, Method::Get), Err(TooManyFields));
}
