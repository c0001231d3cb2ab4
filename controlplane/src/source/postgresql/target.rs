//! The database that the URL names: its hosts, and which of them to read.
//!
//! tokio-postgres would try hosts one after the other and take the first; here each host is a target of its own, so that an old
//! primary that still runs can be told from the promoted one, and a standby is kept in hand while there is no primary.
//! Nothing here prints a password or the URL.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::conninfo::{Conninfo, Fault};
pub use super::tls::TlsError;
use super::tls::{Mode, Tls};

/// Where Debian and most others keep the server's socket; the default where the URL names no host.
const SOCKET_DIR: &str = "/var/run/postgresql";
/// PostgreSQL cuts longer names.
const APPLICATION_NAME_BYTES_MAX: usize = 63;
/// For a connection to stand, the server's greeting included, where `connect_timeout` does not say otherwise.
const CONNECT_UNSET: Duration = Duration::from_secs(5);
/// As libpq has it: less than this is too little for a name to be looked up.
const CONNECT_MIN: Duration = Duration::from_secs(2);
const CONNECT_MAX: Duration = Duration::from_secs(60);
/// A network that drops packets is noticed by the kernel after idle + interval * retries, without a statement.
const KEEPALIVE_IDLE_S: u64 = 2;
/// tokio-postgres's own default, which is too long to notice a dead server.
const KEEPALIVE_IDLE_UNSET_S: u64 = 7_200;
const KEEPALIVE_INTERVAL_S: u64 = 1;
const KEEPALIVE_RETRIES: u32 = 3;
/// The same for what was sent and is not acknowledged.
const TCP_USER_TIMEOUT_MS: u64 = 5_000;

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
    /// All that tokio-postgres needs to connect to it.
    pub(super) config: Config,
    /// How to encrypt.
    pub(super) tls: Tls,
    /// For a connection to stand.
    pub(super) connect_max: Duration,
}

/// Which server is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The primary; while there is none, a standby is read by polling (`any`, `read-write`, `primary`, or nothing said).
    Primary,
    /// A standby; while there is none, the primary (`prefer-standby`).
    PreferStandby,
    /// A standby only (`standby`).
    Standby,
    /// A standby, or a primary that only reads (`read-only`).
    ReadOnly,
}

/// Why a URL cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// It does not parse.
    #[error("the database URL cannot be read: {0}; the form is postgresql://user@host:port/database")]
    Parse(String),
    /// A setting of libpq that nothing here acts on.
    #[error("the database URL's setting {0} is not supported; leave it out")]
    Setting(&'static str),
    /// A value of a setting that nothing here acts on.
    #[error("the database URL's value of {0} is not supported; leave it out")]
    Value(&'static str),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Numbers of hosts and ports do not fit.
    #[error("the database URL has {ports} ports for {hosts} hosts; give one for all, or one for each")]
    Ports {
        /// How many hosts.
        hosts: usize,
        /// How many ports.
        ports: usize,
    },
    /// Numbers of hosts and addresses do not fit.
    #[error("the database URL has {addresses} values in hostaddr for {hosts} hosts; give one for each")]
    Addresses {
        /// How many hosts.
        hosts: usize,
        /// How many addresses.
        addresses: usize,
    },
}

impl Target {
    /// Reads a URL or a `key=value` string, and the files of TLS that it names.
    pub fn parse(url: &str, node: &str) -> Result<Target, TargetError> {
        let mut info = Conninfo::parse(url)?;
        let tls = Tls::from_conninfo(&mut info)?;
        tls.connector()?;
        let wanted = match info.take("target_session_attrs").as_deref() {
            None | Some("any" | "read-write" | "primary") => Wanted::Primary,
            Some("prefer-standby") => Wanted::PreferStandby,
            Some("standby") => Wanted::Standby,
            Some("read-only") => Wanted::ReadOnly,
            Some(_) => {
                return Err(TargetError::Parse(
                    "target_session_attrs has to be any, read-write, read-only, primary, standby or prefer-standby"
                        .to_owned(),
                ));
            }
        };
        let own = Own {
            tls,
            user_timeout: milliseconds(&mut info, "tcp_user_timeout")?
                .unwrap_or(Duration::from_millis(TCP_USER_TIMEOUT_MS)),
            retries: match info.take("keepalives_count") {
                None => KEEPALIVE_RETRIES,
                Some(text) => text.parse().map_err(|_| TargetError::Parse(invalid("keepalives_count")))?,
            },
        };
        let fallback_name = info.take("fallback_application_name");
        let mut whole = Config::from_str(&info.rest()).map_err(|error| explain(&error))?;
        if whole.get_hosts().is_empty() && whole.get_hostaddrs().is_empty() {
            whole.host_path(SOCKET_DIR);
        }
        if whole.get_application_name().is_none() {
            let mut name = fallback_name.unwrap_or_else(|| format!("ringway-controlplane {node}"));
            let end = (0..=APPLICATION_NAME_BYTES_MAX).rev().find(|end| name.is_char_boundary(*end));
            name.truncate(end.unwrap_or(0));
            whole.application_name(name);
        }
        let hosts = split(&whole, &own)?;
        let database = whole.get_dbname().or(whole.get_user()).unwrap_or("(default)");
        let names: Vec<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        let detail = format!("{}/{database}", names.join(","));
        let role = whole.get_user().unwrap_or("(the system user)").to_owned();
        Ok(Target { hosts, wanted, detail, role })
    }
}

/// Settings that tokio-postgres does not read as libpq does.
struct Own {
    tls: Tls,
    user_timeout: Duration,
    retries: u32,
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

fn split(whole: &Config, own: &Own) -> Result<Vec<OneHost>, TargetError> {
    let (hosts, addresses, ports) = (whole.get_hosts(), whole.get_hostaddrs(), whole.get_ports());
    let count = hosts.len().max(addresses.len());
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err(TargetError::Addresses { hosts: hosts.len(), addresses: addresses.len() });
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(TargetError::Ports { hosts: count, ports: ports.len() });
    }
    let one = |index: usize| {
        let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        let mut config = settings(whole, own);
        config.port(port);
        let address = addresses.get(index);
        if let Some(address) = address {
            config.hostaddr(*address);
        }
        let mut tls = own.tls.clone();
        let name = match (hosts.get(index), address) {
            (Some(Host::Unix(directory)), _) => {
                config.host_path(directory);
                // PostgreSQL has no TLS there, and libpq does not mind what sslmode says either.
                tls = Tls::off();
                let directory = directory.display();
                if port == 5432 { directory.to_string() } else { format!("{directory}:{port}") }
            }
            (Some(Host::Tcp(host)), _) => {
                config.host(host);
                format!("{host}:{port}")
            }
            (None, Some(address)) => {
                // TLS holds the certificate against it.
                config.host(address.to_string());
                format!("{address}:{port}")
            }
            (None, None) => String::new(),
        };
        config.ssl_mode(match tls.mode {
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
        });
        let connect_max = whole
            .get_connect_timeout()
            .map_or(CONNECT_UNSET, |limit| (*limit).clamp(CONNECT_MIN, CONNECT_MAX));
        // A name may have several addresses, of which the first is dead.
        config.connect_timeout(connect_max * 3 / 5);
        OneHost { name, config, tls, connect_max }
    };
    Ok((0..count).map(one).collect())
}

/// All settings but the hosts and TLS, with this program's defaults for noticing a dead server.
fn settings(whole: &Config, own: &Own) -> Config {
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
        .ssl_negotiation(whole.get_ssl_negotiation())
        .channel_binding(whole.get_channel_binding())
        .tcp_user_timeout(own.user_timeout)
        .keepalives(whole.get_keepalives())
        .keepalives_idle(idle)
        .keepalives_interval(
            whole.get_keepalives_interval().unwrap_or(Duration::from_secs(KEEPALIVE_INTERVAL_S)),
        )
        .keepalives_retries(own.retries);
    config
}

fn milliseconds(info: &mut Conninfo, key: &'static str) -> Result<Option<Duration>, TargetError> {
    let Some(text) = info.take(key) else { return Ok(None) };
    let ms: u64 = text.parse().map_err(|_| TargetError::Parse(invalid(key)))?;
    // As in libpq, 0 is the system's own limit.
    Ok(Some(Duration::from_millis(ms)))
}

fn invalid(key: &str) -> String {
    format!("invalid value for option `{key}`")
}

impl From<Fault> for TargetError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Form(what) => TargetError::Parse(what.to_owned()),
            Fault::Setting(name) => TargetError::Setting(name),
            Fault::Value(name) => TargetError::Value(name),
        }
    }
}

/// The parser's message names options and never values.
fn explain(error: &tokio_postgres::Error) -> TargetError {
    TargetError::Parse(
        std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string),
    )
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
        let target = parse("host=/tmp/x dbname=db user=u target_session_attrs=standby").unwrap();
        assert_eq!((target.detail.as_str(), target.wanted), ("/tmp/x/db", Wanted::Standby));
    }

    #[test]
    fn words_of_libpq_are_taken() {
        for (attributes, wanted) in [
            ("any", Wanted::Primary),
            ("read-write", Wanted::Primary),
            ("primary", Wanted::Primary),
            ("prefer-standby", Wanted::PreferStandby),
            ("standby", Wanted::Standby),
            ("read-only", Wanted::ReadOnly),
        ] {
            let url = format!("postgresql://h/db?target_session_attrs={attributes}");
            assert_eq!(parse(&url).map(|target| target.wanted), Ok(wanted));
        }
        assert!(
            parse("postgresql://h/db?target_session_attrs=writer").unwrap_err().contains("has to be any")
        );
        let target =
            parse("postgresql://h/db?connect_timeout=1&tcp_user_timeout=7000&keepalives_count=9").unwrap();
        assert_eq!(target.hosts[0].connect_max, CONNECT_MIN);
        assert_eq!(target.hosts[0].config.get_tcp_user_timeout(), Some(&Duration::from_secs(7)));
        assert_eq!(target.hosts[0].config.get_keepalives_retries(), Some(9));
        assert!(parse("postgresql://h/db?sslcrl=x").unwrap_err().contains("setting sslcrl is not supported"));
    }

    #[test]
    fn each_host_has_its_own_encryption() {
        let target = parse("postgresql:///db?host=/a,b&sslmode=require").unwrap();
        assert_eq!(
            target.hosts.iter().map(|host| host.tls.mode).collect::<Vec<_>>(),
            [Mode::Disable, Mode::Require]
        );
        assert!(parse("postgresql://h/db?sslmode=verify-full").unwrap_err().contains("need sslrootcert"));
        let target = parse("host=a,b hostaddr=10.0.0.1,10.0.0.2 dbname=db").unwrap();
        assert_eq!(target.detail, "a:5432,b:5432/db");
        assert!(parse("host=a,b hostaddr=10.0.0.1 dbname=db").unwrap_err().contains("hostaddr"));
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
