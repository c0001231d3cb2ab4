//! The local sockets of both planes: where they are, and one question and answer over them.
//!
//! Looks in `--dir` (what `ringway up` made), else in `./.ringway`, else in `/run/ringway`, where the system units put them. It only
//! reads and asks; it never creates a socket or starts a process.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a plane may take to answer.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 1 << 30;
/// Where `ringway up` keeps its things unless told otherwise.
pub(crate) const DIR_DEFAULT: &str = ".ringway";
/// Where the planes put their sockets when nobody tells them otherwise.
const SYSTEM_RUN_DIR: &str = "/run/ringway";

/// Flags that say where the sockets are.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Sockets {
    /// Folder of a `ringway up` [default: ./.ringway, and where that is not: /run/ringway]
    #[arg(long, env = "RINGWAY_DIR", value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The data plane's admin socket, where it is not in DIR
    #[arg(long, env = "RINGWAY_ADMIN_SOCKET", value_name = "PATH")]
    admin_socket: Option<PathBuf>,
    /// The control plane's status socket, where it is not in DIR
    #[arg(long, env = "RINGWAY_CONTROL_SOCKET", value_name = "PATH")]
    control_socket: Option<PathBuf>,
}

impl Sockets {
    /// Those of the `ringway up` in this folder.
    pub(crate) fn in_dir(dir: &Path) -> Sockets {
        Sockets { dir: Some(dir.to_owned()), admin_socket: None, control_socket: None }
    }

    /// The data plane's admin socket.
    pub(crate) fn admin(&self) -> PathBuf {
        self.admin_socket.clone().unwrap_or_else(|| self.run_dir().join("admin.sock"))
    }

    /// The control plane's status socket.
    pub(crate) fn control(&self) -> PathBuf {
        self.control_socket.clone().unwrap_or_else(|| self.run_dir().join("control.sock"))
    }

    /// Where the control plane tells of all nodes.
    pub(crate) fn fleet(&self) -> PathBuf {
        ringway_controlplane::control::fleet_socket(&self.control())
    }

    fn run_dir(&self) -> PathBuf {
        run_dir(self.dir.as_deref())
    }
}

/// Where the sockets are.
pub(crate) fn run_dir(dir: Option<&Path>) -> PathBuf {
    match dir {
        Some(dir) => dir.join("run"),
        None if Path::new(DIR_DEFAULT).is_dir() => Path::new(DIR_DEFAULT).join("run"),
        None => PathBuf::from(SYSTEM_RUN_DIR),
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Unanswered {
    path: PathBuf,
    plane: &'static str,
    wait: Duration,
    error: std::io::Error,
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unanswered { path, plane, wait, error } = self;
        let path = path.display();
        let flag = if *plane == "data plane" { "--admin-socket" } else { "--control-socket" };
        match error.kind() {
            ErrorKind::NotFound => {
                write!(f, "is the {plane} running? There is no socket at {path}; give --dir or {flag}")
            }
            ErrorKind::ConnectionRefused => {
                write!(
                    f,
                    "the {plane} is not running: nobody listens at {path}; give --dir or {flag} if another is meant"
                )
            }
            ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "{path} may be used by the user that runs the {plane} only; become that user, or root"
                )
            }
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                write!(f, "the {plane} at {path} does not answer within {} s", wait.as_secs())
            }
            _ => write!(f, "cannot speak to the {plane} at {path}: {error}"),
        }
    }
}

/// Sends one command line to the data plane's admin socket and reads the whole reply.
pub(crate) fn command(path: &Path, line: &str) -> Result<String, Unanswered> {
    command_within(path, line, ANSWER_WAIT)
}

/// As [`command`], for one that takes its time.
pub(crate) fn command_within(path: &Path, line: &str, wait: Duration) -> Result<String, Unanswered> {
    let plane = "data plane";
    ask(path, Some(line), wait).map_err(|error| Unanswered { path: path.to_owned(), plane, wait, error })
}

/// Reads the control plane's status document.
pub(crate) fn document(path: &Path) -> Result<String, Unanswered> {
    let (plane, wait) = ("control plane", ANSWER_WAIT);
    ask(path, None, wait).map_err(|error| Unanswered { path: path.to_owned(), plane, wait, error })
}

fn ask(path: &Path, line: Option<&str>, wait: Duration) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(wait))?;
    stream.set_write_timeout(Some(ANSWER_WAIT))?;
    if let Some(line) = line {
        stream.write_all(format!("{line}\n").as_bytes())?;
    }
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_socket_says_where_it_was_looked_for() {
        let sockets = Sockets::in_dir(Path::new("/nonexistent"));
        let text = command(&sockets.admin(), "help").unwrap_err().to_string();
        assert!(text.contains("is the data plane running?"), "{text}");
        assert!(text.contains("/nonexistent/run/admin.sock"), "{text}");
        let text = document(&sockets.control()).unwrap_err().to_string();
        assert!(text.contains("--control-socket"), "{text}");
    }
}
