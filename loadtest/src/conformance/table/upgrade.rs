//! Upgrade (RFC 9110 section 7.8) and WebSocket (RFC 6455): a tunnel begins with a 101 that was asked for, and with nothing else.

use super::super::case::{
    Act, After, Answer, BAD_GATEWAY, Got, Outcome, Seen, Step, Table, When, get, join, request,
};

const ASK: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const AGREE: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const OPENING: &str = "RFC 6455 section 4, RFC 9110 section 7.8: a 101 that was asked for begins a tunnel";

pub(crate) fn fill(table: &mut Table) {
    tunnels(table);
    declined(table);
    unasked(table);
    not_asked_well(table);
}

fn ask(fields: &str) -> Vec<u8> {
    request("GET", "/ws", fields, "")
}

fn seen() -> Seen {
    Seen::get("/ws").has("Upgrade", "websocket").has("Connection", "upgrade")
}

fn switched(tunnelled: &[u8]) -> Outcome {
    Outcome {
        seen: vec![seen()],
        got: vec![Got::status(&[101]).has("Upgrade", "websocket").has("Connection", "upgrade")],
        after: After::Closed,
        tunnelled: Some(tunnelled.to_vec()),
        ..Outcome::default()
    }
}

fn echoing() -> Vec<Answer> {
    vec![Answer::new(When::Head, vec![Act::Send(AGREE.to_vec()), Act::Echo])]
}

fn tunnels(table: &mut Table) {
    let ping: &[u8] = b"\x89\x05hello";
    for (name, fields) in [
        ("plain", ASK.to_owned()),
        (
            "in other case",
            ASK.replace("websocket", "WebSocket").replace("Connection: Upgrade", "connection: upgrade"),
        ),
        ("with keep-alive", ASK.replace("Connection: Upgrade", "Connection: keep-alive, Upgrade")),
        ("with a subprotocol", format!("{ASK}Sec-WebSocket-Protocol: chat\r\n")),
    ] {
        let steps = vec![
            Step::Send(ask(&fields)),
            Step::Answers(1),
            Step::Send(ping.to_vec()),
            Step::Tunnelled(ping.len()),
            Step::End,
        ];
        table.steps(format!("tunnel: {name}"), OPENING, steps).answers(echoing()).outcome(switched(ping));
    }
    let source = "RFC 6455 section 5: what goes through is opaque";
    let odd = b"GET /x HTTP/1.1\r\n\r\n\0\xff\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    let steps = vec![
        Step::Send(ask(ASK)),
        Step::Answers(1),
        Step::Send(odd.to_vec()),
        Step::Tunnelled(odd.len()),
        Step::End,
    ];
    table.steps("tunnel: bytes that look like HTTP", source, steps).answers(echoing()).outcome(switched(odd));
    let large = b"0123456789abcdef".repeat(20_000);
    let steps = vec![
        Step::Send(ask(ASK)),
        Step::Answers(1),
        Step::Send(large.clone()),
        Step::Tunnelled(large.len()),
        Step::End,
    ];
    table.steps("tunnel: 320,000 bytes", source, steps).answers(echoing()).outcome(switched(&large));
    let steps = vec![Step::Send(join(&[&ask(ASK), ping])), Step::Tunnelled(ping.len()), Step::End];
    let source = "RFC 6455 section 4.1: a client that does not wait; its bytes come through behind the 101, or the request is refused";
    let case = table.steps("tunnel: bytes before the 101", source, steps);
    case.answers(echoing()).outcome(switched(ping));
    let together = Answer::new(When::Head, vec![Act::Send(join(&[AGREE, ping])), Act::Echo]);
    let steps = vec![Step::Send(ask(ASK)), Step::Tunnelled(ping.len()), Step::End];
    table
        .steps("tunnel: bytes in the segment of the 101", OPENING, steps)
        .answers(vec![together])
        .outcome(switched(ping));
    let source = "A tunnel's directions end each by itself; at the least the bytes before an end arrive";
    let steps = vec![Step::Send(ask(ASK)), Step::Answers(1), Step::Send(ping.to_vec()), Step::End];
    let case = table.steps("tunnel: the client ends first", source, steps);
    case.answers(echoing()).outcome(switched(ping));
    let ends = Answer::new(When::Head, vec![Act::Send(join(&[AGREE, ping])), Act::End]);
    let steps = vec![Step::Send(ask(ASK)), Step::Tunnelled(ping.len()), Step::EndIfQuiet];
    table
        .steps("tunnel: the origin ends first", source, steps)
        .answers(vec![ends])
        .outcome(Outcome { seen: vec![seen()], ..switched(ping) });
}

fn declined(table: &mut Table) {
    let source = "Upgrade smuggling (Green 2021): without a 101 everything behind is HTTP, also where the answer mentions an upgrade";
    for (name, answer) in [
        ("200", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno"),
        (
            "200 with Upgrade",
            "HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nno",
        ),
        ("400", "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno"),
        (
            "426",
            "HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nContent-Length: 2\r\n\r\nno",
        ),
        ("403", "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"),
    ] {
        let steps =
            vec![Step::Send(ask(&ASK.replace("13", "777"))), Step::Answers(1), Step::Send(get("/behind"))];
        let case = table.steps(format!("declined with {name}"), source, steps);
        case.answers(vec![Answer::bytes(answer)]);
        let first = Got { body: super::super::case::Body::Exact(b"no".to_vec()), ..Got::default() };
        case.outcome(Outcome {
            seen: vec![seen(), Seen::get("/behind")],
            got: vec![first.clone(), Got::status(&[200])],
            after: After::Kept,
            ..Outcome::default()
        });
        case.outcome(Outcome {
            seen: vec![seen()],
            got: vec![first],
            after: After::Closed,
            ..Outcome::default()
        });
    }
}

fn unasked(table: &mut Table) {
    let source = "RFC 9110 section 15.2.2: a 101 that nobody asked for is a bad answer, not a tunnel";
    for (name, bytes) in [
        ("a plain GET", get("/")),
        ("Upgrade without Connection", request("GET", "/", "Upgrade: websocket\r\n", "")),
        ("Connection without Upgrade", request("GET", "/", "Connection: Upgrade\r\n", "")),
        (
            "HTTP/1.0",
            b"GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec(),
        ),
    ] {
        let case = table.row(format!("101 to {name}"), source, bytes);
        case.uncut().answers(vec![Answer::bytes(AGREE), Answer::bytes(AGREE)]).bad_gateway();
    }
    let h2c = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    for (name, answer) in [
        ("of another protocol", h2c),
        ("of no protocol", "HTTP/1.1 101 Switching Protocols\r\n\r\n"),
        (
            "of two protocols",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n",
        ),
    ] {
        let source = "RFC 9110 section 7.8: a server switches only to what was asked for";
        let case = table.row(format!("101 {name}"), source, ask(ASK));
        case.uncut().answers(vec![Answer::bytes(answer), Answer::bytes(answer)]);
        for tries in 1..=2 {
            case.outcome(Outcome {
                seen: vec![seen(); tries],
                got: vec![Got::status(BAD_GATEWAY)],
                ..Outcome::default()
            });
        }
    }
}

fn not_asked_well(table: &mut Table) {
    let source = "RFC 9110 section 7.8 and the h2c smuggling research (2020): Upgrade is forwarded only where the gateway knows what follows";
    for (name, fields) in [
        (
            "h2c",
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        ),
        ("h2c alone", "Connection: Upgrade\r\nUpgrade: h2c\r\n"),
        ("H2C", "Connection: Upgrade\r\nUpgrade: H2C\r\n"),
        ("h2c among others", "Connection: Upgrade\r\nUpgrade: h2c, x\r\n"),
        ("h2c behind websocket", "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n"),
        ("h2c in a second line", "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n"),
        ("TLS", "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n"),
    ] {
        let case = table.row(format!("Upgrade: {name}"), source, ask(fields));
        case.serves(Seen::get("/ws").lacks("Upgrade").lacks("HTTP2-Settings"));
    }
    let bytes = "GET /ws HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let case = table.row("Upgrade in HTTP/1.0", "RFC 9110 section 7.8: ignored in HTTP/1.0", bytes);
    case.served(vec![Seen::get("/ws").lacks("Upgrade")], After::Closed);
    let case = table.row("Upgrade without its Connection option", source, ask("Upgrade: websocket\r\n"));
    case.serves(Seen::get("/ws").lacks("Upgrade"));
}
