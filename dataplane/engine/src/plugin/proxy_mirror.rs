//! `proxy-mirror`: whether a copy of the request goes aside, and where.

use ringway_snapshot::plugin::proxy_mirror::ProxyMirror;

use super::{Asked, Copy, Verdict};

/// `places` has that of the upstream that the plugin holds.
pub(super) fn rewrite(
    conf: &ProxyMirror,
    places: &[Option<u32>],
    key: u64,
    asked: &mut Asked<'_>,
) -> Verdict {
    let turn = asked.chance.turn(key) as f64 / 2f64.powi(64);
    if let Some(place) = places.first().copied().flatten()
        && turn < conf.sample_ratio
    {
        let ProxyMirror { authority, path, is_prefix, .. } = conf.clone();
        asked.course.copies.push(Copy { place, authority, path, is_prefix });
    }
    Verdict::Continue
}
