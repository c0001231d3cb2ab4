//! Listening sockets: one for each address and core (SO_REUSEPORT), so that the kernel spreads connections and no core
//! waits for another.
//!
//! Invariant: all are bound before the first is served, so that a port in use ends the start with one line and not half a gateway.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::{Duration, Instant};

use monoio::net::{TcpListener as CoreListener, TcpStream};

use crate::buf::Room;
use crate::core::{Core, Ends};
use crate::downstream;
use crate::guard;
use crate::io::Socket;

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
    (0..cores).map(|_| bind_one(address, true).map_err(explain)).collect()
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

/// Takes connections until the process drains.
pub(crate) async fn accept(core: Rc<Core>, listener: Rc<CoreListener>) {
    let local = listener.local_addr().ok();
    loop {
        let accepted = listener.accept().await;
        if core.is_draining() && accepted.is_err() {
            return;
        }
        match accepted {
            Ok((stream, client)) => {
                let Some(local) = local else { continue };
                admit(&core, stream, Ends::new(client, local));
            }
            Err(error) => {
                tracing::error!("cannot accept a connection: {error}");
                monoio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Serves a connection, or sheds it when there are too many.
fn admit(core: &Rc<Core>, stream: TcpStream, ends: Ends) {
    let Some(place) = Place::take(core, ends.client.ip()) else {
        core.count(|counters| counters.shed.up());
        return shed(core, stream);
    };
    core.count(|counters| counters.accepted.up());
    let core = Rc::clone(core);
    monoio::spawn(async move {
        let whole = guard::catch(Box::pin(downstream::serve(Rc::clone(&core), stream, ends))).await;
        if !whole {
            core.count(|counters| counters.panics.up());
        }
        drop(place);
    });
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
