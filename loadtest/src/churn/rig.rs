//! A gateway of real executables with many routes, placed so that its serving core has nothing else to do.
//!
//! The data plane's worker is alone on one core. Everything else shares the other one: its threads that read, check,
//! compile and free configurations, the control plane, PostgreSQL, the committer, clients and backend. On a machine with
//! two cores this is the fairest place for all of them, and the output says so. Everything dies with this program.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::affinity;
use crate::client::request::Places;
use crate::fault::ask;
use crate::fault::cluster::{Cluster, DATABASE, Programs};
use crate::fault::process::{Launch, Process};
use crate::fault::sql::{Session, USER};
use crate::stop::Stop;

pub(crate) const PATHS: u32 = 100;
const READY_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(20);
const ANY: &str = "127.0.0.1:0";
/// Names of the data plane's serving threads begin so.
const CORE_THREAD: &str = "core-";

#[derive(Debug)]
pub(crate) struct Rig {
    // Dropped in this order.
    control: Process,
    data: Process,
    cluster: Cluster,
    pub(crate) http: SocketAddr,
    folder: PathBuf,
}

/// What to start where.
#[derive(Debug)]
pub(crate) struct Order<'a> {
    pub(crate) executables: &'a Path,
    pub(crate) programs: &'a Programs,
    pub(crate) folder: PathBuf,
    pub(crate) origin: SocketAddr,
    pub(crate) routes: u32,
    pub(crate) gateway_core: usize,
    pub(crate) other_core: usize,
}

impl Rig {
    /// Everything runs, and the worker serves all routes. Called by a thread that stays, on the other core: processes end with
    /// the thread that started them.
    pub(crate) fn start(order: Order<'_>, stop: &Stop) -> Result<Self> {
        let Order { executables, programs, folder, origin, routes, gateway_core, other_core } = order;
        let path = |name: &str| folder.join(name).display().to_string();
        fs::create_dir_all(folder.join("snapshots"))?;
        fs::create_dir_all(folder.join("state"))?;
        let cluster = programs.primary(folder.join("pg"), stop)?;
        affinity::pin(gateway_core)?;
        let data = Process::start(Launch {
            program: &executables.join("ringway-dataplane"),
            arguments: flags(&[
                ("--listen", ANY.to_owned()),
                ("--status", ANY.to_owned()),
                ("--workers", "1".to_owned()),
                ("--snapshot-dir", path("snapshots")),
                ("--feed-socket", path("feed.sock")),
                ("--admin-socket", path("admin.sock")),
                ("--node", "churn".to_owned()),
            ]),
            environment: Vec::new(),
            log: &folder.join("ringway-dataplane.log"),
            user: None,
        });
        affinity::pin(other_core)?;
        let mut data = data?;
        let http = data.listening("listening http ", stop)?;
        move_beside(data.pid(), other_core)?;
        let url = format!("postgresql:///{DATABASE}?host={}&user={USER}", cluster.folder.display());
        let control = Process::start(Launch {
            program: &executables.join("ringway-controlplane"),
            arguments: flags(&[
                ("--feed-socket", path("feed.sock")),
                ("--control-socket", path("control.sock")),
                ("--state-dir", path("state")),
                ("--node", "churn".to_owned()),
                ("--log-format", "json".to_owned()),
            ]),
            environment: vec![("RINGWAY_DATABASE_URL".to_owned(), url)],
            log: &folder.join("ringway-controlplane.log"),
            user: None,
        })?;
        let rig = Self { control, data, cluster, http, folder };
        rig.seed(origin, routes, stop)?;
        // Threads that began with the first control plane.
        move_beside(rig.data.pid(), other_core)?;
        Ok(rig)
    }

    pub(crate) fn session(&self) -> Result<Session> {
        self.cluster.session()
    }

    /// Has the control plane stand still, so that nobody hears of changes. It must go on before the data plane takes its connection for dead.
    pub(crate) fn hold_control(&self) {
        self.control.signal(Signal::STOP);
    }

    /// Has it go on.
    pub(crate) fn release_control(&self) {
        self.control.signal(Signal::CONT);
    }

    /// What the control plane has logged, as JSON lines.
    pub(crate) fn control_log(&self) -> String {
        self.control.log()
    }

    pub(crate) fn data_pid(&self) -> u32 {
        self.data.pid()
    }

    /// The revision that every core runs.
    pub(crate) fn served_revision(&self) -> Option<u64> {
        let cores = ask::document(&self.folder.join("admin.sock"), "show cores json")?;
        let revision = |core: &serde_json::Value| core.get("version")?.get("revision")?.as_u64();
        cores.as_array()?.iter().map(revision).min().flatten()
    }

    /// Waits until every core runs it.
    pub(crate) fn served(&self, revision: u64, stop: &Stop) -> Result<()> {
        self.until(&format!("revision {revision} on every core"), stop, || {
            self.served_revision().filter(|served| *served >= revision)
        })?;
        Ok(())
    }

    fn seed(&self, origin: SocketAddr, routes: u32, stop: &Stop) -> Result<()> {
        // The first version, of nothing, tells that all migrations are done: rows without triggers would have no revision.
        self.until("the schema", stop, || self.served_revision())?;
        let mut session = self.session()?;
        let hosts = routes.div_ceil(PATHS);
        session.run(&format!(
            "INSERT INTO ringway.resource (kind, id, spec) VALUES ('upstreams', 'backend', \
             '{{\"type\": \"roundrobin\", \"nodes\": {{\"{origin}\": 1}}}}')"
        ))?;
        // Places are numbered as `Places` numbers them: the least one of each kind shows with how many digits.
        let (host, path) = (Places::host(0), Places::path(0));
        let (host, path) = (host.trim_end_matches(".test").len() - 1, path.len() - 2);
        session.run(&format!(
            "INSERT INTO ringway.resource (kind, id, spec) \
             SELECT 'routes', format('r-%s-%s', h, p), jsonb_build_object('host', 'h' || lpad(h::text, {host}, '0') || '.test', \
               'uri', '/p' || lpad(p::text, {path}, '0') || '/*', 'priority', 0, 'upstream_id', 'backend') \
             FROM generate_series(0, {hosts} - 1) h, generate_series(0, {PATHS} - 1) p"
        ))?;
        let revision = session.value("SELECT revision FROM ringway.head")?;
        self.served(revision.parse().context("ringway.head has no revision")?, stop)
    }

    fn until<T>(&self, what: &str, stop: &Stop, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Some(value) = ready() {
                return Ok(value);
            }
            stop.check()?;
            if Instant::now() >= deadline {
                bail!(
                    "waited {} s for {what}\n--- control plane:\n{}\n--- data plane:\n{}",
                    READY_WITHIN.as_secs(),
                    self.control.end_of_log(),
                    self.data.end_of_log()
                );
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// The thread of the data plane that serves: with one worker there is one.
pub(crate) fn serving_thread(pid: u32) -> Result<u32> {
    let found = threads(pid)?.into_iter().find(|(_, name)| name.starts_with(CORE_THREAD));
    Ok(found.context("the data plane has no serving thread")?.0)
}

/// Moves every thread that does not serve to the other core. Threads that they start follow them.
fn move_beside(pid: u32, core: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    for (thread, _) in threads(pid)?.into_iter().filter(|(_, name)| !name.starts_with(CORE_THREAD)) {
        let Some(thread) = i32::try_from(thread).ok().and_then(Pid::from_raw) else { continue };
        // It may have ended since it was listed.
        let _ = sched_setaffinity(Some(thread), &set);
    }
    Ok(())
}

/// Threads of a process with their names.
fn threads(pid: u32) -> Result<Vec<(u32, String)>> {
    let folder = PathBuf::from(format!("/proc/{pid}/task"));
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let threads = entries.flatten().filter_map(|entry| {
        let thread = entry.file_name().to_str()?.parse().ok()?;
        Some((thread, fs::read_to_string(entry.path().join("comm")).ok()?.trim().to_owned()))
    });
    Ok(threads.collect())
}

fn flags(pairs: &[(&str, String)]) -> Vec<String> {
    pairs.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]).collect()
}
