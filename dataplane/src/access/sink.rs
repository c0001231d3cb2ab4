//! Where lines go: a file that is appended to, a FIFO, or standard output.
//!
//! Lines go out in pieces of whole lines, each in one write to a file opened with O_APPEND, so that two processes may append to the same one
//! during an upgrade. A file that was moved away is noticed within a second and opened anew, as it is when asked to. What cannot
//! be written (a full disk, a reader that is gone) is dropped, counted and told once; what a reader does not take yet is held up to a bound.
//!
//! Invariant: after a write that ended inside a line the next one begins on a line of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often it is looked whether the file is still there, and tried again what failed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What is held for a reader that is slow; then lines are dropped.
const HELD_BYTES_MAX: usize = 1 << 20;
/// So much is written at once.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;

/// Which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Output,
    Path(PathBuf),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Sink {
    place: Place,
    file: Option<File>,
    /// Lines that are not written yet; where [`Sink::in_line`], the first one in part.
    held: Vec<u8>,
    /// The last write ended inside a line, whose rest is what is held first.
    in_line: bool,
    looked: Instant,
    /// What is wrong at present.
    trouble: Option<String>,
    pub(crate) dropped: u64,
    pub(crate) written: u64,
}

impl Sink {
    /// Opens it. Only a FIFO without a reader may come later.
    pub(crate) fn open(place: Place) -> io::Result<Sink> {
        let file = match open(&place) {
            Ok(file) => Some(file),
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => None,
            Err(error) => return Err(error),
        };
        Ok(Sink {
            place,
            file,
            held: Vec::new(),
            in_line: false,
            looked: Instant::now(),
            trouble: None,
            dropped: 0,
            written: 0,
        })
    }

    /// What cannot be done at present, and why.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Room for further lines; their bytes are appended to it. `None`: what is held is too much already, and the line is dropped.
    pub(crate) fn room(&mut self) -> Option<&mut Vec<u8>> {
        if self.held.len() >= PIECE_BYTES {
            self.flush();
        }
        if self.held.len() >= HELD_BYTES_MAX {
            self.dropped += 1;
            return None;
        }
        Some(&mut self.held)
    }

    /// Writes what is held, as far as it is taken.
    pub(crate) fn flush(&mut self) {
        let mut at = 0;
        while let Some(rest) = self.held.get(at..).filter(|rest| !rest.is_empty()) {
            let Some(file) = &mut self.file else {
                return self.fail("nobody reads it".to_owned(), at);
            };
            match file.write(piece(rest)) {
                Ok(bytes) => at += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    if error.raw_os_error() == Some(libc::EPIPE) {
                        self.file = None;
                    }
                    return self.fail(error.to_string(), at);
                }
            }
        }
        if at > 0 {
            self.wrote(at);
            if self.trouble.take().is_some() {
                tracing::info!(dropped = self.dropped, "the access log is written again");
            }
        }
    }

    /// Opens the file anew when it was moved away, when something is wrong with it, or when asked to.
    pub(crate) fn look(&mut self, reopen: bool) {
        if !reopen && self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        let Place::Path(path) = &self.place else { return };
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let held = self.file.as_ref().and_then(|file| file.metadata().ok()).map(identity);
        let there = std::fs::metadata(path).ok().map(identity);
        if !reopen && held.is_some() && held == there {
            return;
        }
        self.flush();
        match open(&self.place) {
            Ok(file) => {
                // The rest of a line would begin the new file.
                if std::mem::take(&mut self.in_line) {
                    let end =
                        self.held.iter().position(|byte| *byte == b'\n').map_or(self.held.len(), |at| at + 1);
                    self.held.drain(..end);
                    self.dropped += 1;
                }
                self.file = Some(file);
            }
            // A FIFO whose reader is gone: told when there are lines for it.
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => self.file = None,
            Err(error) => self.tell(format!("cannot open it: {error}")),
        }
    }

    fn wrote(&mut self, bytes: usize) {
        let lines = self.held.get(..bytes).map_or(0, newlines);
        self.written += lines;
        self.in_line =
            bytes.checked_sub(1).and_then(|last| self.held.get(last)).is_some_and(|byte| *byte != b'\n');
        self.held.drain(..bytes.min(self.held.len()));
    }

    /// Drops what is held behind `at`.
    fn fail(&mut self, reason: String, at: usize) {
        if at > 0 {
            self.wrote(at);
        }
        self.dropped += newlines(&self.held);
        self.held.clear();
        if std::mem::take(&mut self.in_line) {
            // What comes next begins on a line of its own.
            self.held.push(b'\n');
        }
        self.tell(reason);
    }

    fn tell(&mut self, reason: String) {
        if self.trouble.as_ref() != Some(&reason) {
            tracing::error!("the access log is not written, its lines are dropped: {reason}");
            self.trouble = Some(reason);
        }
    }
}

/// Whole lines, as many as are written at once; of a longer line all of it.
fn piece(rest: &[u8]) -> &[u8] {
    let Some(front) = rest.get(..PIECE_BYTES) else { return rest };
    let end = front.iter().rposition(|byte| *byte == b'\n');
    end.and_then(|end| rest.get(..=end)).unwrap_or(front)
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

fn open(place: &Place) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Without waiting, or a FIFO's reader could hold this thread. A file takes no notice of it.
    options.append(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    match place {
        Place::Path(path) => {
            let file = options.create(true).open(path)?;
            if file.metadata()?.file_type().is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            Ok(file)
        }
        // Opened once more, so that not waiting is a property of this descriptor alone; a socket cannot be.
        Place::Output => match options.open("/proc/self/fd/1") {
            Ok(file) => Ok(file),
            Err(_) => Ok(File::from(std::os::fd::AsFd::as_fd(&io::stdout()).try_clone_to_owned()?)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(sink: &mut Sink, text: &str) {
        if let Some(room) = sink.room() {
            room.extend_from_slice(text.as_bytes());
            room.push(b'\n');
        }
    }

    #[test]
    fn a_file_that_was_moved_away_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let mut sink = Sink::open(Place::Path(path.clone())).unwrap();
        line(&mut sink, "one");
        sink.flush();
        std::fs::rename(&path, folder.path().join("access.log.1")).unwrap();
        line(&mut sink, "two");
        sink.look(true);
        line(&mut sink, "three");
        sink.flush();
        assert_eq!(std::fs::read_to_string(folder.path().join("access.log.1")).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        assert_eq!((sink.written, sink.dropped), (3, 0));
    }

    #[test]
    fn a_full_disk_drops_lines_and_is_told() {
        let mut sink = Sink::open(Place::Path("/dev/full".into())).unwrap();
        for _ in 0..3 {
            line(&mut sink, "x");
        }
        sink.flush();
        assert_eq!((sink.written, sink.dropped), (0, 3));
        assert!(sink.trouble().unwrap().contains("No space"), "{:?}", sink.trouble());
    }

    #[test]
    fn a_folder_that_is_missing_is_refused() {
        assert!(Sink::open(Place::Path("/nonexistent/access.log".into())).is_err());
    }

    #[test]
    fn pieces_end_with_lines() {
        let lines = "0123456789\n".repeat(10_000);
        let first = piece(lines.as_bytes());
        assert!(first.len() <= PIECE_BYTES && first.len() > PIECE_BYTES - 11 && first.ends_with(b"\n"));
        assert_eq!(piece(b"a\nb\n"), b"a\nb\n");
    }
}
