//! Several requests in one go (RFC 9112 section 9.3.2): answered in order, each framed alone.

use super::super::case::{
    Act, After, Answer, Got, HOST, Outcome, REFUSALS, Seen, Step, Table, When, chunked, get, join, post,
    request,
};

const ORDER: &str = "RFC 9112 section 9.3.2: answers come in the order of the requests";

pub(crate) fn fill(table: &mut Table) {
    orders(table);
    bad_ones(table);
    slow_ones(table);
}

fn orders(table: &mut Table) {
    for count in [2, 3, 10, 50] {
        let bytes: Vec<u8> = (0..count).flat_map(|number| get(format!("/{number}"))).collect();
        let seen = (0..count).map(|number| Seen::get(format!("/{number}"))).collect();
        table.row(format!("{count} GETs"), ORDER, bytes).serves_all(seen);
    }
    let head = request("HEAD", "/h", "", "");
    let length = post("Content-Length: 5\r\n", "hello");
    let chunks = chunked("5\r\nhello\r\n0\r\n\r\n");
    let trailers = chunked("5\r\nhello\r\n0\r\nT: v\r\n\r\n");
    let head_seen = Seen::new("HEAD", "/h");
    for (name, parts, seen) in [
        (
            "GET, POST, GET",
            vec![get("/a"), length.clone(), get("/b")],
            vec![Seen::get("/a"), Seen::post("hello"), Seen::get("/b")],
        ),
        (
            "GET, chunks, GET",
            vec![get("/a"), chunks.clone(), get("/b")],
            vec![Seen::get("/a"), Seen::post("hello"), Seen::get("/b")],
        ),
        ("chunks with trailers, GET", vec![trailers, get("/b")], vec![Seen::post("hello"), Seen::get("/b")]),
        ("POST, POST", vec![length.clone(), length.clone()], vec![Seen::post("hello"), Seen::post("hello")]),
        (
            "chunks, chunks",
            vec![chunks.clone(), chunks.clone()],
            vec![Seen::post("hello"), Seen::post("hello")],
        ),
        (
            "POST, chunks, POST",
            vec![length.clone(), chunks, length.clone()],
            vec![Seen::post("hello"), Seen::post("hello"), Seen::post("hello")],
        ),
        ("HEAD, GET", vec![head.clone(), get("/b")], vec![head_seen.clone(), Seen::get("/b")]),
        (
            "GET, HEAD, GET",
            vec![get("/a"), head, get("/b")],
            vec![Seen::get("/a"), head_seen, Seen::get("/b")],
        ),
        (
            "POST of 0 bytes, GET",
            vec![post("Content-Length: 0\r\n", ""), get("/b")],
            vec![Seen::post(""), Seen::get("/b")],
        ),
        (
            "GET, empty line, GET",
            vec![get("/a"), b"\r\n".to_vec(), get("/b")],
            vec![Seen::get("/a"), Seen::get("/b")],
        ),
        (
            "POST, empty line, GET",
            vec![length, b"\r\n".to_vec(), get("/b")],
            vec![Seen::post("hello"), Seen::get("/b")],
        ),
    ] {
        table.row(name, ORDER, parts.concat()).serves_all(seen);
    }
    let last = join(&[&get("/a"), format!("GET /b HTTP/1.0\r\nHost: {HOST}\r\n\r\n").as_bytes()]);
    table
        .row("HTTP/1.1, then HTTP/1.0", ORDER, last)
        .served(vec![Seen::get("/a"), Seen::get("/b")], After::Closed);
}

fn bad_ones(table: &mut Table) {
    let source = "RFC 9112 section 9.3.2: what is good is answered, the bad one refused, and nothing behind it processed";
    for (name, bad) in [
        ("a bad request line", b"GET\0/ HTTP/1.1\r\n\r\n".to_vec()),
        ("no Host", b"GET /b HTTP/1.1\r\n\r\n".to_vec()),
        ("two lengths", post("Content-Length: 1\r\nContent-Length: 2\r\n", "ab")),
        ("an unknown coding", post("Transfer-Encoding: x\r\n", "ab")),
        ("a bad field", request("GET", "/b", "A B: c\r\n", "")),
    ] {
        let bytes = join(&[&get("/a"), &bad, &get("/c")]);
        let case = table.row(format!("GET, {name}, GET"), source, bytes);
        case.outcome(Outcome {
            seen: vec![Seen::get("/a")],
            got: vec![Got::status(&[200]), Got::status(REFUSALS)],
            silent: true,
            after: After::Closed,
            ..Outcome::default()
        });
        // Where its end is known, the connection may go on.
        let on = Outcome {
            seen: vec![Seen::get("/a"), Seen::get("/c")],
            got: vec![Got::status(&[200]), Got::status(REFUSALS), Got::status(&[200])],
            ..Outcome::default()
        };
        if name == "no Host" {
            case.outcome(on);
        } else if name == "a bad field" {
            let seen = vec![Seen::get("/a"), Seen::get("/b").lacks("A B"), Seen::get("/c")];
            case.served(seen, After::Either);
        }
    }
    let bytes = join(&[&get("/a"), &chunked("x\r\n"), &get("/c")]);
    let case = table.row("GET, bad chunks, GET", source, bytes);
    case.outcome(Outcome {
        seen: vec![Seen::get("/a")],
        got: vec![Got::status(&[200]), Got::status(REFUSALS)],
        partial: true,
        silent: true,
        after: After::Closed,
        ..Outcome::default()
    });
}

fn slow_ones(table: &mut Table) {
    let source = "RFC 9112 section 9.3.2: a slow answer holds those behind it back";
    let slow = Answer::new(
        When::Whole,
        vec![
            Act::Gap,
            Act::Gap,
            Act::Gap,
            Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow".to_vec()),
        ],
    );
    let quick = Answer::bytes("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nquick");
    let case = table.row("slow, quick", source, join(&[&get("/a"), &get("/b")]));
    case.uncut().answers(vec![slow, quick.clone()]);
    case.outcome(Outcome {
        seen: vec![Seen::get("/a"), Seen::get("/b")],
        got: vec![Got::body("slow"), Got::body("quick")],
        after: After::Kept,
        ..Outcome::default()
    });
    let source = "RFC 9112 section 6.3: the end of a close-delimited answer does not end what is behind it, or the connection closes";
    let until_close = Answer::last("HTTP/1.1 200 OK\r\n\r\nall");
    let case = table.row("close-delimited, then another", source, join(&[&get("/a"), &get("/b")]));
    case.uncut().answers(vec![until_close, quick.clone()]);
    case.outcome(Outcome {
        seen: vec![Seen::get("/a"), Seen::get("/b")],
        got: vec![Got::body("all"), Got::body("quick")],
        ..Outcome::default()
    });
    case.outcome(Outcome {
        seen: vec![Seen::get("/a")],
        got: vec![Got::body("all")],
        after: After::Closed,
        ..Outcome::default()
    });
    let source = "RFC 9112 section 9.3.2: an early answer to a body leaves the next request where it is";
    let early = Answer::new(
        When::Head,
        vec![Act::Send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly".to_vec()), Act::Whole],
    );
    let steps = vec![
        Step::Send(post("Content-Length: 5\r\n", "")),
        Step::OriginHeads(1),
        Step::Gap,
        Step::Send(join(&[b"hello", &get("/b")])),
    ];
    let case = table.steps("an early answer, its body and another request", source, steps);
    case.answers(vec![early, quick]);
    let got = vec![Got::body("early"), Got::body("quick")];
    case.outcome(Outcome {
        seen: vec![Seen::post("hello"), Seen::get("/b")],
        got: got.clone(),
        ..Outcome::default()
    });
    case.outcome(Outcome {
        seen: vec![Seen::get("/b")],
        partial: true,
        got: got.clone(),
        ..Outcome::default()
    });
    case.outcome(Outcome {
        partial: true,
        got: got.into_iter().take(1).collect(),
        after: After::Closed,
        ..Outcome::default()
    });
}
