//! PostgreSQL clusters of this program's own: a primary, and a standby that streams from it.
//!
//! On Unix sockets in a folder of their own, run by an unprivileged user where this program is root, because PostgreSQL
//! refuses root. Durability against power failure is off: here only processes die. One `initdb` serves all
//! primaries of a run; each gets a copy.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, geteuid};

use super::process::{Launch, Process, SELF};
use super::sql::{Session, USER};
use crate::stop::Stop;

pub(crate) const DATABASE: &str = "gateway";
const START_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(10);
const SETTINGS: &str = "listen_addresses = ''\nfsync = off\nmax_connections = 40\nshared_buffers = 16MB\n\
    max_wal_senders = 5\nwal_keep_size = 128MB\nhot_standby = on\nwal_level = replica\nautovacuum = off\n";

/// PostgreSQL's programs, and who runs them.
#[derive(Debug)]
pub(crate) struct Programs {
    folder: PathBuf,
    user: Option<(u32, u32)>,
    /// A cluster that was never started.
    template: PathBuf,
}

/// One server with its data. Dropping it kills the server; the folder belongs to whoever gave it.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// Holds the socket.
    pub(crate) folder: PathBuf,
    server: Option<Process>,
}

impl Programs {
    /// Finds PostgreSQL and makes the template below `folder`.
    pub(crate) fn prepare(folder: &Path) -> Result<Self> {
        let programs = Self { folder: find()?, user: unprivileged(), template: folder.join("template") };
        programs.make(folder)?;
        programs.run("initdb", |command| {
            command.args(["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C", "--username", USER]);
            command.arg("--pgdata").arg(&programs.template);
        })?;
        let path = programs.template.join("postgresql.conf");
        let text = fs::read_to_string(&path)? + SETTINGS;
        fs::write(&path, text)?;
        Ok(programs)
    }

    /// A running primary below `folder`, with an empty database.
    pub(crate) fn primary(&self, folder: PathBuf, stop: &Stop) -> Result<Cluster> {
        self.make(&folder)?;
        let copied = Command::new("cp").arg("-a").arg(&self.template).arg(folder.join("data")).status()?;
        if !copied.success() {
            bail!("cannot copy the cluster to {}", folder.display());
        }
        let mut cluster = Cluster { folder, server: None };
        cluster.start(self, stop)?;
        Session::connect(&cluster.folder, USER)?.run(&format!("CREATE DATABASE {DATABASE}"))?;
        Ok(cluster)
    }

    /// A running standby of `primary`.
    pub(crate) fn standby(&self, primary: &Cluster, folder: PathBuf, stop: &Stop) -> Result<Cluster> {
        self.make(&folder)?;
        self.run("pg_basebackup", |command| {
            command.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--username", USER]);
            command.arg("--host").arg(&primary.folder).arg("--pgdata").arg(folder.join("data"));
        })?;
        let mut cluster = Cluster { folder, server: None };
        cluster.start(self, stop)?;
        Ok(cluster)
    }

    fn make(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder)?;
        self.own(folder)
    }

    fn own(&self, folder: &Path) -> Result<()> {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        if let Some((uid, gid)) = self.user {
            chown(folder, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    fn run(&self, program: &str, arguments: impl FnOnce(&mut Command)) -> Result<()> {
        let path = self.folder.join(program);
        let mut command = match self.user {
            None => Command::new(path),
            Some((uid, gid)) => {
                let mut command = Command::new(SELF);
                command.args(["hold", "--parent", &std::process::id().to_string()]);
                command.args(["--uid", &uid.to_string(), "--gid", &gid.to_string(), "--"]).arg(path);
                command
            }
        };
        arguments(&mut command);
        let output = command.current_dir("/tmp").env_remove("PGDATA").stdin(Stdio::null()).output()?;
        if !output.status.success() {
            bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

impl Cluster {
    /// Starts the server and waits until it answers.
    pub(crate) fn start(&mut self, programs: &Programs, stop: &Stop) -> Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        let log = self.folder.join("server.log");
        loop {
            let mut server = Process::start(Launch {
                program: &programs.folder.join("postgres"),
                arguments: vec![
                    "-D".into(),
                    self.folder.join("data").display().to_string(),
                    "-k".into(),
                    self.folder.display().to_string(),
                ],
                environment: Vec::new(),
                log: &log,
                user: programs.user,
            })?;
            // Behind a kill -9, children of the old server may hold its memory for a moment: it is tried again.
            while server.has_ended().is_none() {
                stop.check()?;
                if Session::connect(&self.folder, USER).is_ok() {
                    self.server = Some(server);
                    return Ok(());
                }
                if Instant::now() >= deadline {
                    break;
                }
                std::thread::sleep(LOOK_EVERY);
            }
            if Instant::now() >= deadline {
                bail!("PostgreSQL does not start:\n{}", server.end_of_log());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Stops as `systemctl stop` does.
    pub(crate) fn stop(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.signal(Signal::INT);
            server.wait();
        }
    }

    /// kill -9 of the server; its children notice by themselves.
    pub(crate) fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill();
        }
    }

    pub(crate) fn promote(&self) -> Result<()> {
        Session::connect(&self.folder, USER)?.run("SELECT pg_promote(true, 60)")?;
        Ok(())
    }

    /// A session in the gateway's database.
    pub(crate) fn session(&self) -> Result<Session> {
        Ok(Session::connect(&self.folder, DATABASE)?)
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Process::pid)
    }
}

/// The folder of PostgreSQL's programs: the newest of Debian's, else the one in PATH.
fn find() -> Result<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let debian = versions.into_iter().rev().map(|(_, folder)| folder);
    debian
        .chain(std::env::split_paths(OsStr::new(&path)))
        .find(|folder| folder.join("initdb").is_file() && folder.join("pg_basebackup").is_file())
        .context("PostgreSQL is not on this machine: initdb and pg_basebackup (apt-get install postgresql)")
}

/// Whom to run PostgreSQL as; `None` where this program is not root.
fn unprivileged() -> Option<(u32, u32)> {
    if !geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    ["postgres", "nobody"].iter().find_map(|wanted| {
        let line = users.lines().find(|line| line.split(':').next() == Some(wanted))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}
