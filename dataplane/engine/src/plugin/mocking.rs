//! `mocking`: the answer that is given in place of a node's.

use ringway_snapshot::plugin::mocking::{Body, Mocking};

use super::chance::below;
use super::{Asked, Verdict, edit_answer, fill};

pub(super) fn access(conf: &Mocking, asked: &mut Asked<'_>) -> Verdict {
    let course = &mut *asked.course;
    course.delay_ms = course.delay_ms.saturating_add(conf.delay_ms);
    course.reply.status = conf.status;
    match &conf.body {
        Body::Given(text) => fill(text, asked.facts, &mut course.reply.body),
        Body::MadeUp(made) => {
            let made = made.value(&mut |bound| below(asked.chance.draw(), bound));
            course.reply.body.extend_from_slice(made.to_string().as_bytes());
        }
    }
    course.answer.set(b"Content-Type", conf.content_type.as_bytes());
    if conf.with_mock_header {
        course.answer.set(b"x-mock-by", b"ringway");
    }
    edit_answer(&conf.headers, asked.facts, &mut course.answer);
    Verdict::Answer
}
