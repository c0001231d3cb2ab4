//! The request line: RFC 9112 sections 2.2, 2.3, 3 and RFC 3986.

use super::*;

#[test]
fn valid_request_lines_are_taken_apart() {
    /// Source, line, method, path, query, form.
    type Row = (&'static str, &'static str, &'static str, &'static str, Option<&'static str>, Form);
    let rows: [Row; 40] = [
        ("9112 3", "GET / HTTP/1.1", "GET", "/", None, Form::Origin),
        ("9112 3.2.1", "GET /where?q=now HTTP/1.1", "GET", "/where", Some("q=now"), Form::Origin),
        ("9112 3.2.1, empty query", "GET /where? HTTP/1.1", "GET", "/where", Some(""), Form::Origin),
        ("3986 3.4, ? and / in query", "GET /a?b/c?d HTTP/1.1", "GET", "/a", Some("b/c?d"), Form::Origin),
        ("3986 3.3, empty segments", "GET //a//b/ HTTP/1.1", "GET", "//a//b/", None, Form::Origin),
        ("3986 3.3, dot segments", "GET /a/../b/./c HTTP/1.1", "GET", "/a/../b/./c", None, Form::Origin),
        ("3986 2.2", "GET /-._~!$&'()*+,;=:@ HTTP/1.1", "GET", "/-._~!$&'()*+,;=:@", None, Form::Origin),
        ("3986 2.1", "GET /%41%2f%E4%bD%A0 HTTP/1.1", "GET", "/%41%2f%E4%bD%A0", None, Form::Origin),
        ("3986 2.1, CRLF encoded", "GET /a%0d%0ab HTTP/1.1", "GET", "/a%0d%0ab", None, Form::Origin),
        ("URL standard, path", "GET /a|b^c`d{e}[f] HTTP/1.1", "GET", "/a|b^c`d{e}[f]", None, Form::Origin),
        (
            "URL standard, query",
            "GET /?a|b\\c`{}[]^ HTTP/1.1",
            "GET",
            "/",
            Some("a|b\\c`{}[]^"),
            Form::Origin,
        ),
        ("curl -g", "GET /?f={\"a\":<1>} HTTP/1.1", "GET", "/", Some("f={\"a\":<1>}"), Form::Origin),
        ("raw % in query", "GET /?q=100% HTTP/1.1", "GET", "/", Some("q=100%"), Form::Origin),
        ("colon first", "GET /:80/a HTTP/1.1", "GET", "/:80/a", None, Form::Origin),
        ("url in path", "GET /http://x/ HTTP/1.1", "GET", "/http://x/", None, Form::Origin),
        ("9110 9.3", "HEAD / HTTP/1.1", "HEAD", "/", None, Form::Origin),
        ("9110 9.3", "POST / HTTP/1.1", "POST", "/", None, Form::Origin),
        ("9110 9.3", "PUT / HTTP/1.1", "PUT", "/", None, Form::Origin),
        ("9110 9.3", "DELETE / HTTP/1.1", "DELETE", "/", None, Form::Origin),
        ("9110 9.3", "TRACE / HTTP/1.1", "TRACE", "/", None, Form::Origin),
        ("5789", "PATCH / HTTP/1.1", "PATCH", "/", None, Form::Origin),
        ("4918", "PROPFIND / HTTP/1.1", "PROPFIND", "/", None, Form::Origin),
        ("3253", "BASELINE-CONTROL / HTTP/1.1", "BASELINE-CONTROL", "/", None, Form::Origin),
        ("9110 9.1, case", "get / HTTP/1.1", "get", "/", None, Form::Origin),
        ("9110 5.6.2", "!#$%&'*+-.^_`|~1 / HTTP/1.1", "!#$%&'*+-.^_`|~1", "/", None, Form::Origin),
        ("h2 preface's method alone", "PRI / HTTP/1.1", "PRI", "/", None, Form::Origin),
        ("9112 3.2.4", "OPTIONS * HTTP/1.1", "OPTIONS", "*", None, Form::Asterisk),
        ("9110 9.3.7", "OPTIONS /a HTTP/1.1", "OPTIONS", "/a", None, Form::Origin),
        ("9112 3.2.4", "OPTIONS http://a HTTP/1.1", "OPTIONS", "*", None, Form::Asterisk),
        ("9112 3.2.4", "OPTIONS http://a/ HTTP/1.1", "OPTIONS", "/", None, Form::Absolute(Scheme::Http)),
        ("9112 3.2.2", "GET http://a/b?c HTTP/1.1", "GET", "/b", Some("c"), Form::Absolute(Scheme::Http)),
        ("9112 3.2.2", "GET https://a:1/ HTTP/1.1", "GET", "/", None, Form::Absolute(Scheme::Https)),
        ("9110 4.2.3", "GET http://a HTTP/1.1", "GET", "/", None, Form::Absolute(Scheme::Http)),
        ("9110 4.2.3", "GET http://a?b HTTP/1.1", "GET", "/", Some("b"), Form::Absolute(Scheme::Http)),
        ("3986 3.1, case", "GET HTTP://A/ HTTP/1.1", "GET", "/", None, Form::Absolute(Scheme::Http)),
        ("3986 3.2.2", "GET http://[::1]:80/ HTTP/1.1", "GET", "/", None, Form::Absolute(Scheme::Http)),
        ("9112 3.2.3", "CONNECT a:443 HTTP/1.1", "CONNECT", "", None, Form::Authority),
        ("9112 3.2.3", "CONNECT [::1]:443 HTTP/1.1", "CONNECT", "", None, Form::Authority),
        ("9110 2.5", "GET / HTTP/1.0", "GET", "/", None, Form::Origin),
        ("9110 2.5, higher minor", "GET / HTTP/1.9", "GET", "/", None, Form::Origin),
    ];
    for (source, line, method, path, query, form) in rows {
        let bytes = format!("{line}\r\nHost: h\r\n\r\n").into_bytes();
        let head = request_any_cut(&bytes).unwrap_or_else(|error| panic!("{source}: {line}: {error}"));
        assert_eq!(head.method_span.of(&bytes), method.as_bytes(), "{source}: {line}");
        assert_eq!(shown(head.target.path_bytes(&bytes)), shown(path.as_bytes()), "{source}: {line}");
        let found = head.target.query.map(|span| shown(span.of(&bytes)));
        assert_eq!(found, query.map(|query| shown(query.as_bytes())), "{source}: {line}");
        assert_eq!(head.target.form, form, "{source}: {line}");
        let version = if line.ends_with("/1.0") { Version::Http10 } else { Version::Http11 };
        assert_eq!(head.version, version, "{source}: {line}");
        assert_eq!(head.head_bytes, bytes.len(), "{source}: {line}");
    }
}

#[test]
fn invalid_request_lines_are_refused() {
    use HeadError::*;
    // Source, everything up to Host, error.
    let rows: [(&str, &str, HeadError); 96] = [
        ("9112 3, no method", " / HTTP/1.1\r\n", Method),
        ("9112 3, space first", " GET / HTTP/1.1\r\n", Method),
        ("9112 3, tab first", "\tGET / HTTP/1.1\r\n", Method),
        ("9112 3, method only", "GET\r\n", Method),
        ("9112 3, no target", "GET HTTP/1.1\r\n", RequestLine),
        ("9112 3, no target", "GET  HTTP/1.1\r\n", RequestLine),
        ("9112 3, 0.9", "GET /\r\n", RequestLine),
        ("9112 3, 0.9 with space", "GET / \r\n", VersionMalformed),
        ("9112 3, two spaces", "GET  / HTTP/1.1\r\n", RequestLine),
        ("9112 3, two spaces", "GET /  HTTP/1.1\r\n", VersionMalformed),
        ("9112 3, tab", "GET\t/ HTTP/1.1\r\n", Method),
        ("9112 3, tab", "GET /\tHTTP/1.1\r\n", RequestLine),
        ("9112 3, tab", "GET \t/ HTTP/1.1\r\n", RequestLine),
        ("9112 3, vertical tab", "GET /\x0bHTTP/1.1\r\n", Target),
        ("9112 3, form feed", "GET\x0c/ HTTP/1.1\r\n", Method),
        ("9112 3, trailing space", "GET / HTTP/1.1 \r\n", RequestLine),
        ("9112 3, trailing tab", "GET / HTTP/1.1\t\r\n", RequestLine),
        ("9112 3, fourth word", "GET / HTTP/1.1 x\r\n", RequestLine),
        ("9112 3.2, space in target", "GET /a b HTTP/1.1\r\n", VersionMalformed),
        ("9112 3, no SP after target", "GET /HTTP/1.1\r\n", RequestLine),
        ("9112 2.2, bare LF", "GET / HTTP/1.1\n", BareLf),
        ("9112 2.2, bare LF after target", "GET /\nHTTP/1.1\r\n", BareLf),
        ("9112 2.2, bare LF after method", "GET\n/ HTTP/1.1\r\n", BareLf),
        ("9112 2.2, bare CR", "GET / HTTP/1.1\r", BareCr),
        ("9112 2.2, CR CR LF", "GET / HTTP/1.1\r\r\n", BareCr),
        ("9112 2.2, CR in target", "GET /\r HTTP/1.1\r\n", RequestLine),
        ("9112 2.2, CR in method", "GE\rT / HTTP/1.1\r\n", Method),
        ("9112 2.2, LF LF", "GET / HTTP/1.1\n\n", BareLf),
        ("9112 2.2, leading LF", "\nGET / HTTP/1.1\r\n", BareLf),
        ("9112 2.2, leading CR", "\rGET / HTTP/1.1\r\n", BareCr),
        ("9112 2.2, leading CRLF SP", "\r\n GET / HTTP/1.1\r\n", Method),
        ("9112 2.2, many empty lines", "\r\n\r\n\r\nGET / HTTP/1.1\r\n", LeadingLines),
        ("9110 5.6.2, NUL", "G\0T / HTTP/1.1\r\n", Method),
        ("9110 5.6.2, separators", "GET, / HTTP/1.1\r\n", Method),
        ("9110 5.6.2, separators", "GET: / HTTP/1.1\r\n", Method),
        ("9110 5.6.2, separators", "\"GET\" / HTTP/1.1\r\n", Method),
        ("9110 5.6.2, separators", "G(E)T / HTTP/1.1\r\n", Method),
        ("9110 5.6.2, separators", "G@T / HTTP/1.1\r\n", Method),
        ("9110 5.6.2, separators", "/GET / HTTP/1.1\r\n", Method),
        ("9110 5.6.2, DEL", "GET\x7f / HTTP/1.1\r\n", Method),
        ("9110 5.6.2, non-ASCII", "G\u{c9}T / HTTP/1.1\r\n", Method),
        ("8446, TLS on a plain port", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n", Method),
        ("9113 3.4, h2 preface", "PRI * HTTP/2.0\r\n", VersionUnsupported),
        ("SOCKS", "\x05\x01\0 / HTTP/1.1\r\n", Method),
        ("PROXY protocol v1", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n", VersionMalformed),
        ("9112 2.3, case", "GET / http/1.1\r\n", VersionMalformed),
        ("9112 2.3, case", "GET / Http/1.1\r\n", VersionMalformed),
        ("9112 2.3, name", "GET / HTTPS/1.1\r\n", VersionMalformed),
        ("9112 2.3, name", "GET / HTP/1.1\r\n", VersionMalformed),
        ("9112 2.3, name", "GET / ICAP/1.1\r\n", VersionMalformed),
        ("9112 2.3, no minor", "GET / HTTP/1\r\n", VersionMalformed),
        ("9112 2.3, no minor", "GET / HTTP/1.\r\n", VersionMalformed),
        ("9112 2.3, no major", "GET / HTTP/.1\r\n", VersionMalformed),
        ("9112 2.3, no version", "GET / HTTP/\r\n", VersionMalformed),
        ("9112 2.3, no version", "GET / HTTP\r\n", VersionMalformed),
        ("9112 2.3, comma", "GET / HTTP/1,1\r\n", VersionMalformed),
        ("9112 2.3, two digits", "GET / HTTP/1.10\r\n", VersionMalformed),
        ("9112 2.3, two digits", "GET / HTTP/01.1\r\n", VersionMalformed),
        ("9112 2.3, two digits", "GET / HTTP/1.01\r\n", VersionMalformed),
        ("9112 2.3, two digits", "GET / HTTP/11.1\r\n", VersionMalformed),
        ("9112 2.3, space", "GET / HTTP/1. 1\r\n", VersionMalformed),
        ("9112 2.3, space", "GET / HTTP /1.1\r\n", VersionMalformed),
        ("9112 2.3, sign", "GET / HTTP/+1.1\r\n", VersionMalformed),
        ("9112 2.3, sign", "GET / HTTP/-1.1\r\n", VersionMalformed),
        ("9112 2.3, letter", "GET / HTTP/1.x\r\n", VersionMalformed),
        ("9112 2.3, NUL", "GET / HTTP/1.1\0\r\n", VersionMalformed),
        ("9112 2.3, three parts", "GET / HTTP/1.1.1\r\n", VersionMalformed),
        ("9110 15.6.6", "GET / HTTP/0.9\r\n", VersionUnsupported),
        ("9110 15.6.6", "GET / HTTP/2.0\r\n", VersionUnsupported),
        ("9110 15.6.6", "GET / HTTP/3.0\r\n", VersionUnsupported),
        ("9110 15.6.6", "GET / HTTP/9.9\r\n", VersionUnsupported),
        ("9112 2.3", "GET / HTTP/2\r\n", VersionMalformed),
        ("9112 3.2, relative path", "GET a HTTP/1.1\r\n", Target),
        ("9112 3.2, relative path", "GET ?a HTTP/1.1\r\n", Target),
        ("9112 3.2, relative path", "GET ../a HTTP/1.1\r\n", Target),
        ("9112 3.2.4, asterisk", "GET * HTTP/1.1\r\n", TargetForm),
        ("9112 3.2.4, asterisk", "OPTIONS *a HTTP/1.1\r\n", Target),
        ("9112 3.2.4, asterisk", "OPTIONS */ HTTP/1.1\r\n", Target),
        ("9112 3.2.3, authority", "GET a:443 HTTP/1.1\r\n", Target),
        ("9112 3.2.3, no port", "CONNECT a HTTP/1.1\r\n", TargetForm),
        ("9112 3.2.3, no port", "CONNECT a: HTTP/1.1\r\n", TargetForm),
        ("9112 3.2.3, path", "CONNECT /a HTTP/1.1\r\n", TargetForm),
        ("9112 3.2.3, absolute", "CONNECT http://a:1/ HTTP/1.1\r\n", TargetForm),
        ("9112 3.2.3, userinfo", "CONNECT u@a:1 HTTP/1.1\r\n", TargetForm),
        ("9112 3.2, fragment", "GET /a#b HTTP/1.1\r\n", Target),
        ("9112 3.2, fragment", "GET /a?b#c HTTP/1.1\r\n", Target),
        ("3986 2, NUL", "GET /a\0b HTTP/1.1\r\n", Target),
        ("3986 2, DEL", "GET /a\x7fb HTTP/1.1\r\n", Target),
        ("3986 2, control", "GET /a\x01b HTTP/1.1\r\n", Target),
        ("3986 2, non-ASCII path", "GET /caf\u{e9} HTTP/1.1\r\n", Target),
        ("3986 2, non-ASCII query", "GET /?caf\u{e9} HTTP/1.1\r\n", Target),
        ("3986 2, backslash path", "GET /a\\b HTTP/1.1\r\n", Target),
        ("3986 2, quote in path", "GET /a\"b HTTP/1.1\r\n", Target),
        ("3986 2, angle in path", "GET /<a> HTTP/1.1\r\n", Target),
        ("3986 2.1, half octet", "GET /a%4 HTTP/1.1\r\n", Target),
        ("3986 2.1, NUL octet", "GET /a%00b HTTP/1.1\r\n", Target),
    ];
    refuse(&rows);
}

#[test]
fn invalid_absolute_targets_are_refused() {
    use HeadError::Target;
    let rows = [
        ("9110 4.2.1, empty host", "GET http:///a HTTP/1.1\r\n", Target),
        ("9110 4.2.1, empty host", "GET http://:80/a HTTP/1.1\r\n", Target),
        ("9110 4.2.1, empty host", "GET http://?a HTTP/1.1\r\n", Target),
        ("9110 4.2.4, userinfo", "GET http://u@a/ HTTP/1.1\r\n", Target),
        ("9110 4.2.4, userinfo", "GET http://u:p@a/ HTTP/1.1\r\n", Target),
        ("9110 4.2, scheme", "GET ftp://a/ HTTP/1.1\r\n", Target),
        ("9110 4.2, scheme", "GET file:///a HTTP/1.1\r\n", Target),
        ("9110 4.2, scheme", "GET ws://a/ HTTP/1.1\r\n", Target),
        ("9110 4.2, scheme", "GET javascript:a HTTP/1.1\r\n", Target),
        ("9110 4.2, one slash", "GET http:/a HTTP/1.1\r\n", Target),
        ("9110 4.2, no slash", "GET http:a HTTP/1.1\r\n", Target),
        ("9110 4.2, backslashes", "GET http:\\\\a/ HTTP/1.1\r\n", Target),
        ("3986 3.2.3, port", "GET http://a:x/ HTTP/1.1\r\n", Target),
        ("3986 3.2.3, port", "GET http://a:65536/ HTTP/1.1\r\n", Target),
        ("3986 3.2.2, literal", "GET http://[::1/ HTTP/1.1\r\n", Target),
        ("9112 3.2, fragment", "GET http://a/#f HTTP/1.1\r\n", Target),
        ("9112 3.2, fragment", "GET http://a#f HTTP/1.1\r\n", Target),
    ];
    refuse(&rows);
}

fn refuse(rows: &[(&str, &str, HeadError)]) {
    for (source, line, error) in rows {
        let bytes = format!("{line}Host: h\r\n\r\n").into_bytes();
        let found = request_any_cut(&bytes).map(|_| ());
        assert_eq!(found, Err(*error), "{source}: {}", shown(&bytes));
    }
}

#[test]
fn one_or_two_empty_lines_before_the_request_line_are_skipped() {
    for lines in ["", "\r\n", "\r\n\r\n"] {
        let bytes = format!("{lines}GET /a HTTP/1.1\r\nHost: h\r\n\r\nrest").into_bytes();
        let head = request_any_cut(&bytes).expect("RFC 9112 section 2.2");
        assert_eq!(head.target.path.of(&bytes), b"/a");
        assert_eq!(bytes.get(head.head_bytes..), Some(&b"rest"[..]));
    }
}

#[test]
fn what_can_no_longer_become_a_request_is_refused_at_once() {
    let rows: [(&str, &[u8]); 16] = [
        ("TLS ClientHello", b"\x16\x03\x01"),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r"),
        ("no CR", b"GET / HTTP/1.1\n"),
        ("bare CR", b"GET / HTTP/1.1\rH"),
        ("NUL", b"\0"),
        ("space first", b" "),
        ("no version", b"GET /\r"),
        ("wrong version name", b"GET / X"),
        ("major too high", b"GET / HTTP/2.0\r"),
        ("bad target", b"GET /\x01"),
        ("white space before the fields", b"GET / HTTP/1.1\r\n "),
        ("obsolete folding", b"GET / HTTP/1.1\r\nA: b\r\n\t"),
        ("no field name", b"GET / HTTP/1.1\r\n:"),
        ("space in name", b"GET / HTTP/1.1\r\nA "),
        ("no colon", b"GET / HTTP/1.1\r\nA\r"),
        ("control in value", b"GET / HTTP/1.1\r\nA: \x02"),
    ];
    for (what, bytes) in rows {
        assert!(request(bytes).is_err(), "{what}");
        // And when it comes byte by byte, as soon as its last byte is there.
        let mut head = RequestHead::new();
        let refused = (1..=bytes.len()).any(|end| head.parse(&bytes[..end], &HeadLimits::default()).is_err());
        assert!(refused, "{what}");
    }
}

#[test]
fn limits_hold_while_the_line_is_incomplete() {
    let limits = HeadLimits::default();
    let parse = |bytes: &[u8]| RequestHead::new().parse(bytes, &limits);
    let long_method = vec![b'A'; limits.method_bytes_max + 1];
    assert_eq!(parse(&long_method), Err(HeadError::MethodTooLong));
    let mut long_target = b"GET /".to_vec();
    long_target.resize(4 + limits.target_bytes_max, b'a');
    assert_eq!(parse(&long_target), Ok(Parse::Partial));
    let full = [&long_target[..], b" HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
    assert_eq!(parse(&full), Ok(Parse::Done(())));
    long_target.push(b'a');
    assert_eq!(parse(&long_target), Err(HeadError::TargetTooLong));
    let mut dripped = RequestHead::new();
    let mut line = b"GET /".to_vec();
    let refused = loop {
        match dripped.parse(&line, &limits) {
            Ok(Parse::Partial) => line.extend_from_slice(&[b'a'; 100]),
            Ok(Parse::Done(())) => panic!("no line end was sent"),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, HeadError::TargetTooLong);
    assert!(line.len() < limits.target_bytes_max + 300);
}

#[test]
fn long_lines_that_come_in_pieces_are_refused_at_the_first_bad_byte() {
    let limits = HeadLimits::default();
    let starts = [format!("GET /{}", "a".repeat(500)), format!("GET / HTTP/1.1\r\nA: {}", "b".repeat(500))];
    for start in starts {
        for bad in ["\rX", "\r\r", "\0", "\x7f", "\x1b"] {
            let mut head = RequestHead::new();
            let mut bytes = start.clone().into_bytes();
            assert_eq!(head.parse(&bytes, &limits), Ok(Parse::Partial));
            let refused = bad.bytes().any(|byte| {
                bytes.push(byte);
                head.parse(&bytes, &limits).is_err()
            });
            assert!(refused, "{bad:?}");
        }
        let mut head = RequestHead::new();
        let mut bytes = start.clone().into_bytes();
        for byte in *b"ccc\r" {
            assert_eq!(head.parse(&bytes, &limits), Ok(Parse::Partial));
            bytes.push(byte);
        }
        assert_eq!(
            head.parse(&bytes, &limits),
            Ok(Parse::Partial),
            "a carriage return is judged with what follows"
        );
    }
}
