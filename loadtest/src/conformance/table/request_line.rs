//! The request line and its line end (RFC 9112 sections 2.2 and 3).
//!
//! A recipient may split the line at any white space; then it must forward what it understood in the proper form. So most
//! malformed lines may be refused or served as a plain GET, but never passed on as they are.

use super::super::case::{After, Case, HOST, Outcome, REFUSALS, Seen, Table, get, join};
use super::super::case::{Body, Got};
use super::named;

const LINE: &str = "RFC 9112 section 3: SP between the parts, CRLF behind";
const LENIENT: &str = "RFC 9112 section 3: 400, or split at white space and forwarded in the proper form";
const CONTROLS: &str = "RFC 9112 sections 2.2 and 3: controls belong to no part of a request line";

pub(crate) fn fill(table: &mut Table) {
    valid(table);
    white_space(table);
    versions(table);
    controls(table);
    line_ends(table);
    malformed(table);
}

fn with_line(line: impl AsRef<[u8]>) -> Vec<u8> {
    join(&[line.as_ref(), b"Host: ", HOST.as_bytes(), b"\r\n\r\n"])
}

/// Refused, or served as the GET of `/` that a lenient reader finds.
fn lenient(case: &mut Case) {
    case.refused().served(vec![Seen::get("/")], After::Either);
}

fn valid(table: &mut Table) {
    table.row("plain", LINE, get("/")).serves(Seen::get("/").host(HOST));
    table.row("query", LINE, get("/a/b?c=d&e")).serves(Seen::get("/a/b?c=d&e"));
    let source =
        "RFC 9112 section 2.2: a server should ignore at least one empty line before the request line";
    table.row("one empty line before", source, join(&[b"\r\n", &get("/")])).serves(Seen::get("/"));
    let two = join(&[b"\r\n\r\n", &get("/")]);
    table.row("two empty lines before", source, two).serves(Seen::get("/")).refused();
    table
        .row(
            "two hundred empty lines before",
            "RFC 9112 section 2.2, bounded",
            join(&[&b"\r\n".repeat(200), &get("/")]),
        )
        .refused()
        .serves(Seen::get("/"));
    table
        .row(
            "a bare LF before",
            "RFC 9112 section 2.2: CRLF is the empty line; a bare LF may be taken for one",
            join(&[b"\n", &get("/")]),
        )
        .refused()
        .serves(Seen::get("/"));
    table.row("a bare CR before", CONTROLS, join(&[b"\r", &get("/")])).refused();
}

fn white_space(table: &mut Table) {
    for (name, line) in [
        ("two spaces before the target", "GET  / HTTP/1.1\r\n"),
        ("two spaces before the version", "GET /  HTTP/1.1\r\n"),
        ("tab before the target", "GET\t/ HTTP/1.1\r\n"),
        ("tab before the version", "GET /\tHTTP/1.1\r\n"),
        ("vertical tab before the target", "GET\x0b/ HTTP/1.1\r\n"),
        ("vertical tab before the version", "GET /\x0bHTTP/1.1\r\n"),
        ("form feed before the target", "GET\x0c/ HTTP/1.1\r\n"),
        ("form feed before the version", "GET /\x0cHTTP/1.1\r\n"),
        ("bare CR before the target", "GET\r/ HTTP/1.1\r\n"),
        ("bare CR before the version", "GET /\rHTTP/1.1\r\n"),
        ("space before the method", " GET / HTTP/1.1\r\n"),
        ("tab before the method", "\tGET / HTTP/1.1\r\n"),
        ("space behind the version", "GET / HTTP/1.1 \r\n"),
        ("tab behind the version", "GET / HTTP/1.1\t\r\n"),
        ("CR behind the version", "GET / HTTP/1.1\r\r\n"),
        ("vertical tab behind the version", "GET / HTTP/1.1\x0b\r\n"),
    ] {
        lenient(table.row(name, LENIENT, with_line(line)));
    }
    for (name, line) in [
        ("space in the target", "GET /a b HTTP/1.1\r\n"),
        ("a fourth word", "GET / HTTP/1.1 more\r\n"),
        ("a version twice", "GET / HTTP/1.1 HTTP/1.1\r\n"),
        ("a request line in the target", "GET / HTTP/1.1 GET /smuggled HTTP/1.1\r\n"),
    ] {
        table
            .row(name, "RFC 9112 section 3.2: no white space in a request target", with_line(line))
            .refused();
    }
}

fn versions(table: &mut Table) {
    let source = "RFC 9112 section 2.3: HTTP-version is eight bytes, case-sensitive, one digit each";
    for version in [
        "http/1.1",
        "Http/1.1",
        "HTTP/1.",
        "HTTP/.1",
        "HTTP/1",
        "HTTP/11",
        "HTTP/1.1.1",
        "HTTP/1.10",
        "HTTP/01.1",
        "HTTP/1.01",
        "HTTP/1.x",
        "HTTP/x.1",
        "HTTP/-1.1",
        "HTTP/+1.1",
        "HTTP/1,1",
        "HTTP /1.1",
        "HTTP/ 1.1",
        "HTTP/1. 1",
        "HTTPS/1.1",
        "HTP/1.1",
        "HTTTP/1.1",
        "XHTTP/1.1",
        "ICY/1.1",
        "1.1",
        "HTTP",
        "HTTP/",
        "HTTP\\1.1",
        "HTTP/1.1x",
        "HTTP/\u{661}.1",
    ] {
        table
            .row(format!("version {version:?}"), source, with_line(format!("GET / {version}\r\n")))
            .refused();
    }
    let source =
        "RFC 9110 section 15.6.6: 505 for a major version that is not supported; any other refusal is safe";
    for version in ["HTTP/2.0", "HTTP/3.0", "HTTP/9.9", "HTTP/0.9", "HTTP/0.0"] {
        table.row(format!("version {version}"), source, with_line(format!("GET / {version}\r\n"))).refused();
    }
    let source = "RFC 9110 section 2.5: a higher minor version is processed as the highest one known";
    for version in ["HTTP/1.2", "HTTP/1.9"] {
        let case = table.row(format!("version {version}"), source, with_line(format!("GET / {version}\r\n")));
        case.served(vec![Seen::get("/")], After::Either).refused();
    }
    let source = "RFC 9112 appendix C.1.2: HTTP/1.0 without keep-alive ends with its connection";
    let case = table.row("version HTTP/1.0", source, with_line("GET / HTTP/1.0\r\n"));
    case.served(vec![Seen::get("/")], After::Closed);
    let source = "RFC 9112 section 2.3: HTTP/2 preface to an HTTP/1.1 server";
    table.row("HTTP/2 preface", source, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").refused();
    let source = "HTTP/0.9 has no version; RFC 9112 knows it no more";
    table.row("HTTP/0.9", source, "GET /\r\n").refused();
    table.row("HTTP/0.9 with fields", source, with_line("GET /\r\n")).refused();
    table.row("HTTP/0.9 with a space", source, with_line("GET / \r\n")).refused();
}

fn controls(table: &mut Table) {
    let all = (0..=0x1f_u8).chain([0x7f]).filter(|byte| !matches!(byte, b'\n' | b'\r'));
    for byte in all.clone() {
        let line = join(&[b"G", &[byte], b"ET / HTTP/1.1\r\n"]);
        table.row(format!("{} in the method", named(byte)), CONTROLS, with_line(line)).refused();
    }
    for byte in all.clone() {
        let line = join(&[b"GET /a", &[byte], b"b HTTP/1.1\r\n"]);
        table.row(format!("{} in the target", named(byte)), CONTROLS, with_line(line)).refused();
    }
    for byte in all {
        let line = join(&[b"GET / HTTP/", &[byte], b"1.1\r\n"]);
        table.row(format!("{} in the version", named(byte)), CONTROLS, with_line(line)).refused();
    }
}

fn line_ends(table: &mut Table) {
    let source = "RFC 9112 section 2.2: a lone LF may be taken for a line end; what is forwarded has CRLF";
    let host = format!("Host: {HOST}");
    for (name, text) in [
        ("LF behind the request line", format!("GET / HTTP/1.1\n{host}\r\n\r\n")),
        ("LF behind a field", format!("GET / HTTP/1.1\r\n{host}\n\r\n")),
        ("LF as the empty line", format!("GET / HTTP/1.1\r\n{host}\r\n\n")),
        ("LF everywhere", format!("GET / HTTP/1.1\n{host}\n\n")),
    ] {
        lenient(table.row(name, source, text));
    }
    let source = "RFC 9112 section 2.2: a bare CR is invalid, or becomes a space";
    for (name, text) in [
        ("CR behind the request line", format!("GET / HTTP/1.1\r{host}\r\n\r\n")),
        ("CR everywhere", format!("GET / HTTP/1.1\r{host}\r\r")),
        ("LF CR everywhere", format!("GET / HTTP/1.1\n\r{host}\n\r\n\r")),
        ("CR CR LF behind a field", format!("GET / HTTP/1.1\r\n{host}\r\r\n\r\n")),
        ("CR CR LF as the empty line", format!("GET / HTTP/1.1\r\n{host}\r\n\r\r\n")),
        (
            "CR LF CR as the empty line, then a request",
            format!("GET / HTTP/1.1\r\n{host}\r\n\rGET /smuggled HTTP/1.1\r\n\r\n"),
        ),
    ] {
        let case = table.row(name, source, text);
        case.refused().served(vec![Seen::get("/").host(HOST)], After::Either);
        case.steps.push(super::super::case::Step::EndIfQuiet);
        // Without a line end the head never comes whole; then the client's end is all there is.
        case.outcome(Outcome { after: After::Closed, ..Outcome::default() });
    }
}

fn malformed(table: &mut Table) {
    for (name, text) in [
        ("no target", with_line("GET HTTP/1.1\r\n")),
        ("empty target", with_line("GET  HTTP/1.1\r\n")),
        ("method alone", with_line("GET\r\n")),
        ("no method", with_line(" / HTTP/1.1\r\n")),
        ("target first", with_line("/ GET HTTP/1.1\r\n")),
        ("colon behind the method", with_line("GET: / HTTP/1.1\r\n")),
        ("a field instead of a request line", with_line("")),
        ("a status line", with_line("HTTP/1.1 200 OK\r\n")),
        ("a TLS client hello", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n".to_vec()),
        ("an SSH banner", b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec()),
        ("a PROXY line", join(&[b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", &get("/")])),
        ("a PROXY header", join(&[b"\r\n\r\n\0\r\nQUIT\n\x20\x11\0\x0c", &get("/")])),
        ("a byte order mark", join(&[b"\xef\xbb\xbf", &get("/")])),
        ("zeroes", vec![0; 64]),
    ] {
        table
            .row(name, "RFC 9112 section 3: what is no request is answered with 400, or not at all", text)
            .refused();
    }
    let case = table.row(
        "refusals tell why",
        "RFC 9112 section 3.2: 400 to an invalid request line",
        with_line("GET / HTTP/1.1 \0\r\n"),
    );
    case.outcome(Outcome {
        got: vec![Got { statuses: REFUSALS.to_vec(), body: Body::Any, ..Got::default() }],
        after: After::Closed,
        ..Outcome::default()
    });
}
