//! Where the configuration of a `ringway up` comes from, and how the control plane is told.
//!
//! `--database-url`, else `--file`, else a private PostgreSQL cluster where that is possible, else a declarative
//! file of its own. The choice is made once and told in the first line; a source that was asked for is never
//! replaced by another.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use ringway_controlplane::source::postgresql::target::Target;

use crate::failure::{Doing as _, Failure};
use crate::up::UpArgs;
use crate::up::cluster::{Cluster, NoCluster};
use crate::up::folder::Folder;

/// Told to PostgreSQL as the name of the application.
const NAME: &str = "up";

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
        target: Box<Target>,
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
            let target = Target::parse(url, NAME)
                .map_err(|error| Failure::new(format!("--database-url cannot be used: {error}")))?;
            return Ok(Source::Database { url: url.clone(), target: Box::new(target) });
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
            Source::Database { target, .. } => format!("source: PostgreSQL at {}", target.detail),
            Source::File(path) => format!("source: the declarative file {}", path.display()),
            Source::OwnFile(path, why) => format!("source: the declarative file {} ({why})", path.display()),
        }
    }

    /// What tells this source from another one: a data plane refuses to follow another source without being told.
    pub(super) fn identity(&self, system_identifier: Option<&str>) -> String {
        match self {
            Source::Private(_) => format!("private {}", system_identifier.unwrap_or_default()),
            Source::Database { target, .. } => format!("database {}", target.detail),
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
    pub(super) fn database(&self) -> Option<Target> {
        match self {
            Source::Private(cluster) => Target::parse(&cluster.url(), NAME).ok(),
            Source::Database { target, .. } => Some((**target).clone()),
            Source::File(_) | Source::OwnFile(..) => None,
        }
    }
}
