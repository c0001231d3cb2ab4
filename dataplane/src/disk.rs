//! The last good snapshots on disk, so that a data plane starts with everything else down.
//!
//! Two generations: `current` and `previous`. A new one is written beside, synced, and renamed into place, so that at
//! every instant at least one whole file is there; each is one checksummed frame of the lowest schema number, so that the release before
//! reads it too. A file that does not decode is skipped with an error and the older one is used; it never takes the older one's place.
//!
//! A [`Keeper`] writes on a thread of its own, always whole snapshots and always the latest: under constant change it writes one part in
//! [`DISK_DUTY`] of the time, and no change waits for the disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringway_snapshot::Snapshot;
use ringway_snapshot::frame::{self, FrameKind};

use crate::state::State;

const CURRENT: &str = "current.snapshot";
const PREVIOUS: &str = "previous.snapshot";
const BESIDE: &str = "next.snapshot";
/// Writing may take one part in so many of the time.
const DISK_DUTY: u32 = 10;
/// How far this thread stands back (nice(2)); the others' is 0.
const NICE: i32 = 10;
/// After a failure. An operator who has made room should not wait long.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A folder of snapshots.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    folder: PathBuf,
}

/// A snapshot from disk and how old its file is.
pub(crate) type Found = (Snapshot, Option<Duration>);

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

    /// The snapshots that are there, newest first, with their files' names; each is read only when it is asked for.
    pub(crate) fn generations(&self) -> impl Iterator<Item = (String, Result<Found, String>)> + use<> {
        let folder = self.folder.clone();
        [CURRENT, PREVIOUS].into_iter().filter_map(move |name| {
            let path = folder.join(name);
            match read(&path) {
                Ok(found) => Some((path.display().to_string(), Ok(found))),
                Err(ReadError::Missing) => None,
                Err(ReadError::Bad(reason)) => Some((path.display().to_string(), Err(reason))),
            }
        })
    }

    /// Makes `snapshot` the current one and keeps the one before, if that is whole.
    fn store(&self, snapshot: &Snapshot, current_is_whole: bool) -> io::Result<()> {
        let bytes =
            frame::encode_as(snapshot.schema(), FrameKind::Disk, snapshot).map_err(io::Error::other)?;
        // The folder may have been removed, or may now be there where it was not.
        fs::create_dir_all(&self.folder)?;
        let beside = self.folder.join(BESIDE);
        let written = File::create(&beside).and_then(|mut file| {
            file.write_all(&bytes)?;
            file.sync_all()
        });
        if let Err(error) = written {
            // A part of a file is of no use, and on a full disk it is in the way.
            let _ = fs::remove_file(&beside);
            return Err(error);
        }
        let current = self.folder.join(CURRENT);
        if current_is_whole {
            match fs::rename(&current, self.folder.join(PREVIOUS)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&beside, &current)?;
        File::open(&self.folder)?.sync_all()
    }

    fn current_is_whole(&self) -> bool {
        read(&self.folder.join(CURRENT)).is_ok()
    }
}

/// Writes what it is given to disk, on a thread of its own.
#[derive(Debug)]
pub(crate) struct Keeper {
    disk: Disk,
    desk: Arc<Desk>,
    thread: Option<JoinHandle<()>>,
}

/// What the two threads share.
#[derive(Debug, Default)]
struct Desk {
    papers: Mutex<Papers>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Papers {
    unsaved: Option<Snapshot>,
    ending: bool,
}

impl Desk {
    fn papers(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Keeper {
    /// Starts the thread.
    pub(crate) fn start(disk: Disk, state: Arc<State>) -> io::Result<Keeper> {
        let mut keeper = Keeper { disk, desk: Arc::default(), thread: None };
        keeper.resume(state)?;
        Ok(keeper)
    }

    /// Starts the thread again after [`Keeper::finish`].
    pub(crate) fn resume(&mut self, state: Arc<State>) -> io::Result<()> {
        if self.thread.is_some() {
            return Ok(());
        }
        self.desk.papers().ending = false;
        let (disk, desk) = (self.disk.clone(), Arc::clone(&self.desk));
        let thread = std::thread::Builder::new().name("disk".into());
        self.thread = Some(thread.spawn(move || write_until_the_end(&disk, &desk, &state))?);
        Ok(())
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Has this snapshot written soon, in place of one that still waits.
    pub(crate) fn keep(&self, snapshot: &Snapshot) {
        let old = self.desk.papers().unsaved.replace(snapshot.clone());
        self.desk.changed.notify_one();
        drop(old);
    }

    /// Writes at once what waits, once, and ends.
    pub(crate) fn finish(&mut self) {
        self.desk.papers().ending = true;
        self.desk.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic there was told where it happened.
            let _ = thread.join();
        }
    }
}

fn write_until_the_end(disk: &Disk, desk: &Desk, state: &State) {
    // Where it shares a processor with a core or with `feed`, it is the one that waits.
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!("the thread that writes snapshots keeps its priority: {error}");
    }
    let mut current_is_whole = None;
    let mut not_before = Instant::now();
    while let Some((snapshot, is_last)) = next(desk, not_before) {
        let started = Instant::now();
        let whole = current_is_whole.unwrap_or_else(|| disk.current_is_whole());
        let outcome = disk.store(&snapshot, whole);
        current_is_whole = outcome.is_ok().then_some(true);
        not_before = Instant::now() + started.elapsed() * DISK_DUTY;
        if let Err(error) = tell(outcome, &snapshot, state) {
            tracing::error!("{error}");
        }
        if state.feed().disk_error.is_some() && !is_last {
            desk.papers().unsaved.get_or_insert(snapshot);
            not_before = not_before.max(Instant::now() + AGAIN_AFTER);
        }
    }
}

/// Notes what became of a write. A trouble that is new is given back, to be logged once.
fn tell(outcome: io::Result<()>, snapshot: &Snapshot, state: &State) -> Result<(), String> {
    let mut feed = state.feed();
    let Err(error) = outcome else {
        feed.saved = Some(snapshot.version);
        if feed.disk_error.take().is_some() {
            tracing::info!(version = %snapshot.version, "the last good snapshot is on disk");
        }
        return Ok(());
    };
    let text = format!("the last good snapshot cannot be written: {error}; free space or repair the folder");
    let is_known = feed.disk_error.as_ref() == Some(&text);
    feed.disk_error = Some(text.clone());
    if is_known { Ok(()) } else { Err(text) }
}

/// Waits for a snapshot and for its time; `None` at the end. Whether it is the last is told beside it.
fn next(desk: &Desk, not_before: Instant) -> Option<(Snapshot, bool)> {
    let mut papers = desk.papers();
    loop {
        let wait = not_before.saturating_duration_since(Instant::now());
        let due = papers.unsaved.is_some() && wait.is_zero();
        if due || papers.ending {
            let ending = papers.ending;
            return papers.unsaved.take().map(|snapshot| (snapshot, ending));
        }
        papers = match papers.unsaved {
            None => desk.changed.wait(papers).unwrap_or_else(PoisonError::into_inner),
            Some(_) => desk.changed.wait_timeout(papers, wait).unwrap_or_else(PoisonError::into_inner).0,
        };
    }
}

enum ReadError {
    Missing,
    Bad(String),
}

fn read(path: &Path) -> Result<Found, ReadError> {
    let bytes = fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ReadError::Missing,
        _ => ReadError::Bad(error.to_string()),
    })?;
    let snapshot: Snapshot =
        frame::decode(FrameKind::Disk, &bytes).map_err(|error| ReadError::Bad(error.to_string()))?;
    snapshot.check_integrity().map_err(|reason| ReadError::Bad(reason.to_owned()))?;
    let age = fs::metadata(path).and_then(|file| file.modified()).ok().and_then(|at| at.elapsed().ok());
    Ok((snapshot, age))
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
            disk.store(&snapshot(*revision), disk.current_is_whole()).unwrap();
        }
        (folder, disk)
    }

    fn load(disk: &Disk) -> Option<Snapshot> {
        disk.generations().find_map(|(_, read)| Some(read.ok()?.0))
    }

    #[test]
    fn the_newest_whole_snapshot_is_loaded() {
        let (_folder, disk) = stored(&[]);
        assert_eq!(load(&disk), None);
        let (_folder, disk) = stored(&[1, 2, 3]);
        assert_eq!(load(&disk), Some(snapshot(3)));
    }

    #[test]
    fn a_file_cut_anywhere_or_with_a_flipped_bit_gives_way_to_the_one_before() {
        let (folder, disk) = stored(&[1, 2]);
        let path = folder.path().join(CURRENT);
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(load(&disk), Some(snapshot(1)), "cut at {cut}");
        }
        for (at, _) in whole.iter().enumerate().filter(|(at, _)| *at != 7) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            fs::write(&path, &flipped).unwrap();
            assert_eq!(load(&disk), Some(snapshot(1)), "flipped at {at}");
        }
    }

    #[test]
    fn a_crash_between_the_two_renames_leaves_the_one_before() {
        let (folder, disk) = stored(&[1, 2]);
        fs::rename(folder.path().join(CURRENT), folder.path().join(PREVIOUS)).unwrap();
        assert_eq!(load(&disk), Some(snapshot(2)));
    }

    #[test]
    fn a_file_of_a_later_schema_is_named_and_skipped() {
        let (folder, disk) = stored(&[1, 2]);
        let path = folder.path().join(CURRENT);
        let mut bytes = fs::read(&path).unwrap();
        bytes[4] = 99;
        fs::write(&path, bytes).unwrap();
        let first = disk.generations().next().unwrap();
        assert!(first.0.ends_with(CURRENT) && first.1.unwrap_err().contains("schema 99"));
        assert_eq!(load(&disk), Some(snapshot(1)));
    }

    #[test]
    fn a_damaged_file_never_takes_the_place_of_the_good_one_before() {
        let (folder, disk) = stored(&[1, 2]);
        fs::write(folder.path().join(CURRENT), "torn").unwrap();
        disk.store(&snapshot(3), disk.current_is_whole()).unwrap();
        assert_eq!(load(&disk), Some(snapshot(3)));
        fs::remove_file(folder.path().join(CURRENT)).unwrap();
        assert_eq!(load(&disk), Some(snapshot(1)));
    }

    #[test]
    fn a_full_disk_is_told_leaves_what_is_there_and_the_next_write_heals() {
        let (folder, disk) = stored(&[1]);
        // Whatever is written there fails as on a full disk: full(4).
        std::os::unix::fs::symlink("/dev/full", folder.path().join(BESIDE)).unwrap();
        let error = disk.store(&snapshot(2), true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(load(&disk), Some(snapshot(1)));
        disk.store(&snapshot(2), true).unwrap();
        assert_eq!(load(&disk), Some(snapshot(2)));
    }
}
