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
    let mut after_slash = false;
    for &byte in path {
        match byte {
            b'/' => {
                normal &= !after_slash;
                after_slash = true;
                continue;
            }
            // Segments that only begin with a dot take the slow path too; they are rare.
            b'.' => normal &= !after_slash,
            b'%' => normal = false,
            0..=b' ' | b'#' | 0x7f => return Err(PathError::Byte(byte)),
            _ => {}
        }
        after_slash = false;
    }
    Ok(normal)
}

fn hex(digit: Option<u8>) -> Result<u8, PathError> {
    match digit {
        Some(digit @ b'0'..=b'9') => Ok(digit - b'0'),
        Some(digit @ b'a'..=b'f') => Ok(digit - b'a' + 10),
        Some(digit @ b'A'..=b'F') => Ok(digit - b'A' + 10),
        _ => Err(PathError::Escape),
    }
}
