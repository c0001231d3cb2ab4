//! A TCP port in front of a cluster's Unix socket that can be cut: it stays open, and nothing passes any more, as behind a network
//! that drops packets. Whoever asks hears nothing, neither an answer nor an end.
#![allow(dead_code, unreachable_pub, reason = "each test crate includes this file and uses a part of it")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(5);

/// See the module.
pub struct Wire {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    cut: AtomicBool,
    ended: AtomicBool,
    connections: AtomicUsize,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.state.ended.store(true, SeqCst);
    }
}

impl Wire {
    /// To the server behind that socket.
    pub fn to(socket: &Path) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let state = Arc::new(State::default());
        let (shared, socket) = (Arc::clone(&state), socket.to_owned());
        std::thread::spawn(move || accept(&listener, &shared, &socket));
        Wire { port, state }
    }

    /// Where to connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing passes, on old connections and on new ones.
    pub fn cut(&self) {
        self.state.cut.store(true, SeqCst);
    }

    /// It passes again what comes, and what was held back.
    pub fn mend(&self) {
        self.state.cut.store(false, SeqCst);
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.state.connections.load(SeqCst)
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>, socket: &Path) {
    listener.set_nonblocking(true).expect("nonblocking");
    while !state.ended.load(SeqCst) {
        let Ok((stream, _)) = listener.accept() else {
            std::thread::sleep(PAUSE);
            continue;
        };
        state.connections.fetch_add(1, SeqCst);
        stream.set_nonblocking(false).expect("blocking");
        let (state, socket) = (Arc::clone(state), socket.to_owned());
        std::thread::spawn(move || {
            hold(&state);
            // A server that is gone is a closed connection.
            let Ok(server) = UnixStream::connect(socket) else { return };
            let (from, to) = (server.try_clone().expect("clone"), stream.try_clone().expect("clone"));
            let shared = Arc::clone(&state);
            std::thread::spawn(move || {
                pass(&from, &to, &shared);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
            pass(&stream, &server, &state);
            let _ = server.shutdown(std::net::Shutdown::Both);
        });
    }
}

fn hold(state: &State) {
    while state.cut.load(SeqCst) && !state.ended.load(SeqCst) {
        std::thread::sleep(PAUSE);
    }
}

fn pass(mut from: impl Read, mut to: impl Write, state: &State) {
    let mut buffer = [0; 16 << 10];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        hold(state);
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
    }
    // What is cut does not even tell of an end.
    hold(state);
}
