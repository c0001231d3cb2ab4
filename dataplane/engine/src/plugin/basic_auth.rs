//! `basic-auth`: who the request is from, by name and password in `Authorization` (RFC 7617).
//!
//! A password may hold colons. As with APISIX spaces and line ends in name and password are overlooked where they do not fit as they
//! stand: some clients encode the end of a line.

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine as _, alphabet};
use ringway_snapshot::plugin::basic_auth::BasicAuth;
use smallvec::SmallVec;

use super::{Asked, Verdict, entrance};
use crate::consumer::Callers;

pub(super) fn rewrite(conf: &BasicAuth, asked: &mut Asked<'_>) -> Verdict {
    let shown = match asked.facts.header(b"authorization") {
        None => Err("{\"message\":\"Missing authorization in request\"}\n"),
        Some(value) => match credentials(&value) {
            None => Err("{\"message\":\"Invalid authorization in request\"}\n"),
            Some(pair) => asked
                .callers
                .and_then(|callers| find(callers, &pair))
                .ok_or("{\"message\":\"Invalid user authorization\"}\n"),
        },
    };
    if conf.0.hides {
        asked.course.request.remove(b"Authorization");
    }
    entrance::enter(&conf.0, shown, asked)
}

type Pair = SmallVec<[u8; 96]>;

fn find(callers: &Callers, pair: &[u8]) -> Option<u32> {
    let found = |pair: &[u8]| {
        let mut parts = pair.splitn(2, |byte| *byte == b':');
        callers.by_password(parts.next()?, parts.next()?)
    };
    found(pair).or_else(|| {
        let tight: Pair = pair.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        found(&tight)
    })
}

/// `name:password`; `None`: the value is of another scheme, or nothing that one can read.
fn credentials(value: &[u8]) -> Option<Pair> {
    let (scheme, rest) = value.split_at_checked(b"Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    decoded(rest.trim_ascii()).filter(|pair| pair.contains(&b':'))
}

/// RFC 4648 section 4; padding may be missing, and what is left of the last digit is not looked at.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

fn decoded(text: &[u8]) -> Option<Pair> {
    let mut out = Pair::new();
    out.resize(base64::decoded_len_estimate(text.len()), 0);
    let length = BASE64.decode_slice(text, &mut out).ok()?;
    out.truncate(length);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_browsers_send_is_read_and_other_things_are_not() {
        for (value, want) in [
            ("Basic Zm9vOmJhcg==", Some("foo:bar")),
            ("bASiC   Zm9vOmJhcg", Some("foo:bar")),
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", Some("Aladdin:open sesame")),
            ("Basic YTpiOmM=", Some("a:b:c")),
            ("Basic YmFy", None),
            ("Basic aca_a", None),
            ("Basic Zm9vOmJhcg=", Some("foo:bar")),
            ("Basic Zm9vOmJhcg===", None),
            ("Basic Z", None),
            ("Basic", None),
            ("Basic ", None),
            ("Bearer Zm9vOmJhcg==", None),
            ("", None),
        ] {
            let found = credentials(value.as_bytes()).map(|pair| String::from_utf8_lossy(&pair).into_owned());
            assert_eq!(found.as_deref(), want, "{value}");
        }
    }
}
