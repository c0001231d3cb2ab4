//! Fields and the names a gateway must know.
//!
//! Names match without regard to case and only as a whole. A name that reads as one of the gateway's own once `_`
//! is taken for `-` is `Lookalike`: CGI-style back ends cannot tell the two apart, so it is never
//! forwarded. It never has the other name's effect either.

use super::span::Span;

/// One field line: its name, its value without surrounding white space, and which name it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub name: Span,
    pub value: Span,
    pub kind: FieldKind,
}

/// The names a gateway must treat in their own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldKind {
    Host,
    ContentLength,
    TransferEncoding,
    Connection,
    KeepAlive,
    ProxyConnection,
    Http2Settings,
    /// The request field `Proxy`, which no specification knows and CGI turns into `HTTP_PROXY`.
    Proxy,
    Upgrade,
    Te,
    Trailer,
    Expect,
    Via,
    Date,
    Server,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    XForwardedPort,
    XRealIp,
    Forwarded,
    Location,
    Authorization,
    Cookie,
    SetCookie,
    ContentType,
    ContentEncoding,
    ContentRange,
    AcceptEncoding,
    CacheControl,
    MaxForwards,
    /// Reads as one of the fields that only the gateway may write when `_` is taken for `-`.
    Lookalike,
    Other,
}

impl FieldKind {
    /// Which name this is. `name` must be a token.
    #[inline]
    pub fn of_name(name: &[u8]) -> FieldKind {
        let known = candidates(name);
        if known.is_empty() {
            return FieldKind::Other;
        }
        match known.iter().find(|(known, _)| is_same_name(name, known)) {
            Some((_, kind)) => *kind,
            None => imitation(name, known),
        }
    }

    /// Whether only the two ends of one connection may see the field (RFC 9110 section 7.6.1), or only the gateway
    /// writes it, so that it is never copied from one message to the next.
    pub(crate) fn is_rewritten(self) -> bool {
        matches!(
            self,
            FieldKind::ContentLength
                | FieldKind::TransferEncoding
                | FieldKind::Connection
                | FieldKind::KeepAlive
                | FieldKind::ProxyConnection
                | FieldKind::Http2Settings
                | FieldKind::Proxy
                | FieldKind::Upgrade
                | FieldKind::Te
                | FieldKind::Lookalike
        )
    }
}

/// The known names of the same length and first letter, so that a look-up compares with two names at most.
#[inline]
fn candidates(name: &[u8]) -> &'static [(&'static [u8], FieldKind)] {
    let first = name.first().map_or(0, u8::to_ascii_lowercase);
    match (name.len(), first) {
        (2, b't') => &[(b"te", FieldKind::Te)],
        (3, b'v') => &[(b"via", FieldKind::Via)],
        (4, b'h') => &[(b"host", FieldKind::Host)],
        (4, b'd') => &[(b"date", FieldKind::Date)],
        (5, b'p') => &[(b"proxy", FieldKind::Proxy)],
        (6, b'c') => &[(b"cookie", FieldKind::Cookie)],
        (6, b's') => &[(b"server", FieldKind::Server)],
        (6, b'e') => &[(b"expect", FieldKind::Expect)],
        (7, b'u') => &[(b"upgrade", FieldKind::Upgrade)],
        (7, b't') => &[(b"trailer", FieldKind::Trailer)],
        (8, b'l') => &[(b"location", FieldKind::Location)],
        (9, b'x') => &[(b"x-real-ip", FieldKind::XRealIp)],
        (9, b'f') => &[(b"forwarded", FieldKind::Forwarded)],
        (10, b'c') => &[(b"connection", FieldKind::Connection)],
        (10, b's') => &[(b"set-cookie", FieldKind::SetCookie)],
        (10, b'k') => &[(b"keep-alive", FieldKind::KeepAlive)],
        (12, b'c') => &[(b"content-type", FieldKind::ContentType)],
        (12, b'm') => &[(b"max-forwards", FieldKind::MaxForwards)],
        (13, b'a') => &[(b"authorization", FieldKind::Authorization)],
        (13, b'c') => {
            &[(b"cache-control", FieldKind::CacheControl), (b"content-range", FieldKind::ContentRange)]
        }
        (14, b'c') => &[(b"content-length", FieldKind::ContentLength)],
        (14, b'h') => &[(b"http2-settings", FieldKind::Http2Settings)],
        (15, b'x') => &[(b"x-forwarded-for", FieldKind::XForwardedFor)],
        (15, b'a') => &[(b"accept-encoding", FieldKind::AcceptEncoding)],
        (16, b'x') => &[
            (b"x-forwarded-host", FieldKind::XForwardedHost),
            (b"x-forwarded-port", FieldKind::XForwardedPort),
        ],
        (16, b'c') => &[(b"content-encoding", FieldKind::ContentEncoding)],
        (16, b'p') => &[(b"proxy-connection", FieldKind::ProxyConnection)],
        (17, b't') => &[(b"transfer-encoding", FieldKind::TransferEncoding)],
        (17, b'x') => &[(b"x-forwarded-proto", FieldKind::XForwardedProto)],
        _ => &[],
    }
}

/// Compares a token with a lower-case name of the same length, eight bytes at a time. Setting the bit that makes a
/// letter small maps no other character of a token to a letter, a digit or `-`.
#[inline]
fn is_same_name(name: &[u8], known: &[u8]) -> bool {
    const SMALL: u64 = 0x2020_2020_2020_2020;
    let (words, rest) = name.as_chunks::<8>();
    let (known_words, known_rest) = known.as_chunks::<8>();
    let is_same_word =
        |(a, b): (&[u8; 8], &[u8; 8])| u64::from_ne_bytes(*a) | SMALL == u64::from_ne_bytes(*b);
    words.iter().zip(known_words).all(is_same_word)
        && rest.iter().zip(known_rest).all(|(a, b)| a | 0x20 == *b)
}

/// What a name that holds `_` imitates: a field that only the gateway may write, or nothing that matters.
fn imitation(name: &[u8], known: &[(&'static [u8], FieldKind)]) -> FieldKind {
    let same = |a: u8, b: u8| a.eq_ignore_ascii_case(&b) || (a == b'_' && b == b'-');
    let imitated = known.iter().find(|(known, _)| name.iter().zip(known.iter()).all(|(a, b)| same(*a, *b)));
    match imitated.map(|(_, kind)| *kind) {
        Some(
            FieldKind::ContentLength
            | FieldKind::TransferEncoding
            | FieldKind::KeepAlive
            | FieldKind::ProxyConnection
            | FieldKind::Http2Settings
            | FieldKind::XForwardedFor
            | FieldKind::XForwardedProto
            | FieldKind::XForwardedHost
            | FieldKind::XForwardedPort
            | FieldKind::XRealIp,
        ) => FieldKind::Lookalike,
        _ => FieldKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_whole_and_without_case_and_imitations_are_told_apart() {
        let rows: [(&str, FieldKind); 12] = [
            ("Host", FieldKind::Host),
            ("hOsT", FieldKind::Host),
            ("Hosts", FieldKind::Other),
            ("CONTENT-LENGTH", FieldKind::ContentLength),
            ("Content_Length", FieldKind::Lookalike),
            ("transfer_encoding", FieldKind::Lookalike),
            ("X_Forwarded-For", FieldKind::Lookalike),
            ("X_Real_IP", FieldKind::Lookalike),
            ("Content_Type", FieldKind::Other),
            ("user_id", FieldKind::Other),
            ("TE", FieldKind::Te),
            ("", FieldKind::Other),
        ];
        for (name, kind) in rows {
            assert_eq!(FieldKind::of_name(name.as_bytes()), kind, "{name}");
        }
    }

    #[test]
    fn no_other_token_character_is_taken_for_a_letter() {
        for byte in (0..=255_u8).filter(|byte| crate::http1::is_token(&[*byte])) {
            let place = [b'H', b'o', b's', byte];
            assert_eq!(FieldKind::of_name(&place) == FieldKind::Host, byte == b't' || byte == b'T');
            let mut longer = *b"X-Forwarded-For";
            longer[1] = byte;
            assert_eq!(FieldKind::of_name(&longer) == FieldKind::XForwardedFor, byte == b'-', "{byte:#x}");
        }
    }

    #[test]
    fn every_known_name_is_filed_where_it_is_looked_for() {
        let mut found = 0;
        for length in 0..40 {
            for letter in b'a'..=b'z' {
                for (name, kind) in candidates(&vec![letter; length]) {
                    assert_eq!((name.len(), name[0]), (length, letter));
                    assert_eq!(FieldKind::of_name(name), *kind);
                    assert_eq!(FieldKind::of_name(&name.to_ascii_uppercase()), *kind);
                    found += 1;
                }
            }
        }
        assert_eq!(found, 31);
    }
}
