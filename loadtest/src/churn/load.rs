//! The load: clients by a timetable, and their backend, in one thread, counted apart for each phase.
//!
//! It asks for real-time priority, because it shares its core with PostgreSQL and both planes' other work: without it, what
//! it waits for the core would be taken for the gateway's latency. Where that is refused, `has_priority` says so.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::client::pace::Pace;
use crate::client::tally::Tally;
use crate::client::{Client, Plan};
use crate::origin::server::{Server, ServerPlan};
use crate::poll::Poller;
use crate::{affinity, socket};

/// Longer than any measurement.
const RUN_MAX: Duration = Duration::from_secs(7200);
const HEAD_START: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_millis(20);
const PRIORITY: &str = "10";
pub(crate) const REPLY_BYTES: u64 = 128;

/// What is sent.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) plan: Plan,
    pub(crate) requests_per_second: f64,
    pub(crate) core: usize,
}

#[derive(Debug)]
pub(crate) struct Driver {
    thread: Option<JoinHandle<Result<Vec<Tally>>>>,
    phase: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    pub(crate) has_priority: bool,
}

impl Driver {
    /// Starts sending, in phase 0 of `phases`. The backend listens on `origin`.
    pub(crate) fn start(load: Load, origin: SocketAddr, phases: usize) -> Result<Self> {
        let (phase, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (said, priority) = channel();
        let thread = std::thread::Builder::new().name("load".into()).spawn({
            let (phase, stop) = (Arc::clone(&phase), Arc::clone(&stop));
            move || {
                affinity::pin(load.core)?;
                let _ = said.send(take_priority());
                drive(load, origin, phases, &phase, &stop)
            }
        })?;
        let has_priority = priority.recv().unwrap_or(false);
        Ok(Self { thread: Some(thread), phase, stop, has_priority })
    }

    /// What ends from now on counts for this phase.
    pub(crate) fn enter(&self, phase: usize) {
        self.phase.store(phase, Ordering::Relaxed);
    }

    /// Ends the timetable, and gives what each phase counted.
    pub(crate) fn finish(mut self) -> Result<Vec<Tally>> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("already finished")?;
        thread.join().map_err(|_| anyhow!("the load's thread panicked"))?
    }

    /// Whether it still sends.
    pub(crate) fn is_alive(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn drive(
    load: Load,
    origin: SocketAddr,
    phases: usize,
    phase: &AtomicUsize,
    stop: &AtomicBool,
) -> Result<Vec<Tally>> {
    let mut poller = Poller::new().context("cannot create an epoll instance")?;
    let listener = socket::listener(origin).with_context(|| format!("cannot listen on {origin}"))?;
    let mut server = Server::new(listener, ServerPlan::new("churn", REPLY_BYTES)?);
    server.register(&poller)?;
    let start = Instant::now() + HEAD_START;
    let pace = Pace::open(start, start + RUN_MAX, u64::MAX, load.requests_per_second);
    let mut client = Client::new(load.plan, pace);
    client.open_all(&poller);
    let mut tallies: Vec<Tally> = (0..phases).map(|_| Tally::default()).collect();
    let (mut ready, mut current) = (Vec::new(), 0);
    let mut count = |phase: usize, client: &mut Client| {
        if let Some(tally) = tallies.get_mut(phase) {
            tally.merge(&client.take_tally());
        }
    };
    loop {
        let now = Instant::now();
        if stop.load(Ordering::Relaxed) {
            client.stop(now);
        }
        let wanted = phase.load(Ordering::Relaxed);
        if wanted != current {
            count(current, &mut client);
            current = wanted;
        }
        client.start_due(&poller, now);
        server.on_time(&poller, now);
        let Some(wakeup) = client.next_wakeup(now) else { break };
        let wait = wakeup.saturating_duration_since(now).min(WAIT_MAX);
        poller.wait(Some(wait), &mut ready).context("waiting for sockets failed")?;
        for ready in &ready {
            if Server::owns(ready.token) {
                server.on_ready(&poller, *ready);
            } else {
                client.on_ready(*ready);
            }
        }
    }
    count(current, &mut client);
    Ok(tallies)
}

/// chrt(1) for this thread. There is no safe call for it at hand, and this is done once.
fn take_priority() -> bool {
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let mut command = Command::new("chrt");
    command.args(["--fifo", "--pid", PRIORITY, &thread]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
