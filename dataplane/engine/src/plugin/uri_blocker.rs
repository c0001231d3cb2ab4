//! `uri-blocker`: whether this may be asked for.

use ringway_snapshot::plugin::uri_blocker::UriBlocker;

use super::{Asked, Verdict, refuse};

pub(super) fn rewrite(conf: &UriBlocker, asked: &mut Asked<'_>) -> Verdict {
    let uri = asked.facts.head.target.path_and_query_bytes(asked.facts.bytes);
    if !conf.patterns.iter().any(|pattern| pattern.occurs_in(uri)) {
        return Verdict::Continue;
    }
    if conf.refusal.is_empty() {
        asked.course.reply.status = conf.status;
        return Verdict::Answer;
    }
    refuse(asked.course, conf.status, &conf.refusal)
}
