//! The number that consistent hashing takes a request for.

use std::net::IpAddr;

use ringway_snapshot::upstream::{HashOn, Piece, Variable};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::http1::{FieldKind, RequestHead};

/// What of a request may be hashed.
#[derive(Debug, Clone, Copy)]
pub struct HashFacts<'a> {
    /// Its head, and the bytes in which that lies.
    pub head: &'a RequestHead,
    /// See `head`.
    pub bytes: &'a [u8],
    /// The path as it was matched.
    pub path: &'a [u8],
    /// The client's address, as text.
    pub client_ip: &'a [u8],
    /// The client's port.
    pub client_port: u16,
    /// The address that the client connected to.
    pub server_ip: IpAddr,
    /// This machine's name.
    pub hostname: &'a [u8],
}

/// A request's number. Where it lacks what is hashed, its client's address counts.
pub fn hash_of(rule: &HashOn, facts: &HashFacts<'_>) -> u64 {
    let hash = match rule {
        HashOn::Header(name) => header(facts, name.as_bytes()).map(|value| xxh3_64_with_seed(value, 0)),
        HashOn::Cookie(name) => cookie(facts, name.as_bytes()).map(|value| xxh3_64_with_seed(value, 0)),
        HashOn::Pieces(pieces) => pieces_hash(pieces, facts),
    };
    hash.unwrap_or_else(|| xxh3_64_with_seed(facts.client_ip, 0))
}

/// `None` when the request has nothing of what the pieces name.
fn pieces_hash(pieces: &[Piece], facts: &HashFacts<'_>) -> Option<u64> {
    let mut hash = 0;
    let mut known = false;
    for piece in pieces {
        let value = match piece {
            Piece::Text(text) => Some(text.as_bytes()),
            Piece::Variable(variable @ (Variable::RemotePort | Variable::ServerAddr)) => {
                known = true;
                let number = match (variable, facts.server_ip.to_canonical()) {
                    (Variable::RemotePort, _) => facts.client_port.into(),
                    (_, IpAddr::V4(ip)) => u128::from(ip.to_bits()),
                    (_, IpAddr::V6(ip)) => ip.to_bits(),
                };
                hash = xxh3_64_with_seed(&number.to_le_bytes(), hash);
                continue;
            }
            Piece::Variable(variable) => {
                let value = value(variable, facts);
                known |= value.is_some();
                value
            }
        };
        hash = xxh3_64_with_seed(value.unwrap_or_default(), hash);
    }
    known.then_some(hash)
}

fn value<'a>(variable: &Variable, facts: &HashFacts<'a>) -> Option<&'a [u8]> {
    let target = &facts.head.target;
    match variable {
        Variable::Uri => Some(facts.path),
        Variable::RequestUri => Some(target.path_and_query_bytes(facts.bytes)),
        Variable::QueryString => target.query.map(|query| query.of(facts.bytes)),
        Variable::Host => facts.head.host.map(|authority| authority.host.of(facts.bytes)),
        Variable::Hostname => Some(facts.hostname),
        Variable::RemoteAddr => Some(facts.client_ip),
        Variable::Argument(name) => argument(target.query?.of(facts.bytes), name.as_bytes()),
        Variable::Header(name) => header(facts, name.as_bytes()),
        Variable::Cookie(name) => cookie(facts, name.as_bytes()),
        Variable::RemotePort | Variable::ServerAddr => None, // Hashed as numbers.
    }
}

/// The first field of that name. `_` in the name stands for `-` too, as in nginx's variables.
fn header<'a>(facts: &HashFacts<'a>, name: &[u8]) -> Option<&'a [u8]> {
    let is_same = |given: &[u8]| {
        given.len() == name.len()
            && given.iter().zip(name).all(|(a, b)| a.eq_ignore_ascii_case(b) || (*a == b'-' && *b == b'_'))
    };
    let field = facts.head.fields.iter().find(|field| is_same(field.name.of(facts.bytes)))?;
    Some(field.value.of(facts.bytes))
}

/// RFC 6265 section 4.2.
fn cookie<'a>(facts: &HashFacts<'a>, name: &[u8]) -> Option<&'a [u8]> {
    let fields = facts.head.fields.iter().filter(|field| field.kind == FieldKind::Cookie);
    let pairs = fields.flat_map(|field| field.value.of(facts.bytes).split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"="))
}

fn argument<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    query.split(|byte| *byte == b'&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use ringway_snapshot::model::Upstream;

    use super::*;
    use crate::http1::HeadLimits;

    fn hash(hash_on: &str, key: &str, request: &str, client_ip: &str) -> u64 {
        let mut head = RequestHead::new();
        head.parse(request.as_bytes(), &HeadLimits::default()).unwrap();
        let rule = HashOn::read(&Upstream {
            hash_on: Some(hash_on.into()),
            key: Some(key.into()),
            ..Upstream::default()
        });
        let facts = HashFacts {
            head: &head,
            bytes: request.as_bytes(),
            path: b"/a",
            client_ip: client_ip.as_bytes(),
            client_port: 1,
            server_ip: IpAddr::from([10, 0, 0, 9]),
            hostname: b"n1",
        };
        hash_of(&rule.unwrap(), &facts)
    }

    const A: &str = "GET /a?x=1&id=7 HTTP/1.1\r\nHost: h:80\r\nX-User-Id: u\r\nCookie: a=b; sid=9\r\n\r\n";
    const B: &str = "GET /b?id=7 HTTP/1.1\r\nHost: h\r\nx-user-id: u\r\nCookie: sid=9\r\n\r\n";
    const C: &str = "GET /c?id=8&aid=7 HTTP/1.1\r\nHost: i\r\nX-User-Id: v\r\nCookie: sid=8; xsid=9\r\n\r\n";

    #[test]
    fn what_is_named_decides_and_nothing_else() {
        for (hash_on, key) in [
            ("header", "X-User-Id"),
            ("header", "x_user_id"),
            ("cookie", "sid"),
            ("vars", "arg_id"),
            ("vars", "host"),
        ] {
            assert_eq!(hash(hash_on, key, A, "::1"), hash(hash_on, key, B, "::2"), "{key}");
            assert_ne!(hash(hash_on, key, A, "::1"), hash(hash_on, key, C, "::1"), "{key}");
        }
        let both = "$arg_id$remote_addr";
        assert_eq!(hash("vars_combinations", both, A, "::1"), hash("vars_combinations", both, B, "::1"));
        assert_ne!(hash("vars_combinations", both, A, "::1"), hash("vars_combinations", both, B, "::2"));
    }

    #[test]
    fn without_what_is_named_the_clients_address_counts() {
        for (hash_on, key) in [
            ("header", "none"),
            ("cookie", "none"),
            ("vars", "arg_none"),
            ("vars_combinations", "-$arg_none"),
        ] {
            assert_eq!(hash(hash_on, key, A, "::1"), hash("vars", "remote_addr", C, "::1"), "{key}");
            assert_ne!(hash(hash_on, key, A, "::1"), hash(hash_on, key, A, "::2"), "{key}");
        }
    }
}
