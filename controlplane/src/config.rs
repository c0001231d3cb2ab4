//! Flags, environment and configuration file, in this order of precedence.
//!
//! Every flag has an environment variable `RINGWAY_<FLAG>` and a key in the YAML file that `--config` names, spelled with
//! underscores. What is wrong here ends the start with one line; a source that is merely out of reach does not.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};
use serde::Deserialize;

use crate::admin::cors::Origins;
use crate::admin::inside::InsideConfig;
use crate::admin::key::{KeyError, KeyOnFile, Keys};
use crate::admin::tls::TlsFiles;
use crate::admin::{self, AdminConfig};
use crate::source::postgresql::target::{Target, TargetError};

const FEED_SOCKET: &str = "/run/ringway/feed.sock";
/// The data plane's, beside its feed socket.
const ADMIN_SOCKET: &str = "admin.sock";
const CONTROL_SOCKET: &str = "/run/ringway/control.sock";
const STATE_DIR: &str = "/var/lib/ringway";
const POLL_MS: u64 = 2_000;
const POLL_MS_MIN: u64 = 50;
const POLL_MS_MAX: u64 = 3_600_000;
/// Bytes of a node's name: it is a key in PostgreSQL and a label in metrics.
const NODE_BYTES_MAX: usize = 255;

/// The command line. Empty values count as not given, so that a unit file may set a variable to nothing.
#[derive(Debug, Parser)]
#[command(
    name = "ringway-controlplane",
    version,
    about = "Reads the configuration from PostgreSQL or a file and pushes it to the data plane on this host"
)]
pub struct Flags {
    /// PostgreSQL, for example postgresql://ringway@db1,db2/gateway?target_session_attrs=read-write
    #[arg(long, env = "RINGWAY_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// A declarative file (YAML or JSON) instead of PostgreSQL
    #[arg(long, env = "RINGWAY_FILE", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The data plane's socket [default: /run/ringway/feed.sock]
    #[arg(long, env = "RINGWAY_FEED_SOCKET", value_name = "PATH")]
    pub feed_socket: Option<PathBuf>,
    /// Where this program tells its status [default: /run/ringway/control.sock]
    #[arg(long, env = "RINGWAY_CONTROL_SOCKET", value_name = "PATH")]
    pub control_socket: Option<PathBuf>,
    /// Milliseconds between two looks at the database without a notification [default: 2000]
    #[arg(long, env = "RINGWAY_POLL_MS", value_name = "MS")]
    pub poll_ms: Option<u64>,
    /// Where the file source keeps its revision [default: /var/lib/ringway]
    #[arg(long, env = "RINGWAY_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Name of this node [default: the host name]
    #[arg(long, env = "RINGWAY_NODE", value_name = "NAME")]
    pub node: Option<String>,
    /// Form of the log lines [default: text]
    #[arg(long, env = "RINGWAY_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// What to log: a level, or target=level pairs [default: info]
    #[arg(long, env = "RINGWAY_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Where /metrics is served, or off [default: off]
    #[arg(long, env = "RINGWAY_METRICS", value_name = "ADDR|off")]
    pub metrics: Option<String>,
    /// Where the Admin API listens, or off [default: 127.0.0.1:9180 where keys are given]
    #[arg(long, env = "RINGWAY_ADMIN_LISTEN", value_name = "ADDR")]
    pub admin_listen: Option<String>,
    /// File of the Admin API's keys, one a line: KEY, or NAME ROLE KEY; KEY may be sha256:HEX
    #[arg(long, env = "RINGWAY_ADMIN_KEY_FILE", value_name = "FILE")]
    pub admin_key_file: Option<PathBuf>,
    /// The Admin API's certificate, PEM, with what leads to its root; read again when it changes
    #[arg(long, env = "RINGWAY_ADMIN_TLS_CERT", value_name = "FILE")]
    pub admin_tls_cert: Option<PathBuf>,
    /// The certificate's key, PEM, without a passphrase
    #[arg(long, env = "RINGWAY_ADMIN_TLS_KEY", value_name = "FILE")]
    pub admin_tls_key: Option<PathBuf>,
    /// Clients of the Admin API need a certificate of this CA, PEM, beside their key
    #[arg(long, env = "RINGWAY_ADMIN_TLS_CLIENT_CA", value_name = "FILE")]
    pub admin_tls_client_ca: Option<PathBuf>,
    /// Let the Admin API listen without TLS where others can reach it: something before it has TLS
    #[arg(long, env = "RINGWAY_ADMIN_WITHOUT_TLS", value_parser = clap::builder::FalseyValueParser::new())]
    pub admin_without_tls: bool,
    /// Origins whose pages may use the Admin API with a key, or * for all [default: none]
    #[arg(long, env = "RINGWAY_ADMIN_CORS_ORIGINS", value_name = "ORIGIN,...|*")]
    pub admin_cors_origins: Option<String>,
    /// Where APISIX's Control API listens, such as 127.0.0.1:9090; without it there is none
    #[arg(long, env = "RINGWAY_CONTROL_LISTEN", value_name = "ADDR")]
    pub control_listen: Option<String>,
    /// The data plane's admin socket, which the Control API asks [default: admin.sock beside --feed-socket]
    #[arg(long, env = "RINGWAY_ADMIN_SOCKET", value_name = "PATH")]
    pub admin_socket: Option<PathBuf>,
    /// A YAML file with the names above, underscores for dashes
    #[arg(long, env = "RINGWAY_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Where the configuration comes from.
#[derive(Debug, Clone)]
pub enum SourceConfig {
    /// A PostgreSQL database.
    Postgresql(Box<Target>),
    /// A declarative file.
    File(PathBuf),
}

/// What the program runs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the configuration comes from.
    pub source: SourceConfig,
    /// The data plane's socket.
    pub feed_socket: PathBuf,
    /// The data plane's admin socket, of which the Admin API asks what it shows.
    pub admin_socket: PathBuf,
    /// This program's status socket.
    pub control_socket: PathBuf,
    /// Milliseconds between two looks without a notification.
    pub poll_ms: u64,
    /// Where the file source keeps its revision.
    pub state_dir: PathBuf,
    /// Name of this node.
    pub node: String,
    /// Form of the log lines.
    pub log_format: LogFormat,
    /// What to log.
    pub log: String,
    /// The address of /metrics; `None` where it is off.
    pub metrics: Option<SocketAddr>,
    /// The Admin API; `None` where it is off.
    pub admin: Option<AdminConfig>,
    /// The Control API; `None` where it is off.
    pub inside: Option<InsideConfig>,
}

/// Why the program does not start.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No source.
    #[error("no source of configuration: give --database-url URL or --file FILE")]
    NoSource,
    /// Two sources.
    #[error(
        "both a database and a file are given (flags, RINGWAY_* variables and --config together): keep one"
    )]
    TwoSources,
    /// The file that `--config` names.
    #[error("cannot read the configuration file {}: {reason}", .path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The database URL.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The Admin API's keys.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The Admin API's address.
    #[error("--admin-listen {0:?} is not an address such as 127.0.0.1:9180, and not off")]
    AdminListen(String),
    /// The address of /metrics.
    #[error("--metrics {0:?} is not an address such as 127.0.0.1:9092, and not off")]
    Metrics(String),
    /// An address without keys.
    #[error(
        "the Admin API is to listen on {0} and has no key: give --admin-key-file FILE, or --admin-listen off"
    )]
    NoKey(SocketAddr),
    /// A key that everybody may know.
    #[error(
        "the Admin API is to listen on {listen}, which others can reach, and its key {name:?} {reason}: give another key, or listen on 127.0.0.1"
    )]
    WeakKey {
        /// Where.
        listen: SocketAddr,
        /// The key's name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A public address without TLS.
    #[error(
        "the Admin API is to listen on {0}, which others can reach, without TLS: give --admin-tls-cert and --admin-tls-key, listen on 127.0.0.1, or say --admin-without-tls if something before it has TLS"
    )]
    NoTls(SocketAddr),
    /// The Control API's address.
    #[error(
        "--control-listen {0:?} is not a loopback address such as 127.0.0.1:9090: the Control API has no key, so others must not reach it"
    )]
    ControlListen(String),
    /// A part of what TLS needs.
    #[error("--admin-tls-cert and --admin-tls-key go together, and --admin-tls-client-ca goes with them")]
    HalfTls,
    /// A value out of its range.
    #[error("{name} is {value}, but must be {rule}")]
    Range {
        /// Which setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: String,
    },
}

/// The YAML file of `--config`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OnFile {
    database_url: Option<String>,
    file: Option<PathBuf>,
    feed_socket: Option<PathBuf>,
    control_socket: Option<PathBuf>,
    poll_ms: Option<u64>,
    state_dir: Option<PathBuf>,
    node: Option<String>,
    log_format: Option<LogFormat>,
    log: Option<String>,
    metrics: Option<String>,
    admin_listen: Option<String>,
    admin_key_file: Option<PathBuf>,
    admin_keys: Vec<KeyOnFile>,
    admin_tls_cert: Option<PathBuf>,
    admin_tls_key: Option<PathBuf>,
    admin_tls_client_ca: Option<PathBuf>,
    admin_without_tls: bool,
    admin_cors_origins: Option<String>,
    control_listen: Option<String>,
    admin_socket: Option<PathBuf>,
}

impl Config {
    /// Puts flags, environment (clap has already merged it into the flags) and file together and checks the whole.
    pub fn from_flags(flags: Flags) -> Result<Config, ConfigError> {
        let on_file = match path(flags.config, None) {
            Some(path) => read(&path)?,
            None => OnFile::default(),
        };
        let node = text(flags.node, on_file.node).unwrap_or_else(host_name);
        if node.is_empty() || node.len() > NODE_BYTES_MAX || node.chars().any(char::is_control) {
            let rule = format!("1 to {NODE_BYTES_MAX} printable characters");
            return Err(ConfigError::Range { name: "node", value: format!("{node:?}"), rule });
        }
        let poll_ms = flags.poll_ms.or(on_file.poll_ms).unwrap_or(POLL_MS);
        if !(POLL_MS_MIN..=POLL_MS_MAX).contains(&poll_ms) {
            let rule = format!("{POLL_MS_MIN} to {POLL_MS_MAX} milliseconds");
            return Err(ConfigError::Range { name: "poll-ms", value: poll_ms.to_string(), rule });
        }
        let url = text(flags.database_url, on_file.database_url);
        let source = match (url, path(flags.file, on_file.file)) {
            (None, None) => return Err(ConfigError::NoSource),
            (Some(_), Some(_)) => return Err(ConfigError::TwoSources),
            (Some(url), None) => SourceConfig::Postgresql(Box::new(Target::parse(&url, &node)?)),
            (None, Some(file)) => SourceConfig::File(file),
        };
        let admin_listen = text(flags.admin_listen, on_file.admin_listen);
        let admin_key_file = path(flags.admin_key_file, on_file.admin_key_file);
        let tls = tls(
            path(flags.admin_tls_cert, on_file.admin_tls_cert),
            path(flags.admin_tls_key, on_file.admin_tls_key),
            path(flags.admin_tls_client_ca, on_file.admin_tls_client_ca),
        )?;
        let cors = cors(text(flags.admin_cors_origins, on_file.admin_cors_origins))?;
        let admin = admin(admin_listen.as_deref(), admin_key_file.as_deref(), on_file.admin_keys, tls, cors)?;
        if let Some(AdminConfig { listen, tls: None, .. }) = &admin
            && !listen.ip().is_loopback()
            && !(flags.admin_without_tls || on_file.admin_without_tls)
        {
            return Err(ConfigError::NoTls(*listen));
        }
        let feed_socket = path(flags.feed_socket, on_file.feed_socket).unwrap_or_else(|| FEED_SOCKET.into());
        let dataplane = path(flags.admin_socket, on_file.admin_socket);
        let dataplane = dataplane.unwrap_or_else(|| feed_socket.with_file_name(ADMIN_SOCKET));
        let metrics = match text(flags.metrics, on_file.metrics).as_deref() {
            None | Some("off") => None,
            Some(address) => Some(address.parse().map_err(|_| ConfigError::Metrics(address.to_owned()))?),
        };
        Ok(Config {
            metrics,
            admin,
            inside: inside(text(flags.control_listen, on_file.control_listen), dataplane.clone())?,
            source,
            feed_socket,
            admin_socket: dataplane,
            control_socket: path(flags.control_socket, on_file.control_socket)
                .unwrap_or_else(|| CONTROL_SOCKET.into()),
            poll_ms,
            state_dir: path(flags.state_dir, on_file.state_dir).unwrap_or_else(|| STATE_DIR.into()),
            node,
            log_format: flags.log_format.or(on_file.log_format).unwrap_or_default(),
            log: text(flags.log, on_file.log).unwrap_or_else(|| "info".to_owned()),
        })
    }
}

fn cors(origins: Option<String>) -> Result<Origins, ConfigError> {
    let rule = "origins such as https://ops.example.com, with commas between them, or *".to_owned();
    Origins::parse(&origins.unwrap_or_default()).map_err(|value| ConfigError::Range {
        name: "admin-cors-origins",
        value,
        rule,
    })
}

/// On by default where there are keys: a control plane whose operator never thought of it opens no port.
fn admin(
    listen: Option<&str>,
    key_file: Option<&Path>,
    listed: Vec<KeyOnFile>,
    tls: Option<TlsFiles>,
    cors: Origins,
) -> Result<Option<AdminConfig>, ConfigError> {
    let mut keys = Keys::default();
    keys.add(listed)?;
    if let Some(path) = key_file {
        keys.read(path)?;
    }
    let listen: SocketAddr = match listen {
        Some("off") => return Ok(None),
        None if keys.is_empty() => return Ok(None),
        given => {
            let text = given.unwrap_or(admin::LISTEN);
            text.parse().map_err(|_| ConfigError::AdminListen(text.to_owned()))?
        }
    };
    if keys.is_empty() {
        return Err(ConfigError::NoKey(listen));
    }
    match keys.weak() {
        Some((name, reason)) if !listen.ip().is_loopback() => {
            Err(ConfigError::WeakKey { listen, name: name.to_owned(), reason })
        }
        _ => Ok(Some(AdminConfig { listen, keys, tls, cors })),
    }
}

fn inside(listen: Option<String>, dataplane: PathBuf) -> Result<Option<InsideConfig>, ConfigError> {
    let Some(text) = listen.filter(|text| text != "off") else { return Ok(None) };
    let address = text.parse::<SocketAddr>().ok().filter(|address| address.ip().is_loopback());
    let listen = address.ok_or(ConfigError::ControlListen(text))?;
    Ok(Some(InsideConfig { listen, dataplane }))
}

fn tls(
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
) -> Result<Option<TlsFiles>, ConfigError> {
    match (certificate, key, client_ca) {
        (Some(certificate), Some(key), client_ca) => Ok(Some(TlsFiles { certificate, key, client_ca })),
        (None, None, None) => Ok(None),
        _ => Err(ConfigError::HalfTls),
    }
}

fn read(path: &Path) -> Result<OnFile, ConfigError> {
    let failed = |reason: String| ConfigError::File { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    if text.trim().is_empty() {
        return Ok(OnFile::default());
    }
    // The first line is the message; the parser's excerpt below it could show a password that stands in the file.
    serde_saphyr::from_str(&text)
        .map_err(|error| failed(error.to_string().lines().next().unwrap_or("not valid YAML").to_owned()))
}

fn text(first: Option<String>, second: Option<String>) -> Option<String> {
    first.filter(|value| !value.is_empty()).or(second).filter(|value| !value.is_empty())
}

fn path(first: Option<PathBuf>, second: Option<PathBuf>) -> Option<PathBuf> {
    let given = |path: &PathBuf| !path.as_os_str().is_empty();
    first.filter(given).or(second).filter(given)
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(arguments: &[&str]) -> Result<Config, String> {
        let arguments = std::iter::once("ringway-controlplane").chain(arguments.iter().copied());
        Config::from_flags(Flags::try_parse_from(arguments).map_err(|error| error.to_string())?)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn exactly_one_source_is_needed() {
        assert!(config(&[]).unwrap_err().contains("give --database-url URL or --file FILE"));
        let both = config(&["--file", "a.yaml", "--database-url", "postgresql://h/d"]).unwrap_err();
        assert!(both.contains("keep one"), "{both}");
        assert!(config(&["--file", "a.yaml"]).is_ok());
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.yaml");
        std::fs::write(&file, "file: /a.yaml\npoll_ms: 700\nnode: from-file\nlog_format: json\n").unwrap();
        let config = config(&["--config", file.to_str().unwrap(), "--node", "n1"]).unwrap();
        assert_eq!((config.node.as_str(), config.poll_ms, config.log_format), ("n1", 700, LogFormat::Json));
        assert_eq!(config.feed_socket, Path::new(FEED_SOCKET));
    }

    #[test]
    fn the_admin_api_is_on_where_it_has_keys_and_never_public_with_a_weak_one() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        std::fs::write(&keys, "short\n").unwrap();
        let file = keys.to_str().unwrap();
        let with = |more: &[&str]| config(&[&["--file", "a.yaml"], more].concat());
        assert!(with(&[]).unwrap().admin.is_none());
        assert!(with(&["--admin-listen", "127.0.0.1:0"]).unwrap_err().contains("has no key"));
        let admin = with(&["--admin-key-file", file]).unwrap().admin.unwrap();
        assert_eq!(admin.listen.to_string(), admin::LISTEN);
        assert!(with(&["--admin-key-file", file, "--admin-listen", "off"]).unwrap().admin.is_none());
        let public = with(&["--admin-key-file", file, "--admin-listen", "0.0.0.0:9180"]).unwrap_err();
        assert!(public.contains("has less than 16 bytes") && !public.contains("short"), "{public}");
        std::fs::write(&keys, "long-enough-to-be-a-key\n").unwrap();
        let on = |more: &[&str]| {
            with(&[&["--admin-key-file", file, "--admin-listen", "0.0.0.0:9180"], more].concat())
        };
        assert!(on(&[]).unwrap_err().contains("without TLS"));
        assert!(on(&["--admin-without-tls"]).unwrap().admin.is_some());
        assert!(on(&["--admin-tls-cert", "c"]).unwrap_err().contains("go together"));
        let tls = on(&["--admin-tls-cert", "c", "--admin-tls-key", "k"]).unwrap().admin.unwrap().tls.unwrap();
        assert_eq!((tls.certificate.as_path(), tls.client_ca), (Path::new("c"), None));
        assert!(
            with(&["--admin-key-file", file, "--admin-listen", "x"])
                .unwrap_err()
                .contains("is not an address")
        );
    }

    #[test]
    fn the_control_api_is_off_unless_asked_for_and_never_public() {
        let with =
            |more: &[&str]| config(&[&["--file", "a.yaml"], more].concat()).map(|config| config.inside);
        assert_eq!(with(&[]), Ok(None));
        let inside = with(&["--control-listen", "127.0.0.1:9090", "--feed-socket", "/r/feed.sock"]);
        assert_eq!(inside.unwrap().unwrap().dataplane, Path::new("/r/admin.sock"));
        for address in ["0.0.0.0:9090", "x"] {
            assert!(with(&["--control-listen", address]).unwrap_err().contains("not a loopback address"));
        }
    }

    #[test]
    fn a_bad_file_or_value_is_told_in_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.yaml");
        std::fs::write(&file, "pol_ms: 700\n").unwrap();
        let error = config(&["--config", file.to_str().unwrap()]).unwrap_err();
        assert!(error.contains("pol_ms") && error.lines().count() == 1, "{error}");
        let error = config(&["--file", "a", "--poll-ms", "1"]).unwrap_err();
        assert_eq!(error, "poll-ms is 1, but must be 50 to 3600000 milliseconds");
    }
}
