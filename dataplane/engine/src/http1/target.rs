//! The request-target (RFC 9112 section 3.2) and which of its four forms it has.
//!
//! Beyond RFC 3986's characters some are accepted that browsers and command-line clients send raw and that
//! every widely used server takes: `| { } ^ [ ]` and the backtick anywhere, `" < > \` in the query only. A backslash in a
//! path is refused because some servers read it as `/`. Bytes from 0x80 up are refused: no client that follows
//! the URL standard sends them, and decoders differ over what they mean. A `#` is refused, because a fragment never
//! belongs on the wire. A percent sign in a path must begin a whole octet other than NUL.

use super::authority::Authority;
use super::error::HeadError;
use super::method::Method;
use super::span::Span;
use super::token;

/// Which form the target has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    #[default]
    Origin,
    Absolute(Scheme),
    Authority,
    Asterisk,
}

/// The scheme of an absolute-form target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
}

/// A validated request-target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Target {
    pub form: Form,
    /// The target as received.
    pub whole: Span,
    /// Empty in authority-form, and in an absolute-form without a path: use `path_bytes`.
    pub path: Span,
    /// What follows the first `?`, without it. `None` when there is no `?`.
    pub query: Option<Span>,
    /// Path, `?` and query as one span, with the same caution as for `path`.
    pub path_and_query: Span,
    /// The authority of an absolute-form or authority-form target.
    pub authority: Option<Authority>,
}

impl Target {
    /// Validates the target at `whole`.
    pub(crate) fn parse(buf: &[u8], whole: Span, method: Method) -> Result<Target, HeadError> {
        let bytes = whole.of(buf);
        if method == Method::Connect {
            let authority = Authority::parse(buf, whole).filter(|authority| authority.port.is_some());
            let authority = Some(authority.ok_or(HeadError::TargetForm)?);
            return Ok(Target { form: Form::Authority, whole, authority, ..Target::default() });
        }
        match bytes {
            [b'/', ..] => {
                let mut target = Target { whole, ..Target::default() };
                target.split_path(buf, whole)?;
                Ok(target)
            }
            b"*" if method == Method::Options => Ok(Target {
                form: Form::Asterisk,
                whole,
                path: whole,
                path_and_query: whole,
                ..Target::default()
            }),
            b"*" => Err(HeadError::TargetForm),
            _ => Target::absolute(buf, whole, method),
        }
    }

    /// The path a router matches: `/` for an absolute-form without a path, and `*` for the asterisk-form.
    pub fn path_bytes<'a>(&self, buf: &'a [u8]) -> &'a [u8] {
        match self.form {
            Form::Absolute(_) if self.path.is_empty() => b"/",
            _ => self.path.of(buf),
        }
    }

    fn absolute(buf: &[u8], whole: Span, method: Method) -> Result<Target, HeadError> {
        let bytes = whole.of(buf);
        let colon = bytes.iter().position(|&byte| byte == b':').ok_or(HeadError::Target)?;
        let (scheme, rest) = bytes.split_at_checked(colon).ok_or(HeadError::Target)?;
        let scheme = match scheme {
            _ if scheme.eq_ignore_ascii_case(b"http") => Scheme::Http,
            _ if scheme.eq_ignore_ascii_case(b"https") => Scheme::Https,
            _ => return Err(HeadError::Target),
        };
        let after = rest.strip_prefix(b"://").ok_or(HeadError::Target)?;
        let authority_length =
            after.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(after.len());
        let start = whole.start as usize + colon + 3;
        let path_start = start + authority_length;
        let authority = Authority::parse(buf, Span::new(start, path_start)).ok_or(HeadError::Target)?;
        let mut target =
            Target { form: Form::Absolute(scheme), whole, authority: Some(authority), ..Target::default() };
        target.split_path(buf, Span::new(path_start, whole.end as usize))?;
        // RFC 9112 section 3.2.4: OPTIONS of an absolute-form without path and query is forwarded as `*`.
        if method == Method::Options && target.path_and_query.is_empty() {
            target.form = Form::Asterisk;
        }
        Ok(target)
    }

    fn split_path(&mut self, buf: &[u8], path_and_query: Span) -> Result<(), HeadError> {
        let bytes = path_and_query.of(buf);
        let path_length = token::run(bytes, token::PATH);
        let path = bytes.get(..path_length).unwrap_or(&[]);
        if memchr::memchr(b'%', path).is_some() && !percent_octets_are_whole(path) {
            return Err(HeadError::Target);
        }
        let start = path_and_query.start as usize;
        let path_end = start + path_length;
        self.path_and_query = path_and_query;
        self.path = Span::new(start, path_end);
        self.query = match bytes.get(path_length..) {
            None | Some([]) => None,
            Some([b'?', query @ ..]) if token::run(query, token::QUERY) == query.len() => {
                Some(Span::new(path_end + 1, path_and_query.end as usize))
            }
            Some(_) => return Err(HeadError::Target),
        };
        Ok(())
    }
}

/// Whether every `%` begins two hexadecimal digits that are not `00`, which ends a string in many back ends.
fn percent_octets_are_whole(path: &[u8]) -> bool {
    let mut rest = path;
    while let Some(at) = memchr::memchr(b'%', rest) {
        match rest.get(at + 1..) {
            Some([b'0', b'0', ..]) => return false,
            Some([high, low, tail @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = tail
            }
            _ => return false,
        }
    }
    true
}
