//! The main thread after the start: takes signals and the operator's orders, and leads the process out.
//!
//! SIGTERM and SIGINT drain and end; said again during the grace they end the grace. SIGUSR1 opens the access log anew,
//! SIGUSR2 upgrades. An upgrade runs on a
//! thread of its own, so that an end can be ordered meanwhile; it gives up then, unless the successor serves already, which is
//! told to end in its turn.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};

use crate::config::Flags;
use crate::drain::{IDLE_GRACE, IDLE_SPREAD, Left, Phase};
use crate::feed::Event;
use crate::handoff::{Estate, Sockets, Successor, Tie};
use crate::state::State;
use crate::{supervisor, sys};

/// How often progress is looked at while something is under way.
const STEP: Duration = Duration::from_millis(10);
/// How long the feed thread may take to save what is served.
const FREEZE_WAIT: Duration = Duration::from_secs(15);

/// How long the end waits for replies to operators that are being written.
const REPLY_WAIT: Duration = Duration::from_secs(1);

/// What the main thread is told.
#[derive(Debug)]
pub(crate) enum Order {
    Signal(i32),
    /// The grace, where it is not the usual one.
    Drain(Option<Duration>, Sender<String>),
    Undrain(Sender<String>),
    Upgrade(Option<PathBuf>, Option<Sender<String>>),
    Upgraded(Result<Successor, String>),
    /// The predecessor has ended.
    Alone(Tie),
}

/// The listening sockets beside those of the cores.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) status: std::net::TcpListener,
    pub(crate) feed: UnixListener,
    pub(crate) admin: UnixListener,
}

/// Everything that the way out touches.
#[derive(Debug)]
pub(crate) struct Helm {
    pub(crate) flags: Flags,
    pub(crate) state: Arc<State>,
    pub(crate) events: Sender<Event>,
    pub(crate) orders: Sender<Order>,
    pub(crate) inbox: Receiver<Order>,
    pub(crate) local: Option<Arc<Local>>,
    /// What an upgrade starts unless told otherwise.
    pub(crate) executable: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Stay,
    End,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Serving,
    Grace { until: Instant, then: Then },
    Closed { since: Instant, then: Then },
}

/// An upgrade under way.
#[derive(Debug)]
struct Upgrade {
    given_up: Arc<AtomicBool>,
    reply: Option<Sender<String>>,
}

struct Voyage {
    helm: Helm,
    stage: Stage,
    upgrade: Option<Upgrade>,
    successor: Option<Successor>,
    told_quiet: bool,
}

impl Helm {
    /// Runs until the process is to end.
    pub(crate) fn steer(self) {
        let mut voyage =
            Voyage { helm: self, stage: Stage::Serving, upgrade: None, successor: None, told_quiet: false };
        while !voyage.is_over() {
            let order = match voyage.stage {
                Stage::Serving => voyage.helm.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                _ => voyage.helm.inbox.recv_timeout(STEP),
            };
            if let Ok(order) = order {
                voyage.obey(order);
            }
            voyage.advance();
        }
        voyage.end();
    }
}

impl Voyage {
    fn obey(&mut self, order: Order) {
        match order {
            Order::Signal(libc::SIGUSR1) => self.helm.state.ledger.reopen(),
            Order::Signal(libc::SIGUSR2) => self.upgrade(None, None),
            Order::Signal(signal) => self.ordered_to_end(signal),
            Order::Drain(grace, reply) => answer(&reply, self.drain(grace)),
            Order::Undrain(reply) => answer(&reply, self.undrain()),
            Order::Upgrade(program, reply) => self.upgrade(program, reply),
            Order::Upgraded(outcome) => self.upgraded(outcome),
            Order::Alone(tie) => tie.bind(),
        }
    }

    fn ordered_to_end(&mut self, signal: i32) {
        let grace = Duration::from_secs(self.helm.flags.drain_grace_s);
        let now = Instant::now();
        if let Some(upgrade) = &self.upgrade {
            upgrade.given_up.store(true, Relaxed);
        }
        self.stage = match self.stage {
            Stage::Serving => {
                self.helm.state.life.set_phase(Phase::Leaving);
                Stage::Grace { until: now + grace, then: Then::End }
            }
            Stage::Grace { until, then: Then::Stay } => {
                Stage::Grace { until: until.min(now + grace), then: Then::End }
            }
            Stage::Grace { then: Then::End, .. } => Stage::Grace { until: now, then: Then::End },
            Stage::Closed { then: Then::Stay, .. } => Stage::Closed { since: now, then: Then::End },
            closed @ Stage::Closed { .. } => return self.stage = closed,
        };
        supervisor::stopping();
        let (grace_s, timeout_s) = (self.helm.flags.drain_grace_s, self.helm.flags.drain_timeout_s);
        tracing::info!(signal, grace_s, timeout_s, "draining, then ending");
    }

    fn drain(&mut self, grace: Option<Duration>) -> Result<String, String> {
        let grace = grace.unwrap_or(Duration::from_secs(self.helm.flags.drain_grace_s));
        match self.stage {
            Stage::Serving | Stage::Grace { then: Then::Stay, .. } if self.upgrade.is_none() => {
                self.helm.state.life.set_phase(Phase::Leaving);
                self.stage = Stage::Grace { until: Instant::now() + grace, then: Then::Stay };
                tracing::info!(grace_s = grace.as_secs(), "draining by the operator's order");
                Ok(format!(
                    "draining: /readyz fails; in {} s no new connections are taken, and kept ones end with their next answer",
                    grace.as_secs()
                ))
            }
            Stage::Serving | Stage::Grace { then: Then::Stay, .. } => {
                Err("an upgrade is under way".to_owned())
            }
            Stage::Grace { then: Then::End, .. } => {
                Err("this process is draining already, and then ends".to_owned())
            }
            Stage::Closed { .. } => Err("the listeners are closed already".to_owned()),
        }
    }

    fn undrain(&mut self) -> Result<String, String> {
        match self.stage {
            Stage::Serving => Ok("this process is not draining".to_owned()),
            Stage::Grace { then: Then::Stay, .. } => {
                self.stage = Stage::Serving;
                self.helm.state.life.set_phase(Phase::Serving);
                tracing::info!("serving again by the operator's order");
                Ok("serving again".to_owned())
            }
            Stage::Grace { .. } => Err("this process has been told to end; start another one".to_owned()),
            Stage::Closed { .. } => Err("the listeners are closed; restart this process".to_owned()),
        }
    }

    fn upgrade(&mut self, program: Option<PathBuf>, reply: Option<Sender<String>>) {
        let refusal = match self.stage {
            _ if self.upgrade.is_some() => Some("an upgrade is under way already"),
            Stage::Serving => None,
            _ => Some("this process is draining; `undrain` it first"),
        };
        if let Some(refusal) = refusal {
            tracing::warn!("no upgrade: {refusal}");
            if let Some(reply) = reply {
                answer(&reply, Err(refusal.to_owned()));
            }
            return;
        }
        let program = program.unwrap_or_else(|| self.helm.executable.clone());
        let given_up = Arc::new(AtomicBool::new(false));
        let estate = Own {
            state: Arc::clone(&self.helm.state),
            events: self.helm.events.clone(),
            local: self.helm.local.clone(),
            given_up: Arc::clone(&given_up),
            tie: Tie::present(),
        };
        let wait = Duration::from_secs(self.helm.flags.upgrade_timeout_s);
        let orders = self.helm.orders.clone();
        let spawned = std::thread::Builder::new().name("handoff".to_owned()).spawn(move || {
            // The main thread is gone only when the process is.
            let _ = orders.send(Order::Upgraded(Successor::install(&program, wait, &estate)));
        });
        self.upgrade = Some(Upgrade { given_up, reply });
        if let Err(error) = spawned {
            self.upgraded(Err(format!("cannot start a thread: {error}")));
        }
    }

    fn upgraded(&mut self, outcome: Result<Successor, String>) {
        let reply = self.upgrade.take().and_then(|upgrade| upgrade.reply);
        let said = match outcome {
            Ok(successor) => {
                self.helm.state.life.succeeded();
                self.helm.local = None;
                let pid = successor.pid;
                let version = successor.version.clone().unwrap_or_else(|| "no version yet".to_owned());
                let timeout_s = self.helm.flags.drain_timeout_s;
                tracing::info!(
                    pid,
                    version,
                    timeout_s,
                    "upgrade: the successor serves; finishing what is open here"
                );
                if matches!(self.stage, Stage::Grace { then: Then::End, .. }) {
                    successor.end();
                }
                self.stage = Stage::Closed { since: Instant::now(), then: Then::End };
                self.successor = Some(successor);
                Ok(format!(
                    "upgraded: process {pid} serves {version}; this one finishes its requests and ends"
                ))
            }
            Err(reason) => {
                let reason = format!("no upgrade, process {} serves on: {reason}", std::process::id());
                tracing::error!("{reason}");
                Err(reason)
            }
        };
        if let Some(reply) = reply {
            answer(&reply, said);
        }
    }

    /// Does what time has made due.
    fn advance(&mut self) {
        let now = Instant::now();
        if let Stage::Grace { until, then } = self.stage
            && now >= until
            // What the successor was given in the meantime must not be closed under it.
            && self.upgrade.is_none()
        {
            tracing::info!("no new connections; open requests finish");
            self.helm.state.life.set_phase(Phase::Closing);
            self.stage = Stage::Closed { since: now, then };
        }
        if let Some(successor) = self.successor.as_ref().filter(|_| !self.told_quiet)
            && Left::of(&self.helm.state).is_quiet()
        {
            self.told_quiet = true;
            successor.tell_quiet();
        }
    }

    fn is_over(&self) -> bool {
        let Stage::Closed { since, then: Then::End } = self.stage else { return false };
        let left = Left::of(&self.helm.state);
        if left.is_nothing() {
            return true;
        }
        let passed = since.elapsed();
        let idle_max =
            if self.successor.is_some() { IDLE_SPREAD } else { IDLE_GRACE } + Duration::from_secs(2);
        if left.busy == 0 && passed > idle_max {
            return true;
        }
        let over = passed >= Duration::from_secs(self.helm.flags.drain_timeout_s);
        if over && left.busy > 0 {
            tracing::warn!(requests = left.busy, "requests were still open when the drain timeout ended");
        }
        over
    }

    fn end(self) {
        let (done, saved) = crossbeam::channel::bounded(0);
        if self.helm.events.send_timeout(Event::Stop(done), Duration::from_secs(2)).is_ok() {
            // Ends with a disconnect when the feed thread has saved.
            let _ = saved.recv_timeout(Duration::from_secs(5));
        }
        self.helm.state.ledger.end();
        let patience = Instant::now() + REPLY_WAIT;
        while self.helm.state.life.replying.load(Relaxed) > 0 && Instant::now() < patience {
            std::thread::sleep(STEP);
        }
        // The paths of sockets that somebody goes on with stay.
        if !self.helm.state.life.leaves_sockets() {
            for path in [&self.helm.flags.feed_socket, &self.helm.flags.admin_socket] {
                // Gone already is fine.
                let _ = std::fs::remove_file(path);
            }
        }
        tracing::info!("ended");
    }
}

fn answer(reply: &Sender<String>, said: Result<String, String>) {
    // Who asked may be gone.
    let _ = reply.send(said.unwrap_or_else(|error| format!("error: {error}")));
}

/// What this process hands over.
struct Own {
    state: Arc<State>,
    events: Sender<Event>,
    local: Option<Arc<Local>>,
    given_up: Arc<AtomicBool>,
    tie: Tie,
}

/// Every listening socket of this process once more.
pub(crate) fn sockets(state: &State, local: &Local) -> io::Result<Sockets> {
    let mut sockets = Sockets {
        http: Vec::new(),
        status: Some(local.status.try_clone()?),
        feed: Some(local.feed.try_clone()?),
        admin: Some(local.admin.try_clone()?),
    };
    for core in &state.cores {
        for listening in &*core.sockets() {
            sockets.http.push((listening.flag, listening.socket.try_clone()?));
        }
    }
    Ok(sockets)
}

impl Estate for Own {
    fn sockets(&self) -> io::Result<Sockets> {
        let local = self.local.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        sockets(&self.state, local)
    }

    fn freeze(&self) -> Result<(Option<String>, Option<Vec<u8>>), String> {
        self.state.life.feed(false);
        let (reply, frozen) = crossbeam::channel::bounded(1);
        let sent = self.events.send_timeout(Event::Freeze(reply), FREEZE_WAIT).is_ok();
        let frozen = if sent { frozen.recv_timeout(FREEZE_WAIT).ok() } else { None };
        let frozen = frozen.ok_or("cannot be told the last configuration: the feed thread is busy")?;
        Ok((frozen.version.map(|version| version.to_string()), frozen.unsaved))
    }

    fn bequest(&self) -> io::Result<Vec<u8>> {
        Ok(crate::bequest::write(self.state.ward.open().memory(self.state.uptime_ms()))?)
    }

    fn thaw(&self) {
        // The feed thread ends only with the process.
        let _ = self.events.send(Event::Thaw);
        self.state.life.feed(true);
    }

    fn stop(&self) -> Option<String> {
        self.given_up.load(Relaxed).then(|| "is not needed any more: this process was told to end".to_owned())
    }

    fn kept(&self) -> bool {
        self.state.life.leaves_sockets()
    }

    fn tie(&self) -> Tie {
        self.tie
    }
}

/// The file that an upgrade starts: as the command line names it, so that a link that points to a newer build is followed.
pub(crate) fn executable() -> io::Result<PathBuf> {
    match std::env::args_os().next().map(PathBuf::from) {
        Some(named) if named.components().count() > 1 => std::path::absolute(named),
        _ => std::env::current_exe(),
    }
}

/// Turns signals into orders, for as long as the process lives.
pub(crate) fn listen(orders: &Sender<Order>) {
    while let Ok(signal) = sys::wait_for_signal() {
        if orders.send(Order::Signal(signal)).is_err() {
            return;
        }
    }
}
