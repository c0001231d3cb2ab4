//! HTTP/1 on the request path: heads parsed and written, bodies framed anew.
//!
//! `cargo bench -p ringway-bench --bench http1`

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringway_engine::http1::{
    BodyFraming, BodyHeader, BodyLimits, ChunkDecoder, ChunkEvent, ChunkLimits, Forwarded, HEADROOM_BYTES,
    HeadLimits, Method, Relay, RequestEdits, RequestHead, ResponseEdits, ResponseHead, SinkFraming,
    encode_request, encode_response,
};

/// A request head with so many fields beside Host.
fn request(fields: usize) -> Vec<u8> {
    let mut head =
        b"GET /api/v1/users/42/orders?limit=20&offset=40 HTTP/1.1\r\nHost: shop.example.com\r\n".to_vec();
    for (name, value) in [
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("Accept", "application/json, text/plain, */*"),
        ("Accept-Encoding", "gzip, deflate, br, zstd"),
        ("Accept-Language", "en-US,en;q=0.5"),
        ("Cookie", "session=0123456789abcdef0123456789abcdef; theme=dark"),
        ("X-Request-Id", "7f9c24e8-3b12-4c1e-9f57-1b2f8a3c4d5e"),
        ("Referer", "https://shop.example.com/orders"),
        ("Authorization", "Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJl"),
    ]
    .into_iter()
    .cycle()
    .take(fields)
    {
        head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    head
}

fn heads(c: &mut Criterion) {
    let limits = HeadLimits::default();
    let mut group = c.benchmark_group("request head");
    for fields in [0, 5, 24] {
        let bytes = request(fields);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let mut head = RequestHead::new();
        group.bench_function(format!("parse, {} bytes", bytes.len()), |b| {
            b.iter(|| head.parse(black_box(&bytes), &limits).is_ok());
        });
        let edits = RequestEdits {
            path_and_query: head.target.path_and_query.of(&bytes),
            host: b"shop.example.com",
            forwarded: Some(Forwarded {
                client_ip: b"192.0.2.7",
                proto: b"http",
                host: b"shop.example.com",
                port: b"9080",
                append_for: true,
                ..Forwarded::default()
            }),
            ..RequestEdits::default()
        };
        let mut out = Vec::new();
        group.bench_function(format!("encode, {} bytes", bytes.len()), |b| {
            b.iter(|| {
                out.clear();
                encode_request(&head, black_box(&bytes), &edits, &mut out);
                out.len()
            });
        });
    }
    group.finish();
}

fn answers(c: &mut Criterion) {
    let bytes = b"HTTP/1.1 200 OK\r\nServer: origin\r\nDate: Mon, 23 Nov 2026 08:00:00 GMT\r\nContent-Type: application/json\r\n\
        Content-Length: 128\r\nConnection: keep-alive\r\nCache-Control: no-store\r\nVary: Accept-Encoding\r\n\r\n";
    let limits = HeadLimits::default();
    let mut head = ResponseHead::new();
    let mut group = c.benchmark_group("response head");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("parse", |b| b.iter(|| head.parse(black_box(bytes), &limits, Method::Get).is_ok()));
    let edits = ResponseEdits { body: BodyHeader::Length(128), ..ResponseEdits::default() };
    let mut out = Vec::new();
    group.bench_function("encode", |b| {
        b.iter(|| {
            out.clear();
            encode_response(&head, black_box(bytes), &edits, &mut out);
            out.len()
        });
    });
    group.finish();
}

/// Where a body ends is judged while its head is parsed: the same head with each way to say it.
fn framing(c: &mut Criterion) {
    let limits = HeadLimits::default();
    let mut group = c.benchmark_group("request head, framing");
    for (name, fields) in [
        ("no body", ""),
        ("Content-Length", "Content-Length: 1048576\r\n"),
        ("Transfer-Encoding", "Transfer-Encoding: chunked\r\n"),
        (
            "Transfer-Encoding, Connection, Trailer",
            "Transfer-Encoding: chunked\r\nConnection: close, x-hop\r\nTrailer: x-sum\r\n",
        ),
    ] {
        let bytes = format!("POST /upload HTTP/1.1\r\nHost: shop.example.com\r\n{fields}\r\n").into_bytes();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let mut head = RequestHead::new();
        assert!(head.parse(&bytes, &limits).is_ok(), "{name}");
        group.bench_function(name, |b| b.iter(|| head.parse(black_box(&bytes), &limits).is_ok()));
    }
    group.finish();
}

/// A chunked body of some 16 KB without its end.
fn chunks(chunk: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() + chunk + 32 < 16_384 {
        body.extend_from_slice(format!("{chunk:x}\r\n").as_bytes());
        body.resize(body.len() + chunk, b'x');
        body.extend_from_slice(b"\r\n");
    }
    body
}

fn decoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("chunked body, decoded");
    for chunk in [16, 1_024, 16_000] {
        let body = chunks(chunk);
        group.throughput(Throughput::Bytes(body.len() as u64));
        let mut decoder = ChunkDecoder::new(ChunkLimits::default());
        group.bench_function(format!("chunks of {chunk} bytes"), |b| {
            b.iter(|| {
                decoder.restart(ChunkLimits::default());
                let (mut at, mut payload_bytes) = (0, 0);
                while let Ok(ChunkEvent::Data(data)) = decoder.next(black_box(&body), &mut at) {
                    payload_bytes += data.len();
                }
                payload_bytes
            });
        });
    }
    group.finish();
}

fn bodies(c: &mut Criterion) {
    let mut group = c.benchmark_group("chunked body");
    for chunk in [16, 1_024, 16_000] {
        let mut body = vec![0; HEADROOM_BYTES];
        body.extend_from_slice(&chunks(chunk));
        let filled = HEADROOM_BYTES..body.len();
        body.resize(body.len() + 8, 0);
        group.throughput(Throughput::Bytes(filled.len() as u64));
        let mut relay = Relay::default();
        let mut buffer = body.clone();
        group.bench_function(format!("framed anew, chunks of {chunk} bytes"), |b| {
            b.iter(|| {
                buffer.copy_from_slice(&body);
                relay.restart(BodyFraming::Chunked, SinkFraming::Chunked, BodyLimits::default());
                relay.relay(black_box(&mut buffer), filled.clone()).is_ok()
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = ringway_bench::quick!();
    targets = heads, framing, answers, decoding, bodies
}
criterion_main!(benches);
