//! `redirect`: where the client is told to go.

use ringway_snapshot::plugin::redirect::{Redirect, To};
use ringway_snapshot::variable::Variable;

use super::{Asked, Verdict, fill};
use crate::route::path::encode;

pub(super) fn rewrite(conf: &Redirect, asked: &mut Asked<'_>) -> Verdict {
    let facts = asked.facts;
    let mut location = Vec::new();
    let mut status = conf.status;
    match &conf.to {
        To::Https => {
            // Only a GET or HEAD is sure to be repeated as it is after a 301 (RFC 9110 section 15.4.2).
            let method = facts.value(&Variable::Method);
            let is_plain = matches!(method.as_deref(), Some(b"GET" | b"HEAD"));
            status = if is_plain { 301 } else { 308 };
            location.extend_from_slice(b"https://");
            location.extend_from_slice(facts.value(&Variable::Host).as_deref().unwrap_or_default());
            location.extend_from_slice(facts.value(&Variable::RequestUri).as_deref().unwrap_or_default());
        }
        To::Uri(template) => fill(template, facts, &mut location),
        To::Regex(pattern, template) => {
            if !pattern.write(facts.path, template, true, &mut location) {
                return Verdict::Continue;
            }
        }
    }
    let raw = location.trim_ascii().to_vec();
    location.clear();
    if conf.encode {
        let split = raw.iter().position(|byte| *byte == b'?').unwrap_or(raw.len());
        let (path, query) = raw.split_at(split);
        encode(path, &mut location);
        write_reference(query, &mut location);
    } else {
        write_reference(&raw, &mut location);
    }
    if let Some(query) = facts.query().filter(|_| conf.append_query) {
        location.push(if location.contains(&b'?') { b'&' } else { b'?' });
        location.extend_from_slice(query);
    }
    asked.course.reply.status = status;
    asked.course.answer.set(b"Location", &location);
    Verdict::Answer
}

/// Escapes what no reference may hold whoever wrote it (RFC 3986 section 2): controls, spaces, and bytes above ASCII.
fn write_reference(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'!'..=b'~' => out.push(*byte),
            byte => encode(&[*byte], out),
        }
    }
}
