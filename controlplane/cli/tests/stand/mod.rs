//! A stand for tests with the real executables: a private PostgreSQL cluster, both planes, backends, clients.
//!
//! Everything listens on ports that the kernel chose, or on sockets in a folder of its own, so that stands do not
//! meet. Everything is killed when the stand is dropped; when the test has failed, the last lines of every
//! log are shown and the folder is kept. Waiting is always for a thing, with [`DEADLINE`].

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) use client::Client;
pub(crate) use cluster::Cluster;
pub(crate) use process::Process;

mod build;
mod client;
mod cluster;
mod process;

/// Nothing here takes long; a machine under load may.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// The key of every control plane's Admin API.
pub(crate) const ADMIN_KEY: &str = "the-key-of-the-stand-00";

/// Waits until `ready` gives something.
pub(crate) fn wait_until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(begun.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The parts of a gateway, started one by one.
pub(crate) struct Stand {
    // Dropped in this order: what uses the others first.
    data: Option<Process>,
    control: Option<Process>,
    backends: Vec<Process>,
    pub(crate) cluster: Cluster,
    bin: PathBuf,
    http: SocketAddr,
    status: SocketAddr,
    dir: Folder,
}

impl Stand {
    /// A cluster, a data plane with two cores, and a control plane that is connected to both.
    pub(crate) fn whole() -> Stand {
        let mut stand = Stand::with_cluster();
        stand.start_data();
        stand.start_control();
        stand.wait_for_every_core(0);
        stand
    }

    /// Only the cluster.
    pub(crate) fn with_cluster() -> Stand {
        let dir = Folder::new();
        let bin = build::executables();
        let cluster = Cluster::start();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Stand { data: None, control: None, backends: Vec::new(), cluster, bin, http: any, status: any, dir }
    }

    /// Starts the data plane; the second time on the ports of the first.
    pub(crate) fn start_data(&mut self) {
        let (http, status) = (self.http.to_string(), self.status.to_string());
        let socket = |name: &str| self.dir.path.join(name).display().to_string();
        let (snapshots, feed, admin) = (socket("snapshots"), socket("feed.sock"), socket("admin.sock"));
        let data = Process::start(
            &self.bin.join("ringway-dataplane"),
            &[
                "--listen",
                &http,
                "--status",
                &status,
                "--workers",
                "2",
                "--snapshot-dir",
                &snapshots,
                "--feed-socket",
                &feed,
                "--admin-socket",
                &admin,
                "--node",
                "stand",
            ],
            &[],
            &self.dir.path.join("dataplane.log"),
        );
        self.http = data.listening("http");
        self.status = data.listening("status");
        self.data = Some(data);
    }

    /// Starts the control plane. It need not find anything to connect to.
    pub(crate) fn start_control(&mut self) {
        self.control = Some(self.control_on("control", &self.cluster.url()));
    }

    /// Starts a control plane of this node on another database; its status socket and its log have that name.
    pub(crate) fn control_on(&self, name: &str, url: &str) -> Process {
        let path = |name: &str| self.dir.path.join(name).display().to_string();
        let (feed, control, state) = (path("feed.sock"), path(&format!("{name}.sock")), path("state"));
        let admin = path("admin.sock");
        std::fs::create_dir_all(&state).unwrap();
        let keys = path("admin.key");
        std::fs::write(&keys, format!("{ADMIN_KEY}\n")).unwrap();
        Process::start(
            &self.bin.join("ringway-controlplane"),
            &[
                "--feed-socket",
                &feed,
                "--admin-socket",
                &admin,
                "--control-socket",
                &control,
                "--state-dir",
                &state,
                "--node",
                "stand",
                "--poll-ms",
                "500",
                "--admin-listen",
                "127.0.0.1:0",
                "--admin-key-file",
                &keys,
                "--control-listen",
                "127.0.0.1:0",
            ],
            &[("RINGWAY_DATABASE_URL", url)],
            &self.dir.path.join(format!("{name}plane.log")),
        )
    }

    /// kill -9.
    pub(crate) fn kill_data(&mut self) {
        self.data.take().expect("a data plane runs").kill();
    }

    /// kill -9.
    pub(crate) fn kill_control(&mut self) {
        self.control.take().expect("a control plane runs").kill();
    }

    /// A backend that answers with its name and what it was asked.
    pub(crate) fn backend(&mut self, name: &str) -> SocketAddr {
        let log = self.dir.path.join(format!("backend-{name}.log"));
        let arguments = ["demo-backend", "--listen", "127.0.0.1:0", "--name", name];
        let backend = Process::start(&self.bin.join("ringway"), &arguments, &[], &log);
        let addr = backend.listening("http");
        self.backends.push(backend);
        addr
    }

    /// Where clients connect.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    /// A new connection to the gateway.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.http)
    }

    /// A new connection to the control plane's Control API.
    pub(crate) fn inside_client(&self) -> Client {
        Client::connect(self.control.as_ref().expect("a control plane runs").listening("control"))
    }

    /// A new connection to the status endpoint.
    pub(crate) fn status_client(&self) -> Client {
        Client::connect(self.status)
    }

    /// `ringway ARGUMENTS` with the sockets of this stand; its exit code and output.
    pub(crate) fn ringway(&self, arguments: &[&str]) -> (i32, String) {
        self.ringway_of("control", arguments)
    }

    /// The same with the control plane of that name.
    pub(crate) fn ringway_of(&self, control: &str, arguments: &[&str]) -> (i32, String) {
        let output = self.tool(control, arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().unwrap_or(-1), text + &String::from_utf8_lossy(&output.stderr))
    }

    /// `ringway ARGUMENTS` with the sockets and the key of this stand.
    pub(crate) fn tool(&self, control: &str, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(self.bin.join("ringway"));
        command
            .args(arguments)
            .env("RINGWAY_ADMIN_SOCKET", self.dir.path.join("admin.sock"))
            .env("RINGWAY_CONTROL_SOCKET", self.dir.path.join(format!("{control}.sock")))
            .env("RINGWAY_ADMIN_KEY", ADMIN_KEY);
        command
    }

    /// A command to the admin socket.
    pub(crate) fn admin(&self, command: &str) -> Option<Value> {
        serde_json::from_str(&ask(&self.dir.path.join("admin.sock"), Some(command))?).ok()
    }

    /// The control plane's status document.
    pub(crate) fn control_status(&self) -> Option<Value> {
        serde_json::from_str(&ask(&self.dir.path.join("control.sock"), None)?).ok()
    }

    /// What the cores run: one revision a core, `None` before the first configuration.
    pub(crate) fn revisions(&self) -> Option<Vec<Option<u64>>> {
        let cores = self.admin("show cores json")?;
        Some(cores.as_array()?.iter().map(|core| core["version"]["revision"].as_u64()).collect())
    }

    /// Until every core runs this revision or a later one.
    pub(crate) fn wait_for_every_core(&self, revision: u64) {
        wait_until(&format!("every core to run revision {revision}"), || {
            let revisions = self.revisions()?;
            let there = revisions.iter().all(|core| core.is_some_and(|core| core >= revision));
            (there && revisions.len() == 2).then_some(())
        });
    }

    /// The folder of logs and sockets.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir.path
    }
}

/// The folder of the executables under test, all of them built.
pub(crate) fn executables() -> PathBuf {
    build::executables()
}

/// One question to a Unix socket and the whole answer.
pub(crate) fn ask(socket: &Path, command: Option<&str>) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    if let Some(command) = command {
        stream.write_all(format!("{command}\n").as_bytes()).ok()?;
    }
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// A folder that other users may enter, deleted at the end unless the test has failed.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    held: Option<tempfile::TempDir>,
}

impl Folder {
    pub(crate) fn new() -> Folder {
        use std::os::unix::fs::PermissionsExt as _;
        let held = tempfile::Builder::new().prefix("ringway-e2e-").tempdir().unwrap();
        std::fs::set_permissions(held.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        Folder { path: held.path().to_owned(), held: Some(held) }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        if let Some(held) = self.held.take() {
            eprintln!("logs are kept in {}", held.keep().display());
        }
        for log in logs(&self.path) {
            let text = std::fs::read(&log).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            eprintln!("--- the end of {}", log.display());
            lines.iter().skip(lines.len().saturating_sub(25)).for_each(|line| eprintln!("{line}"));
        }
    }
}

fn logs(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        if path.extension().is_some_and(|extension| extension == "log") {
            found.push(path);
        } else if path.ends_with("log") && path.is_dir() {
            found.extend(logs(&path));
        }
    }
    found.sort();
    found
}
