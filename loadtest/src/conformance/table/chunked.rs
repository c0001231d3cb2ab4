//! Chunked request bodies (RFC 9112 section 7.1), and the tricks with their line ends and extensions that were published in 2025.
//!
//! A lone LF may end a line of a head (RFC 9112 section 2.2), but nothing allows it inside the chunked coding.

use super::super::case::{After, Case, Got, Outcome, Seen, Step, Table, chunked, get, join, post};
use super::named;

const SIZE: &str = "RFC 9112 section 7.1: chunk-size is hexadecimal digits";
const LINES: &str =
    "RFC 9112 section 7.1 and the 2025 research on chunk line terminators: CRLF and nothing else";
const EXTENSIONS: &str = "RFC 9112 section 7.1.1: extensions are ignored, and must have their form";
const TRAILERS: &str =
    "RFC 9112 section 7.1.2, RFC 9110 section 6.5: trailers may be dropped, never merged into the head";

pub(crate) fn fill(table: &mut Table) {
    valid(table);
    sizes(table);
    line_ends(table);
    data(table);
    extensions(table);
    extensions_refused(table);
    trailers(table);
    trailers_refused(table);
    broken_off(table);
}

fn hello(case: &mut Case) {
    case.serves(Seen::post("hello"));
}

fn valid(table: &mut Table) {
    for (name, body) in [
        ("one chunk", "5\r\nhello\r\n0\r\n\r\n"),
        ("two chunks", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
        ("a chunk a byte", "1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n"),
        ("leading zeros", "0005\r\nhello\r\n0\r\n\r\n"),
        ("many zeros as the last chunk", "5\r\nhello\r\n00000\r\n\r\n"),
    ] {
        hello(table.row(name, SIZE, chunked(body)));
    }
    table.row("no data", SIZE, chunked("0\r\n\r\n")).serves(Seen::post(""));
    for (name, size) in [
        ("lower case", "0a"),
        ("upper case", "0A"),
        ("lower case, one digit", "a"),
        ("upper case, one digit", "A"),
    ] {
        let body = format!("{size}\r\n0123456789\r\n0\r\n\r\n");
        table.row(format!("size in {name}"), SIZE, chunked(body)).serves(Seen::post("0123456789"));
    }
    for (name, data) in [
        ("a request", "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("an end of chunks", "\r\n0\r\n\r\n"),
        ("line ends", "\r\n\r\n"),
    ] {
        let body = format!("{:x}\r\n{data}\r\n0\r\n\r\n", data.len());
        table.row(format!("data of {name}"), SIZE, chunked(body)).serves(Seen::post(data));
    }
    let data = "y".repeat(70_000);
    let body = format!("{:X}\r\n{data}\r\n0\r\n\r\n", data.len());
    table.row("70,000 bytes in one chunk", SIZE, chunked(body)).uncut().serves(Seen::post(&data));
    let body = format!("{}0\r\n\r\n", "1\r\nz\r\n".repeat(3000));
    table.row("3,000 chunks of a byte", SIZE, chunked(body)).uncut().serves(Seen::post("z".repeat(3000)));
    let bytes = join(&[&chunked("5\r\nhello\r\n0\r\n\r\n"), &get("/next")]);
    table.row("a request behind", SIZE, bytes).serves_all(vec![Seen::post("hello"), Seen::get("/next")]);
    let source = "RFC 9112 section 2.2: an empty line before the next request may be skipped";
    let bytes = join(&[&chunked("5\r\nhello\r\n0\r\n\r\n\r\n"), &get("/next")]);
    table
        .row("an empty line and a request behind", source, bytes)
        .serves_all(vec![Seen::post("hello"), Seen::get("/next")]);
}

fn sizes(table: &mut Table) {
    for size in [
        "",
        "-5",
        "+5",
        "0x5",
        "0X5",
        "x5",
        "5x",
        "g",
        "5g",
        "5h",
        "5.0",
        "5,",
        "5 5",
        "0 5",
        "\"5\"",
        "%35",
        "5_0",
        "5L",
        "5u",
        "\\5",
        "(5)",
        "FFFFFFFFFFFFFFFF5",
        "10000000000000005",
        "100000000000000000000000000000005",
        "-0",
        "+0",
        "\u{ff15}",
        "\u{665}",
        "5\u{e9}",
    ] {
        let case =
            table.row(format!("size {size:?}"), SIZE, chunked(format!("{size}\r\nhello\r\n0\r\n\r\n")));
        case.refused_midway();
    }
    let source =
        "RFC 9112 section 7.1: an overflow of any integer is refused; waiting for that much is as good";
    for size in ["8000000000000000", "FFFFFFFFFFFFFFFF", "7FFFFFFFFFFFFFFF"] {
        let bytes = chunked(format!("{size}\r\nhello\r\n0\r\n\r\n"));
        let case = table.steps(format!("size {size}"), source, vec![Step::Send(bytes), Step::End]);
        case.refused_midway();
    }
    let zeros = "0".repeat(30);
    let case = table.row(
        "thirty leading zeros",
        "RFC 9112 section 7.1: bounded, or counted",
        chunked(format!("{zeros}5\r\nhello\r\n0\r\n\r\n")),
    );
    hello(case);
    case.refused_midway();
    let zeros = "0".repeat(100_000);
    let case = table
        .row(
            "100,000 leading zeros",
            "RFC 9112 section 7.1: bounded, or counted",
            chunked(format!("{zeros}5\r\nhello\r\n0\r\n\r\n")),
        )
        .uncut();
    case.refused_midway();
    case.served(vec![Seen::post("hello")], After::Either);
    let source =
        "RFC 9112 section 7.1: no white space around a size; refused, or read as the only thing it can mean";
    for (name, line) in [
        ("space before a size", " 5\r\n"),
        ("tab before a size", "\t5\r\n"),
        ("space behind a size", "5 \r\n"),
        ("tab behind a size", "5\t\r\n"),
        ("spaces behind a size", "5   \r\n"),
    ] {
        let case = table.row(name, source, chunked(format!("{line}hello\r\n0\r\n\r\n")));
        hello(case);
        case.refused_midway();
    }
    for byte in [0x00, 0x01, 0x08, 0x0b, 0x0c, 0x1f, 0x7f, 0x85, 0xa0] {
        let body = join(&[b"5", &[byte], b"\r\nhello\r\n0\r\n\r\n"]);
        table.row(format!("{} behind a size", named(byte)), SIZE, chunked(body)).refused_midway();
        let body = join(&[&[byte], b"5\r\nhello\r\n0\r\n\r\n"]);
        table.row(format!("{} before a size", named(byte)), SIZE, chunked(body)).refused_midway();
    }
}

/// Each line end of a chunked body in each wrong shape.
fn line_ends(table: &mut Table) {
    const PLACES: [&str; 6] = ["size", "extension", "data", "last chunk", "trailer", "final line"];
    for (shape, end) in [
        ("LF", "\n"),
        ("CR", "\r"),
        ("LF CR", "\n\r"),
        ("CR CR LF", "\r\r\n"),
        ("CR SP LF", "\r \n"),
        ("SP LF", " \n"),
        ("LF LF", "\n\n"),
        ("NUL CR LF", "\0\r\n"),
        ("nothing", ""),
    ] {
        for (at, place) in PLACES.iter().enumerate() {
            let end_of = |this: usize| if this == at { end } else { "\r\n" };
            let extension = if *place == "extension" { ";a=b" } else { "" };
            let trailer = if *place == "trailer" { format!("T: v{}", end_of(4)) } else { String::new() };
            let size_end = if *place == "extension" { end_of(1) } else { end_of(0) };
            let body =
                format!("5{extension}{size_end}hello{}0{}{trailer}{}", end_of(2), end_of(3), end_of(5));
            let case = table.steps(
                format!("{shape} behind the {place}"),
                LINES,
                vec![Step::Send(chunked(body)), Step::EndIfQuiet],
            );
            case.refused_midway();
        }
    }
}

fn data(table: &mut Table) {
    let source = "RFC 9112 section 7.1 and the 2025 research (spilled bytes): CRLF stands behind exactly the announced bytes";
    for (name, body) in [
        ("more data than announced", "5\r\nhello!\r\n0\r\n\r\n"),
        ("more data than announced by two", "5\r\nhelloXX\r\n0\r\n\r\n"),
        ("more data that looks like a chunk", "5\r\nhelloXX5\r\nhello\r\n0\r\n\r\n"),
        ("less data than announced", "6\r\nhello\r\n0\r\n\r\n"),
        ("an empty line between chunks", "5\r\nhello\r\n\r\n0\r\n\r\n"),
        ("an empty line before the first chunk", "\r\n5\r\nhello\r\n0\r\n\r\n"),
        ("no size between chunks", "5\r\nhello\r\nworld\r\n0\r\n\r\n"),
        ("a size of nothing but an extension", ";a=b\r\nhello\r\n0\r\n\r\n"),
    ] {
        let case = table.steps(name, source, vec![Step::Send(chunked(body)), Step::EndIfQuiet]);
        case.refused_midway();
    }
}

fn extensions(table: &mut Table) {
    for extension in [
        ";a",
        ";a=b",
        ";a=\"b\"",
        ";a=\"b;c\"",
        ";a=\"b\\\"c\"",
        ";a=\"\"",
        ";a;b",
        ";a=b;c=d",
        ";a=\"b c\t\"",
        ";!#$%&'*+-.^_`|~=x",
    ] {
        let body = format!("5{extension}\r\nhello\r\n0\r\n\r\n");
        hello(table.row(format!("extension {extension:?}"), EXTENSIONS, chunked(body)));
    }
    let source = "RFC 9112 section 7.1.1: white space around the separators is bad, and must be parsed; refusing is safe too";
    for extension in [" ;a", "; a", ";a =b", ";a= b", " ; a = b", ";a ;b", "\t;\ta"] {
        let case = table.row(
            format!("extension {extension:?}"),
            source,
            chunked(format!("5{extension}\r\nhello\r\n0\r\n\r\n")),
        );
        hello(case);
        case.refused_midway();
    }
    hello(table.row("extension of the last chunk", EXTENSIONS, chunked("5\r\nhello\r\n0;a=b\r\n\r\n")));
    let source = "RFC 9112 section 7.1.1: extensions are bounded";
    let long = "a".repeat(200);
    hello(table.row("an extension of 200 bytes", source, chunked(format!("5;{long}\r\nhello\r\n0\r\n\r\n"))));
    let long = "a".repeat(200_000);
    let case = table
        .row("an extension of 200,000 bytes", source, chunked(format!("5;{long}\r\nhello\r\n0\r\n\r\n")))
        .uncut();
    case.refused_midway();
    case.served(vec![Seen::post("hello")], After::Either);
}

fn extensions_refused(table: &mut Table) {
    let lenient = "RFC 9112 section 7.1.1: not the grammar; refused, or ignored with the line";
    for extension in [
        ";",
        ";;",
        ";=",
        ";=b",
        ";a=",
        ";a==b",
        ";a=b c",
        ";a,b",
        ";\"a\"",
        ";a=\"b",
        ";a=\"b\"c",
        ";\u{e9}",
        ";(a)",
    ] {
        let case = table.row(
            format!("extension {extension:?}"),
            lenient,
            chunked(format!("5{extension}\r\nhello\r\n0\r\n\r\n")),
        );
        case.refused_midway();
        hello(case);
    }
    let source = "Published 2025: an extension that holds a line end for one reader and not for another";
    for (name, extension) in [
        ("LF inside", ";\n"),
        ("LF and data inside", ";a\nhello"),
        ("CR inside", ";a\rb"),
        ("LF inside quotes", ";a=\"b\nc\""),
        ("CR inside quotes", ";a=\"b\rc\""),
        ("CR LF inside quotes", ";a=\"b\r\nc\""),
        ("NUL inside", ";a\0b"),
        ("vertical tab inside", ";a\x0bb"),
        ("DEL inside", ";a\x7fb"),
    ] {
        let body = format!("5{extension}\r\nhello\r\n0\r\n\r\n");
        let case = table.steps(
            format!("extension with {name}"),
            source,
            vec![Step::Send(chunked(body)), Step::EndIfQuiet],
        );
        case.refused_midway();
    }
    let body =
        "2;\nxx\r\n36\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\nX: aaaaaaaa\r\n\r\n\r\n0\r\n\r\n";
    let case =
        table.steps("extension attack TERM.EXT", source, vec![Step::Send(chunked(body)), Step::EndIfQuiet]);
    case.refused_midway();
    let body = "5;\r\nhello\n\r\n0\r\n\r\n";
    let case =
        table.steps("extension attack EXT.TERM", source, vec![Step::Send(chunked(body)), Step::EndIfQuiet]);
    case.refused_midway();
}

fn trailers(table: &mut Table) {
    for (name, lines) in [
        ("one", "T: v\r\n"),
        ("two", "T: v\r\nU: w\r\n"),
        ("empty value", "T:\r\n"),
        ("repeated", "T: v\r\nT: w\r\n"),
    ] {
        let case = table.row(
            format!("trailer: {name}"),
            TRAILERS,
            chunked(format!("5\r\nhello\r\n0\r\n{lines}\r\n")),
        );
        case.serves(Seen::post("hello").lacks("T").lacks("U"));
    }
    for name in [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Connection",
        "Authorization",
        "Cookie",
        "X-Forwarded-For",
        "Expect",
        "Trailer",
        "TE",
        "Upgrade",
        "Content-Type",
        "Content-Encoding",
        "Max-Forwards",
        "Range",
        "Cache-Control",
        "Set-Cookie",
    ] {
        let bytes = chunked(format!("5\r\nhello\r\n0\r\n{name}: 7\r\n\r\n"));
        let case = table.row(format!("trailer: {name}"), TRAILERS, bytes);
        let mut seen = Seen::post("hello");
        if !matches!(name, "Host" | "Transfer-Encoding" | "Content-Length" | "Connection" | "X-Forwarded-For")
        {
            seen = seen.lacks(name);
        }
        case.serves(seen.host(super::super::case::HOST));
        case.refused_midway();
    }
    let bytes = post("Trailer: T\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nT: v\r\n\r\n");
    table.row("trailer: announced", TRAILERS, bytes).serves(Seen::post("hello").lacks("T"));
    let lines = "T: v\r\n".repeat(30);
    let case = table.row("trailer: thirty", TRAILERS, chunked(format!("5\r\nhello\r\n0\r\n{lines}\r\n")));
    hello(case);
    let lines = format!("T: {}\r\n", "v".repeat(200_000));
    let case = table.row(
        "trailer: 200,000 bytes",
        "RFC 9112 section 7.1.2, bounded",
        chunked(format!("5\r\nhello\r\n0\r\n{lines}\r\n")),
    );
    case.uncut().refused_midway();
    case.served(vec![Seen::post("hello")], After::Either);
}

fn trailers_refused(table: &mut Table) {
    let source = "RFC 9112 sections 5 and 7.1.2: a trailer section has the grammar of fields; an ill-formed line is refused or dropped";
    for (name, lines) in [
        ("no colon", "T\r\n"),
        ("empty name", ": v\r\n"),
        ("space before the colon", "T : v\r\n"),
        ("space in the name", "T U: v\r\n"),
        ("folded", "T: v\r\n w\r\n"),
        ("white space first", " T: v\r\n"),
        ("NUL in the value", "T: \0\r\n"),
        ("NUL in the name", "T\0: v\r\n"),
        ("a request line", "GET /smuggled HTTP/1.1\r\n"),
    ] {
        let case = table.row(
            format!("trailer with {name}"),
            source,
            chunked(format!("5\r\nhello\r\n0\r\n{lines}\r\n")),
        );
        case.refused_midway();
        case.served(vec![Seen::post("hello")], After::Either);
    }
    for (name, lines) in [("CR in the value", "T: a\rb\r\n"), ("LF in the value", "T: a\nU: b\r\n")] {
        let bytes = chunked(format!("5\r\nhello\r\n0\r\n{lines}\r\n"));
        let case = table.row(format!("trailer with {name}"), LINES, bytes);
        case.refused_midway();
    }
}

fn broken_off(table: &mut Table) {
    let source = "RFC 9112 section 8: without the last chunk a body is not whole, and no whole request reaches the origin";
    for body in [
        "",
        "5",
        "5\r\n",
        "5\r\nhel",
        "5\r\nhello",
        "5\r\nhello\r\n",
        "5\r\nhello\r\n0",
        "5\r\nhello\r\n0\r\n",
        "5\r\nhello\r\n0\r\nT: v\r\n",
    ] {
        for (how, last) in [("end", Step::End), ("reset", Step::Reset)] {
            let case = table.steps(
                format!("{how} behind {body:?}"),
                source,
                vec![Step::Send(chunked(body)), Step::Gap, last],
            );
            case.outcome(Outcome {
                partial: true,
                silent: true,
                got: vec![Got::status(&[400, 408, 499, 502])],
                after: After::Closed,
                ..Outcome::default()
            });
        }
    }
}
