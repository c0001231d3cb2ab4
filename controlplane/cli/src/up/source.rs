//! Where the configuration of a `ringway up` comes from, and how the control plane is told.
//!
//! `--database-url`, else `--file`, else a private PostgreSQL cluster where that is possible, else a declarative
//! file of its own. The choice is made once and told in the first line; a source that was asked for is never
//! replaced by another.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use tokio_postgres::config::Host;

use crate::failure::{Doing as _, Failure};
use crate::up::UpArgs;
use crate::up::cluster::{Cluster, NoCluster};
use crate::up::folder::Folder;

/// The chosen source.
#[derive(Debug)]
pub(super) enum Source {
    /// A private cluster.
    Private(Cluster),
    /// A database of the user's.
    Database {
        /// As it was given; may hold a password.
        url: String,
        /// The same, read.
        config: Box<tokio_postgres::Config>,
    },
    /// A file of the user's.
    File(PathBuf),
    /// A file of our own, and why not PostgreSQL.
    OwnFile(PathBuf, String),
}

impl Source {
    /// Chooses; prepares the place of a private cluster.
    pub(super) fn choose(args: &UpArgs, folder: &mut Folder) -> Result<Source, Failure> {
        if let Some(url) = &args.database_url {
            let config = url.parse().map_err(|error: tokio_postgres::Error| {
                let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})"));
                Failure::new(format!(
                    "--database-url is not a PostgreSQL connection string: {error}{}; it looks like postgresql://user@host/database",
                    cause.unwrap_or_default()
                ))
            })?;
            return Ok(Source::Database { url: url.clone(), config: Box::new(config) });
        }
        if let Some(file) = &args.file {
            let path = fs::canonicalize(file).doing(|| format!("read --file {}", file.display()))?;
            fs::File::open(&path).doing(|| format!("read --file {}", file.display()))?;
            return Ok(Source::File(path));
        }
        match Cluster::prepare(folder) {
            Ok(cluster) => Ok(Source::Private(cluster)),
            Err(NoCluster::Failed(failure)) => Err(failure),
            Err(NoCluster::Impossible(why)) => Ok(Source::OwnFile(folder.entry("ringway.yaml"), why)),
        }
    }

    /// The first line of `up`.
    pub(super) fn described(&self) -> String {
        match self {
            Source::Private(cluster) => format!("source: {}", cluster.described()),
            Source::Database { config, .. } => format!("source: PostgreSQL at {}", place(config)),
            Source::File(path) => format!("source: the declarative file {}", path.display()),
            Source::OwnFile(path, why) => format!("source: the declarative file {} ({why})", path.display()),
        }
    }

    /// What tells this source from another one: a data plane refuses to follow another source without being told.
    pub(super) fn identity(&self, system_identifier: Option<&str>) -> String {
        match self {
            Source::Private(_) => format!("private {}", system_identifier.unwrap_or_default()),
            Source::Database { config, .. } => format!("database {}", place(config)),
            Source::File(path) | Source::OwnFile(path, _) => format!("file {}", path.display()),
        }
    }

    /// How the control plane is told. The URL goes through the environment, as `ps` shows arguments to everybody.
    pub(super) fn for_controlplane(&self) -> (Vec<OsString>, Vec<(&'static str, OsString)>) {
        match self {
            Source::Private(cluster) => (vec![], vec![("RINGWAY_DATABASE_URL", cluster.url().into())]),
            Source::Database { url, .. } => (vec![], vec![("RINGWAY_DATABASE_URL", url.into())]),
            Source::File(path) | Source::OwnFile(path, _) => (vec!["--file".into(), path.into()], vec![]),
        }
    }

    /// How to put demonstration objects into it, where that is done by SQL.
    pub(super) fn database(&self) -> Option<tokio_postgres::Config> {
        match self {
            Source::Private(cluster) => cluster.url().parse().ok(),
            Source::Database { config, .. } => Some((**config).clone()),
            Source::File(_) | Source::OwnFile(..) => None,
        }
    }
}

/// Host and database without user and password.
fn place(config: &tokio_postgres::Config) -> String {
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(index, host)| {
            let port = ports.get(index).or(ports.first()).copied().unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        })
        .collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("{}/{database}", hosts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_database_tells_no_password() {
        let config = "postgresql://me:secret@a:1,b:2/shop".parse().unwrap();
        assert_eq!(place(&config), "a:1,b:2/shop");
        let config = "host=/run/x user=me password=secret".parse().unwrap();
        assert_eq!(place(&config), "/run/x:5432/me");
    }
}
