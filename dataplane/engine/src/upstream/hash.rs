//! The number that consistent hashing takes a request for.

use std::net::IpAddr;

use ringway_snapshot::Variable;
use ringway_snapshot::upstream::{HashOn, Piece};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::facts::{Facts, Text};

/// A request's number. Where it lacks what is hashed, its client's address counts.
pub fn hash_of(rule: &HashOn, facts: &Facts<'_>) -> u64 {
    let hash = match rule {
        HashOn::Header(name) => facts.header(name.as_bytes()).map(|value| xxh3_64_with_seed(&value, 0)),
        HashOn::Cookie(name) => facts.cookie(name.as_bytes()).map(|value| xxh3_64_with_seed(value, 0)),
        HashOn::Pieces(pieces) => pieces_hash(pieces, facts),
    };
    hash.unwrap_or_else(|| xxh3_64_with_seed(facts.client_ip, 0))
}

/// `None` when the request has nothing of what the pieces name.
fn pieces_hash(pieces: &[Piece], facts: &Facts<'_>) -> Option<u64> {
    let mut hash = 0;
    let mut known = false;
    for piece in pieces {
        let value = match piece {
            Piece::Text(text) => Some(Text::Received(text.as_bytes())),
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
                let value = facts.value(variable);
                known |= value.is_some();
                value
            }
        };
        hash = xxh3_64_with_seed(value.as_deref().unwrap_or_default(), hash);
    }
    known.then_some(hash)
}

#[cfg(test)]
mod tests {
    use ringway_snapshot::model::Upstream;

    use super::*;
    use crate::facts::tests::with_facts;

    fn hash(hash_on: &str, key: &str, request: &str, client_ip: &str) -> u64 {
        let rule = HashOn::read(&Upstream {
            hash_on: Some(hash_on.into()),
            key: Some(key.into()),
            ..Upstream::default()
        });
        let rule = rule.unwrap();
        with_facts(request, |facts| {
            hash_of(&rule, &Facts { client_ip: client_ip.as_bytes(), path: b"/a", ..*facts })
        })
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
