//! Field lines, Host, and the fields that say something about the connection.

use super::*;

fn with_fields(fields: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n").into_bytes()
}

#[test]
fn valid_field_lines_are_taken_apart() {
    // Source, lines, name and value of the last of them.
    let rows: [(&str, &str, &str, &str); 21] = [
        ("9112 5", "A: b\r\n", "A", "b"),
        ("9112 5, no white space", "A:b\r\n", "A", "b"),
        ("9112 5.1, OWS", "A:   b   \r\n", "A", "b"),
        ("9112 5.1, OWS", "A:\tb\t\r\n", "A", "b"),
        ("9112 5.1, OWS", "A: \t b \t \r\n", "A", "b"),
        ("9112 5, empty", "A:\r\n", "A", ""),
        ("9112 5, empty", "A:    \r\n", "A", ""),
        ("9112 5, empty", "A:\t\r\n", "A", ""),
        ("9110 5.5, SP and HTAB inside", "A: b \t c\r\n", "A", "b \t c"),
        ("9110 5.5, obs-text", "A: caf\u{e9}\r\n", "A", "caf\u{e9}"),
        ("9110 5.5, colons", "A: b:c:d\r\n", "A", "b:c:d"),
        ("9110 5.5, colon first", "A::b\r\n", "A", ":b"),
        (
            "9110 5.5, VCHAR",
            "A: !\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~\r\n",
            "A",
            "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
        ),
        ("9110 5.6.2", "!#$%&'*+-.^_`|~09azAZ: b\r\n", "!#$%&'*+-.^_`|~09azAZ", "b"),
        ("9110 5.1, digits", "1: b\r\n", "1", "b"),
        ("9110 5.1, underscore", "user_id: 7\r\n", "user_id", "7"),
        ("9110 5.3, repeated", "A: b\r\nA: c\r\n", "A", "c"),
        ("6265", "Cookie: a=b; c=\"d\"\r\n", "Cookie", "a=b; c=\"d\""),
        (
            "9110 5.5, long",
            "A: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n",
            "A",
            "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
        ),
        ("imitation has no effect", "Content_Length: x\r\n", "Content_Length", "x"),
        ("imitation has no effect", "Transfer_Encoding: x\r\n", "Transfer_Encoding", "x"),
    ];
    for (source, lines, name, value) in rows {
        let bytes = with_fields(lines);
        let head = request_any_cut(&bytes).unwrap_or_else(|error| panic!("{source}: {lines}: {error}"));
        let last = head.fields.last().expect("Host at least");
        assert_eq!(shown(last.name.of(&bytes)), shown(name.as_bytes()), "{source}");
        assert_eq!(shown(last.value.of(&bytes)), shown(value.as_bytes()), "{source}");
        assert_eq!(head.body, BodyFraming::None, "{source}");
    }
}

#[test]
fn invalid_field_lines_are_refused() {
    use HeadError::*;
    let rows: [(&str, &str, HeadError); 44] = [
        ("9112 5.1, SP before colon", "A : b\r\n", FieldColonWhitespace),
        ("9112 5.1, HTAB before colon", "A\t: b\r\n", FieldColonWhitespace),
        ("9112 5.1, framing", "Transfer-Encoding : chunked\r\n", FieldColonWhitespace),
        ("9112 5.1, framing", "Content-Length : 5\r\n", FieldColonWhitespace),
        ("9112 5.1, framing", "Transfer-Encoding\t:chunked\r\n", FieldColonWhitespace),
        ("9112 5.2, folding", "A: b\r\n c\r\n", ObsFold),
        ("9112 5.2, folding", "A: b\r\n\tc\r\n", ObsFold),
        ("9112 5.2, folding", "Transfer-Encoding:\r\n chunked\r\n", ObsFold),
        ("9112 5.2, folding", "Transfer-Encoding: chunked\r\n , identity\r\n", ObsFold),
        ("9112 5.2, white line", "A: b\r\n \r\n", ObsFold),
        ("9112 5, no colon", "A\r\n", FieldName),
        ("9112 5, no colon", "A b\r\n", FieldColonWhitespace),
        ("9112 5, request line again", "GET / HTTP/1.1\r\n", FieldColonWhitespace),
        ("9110 5.1, no name", ": b\r\n", FieldName),
        ("9110 5.1, no name", ":\r\n", FieldName),
        ("9110 5.6.2, NUL", "A\0: b\r\n", FieldName),
        ("9110 5.6.2, DEL", "A\x7f: b\r\n", FieldName),
        ("9110 5.6.2, vertical tab", "A\x0b: b\r\n", FieldName),
        ("9110 5.6.2, vertical tab", "\x0bA: b\r\n", FieldName),
        ("9110 5.6.2, separator", "A(b): c\r\n", FieldName),
        ("9110 5.6.2, separator", "A[b]: c\r\n", FieldName),
        ("9110 5.6.2, separator", "A{b}: c\r\n", FieldName),
        ("9110 5.6.2, separator", "A@b: c\r\n", FieldName),
        ("9110 5.6.2, separator", "A,b: c\r\n", FieldName),
        ("9110 5.6.2, separator", "A;b: c\r\n", FieldName),
        ("9110 5.6.2, separator", "A/b: c\r\n", FieldName),
        ("9110 5.6.2, separator", "\"A\": c\r\n", FieldName),
        ("9110 5.6.2, separator", "A\\b: c\r\n", FieldName),
        ("9110 5.6.2, non-ASCII", "\u{c4}: c\r\n", FieldName),
        ("9110 5.6.2, soft hyphen", "Content\u{ad}Length: 5\r\n", FieldName),
        ("9112 2.2, bare LF", "A: b\n", BareLf),
        ("9112 2.2, bare LF", "A: b\nC: d\r\n", BareLf),
        ("9112 2.2, bare LF line", "A: b\r\n\n", BareLf),
        ("9112 2.2, bare LF in name", "A\n: b\r\n", FieldName),
        ("9112 2.2, bare CR", "A: b\rC: d\r\n", BareCr),
        ("9112 2.2, CR CR LF", "A: b\r\r\n", BareCr),
        ("9112 2.2, CR first", "A: \rb\r\n", BareCr),
        ("9112 2.2, CR in name", "A\rB: c\r\n", FieldName),
        ("9112 2.2, CR before LF", "\rA: b\r\n", BareCr),
        ("9110 5.5, NUL", "A: b\0c\r\n", FieldValue),
        ("9110 5.5, NUL last", "A: b\0\r\n", FieldValue),
        ("9110 5.5, DEL", "A: b\x7f\r\n", FieldValue),
        ("9110 5.5, control", "A: \x01\r\n", FieldValue),
        ("9110 5.5, escape", "A: \x1b[31m\r\n", FieldValue),
    ];
    for (source, lines, error) in rows {
        let bytes = with_fields(lines);
        assert_eq!(request_any_cut(&bytes).map(|_| ()), Err(error), "{source}: {}", shown(&bytes));
    }
    for first in [" ", "\t", " A: b\r\n", "\tA: b\r\n"] {
        let bytes = format!("GET / HTTP/1.1\r\n{first}Host: h\r\n\r\n").into_bytes();
        assert_eq!(request_any_cut(&bytes).map(|_| ()), Err(LeadingWhitespace), "9112 2.2: {first:?}");
    }
}

#[test]
fn every_control_is_refused_in_names_and_values_and_every_other_byte_kept_in_values() {
    for byte in 0..=255_u8 {
        let bytes = [b"GET / HTTP/1.1\r\nHost: h\r\nA: x", &[byte][..], b"y\r\n\r\n"].concat();
        let allowed = byte == b'\t' || (byte >= 0x20 && byte != 0x7f);
        assert_eq!(request_any_cut(&bytes).is_ok(), allowed, "value byte {byte:#x}");
        let bytes = [b"GET / HTTP/1.1\r\nHost: h\r\nA", &[byte][..], b"B: y\r\n\r\n"].concat();
        let allowed = byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:".contains(&byte);
        assert_eq!(request_any_cut(&bytes).is_ok(), allowed, "name byte {byte:#x}");
    }
}

#[test]
fn host_is_needed_once_and_valid() {
    use HeadError::{HostDuplicate, HostInvalid, HostMissing};
    // Source, request line and fields, the authority or the error.
    let rows: [(&str, &str, Result<&str, HeadError>); 33] = [
        ("9112 3.2", "GET / HTTP/1.1\r\nHost: a\r\n", Ok("a")),
        ("9112 3.2", "GET / HTTP/1.1\r\nhost: a:80\r\n", Ok("a:80")),
        ("9112 3.2", "GET / HTTP/1.1\r\nHOST:a\r\n", Ok("a")),
        ("9112 3.2", "GET / HTTP/1.1\r\nHost: \ta\t \r\n", Ok("a")),
        ("9112 3.2", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n", Ok("[::1]:80")),
        ("9110 7.2, anywhere", "GET / HTTP/1.1\r\nA: b\r\nHost: a\r\n", Ok("a")),
        ("9112 3.2.2, target wins", "GET http://t/ HTTP/1.1\r\nHost: a\r\n", Ok("t")),
        ("9112 3.2.2, target wins", "GET http://t:8/ HTTP/1.1\r\nHost: t\r\n", Ok("t:8")),
        ("9112 3.2.2, 1.0", "GET http://t/ HTTP/1.0\r\n", Ok("t")),
        ("9112 3.2.3", "CONNECT t:1 HTTP/1.1\r\nHost: a\r\n", Ok("t:1")),
        ("9112 3.2, none", "GET / HTTP/1.1\r\n", Err(HostMissing)),
        ("9112 3.2, none", "GET / HTTP/1.1\r\nHosts: a\r\n", Err(HostMissing)),
        ("9112 3.2, none", "GET / HTTP/1.1\r\nX-Host: a\r\n", Err(HostMissing)),
        ("9112 3.2, none", "GET http://t/ HTTP/1.1\r\n", Err(HostMissing)),
        ("9112 3.2, none", "OPTIONS * HTTP/1.1\r\n", Err(HostMissing)),
        ("9112 3.2, none in 1.2", "GET / HTTP/1.2\r\n", Err(HostMissing)),
        ("9112 3.2, two", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n", Err(HostDuplicate)),
        ("9112 3.2, two equal", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n", Err(HostDuplicate)),
        ("9112 3.2, two apart", "GET / HTTP/1.1\r\nHost: a\r\nB: c\r\nhost: a\r\n", Err(HostDuplicate)),
        ("9112 3.2, two, one empty", "GET / HTTP/1.1\r\nHost:\r\nHost: a\r\n", Err(HostDuplicate)),
        ("9112 3.2, two in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n", Err(HostDuplicate)),
        ("9110 4.2.1, empty", "GET / HTTP/1.1\r\nHost:\r\n", Err(HostInvalid)),
        ("9110 4.2.1, empty", "GET / HTTP/1.1\r\nHost:  \r\n", Err(HostInvalid)),
        ("9110 7.2, list", "GET / HTTP/1.1\r\nHost: a, b\r\n", Err(HostInvalid)),
        ("9110 7.2, list", "GET / HTTP/1.1\r\nHost: a,b\r\n", Err(HostInvalid)),
        ("9110 7.2, two words", "GET / HTTP/1.1\r\nHost: a b\r\n", Err(HostInvalid)),
        ("9110 7.2, userinfo", "GET / HTTP/1.1\r\nHost: u@a\r\n", Err(HostInvalid)),
        ("9110 7.2, path", "GET / HTTP/1.1\r\nHost: a/b\r\n", Err(HostInvalid)),
        ("9110 7.2, scheme", "GET / HTTP/1.1\r\nHost: http://a\r\n", Err(HostInvalid)),
        ("9110 7.2, query", "GET / HTTP/1.1\r\nHost: a?b\r\n", Err(HostInvalid)),
        ("9110 7.2, port", "GET / HTTP/1.1\r\nHost: a:b\r\n", Err(HostInvalid)),
        ("9112 3.2.2, still judged", "GET http://t/ HTTP/1.1\r\nHost: a b\r\n", Err(HostInvalid)),
        ("9112 5.1, space", "GET / HTTP/1.1\r\nHost : a\r\n", Err(HeadError::FieldColonWhitespace)),
    ];
    for (source, start, expected) in rows {
        let bytes = format!("{start}\r\n").into_bytes();
        let found = request_any_cut(&bytes);
        let found = found.map(|head| shown(head.host.map_or(&[][..], |host| host.whole.of(&bytes))));
        assert_eq!(found, expected.map(str::to_owned), "{source}: {}", shown(&bytes));
    }
    let bytes = b"GET / HTTP/1.0\r\n\r\n";
    assert_eq!(request_any_cut(bytes).map(|head| head.host), Ok(None), "9112 3.2: 1.0 needs none");
}

#[test]
fn persistence_follows_version_and_connection_options() {
    // RFC 9112 section 9.3. Version, fields, whether the connection persists.
    let rows: [(&str, &str, bool); 18] = [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: CLOSE\r\n", false),
        ("1.1", "Connection: keep-alive\r\n", true),
        ("1.1", "Connection: keep-alive, close\r\n", false),
        ("1.1", "Connection: close, keep-alive\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.1", "Connection: a,,close ,\r\n", false),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Connection:\r\n", true),
        ("1.1", "Proxy-Connection: close\r\n", true),
        ("1.2", "", true),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.0", "Proxy-Connection: keep-alive\r\n", false),
        ("1.0", "Keep-Alive: timeout=5\r\n", false),
    ];
    for (version, fields, persists) in rows {
        let bytes = format!("GET / HTTP/{version}\r\nHost: h\r\n{fields}\r\n").into_bytes();
        let head = request_any_cut(&bytes).expect("valid");
        assert_eq!(head.keep_alive, persists, "{}", shown(&bytes));
    }
    let many: String = (0..40).map(|number| format!("x{number},")).collect();
    let bytes = with_fields(&format!("Connection: {many}\r\n"));
    assert_eq!(request_any_cut(&bytes).map(|_| ()), Err(HeadError::ConnectionOptions));
}

#[test]
fn expectations_are_understood_or_refused() {
    // RFC 9110 section 10.1.1. Version, fields, whether the client waits.
    let body = "Content-Length: 5\r\n";
    let rows: [(&str, &str, Result<bool, HeadError>); 12] = [
        ("1.1", "Expect: 100-continue\r\n", Ok(true)),
        ("1.1", "Expect: 100-Continue\r\n", Ok(true)),
        ("1.1", "Expect:  100-continue \r\n", Ok(true)),
        ("1.1", "Expect:\r\n", Ok(false)),
        ("1.0", "Expect: 100-continue\r\n", Ok(false)),
        ("1.1", "Expect: 100-continue, 100-continue\r\n", Ok(true)),
        ("1.1", "Expect: 200-ok\r\n", Err(HeadError::Expectation)),
        ("1.1", "Expect: y 100-continue\r\n", Err(HeadError::Expectation)),
        ("1.1", "Expect: 100-continue, y\r\n", Err(HeadError::Expectation)),
        ("1.1", "Expect: 100-continue;a=b\r\n", Err(HeadError::Expectation)),
        ("1.1", "Expect: 100-continue\r\nExpect: x\r\n", Err(HeadError::Expectation)),
        ("1.1", "Expect: \"100-continue\"\r\n", Err(HeadError::Expectation)),
    ];
    for (version, fields, waits) in rows {
        let bytes = format!("POST / HTTP/{version}\r\nHost: h\r\n{body}{fields}\r\n").into_bytes();
        assert_eq!(request_any_cut(&bytes).map(|head| head.expect_continue), waits, "{}", shown(&bytes));
    }
    assert_eq!(HeadError::Expectation.status(), 417);
    for fields in ["Expect: 100-continue\r\n", "Content-Length: 0\r\nExpect: 100-continue\r\n"] {
        let head = request_any_cut(&with_fields(fields)).expect("valid");
        assert!(!head.expect_continue, "nothing follows to wait for: {fields}");
    }
}

#[test]
fn upgrade_needs_its_connection_option_and_one_known_protocol() {
    // RFC 9110 section 7.8. Version, fields, whether websocket is offered, whether anything is.
    let rows: [(&str, &str, bool, bool); 11] = [
        ("1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\n", true, true),
        ("1.1", "Connection: keep-alive, upgrade\r\nUpgrade: WebSocket\r\n", true, true),
        ("1.1", "Upgrade: websocket\r\n", false, false),
        ("1.1", "Connection: Upgrade\r\n", false, false),
        ("1.0", "Connection: Upgrade\r\nUpgrade: websocket\r\n", false, false),
        ("1.1", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n", false, true),
        ("1.1", "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n", false, true),
        ("1.1", "Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n", false, true),
        ("1.1", "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n", false, true),
        ("1.1", "Connection: Upgrade\r\nUpgrade: websocket/13\r\n", false, true),
        ("1.1", "Connection: Upgrade\r\nUpgrade:\r\n", false, true),
    ];
    for (version, fields, websocket, any) in rows {
        let bytes = format!("GET / HTTP/{version}\r\nHost: h\r\n{fields}\r\n").into_bytes();
        let head = request_any_cut(&bytes).expect("valid");
        assert_eq!(head.upgrade.is_some_and(|upgrade| upgrade.is_websocket), websocket, "{}", shown(&bytes));
        assert_eq!(head.upgrade.is_some(), any, "{}", shown(&bytes));
    }
}

#[test]
fn the_number_and_the_size_of_fields_are_limited() {
    let limits = HeadLimits::default();
    let lines = |count: usize| "A: b\r\n".repeat(count);
    let bytes = with_fields(&lines(limits.fields_max - 1));
    assert_eq!(request(&bytes).map(|_| ()), Ok(()));
    let bytes = with_fields(&lines(limits.fields_max));
    assert_eq!(request(&bytes).map(|_| ()), Err(HeadError::TooManyFields));
    let mut bytes = with_fields(&format!("A: {}", "b".repeat(limits.head_bytes_max)));
    assert_eq!(request(&bytes).map(|_| ()), Err(HeadError::HeadTooLarge));
    bytes.truncate(limits.head_bytes_max - 1);
    assert!(matches!(request(&bytes), Ok(Parse::Partial)));
    bytes.extend_from_slice(b"\r\n\r\n");
    assert_eq!(request(&bytes).map(|_| ()), Err(HeadError::HeadTooLarge));
    assert_eq!((HeadError::HeadTooLarge.status(), HeadError::TooManyFields.status()), (431, 431));
}

#[test]
fn a_head_that_is_parsed_again_allocates_nothing() {
    let long = with_fields(&"Connection: x\r\nA: b\r\n".repeat(20));
    let short = with_fields("Connection: x\r\n");
    let mut head = RequestHead::new();
    assert_eq!(head.parse(&long, &HeadLimits::default()), Ok(Parse::Done(())));
    let before = (head.fields.as_ptr(), head.nominated.as_ptr());
    for bytes in [&short, &long, &short, &long] {
        assert_eq!(head.parse(bytes, &HeadLimits::default()), Ok(Parse::Done(())));
        assert_eq!((head.fields.as_ptr(), head.nominated.as_ptr()), before);
    }
    assert_eq!(head.parse(b"nonsense\n", &HeadLimits::default()), Err(HeadError::BareLf));
    assert_eq!(head.parse(&short, &HeadLimits::default()), Ok(Parse::Done(())));
    assert_eq!((head.fields.len(), head.fields.as_ptr()), (2, before.0));
}

#[test]
fn an_abandoned_partial_head_does_not_leak_into_the_next_one() {
    let limits = HeadLimits::default();
    let mut head = RequestHead::new();
    assert_eq!(head.parse(&with_fields("X-Old: 1\r\nX-Older: 2\r\n")[..40], &limits), Ok(Parse::Partial));
    head.reset();
    let bytes = with_fields("X-New: 1\r\nX-Newer: 2\r\nX-Newest: 3\r\nX-Longer-Than-The-Old: 4\r\n");
    assert_eq!(head.parse(&bytes, &limits), Ok(Parse::Done(())));
    assert_eq!(head.fields.len(), 5);
    // A buffer shorter than what was seen cannot be the same head, even without a reset.
    assert_eq!(head.parse(&bytes[..80], &limits), Ok(Parse::Partial));
    assert_eq!(head.parse(&with_fields(""), &limits), Ok(Parse::Done(())));
    assert_eq!(head.fields.len(), 1);
}
