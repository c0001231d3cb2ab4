//! `multipart/form-data` (RFC 7578): each part's name and what is in it, files too.
//!
//! Lines may end with LF alone, and the last part need not be ended: that is how APISIX reads it. Of parts of one name the last one
//! counts; parts without a name are passed over. Values are bytes as they are, whatever the part says of its type.

use std::collections::BTreeMap;

use super::{VALUES_MAX, Value};

/// The parts; `None`: there is no boundary, or there are too many of them.
pub(super) fn read(content_type: &[u8], bytes: &[u8]) -> Option<Value> {
    let boundary = parameter(content_type, b"boundary").filter(|boundary| !boundary.is_empty())?;
    let mut parts = BTreeMap::new();
    let mut count = 0;
    let mut at = 0;
    let mut place = Place::Outside;
    let mut put = |name: Option<Box<[u8]>>, value: &[u8]| {
        count += 1;
        if let Some(name) = name {
            parts.insert(name, Value::Text(value.into()));
        }
        count <= VALUES_MAX
    };
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        let length = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
        let line = without_end(rest.get(..length)?);
        let next = at + length;
        match (delimiter(line, &boundary), &mut place) {
            (Some(is_last), place) => {
                if let Place::Value(name, start) = place
                    && !put(name.take(), without_end(bytes.get(*start..at)?))
                {
                    return None;
                }
                *place = Place::Head(None);
                if is_last {
                    return Some(Value::Fields(parts));
                }
            }
            (None, Place::Head(name)) if line.is_empty() => place = Place::Value(name.take(), next),
            (None, Place::Head(name)) => {
                if let Some(disposition) = field(line, b"content-disposition") {
                    *name = parameter(disposition, b"name");
                }
            }
            (None, Place::Outside | Place::Value(..)) => {}
        }
        at = next;
    }
    if let Place::Value(name, start) = place
        && !put(name, bytes.get(start..)?)
    {
        return None;
    }
    Some(Value::Fields(parts))
}

/// Where a line stands.
enum Place {
    /// Before the first part.
    Outside,
    /// Among a part's fields, with the name it has so far.
    Head(Option<Box<[u8]>>),
    /// In what a part of that name has, which begins there.
    Value(Option<Box<[u8]>>, usize),
}

/// Whether a line is between two parts, and whether it is behind the last one.
fn delimiter(line: &[u8], boundary: &[u8]) -> Option<bool> {
    let behind = line.strip_prefix(b"--")?.strip_prefix(boundary)?;
    match behind.trim_ascii_end() {
        b"" => Some(false),
        b"--" => Some(true),
        _ => None,
    }
}

/// Without the end of its last line.
fn without_end(text: &[u8]) -> &[u8] {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

/// What a field of that name has, where the line is one.
fn field<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let colon = memchr::memchr(b':', line)?;
    line.get(..colon)?.eq_ignore_ascii_case(name).then(|| line.get(colon + 1..))?
}

/// A parameter behind a semicolon, quoted or not (RFC 9110 section 5.6.6).
fn parameter(value: &[u8], name: &[u8]) -> Option<Box<[u8]>> {
    let mut rest = value.get(memchr::memchr(b';', value)? + 1..)?;
    loop {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(|byte| matches!(byte, b'=' | b';')).unwrap_or(rest.len());
        let (key, behind) = rest.split_at(end);
        let (text, behind) = match behind.strip_prefix(b"=") {
            None => (Vec::new(), behind),
            Some(behind) => text(behind),
        };
        if key.trim_ascii_end().eq_ignore_ascii_case(name) {
            return Some(text.into());
        }
        rest = behind.get(memchr::memchr(b';', behind)? + 1..)?;
    }
}

/// A parameter's text at the beginning, and what follows it.
fn text(value: &[u8]) -> (Vec<u8>, &[u8]) {
    let Some(quoted) = value.strip_prefix(b"\"") else {
        let end = memchr::memchr(b';', value).unwrap_or(value.len());
        let (text, behind) = value.split_at(end);
        return (text.trim_ascii_end().to_vec(), behind);
    };
    let mut text = Vec::new();
    let mut rest = quoted;
    while let [first, behind @ ..] = rest {
        match (first, behind) {
            (b'"', _) => return (text, behind),
            (b'\\', [escaped, behind @ ..]) => {
                text.push(*escaped);
                rest = behind;
            }
            _ => {
                text.push(*first);
                rest = behind;
            }
        }
    }
    (text, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(content_type: &str, body: &str) -> Option<Vec<(String, String)>> {
        let Value::Fields(fields) = read(content_type.as_bytes(), body.as_bytes())? else { return None };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(fields.iter().map(|(name, value)| (text(name), text(value.text().unwrap()))).collect())
    }

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Option<Vec<(String, String)>> {
        Some(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec())
    }

    #[test]
    fn parts_have_their_names_whatever_ends_the_lines() {
        let body = "preamble\r\n--x\r\nContent-Disposition: form-data; filename=\"a;name=no\"; name=\"file\"\r\nContent-Type: a/b\r\n\r\n\
            one\r\n\r\n--xy\r\ntwo\r\n--x  \r\ncontent-disposition: form-data; name=m\r\n\r\n1\r\n--x\r\n\r\nnameless\r\n\
            --x\r\nContent-Disposition: form-data; Name=\"m\\\"\"\r\n\r\n\r\n--x--\r\n--x\r\nContent-Disposition: a; name=z\r\n\r\n9\r\n--x--";
        let want = pairs([("file", "one\r\n\r\n--xy\r\ntwo"), ("m", "1"), ("m\"", "")]);
        assert_eq!(parts("multipart/form-data; charset=a; boundary=\"x\"", body), want);
        let plain = "--x\nContent-Disposition: form-data; name=\"model\"\n\nopenai\n--x--";
        assert_eq!(parts("multipart/form-data;boundary=x", plain), pairs([("model", "openai")]));
    }

    #[test]
    fn the_last_of_a_name_counts_and_an_end_may_be_missing() {
        let body = "--x\nContent-Disposition: f; name=a\n\n1\n--x\nContent-Disposition: f; name=a\n\n2";
        assert_eq!(parts("multipart/form-data; boundary=x", body), pairs([("a", "2")]));
        assert_eq!(parts("multipart/form-data; boundary=y", body), pairs([]));
        for none in ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; b=x"] {
            assert_eq!(parts(none, body), None, "{none}");
        }
    }
}
