//! The chunked transfer coding (RFC 9112 section 7.1), read from bytes that may be cut anywhere.
//!
//! Hands out the data without copying it. Extensions and trailers are skipped, within limits. An empty size line, a
//! size that does not fit, or data that is not followed by a line end is a fault.

use super::Fault;

/// The longest size line, with extensions.
const SIZE_LINE_BYTES_MAX: usize = 1024;
/// All trailer fields together.
const TRAILER_BYTES_MAX: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct ChunkDecoder {
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size { value: u64, digits: u8, extension: bool, line_bytes: usize },
    Data { left: u64 },
    DataEnd { carriage_return: bool },
    Trailer { line_bytes: usize, total_bytes: usize },
    Done,
}

const SIZE: State = State::Size { value: 0, digits: 0, extension: false, line_bytes: 0 };

/// What one call of `decode` took from its input.
#[derive(Debug)]
pub(crate) struct Decoded<'a> {
    pub(crate) consumed: usize,
    pub(crate) data: &'a [u8],
}

impl Default for ChunkDecoder {
    fn default() -> Self {
        Self { state: SIZE }
    }
}

impl ChunkDecoder {
    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Goes on until one run of data was found, the body ended or the input did. Call again while `consumed` is less
    /// than the input and the body is not done.
    pub(crate) fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<'a>, Fault> {
        let mut consumed = 0;
        while let Some(byte) = input.get(consumed) {
            match self.state {
                State::Done => break,
                State::Data { left } => {
                    let rest = input.get(consumed..).unwrap_or_default();
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let data = rest.get(..take).unwrap_or_default();
                    let left = left.saturating_sub(take as u64);
                    self.state = if left == 0 {
                        State::DataEnd { carriage_return: false }
                    } else {
                        State::Data { left }
                    };
                    return Ok(Decoded { consumed: consumed + take, data });
                }
                _ => {
                    self.state = step(self.state, *byte)?;
                    consumed += 1;
                }
            }
        }
        Ok(Decoded { consumed, data: &[] })
    }
}

/// The state after one byte that is not data.
fn step(state: State, byte: u8) -> Result<State, Fault> {
    Ok(match (state, byte) {
        (State::Size { digits: 0, .. }, b'\n') => return Err(Fault::Chunk),
        (State::Size { value: 0, .. }, b'\n') => State::Trailer { line_bytes: 0, total_bytes: 0 },
        (State::Size { value, .. }, b'\n') => State::Data { left: value },
        (State::Size { line_bytes, .. }, _) if line_bytes >= SIZE_LINE_BYTES_MAX => return Err(Fault::Chunk),
        (State::Size { value, digits, extension, line_bytes }, _) => {
            let line_bytes = line_bytes + 1;
            match char::from(byte).to_digit(16) {
                Some(digit) if !extension => {
                    let value = value.checked_mul(16).and_then(|value| value.checked_add(u64::from(digit)));
                    let value = value.ok_or(Fault::Chunk)?;
                    State::Size { value, digits: digits.saturating_add(1), extension, line_bytes }
                }
                _ if extension || matches!(byte, b';' | b' ' | b'\t' | b'\r') => {
                    State::Size { value, digits, extension: true, line_bytes }
                }
                _ => return Err(Fault::Chunk),
            }
        }
        (State::DataEnd { carriage_return: false }, b'\r') => State::DataEnd { carriage_return: true },
        (State::DataEnd { .. }, b'\n') => SIZE,
        (State::DataEnd { .. }, _) => return Err(Fault::Chunk),
        (State::Trailer { line_bytes: 0, .. }, b'\n') => State::Done,
        (State::Trailer { total_bytes, .. }, _) if total_bytes >= TRAILER_BYTES_MAX => {
            return Err(Fault::Chunk);
        }
        (State::Trailer { total_bytes, .. }, b'\n') => {
            State::Trailer { line_bytes: 0, total_bytes: total_bytes + 1 }
        }
        (State::Trailer { line_bytes, total_bytes }, b'\r') => {
            State::Trailer { line_bytes, total_bytes: total_bytes + 1 }
        }
        (State::Trailer { line_bytes, total_bytes }, _) => {
            State::Trailer { line_bytes: line_bytes + 1, total_bytes: total_bytes + 1 }
        }
        (State::Data { .. } | State::Done, _) => state,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes the parts in turn; gives the data and how much of the input was left over.
    fn decode(parts: &[&[u8]]) -> Result<(Vec<u8>, bool, usize), Fault> {
        let mut decoder = ChunkDecoder::default();
        let mut data = Vec::new();
        let mut left_over = 0;
        for part in parts {
            let mut rest: &[u8] = part;
            while !rest.is_empty() && !decoder.is_done() {
                let decoded = decoder.decode(rest)?;
                data.extend_from_slice(decoded.data);
                rest = &rest[decoded.consumed..];
            }
            left_over += rest.len();
        }
        Ok((data, decoder.is_done(), left_over))
    }

    #[test]
    fn a_body_cut_anywhere_is_the_same_body() {
        let body: &[u8] =
            b"5;name=\"a b\"\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nX-Sum: 1\r\n\r\nGET";
        for cut in 0..body.len() {
            let (first, second) = body.split_at(cut);
            let (data, done, left_over) = decode(&[first, second]).unwrap();
            assert_eq!(data, b"helloabcdefghijklmnopqrstuvwxyz", "cut at {cut}");
            assert!(done, "cut at {cut}");
            assert_eq!(left_over, 3, "cut at {cut}");
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for body in ["\r\n", "x\r\n", "5\r\nhelloX", "fffffffffffffffff\r\n", "-1\r\n", "0x5\r\n"] {
            assert_eq!(decode(&[body.as_bytes()]).expect_err(body), Fault::Chunk, "{body:?}");
        }
    }

    #[test]
    fn an_unfinished_body_is_not_done() {
        let (data, done, _) = decode(&[b"5\r\nhello\r\n0\r\n"]).unwrap();
        assert_eq!(data, b"hello");
        assert!(!done);
    }
}
