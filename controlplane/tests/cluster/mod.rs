//! A real PostgreSQL for tests: a cluster of its own in a temporary directory, reached over its Unix socket.
//!
//! No TCP unless a test asks for it, and no fixed port, so that any number run beside each other. PostgreSQL refuses to run as root: then
//! another user is taken for it. Dropping a cluster stops the server and removes all of it.
//!
//! Everything is done with PostgreSQL's own programs, so that a test crate needs no driver to use this file.
#![allow(dead_code, unreachable_pub, reason = "each test crate includes this file and uses a part of it")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// For a server to start, stop, or be promoted. Recovery after a crash is the longest.
const SERVER_MAX: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);
/// It names the socket's file.
const PORT: u16 = 5432;
/// The database that tests use.
pub const DATABASE: &str = "gateway";

/// See the module.
#[derive(Debug)]
pub struct Cluster {
    directory: tempfile::TempDir,
    server: Option<Child>,
    port: u16,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.signal_and_wait("QUIT");
    }
}

impl Cluster {
    /// A running cluster with an empty database.
    pub fn start() -> Cluster {
        let mut cluster = Cluster { directory: new_directory(), server: None, port: PORT };
        let data = cluster.data();
        let mut initdb = cluster.program("initdb");
        initdb.args(["--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8", "--locale=C"]);
        succeed(initdb.arg("--pgdata").arg(data));
        cluster.configure(&format!(
            "listen_addresses = ''\nunix_socket_directories = '{}'\nfsync = off\nmax_connections = 60\n\
             shared_buffers = 16MB\nmax_wal_senders = 5\nwal_keep_size = 64MB\n",
            cluster.directory.path().display()
        ));
        cluster.start_server();
        cluster.sql_in("postgres", &format!("create database {DATABASE}"));
        cluster
    }

    /// A standby that streams from this one, as `pg_basebackup` makes it.
    pub fn standby(&self) -> Cluster {
        let mut standby = self.copied(&["--write-recovery-conf"]);
        standby.start_server();
        standby
    }

    /// A copy of this one that is another primary of the same timeline: a backup that was restored without recovery.
    pub fn restored(&self) -> Cluster {
        let mut copy = self.backup();
        copy.start_server();
        copy
    }

    /// The same, not started yet.
    pub fn backup(&self) -> Cluster {
        self.copied(&[])
    }

    fn copied(&self, arguments: &[&str]) -> Cluster {
        let copy = Cluster { directory: new_directory(), server: None, port: PORT };
        let mut backup = copy.program("pg_basebackup");
        backup.args(["--username=postgres", "--checkpoint=fast", "--no-sync"]).args(arguments);
        backup.args(["--port", &self.port.to_string(), "--host"]).arg(self.directory.path());
        succeed(backup.arg("--pgdata").arg(copy.data()));
        let directory = copy.directory.path().display().to_string();
        copy.configure(&format!(
            "unix_socket_directories = '{directory}'\nhot_standby = on\nlisten_addresses = ''\nport = {PORT}\n"
        ));
        copy
    }

    /// Restarts it with these lines in `postgresql.conf`.
    pub fn reconfigure(&mut self, lines: &str) {
        self.stop();
        self.configure(lines);
        self.start_server();
    }

    /// Restarts it so that it listens on 127.0.0.1 too, on a port that was free.
    pub fn listen_tcp(&mut self, lines: &str) -> u16 {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        self.stop();
        self.port = free.expect("a port").port();
        self.configure(&format!("listen_addresses = '127.0.0.1'\nport = {}\n{lines}\n", self.port));
        self.start_server();
        self.port
    }

    /// Puts lines before all others of `pg_hba.conf`.
    pub fn admit(&self, lines: &str) {
        let path = self.data().join("pg_hba.conf");
        let text = fs::read_to_string(&path).expect("pg_hba.conf");
        fs::write(&path, format!("{lines}\n{text}")).expect("pg_hba.conf");
        if self.server.is_some() {
            self.sql("select pg_reload_conf()");
        }
    }

    /// Copies a file to where the server may read it and nobody else.
    pub fn give_file(&self, name: &str, from: &Path) -> PathBuf {
        let to = self.data().join(name);
        fs::copy(from, &to).expect("copy");
        fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("chmod");
        if let Some((user, group)) = unprivileged() {
            std::os::unix::fs::chown(&to, Some(user), Some(group)).expect("chown");
        }
        to
    }

    /// The file of its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join(format!(".s.PGSQL.{}", self.port))
    }

    /// Makes a primary of a standby and waits until it is one.
    pub fn promote(&self) {
        self.sql("select pg_promote(true, 60)");
    }

    /// Asks a role for its password from now on.
    pub fn ask_password(&self, role: &str) {
        self.admit(&format!("local all {role} scram-sha-256"));
    }

    /// The directory of the socket.
    pub fn host(&self) -> String {
        self.directory.path().display().to_string()
    }

    /// The URL for the superuser.
    pub fn url(&self) -> String {
        self.url_as("postgres")
    }

    /// The URL for a role.
    pub fn url_as(&self, role: &str) -> String {
        let port = if self.port == PORT { String::new() } else { format!("&port={}", self.port) };
        format!("postgresql:///{DATABASE}?host={}{port}&user={role}", self.host())
    }

    /// Runs statements and gives what they answer, one row a line, `|` between columns.
    #[track_caller]
    pub fn sql(&self, statements: &str) -> String {
        self.sql_in(DATABASE, statements)
    }

    /// The same as another role, and with its error.
    pub fn try_sql(&self, role: &str, statements: &str) -> Result<String, String> {
        let output = self.psql(role, DATABASE, statements);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Starts statements in the background; for several sessions at once.
    pub fn spawn_sql(&self, statements: &str) -> Child {
        let script = self.directory.path().join(format!("script-{:?}.sql", Instant::now()).replace(' ', ""));
        fs::write(&script, statements).expect("script");
        self.psql_command("postgres", DATABASE)
            .arg("--file")
            .arg(script)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql starts")
    }

    /// Kills the server as a power failure would, without letting it clean up.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().expect("kill");
            server.wait().expect("wait");
        }
    }

    /// Stops the server with a checkpoint, as `systemctl stop` does.
    pub fn stop(&mut self) {
        self.signal_and_wait("INT");
    }

    /// Sends a signal to the server and all its children, for example STOP and CONT.
    pub fn signal_all(&self, signal: &str) {
        let Some(server) = &self.server else { return };
        let id = server.id().to_string();
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", &id]).output().expect("ps");
        let children = String::from_utf8_lossy(&children.stdout).into_owned();
        for pid in std::iter::once(id.as_str()).chain(children.split_whitespace()) {
            let _ = Command::new("kill").args([&format!("-{signal}"), pid]).status();
        }
    }

    /// Starts the server again and waits until it answers.
    #[track_caller]
    pub fn start_server(&mut self) {
        let deadline = Instant::now() + SERVER_MAX;
        let log_path = self.directory.path().join("server.log");
        loop {
            let log = fs::OpenOptions::new().create(true).append(true).open(&log_path).expect("server.log");
            let mut command = self.program("postgres");
            command.arg("-D").arg(self.data()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            let mut server = command.spawn().expect("postgres starts");
            // After a kill, the old server's children may hold its shared memory for a moment: then it is tried again.
            while Instant::now() < deadline && server.try_wait().expect("wait").is_none() {
                if self.psql("postgres", "postgres", "select 1").status.success() {
                    self.server = Some(server);
                    return;
                }
                std::thread::sleep(PAUSE);
            }
            let _ = server.kill();
            let _ = server.wait();
            let log = fs::read_to_string(&log_path).unwrap_or_default();
            assert!(Instant::now() < deadline, "PostgreSQL does not start:\n{log}");
        }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn configure(&self, lines: &str) {
        let path = self.data().join("postgresql.conf");
        let mut text = fs::read_to_string(&path).expect("postgresql.conf");
        text.push_str(lines);
        fs::write(&path, text).expect("postgresql.conf");
    }

    #[track_caller]
    fn sql_in(&self, database: &str, statements: &str) -> String {
        let output = self.psql("postgres", database, statements);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}\nof: {statements:.2000}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn psql(&self, role: &str, database: &str, statements: &str) -> Output {
        use std::io::Write as _;
        let mut child = self
            .psql_command(role, database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql starts");
        // It may end before it has read everything; its exit status tells.
        let _ = child.stdin.take().expect("piped").write_all(statements.as_bytes());
        child.wait_with_output().expect("psql ends")
    }

    fn psql_command(&self, role: &str, database: &str) -> Command {
        let mut psql = Command::new(program_path("psql"));
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", role, "-d", database, "-h"]);
        psql.arg(self.directory.path()).args(["-p", &self.port.to_string()]);
        psql
    }

    /// One of PostgreSQL's programs, run by a user whom it accepts.
    fn program(&self, name: &str) -> Command {
        let path = program_path(name);
        let mut command = match unprivileged() {
            None => Command::new(path),
            Some((user, group)) => {
                let mut command = Command::new("setpriv");
                command.args([&format!("--reuid={user}"), &format!("--regid={group}"), "--clear-groups"]);
                command.arg(path);
                command
            }
        };
        command.current_dir(self.directory.path()).env_remove("PGDATA");
        command
    }

    fn signal_and_wait(&mut self, signal: &str) {
        let Some(mut server) = self.server.take() else { return };
        let id = server.id().to_string();
        let _ = Command::new("kill").args(["-CONT", &id]).status();
        let _ = Command::new("kill").args([&format!("-{signal}"), &id]).status();
        let deadline = Instant::now() + SERVER_MAX;
        while Instant::now() < deadline {
            if matches!(server.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        let _ = server.kill();
        let _ = server.wait();
    }
}

/// Short, because a socket's path may have 107 bytes, and owned by whoever will run the server.
fn new_directory() -> tempfile::TempDir {
    let directory = tempfile::Builder::new().prefix("rw").tempdir_in("/tmp").expect("directory");
    if let Some((user, group)) = unprivileged() {
        std::os::unix::fs::chown(directory.path(), Some(user), Some(group)).expect("chown");
    }
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    directory
}

/// Whom to run PostgreSQL as; `None` where this process is not root.
fn unprivileged() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| -> Option<u32> {
        let output = Command::new("id").args(arguments).output().ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    };
    if id(&["-u"]) != Some(0) {
        return None;
    }
    ["postgres", "nobody"].iter().find_map(|user| Some((id(&["-u", user])?, id(&["-g", user])?)))
}

/// From PATH, else from where Debian puts the newest version.
fn program_path(name: &str) -> PathBuf {
    let in_path = std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    debian.sort_by_key(|path| path.file_name().and_then(|version| version.to_str()?.parse::<u32>().ok()));
    // All programs of one version: a symbolic link in PATH to initdb alone must not mix two.
    debian
        .iter()
        .rev()
        .map(|version| version.join("bin"))
        .chain(in_path)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is not on this machine: install PostgreSQL"))
}

#[track_caller]
fn succeed(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
