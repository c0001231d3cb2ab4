//! A private PostgreSQL cluster on a Unix socket, and SQL to it.

use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::runtime::Runtime;
use tokio_postgres::NoTls;

use super::process::Process;
use super::wait_until;

/// A cluster that is deleted with its stand.
pub(crate) struct Cluster {
    server: Option<Process>,
    bin: PathBuf,
    home: PathBuf,
    user: Option<(u32, u32)>,
    log: PathBuf,
}

impl Cluster {
    /// Makes and starts one below `dir`.
    pub(crate) fn start(dir: &Path) -> Cluster {
        let bin = programs();
        // PostgreSQL refuses to run as root.
        let user = rustix::process::geteuid().is_root().then(|| (number("-u"), number("-g")));
        let home = dir.join("postgres");
        std::fs::DirBuilder::new().mode(0o700).create(&home).unwrap();
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&home, Some(uid), Some(gid)).unwrap();
        }
        let mut initdb = Command::new(bin.join("initdb"));
        initdb.args([
            "--no-sync",
            "--username=ringway",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "-D",
        ]);
        initdb.arg(home.join("data")).current_dir("/");
        if let Some((uid, gid)) = user {
            initdb.uid(uid).gid(gid);
        }
        let output = initdb.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut cluster = Cluster { server: None, bin, home, user, log: dir.join("postgres.log") };
        cluster.start_again();
        cluster.sql_in("postgres").run("CREATE DATABASE ringway");
        cluster
    }

    /// Starts the server and waits until it takes connections.
    pub(crate) fn start_again(&mut self) {
        let data = self.home.join("data").display().to_string();
        let sockets = format!("unix_socket_directories={}", self.home.display());
        let arguments = ["-D", &data, "-c", &sockets, "-c", "listen_addresses=", "-c", "fsync=off"];
        self.server =
            Some(Process::start_as(self.user, "int", &self.bin.join("postgres"), &arguments, &[], &self.log));
        wait_until("PostgreSQL to take connections", || Sql::try_connect(&self.url_of("postgres")));
    }

    /// kill -9 of the server; its backends notice by themselves.
    pub(crate) fn kill(&mut self) {
        self.server.take().expect("PostgreSQL runs").kill();
        wait_until("PostgreSQL to be gone", || {
            Sql::try_connect(&self.url_of("postgres")).is_none().then_some(())
        });
    }

    /// As the control plane gets it.
    pub(crate) fn url(&self) -> String {
        self.url_of("ringway")
    }

    /// A session in the database of the gateway.
    pub(crate) fn sql(&self) -> Sql {
        self.sql_in("ringway")
    }

    fn sql_in(&self, database: &str) -> Sql {
        wait_until("a session", || Sql::try_connect(&self.url_of(database)))
    }

    fn url_of(&self, database: &str) -> String {
        format!("host={} user=ringway dbname={database}", self.home.display())
    }
}

/// One session.
pub(crate) struct Sql {
    client: tokio_postgres::Client,
    runtime: Runtime,
}

impl Sql {
    fn try_connect(url: &str) -> Option<Sql> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (client, connection) = runtime.block_on(tokio_postgres::connect(url, NoTls)).ok()?;
        runtime.spawn(connection);
        Some(Sql { client, runtime })
    }

    /// Statements; all of them are one transaction.
    pub(crate) fn run(&self, statements: &str) {
        self.runtime.block_on(self.client.batch_execute(statements)).unwrap();
    }

    /// The same, and the revision that they made.
    pub(crate) fn change(&self, statements: &str) -> u64 {
        self.run(&format!("BEGIN; {statements}; COMMIT"));
        self.number("SELECT revision FROM ringway.head")
    }

    /// One number.
    pub(crate) fn number(&self, query: &str) -> u64 {
        let row = self.runtime.block_on(self.client.query_one(query, &[])).unwrap();
        row.get::<_, i64>(0).cast_unsigned()
    }

    /// Rows as text, a line each.
    pub(crate) fn text(&self, query: &str) -> String {
        let rows = self.runtime.block_on(self.client.query(query, &[])).unwrap();
        let rows: Vec<String> = rows.iter().map(|row| row.get::<_, String>(0)).collect();
        rows.join("\n")
    }
}

fn programs() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut debian: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path().join("bin"))
        .collect();
    debian.sort();
    dirs.extend(debian.into_iter().rev());
    dirs.into_iter()
        .find(|dir| dir.join("initdb").is_file())
        .expect("these tests need PostgreSQL: apt-get install postgresql (`make test` does)")
}

fn number(flag: &str) -> u32 {
    let output = Command::new("id").args([flag, "postgres"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().expect("there is a user postgres")
}
