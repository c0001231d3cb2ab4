//! Answers that break off: the client can always see it (RFC 9112 section 8), and what may be tried again (RFC 9110 section 9.2.2).

use super::super::case::{
    Act, After, Answer, BAD_GATEWAY, Got, HOST, Outcome, Seen, Table, When, get, post, request,
};

const VISIBLE: &str =
    "RFC 9112 section 8: an answer that is not whole must not look whole; a 502 if nothing of it was sent";
const RETRY: &str = "RFC 9110 section 9.2.2: only what is idempotent may be sent again";

pub(crate) fn fill(table: &mut Table) {
    bodies(table);
    old_clients(table);
    heads(table);
    retries(table);
}

fn ends(bytes: &str, end: Act) -> Answer {
    Answer::new(When::Whole, vec![Act::Send(bytes.as_bytes().to_vec()), Act::Gap, end])
}

fn cut_or_bad() -> [Outcome; 2] {
    [
        Outcome {
            seen: vec![Seen::get("/")],
            got: vec![Got::cut()],
            after: After::Closed,
            ..Outcome::default()
        },
        Outcome { seen: vec![Seen::get("/")], got: vec![Got::status(BAD_GATEWAY)], ..Outcome::default() },
    ]
}

fn bodies(table: &mut Table) {
    let length = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    let chunks = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (name, head, bodies) in [
        ("a length", length, &["", "h", "hell"][..]),
        (
            "chunks",
            chunks,
            &[
                "",
                "5",
                "5\r\n",
                "5\r\nhel",
                "5\r\nhello",
                "5\r\nhello\r",
                "5\r\nhello\r\n",
                "5\r\nhello\r\n0",
                "5\r\nhello\r\n0\r\n",
                "5\r\nhello\r\n0\r\nT: v\r\n",
            ],
        ),
    ] {
        for body in bodies {
            for (how, end) in [("closed", Act::End), ("reset", Act::Reset)] {
                let case = table.row(format!("{name}, {how} behind {body:?}"), VISIBLE, get("/"));
                case.uncut().answers(vec![ends(&format!("{head}{body}"), end)]);
                case.outcomes.extend(cut_or_bad());
            }
        }
    }
    let large = "x".repeat(200_000);
    for (name, head) in [
        ("a length", "HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n"),
        ("a chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n493e0\r\n"),
    ] {
        for (how, end) in [("closed", Act::End), ("reset", Act::Reset)] {
            let case = table.row(format!("{name} of 300,000, {how} behind 200,000"), VISIBLE, get("/"));
            case.uncut().answers(vec![ends(&format!("{head}{large}"), end)]);
            case.outcomes.extend(cut_or_bad());
        }
    }
    let source = "RFC 9112 section 8: a reset is no end of a close-delimited body";
    let case = table.row("until the close, reset", source, get("/"));
    case.uncut().answers(vec![ends("HTTP/1.1 200 OK\r\n\r\nhel", Act::Reset)]);
    case.outcomes.extend(cut_or_bad());
}

fn old_clients(table: &mut Table) {
    let source = "RFC 9112 section 8: HTTP/1.0 sees the loss of chunks by a reset alone";
    for (name, answer) in [
        ("chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        ("a chunk in part", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"),
        ("a length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"),
    ] {
        for (how, end) in [("closed", Act::End), ("reset", Act::Reset)] {
            let case = table.row(
                format!("for HTTP/1.0: {name}, {how}"),
                source,
                format!("GET / HTTP/1.0\r\nHost: {HOST}\r\n\r\n"),
            );
            case.uncut().answers(vec![ends(answer, end)]);
            case.outcomes.extend(cut_or_bad());
        }
    }
}

fn heads(table: &mut Table) {
    let source = "RFC 9110 section 15.6.3: an answer without a whole head is a 502";
    for bytes in [
        "H",
        "HTTP/1.1",
        "HTTP/1.1 200 OK",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r",
        "HTTP/1.1 103 Early Hints\r\n\r\n",
    ] {
        for (how, end) in [("closed", Act::End), ("reset", Act::Reset)] {
            let answer = ends(bytes, end);
            let case = table.row(format!("{how} behind {bytes:?}"), source, get("/"));
            case.uncut().answers(vec![answer.clone(), answer]).bad_gateway();
        }
    }
    let case = table.row("a bad body is a cut or a 502", VISIBLE, post("Content-Length: 2\r\n", "hi"));
    case.uncut().answers(vec![ends("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", Act::End)]);
    case.outcome(Outcome {
        seen: vec![Seen::post("hi")],
        got: vec![Got::cut()],
        after: After::Closed,
        ..Outcome::default()
    });
    case.outcome(Outcome {
        seen: vec![Seen::post("hi")],
        got: vec![Got::status(BAD_GATEWAY)],
        ..Outcome::default()
    });
}

fn retries(table: &mut Table) {
    for method in ["POST", "PATCH", "LOCK", "X"] {
        for (how, act) in [("closed", Act::End), ("reset", Act::Reset)] {
            let bytes = request(method, "/", "Content-Length: 2\r\n", "hi");
            let case = table.row(format!("{method}, {how} without an answer"), RETRY, bytes);
            case.uncut().answers(vec![Answer::new(When::Whole, vec![act])]);
            case.outcome(Outcome {
                seen: vec![Seen::new(method, "/").body("hi")],
                got: vec![Got::status(BAD_GATEWAY)],
                ..Outcome::default()
            });
        }
    }
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        for (how, act) in [("closed", Act::End), ("reset", Act::Reset)] {
            let case =
                table.row(format!("{method}, {how} without an answer"), RETRY, request(method, "/", "", ""));
            case.uncut().answers(vec![Answer::new(When::Whole, vec![act])]);
            let seen = Seen { framing: None, ..Seen::new(method, "/") };
            case.outcome(Outcome {
                seen: vec![seen.clone()],
                got: vec![Got::status(BAD_GATEWAY)],
                ..Outcome::default()
            });
            case.outcome(Outcome {
                seen: vec![seen.clone(), seen],
                got: vec![Got::status(&[200])],
                after: After::Kept,
                ..Outcome::default()
            });
        }
    }
    let case = table.row("POST, closed behind its head", RETRY, post("Content-Length: 2\r\n", "hi"));
    case.uncut().answers(vec![Answer::new(When::Head, vec![Act::Reset])]);
    for partial in [false, true] {
        let seen = if partial { Vec::new() } else { vec![Seen::post("hi")] };
        case.outcome(Outcome { seen, partial, got: vec![Got::status(BAD_GATEWAY)], ..Outcome::default() });
    }
}
