//! Connections to nodes: by TCP, or over a Unix socket.
//!
//! Non-blocking and without resolving anything. Whatever waits here may be dropped: it owns a descriptor of its own and no operation
//! that could have taken something. Linux makes a connection to a Unix socket at once or not at all: where the queue of the one who listens
//! is full it says EAGAIN, and no event tells when it no longer is. So that is tried again, more and more rarely, as long as the wait lasts.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use monoio::io::Splitable;
use monoio::net::{TcpStream, UnixStream};
use ringway_engine::upstream::Address;

use super::{Deadlines, Socket, Watch, WriteHalf};
use crate::sys::{self, Side};

/// Between two tries to get into a full queue, at first and at most.
const FULL_PAUSE_FIRST: Duration = Duration::from_millis(1);
const FULL_PAUSE_MAX: Duration = Duration::from_millis(32);

impl Socket {
    /// Connects within `wait`; else the error is `TimedOut`.
    pub(crate) async fn connect(
        address: &Address,
        wait: Duration,
        deadlines: &Rc<Deadlines>,
    ) -> io::Result<Socket> {
        match address {
            Address::Tcp(address) => {
                let stream = tcp(*address, wait, deadlines).await?;
                let fd = stream.as_raw_fd();
                let (read, write) = stream.into_split();
                Ok(Socket::new(fd, read, WriteHalf::Tcp(write), deadlines, Side::Both))
            }
            Address::Unix(path) => {
                let stream = unix(Path::new(&**path), wait, deadlines).await?;
                let fd = stream.as_raw_fd();
                let (read, write) = stream.into_split();
                Ok(Socket::new(fd, read, WriteHalf::Unix(write), deadlines, Side::Both))
            }
        }
    }
}

async fn tcp(address: SocketAddr, wait: Duration, deadlines: &Rc<Deadlines>) -> io::Result<TcpStream> {
    let domain = socket2::Domain::for_address(address);
    let kind = socket2::Type::STREAM.nonblocking();
    let raw = socket2::Socket::new(domain, kind, Some(socket2::Protocol::TCP))?;
    raw.set_tcp_nodelay(true)?;
    let pending = match raw.connect(&address.into()) {
        Ok(()) => false,
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => true,
        Err(error) => return Err(error),
    };
    let stream = TcpStream::from_std(raw.into())?;
    if pending {
        let watching = Watch::start(stream.as_raw_fd(), Side::Both);
        watching.0.write_due.set(deadlines.due_in(wait));
        deadlines.register(&watching.0);
        let outcome = stream.writable(false).await;
        if watching.0.write_expired.get() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        outcome?;
        if let Some(error) = sys::take_error(stream.as_raw_fd())? {
            return Err(error);
        }
    }
    Ok(stream)
}

async fn unix(path: &Path, wait: Duration, deadlines: &Rc<Deadlines>) -> io::Result<UnixStream> {
    let raw = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    raw.set_nonblocking(true)?;
    let address = socket2::SockAddr::unix(path)?;
    let due = deadlines.due_in(wait);
    let mut pause = FULL_PAUSE_FIRST;
    loop {
        match raw.connect(&address) {
            Ok(()) => return UnixStream::from_std(OwnedFd::from(raw).into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if deadlines.tick.get() >= due {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // Boxed, because a request's task would else be as large as this needs at its rarest.
        Box::pin(monoio::time::sleep(pause)).await;
        pause = (pause * 2).min(FULL_PAUSE_MAX);
    }
}
