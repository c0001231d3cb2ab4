//! The last good snapshot on disk, so that a data plane starts with everything else down.
//!
//! Two generations: `current` and `previous`. A new one is written beside, synced, and renamed into place, so that at
//! every instant at least one whole file is there; each is one checksummed frame. A file that does not decode is
//! skipped with an error in the log and the older one is used.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ringway_snapshot::Snapshot;
use ringway_snapshot::frame::{self, FrameKind};

const CURRENT: &str = "current.snapshot";
const PREVIOUS: &str = "previous.snapshot";
const BESIDE: &str = "next.snapshot";

/// A folder of snapshots.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    folder: PathBuf,
}

impl Disk {
    pub(crate) fn new(folder: PathBuf) -> Disk {
        Disk { folder }
    }

    /// Makes the folder; the error says what to do.
    pub(crate) fn prepare(&self) -> Result<(), String> {
        fs::create_dir_all(&self.folder).map_err(|error| {
            let folder = self.folder.display();
            format!("cannot make the snapshot folder {folder}: {error}; make it writable or give another one with --snapshot-dir")
        })
    }

    /// The newest snapshot that is whole.
    pub(crate) fn load(&self) -> Option<Snapshot> {
        [CURRENT, PREVIOUS].into_iter().find_map(|name| {
            let path = self.folder.join(name);
            match read(&path) {
                Ok(snapshot) => Some(snapshot),
                Err(ReadError::Missing) => None,
                Err(ReadError::Bad(reason)) => {
                    tracing::error!(file = %path.display(), "skipping a snapshot on disk: {reason}");
                    None
                }
            }
        })
    }

    /// Makes `snapshot` the current one and keeps the one before.
    pub(crate) fn store(&self, snapshot: &Snapshot) -> io::Result<()> {
        let bytes = frame::encode(FrameKind::Disk, snapshot).map_err(io::Error::other)?;
        let beside = self.folder.join(BESIDE);
        let mut file = File::create(&beside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        let current = self.folder.join(CURRENT);
        match fs::rename(&current, self.folder.join(PREVIOUS)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        fs::rename(&beside, &current)?;
        File::open(&self.folder)?.sync_all()
    }
}

enum ReadError {
    Missing,
    Bad(String),
}

fn read(path: &Path) -> Result<Snapshot, ReadError> {
    let bytes = fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ReadError::Missing,
        _ => ReadError::Bad(error.to_string()),
    })?;
    let snapshot: Snapshot =
        frame::decode(FrameKind::Disk, &bytes).map_err(|error| ReadError::Bad(error.to_string()))?;
    snapshot.check_integrity().map_err(|reason| ReadError::Bad(reason.to_owned()))?;
    Ok(snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(revision: u64) -> Snapshot {
        Snapshot::new(1, 1, revision, Vec::new())
    }

    fn stored(revisions: &[u64]) -> (tempfile::TempDir, Disk) {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path().to_owned());
        for revision in revisions {
            disk.store(&snapshot(*revision)).unwrap();
        }
        (folder, disk)
    }

    #[test]
    fn the_newest_whole_snapshot_is_loaded() {
        let (_folder, disk) = stored(&[]);
        assert_eq!(disk.load(), None);
        let (_folder, disk) = stored(&[1, 2, 3]);
        assert_eq!(disk.load(), Some(snapshot(3)));
    }

    #[test]
    fn a_file_cut_anywhere_or_with_a_flipped_bit_gives_way_to_the_one_before() {
        let (folder, disk) = stored(&[1, 2]);
        let path = folder.path().join(CURRENT);
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(disk.load(), Some(snapshot(1)), "cut at {cut}");
        }
        for (at, _) in whole.iter().enumerate().filter(|(at, _)| *at != 7) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            fs::write(&path, &flipped).unwrap();
            assert_eq!(disk.load(), Some(snapshot(1)), "flipped at {at}");
        }
    }

    #[test]
    fn a_crash_between_the_two_renames_leaves_the_one_before() {
        let (folder, disk) = stored(&[1, 2]);
        fs::rename(folder.path().join(CURRENT), folder.path().join(PREVIOUS)).unwrap();
        assert_eq!(disk.load(), Some(snapshot(2)));
    }
}
