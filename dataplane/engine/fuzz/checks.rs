//! What must hold for any bytes, for the fuzz targets and for the test that replays their corpus.
//!
//! Run a target with `RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer address <request|response|body>` in
//! `dataplane/engine`. Each check panics when something does not hold.

use ringway_engine::http1::{
    BodyFraming, BodyHeader, BodyLimits, ChunkDecoder, ChunkEvent, ChunkLimits, Forwarded, HEADROOM_BYTES,
    HeadLimits, Method, Parse, Relay, RequestEdits, RequestHead, ResponseEdits, ResponseHead, SinkFraming,
    Version, encode_request, encode_response,
};

/// A request head: cuts do not matter, another parser agrees, and what is forwarded is exactly one request.
pub(crate) fn request(data: &[u8]) {
    let limits = HeadLimits::default();
    let mut head = RequestHead::new();
    let whole = head.parse(data, &limits);
    let mut dripped = RequestHead::new();
    let drip = drip(data, |bytes| dripped.parse(bytes, &limits).map_err(|_| ()));
    if whole == Ok(Parse::Partial) {
        assert_eq!(drip, Ok(Parse::Partial), "a prefix of what may become valid is refused");
    }
    if whole != Ok(Parse::Done(())) {
        assert_ne!(drip, Ok(Parse::Done(())), "accepted only in pieces");
        return;
    }
    assert_eq!(drip, Ok(Parse::Done(())), "refused only in pieces");
    assert_eq!(head.fields, dripped.fields);
    assert_eq!((head.body, head.target, head.host), (dripped.body, dripped.target, dripped.host));
    assert!(head.head_bytes <= data.len());
    let received = &data[..head.head_bytes];
    let mut slots = [httparse::EMPTY_HEADER; 160];
    let mut other = httparse::Request::new(&mut slots);
    // The other parser knows only the versions 1.0 and 1.1.
    if matches!(version_of(received), b"HTTP/1.0" | b"HTTP/1.1") {
        assert_eq!(other.parse(received), Ok(httparse::Status::Complete(head.head_bytes)));
        same_fields(
            other.headers,
            head.fields.iter().map(|field| (field.name.of(data), field.value.of(data))),
        );
    }
    let edits = RequestEdits {
        path_and_query: head.target.path_and_query_bytes(data),
        host: head.host.map_or(&b"h"[..], |host| host.whole.of(data)),
        forwarded: Some(Forwarded {
            client_ip: data.get(..9).unwrap_or(b"::1"),
            append_for: true,
            ..Forwarded::default()
        }),
        set: &[(b"X-Set", data)],
        te_trailers: head.te_trailers,
        expect_continue: head.expect_continue,
        body: match head.body {
            BodyFraming::Length(length) => BodyHeader::Length(length),
            BodyFraming::Chunked => BodyHeader::Chunked,
            BodyFraming::None | BodyFraming::UntilClose => BodyHeader::None,
        },
        ..RequestEdits::default()
    };
    let mut out = Vec::new();
    encode_request(&head, data, &edits, &mut out);
    let room =
        HeadLimits { head_bytes_max: usize::MAX, target_bytes_max: usize::MAX, fields_max: 200, ..limits };
    let mut again = RequestHead::new();
    assert_eq!(again.parse(&out, &room), Ok(Parse::Done(())), "{}", out.escape_ascii());
    assert_eq!(again.head_bytes, out.len());
    assert_eq!((again.body, again.expect_continue), (head.body, head.expect_continue));
    assert_eq!(again.method_span.of(&out), head.method_span.of(data));
    let mut slots = [httparse::EMPTY_HEADER; 200];
    let mut other = httparse::Request::new(&mut slots);
    assert_eq!(other.parse(&out), Ok(httparse::Status::Complete(out.len())));
    assert_eq!(count(other.headers, "host"), 1);
    assert!(count(other.headers, "content-length") + count(other.headers, "transfer-encoding") <= 1);
}

/// A response head, with the request's method in the first byte.
pub(crate) fn response(data: &[u8]) {
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let method = [Method::Get, Method::Head, Method::Connect][usize::from(first % 3)];
    let limits = HeadLimits::default();
    let mut head = ResponseHead::new();
    let whole = head.parse(data, &limits, method);
    let mut dripped = ResponseHead::new();
    let drip = drip(data, |bytes| dripped.parse(bytes, &limits, method).map_err(|_| ()));
    if whole == Ok(Parse::Partial) {
        assert_eq!(drip, Ok(Parse::Partial), "a prefix of what may become valid is refused");
    }
    if whole != Ok(Parse::Done(())) {
        assert_ne!(drip, Ok(Parse::Done(())), "accepted only in pieces");
        return;
    }
    assert_eq!(drip, Ok(Parse::Done(())), "refused only in pieces");
    assert_eq!((&head.fields, head.body), (&dripped.fields, dripped.body));
    let body = match head.body {
        BodyFraming::Length(length) => BodyHeader::Length(length),
        BodyFraming::Chunked => BodyHeader::Chunked,
        BodyFraming::None | BodyFraming::UntilClose => BodyHeader::None,
    };
    let version = if first & 0x80 == 0 { Version::Http11 } else { Version::Http10 };
    let set: &[(&[u8], &[u8])] = &[(b"X-Set", data)];
    let edits = ResponseEdits { body, version, date: Some(b"now"), set, ..ResponseEdits::default() };
    let mut out = Vec::new();
    encode_response(&head, data, &edits, &mut out);
    let mut slots = [httparse::EMPTY_HEADER; 200];
    let mut other = httparse::Response::new(&mut slots);
    assert_eq!(other.parse(&out), Ok(httparse::Status::Complete(out.len())), "{}", out.escape_ascii());
    assert_eq!(other.code, Some(head.status));
    assert!(count(other.headers, "content-length") + count(other.headers, "transfer-encoding") <= 1);
    if head.status < 200 || head.status == 204 {
        assert_eq!(count(other.headers, "content-length") + count(other.headers, "transfer-encoding"), 0);
    }
    if version == Version::Http10 {
        assert_eq!(count(other.headers, "transfer-encoding"), 0);
    }
}

/// A body, with its framing, its sink, the size of the pieces and the room behind them in the first bytes.
pub(crate) fn body(data: &[u8]) {
    let [framing, size, tailroom, length, stream @ ..] = data else {
        return;
    };
    let source = [
        BodyFraming::Chunked,
        BodyFraming::Chunked,
        BodyFraming::Length(u64::from(*length)),
        BodyFraming::UntilClose,
    ][usize::from(framing & 3)];
    let sink = [SinkFraming::Chunked, SinkFraming::Chunked, SinkFraming::Length, SinkFraming::None]
        [usize::from(framing >> 2 & 3)];
    let size = usize::from(*size).max(1);
    let tailroom = usize::from(tailroom % 16);
    let expected = payload(source, stream);
    let cut = relay(source, sink, stream, size, tailroom);
    match (expected, cut) {
        (Err(()), Err(())) => {}
        (Ok((payload, follows, ended)), Ok((sent, rest, done))) => {
            assert_eq!((follows.len(), ended), (rest.len(), done));
            assert!(stream.ends_with(&rest));
            match sink {
                SinkFraming::None => assert!(sent.is_empty() && rest.len() <= stream.len()),
                SinkFraming::Length | SinkFraming::UntilClose => assert_eq!(sent, payload),
                SinkFraming::Chunked => {
                    assert_eq!(chunked(&sent), Ok((payload, Vec::new(), done)), "{}", sent.escape_ascii());
                }
            }
        }
        (expected, cut) => panic!("whole: {expected:?}, in pieces: {cut:?}"),
    }
}

/// Payload, what follows the body, and whether the body has ended.
type Outcome = Result<(Vec<u8>, Vec<u8>, bool), ()>;

fn payload(source: BodyFraming, stream: &[u8]) -> Outcome {
    match source {
        BodyFraming::Chunked => chunked(stream),
        BodyFraming::Length(length) => {
            let length = length as usize;
            let (payload, rest) = stream.split_at(length.min(stream.len()));
            Ok((payload.to_vec(), rest.to_vec(), payload.len() == length))
        }
        BodyFraming::UntilClose | BodyFraming::None => Ok((stream.to_vec(), Vec::new(), false)),
    }
}

fn chunked(stream: &[u8]) -> Outcome {
    let mut decoder = ChunkDecoder::new(ChunkLimits::default());
    let mut payload = Vec::new();
    let mut at = 0;
    loop {
        match decoder.next(stream, &mut at).map_err(|_| ())? {
            ChunkEvent::Data(range) => payload.extend_from_slice(&stream[range]),
            ChunkEvent::Partial => return Ok((payload, Vec::new(), false)),
            ChunkEvent::End => return Ok((payload, stream[at..].to_vec(), true)),
        }
    }
}

fn relay(source: BodyFraming, sink: SinkFraming, stream: &[u8], size: usize, tailroom: usize) -> Outcome {
    let mut relay = Relay::new(source, sink, BodyLimits { forward_trailers: true, ..BodyLimits::default() });
    let mut sent = Vec::new();
    let mut rest = Vec::new();
    let none: &[&[u8]] = &[b""];
    let pieces: Vec<&[u8]> = none.iter().copied().chain(stream.chunks(size)).collect();
    for piece in pieces {
        if relay.is_done() {
            rest.extend_from_slice(piece);
            continue;
        }
        let mut buf = vec![0xee; HEADROOM_BYTES];
        buf.extend_from_slice(piece);
        buf.resize(buf.len() + tailroom, 0xee);
        let end = HEADROOM_BYTES + piece.len();
        let relayed = relay.relay(&mut buf, HEADROOM_BYTES..end).map_err(|_| ())?;
        sent.extend_from_slice(&buf[relayed.send]);
        if relayed.end {
            sent.extend_from_slice(relay.epilogue());
        }
        rest.extend_from_slice(&buf[relayed.consumed_end..end]);
    }
    Ok((sent, rest, relay.is_done()))
}

/// Gives a parser more and more of the bytes, until it says something else than `Partial`.
fn drip(data: &[u8], mut parse: impl FnMut(&[u8]) -> Result<Parse<()>, ()>) -> Result<Parse<()>, ()> {
    // Large inputs in larger steps, so that a run stays fast.
    let step = data.len() / 512 + 1;
    for end in (0..data.len()).step_by(step) {
        match parse(&data[..end]) {
            Ok(Parse::Partial) => {}
            other => return other,
        }
    }
    parse(data)
}

fn version_of(head: &[u8]) -> &[u8] {
    let line = head.split(|&byte| byte == b'\r').find(|line| line.len() > 1).unwrap_or(&[]);
    &line[line.len().saturating_sub(8)..]
}

fn same_fields<'a>(other: &[httparse::Header<'_>], ours: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    let ours: Vec<_> = ours.collect();
    assert_eq!(other.len(), ours.len());
    for (header, (name, value)) in other.iter().zip(ours) {
        assert_eq!((header.name.as_bytes(), header.value), (name, value));
    }
}

fn count(headers: &[httparse::Header<'_>], name: &str) -> usize {
    headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name)).count()
}
