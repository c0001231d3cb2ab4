//! `ringway up`: a whole gateway on this machine from one command.
//!
//! Starts the source (a private PostgreSQL cluster where possible), the data plane and the control plane, fills an empty
//! store with demonstration routes, tells what listens where, and then supervises until it is asked to stop.
//! It is for trying, developing and small machines; a fleet runs the planes under systemd instead.
//!
//! Invariants: the first line names the source; nothing that it started runs on when it ends; data is kept
//! unless `--fresh` is given, and that deletes only what an earlier `up` made.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::failure::{Doing as _, Failure};
use crate::socket::{self, DIR_DEFAULT, Sockets};
use crate::terminal::{self, say};
use crate::up::account::RunAs;
use crate::up::child::{Role, Spec};
use crate::up::folder::Folder;
use crate::up::seed::Demo;
use crate::up::source::Source;
use crate::up::supervise::{Supervisor, TURN};

mod account;
mod admin_key;
mod banner;
mod child;
mod cluster;
mod folder;
mod process;
mod seed;
mod source;
mod supervise;

/// How long the private cluster may take to accept connections (it may have to recover).
const DATABASE_WAIT: Duration = Duration::from_secs(60);
/// How long the data plane may take to listen.
const LISTEN_WAIT: Duration = Duration::from_secs(20);
/// How long the first configuration may take before the banner comes without it.
const CONFIGURATION_WAIT: Duration = Duration::from_secs(15);
/// How often the demonstration is tried again after that.
const FILL_AGAIN: Duration = Duration::from_secs(2);
/// How long the data plane may drain.
const DRAIN_WAIT: Duration = Duration::from_secs(60);
/// How long the control plane may take to stop.
const CONTROL_STOP_WAIT: Duration = Duration::from_secs(10);

/// What to start.
#[derive(Debug, clap::Args)]
pub(crate) struct UpArgs {
    /// Address for clients; may be given several times
    #[arg(
        long,
        env = "RINGWAY_LISTEN",
        value_delimiter = ',',
        value_name = "ADDR",
        default_value = "127.0.0.1:9080"
    )]
    listen: Vec<SocketAddr>,
    /// Address of /livez, /readyz and /metrics
    #[arg(long, env = "RINGWAY_STATUS", value_name = "ADDR", default_value = "127.0.0.1:9091")]
    status: SocketAddr,
    /// Address of the Admin API, or off; its key is in DIR/admin.key
    #[arg(long, env = "RINGWAY_ADMIN_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:9180", value_parser = address_or_off)]
    admin_listen: AdminListen,
    /// Folder for data, logs and sockets
    #[arg(long, env = "RINGWAY_DIR", value_name = "DIR", default_value = DIR_DEFAULT)]
    dir: PathBuf,
    /// Cores that serve requests [default: all that this process may use]
    #[arg(long, env = "RINGWAY_WORKERS", value_name = "N")]
    workers: Option<u16>,
    /// Use this PostgreSQL database; without it and --file: a private cluster in DIR where initdb is found
    #[arg(
        long,
        env = "RINGWAY_DATABASE_URL",
        value_name = "URL",
        conflicts_with = "file",
        hide_env_values = true
    )]
    database_url: Option<String>,
    /// Use this declarative file (YAML or JSON) instead of PostgreSQL
    #[arg(long, env = "RINGWAY_FILE", value_name = "FILE")]
    file: Option<PathBuf>,
    /// No demonstration backends and routes
    #[arg(long)]
    no_demo: bool,
    /// First delete what an earlier `up` made in DIR, its data included
    #[arg(long)]
    fresh: bool,
    /// A JSON document a line instead of text: what listens where, and whatever happens later
    #[arg(long)]
    json: bool,
}

/// Where the Admin API listens; `None` is off.
#[derive(Debug, Clone, Copy)]
struct AdminListen(Option<SocketAddr>);

fn address_or_off(text: &str) -> Result<AdminListen, String> {
    match text {
        "off" => Ok(AdminListen(None)),
        text => text
            .parse()
            .map(|addr| AdminListen(Some(addr)))
            .map_err(|_| "an address such as 127.0.0.1:9180, or off".to_owned()),
    }
}

/// A demonstration backend alone.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoBackendArgs {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long, default_value = "demo")]
    name: String,
}

/// Serves until it is killed.
pub(crate) fn demo_backend(args: &DemoBackendArgs) -> Result<(), Failure> {
    let listener = TcpListener::bind(args.listen).doing(|| format!("listen on {}", args.listen))?;
    say(&format!("listening http {}", listener.local_addr().doing(|| "read the address".to_owned())?));
    crate::demo::serve(&listener, &args.name);
    Ok(())
}

/// Starts, supervises, stops.
pub(crate) fn run(args: &UpArgs) -> Result<(), Failure> {
    let begun = Instant::now();
    if args.json {
        terminal::say_as_json();
    }
    let own = std::env::current_exe().doing(|| "find the own executable".to_owned())?;
    let programs = Siblings::of(&own)?;
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).doing(|| "watch for signals".to_owned())?;
    let mut folder = Folder::take(&args.dir)?;
    child::stop_stale(&folder.path().join("run"));
    check_addresses(args)?;
    let cleared = args.fresh && folder.clear()?;
    let source = Source::choose(args, &mut folder)?;
    say(&source.described());
    if cleared {
        say("deleted what earlier runs left here");
    }
    let supervisor = Supervisor::new(own, folder.dir("run")?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .doing(|| "start a runtime".to_owned())?;
    let mut gateway = Gateway {
        args,
        begun,
        programs,
        folder,
        source,
        supervisor,
        runtime,
        signals: &mut signals,
        demo: None,
    };
    let ended = gateway.start().and_then(|filled| gateway.supervise(filled));
    gateway.stop();
    match ended {
        Ok(()) | Err(Ended::Asked) => Ok(()),
        Err(Ended::Failed(failure)) => Err(failure),
    }
}

/// The executables of the planes.
#[derive(Debug)]
struct Siblings {
    dataplane: PathBuf,
    controlplane: PathBuf,
}

impl Siblings {
    fn of(own: &Path) -> Result<Siblings, Failure> {
        let beside = |name: &str| {
            let path = own.with_file_name(name);
            if path.is_file() {
                return Ok(path);
            }
            Err(Failure::new(format!(
                "{} is missing; build all executables with `cargo build --release --workspace`, or install them side by side",
                path.display()
            )))
        };
        Ok(Siblings {
            dataplane: beside("ringway-dataplane")?,
            controlplane: beside("ringway-controlplane")?,
        })
    }
}

/// Says that an address is taken before anything is started.
fn check_addresses(args: &UpArgs) -> Result<(), Failure> {
    let flags = args.listen.iter().map(|addr| ("--listen", addr)).chain([("--status", &args.status)]);
    let flags = flags.chain(args.admin_listen.0.iter().map(|addr| ("--admin-listen", addr)));
    for (flag, addr) in flags {
        if let Err(error) = TcpListener::bind(addr) {
            return Err(Failure::new(match error.kind() {
                std::io::ErrorKind::AddrInUse => format!(
                    "port {} is in use at {}: stop the process that has it (`ss -ltnp 'sport = :{}'` names it) or give another {flag}",
                    addr.port(),
                    addr.ip(),
                    addr.port()
                ),
                std::io::ErrorKind::PermissionDenied => format!(
                    "listening on {addr} is not permitted: give a port above 1023 with {flag}, or allow it with `sysctl net.ipv4.ip_unprivileged_port_start`"
                ),
                _ => format!("cannot listen on {addr} ({error}): give another {flag}"),
            }));
        }
    }
    Ok(())
}

/// Why the gateway does not go on.
#[derive(Debug)]
enum Ended {
    /// By a signal.
    Asked,
    Failed(Failure),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Ended {
        Ended::Failed(failure)
    }
}

struct Gateway<'a> {
    args: &'a UpArgs,
    begun: Instant,
    programs: Siblings,
    folder: Folder,
    source: Source,
    supervisor: Supervisor,
    runtime: tokio::runtime::Runtime,
    signals: &'a mut Signals,
    demo: Option<Demo>,
}

impl Gateway<'_> {
    /// True when the store needs nothing more.
    fn start(&mut self) -> Result<bool, Ended> {
        let log_dir = self.folder.dir("log")?;
        let system_identifier = self.start_database(&log_dir)?;
        self.prepare_demo()?;
        let identity = self.source.identity(system_identifier.as_deref());
        let state_dir = self.folder.dir("state")?.join(format!("{:016x}", folder::hash(identity.as_bytes())));
        std::fs::create_dir_all(&state_dir).doing(|| format!("make {}", state_dir.display()))?;
        self.start_dataplane(&log_dir, &state_dir)?;
        self.start_controlplane(&log_dir, &state_dir)?;
        let revision = self.fill_store()?;
        let admin = self.sockets().admin();
        let served = self.wait(CONFIGURATION_WAIT, |_| Ok(serves(&admin, revision.unwrap_or(0))))?;
        self.supervisor.settle();
        self.keep_admin_address();
        let facts = banner::Facts {
            listening: self.supervisor.listening(Role::Dataplane),
            admin: self.admin_address(),
            demo: self.demo.as_ref(),
            source: &self.source,
            dir: self.folder.path(),
            took: self.begun.elapsed(),
            served,
        };
        if self.args.json {
            terminal::document(&banner::document(&facts));
        } else {
            banner::print(&facts);
        }
        Ok(revision.is_some() || !self.fills_by_sql())
    }

    /// Until a signal comes.
    fn supervise(&mut self, mut filled: bool) -> Result<(), Ended> {
        let mut next_try = Instant::now() + FILL_AGAIN;
        loop {
            self.turn()?;
            if !filled && next_try <= Instant::now() {
                if let (Some(demo), Some(target)) = (&self.demo, self.source.database()) {
                    filled = self.runtime.block_on(demo.fill(&target))?.is_some();
                }
                next_try = Instant::now() + FILL_AGAIN;
            }
        }
    }

    fn stop(&mut self) {
        let signals = &mut *self.signals;
        self.supervisor.stop(|| signals.pending().next().is_some());
        say(&format!("the data stays in {}", self.folder.path().display()));
    }

    fn start_database(&mut self, log_dir: &Path) -> Result<Option<String>, Ended> {
        let Source::Private(cluster) = &self.source else { return Ok(None) };
        cluster.init()?;
        let spec = cluster.spec(log_dir.join("postgres.log"));
        self.supervisor.start(spec)?;
        let mut identifier = None;
        let ready = self.wait(DATABASE_WAIT, |gateway| {
            if let Source::Private(cluster) = &gateway.source {
                identifier = gateway.runtime.block_on(cluster.make_database())?;
            }
            Ok(identifier.is_some())
        })?;
        if !ready {
            return Err(Failure::new(format!(
                "PostgreSQL accepts no connections after {} s; see {}",
                DATABASE_WAIT.as_secs(),
                log_dir.join("postgres.log").display()
            ))
            .into());
        }
        Ok(identifier)
    }

    fn prepare_demo(&mut self) -> Result<(), Failure> {
        let wanted = !self.args.no_demo && !matches!(self.source, Source::File(_));
        if wanted {
            self.folder.note("demo.json")?;
            self.demo = Some(Demo::start(&self.folder.entry("demo.json"))?);
        }
        let Source::OwnFile(path, _) = &self.source else { return Ok(()) };
        if !path.exists() {
            self.folder.note("ringway.yaml")?;
        }
        match &self.demo {
            Some(demo) => demo.write_yaml(path),
            None if path.exists() => Ok(()),
            None => std::fs::write(path, "routes: []\n").doing(|| format!("write {}", path.display())),
        }
    }

    fn start_dataplane(&mut self, log_dir: &Path, state_dir: &Path) -> Result<(), Ended> {
        let listen = self.args.listen.clone();
        self.supervisor.start(Spec {
            role: Role::Dataplane,
            program: self.programs.dataplane.clone(),
            arguments: self.dataplane_arguments(&listen, self.args.status, state_dir),
            environment: Vec::new(),
            run_as: RunAs::Myself,
            stop_wait: DRAIN_WAIT,
            log: log_dir.join("dataplane.log"),
        })?;
        let (mut http, mut status) = (Vec::new(), self.args.status);
        let listens = self.wait(LISTEN_WAIT, |gateway| {
            http.clear();
            for (kind, addr) in gateway.supervisor.listening(Role::Dataplane) {
                match (kind.as_str(), addr.parse::<SocketAddr>()) {
                    ("http", Ok(addr)) => http.push(addr),
                    ("status", Ok(addr)) => status = addr,
                    _ => {}
                }
            }
            Ok(http.len() >= listen.len() && status.port() != 0)
        })?;
        if !listens {
            return Err(Failure::new(format!(
                "the data plane does not listen after {} s; see {}",
                LISTEN_WAIT.as_secs(),
                log_dir.join("dataplane.log").display()
            ))
            .into());
        }
        // A restart must come back on the ports that the kernel chose the first time.
        let arguments = self.dataplane_arguments(&http, status, state_dir);
        self.supervisor.next_start(Role::Dataplane, |spec| spec.arguments = arguments);
        Ok(())
    }

    fn dataplane_arguments(
        &self,
        listen: &[SocketAddr],
        status: SocketAddr,
        state_dir: &Path,
    ) -> Vec<OsString> {
        let run = self.folder.entry("run");
        let mut arguments: Vec<OsString> = Vec::new();
        let mut flag = |name: &str, value: OsString| arguments.extend([name.into(), value]);
        for addr in listen {
            flag("--listen", addr.to_string().into());
        }
        flag("--status", status.to_string().into());
        flag("--snapshot-dir", state_dir.into());
        flag("--feed-socket", run.join("feed.sock").into());
        flag("--admin-socket", run.join("admin.sock").into());
        if let Some(workers) = self.args.workers {
            flag("--workers", workers.to_string().into());
        }
        arguments
    }

    fn start_controlplane(&mut self, log_dir: &Path, state_dir: &Path) -> Result<(), Failure> {
        let key_file = admin_key::make(&mut self.folder)?;
        let run = self.folder.entry("run");
        let (mut arguments, environment) = self.source.for_controlplane();
        for (name, value) in [
            ("--feed-socket", run.join("feed.sock")),
            ("--admin-socket", run.join("admin.sock")),
            ("--control-socket", run.join("control.sock")),
            ("--state-dir", state_dir.to_owned()),
        ] {
            arguments.extend([name.into(), value.into()]);
        }
        let admin = self.args.admin_listen.0.map_or_else(|| "off".to_owned(), |addr| addr.to_string());
        arguments.extend(["--admin-listen".into(), admin.into(), "--admin-key-file".into(), key_file.into()]);
        self.supervisor.start(Spec {
            role: Role::Controlplane,
            program: self.programs.controlplane.clone(),
            arguments,
            environment,
            run_as: RunAs::Myself,
            stop_wait: CONTROL_STOP_WAIT,
            log: log_dir.join("controlplane.log"),
        })
    }

    /// Where the Admin API listens, once it has said so.
    fn admin_address(&self) -> Option<SocketAddr> {
        let told = self.supervisor.listening(Role::Controlplane);
        let told = told.iter().find(|(kind, _)| kind == "admin").and_then(|(_, addr)| addr.parse().ok());
        told.or(self.args.admin_listen.0.filter(|addr| addr.port() != 0))
    }

    /// A restart must come back on the port that the kernel chose the first time.
    fn keep_admin_address(&mut self) {
        let Some(addr) = self.admin_address() else { return };
        self.supervisor.next_start(Role::Controlplane, |spec| {
            let flag = spec.arguments.iter().position(|argument| argument == "--admin-listen");
            if let Some(value) = flag.and_then(|at| spec.arguments.get_mut(at + 1)) {
                *value = addr.to_string().into();
            }
        });
    }

    fn fills_by_sql(&self) -> bool {
        self.demo.is_some() && self.source.database().is_some()
    }

    /// The revision at which the demonstration is there; `None` where there is none, or not yet.
    fn fill_store(&mut self) -> Result<Option<u64>, Ended> {
        let Some(target) = self.source.database().filter(|_| self.demo.is_some()) else { return Ok(None) };
        let mut revision = None;
        self.wait(CONFIGURATION_WAIT, |gateway| {
            if let Some(demo) = &gateway.demo {
                revision = gateway.runtime.block_on(demo.fill(&target))?;
            }
            Ok(revision.is_some())
        })?;
        Ok(revision)
    }

    /// Supervises until `done`; false when the time is over.
    fn wait(
        &mut self,
        patience: Duration,
        mut done: impl FnMut(&mut Self) -> Result<bool, Failure>,
    ) -> Result<bool, Ended> {
        let deadline = Instant::now() + patience;
        loop {
            if done(self)? {
                return Ok(true);
            }
            if deadline <= Instant::now() {
                return Ok(false);
            }
            self.turn()?;
        }
    }

    fn turn(&mut self) -> Result<(), Ended> {
        if self.signals.pending().next().is_some() {
            return Err(Ended::Asked);
        }
        self.supervisor.turn()?;
        std::thread::sleep(TURN);
        Ok(())
    }

    fn sockets(&self) -> Sockets {
        Sockets::in_dir(self.folder.path())
    }
}

/// Whether the data plane serves this revision or a later one.
fn serves(admin: &Path, revision: u64) -> bool {
    let Ok(reply) = socket::command(admin, "show info json") else { return false };
    let info: Value = serde_json::from_str(&reply).unwrap_or(Value::Null);
    info["version"]["revision"].as_u64().is_some_and(|served| served >= revision)
}

/// An address at which a client on this machine reaches a listener.
pub(crate) fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}
