//! What is known of a request beside its route: the values of nginx's variables, for conditions, hashing and plugins.
//!
//! Everything is borrowed from the head as it was received, with its fields as plugins have changed them; only what is no piece of it (a port, an argument that was
//! escaped) is written out, in place unless it is long. Names match as in nginx and APISIX: `_` in `http_NAME` stands for `-`, arguments are
//! unescaped, fields that repeat are joined.

use std::cell::Cell;
use std::io::Write as _;
use std::net::IpAddr;
use std::ops::Deref;

use ringway_snapshot::Variable;
use smallvec::SmallVec;

use crate::consumer::Caller;
use crate::content::{Content, Found, Value};
use crate::http1::{FieldKind, RequestHead, Version};
use crate::plugin::Edits;
use crate::route::Captures;
use crate::view::Target;

/// See the module.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The request's head, and the bytes in which that lies.
    pub head: &'a RequestHead,
    /// See `head`.
    pub bytes: &'a [u8],
    /// What plugins have changed of its fields so far.
    pub edits: Option<&'a Edits>,
    /// Its content, as far as that may be looked at.
    pub content: Known<'a>,
    /// The path as it is matched.
    pub path: &'a [u8],
    /// The parameters of the route's pattern, once it is known.
    pub parameters: Option<&'a Captures>,
    /// The route, once it is known, for plugins.
    pub route: Option<&'a Target>,
    /// Its consumer, once a plugin has found it.
    pub caller: Option<&'a Caller>,
    /// The client's address, as text.
    pub client_ip: &'a [u8],
    /// The client's port.
    pub client_port: u16,
    /// The address that the client connected to.
    pub server_ip: IpAddr,
    /// The port that the client connected to.
    pub server_port: u16,
    /// This machine's name.
    pub hostname: &'a [u8],
    /// The status of the answer, once there is one.
    pub status: Option<u16>,
    /// The same where it is a node's, or stands for that of a node that gave none.
    pub upstream_status: Option<u16>,
}

/// What is known of a request's content.
#[derive(Debug, Clone, Copy, Default)]
pub enum Known<'a> {
    /// There is none, or nobody can look into it.
    #[default]
    Nothing,
    /// It may be looked into once it has been read. Whoever asks for it says so here, and until then sees nothing.
    Unread(&'a Cell<bool>),
    /// This.
    Read(&'a Content),
}

/// A variable's value.
#[derive(Debug, Clone)]
pub enum Text<'a> {
    /// Part of the request.
    Received(&'a [u8]),
    /// Written out.
    Made(SmallVec<[u8; 48]>),
}

impl Deref for Text<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Text::Received(bytes) => bytes,
            Text::Made(bytes) => bytes,
        }
    }
}

impl<'a> Facts<'a> {
    /// A variable's value; `None` where the request lacks it.
    pub fn value(&self, variable: &Variable) -> Option<Text<'a>> {
        let target = &self.head.target;
        let received = match variable {
            Variable::Uri => Some(self.path),
            Variable::RequestUri => Some(target.path_and_query_bytes(self.bytes)),
            Variable::QueryString => self.query(),
            Variable::IsArgs => Some(if self.query().is_some() { &b"?"[..] } else { b"" }),
            Variable::Host => return self.host(),
            Variable::Hostname => Some(self.hostname),
            Variable::Method => Some(self.head.method_span.of(self.bytes)),
            Variable::Scheme => Some(&b"http"[..]),
            Variable::Protocol => Some(match self.head.version {
                Version::Http10 => &b"HTTP/1.0"[..],
                Version::Http11 => b"HTTP/1.1",
            }),
            Variable::RemoteAddr => Some(self.client_ip),
            Variable::RemotePort => return Some(written(self.client_port)),
            Variable::ServerAddr => return Some(written(self.server_ip.to_canonical())),
            Variable::ServerPort => return Some(written(self.server_port)),
            Variable::Argument(name) => return self.argument(name.as_bytes()),
            Variable::Header(name) => return self.header(name.as_bytes()),
            Variable::Cookie(name) => self.cookie(name.as_bytes()),
            Variable::FormField(name) => {
                self.content.look().and_then(|content| content.form_field(name.as_bytes()))
            }
            Variable::InBody(path) => {
                return self.content.look().and_then(|content| one(&content.find(path)));
            }
            Variable::Parameter(name) => {
                self.parameters.and_then(|parameters| parameters.get(name, self.path))
            }
            Variable::Status => return self.status.map(written),
            Variable::UpstreamStatus => return self.upstream_status.map(written),
            Variable::RouteId => self.route.map(|route| route.about.route_id.as_bytes()),
            Variable::RouteName => {
                self.route.and_then(|route| route.about.route.name.as_deref()).map(str::as_bytes)
            }
            Variable::ConsumerName => self.caller.map(|caller| caller.name().as_bytes()),
            Variable::ConsumerGroup => {
                self.caller.and_then(|caller| caller.group.as_deref()).map(str::as_bytes)
            }
            Variable::ServiceId => {
                self.route.and_then(|route| route.about.service_id.as_deref()).map(str::as_bytes)
            }
        };
        received.map(Text::Received)
    }

    /// The query without its question mark.
    pub fn query(&self) -> Option<&'a [u8]> {
        self.head.target.query.map(|query| query.of(self.bytes))
    }

    /// The first argument of that name; one without `=` has no text.
    pub fn argument(&self, name: &[u8]) -> Option<Text<'a>> {
        argument(self.query()?, name)
    }

    /// The value of a field; of several they are joined. `_` in the name stands for `-` too.
    pub fn header(&self, name: &[u8]) -> Option<Text<'a>> {
        let Some(edits) = self.edits else { return joined(name, self.received(name)) };
        let received = self.received(name).filter(|_| !edits.replaces(name));
        joined(name, received.chain(edits.values(name)))
    }

    /// The values of a field as the client sent it, whatever plugins made of it.
    pub fn received(&self, name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        let Facts { head, bytes, .. } = *self;
        let fields = head.fields.iter().filter(move |field| is_same(field.name.of(bytes), name));
        fields.map(move |field| field.value.of(bytes))
    }

    /// In lower case, as nginx has it.
    fn host(&self) -> Option<Text<'a>> {
        let host = self.head.host?.host.of(self.bytes);
        if host.iter().any(u8::is_ascii_uppercase) {
            return Some(Text::Made(host.iter().map(u8::to_ascii_lowercase).collect()));
        }
        Some(Text::Received(host))
    }

    /// A cookie's value (RFC 6265 section 4.2).
    pub fn cookie(&self, name: &[u8]) -> Option<&'a [u8]> {
        let Facts { head, bytes, edits, .. } = *self;
        let is_replaced = edits.is_some_and(|edits| edits.replaces(b"cookie"));
        let fields = head.fields.iter().filter(|field| field.kind == FieldKind::Cookie && !is_replaced);
        let added = edits.into_iter().flat_map(|edits| edits.values(b"cookie"));
        let values = fields.map(|field| field.value.of(bytes)).chain(added);
        let pairs = values.flat_map(|value| value.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
        pairs.into_iter().find_map(|pair| pair.strip_prefix(name)?.strip_prefix(b"="))
    }
}

impl<'a> Known<'a> {
    /// The content, where it has been read; where it has not, it is noted that somebody wants it.
    pub fn look(self) -> Option<&'a Content> {
        match self {
            Known::Nothing => None,
            Known::Unread(wanted) => {
                wanted.set(true);
                None
            }
            Known::Read(content) => Some(content),
        }
    }
}

/// A value of the content as text; lists and objects are none.
pub(crate) fn one<'a>(found: &Found<'a>) -> Option<Text<'a>> {
    match *found {
        Found::One(Value::Text(text)) => Some(Text::Received(text)),
        Found::One(Value::Number(number)) => Some(written(*number)),
        Found::One(Value::Bool(value)) => Some(Text::Received(if *value { b"true" } else { b"false" })),
        _ => None,
    }
}

/// Whether a field's name is the one that is asked for.
pub(crate) fn is_same(given: &[u8], name: &[u8]) -> bool {
    given.len() == name.len()
        && given.iter().zip(name).all(|(a, b)| a.eq_ignore_ascii_case(b) || (*a == b'-' && *b == b'_'))
}

fn joined<'a>(name: &[u8], mut values: impl Iterator<Item = &'a [u8]>) -> Option<Text<'a>> {
    let first = values.next()?;
    let Some(second) = values.next() else { return Some(Text::Received(first)) };
    let separator: &[u8] = if name.eq_ignore_ascii_case(b"cookie") { b"; " } else { b", " };
    let mut joined = SmallVec::from_slice(first);
    for value in std::iter::once(second).chain(values) {
        joined.extend_from_slice(separator);
        joined.extend_from_slice(value);
    }
    Some(Text::Made(joined))
}

/// The first argument of that name; one without `=` has no text.
fn argument<'a>(query: &'a [u8], name: &[u8]) -> Option<Text<'a>> {
    query.split(|byte| *byte == b'&').find_map(|pair| {
        let mut parts = pair.splitn(2, |byte| *byte == b'=');
        let (key, value) = (parts.next()?, parts.next().unwrap_or_default());
        (*unescaped(key) == *name).then(|| unescaped(value))
    })
}

/// Without `%41` and `+`. A percent sign that escapes nothing stays.
pub(crate) fn unescaped(text: &[u8]) -> Text<'_> {
    if memchr::memchr2(b'%', b'+', text).is_none() {
        return Text::Received(text);
    }
    let hex = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut made = SmallVec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, behind)) = rest.split_first() {
        let escaped = hex(behind.first()).zip(hex(behind.get(1))).filter(|_| *byte == b'%');
        (rest, _) = match escaped {
            Some((high, low)) => {
                made.push((high * 16 + low) as u8);
                (behind.get(2..).unwrap_or_default(), ())
            }
            None => {
                made.push(if *byte == b'+' { b' ' } else { *byte });
                (behind, ())
            }
        };
    }
    Text::Made(made)
}

fn written<'a>(value: impl std::fmt::Display) -> Text<'a> {
    let mut made: SmallVec<[u8; 48]> = SmallVec::new();
    // Writing to memory does not fail.
    let _ = write!(made, "{value}");
    Text::Made(made)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::http1::HeadLimits;

    /// Calls `look` with the facts of a request from 10.0.0.1:5000 to port 80 of 10.0.0.9.
    pub(crate) fn with_facts<R>(request: &str, look: impl FnOnce(&Facts<'_>) -> R) -> R {
        let mut head = RequestHead::new();
        head.parse(request.as_bytes(), &HeadLimits::default()).unwrap();
        let bytes = request.as_bytes();
        look(&Facts {
            head: &head,
            bytes,
            edits: None,
            content: Known::Nothing,
            path: head.target.path_bytes(bytes),
            parameters: None,
            route: None,
            caller: None,
            client_ip: b"10.0.0.1",
            client_port: 5000,
            server_ip: IpAddr::from([10, 0, 0, 9]),
            server_port: 80,
            hostname: b"n1",
            status: None,
            upstream_status: None,
        })
    }

    #[test]
    fn every_variable_has_its_value() {
        let request = "POST /a/b?x=1&y=a%20b+c&z&x=2&e=%zz HTTP/1.1\r\nHost: Shop.Example:8080\r\nX-User-Id: u\r\nAccept: a\r\n\
            Accept: b\r\nCookie: a=b; sid=9\r\nCookie: c=d\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc";
        with_facts(request, |facts| {
            for (name, value) in [
                ("uri", Some("/a/b")),
                ("request_uri", Some("/a/b?x=1&y=a%20b+c&z&x=2&e=%zz")),
                ("args", Some("x=1&y=a%20b+c&z&x=2&e=%zz")),
                ("is_args", Some("?")),
                ("host", Some("shop.example")),
                ("http_host", Some("Shop.Example:8080")),
                ("hostname", Some("n1")),
                ("request_method", Some("POST")),
                ("scheme", Some("http")),
                ("server_protocol", Some("HTTP/1.1")),
                ("remote_addr", Some("10.0.0.1")),
                ("remote_port", Some("5000")),
                ("server_addr", Some("10.0.0.9")),
                ("server_port", Some("80")),
                ("arg_x", Some("1")),
                ("arg_y", Some("a b c")),
                ("arg_z", Some("")),
                ("arg_e", Some("%zz")),
                ("arg_none", None),
                ("http_x_user_id", Some("u")),
                ("http_accept", Some("a, b")),
                ("http_none", None),
                ("cookie_sid", Some("9")),
                ("cookie_c", Some("d")),
                ("cookie_id", None),
                ("content_type", Some("text/plain")),
                ("content_length", Some("3")),
                ("uri_param_id", None),
            ] {
                let variable = Variable::read(name).unwrap();
                let found = facts.value(&variable).map(|text| String::from_utf8_lossy(&text).into_owned());
                assert_eq!(found.as_deref(), value, "{name}");
            }
        });
    }

    #[test]
    fn fields_are_as_plugins_left_them_and_as_they_came() {
        let request =
            "GET / HTTP/1.1\r\nHost: h\r\nX-Own: a\r\nX-More: b\r\nX-Gone: c\r\nCookie: k=1\r\n\r\n";
        with_facts(request, |facts| {
            let mut edits = Edits::default();
            edits.set(b"x-own", b"new");
            edits.add_with(b"X-More", |out| out.extend_from_slice(b"d"));
            edits.remove(b"x-gone");
            edits.set(b"Cookie", b"k=2; l=3");
            let changed = Facts { edits: Some(&edits), ..*facts };
            for (name, before, after) in [
                ("x_own", Some("a"), Some("new")),
                ("x-more", Some("b"), Some("b, d")),
                ("X-Gone", Some("c"), None),
                ("x-none", None, None),
            ] {
                let value = |facts: &Facts<'_>| {
                    facts.header(name.as_bytes()).map(|text| String::from_utf8_lossy(&text).into_owned())
                };
                assert_eq!((value(facts).as_deref(), value(&changed).as_deref()), (before, after), "{name}");
            }
            assert_eq!((facts.cookie(b"k"), facts.cookie(b"l")), (Some(&b"1"[..]), None));
            assert_eq!((changed.cookie(b"k"), changed.cookie(b"l")), (Some(&b"2"[..]), Some(&b"3"[..])));
            assert_eq!(changed.received(b"x-own").collect::<Vec<_>>(), [b"a"]);
        });
    }
}
