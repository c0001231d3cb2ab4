//! `mocking`: the answer that is given in place of a node's.

use ringway_snapshot::plugin::mocking::Mocking;

use super::{Asked, Verdict, edit_answer, fill};

pub(super) fn access(conf: &Mocking, asked: &mut Asked<'_>) -> Verdict {
    let course = &mut *asked.course;
    course.delay_ms = course.delay_ms.saturating_add(conf.delay_ms);
    course.reply.status = conf.status;
    fill(&conf.body, asked.facts, &mut course.reply.body);
    course.answer.set(b"Content-Type", conf.content_type.as_bytes());
    if conf.with_mock_header {
        course.answer.set(b"x-mock-by", b"ringway");
    }
    edit_answer(&conf.headers, asked.facts, &mut course.answer);
    Verdict::Answer
}
