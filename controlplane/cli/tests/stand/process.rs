//! One process under test, with its log, that cannot outlive the test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::wait_until;

/// Runs until it is told to stop, or dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    /// Bytes of the log before this start.
    log_before: usize,
}

impl Process {
    /// Starts it through `ringway hold`, which has the kernel end it with this thread.
    pub(crate) fn start(
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
        log: &Path,
    ) -> Process {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringway"));
        command
            .args(["hold", "--parent", &std::process::id().to_string(), "--"])
            .arg(program)
            .args(arguments);
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RINGWAY_"))
        {
            command.env_remove(name);
        }
        command.envs(environment.iter().copied()).current_dir("/").stdin(Stdio::null());
        let log_before = std::fs::read(log).map_or(0, |text| text.len());
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Process { child, log: log.to_owned(), log_before }
    }

    /// What it has logged since this start.
    pub(crate) fn log(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(text.get(self.log_before..).unwrap_or_default()).into_owned()
    }

    /// The address that it says it listens on.
    pub(crate) fn listening(&self, kind: &str) -> SocketAddr {
        let start = format!("listening {kind} ");
        wait_until(&format!("{:?} in {}", start, self.log.display()), || {
            self.log().lines().find_map(|line| line.strip_prefix(&start)?.trim().parse().ok())
        })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        wait_until(&format!("the end of the process that logs to {}", self.log.display()), || {
            self.child.try_wait().unwrap()
        })
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.signal(Signal::KILL);
        self.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::KILL);
            let _ = self.child.wait();
        }
    }
}
