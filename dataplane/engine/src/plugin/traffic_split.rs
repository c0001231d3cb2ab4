//! `traffic-split`: which upstream takes the request.

use ringway_snapshot::plugin::traffic_split::TrafficSplit;

use super::chance::below;
use super::{Asked, Verdict};
use crate::route::holds;

/// `places` are those of the entries that have an upstream, rule by rule.
pub(super) fn access(
    conf: &TrafficSplit,
    places: &[Option<u32>],
    key: u64,
    asked: &mut Asked<'_>,
) -> Verdict {
    let mut first_place = 0;
    for (index, rule) in conf.rules.iter().enumerate() {
        let own = rule.shares.iter().filter(|share| share.to.is_some()).count();
        let matches = rule.matches.as_deref();
        if !matches.is_none_or(|matches| matches.iter().any(|one| holds(one, asked.facts))) {
            first_place += own;
            continue;
        }
        if rule.weight == 0 {
            return Verdict::Continue;
        }
        let mut left = below(asked.chance.turn(key.wrapping_add(index as u64)), rule.weight);
        let mut place = first_place;
        for share in &rule.shares {
            if left < share.weight {
                // Without an upstream of its own it is the route's that takes the request.
                asked.course.place = share.to.as_ref().and_then(|_| places.get(place).copied().flatten());
                return Verdict::Continue;
            }
            left -= share.weight;
            place += usize::from(share.to.is_some());
        }
        return Verdict::Continue;
    }
    Verdict::Continue
}
