//! Where answers end (RFC 9112 section 6.3), for every kind of request, and what is left on the origin's connection.

use super::super::case::{After, Answer, Body, Case, Got, HOST, Outcome, Seen, Table, request};
use super::super::message::Framing;
use super::named;

const ENDS: &str = "RFC 9112 section 6.3: where the body of an answer ends";
const BAD_LENGTH: &str =
    "RFC 9112 section 6.3: an invalid Content-Length from an origin is a 502 and the end of its connection";
const BAD_CODING: &str =
    "RFC 9112 section 6.3: a Transfer-Encoding that is not understood is a 502, or read until the close";

pub(crate) fn fill(table: &mut Table) {
    plain(table);
    chunks(table);
    bad_chunks(table);
    without_body(table);
    heads(table);
    lengths(table);
    codings(table);
    both(table);
    old_clients(table);
}

fn bad(case: &mut Case) {
    let again = case.answers.clone();
    case.answers.extend(again);
    case.bad_gateway();
}

/// A body that turns out to be bad: a 502, or an answer that visibly breaks off.
fn breaks(case: &mut Case) {
    bad(case);
    case.outcome(Outcome {
        seen: vec![Seen::get("/")],
        got: vec![Got::cut()],
        after: After::Closed,
        ..Outcome::default()
    });
}

fn ok(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}")
}

fn plain(table: &mut Table) {
    table.answer("a length", ENDS, ok("Content-Length: 5\r\n", "hello"), false).gives(Got::body("hello"));
    table.answer("a length of 0", ENDS, ok("Content-Length: 0\r\n", ""), false).gives(Got::body(""));
    table
        .answer("a length in other case", ENDS, ok("content-LENGTH: 5\r\n", "hello"), false)
        .gives(Got::body("hello"));
    table
        .answer("a length with spaces", ENDS, ok("Content-Length:  5 \r\n", "hello"), false)
        .gives(Got::body("hello"));
    table
        .answer("a length with zeros", ENDS, ok("Content-Length: 0005\r\n", "hello"), false)
        .gives(Got::body("hello"));
    for (name, answer) in [
        ("until the close", ok("", "hello")),
        ("until the close, said", ok("Connection: close\r\n", "hello")),
        ("until the close of HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nhello".to_owned()),
    ] {
        let case = table.answer(name, ENDS, answer, true);
        case.given(Got::body("hello"), After::Either);
    }
    table.answer("nothing until the close", ENDS, ok("", ""), true).given(Got::body(""), After::Either);
    let large = "z".repeat(300_000);
    let case = table.answer("300,000 bytes until the close", ENDS, ok("", &large), true).uncut();
    case.given(Got::body(&large), After::Either);
    let case = table.answer(
        "a body that looks like an answer",
        ENDS,
        ok("Content-Length: 38\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        false,
    );
    case.gives(Got::body("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
}

fn chunks(table: &mut Table) {
    for (name, body) in [
        ("one", "5\r\nhello\r\n0\r\n\r\n"),
        ("two", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
        ("upper case and zeros", "0005\r\nhello\r\n000\r\n\r\n"),
        ("with an extension", "5;a=b\r\nhello\r\n0;c\r\n\r\n"),
        ("with a quoted extension", "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n"),
        ("with a trailer", "5\r\nhello\r\n0\r\nT: v\r\n\r\n"),
        ("with two trailers", "5\r\nhello\r\n0\r\nT: v\r\nU: w\r\n\r\n"),
    ] {
        let case =
            table.answer(format!("chunks: {name}"), ENDS, ok("Transfer-Encoding: chunked\r\n", body), false);
        case.gives(Got::body("hello").lacks("T"));
    }
    let case = table.answer("chunks: none", ENDS, ok("Transfer-Encoding: chunked\r\n", "0\r\n\r\n"), false);
    case.gives(Got::body(""));
    let case = table.answer(
        "chunks: in other case",
        ENDS,
        ok("transfer-encoding: CHUNKED\r\n", "5\r\nhello\r\n0\r\n\r\n"),
        false,
    );
    case.gives(Got::body("hello"));
    for name in ["Content-Length", "Transfer-Encoding", "Set-Cookie", "Connection"] {
        let body = format!("5\r\nhello\r\n0\r\n{name}: 7\r\n\r\n");
        let source = "RFC 9110 section 6.5.1: a trailer is never merged into the head";
        let case = table.answer(
            format!("chunks: a trailer of {name}"),
            source,
            ok("Transfer-Encoding: chunked\r\n", &body),
            false,
        );
        case.given(
            Got::body("hello").lacks(if name == "Set-Cookie" { name } else { "X-None" }),
            After::Either,
        );
        breaks(case);
    }
    let source = "RFC 9112 section 7.1.2: trailers reach a client that accepts them, or are dropped";
    let case = table.row(
        "chunks: a trailer for a client that accepts it",
        source,
        request("GET", "/", "Connection: TE\r\nTE: trailers\r\n", ""),
    );
    case.uncut().answers(vec![Answer::bytes(ok(
        "Trailer: T\r\nTransfer-Encoding: chunked\r\n",
        "5\r\nhello\r\n0\r\nT: v\r\n\r\n",
    ))]);
    case.gives(Got::body("hello"));
}

fn bad_chunks(table: &mut Table) {
    let source = "RFC 9112 section 7.1: a chunked answer that is ill-formed breaks off visibly, or is a 502";
    for body in [
        "x\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFF5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "6\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\r\n0\r\nT\r\n\r\n",
        "5\r\nhello\r\n0\r\n T: v\r\n\r\n",
        "5\r\nhello\r\n0\r\nT : v\r\n\r\n",
        "5\r\nhello\r\ng\r\n",
        "5 x\r\nhello\r\n0\r\n\r\n",
        "5;\n\r\nhello\r\n0\r\n\r\n",
    ] {
        let case = table.answer(
            format!("chunks: {body:?}"),
            source,
            ok("Transfer-Encoding: chunked\r\n", body),
            true,
        );
        breaks(case);
        if body.starts_with('6')
            || body.contains('T')
            || body.contains("5\n")
            || body.contains("o\n")
            || body.contains(" x")
        {
            // Lenient towards an origin, and then whole towards the client.
            case.given(Got { body: Body::Any, ..Got::body("") }, After::Either);
        }
    }
}

fn without_body(table: &mut Table) {
    let source =
        "RFC 9110 sections 8.6, 15.3.5 and 15.4.5: 204 and 304 have no body, whatever their fields say";
    for (name, answer) in [
        ("204", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("204 with a length of 0", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
        ("204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"),
        ("204 with chunks", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ("304", "HTTP/1.1 304 Not Modified\r\n\r\n"),
        ("304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"),
        ("304 with chunks", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ] {
        let case = table.answer(name, source, answer, false);
        case.gives(Got {
            framing: Some(Framing::None),
            body: Body::Exact(Vec::new()),
            ..Got::status(&[204, 304])
        });
        if name.contains("chunks") || name.contains("204 with a length") {
            bad(case);
        }
    }
    let source =
        "RFC 9110 section 15.3.5: bytes behind a 204 are nobody's, and its connection is not used again";
    for status in ["204 No Content", "304 Not Modified"] {
        let case = table.answer(
            format!("{status} with a body all the same"),
            source,
            format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\nhello"),
            false,
        );
        case.uncut().given(Got::status(&[204, 304]), After::Either);
        bad(case);
    }
    let source = "RFC 9110 section 15.3.6: 205 is framed like any other";
    table
        .answer("205", source, "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", false)
        .gives(Got::status(&[205]));
}

fn heads(table: &mut Table) {
    let source = "RFC 9110 section 9.3.2: an answer to HEAD has no body, whatever its fields say";
    for (name, fields) in [
        ("a length", "Content-Length: 5\r\n"),
        ("a length of 0", "Content-Length: 0\r\n"),
        ("chunks", "Transfer-Encoding: chunked\r\n"),
        ("neither", ""),
    ] {
        let case = table.row(format!("HEAD answered with {name}"), source, request("HEAD", "/", "", ""));
        case.uncut().answers(vec![Answer::bytes(ok(fields, ""))]);
        let got = Got { body: Body::Exact(Vec::new()), ..Got::status(&[200]) };
        case.outcome(Outcome {
            seen: vec![Seen::new("HEAD", "/")],
            got: vec![got],
            after: After::Kept,
            ..Outcome::default()
        });
    }
    let case = table.row(
        "HEAD keeps the length",
        "RFC 9110 section 8.6: the length that a GET would have had",
        request("HEAD", "/", "", ""),
    );
    case.uncut().answers(vec![Answer::bytes(ok("Content-Length: 12345\r\n", ""))]);
    let got = Got::status(&[200]).has("Content-Length", "12345");
    case.outcome(Outcome {
        seen: vec![Seen::new("HEAD", "/")],
        got: vec![got],
        after: After::Kept,
        ..Outcome::default()
    });
    for (name, body) in [("a body", "hello"), ("an answer", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")] {
        let case =
            table.row(format!("HEAD answered with {name} behind"), source, request("HEAD", "/", "", ""));
        case.uncut().answers(vec![Answer::bytes(ok("Content-Length: 5\r\n", body))]);
        let got = Got { body: Body::Exact(Vec::new()), ..Got::status(&[200]) };
        case.outcome(Outcome { seen: vec![Seen::new("HEAD", "/")], got: vec![got], ..Outcome::default() });
    }
    let case = table.row("HEAD answered with 304", source, request("HEAD", "/", "", ""));
    case.uncut().answers(vec![Answer::bytes("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n")]);
    case.outcome(Outcome {
        seen: vec![Seen::new("HEAD", "/")],
        got: vec![Got::status(&[304])],
        after: After::Kept,
        ..Outcome::default()
    });
}

fn lengths(table: &mut Table) {
    for value in [
        "+5",
        "-5",
        "0x5",
        "5.0",
        "5 5",
        "\"5\"",
        "five",
        "5x",
        "x5",
        "5;a",
        "18446744073709551621",
        "99999999999999999999999999",
        "",
        "5 ,5x",
        "5,6",
        "5, 6",
        "-1",
    ] {
        bad(table.answer(
            format!("length {value:?}"),
            BAD_LENGTH,
            ok(&format!("Content-Length: {value}\r\n"), "hello"),
            true,
        ));
    }
    for byte in [0x00, 0x0b, 0x0c, 0x1f, 0x7f, 0xa0] {
        let answer = [b"HTTP/1.1 200 OK\r\nContent-Length: 5", &[byte][..], b"\r\n\r\nhello"].concat();
        bad(table.answer(format!("length with {} behind", named(byte)), BAD_LENGTH, answer, true));
    }
    for (name, fields) in [
        ("5 and 6", "Content-Length: 5\r\nContent-Length: 6\r\n"),
        ("6 and 5", "Content-Length: 6\r\nContent-Length: 5\r\n"),
        ("5 and 0", "Content-Length: 5\r\nContent-Length: 0\r\n"),
        ("5 and x", "Content-Length: 5\r\nContent-Length: x\r\n"),
    ] {
        bad(table.answer(format!("two lengths, {name}"), BAD_LENGTH, ok(fields, "hello"), true));
    }
    let source = "RFC 9112 section 6.3: equal lengths may count as one, or are a 502";
    for (name, fields) in
        [("two lines", "Content-Length: 5\r\nContent-Length: 5\r\n"), ("a list", "Content-Length: 5, 5\r\n")]
    {
        let case = table.answer(format!("equal lengths, {name}"), source, ok(fields, "hello"), false);
        case.given(Got::body("hello"), After::Either);
        bad(case);
    }
    let source =
        "RFC 9112 section 5.1: white space before the colon is removed first; then it frames, or it is a 502";
    let case = table.answer(
        "length with a space before the colon",
        source,
        ok("Content-Length : 5\r\n", "hello"),
        true,
    );
    case.given(Got::body("hello"), After::Either);
    bad(case);
}

fn codings(table: &mut Table) {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    for value in [
        "gzip",
        "identity",
        "x",
        "",
        "chunked, gzip",
        "chunked, chunked",
        "xchunked",
        "chunked;a=b",
        "\"chunked\"",
        "chunked x",
        "gzip, chunked",
        "chunked\x0b",
    ] {
        let case = table.answer(
            format!("coding {value:?}"),
            BAD_CODING,
            ok(&format!("Transfer-Encoding: {value}\r\n"), body),
            true,
        );
        bad(case);
        case.given(Got::body(body).lacks("Transfer-Encoding"), After::Either);
        if matches!(value, "gzip, chunked") {
            // The inner coding would be lost.
            case.outcomes.pop();
        }
    }
    for (name, fields) in [
        ("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("chunked and gzip", "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n"),
        ("gzip and chunked", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
    ] {
        bad(table.answer(format!("coding lines, {name}"), BAD_CODING, ok(fields, body), true));
    }
    let source = "RFC 9112 section 6.1: Transfer-Encoding in HTTP/1.0 is faulty framing";
    let case = table.answer(
        "coding in HTTP/1.0",
        source,
        format!("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}"),
        true,
    );
    bad(case);
    case.given(Got::body("hello"), After::Either).given(Got::body(body), After::Either);
}

fn both(table: &mut Table) {
    let source = "RFC 9112 section 6.3: chunked wins over Content-Length, which is removed, or it is a 502";
    let body = "5\r\nhello\r\n0\r\n\r\n";
    for (name, fields) in [
        ("length first", "Content-Length: 15\r\nTransfer-Encoding: chunked\r\n"),
        ("chunked first", "Transfer-Encoding: chunked\r\nContent-Length: 15\r\n"),
        ("a short length", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        ("a length of 0", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
        ("a long length", "Content-Length: 500\r\nTransfer-Encoding: chunked\r\n"),
    ] {
        let case = table.answer(format!("both, {name}"), source, ok(fields, body), false);
        case.given(Got::body("hello").lacks("Content-Length"), After::Either);
        bad(case);
    }
}

fn old_clients(table: &mut Table) {
    let source = "RFC 9112 sections 6.1 and 6.3: HTTP/1.0 gets a length or the close, never chunks";
    for (name, answer, ends) in [
        ("a length", ok("Content-Length: 5\r\n", "hello"), false),
        ("chunks", ok("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), false),
        (
            "chunks and a trailer",
            ok("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nT: v\r\n\r\n"),
            false,
        ),
        ("until the close", ok("", "hello"), true),
    ] {
        for fields in ["", "Connection: keep-alive\r\n"] {
            let case = table.answer(format!("for HTTP/1.0 {fields:?}: {name}"), source, &answer, ends);
            if let Some(super::super::case::Step::Send(bytes)) = case.steps.first_mut() {
                *bytes = format!("GET / HTTP/1.0\r\nHost: {HOST}\r\n{fields}\r\n").into_bytes();
            }
            let after = if fields.is_empty() { After::Closed } else { After::Either };
            case.given(Got::body("hello").lacks("Transfer-Encoding"), after);
        }
    }
}
