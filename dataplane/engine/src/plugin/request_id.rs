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
        Form::Range(length, set) => {
            let draw = |_| set.get(below(chance.draw(), set.len() as u64) as usize).copied().unwrap_or(b'0');
            out.extend((0..*length).map(draw));
        }
    }
}
