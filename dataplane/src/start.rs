//! The start of the process, afresh or as the successor of one that serves.
//!
//! Invariant: whatever can be refused (sockets, folders, io_uring) is tried before a core serves its first request, and
//! each refusal is one line that says what to do.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender};
use crossbeam::utils::CachePadded;

use ringway_engine::site::Site;

use crate::access::{self, Ledger, Place, Recorder, Rules, Scribe, Sink};
use crate::admin::Admin;
use crate::config::{Flags, IoDriver, Limits, Observation, Steer};
use crate::core::Options;
use crate::disk::{Disk, Keeper};
use crate::drain::Life;
use crate::feed::{self, Event, FeedLoop};
use crate::handoff::{Heir, Sockets};
use crate::health::{self, Ward};
use crate::helm::{self, Helm, Local, Order};
use crate::latency::Copies;
use crate::state::{Core, Feed, Listening, State};
use crate::worker::Worker;
use crate::{bequest, listener, publish, status, supervisor, sys, topology, watchdog};

/// Configurations of control planes that wait for the feed thread.
const EVENTS_WAITING_MAX: usize = 4;
/// How long a successor waits for its cores to be told of nodes.
const BEQUEST_WAIT: Duration = Duration::from_secs(1);
/// Descriptors for everything that is not a client's connection: listeners, rings, sockets, files.
const FILES_RESERVED: u64 = 256;

/// Runs the data plane until a signal ends it, or a successor takes its place.
pub(crate) fn run(flags: &Flags) -> Result<(), String> {
    sys::private_files();
    sys::block_signals().map_err(|error| format!("cannot block signals: {error}"))?;
    let Some((heir, sockets)) = Heir::from_environment()? else {
        let addresses = supervisor::Addresses {
            http: &flags.listen,
            status: flags.status,
            feed: &flags.feed_socket,
            admin: &flags.admin_socket,
        };
        return serve(flags, None, supervisor::sockets(&addresses));
    };
    let heir = Arc::new(heir);
    let outcome = serve(flags, Some(&heir), sockets);
    if let Err(reason) = &outcome {
        heir.failed(reason);
    }
    outcome
}

fn serve(flags: &Flags, heir: Option<&Arc<Heir>>, sockets: Sockets) -> Result<(), String> {
    check_io_uring(flags.io_driver)?;
    let executable =
        helm::executable().map_err(|error| format!("cannot tell the own executable: {error}"))?;
    let limits = limits(flags);
    let cpus = cpus(flags.workers)?;
    let disk = Disk::new(flags.snapshot_dir.clone());
    disk.prepare()?;
    let given = !sockets.http.is_empty();
    let (local, by_core, listening) = listen(flags, sockets, cpus.len())?;
    let status = local.status.local_addr().map_err(|error| error.to_string())?;
    let state = Arc::new(state(flags, &cpus, heir.is_some()));
    if flags.keep_sockets || heir.map_or(given, |heir| heir.kept) {
        state.life.keep_sockets();
    }
    let (publisher, inlets) = publish::channel(cpus.len()).map_err(|error| error.to_string())?;
    let herald = publisher.herald().map_err(|error| error.to_string())?;
    start_cores(flags, &limits, &cpus, &state, inlets, by_core)?;
    let (events, inbox) = crossbeam::channel::bounded(EVENTS_WAITING_MAX);
    let keeper = Keeper::start(disk, Arc::clone(&state))
        .map_err(|error| format!("cannot start the thread that writes snapshots: {error}"))?;
    let mut feed_loop = FeedLoop::new(Arc::clone(&state), publisher, keeper);
    feed_loop.boot();
    let (driver, health_state) = (flags.io_driver, Arc::clone(&state));
    thread("health", move || health::run(driver, &health_state, herald))?;
    match heir {
        Some(heir) => take_over(heir, &state, &mut feed_loop)?,
        // Not earlier: who connects while the snapshot on disk is read waits in the backlog, and is not told that there is none.
        None => state.life.accept(),
    }
    let (orders, order_inbox) = crossbeam::channel::unbounded();
    let admin = Arc::new(Admin {
        state: Arc::clone(&state),
        flags: flags.clone(),
        limits,
        listening: listening.clone(),
        status,
        orders: orders.clone(),
        executable: executable.clone(),
        asking: Mutex::default(),
    });
    start_threads(&state, feed_loop, inbox, &events, &local, admin)?;
    wait_until(&state, |core| core.listening.load(Relaxed))?;
    state.life.answer();
    let (stuck_after, watched) = (Duration::from_millis(flags.stuck_after_ms), Arc::clone(&state));
    thread("watchdog", move || watchdog::watch(&watched, stuck_after))?;
    if flags.keep_sockets {
        supervisor::keep(&helm::sockets(&state, &local).map_err(|error| error.to_string())?);
    }
    let signals = orders.clone();
    thread("signals", move || helm::listen(&signals))?;
    match heir {
        Some(heir) => succeed(heir, &state, &orders)?,
        None => state.life.feed(true),
    }
    supervisor::ready();
    announce(&listening, status);
    tracing::info!(node = state.node, cores = state.cores.len(), io = flags.io_driver.name(), "serving");
    let flags = flags.clone();
    Helm { flags, state, events, orders, inbox: order_inbox, local: Some(local), executable }.steer();
    Ok(())
}

/// A thread for each core, and the one that takes their records.
fn start_cores(
    flags: &Flags,
    limits: &Limits,
    cpus: &[usize],
    state: &Arc<State>,
    inlets: Vec<publish::Inlet>,
    by_core: ByCore,
) -> Result<(), String> {
    let (recorders, scribe) = recorders(&flags.observation, cpus.len(), &state.ledger)?;
    let trusted = flags.trusted_addresses.as_slice().into();
    let options = Options { hide_reasons: flags.hide_reasons, via: flags.via, trusted };
    let cores = cpus.iter().copied().enumerate().zip(inlets).zip(by_core).zip(recorders);
    for ((((id, cpu), inlet), sockets), recorder) in cores {
        let listeners =
            lend(state, id, sockets).map_err(|error| format!("cannot share a socket: {error}"))?;
        let (driver, limits, state) = (flags.io_driver, limits.clone(), Arc::clone(state));
        let options = options.clone();
        steer(flags.steer, &listeners, cpu);
        let worker = Worker { id, cpu, driver, limits, options, state, inlet, listeners, recorder };
        worker.start().map_err(|error| format!("cannot start a core's thread: {error}"))?;
    }
    match scribe {
        Some(scribe) => thread("access", move || scribe.run()),
        None => Ok(()),
    }
}

fn state(flags: &Flags, cpus: &[usize], heir: bool) -> State {
    State {
        node: flags.node.clone().unwrap_or_else(sys::host_name),
        site: Site {
            zone: flags.zone.as_deref().map(Arc::from),
            // Variables that are no text can be nobody's secret.
            environment: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
        },
        started: Instant::now(),
        cores: cpus
            .iter()
            .map(|cpu| Arc::new(CachePadded::new(Core { cpu: *cpu, ..Core::default() })))
            .collect(),
        life: Life::new(heir),
        feed: Mutex::new(Feed::default()),
        ward: Ward::default(),
        stale_after: Some(Duration::from_secs(flags.stale_after_s)).filter(|after| !after.is_zero()),
        latencies: Copies::default(),
        descriptors_lacked: Default::default(),
        ledger: Arc::new(Ledger::new(
            flags.observation.access_log != "off",
            flags.observation.metrics_per_route,
        )),
    }
}

/// The access log, and the counting by route.
fn recorders(
    wanted: &Observation,
    cores: usize,
    ledger: &Arc<Ledger>,
) -> Result<(Vec<Option<Recorder>>, Option<Scribe>), String> {
    let place = match &*wanted.access_log {
        "off" => None,
        "-" => Some(Place::Output),
        path => Some(Place::Path(path.into())),
    };
    let refused = |error| {
        let path = &wanted.access_log;
        format!(
            "cannot write the access log {path}: {error}; create the folder, or give another --access-log"
        )
    };
    let sink = place.map(Sink::open).transpose().map_err(refused)?;
    let rules = Rules {
        rate: sink.is_some().then_some(wanted.access_log_sample),
        errors: wanted.access_log_errors,
        counts: wanted.metrics_per_route > 0,
    };
    let log = sink.map(|sink| (wanted.access_log_format.clone(), sink));
    Ok(access::recorders(rules, cores, log, ledger))
}

type ByCore = Vec<Vec<Listening>>;

/// Every listening socket: those that were given, and new ones for what is missing. Each core gets one of each address at least,
/// and every one that was given gets a core, however many cores there were before: one without a core would swallow its share.
fn listen(
    flags: &Flags,
    given: Sockets,
    cores: usize,
) -> Result<(Arc<Local>, ByCore, Vec<SocketAddr>), String> {
    let feed = match given.feed {
        Some(socket) => socket,
        None => feed::bind_private(&flags.feed_socket, "--feed-socket")?,
    };
    let admin = match given.admin {
        Some(socket) => socket,
        None => feed::bind_private(&flags.admin_socket, "--admin-socket")?,
    };
    let status = match given.status {
        Some(socket) => socket,
        None => status::bind(flags.status)?,
    };
    for prepared in [status.set_nonblocking(true), feed.set_nonblocking(true), admin.set_nonblocking(true)] {
        prepared.map_err(|error| format!("cannot prepare a socket: {error}"))?;
    }
    let mut by_flag: Vec<Vec<TcpListener>> = flags.listen.iter().map(|_| Vec::new()).collect();
    for (flag, socket) in given.http {
        if by_flag.len() <= flag {
            by_flag.resize_with(flag + 1, Vec::new);
        }
        by_flag[flag].push(socket);
    }
    let mut listening = Vec::new();
    let mut by_core: ByCore = (0..cores).map(|_| Vec::new()).collect();
    for (flag, mut sockets) in by_flag.into_iter().enumerate() {
        let first = sockets.first().and_then(|socket| socket.local_addr().ok());
        match (first, flags.listen.get(flag)) {
            (Some(address), _) => complete(&mut sockets, address, cores)?,
            (None, Some(address)) => sockets = listener::bind(*address, cores)?,
            (None, None) => {}
        }
        listening.extend(sockets.first().and_then(|socket| socket.local_addr().ok()));
        for (core, socket) in (0..cores).cycle().zip(sockets) {
            socket.set_nonblocking(true).map_err(|error| format!("cannot prepare a socket: {error}"))?;
            if let Some(own) = by_core.get_mut(core) {
                own.push(Listening { flag, socket });
            }
        }
    }
    Ok((Arc::new(Local { status, feed, admin }), by_core, listening))
}

/// A socket for each core where fewer were given.
fn complete(sockets: &mut Vec<TcpListener>, address: SocketAddr, cores: usize) -> Result<(), String> {
    let missing = cores.saturating_sub(sockets.len());
    for socket in &*sockets {
        // Ours say so already; a supervisor's may not.
        let _ = socket2::SockRef::from(socket).set_reuse_port(true);
    }
    match listener::bind_more(address, missing) {
        Ok(more) => sockets.extend(more),
        Err(error) => {
            tracing::warn!("{error}: cores share a socket; give the supervisor's unit ReusePort=yes");
            let shared: std::io::Result<Vec<_>> =
                sockets.iter().cycle().take(missing).map(TcpListener::try_clone).collect();
            sockets.extend(shared.map_err(|error| format!("cannot share a socket: {error}"))?);
        }
    }
    Ok(())
}

/// Gives a core its sockets, and keeps them once more for a successor.
fn lend(state: &State, core: usize, sockets: Vec<Listening>) -> std::io::Result<Vec<TcpListener>> {
    let own = sockets.iter().map(|listening| listening.socket.try_clone()).collect();
    if let Some(core) = state.cores.get(core) {
        *core.sockets() = sockets;
    }
    own
}

fn start_threads(
    state: &Arc<State>,
    feed_loop: FeedLoop,
    inbox: Receiver<Event>,
    events: &Sender<Event>,
    local: &Local,
    admin: Arc<Admin>,
) -> Result<(), String> {
    let shared = |error: std::io::Error| format!("cannot share a socket: {error}");
    thread("feed", move || feed_loop.run(&inbox))?;
    let (socket, feed_state, events) =
        (local.feed.try_clone().map_err(shared)?, Arc::clone(state), events.clone());
    thread("feed-accept", move || feed::listen(&socket, &feed_state, &events))?;
    let (socket, status_state) = (local.status.try_clone().map_err(shared)?, Arc::clone(state));
    thread("status-accept", move || status::serve(&socket, &status_state))?;
    let socket = local.admin.try_clone().map_err(shared)?;
    thread("admin-accept", move || admin.serve(&socket))
}

/// Shows the predecessor that this process can serve just what it serves, and waits for its word.
fn take_over(heir: &Heir, state: &State, feed_loop: &mut FeedLoop) -> Result<(), String> {
    wait_until(state, |core| core.running.load(Relaxed))?;
    heir.ready(feed_loop.served())?;
    let (last, bytes) = heir.last()?;
    heir.ready(feed_loop.inherit(last.as_deref(), bytes.as_deref()))?;
    if let Some(bytes) = heir.wait_for_go()? {
        inherit(state, &bytes);
    }
    state.life.accept();
    Ok(())
}

/// Takes over what the predecessor knew of nodes, and gives the cores a moment to hear of it. Nothing of it is worth a failed upgrade.
fn inherit(state: &State, bytes: &[u8]) {
    match bequest::read(bytes) {
        Ok(memory) => state.ward.open().recall(memory, state.uptime_ms()),
        Err(error) => {
            tracing::warn!(
                "what the predecessor knew of nodes cannot be read, all count as healthy: {error}"
            );
            return;
        }
    }
    let deadline = Instant::now() + BEQUEST_WAIT;
    while state.ward.open().is_news() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Tells the predecessor that this process serves; follows its end.
fn succeed(heir: &Arc<Heir>, state: &Arc<State>, orders: &Sender<Order>) -> Result<(), String> {
    heir.serving()?;
    let (heir, state, orders) = (Arc::clone(heir), Arc::clone(state), orders.clone());
    thread("predecessor", move || {
        heir.wait_for_quiet();
        state.life.feed(true);
        let tie = heir.wait_for_end();
        tracing::info!("the predecessor has ended");
        // The main thread ends only with the process.
        let _ = orders.send(Order::Alone(tie));
    })
}

/// What the first lines of standard output say, for scripts and tests: the addresses, ports chosen by the kernel included.
fn announce(listening: &[SocketAddr], status: SocketAddr) {
    let mut out = std::io::stdout().lock();
    for address in listening {
        // Nobody may be reading, which is no reason to end.
        let _ = writeln!(out, "listening http {address}");
    }
    let _ = writeln!(out, "listening status {status}");
    // Whoever started the first of a line of processes learns here which one it is now.
    let _ = writeln!(out, "serving {}", std::process::id());
    let _ = out.flush();
}

fn wait_until(state: &State, reached: impl Fn(&Core) -> bool) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !state.cores.iter().all(|core| reached(core)) {
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

fn steer(steer: Steer, listeners: &[TcpListener], cpu: usize) {
    if steer == Steer::Cpu
        && let Err(error) = listener::steer(listeners, cpu)
    {
        tracing::warn!(cpu, "connections cannot be steered to this CPU's core: {error}");
    }
}

fn cpus(workers: Option<usize>) -> Result<Vec<usize>, String> {
    let allowed = sys::allowed_cpus().map_err(|error| format!("cannot tell which CPUs to use: {error}"))?;
    let count = workers.unwrap_or(allowed.len());
    if count == 0 || count > 1024 {
        return Err(format!("--workers {count}: give 1 to 1024"));
    }
    let allowed = topology::physical_first(allowed, Path::new(topology::SYSTEM));
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
