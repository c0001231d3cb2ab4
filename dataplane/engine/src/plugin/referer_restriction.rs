//! `referer-restriction`: whether the site that a request comes from may send it.

use ringway_snapshot::plugin::referer_restriction::RefererRestriction;

use super::{Asked, Verdict, refuse};

pub(super) fn access(conf: &RefererRestriction, asked: &mut Asked<'_>) -> Verdict {
    let referer = asked.facts.header(b"referer");
    let allowed = match referer.as_deref().and_then(host) {
        None => conf.bypasses_missing,
        Some(host) => conf.hosts.iter().any(|known| fits(known, &host)) == conf.allows,
    };
    if allowed { Verdict::Continue } else { refuse(asked.course, 403, &conf.refusal) }
}

fn fits(known: &str, host: &str) -> bool {
    known.strip_prefix('*').map_or(known == host, |suffix| host.ends_with(suffix))
}

/// The host of an absolute URL (RFC 3986 section 3.2.2), in lower case.
fn host(referer: &[u8]) -> Option<String> {
    let (scheme, rest) = str::from_utf8(referer).ok()?.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    (!host.is_empty()).then(|| host.to_ascii_lowercase())
}
