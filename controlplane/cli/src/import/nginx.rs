//! nginx's configuration: servers and their locations become routes, what they pass requests to becomes upstreams.
//!
//! Carried over: `server_name`, locations (prefix, `=`, `^~`, and regular expressions that are only an anchored text), `proxy_pass` without a
//! change of the path, `upstream` blocks with weights, backups and balancers, the `Host` that nodes see, timeouts, WebSocket. Everything else is listed with
//! its line. Locations are kept apart from their meaning in nginx in one respect: nginx tries regular expressions before prefixes, Ringway the
//! longest path; where a file has both, a note says so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use self::server::Scope;
use self::syntax::{Directive, Unreadable};
use super::found::Found;
use crate::declared::text;
use crate::failure::{Doing as _, Failure};

mod location;
mod server;
mod syntax;
mod upstream;

pub(super) use self::upstream::address;

/// Files that include each other.
const INCLUDE_DEPTH_MAX: usize = 16;
/// Files of all includes.
const FILES_MAX: usize = 10_000;

/// Directives that have nothing to do with where requests go; Ringway has its own way, or needs none.
const WITHOUT_MEANING: [&str; 62] = [
    "user",
    "worker_processes",
    "worker_cpu_affinity",
    "worker_rlimit_nofile",
    "pid",
    "error_log",
    "access_log",
    "log_format",
    "events",
    "include",
    "default_type",
    "types",
    "types_hash_max_size",
    "types_hash_bucket_size",
    "server_names_hash_bucket_size",
    "server_names_hash_max_size",
    "variables_hash_max_size",
    "variables_hash_bucket_size",
    "sendfile",
    "sendfile_max_chunk",
    "tcp_nopush",
    "tcp_nodelay",
    "aio",
    "directio",
    "open_file_cache",
    "open_file_cache_valid",
    "open_file_cache_min_uses",
    "open_file_cache_errors",
    "keepalive_timeout",
    "keepalive_requests",
    "reset_timedout_connection",
    "client_header_timeout",
    "client_body_timeout",
    "client_header_buffer_size",
    "large_client_header_buffers",
    "client_body_buffer_size",
    "client_body_temp_path",
    "send_timeout",
    "server_tokens",
    "proxy_http_version",
    "proxy_buffering",
    "proxy_buffer_size",
    "proxy_buffers",
    "proxy_busy_buffers_size",
    "proxy_temp_path",
    "proxy_temp_file_write_size",
    "proxy_max_temp_file_size",
    "proxy_headers_hash_max_size",
    "proxy_headers_hash_bucket_size",
    "proxy_request_buffering",
    "proxy_socket_keepalive",
    "daemon",
    "worker_connections",
    "multi_accept",
    "use",
    "master_process",
    "load_module",
    "resolver",
    "resolver_timeout",
    "zone",
    "keepalive_time",
    "lingering_close",
];

/// A directive's place, and what was included where.
#[derive(Debug)]
struct Placed {
    file: String,
    directive: Directive,
    block: Vec<Placed>,
}

impl Placed {
    fn at(&self) -> String {
        format!("{}:{}", self.file, self.directive.line)
    }

    fn name(&self) -> &str {
        &self.directive.name
    }

    fn argument(&self, index: usize) -> &str {
        self.directive.arguments.get(index).map_or("", String::as_str)
    }

    fn arguments(&self) -> &[String] {
        &self.directive.arguments
    }

    /// The directive as it was written, for the report.
    fn written(&self) -> String {
        let mut words = vec![self.directive.name.clone()];
        words.extend(self.directive.arguments.iter().cloned());
        words.join(" ")
    }
}

/// Reads a file and what it includes.
pub(super) fn read(path: &Path, found: &mut Found) -> Result<(), Failure> {
    let mut files = 0;
    let root = path.parent().map(Path::to_owned).unwrap_or_default();
    let placed = load(path, &root, INCLUDE_DEPTH_MAX, &mut files, found)?;
    // A part of a configuration, as distributions keep one for each site, begins with servers.
    let mut scope = Scope::default();
    for block in &placed {
        if block.name() == "http" {
            server::http(&block.block, &mut scope, found);
        }
    }
    let bare: Vec<&Placed> = placed.iter().filter(|placed| placed.name() != "http").collect();
    server::bare(&bare, &mut scope, found);
    Ok(())
}

fn load(
    path: &Path,
    root: &Path,
    depth: usize,
    files: &mut usize,
    found: &mut Found,
) -> Result<Vec<Placed>, Failure> {
    let name = path.display().to_string();
    *files += 1;
    if *files > FILES_MAX {
        return Err(Failure::new(format!("{name}: more than {FILES_MAX} files are included")));
    }
    let text = text(path).doing(|| format!("read {name}"))?;
    let directives = syntax::parse(&text).map_err(|Unreadable { line, why }| {
        Failure::new(format!("{name}:{line}: {why}; `nginx -t` tells more"))
    })?;
    place(directives, &name, root, depth, files, found)
}

/// With what is included in place of the includes.
fn place(
    directives: Vec<Directive>,
    file: &str,
    root: &Path,
    depth: usize,
    files: &mut usize,
    found: &mut Found,
) -> Result<Vec<Placed>, Failure> {
    let mut placed = Vec::new();
    for mut directive in directives {
        if directive.name == "include" {
            let at = format!("{file}:{}", directive.line);
            let wanted = directive.arguments.first().map_or("", String::as_str);
            // Types of files are no affair of a proxy.
            if wanted.ends_with("mime.types") || wanted.ends_with("fastcgi_params") {
                continue;
            }
            let Some(depth) = depth.checked_sub(1) else {
                return Err(Failure::new(format!(
                    "{at}: files include each other more than {INCLUDE_DEPTH_MAX} deep"
                )));
            };
            let paths = matching(&root.join(wanted));
            if paths.is_empty() && !wanted.contains('*') {
                found.leave_out(
                    at,
                    format!("include {wanted}"),
                    "the file is not there; import it where it is, or put it beside",
                );
            }
            for path in paths {
                placed.extend(load(&path, root, depth, files, found)?);
            }
            continue;
        }
        let inner = directive.block.take();
        let block =
            inner.map_or_else(|| Ok(Vec::new()), |inner| place(inner, file, root, depth, files, found))?;
        placed.push(Placed { file: file.to_owned(), directive, block });
    }
    Ok(placed)
}

/// The files of a pattern with `*` in its last part, in order.
fn matching(pattern: &Path) -> BTreeSet<PathBuf> {
    let name = pattern.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let Some((before, after)) = name.split_once('*') else {
        return pattern.is_file().then(|| pattern.to_owned()).into_iter().collect();
    };
    let entries = pattern.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    let fits = |path: &PathBuf| {
        let own = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        own.len() >= before.len() + after.len()
            && own.starts_with(before)
            && own.ends_with(after)
            && !own.starts_with('.')
            && path.is_file()
    };
    entries.into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path()).filter(fits).collect()
}

/// Whether a directive may be passed over without a word.
fn is_without_meaning(name: &str) -> bool {
    WITHOUT_MEANING.contains(&name)
}
