//! `proxy-rewrite`: what the node gets in place of what the client sent.

use ringway_snapshot::plugin::proxy_rewrite::ProxyRewrite;
use ringway_snapshot::template::{Piece, Template};

use super::{Asked, Verdict, fill};
use crate::facts::Facts;
use crate::route::path::encode;

pub(super) fn rewrite(conf: &ProxyRewrite, asked: &mut Asked<'_>) -> Verdict {
    let (facts, course) = (asked.facts, &mut *asked.course);
    let base =
        if conf.keeps_raw_uri { facts.head.target.path_and_query_bytes(facts.bytes) } else { facts.path };
    write_uri(conf, base, facts, &mut course.uri);
    if let Some(host) = &conf.host {
        course.host.clear();
        course.host.extend_from_slice(host.as_bytes());
    }
    if let Some(method) = &conf.method {
        course.method.clear();
        course.method.extend_from_slice(method.as_bytes());
    }
    let value = |template: &Template, out: &mut Vec<u8>| write_value(conf, template, base, facts, out);
    for (name, template) in &conf.headers.add {
        course.request.add_with(name.as_bytes(), |out| value(template, out));
    }
    for (name, template) in &conf.headers.set {
        if name.eq_ignore_ascii_case("host") {
            course.host.clear();
            value(template, &mut course.host);
        } else {
            course.request.set_with(name.as_bytes(), |out| value(template, out));
        }
    }
    for name in &conf.headers.remove {
        course.request.remove(name.as_bytes());
    }
    Verdict::Continue
}

fn write_uri(conf: &ProxyRewrite, base: &[u8], facts: &Facts<'_>, out: &mut Vec<u8>) {
    let mut made = Vec::new();
    let mut split = None;
    if let Some(uri) = &conf.uri {
        split = fill_uri(uri, facts, conf.keeps_raw_uri, &mut made);
    } else if let Some((pattern, template)) =
        conf.regex_uri.iter().find(|(pattern, _)| pattern.pattern().occurs_in(base))
    {
        // A question mark of the client's path is part of the path; else one of the template begins a query.
        pattern.write(base, template, true, &mut made);
        split = made.iter().position(|byte| *byte == b'?').filter(|_| !base.contains(&b'?'));
    } else if conf.keeps_raw_uri {
        made.extend_from_slice(base);
    } else {
        return;
    }
    out.clear();
    if conf.keeps_raw_uri {
        out.extend_from_slice(&made);
        return;
    }
    let (path, own_query) = made.split_at(split.unwrap_or(made.len()));
    encode(path, out);
    out.extend_from_slice(own_query);
    if let Some(query) = facts.query() {
        out.push(if own_query.is_empty() { b'?' } else { b'&' });
        out.extend_from_slice(query);
    }
}

/// A template whose variables may not begin a query; where it begins one itself. `escapes`: what is written is not escaped later.
fn fill_uri(template: &Template, facts: &Facts<'_>, escapes: bool, out: &mut Vec<u8>) -> Option<usize> {
    let mut query = None;
    for piece in template.pieces() {
        match piece {
            Piece::Text(text) => {
                query = query.or_else(|| text.find('?').map(|at| out.len() + at));
                out.extend_from_slice(text.as_bytes());
            }
            Piece::Variable(variable) => {
                for byte in facts.value(variable).as_deref().unwrap_or_default() {
                    match byte {
                        b'?' if escapes => out.extend_from_slice(b"%3F"),
                        byte => out.push(*byte),
                    }
                }
            }
            Piece::Group(_) => {}
        }
    }
    query
}

/// A field's value; its groups are those of the pattern that decided the path.
fn write_value(conf: &ProxyRewrite, template: &Template, base: &[u8], facts: &Facts<'_>, out: &mut Vec<u8>) {
    if !template.pieces().iter().any(|piece| matches!(piece, Piece::Group(_))) {
        return fill(template, facts, out);
    }
    let decisive = conf.regex_uri.iter().find(|(pattern, _)| pattern.pattern().occurs_in(base));
    for piece in template.pieces() {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Variable(variable) => {
                out.extend_from_slice(facts.value(variable).as_deref().unwrap_or_default());
            }
            Piece::Group(group) => {
                if let Some((pattern, _)) = decisive {
                    pattern.write(base, &format!("${{{group}}}"), false, out);
                }
            }
        }
    }
}
