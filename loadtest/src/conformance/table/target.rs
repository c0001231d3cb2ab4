//! The request target (RFC 9112 section 3.2, RFC 3986): its four forms, its characters, its authority.

use super::super::case::{After, HOST, Seen, Table, get, request};
use super::named;

const ORIGIN: &str = "RFC 9112 section 3.2.1: origin-form is passed on as it came";
const ABSOLUTE: &str = "RFC 9112 section 3.2.2: the authority of an absolute-form replaces Host";
const CHARACTERS: &str =
    "RFC 3986 section 3.3: not allowed in a target; refused, or passed on where it cannot end it";

pub(crate) fn fill(table: &mut Table) {
    origin_form(table);
    dot_segments(table);
    absolute_form(table);
    absolute_form_refused(table);
    other_forms(table);
    characters(table);
}

fn origin_form(table: &mut Table) {
    for target in [
        "/",
        "/a",
        "/a/",
        "/a/b/c",
        "/?",
        "/a?",
        "/?a",
        "/a?b?c",
        "/a?b=/../c",
        "/a?b=%2e%2e",
        "/a;b=c",
        "/a,b",
        "/a:b",
        "/a@b",
        "/a=b",
        "/a&b",
        "/a$b",
        "/a!b",
        "/a'b",
        "/(a)",
        "/a*b",
        "/a+b",
        "/~a",
        "/a_b",
        "/a-b.c",
        "/%20",
        "/%C3%A9",
        "/%c3%a9",
        "/a%2Fb",
        "/a%2fb",
        "/a%3Fb",
        "/a%23b",
        "/a%25b",
        "/http://a/",
        "/*",
        "/a?http://b/",
        "/?%",
        "/?%zz",
        "/a?*",
        "/a%5Cb",
        "/.a",
        "/a.",
        "/...",
        "/a/...",
        "/.../a",
        "/?a=b&c=d;e=f,g",
    ] {
        table.row(format!("origin-form {target}"), ORIGIN, get(target)).serves(Seen::get(target));
    }
    let source = "RFC 3986 section 3.3: empty segments are segments; a gateway may join them";
    for (target, joined) in [("//", "/"), ("//a", "/a"), ("/a//b", "/a/b"), ("///", "/")] {
        table
            .row(format!("origin-form {target}"), source, get(target))
            .serves(Seen::get(target).or_target(joined));
    }
    let source = "RFC 3986 section 2.1: a percent sign begins two digits; refused, or passed on as it came";
    for target in ["/%", "/%a", "/%zz", "/a%2", "/%%41"] {
        table.row(format!("origin-form {target}"), source, get(target)).serves(Seen::get(target)).refused();
    }
    let source = "RFC 3986 section 7.3: a NUL that is encoded; refused, or passed on encoded";
    table
        .row("origin-form /a%00b", source, get("/a%00b"))
        .serves(Seen::get("/a%00b"))
        .refused()
        .refused_with(&[400]);
}

fn dot_segments(table: &mut Table) {
    let source = "RFC 3986 section 6.2.2.3: dot segments may be resolved, never above the root; what is routed is what is sent";
    for (target, resolved) in [
        ("/./a", "/a"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/..", "/"),
        ("/a/.", "/a/"),
        ("/a/b/../../c", "/c"),
        ("/%2e/a", "/a"),
        ("/a/%2e%2e/b", "/b"),
        ("/a/%2E%2e/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/a/../b?c=../d", "/b?c=../d"),
    ] {
        let case = table.row(format!("dots {target}"), source, get(target));
        case.serves(Seen::get(target).or_target(resolved)).refused_with(&[400, 403]).refused();
    }
    for (target, resolved) in
        [("/..", "/"), ("/../a", "/a"), ("/a/../../b", "/b"), ("/%2e%2e/a", "/a"), ("/..%2fa", "/..%2fa")]
    {
        let case = table.row(format!("dots {target}"), source, get(target));
        case.serves(Seen::get(target).or_target(resolved)).refused_with(&[400, 403]).refused();
    }
}

fn absolute(target: &str) -> Vec<u8> {
    request("GET", target, "", "")
}

fn absolute_form(table: &mut Table) {
    for (target, path, host) in [
        ("http://a.test/", "/", "a.test"),
        ("http://a.test/b?c", "/b?c", "a.test"),
        ("http://a.test", "/", "a.test"),
        ("http://a.test?b", "/?b", "a.test"),
        ("http://a.test:8080/b", "/b", "a.test:8080"),
        ("HTTP://a.test/b", "/b", "a.test"),
        ("hTTp://A.test/b", "/b", "A.test"),
        ("http://127.0.0.1/b", "/b", "127.0.0.1"),
        ("http://[::1]/b", "/b", "[::1]"),
        ("http://[::1]:81/b", "/b", "[::1]:81"),
        ("http://a.test/http://b/", "/http://b/", "a.test"),
        ("http://a.test/b?http://c/", "/b?http://c/", "a.test"),
        ("http://conform.test/b", "/b", HOST),
    ] {
        let case = table.row(format!("absolute-form {target}"), ABSOLUTE, absolute(target));
        case.serves(Seen::get(path).host(host));
    }
    let case = table.row("absolute-form http://{authority}/b", ABSOLUTE, absolute("http://{authority}/b"));
    case.serves(Seen::get("/b"));
    let source = "RFC 9112 section 3.2.2: Host is there even when the target has the authority";
    let case = table.row("absolute-form without Host", source, "GET http://a.test/b HTTP/1.1\r\n\r\n");
    case.refused_with(&[400]);
    let bytes = "GET http://a.test/b HTTP/1.1\r\nHost: b\r\nHost: c\r\n\r\n";
    table.row("absolute-form with two Hosts", source, bytes).refused_with(&[400]);
    let case = table.row("absolute-form of HTTP/1.0", ABSOLUTE, "GET http://a.test/b HTTP/1.0\r\n\r\n");
    case.served(vec![Seen::get("/b").host("a.test")], After::Closed);
    let bytes = request("POST", "http://a.test/b", "Content-Length: 2\r\n", "hi");
    let case = table.row("absolute-form with a body", ABSOLUTE, bytes);
    case.serves(Seen::new("POST", "/b").host("a.test").body("hi"));
    let source = "RFC 9110 section 7.4: https over plain TCP; served, or refused as misdirected";
    let case = table.row("absolute-form https", source, absolute("https://a.test/b"));
    case.serves(Seen::get("/b").host("a.test")).refused_with(&[400, 403, 421]);
}

fn absolute_form_refused(table: &mut Table) {
    let source = "RFC 9110 sections 4.2.1 and 4.2.4, RFC 3986 section 3.2: no host, userinfo or no authority";
    for target in [
        "http:///b",
        "http://",
        "http:",
        "http:/",
        "http:/b",
        "http:b",
        "http://:80/",
        "http://?b",
        "http://u@a.test/",
        "http://u:p@a.test/",
        "http://@a.test/",
        "http://a.test:x/",
        "http://a.test:-1/",
        "http://a.test:8 0/",
        "http://[::1/",
        "http://::1/",
        "http://[::g]/",
        "http://a_b c/",
        "http://a,b/",
        "http://a\\b/",
        "http://a.test\\@b/",
        "http://a%zz/",
        "http//a.test/",
        "://a.test/",
        "a.test/b",
        "a.test:80/b",
        "ftp://a.test/",
        "file:///etc/passwd",
        "javascript:b",
        "http://a.test#b",
        "http://a.test:80:80/",
        "\\",
        "b",
        "?b",
        "#b",
        ".",
        "..",
        "b/c",
        ";b",
        "%2f",
        "http://a.test:99999/",
    ] {
        let case = table.row(format!("target {target}"), source, absolute(target));
        case.refused();
    }
}

fn other_forms(table: &mut Table) {
    let source = "RFC 9112 section 3.2.4: asterisk-form for the server as a whole; forwarded as such, or answered by the gateway";
    for (name, target) in [("OPTIONS *", "*"), ("OPTIONS of an absolute-form without path", "http://a.test")]
    {
        let case = table.row(name, source, request("OPTIONS", target, "", ""));
        case.serves(Seen { framing: None, ..Seen::new("OPTIONS", "*") })
            .refused_with(&[200, 204, 404, 405, 501]);
    }
    let case = table.row(
        "OPTIONS of an absolute-form with a path",
        ABSOLUTE,
        request("OPTIONS", "http://a.test/", "", ""),
    );
    case.serves(Seen { framing: None, ..Seen::new("OPTIONS", "/").host("a.test") });
    for method in ["GET", "HEAD", "POST", "DELETE", "TRACE"] {
        let source = "RFC 9112 section 3.2.4: asterisk-form is for OPTIONS alone";
        let case = table.row(format!("{method} *"), source, request(method, "*", "", ""));
        case.refused().refused_with(&[400, 404, 405, 411]);
    }
    for target in ["a.test:80", "a.test:443", "127.0.0.1:80", "[::1]:80", "*:80", "**", "*/", "/*"] {
        let case = table.row(
            format!("authority-form {target}"),
            "RFC 9112 section 3.2.3: authority-form is for CONNECT alone",
            get(target),
        );
        if target == "/*" {
            case.serves(Seen::get(target));
        } else {
            case.refused();
        }
    }
}

fn characters(table: &mut Table) {
    for byte in b"\"<>\\^`{|}[]" {
        for (place, prefix) in [("path", "/a"), ("query", "/?a")] {
            let mut target = prefix.as_bytes().to_vec();
            target.push(*byte);
            target.push(b'b');
            let encoded = format!("{prefix}%{byte:02X}b");
            let case = table.row(format!("{} in the {place}", named(*byte)), CHARACTERS, get(&target));
            case.serves(Seen::get(&target).or_target(encoded)).refused();
        }
    }
    for byte in [0x80, 0xa0, 0xc3, 0xe9, 0xff] {
        for (place, prefix) in [("path", "/a"), ("query", "/?a")] {
            let mut target = prefix.as_bytes().to_vec();
            target.push(byte);
            target.push(b'b');
            let encoded = format!("{prefix}%{byte:02X}b");
            let case = table.row(format!("{} in the {place}", named(byte)), CHARACTERS, get(&target));
            case.serves(Seen::get(&target).or_target(encoded)).refused();
        }
    }
    let source = "RFC 9112 section 3.2: a fragment is never sent; refused, left out or encoded";
    for (target, cut, encoded) in [("/a#b", "/a", "/a%23b"), ("/#", "/", "/%23"), ("/?a#b", "/?a", "/?a%23b")]
    {
        let case = table.row(format!("fragment {target}"), source, get(target));
        case.serves(Seen::get(cut).or_target(encoded)).refused();
    }
    let case = table.row("fragment of an absolute-form", source, get("http://a.test/a#b"));
    case.serves(Seen::get("/a").or_target("/a%23b")).refused();
}
