//! The chunked transfer coding: RFC 9112 section 7.1, and what is known of attacks through its line ends.

use super::*;

/// Decodes a whole body: payload, forwarded trailers, and how many bytes it took. `None` when it is incomplete.
type Decoded = Result<Option<(Vec<u8>, Vec<u8>, usize)>, BodyError>;

fn decode_in_pieces(pieces: &[&[u8]]) -> Decoded {
    let mut decoder = ChunkDecoder::new(ChunkLimits::default());
    let mut payload = Vec::new();
    let mut taken = 0;
    for piece in pieces {
        let mut at = 0;
        loop {
            match decoder.next(piece, &mut at)? {
                ChunkEvent::Data(data) => payload.extend_from_slice(&piece[data]),
                ChunkEvent::Partial => break,
                ChunkEvent::End => return Ok(Some((payload, decoder.trailers().to_vec(), taken + at))),
            }
        }
        assert_eq!(at, piece.len(), "an incomplete body takes every byte");
        taken += at;
    }
    Ok(None)
}

fn decode(bytes: &[u8]) -> Decoded {
    let whole = decode_in_pieces(&[bytes]);
    for cut in 0..=bytes.len() {
        let (a, b) = bytes.split_at(cut);
        same(&whole, &decode_in_pieces(&[a, b]), bytes);
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    same(&whole, &decode_in_pieces(&single), bytes);
    whole
}

fn same(whole: &Decoded, cut: &Decoded, bytes: &[u8]) {
    match (whole, cut) {
        (Err(_), Err(_)) => {}
        (whole, cut) => assert_eq!(whole, cut, "{}", shown(bytes)),
    }
}

#[test]
fn valid_bodies_are_decoded() {
    // Source, bytes (all belong to the body), payload, forwarded trailers.
    let rows: [(&str, &str, &str, &str); 53] = [
        ("7.1", "0\r\n\r\n", "", ""),
        ("7.1", "5\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1", "1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "abc", ""),
        ("7.1, case", "A\r\n0123456789\r\n0\r\n\r\n", "0123456789", ""),
        ("7.1, case", "a\r\n0123456789\r\n0\r\n\r\n", "0123456789", ""),
        ("7.1, two digits", "10\r\n0123456789abcdef\r\n0\r\n\r\n", "0123456789abcdef", ""),
        ("7.1, leading zeros", "005\r\nhello\r\n000\r\n\r\n", "hello", ""),
        ("7.1, leading zeros", "0000000000000005\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1, binary data", "4\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n", ""),
        ("7.1, data like a chunk", "5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n", ""),
        ("7.1.1", "5;a\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1.1", "5;a=b\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1.1", "5;a=b;c=d;e\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1.1", "5;a=\"b\"\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1.1", "5;a=\"\"\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1.1", "5;a=\"b;c=d\"\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1.1", "5;a=\"b\\\"c\"\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1.1", "5;a=\"b\\\\\"\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1.1", "5;a=\"b\\\tc\";d\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1.1", "5;a=\"caf\u{e9}\"\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1.1, last chunk", "0;a=b\r\n\r\n", "", ""),
        ("7.1.1, BWS", "5 ;a=b\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1.1, BWS", "5\t;a\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1.1, BWS", "5; a=b\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1.1, BWS", "5;a =b\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1.1, BWS", "5;a= b\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1.1, BWS", "5;a=b ;c\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1.1, BWS", "5;a ;c\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1.1, BWS", "5;a=\"b\" ; c\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1.1, BWS", "5 \t ; \t a \t = \t b\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("signed chunks", "5;chunk-signature=0123456789abcdef\r\nhello\r\n0\r\n\r\n", "hello", ""),
        ("7.1.2", "0\r\nA: b\r\n\r\n", "", "A: b\r\n"),
        ("7.1.2", "1\r\na\r\n0\r\nA: b\r\nC:d\r\n\r\n", "a", "A: b\r\nC: d\r\n"),
        ("7.1.2, empty value", "0\r\nA:\r\n\r\n", "", "A: \r\n"),
        ("gRPC", "0\r\ngrpc-status: 0\r\ngrpc-message:\r\n\r\n", "", "grpc-status: 0\r\ngrpc-message: \r\n"),
        ("9530", "0\r\nContent-Digest: sha-256=:AA==:\r\n\r\n", "", "Content-Digest: sha-256=:AA==:\r\n"),
        ("Server-Timing", "0\r\nServer-Timing: a\r\n\r\n", "", "Server-Timing: a\r\n"),
        ("9110 6.5.1", "0\r\nContent-Length: 5\r\n\r\n", "", ""),
        ("9110 6.5.1", "0\r\nTransfer-Encoding: chunked\r\n\r\n", "", ""),
        ("9110 6.5.1", "0\r\nHost: a\r\n\r\n", "", ""),
        ("9110 6.5.1", "0\r\nAuthorization: a\r\nCookie: b\r\n\r\n", "", ""),
        ("9110 6.5.1", "0\r\nContent-Type: a\r\nContent-Encoding: b\r\nContent-Range: c\r\n\r\n", "", ""),
        ("9110 6.5.1", "0\r\nSet-Cookie: a\r\nLocation: b\r\n\r\n", "", ""),
        ("9110 6.5.1", "0\r\nConnection: close\r\nTE: x\r\nTrailer: y\r\nUpgrade: h2c\r\n\r\n", "", ""),
        (
            "nobody says who calls behind a body",
            "0\r\nX-Consumer-Username: a\r\nx_consumer_custom_id: b\r\nX-Credential-Identifier: c\r\nX-Other: d\r\n\r\n",
            "",
            "X-Other: d\r\n",
        ),
        ("9110 6.5.1", "0\r\nX-Forwarded-For: a\r\nX-Real-IP: b\r\nForwarded: c\r\n\r\n", "", ""),
        ("9110 6.5.1", "0\r\nX_Forwarded_For: a\r\nContent_Length: 5\r\n\r\n", "", ""),
        ("9110 6.5.1", "0\r\nExpect: 100-continue\r\nRange: a\r\nIf-Match: b\r\n\r\n", "", ""),
        ("9110 6.5.1", "0\r\nCache-Control: a\r\nAge: 1\r\nVary: b\r\nDate: c\r\n\r\n", "", ""),
        ("9110 6.5.1", "0\r\nWWW-Authenticate: a\r\nProxy-Authorization: b\r\n\r\n", "", ""),
        ("9110 6.5.1", "0\r\nAccess-Control-Allow-Origin: *\r\nSec-Fetch-Mode: b\r\n\r\n", "", ""),
        ("9110 6.5.1", "0\r\nKeep-Alive: a\r\nProxy-Connection: b\r\nMax-Forwards: 1\r\n\r\n", "", ""),
        ("9110 6.5.1, the rest stays", "0\r\nHost: a\r\nX: y\r\nTE: b\r\n\r\n", "", "X: y\r\n"),
    ];
    for (source, text, payload, trailers) in rows {
        let decoded = decode(text.as_bytes()).unwrap_or_else(|error| panic!("{source}: {text:?}: {error}"));
        let (found, found_trailers, taken) =
            decoded.unwrap_or_else(|| panic!("{source}: {text:?}: incomplete"));
        assert_eq!(shown(&found), shown(payload.as_bytes()), "{source}: {text:?}");
        assert_eq!(shown(&found_trailers), shown(trailers.as_bytes()), "{source}: {text:?}");
        assert_eq!(taken, text.len(), "{source}: {text:?}");
        let followed = format!("{text}GET / HTTP/1.1\r\n");
        let again = decode(followed.as_bytes()).expect("valid").expect("complete");
        assert_eq!(again.2, text.len(), "{source}: nothing behind the body is taken");
        for end in 0..text.len() {
            assert_eq!(decode_in_pieces(&[&text.as_bytes()[..end]]), Ok(None), "{source}: {text:?} to {end}");
        }
    }
}

#[test]
fn invalid_bodies_are_refused() {
    use BodyError::*;
    let rows: [(&str, &str, BodyError); 95] = [
        ("no size", "\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("no size", ";a\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("no size", " ;a\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("leading space", " 5\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("leading tab", "\t5\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("sign", "+5\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("sign", "-5\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("prefix", "0x5\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("prefix", "0X5\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("prefix", "x5\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("prefix", "\\x5\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("suffix", "5h\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("suffix", "5g\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("separator", "1_0\r\n0123456789abcdef\r\n0\r\n\r\n", ChunkSize),
        ("separator", "1,0\r\n0123456789abcdef\r\n0\r\n\r\n", ChunkSize),
        ("separator", "1.0\r\nh\r\n0\r\n\r\n", ChunkSize),
        ("separator", "5:a\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("separator", "5=a\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("word", "five\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("quoted", "\"5\"\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("NUL", "5\0\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("NUL first", "\x005\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("vertical tab", "5\x0b\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("form feed", "5\x0c;a\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("no-break space", "5\u{a0};a\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("full-width digit", "\u{ff15}\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("two sizes", "5 5\r\nhello\r\n0\r\n\r\n", ChunkExtension),
        ("trailing space", "5 \r\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("trailing tab", "5\t\r\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("trailing space", "0 \r\n\r\n", ChunkLineEnd),
        ("overflow", "10000000000000005\r\nhello\r\n0\r\n\r\n", ChunkSizeTooLarge),
        ("overflow", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n", ChunkSizeTooLarge),
        ("overflow", "8000000000000000\r\nhello\r\n0\r\n\r\n", ChunkSizeTooLarge),
        ("overflow", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n", ChunkSizeTooLarge),
        ("too many digits", "00000000000000005\r\nhello\r\n0\r\n\r\n", ChunkSizeTooLarge),
        ("too many digits", "00000000000000000\r\n\r\n", ChunkSizeTooLarge),
        ("LF", "5\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("LF", "5\nhello\n0\n\n", ChunkLineEnd),
        ("LF", "0\n\r\n", ChunkLineEnd),
        ("LF CR", "5\n\rhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("CR", "5\rhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("CR", "5\r5\r\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("CR CR LF", "5\r\r\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("CR ;", "5\r;a\r\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("TERM.EXT, LF", "5;a\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("TERM.EXT, LF", "5;\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("TERM.EXT, LF", "5;a=b\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("TERM.EXT, LF", "2;\nxx\r\n4c\r\n0\r\n\r\n", ChunkLineEnd),
        ("TERM.EXT, CR", "5;a\rb\r\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("TERM.EXT, CR", "5;\ra\r\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("TERM.EXT, CR", "5;a=\rb\r\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("TERM.EXT, CR CR LF", "5;a\r\r\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("TERM.EXT, quoted LF", "5;a=\"\nb\"\r\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("TERM.EXT, quoted CRLF", "5;a=\"\r\nb\"\r\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("TERM.EXT, quoted CR", "5;a=\"\rb\"\r\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("TERM.EXT, quoted pair LF", "5;a=\"\\\nb\"\r\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("TERM.EXT, open quote", "5;a=\"b\r\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("EXT.TERM, LF behind name", "5;a \n\r\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("bare semicolon", "5;\r\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("bare semicolon", "5;a;\r\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("bare semicolon", "5;;a\r\nhello\r\n0\r\n\r\n", ChunkExtension),
        ("no name", "5;=b\r\nhello\r\n0\r\n\r\n", ChunkExtension),
        ("no value", "5;a=\r\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("no value", "5;a=;b\r\nhello\r\n0\r\n\r\n", ChunkExtension),
        ("two values", "5;a=b=c\r\nhello\r\n0\r\n\r\n", ChunkExtension),
        ("two words", "5;a b\r\nhello\r\n0\r\n\r\n", ChunkExtension),
        ("two words", "5;a=b c\r\nhello\r\n0\r\n\r\n", ChunkExtension),
        ("trailing space", "5;a \r\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("trailing space", "5;a=b \r\nhello\r\n0\r\n\r\n", ChunkLineEnd),
        ("name", "5;a[0]\r\nhello\r\n0\r\n\r\n", ChunkExtension),
        ("name", "5;\"a\"\r\nhello\r\n0\r\n\r\n", ChunkExtension),
        ("name", "5;caf\u{e9}\r\nhello\r\n0\r\n\r\n", ChunkExtension),
        ("value", "5;a=b(c)\r\nhello\r\n0\r\n\r\n", ChunkExtension),
        ("value", "5;a=\"b\"c\r\nhello\r\n0\r\n\r\n", ChunkExtension),
        ("NUL", "5;a\0\r\nhello\r\n0\r\n\r\n", ChunkExtension),
        ("control", "5;a=\"\x01\"\r\nhello\r\n0\r\n\r\n", ChunkExtension),
        ("DEL", "5;a=\"\x7f\"\r\nhello\r\n0\r\n\r\n", ChunkExtension),
        ("SPILL, longer data", "5\r\nhello!!\r\n0\r\n\r\n", ChunkDataEnd),
        ("SPILL, shorter data", "7\r\nhello\r\n0\r\n\r\n", ChunkDataEnd),
        ("data end, LF", "5\r\nhello\n0\r\n\r\n", ChunkDataEnd),
        ("data end, CR", "5\r\nhello\r0\r\n\r\n", ChunkDataEnd),
        ("data end, none", "5\r\nhello0\r\n\r\n", ChunkDataEnd),
        ("data end, LF CR", "5\r\nhello\n\r0\r\n\r\n", ChunkDataEnd),
        ("data end, any two bytes", "5\r\nhelloXX0\r\n\r\n", ChunkDataEnd),
        ("data end, CR CR LF", "5\r\nhello\r\r\n0\r\n\r\n", ChunkDataEnd),
        ("end, LF", "0\r\n\n", Trailer),
        ("end, CR", "0\r\n\rX\r\n", Trailer),
        ("trailer, LF", "0\r\nA: b\n\r\n", Trailer),
        ("trailer, no colon", "0\r\nX\r\n\r\n", Trailer),
        ("trailer, no name", "0\r\n: b\r\n\r\n", Trailer),
        ("trailer, SP before colon", "0\r\nA : b\r\n\r\n", Trailer),
        ("trailer, folding", "0\r\nA: b\r\n c\r\n\r\n", Trailer),
        ("trailer, white space", "0\r\n A: b\r\n\r\n", Trailer),
        ("trailer, NUL", "0\r\nA: \0\r\n\r\n", Trailer),
        ("trailer, request", "0\r\nGET / HTTP/1.1\r\n\r\n", Trailer),
    ];
    for (source, text, error) in rows {
        assert_eq!(decode(text.as_bytes()), Err(error), "{source}: {text:?}");
    }
}

#[test]
fn extensions_and_trailers_are_limited() {
    let limits = ChunkLimits::default();
    let body = |extension: usize| format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(extension)).into_bytes();
    let fits = limits.extension_bytes_max as usize - 1;
    assert!(decode_in_pieces(&[&body(fits)]).is_ok());
    assert_eq!(decode_in_pieces(&[&body(fits + 1)]), Err(BodyError::ChunkExtensionTooLarge));
    // Extensions without payload are cut off, signed chunks of payload are not.
    let empty = "1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n".repeat(1000);
    assert_eq!(decode_in_pieces(&[empty.as_bytes()]), Err(BodyError::ChunkExtensionTooLarge));
    let chunk = format!("40;chunk-signature={}\r\n{}\r\n", "0".repeat(40), "x".repeat(64));
    assert_eq!(decode_in_pieces(&[chunk.repeat(2000).as_bytes()]), Ok(None));
    let trailers = "A: b\r\n".repeat(limits.trailer_fields_max);
    assert!(decode_in_pieces(&[format!("0\r\n{trailers}\r\n").as_bytes()]).is_ok());
    let more = decode_in_pieces(&[format!("0\r\n{trailers}A: b\r\n\r\n").as_bytes()]);
    assert_eq!(more, Err(BodyError::TrailerTooLarge));
    let long = format!("0\r\nA: {}", "b".repeat(limits.trailer_bytes_max));
    assert_eq!(decode_in_pieces(&[long.as_bytes()]), Err(BodyError::TrailerTooLarge));
    assert_eq!(BodyError::TrailerTooLarge.status(), 431);
    assert_eq!(BodyError::ChunkExtension.status(), 400);
}
