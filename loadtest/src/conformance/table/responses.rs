//! Status lines and fields of the origin's answers (RFC 9112 sections 4 and 5), checked as strictly as a request's.

use super::super::case::{After, Answer, Case, Got, Outcome, Seen, Table, get};
use super::super::message::is_token;
use super::named;

const STATUS: &str = "RFC 9112 section 4: HTTP-version SP 3DIGIT SP reason-phrase";
const FIELD: &str = "RFC 9112 section 5, RFC 9110 section 5.5: an invalid answer is a 502, or its field is left out or mended";
const NAME: &str = "RFC 9110 section 5.1: a field name is a token";

pub(crate) fn fill(table: &mut Table) {
    statuses(table);
    versions(table);
    status_lines(table);
    names(table);
    values(table);
    line_ends(table);
}

/// Nothing of it reaches the client but the news that it was bad.
fn bad(case: &mut Case) {
    let again = case.answers.clone();
    case.answers.extend(again);
    case.bad_gateway();
}

fn ok(line: &str) -> Vec<u8> {
    format!("{line}Content-Length: 2\r\n\r\nok").into_bytes()
}

fn statuses(table: &mut Table) {
    for status in [
        200, 201, 202, 203, 206, 207, 208, 226, 299, 300, 301, 302, 303, 307, 308, 400, 401, 402, 403, 404,
        405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426,
        428, 429, 431, 451, 499, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511, 599,
    ] {
        let source = "RFC 9110 section 15: any status is passed on, also one that is not known";
        let case =
            table.answer(format!("{status}"), source, ok(&format!("HTTP/1.1 {status} Text\r\n")), false);
        let mut got = Got::body("ok");
        got.statuses = vec![status];
        case.gives(got);
        if status == 408 {
            // A connection that the origin gave up; a gateway may ask again.
            case.given(Got::status(&[408, 200, 502]), After::Either);
        }
    }
    let source = "RFC 9110 section 15: 600 to 999 are invalid; passed on, or a 502";
    for status in [600, 700, 999] {
        let case =
            table.answer(format!("{status}"), source, ok(&format!("HTTP/1.1 {status} Text\r\n")), false);
        case.given(Got::status(&[status]), After::Either);
        bad(case);
    }
    for (name, line) in [
        ("reason empty", "HTTP/1.1 200 \r\n"),
        ("reason of many words", "HTTP/1.1 200 All is well, thanks\r\n"),
        ("reason with a tab", "HTTP/1.1 200 A\tB\r\n"),
        ("reason in UTF-8", "HTTP/1.1 200 D\u{e9}j\u{e0}\r\n"),
        ("reason with a colon", "HTTP/1.1 200 A: b\r\n"),
    ] {
        table.answer(name, STATUS, ok(line), false).gives(Got::body("ok"));
    }
    let source = "RFC 9112 section 4: the space before an empty reason is due; many origins leave it out";
    let case = table.answer("no reason and no space", source, ok("HTTP/1.1 200\r\n"), false);
    case.gives(Got::body("ok"));
    bad(case);
    let length = "R".repeat(3000);
    table
        .answer("reason of 3,000 bytes", STATUS, ok(&format!("HTTP/1.1 200 {length}\r\n")), false)
        .gives(Got::body("ok"));
}

fn versions(table: &mut Table) {
    let source = "RFC 9112 section 2.3: the gateway answers with its own version";
    table.answer("HTTP/1.0", source, ok("HTTP/1.0 200 OK\r\n"), false).given(Got::body("ok"), After::Either);
    for version in ["HTTP/1.2", "HTTP/1.9"] {
        let case = table.answer(
            version,
            "RFC 9110 section 2.5: read as the highest minor version known",
            ok(&format!("{version} 200 OK\r\n")),
            false,
        );
        case.given(Got::body("ok"), After::Either);
        bad(case);
    }
    for version in [
        "HTTP/2.0",
        "HTTP/0.9",
        "HTTP/3.0",
        "http/1.1",
        "Http/1.1",
        "HTTP/1",
        "HTTP/11",
        "HTTP/1.",
        "HTTP/1.10",
        "HTTP/01.1",
        "HTTP/1.x",
        "HTTPS/1.1",
        "HTTP 1.1",
        "HTTP/ 1.1",
        "ICY",
        "SHOUTcast",
        "HTTP",
        "XHTTP/1.1",
        "\0HTTP/1.1",
        "HTTP/1.1\0",
    ] {
        bad(table.answer(
            format!("version {version:?}"),
            STATUS,
            ok(&format!("{version} 200 OK\r\n")),
            false,
        ));
    }
}

fn status_lines(table: &mut Table) {
    for status in [
        "20",
        "2",
        "",
        "2000",
        "0200",
        "099",
        "000",
        "99",
        "-200",
        "+200",
        "2x0",
        "abc",
        "2 0",
        "200.0",
        "0x200",
        "2e2",
        "\u{662}00",
        "200,",
    ] {
        let case = table.answer(
            format!("status {status:?}"),
            STATUS,
            ok(&format!("HTTP/1.1 {status} OK\r\n")),
            false,
        );
        bad(case);
    }
    let source = "RFC 9112 section 4: split at white space in front of the status at most; mended, or a 502";
    for (name, line) in [
        ("two spaces before the status", "HTTP/1.1  200 OK\r\n"),
        ("tab before the status", "HTTP/1.1\t200 OK\r\n"),
        ("tab behind the status", "HTTP/1.1 200\tOK\r\n"),
        ("space before the version", " HTTP/1.1 200 OK\r\n"),
    ] {
        let case = table.answer(name, source, ok(line), false);
        case.given(Got::body("ok"), After::Either);
        bad(case);
    }
    for (name, bytes) in [
        ("text", "hello\r\n\r\n"),
        ("an empty line, then an answer", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("a request", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("an HTTP/2 frame", "\0\0\x12\x04\0\0\0\0\0\r\n\r\n"),
        ("HTML", "<html>\r\n\r\n</html>"),
        ("a TLS alert", "\x15\x03\x01\0\x02\x02\x0a"),
        ("an SSH banner", "SSH-2.0-x\r\n"),
        ("a byte", "H"),
        ("an empty line", "\r\n"),
        ("zeroes", "\0\0\0\0\0\0\0\0\r\n\r\n"),
    ] {
        let case = table.answer(
            format!("instead of an answer: {name}"),
            "RFC 9110 section 15.6.3: what is no answer is a 502",
            bytes,
            true,
        );
        bad(case);
        if name.starts_with("an empty line, ") {
            case.given(Got::body("ok"), After::Either);
        }
    }
    for byte in [0x00, 0x01, 0x08, 0x0b, 0x0c, 0x1b, 0x7f] {
        let line = format!("HTTP/1.1 200 O{}K\r\n", char::from(byte));
        let case = table.answer(format!("{} in the reason", named(byte)), STATUS, ok(&line), false);
        case.given(Got::body("ok"), After::Either);
        bad(case);
    }
}

fn with_field(line: &[u8]) -> Vec<u8> {
    [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", line, b"\r\n\r\nok"].concat()
}

fn lenient(case: &mut Case) {
    case.given(Got::body("ok"), After::Either);
    bad(case);
}

fn names(table: &mut Table) {
    for byte in b"!#$%&'*+-.^_`|~09aZ" {
        let name: &'static str = String::from_utf8_lossy(&[b'X', *byte, b'Y']).into_owned().leak();
        let case = table.answer(
            format!("{} in a name", named(*byte)),
            NAME,
            with_field(format!("{name}: v").as_bytes()),
            false,
        );
        case.gives(Got::body("ok").has(name, "v"));
    }
    for byte in (0..=0x7f_u8)
        .filter(|byte| !is_token(&[*byte]) && !matches!(byte, b':' | b'\r' | b'\n'))
        .chain([0x80, 0xff])
    {
        lenient(table.answer(
            format!("{} in a name", named(byte)),
            NAME,
            with_field(&[b'X', byte, b'Y', b':', b' ', b'v']),
            false,
        ));
    }
    let source = "RFC 9112 section 5.1: a proxy removes white space before the colon of an answer's field";
    for (name, line) in [("space", "X : v"), ("tab", "X\t: v"), ("two spaces", "X  : v")] {
        let case =
            table.answer(format!("{name} before the colon"), source, with_field(line.as_bytes()), false);
        case.gives(Got::body("ok").has("X", "v"));
        lenient(case);
    }
    for (name, line) in [
        ("no colon", "X"),
        ("empty name", ": v"),
        ("space in a name", "X Y: v"),
        ("a status line", "HTTP/1.1 200 OK"),
    ] {
        lenient(table.answer(format!("field: {name}"), FIELD, with_field(line.as_bytes()), false));
    }
}

fn values(table: &mut Table) {
    for (name, line, value) in [
        ("no space", "X:v", "v"),
        ("spaces around", "X:   v  ", "v"),
        ("tabs around", "X:\tv\t", "v"),
        ("empty", "X:", ""),
        ("inside", "X: a  b\tc", "a  b\tc"),
        ("UTF-8", "X: caf\u{e9}", "caf\u{e9}"),
        ("quotes", "X: \"a, b\"", "\"a, b\""),
    ] {
        let case = table.answer(format!("value: {name}"), FIELD, with_field(line.as_bytes()), false);
        case.gives(Got::body("ok").has("X", value));
    }
    for byte in (0..=0x1f_u8).chain([0x7f]).filter(|byte| !matches!(byte, b'\t' | b'\r' | b'\n')) {
        lenient(table.answer(
            format!("{} in a value", named(byte)),
            FIELD,
            with_field(&[b'X', b':', b' ', b'a', byte, b'b']),
            false,
        ));
    }
    let source = "RFC 9112 section 5.2: obsolete folding in an answer is replaced with spaces, or a 502";
    for (name, lines) in [
        ("space", "X: a\r\n b"),
        ("tab", "X: a\r\n\tb"),
        ("empty first line", "X:\r\n a"),
        ("white space alone", "X: a\r\n "),
    ] {
        lenient(table.answer(format!("folded: {name}"), source, with_field(lines.as_bytes()), false));
    }
    let case = table.answer(
        "white space behind the status line",
        source,
        b"HTTP/1.1 200 OK\r\n X: v\r\nContent-Length: 2\r\n\r\nok",
        false,
    );
    lenient(case);
}

fn line_ends(table: &mut Table) {
    let source = "RFC 9112 section 2.2: a lone LF may be taken for a line end; a bare CR is invalid or a space; neither is passed on";
    for (name, bytes) in [
        ("LF everywhere", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
        ("LF behind the status line", "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok"),
        ("LF behind a field", "HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok"),
        ("LF as the empty line", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok"),
        ("CR in a value", "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok"),
        ("CR CR LF behind a field", "HTTP/1.1 200 OK\r\nX: a\r\r\nContent-Length: 2\r\n\r\nok"),
        ("CR in the reason", "HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nok"),
        (
            "CR before a field that sets a cookie",
            "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b=c\r\nContent-Length: 2\r\n\r\nok",
        ),
    ] {
        let case = table.answer(name, source, bytes, false);
        case.given(Got::body("ok").lacks("Set-Cookie"), After::Either);
        bad(case);
    }
    let case =
        table.row("a 502 does not end the client's connection for ever", "RFC 9110 section 15.6.3", get("/"));
    case.uncut().answers(vec![Answer::bytes("nonsense\r\n\r\n"), Answer::bytes("nonsense\r\n\r\n")]);
    for tries in 1..=2 {
        case.outcome(Outcome {
            seen: vec![Seen::get("/"); tries],
            got: vec![Got::status(&[502])],
            ..Outcome::default()
        });
    }
}
