//! Listening sockets: one for each address and core (SO_REUSEPORT), so that the kernel spreads connections and no core
//! waits for another.
//!
//! Invariant: all are bound before the first is served, so that a port in use ends the start with one line and not half a gateway.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use monoio::io::{CancelHandle, Canceller};
use monoio::net::{TcpListener as CoreListener, TcpStream};
use socket2::SockRef;

use crate::buf::Room;
use crate::core::{Core, Local};
use crate::downstream::{self, Idle};
use crate::drain::HANDSHAKES_WAIT;
use crate::guard;
use crate::io::Socket;
use crate::pool;
use crate::sys;

/// Connections that the kernel keeps for a core that is busy (capped by net.core.somaxconn).
const BACKLOG: i32 = 16_384;
/// How long a port may be in use by what is left of a process that was killed.
const PREDECESSOR_WAIT: Duration = Duration::from_secs(3);
const PREDECESSOR_EVERY: Duration = Duration::from_millis(10);
/// After an accept that failed for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(50);

/// Binds `address` once for each core. The error says what to do.
pub(crate) fn bind(address: SocketAddr, cores: usize) -> Result<Vec<TcpListener>, String> {
    let explain = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "cannot listen on {address}: the port is in use; stop what uses it (`ss -ltnp 'sport = :{}'` tells what) or give another --listen",
            address.port()
        ),
        io::ErrorKind::PermissionDenied => format!(
            "cannot listen on {address}: no permission; ports below 1024 need CAP_NET_BIND_SERVICE, or give another --listen"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("cannot listen on {address}: this host has no such address; give another --listen")
        }
        _ => format!("cannot listen on {address}: {error}; give another --listen"),
    };
    // Another process of the same user could share the port unnoticed: find out before SO_REUSEPORT is set.
    let first = bind_when_free(address).map_err(explain)?;
    let address = first.local_addr().map_err(explain)?;
    drop(first);
    bind_more(address, cores)
}

/// Binds further sockets to an address that is ours already.
pub(crate) fn bind_more(address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, String> {
    let explain = |error: io::Error| format!("cannot listen on {address} once more: {error}");
    (0..count).map(|_| bind_one(address, true).map_err(explain)).collect()
}

/// Asks the kernel to give a connection to these sockets when its handshake was processed on that CPU (socket(7), SO_INCOMING_CPU; between
/// sockets of one port since Linux 6.2, before that without effect). What arrives on a CPU without a socket goes to any.
pub(crate) fn steer(listeners: &[TcpListener], cpu: usize) -> io::Result<()> {
    listeners.iter().try_for_each(|listener| SockRef::from(listener).set_cpu_affinity(cpu))
}

/// Binds an address that nobody else has. The kernel takes rings apart after their process has ended, so the sockets of one that
/// was killed a moment ago may still be there.
fn bind_when_free(address: SocketAddr) -> io::Result<TcpListener> {
    let began = Instant::now();
    loop {
        match bind_one(address, false) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && began.elapsed() < PREDECESSOR_WAIT => {
                std::thread::sleep(PREDECESSOR_EVERY);
            }
            outcome => return outcome,
        }
    }
}

fn bind_one(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if shared {
        // Accepted sockets inherit it, which saves a call for each (tcp(7)).
        socket.set_tcp_nodelay(true)?;
        socket.listen(BACKLOG)?;
    }
    Ok(socket.into())
}

/// The listening sockets of one core.
pub(crate) struct Doorway {
    listeners: Vec<Rc<CoreListener>>,
    step: Step,
}

enum Step {
    /// Nothing is taken yet.
    Waiting,
    /// Connections are taken until these are cancelled.
    Open(Vec<Canceller>),
    /// No new handshake begins, those that have begun are finished and taken.
    Settling {
        until_ms: u64,
        cancellers: Vec<Canceller>,
    },
    Closed,
}

impl Doorway {
    pub(crate) fn new(listeners: Vec<TcpListener>) -> io::Result<Doorway> {
        let listeners = listeners
            .into_iter()
            .map(|listener| CoreListener::from_std(listener).map(Rc::new))
            .collect::<Result<_, _>>()?;
        Ok(Doorway { listeners, step: Step::Waiting })
    }

    /// Whether nothing has been taken yet, and something is to be.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.step, Step::Waiting)
    }

    /// Does what the process's phase asks for; called every tick.
    pub(crate) fn turn(&mut self, core: &Rc<Core>) {
        let life = &core.state.life;
        self.step = match std::mem::replace(&mut self.step, Step::Closed) {
            Step::Waiting if life.is_closing() => self.ended(core),
            Step::Waiting if life.is_accepting() => self.open(core),
            Step::Open(cancellers) if life.is_closing() => self.settle(core, cancellers),
            Step::Settling { until_ms, cancellers }
                if core.deadlines.now_ms() >= until_ms || life.leaves_sockets() =>
            {
                self.close(cancellers)
            }
            step => step,
        };
    }

    fn open(&self, core: &Rc<Core>) -> Step {
        let open = Rc::new(Cell::new(self.listeners.len()));
        let start = |listener: &Rc<CoreListener>| {
            let canceller = Canceller::new();
            let (handle, listener) = (canceller.handle(), Rc::clone(listener));
            monoio::spawn(accept(Rc::clone(core), listener, handle, Rc::clone(&open)));
            canceller
        };
        let step = Step::Open(self.listeners.iter().map(start).collect());
        if let Some(shared) = core.state.cores.get(core.id) {
            shared.listening.store(true, Relaxed);
        }
        step
    }

    fn settle(&mut self, core: &Rc<Core>, cancellers: Vec<Canceller>) -> Step {
        if core.state.life.leaves_sockets() {
            return self.close(cancellers);
        }
        for listener in &self.listeners {
            if let Err(error) = refuse_handshakes(listener) {
                tracing::debug!("a listener closes without waiting for handshakes: {error}");
            }
        }
        Step::Settling { until_ms: core.deadlines.until_ms(HANDSHAKES_WAIT), cancellers }
    }

    /// A dropped accept may own a connection: each is cancelled, and its task awaits it.
    fn close(&mut self, cancellers: Vec<Canceller>) -> Step {
        self.listeners.clear();
        for canceller in cancellers {
            canceller.cancel();
        }
        Step::Closed
    }

    fn ended(&mut self, core: &Core) -> Step {
        self.listeners.clear();
        let_go(core);
        Step::Closed
    }
}

/// The core takes nothing more: its sockets' second descriptors are closed.
fn let_go(core: &Core) {
    if let Some(shared) = core.state.cores.get(core.id) {
        shared.sockets().clear();
        shared.listening.store(false, Relaxed);
    }
}

/// Drops what asks for a new connection (SYN without ACK, RFC 9293 section 3.5), so that between the last accept and the close
/// nobody is told that a connection stands. Who asks, asks again a second later, and finds the port closed or another process.
fn refuse_handshakes(listener: &CoreListener) -> io::Result<()> {
    const FLAGS_OFFSET: u32 = 13;
    const SYN_OR_ACK: u32 = 0x12;
    const SYN: u32 = 0x02;
    const WHOLE: u32 = u32::MAX;
    // Classic BPF (kernel documentation, networking/filter): load the flags, keep two of them, compare, drop or pass.
    let program = [
        socket2::SockFilter::new(0x30, 0, 0, FLAGS_OFFSET),
        socket2::SockFilter::new(0x54, 0, 0, SYN_OR_ACK),
        socket2::SockFilter::new(0x15, 0, 1, SYN),
        socket2::SockFilter::new(0x06, 0, 0, 0),
        socket2::SockFilter::new(0x06, 0, 0, WHOLE),
    ];
    SockRef::from(&sys::borrow(listener)).attach_filter(&program)
}

/// Takes connections until it is cancelled; the last of a core's tells that the core takes no more.
async fn accept(core: Rc<Core>, listener: Rc<CoreListener>, cancel: CancelHandle, open: Rc<Cell<usize>>) {
    if let Ok(local) = listener.local_addr() {
        let local = Rc::new(Local::new(local));
        loop {
            match listener.cancelable_accept(cancel.clone()).await {
                Ok((stream, client)) => admit(&core, stream, client, &local),
                Err(_) if core.is_closing() => break,
                Err(error) => {
                    if pool::lacks_descriptor(&error) {
                        core.free_descriptors();
                    }
                    tracing::error!("cannot accept a connection: {error}");
                    monoio::time::sleep(PAUSE).await;
                }
            }
        }
        if !core.state.life.leaves_sockets() {
            take_queued(&core, &listener, &local);
        }
    }
    drop(listener);
    open.set(open.get().saturating_sub(1));
    if open.get() == 0 {
        let_go(&core);
    }
}

/// Takes what stands in the queue of a listener that is about to close, or the close would reset it.
fn take_queued(core: &Rc<Core>, listener: &CoreListener, local: &Rc<Local>) {
    // Where somebody has made it blocking, the queue is left alone rather than a core stopped.
    if SockRef::from(&sys::borrow(listener)).set_nonblocking(true).is_err() {
        return;
    }
    while let Ok((socket, client)) = SockRef::from(&sys::borrow(listener)).accept() {
        let Some(client) = client.as_socket() else { continue };
        match socket.set_nonblocking(true).and_then(|()| TcpStream::from_std(socket.into())) {
            Ok(stream) => admit(core, stream, client, local),
            Err(error) => tracing::error!("cannot serve a queued connection: {error}"),
        }
    }
}

/// Serves a connection, or sheds it when there are too many.
fn admit(core: &Rc<Core>, stream: TcpStream, client: SocketAddr, local: &Rc<Local>) {
    let Some(place) = Place::take(core, client.ip()) else {
        core.count(|counters| counters.shed.up());
        return shed(core, stream);
    };
    core.count(|counters| counters.accepted.up());
    monoio::spawn(live(place, Idle::new(core, stream, client, Rc::clone(local))));
}

/// A connection from its beginning to its end: what each of them holds for as long as it is there.
fn live(place: Place, idle: Box<Idle>) -> impl Future<Output = ()> {
    // Boxed: only while it has something to do does a connection need the room for it.
    let mut serving = Box::pin(downstream::serve(Rc::clone(&place.core), idle, None));
    // A block, which keeps what it captures where it is; an async function would have room for its arguments twice.
    async move {
        let core = &place.core;
        loop {
            let rested = match guard::catch(serving).await {
                Some(Some(rested)) => rested,
                Some(None) => return,
                None => return core.count(|counters| counters.panics.up()),
            };
            let Some((idle, came)) = rested.wait(core).await else { return };
            serving = Box::pin(downstream::serve(Rc::clone(core), idle, Some(came)));
        }
    }
}

/// A counted connection; dropping it gives the place back.
struct Place {
    core: Rc<Core>,
    client: IpAddr,
}

impl Place {
    fn take(core: &Rc<Core>, client: IpAddr) -> Option<Place> {
        let limits = &core.limits;
        if core.state.connections() >= limits.connections_max {
            return None;
        }
        if limits.connections_per_client_max > 0
            && !core.clients.enter(client, limits.connections_per_client_max)
        {
            return None;
        }
        core.count(|counters| counters.connections.up());
        Some(Place { core: Rc::clone(core), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.core.count(|counters| counters.connections.down());
        if self.core.limits.connections_per_client_max > 0 {
            self.core.clients.leave(self.client);
        }
    }
}

/// The same bytes for everyone: no request is read for it.
const SHED: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nRingway-Reason: connection_limit\r\n\
    Content-Length: 0\r\nConnection: close\r\n\r\n";

/// Answers 503 without reading the request, as long as not too many are answered so; drops the connection otherwise.
fn shed(core: &Rc<Core>, stream: TcpStream) {
    if core.shedding.get() >= core.limits.shedding_max {
        return;
    }
    core.shedding.set(core.shedding.get() + 1);
    let core = Rc::clone(core);
    monoio::spawn(async move {
        let mut socket = Socket::downstream(stream, &core.deadlines);
        let written = socket.writer.write_last(SHED.to_vec(), 0..SHED.len(), core.limits.linger).await;
        if written.result.is_ok() {
            // What the client has sent must be read, or the close becomes a reset that takes the answer with it.
            let read = socket.reader.read(core.buffers.take(Room::Head), core.limits.linger).await;
            core.buffers.give(read.buffer);
        }
        core.shedding.set(core.shedding.get() - 1);
    });
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream as Client;

    use super::*;

    /// How many connections wait at a listener.
    fn taken(listener: &TcpListener) -> usize {
        std::iter::from_fn(|| listener.accept().ok()).count()
    }

    fn bytes_of<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_holds_little() {
        let (task, idle) = (bytes_of(live), size_of::<Idle>());
        assert!(task <= 88, "its task has {task} bytes, and some 56 of the runtime's");
        assert!(idle <= 160, "what is left of it has {idle} bytes");
    }

    #[test]
    fn a_steered_connection_lands_on_the_core_of_its_cpu() {
        const CONNECTIONS: usize = 24;
        let cpus = sys::allowed_cpus().unwrap();
        let [first, second, ..] = cpus[..] else {
            eprintln!("not tested: it takes two CPUs");
            return;
        };
        let listeners = bind(([127, 0, 0, 1], 0).into(), 2).unwrap();
        let address = listeners[0].local_addr().unwrap();
        for (listener, cpu) in listeners.iter().zip([first, second]) {
            steer(std::slice::from_ref(listener), cpu).unwrap();
        }
        // On loopback a handshake is processed on the client's own CPU. One thread each: a pinned thread stays pinned.
        for (cpu, expected) in [(first, [CONNECTIONS, 0]), (second, [0, CONNECTIONS])] {
            let clients = std::thread::spawn(move || {
                sys::pin_to_cpu(cpu).unwrap();
                (0..CONNECTIONS).map(|_| Client::connect(address).unwrap()).collect::<Vec<_>>()
            });
            let clients = clients.join().unwrap();
            assert_eq!([taken(&listeners[0]), taken(&listeners[1])], expected, "from CPU {cpu}");
            drop(clients);
        }
    }
}
