//! The head of a request: parsed in place, judged as a whole, reusable.
//!
//! Refuses whatever two servers could read differently; see `line.rs` for the characters, `target.rs` for the
//! target, `authority.rs` for Host and `framing.rs` for the body. It does not judge whether a method is allowed or a
//! path exists.
//!
//! Invariant: after `Done`, every span lies inside the first `head_bytes` bytes.

use super::authority::Authority;
use super::error::HeadError;
use super::field::{Field, FieldKind};
use super::framing::{BodyFraming, Side, Signals};
use super::line::{HeadLimits, Progress, field_section};
use super::method::Method;
use super::span::{Parse, Span, Version};
use super::target::Target;
use super::token;

/// A protocol the client offers to change to (RFC 9110 section 7.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upgrade {
    pub protocols: Span,
    /// The one field that says exactly `websocket`. Nothing else is safe to pass on without knowing it: `h2c` for
    /// one would open an unfiltered connection.
    pub is_websocket: bool,
}

/// A parsed request head. Spans are offsets into the buffer given to `parse`.
#[derive(Debug, Default)]
pub struct RequestHead {
    pub method: Method,
    pub method_span: Span,
    pub target: Target,
    pub version: Version,
    pub fields: Vec<Field>,
    /// Length of the head with its empty line and any empty lines before it: the body begins here.
    pub head_bytes: usize,
    pub body: BodyFraming,
    /// Whether the client lets the connection carry another request.
    pub keep_alive: bool,
    /// The client waits for 100 (Continue) before it sends the body that follows.
    pub expect_continue: bool,
    pub upgrade: Option<Upgrade>,
    /// The authority the request is for: the target's, or else Host's. `None` only for HTTP/1.0 without Host.
    pub host: Option<Authority>,
    /// The client accepts trailers.
    pub te_trailers: bool,
    /// How many more times a TRACE or OPTIONS may be forwarded (RFC 9110 section 7.6.2); at 0 it must not be. The
    /// encoder counts down.
    pub max_forwards: Option<u64>,
    /// Names that Connection nominates for removal.
    pub(crate) nominated: Vec<Span>,
    progress: Progress,
}

impl RequestHead {
    pub fn new() -> RequestHead {
        RequestHead::default()
    }

    /// Forgets everything, keeping the allocations. Needed only when a head that was `Partial` is abandoned.
    pub fn reset(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        let mut nominated = std::mem::take(&mut self.nominated);
        fields.clear();
        nominated.clear();
        *self = RequestHead { fields, nominated, ..RequestHead::default() };
    }

    /// Parses the head at the front of `buf`. After `Partial`, call again with the same bytes and more behind them;
    /// after `Done` or an error the next call begins a new head.
    pub fn parse(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Parse<()>, HeadError> {
        let resumes = self.progress.seen > 0 && self.progress.seen <= buf.len();
        if !resumes {
            self.reset();
        }
        let parsed = self.advance(buf, limits);
        if !matches!(parsed, Ok(Parse::Partial)) {
            self.progress = Progress::default();
        }
        parsed
    }

    /// The first value of a field, by its kind.
    pub fn value<'a>(&self, buf: &'a [u8], kind: FieldKind) -> Option<&'a [u8]> {
        self.fields.iter().find(|field| field.kind == kind).map(|field| field.value.of(buf))
    }

    /// All values of a field, by its name.
    pub fn values<'a>(&self, buf: &'a [u8], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |field| field.name.of(buf).eq_ignore_ascii_case(name))
            .map(move |field| field.value.of(buf))
    }

    fn advance(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Parse<()>, HeadError> {
        if !self.progress.worth_parsing(buf)? {
            return self.partial(buf, limits);
        }
        if !self.progress.start_line_done && !self.request_line(buf, limits)? {
            return self.partial(buf, limits);
        }
        match field_section(buf, &mut self.progress, &mut self.fields, limits.fields_max, false)? {
            None => self.partial(buf, limits),
            Some(end) if end > limits.head_bytes_max => Err(HeadError::HeadTooLarge),
            Some(end) => {
                self.head_bytes = end;
                self.judge(buf)?;
                Ok(Parse::Done(()))
            }
        }
    }

    /// More bytes are needed; refuses when the limits leave no room for them.
    fn partial(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Parse<()>, HeadError> {
        self.progress.seen = buf.len();
        if !self.progress.start_line_done {
            let line_bytes = buf.len().saturating_sub(self.progress.line_start);
            if line_bytes > limits.method_bytes_max + limits.target_bytes_max + REQUEST_LINE_REST_BYTES {
                return Err(HeadError::TargetTooLong);
            }
        }
        if buf.len() >= limits.head_bytes_max {
            return Err(HeadError::HeadTooLarge);
        }
        Ok(Parse::Partial)
    }

    /// Reads the empty lines before the request line and the line itself. `false` when it is not complete.
    fn request_line(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<bool, HeadError> {
        loop {
            match buf.get(self.progress.line_start..).unwrap_or(&[]) {
                [] | [b'\r'] => return Ok(false),
                [b'\r', b'\n', ..] if self.progress.leading_lines < limits.leading_lines_max => {
                    self.progress.leading_lines += 1;
                    self.progress.line_start += 2;
                }
                [b'\r', b'\n', ..] => return Err(HeadError::LeadingLines),
                [b'\r', ..] => return Err(HeadError::BareCr),
                [b'\n', ..] => return Err(HeadError::BareLf),
                _ => break,
            }
        }
        let start = self.progress.line_start;
        let rest = buf.get(start..).unwrap_or(&[]);
        let method_length = token::run(rest, token::TOKEN);
        if method_length > limits.method_bytes_max {
            return Err(HeadError::MethodTooLong);
        }
        match rest.get(method_length) {
            None => return Ok(false),
            Some(b' ') if method_length > 0 => {}
            Some(b'\n') => return Err(HeadError::BareLf),
            Some(_) => return Err(HeadError::Method),
        }
        // Before anything else can be refused: an answer to HEAD has no body, a refusal neither (RFC 9110 section 9.3.2).
        self.method_span = Span::new(start, start + method_length);
        self.method = Method::from_bytes(self.method_span.of(buf));
        let after = rest.get(method_length + 1..).unwrap_or(&[]);
        let target_length = token::run(after, token::QUERY);
        if target_length > limits.target_bytes_max {
            return Err(HeadError::TargetTooLong);
        }
        match after.get(target_length) {
            None => return Ok(false),
            Some(b' ') if target_length > 0 => {}
            Some(b' ' | b'\t' | b'\r') => return Err(HeadError::RequestLine),
            Some(b'\n') => return Err(HeadError::BareLf),
            Some(_) => return Err(HeadError::Target),
        }
        let Some(version) = version_line_end(after.get(target_length + 1..).unwrap_or(&[]))? else {
            return Ok(false);
        };
        let target_start = start + method_length + 1;
        self.version = version;
        let target = Span::new(target_start, target_start + target_length);
        self.target = Target::parse(buf, target, self.method)?;
        self.progress.line_start = target_start + target_length + 1 + VERSION_LINE_BYTES;
        self.progress.start_line_done = true;
        Ok(true)
    }

    /// Draws the conclusions from the whole head.
    fn judge(&mut self, buf: &[u8]) -> Result<(), HeadError> {
        let signals = Signals::gather(buf, &self.fields, self.version, Side::Request, &mut self.nominated)?;
        self.body = match signals.content_length {
            _ if signals.chunked => BodyFraming::Chunked,
            Some(length) => BodyFraming::Length(length),
            None => BodyFraming::None,
        };
        let host = match signals.host {
            None if self.version == Version::Http11 => return Err(HeadError::HostMissing),
            None => None,
            Some(value) => Some(Authority::parse(buf, value).ok_or(HeadError::HostInvalid)?),
        };
        // RFC 9112 section 3.2.2: the authority of an absolute-form replaces Host.
        self.host = self.target.authority.or(host);
        self.keep_alive = signals.persists(self.version);
        let is_http11 = self.version == Version::Http11;
        // RFC 9110 section 10.1.1: nothing to wait for without content, and an HTTP/1.0 client cannot mean it.
        self.expect_continue = signals.expects_continue && is_http11 && !self.body.is_empty();
        self.te_trailers = signals.te_trailers;
        self.max_forwards = match self.method {
            Method::Trace | Method::Options => {
                self.value(buf, FieldKind::MaxForwards).and_then(token::decimal)
            }
            _ => None,
        };
        // RFC 9110 section 7.8: Upgrade counts with its connection option, and never in HTTP/1.0.
        self.upgrade =
            signals.upgrade.filter(|_| is_http11 && signals.connection_upgrade).map(|protocols| Upgrade {
                protocols,
                is_websocket: signals.upgrades == 1 && protocols.of(buf).eq_ignore_ascii_case(b"websocket"),
            });
        Ok(())
    }
}

/// `HTTP/1.1` and CRLF.
const VERSION_LINE_BYTES: usize = 10;
/// The two spaces, the version and the line end, beside method and target.
const REQUEST_LINE_REST_BYTES: usize = 2 + VERSION_LINE_BYTES;

/// Reads `HTTP-version CRLF`. `None` when it is not complete.
fn version_line_end(bytes: &[u8]) -> Result<Option<Version>, HeadError> {
    let Some(version) = version(bytes)? else {
        return Ok(None);
    };
    match bytes.get(8..).unwrap_or(&[]) {
        [] | [b'\r'] => Ok(None),
        [b'\r', b'\n', ..] => Ok(Some(version)),
        [b'\r', ..] => Err(HeadError::BareCr),
        [b'\n', ..] => Err(HeadError::BareLf),
        [b' ' | b'\t', ..] => Err(HeadError::RequestLine),
        _ => Err(HeadError::VersionMalformed),
    }
}

/// Reads `HTTP-version` (RFC 9112 section 2.3): eight bytes, case-sensitive, one digit each. `None` when fewer are
/// there and they may still become one.
pub(crate) fn version(bytes: &[u8]) -> Result<Option<Version>, HeadError> {
    const NAME: &[u8] = b"HTTP/";
    let name_length = bytes.len().min(NAME.len());
    if bytes.get(..name_length) != NAME.get(..name_length) {
        return Err(HeadError::VersionMalformed);
    }
    match bytes.get(NAME.len()..).unwrap_or(&[]) {
        [] => Ok(None),
        [major] if major.is_ascii_digit() => Ok(None),
        [major, b'.'] if major.is_ascii_digit() => Ok(None),
        [b'1', b'.', b'0', ..] => Ok(Some(Version::Http10)),
        [b'1', b'.', b'1'..=b'9', ..] => Ok(Some(Version::Http11)),
        [major, b'.', minor, after @ ..] if major.is_ascii_digit() && minor.is_ascii_digit() => match after {
            [b'\r' | b' ', ..] => Err(HeadError::VersionUnsupported),
            [] => Ok(None),
            _ => Err(HeadError::VersionMalformed),
        },
        _ => Err(HeadError::VersionMalformed),
    }
}
