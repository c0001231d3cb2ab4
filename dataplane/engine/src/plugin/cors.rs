//! `cors`: preflights are answered here, and every answer tells whose pages may read it.

use ringway_snapshot::plugin::cors::{Cors, Origins};

use super::{Asked, Changes, Edits, Verdict};
use crate::facts::{Facts, Text};

/// A preflight is asked without what lets the request itself pass, so no plugin after this one looks at it.
pub(super) fn rewrite(asked: &mut Asked<'_>) -> Verdict {
    let facts = asked.facts;
    if facts.head.method_span.of(facts.bytes) != b"OPTIONS" {
        return Verdict::Continue;
    }
    asked.course.reply.status = 200;
    Verdict::Answer
}

/// The origin is the client's, whatever plugins told the node.
pub(super) fn answer(conf: &Cors, facts: &Facts<'_>, changes: &mut Changes<'_>) {
    let edits = &mut changes.edits;
    let origin = facts.received(b"origin").next();
    if conf.varies {
        edits.add_with(b"Vary", |out| out.extend_from_slice(b"Origin"));
    }
    if let Some(told) = allowed(&conf.origins, origin) {
        allow(conf, told, facts, edits);
    }
    if let Some(told) = conf.timing.as_ref().and_then(|timing| allowed(timing, origin)) {
        edits.set(b"Timing-Allow-Origin", told);
    }
}

fn allow(conf: &Cors, origin: &[u8], facts: &Facts<'_>, edits: &mut Edits) {
    edits.set(b"Access-Control-Allow-Origin", origin);
    edits.set(b"Access-Control-Allow-Methods", conf.methods.as_bytes());
    edits.set(b"Access-Control-Max-Age", conf.max_age.as_bytes());
    if let Some(exposed) = &conf.exposed {
        edits.set(b"Access-Control-Expose-Headers", exposed.as_bytes());
    }
    let asked = || facts.header(b"access-control-request-headers");
    let headers = conf.headers.as_ref().map(|headers| Text::Received(headers.as_bytes())).or_else(asked);
    match headers {
        Some(headers) => edits.set(b"Access-Control-Allow-Headers", &headers),
        None => edits.remove(b"Access-Control-Allow-Headers"),
    }
    if conf.credentials {
        edits.set(b"Access-Control-Allow-Credentials", b"true");
    }
}

/// What the client is told of its origin; `None`: nothing.
fn allowed<'o>(origins: &Origins, origin: Option<&'o [u8]>) -> Option<&'o [u8]> {
    match origins {
        Origins::Any => Some(b"*"),
        Origins::Each => Some(origin.unwrap_or(b"*")),
        Origins::Listed(list) => origin.filter(|origin| list.iter().any(|own| own.as_bytes() == *origin)),
        Origins::Matching(patterns) => {
            origin.filter(|origin| patterns.iter().any(|pattern| pattern.occurs_in(origin)))
        }
    }
}
