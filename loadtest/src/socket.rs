//! Sockets as a load tester wants them: listeners that share a port between threads, and connects that do not block.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket_with, sockopt};

/// Longer than any burst a test makes; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 16 * 1024;

/// A non-blocking listener whose port other listeners of this user may share.
pub(crate) fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = reserved(address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Holds a port without listening on it: connects are refused, and a later `listener` may share it.
pub(crate) fn reserved(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket_with(family(address), SocketType::STREAM, flags(), None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &address)?;
    Ok(TcpListener::from(socket))
}

/// Starts connecting. The first write tells whether it worked.
pub(crate) fn connecting(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket_with(family(address), SocketType::STREAM, flags(), None)?;
    match connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn family(address: SocketAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

fn flags() -> SocketFlags {
    SocketFlags::NONBLOCK | SocketFlags::CLOEXEC
}
