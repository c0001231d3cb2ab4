//! The head of a response from an upstream: parsed in place, judged as a whole, reusable.
//!
//! As strict as for requests, since a response read in two ways poisons the connection pool. Three leniencies that cannot
//! change where a message ends: a missing space after the status code, white space before a colon (RFC 9112 section
//! 5.1 has a proxy remove it) and any minor version. An obsolete line folding is refused (section 5.2: 502).
//!
//! Invariant: after `Done`, every span lies inside the first `head_bytes` bytes.

use super::error::HeadError;
use super::field::{Field, FieldKind};
use super::framing::{BodyFraming, Side, Signals};
use super::line::{HeadLimits, Progress, field_section};
use super::method::Method;
use super::request::version;
use super::span::{Parse, Span, Version};
use super::token;

/// A parsed response head. Spans are offsets into the buffer given to `parse`.
#[derive(Debug, Default)]
pub struct ResponseHead {
    pub status: u16,
    pub reason: Span,
    pub version: Version,
    pub fields: Vec<Field>,
    /// Length of the head with its empty line: the body begins here.
    pub head_bytes: usize,
    pub body: BodyFraming,
    /// What Content-Length says, also where no body follows: an answer to HEAD, a 304.
    pub content_length: Option<u64>,
    /// Whether the connection to the upstream may be used again once the body has ended.
    pub keep_alive: bool,
    /// The protocols that a 101 (Switching Protocols) agrees to or a 426 (Upgrade Required) asks for.
    pub upgrade: Option<Span>,
    /// A tunnel begins behind the head: 101, or a 2xx answer to CONNECT.
    pub is_tunnel: bool,
    /// Names that Connection nominates for removal.
    pub(crate) nominated: Vec<Span>,
    progress: Progress,
    /// Nothing was parsed since it was made or forgot everything.
    is_blank: bool,
}

impl ResponseHead {
    pub fn new() -> ResponseHead {
        ResponseHead::default()
    }

    /// Forgets everything, keeping the allocations. Needed only when a head that was `Partial` is abandoned.
    pub fn reset(&mut self) {
        if self.is_blank {
            return;
        }
        let mut fields = std::mem::take(&mut self.fields);
        let mut nominated = std::mem::take(&mut self.nominated);
        fields.clear();
        nominated.clear();
        *self = ResponseHead { fields, nominated, is_blank: true, ..ResponseHead::default() };
    }

    /// Whether this is an interim response, which another one follows.
    pub fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
    }

    /// Parses the head at the front of `buf`. After `Partial`, call again with the same bytes and more behind them;
    /// after `Done` or an error the next call begins a new head.
    pub fn parse(
        &mut self,
        buf: &[u8],
        limits: &HeadLimits,
        request_method: Method,
    ) -> Result<Parse<()>, HeadError> {
        let resumes = self.progress.seen > 0 && self.progress.seen <= buf.len();
        if !resumes {
            self.reset();
        }
        self.is_blank = false;
        let parsed = self.advance(buf, limits, request_method);
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

    fn advance(&mut self, buf: &[u8], limits: &HeadLimits, method: Method) -> Result<Parse<()>, HeadError> {
        if !self.progress.worth_parsing(buf)? {
            return self.partial(buf, limits);
        }
        if !self.progress.start_line_done && !self.status_line(buf)? {
            return self.partial(buf, limits);
        }
        match field_section(buf, &mut self.progress, &mut self.fields, limits.fields_max, true)? {
            None => self.partial(buf, limits),
            Some(end) if end > limits.head_bytes_max => Err(HeadError::HeadTooLarge),
            Some(end) => {
                self.head_bytes = end;
                self.judge(buf, method)?;
                Ok(Parse::Done(()))
            }
        }
    }

    fn partial(&mut self, buf: &[u8], limits: &HeadLimits) -> Result<Parse<()>, HeadError> {
        self.progress.seen = buf.len();
        if buf.len() >= limits.head_bytes_max { Err(HeadError::HeadTooLarge) } else { Ok(Parse::Partial) }
    }

    /// `HTTP-version SP status-code SP [ reason-phrase ] CRLF`. `false` when it is not complete.
    fn status_line(&mut self, buf: &[u8]) -> Result<bool, HeadError> {
        let Some(version) = version(buf)? else {
            return Ok(false);
        };
        let rest = buf.get(8..).unwrap_or(&[]);
        let status = match rest {
            [] | [b' '] => return Ok(false),
            [b' ', b'1'..=b'9'] => return Ok(false),
            [b' ', b'1'..=b'9', tens] if tens.is_ascii_digit() => return Ok(false),
            [b' ', hundreds @ b'1'..=b'9', tens, units, ..]
                if tens.is_ascii_digit() && units.is_ascii_digit() =>
            {
                u16::from(hundreds - b'0') * 100 + u16::from(tens - b'0') * 10 + u16::from(units - b'0')
            }
            _ => return Err(HeadError::StatusLine),
        };
        let after = rest.get(4..).unwrap_or(&[]);
        let length = token::value_run(after);
        if !matches!(after, [] | [b' ' | b'\r' | b'\n', ..]) {
            return Err(HeadError::StatusLine);
        }
        match after.get(length..) {
            None | Some([] | [b'\r']) => return Ok(false),
            Some([b'\r', b'\n', ..]) => {}
            Some([b'\r', ..]) => return Err(HeadError::BareCr),
            Some([b'\n', ..]) => return Err(HeadError::BareLf),
            Some(_) => return Err(HeadError::StatusLine),
        }
        const STATUS_END: usize = 12;
        self.version = version;
        self.status = status;
        self.reason = Span::new(STATUS_END + length.min(1), STATUS_END + length);
        self.progress.line_start = STATUS_END + length + 2;
        self.progress.start_line_done = true;
        Ok(true)
    }

    /// Draws the conclusions from the whole head: RFC 9112 section 6.3, in its order.
    fn judge(&mut self, buf: &[u8], method: Method) -> Result<(), HeadError> {
        let signals = Signals::gather(buf, &self.fields, self.version, Side::Response, &mut self.nominated)?;
        let announced = signals.chunked || signals.content_length.is_some_and(|length| length > 0);
        self.keep_alive = signals.persists(self.version);
        self.is_tunnel =
            self.status == 101 || (method == Method::Connect && (200..300).contains(&self.status));
        self.upgrade = signals.upgrade.filter(|_| matches!(self.status, 101 | 426));
        self.content_length = signals.content_length;
        self.body = if self.is_tunnel || self.status < 200 || self.status == 204 {
            // These must not announce a body (RFC 9110 section 8.6). When one does, its bytes may follow: the
            // connection is not used again.
            self.keep_alive &= !announced;
            BodyFraming::None
        } else if method == Method::Head || self.status == 304 {
            BodyFraming::None
        } else if signals.chunked {
            BodyFraming::Chunked
        } else if let Some(length) = signals.content_length {
            BodyFraming::Length(length)
        } else {
            self.keep_alive = false;
            BodyFraming::UntilClose
        };
        Ok(())
    }
}
