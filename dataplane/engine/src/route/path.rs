//! The path that routes are matched on, as nginx (and so APISIX) makes `$uri` out of a request's path.
//!
//! By nginx's documentation of `location` and `merge_slashes` (on by default): `%XX` is decoded once, `.` and `..` segments are
//! resolved, adjacent slashes become one. A decoded `/` or `.` counts like a plain one: `%2F` separates segments and `%2e%2e` goes up. A
//! decoded `%`, `?` or `#` is a plain byte. APISIX's `normalize_uri_like_servlet` and `delete_uri_tail_slash` are off by default and not
//! done here: `;x` stays and so does a trailing slash.
//!
//! Refused, to be answered with 400: `%00`, `%` without two hex digits, a `..` that leaves the root, and bytes that no request target
//! may have (RFC 9112 section 3.2: controls, space, DEL, `#`; nginx cuts the path at a `#`, which hides its rest from the routes). Bytes
//! above 0x7f pass. The target that goes upstream is not changed; see [`Normal::dots_resolved`].

/// A path to match routes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Normal<'a> {
    /// The path; parameters are places in it.
    pub path: &'a [u8],
    /// Whether `.` or `..` segments were resolved. The raw target then names another path to whoever does not resolve them: an
    /// upstream may serve what this route did not mean, unless it gets `path`, encoded again, in place of the raw target.
    pub dots_resolved: bool,
}

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Neither `/...` nor `*`.
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// A byte that must be escaped.
    #[error("byte 0x{0:02x} cannot stand in a path unescaped")]
    Byte(u8),
    /// `%` without two hex digits.
    #[error("a percent sign is not followed by two hex digits")]
    Escape,
    /// `%00`.
    #[error("the path has an escaped NUL")]
    Nul,
    /// `..` leaves the root.
    #[error("the path goes above the root")]
    AboveRoot,
}

/// Normalises the path of a request target (without the query), into `scratch` where it has to change. An empty path
/// is `/` (RFC 9112 section 3.2.2); `*` of `OPTIONS *` stays.
pub fn normalize<'a>(path: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Normal<'a>, PathError> {
    match path {
        [] => return Ok(Normal { path: b"/", dots_resolved: false }),
        b"*" => return Ok(Normal { path, dots_resolved: false }),
        [b'/', ..] => {}
        _ => return Err(PathError::NotAbsolute),
    }
    if is_normal(path)? {
        return Ok(Normal { path, dots_resolved: false });
    }
    scratch.clear();
    let mut writer = Writer { out: scratch, segment: 0, dots_resolved: false };
    let mut bytes = path.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let decoded = hex(bytes.next())? << 4 | hex(bytes.next())?;
                match decoded {
                    0 => return Err(PathError::Nul),
                    // A segment of `.` is one also when its dot was escaped, but an escaped percent sign escapes nothing.
                    decoded => writer.push(decoded)?,
                }
            }
            byte => writer.push(byte)?,
        }
    }
    writer.end_segment()?;
    let dots_resolved = writer.dots_resolved;
    Ok(Normal { path: scratch, dots_resolved })
}

/// Writes a decoded path, resolving each segment as it ends.
/// Appends a normalised path as a request target may hold it: what is not plain in a path (RFC 3986 section 3.3) escaped.
pub fn encode(path: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in path {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte) {
            out.push(byte);
        } else {
            let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
}

struct Writer<'s> {
    out: &'s mut Vec<u8>,
    /// Where the last segment begins.
    segment: usize,
    dots_resolved: bool,
}

impl Writer<'_> {
    fn push(&mut self, byte: u8) -> Result<(), PathError> {
        if byte != b'/' {
            self.out.push(byte);
            return Ok(());
        }
        self.end_segment()?;
        if self.out.last() != Some(&b'/') {
            self.out.push(b'/');
        }
        self.segment = self.out.len();
        Ok(())
    }

    /// Resolves the last segment if it is of dots; what is left then ends with a slash.
    fn end_segment(&mut self) -> Result<(), PathError> {
        match self.out.get(self.segment..) {
            Some(b".") => self.out.truncate(self.segment),
            Some(b"..") => {
                let parent = self.segment.checked_sub(1).and_then(|slash| self.out.get(..slash));
                let slash =
                    parent.and_then(|parent| memchr::memrchr(b'/', parent)).ok_or(PathError::AboveRoot)?;
                self.segment = slash.saturating_add(1);
                self.out.truncate(self.segment);
            }
            _ => return Ok(()),
        }
        self.dots_resolved = true;
        Ok(())
    }
}

/// Whether a path stays as it is. Looks at every byte, so that what may not be there is found in any case.
fn is_normal(path: &[u8]) -> Result<bool, PathError> {
    let mut normal = true;
    let mut rest = path.iter();
    while let Some(&byte) = rest.find(|byte| SPECIAL[usize::from(**byte)]) {
        match byte {
            // Segments that only begin with a dot take the slow path too; they are rare.
            b'/' => normal &= !matches!(rest.as_slice().first(), Some(b'/' | b'.')),
            b'%' => normal = false,
            byte => return Err(PathError::Byte(byte)),
        }
    }
    Ok(normal)
}

/// Bytes that are looked at more closely: slashes, percent signs and what may not be there.
const SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let mut byte = 0;
    while byte <= b' ' as usize {
        special[byte] = true;
        byte += 1;
    }
    special[b'/' as usize] = true;
    special[b'%' as usize] = true;
    special[b'#' as usize] = true;
    special[0x7f] = true;
    special
};

fn hex(digit: Option<u8>) -> Result<u8, PathError> {
    match digit {
        Some(digit @ b'0'..=b'9') => Ok(digit - b'0'),
        Some(digit @ b'a'..=b'f') => Ok(digit - b'a' + 10),
        Some(digit @ b'A'..=b'F') => Ok(digit - b'A' + 10),
        _ => Err(PathError::Escape),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(path: &str) -> Result<(String, bool), PathError> {
        let mut scratch = b"left over".to_vec();
        let normal = normalize(path.as_bytes(), &mut scratch)?;
        Ok((String::from_utf8_lossy(normal.path).into_owned(), normal.dots_resolved))
    }

    #[test]
    fn escapes_slashes_and_dots_go_as_in_nginx() {
        for (path, want, dots_resolved) in [
            ("/", "/", false),
            ("", "/", false),
            ("*", "*", false),
            ("/a/b", "/a/b", false),
            ("/a/b/", "/a/b/", false),
            ("/a;x=1/b", "/a;x=1/b", false),
            ("/a+b", "/a+b", false),
            ("//a///b//", "/a/b/", false),
            ("/a%20b", "/a b", false),
            ("/%61%2Fb", "/a/b", false),
            ("/a%2f%2Fb", "/a/b", false),
            ("/%2561", "/%61", false),
            ("/a%3Fb%23c", "/a?b#c", false),
            ("/a%0A", "/a\n", false),
            ("/.a/..b/...", "/.a/..b/...", false),
            ("/a/./b", "/a/b", true),
            ("/a/.", "/a/", true),
            ("/.", "/", true),
            ("/a/b/../c", "/a/c", true),
            ("/a/b/..", "/a/", true),
            ("/a//../b", "/b", true),
            ("/a/%2e%2E/b", "/b", true),
            ("/a/.%2e/b", "/b", true),
            ("/a/..%2fb", "/b", true),
            ("/a/%2e/b", "/a/b", true),
            ("/a/%252e%252e/b", "/a/%2e%2e/b", false),
        ] {
            assert_eq!(normal(path), Ok((want.to_owned(), dots_resolved)), "{path}");
        }
    }

    #[test]
    fn what_no_path_can_be_is_refused() {
        for (path, want) in [
            ("a", PathError::NotAbsolute),
            ("**", PathError::NotAbsolute),
            ("/..", PathError::AboveRoot),
            ("/a/../..", PathError::AboveRoot),
            ("/a/../../b", PathError::AboveRoot),
            ("/%2e%2e/a", PathError::AboveRoot),
            ("/%00", PathError::Nul),
            ("/%", PathError::Escape),
            ("/%1", PathError::Escape),
            ("/%1g", PathError::Escape),
            ("/%/1", PathError::Escape),
            ("/a b", PathError::Byte(b' ')),
            ("/a#b", PathError::Byte(b'#')),
            ("/%41\n", PathError::Byte(b'\n')),
            ("/a\u{7f}", PathError::Byte(0x7f)),
        ] {
            assert_eq!(normal(path), Err(want), "{path}");
        }
    }

    #[test]
    fn a_normal_path_is_not_copied() {
        let mut scratch = Vec::new();
        let path = b"/api/v1/users/1\xc3\xa9";
        assert_eq!(normalize(path, &mut scratch).map(|normal| normal.path.as_ptr()), Ok(path.as_ptr()));
    }

    /// Decodes all, cuts all, resolves all, one after the other.
    fn model(path: &[u8]) -> Option<Vec<u8>> {
        let mut decoded = Vec::new();
        let mut rest = path;
        while let Some((&byte, tail)) = rest.split_first() {
            rest = tail;
            if byte == b'%' {
                let digits = str::from_utf8(tail.get(..2)?).ok().filter(|digits| !digits.starts_with('+'))?;
                decoded.push(u8::from_str_radix(digits, 16).ok().filter(|byte| *byte > 0)?);
                rest = &tail[2..];
            } else {
                decoded.push(byte);
            }
        }
        let mut kept: Vec<&[u8]> = Vec::new();
        let mut open = false;
        for segment in decoded.split(|byte| *byte == b'/').skip(1) {
            open = matches!(segment, b"" | b"." | b"..");
            match segment {
                b"" | b"." => {}
                b".." => drop(kept.pop()?),
                segment => kept.push(segment),
            }
        }
        let mut text: Vec<u8> = kept.iter().flat_map(|segment| [b"/", *segment].concat()).collect();
        if open {
            text.push(b'/');
        }
        Some(text)
    }

    proptest! {
        #[test]
        fn normalising_is_decoding_then_resolving(
            parts in proptest::collection::vec(
                proptest::sample::select(vec!["/", "/", ".", "..", "a", "b", "%2f", "%2E", "%2e", "%25", "%", "%6", "%00", "é", "?", "%3f"]),
                0..12,
            ),
        ) {
            let path = format!("/{}", parts.concat());
            let mut scratch = Vec::new();
            let got = normalize(path.as_bytes(), &mut scratch).ok();
            let want = model(path.as_bytes());
            prop_assert_eq!(got.map(|normal| normal.path.to_vec()), want.clone());
            // What comes out holds no dot segment and no double slash.
            if let Some(want) = want {
                prop_assert!(!want.split(|byte| *byte == b'/').any(|segment| segment == b"." || segment == b".."));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(path in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut scratch = Vec::new();
            let _ = normalize(&path, &mut scratch);
            let path = [b"/".as_slice(), &path].concat();
            let _ = normalize(&path, &mut scratch);
        }
    }
}
