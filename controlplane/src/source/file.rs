//! The declarative file as a source: replaced whole or refused whole.
//!
//! The file is looked at a few times a second; inotify would miss what happens on network file systems and in replaced
//! directories, and would need the same look as a fallback. A change is read when two looks in a row saw the same
//! file, so that an editor's half-written one is rarely met; when it is, it is refused and the next write heals it. Best is to write
//! beside it and rename.
//!
//! Its lineage stands for the canonical path, its timeline is 1, its revision goes up at each accepted change (see [`State`]).

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway_snapshot::{Fault, Kind, Version};
use tokio::sync::watch;
use tokio::time::sleep;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use self::state::{Accepted, State};
use super::{Loaded, Times};
use crate::board::{Board, SourceState};
use crate::complaint::Complaint;
use crate::store::Store;

mod json;
mod parse;
mod state;
mod variables;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Bytes of the file.
const FILE_BYTES_MAX: u64 = 1 << 30;
const TIMELINE: u32 = 1;

/// Why the program does not start with this file.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the declarative file {}: {reason}; correct --file", .path.display())]
pub struct FileError {
    path: PathBuf,
    reason: io::Error,
}

/// See the module.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    lineage: u64,
    state: State,
    board: Arc<Board>,
    served: watch::Receiver<Option<Version>>,
    /// The file as the last look saw it, and whether it was read since.
    seen: Option<(Signature, bool)>,
    content: Option<u128>,
    store: Store,
    /// What the pipeline was given last; `None` after a refusal.
    given: Option<Version>,
    complaint: Complaint,
}

/// What changes when a file is written or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signature {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What a look found.
enum Found {
    Content { text: Vec<u8>, signature: Signature },
    Gone(io::Error),
}

impl File {
    /// The file has to be there at the start; later it may come and go.
    pub fn open(path: &Path, state_dir: &Path, board: Arc<Board>) -> Result<File, FileError> {
        let failed = |reason| FileError { path: path.to_owned(), reason };
        let path = fs::canonicalize(path).map_err(failed)?;
        let metadata = fs::metadata(&path).map_err(failed)?;
        if !metadata.is_file() {
            return Err(failed(io::Error::other("is not a file")));
        }
        fs::File::open(&path).map_err(failed)?;
        let lineage = lineage(&path);
        let state = State::open(state_dir, lineage, path.display().to_string());
        Ok(File {
            path,
            lineage,
            state,
            served: board.served(),
            board,
            seen: None,
            content: None,
            store: Store::default(),
            given: None,
            complaint: Complaint::default(),
        })
    }

    /// Waits for the next content, or for a reason to number the present one anew.
    pub async fn next(&mut self) -> Loaded {
        loop {
            match self.look() {
                Some(Found::Content { text, signature }) => {
                    let noticed = Instant::now();
                    self.readable();
                    let content = xxh3_128(&text);
                    self.seen = Some((signature, true));
                    if self.content.replace(content) != Some(content) {
                        return self.load(text, noticed).await;
                    }
                }
                Some(Found::Gone(error)) => self.gone(&error),
                None => {}
            }
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                changed = self.served.changed() => {
                    if changed.is_ok() && let Some(loaded) = self.renumbered() {
                        return loaded;
                    }
                }
            }
        }
    }

    /// Looks at the file; its content, when it has changed and come to rest.
    fn look(&mut self) -> Option<Found> {
        let signature = match signature(&self.path) {
            Ok(signature) => signature,
            Err(error) => return Some(Found::Gone(error)),
        };
        match self.seen {
            Some((seen, true)) if seen == signature => {
                self.readable();
                return None;
            }
            Some((seen, false)) if seen == signature => {}
            // The first content is read at once: the data plane may be waiting.
            None => {}
            Some(_) => {
                self.seen = Some((signature, false));
                return None;
            }
        }
        if signature.bytes > FILE_BYTES_MAX {
            return Some(Found::Gone(io::Error::other(format!("is larger than {FILE_BYTES_MAX} bytes"))));
        }
        match fs::read(&self.path).and_then(|text| Ok((text, self::signature(&self.path)?))) {
            Ok((text, after)) if after == signature => Some(Found::Content { text, signature }),
            Ok((_, after)) => {
                self.seen = Some((after, false));
                None
            }
            Err(error) => Some(Found::Gone(error)),
        }
    }

    async fn load(&mut self, text: Vec<u8>, noticed: Instant) -> Loaded {
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let parsed = tokio::task::spawn_blocking(move || match String::from_utf8(text) {
            Ok(text) => parse::parse(&name, &text),
            Err(_) => {
                let mut store = Store::default();
                store.put_fault(parse::whole(&name, "is not UTF-8 text"));
                store
            }
        });
        self.store = parsed.await.unwrap_or_default();
        self.give(noticed)
    }

    /// The present content with its number.
    fn give(&mut self, noticed: Instant) -> Loaded {
        let served = *self.served.borrow_and_update();
        let outcome = self.store.snapshot(self.lineage, TIMELINE, 0).map(|mut snapshot| {
            snapshot.version.revision = self.state.number(snapshot.version.digest, served);
            snapshot
        });
        let revision = match &outcome {
            Ok(snapshot) => {
                let Version { revision, digest, .. } = snapshot.version;
                self.state.accept(Accepted { revision, digest });
                self.given = Some(snapshot.version);
                revision
            }
            Err(_) => {
                self.given = None;
                self.state.refuse(served)
            }
        };
        let times = Times { noticed, committed_us_before: None, loaded: Instant::now() };
        Loaded::new(self.lineage, TIMELINE, revision, outcome, times)
    }

    /// The data plane may serve a higher number of this lineage, or this number with another content.
    fn renumbered(&mut self) -> Option<Loaded> {
        let served = *self.served.borrow_and_update();
        let given = self.given?;
        let number = self.state.number(given.digest, served);
        (number != given.revision).then(|| self.give(Instant::now()))
    }

    fn readable(&mut self) {
        if self.complaint.over(Instant::now()).is_some() {
            tracing::info!("{} can be read again", self.path.display());
        }
        self.board.source(SourceState::Connected, None);
    }

    fn gone(&mut self, error: &io::Error) {
        // Read it again when it is back, whatever its signature.
        self.seen = self.seen.map(|(signature, _)| (signature, false));
        let text = format!("cannot read {}: {error}; what was read last stays in force", self.path.display());
        if let Some(line) = self.complaint.about(&text, Instant::now()) {
            tracing::warn!("{line}");
        }
        self.board.source(SourceState::Disconnected, Some(text));
    }
}

/// Reads a file as the source would, without serving it: how many objects it holds, or all that is wrong with it.
pub fn check(path: &Path) -> Result<usize, Vec<Fault>> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let text = fs::read_to_string(path)
        .map_err(|error| vec![parse::whole(&name, &format!("cannot be read: {error}"))])?;
    parse::parse(&name, &text).snapshot(0, TIMELINE, 0).map(|snapshot| snapshot.entries.len())
}

/// YAML or JSON as text, with the limits and the strictness of the declarative file.
pub fn read(text: &str) -> Result<serde_json::Value, String> {
    parse::read(text)
}

/// One object of a file as it was written: kind, id and fields.
pub type Written = (Kind, String, serde_json::Map<String, serde_json::Value>);

/// The objects of a file as they were written, for who shows them.
pub fn objects(path: &Path) -> Result<Vec<Written>, String> {
    let text =
        fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    parse::objects(&text).map_err(|reason| format!("{} {reason}", path.display()))
}

/// Stands for the path wherever and whenever it is computed.
fn lineage(path: &Path) -> u64 {
    let mut bytes = b"ringway declarative file\0".to_vec();
    bytes.extend_from_slice(path.as_os_str().as_encoded_bytes());
    xxh3_64(&bytes)
}

fn signature(path: &Path) -> io::Result<Signature> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(io::Error::other("is not a file"));
    }
    Ok(Signature {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lineage_stands_for_the_path() {
        // Written down: a change of it would make every data plane refuse its own file after an update.
        assert_eq!(lineage(Path::new("/etc/ringway/gateway.yaml")), 14_797_123_548_118_724_721);
        assert_ne!(lineage(Path::new("/a")), lineage(Path::new("/b")));
    }
}
