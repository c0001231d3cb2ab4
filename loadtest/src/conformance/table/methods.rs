//! Methods (RFC 9110 section 9): any token is one, and case matters.

use super::super::case::{After, HOST, Outcome, Seen, Table, get, join, request};
use super::super::message::is_token;
use super::named;

const ANY_TOKEN: &str =
    "RFC 9110 section 9.1: a method is a token, case-sensitive; 501 or 405 for one that is not served";
/// Statuses for a method that a gateway does not pass on.
const DECLINED: &[u16] = &[405, 501, 400, 403];

pub(crate) fn fill(table: &mut Table) {
    known(table);
    tokens(table);
    special(table);
}

fn known(table: &mut Table) {
    for method in [
        "GET", "HEAD", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "REPORT", "SEARCH", "PURGE", "M-SEARCH",
        "QUERY",
    ] {
        let case =
            table.row(method, "RFC 9110 section 9.3 and the method registry", request(method, "/", "", ""));
        case.serves(Seen { framing: None, ..Seen::new(method, "/") });
    }
    for method in ["POST", "PUT", "PATCH"] {
        let bytes = request(method, "/", "Content-Length: 2\r\n", "hi");
        let case = table.row(format!("{method} with a body"), "RFC 9110 section 9.3", bytes);
        case.serves(Seen::new(method, "/").body("hi"));
    }
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND"] {
        let bytes = request(method, "/", "Content-Length: 2\r\n", "hi");
        let source = "RFC 9110 sections 9.3.1 and 9.3.2: content has no meaning here, yet frames the message";
        let case = table.row(format!("{method} with a body"), source, bytes);
        case.serves(Seen::new(method, "/").body("hi")).refused();
        let bytes = request(method, "/", "Transfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\n\r\n");
        let case = table.row(format!("{method} with chunks"), source, bytes);
        case.serves(Seen::new(method, "/").body("hi")).refused();
    }
    for (method, fields) in [("POST", ""), ("PUT", ""), ("POST", "Content-Length: 0\r\n")] {
        let name = format!("{method} without a body, {}", if fields.is_empty() { "unsaid" } else { "said" });
        let case = table.row(
            name,
            "RFC 9112 section 6.3: no framing field, no body",
            request(method, "/", fields, ""),
        );
        case.serves(Seen::new(method, "/")).refused_with(&[411]);
    }
}

fn tokens(table: &mut Table) {
    for byte in b"!#$%&'*+-.^_`|~09az" {
        let method = join(&[b"X", &[*byte], b"Y"]);
        let case =
            table.row(format!("{} in a method", named(*byte)), ANY_TOKEN, request(&method, "/", "", ""));
        case.serves(Seen { framing: None, ..Seen::new(&method, "/") }).refused_with(DECLINED);
    }
    for byte in (0x21..=0x7e_u8).filter(|byte| !is_token(&[*byte])).chain([0x80, 0xc3, 0xff]) {
        let method = join(&[b"X", &[byte], b"Y"]);
        table
            .row(
                format!("{} in a method", named(byte)),
                "RFC 9110 section 5.6.2: no token",
                request(method, "/", "", ""),
            )
            .refused();
    }
    for method in ["get", "Get", "gET", "post", "head"] {
        let case =
            table.row(format!("{method} is not its upper case"), ANY_TOKEN, request(method, "/", "", ""));
        case.serves(Seen { framing: None, ..Seen::new(method, "/") }).refused_with(DECLINED);
    }
    let long = "X".repeat(40);
    let case = table.row("40 letters", ANY_TOKEN, request(&long, "/", "", ""));
    case.serves(Seen { framing: None, ..Seen::new(&long, "/") }).refused().refused_with(DECLINED);
    let huge = "X".repeat(100_000);
    let case = table.row("100,000 letters", "RFC 9112 section 3: bounded", request(huge, "/", "", ""));
    case.refused();
}

fn special(table: &mut Table) {
    let source = "RFC 9110 section 9.3.8: TRACE has no content; a gateway may decline it";
    let case = table.row("TRACE", source, request("TRACE", "/", "", ""));
    case.serves(Seen::new("TRACE", "/")).refused_with(DECLINED);
    let case = table.row("TRACE with a body", source, request("TRACE", "/", "Content-Length: 2\r\n", "hi"));
    case.serves(Seen::new("TRACE", "/").body("hi")).refused();
    let source = "RFC 9110 section 7.6.2: Max-Forwards of OPTIONS counts down, and at 0 it goes no further";
    let case =
        table.row("OPTIONS with Max-Forwards 5", source, request("OPTIONS", "/", "Max-Forwards: 5\r\n", ""));
    case.serves(Seen::new("OPTIONS", "/").has("Max-Forwards", "4"));
    let case =
        table.row("OPTIONS with Max-Forwards 0", source, request("OPTIONS", "/", "Max-Forwards: 0\r\n", ""));
    case.refused_with(&[200, 204, 405, 501, 403]);
    let case = table.row("GET with Max-Forwards 0", source, request("GET", "/", "Max-Forwards: 0\r\n", ""));
    case.serves(Seen::get("/"));
    let source = "RFC 9110 section 9.3.6: a gateway that opens no tunnels declines CONNECT, and what follows is no tunnel";
    for target in ["example.com:443", "{authority}", "[::1]:443"] {
        let bytes = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
        let case = table.row(format!("CONNECT {target}"), source, bytes);
        case.refused_with(&[400, 403, 404, 405, 501]);
    }
    for target in ["example.com", "/", "*", "http://example.com/", "example.com:443/", ":443", "example.com:"]
    {
        let bytes = format!("CONNECT {target} HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
        let source = "RFC 9112 section 3.2.3: only authority-form for CONNECT";
        table.row(format!("CONNECT {target}"), source, bytes).refused_with(&[400, 403, 404, 405, 501]);
    }
    let bytes = join(&[b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", &get("/behind")]);
    let case = table.row("CONNECT, then a request", source, bytes);
    case.uncut().refused();
    let got = super::super::case::Got::status;
    case.outcome(Outcome {
        seen: vec![Seen::get("/behind")],
        got: vec![got(&[400, 403, 404, 405, 501]), got(&[200])],
        after: After::Kept,
        ..Outcome::default()
    });
}
