//! The chunked transfer coding, decoded byte by byte without a buffer (RFC 9112 section 7.1).
//!
//! Sizes are hexadecimal digits and nothing else. Extensions are checked against the grammar of section 7.1.1, with the "bad"
//! white space it demands a recipient to take, and then forgotten: none is ever forwarded. Every line ends with CRLF,
//! also inside extensions and quoted strings, so a line end cannot hide there.
//!
//! Invariant: `at` only moves forward, and each byte is looked at once.

use std::ops::Range;

use super::error::BodyError;
use super::token::{self, QDTEXT, TOKEN};
use super::trailer::Trailers;

/// Bounds of a chunked body's own bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLimits {
    /// Digits of a chunk size, with leading zeros.
    pub size_digits_max: u32,
    /// Extension bytes of one chunk.
    pub extension_bytes_max: u32,
    /// Extension bytes of the body beyond as many as there were payload bytes. Uploads that sign each chunk stay
    /// below it for ever; a body made of extensions does not.
    pub extension_bytes_excess_max: u64,
    pub trailer_bytes_max: usize,
    pub trailer_fields_max: usize,
}

impl Default for ChunkLimits {
    fn default() -> ChunkLimits {
        ChunkLimits {
            size_digits_max: 16,
            extension_bytes_max: 4 * 1024,
            extension_bytes_excess_max: 16 * 1024,
            trailer_bytes_max: 16 * 1024,
            trailer_fields_max: 64,
        }
    }
}

/// What the next bytes of a chunked body are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkEvent {
    /// Payload bytes, at these offsets.
    Data(Range<usize>),
    /// All bytes are taken and more are needed.
    Partial,
    /// The body has ended; what follows `at` is not part of it.
    End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Reading the digits of a size.
    #[default]
    Size,
    /// White space that only a semicolon may follow.
    SpaceBeforeSemicolon,
    /// Behind a semicolon and white space.
    ExtensionStart,
    ExtensionName,
    /// White space that an equals sign or a semicolon must follow.
    SpaceAfterName,
    /// Behind an equals sign and white space.
    ValueStart,
    ValueToken,
    ValueQuoted,
    ValueQuotedPair,
    /// Behind a closing quote.
    ValueEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers,
    Done,
}

/// Decodes one chunked body. Give it the bytes in order, cut anywhere.
#[derive(Debug, Default)]
pub struct ChunkDecoder {
    state: State,
    /// The size being read, then what is left of the chunk's data.
    size: u64,
    digits: u32,
    extension_bytes: u32,
    extension_bytes_total: u64,
    payload_bytes_total: u64,
    failed: Option<BodyError>,
    limits: ChunkLimits,
    pub(crate) trailers: Trailers,
}

impl ChunkDecoder {
    pub fn new(limits: ChunkLimits) -> ChunkDecoder {
        ChunkDecoder { limits, ..ChunkDecoder::default() }
    }

    /// Begins a new body, keeping the allocations.
    pub fn restart(&mut self, limits: ChunkLimits) {
        let mut trailers = std::mem::take(&mut self.trailers);
        trailers.clear();
        *self = ChunkDecoder { limits, trailers, ..ChunkDecoder::default() };
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailer fields that may be forwarded, each line ended by CRLF. Complete once the body has ended.
    pub fn trailers(&self) -> &[u8] {
        self.trailers.allowed()
    }

    /// Reads on at `buf[*at..]` and moves `at` behind what it took. After an error every further call gives the
    /// same error.
    pub fn next(&mut self, buf: &[u8], at: &mut usize) -> Result<ChunkEvent, BodyError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let event = self.advance(buf, at);
        self.failed = event.as_ref().err().copied();
        event
    }

    fn advance(&mut self, buf: &[u8], at: &mut usize) -> Result<ChunkEvent, BodyError> {
        loop {
            if self.state == State::Done {
                return Ok(ChunkEvent::End);
            }
            let rest = buf.get(*at..).unwrap_or(&[]);
            let Some(&byte) = rest.first() else {
                return Ok(ChunkEvent::Partial);
            };
            match self.state {
                State::Data => {
                    let length = usize::try_from(self.size).unwrap_or(usize::MAX).min(rest.len());
                    let start = *at;
                    *at = start.saturating_add(length);
                    self.size = self.size.saturating_sub(length as u64);
                    self.payload_bytes_total = self.payload_bytes_total.saturating_add(length as u64);
                    if self.size == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(ChunkEvent::Data(start..*at));
                }
                State::Trailers => {
                    let (bytes_max, fields_max) =
                        (self.limits.trailer_bytes_max, self.limits.trailer_fields_max);
                    let (taken, ended) = self.trailers.push(rest, bytes_max, fields_max)?;
                    *at = at.saturating_add(taken);
                    if ended {
                        self.state = State::Done;
                    }
                }
                _ => {
                    self.state = self.step(byte)?;
                    *at = at.saturating_add(1);
                }
            }
        }
    }

    /// Takes one byte of a chunk's own bytes.
    fn step(&mut self, byte: u8) -> Result<State, BodyError> {
        match (self.state, byte) {
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.digit(byte),
            (State::Size, _) if self.digits == 0 => Err(BodyError::ChunkSize),
            (State::Size | State::ExtensionName | State::ValueToken | State::ValueEnd, b'\r') => {
                Ok(State::SizeLf)
            }
            (State::Size, b';' | b' ' | b'\t') => self.extension_byte(byte),
            (State::Size, b'\n') => Err(BodyError::ChunkLineEnd),
            (State::Size, _) => Err(BodyError::ChunkSize),
            (State::SizeLf, b'\n') => Ok(self.begin_data()),
            (State::SizeLf, _) => Err(BodyError::ChunkLineEnd),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => {
                self.digits = 0;
                self.extension_bytes = 0;
                Ok(State::Size)
            }
            (State::DataCr | State::DataLf, _) => Err(BodyError::ChunkDataEnd),
            (_, b'\r' | b'\n') => Err(BodyError::ChunkLineEnd),
            _ => self.extension_byte(byte),
        }
    }

    fn digit(&mut self, byte: u8) -> Result<State, BodyError> {
        let value = char::from(byte).to_digit(16).ok_or(BodyError::ChunkSize)?;
        self.digits += 1;
        if self.digits > self.limits.size_digits_max {
            return Err(BodyError::ChunkSizeTooLarge);
        }
        // Nothing is left of an earlier chunk when the digits of the next one come.
        let size = self.size.checked_mul(16).and_then(|size| size.checked_add(u64::from(value)));
        // The next hop may hold a size in a signed integer.
        self.size = size.filter(|size| *size <= i64::MAX as u64).ok_or(BodyError::ChunkSizeTooLarge)?;
        Ok(State::Size)
    }

    fn begin_data(&mut self) -> State {
        if self.size == 0 { State::Trailers } else { State::Data }
    }

    /// Takes one byte of `*( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`.
    fn extension_byte(&mut self, byte: u8) -> Result<State, BodyError> {
        self.extension_bytes = self.extension_bytes.saturating_add(1);
        self.extension_bytes_total = self.extension_bytes_total.saturating_add(1);
        let excess = self.extension_bytes_total.saturating_sub(self.payload_bytes_total);
        if self.extension_bytes > self.limits.extension_bytes_max
            || excess > self.limits.extension_bytes_excess_max
        {
            return Err(BodyError::ChunkExtensionTooLarge);
        }
        let is_space = matches!(byte, b' ' | b'\t');
        let is_token = token::is(byte, TOKEN);
        let next = match self.state {
            State::ValueQuoted if byte == b'"' => State::ValueEnd,
            State::ValueQuoted if byte == b'\\' => State::ValueQuotedPair,
            State::ValueQuoted if token::is(byte, QDTEXT) => State::ValueQuoted,
            State::ValueQuotedPair if token::is(byte, token::VALUE) => State::ValueQuoted,
            State::ExtensionStart | State::ExtensionName if is_token => State::ExtensionName,
            State::ValueStart | State::ValueToken if is_token => State::ValueToken,
            State::ExtensionStart if is_space => State::ExtensionStart,
            State::ValueStart if is_space => State::ValueStart,
            State::ValueStart if byte == b'"' => State::ValueQuoted,
            State::ExtensionName | State::SpaceAfterName if byte == b'=' => State::ValueStart,
            State::ExtensionName | State::SpaceAfterName if is_space => State::SpaceAfterName,
            State::Size | State::SpaceBeforeSemicolon | State::ValueToken | State::ValueEnd if is_space => {
                State::SpaceBeforeSemicolon
            }
            State::Size
            | State::SpaceBeforeSemicolon
            | State::ExtensionName
            | State::SpaceAfterName
            | State::ValueToken
            | State::ValueEnd
                if byte == b';' =>
            {
                State::ExtensionStart
            }
            _ => return Err(BodyError::ChunkExtension),
        };
        Ok(next)
    }
}
