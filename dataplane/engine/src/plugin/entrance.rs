//! What plugins that tell consumers apart have in common: who is let in as whom, and what nodes hear of it.
//!
//! Nodes get the consumer's name, its credential and its `custom_id` in fields of their own, and what clients say in fields of
//! these names, or of names that an application could take for them, never reaches a node once such a plugin has let a request in.

use ringway_snapshot::plugin::key_auth::Entrance;

use super::{Asked, Course, Verdict, refuse};
use crate::consumer::Caller;
use crate::facts::Facts;

const NAME: &[u8] = b"X-Consumer-Username";
const CREDENTIAL: &[u8] = b"X-Credential-Identifier";
const CUSTOM_ID: &[u8] = b"X-Consumer-Custom-ID";

/// Lets a request in as the caller of that number, or as the anonymous consumer, or refuses it with `Err`'s body.
pub(super) fn enter(entrance: &Entrance, shown: Result<u32, &'static str>, asked: &mut Asked<'_>) -> Verdict {
    let callers = asked.callers;
    let anonymous = || match &entrance.anonymous {
        None => Err(shown.err().unwrap_or(UNKNOWN)),
        Some(name) => callers.and_then(|callers| callers.named(name)).ok_or(UNKNOWN),
    };
    let found = shown.or_else(|_| anonymous()).and_then(|place| {
        let caller = callers.and_then(|callers| callers.get(place));
        caller.map(|caller| (place, caller)).ok_or(UNKNOWN)
    });
    match found {
        Ok((place, caller)) => {
            asked.course.caller = Some(place);
            tell(caller, asked.facts, asked.course);
            Verdict::Continue
        }
        Err(body) => {
            asked.course.answer.set(b"WWW-Authenticate", entrance.challenge.as_bytes());
            refuse(asked.course, 401, body)
        }
    }
}

const UNKNOWN: &str = "{\"message\":\"Invalid user authorization\"}\n";

/// Tells nodes who the caller is.
fn tell(caller: &Caller, facts: &Facts<'_>, course: &mut Course) {
    for field in &facts.head.fields {
        let name = field.name.of(facts.bytes);
        if [NAME, CREDENTIAL, CUSTOM_ID].into_iter().any(|own| looks_like(name, own)) {
            course.request.remove(name);
        }
    }
    course.request.set(NAME, caller.name().as_bytes());
    for (name, value) in [(CREDENTIAL, caller.credential()), (CUSTOM_ID, caller.custom_id.as_deref())] {
        match value {
            Some(value) => course.request.set(name, value.as_bytes()),
            // A plugin before may have told another caller's.
            None => course.request.remove(name),
        }
    }
}

/// Whether an application that reads `-` and `_` alike takes the name for ours.
fn looks_like(name: &[u8], own: &[u8]) -> bool {
    let same = |(given, own): (&u8, &u8)| given.eq_ignore_ascii_case(own) || (*given == b'_' && *own == b'-');
    name.len() == own.len() && name.iter().zip(own).all(same)
}
