//! Field lines (RFC 9110 section 5, RFC 9112 section 5): names, values, white space, folding, line ends.
//!
//! A field that is not valid may be refused or left out; what must not happen is that it is passed on as it came.

use super::super::case::{After, Got, HOST, Outcome, REFUSALS, Seen, Table, join, with};
use super::super::message::is_token;
use super::named;

const NAME: &str = "RFC 9110 section 5.1: a field name is a token";
const VALUE: &str =
    "RFC 9110 section 5.5: no control in a value; CR, LF and NUL are refused or replaced with a space";
const COLON: &str = "RFC 9112 section 5.1: white space before the colon is answered with 400";
const FOLD: &str = "RFC 9112 section 5.2: obsolete folding is answered with 400, or replaced with spaces";

pub(crate) fn fill(table: &mut Table) {
    names(table);
    values(table);
    controls(table);
    white_space(table);
    folding(table);
    line_ends(table);
    kept(table);
}

fn names(table: &mut Table) {
    for byte in b"!#$%&'*+-.^`|~09aZ" {
        let line = join(&[b"X", &[*byte], b"Y: v\r\n"]);
        let name: &'static str = String::from_utf8_lossy(&[b'X', *byte, b'Y']).into_owned().leak();
        table
            .row(format!("{} in a name", named(*byte)), NAME, with(line))
            .serves(Seen::get("/").has(name, "v"));
    }
    let source = "RFC 9110 section 5.1: an underscore is a token character; a back end may take it for a hyphen, so that some drop it";
    table.row("'_' in a name", source, with("X_Y: v\r\n")).serves(Seen::get("/").has("X_Y", "v"));
    for byte in
        (0x21..=0x7e_u8).filter(|byte| !is_token(&[*byte]) && *byte != b':').chain([0x80, 0xa0, 0xc3, 0xff])
    {
        let line = join(&[b"X", &[byte], b"Y: v\r\n"]);
        let case = table.row(format!("{} in a name", named(byte)), NAME, with(line));
        case.refused().served(vec![Seen::get("/").lacks("Y")], After::Either);
    }
    for byte in (0..=0x1f_u8).chain([0x7f]).filter(|byte| !matches!(byte, b'\r' | b'\n' | b'\t')) {
        let line = join(&[b"X", &[byte], b"Y: v\r\n"]);
        let case = table.row(format!("{} in a name", named(byte)), NAME, with(line));
        case.refused().served(vec![Seen::get("/").lacks("Y")], After::Either);
    }
    for (name, line) in [
        ("empty name", ": v\r\n"),
        ("empty name and value", ":\r\n"),
        ("no colon", "X\r\n"),
        ("no colon, two words", "X v\r\n"),
        ("a comma for the colon", "X, v\r\n"),
        ("space in a name", "X Y: v\r\n"),
        ("a name in quotes", "\"X\": v\r\n"),
    ] {
        table.row(name, NAME, with(line)).refused().served(vec![Seen::get("/").lacks("X")], After::Either);
    }
    table.row("two colons", NAME, with("X:: v\r\n")).serves(Seen::get("/").has("X", ": v"));
    table
        .row("a request line among the fields", NAME, with("GET /smuggled HTTP/1.1\r\n"))
        .refused()
        .served(vec![Seen::get("/").lacks("GET /smuggled HTTP/1.1")], After::Either);
}

fn values(table: &mut Table) {
    for (name, line, value) in [
        ("plain", "X: v\r\n", "v"),
        ("no space", "X:v\r\n", "v"),
        ("two spaces", "X:  v\r\n", "v"),
        ("tab", "X:\tv\r\n", "v"),
        ("space and tab", "X: \t v\r\n", "v"),
        ("space behind", "X: v \r\n", "v"),
        ("tabs behind", "X: v\t\t\r\n", "v"),
        ("empty", "X:\r\n", ""),
        ("empty with space", "X: \r\n", ""),
        ("empty with tabs", "X: \t \t\r\n", ""),
        ("spaces inside", "X: a  b\r\n", "a  b"),
        ("tab inside", "X: a\tb\r\n", "a\tb"),
        ("quotes", "X: \"a, \\\"b\\\"\"\r\n", "\"a, \\\"b\\\"\""),
        ("open quotes", "X: \"a\r\n", "\"a"),
        ("comment", "X: (a (b))\r\n", "(a (b))"),
        ("colons and semicolons", "X: a:b;c=d\r\n", "a:b;c=d"),
        ("commas", "X: , a,, b ,\r\n", ", a,, b ,"),
        (
            "all of ASCII",
            "X: !\"#$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~\r\n",
            "!\"#$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~",
        ),
        ("UTF-8", "X: caf\u{e9} \u{2603}\r\n", "caf\u{e9} \u{2603}"),
        ("percent", "X: %0d%0aY: z\r\n", "%0d%0aY: z"),
    ] {
        let source =
            "RFC 9112 section 5.1: white space around a value is no part of it; what is inside stays";
        table
            .row(format!("value: {name}"), source, with(line))
            .serves(Seen::get("/").has("X", value).lacks("Y"));
    }
    for byte in [0x80, 0xa0, 0xe9, 0xff] {
        let line = join(&[b"X: a", &[byte], b"b\r\n"]);
        let case = table.row(
            format!("value: {}", named(byte)),
            "RFC 9110 section 5.5: obs-text is opaque",
            with(line),
        );
        case.serves(Seen::get("/").has("X", [b'a', byte, b'b']));
    }
}

fn controls(table: &mut Table) {
    for byte in (0..=0x1f_u8).chain([0x7f]).filter(|byte| !matches!(byte, b'\t' | b'\r' | b'\n')) {
        for (place, line) in [
            ("inside", join(&[b"X: a", &[byte], b"b\r\n"])),
            ("at the front of", join(&[b"X: ", &[byte], b"v\r\n"])),
            ("at the end of", join(&[b"X: v", &[byte], b"\r\n"])),
        ] {
            // The places differ for the bytes that some take for white space or for an end.
            if place != "inside" && !matches!(byte, 0 | 0x0b | 0x0c | 0x1f | 0x7f) {
                continue;
            }
            let case = table.row(format!("{} {place} a value", named(byte)), VALUE, with(line));
            case.refused().served(vec![Seen::get("/")], After::Either);
        }
    }
}

fn white_space(table: &mut Table) {
    for (name, line) in [
        ("space before the colon", "X : v\r\n"),
        ("tab before the colon", "X\t: v\r\n"),
        ("two spaces before the colon", "X  : v\r\n"),
        ("space before the colon of Content-Length", "Content-Length : 0\r\n"),
        ("space before the colon of Transfer-Encoding", "Transfer-Encoding : chunked\r\n"),
        ("tab before the colon of Transfer-Encoding", "Transfer-Encoding\t: chunked\r\n"),
    ] {
        table.row(name, COLON, with(line)).refused_with(&[400]);
    }
    let source = "RFC 9112 section 2.2: a line that begins with white space behind the request line is refused, or skipped";
    for (name, lines) in [
        ("a first line behind a space", " X: v\r\n"),
        ("a first line behind a tab", "\tX: v\r\n"),
        ("a first line of a space", " \r\n"),
    ] {
        let bytes = format!("GET / HTTP/1.1\r\n{lines}Host: {HOST}\r\n\r\n");
        table.row(name, source, bytes).refused().served(vec![Seen::get("/").lacks("X")], After::Either);
    }
}

fn folding(table: &mut Table) {
    for (name, lines) in [
        ("space", "X: a\r\n b\r\n"),
        ("tab", "X: a\r\n\tb\r\n"),
        ("twice", "X: a\r\n b\r\n c\r\n"),
        ("empty first line", "X:\r\n a\r\n"),
        ("white space alone", "X: a\r\n \r\n"),
        ("white space alone, then more", "X: a\r\n \r\nY: b\r\n"),
        ("a field behind a space", "X: a\r\n Y: b\r\n"),
    ] {
        let case = table.row(format!("folded: {name}"), FOLD, with(lines));
        case.refused().serves(Seen::get("/"));
    }
    for (name, lines) in [
        ("Content-Length", "Content-Length:\r\n 2\r\n"),
        ("Content-Length in two", "Content-Length: 1\r\n 0\r\n"),
        ("Transfer-Encoding", "Transfer-Encoding:\r\n chunked\r\n"),
        ("Connection", "Connection:\r\n close\r\n"),
    ] {
        let case = table.row(format!("folded: {name}"), FOLD, join(&[&with(lines), b""]));
        case.refused();
        case.outcome(Outcome {
            got: vec![Got::status(REFUSALS)],
            partial: true,
            silent: true,
            ..Outcome::default()
        });
        if name == "Connection" {
            case.served(vec![Seen::get("/")], After::Either);
        }
        case.steps.push(super::super::case::Step::EndIfQuiet);
    }
}

fn line_ends(table: &mut Table) {
    let source = "RFC 9112 section 2.2: a bare CR makes the element invalid or becomes a space";
    for (name, line) in [
        ("CR inside a value", "X: a\rb\r\n"),
        ("CR inside a value, then what looks like a field", "X: a\rY: b\r\n"),
        ("CR at the end of a value", "X: a\r\r\n"),
        ("CR at the front of a value", "X: \ra\r\n"),
        ("CR before a name", "\rX: a\r\n"),
        ("CR inside a name", "X\rY: a\r\n"),
        ("CR before the colon", "X\r: a\r\n"),
        ("CR and NUL", "X: a\r\0\n\r\n"),
    ] {
        let case = table.row(name, source, with(line));
        case.refused().served(vec![Seen::get("/").lacks("Y")], After::Either);
    }
    let source =
        "RFC 9112 section 2.2: a lone LF may be taken for a line end, never passed on inside a value";
    for (name, line) in [
        ("LF inside a value", "X: a\nY: b\r\n"),
        ("LF at the end of a value", "X: a\n"),
        ("LF before a name", "\nX: a\r\n"),
        ("LF CR behind a value", "X: a\n\rY: b\r\n"),
        ("LF inside a name", "X\nY: a\r\n"),
    ] {
        let case = table.row(name, source, with(line));
        case.refused().served(vec![Seen::get("/")], After::Either);
        // An LF that ends a line makes an empty one of the next, and then the rest is another request, refused in turn.
        case.outcome(Outcome {
            seen: vec![Seen::get("/")],
            got: vec![Got::status(&[200]), Got::status(REFUSALS)],
            silent: true,
            ..Outcome::default()
        });
    }
}

fn kept(table: &mut Table) {
    let source = "RFC 9110 section 5.3: lines of the same name keep their order";
    let case = table.row("the order of repeated fields", source, with("X: a\r\nY: z\r\nX: b\r\nX: c\r\n"));
    case.serves(Seen::get("/").has("X", "a, b, c").has("Y", "z"));
    let case = table.row("cookies", "RFC 6265 section 5.4", with("Cookie: a=b; c=d\r\n"));
    case.serves(Seen::get("/").has("Cookie", "a=b; c=d"));
    let source = "RFC 9110 section 7.6: what a gateway does not know it passes on";
    for (name, value) in [
        ("Authorization", "Basic dTpw"),
        ("Accept-Encoding", "gzip, br;q=0.5"),
        ("If-None-Match", "W/\"a\", \"b\""),
        ("Range", "bytes=0-1,-5"),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("User-Agent", "a/1 (b; c)"),
        ("X-Unknown", "v"),
        ("Cache-Control", "no-cache"),
        ("Origin", "https://a.test"),
        ("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("Prefer", "respond-async"),
        ("Content-Digest", "sha-256=:AA==:"),
    ] {
        let case = table.row(format!("{name} is passed on"), source, with(format!("{name}: {value}\r\n")));
        case.serves(Seen::get("/").has(name, value));
    }
    let source = "CVE-2016-5385 (httpoxy): Proxy becomes HTTP_PROXY in CGI; a gateway may drop it";
    table.row("Proxy", source, with("Proxy: http://a/\r\n")).serves(Seen::get("/"));
}
