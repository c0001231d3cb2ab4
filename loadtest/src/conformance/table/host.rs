//! Host (RFC 9110 section 7.2, RFC 9112 section 3.2): exactly one, valid, and the one that is forwarded.

use super::super::case::{After, HOST, Seen, Table, join};
use super::named;

const ONE: &str =
    "RFC 9112 section 3.2: 400 to a request without Host, with more than one, or with an invalid one";
const VALID: &str = "RFC 9110 section 7.2: Host is uri-host and optional port";

pub(crate) fn fill(table: &mut Table) {
    count(table);
    valid(table);
    invalid(table);
    bytes(table);
}

fn raw(lines: impl AsRef<[u8]>) -> Vec<u8> {
    join(&[b"GET / HTTP/1.1\r\n", lines.as_ref(), b"\r\n"])
}

fn count(table: &mut Table) {
    table.row("missing", ONE, raw("")).refused_with(&[400]);
    table.row("missing, other fields there", ONE, raw("X-Host: a\r\nAccept: */*\r\n")).refused_with(&[400]);
    table.row("missing, X-Forwarded-Host there", ONE, raw("X-Forwarded-Host: a\r\n")).refused_with(&[400]);
    for (name, lines) in [
        ("twice the same", "Host: a\r\nHost: a\r\n"),
        ("twice different", "Host: a\r\nHost: b\r\n"),
        ("twice in other case", "Host: a\r\nhOST: a\r\n"),
        ("twice apart", "Host: a\r\nX: y\r\nHost: a\r\n"),
        ("twice, the first empty", "Host:\r\nHost: a\r\n"),
        ("twice, the second empty", "Host: a\r\nHost:\r\n"),
        ("three times", "Host: a\r\nHost: a\r\nHost: a\r\n"),
        ("a second one with space before the colon", "Host: a\r\nHost : b\r\n"),
    ] {
        table.row(name, ONE, raw(lines)).refused_with(&[400]);
    }
    let source = "Published Host attacks: a second Host hidden by folding or a leading space";
    for (name, lines) in [
        ("a second one behind a space", "Host: a\r\n Host: b\r\n"),
        ("a first one behind a space", " Host: b\r\nHost: a\r\n"),
        ("folded", "Host:\r\n a\r\n"),
    ] {
        let case = table.row(name, source, raw(lines));
        case.refused();
        if name == "a first one behind a space" {
            case.served(vec![Seen::get("/").host("a")], After::Either);
        }
        if name == "folded" {
            case.served(vec![Seen::get("/").host("a")], After::Either);
        }
    }
    let source = "RFC 9112 section 3.2: HTTP/1.0 may leave Host out";
    let case = table.row("missing in HTTP/1.0", source, "GET / HTTP/1.0\r\n\r\n");
    case.served(vec![Seen::get("/")], After::Closed);
    let case = table.row("there in HTTP/1.0", source, "GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    case.served(vec![Seen::get("/").host("a")], After::Closed);
    table.row("twice in HTTP/1.0", ONE, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n").refused_with(&[400]);
    let source =
        "RFC 9110 section 7.2: empty when the target has no authority; an http resource always has one";
    table
        .row("empty", source, raw("Host:\r\n"))
        .refused_with(&[400])
        .served(vec![Seen::get("/")], After::Either);
    let case = table.row("empty in HTTP/1.0", source, "GET / HTTP/1.0\r\nHost:\r\n\r\n");
    case.refused_with(&[400]).served(vec![Seen::get("/")], After::Closed);
}

fn valid(table: &mut Table) {
    for host in [
        HOST,
        "A.Test",
        "a.test.",
        "localhost",
        "127.0.0.1",
        "127.0.0.1:80",
        "a.test:8080",
        "a.test:080",
        "a.test:65535",
        "[::1]",
        "[::1]:8080",
        "[2001:db8::1]",
        "[2001:DB8::1]",
        "[::ffff:192.0.2.1]",
        "[v1.fe80::a+en1]",
        "a_b.test",
        "xn--bcher-kva.example",
        "1",
        "1.2",
        "a-b.test",
        "-a.test",
        "a!$&'()*+;=b",
        "%41.test",
        "a~b",
    ] {
        let case = table.row(format!("valid {host}"), VALID, raw(format!("Host: {host}\r\n")));
        case.serves(Seen::get("/").host(host));
    }
    for (name, line) in [
        ("no space", "Host:a.test\r\n"),
        ("tab", "Host:\ta.test\r\n"),
        ("spaces around", "Host:   a.test  \r\n"),
        ("lower case", "host: a.test\r\n"),
        ("upper case", "HOST: a.test\r\n"),
        ("after other fields", "A: b\r\nC: d\r\nHost: a.test\r\n"),
    ] {
        table.row(name, VALID, raw(line)).serves(Seen::get("/").host("a.test"));
    }
    let source = "RFC 3986 section 3.2.3: an empty port is valid, and may be left out";
    let case = table.row("empty port", source, raw("Host: a.test:\r\n"));
    case.serves(Seen::get("/").host("a.test:")).serves(Seen::get("/").host("a.test"));
    let source = "RFC 3986 section 3.2.3: any number is grammatical, but no port is above 65535";
    for host in ["a.test:65536", "a.test:99999999999999999999"] {
        let case = table.row(format!("port of {host}"), source, raw(format!("Host: {host}\r\n")));
        case.refused_with(&[400]).serves(Seen::get("/").host(host));
    }
    let name = format!("{}.test", "a".repeat(60));
    table.row("a long label", VALID, raw(format!("Host: {name}\r\n"))).serves(Seen::get("/").host(name));
    let long = "a.".repeat(150) + "test";
    let case =
        table.row("longer than DNS allows", "RFC 3986 section 3.2.2", raw(format!("Host: {long}\r\n")));
    case.refused_with(&[400]).serves(Seen::get("/").host(long));
}

fn invalid(table: &mut Table) {
    for host in [
        "a b",
        "a\tb",
        "a, b",
        "a,b",
        "a;b c",
        "u@a.test",
        "u:p@a.test",
        "@a.test",
        "a.test/",
        "a.test/b",
        "/a.test",
        "a.test?b",
        "a.test#b",
        "a\\b",
        "http://a.test",
        "http://a.test/",
        "a.test:x",
        "a.test:80x",
        "a.test:-80",
        "a.test:+80",
        "a.test: 80",
        "a.test :80",
        "a.test:80:80",
        ":80",
        ":",
        "[::1",
        "::1",
        "[]",
        "[::1]x",
        "[::1]80",
        "[::g]",
        "[:::1]",
        "[1.2.3.4]",
        "[::1%25eth0]",
        "[::1%eth0]",
        "[v1]",
        "[v.a]",
        "a[b]",
        "\"a.test\"",
        "<a>",
        "a^b",
        "a`b",
        "a{b}",
        "a|b",
        "%",
        "a%",
        "a%2",
        "a%zz",
        "a%00b%",
        "a.test:80,b.test",
        "a.test\u{3002}b",
        "\u{e9}.test",
    ] {
        table.row(format!("invalid {host:?}"), ONE, raw(format!("Host: {host}\r\n"))).refused_with(&[400]);
    }
}

fn bytes(table: &mut Table) {
    let source = "RFC 9112 section 3.2 and RFC 9110 section 5.5: a control makes Host invalid";
    for byte in (0..=0x1f_u8).chain([0x7f]).filter(|byte| !matches!(byte, b'\t' | b'\n' | b'\r')) {
        let line = join(&[b"Host: a", &[byte], b"b\r\n"]);
        table.row(format!("{} inside", named(byte)), source, raw(line)).refused();
    }
    for byte in [0x00, 0x0b, 0x0c, 0x7f, 0xa0, 0x85] {
        let line = join(&[b"Host: a.test", &[byte], b"\r\n"]);
        table.row(format!("{} at the end", named(byte)), source, raw(line)).refused();
        let line = join(&[b"Host:", &[byte], b"a.test\r\n"]);
        table.row(format!("{} at the front", named(byte)), source, raw(line)).refused();
    }
}
