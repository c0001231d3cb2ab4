//! Looks names up, by the system's own resolver, on threads of their own: a look-up may take as long as it likes and holds nobody up but
//! the names behind it. What is found goes straight to the ward, where a version may be waiting for it.

use std::io;
use std::net::{IpAddr, ToSocketAddrs};
use std::sync::Arc;

use crossbeam::channel::Sender;

use crate::state::State;

/// Look-ups at once.
const THREADS: usize = 4;

/// Starts the threads, which end only with the process. Gives where to ask.
pub(super) fn start(state: &Arc<State>) -> io::Result<Sender<Box<str>>> {
    // Not bounded: a name is asked for again only when it has been answered.
    let (questions, asked) = crossbeam::channel::unbounded::<Box<str>>();
    for _ in 0..THREADS {
        let (asked, state) = (asked.clone(), Arc::clone(state));
        std::thread::Builder::new().name("names".into()).spawn(move || {
            for name in asked {
                let addresses = look_up(&name);
                state.ward.answer(&name, addresses, state.uptime_ms());
            }
        })?;
    }
    Ok(questions)
}

/// IPv4 addresses, or where there are none IPv6 addresses: a host without IPv6 gets both from its resolver.
fn look_up(name: &str) -> Option<Vec<IpAddr>> {
    let found = (name, 0).to_socket_addrs();
    let all: Vec<IpAddr> = match found {
        Ok(found) => found.map(|address| address.ip()).collect(),
        Err(error) => {
            tracing::debug!(name, "cannot be looked up: {error}");
            return None;
        }
    };
    let v4: Vec<IpAddr> = all.iter().filter(|address| address.is_ipv4()).copied().collect();
    Some(if v4.is_empty() { all } else { v4 })
}
