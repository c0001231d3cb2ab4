//! `response-rewrite`: what the client gets in place of what was answered.

use ringway_snapshot::plugin::response_rewrite::ResponseRewrite;

use super::{Asked, Changes, Verdict, edit_answer};
use crate::facts::Facts;
use crate::route::holds;

/// Fields that speak of the bytes of the node's body, which the client does not get.
const OF_CONTENT: [&[u8]; 7] = [
    b"Last-Modified",
    b"ETag",
    b"Accept-Ranges",
    b"Content-Digest",
    b"Repr-Digest",
    b"Digest",
    b"Content-MD5",
];

/// What is compressed cannot be filtered, so the node is asked not to; and a part of a body that was filtered is no part of the filtered
/// body, so the node is asked for the whole (RFC 9110 section 14.2: ranges may be ignored).
pub(super) fn rewrite(asked: &mut Asked<'_>) -> Verdict {
    asked.course.request.set(b"Accept-Encoding", b"identity");
    asked.course.request.remove(b"Range");
    asked.course.request.remove(b"If-Range");
    Verdict::Continue
}

pub(super) fn answer<'a>(conf: &'a ResponseRewrite, facts: &Facts<'_>, changes: &mut Changes<'a>) {
    if !conf.vars.as_ref().is_none_or(|vars| holds(vars, facts)) {
        return;
    }
    changes.status = conf.status.or(changes.status);
    if let Some(body) = &conf.body {
        changes.body = Some(body);
        changes.edits.remove(b"Content-Encoding");
    }
    if !conf.filters.is_empty() {
        changes.filters.push(&conf.filters);
    }
    if conf.body.is_some() || !conf.filters.is_empty() {
        OF_CONTENT.iter().for_each(|name| changes.edits.remove(name));
    }
    edit_answer(&conf.headers, facts, &mut changes.edits);
}
