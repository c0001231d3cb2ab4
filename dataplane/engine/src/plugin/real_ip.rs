//! `real-ip`: who counts as the client from here on, for plugins, balancing, forwarded fields and the access log.
//!
//! What is no address changes nothing.

use std::net::{IpAddr, SocketAddr};

use ringway_snapshot::plugin::real_ip::RealIp;

use super::{Asked, Client, Verdict};

pub(super) fn rewrite(conf: &RealIp, asked: &mut Asked<'_>) -> Verdict {
    let facts = asked.facts;
    let is_trusted = |address: IpAddr| {
        conf.trusted.as_ref().is_some_and(|blocks| blocks.iter().any(|block| block.contains(address)))
    };
    let peer = str::from_utf8(facts.client_ip).ok().and_then(|text| text.parse().ok());
    if conf.trusted.is_some() && !peer.is_some_and(is_trusted) {
        return Verdict::Continue;
    }
    let Some(told) = facts.value(&conf.source) else { return Verdict::Continue };
    let Ok(told) = str::from_utf8(&told) else { return Verdict::Continue };
    let text = if conf.is_list { of_list(conf, told, is_trusted) } else { told };
    if let Some((address, port)) = read(text.trim_ascii()) {
        asked.course.client = Some(Client::new(address, port.unwrap_or(facts.client_port)));
    }
    Verdict::Continue
}

/// The last address that nobody of those who are trusted vouches for, or the last one; the first where all are trusted.
fn of_list<'t>(conf: &RealIp, list: &'t str, is_trusted: impl Fn(IpAddr) -> bool) -> &'t str {
    let mut addresses = list.rsplit(',').map(str::trim_ascii);
    let last = addresses.next().unwrap_or_default();
    if !conf.looks_through || conf.trusted.is_none() {
        return last;
    }
    let vouches = |text: &str| read(text).is_some_and(|(address, _)| is_trusted(address));
    std::iter::once(last)
        .chain(addresses)
        .find(|text| !vouches(text))
        .unwrap_or_else(|| list.split(',').next().map(str::trim_ascii).unwrap_or_default())
}

/// An address, with or without a port; IPv6 with or without brackets.
fn read(text: &str) -> Option<(IpAddr, Option<u16>)> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(address) = bare.parse() {
        return Some((address, None));
    }
    let address: SocketAddr = text.parse().ok()?;
    (address.port() != 0).then(|| (address.ip(), Some(address.port())))
}
