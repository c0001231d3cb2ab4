//! `ip-restriction`: whether the client's address may ask.

use std::net::IpAddr;

use ringway_snapshot::plugin::ip_restriction::IpRestriction;

use super::{Asked, Verdict, refuse};

pub(super) fn access(conf: &IpRestriction, asked: &mut Asked<'_>) -> Verdict {
    let address = str::from_utf8(asked.facts.client_ip).ok().and_then(|text| text.parse::<IpAddr>().ok());
    let is_named = address.is_some_and(|address| conf.blocks.iter().any(|block| block.contains(address)));
    if is_named == conf.allows {
        return Verdict::Continue;
    }
    refuse(asked.course, conf.status, &conf.refusal)
}
