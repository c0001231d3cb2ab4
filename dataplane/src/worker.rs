//! One thread for each core: its own ring, its own listeners, its own memory.
//!
//! Besides connections it runs two tasks: one turns the deadlines, the other waits for the bell of its mailbox.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use monoio::io::AsyncReadRent;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use crate::access::Recorder;
use crate::config::{IoDriver, Limits};
use crate::core::{Core, Options};
use crate::drain::{IDLE_GRACE, IDLE_SPREAD};
use crate::io::TICK;
use crate::listener::Doorway;
use crate::publish::Inlet;
use crate::state::State;
use crate::sys;

/// How often a core that may not take connections yet looks whether it may.
const DOOR_EVERY: Duration = Duration::from_millis(2);
/// Submission queue entries of a ring. Completions have twice as many.
const RING_ENTRIES: u32 = 4_096;

/// What a core's thread needs.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) id: usize,
    pub(crate) cpu: usize,
    pub(crate) driver: IoDriver,
    pub(crate) limits: Limits,
    pub(crate) options: Options,
    pub(crate) state: Arc<State>,
    pub(crate) inlet: Inlet,
    pub(crate) listeners: Vec<TcpListener>,
    pub(crate) recorder: Option<Recorder>,
}

impl Worker {
    /// Starts the thread.
    pub(crate) fn start(self) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name(format!("core-{}", self.id)).spawn(move || {
            let death = Death(Arc::clone(&self.state), self.id);
            if let Err(error) = self.run() {
                tracing::error!("a core cannot work: {error}");
                return;
            }
            std::mem::forget(death);
        })
    }

    fn run(self) -> io::Result<()> {
        if let Err(error) = sys::pin_to_cpu(self.cpu) {
            tracing::warn!(core = self.id, cpu = self.cpu, "cannot pin this core's thread: {error}");
        }
        match self.driver {
            IoDriver::Uring => uring()?.block_on(self.serve()),
            IoDriver::Epoll => {
                RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?.block_on(self.serve())
            }
        }
    }

    async fn serve(self) -> io::Result<()> {
        let state = Arc::clone(&self.state);
        let core = Rc::new(Core::new(self.id, state, self.limits, self.options, self.recorder));
        let mut doorway = Doorway::new(self.listeners)?;
        let bell = monoio::net::UnixStream::from_std(self.inlet.bell.try_clone()?)?;
        // What was published before this thread ran.
        take_mail(&core, &self.inlet);
        monoio::spawn(mail(Rc::clone(&core), self.inlet, bell));
        if let Some(shared) = self.state.cores.get(self.id) {
            shared.running.store(true, Relaxed);
        }
        let mut hastened = false;
        loop {
            doorway.turn(&core);
            if core.is_closing() && !hastened {
                hastened = true;
                let last = if core.state.life.has_successor() { IDLE_SPREAD } else { IDLE_GRACE };
                core.deadlines.hasten_idle(IDLE_GRACE, last);
            }
            // Clients queue meanwhile.
            monoio::time::sleep(if doorway.is_waiting() { DOOR_EVERY } else { TICK }).await;
            core.turn();
        }
    }
}

/// A ring with the flags that this kernel knows: the best first.
pub(crate) fn uring() -> io::Result<monoio::Runtime<monoio::time::TimeDriver<IoUringDriver>>> {
    let mut last = None;
    for rung in 0..3 {
        let mut ring = io_uring::IoUring::builder();
        match rung {
            0 => ring.setup_single_issuer().setup_defer_taskrun(),
            1 => ring.setup_coop_taskrun(),
            _ => &mut ring,
        };
        ring.setup_clamp();
        match RuntimeBuilder::<IoUringDriver>::new()
            .with_entries(RING_ENTRIES)
            .uring_builder(ring)
            .enable_timer()
            .build()
        {
            Ok(runtime) => return Ok(runtime),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::Unsupported.into()))
}

/// Waits for the bell and swaps.
async fn mail(core: Rc<Core>, inlet: Inlet, mut bell: monoio::net::UnixStream) {
    let mut buffer = vec![0; 64];
    loop {
        let (result, back) = bell.read(buffer).await;
        buffer = back;
        match result {
            Ok(0) => return, // The publisher has ended, and the process with it.
            Ok(_) => take_mail(&core, &inlet),
            Err(error) => {
                tracing::error!(core = core.id, "cannot wait for configurations: {error}");
                monoio::time::sleep(Duration::from_millis(100)).await;
                take_mail(&core, &inlet);
            }
        }
    }
}

fn take_mail(core: &Core, inlet: &Inlet) {
    let standings = inlet.take_standings();
    let view = inlet.take();
    let is_news = standings.is_some() || view.is_some();
    if let Some(standings) = standings {
        core.rosters.heed(standings);
    }
    if let Some(view) = view {
        let version = view.version;
        core.swap(view);
        core.publish_version(version);
        inlet.report(version);
    }
    if is_news {
        core.look_again();
    }
}

/// Marks the core as dead when its thread ends.
struct Death(Arc<State>, usize);

impl Drop for Death {
    fn drop(&mut self) {
        if let Some(core) = self.0.cores.get(self.1) {
            core.dead.store(true, Relaxed);
            core.listening.store(false, Relaxed);
            // The tasks of a dead loop are never dropped, and so their descriptors stay open: the sockets themselves must end, or
            // they would swallow their share of all connections. Unless they are a successor's.
            let mut sockets = core.sockets();
            for listening in sockets.iter().filter(|_| !self.0.life.has_successor()) {
                sys::shutdown(std::os::fd::AsRawFd::as_raw_fd(&listening.socket), sys::Side::Both);
            }
            sockets.clear();
        }
    }
}
