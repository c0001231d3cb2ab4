//! Start, signals and the end of the process.
//!
//! Invariant: whatever can be refused (sockets, folders, io_uring) is tried before a core serves its first request, and
//! each refusal is one line that says what to do.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use crossbeam::utils::CachePadded;

use crate::admin::Admin;
use crate::config::{Flags, IoDriver, Limits};
use crate::core::Options;
use crate::disk::{Disk, Keeper};
use crate::feed::{self, Event, FeedLoop};
use crate::publish;
use crate::state::{Core, Feed, State};
use crate::worker::Worker;
use crate::{listener, status, sys};

/// Configurations of control planes that wait for the feed thread.
const EVENTS_WAITING_MAX: usize = 4;
/// Descriptors for everything that is not a client's connection: listeners, rings, sockets, files.
const FILES_RESERVED: u64 = 256;
/// How often the end of the last request is looked for.
const DRAIN_EVERY: Duration = Duration::from_millis(20);
/// Kept connections without a request get this long on shutdown.
const IDLE_GRACE: Duration = Duration::from_secs(1);

/// Runs the data plane until a signal ends it.
pub(crate) fn run(flags: &Flags) -> Result<(), String> {
    sys::private_files();
    sys::block_signals().map_err(|error| format!("cannot block signals: {error}"))?;
    check_io_uring(flags.io_driver)?;
    let limits = limits(flags);
    let cpus = cpus(flags.workers)?;
    let disk = Disk::new(flags.snapshot_dir.clone());
    disk.prepare()?;
    let feed_listener = feed::bind_private(&flags.feed_socket, "--feed-socket")?;
    let admin_listener = feed::bind_private(&flags.admin_socket, "--admin-socket")?;
    let status_listener = status::bind(flags.status)?;
    let status_address = status_listener.local_addr().map_err(|error| error.to_string())?;
    let mut by_core: Vec<Vec<TcpListener>> = cpus.iter().map(|_| Vec::new()).collect();
    let mut listening: Vec<SocketAddr> = Vec::new();
    for address in &flags.listen {
        let listeners = listener::bind(*address, cpus.len())?;
        listening.extend(listeners.first().and_then(|listener| listener.local_addr().ok()));
        for (core, listener) in by_core.iter_mut().zip(listeners) {
            core.push(listener);
        }
    }

    let state = Arc::new(State {
        node: flags.node.clone().unwrap_or_else(sys::host_name),
        started: Instant::now(),
        cores: cpus
            .iter()
            .map(|cpu| Arc::new(CachePadded::new(Core { cpu: *cpu, ..Core::default() })))
            .collect(),
        draining: AtomicBool::new(false),
        feed: Mutex::new(Feed::default()),
        stale_after: Some(Duration::from_secs(flags.stale_after_s)).filter(|after| !after.is_zero()),
    });
    let (publisher, inlets) = publish::channel(cpus.len()).map_err(|error| error.to_string())?;
    let options = Options { hide_reasons: flags.hide_reasons, via: flags.via };
    for (((id, cpu), inlet), listeners) in cpus.iter().copied().enumerate().zip(inlets).zip(by_core) {
        let (driver, limits, state) = (flags.io_driver, limits.clone(), Arc::clone(&state));
        let worker = Worker { id, cpu, driver, limits, options, state, inlet, listeners };
        worker.start().map_err(|error| format!("cannot start a core's thread: {error}"))?;
    }
    let (events, inbox) = crossbeam::channel::bounded(EVENTS_WAITING_MAX);
    let keeper = Keeper::start(disk, Arc::clone(&state))
        .map_err(|error| format!("cannot start the thread that writes snapshots: {error}"))?;
    let mut feed_loop = FeedLoop::new(Arc::clone(&state), publisher, keeper);
    feed_loop.boot();
    thread("feed", move || feed_loop.run(&inbox))?;
    let (feed_state, feed_events) = (Arc::clone(&state), events.clone());
    thread("feed-accept", move || feed::listen(&feed_listener, &feed_state, &feed_events))?;
    let status_state = Arc::clone(&state);
    thread("status-accept", move || status::serve(&status_listener, &status_state))?;
    let admin = Arc::new(Admin {
        state: Arc::clone(&state),
        flags: flags.clone(),
        listening: listening.clone(),
        status: status_address,
    });
    thread("admin-accept", move || admin.serve(&admin_listener))?;
    wait_until_listening(&state)?;
    announce(&listening, status_address);
    tracing::info!(node = state.node, cores = state.cores.len(), io = flags.io_driver.name(), "serving");
    wait_for_end(flags, &state, &events);
    Ok(())
}

/// What the first lines of standard output say, for scripts and tests: the addresses, ports chosen by the kernel included.
fn announce(listening: &[SocketAddr], status: SocketAddr) {
    let mut out = std::io::stdout().lock();
    for address in listening {
        // Nobody may be reading, which is no reason to end.
        let _ = writeln!(out, "listening http {address}");
    }
    let _ = writeln!(out, "listening status {status}");
    let _ = out.flush();
}

fn wait_until_listening(state: &State) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !state.cores.iter().all(|core| core.listening.load(Relaxed)) {
        if let Some(reason) = state.not_alive() {
            return Err(format!("{reason}; the log says why"));
        }
        if Instant::now() > deadline {
            return Err("the cores did not start within 10 s".to_owned());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn thread(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), String> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map(drop)
        .map_err(|error| format!("cannot start the {name} thread: {error}"))
}

/// The limits with what the operator and the host say. A proxied request needs two descriptors: its own connection and the node's.
fn limits(flags: &Flags) -> Limits {
    let files = sys::raise_open_files().unwrap_or_else(|error| {
        tracing::warn!("cannot raise the limit of open files: {error}");
        1_024
    });
    let room = (files.saturating_sub(FILES_RESERVED) / 2).max(16);
    let connections_max = flags.connections_max.unwrap_or(room);
    if connections_max > room {
        tracing::warn!(
            connections_max,
            files,
            "the limit of open files is too low for so many connections: raise it (LimitNOFILE)"
        );
    }
    let connections_per_client_max = flags.connections_per_client_max;
    Limits { connections_max, connections_per_client_max, ..Limits::new(&flags.waits) }
}

fn cpus(workers: Option<usize>) -> Result<Vec<usize>, String> {
    let allowed = sys::allowed_cpus().map_err(|error| format!("cannot tell which CPUs to use: {error}"))?;
    let count = workers.unwrap_or(allowed.len());
    if count == 0 || count > 1024 {
        return Err(format!("--workers {count}: give 1 to 1024"));
    }
    // More workers than CPUs share them in turn.
    Ok(allowed.iter().copied().cycle().take(count).collect())
}

fn check_io_uring(driver: IoDriver) -> Result<(), String> {
    if driver == IoDriver::Epoll {
        return Ok(());
    }
    sys::probe_io_uring().map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "io_uring is not permitted here: set `sysctl kernel.io_uring_disabled=0` \
             (or 1 with kernel.io_uring_group), or allow io_uring_setup, io_uring_enter and io_uring_register in the \
             container's seccomp profile; or choose --io-driver epoll"
            .to_owned(),
        Some(libc::ENOSYS) => {
            "this kernel has no io_uring (Linux 5.19 or later is needed); or choose --io-driver epoll".to_owned()
        }
        Some(libc::ENOMEM) => "io_uring may not lock enough memory: raise `ulimit -l` (LimitMEMLOCK in systemd), or \
             choose --io-driver epoll"
            .to_owned(),
        _ => format!("io_uring cannot be used: {error}; or choose --io-driver epoll"),
    })
}

/// Waits for SIGTERM or SIGINT, lets open requests finish, and saves what is served.
fn wait_for_end(flags: &Flags, state: &State, events: &Sender<Event>) {
    let signal = sys::wait_for_signal().unwrap_or(libc::SIGTERM);
    tracing::info!(
        signal,
        timeout_s = flags.drain_timeout_s,
        "draining: no new connections, open requests finish"
    );
    state.draining.store(true, Relaxed);
    let started = Instant::now();
    let timeout = Duration::from_secs(flags.drain_timeout_s);
    let open = || -> u64 { state.cores.iter().map(|core| core.counters.connections.get()).sum() };
    let busy = || -> u64 { state.cores.iter().map(|core| core.counters.busy.get()).sum() };
    while open() > 0 && started.elapsed() < timeout {
        if busy() == 0 && started.elapsed() > IDLE_GRACE {
            break;
        }
        std::thread::sleep(DRAIN_EVERY);
    }
    if busy() > 0 {
        tracing::warn!(requests = busy(), "requests were still open when the drain timeout ended");
    }
    let (done, saved) = crossbeam::channel::bounded(0);
    if events.send_timeout(Event::Stop(done), Duration::from_secs(2)).is_ok() {
        // Ends with a disconnect when the feed thread has saved.
        let _ = saved.recv_timeout(Duration::from_secs(5));
    }
    for path in [&flags.feed_socket, &flags.admin_socket] {
        // A successor may have taken it over; then it is gone already.
        let _ = std::fs::remove_file(path);
    }
    tracing::info!("ended");
}
