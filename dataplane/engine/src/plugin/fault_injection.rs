//! `fault-injection`: whether a request is held, and whether it is answered at once.

use ringway_snapshot::plugin::fault_injection::{FaultInjection, Whom};

use super::chance::below;
use super::{Asked, Verdict, edit_answer, fill};
use crate::route::holds;

pub(super) fn rewrite(conf: &FaultInjection, key: u64, asked: &mut Asked<'_>) -> Verdict {
    if let Some(delay) = &conf.delay
        && is_meant(&delay.whom, key, asked)
    {
        asked.course.delay_ms = asked.course.delay_ms.saturating_add(delay.ms);
    }
    let Some(abort) = &conf.abort else { return Verdict::Continue };
    if !is_meant(&abort.whom, key.wrapping_add(1), asked) {
        return Verdict::Continue;
    }
    let reply = &mut asked.course.reply;
    reply.status = abort.status;
    reply.content_type = b"text/plain";
    fill(&abort.body, asked.facts, &mut reply.body);
    edit_answer(&abort.headers, asked.facts, &mut asked.course.answer);
    Verdict::Answer
}

fn is_meant(whom: &Whom, key: u64, asked: &mut Asked<'_>) -> bool {
    let holds = whom.vars.is_empty() || whom.vars.iter().any(|vars| holds(vars, asked.facts));
    holds && (whom.percentage == 100 || below(asked.chance.turn(key), 100) < whom.percentage)
}
