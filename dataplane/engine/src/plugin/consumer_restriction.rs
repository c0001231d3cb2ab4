//! `consumer-restriction`: whether this consumer may ask, or may ask this route or service.

use ringway_snapshot::plugin::consumer_restriction::{ConsumerRestriction, Names, Subject};

use super::{Asked, Verdict, refuse};
use crate::facts::Facts;

pub(super) fn access(conf: &ConsumerRestriction, asked: &mut Asked<'_>) -> Verdict {
    let Some(value) = value(conf.subject, asked.facts) else {
        return refuse(asked.course, 401, &conf.unknown);
    };
    if may_ask(conf, value, asked.facts) {
        return Verdict::Continue;
    }
    refuse(asked.course, conf.status, &conf.refusal)
}

fn may_ask(conf: &ConsumerRestriction, value: &str, facts: &Facts<'_>) -> bool {
    let names = |list: &Option<Names>| list.as_ref().map(|list| list.contains(value));
    if names(&conf.denied) == Some(true) {
        return false;
    }
    match names(&conf.allowed) {
        Some(true) => true,
        Some(false) => false,
        None => {
            let method = facts.head.method_span.of(facts.bytes);
            let own = conf.by_methods.iter().find(|entry| *entry.user == *value);
            own.is_none_or(|own| own.methods.iter().any(|known| known.name().as_bytes() == method))
        }
    }
}

fn value<'a>(subject: Subject, facts: &Facts<'a>) -> Option<&'a str> {
    match subject {
        Subject::ConsumerName => facts.caller.map(crate::consumer::Caller::name),
        Subject::ConsumerGroupId => facts.caller?.group.as_deref(),
        Subject::RouteId => facts.route.map(|route| &*route.about.route_id),
        Subject::ServiceId => facts.route?.about.service_id.as_deref(),
    }
}
