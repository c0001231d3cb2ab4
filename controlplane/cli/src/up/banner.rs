//! What `ringway up` prints once it is up: what listens where, and lines to paste.
//!
//! Every line that looks like a command works when it is pasted into the shell of the user who started `up`.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::terminal::say;
use crate::up::reachable;
use crate::up::seed::Demo;
use crate::up::source::Source;

/// What the lines are made of.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) listening: &'a [(String, String)],
    /// The Admin API's address.
    pub(super) admin: Option<SocketAddr>,
    pub(super) demo: Option<&'a Demo>,
    pub(super) source: &'a Source,
    pub(super) dir: &'a Path,
    pub(super) took: Duration,
    pub(super) served: bool,
}

/// Prints it.
pub(super) fn print(facts: &Facts<'_>) {
    lines(facts).iter().for_each(|line| say(line));
}

/// The same for programs; the key stands in its file only.
pub(super) fn document(facts: &Facts<'_>) -> Value {
    let urls = |wanted: &str| -> Vec<String> {
        listening(facts, wanted).iter().map(|addr| format!("http://{addr}")).collect()
    };
    let admin = facts.admin.map(reachable);
    json!({
        "up": facts.served,
        "gateway": urls("http"),
        "status": urls("status"),
        "admin": admin.map(|addr| format!("http://{addr}/apisix/admin")),
        "dashboard": admin.map(|addr| format!("http://{addr}/ui/")),
        "key_file": admin.map(|_| facts.dir.join("admin.key")),
        "dir": facts.dir,
        "took_s": facts.took.as_secs_f64(),
    })
}

fn listening(facts: &Facts<'_>, wanted: &str) -> Vec<SocketAddr> {
    let kinds = facts.listening.iter().filter(|(kind, _)| kind == wanted);
    kinds.filter_map(|(_, addr)| addr.parse().ok()).map(reachable).collect()
}

fn lines(facts: &Facts<'_>) -> Vec<String> {
    let (http, status) = (listening(facts, "http"), listening(facts, "status"));
    let dir = quoted(&facts.dir.display().to_string());
    let own = quoted(&std::env::args().next().unwrap_or_else(|| "ringway".to_owned()));
    let urls: Vec<String> = http.iter().map(|addr| format!("http://{addr}")).collect();
    let mut lines = vec![format!("gateway:   {}", urls.join(", "))];
    for addr in status {
        lines.push(format!("status:    http://{addr}/readyz, /livez, /metrics; {own} status --dir {dir}"));
    }
    if let Some(addr) = facts.admin.map(reachable) {
        let key_file = facts.dir.join("admin.key");
        let key = std::fs::read_to_string(&key_file).unwrap_or_default();
        lines.push(format!(
            "admin:     http://{addr}/apisix/admin, X-API-KEY {} ({})",
            key.trim(),
            key_file.display()
        ));
        lines.push(format!("dashboard: http://{addr}/ui/, asks for the key in {}", key_file.display()));
    }
    if let Some(demo) = facts.demo {
        lines.push(format!("backends:  {}", demo.described()));
    }
    lines.push(format!("logs:      {}", facts.dir.join("log").display()));
    if facts.served {
        lines.push(format!("up in {:.1} s", facts.took.as_secs_f64()));
    } else {
        lines.push(
            "no configuration has arrived yet; `ringway status` tells why, and this goes on trying"
                .to_owned(),
        );
    }
    let Some(gateway) = urls.first() else { return lines };
    if facts.demo.is_some() {
        lines.push("try:".to_owned());
        lines.push(format!("  curl -i {gateway}/"));
        lines.push(format!("  curl {gateway}/users/42"));
        lines.push(format!("  curl -H 'Host: shop.example.com' {gateway}/cart"));
    }
    lines.extend(how_to_add(facts, gateway));
    lines.push("Ctrl-C stops everything and keeps the data".to_owned());
    lines
}

fn how_to_add(facts: &Facts<'_>, gateway: &str) -> Vec<String> {
    let spec = if facts.demo.is_some() {
        r#"{\"uri\": \"/hello\", \"upstream_id\": \"demo\"}"#
    } else {
        r#"{\"uri\": \"/hello\", \"upstream\": {\"nodes\": {\"127.0.0.1:8000\": 1}}}"#
    };
    let insert =
        format!("INSERT INTO ringway.resource (kind, id, spec) VALUES ('routes', 'hello', '{spec}')");
    let psql = match facts.source {
        Source::Private(cluster) => format!("{} {}", cluster.psql(), quoted(&cluster.url())),
        Source::Database { .. } => "psql YOUR-DATABASE-URL".to_owned(),
        Source::File(path) | Source::OwnFile(path, _) => {
            return vec![format!("change routes by editing {}", path.display())];
        }
    };
    vec!["add a route:".to_owned(), format!("  {psql} -c \"{insert}\""), format!("  curl {gateway}/hello")]
}

/// For a shell: as it is where that is safe.
fn quoted(text: &str) -> String {
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-=".contains(c)) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_with_spaces_and_quotes_can_be_pasted() {
        assert_eq!(quoted("/a/b-c"), "/a/b-c");
        assert_eq!(quoted("/it's here"), r"'/it'\''s here'");
    }
}
