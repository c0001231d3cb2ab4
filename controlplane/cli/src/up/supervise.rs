//! The supervisor of `ringway up`: notices deaths, restarts with backoff, shows warnings, stops in order.
//!
//! One thread, which turns every [`TURN`]; children are started from it because the kernel's death signal is bound to
//! the thread that started them. Until the gateway is settled a child that keeps failing ends the whole start;
//! after that a child is restarted for as long as `up` runs.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::failure::Failure;
use crate::terminal::say;
use crate::up::child::{Role, Spec, Tail, signal};
use crate::up::process::{self, Process};

/// How often the supervisor looks.
pub(super) const TURN: Duration = Duration::from_millis(50);
/// Failures in a row of a child before the first start is given up.
const FIRST_START_FAILURES_MAX: u32 = 3;
/// First wait before a restart; doubled at each failure in a row.
const BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// Longest wait before a restart.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A child that ran this long has recovered: its failures are forgotten.
const STEADY: Duration = Duration::from_secs(30);
/// Lines of one child shown in one [`SHOWN_SPAN`]; the log has them all.
const SHOWN_MAX: u32 = 10;
/// See [`SHOWN_MAX`].
const SHOWN_SPAN: Duration = Duration::from_secs(10);
/// A data plane that ended well gets this long for a successor to be heard of.
const SUCCESSOR_WAIT: Duration = Duration::from_secs(1);
/// How often the ends of other processes' orphans are looked for.
const REAP_EVERY: Duration = Duration::from_secs(1);
/// A start that takes longer than this shows the warnings so far.
const HELD_BACK: Duration = Duration::from_secs(3);

/// All children.
#[derive(Debug)]
pub(super) struct Supervisor {
    own: PathBuf,
    run_dir: PathBuf,
    children: Vec<Supervised>,
    settled: bool,
    reaped: Instant,
}

#[derive(Debug)]
struct Supervised {
    spec: Spec,
    state: State,
    started: Instant,
    failures: u32,
    tail: Tail,
    listening: Vec<(String, String)>,
    /// Who said last that it serves.
    serving: Option<i32>,
    /// When the present process was first seen to have ended well.
    ended: Option<Instant>,
    /// Predecessors of the present process, which finish what they have.
    leaving: Vec<Process>,
    held: Vec<String>,
    shown: u32,
    span_began: Instant,
}

#[derive(Debug)]
enum State {
    Running(Process),
    RestartAt(Instant),
    Stopped,
}

impl Supervisor {
    /// Without children yet.
    pub(super) fn new(own: PathBuf, run_dir: PathBuf) -> Supervisor {
        // Where that is not possible an upgraded data plane is still found, but not how it ended.
        let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        Supervisor { own, run_dir, children: Vec::new(), settled: false, reaped: Instant::now() }
    }

    /// Starts a child and watches it from now on.
    pub(super) fn start(&mut self, spec: Spec) -> Result<(), Failure> {
        let tail = Tail::at_end_of(&spec.log);
        let state = State::Running(Process::own(spec.spawn(&self.own, &self.run_dir)?));
        let now = Instant::now();
        self.children.push(Supervised {
            spec,
            state,
            started: now,
            failures: 0,
            tail,
            listening: Vec::new(),
            serving: None,
            ended: None,
            leaving: Vec::new(),
            held: Vec::new(),
            shown: 0,
            span_began: now,
        });
        Ok(())
    }

    /// From now on a death is no longer a failed start.
    pub(super) fn settle(&mut self) {
        self.settled = true;
        self.children.iter_mut().for_each(|child| child.held.clear());
    }

    /// What a child said on its standard output: `listening KIND ADDRESS`.
    pub(super) fn listening(&self, role: Role) -> &[(String, String)] {
        self.child(role).map_or(&[], |child| &child.listening)
    }

    /// Changes how a child is started the next time.
    pub(super) fn next_start(&mut self, role: Role, change: impl FnOnce(&mut Spec)) {
        if let Some(child) = self.children.iter_mut().find(|child| child.spec.role == role) {
            change(&mut child.spec);
        }
    }

    /// Looks once at every child. Fails when one cannot be started at all.
    pub(super) fn turn(&mut self) -> Result<(), Failure> {
        let settled = self.settled;
        for child in &mut self.children {
            child.read_log(settled);
            child.follow(&self.run_dir)?;
            child.leaving.retain_mut(|process| matches!(process.try_wait(), Ok(None)));
            match &mut child.state {
                State::Running(process) => {
                    if let Ok(Some(status)) = process.try_wait() {
                        child.read_log(settled);
                        child.ended_with(status, settled)?;
                    }
                }
                State::RestartAt(when) if *when <= Instant::now() => {
                    child.tail = Tail::at_end_of(&child.spec.log);
                    child.listening.clear();
                    child.serving = None;
                    child.state = State::Running(Process::own(child.spec.spawn(&self.own, &self.run_dir)?));
                    child.started = Instant::now();
                }
                State::RestartAt(_) | State::Stopped => {}
            }
        }
        if self.reaped.elapsed() > REAP_EVERY {
            self.reaped = Instant::now();
            process::reap_orphans(&self.children.iter().flat_map(Supervised::pids).collect::<Vec<_>>());
        }
        Ok(())
    }

    /// Stops the data plane, which drains, then the control plane, then the database. `hurry` is asked in each turn
    /// and makes the rest die at once.
    pub(super) fn stop(&mut self, mut hurry: impl FnMut() -> bool) {
        for role in [Role::Dataplane, Role::Controlplane, Role::Database] {
            let Some(child) = self.children.iter_mut().find(|child| child.spec.role == role) else {
                continue;
            };
            let state = std::mem::replace(&mut child.state, State::Stopped);
            let State::Running(process) = state else { continue };
            let began = Instant::now();
            let mut left = std::mem::take(&mut child.leaving);
            left.push(process);
            left.iter().for_each(|process| signal(process.pid(), child.spec.stop_signal()));
            let mut killed = false;
            loop {
                left.retain_mut(|process| matches!(process.try_wait(), Ok(None)));
                if left.is_empty() {
                    break;
                }
                if !killed && (began.elapsed() > child.spec.stop_wait || hurry()) {
                    say(&format!("killing {}", role.title()));
                    left.iter().for_each(|process| signal(process.pid(), Signal::KILL));
                    killed = true;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            say(&format!("stopped {} in {:.1} s", role.title(), began.elapsed().as_secs_f64()));
            let _ = std::fs::remove_file(pid_file(&self.run_dir, role));
        }
    }

    fn child(&self, role: Role) -> Option<&Supervised> {
        self.children.iter().find(|child| child.spec.role == role)
    }
}

fn pid_file(run_dir: &Path, role: Role) -> PathBuf {
    run_dir.join(format!("{}.pid", role.name()))
}

impl Supervised {
    /// All of its processes.
    fn pids(&self) -> Vec<i32> {
        let present = match &self.state {
            State::Running(process) => Some(process.pid()),
            State::RestartAt(_) | State::Stopped => None,
        };
        self.leaving.iter().map(Process::pid).chain(present).collect()
    }

    /// Takes the process that says that it serves for the child, when it is a successor of the present one.
    fn follow(&mut self, run_dir: &Path) -> Result<(), Failure> {
        let (Some(pid), State::Running(present)) = (self.serving.take(), &mut self.state) else {
            return Ok(());
        };
        let Some(successor) = Process::successor(pid, present) else { return Ok(()) };
        say(&format!(
            "{} was upgraded: process {pid} serves in place of {}",
            self.spec.role.title(),
            present.pid()
        ));
        if let Some(program) = successor.program() {
            self.spec.program = program;
        }
        self.leaving.push(std::mem::replace(present, successor));
        (self.started, self.ended) = (Instant::now(), None);
        self.spec.note(pid, run_dir)
    }

    /// A data plane that ends well may have a successor, which says so in a moment.
    fn ended_with(&mut self, status: ExitStatus, settled: bool) -> Result<(), Failure> {
        let since = *self.ended.get_or_insert_with(Instant::now);
        if self.spec.role == Role::Dataplane && status.success() && since.elapsed() < SUCCESSOR_WAIT {
            return Ok(());
        }
        self.ended = None;
        self.died(status, settled)
    }

    fn died(&mut self, status: ExitStatus, settled: bool) -> Result<(), Failure> {
        let title = self.spec.role.title();
        let how = how(status);
        if self.started.elapsed() > STEADY {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.held.clear();
        if !settled && self.failures >= FIRST_START_FAILURES_MAX {
            let last: Vec<String> = self.tail.last.iter().map(|line| format!("\n  {line}")).collect();
            return Err(Failure::new(format!(
                "{title} does not start: it {how}, {} times; its last lines, of {}:{}",
                self.failures,
                self.spec.log.display(),
                last.concat()
            )));
        }
        let doublings = (self.failures - 1).min(16);
        let wait = BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_MAX);
        self.state = State::RestartAt(Instant::now() + wait);
        if settled {
            say(&format!("{title} {how}; starting it again in {:.2} s", wait.as_secs_f64()));
        }
        Ok(())
    }

    fn read_log(&mut self, settled: bool) {
        for line in self.tail.lines() {
            let mut words = line.split_whitespace();
            let first = words.next();
            if first == Some("listening") {
                if let (Some(kind), Some(address), None) = (words.next(), words.next(), words.next()) {
                    let said = (kind.to_owned(), address.to_owned());
                    if !self.listening.contains(&said) {
                        self.listening.push(said); // A successor says the same.
                    }
                }
            } else if let (Some("serving"), Some(Ok(pid)), None) =
                (first, words.next().map(str::parse), words.next())
            {
                self.serving = Some(pid);
            } else if worth_showing(self.spec.role, &line) {
                self.held.push(line);
            }
        }
        if settled || self.started.elapsed() > HELD_BACK {
            for line in std::mem::take(&mut self.held) {
                self.show(&line);
            }
        }
    }

    fn show(&mut self, line: &str) {
        if self.span_began.elapsed() > SHOWN_SPAN {
            self.span_began = Instant::now();
            self.shown = 0;
        }
        self.shown = self.shown.saturating_add(1);
        match self.shown.cmp(&SHOWN_MAX) {
            std::cmp::Ordering::Less => say(&format!("[{}] {line}", self.spec.role.name())),
            std::cmp::Ordering::Equal => {
                say(&format!("[{}] more of this is in {}", self.spec.role.name(), self.spec.log.display()));
            }
            std::cmp::Ordering::Greater => {}
        }
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Warnings and errors. Of PostgreSQL only what ends a process: its other errors were told to who caused them.
fn worth_showing(role: Role, line: &str) -> bool {
    let mut words = line.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    match role {
        Role::Database => {
            let usual = ["starting up", "shutting down", "administrator command"];
            words.any(|word| matches!(word, "FATAL" | "PANIC"))
                && !usual.iter().any(|text| line.contains(text))
        }
        Role::Dataplane | Role::Controlplane => {
            let level = words.find(|word| matches!(*word, "TRACE" | "DEBUG" | "INFO" | "WARN" | "ERROR"));
            line.contains("panicked at") || matches!(level, Some("WARN" | "ERROR"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_shown_and_the_rest_stays_in_the_log() {
        for (role, line, shown) in [
            (Role::Controlplane, "2026-01-01T00:00:00Z  WARN ringway: refused", true),
            (Role::Controlplane, "2026-01-01T00:00:00Z  INFO ringway: no ERROR here", false),
            (Role::Dataplane, "thread 'core-0' panicked at src/x.rs:1:1:", true),
            (Role::Database, "2026-01-01 LOG:  checkpoint", false),
            (Role::Database, "2026-01-01 FATAL:  the database system is starting up", false),
            (Role::Database, "2026-01-01 PANIC:  could not write", true),
        ] {
            assert_eq!(worth_showing(role, line), shown, "{line}");
        }
    }
}
