//! The router's definition, word for word and without any index: every pattern of every rule is tried.

use std::cmp::Reverse;

use super::*;

/// The winner's id and its parameters.
pub(super) type Found = (String, Vec<(String, String)>);

pub(super) fn find(rules: &[Rule<Box<str>>], query: &Query<'_>) -> Option<Found> {
    let host = host_name(str::from_utf8(query.host).unwrap());
    let path = str::from_utf8(query.path).unwrap();
    let asked = MethodSet::of_token(query.method);
    let mut takers = Vec::new();
    for rule in rules {
        if !rule.methods.intersects(asked) {
            continue;
        }
        if !rule.remotes.is_empty() && !rule.remotes.iter().any(|block| block.contains(query.remote)) {
            continue;
        }
        for (index, uri) in rule.uris.iter().enumerate() {
            let mut found = Vec::new();
            let Some(literal) = takes(uri, path, &mut found) else { continue };
            for at in host_ranks(rule, &host) {
                let order = (Reverse(rule.priority), Reverse(uri.len()), &rule.id, index);
                takers.push(((at, Reverse(literal), order), found.clone()));
            }
        }
    }
    takers.sort();
    takers.into_iter().next().map(|((_, _, (_, _, id, _)), found)| (id.to_string(), found))
}

fn host_name(host: &str) -> String {
    let name = if host.starts_with('[') {
        host.split_inclusive(']').next().unwrap()
    } else {
        host.split(':').next().unwrap()
    };
    name.strip_suffix('.').unwrap_or(name).to_lowercase()
}

/// Where the rule's hosts that take this host stand in the order of hosts.
fn host_ranks(rule: &Rule<Box<str>>, host: &str) -> Vec<(u8, Reverse<usize>)> {
    if rule.hosts.is_empty() {
        return vec![(3, Reverse(0))];
    }
    let ranks = rule.hosts.iter().filter_map(|pattern| match pattern.to_lowercase().strip_prefix('*') {
        Some("") => Some((2, Reverse(0))),
        Some(suffix) => (!host.is_empty() && host.ends_with(suffix)).then_some((1, Reverse(suffix.len()))),
        None => (*pattern.to_lowercase() == *host).then_some((0, Reverse(0))),
    });
    ranks.collect()
}

/// The length of the literal part of a pattern that takes the path; the longest there is for an exact one.
fn takes(uri: &str, path: &str, found: &mut Vec<(String, String)>) -> Option<usize> {
    let mut literal = 0;
    for (index, segment) in uri.split('/').enumerate() {
        literal += usize::from(index > 0);
        let last = uri.split('/').count() == index + 1;
        let special = (segment.starts_with(':') && segment.len() > 1) || (last && segment.starts_with('*'));
        if special {
            return segments(uri, path, found).then_some(literal);
        }
        if last && segment.ends_with('*') {
            return segments(uri, path, found).then_some(literal + segment.len() - 1);
        }
        literal += segment.len();
    }
    (uri == path).then_some(usize::MAX)
}

fn segments(uri: &str, path: &str, found: &mut Vec<(String, String)>) -> bool {
    let (here, more) = match uri.split_once('/') {
        Some((here, more)) => (here, Some(more)),
        None => (uri, None),
    };
    if more.is_none() && here.starts_with('*') {
        let name = if here == "*" { ":ext" } else { &here[1..] };
        found.push((name.to_owned(), path.to_owned()));
        return true;
    }
    if more.is_none() && here.len() > 1 && here.ends_with('*') && !here.starts_with(':') {
        return path.starts_with(&here[..here.len() - 1]);
    }
    let (segment, rest) = match path.split_once('/') {
        Some((segment, rest)) => (segment, Some(rest)),
        None => (path, None),
    };
    if let Some(name) = here.strip_prefix(':').filter(|name| !name.is_empty()) {
        if segment.is_empty() {
            return false;
        }
        found.push((name.to_owned(), segment.to_owned()));
    } else if here != segment {
        return false;
    }
    match (more, rest) {
        (None, None) => true,
        (Some(more), Some(rest)) => segments(more, rest, found),
        _ => false,
    }
}
