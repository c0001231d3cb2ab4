//! Where a body ends, and whether the connection survives it (RFC 9112 sections 6 and 9.3).
//!
//! One Content-Length of pure digits, or one Transfer-Encoding that says `chunked` and nothing else, or neither.
//! Repeated, listed, combined and unknown ones are refused in both directions, although RFC 9110 section 8.6 lets
//! a recipient collapse equal lengths: no sender needs it, and it is where two recipients come to differ.

use super::error::HeadError;
use super::field::{Field, FieldKind};
use super::span::{Span, Version};
use super::token::{decimal, is_token, list_members, trim};

/// Where the body of a received message ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyFraming {
    #[default]
    None,
    Length(u64),
    Chunked,
    /// A response that ends with its connection.
    UntilClose,
}

impl BodyFraming {
    /// Whether no byte of a body follows the head.
    pub fn is_empty(self) -> bool {
        matches!(self, BodyFraming::None | BodyFraming::Length(0))
    }
}

/// How a body is sent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SinkFraming {
    /// The body is read and thrown away.
    #[default]
    None,
    Length,
    Chunked,
    UntilClose,
}

/// Names that one message's Connection fields may nominate for removal. Each is compared with each field.
const NOMINATED_MAX: usize = 32;

/// Which of the two messages of an exchange a head belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

/// What the fields say about framing and the connection, gathered in one pass.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    pub(crate) content_length: Option<u64>,
    pub(crate) chunked: bool,
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) connection_upgrade: bool,
    pub(crate) upgrade: Option<Span>,
    pub(crate) upgrades: usize,
    pub(crate) te_trailers: bool,
    pub(crate) host: Option<Span>,
    pub(crate) expects_continue: bool,
}

impl Signals {
    /// Reads the fields that decide over framing and the connection. Names that Connection nominates for removal
    /// are added to `nominated`.
    pub(crate) fn gather(
        buf: &[u8],
        fields: &[Field],
        version: Version,
        side: Side,
        nominated: &mut Vec<Span>,
    ) -> Result<Signals, HeadError> {
        let mut signals = Signals::default();
        let mut codings = 0_usize;
        for field in fields {
            let value = field.value.of(buf);
            match field.kind {
                FieldKind::ContentLength => {
                    if signals.content_length.is_some() {
                        return Err(HeadError::ContentLengthDuplicate);
                    }
                    signals.content_length = Some(decimal(value).ok_or(HeadError::ContentLength)?);
                }
                FieldKind::TransferEncoding => {
                    codings += 1;
                    if codings > 1 {
                        return Err(HeadError::TransferEncoding);
                    }
                    chunked_alone(value)?;
                    signals.chunked = true;
                }
                FieldKind::Connection => signals.connection_options(buf, field.value, nominated)?,
                FieldKind::Upgrade => {
                    signals.upgrades += 1;
                    signals.upgrade = signals.upgrade.or(Some(field.value));
                }
                FieldKind::Te => signals.te_trailers |= accepts_trailers(value),
                FieldKind::Host if side == Side::Request => {
                    if signals.host.is_some() {
                        return Err(HeadError::HostDuplicate);
                    }
                    signals.host = Some(field.value);
                }
                FieldKind::Expect if side == Side::Request => signals.expectations(value)?,
                _ => {}
            }
        }
        if signals.chunked && version == Version::Http10 {
            return Err(HeadError::TransferEncodingHttp10);
        }
        if signals.chunked && signals.content_length.is_some() {
            return Err(HeadError::ContentLengthWithTransferEncoding);
        }
        Ok(signals)
    }

    /// Whether the connection may carry another message after this one (RFC 9112 section 9.3).
    pub(crate) fn persists(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }

    fn connection_options(
        &mut self,
        buf: &[u8],
        value: Span,
        nominated: &mut Vec<Span>,
    ) -> Result<(), HeadError> {
        let mut start = value.start as usize;
        for member in value.of(buf).split(|&byte| byte == b',') {
            let leading = member.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            let option = trim(member);
            let span = Span::new(start + leading, start + leading + option.len());
            start += member.len() + 1;
            match option {
                [] => {}
                _ if option.eq_ignore_ascii_case(b"close") => self.close = true,
                _ if option.eq_ignore_ascii_case(b"keep-alive") => self.keep_alive = true,
                _ if option.eq_ignore_ascii_case(b"upgrade") => self.connection_upgrade = true,
                _ if is_end_to_end(option) => {}
                _ if nominated.len() >= NOMINATED_MAX => return Err(HeadError::ConnectionOptions),
                _ => nominated.push(span),
            }
        }
        Ok(())
    }

    fn expectations(&mut self, value: &[u8]) -> Result<(), HeadError> {
        for member in list_members(value) {
            if !member.eq_ignore_ascii_case(b"100-continue") {
                return Err(HeadError::Expectation);
            }
            self.expects_continue = true;
        }
        Ok(())
    }
}

/// `chunked` and nothing else. Other codings before it are not implemented (RFC 9112 section 7: 501). A list that
/// does not end with `chunked`, holds it twice, gives it parameters or has empty members is invalid (sections 6.1,
/// 6.3 and 7.1: 400).
fn chunked_alone(value: &[u8]) -> Result<(), HeadError> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    let mut codings = value.split(|&byte| byte == b',').map(trim);
    let ends_chunked = codings.next_back().is_some_and(is_chunked);
    let others_are_codings = codings.all(|coding| {
        let name = coding.split(|&byte| byte == b';').next().map_or(&[][..], trim);
        is_token(name) && !is_chunked(name)
    });
    if ends_chunked && others_are_codings {
        Err(HeadError::TransferCodingUnsupported)
    } else {
        Err(HeadError::TransferEncoding)
    }
}

/// Whether a TE value accepts trailers (RFC 9110 section 10.1.4).
fn accepts_trailers(value: &[u8]) -> bool {
    list_members(value).any(|member| member.eq_ignore_ascii_case(b"trailers"))
}

/// Fields that are for all recipients, so that naming them in Connection is the sender's error (RFC 9110 section
/// 7.6.1 forbids it to senders). Obeying it would let a client take away what back ends trust: whose request it is
/// and where it came from. So these stay, and every other nominated field is removed as section 7.6.1 demands.
fn is_end_to_end(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 15] = [
        b"accept",
        b"age",
        b"etag",
        b"if-match",
        b"if-none-match",
        b"if-modified-since",
        b"if-unmodified-since",
        b"origin",
        b"proxy-authorization",
        b"range",
        b"traceparent",
        b"user-agent",
        b"vary",
        b"www-authenticate",
        b"x-request-id",
    ];
    match FieldKind::of_name(name) {
        FieldKind::Other => {
            let starts_with = |prefix: &[u8]| {
                name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            };
            starts_with(b"content-")
                || starts_with(b"x-forwarded-")
                || NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_chunked_alone_is_a_transfer_coding_we_know() {
        use HeadError::{TransferCodingUnsupported as Unsupported, TransferEncoding as Invalid};
        let rows: [(&str, Result<(), HeadError>); 22] = [
            ("chunked", Ok(())),
            ("Chunked", Ok(())),
            ("CHUNKED", Ok(())),
            ("gzip, chunked", Err(Unsupported)),
            ("gzip;q=1, deflate,chunked", Err(Unsupported)),
            ("identity, chunked", Err(Unsupported)),
            ("", Err(Invalid)),
            (",", Err(Invalid)),
            (",chunked", Err(Invalid)),
            ("chunked,", Err(Invalid)),
            ("chunked, chunked", Err(Invalid)),
            ("chunked, gzip", Err(Invalid)),
            ("chunked, identity", Err(Invalid)),
            ("identity", Err(Invalid)),
            ("gzip", Err(Invalid)),
            ("xchunked", Err(Invalid)),
            ("chunkedx", Err(Invalid)),
            ("chunked;a=b", Err(Invalid)),
            ("chun ked", Err(Invalid)),
            ("\"chunked\"", Err(Invalid)),
            ("x y, chunked", Err(Invalid)),
            ("chunked;a, chunked", Err(Invalid)),
        ];
        for (value, expected) in rows {
            assert_eq!(chunked_alone(value.as_bytes()), expected, "{value:?}");
        }
    }

    #[test]
    fn what_back_ends_trust_cannot_be_nominated() {
        for name in
            ["Host", "X-Forwarded-For", "x-forwarded-client-cert", "Authorization", "Content-MD5", "Cookie"]
        {
            assert!(is_end_to_end(name.as_bytes()), "{name}");
        }
        for name in ["X-Hop", "Foo", "x-forwarded"] {
            assert!(!is_end_to_end(name.as_bytes()), "{name}");
        }
    }
}
