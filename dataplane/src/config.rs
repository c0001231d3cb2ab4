//! What an operator may set: flags, each also as an environment variable `RINGWAY_*`, and the limits of the data plane.
//!
//! Every limit has a name, a default and one place where it is enforced.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use ringway_engine::http1::HeadLimits;
use ringway_snapshot::limits::ZONE_BYTES_MAX;
use ringway_snapshot::upstream::is_zone;
use ringway_snapshot::{Cidr, LogRate};

use crate::access::Format;

/// The highest `--looked-body-bytes-max`: while a core reads a body for what is in it, it does nothing else.
const LOOKED_BODY_BYTES_HIGHEST: u64 = 16 << 20;

/// Ringway's data plane: proxies HTTP by the configuration that a control plane pushes, or by its last one on disk.
#[derive(Debug, Clone, Parser)]
#[command(name = "ringway-dataplane", version)]
pub(crate) struct Flags {
    /// Address to take HTTP on; may be given several times (in the environment: separated by commas).
    #[arg(
        long,
        env = "RINGWAY_LISTEN",
        value_delimiter = ',',
        default_value = "0.0.0.0:9080",
        value_name = "ADDR"
    )]
    pub(crate) listen: Vec<SocketAddr>,

    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "RINGWAY_STATUS", default_value = "127.0.0.1:9091", value_name = "ADDR")]
    pub(crate) status: SocketAddr,

    /// Cores to serve on [default: every CPU this process may run on]. Fewer than there are: one of each physical core first.
    #[arg(long, env = "RINGWAY_WORKERS", value_name = "N")]
    pub(crate) workers: Option<usize>,

    /// Which core takes a connection: any, by a hash (off), or the one whose CPU the card's queue interrupts (cpu).
    #[arg(long, env = "RINGWAY_STEER", value_enum, default_value = "off", value_name = "HOW")]
    pub(crate) steer: Steer,

    /// Folder of the last good snapshots.
    #[arg(long, env = "RINGWAY_SNAPSHOT_DIR", default_value = "/var/lib/ringway", value_name = "DIR")]
    pub(crate) snapshot_dir: PathBuf,

    /// Unix socket that control planes connect to.
    #[arg(long, env = "RINGWAY_FEED_SOCKET", default_value = "/run/ringway/feed.sock", value_name = "PATH")]
    pub(crate) feed_socket: PathBuf,

    /// Unix socket of the operator's commands.
    #[arg(
        long,
        env = "RINGWAY_ADMIN_SOCKET",
        default_value = "/run/ringway/admin.sock",
        value_name = "PATH"
    )]
    pub(crate) admin_socket: PathBuf,

    /// Name of this node [default: the host's name].
    #[arg(long, env = "RINGWAY_NODE", value_name = "NAME")]
    pub(crate) node: Option<String>,

    /// Zone of this node: where an upstream has the label `ringway.zone-prefer`, its nodes of the same zone come first.
    #[arg(long, env = "RINGWAY_ZONE", value_name = "NAME", value_parser = zone)]
    pub(crate) zone: Option<String>,

    /// How to do I/O. epoll is for hosts that forbid io_uring, and only when asked for.
    #[arg(long, env = "RINGWAY_IO_DRIVER", value_enum, default_value = "uring", value_name = "DRIVER")]
    pub(crate) io_driver: IoDriver,

    /// Seconds on SIGTERM in which /readyz fails while connections are still taken, so that load balancers notice.
    #[arg(long, env = "RINGWAY_DRAIN_GRACE_S", default_value = "0", value_name = "SECONDS")]
    pub(crate) drain_grace_s: u64,

    /// Seconds that the successor of an upgrade gets to be ready; else it is ended, and this process serves on.
    #[arg(long, env = "RINGWAY_UPGRADE_TIMEOUT_S", default_value = "30", value_name = "SECONDS")]
    pub(crate) upgrade_timeout_s: u64,

    /// Let systemd keep the listening sockets over restarts (the unit's FileDescriptorStoreMax must be large enough).
    #[arg(long, env = "RINGWAY_KEEP_SOCKETS")]
    pub(crate) keep_sockets: bool,

    /// Milliseconds without a turn of its loop after which a core is stuck: /livez fails.
    #[arg(long, env = "RINGWAY_STUCK_AFTER_MS", default_value = "5000", value_name = "MS")]
    pub(crate) stuck_after_ms: u64,

    /// Seconds that open requests get to finish after the listeners have closed, on SIGTERM and on an upgrade.
    #[arg(long, env = "RINGWAY_DRAIN_TIMEOUT_S", default_value = "30", value_name = "SECONDS")]
    pub(crate) drain_timeout_s: u64,

    /// Seconds without a word of a control plane after which /readyz says 503; 0 is never. Requests are served on.
    #[arg(long, env = "RINGWAY_STALE_AFTER_S", default_value = "0", value_name = "SECONDS")]
    pub(crate) stale_after_s: u64,

    /// Client connections at once, all cores together [default: what the limit of open files leaves room for].
    #[arg(long, env = "RINGWAY_CONNECTIONS_MAX", value_name = "N")]
    pub(crate) connections_max: Option<u64>,

    /// Client connections at once from one address, on each core; 0 is no limit (a load balancer in front is one address).
    #[arg(long, env = "RINGWAY_CONNECTIONS_PER_CLIENT_MAX", default_value = "0", value_name = "N")]
    pub(crate) connections_per_client_max: u32,

    /// Bytes of a request's body that are read before it is routed, where a route or plugin has conditions on it (`post_arg`); a larger one is
    /// as none for them.
    #[arg(
        long,
        env = "RINGWAY_LOOKED_BODY_BYTES_MAX",
        default_value = "1048576",
        value_name = "BYTES",
        value_parser = clap::value_parser!(u64).range(0..=LOOKED_BODY_BYTES_HIGHEST)
    )]
    pub(crate) looked_body_bytes_max: u64,

    /// Leave the reason out of the gateway's own error answers (a header and a field of the JSON body).
    #[arg(long, env = "RINGWAY_HIDE_REASONS")]
    pub(crate) hide_reasons: bool,

    /// Add `Via` to what is forwarded (RFC 9110 section 7.6.3).
    #[arg(long, env = "RINGWAY_VIA")]
    pub(crate) via: bool,

    /// Who may say where a request comes from (load balancers in front), as addresses or blocks: their X-Forwarded-Proto, -Host and
    /// -Port and their Forwarded are passed on and not replaced.
    #[arg(long, env = "RINGWAY_TRUSTED_ADDRESSES", value_delimiter = ',', value_name = "CIDR,...")]
    pub(crate) trusted_addresses: Vec<Cidr>,

    /// Do without huge pages: less resident memory, a third less for each idle connection, and more CPU time for each request.
    #[arg(long, env = "RINGWAY_SMALL_PAGES")]
    pub(crate) small_pages: bool,

    #[command(flatten)]
    pub(crate) waits: ClientWaits,

    #[command(flatten)]
    pub(crate) observation: Observation,
}

/// What is told of requests, and of this process.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Logs and metrics")]
pub(crate) struct Observation {
    /// Where each finished request is written: a file, `-` for standard output, or `off`.
    #[arg(long, env = "RINGWAY_ACCESS_LOG", default_value = "off", value_name = "PATH|-|off")]
    pub(crate) access_log: String,

    /// `json`, `combined`, `common`, or a line of $variables.
    #[arg(long, env = "RINGWAY_ACCESS_LOG_FORMAT", default_value = "json", value_name = "FORMAT")]
    pub(crate) access_log_format: Format,

    /// Share of the requests that is written, from 0 to 1; a route's label `ringway.access-log` wins.
    #[arg(long, env = "RINGWAY_ACCESS_LOG_SAMPLE", default_value = "1", value_name = "RATE")]
    pub(crate) access_log_sample: LogRate,

    /// Write requests that were answered with 500 or above whatever the share, unless that is 0 or off.
    #[arg(long, env = "RINGWAY_ACCESS_LOG_ERRORS")]
    pub(crate) access_log_errors: bool,

    /// Count by route and upstream, for so many of them; those that come later are counted together. 0: not at all.
    #[arg(long, env = "RINGWAY_METRICS_PER_ROUTE", default_value = "0", value_name = "N")]
    pub(crate) metrics_per_route: usize,

    /// What to log of this process's own doings: a level, or target=level pairs. `log level` changes it later.
    #[arg(long, env = "RINGWAY_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log: String,

    /// Form of those lines, on standard error.
    #[arg(long, env = "RINGWAY_LOG_FORMAT", value_enum, default_value = "text", value_name = "FORMAT")]
    pub(crate) log_format: LogFormat,
}

/// Form of the process's own log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// Waits for clients. Those for nodes are the configuration's (`timeout` of routes and upstreams).
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Waits for clients, in milliseconds")]
pub(crate) struct ClientWaits {
    /// For a request's head to be whole, from its first byte on; else 408.
    #[arg(long, env = "RINGWAY_REQUEST_HEAD_TIMEOUT_MS", default_value = "60000", value_name = "MS")]
    request_head_timeout_ms: u64,

    /// Between two reads of a request's body; else 408.
    #[arg(long, env = "RINGWAY_REQUEST_BODY_TIMEOUT_MS", default_value = "60000", value_name = "MS")]
    request_body_timeout_ms: u64,

    /// Between two writes of an answer to a client that does not read.
    #[arg(long, env = "RINGWAY_RESPONSE_SEND_TIMEOUT_MS", default_value = "60000", value_name = "MS")]
    response_send_timeout_ms: u64,

    /// For the next request on a connection.
    #[arg(long, env = "RINGWAY_KEEPALIVE_TIMEOUT_MS", default_value = "75000", value_name = "MS")]
    keepalive_timeout_ms: u64,

    /// For a byte in either direction of a tunnel (WebSocket).
    #[arg(long, env = "RINGWAY_TUNNEL_TIMEOUT_MS", default_value = "3600000", value_name = "MS")]
    tunnel_timeout_ms: u64,

    /// How long what a client still sends is read and dropped, so that an answer is not lost to a reset.
    #[arg(long, env = "RINGWAY_LINGER_TIMEOUT_MS", default_value = "2000", value_name = "MS")]
    linger_timeout_ms: u64,
}

fn zone(text: &str) -> Result<String, String> {
    let refused = || format!("a zone's name has 1 to {ZONE_BYTES_MAX} bytes");
    is_zone(text).then(|| text.to_owned()).ok_or_else(refused)
}

/// Which core takes a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Steer {
    /// The kernel's hash of both addresses decides.
    Off,
    /// The core on whose CPU the handshake was processed.
    Cpu,
}

/// How a core does I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum IoDriver {
    /// io_uring.
    Uring,
    /// epoll.
    Epoll,
}

impl IoDriver {
    pub(crate) fn name(self) -> &'static str {
        match self {
            IoDriver::Uring => "io_uring",
            IoDriver::Epoll => "epoll",
        }
    }
}

/// Limits and deadlines of every connection. An upstream's or a route's own timeouts win over the upstream ones.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    /// Size of heads.
    pub(crate) head: HeadLimits,
    /// A request's head must be whole after this.
    pub(crate) request_head: Duration,
    /// Between two reads of a request's body.
    pub(crate) request_body_idle: Duration,
    /// Between two writes to a client.
    pub(crate) response_send: Duration,
    /// A client's connection without a request.
    pub(crate) keepalive_idle: Duration,
    /// Connecting to a node.
    pub(crate) upstream_connect: Duration,
    /// Between two writes to a node.
    pub(crate) upstream_send: Duration,
    /// Between two reads from a node; also the wait for its answer.
    pub(crate) upstream_read: Duration,
    /// A tunnel without a byte in either direction.
    pub(crate) tunnel_idle: Duration,
    /// How long what a client still sends is read and dropped, so that an answer is not lost to a reset.
    pub(crate) linger: Duration,
    /// Bytes that are read and dropped so.
    pub(crate) linger_bytes_max: usize,
    /// Client connections of all cores together.
    pub(crate) connections_max: u64,
    /// Client connections of one address on one core; 0 is no limit.
    pub(crate) connections_per_client_max: u32,
    /// Bytes of a request's body that are read for conditions on it.
    pub(crate) looked_body_bytes_max: u64,
    /// Bytes that all requests of one core hold so.
    pub(crate) looked_bodies_bytes_max: usize,
    /// Connections over a limit that one core answers at the same time; more are dropped.
    pub(crate) shedding_max: u32,
    /// Age at which a connection ends with its next answer; less up to a tenth, so that connections made together do not end
    /// together.
    pub(crate) connection_lifetime: Duration,
    /// Requests of one connection.
    pub(crate) requests_per_connection_max: u64,
    /// Informational answers that one request may get.
    pub(crate) interim_responses_max: u32,
}

impl Limits {
    /// The defaults, with what the operator set.
    pub(crate) fn new(waits: &ClientWaits) -> Limits {
        Limits {
            head: HeadLimits::default(),
            request_head: Duration::from_millis(waits.request_head_timeout_ms),
            request_body_idle: Duration::from_millis(waits.request_body_timeout_ms),
            response_send: Duration::from_millis(waits.response_send_timeout_ms),
            keepalive_idle: Duration::from_millis(waits.keepalive_timeout_ms),
            upstream_connect: Duration::from_secs(60),
            upstream_send: Duration::from_secs(60),
            upstream_read: Duration::from_secs(60),
            tunnel_idle: Duration::from_millis(waits.tunnel_timeout_ms),
            linger: Duration::from_millis(waits.linger_timeout_ms),
            linger_bytes_max: 1 << 20,
            connections_max: 1_000_000,
            connections_per_client_max: 0,
            looked_body_bytes_max: 1 << 20,
            looked_bodies_bytes_max: 64 << 20,
            shedding_max: 256,
            connection_lifetime: Duration::from_secs(3600),
            requests_per_connection_max: 1_000_000,
            interim_responses_max: 32,
        }
    }
}
