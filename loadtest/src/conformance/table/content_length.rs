//! Content-Length of requests (RFC 9110 section 8.6, RFC 9112 section 6.3).

use super::super::case::{After, Got, Outcome, REFUSALS, Seen, Step, Table, get, join, post, request};
use super::named;

const LENGTH: &str =
    "RFC 9110 section 8.6: digits; RFC 9112 section 6.3: an invalid one is answered with 400 and a close";
const REPEATED: &str = "RFC 9112 section 6.3: different lengths are refused; equal ones may count as one";

pub(crate) fn fill(table: &mut Table) {
    valid(table);
    invalid(table);
    repeated(table);
    other_fields(table);
    broken_off(table);
}

fn length(value: impl AsRef<[u8]>, body: &str) -> Vec<u8> {
    post(join(&[b"Content-Length: ", value.as_ref(), b"\r\n"]), body)
}

fn valid(table: &mut Table) {
    table.row("0", LENGTH, length("0", "")).serves(Seen::post(""));
    table.row("5", LENGTH, length("5", "hello")).serves(Seen::post("hello"));
    table.row("spaces around", LENGTH, length("   5  ", "hello")).serves(Seen::post("hello"));
    table.row("tab before", LENGTH, length("\t5", "hello")).serves(Seen::post("hello"));
    table.row("lower case", LENGTH, post("content-length: 5\r\n", "hello")).serves(Seen::post("hello"));
    table.row("upper case", LENGTH, post("CONTENT-LENGTH: 5\r\n", "hello")).serves(Seen::post("hello"));
    table.row("no space", LENGTH, post("Content-Length:5\r\n", "hello")).serves(Seen::post("hello"));
    table.row("leading zeros", LENGTH, length("005", "hello")).serves(Seen::post("hello")).refused();
    let many = format!("{}5", "0".repeat(40));
    table.row("forty leading zeros", LENGTH, length(many, "hello")).serves(Seen::post("hello")).refused();
    let source = "RFC 9112 section 6.3: a body holds anything";
    for (name, body) in [
        ("a request", "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("an end of chunks", "0\r\n\r\n"),
        ("line ends", "\r\n\r\n\n\r"),
        ("controls", "\0\x01\x7f\x1b"),
    ] {
        table
            .row(format!("a body of {name}"), source, length(body.len().to_string(), body))
            .serves(Seen::post(body));
    }
    let body = "x".repeat(100_000);
    table.row("100,000 bytes", LENGTH, length("100000", &body)).uncut().serves(Seen::post(&body));
    let case = table.row("HTTP/1.0", LENGTH, "POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    case.served(vec![Seen::post("hello")], After::Closed);
}

fn invalid(table: &mut Table) {
    for value in [
        "",
        "+5",
        "-5",
        "-0",
        "+0",
        "0x5",
        "5.",
        "5.0",
        ".5",
        "5e0",
        "5 5",
        "5\t5",
        "5;",
        "5;a=b",
        "\"5\"",
        "'5'",
        "five",
        "a",
        "5a",
        "a5",
        "5_0",
        "0b101",
        "0o5",
        "5\u{e9}",
        "\u{665}",
        "\u{ff15}",
        "(5)",
        "5 (five)",
        "5,",
        ",5",
        ",",
        "5, ",
        "0 5",
        "1 0",
        "NaN",
        "inf",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
        "18446744073709551621",
        "99999999999999999999999999999999",
        "-18446744073709551611",
        "4294967301x",
    ] {
        let case = table.row(format!("{value:?}"), LENGTH, length(value, "hello"));
        case.refused();
        if matches!(value, "5," | ",5" | "5, ") {
            // RFC 9110 section 5.6.1.2 lets a recipient of a list skip empty members.
            case.served(vec![Seen::post("hello")], After::Either);
        }
        if matches!(value, "9223372036854775808" | "18446744073709551615") {
            case.outcome(Outcome {
                partial: true,
                silent: true,
                got: vec![Got::status(REFUSALS)],
                ..Outcome::default()
            });
        }
    }
    for byte in [0x00, 0x01, 0x08, 0x0b, 0x0c, 0x1f, 0x7f, 0x85, 0xa0] {
        for (place, value) in [("before", [byte, b'5']), ("behind", [b'5', byte])] {
            table.row(format!("{} {place} 5", named(byte)), LENGTH, length(value, "hello")).refused();
        }
    }
    for (name, fields) in [
        ("CR before", "Content-Length: \r5\r\n"),
        ("CR behind", "Content-Length: 5\r\r\n"),
        ("CR inside", "Content-Length: 5\r0\r\n"),
    ] {
        table.row(name, LENGTH, post(fields, "hello")).refused();
    }
}

fn repeated(table: &mut Table) {
    for (name, fields) in [
        ("two lines, 5 and 5", "Content-Length: 5\r\nContent-Length: 5\r\n"),
        ("a list, 5 and 5", "Content-Length: 5, 5\r\n"),
        ("a list, 5,5", "Content-Length: 5,5\r\n"),
        ("three lines of 5", "Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 5\r\n"),
        ("two lines, 5 and 005", "Content-Length: 5\r\nContent-Length: 005\r\n"),
    ] {
        let case = table.row(name, REPEATED, post(fields, "hello"));
        case.refused().served(vec![Seen::post("hello")], After::Either);
    }
    for (name, fields) in [
        ("two lines, 5 and 6", "Content-Length: 5\r\nContent-Length: 6\r\n"),
        ("two lines, 6 and 5", "Content-Length: 6\r\nContent-Length: 5\r\n"),
        ("two lines, 5 and 0", "Content-Length: 5\r\nContent-Length: 0\r\n"),
        ("two lines, 0 and 5", "Content-Length: 0\r\nContent-Length: 5\r\n"),
        ("two lines, 5 and empty", "Content-Length: 5\r\nContent-Length:\r\n"),
        ("two lines, empty and 5", "Content-Length:\r\nContent-Length: 5\r\n"),
        ("two lines, 5 and a word", "Content-Length: 5\r\nContent-Length: x\r\n"),
        ("two lines apart", "Content-Length: 5\r\nX: y\r\nContent-Length: 6\r\n"),
        ("two lines in other case", "Content-Length: 5\r\ncontent-length: 6\r\n"),
        ("a list, 5 and 6", "Content-Length: 5, 6\r\n"),
        ("a list, 0 and 5", "Content-Length: 0,5\r\n"),
        ("a list, then a line", "Content-Length: 5, 5\r\nContent-Length: 6\r\n"),
        ("three lines, the last differs", "Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 6\r\n"),
    ] {
        table.row(name, REPEATED, post(fields, "hello")).refused();
    }
}

fn other_fields(table: &mut Table) {
    let source =
        "RFC 9110 section 5.1: a name is compared as a whole; a similar one has no effect on framing";
    for name in [
        "X-Content-Length",
        "Content-Length-X",
        "ContentLength",
        "Content-Lengt",
        "Content-Lengthh",
        "Content_Length",
        "Content.Length",
    ] {
        let fields = format!("{name}: 50\r\nContent-Length: 5\r\n");
        let case = table.row(format!("{name} beside it"), source, post(fields, "hello"));
        case.serves(Seen::post("hello").has("Content-Length", "5"));
        let bytes =
            join(&[&request("POST", "/", format!("{name}: 5\r\nContent-Length: 0\r\n"), ""), &get("/next")]);
        let case = table.row(format!("{name} does not frame"), source, bytes);
        case.serves_all(vec![Seen::post(""), Seen::get("/next")]);
    }
}

fn broken_off(table: &mut Table) {
    let source =
        "RFC 9112 section 8: a request that breaks off is not whole; no whole one reaches the origin";
    for (name, last) in [("the client ends", Step::End), ("the client resets", Step::Reset)] {
        for (length, body) in [("5", "hell"), ("5", ""), ("100000", "hello")] {
            let bytes = post(format!("Content-Length: {length}\r\n"), body);
            let name = format!("{name} after {} of {length} bytes", body.len());
            let case = table.steps(name, source, vec![Step::Send(bytes), Step::Gap, last.clone()]);
            case.outcome(Outcome {
                partial: true,
                silent: true,
                got: vec![Got::status(&[400, 408, 499, 502])],
                after: After::Closed,
                ..Outcome::default()
            });
        }
        let bytes = get("/").get(..20).unwrap_or_default().to_vec();
        let case =
            table.steps(format!("{name} inside the head"), source, vec![Step::Send(bytes), Step::Gap, last]);
        case.outcome(Outcome {
            silent: true,
            got: vec![Got::status(&[400, 408])],
            after: After::Closed,
            ..Outcome::default()
        });
    }
}
