//! Fields of one connection (RFC 9110 section 7.6.1): removed by whoever forwards, both ways, with everything that Connection names.

use super::super::case::{After, Got, Seen, Table, get, request, with};

const OWN: &str = "RFC 9110 section 7.6.1: fields of the connection are not forwarded";
const NAMED: &str = "RFC 9110 section 7.6.1: a field that Connection names is not forwarded";

pub(crate) fn fill(table: &mut Table) {
    own(table);
    named(table);
    end_to_end(table);
    te_and_trailer(table);
    answers(table);
}

fn own(table: &mut Table) {
    for (name, lines, gone) in [
        ("Keep-Alive", "Keep-Alive: timeout=5\r\n", "Keep-Alive"),
        ("Keep-Alive, named", "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n", "Keep-Alive"),
        ("Proxy-Connection", "Proxy-Connection: keep-alive\r\n", "Proxy-Connection"),
        ("Upgrade without Connection", "Upgrade: x/1\r\n", "Upgrade"),
        ("Upgrade of no known protocol", "Connection: Upgrade\r\nUpgrade: x/1\r\n", "X"),
        (
            "HTTP2-Settings",
            "Connection: HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
            "HTTP2-Settings",
        ),
        (
            "Upgrade: h2c",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
            "Upgrade",
        ),
    ] {
        table.row(name, OWN, with(lines)).serves(Seen::get("/").lacks(gone));
    }
    let source =
        "RFC 9110 section 11.7.2: Proxy-Authorization is for the next proxy that asks; a gateway may pass it";
    table
        .row("Proxy-Authorization", source, with("Proxy-Authorization: Basic dTpw\r\n"))
        .serves(Seen::get("/"));
}

fn named(table: &mut Table) {
    for (name, lines) in [
        ("one", "Connection: X-Hop\r\nX-Hop: v\r\n"),
        ("before its Connection", "X-Hop: v\r\nConnection: X-Hop\r\n"),
        ("in other case", "Connection: x-hop\r\nX-HOP: v\r\n"),
        ("beside keep-alive", "Connection: keep-alive, X-Hop\r\nX-Hop: v\r\n"),
        ("before keep-alive", "Connection: X-Hop, keep-alive\r\nX-Hop: v\r\n"),
        ("without spaces", "Connection: a,X-Hop,b\r\nX-Hop: v\r\n"),
        ("with odd spaces", "Connection:  a ,\tX-Hop ,b\r\nX-Hop: v\r\n"),
        ("with empty members", "Connection: ,, X-Hop,,\r\nX-Hop: v\r\n"),
        ("in a second line", "Connection: keep-alive\r\nConnection: X-Hop\r\nX-Hop: v\r\n"),
        ("repeated", "Connection: X-Hop\r\nX-Hop: v\r\nX-Hop: w\r\n"),
        ("twice named", "Connection: X-Hop, X-Hop\r\nX-Hop: v\r\n"),
        ("among ten", "Connection: a, b, c, d, e, f, g, h, i, X-Hop\r\nX-Hop: v\r\n"),
    ] {
        let case = table.row(format!("named: {name}"), NAMED, with(lines));
        case.serves(Seen::get("/").lacks("X-Hop"));
    }
    let case = table.row("named: with close", NAMED, with("Connection: close, X-Hop\r\nX-Hop: v\r\n"));
    case.served(vec![Seen::get("/").lacks("X-Hop")], After::Closed);
    let case = table.row("named: a prefix only", NAMED, with("Connection: X-Ho\r\nX-Hop: v\r\n"));
    case.serves(Seen::get("/").has("X-Hop", "v"));
    let case = table.row("named: something that is not there", NAMED, with("Connection: X-Hop\r\n"));
    case.serves(Seen::get("/"));
    let source = "RFC 9110 section 7.6.1: Connection is a list of tokens; another member names nothing";
    for value in ["\"X-Hop\"", "X-Hop;a", "X Hop", "(X-Hop)", "@"] {
        let case = table.row(
            format!("Connection: {value}"),
            source,
            with(format!("Connection: {value}\r\nX-Hop: v\r\n")),
        );
        case.serves(Seen::get("/")).refused();
    }
    let many: String = (0..500).map(|number| format!("x{number}, ")).collect();
    let source = "RFC 9110 section 7.6.1, bounded: names without end are refused or removed";
    let case = table
        .row("named: five hundred", source, with(format!("Connection: {many}X-Hop\r\nX-Hop: v\r\n")))
        .uncut();
    case.serves(Seen::get("/").lacks("X-Hop")).refused();
}

fn end_to_end(table: &mut Table) {
    let source =
        "Hop-by-hop abuse (Davison 2019): what back ends trust is not taken away, or the request is refused";
    for name in ["X-Forwarded-For", "X-Forwarded-Proto", "X-Real-IP", "Host"] {
        let case =
            table.row(format!("Connection: {name}"), source, with(format!("Connection: close, {name}\r\n")));
        case.served(vec![Seen::get("/").host(super::super::case::HOST)], After::Closed).refused();
    }
    let source = "RFC 9110 section 7.6.1: a sender must not name a field for all recipients; removed or kept";
    for name in ["Authorization", "Cookie", "Content-Type", "User-Agent", "Cache-Control", "Accept"] {
        let case = table.row(
            format!("Connection: {name}"),
            source,
            with(format!("Connection: {name}\r\n{name}: v\r\n")),
        );
        case.serves(Seen::get("/")).refused();
    }
}

fn te_and_trailer(table: &mut Table) {
    let source = "RFC 9110 section 10.1.4: TE is of the connection; forwarded only if the gateway means it, with its option";
    for lines in [
        "TE: trailers\r\n",
        "Connection: TE\r\nTE: trailers\r\n",
        "Connection: TE\r\nTE: trailers, deflate;q=0.5\r\n",
        "Connection: TE\r\nTE: gzip\r\n",
        "TE: chunked\r\n",
        "TE:\r\n",
    ] {
        let case = table.row(format!("{lines:?}"), source, with(lines));
        case.serves(Seen::get("/").lacks("TE"));
        case.serves(Seen::get("/").has("TE", "trailers").has("Connection", "TE"));
    }
    let source = "RFC 9110 section 6.6.2: Trailer without chunks announces nothing";
    table.row("Trailer without chunks", source, with("Trailer: T\r\n")).serves(Seen::get("/"));
    let bytes =
        request("POST", "/", "Trailer: T\r\nTransfer-Encoding: chunked\r\n", "2\r\nhi\r\n0\r\nT: v\r\n\r\n");
    table.row("Trailer with chunks", source, bytes).serves(Seen::new("POST", "/").body("hi"));
}

fn answers(table: &mut Table) {
    let ok = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 2\r\n\r\nok");
    for (name, lines, gone) in [
        ("Keep-Alive", "Connection: keep-alive\r\nKeep-Alive: timeout=5, max=9\r\n", "Keep-Alive"),
        ("Keep-Alive alone", "Keep-Alive: timeout=5\r\n", "Keep-Alive"),
        ("Proxy-Connection", "Proxy-Connection: keep-alive\r\n", "Proxy-Connection"),
        ("a named field", "Connection: X-Hop\r\nX-Hop: v\r\n", "X-Hop"),
        ("a named field before", "X-Hop: v\r\nConnection: x-HOP\r\n", "X-Hop"),
        ("a named field in a list", "Connection: keep-alive, X-Hop\r\nX-Hop: v\r\n", "X-Hop"),
        (
            "a named field in a second line",
            "Connection: keep-alive\r\nConnection: X-Hop\r\nX-Hop: v\r\n",
            "X-Hop",
        ),
        ("Upgrade without being asked", "Connection: Upgrade\r\nUpgrade: h2c\r\n", "X-None"),
        ("TE", "Connection: TE\r\nTE: trailers\r\n", "TE"),
    ] {
        let case = table.answer(format!("answer: {name}"), OWN, ok(lines), false);
        case.gives(Got::body("ok").lacks(gone));
    }
    let source = "RFC 9112 section 9.6: close of the origin is about the origin's connection";
    let case = table.answer("answer: close", source, ok("Connection: close\r\n"), true);
    case.given(Got::body("ok"), After::Either);
    let case = table.answer(
        "answer: close and a named field",
        NAMED,
        ok("Connection: close, X-Hop\r\nX-Hop: v\r\n"),
        true,
    );
    case.given(Got::body("ok").lacks("X-Hop"), After::Either);
    let case =
        table.answer("answer: Content-Length named", NAMED, ok("Connection: Content-Length\r\n"), false);
    case.given(Got::body("ok"), After::Either).bad_gateway();
    let case = table.answer(
        "answer: Set-Cookie named",
        NAMED,
        ok("Connection: Set-Cookie\r\nSet-Cookie: a=b\r\n"),
        false,
    );
    case.gives(Got::body("ok"));
    let source = "RFC 9110 section 7.6: what a gateway does not know it passes on";
    for (name, value) in [
        ("Set-Cookie", "a=b; Path=/; HttpOnly"),
        ("ETag", "W/\"a\""),
        ("Vary", "Accept, Origin"),
        ("X-Unknown", "v"),
        ("Location", "http://a.test/b"),
        ("WWW-Authenticate", "Basic realm=\"a\""),
        ("Content-Type", "text/plain"),
        ("Cache-Control", "max-age=1"),
        ("Link", "</a>; rel=preload"),
        ("Strict-Transport-Security", "max-age=1"),
        ("Content-Encoding", "gzip"),
    ] {
        let case = table.answer(
            format!("answer: {name} is passed on"),
            source,
            ok(&format!("{name}: {value}\r\n")),
            false,
        );
        case.gives(Got::body("ok").has(name, value));
    }
    let case = table.answer(
        "answer: two Set-Cookie stay two",
        "RFC 9110 section 5.3",
        ok("Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n"),
        false,
    );
    case.gives(Got::body("ok").has("Set-Cookie", "a=b").has("Set-Cookie", "c=d"));
    let source = "RFC 9110 section 6.6.1: a recipient with a clock adds the Date that is missing";
    let case = table.row("answer: Date stays", source, get("/"));
    case.answers(vec![super::super::case::Answer::bytes(ok("Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"))]);
    case.gives(Got::body("ok").has("Date", "Sun, 06 Nov 1994 08:49:37 GMT"));
}
