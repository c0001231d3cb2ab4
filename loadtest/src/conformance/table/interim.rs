//! Interim answers (RFC 9110 section 15.2): any number before the final one, forwarded to HTTP/1.1 and never to HTTP/1.0.

use super::super::case::{Act, After, Answer, Case, Got, HOST, Outcome, Seen, Table, When, get, post};

const FORWARD: &str = "RFC 9110 section 15.2: a proxy forwards 1xx answers that it did not ask for itself";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(crate) fn fill(table: &mut Table) {
    forwarded(table);
    framed(table);
    broken(table);
    old_clients(table);
}

fn bad(case: &mut Case) {
    let again = case.answers.clone();
    case.answers.extend(again);
    case.bad_gateway();
}

fn forwarded(table: &mut Table) {
    for (name, interim, status) in [
        ("102", "HTTP/1.1 102 Processing\r\n\r\n", 102),
        ("103", "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n", 103),
        ("104", "HTTP/1.1 104 Upload Resumption Supported\r\n\r\n", 104),
        ("199", "HTTP/1.1 199 Unknown\r\n\r\n", 199),
        ("110 without a reason", "HTTP/1.1 110 \r\n\r\n", 110),
    ] {
        let case = table.answer(name, FORWARD, format!("{interim}{OK}"), false);
        case.gives(Got::body("ok").interims(&[status]));
        let two = vec![Act::Send(interim.into()), Act::Gap, Act::Send(OK.into())];
        let case = table.row(format!("{name} in a segment of its own"), FORWARD, get("/"));
        case.uncut().answers(vec![Answer::new(When::Whole, two)]).gives(Got::body("ok").interims(&[status]));
    }
    let many = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(5);
    table
        .answer("five of 103", FORWARD, format!("{many}{OK}"), false)
        .gives(Got::body("ok").interims(&[103; 5]));
    let mixed = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n";
    table
        .answer("102, then 103", FORWARD, format!("{mixed}{OK}"), false)
        .gives(Got::body("ok").interims(&[102, 103]));
    let source = "RFC 9110 section 15.2.1: a 100 that was not asked for may be dropped or forwarded";
    let case = table.answer("100 to a GET", source, format!("HTTP/1.1 100 Continue\r\n\r\n{OK}"), false);
    case.gives(Got::body("ok"));
    let case = table.row("103 to a POST", FORWARD, post("Content-Length: 2\r\n", "hi"));
    case.uncut().answers(vec![Answer::bytes(format!("HTTP/1.1 103 Early Hints\r\n\r\n{OK}"))]);
    case.outcome(Outcome {
        seen: vec![Seen::post("hi")],
        got: vec![Got::body("ok").interims(&[103])],
        after: After::Kept,
        ..Outcome::default()
    });
    for status in ["204 No Content", "304 Not Modified", "404 Not Found\r\nContent-Length: 0"] {
        let case = table.answer(
            format!("103, then {}", &status[..3]),
            FORWARD,
            format!("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 {status}\r\n\r\n"),
            false,
        );
        case.gives(Got::status(&[204, 304, 404]).interims(&[103]));
    }
}

fn framed(table: &mut Table) {
    let source = "RFC 9110 section 8.6, RFC 9112 section 6.1: no framing fields in a 1xx; ignored and dropped, or a 502";
    for fields in ["Content-Length: 0\r\n", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
        let case = table.answer(
            format!("103 with {fields:?}"),
            source,
            format!("HTTP/1.1 103 Early Hints\r\n{fields}\r\n{OK}"),
            false,
        );
        case.given(Got::body("ok"), After::Either);
        bad(case);
    }
    let source = "RFC 9110 section 7.6.1: fields of the connection are dropped from interim answers too";
    let case = table.answer(
        "103 with Connection",
        source,
        format!("HTTP/1.1 103 Early Hints\r\nConnection: X-Hop\r\nX-Hop: v\r\n\r\n{OK}"),
        false,
    );
    case.given(Got::body("ok"), After::Either);
    let source = "RFC 9112 section 9.6: close in an interim answer";
    let case = table.answer(
        "103 with close",
        source,
        format!("HTTP/1.1 103 Early Hints\r\nConnection: close\r\n\r\n{OK}"),
        false,
    );
    case.given(Got::body("ok"), After::Either);
}

fn broken(table: &mut Table) {
    let source = "RFC 9110 section 15.2: interim answers alone are no answer";
    for (name, bytes) in [
        ("103 alone", "HTTP/1.1 103 Early Hints\r\n\r\n"),
        ("100 alone", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("103 and a part", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200"),
        ("103 and nonsense", "HTTP/1.1 103 Early Hints\r\n\r\nnonsense\r\n\r\n"),
        ("a bad 103", "HTTP/1.1 103 Early Hints\r\nX Y: z\r\n\r\n"),
    ] {
        let case = table.answer(name, source, bytes, true).uncut();
        bad(case);
        case.outcome(Outcome {
            seen: vec![Seen::get("/")],
            silent: true,
            got: vec![Got::status(&[502])],
            after: After::Closed,
            ..Outcome::default()
        });
    }
}

fn old_clients(table: &mut Table) {
    let source = "RFC 9110 section 15.2: no 1xx to HTTP/1.0";
    for (name, interim) in [
        ("100", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("103", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
        ("102 twice", "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"),
    ] {
        let case = table.row(
            format!("for HTTP/1.0: {name}"),
            source,
            format!("GET / HTTP/1.0\r\nHost: {HOST}\r\n\r\n"),
        );
        case.uncut().answers(vec![Answer::bytes(format!("{interim}{OK}"))]);
        case.given(Got::body("ok").interims(&[]), After::Closed);
    }
}
