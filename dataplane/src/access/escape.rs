//! Bytes that clients sent, made harmless for logs: no line, quote or control sequence of theirs ends up in one.
//!
//! JSON (RFC 8259 section 7): what is UTF-8 stays as it is but for quotes, backslashes and control characters (C1 and the separators of lines and
//! paragraphs too, which some readers take for line ends). A byte that is not UTF-8 becomes `\xHH` in the text, so that it is seen.
//! Plain text: as nginx does it, everything but printable ASCII becomes `\xHH`, quotes and backslashes too.

const HEX: &[u8; 16] = b"0123456789abcdef";
/// Stands behind a text that was cut.
pub(crate) const CUT_MARK: &str = "…";

/// Appends bytes as the inside of a JSON string.
pub(crate) fn json(bytes: &[u8], out: &mut Vec<u8>) {
    if is_harmless(bytes) {
        return out.extend_from_slice(bytes);
    }
    for chunk in bytes.utf8_chunks() {
        let mut plain = 0;
        let valid = chunk.valid();
        for (at, character) in valid.char_indices().filter(|(_, character)| !is_plain(*character)) {
            out.extend_from_slice(valid.get(plain..at).unwrap_or_default().as_bytes());
            plain = at + character.len_utf8();
            match character {
                '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
                '\n' => out.extend_from_slice(b"\\n"),
                '\r' => out.extend_from_slice(b"\\r"),
                '\t' => out.extend_from_slice(b"\\t"),
                other => {
                    let code = u32::from(other);
                    let digit = |shift: u32| HEX.get((code >> shift & 15) as usize).copied().unwrap_or(b'0');
                    out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
                }
            }
        }
        out.extend_from_slice(valid.get(plain..).unwrap_or_default().as_bytes());
        for byte in chunk.invalid() {
            out.push(b'\\');
            hex(*byte, out);
        }
    }
}

/// Whether it stands in a JSON text as it is. All that do not are below U+FFFF.
fn is_plain(character: char) -> bool {
    !(character.is_control() || matches!(character, '"' | '\\' | '\u{2028}' | '\u{2029}'))
}

/// Appends bytes as printable ASCII.
pub(crate) fn plain(bytes: &[u8], out: &mut Vec<u8>) {
    if is_harmless(bytes) {
        return out.extend_from_slice(bytes);
    }
    for byte in bytes {
        match byte {
            b'"' | b'\\' => hex(*byte, out),
            b' '..=b'~' => out.push(*byte),
            _ => hex(*byte, out),
        }
    }
}

/// Whether there is nothing to do, as nearly always: printable ASCII without quotes and backslashes.
fn is_harmless(bytes: &[u8]) -> bool {
    // Without an early end, so that it is done many bytes at a time.
    let is_wrong = |byte: u8| !(0x20..0x7f).contains(&byte) | (byte == b'"') | (byte == b'\\');
    !bytes.iter().fold(false, |wrong, byte| wrong | is_wrong(*byte))
}

fn hex(byte: u8, out: &mut Vec<u8>) {
    let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
    out.extend_from_slice(&[b'\\', b'x', digit(byte >> 4), digit(byte & 15)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a reader of the JSON is to see.
    fn seen(bytes: &[u8]) -> String {
        bytes.utf8_chunks().fold(String::new(), |mut text, chunk| {
            text += chunk.valid();
            chunk.invalid().iter().for_each(|byte| text += &format!("\\x{byte:02x}"));
            text
        })
    }

    proptest! {
        #[test]
        fn json_of_any_bytes_is_one_line_and_reads_back(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut out = b"\"".to_vec();
            json(&bytes, &mut out);
            out.push(b'"');
            let text = String::from_utf8(out).unwrap();
            prop_assert!(!text.chars().any(char::is_control), "{text:?}");
            prop_assert_eq!(serde_json::from_str::<String>(&text).unwrap(), seen(&bytes));
        }

        #[test]
        fn json_of_any_text_reads_back_exactly(text in any::<String>()) {
            let mut out = b"\"".to_vec();
            json(text.as_bytes(), &mut out);
            out.push(b'"');
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn plain_text_of_any_bytes_is_printable_and_has_no_quote(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut out = Vec::new();
            plain(&bytes, &mut out);
            prop_assert!(out.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'"'));
        }
    }

    #[test]
    fn a_forged_line_stays_inside_its_field() {
        let mut out = Vec::new();
        json(b"/a\n{\"status\":200}\x1b[2J\xff\xc2\x9b", &mut out);
        assert_eq!(out, br#"/a\n{\"status\":200}\u001b[2J\\xff\u009b"#);
        out.clear();
        plain(b"/a\" 200\n\\", &mut out);
        assert_eq!(out, br"/a\x22 200\x0a\x5c");
    }
}
