//! The chunked coding, read to the letter (RFC 9112 section 7.1), cut anywhere.
//!
//! Extensions must have the grammar's form without the optional white space that a sender must not generate.

use super::message::{self, Field, is_token, show};

/// A chunked body as far as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chunks {
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<Field>,
    pub(crate) complete: bool,
    /// Bytes it takes up, so far.
    pub(crate) bytes: usize,
}

/// Reads the chunked body at the front of `bytes`.
pub(crate) fn read(bytes: &[u8]) -> Result<Chunks, String> {
    let mut chunks = Chunks { bytes: bytes.len(), ..Chunks::default() };
    let mut rest = bytes;
    loop {
        let Some((line, after)) = line(rest)? else { return Ok(chunks) };
        let size = size(line)?;
        rest = after;
        if size == 0 {
            break;
        }
        let Some((data, after)) = rest.split_at_checked(size) else {
            chunks.body.extend_from_slice(rest);
            return Ok(chunks);
        };
        chunks.body.extend_from_slice(data);
        rest = match after {
            [b'\r', b'\n', rest @ ..] => rest,
            [] | [b'\r'] => return Ok(chunks),
            _ => return Err(format!("chunk data ended by {}", show(after))),
        };
    }
    loop {
        let Some((line, after)) = line(rest)? else { return Ok(chunks) };
        rest = after;
        if line.is_empty() {
            chunks.complete = true;
            chunks.bytes = bytes.len() - rest.len();
            return Ok(chunks);
        }
        chunks.trailers.push(message::field(line)?);
    }
}

/// A line, and what follows it.
type Split<'a> = (&'a [u8], &'a [u8]);

/// Splits off the line at the front.
fn line(bytes: &[u8]) -> Result<Option<Split<'_>>, String> {
    let Some(at) = bytes.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else { return Ok(None) };
    match bytes.get(at..) {
        Some([b'\r', b'\n', rest @ ..]) => Ok(Some((bytes.get(..at).unwrap_or_default(), rest))),
        Some([b'\r']) => Ok(None),
        _ => Err("bare CR or LF in a chunked body".to_owned()),
    }
}

/// The size in a chunk's first line, whose extensions must be well-formed.
fn size(line: &[u8]) -> Result<usize, String> {
    let wrong = || format!("chunk line {}", show(line));
    let end = line.iter().position(|&byte| byte == b';').unwrap_or(line.len());
    let (digits, extensions) = line.split_at_checked(end).ok_or_else(wrong)?;
    if digits.is_empty() || digits.len() > 16 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(wrong());
    }
    if !extensions.is_empty() {
        check_extensions(extensions.get(1..).unwrap_or_default()).ok_or_else(wrong)?;
    }
    let size = std::str::from_utf8(digits).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
    size.ok_or_else(wrong)
}

/// Accepts `name [ "=" value ]`, and more of them after semicolons.
fn check_extensions(mut rest: &[u8]) -> Option<()> {
    loop {
        let name = rest.iter().position(|byte| matches!(byte, b'=' | b';')).unwrap_or(rest.len());
        is_token(rest.get(..name)?).then_some(())?;
        rest = rest.get(name..)?;
        if let [b'=', value @ ..] = rest {
            let length = match value {
                [b'"', quoted @ ..] => 1 + quoted_length(quoted)?,
                _ => {
                    let length = value.iter().position(|&byte| byte == b';').unwrap_or(value.len());
                    is_token(value.get(..length)?).then_some(length)?
                }
            };
            rest = value.get(length..)?;
        }
        match rest {
            [] => return Some(()),
            [b';', more @ ..] => rest = more,
            _ => return None,
        }
    }
}

/// How long a quoted string is behind its first quote.
fn quoted_length(bytes: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (at, &byte) in bytes.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ if byte < 0x20 && byte != b'\t' => return None,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_to_its_end_wherever_it_is_cut() {
        let bytes = b"3\r\nabc\r\n0A;x=\"a;\\\"\";y\r\n0123456789\r\n0\r\nT: v\r\n\r\nrest";
        let whole = read(bytes).unwrap();
        assert!(whole.complete);
        assert_eq!(whole.body, b"abc0123456789");
        assert_eq!(whole.trailers, [(b"T".to_vec(), b"v".to_vec())]);
        assert_eq!(whole.bytes, bytes.len() - 4);
        for cut in 0..bytes.len() - 4 {
            let part = read(&bytes[..cut]).unwrap();
            assert!(!part.complete && whole.body.starts_with(&part.body), "cut at {cut}");
        }
    }

    #[test]
    fn anything_but_the_grammar_is_an_error() {
        for bad in [
            "\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            "1 \r\na\r\n",
            " 1\r\n",
            "1\na",
            "1\r\nab",
            "1\r\na\n",
            "1;\r\n",
            "1; a\r\n",
            "1;a=\r\n",
            "1;a\n\r\n",
            "0\r\n a: b\r\n",
            "0\r\na\r\n",
            "0\r\na : b\r\n",
            "11111111111111111\r\n",
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
