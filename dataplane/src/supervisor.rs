//! What systemd is told and gives: ready, alive, which process is the main one, and sockets that outlive a process
//! (sd_notify(3), sd_listen_fds(3)). Without systemd all of this does nothing.
//!
//! Invariant: only the process that serves says that it is alive; a predecessor on its way out says nothing more.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use sd_notify::NotifyState;

use crate::handoff::{Kind, Sockets};
use crate::sys;

/// This process serves from now on and is the main one.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready, NotifyState::MainPid(std::process::id()), NotifyState::Status("serving")]);
}

/// This process ends, and no other one takes its place.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// Every core turns.
pub(crate) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often it wants to hear that, if at all: a third of the time after which it would act. The variable WATCHDOG_PID is of no
/// interest: it names the first of a line of processes.
pub(crate) fn alive_every() -> Option<Duration> {
    let within_us: u64 = std::env::var("WATCHDOG_USEC").ok()?.parse().ok().filter(|us| *us > 0)?;
    Some(Duration::from_micros(within_us / 3))
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(false, states) {
        tracing::debug!("cannot tell the supervisor: {error}");
    }
}

/// Gives every socket to the supervisor to keep over restarts (FDSTORE=1). It drops those that it has already.
pub(crate) fn keep(sockets: &Sockets) {
    for (kind, socket) in sockets.list() {
        let name = name(kind);
        if let Err(error) = tell_with(&format!("FDSTORE=1\nFDNAME={name}\n"), socket) {
            tracing::warn!("the supervisor does not keep a socket: {error}");
        }
    }
}

/// As [`tell`], with a descriptor beside it.
fn tell_with(text: &str, socket: BorrowedFd<'_>) -> io::Result<()> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let to = match name.as_encoded_bytes() {
        [b'@', hidden @ ..] => SocketAddr::from_abstract_name(hidden)?,
        _ => SocketAddr::from_pathname(&name)?,
    };
    let way = UnixDatagram::unbound()?;
    way.connect_addr(&to)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let sockets = [socket];
    if !beside.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(&way, &[IoSlice::new(text.as_bytes())], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The sockets that the supervisor kept, or made for this process.
pub(crate) fn sockets(addresses: &Addresses<'_>) -> Sockets {
    let mut sockets = Sockets::default();
    let number = |name: &str| -> Option<i32> { std::env::var(name).ok()?.parse().ok() };
    if number("LISTEN_PID") != i32::try_from(std::process::id()).ok() {
        return sockets;
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    for socket in sys::take_inherited(number("LISTEN_FDS").unwrap_or(0)) {
        match kind(names.next().unwrap_or_default(), &socket, addresses) {
            Some(kind) => sockets.take(kind, socket),
            None => tracing::warn!("a socket of the supervisor has no address of this process: closing it"),
        }
    }
    sockets
}

/// The addresses that this process is to listen on.
#[derive(Debug)]
pub(crate) struct Addresses<'a> {
    pub(crate) http: &'a [std::net::SocketAddr],
    pub(crate) status: std::net::SocketAddr,
    pub(crate) feed: &'a std::path::Path,
    pub(crate) admin: &'a std::path::Path,
}

fn name(kind: Kind) -> String {
    match kind {
        Kind::Http(flag) => format!("http-{flag}"),
        Kind::Status => "status".to_owned(),
        Kind::Feed => "feed".to_owned(),
        Kind::Admin => "admin".to_owned(),
    }
}

/// By its address: flags may have changed since the socket was made. By its name only where the port was left to the kernel.
fn kind(name: &str, socket: &OwnedFd, addresses: &Addresses<'_>) -> Option<Kind> {
    debug_assert!(socket.as_raw_fd() >= sys::INHERITED_FD, "the standard ones are no sockets of ours");
    let socket = socket2::SockRef::from(socket);
    if !socket.is_listener().unwrap_or(false) {
        return None;
    }
    let address = socket.local_addr().ok()?;
    if let Some(path) = address.as_pathname() {
        return [(addresses.feed, Kind::Feed), (addresses.admin, Kind::Admin)]
            .into_iter()
            // Somebody may have removed the path; then nobody could connect to this socket.
            .find(|(wanted, _)| *wanted == path && path.exists())
            .map(|(_, kind)| kind);
    }
    let address = address.as_socket()?;
    if addresses.status == address {
        return Some(Kind::Status);
    }
    if let Some(flag) = addresses.http.iter().position(|wanted| *wanted == address) {
        return Some(Kind::Http(flag));
    }
    let same = |wanted: std::net::SocketAddr| wanted.port() == 0 && wanted.ip() == address.ip();
    let flag = name.strip_prefix("http-").and_then(|flag| flag.parse::<usize>().ok());
    match flag {
        Some(flag) if addresses.http.get(flag).copied().is_some_and(same) => Some(Kind::Http(flag)),
        None if name == "status" && same(addresses.status) => Some(Kind::Status),
        _ => None,
    }
}
