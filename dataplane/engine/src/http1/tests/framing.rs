//! Where a request's body ends: RFC 9112 sections 6.1 to 6.3, RFC 9110 section 8.6.

use super::*;
use HeadError::{
    ContentLength, ContentLengthDuplicate, ContentLengthWithTransferEncoding as Both,
    TransferCodingUnsupported as Unsupported, TransferEncoding, TransferEncodingHttp10,
};

#[test]
fn content_length_is_one_field_of_digits() {
    let rows: [(&str, &str, Result<u64, HeadError>); 46] = [
        ("9110 8.6", "Content-Length: 0\r\n", Ok(0)),
        ("9110 8.6", "Content-Length: 5\r\n", Ok(5)),
        ("9110 8.6", "content-length:5\r\n", Ok(5)),
        ("9110 8.6", "CONTENT-LENGTH: 5\r\n", Ok(5)),
        ("9112 5.1, OWS", "Content-Length:  \t5\t \r\n", Ok(5)),
        ("9110 8.6, leading zeros", "Content-Length: 005\r\n", Ok(5)),
        ("9110 8.6, leading zeros", "Content-Length: 0000000000000000000000000000005\r\n", Ok(5)),
        ("9110 8.6, large", "Content-Length: 9223372036854775807\r\n", Ok(i64::MAX as u64)),
        ("9110 8.6, overflow", "Content-Length: 9223372036854775808\r\n", Err(ContentLength)),
        ("9110 8.6, overflow", "Content-Length: 18446744073709551616\r\n", Err(ContentLength)),
        ("9110 8.6, overflow", "Content-Length: 99999999999999999999\r\n", Err(ContentLength)),
        ("9110 8.6, empty", "Content-Length:\r\n", Err(ContentLength)),
        ("9110 8.6, empty", "Content-Length:  \r\n", Err(ContentLength)),
        ("9110 8.6, sign", "Content-Length: +5\r\n", Err(ContentLength)),
        ("9110 8.6, sign", "Content-Length: -5\r\n", Err(ContentLength)),
        ("9110 8.6, sign", "Content-Length: -0\r\n", Err(ContentLength)),
        ("9110 8.6, hexadecimal", "Content-Length: 0x5\r\n", Err(ContentLength)),
        ("9110 8.6, hexadecimal", "Content-Length: a\r\n", Err(ContentLength)),
        ("9110 8.6, octal", "Content-Length: 0o5\r\n", Err(ContentLength)),
        ("9110 8.6, binary", "Content-Length: 0b1\r\n", Err(ContentLength)),
        ("9110 8.6, separator", "Content-Length: 1_0\r\n", Err(ContentLength)),
        ("9110 8.6, separator", "Content-Length: 1'0\r\n", Err(ContentLength)),
        ("9110 8.6, space", "Content-Length: 1 0\r\n", Err(ContentLength)),
        ("9110 8.6, fraction", "Content-Length: 5.0\r\n", Err(ContentLength)),
        ("9110 8.6, exponent", "Content-Length: 1e1\r\n", Err(ContentLength)),
        ("9110 8.6, quoted", "Content-Length: \"5\"\r\n", Err(ContentLength)),
        ("9110 8.6, parameter", "Content-Length: 5;a=b\r\n", Err(ContentLength)),
        ("9110 8.6, word", "Content-Length: abc\r\n", Err(ContentLength)),
        ("9110 8.6, trailing word", "Content-Length: 5 bytes\r\n", Err(ContentLength)),
        ("9110 8.6, full-width digit", "Content-Length: \u{ff15}\r\n", Err(ContentLength)),
        ("9110 8.6, arabic digit", "Content-Length: \u{665}\r\n", Err(ContentLength)),
        ("9110 8.6, no-break space", "Content-Length: \u{a0}5\r\n", Err(ContentLength)),
        ("9110 8.6, list of equals", "Content-Length: 5, 5\r\n", Err(ContentLength)),
        ("9110 8.6, list of equals", "Content-Length: 5,5,5\r\n", Err(ContentLength)),
        ("9110 8.6, list", "Content-Length: 5, 6\r\n", Err(ContentLength)),
        ("9110 8.6, list", "Content-Length: 5,\r\n", Err(ContentLength)),
        ("9110 8.6, list", "Content-Length: ,5\r\n", Err(ContentLength)),
        ("9112 6.3, two", "Content-Length: 5\r\nContent-Length: 6\r\n", Err(ContentLengthDuplicate)),
        ("9112 6.3, two equal", "Content-Length: 5\r\nContent-Length: 5\r\n", Err(ContentLengthDuplicate)),
        (
            "9112 6.3, two apart",
            "Content-Length: 5\r\nA: b\r\ncontent-length: 5\r\n",
            Err(ContentLengthDuplicate),
        ),
        ("9112 6.3, one empty", "Content-Length:\r\nContent-Length: 5\r\n", Err(ContentLength)),
        ("9112 6.3, zero first", "Content-Length: 0\r\nContent-Length: 5\r\n", Err(ContentLengthDuplicate)),
        ("9110 5.5, vertical tab", "Content-Length: \x0b5\r\n", Err(HeadError::FieldValue)),
        ("9110 5.5, NUL", "Content-Length: 5\0\r\n", Err(HeadError::FieldValue)),
        ("9112 5.2, folding", "Content-Length:\r\n 5\r\n", Err(HeadError::ObsFold)),
        ("9110 7.6.1, nominated", "Connection: Content-Length\r\nContent-Length: 5\r\n", Ok(5)),
    ];
    for (source, fields, length) in rows {
        check(source, "POST", "1.1", fields, length.map(BodyFraming::Length));
    }
}

#[test]
fn transfer_encoding_is_chunked_alone() {
    let chunked = Ok(BodyFraming::Chunked);
    let rows: [(&str, &str, Result<BodyFraming, HeadError>); 52] = [
        ("9112 7.1", "Transfer-Encoding: chunked\r\n", chunked),
        ("9112 7, case", "Transfer-Encoding: Chunked\r\n", chunked),
        ("9112 7, case", "transfer-encoding: CHUNKED\r\n", chunked),
        ("9112 7, case", "TRANSFER-ENCODING: cHuNkEd\r\n", chunked),
        ("9112 5.1, no OWS", "Transfer-Encoding:chunked\r\n", chunked),
        ("9112 5.1, OWS", "Transfer-Encoding:\tchunked\r\n", chunked),
        ("9112 5.1, OWS", "Transfer-Encoding:  chunked  \r\n", chunked),
        ("9110 7.6.1, nominated", "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", chunked),
        ("9112 6.1, both", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(Both)),
        ("9112 6.1, both", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(Both)),
        ("9112 6.1, both", "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", Err(Both)),
        (
            "9112 6.1, both, nominated",
            "Connection: Content-Length\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            Err(Both),
        ),
        ("9112 6.1, both", "Transfer-Encoding: gzip, chunked\r\nContent-Length: 5\r\n", Err(Unsupported)),
        (
            "9112 6.1, both, bad length",
            "Content-Length: x\r\nTransfer-Encoding: chunked\r\n",
            Err(ContentLength),
        ),
        (
            "9112 6.1, both, bad length",
            "Content-Length: +5\r\nTransfer-Encoding: chunked\r\n",
            Err(ContentLength),
        ),
        (
            "9112 6.1, both, bad coding",
            "Content-Length: 5\r\nTransfer-Encoding: x\r\n",
            Err(TransferEncoding),
        ),
        ("9112 6.1, twice", "Transfer-Encoding: chunked, chunked\r\n", Err(TransferEncoding)),
        (
            "9112 6.1, twice",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            Err(TransferEncoding),
        ),
        (
            "9112 6.1, two fields",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            Err(TransferEncoding),
        ),
        (
            "9112 6.1, two fields",
            "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
            Err(TransferEncoding),
        ),
        (
            "9112 6.1, two fields",
            "Transfer-Encoding: chunked\r\nTransfer-encoding: cow\r\n",
            Err(TransferEncoding),
        ),
        (
            "9112 6.1, two fields",
            "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n",
            Err(TransferEncoding),
        ),
        ("9112 7, not known", "Transfer-Encoding: gzip, chunked\r\n", Err(Unsupported)),
        ("9112 7, not known", "Transfer-Encoding: identity, chunked\r\n", Err(Unsupported)),
        ("9112 7, not known", "Transfer-Encoding: foo;q=\"1\", chunked\r\n", Err(Unsupported)),
        ("9112 6.3, not last", "Transfer-Encoding: chunked, gzip\r\n", Err(TransferEncoding)),
        ("9112 6.3, not last", "Transfer-Encoding: chunked, identity\r\n", Err(TransferEncoding)),
        ("9112 6.3, absent", "Transfer-Encoding: gzip\r\n", Err(TransferEncoding)),
        ("9112 6.3, absent", "Transfer-Encoding: identity\r\n", Err(TransferEncoding)),
        ("9112 6.3, absent", "Transfer-Encoding: xchunked\r\n", Err(TransferEncoding)),
        ("9112 6.3, absent", "Transfer-Encoding: chunkedx\r\n", Err(TransferEncoding)),
        ("9112 6.3, absent", "Transfer-Encoding: chunk\r\n", Err(TransferEncoding)),
        ("9112 6.3, absent", "Transfer-Encoding: chunked-x\r\n", Err(TransferEncoding)),
        ("9112 6.3, empty", "Transfer-Encoding:\r\n", Err(TransferEncoding)),
        ("9112 6.3, empty", "Transfer-Encoding: \r\n", Err(TransferEncoding)),
        ("9112 6.3, empty", "Transfer-Encoding: ,\r\n", Err(TransferEncoding)),
        ("empty member", "Transfer-Encoding: ,chunked\r\n", Err(TransferEncoding)),
        ("empty member", "Transfer-Encoding: , chunked\r\n", Err(TransferEncoding)),
        ("empty member", "Transfer-Encoding: chunked,\r\n", Err(TransferEncoding)),
        ("9112 7.1, parameter", "Transfer-Encoding: chunked;a=b\r\n", Err(TransferEncoding)),
        ("9112 7.1, parameter", "Transfer-Encoding: chunked;\r\n", Err(TransferEncoding)),
        ("9112 7, quoted", "Transfer-Encoding: \"chunked\"\r\n", Err(TransferEncoding)),
        ("9112 7, quoted", "Transfer-Encoding: 'chunked'\r\n", Err(TransferEncoding)),
        ("9112 7, two words", "Transfer-Encoding: x chunked\r\n", Err(TransferEncoding)),
        ("9112 7, colon", "Transfer-Encoding: : chunked\r\n", Err(TransferEncoding)),
        ("9112 7, non-ASCII", "Transfer-Encoding: chun\u{212a}ed\r\n", Err(TransferEncoding)),
        ("9110 5.5, vertical tab", "Transfer-Encoding: \x0bchunked\r\n", Err(HeadError::FieldValue)),
        ("9110 5.5, form feed", "Transfer-Encoding: \x0cchunked\r\n", Err(HeadError::FieldValue)),
        ("9110 5.5, NUL", "Transfer-Encoding: chunked\0\r\n", Err(HeadError::FieldValue)),
        ("9112 2.2, bare CR", "Transfer-Encoding: chunked\r \r\n", Err(HeadError::BareCr)),
        ("9112 2.2, bare LF", "A: b\nTransfer-Encoding: chunked\r\n", Err(HeadError::BareLf)),
        ("9112 5.1, space", "Transfer-Encoding : chunked\r\n", Err(HeadError::FieldColonWhitespace)),
    ];
    for (source, fields, framing) in rows {
        check(source, "POST", "1.1", fields, framing);
    }
}

#[test]
fn framing_does_not_depend_on_the_method_but_on_the_version() {
    let chunked = "Transfer-Encoding: chunked\r\n";
    for method in ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "TRACE", "PATCH", "FOO", "get"] {
        check("9112 6.3, 7", method, "1.1", "", Ok(BodyFraming::None));
        check("9112 6.3, 6", method, "1.1", "Content-Length: 5\r\n", Ok(BodyFraming::Length(5)));
        check("9112 6.3, 4", method, "1.1", chunked, Ok(BodyFraming::Chunked));
        check("9110 2.5", method, "1.7", chunked, Ok(BodyFraming::Chunked));
        check("9112 6.1, 1.0", method, "1.0", chunked, Err(TransferEncodingHttp10));
        check("9112 6.3, 6", method, "1.0", "Content-Length: 5\r\n", Ok(BodyFraming::Length(5)));
    }
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    check("9112 6.1, 1.0", "POST", "1.0", both, Err(TransferEncodingHttp10));
}

#[test]
fn fields_that_look_like_framing_have_no_effect() {
    let rows = [
        "Content_Length: 5\r\n",
        "Transfer_Encoding: chunked\r\n",
        "X-Content-Length: 5\r\n",
        "Content-Lengthx: 5\r\n",
        "Content-Length-: 5\r\n",
        "TransferEncoding: chunked\r\n",
        "Transfer-Encodings: chunked\r\n",
        "TE: chunked\r\n",
        "Content-Encoding: chunked\r\n",
        "Trailer: Content-Length\r\n",
        "A: Content-Length: 5\r\n",
        "Upgrade: Transfer-Encoding: chunked\r\n",
    ];
    for fields in rows {
        check("9110 5.1", "POST", "1.1", fields, Ok(BodyFraming::None));
    }
}

#[test]
fn refusals_carry_the_status_to_answer() {
    let rows = [
        (Unsupported, 501),
        (TransferEncoding, 400),
        (Both, 400),
        (ContentLength, 400),
        (TransferEncodingHttp10, 400),
        (HeadError::VersionUnsupported, 505),
        (HeadError::VersionMalformed, 400),
        (HeadError::TargetTooLong, 414),
        (HeadError::MethodTooLong, 501),
        (HeadError::HostMissing, 400),
    ];
    for (error, status) in rows {
        assert_eq!(error.status(), status, "{error}");
    }
}

fn check(source: &str, method: &str, version: &str, fields: &str, expected: Result<BodyFraming, HeadError>) {
    let bytes = format!("{method} / HTTP/{version}\r\nHost: h\r\n{fields}\r\n").into_bytes();
    let found = request_any_cut(&bytes).map(|head| head.body);
    assert_eq!(found, expected, "{source}: {}", shown(&bytes));
}
