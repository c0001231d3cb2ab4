//! Request smuggling as published: two framings in one message, hidden from one of two readers.
//!
//! Each row hides `/smuggled`. A gateway may refuse the message or read it in one way, but the hidden request must never be
//! one of its own, and what goes on must be framed in one way only.

use super::super::case::{
    Act, After, Answer, Case, Got, HOST, Outcome, REFUSALS, Seen, Step, Table, When, get, join, post, request,
};

const HIDDEN: &str = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
const TE_LINES: &str =
    "TE.TE and CL.TE with a disguised Transfer-Encoding (Linhart 2005, Kettle 2019, Klein 2020)";

/// Lines that one of two readers takes for `Transfer-Encoding: chunked`.
const DISGUISES: &[&str] = &[
    "Transfer-Encoding: chunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    "Transfer-Encoding  : chunked",
    " Transfer-Encoding: chunked",
    "\tTransfer-Encoding: chunked",
    "X: y\r\n Transfer-Encoding: chunked",
    "Transfer-Encoding:chunked",
    "Transfer-Encoding:  chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding:\x0bchunked",
    "Transfer-Encoding:\x0cchunked",
    "Transfer-Encoding:\0chunked",
    "Transfer-Encoding: chunked\x0b",
    "Transfer-Encoding: chunked\x0c",
    "Transfer-Encoding: chunked\0",
    "Transfer-Encoding: chunked\x1f",
    "Transfer-Encoding: \x7fchunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: x chunked",
    "Transfer-Encoding: chunked x",
    "Transfer-Encoding: x,chunked",
    "Transfer-Encoding: chunked,x",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: chunked;",
    "Transfer-Encoding: ;chunked",
    "Transfer-Encoding: CHUNKED",
    "tRANSFER-eNCODING: chunked",
    "Transfer-Encoding\r\n : chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding:\r\n\tchunked",
    "Transfer-Encoding:\r\n \r\n chunked",
    "Transfer-Encoding: chunk\r\n ed",
    "Transfer-Encoding:\n chunked",
    "Transfer-Encoding\n: chunked",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    "X: y\r\rTransfer-Encoding: chunked",
    "X: y\n\rTransfer-Encoding: chunked",
    "X:\nTransfer-Encoding: chunked",
    "\nTransfer-Encoding: chunked",
    "\rTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r",
    "Transfer-Encoding: chunked\nX: y",
    "Transfer-Encoding: \rchunked",
    "Transfer\r-Encoding: chunked",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
    "Transfer-Encoding: \r\nTransfer-Encoding: chunked",
    "Transfer_Encoding: chunked",
    "Transfer Encoding: chunked",
    "TransferEncoding: chunked",
    "Transfer-\u{ad}Encoding: chunked",
    "Transfer\0-Encoding: chunked",
    "Transfer-Encoding\0: chunked",
    "Transfer-Encoding\x0b: chunked",
    "\0Transfer-Encoding: chunked",
    "Transfer-Encoding:: chunked",
    "Transfer-Encoding;: chunked",
    "Transfer-Encoding= chunked",
    "Transfer-Encoding chunked",
    "-Transfer-Encoding: chunked",
    "X-Transfer-Encoding: chunked",
    "Content-Encoding: chunked",
    "TE: chunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: chunked chunked",
    "Transfer-Encoding: \\chunked",
    "Transfer-Encoding: ch\u{fc}nked",
    "Foo: bar\r\n\rTransfer-Encoding: chunked",
    "Transfer-Encoding: ,chunked",
    "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: \u{a0}chunked",
    "\"Transfer-Encoding\": chunked",
];

pub(crate) fn fill(table: &mut Table) {
    disguised(table);
    two_lengths(table);
    zero_length(table);
    by_expectation(table);
    by_connection(table);
    by_method(table);
    by_answer(table);
    injection(table);
}

/// A Transfer-Encoding that one of two readers does not see, beside a Content-Length over everything.
fn disguised(table: &mut Table) {
    for line in DISGUISES {
        let body = format!("0\r\n\r\n{HIDDEN}");
        for (order, fields) in [
            ("behind", format!("Content-Length: {}\r\n{line}\r\n", body.len())),
            ("before", format!("{line}\r\nContent-Length: {}\r\n", body.len())),
        ] {
            if order == "before" && line.len() % 3 != 0 {
                // A third of them in the other order too.
                continue;
            }
            let bytes = post(&fields, &body);
            let case = table.steps(
                format!("{order} the length: {line:?}"),
                TE_LINES,
                vec![Step::Send(bytes), Step::EndIfQuiet],
            );
            one_reading(case, &body);
        }
    }
}

/// Refused, or the whole body goes on by its length, or the chunks win and the connection ends.
fn one_reading(case: &mut Case, body: &str) {
    case.refused_midway();
    case.served(vec![Seen::post(body).lacks("Transfer-Encoding")], After::Either);
    case.served(vec![Seen::post("").lacks("Content-Length")], After::Closed);
    case.served(vec![Seen::post("")], After::Closed);
    // An empty line in disguise ends the head: then the rest is no request, and is refused.
    case.outcome(Outcome {
        seen: vec![Seen::post(body)],
        got: vec![Got::status(&[200]), Got::status(REFUSALS)],
        silent: true,
        ..Outcome::default()
    });
}

fn two_lengths(table: &mut Table) {
    let source = "CL.CL: two lengths of which each reader takes another (RFC 9112 section 6.3)";
    let both = HIDDEN.len();
    for line in [
        "Content-Length : 0",
        "Content-Length\t: 0",
        " Content-Length: 0",
        "X: y\r\n Content-Length: 0",
        "Content-Length:\x0b0",
        "Content-Length: 0\x0c",
        "Content-Length:\0 0",
        "Content-Length\0: 0",
        "Content_Length: 0",
        "Content-Length\r: 0",
        "X: y\rContent-Length: 0",
        "X: y\nContent-Length: 0",
        "Content-Length: +0",
        "Content-Length: -0",
        "Content-Length: 0x0",
        "Content-Length: 0,",
        "Content-Length:",
        "content-length: 0",
        "\"Content-Length\": 0",
        "Content-Length:: 0",
        "Content-Length\x0b: 0",
        "\0Content-Length: 0",
        "-Content-Length: 0",
    ] {
        let fields = format!("Content-Length: {both}\r\n{line}\r\n");
        let case = table.steps(
            format!("{line:?}"),
            source,
            vec![Step::Send(post(fields, HIDDEN)), Step::EndIfQuiet],
        );
        case.refused();
        case.served(vec![Seen::post(HIDDEN)], After::Either);
    }
}

fn zero_length(table: &mut Table) {
    let source = "0.CL and CL.0: a body on a request that seems to have none (Kettle 2022 and 2025)";
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "TRACE", "PROPFIND"] {
        let fields = format!("Content-Length: {}\r\n", HIDDEN.len());
        let bytes = join(&[&request(method, "/", fields, HIDDEN), &get("/next")]);
        let case = table.row(format!("{method} with a body and a request behind"), source, bytes);
        case.serves_all(vec![Seen::new(method, "/").body(HIDDEN), Seen::get("/next")]);
        case.refused();
    }
    for (target, resolved) in [
        ("/con", "/con"),
        ("/nul", "/nul"),
        ("/static/a.js", "/static/a.js"),
        ("/a%2f..%2fb", "/b"),
        ("/?redirect", "/?redirect"),
    ] {
        let fields = format!("Content-Length: {}\r\n", HIDDEN.len());
        let case =
            table.row(format!("POST {target} with a body"), source, request("POST", target, fields, HIDDEN));
        case.serves(Seen::new("POST", target).or_target(resolved).body(HIDDEN));
        case.refused_with(&[400]);
    }
    let source = "CL.0: an origin that answers without reading the body; its connection is not reused before the body is out";
    let fields = format!("Content-Length: {}\r\n", HIDDEN.len());
    let early = |acts: Vec<Act>| vec![Answer::new(When::Head, acts)];
    let answer = Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec());
    let case = table.row(
        "an early answer, the body in the same segment",
        source,
        request("POST", "/", &fields, HIDDEN),
    );
    case.uncut().answers(early(vec![answer.clone(), Act::Whole]));
    let got = Got::body("ok");
    case.outcome(Outcome { seen: vec![Seen::post(HIDDEN)], got: vec![got.clone()], ..Outcome::default() });
    case.outcome(Outcome { partial: true, got: vec![got.clone()], ..Outcome::default() });
    let (head, body) = (request("POST", "/", &fields, ""), HIDDEN.as_bytes().to_vec());
    let steps = vec![Step::Send(head), Step::OriginHeads(1), Step::Gap, Step::Send(body)];
    let case = table.steps("an early answer, the body behind it", source, steps);
    case.answers(early(vec![answer, Act::Whole]));
    case.outcome(Outcome { seen: vec![Seen::post(HIDDEN)], got: vec![got.clone()], ..Outcome::default() });
    case.outcome(Outcome { partial: true, got: vec![got], ..Outcome::default() });
}

fn by_expectation(table: &mut Table) {
    let source = "Expect-based desync (Kettle 2025): an expectation, also a vanilla or odd one, changes nothing of the framing";
    for expectation in [
        "100-continue",
        "100-Continue",
        " 100-continue ",
        "100-continue, 100-continue",
        "y 100-continue",
        "100-continue y",
        "100-continuex",
        "y",
        "100",
        "100-continue;q=1",
        "\"100-continue\"",
        "100-continue\r\nExpect: 100-continue",
        "100-continue\r\nExpect: y",
        "",
    ] {
        for (kind, fields, body) in [
            ("length", format!("Content-Length: {}\r\n", HIDDEN.len()), HIDDEN.to_owned()),
            (
                "chunks",
                "Transfer-Encoding: chunked\r\n".to_owned(),
                format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len()),
            ),
        ] {
            let fields = format!("Expect: {expectation}\r\n{fields}");
            for method in ["POST", "GET"] {
                let bytes = request(method, "/", &fields, &body);
                let case = table.row(format!("{method}, Expect {expectation:?}, {kind}"), source, bytes);
                case.uncut().serves(Seen::new(method, "/").body(HIDDEN));
                case.refused().refused_midway();
            }
        }
    }
}

fn by_connection(table: &mut Table) {
    let source = "Hop-by-hop abuse: Connection must not take a framing field or Host out of the message";
    for option in [
        "Content-Length",
        "content-length",
        "Transfer-Encoding",
        "Host",
        "Content-Length, Host",
        "close, Content-Length",
        "Cookie",
    ] {
        for (kind, fields, body) in [
            ("length", format!("Content-Length: {}\r\n", HIDDEN.len()), HIDDEN.to_owned()),
            (
                "chunks",
                "Transfer-Encoding: chunked\r\n".to_owned(),
                format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len()),
            ),
        ] {
            let bytes = post(format!("Connection: {option}\r\n{fields}"), body);
            let case = table.row(format!("Connection: {option}, {kind}"), source, bytes);
            case.served(
                vec![Seen::post(HIDDEN).host(HOST)],
                if option.starts_with("close") { After::Closed } else { After::Kept },
            );
            case.refused();
        }
    }
}

fn by_method(table: &mut Table) {
    let source = "A gateway that reads a body by its method desynchronises (CL.0 family)";
    for fields in ["X-HTTP-Method-Override: GET\r\n", "X-Method-Override: HEAD\r\n"] {
        let bytes = post(format!("{fields}Content-Length: {}\r\n", HIDDEN.len()), HIDDEN);
        table.row(format!("{fields:?}"), source, bytes).serves(Seen::post(HIDDEN));
    }
    let source = "RFC 9110 section 7.8: Upgrade asks; until a 101 everything is HTTP";
    for protocol in ["h2c", "websocket", "TLS/1.0"] {
        let fields =
            format!("Connection: Upgrade\r\nUpgrade: {protocol}\r\nContent-Length: {}\r\n", HIDDEN.len());
        let case = table.row(format!("Upgrade: {protocol} with a body"), source, post(fields, HIDDEN));
        case.serves(Seen::post(HIDDEN)).refused();
    }
}

fn by_answer(table: &mut Table) {
    let source = "Response queue poisoning: what an origin sends beyond its answer is nobody's";
    let extra = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    for (name, first) in [
        ("a length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ] {
        let case =
            table.answer(format!("a second answer behind {name}"), source, format!("{first}{extra}"), false);
        // Cut between the two, it would be a late one.
        case.uncut().given(Got::body("ok"), After::Either);
        let answer =
            Answer::new(When::Whole, vec![Act::Send(first.into()), Act::Gap, Act::Send(extra.into())]);
        // The next request goes out when the poison has come; before that nobody could tell.
        let steps = vec![Step::Send(get("/")), Step::Answers(1), Step::OriginDone(1), Step::Gap, Step::Gap];
        let case = table.steps(format!("a late second answer behind {name}"), source, steps);
        case.answers(vec![answer]).given(Got::body("ok"), After::Either);
    }
    for (name, first) in
        [("a 204", "HTTP/1.1 204 No Content\r\n\r\n"), ("a 304", "HTTP/1.1 304 Not Modified\r\n\r\n")]
    {
        let case =
            table.answer(format!("a second answer behind {name}"), source, format!("{first}{extra}"), false);
        case.uncut().given(Got::status(&[204, 304]), After::Either);
    }
}

fn injection(table: &mut Table) {
    let source = "Header injection (CVE-2019-20372 family): an encoded line end stays encoded";
    for target in
        ["/a%0d%0aX:%20y", "/a%0aX:y", "/?a=%0d%0a%0d%0aGET%20/smuggled%20HTTP/1.1", "/%0d%0a%20b", "/a%0d"]
    {
        let case = table.row(format!("{target} in the target"), source, get(target));
        case.serves(Seen::get(target).lacks("X")).refused_with(&[400, 403]).refused();
    }
    let case = table.row("in Host", source, "GET / HTTP/1.1\r\nHost: a%0d%0aX:y\r\n\r\n");
    case.refused_with(&[400]);
    let source =
        "Absolute-form against Host (RFC 9112 section 3.2.2): what is routed is what the origin sees";
    let bytes = format!("GET http://{HOST}/ HTTP/1.1\r\nHost: internal.test\r\n\r\n");
    table.row("another Host beside an absolute-form", source, bytes).serves(Seen::get("/").host(HOST));
    let bytes = format!("GET http://internal.test/ HTTP/1.1\r\nHost: {HOST}\r\n\r\n");
    table.row("another authority than Host", source, bytes).serves(Seen::get("/").host("internal.test"));
}
