//! `hash_on` and `key`: what of a request consistent hashing hashes.
//!
//! Refused by name: variables that only layer 4 has. Where a request lacks what is hashed, its client's address is hashed, as APISIX
//! does; with `consumer` that is every request whose consumer no plugin has found.

use super::Wrong;
use crate::model::Upstream;
use crate::variable::Variable;

/// What is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// A header's value.
    Header(Box<str>),
    /// A cookie's value.
    Cookie(Box<str>),
    /// Variables and text between them; one variable is `hash_on: vars`, the consumer's name `hash_on: consumer`.
    Pieces(Box<[Piece]>),
}

/// A part of a combination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The same for every request.
    Text(Box<str>),
    /// Of the request.
    Variable(Variable),
}

impl HashOn {
    /// Reads both fields of a `chash` upstream.
    pub fn read(upstream: &Upstream) -> Result<HashOn, Wrong> {
        let wrong = |field: &str, reason: &str| (format!("/{field}"), reason.to_owned());
        let key = upstream.key.as_deref().filter(|key| !key.is_empty());
        let name = |key: Option<&str>| {
            let key = key.ok_or_else(|| wrong("key", "is missing: a \"chash\" upstream needs it"))?;
            if key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
                Ok(key.into())
            } else {
                Err(wrong("key", "must consist of letters, digits, '-' and '_'"))
            }
        };
        match upstream.hash_on.as_deref().unwrap_or("vars") {
            "header" => Ok(HashOn::Header(name(key)?)),
            "cookie" => Ok(HashOn::Cookie(name(key)?)),
            "vars" => {
                let key = key.ok_or_else(|| wrong("key", "is missing: a \"chash\" upstream needs it"))?;
                let variable = Variable::read(key).ok().filter(|known| is_hashed(known, true));
                let variable = variable.ok_or_else(|| {
                    wrong("key", "must be uri, request_uri, query_string, host, hostname, server_name, server_addr, remote_addr, remote_port or arg_NAME")
                })?;
                Ok(HashOn::Pieces([Piece::Variable(variable)].into()))
            }
            "vars_combinations" => {
                let key = key.ok_or_else(|| wrong("key", "is missing: a \"chash\" upstream needs it"))?;
                pieces(key).map(HashOn::Pieces).map_err(|reason| ("/key".to_owned(), reason))
            }
            // A `key` is not looked at, as in APISIX.
            "consumer" => Ok(HashOn::Pieces([Piece::Variable(Variable::ConsumerName)].into())),
            _ => Err(wrong("hash_on", "must be vars, header, cookie, consumer or vars_combinations")),
        }
    }
}

impl HashOn {
    /// Whether the request's body has to be read for it.
    pub fn needs_body(&self) -> bool {
        matches!(self, HashOn::Pieces(pieces) if pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Variable(variable) if variable.needs_body())))
    }
}

/// Of the variables those that APISIX hashes; it has `hash_on: header` and `cookie` for others.
fn is_hashed(variable: &Variable, stands_alone: bool) -> bool {
    match variable {
        Variable::Uri
        | Variable::RequestUri
        | Variable::QueryString
        | Variable::Host
        | Variable::Hostname
        | Variable::RemoteAddr
        | Variable::RemotePort
        | Variable::ServerAddr => true,
        // An argument's name is as APISIX's schema has it.
        Variable::Argument(name) => {
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
        }
        Variable::Header(_) | Variable::Cookie(_) | Variable::FormField(_) => !stands_alone,
        _ => false,
    }
}

/// `$request_uri$remote_addr`, `${arg_a}:${arg_b}`.
fn pieces(key: &str) -> Result<Box<[Piece]>, String> {
    let mut pieces = Vec::new();
    let mut rest = key;
    while !rest.is_empty() {
        let Some(after) = rest.strip_prefix('$') else {
            let end = rest.find('$').unwrap_or(rest.len());
            let (text, behind) = rest.split_at(end);
            pieces.push(Piece::Text(text.into()));
            rest = behind;
            continue;
        };
        let (name, behind) = match after.strip_prefix('{') {
            Some(inner) => inner.split_once('}').ok_or_else(|| "a '{' is not closed".to_owned())?,
            None => {
                let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
                after.split_at(end)
            }
        };
        let variable = Variable::read(name).ok().filter(|known| is_hashed(known, false));
        let variable = variable.ok_or_else(|| format!("\"${name}\" is not a known variable"))?;
        pieces.push(Piece::Variable(variable));
        rest = behind;
    }
    if pieces.iter().any(|piece| matches!(piece, Piece::Variable(_))) {
        Ok(pieces.into())
    } else {
        Err("names no variable: \"$request_uri$remote_addr\"".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(hash_on: Option<&str>, key: Option<&str>) -> Result<HashOn, Wrong> {
        let owned = |text: Option<&str>| text.map(Into::into);
        HashOn::read(&Upstream { hash_on: owned(hash_on), key: owned(key), ..Upstream::default() })
    }

    #[test]
    fn what_apisix_accepts_is_read() {
        let variable = |variable| Ok(HashOn::Pieces([Piece::Variable(variable)].into()));
        assert_eq!(read(None, Some("remote_addr")), variable(Variable::RemoteAddr));
        assert_eq!(
            read(Some("vars"), Some("arg_device_id")),
            variable(Variable::Argument("device_id".into()))
        );
        assert_eq!(read(Some("header"), Some("custom_header")), Ok(HashOn::Header("custom_header".into())));
        assert_eq!(read(Some("cookie"), Some("a-b")), Ok(HashOn::Cookie("a-b".into())));
        let both = [Piece::Variable(Variable::RequestUri), Piece::Variable(Variable::RemoteAddr)];
        assert_eq!(
            read(Some("vars_combinations"), Some("$request_uri$remote_addr")),
            Ok(HashOn::Pieces(both.into()))
        );
        assert_eq!(read(Some("consumer"), None), variable(Variable::ConsumerName));
        let mixed = [
            Piece::Text("a".into()),
            Piece::Variable(Variable::Header("x-b".into())),
            Piece::Text("-".into()),
        ];
        assert_eq!(read(Some("vars_combinations"), Some("a${http_x_b}-")), Ok(HashOn::Pieces(mixed.into())));
        assert!(read(Some("vars_combinations"), Some("$post_arg_a")).is_ok_and(|read| read.needs_body()));
    }

    #[test]
    fn what_it_refuses_is_refused_at_its_place() {
        for (hash_on, key, place) in [
            (None, None, "/key"),
            (Some("header"), None, "/key"),
            (Some("cookie"), Some("$#^@abc"), "/key"),
            (Some("vars"), Some("not_support"), "/key"),
            (Some("vars"), Some("mqtt_client_id"), "/key"),
            (Some("vars"), Some("http_a"), "/key"),
            (Some("vars"), Some("post_arg_a"), "/key"),
            (Some("vars_combinations"), Some("text"), "/key"),
            (Some("vars_combinations"), Some("${uri"), "/key"),
            (Some("vars_combinations"), Some("$nope"), "/key"),
            (Some("aabbcc"), Some("dsadas"), "/hash_on"),
        ] {
            assert_eq!(read(hash_on, key).unwrap_err().0, place, "{hash_on:?} {key:?}");
        }
    }
}
