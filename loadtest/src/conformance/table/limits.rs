//! Sizes: what must be served, and what may be refused, each with a clear answer.

use super::super::case::{After, Answer, BAD_GATEWAY, Got, Outcome, Seen, Table, get, post, request, with};

const TARGET: &str =
    "RFC 9112 section 3: request lines of 8,000 octets at least; longer ones are answered with 414";
const FIELDS: &str =
    "RFC 6585 section 5: 431; RFC 9110 section 5.4: fields larger than wished are answered with a 4xx";

pub(crate) fn fill(table: &mut Table) {
    for length in [1000, 4000, 7900] {
        let target = format!("/{}", "a".repeat(length));
        table.row(format!("a path of {length} bytes"), TARGET, get(&target)).serves(Seen::get(&target));
        let target = format!("/?{}", "a".repeat(length));
        table.row(format!("a query of {length} bytes"), TARGET, get(&target)).serves(Seen::get(&target));
    }
    for length in [20_000, 100_000, 1_000_000] {
        let target = format!("/{}", "a".repeat(length));
        let case = table.row(format!("a path of {length} bytes"), TARGET, get(&target)).uncut();
        case.outcome(refusal(&[414, 400, 431, 413])).serves(Seen::get(&target));
    }
    for length in [1000, 4000, 7900] {
        let value = "v".repeat(length);
        let case = table.row(format!("a field of {length} bytes"), FIELDS, with(format!("X: {value}\r\n")));
        case.serves(Seen::get("/").has("X", value));
    }
    for length in [200_000, 2_000_000] {
        let value = "v".repeat(length);
        let case =
            table.row(format!("a field of {length} bytes"), FIELDS, with(format!("X: {value}\r\n"))).uncut();
        case.outcome(refusal(&[431, 400, 413, 414])).serves(Seen::get("/").has("X", value));
        let case = table
            .row(format!("a name of {length} bytes"), FIELDS, with(format!("{}: v\r\n", "n".repeat(length))))
            .uncut();
        case.outcome(refusal(&[431, 400, 413, 414]));
    }
    for count in [20, 50, 90] {
        let fields: String = (0..count).map(|number| format!("X-{number}: v\r\n")).collect();
        table.row(format!("{count} fields"), FIELDS, with(fields)).serves(Seen::get("/").has("X-19", "v"));
    }
    for count in [1000, 20_000] {
        let fields: String = (0..count).map(|number| format!("X-{number}: v\r\n")).collect();
        let case = table.row(format!("{count} fields"), FIELDS, with(fields)).uncut();
        case.outcome(refusal(&[431, 400, 413, 414])).serves(Seen::get("/").has("X-19", "v"));
    }
    bodies(table);
    answers(table);
}

/// Refused while it still comes: the answer may be lost to the reset of what nobody reads any more.
fn refusal(statuses: &[u16]) -> Outcome {
    Outcome { got: vec![Got::status(statuses)], silent: true, after: After::Closed, ..Outcome::default() }
}

fn bodies(table: &mut Table) {
    let source = "RFC 9110 section 8.6: a body of any size is carried; 413 is a limit that an operator sets";
    for length in [65_535, 65_536, 65_537, 900_000] {
        let body = "b".repeat(length);
        let bytes = post(format!("Content-Length: {length}\r\n"), &body);
        table.row(format!("a body of {length} bytes"), source, bytes).uncut().serves(Seen::post(&body));
        let chunk = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
        let bytes = request("PUT", "/", "Transfer-Encoding: chunked\r\n", chunk);
        let case = table.row(format!("a chunk of {length} bytes"), source, bytes).uncut();
        case.serves(Seen::new("PUT", "/").body(&body));
    }
    for length in [16_383, 16_384, 65_536, 900_000] {
        let body = "r".repeat(length);
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
        table
            .answer(format!("an answer of {length} bytes"), source, answer, false)
            .uncut()
            .gives(Got::body(&body));
        let answer =
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{length:x}\r\n{body}\r\n0\r\n\r\n");
        table
            .answer(format!("an answer in a chunk of {length} bytes"), source, answer, false)
            .uncut()
            .gives(Got::body(&body));
    }
}

fn answers(table: &mut Table) {
    let source = "RFC 9110 section 15.6.3: an answer whose head is larger than wished is a 502";
    for length in [1000, 3000] {
        let value = "v".repeat(length);
        let bytes = format!("HTTP/1.1 200 OK\r\nX: {value}\r\nContent-Length: 2\r\n\r\nok");
        table
            .answer(format!("an answer's field of {length} bytes"), source, bytes, false)
            .gives(Got::body("ok").has("X", value));
    }
    for length in [300_000, 2_000_000] {
        let bytes = format!("HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 2\r\n\r\nok", "v".repeat(length));
        let case = table.row(format!("an answer's field of {length} bytes"), source, get("/")).uncut();
        case.answers(vec![Answer::bytes(&bytes), Answer::bytes(&bytes)]).bad_gateway().gives(Got::body("ok"));
    }
    let fields = "X: v\r\n".repeat(10_000);
    let bytes = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
    let case = table.row("an answer of 10,000 fields", source, get("/")).uncut();
    case.answers(vec![Answer::bytes(&bytes), Answer::bytes(&bytes)]).bad_gateway().gives(Got::body("ok"));
    let endless = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(2000);
    let bytes = format!("{endless}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let case =
        table.row("2,000 interim answers", "RFC 9110 section 15.2: any number, bounded", get("/")).uncut();
    case.answers(vec![Answer::bytes(&bytes), Answer::bytes(&bytes)]).gives(Got::body("ok"));
    for tries in 1..=2 {
        case.outcome(Outcome {
            seen: vec![Seen::get("/"); tries],
            got: vec![Got::status(BAD_GATEWAY)],
            ..Outcome::default()
        });
    }
    case.outcome(Outcome {
        seen: vec![Seen::get("/")],
        got: vec![Got::status(BAD_GATEWAY)],
        silent: true,
        after: After::Closed,
        ..Outcome::default()
    });
}
