//! Fields and the names a gateway must know.
//!
//! Names match without regard to case and only as a whole. A name that reads as one of the gateway's own once `_`
//! is taken for `-` is `Lookalike`: CGI-style back ends cannot tell the two apart, so it is never forwarded, and
//! a look-alike of a framing field refuses the message.

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
    /// Reads as Content-Length or Transfer-Encoding when `_` is taken for `-`.
    FramingLookalike,
    /// Reads as another field that only the gateway may write when `_` is taken for `-`.
    Lookalike,
    Other,
}

impl FieldKind {
    /// Which name this is.
    #[inline]
    pub fn of_name(name: &[u8]) -> FieldKind {
        let known = names_of_length(name.len());
        match known.iter().find(|(known, _)| name.eq_ignore_ascii_case(known)) {
            Some((_, kind)) => *kind,
            None if name.contains(&b'_') => imitation(name, known),
            None => FieldKind::Other,
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
                | FieldKind::FramingLookalike
                | FieldKind::Lookalike
        )
    }
}

/// The known names of one length, so that a look-up compares with few names.
#[inline]
fn names_of_length(length: usize) -> &'static [(&'static [u8], FieldKind)] {
    match length {
        2 => &[(b"te", FieldKind::Te)],
        3 => &[(b"via", FieldKind::Via)],
        4 => &[(b"host", FieldKind::Host), (b"date", FieldKind::Date)],
        5 => &[(b"proxy", FieldKind::Proxy)],
        6 => {
            &[(b"cookie", FieldKind::Cookie), (b"server", FieldKind::Server), (b"expect", FieldKind::Expect)]
        }
        7 => &[(b"upgrade", FieldKind::Upgrade), (b"trailer", FieldKind::Trailer)],
        8 => &[(b"location", FieldKind::Location)],
        9 => &[(b"x-real-ip", FieldKind::XRealIp), (b"forwarded", FieldKind::Forwarded)],
        10 => &[
            (b"connection", FieldKind::Connection),
            (b"set-cookie", FieldKind::SetCookie),
            (b"keep-alive", FieldKind::KeepAlive),
        ],
        12 => &[(b"content-type", FieldKind::ContentType)],
        13 => &[
            (b"authorization", FieldKind::Authorization),
            (b"cache-control", FieldKind::CacheControl),
            (b"content-range", FieldKind::ContentRange),
        ],
        14 => &[(b"content-length", FieldKind::ContentLength), (b"http2-settings", FieldKind::Http2Settings)],
        15 => {
            &[(b"x-forwarded-for", FieldKind::XForwardedFor), (b"accept-encoding", FieldKind::AcceptEncoding)]
        }
        16 => &[
            (b"x-forwarded-host", FieldKind::XForwardedHost),
            (b"x-forwarded-port", FieldKind::XForwardedPort),
            (b"content-encoding", FieldKind::ContentEncoding),
            (b"proxy-connection", FieldKind::ProxyConnection),
        ],
        17 => &[
            (b"transfer-encoding", FieldKind::TransferEncoding),
            (b"x-forwarded-proto", FieldKind::XForwardedProto),
        ],
        _ => &[],
    }
}

/// What a name that holds `_` imitates: a field that only the gateway may write, or nothing that matters.
fn imitation(name: &[u8], known: &[(&'static [u8], FieldKind)]) -> FieldKind {
    let same = |a: u8, b: u8| a.eq_ignore_ascii_case(&b) || (a == b'_' && b == b'-');
    let imitated = known.iter().find(|(known, _)| name.iter().zip(known.iter()).all(|(a, b)| same(*a, *b)));
    match imitated.map(|(_, kind)| *kind) {
        Some(FieldKind::ContentLength | FieldKind::TransferEncoding) => FieldKind::FramingLookalike,
        Some(
            FieldKind::KeepAlive
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
            ("Content_Length", FieldKind::FramingLookalike),
            ("transfer_encoding", FieldKind::FramingLookalike),
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
    fn every_known_name_is_filed_under_its_length() {
        for length in 0..40 {
            for (name, kind) in names_of_length(length) {
                assert_eq!(name.len(), length);
                assert_eq!(FieldKind::of_name(name), *kind);
            }
        }
    }
}
