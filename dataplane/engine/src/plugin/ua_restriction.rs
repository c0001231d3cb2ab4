//! `ua-restriction`: whether the program that asks may.

use ringway_snapshot::plugin::ua_restriction::UaRestriction;

use super::{Asked, Verdict, refuse};

pub(super) fn access(conf: &UaRestriction, asked: &mut Asked<'_>) -> Verdict {
    let allowed = match asked.facts.header(b"user-agent") {
        None => conf.bypasses_missing,
        Some(agent) => conf.patterns.iter().any(|pattern| pattern.occurs_in(&agent)) == conf.allows,
    };
    if allowed { Verdict::Continue } else { refuse(asked.course, 403, &conf.refusal) }
}
