//! Transfer-Encoding of requests (RFC 9112 sections 6.1, 6.3 and 7).

use super::super::case::{After, Got, Outcome, Seen, Table, join, post};
use super::named;

const CODING: &str = "RFC 9112 sections 6.1 and 6.3: chunked alone and last, else 400 or 501 and a close";
const BOTH: &str = "RFC 9112 section 6.3: with Content-Length refused, or chunked wins, Content-Length goes and the connection closes";
const BODY: &str = "5\r\nhello\r\n0\r\n\r\n";

pub(crate) fn fill(table: &mut Table) {
    valid(table);
    other_codings(table);
    bytes(table);
    with_length(table);
    versions(table);
}

fn coding(value: impl AsRef<[u8]>) -> Vec<u8> {
    post(join(&[b"Transfer-Encoding: ", value.as_ref(), b"\r\n"]), BODY)
}

fn valid(table: &mut Table) {
    for value in ["chunked", "Chunked", "CHUNKED", "cHuNkEd", "  chunked", "chunked  ", "\tchunked\t"] {
        table.row(format!("{value:?}"), CODING, coding(value)).serves(Seen::post("hello"));
    }
    for fields in [
        "Transfer-Encoding:chunked\r\n",
        "transfer-encoding: chunked\r\n",
        "TRANSFER-ENCODING: chunked\r\n",
        "X: y\r\nTransfer-Encoding: chunked\r\nY: z\r\n",
    ] {
        table.row(format!("{fields:?}"), CODING, post(fields, BODY)).serves(Seen::post("hello"));
    }
    let source = "RFC 9110 section 5.6.1.2: a recipient may skip empty list members";
    for value in ["chunked,", ",chunked", ", chunked ,", "chunked, "] {
        table
            .row(format!("{value:?}"), source, coding(value))
            .refused()
            .served(vec![Seen::post("hello")], After::Either);
    }
    let source = "RFC 9112 section 6.1: Transfer-Encoding is a list; an empty line adds nothing to it";
    for (name, fields) in [
        ("an empty line before", "Transfer-Encoding:\r\nTransfer-Encoding: chunked\r\n"),
        ("an empty line behind", "Transfer-Encoding: chunked\r\nTransfer-Encoding:\r\n"),
    ] {
        table
            .row(name, source, post(fields, BODY))
            .refused()
            .served(vec![Seen::post("hello")], After::Either);
    }
}

fn other_codings(table: &mut Table) {
    for value in [
        "",
        "identity",
        "gzip",
        "deflate",
        "compress",
        "br",
        "x",
        "chunk",
        "chunke",
        "chunkedd",
        "xchunked",
        "chunked-x",
        "chunked2",
        "gzip, chunked",
        "gzip,chunked",
        "identity, chunked",
        "x, chunked",
        "trailers, chunked",
        "chunked, gzip",
        "chunked, identity",
        "chunked, x",
        "chunked, chunked",
        "chunked,chunked",
        "chunked, gzip, chunked",
        "chunked;a=b",
        "chunked; q=1",
        "chunked;q=0",
        "gzip;q=1, chunked",
        "\"chunked\"",
        "'chunked'",
        "(chunked)",
        "[chunked]",
        "<chunked>",
        "{chunked}",
        "chun ked",
        "chunked chunked",
        "chunked x",
        "chunked identity",
        "chunked:",
        ":chunked",
        "=chunked",
        "chunked=",
        "chunked/1",
        "*",
        "none",
        "null",
        "true",
        "0",
        "5",
        "%63hunked",
        "c\\hunked",
        "chunked\\",
        "chu\u{0306}nked",
        "\u{441}hunked",
        "\u{ff43}hunked",
        "-chunked",
        "chunked.",
    ] {
        let case = table.row(format!("{value:?}"), CODING, coding(value));
        case.refused();
    }
    table.row("with the Kelvin sign", CODING, coding("chun\u{212a}ed")).refused();
    for (name, fields) in [
        ("two lines of chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("gzip, then chunked", "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n"),
        ("chunked, then gzip", "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n"),
        ("chunked, then identity", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
        ("identity, then chunked", "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n"),
        ("chunked, then nonsense", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"),
        ("nonsense, then chunked", "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n"),
        ("lines in other case", "Transfer-Encoding: chunked\r\ntransfer-encoding: cow\r\n"),
    ] {
        table.row(name, CODING, post(fields, BODY)).refused();
    }
    let source = "RFC 9112 section 6.1: a coding that is not understood should be answered with 501";
    let case = table.row("501 or 400 to an unknown coding", source, coding("x-unknown, chunked"));
    case.outcome(Outcome { got: vec![Got::status(&[501, 400])], after: After::Closed, ..Outcome::default() });
}

fn bytes(table: &mut Table) {
    let source = "Published TE.TE attacks: a byte that one reader trims and another does not";
    for byte in (0..=0x1f_u8).chain([0x7f, 0x85, 0xa0]).filter(|byte| !matches!(byte, b'\t' | b'\n' | b'\r'))
    {
        for (place, value) in
            [("before", join(&[&[byte], b"chunked"])), ("behind", join(&[b"chunked", &[byte]]))]
        {
            if place == "before" && !matches!(byte, 0 | 0x0b | 0x0c | 0x08 | 0x7f | 0x85 | 0xa0) {
                continue;
            }
            table.row(format!("{} {place} chunked", named(byte)), source, coding(value)).refused();
        }
    }
    for (name, fields) in [
        ("CR before chunked", "Transfer-Encoding: \rchunked\r\n"),
        ("CR behind chunked", "Transfer-Encoding: chunked\r\r\n"),
    ] {
        table.row(name, source, post(fields, BODY)).refused();
    }
    let case = table.row("LF before chunked", source, post("Transfer-Encoding: \nchunked\r\n", BODY));
    case.refused();
}

fn with_length(table: &mut Table) {
    for (name, fields) in [
        ("Content-Length of the chunks, behind", "Transfer-Encoding: chunked\r\nContent-Length: 15\r\n"),
        ("Content-Length of the chunks, before", "Content-Length: 15\r\nTransfer-Encoding: chunked\r\n"),
        ("Content-Length of the data", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        ("Content-Length 0", "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n"),
        ("Content-Length too large", "Content-Length: 500\r\nTransfer-Encoding: chunked\r\n"),
        ("two Content-Lengths", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n"),
        ("an invalid Content-Length", "Content-Length: x\r\nTransfer-Encoding: chunked\r\n"),
        ("an empty Content-Length", "Content-Length:\r\nTransfer-Encoding: chunked\r\n"),
    ] {
        let case = table.row(format!("chunked and {name}"), BOTH, post(fields, BODY));
        case.refused().served(vec![Seen::post("hello").lacks("Content-Length")], After::Closed);
    }
    let source = "RFC 9110 section 5.1: a name is compared as a whole";
    for name in [
        "X-Transfer-Encoding",
        "Transfer-Encoding-X",
        "Transfer-Encodin",
        "TransferEncoding",
        "Transfer_Encoding",
        "Transfer.Encoding",
    ] {
        let fields = format!("{name}: chunked\r\nContent-Length: 15\r\n");
        let case = table.row(format!("{name} does not frame"), source, post(fields, BODY));
        case.serves(Seen::post(BODY).lacks("Transfer-Encoding"));
    }
}

fn versions(table: &mut Table) {
    let source = "RFC 9112 section 6.1: Transfer-Encoding in HTTP/1.0 is faulty framing; the connection closes whatever else";
    for (name, fields) in [
        ("chunked", "Transfer-Encoding: chunked\r\n"),
        ("chunked with keep-alive", "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n"),
        ("chunked with Content-Length", "Content-Length: 15\r\nTransfer-Encoding: chunked\r\n"),
    ] {
        let bytes = join(&[b"POST / HTTP/1.0\r\nHost: a\r\n", fields.as_bytes(), b"\r\n", BODY.as_bytes()]);
        let case = table.row(format!("HTTP/1.0, {name}"), source, bytes);
        case.refused().served(vec![Seen::post("hello").lacks("Content-Length")], After::Closed);
        case.outcome(Outcome {
            seen: vec![Seen::post(BODY)],
            got: vec![Got::status(&[200])],
            after: After::Closed,
            ..Outcome::default()
        });
    }
    let bytes = join(&[
        b"POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    ]);
    let case = table.row("HTTP/1.0, chunked, then a request", source, bytes);
    case.refused().served(vec![Seen::post("")], After::Closed);
}
