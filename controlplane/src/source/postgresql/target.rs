//! The database that the URL names: its hosts, and which of them to read.
//!
//! tokio-postgres would try hosts one after the other and take the first; here each host is a target of its own, so that an old
//! primary that still runs can be told from the promoted one, and a standby is kept in hand while there is no primary.
//! Nothing here prints a password or the URL.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

/// Where Debian and most others keep the server's socket; the default where the URL names no host.
const SOCKET_DIR: &str = "/var/run/postgresql";
/// PostgreSQL cuts longer names.
const APPLICATION_NAME_BYTES_MAX: usize = 63;
const CONNECT_MS_MAX: u64 = 3_000;
const KEEPALIVE_IDLE_S: u64 = 10;
/// tokio-postgres's own default, which is too long to notice a dead server.
const KEEPALIVE_IDLE_UNSET_S: u64 = 7_200;
const KEEPALIVE_INTERVAL_S: u64 = 3;
const KEEPALIVE_RETRIES: u32 = 3;
const TCP_USER_TIMEOUT_S: u64 = 10;

/// A database on one or several hosts.
#[derive(Clone)]
pub struct Target {
    /// The hosts, in the URL's order.
    pub hosts: Vec<OneHost>,
    /// Which server is looked for.
    pub wanted: Wanted,
    /// Hosts and database for logs and status pages.
    pub detail: String,
    /// The role that logs in, for messages.
    pub role: String,
}

/// One host of a target.
#[derive(Clone)]
pub struct OneHost {
    /// `host:port`, or the socket's directory.
    pub name: String,
    /// All that is needed to connect to it.
    pub config: Config,
}

/// Which server is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The primary; while there is none, a standby is read by polling.
    Primary,
    /// A standby only (`target_session_attrs=read-only`).
    Standby,
}

/// Why a URL cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It does not parse.
    #[error("the database URL cannot be read: {0}; the form is postgresql://user@host:port/database")]
    Parse(String),
    /// It asks for TLS.
    #[error(
        "the database URL asks for TLS (sslmode), which this release does not support; use sslmode=disable, and a Unix socket or a private network"
    )]
    Tls,
    /// Numbers of hosts and ports do not fit.
    #[error("the database URL has {ports} ports for {hosts} hosts; give one for all, or one for each")]
    Ports {
        /// How many hosts.
        hosts: usize,
        /// How many ports.
        ports: usize,
    },
}

impl Target {
    /// Reads a URL or a `key=value` string.
    pub fn parse(url: &str, node: &str) -> Result<Target, TargetError> {
        let mut whole = Config::from_str(url).map_err(|error| explain(&error))?;
        if whole.get_ssl_mode() == SslMode::Require {
            return Err(TargetError::Tls);
        }
        if whole.get_hosts().is_empty() && whole.get_hostaddrs().is_empty() {
            whole.host_path(SOCKET_DIR);
        }
        if whole.get_application_name().is_none() {
            let mut name = format!("ringway-controlplane {node}");
            let end = (0..=APPLICATION_NAME_BYTES_MAX).rev().find(|end| name.is_char_boundary(*end));
            name.truncate(end.unwrap_or(0));
            whole.application_name(name);
        }
        let hosts = split(&whole)?;
        let database = whole.get_dbname().or(whole.get_user()).unwrap_or("(default)");
        let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        let wanted = match whole.get_target_session_attrs() {
            TargetSessionAttrs::ReadOnly => Wanted::Standby,
            _ => Wanted::Primary,
        };
        let detail = format!("{}/{database}", names.join(","));
        let role = whole.get_user().unwrap_or("(the system user)").to_owned();
        Ok(Target { hosts, wanted, detail, role })
    }
}

/// tokio-postgres's [`Config`] hides the password; this one shows nothing else either.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({} as {}, {:?})", self.detail, self.role, self.wanted)
    }
}

impl fmt::Debug for OneHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OneHost({})", self.name)
    }
}

fn split(whole: &Config) -> Result<Vec<OneHost>, TargetError> {
    let hosts = listed(whole.get_hosts());
    let count = hosts.len().max(whole.get_hostaddrs().len());
    let ports = whole.get_ports();
    if ports.len() > 1 && ports.len() != count {
        return Err(TargetError::Ports { hosts: count, ports: ports.len() });
    }
    let one = |index: usize| {
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        let mut config = settings(whole);
        config.port(port);
        let address = whole.get_hostaddrs().get(index);
        if let Some(address) = address {
            config.hostaddr(*address);
        }
        let host = hosts.get(index);
        if let Some(host) = host {
            config.host(host);
        }
        let name = match (host, address) {
            (Some(directory), _) if directory.starts_with('/') && port == 5432 => directory.clone(),
            (Some(host), _) => format!("{host}:{port}"),
            (None, Some(address)) => format!("{address}:{port}"),
            (None, None) => String::new(),
        };
        OneHost { name, config }
    };
    Ok((0..count).map(one).collect())
}

/// In a URL, tokio-postgres takes `?host=/a,/b` for one directory, where libpq takes it for two.
fn listed(hosts: &[Host]) -> Vec<String> {
    let text = |host: &Host| match host {
        Host::Tcp(host) => host.clone(),
        Host::Unix(directory) => directory.display().to_string(),
    };
    hosts.iter().map(text).flat_map(|list| list.split(',').map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// All settings but the hosts, with this program's defaults for noticing a dead server.
fn settings(whole: &Config) -> Config {
    let mut config = Config::new();
    if let Some(user) = whole.get_user() {
        config.user(user);
    }
    if let Some(password) = whole.get_password() {
        config.password(password);
    }
    if let Some(name) = whole.get_dbname() {
        config.dbname(name);
    }
    if let Some(options) = whole.get_options() {
        config.options(options);
    }
    if let Some(name) = whole.get_application_name() {
        config.application_name(name);
    }
    let idle = match whole.get_keepalives_idle() {
        idle if idle.as_secs() == KEEPALIVE_IDLE_UNSET_S => Duration::from_secs(KEEPALIVE_IDLE_S),
        idle => idle,
    };
    config
        .ssl_mode(SslMode::Disable)
        .channel_binding(whole.get_channel_binding())
        .connect_timeout(
            whole.get_connect_timeout().copied().unwrap_or(Duration::from_millis(CONNECT_MS_MAX)),
        )
        .tcp_user_timeout(
            whole.get_tcp_user_timeout().copied().unwrap_or(Duration::from_secs(TCP_USER_TIMEOUT_S)),
        )
        .keepalives(whole.get_keepalives())
        .keepalives_idle(idle)
        .keepalives_interval(
            whole.get_keepalives_interval().unwrap_or(Duration::from_secs(KEEPALIVE_INTERVAL_S)),
        )
        .keepalives_retries(whole.get_keepalives_retries().unwrap_or(KEEPALIVE_RETRIES));
    config
}

/// The parser's message names options and never values; but a password with an unescaped `&` makes a part of itself look like an
/// option, so an unknown option is not repeated.
fn explain(error: &tokio_postgres::Error) -> TargetError {
    let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    if cause.contains("`sslmode`") || cause.contains("`sslrootcert`") || cause.contains("`sslcert`") {
        return TargetError::Tls;
    }
    if cause.contains("unknown option") {
        return TargetError::Parse("it has an option that is not known".to_owned());
    }
    TargetError::Parse(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target, String> {
        Target::parse(url, "n1").map_err(|error| error.to_string())
    }

    #[test]
    fn every_host_becomes_a_target_of_its_own() {
        let target =
            parse("postgresql://me:secret@a:5433,b:5434/db?target_session_attrs=read-write").unwrap();
        assert_eq!(target.detail, "a:5433,b:5434/db");
        assert_eq!((target.hosts.len(), target.wanted), (2, Wanted::Primary));
        assert_eq!(target.hosts[1].config.get_ports(), [5434]);
        assert_eq!(target.hosts[1].config.get_password(), Some(&b"secret"[..]));
        assert!(!format!("{target:?} {:?}", target.hosts).contains("secret"));
        let target = parse("postgresql:///db?user=x").unwrap();
        assert_eq!(target.detail, format!("{SOCKET_DIR}/db"));
        let target = parse("postgresql:///db?host=/a,/b,c&user=x").unwrap();
        assert_eq!(target.detail, "/a,/b,c:5432/db");
        let target = parse("host=/tmp/x dbname=db user=u target_session_attrs=read-only").unwrap();
        assert_eq!((target.detail.as_str(), target.wanted), ("/tmp/x/db", Wanted::Standby));
    }

    #[test]
    fn tls_is_refused_by_name() {
        for mode in ["require", "verify-full", "verify-ca"] {
            let error = parse(&format!("postgresql://h/db?sslmode={mode}")).unwrap_err();
            assert!(error.contains("does not support"), "{error}");
        }
        assert!(parse("postgresql://h/db?sslmode=prefer").is_ok());
    }

    #[test]
    fn a_bad_url_is_told_without_its_password() {
        for url in [
            "postgresql://u:secret@h:0x1/db",
            "postgresql://u:secret@h:port/db",
            "postgresql://u@h/db?password=a&secret=b",
            "user=u password=x secret",
            "nonsense secret",
        ] {
            let error = parse(url).unwrap_err();
            assert!(!error.contains("secret"), "{url}: {error}");
        }
    }

    #[test]
    fn a_long_node_name_is_cut_where_a_character_ends() {
        let target = Target::parse("postgresql://h/d", &"é".repeat(100)).unwrap();
        assert!(target.hosts[0].config.get_application_name().unwrap().len() <= APPLICATION_NAME_BYTES_MAX);
    }
}
