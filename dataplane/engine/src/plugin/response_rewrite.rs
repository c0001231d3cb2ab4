//! `response-rewrite`: what the client gets in place of what was answered.

use ringway_snapshot::plugin::response_rewrite::ResponseRewrite;

use super::{Asked, Changes, Verdict, edit_answer};
use crate::facts::Facts;
use crate::route::holds;

/// Fields that speak of the body that is replaced.
const OF_BODY: [&[u8]; 3] = [b"Content-Encoding", b"Last-Modified", b"ETag"];

/// Of a body that changes.
const OF_CONTENT: [&[u8]; 2] = [b"Last-Modified", b"ETag"];

/// What is compressed cannot be filtered, so the node is asked not to.
pub(super) fn rewrite(asked: &mut Asked<'_>) -> Verdict {
    asked.course.request.set(b"Accept-Encoding", b"identity");
    Verdict::Continue
}

pub(super) fn answer<'a>(conf: &'a ResponseRewrite, facts: &Facts<'_>, changes: &mut Changes<'a>) {
    if !conf.vars.as_ref().is_none_or(|vars| holds(vars, facts)) {
        return;
    }
    changes.status = conf.status.or(changes.status);
    if let Some(body) = &conf.body {
        changes.body = Some(body);
        OF_BODY.iter().for_each(|name| changes.edits.remove(name));
    }
    if !conf.filters.is_empty() {
        changes.filters.push(&conf.filters);
        OF_CONTENT.iter().for_each(|name| changes.edits.remove(name));
    }
    edit_answer(&conf.headers, facts, &mut changes.edits);
}
