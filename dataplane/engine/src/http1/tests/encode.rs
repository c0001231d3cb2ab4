//! Heads as they are written: what stays, what goes, what is added.

use super::*;

/// Parses a head and encodes it with the edits, as text.
fn forward(head: &str, edits: &RequestEdits<'_>) -> String {
    let buf = head.as_bytes();
    let parsed = match request(buf) {
        Ok(Parse::Done(parsed)) => parsed,
        other => panic!("{other:?}: {head}"),
    };
    let mut out = Vec::new();
    let defaults = RequestEdits {
        path_and_query: parsed.target.path_and_query_bytes(buf),
        host: parsed.host.map_or(&[][..], |host| host.whole.of(buf)),
        ..*edits
    };
    encode_request(&parsed, buf, &defaults, &mut out);
    String::from_utf8(out).expect("text")
}

fn plain(fields: &str) -> String {
    let head = forward(&format!("GET /a HTTP/1.1\r\nHost: h\r\n{fields}\r\n"), &RequestEdits::default());
    head.strip_prefix("GET /a HTTP/1.1\r\nHost: h\r\n")
        .expect("start")
        .strip_suffix("\r\n")
        .expect("end")
        .to_owned()
}

#[test]
fn end_to_end_fields_stay_and_hop_by_hop_fields_go() {
    // Source, fields received, fields sent.
    let rows: [(&str, &str, &str); 36] = [
        ("9110 5.3, order and case", "B: 1\r\na: 2\r\nB: 3\r\n", "B: 1\r\na: 2\r\nB: 3\r\n"),
        ("9112 5.1, OWS", "A:\t b \t\r\nC:d\r\n", "A: b\r\nC: d\r\n"),
        ("9110 5.5, empty", "A:\r\n", "A: \r\n"),
        ("9110 7.6.1", "Connection: close\r\nA: b\r\n", "A: b\r\n"),
        ("9110 7.6.1", "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\nA: b\r\n", "A: b\r\n"),
        ("9110 7.6.1", "Keep-Alive: timeout=5\r\nA: b\r\n", "A: b\r\n"),
        ("9110 7.6.1", "Proxy-Connection: keep-alive\r\nA: b\r\n", "A: b\r\n"),
        ("9110 7.6.1", "TE: trailers\r\nA: b\r\n", "A: b\r\n"),
        ("9110 7.6.1", "Connection: TE\r\nTE: trailers, gzip\r\nA: b\r\n", "A: b\r\n"),
        ("9110 7.8", "Upgrade: websocket\r\nA: b\r\n", "A: b\r\n"),
        ("9110 7.8", "Connection: Upgrade\r\nUpgrade: websocket\r\nA: b\r\n", "A: b\r\n"),
        (
            "9110 7.8, h2c",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nA: b\r\n",
            "A: b\r\n",
        ),
        ("7540 3.2.1", "HTTP2-Settings: AA\r\nA: b\r\n", "A: b\r\n"),
        ("9110 7.6.1, nominated", "Connection: X-Hop\r\nX-Hop: 1\r\nA: b\r\n", "A: b\r\n"),
        ("9110 7.6.1, nominated, case", "Connection: x-hop\r\nX-HOP: 1\r\nA: b\r\n", "A: b\r\n"),
        ("9110 7.6.1, nominated later", "X-Hop: 1\r\nA: b\r\nX-Hop: 2\r\nConnection: x-hop\r\n", "A: b\r\n"),
        (
            "9110 7.6.1, nominated, many",
            "Connection: close, X-Hop ,\tX-Hop2\r\nX-Hop: 1\r\nX-Hop2: 2\r\nA: b\r\n",
            "A: b\r\n",
        ),
        (
            "9110 7.6.1, two lines",
            "Connection: X-Hop\r\nConnection: X-Hop2\r\nX-Hop: 1\r\nX-Hop2: 2\r\nA: b\r\n",
            "A: b\r\n",
        ),
        ("9110 7.6.1, whole names", "Connection: X\r\nX-Hop: 1\r\n", "X-Hop: 1\r\n"),
        (
            "no stripping of trust",
            "Connection: Authorization\r\nAuthorization: Bearer x\r\n",
            "Authorization: Bearer x\r\n",
        ),
        ("no stripping of trust", "Connection: Cookie\r\nCookie: a=b\r\n", "Cookie: a=b\r\n"),
        (
            "no stripping of trust",
            "Connection: X-Forwarded-For\r\nX-Forwarded-For: 1.2.3.4\r\n",
            "X-Forwarded-For: 1.2.3.4\r\n",
        ),
        (
            "no stripping of trust",
            "Connection: X-Forwarded-User\r\nX-Forwarded-User: a\r\n",
            "X-Forwarded-User: a\r\n",
        ),
        ("no stripping of trust", "Connection: Host\r\nA: b\r\n", "A: b\r\n"),
        (
            "no stripping of content",
            "Connection: Content-Type\r\nContent-Type: a/b\r\n",
            "Content-Type: a/b\r\n",
        ),
        (
            "no stripping of conditions",
            "Connection: If-None-Match\r\nIf-None-Match: \"a\"\r\n",
            "If-None-Match: \"a\"\r\n",
        ),
        ("httpoxy", "Proxy: http://evil/\r\nA: b\r\n", "A: b\r\n"),
        ("imitations", "X_Forwarded_For: 1.2.3.4\r\nA: b\r\n", "A: b\r\n"),
        ("imitations", "Content_Length: 5\r\nTransfer_Encoding: chunked\r\nA: b\r\n", "A: b\r\n"),
        ("underscores as such", "user_id: 5\r\n", "user_id: 5\r\n"),
        ("9110 10.1.1", "Expect: 100-continue\r\nA: b\r\n", "A: b\r\n"),
        ("9110 6.6.2", "Trailer: X\r\nA: b\r\n", "A: b\r\n"),
        ("9112 6, framing is written anew", "Content-Length: 0\r\nA: b\r\n", "A: b\r\n"),
        ("9110 7.6.3", "Via: 1.0 fred\r\n", "Via: 1.0 fred\r\n"),
        ("9110 7.6.2, not for GET", "Max-Forwards: 5\r\n", "Max-Forwards: 5\r\n"),
        (
            "9110 11.6.2",
            "Authorization: Basic YTpi\r\nProxy-Authorization: x\r\n",
            "Authorization: Basic YTpi\r\nProxy-Authorization: x\r\n",
        ),
    ];
    for (source, received, sent) in rows {
        assert_eq!(plain(received), sent, "{source}: {received:?}");
    }
}

#[test]
fn the_request_line_is_origin_form_and_host_is_one() {
    let rows: [(&str, &str, &str); 9] = [
        ("9112 3.2.1", "GET /a?b HTTP/1.1\r\nHost: h", "GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("9112 3.2.2", "GET http://t/a?b HTTP/1.1\r\nHost: h", "GET /a?b HTTP/1.1\r\nHost: t\r\n\r\n"),
        ("9112 3.2.2", "GET http://t HTTP/1.1\r\nHost: h", "GET / HTTP/1.1\r\nHost: t\r\n\r\n"),
        ("9112 3.2.2", "GET http://t?b HTTP/1.1\r\nHost: h", "GET /?b HTTP/1.1\r\nHost: t\r\n\r\n"),
        ("9112 3.2.2", "GET HTTPS://T:8/ HTTP/1.1\r\nHost: h", "GET / HTTP/1.1\r\nHost: T:8\r\n\r\n"),
        ("9112 3.2.4", "OPTIONS * HTTP/1.1\r\nHost: h", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("9112 3.2.4", "OPTIONS http://t HTTP/1.1\r\nHost: h", "OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n"),
        ("9112 2.3, own version", "GET / HTTP/1.0\r\nHost: h", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
        ("9112 2.3, own version", "GET / HTTP/1.5\r\nHost: h", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    ];
    for (source, received, sent) in rows {
        assert_eq!(forward(&format!("{received}\r\n\r\n"), &RequestEdits::default()), sent, "{source}");
    }
    let changed = RequestEdits { method: Some(b"GET"), ..RequestEdits::default() };
    let sent = forward("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", &changed);
    assert_eq!(sent, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "9112 3.2.4: only OPTIONS has an asterisk");
    let sent = forward("CONNECT t:1 HTTP/1.1\r\nHost: h\r\n\r\n", &RequestEdits::default());
    assert_eq!(sent, "CONNECT t:1 HTTP/1.1\r\nHost: t:1\r\n\r\n", "9112 3.2.3");
    let none = forward("GET / HTTP/1.0\r\n\r\n", &RequestEdits::default());
    assert_eq!(none, "GET / HTTP/1.1\r\nHost: \r\n\r\n", "9112 3.2: an empty Host when nothing is known");
}

#[test]
fn max_forwards_counts_down_where_it_counts() {
    for method in ["OPTIONS", "TRACE"] {
        let sent = forward(
            &format!("{method} /a HTTP/1.1\r\nHost: h\r\nMax-Forwards: 5\r\n\r\n"),
            &RequestEdits::default(),
        );
        assert_eq!(sent, format!("{method} /a HTTP/1.1\r\nHost: h\r\nMax-Forwards: 4\r\n\r\n"));
    }
}

#[test]
fn edits_set_add_and_remove() {
    let edits = RequestEdits {
        set: &[(b"A", b"new"), (b"C", b"c")],
        add: &[(b"B", b"2")],
        remove: &[b"d"],
        ..RequestEdits::default()
    };
    let sent = forward("GET / HTTP/1.1\r\nHost: h\r\na: 1\r\nB: 1\r\nA: 2\r\nD: 4\r\n\r\n", &edits);
    assert_eq!(sent, "GET / HTTP/1.1\r\nHost: h\r\nB: 1\r\nA: new\r\nC: c\r\nB: 2\r\n\r\n");
}

#[test]
fn no_edit_can_frame_the_message_or_begin_a_line() {
    let edits = RequestEdits {
        method: Some(b"GET /x HTTP/1.1\r\nX:"),
        set: &[
            (b"Host", b"evil"),
            (b"Content-Length", b"5"),
            (b"content-length", b"6"),
            (b"Transfer-Encoding", b"chunked"),
            (b"Connection", b"close"),
            (b"Upgrade", b"h2c"),
            (b"Expect", b"100-continue"),
            (b"X: y\r\nZ", b"name"),
            (b"", b"empty"),
            (b"X-Value", b" a\r\nB: c\0d\x01\n "),
        ],
        upgrade: Some(b"websocket\r\nX: y"),
        via: Some(b"1.1 a\r\nX: y"),
        forwarded: Some(Forwarded {
            client_ip: b"1.1.1.1\r\nX: y",
            proto: b"http\n",
            ..Forwarded::default()
        }),
        ..RequestEdits::default()
    };
    let sent = forward("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", &edits);
    let expected = "GET / HTTP/1.1\r\nHost: h\r\nX-Value: a  B: c d  \r\nX-Forwarded-For: 1.1.1.1  X: y\r\n\
                    X-Forwarded-Proto: http \r\nVia: 1.1 a  X: y\r\nUpgrade: websocket  X: y\r\n\
                    Connection: Upgrade\r\n\r\n";
    assert_eq!(shown(sent.as_bytes()), shown(expected.as_bytes()));
    let mut head = RequestHead::new();
    let buf = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!(head.parse(buf, &HeadLimits::default()), Ok(Parse::Done(())));
    let mut out = Vec::new();
    let edits =
        RequestEdits { path_and_query: b"a b\r\nX: y#\xe9\0", host: b"h\r\nX: y", ..RequestEdits::default() };
    encode_request(&head, buf, &edits, &mut out);
    assert_eq!(shown(&out), shown(b"GET /a%20b%0D%0AX:%20y%23%E9%00 HTTP/1.1\r\nHost: hX:y\r\n\r\n"));
}

#[test]
fn forwarded_fields_are_kept_replaced_or_appended() {
    let received = "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 8.8.8.8\r\nX-Forwarded-Proto: https\r\n\
                    X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nForwarded: for=9.9.9.9\r\nX-Real-IP: 9.9.9.9\r\n";
    let fresh = Forwarded {
        client_ip: b"1.1.1.1",
        proto: b"http",
        host: b"h",
        port: b"80",
        real_ip: Some(b"1.1.1.1"),
        trusted: false,
        append_for: false,
    };
    let run = |fields: &str, forwarded: Forwarded<'_>, remove: &[&[u8]], set: &[NameValue<'_>]| {
        let edits = RequestEdits { forwarded: Some(forwarded), remove, set, ..RequestEdits::default() };
        let sent = forward(&format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"), &edits);
        sent.replace("GET / HTTP/1.1\r\nHost: h\r\n", "")
    };
    let ours = "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\nX-Forwarded-Port: 80\r\n\
                X-Real-IP: 1.1.1.1\r\n\r\n";
    assert_eq!(run("", fresh, &[], &[]), ours);
    assert_eq!(run(received, fresh, &[], &[]), ours, "an untrusted peer's word is dropped");
    let trusted = Forwarded { trusted: true, append_for: true, ..fresh };
    assert_eq!(run("", trusted, &[], &[]), ours);
    assert_eq!(
        run(received, trusted, &[], &[]),
        "X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nForwarded: for=9.9.9.9\r\n\
         X-Forwarded-For: 9.9.9.9, 8.8.8.8, 1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\n\r\n"
    );
    let edited = run(
        received,
        trusted,
        &[b"x-forwarded-host", b"X-Forwarded-For"],
        &[(b"X-Forwarded-Proto", b"grpc")],
    );
    assert_eq!(
        edited,
        "X-Forwarded-Port: 1\r\nForwarded: for=9.9.9.9\r\nX-Forwarded-Proto: grpc\r\nX-Real-IP: 1.1.1.1\r\n\r\n"
    );
    let strip = "Connection: X-Forwarded-For, X-Real-IP\r\n";
    assert_eq!(run(strip, fresh, &[], &[]), ours, "the client cannot nominate what the gateway adds");
}

#[test]
fn framing_and_connection_options_are_the_callers() {
    let run = |edits: RequestEdits<'_>| {
        let fields = "Content-Length: 7\r\nTrailer: X\r\nTE: trailers\r\nConnection: close, TE\r\n";
        let sent = forward(&format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"), &edits);
        sent.strip_prefix("POST / HTTP/1.1\r\nHost: h\r\n").expect("start").replace("\r\n", "|")
    };
    let base = RequestEdits::default();
    assert_eq!(run(base), "|");
    assert_eq!(run(RequestEdits { body: BodyHeader::Length(7), ..base }), "Content-Length: 7||");
    let chunked = RequestEdits { body: BodyHeader::Chunked, ..base };
    assert_eq!(run(chunked), "Transfer-Encoding: chunked||");
    assert_eq!(run(RequestEdits { trailers: true, ..chunked }), "Trailer: X|Transfer-Encoding: chunked||");
    assert_eq!(run(RequestEdits { trailers: true, ..base }), "|", "no trailers without chunks");
    assert_eq!(run(RequestEdits { te_trailers: true, ..base }), "TE: trailers|Connection: TE||");
    assert_eq!(run(RequestEdits { close: true, ..base }), "Connection: close||");
    assert_eq!(
        run(RequestEdits { close: true, te_trailers: true, ..base }),
        "TE: trailers|Connection: TE, close||"
    );
    assert_eq!(
        run(RequestEdits { upgrade: Some(b"websocket"), ..base }),
        "Upgrade: websocket|Connection: Upgrade||"
    );
    assert_eq!(run(RequestEdits { expect_continue: true, ..base }), "Expect: 100-continue||");
    assert_eq!(run(RequestEdits { via: Some(b"1.1 ringway"), ..base }), "Via: 1.1 ringway||");
}

/// Parses a response head and encodes it with the edits, as text with `|` for CRLF.
fn answer(head: &str, edits: &ResponseEdits<'_>) -> String {
    let buf = format!("{head}\r\n").into_bytes();
    let parsed = response(&buf, Method::Get).expect("valid");
    let mut out = Vec::new();
    encode_response(&parsed, &buf, edits, &mut out);
    String::from_utf8(out).expect("text").replace("\r\n", "|")
}

#[test]
fn responses_are_written_for_the_client() {
    let base = ResponseEdits { body: BodyHeader::Length(5), ..ResponseEdits::default() };
    let http10 = ResponseEdits { version: Version::Http10, ..base };
    let chunked = ResponseEdits { body: BodyHeader::Chunked, ..base };
    let ok = "HTTP/1.1 200 OK\r\n";
    let rows: [(&str, String, ResponseEdits<'_>, &str); 27] = [
        ("9112 4", ok.to_owned(), base, "HTTP/1.1 200 OK|Content-Length: 5||"),
        (
            "9112 4, reason kept",
            "HTTP/1.1 200 Fine\r\n".to_owned(),
            base,
            "HTTP/1.1 200 Fine|Content-Length: 5||",
        ),
        ("9112 4, SP stays", "HTTP/1.1 200\r\n".to_owned(), base, "HTTP/1.1 200 |Content-Length: 5||"),
        ("9112 2.3", "HTTP/1.0 200 OK\r\n".to_owned(), base, "HTTP/1.1 200 OK|Content-Length: 5||"),
        (
            "9112 6, anew",
            format!("{ok}Transfer-Encoding: chunked\r\n"),
            base,
            "HTTP/1.1 200 OK|Content-Length: 5||",
        ),
        ("9112 6, anew", format!("{ok}Content-Length: 005\r\n"), base, "HTTP/1.1 200 OK|Content-Length: 5||"),
        ("9112 6.1", ok.to_owned(), chunked, "HTTP/1.1 200 OK|Transfer-Encoding: chunked||"),
        (
            "9112 6.1, no chunks in 1.0",
            ok.to_owned(),
            ResponseEdits { version: Version::Http10, ..chunked },
            "HTTP/1.1 200 OK|Connection: close||",
        ),
        ("9112 9.3", ok.to_owned(), http10, "HTTP/1.1 200 OK|Content-Length: 5|Connection: keep-alive||"),
        (
            "9112 9.3",
            ok.to_owned(),
            ResponseEdits { close: true, ..http10 },
            "HTTP/1.1 200 OK|Content-Length: 5|Connection: close||",
        ),
        (
            "9112 9.6",
            ok.to_owned(),
            ResponseEdits { close: true, ..base },
            "HTTP/1.1 200 OK|Content-Length: 5|Connection: close||",
        ),
        (
            "9110 7.6.1",
            format!(
                "{ok}Connection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: a\r\nA: b\r\nProxy-Connection: c\r\n"
            ),
            base,
            "HTTP/1.1 200 OK|A: b|Content-Length: 5||",
        ),
        (
            "no stripping of cookies",
            format!("{ok}Connection: Set-Cookie\r\nSet-Cookie: a=b\r\n"),
            base,
            "HTTP/1.1 200 OK|Set-Cookie: a=b|Content-Length: 5||",
        ),
        (
            "9110 5.3",
            format!("{ok}Set-Cookie: a=b\r\nX: y\r\nSet-Cookie: c=d\r\n"),
            base,
            "HTTP/1.1 200 OK|Set-Cookie: a=b|X: y|Set-Cookie: c=d|Content-Length: 5||",
        ),
        ("9112 5.1, trimmed", format!("{ok}A \t: b\r\n"), base, "HTTP/1.1 200 OK|A: b|Content-Length: 5||"),
        (
            "9110 6.6.1, added",
            ok.to_owned(),
            ResponseEdits { date: Some(b"now"), ..base },
            "HTTP/1.1 200 OK|Date: now|Content-Length: 5||",
        ),
        (
            "9110 6.6.1, kept",
            format!("{ok}Date: then\r\nDate: later\r\n"),
            ResponseEdits { date: Some(b"now"), ..base },
            "HTTP/1.1 200 OK|Date: then|Content-Length: 5||",
        ),
        (
            "Server replaced",
            format!("{ok}Server: a\r\n"),
            ResponseEdits { server: Some(b"ringway"), ..base },
            "HTTP/1.1 200 OK|Server: ringway|Content-Length: 5||",
        ),
        ("Server kept", format!("{ok}Server: a\r\n"), base, "HTTP/1.1 200 OK|Server: a|Content-Length: 5||"),
        (
            "another status",
            format!("{ok}A: b\r\n"),
            ResponseEdits { status: Some(404), ..base },
            "HTTP/1.1 404 Not Found|A: b|Content-Length: 5||",
        ),
        ("9110 8.6, 204", "HTTP/1.1 204 No Content\r\n".to_owned(), base, "HTTP/1.1 204 No Content||"),
        ("9110 8.6, 204", "HTTP/1.1 204 No Content\r\n".to_owned(), chunked, "HTTP/1.1 204 No Content||"),
        (
            "9110 8.6, 304",
            "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 5\r\n".to_owned(),
            base,
            "HTTP/1.1 304 Not Modified|ETag: \"a\"|Content-Length: 5||",
        ),
        (
            "9110 15.2, 1xx",
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: close\r\n".to_owned(),
            ResponseEdits { close: true, date: Some(b"now"), ..base },
            "HTTP/1.1 103 Early Hints|Link: </a>||",
        ),
        (
            "9110 7.8",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nA: b\r\n"
                .to_owned(),
            ResponseEdits { upgrade: true, ..base },
            "HTTP/1.1 101 Switching Protocols|A: b|Connection: Upgrade|Upgrade: WebSocket||",
        ),
        (
            "9110 15.5.22",
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n".to_owned(),
            base,
            "HTTP/1.1 426 Upgrade Required|Content-Length: 5|Upgrade: websocket|Connection: Upgrade||",
        ),
        (
            "9110 6.6.2",
            format!("{ok}Trailer: X\r\n"),
            ResponseEdits { trailers: true, ..chunked },
            "HTTP/1.1 200 OK|Trailer: X|Transfer-Encoding: chunked||",
        ),
    ];
    for (source, head, edits, expected) in rows {
        assert_eq!(answer(&head, &edits), expected, "{source}: {head:?}");
    }
}

#[test]
fn own_answers_are_whole_messages() {
    let base = OwnResponse {
        status: 404,
        content_type: b"application/json",
        body: b"{}",
        keep_alive: true,
        fields: &[(b"X-A", b"b\r\nc"), (b"Content-Length", b"9")],
        date: Some(b"now"),
        server: Some(b"ringway"),
        ..OwnResponse::default()
    };
    let run = |response: OwnResponse<'_>| {
        let mut out = Vec::new();
        encode_own_response(&response, &mut out);
        String::from_utf8(out).expect("text").replace("\r\n", "|")
    };
    let head = "HTTP/1.1 404 Not Found|Date: now|Server: ringway|Content-Type: application/json|X-A: b  c|Content-Length: 2|";
    assert_eq!(run(base), format!("{head}|{{}}"));
    assert_eq!(run(OwnResponse { is_head: true, ..base }), format!("{head}|"));
    assert_eq!(run(OwnResponse { keep_alive: false, ..base }), format!("{head}Connection: close||{{}}"));
    assert_eq!(
        run(OwnResponse { version: Version::Http10, ..base }),
        format!("{head}Connection: keep-alive||{{}}")
    );
    let empty = run(OwnResponse { status: 204, fields: &[], date: None, server: None, ..base });
    assert_eq!(empty, "HTTP/1.1 204 No Content||");
    assert_eq!(
        run(OwnResponse {
            status: 777,
            body: b"",
            content_type: b"",
            fields: &[],
            date: None,
            server: None,
            ..base
        }),
        "HTTP/1.1 777 |Content-Length: 0||"
    );
    let interim = CONTINUE;
    let head = response(interim, Method::Post).expect("valid");
    assert!(head.is_interim());
}
