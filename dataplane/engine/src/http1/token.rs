//! Byte classes of the grammar, and the scans built on them.
//!
//! One table holds every class as a bit, so that a test is one load and one mask. The value scan looks at eight
//! bytes at a time, because field values are most of a head.

/// `tchar` (RFC 9110 section 5.6.2): what a token, and so a method or a field name, is made of.
pub(crate) const TOKEN: u8 = 1;
/// `field-vchar`, SP and HTAB (RFC 9110 section 5.5): VCHAR and obs-text, no other control.
pub(crate) const VALUE: u8 = 1 << 1;
/// What a request-target's path may hold. See `target.rs` for why it is more than `pchar`.
pub(crate) const PATH: u8 = 1 << 2;
/// What a request-target's query may hold.
pub(crate) const QUERY: u8 = 1 << 3;
/// `unreserved / sub-delims` without the comma (RFC 3986 section 3.2.2); `%` is checked apart.
pub(crate) const REG_NAME: u8 = 1 << 4;
/// `qdtext` (RFC 9110 section 5.6.4).
pub(crate) const QDTEXT: u8 = 1 << 5;

const CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0_u8; 256];
    let mut byte = 0_usize;
    while byte < 256 {
        table[byte] = class_of(byte as u8);
        byte += 1;
    }
    table
}

const fn class_of(byte: u8) -> u8 {
    let alnum = byte.is_ascii_alphanumeric();
    let mut class = 0;
    if alnum || contains(b"!#$%&'*+-.^_`|~", byte) {
        class |= TOKEN;
    }
    if byte == b'\t' || (byte >= 0x20 && byte != 0x7f) {
        class |= VALUE;
    }
    if alnum || contains(b"-._~!$&'()*+,;=:@/%|{}^`[]", byte) {
        class |= PATH;
    }
    if alnum || contains(b"-._~!$&'()*+,;=:@/?%|{}^`[]\"<>\\", byte) {
        class |= QUERY;
    }
    if alnum || contains(b"-._~!$&'()*+;=", byte) {
        class |= REG_NAME;
    }
    if byte == b'\t' || byte == b' ' || (byte > 0x20 && byte != 0x7f && byte != b'"' && byte != b'\\') {
        class |= QDTEXT;
    }
    class
}

const fn contains(set: &[u8], byte: u8) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set[at] == byte {
            return true;
        }
        at += 1;
    }
    false
}

/// Whether `byte` is in one of the classes.
#[inline]
pub(crate) fn is(byte: u8, class: u8) -> bool {
    CLASSES.get(usize::from(byte)).is_some_and(|bits| bits & class != 0)
}

/// How many bytes at the front are in the class.
#[inline]
pub(crate) fn run(bytes: &[u8], class: u8) -> usize {
    bytes.iter().position(|&byte| !is(byte, class)).unwrap_or(bytes.len())
}

/// How many bytes at the front may stand in a field value.
#[inline]
pub(crate) fn value_run(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(word) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        if may_hold_control(u64::from_le_bytes(*word)) {
            let good = run(word, VALUE);
            at += good;
            if good < word.len() {
                return at;
            }
        } else {
            at += word.len();
        }
    }
    at + run(bytes.get(at..).unwrap_or(&[]), VALUE)
}

/// Whether every byte is visible ASCII: nothing that could end a line or be trimmed, and no obs-text.
#[inline]
pub(crate) fn is_graphic(bytes: &[u8]) -> bool {
    is_ascii_from::<0x21>(bytes)
}

/// The same with spaces between them.
#[inline]
pub(crate) fn is_plain_text(bytes: &[u8]) -> bool {
    is_ascii_from::<0x20>(bytes) && bytes.first() != Some(&b' ') && bytes.last() != Some(&b' ')
}

/// Whether every byte is `LOWEST` or above, and below DEL.
#[inline]
fn is_ascii_from<const LOWEST: u8>(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let good = words.iter().all(|word| holds_from::<LOWEST>(u64::from_ne_bytes(*word)));
    // What is left over is looked at together with bytes that were looked at already, where there are as many.
    match (rest, bytes.last_chunk::<8>(), bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        ([], ..) => good,
        (_, Some(last), ..) => good && holds_from::<LOWEST>(u64::from_ne_bytes(*last)),
        (_, None, Some(first), Some(last)) => {
            let (first, last) = (u32::from_ne_bytes(*first), u32::from_ne_bytes(*last));
            holds_from::<LOWEST>(u64::from(first) << 32 | u64::from(last))
        }
        (few, ..) => few.iter().all(|byte| (LOWEST..0x7f).contains(byte)),
    }
}

/// Whether all eight bytes are. No sum runs out of its byte where none has its highest bit, and where one has, the answer
/// is no anyway.
#[inline]
fn holds_from<const LOWEST: u8>(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let high_enough = word.wrapping_add(ONES * (0x80 - u64::from(LOWEST))) & HIGHS;
    let too_high = (word | word.wrapping_add(ONES)) & HIGHS;
    high_enough == HIGHS && too_high == 0
}

/// Whether one of the eight bytes is below 0x20 or is DEL. The borrow of a subtraction can only run out of a byte
/// that is itself such a byte, so the answer is exact.
#[inline]
fn may_hold_control(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    let below_space = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
    let deletes = word ^ (ONES * 0x7f);
    let is_delete = deletes.wrapping_sub(ONES) & !deletes & HIGHS;
    (below_space | is_delete) != 0
}

/// Whether the bytes are a token (RFC 9110 section 5.6.2).
#[inline]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && run(bytes, TOKEN) == bytes.len()
}

/// The bytes without optional white space (SP and HTAB only) at either end.
#[inline]
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let [b' ' | b'\t', tail @ ..] = rest {
        rest = tail;
    }
    while let [head @ .., b' ' | b'\t'] = rest {
        rest = head;
    }
    rest
}

/// The non-empty members of a comma-separated list, trimmed (RFC 9110 section 5.6.1.2: empty ones are ignored).
pub fn list_members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|member| !member.is_empty())
}

/// Decimal digits and nothing else, as RFC 9110 section 8.6 has it. `None` for anything else or when the number
/// is above `i64::MAX`, which the next hop may hold in a signed integer.
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let mut number = 0_u64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    (number <= i64::MAX as u64).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wide_scan_agrees_with_the_table_on_every_byte_at_every_place() {
        for byte in 0..=255_u8 {
            for place in 0..20 {
                let mut bytes = [b'a'; 20];
                bytes[place] = byte;
                bytes[(place + 3) % 20] = b'\t';
                assert_eq!(value_run(&bytes), run(&bytes, VALUE), "byte {byte:#x} at {place}");
            }
        }
    }

    #[test]
    fn graphic_is_what_no_line_is_ended_by_and_no_trimming_takes() {
        for byte in 0..=255_u8 {
            for length in 1..=20 {
                for place in 0..length {
                    let mut bytes = [b'a'; 20];
                    bytes[place] = byte;
                    let told = is_graphic(&bytes[..length]);
                    assert_eq!(told, (0x21..0x7f).contains(&byte), "byte {byte:#x} at {place} of {length}");
                    let inner_space = byte == b' ' && place > 0 && place < length - 1;
                    assert_eq!(
                        is_plain_text(&bytes[..length]),
                        told || inner_space,
                        "{byte:#x} at {place} of {length}"
                    );
                }
            }
        }
        assert!(is_graphic(b""));
    }

    #[test]
    fn decimals_hold_digits_only_and_fit_a_signed_integer() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"007"), Some(7));
        assert_eq!(decimal(b"9223372036854775807"), Some(i64::MAX as u64));
        for bad in
            ["", "+1", "-1", "1 ", "0x1", "1_0", "9223372036854775808", "99999999999999999999999", "1,1"]
        {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn list_members_skip_empty_ones_and_trim_only_sp_and_htab() {
        let members: Vec<&[u8]> = list_members(b" , a ,\tb\t,, c\x0b ,").collect();
        assert_eq!(members, [b"a".as_slice(), b"b", b"c\x0b"]);
    }
}
