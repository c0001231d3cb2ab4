//! The status sockets: whoever connects gets one JSON document, and the connection is closed.
//!
//! One tells about this program and always answers at once; beside it, a second one tells about all nodes and asks the source for it.
//! Only this program's user may connect (mode 0600 before the socket has its name). A socket that a killed program left behind is
//! taken over; one that answers is not.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use crate::board::Board;

/// For a reader to take the document.
const READER_MAX: Duration = Duration::from_secs(2);
/// After a failed accept (no descriptors left), so that it does not spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Somebody answers there.
    #[error("a control plane already answers at {}; stop it, or give another --control-socket", .0.display())]
    Taken(PathBuf),
    /// Something else has that name.
    #[error("{} is there and is no socket; it is left alone: give another --control-socket", .0.display())]
    NoSocket(PathBuf),
    /// The system refuses.
    #[error("cannot create the status socket {}: {reason}; create the directory, or give another --control-socket", .path.display())]
    Bind {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
}

/// What a socket tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// This program and its data plane.
    Status,
    /// All nodes.
    Fleet,
}

/// Where all nodes are told: `control.fleet.sock` beside `control.sock`.
pub fn fleet_socket(control: &Path) -> PathBuf {
    control.with_extension("fleet.sock")
}

/// The listening socket; removed from the file system when dropped.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
    listener: UnixListener,
}

impl Drop for Control {
    fn drop(&mut self) {
        // Another program's by now, or gone: neither is this one's trouble at its end.
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Control {
    /// Listens.
    pub async fn bind(path: &Path) -> Result<Control, ControlError> {
        let failed = |reason: io::Error| ControlError::Bind { path: path.to_owned(), reason };
        if UnixStream::connect(path).await.is_ok() {
            return Err(ControlError::Taken(path.to_owned()));
        }
        if std::fs::metadata(path).is_ok_and(|there| !there.file_type().is_socket()) {
            return Err(ControlError::NoSocket(path.to_owned()));
        }
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        let _ = std::fs::remove_file(&beside);
        let listener = UnixListener::bind(&beside).map_err(failed)?;
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        std::fs::rename(&beside, path).map_err(|reason| {
            let _ = std::fs::remove_file(&beside);
            failed(reason)
        })?;
        Ok(Control { path: path.to_owned(), listener })
    }

    /// Answers until it is dropped.
    pub async fn serve(&self, answer: Answer, board: Arc<Board>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let board = Arc::clone(&board);
                    tokio::spawn(async move {
                        let document = match answer {
                            Answer::Status => board.document(),
                            Answer::Fleet => board.fleet().await,
                        };
                        // A reader that goes away early has what it wanted.
                        let _ = timeout(READER_MAX, write(stream, &document)).await;
                    });
                }
                Err(error) => {
                    tracing::warn!("status socket: {error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn write(mut stream: UnixStream, document: &Value) -> io::Result<()> {
    let mut text = document.to_string();
    text.push('\n');
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
    }

    #[test]
    fn a_socket_left_behind_is_taken_over_and_one_that_answers_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        run(async {
            let control = Control::bind(&path).await.unwrap();
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            assert!(matches!(Control::bind(&path).await, Err(ControlError::Taken(_))));
            drop(control);
            assert!(!path.exists());
        });
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("routes.yaml");
        std::fs::write(&path, "routes: []").unwrap();
        let error = run(Control::bind(&path)).unwrap_err().to_string();
        assert!(error.contains("no socket") && error.contains("routes.yaml"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "routes: []");
    }

    #[test]
    fn a_missing_directory_is_told_in_one_line() {
        let error = run(Control::bind(Path::new("/nonexistent/c.sock"))).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/c.sock") && error.contains("create the directory"), "{error}");
    }
}
