//! The wire between the control plane and PostgreSQL, to be cut: a TCP relay to the server's Unix socket that can fall
//! silent, reset, or delay.
//!
//! Silence means that bytes are taken and not passed on, in both directions, and that new connections are accepted and
//! never answered. The kernel still acknowledges them, as it does before a server whose process is frozen: only a
//! deadline of the control plane's own can notice. What was silenced stays lost: a connection is never resumed in the middle.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;

const CHUNK_BYTES: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    Open,
    Silent,
    /// Connections are reset (RST), new ones as soon as they are accepted.
    Reset,
    /// Every piece waits so long, in each direction.
    Slow(Duration),
}

/// Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
struct Shared {
    wire: Wire,
    ended: bool,
    /// Both ends of every connection, so that a fault reaches those that wait.
    open: Vec<Link>,
}

#[derive(Debug)]
struct Link {
    client: TcpStream,
    server: UnixStream,
    /// Bytes were dropped: nothing may follow them.
    spoilt: Arc<Mutex<bool>>,
}

impl Cut {
    /// A relay to the server whose socket is in `folder`.
    pub(crate) fn start(folder: &Path) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Mutex::new(Shared { wire: Wire::Open, ended: false, open: Vec::new() }));
        let socket = folder.join(".s.PGSQL.5432");
        let cut = Self { address, shared: Arc::clone(&shared) };
        std::thread::Builder::new().name("cut".into()).spawn(move || accept(&listener, &socket, &shared))?;
        Ok(cut)
    }

    pub(crate) fn set(&self, wire: Wire) {
        let mut shared = lock(&self.shared);
        let before = std::mem::replace(&mut shared.wire, wire);
        match wire {
            Wire::Reset => shared.open.drain(..).for_each(|link| link.reset()),
            // A connection that missed bytes must not go on as if nothing had been.
            Wire::Open | Wire::Slow(_) if before == Wire::Silent => {
                shared.open.retain(|link| {
                    let spoilt = *lock(&link.spoilt);
                    if spoilt {
                        link.reset();
                    }
                    !spoilt
                });
            }
            _ => {}
        }
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        lock(&self.shared).ended = true;
        self.set(Wire::Reset);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Link {
    /// Only the last close sends the reset. Shutting down for reading alone wakes whoever reads and sends nothing.
    fn reset(&self) {
        *lock(&self.spoilt) = true;
        let _ = set_socket_linger(&self.client, Some(Duration::ZERO));
        let _ = self.client.shutdown(Shutdown::Read);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

fn accept(listener: &TcpListener, socket: &PathBuf, shared: &Arc<Mutex<Shared>>) {
    for client in listener.incoming().flatten() {
        let wire = lock(shared).wire;
        if lock(shared).ended {
            return;
        }
        // A client whose server is gone is refused by a reset, as a host without a server does.
        let server = if wire == Wire::Reset { None } else { UnixStream::connect(socket).ok() };
        let Some(server) = server else {
            let _ = set_socket_linger(&client, Some(Duration::ZERO));
            continue;
        };
        if let Err(error) = join(client, server, shared) {
            eprintln!("ringway-loadtest: the relay to PostgreSQL: {error}");
        }
    }
}

fn join(client: TcpStream, server: UnixStream, shared: &Arc<Mutex<Shared>>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let spoilt = Arc::new(Mutex::new(false));
    let link = Link { client: client.try_clone()?, server: server.try_clone()?, spoilt: Arc::clone(&spoilt) };
    lock(shared).open.push(link);
    let (client_back, server_back) = (client.try_clone()?, server.try_clone()?);
    let (there, back) = (Arc::clone(shared), Arc::clone(shared));
    let spoilt_back = Arc::clone(&spoilt);
    std::thread::Builder::new().spawn(move || {
        relay(&client, &server, &there, &spoilt);
        let _ = server.shutdown(Shutdown::Both);
    })?;
    std::thread::Builder::new().spawn(move || {
        relay(&server_back, &client_back, &back, &spoilt_back);
        if !*lock(&spoilt_back) {
            let _ = client_back.shutdown(Shutdown::Both);
        }
    })?;
    Ok(())
}

/// Until the stream ends.
fn relay(mut from: impl Read, mut to: impl Write, shared: &Mutex<Shared>, spoilt: &Mutex<bool>) {
    let mut bytes = vec![0; CHUNK_BYTES];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let wire = lock(shared).wire;
        match wire {
            Wire::Silent => *lock(spoilt) = true,
            Wire::Slow(delay) => std::thread::sleep(delay),
            Wire::Open | Wire::Reset => {}
        }
        let passed = wire != Wire::Silent && !*lock(spoilt);
        if passed && to.write_all(bytes.get(..count).unwrap_or_default()).is_err() {
            return;
        }
    }
    // In silence the end is not told either: it is lost like everything else.
    if lock(shared).wire == Wire::Silent {
        *lock(spoilt) = true;
        while lock(shared).wire == Wire::Silent {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn echo() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        folder
    }

    fn asked(stream: &mut TcpStream) -> io::Result<u8> {
        let mut byte = [0];
        stream.write_all(b"x")?;
        stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    #[test]
    fn what_was_silenced_stays_lost_and_a_new_connection_works() {
        let folder = echo();
        let cut = Cut::start(folder.path()).unwrap();
        let mut stream = TcpStream::connect(cut.address).unwrap();
        assert_eq!(asked(&mut stream).unwrap(), b'x');
        cut.set(Wire::Silent);
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(asked(&mut stream).is_err());
        cut.set(Wire::Open);
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut byte = [0];
        assert!(!matches!(stream.read(&mut byte), Ok(1)));
        assert_eq!(asked(&mut TcpStream::connect(cut.address).unwrap()).unwrap(), b'x');
    }

    #[test]
    fn a_reset_wire_resets_old_and_new_connections() {
        let folder = echo();
        let cut = Cut::start(folder.path()).unwrap();
        let mut stream = TcpStream::connect(cut.address).unwrap();
        assert_eq!(asked(&mut stream).unwrap(), b'x');
        cut.set(Wire::Reset);
        assert!(asked(&mut stream).is_err());
        assert!(asked(&mut TcpStream::connect(cut.address).unwrap()).is_err());
    }
}
