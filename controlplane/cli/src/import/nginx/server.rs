//! Servers and locations: routes, with what they inherit from around them.

use std::collections::BTreeMap;

use ringway_snapshot::Kind;
use serde_json::{Map, Value, json};

use super::upstream::Blocks;
use super::{Placed, is_without_meaning, location};
use crate::import::found::{CLOSED_STATUS, Found};

/// They keep requests away or answer them; a route without them would be open to more.
const GUARDS: [&str; 16] = [
    "allow",
    "deny",
    "auth_basic",
    "auth_request",
    "auth_jwt",
    "limit_except",
    "internal",
    "satisfy",
    "limit_req",
    "limit_conn",
    "ssl_verify_client",
    "valid_referers",
    "secure_link",
    "secure_link_md5",
    "if",
    "access_by_lua_block",
];
/// They answer instead of a node.
const ANSWERS: [&str; 10] = [
    "return",
    "root",
    "alias",
    "try_files",
    "fastcgi_pass",
    "grpc_pass",
    "uwsgi_pass",
    "scgi_pass",
    "content_by_lua_block",
    "stub_status",
];
/// nginx's own for `proxy_connect_timeout`, `proxy_send_timeout` and `proxy_read_timeout`, as Ringway's.
const TIMEOUT_S: f64 = 60.0;

/// What a level hands on to the ones inside of it.
#[derive(Debug, Default, Clone)]
pub(super) struct Scope {
    blocks: Blocks,
    used: std::rc::Rc<std::cell::RefCell<BTreeMap<String, bool>>>,
    timeouts: BTreeMap<&'static str, f64>,
    host: Host,
    websocket: bool,
    guards: Vec<String>,
}

/// What nodes see as Host.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Host {
    /// The name in `proxy_pass`, as nginx does it unless told otherwise.
    #[default]
    Proxied,
    Pass,
    Text(String),
}

/// One server's names.
#[derive(Debug)]
struct Server<'a> {
    placed: &'a Placed,
    hosts: Vec<String>,
    has_regex: bool,
    has_prefix: bool,
}

/// Reads a block `http`.
pub(super) fn http(block: &[Placed], scope: &mut Scope, found: &mut Found) {
    let all: Vec<&Placed> = block.iter().collect();
    bare(&all, scope, found);
}

/// Reads what stands in `http`, or in a file that is included there.
pub(super) fn bare(block: &[&Placed], scope: &mut Scope, found: &mut Found) {
    for placed in block.iter().filter(|placed| placed.name() == "upstream") {
        scope.blocks.add(placed, found);
    }
    scope.settings(block.iter().copied(), found, &["upstream", "server"]);
    for placed in block.iter().filter(|placed| placed.name() == "server") {
        server(placed, scope, found);
    }
    let used = scope.used.borrow();
    for name in scope.blocks.names().filter(|name| !used.contains_key(*name)) {
        found.note(format!("upstream {name} is used by no location that could be carried over"));
    }
}

impl Scope {
    /// Takes over what this level says, and lists what has no counterpart.
    fn settings<'a>(
        &mut self,
        block: impl Iterator<Item = &'a Placed> + Clone,
        found: &mut Found,
        elsewhere: &[&str],
    ) {
        // nginx: a level with fields of its own inherits none.
        if block.clone().any(|placed| placed.name() == "proxy_set_header") {
            (self.host, self.websocket) = (Host::Proxied, false);
        }
        for placed in block {
            match placed.name() {
                name if elsewhere.contains(&name) || is_without_meaning(name) => {}
                name @ ("proxy_connect_timeout" | "proxy_send_timeout" | "proxy_read_timeout") => {
                    let which = match name {
                        "proxy_connect_timeout" => "connect",
                        "proxy_send_timeout" => "send",
                        _ => "read",
                    };
                    match seconds(placed.argument(0)) {
                        Some(s) => drop(self.timeouts.insert(which, s)),
                        None => found.leave_out(placed.at(), placed.written(), "not a time"),
                    }
                }
                "proxy_set_header" => self.field(placed, found),
                "auth_basic" if placed.argument(0) == "off" => {
                    self.guards.retain(|guard| !guard.contains("auth_basic "));
                }
                name if GUARDS.contains(&name) => {
                    self.guards.push(format!("{} {}", placed.at(), placed.written()));
                    found.leave_out(
                        placed.at(),
                        placed.written(),
                        "access is decided by plugins here; the routes are written closed",
                    );
                }
                "rewrite" => {
                    found.leave_out(placed.at(), placed.written(), "the path goes to nodes as it came");
                }
                _ => found.leave_out(placed.at(), placed.written(), "has no counterpart"),
            }
        }
    }

    fn field(&mut self, placed: &Placed, found: &mut Found) {
        let (name, value) = (placed.argument(0).to_ascii_lowercase(), placed.argument(1));
        match (name.as_str(), value) {
            ("host", "$host" | "$http_host" | "$host:$server_port") => self.host = Host::Pass,
            ("host", "$proxy_host") => self.host = Host::Proxied,
            ("host", text) if !text.contains('$') && !text.is_empty() => {
                self.host = Host::Text(text.to_owned());
            }
            ("upgrade", "$http_upgrade") => self.websocket = true,
            // Ringway writes these itself, and takes connections to nodes for its own affair.
            (
                "connection" | "x-forwarded-for" | "x-real-ip" | "x-forwarded-proto" | "x-forwarded-host"
                | "x-forwarded-port",
                _,
            ) => {}
            _ => found.leave_out(placed.at(), placed.written(), "fields of requests are set by plugins here"),
        }
    }
}

fn server(placed: &Placed, outer: &Scope, found: &mut Found) {
    let mut scope = outer.clone();
    let mut server = Server { placed, hosts: Vec::new(), has_regex: false, has_prefix: false };
    let mut listens_for_all = false;
    let mut names = 0_usize;
    for line in &placed.block {
        match line.name() {
            "listen" => listens_for_all |= listen(line, found),
            "server_name" => {
                for name in line.arguments() {
                    names += 1;
                    match hosts(name) {
                        Some(hosts) => server.hosts.extend(hosts),
                        None => found.leave_out(
                            line.at(),
                            format!("server_name {name}"),
                            "names are exact or begin with \"*.\"",
                        ),
                    }
                }
            }
            "return" => {
                found.leave_out(
                    line.at(),
                    line.written(),
                    "the whole server answers by itself; redirects are a plugin's affair here",
                );
                return;
            }
            _ => {}
        }
    }
    let catches_all = names == 0 || server.hosts.iter().any(String::is_empty);
    server.hosts.retain(|host| !host.is_empty());
    if catches_all {
        server.hosts.clear();
    } else if server.hosts.is_empty() {
        // Without names its routes would take every host's requests.
        found.leave_out(placed.at(), "server", "none of its names can be carried over");
        return;
    } else if listens_for_all {
        found.note(format!(
            "{}: this server also took requests for names that no server has; they get 404 now",
            placed.at()
        ));
    }
    scope.settings(
        placed.block.iter(),
        found,
        &["listen", "server_name", "location", "return", "ssl_certificate", "ssl_certificate_key"],
    );
    for line in placed.block.iter().filter(|line| line.name() == "location") {
        locate(line, &mut server, &scope, found);
    }
    if placed.block.iter().all(|line| line.name() != "location") {
        found.leave_out(placed.at(), "server", "it passes nothing on: there is no location in it");
    }
    if server.has_regex && server.has_prefix {
        found.note(format!(
            "{}: nginx tries regular expressions before prefixes, Ringway the longest path first; look at paths that both match",
            server.placed.at()
        ));
    }
}

/// True for the server of names that no other has.
fn listen(line: &Placed, found: &mut Found) -> bool {
    let more = line.arguments().get(1..).unwrap_or_default();
    let with_tls = more.iter().any(|word| matches!(word.as_str(), "ssl" | "quic" | "http2"));
    if with_tls || line.argument(0).starts_with("unix:") {
        found.leave_out(
            line.at(),
            line.written(),
            "where the gateway listens is its own flag (--listen); routes know no ports",
        );
    } else {
        found.note(
            "where the gateway listens is its own flag (--listen); `listen` lines are not carried over",
        );
    }
    more.iter().any(|word| word == "default_server" || word == "default")
}

/// nginx's `.a.b` is two names; `_` and the empty one stand for every name.
fn hosts(name: &str) -> Option<Vec<String>> {
    let name = name.to_ascii_lowercase();
    if name == "_" || name.is_empty() || name == "$hostname" {
        return Some(vec![String::new()]);
    }
    if let Some(rest) = name.strip_prefix('.') {
        return Some(vec![rest.to_owned(), format!("*.{rest}")]);
    }
    let rest = name.strip_prefix("*.").unwrap_or(&name);
    let is_plain =
        rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    (is_plain && !rest.is_empty()).then(|| vec![name])
}

fn locate(line: &Placed, server: &mut Server<'_>, outer: &Scope, found: &mut Found) {
    let mut scope = outer.clone();
    let rest: Vec<&Placed> = line
        .block
        .iter()
        .filter(|inner| !ANSWERS.contains(&inner.name()) && inner.name() != "proxy_pass")
        .collect();
    let passes = line.block.iter().find(|inner| inner.name() == "proxy_pass");
    match (passes, line.block.iter().find(|inner| ANSWERS.contains(&inner.name()))) {
        (None, Some(answer)) => answered(line, answer, server, found),
        (Some(_), Some(answer)) if answer.name() == "return" => answered(line, answer, server, found),
        (Some(pass), answer) => {
            if let Some(answer) = answer {
                found.leave_out(
                    answer.at(),
                    answer.written(),
                    "only what is passed to nodes is carried over",
                );
            }
            scope.settings(rest.into_iter(), found, &["location"]);
            if let Err((what, why)) = route(line, pass, server, &scope, found) {
                found.leave_out(line.at(), what, why);
                shut(line, server, None, found);
            }
        }
        (None, None) if line.block.iter().any(|inner| inner.name() == "location") => {
            scope.settings(rest.into_iter(), found, &["location"]);
            if scope.guards.len() > outer.guards.len() {
                shut(line, server, Some(CLOSED_STATUS), found);
            }
        }
        (None, None) => {
            found.leave_out(line.at(), line.written(), "it passes nothing on");
            let refuses = rest.iter().any(|inner| GUARDS.contains(&inner.name()));
            shut(line, server, refuses.then_some(CLOSED_STATUS), found);
        }
    }
    for inner in line.block.iter().filter(|inner| inner.name() == "location") {
        locate(inner, server, &scope, found);
    }
}

fn answered(line: &Placed, answer: &Placed, server: &Server<'_>, found: &mut Found) {
    let why = format!("answered by `{}`, not by a node", answer.written());
    found.leave_out(line.at(), line.written(), why);
    let status = answer.argument(0).parse().ok().filter(|status| (400..600).contains(status));
    shut(line, server, status.filter(|_| answer.name() == "return"), found);
}

/// What this location kept from nodes is not to reach them by the route of the location around it. `status`: it refused requests so.
fn shut(line: &Placed, server: &Server<'_>, status: Option<u16>, found: &mut Found) {
    match location::pattern(line.arguments()) {
        Ok(pattern) => {
            let id = route_id(&pattern.uri, server, found);
            found.shut(&id, place(line, &pattern.uri, server), status);
        }
        // Reached from within only.
        Err(_) if line.argument(0).starts_with('@') => {}
        Err(_) => found.note(format!(
            "{}: {}: its requests may reach nodes by other routes now; close those paths by hand",
            line.at(),
            line.written()
        )),
    }
}

fn route(
    line: &Placed,
    pass: &Placed,
    server: &mut Server<'_>,
    scope: &Scope,
    found: &mut Found,
) -> Result<(), (String, String)> {
    let pattern = location::pattern(line.arguments()).map_err(|why| (line.written(), why.to_owned()))?;
    let refused = |why: &str| (format!("{}: {}", line.written(), pass.written()), why.to_owned());
    let target = pass.argument(0);
    let (scheme, rest) = target.split_once("://").ok_or_else(|| refused("not a URL"))?;
    if target.contains('$') {
        return Err(refused("where it goes is computed for each request"));
    }
    let (authority, path) =
        rest.find('/').map_or((rest, None), |at| (rest.get(..at).unwrap_or_default(), rest.get(at..)));
    if path.is_some_and(|path| path != pattern.uri.trim_end_matches('*')) {
        return Err(refused("it changes the path on its way to the node"));
    }
    let mut fields =
        scope.blocks.of(authority, scheme).ok_or_else(|| refused("not an address or name with a port"))?;
    scope.used.borrow_mut().insert(authority.to_owned(), true);
    if scheme != "http" {
        fields.insert("scheme".to_owned(), json!(scheme));
    }
    let host = match &scope.host {
        Host::Pass => None,
        Host::Text(text) => Some(text.clone()),
        Host::Proxied => Some(authority.to_owned()),
    };
    if let Some(host) = host {
        fields.insert("pass_host".to_owned(), json!("rewrite"));
        fields.insert("upstream_host".to_owned(), json!(host));
    }
    let upstream_id = found.upstream(authority, &fields);
    server.has_regex |= pattern.was_regex;
    server.has_prefix |= !pattern.was_regex && pattern.uri.ends_with('*');
    written(line, &pattern.uri, &upstream_id, server, scope, found)
}

fn written(
    line: &Placed,
    uri: &str,
    upstream_id: &str,
    server: &Server<'_>,
    scope: &Scope,
    found: &mut Found,
) -> Result<(), (String, String)> {
    let mut fields = place(line, uri, server);
    fields.insert("upstream_id".to_owned(), json!(upstream_id));
    if scope.websocket {
        fields.insert("enable_websocket".to_owned(), json!(true));
    }
    if !scope.timeouts.is_empty() {
        let of = |which: &str| scope.timeouts.get(which).copied().unwrap_or(TIMEOUT_S);
        fields.insert(
            "timeout".to_owned(),
            json!({"connect": of("connect"), "send": of("send"), "read": of("read")}),
        );
    }
    if let Some(id) = found.route_at(&fields).map(str::to_owned) {
        let key = (Kind::Route, id);
        if !found.yields(&key.1) {
            let other = found.objects().get(&key).and_then(|other| other.get("upstream_id"));
            if other != fields.get("upstream_id") {
                let why =
                    "another server has this name and path, on another port perhaps; routes know no ports";
                return Err((line.written(), why.to_owned()));
            }
            if !scope.guards.is_empty() {
                found.opens(Kind::Route, &key.1);
            }
            return Ok(());
        }
        // A server on another port answered there by itself, as one that redirects to https does.
        found.remove(&key);
    }
    let id = route_id(uri, server, found);
    found.add(Kind::Route, &id, fields);
    if !scope.guards.is_empty() {
        found.opens(Kind::Route, &id);
    }
    Ok(())
}

/// Where a location is, as a route says it.
fn place(line: &Placed, uri: &str, server: &Server<'_>) -> Map<String, Value> {
    let mut fields = Map::from_iter([
        ("uri".to_owned(), json!(uri)),
        ("desc".to_owned(), json!(format!("{}: {}", line.at(), line.written()))),
    ]);
    if !server.hosts.is_empty() {
        fields.insert("hosts".to_owned(), json!(server.hosts));
    }
    fields
}

fn route_id(uri: &str, server: &Server<'_>, found: &Found) -> String {
    let host = server.hosts.first().map_or("any", String::as_str);
    found.free_id(Kind::Route, &format!("{}{}", host.trim_start_matches("*."), uri))
}

/// nginx's times: `30`, `30s`, `500ms`, `5m`, `1h`, `1h30m`.
fn seconds(text: &str) -> Option<f64> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: f64 = f64::from(rest.get(..end)?.parse::<u32>().ok()?);
        rest = rest.get(end..)?;
        let (unit, after) = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3_600.0), ("d", 86_400.0)]
            .into_iter()
            .find_map(|(name, unit)| Some((unit, rest.strip_prefix(name)?)))
            .unwrap_or((1.0, rest));
        if after == rest && !rest.is_empty() {
            return None;
        }
        total += number * unit;
        rest = after;
    }
    (total > 0.0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_names() {
        assert_eq!(
            (seconds("30"), seconds("5m"), seconds("1h30m")),
            (Some(30.0), Some(300.0), Some(5_400.0))
        );
        assert_eq!(
            (seconds("500ms"), seconds("x"), seconds("5x"), seconds("")),
            (Some(0.5), None, None, None)
        );
        assert_eq!(hosts(".a.b").unwrap(), ["a.b", "*.a.b"]);
        assert_eq!(hosts("_").unwrap(), [""]);
        assert_eq!((hosts("~^x"), hosts("www.*")), (None, None));
    }
}
