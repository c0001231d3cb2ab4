//! Listening sockets: one for each address and core (SO_REUSEPORT), so that the kernel spreads connections and no core
//! waits for another.
//!
//! Invariant: all are bound before the first is served, so that a port in use ends the start with one line and not half a gateway.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use monoio::net::TcpListener as CoreListener;

use crate::core::{Core, Ends};
use crate::downstream;
use crate::guard;

/// Connections that the kernel keeps for a core that is busy (capped by net.core.somaxconn).
const BACKLOG: i32 = 16_384;
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
    let first = bind_one(address, false).map_err(explain)?;
    let address = first.local_addr().map_err(explain)?;
    drop(first);
    (0..cores).map(|_| bind_one(address, true).map_err(explain)).collect()
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
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::error!("cannot accept a connection: {error}");
                monoio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let open = core.counters().map_or(0, |counters| counters.connections.get());
        if open >= core.limits.connections_per_core_max as u64 {
            core.count(|counters| counters.shed.up());
            continue; // Dropped: cheaper for both than an answer.
        }
        let Some(local) = local else { continue };
        core.count(|counters| {
            counters.accepted.up();
            counters.connections.up();
        });
        let core = Rc::clone(&core);
        monoio::spawn(async move {
            let ends = Ends::new(client, local);
            let whole = guard::catch(downstream::serve(Rc::clone(&core), stream, ends)).await;
            core.count(|counters| {
                counters.connections.down();
                if !whole {
                    counters.panics.up();
                }
            });
        });
    }
}
