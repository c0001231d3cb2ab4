//! Whole connections: requests one behind the other, and the known ways to make two servers disagree about where
//! one ends. What must come out is a transcript: each request with its body, then a refusal, or what is still open.

use super::relay::relay_pieces;
use super::*;

/// Serves everything on a connection as a gateway would: each request is forwarded, re-read by a second parser, and must
/// read the same there.
fn transcript(stream: &[u8]) -> String {
    let mut lines = Vec::new();
    let mut rest = stream;
    let mut head = RequestHead::new();
    while !rest.is_empty() {
        match head.parse(rest, &HeadLimits::default()) {
            Ok(Parse::Partial) => {
                lines.push("open".to_owned());
                break;
            }
            Err(error) => {
                lines.push(format!("{}", error.status()));
                break;
            }
            Ok(Parse::Done(())) => {}
        }
        let mut relay = Relay::new(head.body, SinkFraming::Length, BodyLimits::default());
        let after = &rest[head.head_bytes..];
        let (payload, next) = match relay_pieces(&mut relay, &[after], 8) {
            Ok((_, _)) if !relay.is_done() => {
                lines.push("open body".to_owned());
                break;
            }
            Ok((payload, next)) => (payload, next.len()),
            Err(error) => {
                lines.push(format!("body {}", error.status()));
                break;
            }
        };
        let method = shown(head.method_span.of(rest));
        lines.push(format!("{method} {} [{}]", shown(head.target.path_bytes(rest)), shown(&payload)));
        if !head.keep_alive {
            lines.push("close".to_owned());
            break;
        }
        rest = &rest[rest.len() - next..];
    }
    lines.join(" | ")
}

#[test]
fn valid_connections_are_served_request_by_request() {
    let rows: [(&str, &str, &str); 13] = [
        (
            "pipelining",
            "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /a [] | GET /b []",
        ),
        (
            "body, then request",
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
            "POST /a [hello] | GET /b []",
        ),
        (
            "chunks, then request",
            "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
            "POST /a [hello] | GET /b []",
        ),
        (
            "an extra CRLF behind a body (9112 2.2)",
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
            "POST /a [hello] | GET /b []",
        ),
        (
            "GET with a body that looks like a request",
            "GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 30\r\n\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n..GET /b HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /a [GET /x HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n..] | GET /b []",
        ),
        (
            "TE.0: OPTIONS with chunks",
            "OPTIONS /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nGET\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
            "OPTIONS /a [GET] | GET /b []",
        ),
        (
            "CL.0: HEAD with a length",
            "HEAD /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
            "HEAD /a [abc] | GET /b []",
        ),
        (
            "close ends it",
            "GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /a [] | close",
        ),
        ("1.0 ends it", "GET /a HTTP/1.0\r\n\r\nGET /b HTTP/1.0\r\n\r\n", "GET /a [] | close"),
        (
            "1.0 with keep-alive goes on",
            "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /b HTTP/1.0\r\n\r\n",
            "GET /a [] | GET /b [] | close",
        ),
        (
            "Expect with the body at once",
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
            "POST /a [hello] | GET /b []",
        ),
        ("incomplete head", "GET /a HTTP/1.1\r\nHost: h\r\n", "open"),
        ("incomplete body", "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhell", "open body"),
    ];
    for (name, stream, expected) in rows {
        assert_eq!(transcript(stream.as_bytes()), expected, "{name}");
    }
}

/// A request with these framing fields and this body, and another one behind it.
fn attack(fields: &str, body: &str) -> String {
    transcript(
        format!("POST /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n{body}GET /b HTTP/1.1\r\nHost: h\r\n\r\n")
            .as_bytes(),
    )
}

#[test]
fn smuggling_by_two_framings_is_refused() {
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    let rows: [(&str, &str, &str); 30] = [
        ("CL.TE", "Content-Length: 13\r\nTransfer-Encoding: chunked\r\n", "400"),
        ("TE.CL", "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "400"),
        (
            "CL.TE with close",
            "Connection: close\r\nContent-Length: 13\r\nTransfer-Encoding: chunked\r\n",
            "400",
        ),
        ("CL.CL", "Content-Length: 5\r\nContent-Length: 15\r\n", "400"),
        ("CL.CL equal", "Content-Length: 15\r\nContent-Length: 15\r\n", "400"),
        ("CL list", "Content-Length: 15, 15\r\n", "400"),
        ("CL sign", "Content-Length: +15\r\n", "400"),
        ("CL space in name", "Content-Length : 15\r\n", "400"),
        ("CL space in name, 2", "Content Length: 15\r\n", "400"),
        ("TE.TE", "Transfer-Encoding: chunked\r\nTransfer-encoding: x\r\n", "400"),
        ("TE.TE", "Transfer-Encoding: x\r\nTransfer-encoding: chunked\r\n", "400"),
        ("TE xchunked", "Transfer-Encoding: xchunked\r\nContent-Length: 15\r\n", "400"),
        ("TE space before colon", "Transfer-Encoding : chunked\r\nContent-Length: 15\r\n", "400"),
        ("TE tab before colon", "Transfer-Encoding\t: chunked\r\n", "400"),
        ("TE line fold", "Transfer-Encoding:\r\n chunked\r\nContent-Length: 15\r\n", "400"),
        ("TE line fold, tab", "Transfer-Encoding:\r\n\tchunked\r\n", "400"),
        ("TE vertical tab", "Transfer-Encoding:\x0bchunked\r\nContent-Length: 15\r\n", "400"),
        ("TE leading space", " Transfer-Encoding: chunked\r\n", "400"),
        ("TE behind LF", "X: x\nTransfer-Encoding: chunked\r\n", "400"),
        ("TE behind CR", "X: x\rTransfer-Encoding: chunked\r\n", "400"),
        ("TE behind NUL", "X: x\0Transfer-Encoding: chunked\r\n", "400"),
        ("TE quoted", "Transfer-Encoding: \"chunked\"\r\nContent-Length: 15\r\n", "400"),
        ("TE identity", "Transfer-Encoding: identity\r\nContent-Length: 15\r\n", "400"),
        ("TE comma", "Transfer-Encoding: ,chunked\r\nContent-Length: 15\r\n", "400"),
        ("TE list", "Transfer-Encoding: chunked, identity\r\nContent-Length: 15\r\n", "400"),
        ("TE unknown first", "Transfer-Encoding: gzip, chunked\r\n", "501"),
        (
            "Connection strips CL",
            "Connection: Content-Length\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "400",
        ),
        (
            "Connection strips TE",
            "Connection: Transfer-Encoding\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "400",
        ),
        ("Expect obfuscated", "Expect: y 100-continue\r\nContent-Length: 15\r\n", "417"),
        ("Expect obfuscated", "Expect:\r\n 100-continue\r\nContent-Length: 15\r\n", "400"),
    ];
    for (name, fields, expected) in rows {
        assert_eq!(attack(fields, chunks), expected, "{name}");
    }
    let hidden = "GET /x HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(transcript(hidden.as_bytes()), "400", "0.CL");
    let http10 = "POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n0\r\n\r\n";
    assert_eq!(transcript(http10.as_bytes()), "400", "chunks in 1.0");
}

#[test]
fn look_alikes_of_framing_fields_have_no_effect_and_go_nowhere() {
    for fields in ["Content_Length: 15\r\n", "Transfer_Encoding: chunked\r\n"] {
        assert_eq!(attack(fields, ""), "POST /a [] | GET /b []", "{fields}");
    }
}

#[test]
fn smuggling_by_chunk_lines_is_refused() {
    let rows: [(&str, &str); 16] = [
        ("TERM.EXT by LF", "2;\nxx\r\n10\r\n\r\nGET /x HTTP/1.1\r\n0\r\n\r\n"),
        ("EXT.TERM by LF", "2;a\nxx\r\n0\r\n\r\n"),
        ("TERM.EXT by CR", "2;a\rxx\r\n0\r\n\r\n"),
        ("TERM.SPILL by LF", "5\nhello\r\n0\r\n\r\n"),
        ("SPILL.TERM by LF", "5\r\nhello\n0\r\n\r\n"),
        ("SPILL.TERM by CR", "5\r\nhello\r0\r\n\r\n"),
        ("SPILL.TERM by nothing", "5\r\nhello0\r\n\r\n"),
        ("SPILL of two bytes", "5\r\nhelloXX0\r\n\r\n"),
        ("SPILL of a digit", "5\r\nhello\r\n3\r\nab\r\n0\r\n\r\n"),
        ("last chunk by LF", "5\r\nhello\r\n0\n\r\n"),
        ("end by LF", "5\r\nhello\r\n0\r\n\n"),
        ("negative", "-5\r\nhello\r\n0\r\n\r\n"),
        ("prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("overflow to 5", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("quoted CRLF", "5;a=\"\r\nhello\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\"\r\nhello\r\n0\r\n\r\n"),
        ("size in a fold", "5\r\n hello\r\n0\r\n\r\n"),
    ];
    for (name, body) in rows {
        let found = attack("Transfer-Encoding: chunked\r\n", body);
        assert_eq!(found, "body 400", "{name}");
    }
}

#[test]
fn trailers_cannot_add_a_framing_or_a_request() {
    let body = "5\r\nhello\r\n0\r\nContent-Length: 50\r\nTransfer-Encoding: x\r\n\r\n";
    assert_eq!(attack("Transfer-Encoding: chunked\r\n", body), "POST /a [hello] | GET /b []");
    let body = "0\r\nGET /x HTTP/1.1\r\nX: y\r\n\r\n";
    assert_eq!(attack("Transfer-Encoding: chunked\r\n", body), "body 400");
}
