//! The real executable, with its sockets in a temporary directory.
#![allow(dead_code, unreachable_pub, reason = "each test crate includes this file and uses a part of it")]

use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// For anything to happen.
pub const WAIT_MAX: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(10);

/// A running control plane; killed when dropped.
pub struct Program {
    child: Child,
    control_socket: PathBuf,
    log: PathBuf,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("its log:\n{}", self.log());
        }
    }
}

/// A directory for sockets; its path is short.
pub fn directory() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("rw").tempdir_in("/tmp").expect("directory")
}

/// The executable without any of this process's settings.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringway-controlplane"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RINGWAY_") || name == "NOTIFY_SOCKET" {
            command.env_remove(name);
        }
    }
    command
}

impl Program {
    /// Starts it as node `node`, with its sockets in `directory`.
    #[track_caller]
    pub fn start(directory: &Path, node: &str, arguments: &[&str]) -> Program {
        let control_socket = directory.join(format!("{node}.sock"));
        let log = directory.join(format!("{node}.log"));
        let file = fs::OpenOptions::new().create(true).append(true).open(&log).expect("log");
        let mut command = command();
        command.args(arguments).args(["--node", node]).arg("--feed-socket").arg(directory.join("feed.sock"));
        command.arg("--control-socket").arg(&control_socket).arg("--state-dir").arg(directory.join("state"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file).spawn().expect("starts");
        Program { child, control_socket, log }
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What its status socket tells; null while there is none.
    pub fn status(&self) -> Value {
        document(&self.control_socket)
    }

    /// What its socket for all nodes tells.
    pub fn fleet(&self) -> Value {
        document(&self.control_socket.with_extension("fleet.sock"))
    }

    /// Waits until the status is as wanted, and gives it.
    #[track_caller]
    pub fn wait_status(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            self.check(deadline, what, &format!("{status:#}"));
        }
    }

    /// Waits until what it tells of all nodes is as wanted.
    #[track_caller]
    pub fn wait_fleet(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            let fleet = self.fleet();
            if wanted(&fleet) {
                return;
            }
            self.check(deadline, what, &format!("{fleet:#}"));
        }
    }

    /// Waits until the log has a text.
    #[track_caller]
    pub fn wait_log(&mut self, text: &str) {
        let deadline = Instant::now() + WAIT_MAX;
        while !self.log().contains(text) {
            self.check(deadline, text, "");
        }
    }

    /// Asks it to end and waits until it has.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().expect("kill").success());
        self.wait_end()
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn wait_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + WAIT_MAX;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.log());
            std::thread::sleep(PAUSE);
        }
    }

    #[track_caller]
    fn check(&mut self, deadline: Instant, what: &str, seen: &str) {
        let ended = self.child.try_wait().expect("wait");
        assert!(ended.is_none(), "it ended ({ended:?}) before: {what}\n{}", self.log());
        assert!(Instant::now() < deadline, "not within the limit: {what}\n{seen}\n{}", self.log());
        std::thread::sleep(PAUSE);
    }
}

fn document(socket: &Path) -> Value {
    let Ok(mut stream) = UnixStream::connect(socket) else { return Value::Null };
    let mut text = String::new();
    stream.set_read_timeout(Some(WAIT_MAX)).expect("timeout");
    stream.read_to_string(&mut text).expect("status");
    serde_json::from_str(&text).expect("JSON")
}
