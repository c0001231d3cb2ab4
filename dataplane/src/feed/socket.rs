//! The Unix sockets of the data plane: made privately, taken over from a dead process, refused to other users.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crossbeam::channel::Sender;

use super::connection::{Event, serve};
use crate::state::State;
use crate::{door, sys};

/// Control planes connected at once.
const CONNECTIONS_MAX: usize = 8;

/// Binds a Unix socket that only this user may connect to (mode 0600 by the process's umask). The error says what to do.
pub(crate) fn bind_private(path: &Path, flag: &str) -> Result<UnixListener, String> {
    let shown = path.display();
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| {
            format!("cannot make the folder of the socket {shown}: {error}; make it or give another path with {flag}")
        })?;
    }
    match UnixListener::bind(path) {
        Ok(listener) => return Ok(listener),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
        Err(error) => {
            return Err(format!("cannot listen on {shown}: {error}; give another path with {flag}"));
        }
    }
    if UnixStream::connect(path).is_ok() {
        return Err(format!(
            "another data plane is listening on {shown}; stop it (`ringway ctl shutdown`) or give another path with {flag}"
        ));
    }
    // What a killed process left behind.
    std::fs::remove_file(path).and_then(|()| UnixListener::bind(path)).map_err(|error| {
        format!(
            "cannot take over the stale socket {shown}: {error}; remove it or give another path with {flag}"
        )
    })
}

/// Whether the peer may command this process: the same user, or root.
pub(crate) fn is_trusted(stream: &UnixStream) -> bool {
    match sys::peer_uid(stream) {
        Ok(uid) if uid == sys::own_uid() || uid == 0 => true,
        Ok(uid) => {
            tracing::warn!(uid, "refused a connection of another user to a local socket");
            false
        }
        Err(error) => {
            tracing::warn!("cannot tell who connects to a local socket: {error}");
            false
        }
    }
}

/// Takes control planes' connections, each on a thread of its own, until the process ends.
pub(crate) fn listen(listener: &UnixListener, state: &Arc<State>, events: &Sender<Event>) {
    let open = Arc::new(AtomicUsize::new(0));
    while door::wait(listener, || state.life.feed_door()) {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => {
                tracing::error!("cannot accept a control plane: {error}");
                std::thread::sleep(std::time::Duration::from_millis(100)); // Most likely no descriptors: do not spin.
                continue;
            }
        };
        if !is_trusted(&stream) {
            continue;
        }
        if open.fetch_add(1, Relaxed) >= CONNECTIONS_MAX {
            open.fetch_sub(1, Relaxed);
            tracing::warn!("refused a control plane: {CONNECTIONS_MAX} are connected");
            continue;
        }
        let (state, events, open_here) = (Arc::clone(state), events.clone(), Arc::clone(&open));
        let spawned = std::thread::Builder::new().name("feed-in".into()).spawn(move || {
            match serve(stream, &state, &events) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    tracing::info!("a control plane disconnected");
                }
                Err(error) => tracing::warn!("the connection of a control plane ended: {error}"),
            }
            open_here.fetch_sub(1, Relaxed);
        });
        if let Err(error) = spawned {
            open.fetch_sub(1, Relaxed);
            tracing::error!("cannot start a thread for a control plane: {error}");
        }
    }
}
