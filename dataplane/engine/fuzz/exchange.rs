//! What must hold for any sequence of exchanges, for the fuzz target and for the test that replays its corpus.
//!
//! The input is two flag bytes, the client's bytes, 0xff, and the nodes' bytes: one answer for each request, each ended by
//! 0xfe (the connection stays) or 0xfd (it ends). Whatever they are: cuts change nothing, what the client gets is one
//! well-formed answer for each request, an end that is not the answer's is never a clean one, and what the nodes get is
//! one well-formed request each.

use ringway_engine::exchange::{Exchange, ResponseContext};
use ringway_engine::http1::{
    BodyHeader, ChunkDecoder, ChunkEvent, ChunkLimits, HEADROOM_BYTES, HeadLimits, Parse, RequestEdits,
    RequestHead, TAILROOM_BYTES, Version, encode_request,
};

/// What one exchange came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    to_node: Vec<u8>,
    /// Payload that the node got, and whether it was all.
    request_body: Option<(Vec<u8>, bool)>,
    answer: Option<Answer>,
    reusable: bool,
    failed: bool,
}

/// An answer as a client reads it.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    interims: Vec<u16>,
    status: u16,
    body: Vec<u8>,
    whole: bool,
}

/// Checks one sequence of exchanges.
pub(crate) fn exchanges(data: &[u8]) {
    let [flags, cut, rest @ ..] = data else { return };
    let split = rest.iter().position(|byte| *byte == 0xff).unwrap_or(rest.len());
    let (client, nodes) = (&rest[..split], rest.get(split + 1..).unwrap_or(&[]));
    let whole = run(client, nodes, *flags, usize::MAX);
    let pieces = run(client, nodes, *flags, usize::from(*cut).max(1));
    assert_eq!(whole.len(), pieces.len());
    for (whole, pieces) in whole.iter().zip(&pieces) {
        match (whole.failed, pieces.failed) {
            (false, false) => assert_eq!(whole, pieces),
            (true, true) => {}
            // A long line that has not ended is judged when it ends, or when it came at once: a fault may be seen earlier or later
            // as long as nothing has come of it.
            (true, false) => assert!(pieces.answer.is_none() && !pieces.reusable, "{whole:?} {pieces:?}"),
            (false, true) => assert!(whole.answer.is_none() && !whole.reusable, "{whole:?} {pieces:?}"),
        }
    }
}

fn run(client: &[u8], nodes: &[u8], flags: u8, cut: usize) -> Vec<Outcome> {
    let mut exchange = Exchange::default();
    let mut head = RequestHead::new();
    let mut outcomes = Vec::new();
    let mut client = client;
    let mut nodes = nodes;
    while let Ok(Parse::Done(())) = head.parse(client, &HeadLimits::default()) {
        let end = nodes.iter().position(|byte| matches!(byte, 0xfe | 0xfd)).unwrap_or(nodes.len());
        let ends = nodes.get(end) == Some(&0xfd);
        let mut outcome = Outcome::default();
        exchange.begin(&head, flags & 1 != 0);
        let body = client.get(head.head_bytes..).unwrap_or(&[]);
        let Some(left) = send_request(&mut exchange, &head, client, body, cut, &mut outcome) else {
            outcome.failed = true;
            outcomes.push(outcome);
            return outcomes;
        };
        receive_answer(&mut exchange, &nodes[..end], ends, flags, cut, &mut outcome);
        let goes_on = exchange.response.is_done() && exchange.request.is_complete();
        assert!(!outcome.reusable || goes_on, "{outcome:?}");
        outcomes.push(outcome);
        if !goes_on || outcomes.len() >= 16 {
            break;
        }
        client = &body[body.len() - left..];
        nodes = nodes.get(end + 1..).unwrap_or(&[]);
    }
    outcomes
}

/// Forwards a request; how many bytes are left behind it. `None`: its body is not one.
fn send_request(
    exchange: &mut Exchange,
    head: &RequestHead,
    bytes: &[u8],
    body: &[u8],
    cut: usize,
    outcome: &mut Outcome,
) -> Option<usize> {
    let framing = exchange.request.body_header();
    let edits = RequestEdits {
        path_and_query: head.target.path_and_query_bytes(bytes),
        host: head.host.map_or(&b"h"[..], |host| host.whole.of(bytes)),
        body: framing,
        upgrade: exchange.response.facts().may_upgrade.then_some(b"websocket"),
        ..RequestEdits::default()
    };
    encode_request(head, bytes, &edits, &mut outcome.to_node);
    let room = HeadLimits {
        head_bytes_max: usize::MAX,
        target_bytes_max: usize::MAX,
        fields_max: 200,
        ..HeadLimits::default()
    };
    let mut again = RequestHead::new();
    assert_eq!(again.parse(&outcome.to_node, &room), Ok(Parse::Done(())));
    assert_eq!((again.head_bytes, again.body), (outcome.to_node.len(), head.body));
    exchange.request.sent();
    let mut sent = Vec::new();
    let mut taken = 0;
    while !exchange.request.is_complete() && taken < body.len() {
        let piece = &body[taken..body.len().min(taken.saturating_add(cut))];
        let mut buffer = vec![0; HEADROOM_BYTES];
        buffer.extend_from_slice(piece);
        let end = buffer.len();
        buffer.resize(end + TAILROOM_BYTES, 0);
        let relayed = exchange.request.relay(&mut buffer, HEADROOM_BYTES..end).ok()?;
        assert!(!exchange.upstream_reusable(), "what was relayed is not sent yet");
        sent.extend_from_slice(&buffer[relayed.send]);
        sent.extend_from_slice(exchange.request.epilogue());
        exchange.request.sent();
        taken += relayed.consumed_end - HEADROOM_BYTES;
    }
    let complete = exchange.request.is_complete();
    outcome.request_body = match framing {
        BodyHeader::Chunked => {
            let (payload, whole, rest) = dechunk(&sent).expect("what is sent is chunked");
            assert!(whole == complete && rest.is_empty());
            Some((payload, whole))
        }
        BodyHeader::Length(length) => {
            assert_eq!(sent.len() as u64 == length, complete);
            Some((sent, complete))
        }
        BodyHeader::None => {
            assert!(sent.is_empty() && complete);
            None
        }
    };
    Some(body.len() - taken)
}

fn receive_answer(
    exchange: &mut Exchange,
    bytes: &[u8],
    ends: bool,
    flags: u8,
    cut: usize,
    outcome: &mut Outcome,
) {
    let limits = HeadLimits::default();
    let context = ResponseContext {
        limits: &limits,
        interim_responses_max: 4,
        close: flags & 2 != 0,
        awaits_leave: flags & 4 != 0,
        date: b"now",
        via: None,
        plugins: None,
    };
    let side = &mut exchange.response;
    let mut to_client = Vec::new();
    let mut kept: Vec<u8> = Vec::new();
    let mut failed = false;
    for piece in bytes.chunks(cut.min(bytes.len().max(1))) {
        let mut buffer = vec![0; HEADROOM_BYTES];
        buffer.append(&mut kept);
        buffer.extend_from_slice(piece);
        let filled = HEADROOM_BYTES..buffer.len();
        let end = filled.end;
        buffer.resize(end + TAILROOM_BYTES, 0);
        let before = to_client.len();
        let was_done = side.is_done();
        let Ok(step) = side.receive(&mut buffer, filled, &context, &mut to_client) else {
            assert_eq!(to_client.len(), before, "nothing goes out with an error");
            failed = true;
            break;
        };
        if was_done {
            assert!(step.send.is_empty() && to_client.len() == before, "bytes behind an answer");
            continue;
        }
        to_client.extend_from_slice(&buffer[step.send]);
        to_client.extend_from_slice(side.epilogue());
        kept.extend_from_slice(&buffer[step.keep..end]);
    }
    if !failed && ends {
        match side.receive_end(&context, &mut to_client) {
            Ok(tail) => to_client.extend_from_slice(tail),
            Err(_) => failed = true,
        }
    }
    outcome.failed = failed;
    let (done, tunnel, version) = (side.is_done(), side.is_tunnel(), side.facts().version);
    let is_head = side.facts().method == ringway_engine::http1::Method::Head;
    assert!(!failed || !done, "an answer that failed has not ended");
    assert!(done || tunnel || side.closes_downstream());
    let status = side.status();
    outcome.reusable = exchange.upstream_reusable();
    outcome.answer = read_answer(&to_client, version, is_head, tunnel, done);
    assert_eq!(outcome.answer.as_ref().map(|answer| answer.status), status);
    assert!(outcome.answer.as_ref().is_none_or(|answer| answer.whole == done || tunnel), "{outcome:?}");
}

/// Reads what the client got with another parser.
fn read_answer(bytes: &[u8], version: Version, is_head: bool, tunnel: bool, done: bool) -> Option<Answer> {
    let mut interims = Vec::new();
    let mut at = 0;
    loop {
        let mut slots = [httparse::EMPTY_HEADER; 160];
        let mut head = httparse::Response::new(&mut slots);
        let rest = &bytes[at..];
        if rest.is_empty() {
            return None;
        }
        let Ok(httparse::Status::Complete(length)) = head.parse(rest) else {
            panic!("no head: {}", rest.escape_ascii());
        };
        let status = head.code.expect("a status");
        if status < 200 && status != 101 {
            assert_eq!(version, Version::Http11);
            interims.push(status);
            at += length;
            continue;
        }
        let value = |name: &str| {
            let mut found = head.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
            let value = found.next().map(|header| header.value);
            assert!(found.next().is_none(), "{name} twice");
            value
        };
        let (length_field, coding) = (value("content-length"), value("transfer-encoding"));
        assert!(length_field.is_none() || coding.is_none());
        let body = &rest[length..];
        let (body, whole) = match (length_field, coding) {
            _ if tunnel => (body.to_vec(), false),
            _ if is_head || status == 204 || status == 304 => {
                assert!(body.is_empty());
                (Vec::new(), true)
            }
            (_, Some(_)) => {
                assert_eq!(version, Version::Http11);
                let (body, whole, rest) = dechunk(body).expect("what the client gets is chunked");
                assert!(rest.is_empty());
                (body, whole)
            }
            (Some(length), None) => {
                let length: usize = std::str::from_utf8(length).unwrap().parse().unwrap();
                assert!(body.len() <= length);
                (body.to_vec(), body.len() == length)
            }
            // It ends with the connection, which only the driver's reset can tell from a truncation.
            (None, None) => (body.to_vec(), done),
        };
        return Some(Answer { interims, status, body, whole });
    }
}

/// The payload, whether it is all, and what follows it.
fn dechunk(bytes: &[u8]) -> Option<(Vec<u8>, bool, &[u8])> {
    let mut decoder = ChunkDecoder::new(ChunkLimits::default());
    let (mut payload, mut at) = (Vec::new(), 0);
    loop {
        match decoder.next(bytes, &mut at).ok()? {
            ChunkEvent::Data(range) => payload.extend_from_slice(&bytes[range]),
            ChunkEvent::Partial => return Some((payload, false, &[])),
            ChunkEvent::End => return Some((payload, true, &bytes[at..])),
        }
    }
}
