//! The authority of a request: `uri-host [ ":" port ]` (RFC 9110 section 7.2, RFC 3986 section 3.2).
//!
//! Refused: userinfo (RFC 9110 section 4.2.4), an empty host (section 4.2.1 demands it of every http and https
//! URI, and RFC 9112 section 3.3 lets a server reject it), a comma in a name (`Host` is no list), zone identifiers
//! (they mean something on the sender's machine only) and ports above 65535.

use std::net::Ipv6Addr;

use super::span::Span;
use super::token::{self, decimal};

/// RFC 3986 section 3.2.2 bounds names at 255 octets, as the DNS does.
const HOST_BYTES_MAX: usize = 255;

/// A validated authority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    /// Host and port as received.
    pub whole: Span,
    /// The host alone, with the brackets of an IPv6 literal, in the case received.
    pub host: Span,
    /// The port, when one is given. `example.com:` gives none.
    pub port: Option<u16>,
}

impl Authority {
    /// Validates the authority at `whole`. `None` when it is not one.
    pub(crate) fn parse(buf: &[u8], whole: Span) -> Option<Authority> {
        let bytes = whole.of(buf);
        let host_length = match bytes {
            [b'[', ..] => bytes.iter().position(|&byte| byte == b']')? + 1,
            _ => bytes.iter().position(|&byte| byte == b':').unwrap_or(bytes.len()),
        };
        let (host, rest) = bytes.split_at_checked(host_length)?;
        if host.is_empty() || host.len() > HOST_BYTES_MAX || !is_host(host) {
            return None;
        }
        let port = match rest {
            [] | [b':'] => None,
            [b':', digits @ ..] => Some(u16::try_from(decimal(digits)?).ok()?),
            _ => return None,
        };
        let start = whole.start as usize;
        Some(Authority { whole, host: Span::new(start, start + host_length), port })
    }
}

fn is_host(host: &[u8]) -> bool {
    match host {
        [b'[', literal @ .., b']'] => is_ip_literal(literal),
        _ => is_reg_name(host),
    }
}

/// Unreserved, sub-delims but the comma, and whole percent-encoded octets. An IPv4 address is one too.
fn is_reg_name(name: &[u8]) -> bool {
    let mut rest = name;
    loop {
        let plain = token::run(rest, token::REG_NAME);
        match rest.get(plain..) {
            None | Some([]) => return true,
            Some([b'%', high, low, tail @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = tail;
            }
            Some(_) => return false,
        }
    }
}

/// IPv6address or IPvFuture (RFC 3986 section 3.2.2).
fn is_ip_literal(literal: &[u8]) -> bool {
    if let [b'v' | b'V', future @ ..] = literal {
        let mut parts = future.splitn(2, |&byte| byte == b'.');
        let (version, address) = (parts.next().unwrap_or(&[]), parts.next().unwrap_or(&[]));
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !address.is_empty()
            && address.iter().all(|&byte| byte == b':' || token::is(byte, token::REG_NAME));
    }
    std::str::from_utf8(literal).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<(String, Option<u16>)> {
        let buf = text.as_bytes();
        let authority = Authority::parse(buf, Span::new(0, buf.len()))?;
        Some((String::from_utf8_lossy(authority.host.of(buf)).into_owned(), authority.port))
    }

    #[test]
    fn valid_authorities_are_split() {
        let rows: [(&str, &str, Option<u16>); 19] = [
            ("example.com", "example.com", None),
            ("EXAMPLE.com:8080", "EXAMPLE.com", Some(8080)),
            ("example.com.", "example.com.", None),
            ("example.com:", "example.com", None),
            ("example.com:080", "example.com", Some(80)),
            ("a_b-c.d~e", "a_b-c.d~e", None),
            ("xn--bcher-kva.example", "xn--bcher-kva.example", None),
            ("a!$&'()*+;=b", "a!$&'()*+;=b", None),
            ("%41.example", "%41.example", None),
            ("127.0.0.1:65535", "127.0.0.1", Some(65535)),
            ("127.0.0.1:0", "127.0.0.1", Some(0)),
            ("localhost", "localhost", None),
            ("[::1]", "[::1]", None),
            ("[::1]:443", "[::1]", Some(443)),
            ("[::1]:", "[::1]", None),
            ("[2001:DB8::8:800:200C:417A]:80", "[2001:DB8::8:800:200C:417A]", Some(80)),
            ("[::ffff:192.0.2.1]", "[::ffff:192.0.2.1]", None),
            ("[v1.fe80::a+en1]", "[v1.fe80::a+en1]", None),
            ("1", "1", None),
        ];
        for (text, host, port) in rows {
            assert_eq!(parse(text), Some((host.to_owned(), port)), "{text}");
        }
    }

    #[test]
    fn invalid_authorities_are_refused() {
        let long = "a".repeat(256);
        let rows = [
            "",
            ":",
            ":80",
            "user@host",
            "user:pw@host",
            "@host",
            "a b",
            "a,b",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "a\"b",
            "a<b",
            "a|b",
            "a^b",
            "a`b",
            "a{b",
            "a%",
            "a%4",
            "a%zz",
            "a:b",
            "a:8 0",
            "a:-1",
            "a:+1",
            "a:65536",
            "a:99999999999999999999",
            "a:80:80",
            "a:80,b",
            "[",
            "[]",
            "[]:80",
            "[::1",
            "::1",
            "fe80::1",
            "[::1]80",
            "[::1]a",
            "[::g]",
            "[1.2.3.4]",
            "[::1%25eth0]",
            "[fe80::1%eth0]",
            "[v.a]",
            "[v1.]",
            "[vg.a]",
            "[v1.a b]",
            "[:::1]",
            "[12345::1]",
            "[[::1]]",
            "a[b]",
            "\u{e9}.example",
            "a\tb",
            "a\0b",
            long.as_str(),
        ];
        for text in rows {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
