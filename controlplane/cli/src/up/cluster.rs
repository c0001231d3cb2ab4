//! The private PostgreSQL cluster of `ringway up`.
//!
//! It listens on a Unix socket only, in a folder that only its user may enter, and trusts who can enter; it never runs
//! as root. `initdb` writes beside and is renamed, so that an interrupted one is not taken for a cluster.
//! Programs are looked for in `RINGWAY_POSTGRES_BIN`, else on PATH, else where Debian puts them.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::NoTls;

use crate::failure::{Doing as _, Failure};
use crate::terminal::plain;
use crate::up::account::RunAs;
use crate::up::child::{Role, Spec};
use crate::up::folder::{Folder, SOCKET_PATH_BYTES_MAX};

/// Where Debian's packages put each major version's programs.
const DEBIAN_DIR: &str = "/usr/lib/postgresql";
/// Folder of PostgreSQL's programs; empty: do without PostgreSQL.
pub(super) const BIN_VARIABLE: &str = "RINGWAY_POSTGRES_BIN";
/// How long a shutdown may take (it writes what is dirty).
const STOP_WAIT: Duration = Duration::from_secs(60);

/// A folder with `initdb` and `postgres`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    dir: PathBuf,
    /// Major version, as a cluster's `PG_VERSION` has it.
    major: String,
}

impl Programs {
    /// All that are on this machine, the preferred one first.
    pub(super) fn all() -> Vec<Programs> {
        let dirs: Vec<PathBuf> = match std::env::var_os(BIN_VARIABLE) {
            Some(dir) if dir.is_empty() => Vec::new(),
            Some(dir) => vec![PathBuf::from(dir)],
            None => std::env::var_os("PATH")
                .map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
                .unwrap_or_default()
                .into_iter()
                .chain(debian_dirs())
                .collect(),
        };
        let mut found: Vec<Programs> = Vec::new();
        for programs in dirs.iter().filter_map(|dir| Programs::in_dir(dir)) {
            if !found.contains(&programs) {
                found.push(programs);
            }
        }
        found
    }

    fn in_dir(dir: &Path) -> Option<Programs> {
        // PATH often has links to them; what `postgres` needs lies beside the real ones.
        let initdb = fs::canonicalize(dir.join("initdb")).ok()?;
        let dir = initdb.parent()?.to_owned();
        let told = std::process::Command::new(dir.join("postgres")).arg("--version").output().ok()?;
        let text = String::from_utf8(told.stdout).ok()?;
        let major: String =
            text.split_whitespace().nth(2)?.chars().take_while(char::is_ascii_digit).collect();
        (!major.is_empty()).then_some(Programs { dir, major })
    }
}

/// The folders of Debian's packages, highest version first.
fn debian_dirs() -> Vec<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(DEBIAN_DIR)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, dir)| dir).collect()
}

/// A cluster and how to run it.
#[derive(Debug)]
pub(super) struct Cluster {
    home: PathBuf,
    programs: Programs,
    run_as: RunAs,
    existed: bool,
}

/// Why there is no private cluster.
#[derive(Debug)]
pub(super) enum NoCluster {
    /// This machine cannot have one; there is another source.
    Impossible(String),
    /// It should work and does not.
    Failed(Failure),
}

impl From<Failure> for NoCluster {
    fn from(failure: Failure) -> NoCluster {
        NoCluster::Failed(failure)
    }
}

impl Cluster {
    /// Chooses programs, user and place; makes the place, not yet the cluster.
    pub(super) fn prepare(folder: &mut Folder) -> Result<Cluster, NoCluster> {
        let all = Programs::all();
        let Some(preferred) = all.first() else {
            return Err(NoCluster::Impossible(format!(
                "no initdb on PATH or in {DEBIAN_DIR}/*/bin; install PostgreSQL or give --database-url for more"
            )));
        };
        let run_as = RunAs::choose().map_err(NoCluster::Impossible)?;
        let inside = folder.entry("postgres");
        let (home, name) = if inside.is_dir() || run_as.can_enter(folder.path()) {
            (inside, "postgres".to_owned())
        } else {
            let outside = folder.outside();
            let name = outside.to_string_lossy().into_owned();
            (outside, name)
        };
        make_home(&home, &run_as, || folder.note(&name))?;
        let socket_bytes = home.join("run/.s.PGSQL.5432").as_os_str().len();
        if socket_bytes > SOCKET_PATH_BYTES_MAX {
            return Err(Failure::new(format!(
                "the path {} is too long for PostgreSQL's socket; give a shorter --dir",
                home.display()
            ))
            .into());
        }
        let made_by = fs::read_to_string(home.join("data/PG_VERSION")).ok();
        let programs = match made_by.as_deref().map(str::trim) {
            None => preferred.clone(),
            Some(major) => all.iter().find(|programs| programs.major == major).cloned().ok_or_else(|| {
                Failure::new(format!(
                    "the cluster in {} was made by PostgreSQL {major}, which is not installed (found: {}); install it, or --fresh to start anew",
                    home.display(),
                    preferred.major
                ))
            })?,
        };
        Ok(Cluster { home, programs, run_as, existed: made_by.is_some() })
    }

    /// Runs `initdb` where there is no cluster yet.
    pub(super) fn init(&self) -> Result<(), Failure> {
        if self.existed {
            return Ok(());
        }
        let new = self.home.join("data.new");
        if new.exists() {
            fs::remove_dir_all(&new).doing(|| format!("delete {}", new.display()))?;
        }
        let initdb = self.programs.dir.join("initdb");
        let told = self
            .run_as
            .command(&initdb)
            .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "-D"])
            .arg(&new)
            .output()
            .doing(|| format!("run {}", initdb.display()))?;
        if !told.status.success() {
            let text = String::from_utf8_lossy(&told.stderr);
            let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
            return Err(Failure::new(format!(
                "initdb fails in {}: {}; --database-url or --file do without it",
                self.home.display(),
                plain(last)
            )));
        }
        fs::rename(&new, self.data()).doing(|| format!("rename {}", new.display()))
    }

    /// The server process.
    pub(super) fn spec(&self, log: PathBuf) -> Spec {
        // A list of folders, in which each may stand in double quotes.
        let sockets = self.socket_dir().display().to_string().replace('"', "\"\"");
        let sockets = format!("unix_socket_directories=\"{sockets}\"");
        let mut arguments = vec!["-D".into(), self.data().into_os_string()];
        for setting in ["listen_addresses=", "unix_socket_permissions=0700", &sockets] {
            arguments.extend(["-c".into(), setting.into()]);
        }
        Spec {
            role: Role::Database,
            program: self.programs.dir.join("postgres"),
            arguments,
            environment: Vec::new(),
            run_as: self.run_as.clone(),
            stop_wait: STOP_WAIT,
            log,
        }
    }

    /// How the control plane and psql reach it.
    pub(super) fn url(&self) -> String {
        let dir = self.socket_dir().display().to_string();
        let plain = dir.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        let host = if plain { dir } else { format!("'{}'", dir.replace('\\', r"\\").replace('\'', r"\'")) };
        format!("host={host} user=ringway dbname=ringway")
    }

    /// Tries once to make role and database; the cluster's system identifier when they are there.
    pub(super) async fn make_database(&self) -> Result<Option<String>, Failure> {
        let mut config = tokio_postgres::Config::new();
        config.host_path(self.socket_dir()).user("postgres").dbname("postgres");
        let Ok((client, connection)) = config.connect(NoTls).await else { return Ok(None) };
        let driver = tokio::spawn(connection);
        let done: Result<String, tokio_postgres::Error> = async {
            if client.query_opt("SELECT 1 FROM pg_roles WHERE rolname = 'ringway'", &[]).await?.is_none() {
                client.batch_execute("CREATE ROLE ringway LOGIN").await?;
            }
            let database = "SELECT 1 FROM pg_database WHERE datname = 'ringway'";
            if client.query_opt(database, &[]).await?.is_none() {
                client.batch_execute("CREATE DATABASE ringway OWNER ringway").await?;
            }
            let identifier = "SELECT system_identifier::text FROM pg_control_system()";
            client.query_one(identifier, &[]).await?.try_get(0)
        }
        .await;
        drop(client);
        let _ = driver.await;
        done.map(Some).doing(|| "make the database in the private cluster".to_owned())
    }

    /// For the first line: where it is and who runs it.
    pub(super) fn described(&self) -> String {
        let who = match &self.run_as {
            RunAs::Myself => String::new(),
            RunAs::Other(account) => format!(", run by user {} as PostgreSQL refuses root", account.name),
        };
        format!("PostgreSQL {}, a private cluster in {}{who}", self.programs.major, self.home.display())
    }

    /// psql as this machine can call it.
    pub(super) fn psql(&self) -> String {
        let on_path = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join("psql").is_file()));
        let beside = self.programs.dir.join("psql");
        if !on_path && beside.is_file() { beside.display().to_string() } else { "psql".to_owned() }
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn socket_dir(&self) -> PathBuf {
        self.home.join("run")
    }
}

/// Makes the folder for data and socket, for the eyes of the user who runs PostgreSQL only.
fn make_home(
    home: &Path,
    run_as: &RunAs,
    note: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), NoCluster> {
    let shown = home.display();
    match DirBuilder::new().mode(0o700).create(home) {
        Ok(()) => {
            if let RunAs::Other(account) = run_as {
                std::os::unix::fs::chown(home, Some(account.uid), Some(account.gid))
                    .doing(|| format!("give {shown} to {}", account.name))?;
            }
            note()?;
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Failure::new(format!("cannot make {shown}: {error}")).into()),
    }
    // The name outside of the folder can be foreseen, so somebody else may have been there first.
    let facts = fs::symlink_metadata(home).doing(|| format!("read {shown}"))?;
    if !facts.is_dir() || facts.uid() != run_as.uid() || facts.mode() & 0o077 != 0 {
        return Err(Failure::new(format!(
            "{shown} is not a private folder of user {} (it has owner {}, mode {:o}); give another --dir",
            run_as.uid(),
            facts.uid(),
            facts.mode() & 0o7777
        ))
        .into());
    }
    let made = run_as
        .command("mkdir")
        .args(["-p", "-m", "0700"])
        .arg(home.join("run"))
        .status()
        .doing(|| format!("make {shown}/run"))?;
    if !made.success() {
        return Err(Failure::new(format!("cannot make {shown}/run; give another --dir")).into());
    }
    Ok(())
}
