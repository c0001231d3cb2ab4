//! `key-auth`: whose key the request carries, in a field or an argument.

use ringway_snapshot::plugin::key_auth::KeyAuth;

use super::{Asked, Verdict, entrance};
use crate::facts::is_same;

pub(super) fn rewrite(conf: &KeyAuth, asked: &mut Asked<'_>) -> Verdict {
    let in_field = asked.facts.header(conf.header.as_bytes());
    let is_in_field = in_field.is_some();
    let key = in_field.or_else(|| asked.facts.argument(conf.query.as_bytes()));
    let shown = match &key {
        None => Err("{\"message\":\"Missing API key in request\"}\n"),
        Some(key) => asked
            .callers
            .and_then(|callers| callers.by_key(key))
            .ok_or("{\"message\":\"Invalid API key in request\"}\n"),
    };
    if conf.entrance.hides {
        // Who comes in as the anonymous consumer may have shown something wrong in both places.
        if is_in_field {
            hide_field(conf.header.as_bytes(), asked);
        }
        if !is_in_field || shown.is_err() {
            asked.course.hidden.push(conf.query.clone());
        }
    }
    entrance::enter(&conf.entrance, shown, asked)
}

/// Takes the field out under every name under which it was found.
fn hide_field(name: &[u8], asked: &mut Asked<'_>) {
    let facts = asked.facts;
    asked.course.request.remove(name);
    for given in facts.head.fields.iter().map(|field| field.name.of(facts.bytes)) {
        if is_same(given, name) {
            asked.course.request.remove(given);
        }
    }
}
