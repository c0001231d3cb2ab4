//! How a line of the access log looks: JSON, or a pattern of `$variables` as nginx, APISIX and Apache's users know it.
//!
//! In JSON numbers are numbers, what is not known is null, and lists of tries are lists. In a pattern what is not known is `-`, and
//! tries are separated by `, `. Every byte of a client's goes through `escape.rs`. An unknown variable is refused at the start.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Try;
use super::escape::{self, CUT_MARK};
use super::moment::Moments;
use super::node::Node;
use super::record::{Bounded, Record, Text};

/// What stands for `combined`, nginx's and Apache's.
const COMBINED: &str = "$remote_addr - - [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \"$http_user_agent\"";
/// What stands for `common`.
const COMMON: &str = "$remote_addr - - [$time_local] \"$request\" $status $body_bytes_sent";

/// What a line can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    Time,
    TimeLocal,
    Msec,
    RemoteAddr,
    RemotePort,
    Request,
    Text(Text),
    Uri,
    Args,
    Protocol,
    Status,
    RequestLength,
    BytesSent,
    BodyBytesSent,
    RequestTime,
    UpstreamAddr,
    UpstreamStatus,
    UpstreamConnectTime,
    UpstreamHeaderTime,
    UpstreamResponseTime,
    Tries,
    Version,
    Core,
    ConnectionRequests,
}

/// Names in patterns. The first of a variable's names is told in errors.
const VARIABLES: [(&str, Variable); 35] = [
    ("time_iso8601", Variable::Time),
    ("time_local", Variable::TimeLocal),
    ("msec", Variable::Msec),
    ("remote_addr", Variable::RemoteAddr),
    ("remote_port", Variable::RemotePort),
    ("request", Variable::Request),
    ("request_method", Variable::Text(Text::Method)),
    ("host", Variable::Text(Text::Host)),
    ("http_host", Variable::Text(Text::Host)),
    ("request_uri", Variable::Text(Text::RequestUri)),
    ("uri", Variable::Uri),
    ("args", Variable::Args),
    ("query_string", Variable::Args),
    ("server_protocol", Variable::Protocol),
    ("status", Variable::Status),
    ("request_length", Variable::RequestLength),
    ("bytes_sent", Variable::BytesSent),
    ("body_bytes_sent", Variable::BodyBytesSent),
    ("request_time", Variable::RequestTime),
    ("upstream_addr", Variable::UpstreamAddr),
    ("upstream_status", Variable::UpstreamStatus),
    ("upstream_connect_time", Variable::UpstreamConnectTime),
    ("upstream_header_time", Variable::UpstreamHeaderTime),
    ("upstream_response_time", Variable::UpstreamResponseTime),
    ("upstream_tries", Variable::Tries),
    ("http_user_agent", Variable::Text(Text::UserAgent)),
    ("http_referer", Variable::Text(Text::Referer)),
    ("route_id", Variable::Text(Text::Route)),
    ("service_id", Variable::Text(Text::Service)),
    ("consumer_name", Variable::Text(Text::Consumer)),
    ("upstream", Variable::Text(Text::Upstream)),
    ("reason", Variable::Text(Text::Reason)),
    ("version", Variable::Version),
    ("core", Variable::Core),
    ("connection_requests", Variable::ConnectionRequests),
];

/// The fields of a JSON line in their order, each with what stands before its value.
const FIELDS: [(&str, Variable); 28] = [
    (r#"{"time":"#, Variable::Time),
    (r#","client":"#, Variable::RemoteAddr),
    (r#","client_port":"#, Variable::RemotePort),
    (r#","method":"#, Variable::Text(Text::Method)),
    (r#","host":"#, Variable::Text(Text::Host)),
    (r#","request_uri":"#, Variable::Text(Text::RequestUri)),
    (r#","protocol":"#, Variable::Protocol),
    (r#","status":"#, Variable::Status),
    (r#","reason":"#, Variable::Text(Text::Reason)),
    (r#","bytes_received":"#, Variable::RequestLength),
    (r#","bytes_sent":"#, Variable::BytesSent),
    (r#","body_bytes_sent":"#, Variable::BodyBytesSent),
    (r#","request_time":"#, Variable::RequestTime),
    (r#","upstream_addr":"#, Variable::UpstreamAddr),
    (r#","upstream_status":"#, Variable::UpstreamStatus),
    (r#","upstream_connect_time":"#, Variable::UpstreamConnectTime),
    (r#","upstream_header_time":"#, Variable::UpstreamHeaderTime),
    (r#","upstream_response_time":"#, Variable::UpstreamResponseTime),
    (r#","tries":"#, Variable::Tries),
    (r#","route_id":"#, Variable::Text(Text::Route)),
    (r#","service_id":"#, Variable::Text(Text::Service)),
    (r#","consumer":"#, Variable::Text(Text::Consumer)),
    (r#","upstream":"#, Variable::Text(Text::Upstream)),
    (r#","version":"#, Variable::Version),
    (r#","user_agent":"#, Variable::Text(Text::UserAgent)),
    (r#","referer":"#, Variable::Text(Text::Referer)),
    (r#","core":"#, Variable::Core),
    (r#","connection_requests":"#, Variable::ConnectionRequests),
];

/// A compiled format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Pattern(Vec<Piece>),
}

/// A part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    Literal(Box<str>),
    Variable(Value),
}

/// A variable of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value(Variable);

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        match text {
            "json" => Ok(Format::Json),
            "combined" => pattern(COMBINED),
            "common" => pattern(COMMON),
            other if !other.contains('$') => {
                Err("is neither json, combined nor common, and names no $variable".to_owned())
            }
            other => pattern(other),
        }
    }
}

fn pattern(text: &str) -> Result<Format, String> {
    if text.chars().any(char::is_control) {
        return Err("a line cannot hold control characters".to_owned());
    }
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((literal, behind)) = rest.split_once('$') {
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal.into()));
        }
        let (name, behind) = match behind.strip_prefix('{') {
            Some(braced) => braced.split_once('}').ok_or("a ${ without }")?,
            None => {
                let end = behind.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                behind.split_at(end.unwrap_or(behind.len()))
            }
        };
        let known = VARIABLES.iter().find(|(known, _)| *known == name);
        let (_, variable) = known.ok_or_else(|| {
            let names: Vec<&str> = VARIABLES.iter().map(|(name, _)| *name).collect();
            format!("${name} is not known; there are: ${}", names.join(" $"))
        })?;
        pieces.push(Piece::Variable(Value(*variable)));
        rest = behind;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Literal(rest.into()));
    }
    Ok(Format::Pattern(pieces))
}

/// A value on its way into a line.
enum Told<'a> {
    Nothing,
    Bytes(Bounded<'a>),
    /// Ours: nothing in it needs escaping.
    Safe(&'a [u8]),
    Number(u64),
    Seconds(u64),
}

impl Format {
    /// Appends one line.
    pub(crate) fn write(&self, record: &Record<'_>, moments: &mut Moments, out: &mut Vec<u8>) {
        match self {
            Format::Json => {
                for (name, variable) in &FIELDS {
                    out.extend_from_slice(name.as_bytes());
                    variable.json(record, moments, out);
                }
                out.push(b'}');
            }
            Format::Pattern(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Literal(text) => out.extend_from_slice(text.as_bytes()),
                        Piece::Variable(Value(variable)) => variable.plain(record, moments, out),
                    }
                }
            }
        }
        out.push(b'\n');
    }
}

impl Variable {
    fn json(self, record: &Record<'_>, moments: &mut Moments, out: &mut Vec<u8>) {
        if self.is_of_tries() {
            out.push(b'[');
            for (place, entry) in record.tries_told().iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                let mut text = [0; ADDRESS_BYTES_MAX];
                json_value(&self.of_try(entry, &mut text), out);
            }
            return out.push(b']');
        }
        json_value(&self.of(record, moments, &mut [0; ADDRESS_BYTES_MAX]), out);
    }

    fn plain(self, record: &Record<'_>, moments: &mut Moments, out: &mut Vec<u8>) {
        if self == Variable::Request {
            let (method, target) = (record.text(Text::Method), record.text(Text::RequestUri));
            if method.bytes.is_empty() {
                // A head that was refused: what came instead of it.
                return plain_value(&Told::Bytes(target), out);
            }
            plain_value(&Told::Bytes(method), out);
            out.push(b' ');
            plain_value(&Told::Bytes(target), out);
            out.push(b' ');
            return plain_value(&Variable::Protocol.of(record, moments, &mut [0; ADDRESS_BYTES_MAX]), out);
        }
        if self.is_of_tries() {
            for (place, entry) in record.tries_told().iter().enumerate() {
                if place > 0 {
                    out.extend_from_slice(b", ");
                }
                let mut text = [0; ADDRESS_BYTES_MAX];
                plain_value(&self.of_try(entry, &mut text), out);
            }
            if record.tries_told().is_empty() {
                out.push(b'-');
            }
            return;
        }
        plain_value(&self.of(record, moments, &mut [0; ADDRESS_BYTES_MAX]), out);
    }

    fn is_of_tries(self) -> bool {
        matches!(
            self,
            Variable::UpstreamAddr
                | Variable::UpstreamStatus
                | Variable::UpstreamConnectTime
                | Variable::UpstreamHeaderTime
                | Variable::UpstreamResponseTime
        )
    }

    fn of_try<'a>(self, entry: &Try, text: &'a mut [u8; ADDRESS_BYTES_MAX]) -> Told<'a> {
        let answered = entry.first_byte_us > 0;
        match self {
            Variable::UpstreamAddr => match &entry.node {
                Node::Nowhere => Told::Nothing,
                Node::Tcp(address) => Told::Safe(socket_address(text, *address)),
                Node::Unix(path) => {
                    let mut end = 0;
                    put(text, &mut end, b"unix:");
                    put(text, &mut end, path.text());
                    Told::Bytes(Bounded { bytes: text.get(..end).unwrap_or_default(), cut: path.cut })
                }
            },
            Variable::UpstreamStatus if entry.status == 0 => Told::Nothing,
            Variable::UpstreamStatus => Told::Number(u64::from(entry.status)),
            Variable::UpstreamConnectTime => Told::Seconds(u64::from(entry.connect_us)),
            Variable::UpstreamHeaderTime if !answered => Told::Nothing,
            Variable::UpstreamHeaderTime => Told::Seconds(u64::from(entry.first_byte_us)),
            _ => Told::Seconds(u64::from(entry.total_us)),
        }
    }

    fn of<'a>(
        self,
        record: &Record<'a>,
        moments: &'a mut Moments,
        text: &'a mut [u8; ADDRESS_BYTES_MAX],
    ) -> Told<'a> {
        let target = record.text(Text::RequestUri);
        let question = target.bytes.iter().position(|byte| *byte == b'?');
        match self {
            Variable::Time => Told::Safe(moments.iso8601(record.ended_us)),
            Variable::TimeLocal => Told::Safe(moments.common(record.ended_us)),
            Variable::Msec => Told::Seconds(record.ended_us / 1_000 * 1_000),
            Variable::RemoteAddr => Told::Safe(ip_address(text, record.client.ip())),
            Variable::RemotePort => Told::Number(u64::from(record.client.port())),
            Variable::Text(name) => Told::Bytes(record.text(name)),
            Variable::Uri => {
                let bytes = target.bytes.get(..question.unwrap_or(target.bytes.len())).unwrap_or_default();
                Told::Bytes(Bounded { bytes, cut: target.cut && question.is_none() })
            }
            Variable::Args => question.map_or(Told::Nothing, |at| {
                Told::Bytes(Bounded {
                    bytes: target.bytes.get(at + 1..).unwrap_or_default(),
                    cut: target.cut,
                })
            }),
            Variable::Protocol if record.text(Text::Method).bytes.is_empty() => Told::Nothing,
            Variable::Protocol => Told::Safe(if record.minor == 0 { b"HTTP/1.0" } else { b"HTTP/1.1" }),
            Variable::Status => Told::Number(u64::from(record.status)),
            Variable::RequestLength => Told::Number(record.received_bytes),
            Variable::BytesSent => Told::Number(record.sent_bytes),
            Variable::BodyBytesSent => Told::Number(record.body_bytes),
            Variable::RequestTime => Told::Seconds(record.request_us),
            Variable::Tries => Told::Number(u64::from(record.try_count)),
            Variable::Version if record.revision == 0 => Told::Nothing,
            Variable::Version => {
                Told::Safe(written(text, format_args!("{}:{}", record.timeline, record.revision)))
            }
            Variable::Core => Told::Number(u64::from(record.core)),
            Variable::ConnectionRequests => Told::Number(record.connection_requests),
            // Those of tries and the whole request line are written by the callers.
            _ => Told::Nothing,
        }
    }
}

/// The longest text of an IPv6 address with its port, and of a version.
const ADDRESS_BYTES_MAX: usize = 64;

/// Writes an address into `text`. Those of IPv4 without the machinery of formatting, as each line has two.
fn ip_address(text: &mut [u8; ADDRESS_BYTES_MAX], ip: IpAddr) -> &[u8] {
    match ip {
        IpAddr::V4(ip) => {
            let end = ipv4(text, ip);
            text.get(..end).unwrap_or_default()
        }
        IpAddr::V6(ip) => written(text, ip),
    }
}

fn socket_address(text: &mut [u8; ADDRESS_BYTES_MAX], address: SocketAddr) -> &[u8] {
    match address {
        SocketAddr::V4(address) => {
            let mut end = ipv4(text, *address.ip());
            put(text, &mut end, b":");
            put(text, &mut end, Digits::of(u64::from(address.port())).text());
            text.get(..end).unwrap_or_default()
        }
        SocketAddr::V6(address) => written(text, address),
    }
}

fn ipv4(text: &mut [u8; ADDRESS_BYTES_MAX], ip: Ipv4Addr) -> usize {
    let mut end = 0;
    for (place, octet) in ip.octets().into_iter().enumerate() {
        if place > 0 {
            put(text, &mut end, b".");
        }
        put(text, &mut end, Digits::of(u64::from(octet)).text());
    }
    end
}

fn put(text: &mut [u8; ADDRESS_BYTES_MAX], end: &mut usize, bytes: &[u8]) {
    if let Some(room) = text.get_mut(*end..*end + bytes.len()) {
        room.copy_from_slice(bytes);
        *end += bytes.len();
    }
}

/// Writes something short into `text`.
fn written(text: &mut [u8; ADDRESS_BYTES_MAX], what: impl std::fmt::Display) -> &[u8] {
    let mut left = text.as_mut_slice();
    // What does not fit is left out, and all that is written here fits.
    let _ = write!(left, "{what}");
    let unused = left.len();
    text.get(..ADDRESS_BYTES_MAX - unused).unwrap_or_default()
}

fn json_value(told: &Told<'_>, out: &mut Vec<u8>) {
    match told {
        Told::Nothing => out.extend_from_slice(b"null"),
        Told::Bytes(text) if text.bytes.is_empty() => out.extend_from_slice(b"null"),
        Told::Bytes(text) => {
            out.push(b'"');
            escape::json(text.bytes, out);
            if text.cut {
                out.extend_from_slice(CUT_MARK.as_bytes());
            }
            out.push(b'"');
        }
        Told::Safe(text) => {
            out.push(b'"');
            out.extend_from_slice(text);
            out.push(b'"');
        }
        Told::Number(number) => decimal(*number, out),
        Told::Seconds(us) => seconds(*us, out),
    }
}

fn plain_value(told: &Told<'_>, out: &mut Vec<u8>) {
    match told {
        Told::Nothing => out.push(b'-'),
        Told::Bytes(text) if text.bytes.is_empty() => out.push(b'-'),
        Told::Bytes(text) => {
            escape::plain(text.bytes, out);
            if text.cut {
                out.extend_from_slice(CUT_MARK.as_bytes());
            }
        }
        Told::Safe(text) => out.extend_from_slice(text),
        Told::Number(number) => decimal(*number, out),
        Told::Seconds(us) => seconds(*us, out),
    }
}

/// A number's decimal digits.
struct Digits {
    bytes: [u8; 20],
    start: usize,
}

impl Digits {
    fn of(number: u64) -> Digits {
        let mut digits = Digits { bytes: [b'0'; 20], start: 20 };
        let mut left = number;
        for (place, digit) in digits.bytes.iter_mut().enumerate().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
            digits.start = place;
            if left == 0 {
                break;
            }
        }
        digits
    }

    fn text(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// The last six, with zeros in front.
    fn six(&self) -> &[u8] {
        self.bytes.get(14..).unwrap_or_default()
    }
}

/// Appends a number.
fn decimal(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(Digits::of(number).text());
}

/// Appends six digits of a number below a million.
pub(super) fn six_digits(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(Digits::of(number).six());
}

/// Appends microseconds as seconds, with all six places.
fn seconds(us: u64, out: &mut Vec<u8>) {
    decimal(us / 1_000_000, out);
    out.push(b'.');
    six_digits(us % 1_000_000, out);
}

#[cfg(test)]
mod tests {
    use super::super::node::Path;
    use super::super::record::sample;
    use super::*;
    use proptest::prelude::*;

    fn line(format: &str, record: &Record<'_>) -> String {
        let mut out = Vec::new();
        format.parse::<Format>().unwrap().write(record, &mut Moments::default(), &mut out);
        String::from_utf8(out).unwrap()
    }

    const TEXTS: [&[u8]; 10] =
        [b"GET", b"shop.test", b"/a?b=\"c\"", b"curl/8", b"", b"cart", b"", b"upstreams/shop", b"", b"jack"];

    #[test]
    fn json_has_numbers_lists_and_nulls() {
        let value: serde_json::Value = serde_json::from_str(&line("json", &sample(TEXTS))).unwrap();
        let expected = serde_json::json!({
            "time": "2026-11-23T13:47:53.123456Z", "client": "192.0.2.7", "client_port": 51_000, "method": "GET",
            "host": "shop.test", "request_uri": "/a?b=\"c\"", "protocol": "HTTP/1.1", "status": 200, "reason": null,
            "bytes_received": 320, "bytes_sent": 5_432, "body_bytes_sent": 5_120, "request_time": 2.0017,
            "upstream_addr": ["[2001:db8::1]:80", "10.0.0.5:8080"], "upstream_status": [null, 200],
            "upstream_connect_time": [0.0, 0.00015], "upstream_header_time": [null, 0.0012],
            "upstream_response_time": [2.0, 0.0015], "tries": 2, "route_id": "cart", "service_id": null, "consumer": "jack",
            "upstream": "upstreams/shop", "version": "1:42", "user_agent": "curl/8", "referer": null, "core": 3,
            "connection_requests": 2,
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn patterns_are_nginxs() {
        let record = sample(TEXTS);
        assert_eq!(
            line("combined", &record),
            "192.0.2.7 - - [23/Nov/2026:13:47:53 +0000] \"GET /a?b=\\x22c\\x22 HTTP/1.1\" 200 5120 \"-\" \"curl/8\"\n"
        );
        assert_eq!(
            line("$upstream_addr|${upstream_status}x|$uri|$args|$msec|$request_time|$reason", &record),
            "[2001:db8::1]:80, 10.0.0.5:8080|-, 200x|/a|b=\\x22c\\x22|1795441673.123000|2.001700|-\n"
        );
        let mut local = record;
        (local.try_count, local.tries[0].node) = (1, Node::Unix(Path::new(b"/run/a.sock", false)));
        assert_eq!(line("$upstream_addr", &local), "unix:/run/a.sock\n");
        let mut refused = record;
        refused.texts = TEXTS.map(|_| Bounded::default());
        (refused.try_count, refused.revision) = (0, 0);
        refused.texts[Text::RequestUri as usize].bytes = b"\x16\x03";
        assert_eq!(line("$request $upstream_addr $version", &refused), "\\x16\\x03 - -\n");
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (format, told) in
            [("$nope", "$nope"), ("plain", "neither"), ("${status", "without }"), ("$status\n", "control")]
        {
            let error = format.parse::<Format>().unwrap_err();
            assert!(error.contains(told), "{format}: {error}");
        }
    }

    #[test]
    fn a_text_that_was_cut_says_so() {
        let mut record = sample(TEXTS);
        record.texts[Text::RequestUri as usize].cut = true;
        assert!(line("json", &record).contains("/a?b=\\\"c\\\"…\""));
    }

    proptest! {
        #[test]
        fn any_texts_give_one_line_of_json(texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 10)) {
            let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
            let record = sample(texts.try_into().unwrap());
            let json = line("json", &record);
            prop_assert_eq!(json.matches('\n').count(), 1);
            let value: serde_json::Value = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(&value["status"], 200);
            prop_assert_eq!(value.as_object().unwrap().len(), FIELDS.len());
            let combined = line("combined", &record);
            prop_assert_eq!((combined.matches('\n').count(), combined.matches('"').count()), (1, 6));
        }
    }
}
