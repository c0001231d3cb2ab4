//! The Admin API as the commands see it: where it is, with which key, one question and one answer.
//!
//! Without `--server` it is the one of the control plane on this host, whose status socket tells the address. The key that `ringway
//! up` has made is sent to this host only: to another one, a key has to be given. With TLS where the API has it; the name in its
//! certificate is checked, always.
//!
//! Every refusal becomes one line that says what is wrong and what to do ([`refusal`]); the API's own document is kept for `--json`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ringway_controlplane::admin::tls::TlsTrust;
use serde_json::Value;

use self::http::{Exchange, Place};
pub(crate) use self::refusal::{Named, Refused};
use crate::failure::{Doing as _, Failure};
use crate::socket::{self, DIR_DEFAULT, run_dir};

mod http;
mod refusal;

/// Where a control plane listens unless told otherwise.
const SERVER_DEFAULT: &str = "127.0.0.1:9180";
/// The longest that the API waits for the nodes.
const WAIT_MS_MAX: u64 = 60_000;
/// Longer than any key file.
const KEY_FILE_BYTES_MAX: u64 = 64 << 10;

/// Flags of all commands that speak to it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct ApiArgs {
    /// The Admin API [default: the one of this host's control plane]
    #[arg(long, env = "RINGWAY_SERVER", value_name = "URL")]
    server: Option<String>,
    /// Its key; on a command line others can see it [default: DIR/admin.key of a `ringway up`]
    #[arg(long, env = "RINGWAY_ADMIN_KEY", hide_env_values = true, value_name = "KEY")]
    key: Option<String>,
    /// Folder of a `ringway up` [default: ./.ringway, and where that is not: /run/ringway for the socket]
    #[arg(long, env = "RINGWAY_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The control plane's status socket, where it is not in DIR
    #[arg(long, env = "RINGWAY_CONTROL_SOCKET", value_name = "PATH")]
    control_socket: Option<PathBuf>,
    /// With https: the CA of the API's certificate, PEM [default: those that the system trusts]
    #[arg(long, env = "RINGWAY_ADMIN_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// With https: a certificate to show, PEM, where the API asks for one
    #[arg(long, env = "RINGWAY_ADMIN_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, env = "RINGWAY_ADMIN_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
}

/// The API, found.
#[derive(Debug)]
pub(crate) struct Api {
    place: Place,
    trust: TlsTrust,
    key: String,
}

/// What it answered to something that it took.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The revision for `If-Match`.
    pub(crate) tag: Option<String>,
    pub(crate) document: Value,
}

/// One question.
#[derive(Debug, Default)]
pub(crate) struct Question<'a> {
    pub(crate) method: &'static str,
    /// Path and query, percent-encoded.
    pub(crate) path: String,
    pub(crate) body: Option<&'a Value>,
    /// The revision that everything must still have.
    pub(crate) if_match: Option<&'a str>,
    /// For the nodes to serve it.
    pub(crate) wait: Option<Wait>,
}

/// How long to wait until every node serves a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait(u64);

impl std::str::FromStr for Wait {
    type Err = String;

    fn from_str(text: &str) -> Result<Wait, String> {
        let (digits, unit_ms) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
            (Some(digits), _) => (digits, 1),
            (None, Some(digits)) => (digits, 1_000),
            (None, None) => (text, 1_000),
        };
        let ms = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
        ms.filter(|ms| *ms <= WAIT_MS_MAX)
            .map(Wait)
            .ok_or_else(|| "expected a time such as 10s or 500ms, at most 60s".to_owned())
    }
}

impl ApiArgs {
    /// Finds address and key.
    pub(crate) fn find(&self) -> Result<Api, Failure> {
        let place = match &self.server {
            Some(url) => Place::parse(url).map_err(Failure::new)?,
            None => self.local()?,
        };
        let key = match self.key.as_deref().map(str::trim).filter(|key| !key.is_empty()) {
            Some(key) => key.to_owned(),
            None => self.kept_key(&place)?,
        };
        let own = self.client_cert.clone().zip(self.client_key.clone());
        Ok(Api { place, trust: TlsTrust { ca: self.ca.clone(), own }, key })
    }

    /// What this host's control plane tells; where it cannot be asked, the usual address.
    fn local(&self) -> Result<Place, Failure> {
        let sockets = match &self.control_socket {
            Some(path) => path.clone(),
            None => run_dir(self.dir.as_deref()).join("control.sock"),
        };
        let told = socket::document(&sockets).ok();
        let status: Option<Value> = told.and_then(|text| serde_json::from_str(&text).ok());
        let address = match status.as_ref().and_then(|status| status.get("admin")) {
            Some(Value::Null) => {
                return Err(Failure::new(
                    "this host's control plane has no Admin API; start it with --admin-key-file, or give --server URL",
                ));
            }
            Some(Value::String(address)) => address.as_str(),
            _ => SERVER_DEFAULT,
        };
        let address: SocketAddr =
            address.parse().doing(|| format!("read the Admin API's address {address:?}"))?;
        let tls = status.is_some_and(|status| status["admin_tls"] == true);
        Ok(Place::at(crate::up::reachable(address), tls))
    }

    fn kept_key(&self, place: &Place) -> Result<String, Failure> {
        let file = self.dir.as_deref().unwrap_or(Path::new(DIR_DEFAULT)).join("admin.key");
        if !place.is_this_host() {
            return Err(Failure::new(format!(
                "a key is needed for {place}: give it in RINGWAY_ADMIN_KEY or with --key ({} is sent to this host only)",
                file.display()
            )));
        }
        let text = match std::fs::metadata(&file) {
            Ok(facts) if facts.len() > KEY_FILE_BYTES_MAX => {
                Err(std::io::Error::other("too long for a key file"))
            }
            _ => std::fs::read_to_string(&file),
        };
        let text = text.map_err(|error| {
            Failure::new(format!(
                "no key for the Admin API: give it in RINGWAY_ADMIN_KEY or with --key, or --dir DIR of a `ringway up` (cannot read {}: {error})",
                file.display()
            ))
        })?;
        in_file(&text).ok_or_else(|| {
            Failure::new(format!(
                "{} holds no key that can be read; give one in RINGWAY_ADMIN_KEY or with --key",
                file.display()
            ))
        })
    }
}

/// The first key of a key file that is not a hash: `KEY`, or `NAME ROLE KEY` with role admin.
fn in_file(text: &str) -> Option<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut keys = lines.filter_map(|line| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        [key] | [_, "admin", key] => Some((*key).to_owned()),
        _ => None,
    });
    keys.find(|key| !key.starts_with("sha256:"))
}

impl Api {
    /// Asks; a refusal is told about what `named` names.
    pub(crate) fn ask(&self, question: &Question<'_>, named: &dyn Named) -> Result<Answer, Refused> {
        let mut path = question.path.clone();
        let mut limit = http::ANSWER_MAX;
        // Faults as data: in APISIX's own paths they come only to who asks for them.
        if question.method != "GET" && path.starts_with("/apisix/") {
            path.push_str(if path.contains('?') { "&errors=true" } else { "?errors=true" });
        }
        if let Some(Wait(ms)) = question.wait {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(&format!("wait={ms}ms"));
            limit += Duration::from_millis(ms);
        }
        let body = question.body.map(ToString::to_string);
        let exchange = Exchange {
            place: &self.place,
            trust: &self.trust,
            method: question.method,
            path: &path,
            key: &self.key,
            if_match: question.if_match,
            body,
            limit,
        };
        let reply =
            exchange.run().map_err(|error| Refused::unanswered(&self.place, question.method, &error))?;
        let document =
            if reply.body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&reply.body) };
        let document = document.map_err(|_| Refused::not_the_api(&self.place, reply.status))?;
        if (200..300).contains(&reply.status) {
            Ok(Answer { status: reply.status, tag: reply.tag, document })
        } else {
            Err(Refused::of(&self.place, reply.status, document, named))
        }
    }
}

/// An id as a segment of a path (RFC 3986 section 3.3); what is not unreserved is percent-encoded.
pub(crate) fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(server: Option<&str>, key: Option<&str>, dir: &Path) -> ApiArgs {
        let own = |text: &str| text.to_owned();
        ApiArgs {
            server: server.map(own),
            key: key.map(own),
            dir: Some(dir.to_owned()),
            control_socket: None,
            ca: None,
            client_cert: None,
            client_key: None,
        }
    }

    #[test]
    fn the_kept_key_goes_to_this_host_only() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("admin.key"), "the-kept-key\n").unwrap();
        let found = |server| args(server, None, dir.path()).find();
        assert_eq!(found(None).unwrap().key, "the-kept-key");
        assert_eq!(found(Some("http://127.0.0.1:1")).unwrap().key, "the-kept-key");
        let refused = found(Some("http://192.0.2.1:9180")).unwrap_err().to_string();
        assert!(refused.contains("RINGWAY_ADMIN_KEY"), "{refused}");
        let given = args(Some("http://192.0.2.1:9180"), Some("given"), dir.path()).find().unwrap();
        assert_eq!(given.key, "given");
    }

    #[test]
    fn a_key_is_found_in_each_form_of_the_file_but_never_a_hash() {
        assert_eq!(in_file("# mine\n\nabc\n").as_deref(), Some("abc"));
        assert_eq!(in_file("v viewer seen\nboss admin sha256:00\nme admin k\n").as_deref(), Some("k"));
        assert_eq!(in_file("sha256:00\n"), None);
    }

    #[test]
    fn ids_and_waits() {
        assert_eq!(segment("a/b c\u{e9}~1"), "a%2Fb%20c%C3%A9~1");
        assert_eq!("10s".parse(), Ok(Wait(10_000)));
        assert_eq!("500ms".parse(), Ok(Wait(500)));
        assert!("61s".parse::<Wait>().is_err() && "x".parse::<Wait>().is_err());
    }
}
