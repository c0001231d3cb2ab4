//! How a path pattern is read: its literal part, then segment by segment.
//!
//! `:name` at the start of a segment takes one nonempty segment. `*` as the last byte takes any rest, also none; `*name` as the last
//! segment does the same and gives the rest a name (`/x/*` names it `:ext`, as lua-resty-radixtree does). A `:` or `*` anywhere
//! else is a plain byte: `/file:list` is an exact path.
//! Any text reads as some pattern; which texts are allowed is the validator's business.

use std::ops::Range;

/// The name that `/x/*` gives to its rest.
pub(super) const REST: &[u8] = b":ext";

/// One segment of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// This very segment.
    Literal(&'a [u8]),
    /// One nonempty segment, by that name.
    Param(&'a [u8]),
    /// The rest of the path where it begins with these bytes. Always last and never empty.
    Prefix(&'a [u8]),
    /// The rest of the path, also an empty one, by that name. Always last.
    Rest(&'a [u8]),
}

/// A pattern cut where its literal part ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape<'a> {
    /// All of it is literal.
    Exact,
    /// `literal` is what a path must begin with, `directory` the part of that up to its last slash.
    Tail {
        /// The literal part.
        literal: &'a [u8],
        /// The literal part's whole segments.
        directory: &'a [u8],
    },
}

/// Cuts a pattern at its first parameter or star.
pub(super) fn shape(pattern: &[u8]) -> Shape<'_> {
    let Some(end) = literal_bytes(pattern) else { return Shape::Exact };
    let literal = pattern.get(..end).unwrap_or(pattern);
    let directory = directory(literal);
    Shape::Tail { literal, directory }
}

/// What follows the directory, segment by segment.
pub(super) fn pieces(pattern: &[u8], directory_len: usize) -> impl Iterator<Item = Piece<'_>> {
    let residual = pattern.get(directory_len..).unwrap_or_default();
    let mut segments = residual.split(|byte| *byte == b'/').peekable();
    std::iter::from_fn(move || {
        let segment = segments.next()?;
        let last = segments.peek().is_none();
        Some(match segment {
            [b':', name @ ..] if !name.is_empty() => Piece::Param(name),
            [b'*'] if last => Piece::Rest(REST),
            [b'*', name @ ..] if last => Piece::Rest(name),
            [text @ .., b'*'] if last => Piece::Prefix(text),
            text => Piece::Literal(text),
        })
    })
}

/// Whether a path fits a pattern.
pub(super) fn fits(pattern: &[u8], path: &[u8]) -> bool {
    match shape(pattern) {
        Shape::Exact => pattern == path,
        Shape::Tail { directory, .. } => {
            path.starts_with(directory) && capture(pattern, path, directory.len(), |_, _| ())
        }
    }
}

/// Tests what follows the directory, telling each parameter's name and place, also where the path fails later.
pub(super) fn capture(
    pattern: &[u8],
    path: &[u8],
    directory_len: usize,
    mut found: impl FnMut(&[u8], Range<usize>),
) -> bool {
    let mut at = directory_len;
    // Whether a segment, maybe an empty one, begins at `at`.
    let mut open = true;
    for piece in pieces(pattern, directory_len) {
        if !open {
            return false;
        }
        let rest = path.get(at..).unwrap_or_default();
        let segment = first_segment(rest);
        match piece {
            Piece::Rest(name) => {
                found(name, at..path.len());
                return true;
            }
            Piece::Prefix(text) => return rest.starts_with(text),
            Piece::Param(_) if segment.is_empty() => return false,
            Piece::Param(name) => found(name, at..at.saturating_add(segment.len())),
            Piece::Literal(text) if text != segment => return false,
            Piece::Literal(_) => {}
        }
        open = segment.len() < rest.len();
        at = at.saturating_add(segment.len()).saturating_add(usize::from(open));
    }
    !open
}

/// The part of a text up to and with its last slash.
pub(super) fn directory(text: &[u8]) -> &[u8] {
    let end = memchr::memrchr(b'/', text).map_or(0, |slash| slash.saturating_add(1));
    text.get(..end).unwrap_or_default()
}

/// The bytes before the first slash.
pub(super) fn first_segment(rest: &[u8]) -> &[u8] {
    memchr::memchr(b'/', rest).and_then(|end| rest.get(..end)).unwrap_or(rest)
}

fn literal_bytes(pattern: &[u8]) -> Option<usize> {
    let mut starts = true;
    for (at, &byte) in pattern.iter().enumerate() {
        let tail = pattern.get(at.saturating_add(1)..).unwrap_or_default();
        match byte {
            b':' if starts && tail.first().is_some_and(|next| *next != b'/') => return Some(at),
            b'*' if tail.is_empty() || (starts && !tail.contains(&b'/')) => return Some(at),
            _ => {}
        }
        starts = byte == b'/';
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_literal_part_ends_at_the_first_parameter_or_star() {
        for (pattern, want) in [
            ("/a", None),
            ("/file:list", None),
            ("/a/:", None),
            ("/a*/b", None),
            ("/a/:id/b", Some(("/a/", "/a/"))),
            ("/a/*rest", Some(("/a/", "/a/"))),
            ("/a/*", Some(("/a/", "/a/"))),
            ("/foo*", Some(("/foo", "/"))),
            ("/x/foo:bar*", Some(("/x/foo:bar", "/x/"))),
            ("*", Some(("", ""))),
            ("/*", Some(("/", "/"))),
            ("/:a", Some(("/", "/"))),
        ] {
            let got = match shape(pattern.as_bytes()) {
                Shape::Exact => None,
                Shape::Tail { literal, directory } => {
                    Some((str::from_utf8(literal).unwrap(), str::from_utf8(directory).unwrap()))
                }
            };
            assert_eq!(got, want, "{pattern}");
        }
    }

    #[test]
    fn parameters_are_told_with_their_places() {
        let mut found = Vec::new();
        let path = b"/name/json/id/1/foo/bar";
        assert!(capture(b"/name/:name/id/:id/*other", path, 6, |name, place| {
            found.push((name.to_vec(), path[place].to_vec()));
        }));
        assert_eq!(
            found,
            [
                (b"name".to_vec(), b"json".to_vec()),
                (b"id".to_vec(), b"1".to_vec()),
                (b"other".to_vec(), b"foo/bar".to_vec())
            ]
        );
    }
}
