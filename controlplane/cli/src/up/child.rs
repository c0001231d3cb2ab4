//! One process that `up` runs: how to start it, its log, and its pid file.
//!
//! A child writes straight into its log file, never into a pipe, so that a stopped or killed `up` cannot block it. It runs in
//! its own process group (Ctrl-C reaches only `up`, which then stops all in order) and gets a signal from the
//! kernel when `up` dies (see [`crate::hold`]). The pid file is for the case where even that did not happen:
//! the next `up` stops what it can prove to be a child of the last one.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::failure::{Doing as _, Failure};
use crate::terminal::{plain, warn};
use crate::up::account::RunAs;

/// A log longer than this is put aside before the next start.
const LOG_BYTES_MAX: u64 = 64 << 20;
/// Bytes of a log that are looked at in one turn.
const READ_BYTES_MAX: usize = 256 * 1024;
/// Last lines kept for the case that the child does not start.
const LAST_LINES: usize = 12;
/// How long a child that an earlier `up` left may take to stop.
const STALE_WAIT: Duration = Duration::from_secs(20);
/// Settings of this program that must not reach a child, whose flags say everything.
const OWN_VARIABLES: [&str; 7] = [
    "RINGWAY_DATABASE_URL",
    "RINGWAY_FILE",
    "RINGWAY_CONFIG",
    "RINGWAY_LISTEN",
    "RINGWAY_ADMIN_LISTEN",
    "RINGWAY_ADMIN_SOCKET",
    "RINGWAY_ADMIN_KEY_FILE",
];

/// What a child is to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Database,
    Dataplane,
    Controlplane,
}

impl Role {
    /// For people.
    pub(super) fn title(self) -> &'static str {
        match self {
            Role::Database => "PostgreSQL",
            Role::Dataplane => "the data plane",
            Role::Controlplane => "the control plane",
        }
    }

    /// For file names.
    pub(super) fn name(self) -> &'static str {
        match self {
            Role::Database => "postgres",
            Role::Dataplane => "dataplane",
            Role::Controlplane => "controlplane",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Role::Database => "postgres",
            Role::Dataplane => "ringway-dataplane",
            Role::Controlplane => "ringway-controlplane",
        }
    }

    fn stop_signal(self) -> Signal {
        if self == Role::Database { Signal::INT } else { Signal::TERM }
    }
}

/// How to start a child.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    pub(super) role: Role,
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<OsString>,
    pub(super) environment: Vec<(&'static str, OsString)>,
    pub(super) run_as: RunAs,
    /// How long it may take to stop before it is killed.
    pub(super) stop_wait: Duration,
    pub(super) log: PathBuf,
}

impl Spec {
    /// What ends it in good order.
    pub(super) fn stop_signal(&self) -> Signal {
        self.role.stop_signal()
    }

    /// Starts it through `ringway hold`.
    pub(super) fn spawn(&self, own: &Path, run_dir: &Path) -> Result<Child, Failure> {
        let title = self.role.title();
        rotate(&self.log)?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .doing(|| format!("write {}", self.log.display()))?;
        let signal = if self.stop_signal() == Signal::INT { "int" } else { "term" };
        let mut command = Command::new(own);
        command.args(["hold", "--signal", signal, "--parent", &std::process::id().to_string()]);
        if let RunAs::Other(account) = &self.run_as {
            command.args(["--uid", &account.uid.to_string(), "--gid", &account.gid.to_string()]);
        }
        command.arg("--").arg(&self.program).args(&self.arguments);
        for name in OWN_VARIABLES {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir("/").process_group(0).stdin(Stdio::null());
        command.stdout(log.try_clone().doing(|| format!("start {title}"))?).stderr(log);
        let child = command.spawn().doing(|| format!("start {title}"))?;
        self.note(child.id().cast_signed(), run_dir)?;
        Ok(child)
    }

    /// Writes the pid file.
    pub(super) fn note(&self, pid: i32, run_dir: &Path) -> Result<(), Failure> {
        let pid_file = run_dir.join(format!("{}.pid", self.role.name()));
        if let Some(identity) = Identity::of(pid) {
            fs::write(&pid_file, identity.text()).doing(|| format!("write {}", pid_file.display()))?;
        }
        Ok(())
    }
}

fn rotate(log: &Path) -> Result<(), Failure> {
    if fs::metadata(log).is_ok_and(|facts| facts.len() > LOG_BYTES_MAX) {
        fs::rename(log, log.with_extension("log.1")).doing(|| format!("rename {}", log.display()))?;
    }
    Ok(())
}

/// Sends a signal; a process that is gone already is fine.
pub(super) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// One process of one boot: pid numbers come again, their start times do not.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    pid: i32,
    start_ticks: u64,
    boot: String,
}

impl Identity {
    fn of(pid: i32) -> Option<Identity> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // proc_pid_stat(5): the command in parentheses may hold spaces; field 22 is the 20th after it.
        let start_ticks = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned();
        Some(Identity { pid, start_ticks, boot })
    }

    fn text(&self) -> String {
        format!("{} {} {}\n", self.pid, self.start_ticks, self.boot)
    }

    fn parse(text: &str) -> Option<Identity> {
        let mut words = text.split_whitespace();
        let pid = words.next()?.parse().ok()?;
        Some(Identity { pid, start_ticks: words.next()?.parse().ok()?, boot: words.next()?.to_owned() })
    }

    fn alive(&self) -> bool {
        Identity::of(self.pid).as_ref() == Some(self)
    }

    fn runs(&self, role: Role) -> bool {
        let Ok(program) = fs::read_link(format!("/proc/{}/exe", self.pid)) else { return false };
        let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // The kernel adds this where the file was replaced by a newer build.
        let name = name.strip_suffix(" (deleted)").unwrap_or(&name);
        name == role.program() || name == "ringway"
    }
}

/// Stops what an `up` that was killed has left running. Only processes that are provably its children.
pub(super) fn stop_stale(run_dir: &Path) {
    for role in [Role::Dataplane, Role::Controlplane, Role::Database] {
        let pid_file = run_dir.join(format!("{}.pid", role.name()));
        let identity = fs::read_to_string(&pid_file).ok().as_deref().and_then(Identity::parse);
        if let Some(stale) = identity.filter(|stale| stale.alive() && stale.runs(role)) {
            warn(&format!("ringway: stopping {} (pid {}) of an earlier run", role.title(), stale.pid));
            signal(stale.pid, role.stop_signal());
            let patience = Instant::now() + STALE_WAIT;
            while stale.alive() {
                if Instant::now() > patience {
                    signal(stale.pid, Signal::KILL);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        let _ = fs::remove_file(pid_file);
    }
}

/// Reads what a child has added to its log.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    file: Option<File>,
    rest: Vec<u8>,
    /// Last lines since the start.
    pub(super) last: VecDeque<String>,
}

impl Tail {
    /// From the log's present end on.
    pub(super) fn at_end_of(path: &Path) -> Tail {
        let file = File::open(path).ok().and_then(|mut file| {
            file.seek(SeekFrom::End(0)).ok()?;
            Some(file)
        });
        Tail { path: path.to_owned(), file, rest: Vec::new(), last: VecDeque::new() }
    }

    /// The whole lines that came since the last turn.
    pub(super) fn lines(&mut self) -> Vec<String> {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else { return Vec::new() };
        let mut bytes = vec![0; READ_BYTES_MAX];
        let count = file.read(&mut bytes).unwrap_or(0);
        self.rest.extend_from_slice(bytes.get(..count).unwrap_or_default());
        let whole = match self.rest.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if self.rest.len() > READ_BYTES_MAX => self.rest.len(),
            None => 0,
        };
        let lines: Vec<String> = self
            .rest
            .drain(..whole)
            .collect::<Vec<u8>>()
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| plain(&String::from_utf8_lossy(line)))
            .collect();
        for line in &lines {
            if self.last.len() == LAST_LINES {
                self.last.pop_front();
            }
            self.last.push_back(line.clone());
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_that_came_again_is_not_taken_for_the_child() {
        let me = Identity::of(std::process::id().cast_signed()).unwrap();
        assert_eq!(Identity::parse(&me.text()).as_ref(), Some(&me));
        assert!(me.alive());
        assert!(!Identity { start_ticks: me.start_ticks + 1, ..me.clone() }.alive());
        assert!(!me.runs(Role::Database), "a test executable is not PostgreSQL");
    }

    #[test]
    fn a_log_is_read_line_by_line_from_where_the_child_began() {
        use std::io::Write as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        fs::write(&path, "old\n").unwrap();
        let mut tail = Tail::at_end_of(&path);
        let mut log = OpenOptions::new().append(true).open(&path).unwrap();
        log.write_all(b"a\n\x1b[31mb").unwrap();
        assert_eq!(tail.lines(), ["a"]);
        log.write_all(b"c\n").unwrap();
        assert_eq!(tail.lines(), ["bc"]);
        assert_eq!(tail.last, ["a", "bc"]);
    }
}
