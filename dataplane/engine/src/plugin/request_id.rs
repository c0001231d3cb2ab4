//! `request-id`: the request's name, its own or a new one.

use std::io::Write as _;

use ringway_snapshot::plugin::request_id::{Form, RequestId};

use super::chance::{Chance, below};
use super::{Asked, Verdict};

pub(super) fn rewrite(conf: &RequestId, asked: &mut Asked<'_>) -> Verdict {
    let name = conf.field.as_bytes();
    let (course, chance) = (&mut *asked.course, &mut *asked.chance);
    let mut id = Vec::new();
    match asked.facts.header(name).filter(|given| !given.is_empty()) {
        Some(given) => id.extend_from_slice(&given),
        None => make(&conf.form, chance, &mut id),
    }
    course.request.set(name, &id);
    if conf.in_answer {
        course.answer.set(name, &id);
    }
    Verdict::Continue
}

/// The second from which KSUIDs count.
const KSUID_EPOCH_S: u64 = 1_400_000_000;
const KSUID_DIGITS: usize = 27;
const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// 20 bytes as one number in base 62, so that names sort by time.
fn ksuid(seconds: u32, random: u128, out: &mut Vec<u8>) {
    let word = |shift: u32| ((random >> shift) & 0xffff_ffff) as u64;
    let mut words = [u64::from(seconds), word(96), word(64), word(32), word(0)];
    let mut digits = [b'0'; KSUID_DIGITS];
    for digit in digits.iter_mut().rev() {
        let mut rest = 0;
        for word in &mut words {
            let value = rest << 32 | *word;
            (*word, rest) = (value / 62, value % 62);
        }
        *digit = usize::try_from(rest).ok().and_then(|rest| BASE62.get(rest)).copied().unwrap_or(b'0');
    }
    out.extend_from_slice(&digits);
}

fn make(form: &Form, chance: &mut Chance, out: &mut Vec<u8>) {
    match form {
        Form::Uuid => {
            // RFC 9562 section 5.4: version 4, variant 10.
            let high = (chance.draw() & !0xf000) | 0x4000;
            let low = (chance.draw() >> 2) | 1 << 63;
            let (a, b, c) = (high >> 32, (high >> 16) & 0xffff, high & 0xffff);
            // Writing to memory does not fail.
            let _ = write!(out, "{a:08x}-{b:04x}-{c:04x}-{:04x}-{:012x}", low >> 48, low & 0xffff_ffff_ffff);
        }
        Form::UuidV7 => {
            let random = chance.draw() & 0xfff;
            let low = (chance.draw() >> 2) | 1 << 63;
            let (a, b) = ((chance.unix_ms >> 16) & 0xffff_ffff, chance.unix_ms & 0xffff);
            let _ = write!(
                out,
                "{a:08x}-{b:04x}-7{random:03x}-{:04x}-{:012x}",
                low >> 48,
                low & 0xffff_ffff_ffff
            );
        }
        Form::Ksuid => {
            let seconds = (chance.unix_ms / 1_000).saturating_sub(KSUID_EPOCH_S) as u32;
            let random = u128::from(chance.draw()) << 64 | u128::from(chance.draw());
            ksuid(seconds, random, out);
        }
        Form::Range(length, set) => {
            let draw = |_| set.get(below(chance.draw(), set.len() as u64) as usize).copied().unwrap_or(b'0');
            out.extend((0..*length).map(draw));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(form: &Form, unix_ms: u64) -> String {
        let mut chance = Chance::new(7);
        chance.unix_ms = unix_ms;
        let mut out = Vec::new();
        make(form, &mut chance, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_that_hold_the_time_do_so_where_their_form_says() {
        // The time of RFC 9562's example.
        let uuid = made(&Form::UuidV7, 0x017f_22e2_79b0);
        let parts: Vec<&str> = uuid.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert_eq!((parts[0], parts[1], &parts[2][..1]), ("017f22e2", "79b0", "7"), "{uuid}");
        assert!(matches!(parts[3].as_bytes()[0], b'8' | b'9' | b'a' | b'b'), "{uuid}");

        let (earlier, later) = (made(&Form::Ksuid, 1_500_000_000_000), made(&Form::Ksuid, 1_500_000_001_000));
        assert!(earlier.len() == 27 && earlier < later, "{earlier} {later}");
        // The least and the greatest of them, as the form's definition gives them.
        let mut out = Vec::new();
        ksuid(0, 0, &mut out);
        ksuid(u32::MAX, u128::MAX, &mut out);
        assert_eq!(out, b"000000000000000000000000000aWgEPTl1tmebfsQzFP4bxwgy80V");
    }
}
