//! The folder of a `ringway up`: its lock, its entries, and what of it `--fresh` may delete.
//!
//! ```text
//! DIR/.ringway-up   which entries an `up` made; only those are ever deleted
//! DIR/lock          held for as long as an `up` runs
//! DIR/run/          sockets (feed, admin, control) and pid files
//! DIR/log/          one log a process
//! DIR/state/HASH/   the data plane's snapshots, a folder for each source
//! DIR/admin.key     the Admin API's key (mode 0600)
//! DIR/postgres/     the private cluster, DIR/ringway.yaml the demonstration file, DIR/demo.json its ports
//! ```
//!
//! Invariant: nothing is deleted that the marker does not name, whatever the folder's name.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::failure::{Doing as _, Failure};
use crate::terminal::warn;

/// Names that an `up` may make in its folder, the lock excepted, which is kept.
const ENTRIES: [&str; 7] = ["run", "log", "state", "postgres", "ringway.yaml", "demo.json", "admin.key"];
/// Says that an `up` made things here, and which.
const MARKER: &str = ".ringway-up";
/// Where a cluster goes whose user cannot enter the folder.
const OUTSIDE_PREFIX: &str = "/var/tmp/ringway-";
/// Longest path of a Unix socket (`sockaddr_un` has 108 bytes with the end).
pub(super) const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A folder that this process has for itself.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    made: BTreeSet<String>,
    /// Released when the process ends, however it ends.
    _lock: File,
}

impl Folder {
    /// Makes the folder where it is missing and takes its lock.
    pub(super) fn take(dir: &Path) -> Result<Folder, Failure> {
        let shown = dir.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(dir)
            .doing(|| format!("make {shown}; give --dir"))?;
        let path = fs::canonicalize(dir).doing(|| format!("read {shown}"))?;
        let longest = path.join("run/control.fleet.sock").as_os_str().len();
        if longest > SOCKET_PATH_BYTES_MAX {
            return Err(Failure::new(format!(
                "the path {} is too long for the sockets below it ({longest} bytes, {SOCKET_PATH_BYTES_MAX} are possible); give a shorter --dir",
                path.display()
            )));
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join("lock"))
            .doing(|| format!("write in {shown}; give another --dir"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::new(format!(
                    "another `ringway up` runs in {}; stop it, or give another --dir",
                    path.display()
                )));
            }
            Err(TryLockError::Error(error)) => {
                return Err(Failure::new(format!("cannot lock {}: {error}", path.display())));
            }
        }
        let made = read_marker(&path.join(MARKER))?;
        Ok(Folder { path, made, _lock: lock })
    }

    /// The folder itself, absolute.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// An entry of it, which need not exist.
    pub(super) fn entry(&self, name: &str) -> PathBuf {
        debug_assert!(ENTRIES.contains(&name), "{name} could never be deleted");
        self.path.join(name)
    }

    /// A private folder in it, made where it is missing.
    pub(super) fn dir(&mut self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.entry(name);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => self.note(name)?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(error) => return Err(Failure::new(format!("cannot make {}: {error}", path.display()))),
        }
        Ok(path)
    }

    /// Remembers that an entry of this name is ours, or a folder outside for the cluster.
    pub(super) fn note(&mut self, name: &str) -> Result<(), Failure> {
        if self.made.insert(name.to_owned()) {
            let text = json!({"made": self.made}).to_string();
            let path = self.path.join(MARKER);
            fs::write(&path, text).doing(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }

    /// Where the cluster goes when its user cannot enter the folder: a fixed name for each folder.
    pub(super) fn outside(&self) -> PathBuf {
        PathBuf::from(format!("{OUTSIDE_PREFIX}{:016x}", hash(self.path.as_os_str().as_encoded_bytes())))
    }

    /// Deletes what earlier runs made. Refuses before the first deletion if anything is not known as ours.
    /// True when there was something.
    pub(super) fn clear(&mut self) -> Result<bool, Failure> {
        for name in ENTRIES {
            let path = self.path.join(name);
            if fs::symlink_metadata(&path).is_ok() && !self.made.contains(name) {
                return Err(Failure::new(format!(
                    "--fresh deletes only what `ringway up` made, and {} is not of that; give another --dir",
                    path.display()
                )));
            }
        }
        for name in &self.made {
            let path = if ENTRIES.contains(&name.as_str()) {
                self.path.join(name)
            } else if Path::new(name) == self.outside() {
                self.outside()
            } else {
                continue;
            };
            delete(&path)?;
        }
        let something = !self.made.is_empty();
        self.made.clear();
        delete(&self.path.join(MARKER))?;
        Ok(something)
    }
}

fn delete(path: &Path) -> Result<(), Failure> {
    let deleted = match fs::symlink_metadata(path) {
        Ok(kind) if kind.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match deleted {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::new(format!("cannot delete {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

fn read_marker(path: &Path) -> Result<BTreeSet<String>, Failure> {
    // A marker that another user wrote could name what is not ours.
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(Failure::new(format!("cannot read {}: {error}", path.display()))),
        Ok(facts) if facts.uid() != rustix::process::geteuid().as_raw() => {
            warn(&format!("ringway: {} belongs to another user; --fresh will not use it", path.display()));
            return Ok(BTreeSet::new());
        }
        Ok(_) => {}
    }
    let text = fs::read_to_string(path).doing(|| format!("read {}", path.display()))?;
    let marker: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok(marker["made"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(ToOwned::to_owned)
        .collect())
}

/// FNV-1a: names folders, so it must stay the same from release to release.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_deletes_what_up_made_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("d");
        let mut folder = Folder::take(&dir).unwrap();
        fs::write(folder.dir("state").unwrap().join("x"), "x").unwrap();
        fs::write(dir.join("mine.txt"), "mine").unwrap();
        drop(folder);
        let mut folder = Folder::take(&dir).unwrap();
        folder.clear().unwrap();
        assert!(!dir.join("state").exists() && dir.join("mine.txt").exists());
    }

    #[test]
    fn fresh_refuses_an_entry_that_up_did_not_make_and_deletes_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let mut folder = Folder::take(parent.path()).unwrap();
        folder.dir("state").unwrap();
        fs::create_dir(parent.path().join("postgres")).unwrap();
        let told = folder.clear().unwrap_err().to_string();
        assert!(told.contains("/postgres is not of that"), "{told}");
        assert!(parent.path().join("state").exists());
    }

    #[test]
    fn a_second_up_in_the_same_folder_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let _first = Folder::take(parent.path()).unwrap();
        let told = Folder::take(parent.path()).unwrap_err().to_string();
        assert!(told.contains("another `ringway up` runs in"), "{told}");
    }

    #[test]
    fn a_marker_cannot_make_fresh_delete_elsewhere() {
        let parent = tempfile::tempdir().unwrap();
        let victim = parent.path().join("victim");
        fs::create_dir(&victim).unwrap();
        let dir = parent.path().join("d");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(MARKER), json!({"made": ["../victim", victim]}).to_string()).unwrap();
        Folder::take(&dir).unwrap().clear().unwrap();
        assert!(victim.exists());
    }
}
