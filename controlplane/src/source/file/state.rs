//! The file source's revision, kept over restarts.
//!
//! A file has no revision of its own, and the data plane only goes up: the number of the last accepted content is kept in a
//! small file in the state directory, replaced whole before the version is published. Where it cannot be kept, the
//! number goes on in memory, and the data plane's own version helps after a restart.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ringway_snapshot::{Digest, Version};
use serde::{Deserialize, Serialize};

/// What was accepted last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) revision: u64,
    pub(super) digest: Digest,
}

/// See the module.
#[derive(Debug)]
pub(super) struct State {
    path: PathBuf,
    lineage: u64,
    source: String,
    accepted: Option<Accepted>,
    refused: bool,
    complained: bool,
}

#[derive(Serialize, Deserialize)]
struct OnDisk {
    lineage: String,
    revision: u64,
    digest: String,
    source: String,
}

impl State {
    /// Reads what was kept for this lineage. A file that cannot be read counts as none, and says so.
    pub(super) fn open(dir: &Path, lineage: u64, source: String) -> State {
        let path = dir.join(format!("file-{lineage:016x}.json"));
        let accepted = match fs::read(&path) {
            Ok(bytes) => {
                let read = accepted(&bytes, lineage);
                if read.is_none() {
                    tracing::error!(
                        "the revision kept in {} cannot be read; starting without it",
                        path.display()
                    );
                }
                read
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::error!("cannot read {}: {error}; starting without it", path.display());
                }
                None
            }
        };
        State { path, lineage, source, accepted, refused: false, complained: false }
    }

    /// The number for this content: the one it has already, else one above all that is known. After a refusal it is
    /// a new one in any case, so that the data plane hears of the cure also where the old content is back.
    pub(super) fn number(&self, digest: Digest, served: Option<Version>) -> u64 {
        let served = served
            .filter(|version| version.lineage == self.lineage)
            .map(|version| Accepted { revision: version.revision, digest: version.digest });
        let highest = [self.accepted, served].into_iter().flatten().max_by_key(|known| known.revision);
        let Some(highest) = highest else { return 1 };
        // Two contents with one number: somebody lost his state. Neither keeps it.
        let disputed = [self.accepted, served]
            .into_iter()
            .flatten()
            .any(|known| known.revision == highest.revision && known.digest != highest.digest);
        if highest.digest == digest && !disputed && !self.refused {
            highest.revision
        } else {
            highest.revision + 1
        }
    }

    /// The content is refused; the number that it would have had.
    pub(super) fn refuse(&mut self, served: Option<Version>) -> u64 {
        self.refused = true;
        self.number(Digest::default(), served)
    }

    /// Keeps a number for good.
    pub(super) fn accept(&mut self, accepted: Accepted) {
        self.refused = false;
        if self.accepted == Some(accepted) {
            return;
        }
        self.accepted = Some(accepted);
        match self.write(accepted) {
            Ok(()) => self.complained = false,
            Err(error) => {
                if !self.complained {
                    tracing::error!(
                        "cannot keep the revision in {}: {error}; give a writable --state-dir, else it starts anew after a restart",
                        self.path.display()
                    );
                }
                self.complained = true;
            }
        }
    }

    fn write(&self, accepted: Accepted) -> io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        let on_disk = OnDisk {
            lineage: format!("{:016x}", self.lineage),
            revision: accepted.revision,
            digest: accepted.digest.to_string(),
            source: self.source.clone(),
        };
        let beside = self.path.with_extension(format!("json.{}", std::process::id()));
        let written = fs::File::create(&beside).and_then(|mut file| {
            file.write_all(serde_json::to_string(&on_disk)?.as_bytes())?;
            file.sync_all()
        });
        if let Err(error) = written.and_then(|()| fs::rename(&beside, &self.path)) {
            let _ = fs::remove_file(&beside);
            return Err(error);
        }
        fs::File::open(dir)?.sync_all()
    }
}

fn accepted(bytes: &[u8], lineage: u64) -> Option<Accepted> {
    let on_disk: OnDisk = serde_json::from_slice(bytes).ok()?;
    let digest = on_disk.digest.parse().ok()?;
    (on_disk.lineage == format!("{lineage:016x}")).then_some(Accepted { revision: on_disk.revision, digest })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Digest = Digest(1);
    const B: Digest = Digest(2);

    fn served(revision: u64, digest: Digest) -> Option<Version> {
        Some(Version { lineage: 7, timeline: 1, revision, digest })
    }

    #[test]
    fn the_number_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("new");
        let mut state = State::open(&dir, 7, "a.yaml".into());
        assert_eq!(state.number(A, None), 1);
        state.accept(Accepted { revision: 5, digest: A });
        let state = State::open(&dir, 7, "a.yaml".into());
        assert_eq!(state.number(A, None), 5);
        assert_eq!(state.number(B, None), 6);
        assert_eq!(State::open(&dir, 8, "b.yaml".into()).number(A, None), 1);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn the_number_is_never_below_what_the_data_plane_has() {
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::open(dir.path(), 7, "a.yaml".into());
        assert_eq!(state.number(A, served(9, A)), 9);
        assert_eq!(state.number(A, served(9, B)), 10);
        state.accept(Accepted { revision: 9, digest: A });
        assert_eq!(state.number(A, served(9, B)), 10, "one number, two contents");
        assert_eq!(state.number(A, served(3, B)), 9);
        let other = served(99, B).map(|version| Version { lineage: 8, ..version });
        assert_eq!(state.number(A, other), 9);
        assert_eq!(state.refuse(None), 10);
        assert_eq!(state.number(A, served(9, A)), 10, "after a refusal the number is a new one");
    }

    #[test]
    fn a_damaged_state_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file-0000000000000007.json"), "{\"lineage\":").unwrap();
        assert_eq!(State::open(dir.path(), 7, "a".into()).number(A, None), 1);
    }
}
