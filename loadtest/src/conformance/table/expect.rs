//! `Expect: 100-continue` (RFC 9110 section 10.1.1): the body comes after leave, from the origin or from the gateway.

use super::super::case::{
    Act, After, Answer, Got, HOST, Outcome, Seen, Step, Table, When, join, post, request,
};

const CONTINUE: &str =
    "RFC 9110 section 10.1.1: 100 or a final answer; a proxy forwards the expectation or answers it itself";
const FIELDS: &str = "Expect: 100-continue\r\nContent-Length: 5\r\n";
const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub(crate) fn fill(table: &mut Table) {
    granted(table);
    refused(table);
    without(table);
    others(table);
}

fn waiting(fields: &str, body: &str) -> Vec<Step> {
    vec![Step::Send(post(fields, "")), Step::Interim, Step::Send(body.as_bytes().to_vec())]
}

/// An origin that grants leave, reads the body and answers.
fn granting() -> Vec<Answer> {
    vec![Answer::new(When::Head, vec![Act::Send(GO_ON.to_vec()), Act::Whole, Act::Send(OK.to_vec())])]
}

fn granted(table: &mut Table) {
    let chunks = "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n";
    for (name, fields, body) in [
        ("a length", FIELDS, "hello"),
        ("chunks", chunks, "5\r\nhello\r\n0\r\n\r\n"),
        ("in other case", "expect: 100-CONTINUE\r\nContent-Length: 5\r\n", "hello"),
        ("behind the length", "Content-Length: 5\r\nExpect: 100-continue\r\n", "hello"),
    ] {
        let case = table.steps(format!("granted: {name}"), CONTINUE, waiting(fields, body));
        case.answers(granting());
        let got = Got::body("ok");
        case.outcome(Outcome {
            seen: vec![Seen::post("hello")],
            got: vec![got.clone().interims(&[100])],
            after: After::Kept,
            ..Outcome::default()
        });
        // Leave from both the gateway and the origin is twice said and harmless.
        case.outcome(Outcome {
            seen: vec![Seen::post("hello")],
            got: vec![got.interims(&[100, 100])],
            after: After::Kept,
            ..Outcome::default()
        });
    }
    let case =
        table.steps("granted: the body is not waited for", CONTINUE, vec![Step::Send(post(FIELDS, "hello"))]);
    case.answers(granting());
    case.outcome(Outcome {
        seen: vec![Seen::post("hello")],
        got: vec![Got::body("ok")],
        after: After::Kept,
        ..Outcome::default()
    });
    let case = table.steps(
        "granted: a client that sends after a while",
        CONTINUE,
        vec![Step::Send(post(FIELDS, "")), Step::OriginHeads(1), Step::Gap, Step::Send(b"hello".to_vec())],
    );
    case.answers(granting());
    case.outcome(Outcome {
        seen: vec![Seen::post("hello")],
        got: vec![Got::body("ok")],
        after: After::Kept,
        ..Outcome::default()
    });
    let source = "RFC 9110 section 10.1.1: an origin that knows no expectations; the body comes all the same";
    let case = table.row("not granted, the body in the same segment", source, post(FIELDS, "hello"));
    case.serves(Seen::post("hello"));
    let mut steps = vec![Step::Send(post(FIELDS, ""))];
    steps.extend(std::iter::repeat_n(Step::Interim, 5));
    steps.push(Step::Send(b"hello".to_vec()));
    let case = table.steps("an origin that says nothing", source, steps);
    case.serves(Seen::post("hello"));
    let source = "RFC 9110 section 15.2: an unasked 100 is one interim answer more";
    let twice = join(&[GO_ON, GO_ON]);
    let case = table.steps("granted twice", source, waiting(FIELDS, "hello"));
    case.answers(vec![Answer::new(When::Head, vec![Act::Send(twice), Act::Whole, Act::Send(OK.to_vec())])]);
    case.outcome(Outcome {
        seen: vec![Seen::post("hello")],
        got: vec![Got::body("ok")],
        after: After::Kept,
        ..Outcome::default()
    });
    let both = join(&[GO_ON, OK]);
    let case = table.steps("granted and answered at once", source, waiting(FIELDS, "hello"));
    case.answers(vec![Answer::new(When::Head, vec![Act::Send(both), Act::Whole])]);
    case.outcome(Outcome {
        seen: vec![Seen::post("hello")],
        got: vec![Got::body("ok")],
        ..Outcome::default()
    });
    case.outcome(Outcome { partial: true, got: vec![Got::body("ok")], ..Outcome::default() });
}

fn refused(table: &mut Table) {
    for status in [401, 403, 413, 417, 500] {
        let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 2\r\n\r\nno").into_bytes();
        let source = "RFC 9110 section 10.1.1: a final answer instead of leave; the connection closes, or the body still comes whole";
        let case = table.steps(
            format!("a final {status}, no body"),
            source,
            vec![Step::Send(post(FIELDS, "")), Step::Answers(1), Step::End],
        );
        case.answers(vec![Answer::new(When::Head, vec![Act::Send(answer.clone()), Act::Whole])]);
        case.outcome(Outcome {
            partial: true,
            got: vec![Got::status(&[status])],
            after: After::Closed,
            ..Outcome::default()
        });
        // A gateway that gave leave itself never hears of the refusal before the client has ended.
        case.outcome(Outcome {
            partial: true,
            got: vec![Got::status(&[400, 408, status])],
            silent: true,
            after: After::Closed,
            ..Outcome::default()
        });
        let case = table.steps(
            format!("a final {status}, the body all the same"),
            source,
            vec![Step::Send(post(FIELDS, "hello"))],
        );
        case.answers(vec![Answer::new(When::Head, vec![Act::Send(answer), Act::Whole])]);
        case.outcome(Outcome {
            seen: vec![Seen::post("hello")],
            got: vec![Got::status(&[status])],
            ..Outcome::default()
        });
        case.outcome(Outcome { partial: true, got: vec![Got::status(&[status])], ..Outcome::default() });
    }
}

fn without(table: &mut Table) {
    let source = "RFC 9110 section 10.1.1: without content there is nothing to wait for; no 100 of the gateway's own is due";
    for (name, method, fields) in [
        ("a GET without a body", "GET", "Expect: 100-continue\r\n"),
        ("a POST of 0 bytes", "POST", "Expect: 100-continue\r\nContent-Length: 0\r\n"),
        ("a HEAD", "HEAD", "Expect: 100-continue\r\n"),
    ] {
        let case = table.row(name, source, request(method, "/", fields, ""));
        case.serves(Seen::new(method, "/"));
    }
    let source = "RFC 9110 section 10.1.1: an expectation in HTTP/1.0 is ignored, and RFC 9110 section 15.2: no 1xx to HTTP/1.0";
    let bytes = format!("POST / HTTP/1.0\r\nHost: {HOST}\r\n{FIELDS}\r\nhello");
    let case = table.row("HTTP/1.0", source, bytes);
    case.outcome(Outcome {
        seen: vec![Seen::post("hello")],
        got: vec![Got::status(&[200]).interims(&[])],
        after: After::Closed,
        ..Outcome::default()
    });
    let bytes = format!("POST / HTTP/1.0\r\nHost: {HOST}\r\n{FIELDS}\r\nhello");
    let case = table.row("HTTP/1.0, an origin that grants leave", source, bytes);
    case.uncut().answers(granting());
    case.outcome(Outcome {
        seen: vec![Seen::post("hello")],
        got: vec![Got::body("ok").interims(&[])],
        after: After::Closed,
        ..Outcome::default()
    });
}

fn others(table: &mut Table) {
    let source =
        "RFC 9110 section 10.1.1: an expectation that is not known may be answered with 417, or passed by";
    for value in ["x", "200-ok", "100-continue, x", "x=y", "100-continue=1", ""] {
        let case = table.row(
            format!("Expect: {value:?}"),
            source,
            post(format!("Expect: {value}\r\nContent-Length: 5\r\n"), "hello"),
        );
        case.uncut().serves(Seen::post("hello")).refused_with(&[417, 400]).refused();
    }
    let source = "RFC 9112 section 9.6: close with an expectation";
    let case = table.row("with close", source, post(format!("Connection: close\r\n{FIELDS}"), "hello"));
    case.served(vec![Seen::post("hello")], After::Closed);
}
