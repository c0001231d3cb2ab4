//! Tables of rules and what must come of them, each row with its source; and properties that hold for any bytes.
//!
//! Every row is also given in two pieces, cut at every place, and byte by byte: the answer must not depend on it.

mod chunked;
mod encode;
mod fields;
mod framing;
mod properties;
mod relay;
mod request_line;
mod response;
mod streams;

use super::*;

/// Bytes as text that a failing test can print.
fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Parses a whole request head.
fn request(bytes: &[u8]) -> Result<Parse<RequestHead>, HeadError> {
    let mut head = RequestHead::new();
    Ok(match head.parse(bytes, &HeadLimits::default())? {
        Parse::Partial => Parse::Partial,
        Parse::Done(()) => Parse::Done(head),
    })
}

/// Parses a request head and checks that every way to cut it gives the same answer, and that none of its prefixes
/// is refused when it is valid.
fn request_any_cut(bytes: &[u8]) -> Result<RequestHead, HeadError> {
    let whole = match request(bytes) {
        Ok(Parse::Done(head)) => Ok(head),
        Ok(Parse::Partial) => panic!("{} is not complete", shown(bytes)),
        Err(error) => Err(error),
    };
    let limits = HeadLimits::default();
    for cut in 0..bytes.len() {
        let mut head = RequestHead::new();
        let end = match head.parse(&bytes[..cut], &limits) {
            Ok(Parse::Partial) => head.parse(bytes, &limits),
            other => other,
        };
        compare(&whole, end, &mut head, bytes, cut);
    }
    let mut head = RequestHead::new();
    let mut end = Ok(Parse::Partial);
    for length in 1..=bytes.len() {
        end = head.parse(&bytes[..length], &limits);
        if end != Ok(Parse::Partial) {
            break;
        }
    }
    compare(&whole, end, &mut head, bytes, bytes.len());
    whole
}

fn compare(
    whole: &Result<RequestHead, HeadError>,
    end: Result<Parse<()>, HeadError>,
    cut: &mut RequestHead,
    bytes: &[u8],
    at: usize,
) {
    match (whole, end) {
        (Ok(whole), Ok(Parse::Done(()))) => {
            let of = |head: &RequestHead| {
                let simple = (head.method, head.target, head.version, head.head_bytes, head.body, head.host);
                (simple, head.fields.clone(), head.keep_alive, head.expect_continue, head.upgrade)
            };
            assert_eq!(of(whole), of(cut), "{} cut at {at}", shown(bytes));
        }
        // Which of several faults is found first may depend on the cut; that it is refused may not.
        (Err(_), Err(_)) => {}
        // A long line that came in pieces may be refused only once its end is there.
        (Err(_), Ok(Parse::Partial)) => {
            let ended = [bytes, b"\r\n"].concat();
            let later = cut.parse(&ended, &HeadLimits::default());
            assert!(later.is_err(), "{} cut at {at}", shown(bytes));
        }
        (whole, end) => panic!("{} cut at {at}: {whole:?} but {end:?}", shown(bytes)),
    }
}

/// Parses a whole response head, also cut at every place.
fn response(bytes: &[u8], method: Method) -> Result<ResponseHead, HeadError> {
    let limits = HeadLimits::default();
    let mut whole = ResponseHead::new();
    let answer = whole.parse(bytes, &limits, method);
    assert_ne!(answer, Ok(Parse::Partial), "{} is not complete", shown(bytes));
    let of = |head: &ResponseHead| {
        let simple = (head.status, head.reason, head.version, head.head_bytes, head.body, head.keep_alive);
        (simple, head.fields.clone(), head.content_length, head.upgrade, head.is_tunnel)
    };
    for cut in 0..bytes.len() {
        let mut head = ResponseHead::new();
        let end = match head.parse(&bytes[..cut], &limits, method) {
            Ok(Parse::Partial) => head.parse(bytes, &limits, method),
            other => other,
        };
        match (answer, end) {
            (Ok(_), Ok(Parse::Done(()))) => {
                assert_eq!(of(&whole), of(&head), "{} cut at {cut}", shown(bytes));
            }
            (Err(_), Err(_)) => {}
            (answer, end) => panic!("{} cut at {cut}: {answer:?} but {end:?}", shown(bytes)),
        }
    }
    answer.map(|_| whole)
}
