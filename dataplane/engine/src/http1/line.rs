//! Lines of a head: limits, the resume point of a head that arrives in pieces, and field lines.
//!
//! A line ends with CRLF and nothing else: a bare CR, a bare LF, NUL and every other control is refused wherever
//! it stands (RFC 9112 section 2.2 lets a recipient accept a bare LF; it may differ from the next hop there).
//! While a line is short and incomplete it is parsed anew with each piece, so that nonsense is refused at once. Of a
//! longer one only the new bytes are looked at, and it is parsed once more when its line feed is there. So a head
//! dripped byte by byte costs linear work.

use super::error::HeadError;
use super::field::{Field, FieldKind};
use super::span::Span;
use super::token;

/// Bounds of a head. The defaults are above RFC 9112 section 3's recommended 8,000-octet request line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// The whole head, from the first byte to the empty line.
    pub head_bytes_max: usize,
    pub target_bytes_max: usize,
    pub method_bytes_max: usize,
    pub fields_max: usize,
    /// Empty lines tolerated before a request line (RFC 9112 section 2.2 asks for at least one).
    pub leading_lines_max: usize,
}

impl Default for HeadLimits {
    fn default() -> HeadLimits {
        HeadLimits {
            head_bytes_max: 64 * 1024,
            target_bytes_max: 8 * 1024,
            method_bytes_max: 32,
            fields_max: 128,
            leading_lines_max: 2,
        }
    }
}

/// An incomplete line up to this long is parsed anew each time.
const REPARSED_BYTES_MAX: usize = 128;

/// How far a head that came in pieces has been read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Where the first line that is not understood yet begins.
    pub(crate) line_start: usize,
    /// Bytes before this have been looked at and hold no line feed after `line_start`.
    pub(crate) seen: usize,
    pub(crate) start_line_done: bool,
    pub(crate) leading_lines: usize,
}

impl Progress {
    /// Whether parsing the incomplete line again can bring anything: it is new, or its line feed has come.
    /// Refuses new bytes that no line of a head may hold.
    pub(crate) fn worth_parsing(&self, buf: &[u8]) -> Result<bool, HeadError> {
        if self.seen <= self.line_start || buf.len().saturating_sub(self.line_start) <= REPARSED_BYTES_MAX {
            return Ok(true);
        }
        // A CR that ended the earlier bytes is judged with what follows it.
        let new = buf.get(self.seen - 1..).unwrap_or(&[]);
        if memchr::memchr(b'\n', new).is_some() {
            return Ok(true);
        }
        let good = token::value_run(new);
        match new.get(good..) {
            None | Some([] | [b'\r']) => {}
            Some([b'\r', ..]) => return Err(HeadError::BareCr),
            Some(_) if self.start_line_done => return Err(HeadError::FieldValue),
            Some(_) => return Err(HeadError::RequestLine),
        }
        Ok(false)
    }
}

/// What stands at the beginning of a line of the field section.
pub(crate) enum FieldLine {
    /// The line is not complete.
    NeedMore,
    /// The empty line; the head ends at this offset.
    End(usize),
    Field {
        field: Field,
        next: usize,
    },
}

/// Reads one line of a field section at `at`. White space before the colon is refused unless `trims_colon`: in a
/// response a proxy removes it (RFC 9112 section 5.1), in a request it must be refused.
pub(crate) fn field_line(buf: &[u8], at: usize, trims_colon: bool) -> Result<FieldLine, HeadError> {
    let rest = buf.get(at..).unwrap_or(&[]);
    match rest {
        [] | [b'\r'] => return Ok(FieldLine::NeedMore),
        [b'\r', b'\n', ..] => return Ok(FieldLine::End(at.saturating_add(2))),
        [b'\r', ..] => return Err(HeadError::BareCr),
        [b'\n', ..] => return Err(HeadError::BareLf),
        [b' ' | b'\t', ..] => return Err(HeadError::ObsFold),
        _ => {}
    }
    let name_length = token::run(rest, token::TOKEN);
    let mut colon = name_length;
    while trims_colon && matches!(rest.get(colon), Some(b' ' | b'\t')) {
        colon += 1;
    }
    match rest.get(colon) {
        None => return Ok(FieldLine::NeedMore),
        Some(b':') if name_length > 0 => {}
        Some(b' ' | b'\t') => return Err(HeadError::FieldColonWhitespace),
        Some(_) => return Err(HeadError::FieldName),
    }
    let after = rest.get(colon + 1..).unwrap_or(&[]);
    let length = token::value_run(after);
    match after.get(length..) {
        None | Some([] | [b'\r']) => return Ok(FieldLine::NeedMore),
        Some([b'\r', b'\n', ..]) => {}
        Some([b'\r', ..]) => return Err(HeadError::BareCr),
        Some([b'\n', ..]) => return Err(HeadError::BareLf),
        Some(_) => return Err(HeadError::FieldValue),
    }
    let raw = after.get(..length).unwrap_or(&[]);
    let leading = raw.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let value_length = token::trim(raw).len();
    let value_start = at + colon + 1 + leading;
    let name = Span::new(at, at + name_length);
    let field = Field {
        name,
        value: Span::new(value_start, value_start + value_length),
        kind: FieldKind::of_name(name.of(buf)),
    };
    Ok(FieldLine::Field { field, next: at + colon + 1 + length + 2 })
}

/// Reads field lines into `fields` until the empty line (its end is the answer) or the end of the bytes (`None`).
pub(crate) fn field_section(
    buf: &[u8],
    progress: &mut Progress,
    fields: &mut Vec<Field>,
    fields_max: usize,
    trims_colon: bool,
) -> Result<Option<usize>, HeadError> {
    loop {
        match field_line(buf, progress.line_start, trims_colon) {
            Ok(FieldLine::NeedMore) => {
                progress.seen = buf.len();
                return Ok(None);
            }
            Ok(FieldLine::End(end)) => return Ok(Some(end)),
            Ok(FieldLine::Field { field, next }) => {
                if fields.len() >= fields_max {
                    return Err(HeadError::TooManyFields);
                }
                fields.push(field);
                progress.line_start = next;
            }
            Err(HeadError::ObsFold) if fields.is_empty() => return Err(HeadError::LeadingWhitespace),
            Err(error) => return Err(error),
        }
    }
}
