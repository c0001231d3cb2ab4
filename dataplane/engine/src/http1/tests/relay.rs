//! Bodies on their way: what is sent on is the same payload, framed once for each read.

use super::*;

/// A driver's loop over one body: each piece is read into a buffer behind the headroom and sent on. Gives back all
/// that was sent, and what did not belong to the message.
pub(super) fn relay_pieces(
    relay: &mut Relay,
    pieces: &[&[u8]],
    tailroom: usize,
) -> Result<(Vec<u8>, Vec<u8>), BodyError> {
    let mut sent = Vec::new();
    let mut rest = Vec::new();
    for piece in pieces {
        if relay.is_done() {
            rest.extend_from_slice(piece);
            continue;
        }
        let mut buf = vec![b'?'; HEADROOM_BYTES];
        buf.extend_from_slice(piece);
        buf.resize(buf.len() + tailroom, b'?');
        let filled = HEADROOM_BYTES..HEADROOM_BYTES + piece.len();
        let relayed = relay.relay(&mut buf, filled.clone())?;
        assert_eq!(relayed.end, relay.is_done());
        assert!(relayed.send.end <= buf.len() && relayed.consumed_end <= filled.end);
        assert_eq!(relayed.payload.len() as u64, relayed.payload_bytes);
        assert_eq!(&buf[relayed.consumed_end..filled.end], &piece[relayed.consumed_end - HEADROOM_BYTES..]);
        sent.extend_from_slice(&buf[relayed.send.clone()]);
        if relayed.end {
            sent.extend_from_slice(relay.epilogue());
        } else {
            assert_eq!(relayed.consumed_end, filled.end, "an unfinished body takes every byte");
        }
        rest.extend_from_slice(&buf[relayed.consumed_end..filled.end]);
    }
    Ok((sent, rest))
}

/// Decodes what a sink was sent and demands that it is one whole chunked body.
pub(super) fn dechunk(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut decoder = ChunkDecoder::new(ChunkLimits::default());
    let mut payload = Vec::new();
    let mut at = 0;
    loop {
        match decoder.next(bytes, &mut at).unwrap_or_else(|error| panic!("{error}: {}", shown(bytes))) {
            ChunkEvent::Data(data) => payload.extend_from_slice(&bytes[data]),
            ChunkEvent::Partial => panic!("not complete: {}", shown(bytes)),
            ChunkEvent::End => break,
        }
    }
    assert_eq!(at, bytes.len(), "bytes behind the body: {}", shown(bytes));
    (payload, decoder.trailers().to_vec())
}

/// The defaults, and trailers too.
pub(super) fn with_trailers() -> BodyLimits {
    BodyLimits { forward_trailers: true, ..BodyLimits::default() }
}

fn every_cut(
    source: BodyFraming,
    sink: SinkFraming,
    bytes: &[u8],
    check: impl Fn(Result<(Vec<u8>, Vec<u8>), BodyError>),
) {
    let mut relay = Relay::default();
    for tailroom in [0, 1, 2, 5, TAILROOM_BYTES, 40] {
        for cut in 0..=bytes.len() {
            let (a, b) = bytes.split_at(cut);
            relay.restart(source, sink, with_trailers());
            check(relay_pieces(&mut relay, &[a, b], tailroom));
        }
        for size in 1..=7 {
            relay.restart(source, sink, with_trailers());
            check(relay_pieces(&mut relay, &bytes.chunks(size).collect::<Vec<_>>(), tailroom));
        }
    }
}

#[test]
fn chunked_to_chunked_keeps_payload_trailers_and_what_follows() {
    let rows: [(&str, &str, &str); 9] = [
        ("0\r\n\r\n", "", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("5;ext=\"a b\"\r\nhello\r\n6\r\n world\r\n0;x\r\n\r\n", "hello world", ""),
        ("1\r\na\r\n1\r\nb\r\n1\r\nc\r\n1\r\nd\r\n1\r\ne\r\n0\r\n\r\n", "abcde", ""),
        ("000a\r\n0123456789\r\n0\r\n\r\n", "0123456789", ""),
        ("14\r\n01234567890123456789\r\n0\r\n\r\n", "01234567890123456789", ""),
        ("3\r\nabc\r\n0\r\nA:b\r\n\r\n", "abc", "A: b\r\n"),
        (
            "0\r\nA:b\r\nLonger-Name: with a longer value\r\n\r\n",
            "",
            "A: b\r\nLonger-Name: with a longer value\r\n",
        ),
        ("3\r\nabc\r\n0\r\nContent-Length: 9\r\n\r\n", "abc", ""),
    ];
    for (body, payload, trailers) in rows {
        let stream = format!("{body}NEXT");
        every_cut(BodyFraming::Chunked, SinkFraming::Chunked, stream.as_bytes(), |relayed| {
            let (sent, rest) = relayed.expect("valid");
            assert_eq!(rest, b"NEXT", "{body:?}");
            assert_eq!(
                dechunk(&sent),
                (payload.as_bytes().to_vec(), trailers.as_bytes().to_vec()),
                "{body:?}"
            );
        });
        for sink in [SinkFraming::Length, SinkFraming::UntilClose, SinkFraming::None] {
            every_cut(BodyFraming::Chunked, sink, stream.as_bytes(), |relayed| {
                let (sent, rest) = relayed.expect("valid");
                let expected = if sink == SinkFraming::None { "" } else { payload };
                assert_eq!((shown(&sent), &rest[..]), (expected.to_owned(), &b"NEXT"[..]), "{body:?}");
            });
        }
    }
}

#[test]
fn trailers_of_one_body_never_follow_the_next_one() {
    let mut relay = Relay::default();
    for (source, piece) in [(BodyFraming::Length(5), &b"hello"[..]), (BodyFraming::None, b"")] {
        relay.restart(BodyFraming::Chunked, SinkFraming::Chunked, with_trailers());
        let (sent, _) = relay_pieces(&mut relay, &[b"0\r\nA: b\r\n\r\n"], TAILROOM_BYTES).expect("valid");
        assert_eq!(dechunk(&sent).1, b"A: b\r\n");
        relay.restart(source, SinkFraming::Chunked, with_trailers());
        let (sent, _) = relay_pieces(&mut relay, &[piece], TAILROOM_BYTES).expect("valid");
        assert_eq!(dechunk(&sent), (piece.to_vec(), Vec::new()), "{source:?}");
    }
}

#[test]
fn known_lengths_are_kept_to_the_byte() {
    every_cut(BodyFraming::Length(5), SinkFraming::Length, b"helloNEXT", |relayed| {
        assert_eq!(relayed, Ok((b"hello".to_vec(), b"NEXT".to_vec())));
    });
    every_cut(BodyFraming::Length(5), SinkFraming::Chunked, b"helloNEXT", |relayed| {
        let (sent, rest) = relayed.expect("valid");
        assert_eq!((dechunk(&sent).0, rest), (b"hello".to_vec(), b"NEXT".to_vec()));
    });
    every_cut(BodyFraming::Length(0), SinkFraming::Length, b"NEXT", |relayed| {
        assert_eq!(relayed, Ok((Vec::new(), b"NEXT".to_vec())));
    });
    every_cut(BodyFraming::None, SinkFraming::Chunked, b"NEXT", |relayed| {
        assert_eq!(relayed, Ok((b"0\r\n\r\n".to_vec(), b"NEXT".to_vec())));
    });
}

#[test]
fn one_read_becomes_one_chunk() {
    let mut relay = Relay::new(BodyFraming::Chunked, SinkFraming::Chunked, BodyLimits::default());
    let (sent, _) =
        relay_pieces(&mut relay, &[b"1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n"], 0).expect("valid");
    assert_eq!(shown(&sent), shown(b"6\r\nabcdef\r\n0\r\n\r\n"));
    relay.restart(BodyFraming::Chunked, SinkFraming::Chunked, BodyLimits::default());
    let (sent, _) = relay_pieces(&mut relay, &[b"ff\r\nab", b"cd"], 0).expect("valid");
    assert_eq!(shown(&sent), shown(b"2\r\nab\r\n2\r\ncd\r\n"));
}

#[test]
fn a_connection_that_ends_is_an_end_only_where_it_may_be_one() {
    let eof = |source, sink, bytes: &[u8]| {
        let mut relay = Relay::new(source, sink, BodyLimits::default());
        relay_pieces(&mut relay, &[bytes], 8).expect("valid so far");
        relay.finish_on_eof()
    };
    let last: &[u8] = b"0\r\n\r\n";
    assert_eq!(eof(BodyFraming::UntilClose, SinkFraming::UntilClose, b"abc"), Ok(&b""[..]));
    assert_eq!(eof(BodyFraming::UntilClose, SinkFraming::Chunked, b"abc"), Ok(last));
    assert_eq!(eof(BodyFraming::UntilClose, SinkFraming::Chunked, b""), Ok(last));
    assert_eq!(eof(BodyFraming::UntilClose, SinkFraming::None, b"abc"), Ok(&b""[..]));
    assert_eq!(eof(BodyFraming::Length(3), SinkFraming::Length, b"abc"), Ok(&b""[..]));
    assert_eq!(eof(BodyFraming::Chunked, SinkFraming::Chunked, b"0\r\n\r\n"), Ok(&b""[..]));
    // RFC 9112 section 8: these are incomplete, and must not look complete to the next hop.
    for (source, bytes) in [
        (BodyFraming::Length(4), &b"abc"[..]),
        (BodyFraming::Length(4), b""),
        (BodyFraming::Chunked, b"3\r\nabc\r\n"),
        (BodyFraming::Chunked, b"3\r\nabc\r\n0\r\n"),
        (BodyFraming::Chunked, b"3\r\nabc\r\n0\r\nA: b\r\n"),
        (BodyFraming::Chunked, b""),
    ] {
        assert_eq!(eof(source, SinkFraming::Chunked, bytes), Err(BodyError::Truncated), "{}", shown(bytes));
    }
}

#[test]
fn payload_and_trailers_obey_their_limits() {
    let limits = BodyLimits { payload_bytes_max: 4, forward_trailers: false, ..BodyLimits::default() };
    let run = |bytes: &[u8]| {
        relay_pieces(&mut Relay::new(BodyFraming::Chunked, SinkFraming::Chunked, limits), &[bytes], 0)
    };
    assert_eq!(run(b"5\r\nhello\r\n0\r\n\r\n"), Err(BodyError::TooLarge));
    assert_eq!(run(b"2\r\nab\r\n3\r\ncde\r\n"), Err(BodyError::TooLarge));
    let mut lost = Relay::new(BodyFraming::Chunked, SinkFraming::Chunked, BodyLimits::default());
    assert_eq!(relay_pieces(&mut lost, &[b"5\nhello\r\n"], 0), Err(BodyError::ChunkLineEnd));
    let later = relay_pieces(&mut lost, &[b"\r\n0\r\n\r\n"], 0);
    assert_eq!(later, Err(BodyError::ChunkLineEnd), "a refused body cannot go on");
    assert_eq!(lost.finish_on_eof(), Err(BodyError::ChunkLineEnd));
    let (sent, _) = run(b"4\r\nabcd\r\n0\r\nA: b\r\n\r\n").expect("at the limit");
    assert_eq!(shown(&sent), shown(b"4\r\nabcd\r\n0\r\n\r\n"));
    let mut relay = Relay::new(BodyFraming::Length(9), SinkFraming::Length, limits);
    assert_eq!(relay_pieces(&mut relay, &[b"abcde"], 0), Err(BodyError::TooLarge));
    assert_eq!(BodyError::TooLarge.status(), 413);
}

#[test]
fn a_buffer_without_headroom_is_refused() {
    let mut relay = Relay::new(BodyFraming::Length(3), SinkFraming::Length, BodyLimits::default());
    let mut buf = b"abc".to_vec();
    assert_eq!(relay.relay(&mut buf, 0..3), Err(BodyError::Headroom));
    relay.restart(BodyFraming::Length(3), SinkFraming::Length, BodyLimits::default());
    let mut buf = vec![0; 2 * HEADROOM_BYTES];
    #[expect(clippy::reversed_empty_ranges, reason = "a range that is wrong must not panic")]
    let reversed = HEADROOM_BYTES + 20..HEADROOM_BYTES;
    assert_eq!(relay.relay(&mut buf, reversed), Err(BodyError::Headroom));
    relay.restart(BodyFraming::Length(3), SinkFraming::Length, BodyLimits::default());
    assert!(relay.relay(&mut buf, HEADROOM_BYTES..900).is_ok());
}

#[test]
fn a_body_of_one_byte_chunks_costs_one_pass() {
    // 1 MiB of payload in one-byte chunks in one buffer: a move of all that follows for each chunk would never end.
    let mut buf = vec![0; HEADROOM_BYTES];
    for _ in 0..1 << 20 {
        buf.extend_from_slice(b"1\r\nx\r\n");
    }
    let filled = HEADROOM_BYTES..buf.len();
    let mut relay = Relay::new(BodyFraming::Chunked, SinkFraming::Chunked, BodyLimits::default());
    let relayed = relay.relay(&mut buf, filled).expect("valid");
    assert_eq!(relayed.payload_bytes, 1 << 20);
    assert!(buf[relayed.send].starts_with(b"100000\r\nxxx"));
}

#[test]
fn a_discarded_body_is_read_to_its_end_and_nothing_of_it_is_sent() {
    let mut relay = Relay::new(BodyFraming::Chunked, SinkFraming::Chunked, with_trailers());
    let (sent, _) = relay_pieces(&mut relay, &[b"5\r\nhe"], 8).expect("valid");
    assert_eq!(shown(&sent), shown(b"2\r\nhe\r\n"));
    relay.discard();
    let (sent, rest) = relay_pieces(&mut relay, &[b"llo\r\n0\r\nA: b\r\n", b"\r\nNEXT"], 8).expect("valid");
    assert_eq!((sent, rest), (Vec::new(), b"NEXT".to_vec()));
    assert!(relay.is_done());
}
