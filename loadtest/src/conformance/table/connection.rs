//! Persistence (RFC 9112 section 9): who closes when, for both versions.

use super::super::case::{After, Answer, Got, HOST, Outcome, Seen, Step, Table, get, join, post, with};

const PERSIST: &str =
    "RFC 9112 section 9.3: HTTP/1.1 stays unless it says close, HTTP/1.0 closes unless it says keep-alive";

pub(crate) fn fill(table: &mut Table) {
    version_11(table);
    version_10(table);
    origins(table);
    ends(table);
}

fn version_11(table: &mut Table) {
    for fields in [
        "",
        "Connection: keep-alive\r\n",
        "Connection:\r\n",
        "Connection: x\r\n",
        "Connection: not-close\r\n",
        "Connection: closed\r\n",
        "Connection: \"close\"\r\n",
        "Proxy-Connection: close\r\n",
        "X-Connection: close\r\n",
        "Keep-Alive: max=1\r\n",
    ] {
        let case = table.row(format!("HTTP/1.1 {fields:?}"), PERSIST, with(fields));
        case.serves(Seen::get("/"));
        if fields.contains('"') {
            case.refused();
        }
    }
    for fields in [
        "Connection: close\r\n",
        "Connection: Close\r\n",
        "Connection: CLOSE\r\n",
        "connection: close\r\n",
        "Connection:close\r\n",
        "Connection: close, x\r\n",
        "Connection: x, close\r\n",
        "Connection: x,close,y\r\n",
        "Connection: x\r\nConnection: close\r\n",
        "Connection: close\r\nConnection: x\r\n",
        "Connection: keep-alive, close\r\n",
        "Connection: close, keep-alive\r\n",
        "Connection: , close ,\r\n",
        "Connection:\tclose\t\r\n",
    ] {
        let case = table.row(format!("HTTP/1.1 {fields:?}"), PERSIST, with(fields));
        case.served(vec![Seen::get("/")], After::Closed);
        let last = case.outcomes.last_mut();
        if let Some(got) = last.and_then(|outcome| outcome.got.first_mut()) {
            got.has.push(("Connection", b"close".to_vec()));
        }
    }
    let source = "RFC 9112 section 9.6: nothing behind close is processed";
    let bytes = join(&[&with("Connection: close\r\n"), &get("/never")]);
    table.row("a request behind close", source, bytes).served(vec![Seen::get("/")], After::Closed);
    let bytes = join(&[&post("Connection: close\r\nContent-Length: 2\r\n", "hi"), &get("/never")]);
    table
        .row("a request behind a body and close", source, bytes)
        .served(vec![Seen::post("hi")], After::Closed);
}

fn version_10(table: &mut Table) {
    let ten = |fields: &str| format!("GET / HTTP/1.0\r\nHost: {HOST}\r\n{fields}\r\n");
    for fields in [
        "",
        "Connection: close\r\n",
        "Connection: x\r\n",
        "Keep-Alive: 300\r\n",
        "Connection: close, keep-alive\r\n",
        "Connection: keep-alive, close\r\n",
    ] {
        let case = table.row(format!("HTTP/1.0 {fields:?}"), PERSIST, ten(fields));
        case.served(vec![Seen::get("/")], After::Closed);
    }
    let source = "RFC 9112 section 9.3: keep-alive of HTTP/1.0 may be honoured, and then the answer says so";
    for fields in [
        "Connection: keep-alive\r\n",
        "Connection: Keep-Alive\r\n",
        "Connection: x, keep-alive\r\n",
        "Connection: keep-alive\r\nKeep-Alive: 300\r\n",
    ] {
        let case = table.row(format!("HTTP/1.0 {fields:?}"), source, ten(fields));
        case.served(vec![Seen::get("/")], After::Kept);
        if let Some(got) = case.outcomes.last_mut().and_then(|outcome| outcome.got.first_mut()) {
            got.has.push(("Connection", b"keep-alive".to_vec()));
        }
        case.served(vec![Seen::get("/")], After::Closed);
    }
    let source = "RFC 9112 section 6.1: no chunks to HTTP/1.0";
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for fields in ["", "Connection: keep-alive\r\n"] {
        let case = table.row(format!("HTTP/1.0 {fields:?} gets no chunks"), source, ten(fields));
        case.answers(vec![Answer::bytes(answer)]);
        case.given(Got::body("hello").lacks("Transfer-Encoding"), After::Either);
    }
    let source = "RFC 9112 section 2.3: a server answers with its own version";
    let case = table.row("HTTP/1.0 is answered", source, ten(""));
    case.served(vec![Seen::get("/")], After::Closed);
}

fn origins(table: &mut Table) {
    let source = "RFC 9112 section 9.3: an origin that closes does not close the client's connection";
    for (name, answer) in [
        ("says close and closes", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"),
        ("closes without a word", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        ("is HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        (
            "is HTTP/1.0 and says keep-alive, then closes",
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        ),
    ] {
        let case = table.answer(format!("an origin that {name}"), source, answer, true);
        case.gives(Got::body("ok"));
    }
    for (name, answer) in [
        ("says close and does not", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"),
        ("is HTTP/1.0 and stays", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        (
            "is HTTP/1.0 and keeps alive",
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
        ),
    ] {
        let case = table.answer(format!("an origin that {name}"), source, answer, false);
        case.gives(Got::body("ok"));
    }
    let source =
        "RFC 9112 section 9.3.1: a closed connection is noticed; the next request goes over another one";
    let close = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let case = table.steps(
        "ten requests, each origin connection closed",
        source,
        (1..=10)
            .flat_map(|number| {
                [Step::Send(get("/")), Step::Answers(number), Step::OriginDone(number), Step::Gap]
            })
            .collect(),
    );
    case.answers(vec![Answer::last(close); 10]);
    case.outcome(Outcome {
        seen: vec![Seen::get("/"); 10],
        got: vec![Got::body("ok"); 10],
        after: After::Kept,
        ..Outcome::default()
    });
    let case = table.steps(
        "a hundred requests one after the other",
        PERSIST,
        (1..=100).flat_map(|number| [Step::Send(get("/")), Step::Answers(number)]).collect(),
    );
    case.serves_all(vec![Seen::get("/"); 100]);
}

fn ends(table: &mut Table) {
    let source = "RFC 9293 section 3.6: who has ended its direction of a connection still receives";
    let case = table.steps("a half-closed client", source, vec![Step::Send(get("/")), Step::End]);
    case.served(vec![Seen::get("/")], After::Closed);
    let case = table.steps(
        "a half-closed client with a body",
        source,
        vec![Step::Send(post("Content-Length: 2\r\n", "hi")), Step::End],
    );
    case.served(vec![Seen::post("hi")], After::Closed);
    let case = table.steps(
        "a half-closed client of two requests",
        source,
        vec![Step::Send(join(&[&get("/a"), &get("/b")])), Step::End],
    );
    case.served(vec![Seen::get("/a"), Seen::get("/b")], After::Closed);
    let source = "A connection without a request ends without an answer";
    let case = table.steps("nothing sent", source, vec![Step::End]);
    case.outcome(Outcome {
        got: vec![Got::status(&[400, 408])],
        silent: true,
        after: After::Closed,
        ..Outcome::default()
    });
    let case =
        table.steps("an empty line sent", source, vec![Step::Send(b"\r\n".to_vec()), Step::EndIfQuiet]);
    case.outcome(Outcome {
        got: vec![Got::status(&[400, 408])],
        silent: true,
        after: After::Closed,
        ..Outcome::default()
    });
    let source = "RFC 9112 section 9.6: an answer is not lost to a reset when the client still sends";
    let rest = "x".repeat(200_000);
    let bytes = join(&[b"BAD REQUEST LINE \0\r\n\r\n", rest.as_bytes()]);
    let case = table.row("a refusal while 200,000 bytes still come", source, bytes).uncut();
    case.outcome(Outcome { got: vec![Got::status(&[400])], after: After::Closed, ..Outcome::default() });
}
