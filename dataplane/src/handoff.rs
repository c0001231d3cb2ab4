//! The handing over of the listening sockets from one process to the next, over a Unix socket that the next one inherits.
//!
//! The predecessor starts the successor, which says hello; it sends every listening socket (SCM_RIGHTS, unix(7)); the successor
//! loads the configuration from disk and is ready. The predecessor then stops taking configurations and tells what it
//! serves last; when the successor serves just that, it is told to go, and both take connections for a moment. From its `Serving` on
//! the predecessor takes nothing new. No configuration is taken before the predecessor is quiet, so that what clients see never
//! goes back.
//!
//! Invariants: until `Serving` the predecessor serves as before, and whatever goes wrong ends the successor and nothing else;
//! a program that does not say hello never gets a socket; a socket is closed or served, never only held.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use serde::{Deserialize, Serialize};

use crate::{bequest, sys};

/// Both sides must speak the same.
const PROTOCOL: u32 = 1;
/// Descriptors in one message (the kernel takes 253, unix(7)).
const DESCRIPTORS_MAX: usize = 64;
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Sockets in all: addresses times cores.
const SOCKETS_MAX: usize = 16 * 1024;
/// How often the other conditions of a wait are looked at.
const STEP: Duration = Duration::from_millis(20);
/// Tells the successor that it is one, and which protocol its predecessor speaks.
const VARIABLE: &str = "RINGWAY_HANDOFF";

/// What the two say to each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Message {
    /// Successor: it is a data plane.
    Hello {
        protocol: u32,
        build: String,
        /// Up to which number it understands what is known of nodes; a release that does not say so understands none.
        #[serde(default)]
        bequest: u32,
    },
    /// Predecessor: so many sockets follow.
    Offer { sockets: usize, tie: Tie, kept: bool },
    /// Predecessor: what the descriptors beside this message are, in order.
    Sockets(Vec<Kind>),
    /// Successor: every core runs, and serves this version.
    Ready { version: Option<String> },
    /// Predecessor: what it serves last; with a descriptor when that is not on disk.
    Last { version: Option<String> },
    /// Predecessor: what it knows of nodes (`bequest.rs`), by this number, in the descriptor beside it. Only to who understands it.
    Bequest { schema: u32 },
    /// Predecessor: take connections.
    Go,
    /// Successor: every core takes connections.
    Serving,
    /// Successor: it cannot, and why.
    Failed(String),
    /// Predecessor: no request begins there any more.
    Quiet,
}

/// What a listening socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// For clients: of which `--listen`.
    Http(usize),
    Status,
    Feed,
    Admin,
}

/// The listening sockets of a whole data plane.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pub(crate) http: Vec<(usize, TcpListener)>,
    pub(crate) status: Option<TcpListener>,
    pub(crate) feed: Option<UnixListener>,
    pub(crate) admin: Option<UnixListener>,
}

impl Sockets {
    pub(crate) fn take(&mut self, kind: Kind, socket: OwnedFd) {
        match kind {
            Kind::Http(flag) => self.http.push((flag, socket.into())),
            Kind::Status => self.status = Some(socket.into()),
            Kind::Feed => self.feed = Some(socket.into()),
            Kind::Admin => self.admin = Some(socket.into()),
        }
    }

    /// All of them with what they are for.
    pub(crate) fn list(&self) -> Vec<(Kind, BorrowedFd<'_>)> {
        let mut list: Vec<_> =
            self.http.iter().map(|(flag, socket)| (Kind::Http(*flag), socket.as_fd())).collect();
        list.extend(self.status.iter().map(|socket| (Kind::Status, socket.as_fd())));
        list.extend(self.feed.iter().map(|socket| (Kind::Feed, socket.as_fd())));
        list.extend(self.admin.iter().map(|socket| (Kind::Admin, socket.as_fd())));
        list
    }
}

/// How a process is bound to its parent's life (PR_SET_PDEATHSIG, prctl(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tie {
    signal: Option<i32>,
    parent: i32,
}

impl Tie {
    /// That of the calling thread, as the kernel has it: the main one's is meant.
    pub(crate) fn present() -> Tie {
        let signal = rustix::process::parent_process_death_signal().ok().flatten();
        Tie { signal: signal.map(Signal::as_raw), parent: parent() }
    }

    /// Binds this process as its predecessor was, once that has ended and its parent is this one's: the calling thread must
    /// live as long as the process.
    pub(crate) fn bind(self) {
        let Some(signal) = self.signal.and_then(Signal::from_named_raw) else { return };
        // The predecessor's end is seen a moment before the kernel gives this process another parent.
        let deadline = Instant::now() + Duration::from_secs(2);
        while parent() != self.parent && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let asked = rustix::process::set_parent_process_death_signal(Some(signal));
        if parent() != self.parent || asked.is_err() {
            tracing::warn!("who started the predecessor is gone: ending too");
            sys::raise_signal(libc::SIGTERM);
        }
    }
}

fn parent() -> i32 {
    rustix::process::getppid().map_or(0, Pid::as_raw_pid)
}

/// One end of the conversation.
#[derive(Debug)]
pub(crate) struct Link(OwnedFd);

impl Link {
    fn pair() -> io::Result<(Link, OwnedFd)> {
        let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Link(near), far))
    }

    /// Sends one message with descriptors beside it. Never waits: the other end may hang.
    pub(crate) fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut beside, flags)?;
        Ok(())
    }

    /// The next message. `stop` is asked now and then for a reason to wait no longer.
    pub(crate) fn receive(
        &self,
        mut stop: impl FnMut() -> Option<String>,
    ) -> Result<(Message, Vec<OwnedFd>), String> {
        let step = Timespec::try_from(STEP).map_err(|error| error.to_string())?;
        loop {
            let mut waiting = [PollFd::new(&self.0, PollFlags::IN)];
            if matches!(poll(&mut waiting, Some(&step)), Ok(1..)) {
                return self.take().map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => CLOSED.to_owned(),
                    _ => format!("what it says cannot be understood: {error}"),
                });
            }
            if let Some(reason) = stop() {
                return Err(reason);
            }
        }
    }

    fn take(&self) -> io::Result<(Message, Vec<OwnedFd>)> {
        let mut bytes = vec![0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(&self.0, &mut [IoSliceMut::new(&mut bytes)], &mut beside, RecvFlags::CMSG_CLOEXEC)?;
        let mut descriptors = Vec::new();
        for message in beside.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                descriptors.extend(more);
            }
        }
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let message = serde_json::from_slice(bytes.get(..received.bytes).unwrap_or_default())?;
        Ok((message, descriptors))
    }
}

const CLOSED: &str = "it ended";

/// What the predecessor lends and does while it hands over.
pub(crate) trait Estate {
    /// The listening sockets, all of them.
    fn sockets(&self) -> io::Result<Sockets>;
    /// Takes no configuration any more; gives the last one's version, and its bytes where they are not on disk.
    fn freeze(&self) -> Result<(Option<String>, Option<Vec<u8>>), String>;
    /// What is known of nodes.
    fn bequest(&self) -> io::Result<Vec<u8>>;
    /// Takes configurations again.
    fn thaw(&self);
    /// A reason to give up.
    fn stop(&self) -> Option<String>;
    /// The signal that this process gets at its parent's death, and who that is.
    fn tie(&self) -> Tie;
    /// Whether a supervisor keeps the sockets.
    fn kept(&self) -> bool;
}

/// A process that serves from now on.
#[derive(Debug)]
pub(crate) struct Successor {
    pub(crate) pid: i32,
    pub(crate) version: Option<String>,
    link: Link,
}

impl Successor {
    /// Starts `program` with this process's flags and hands everything over to it, within `wait`. On an error it is gone, and all is as before.
    pub(crate) fn install(program: &Path, wait: Duration, estate: &impl Estate) -> Result<Successor, String> {
        let started = Instant::now();
        let (link, far) = Link::pair().map_err(|error| format!("cannot make a socket pair: {error}"))?;
        let pid = start(program, &far)?;
        // From here on only the successor holds that end, so that its death is seen.
        drop(far);
        tracing::info!(pid, program = %program.display(), "upgrade: starting a successor");
        let mut frozen = false;
        let stop = || {
            if let Some(reason) = estate.stop() {
                return Some(reason);
            }
            let late = started.elapsed() > wait;
            late.then(|| format!("it was not ready within {} s (--upgrade-timeout-s)", wait.as_secs()))
        };
        match converse(&link, estate, &stop, &mut frozen) {
            Ok(version) => Ok(Successor { pid, version, link }),
            Err(reason) => {
                let ended = end(pid);
                if frozen {
                    estate.thaw();
                }
                let how = if reason == CLOSED { ended } else { reason };
                Err(format!("{} (pid {pid}) {how}", program.display()))
            }
        }
    }

    /// Tells it that no request begins in this process any more.
    pub(crate) fn tell_quiet(&self) {
        // It does without after a while.
        let _ = self.link.send(&Message::Quiet, &[]);
    }

    /// Passes an end that was ordered meanwhile on to who serves now.
    pub(crate) fn end(&self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

fn converse(
    link: &Link,
    estate: &impl Estate,
    stop: &impl Fn() -> Option<String>,
    frozen: &mut bool,
) -> Result<Option<String>, String> {
    let hear = || match link.receive(stop)?.0 {
        Message::Failed(reason) => Err(format!("cannot take over: {reason}")),
        message => Ok(message),
    };
    let say = |message: &Message, descriptors: &[BorrowedFd<'_>]| {
        link.send(message, descriptors).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => CLOSED.to_owned(),
            _ => format!("does not listen: {error}"),
        })
    };
    let understood = match hear()? {
        Message::Hello { protocol: PROTOCOL, build, bequest } => {
            tracing::info!(build, "upgrade: the successor has started");
            bequest
        }
        Message::Hello { protocol, build, .. } => {
            return Err(format!(
                "(build {build}) takes over by protocol {protocol}, this process gives by {PROTOCOL}"
            ));
        }
        other => return Err(format!("says {other:?} instead of hello")),
    };
    let sockets = estate.sockets().map_err(|error| format!("cannot be given the sockets: {error}"))?;
    let list = sockets.list();
    say(&Message::Offer { sockets: list.len(), tie: estate.tie(), kept: estate.kept() }, &[])?;
    for some in list.chunks(DESCRIPTORS_MAX) {
        let (kinds, descriptors): (Vec<Kind>, Vec<BorrowedFd<'_>>) = some.iter().copied().unzip();
        say(&Message::Sockets(kinds), &descriptors)?;
    }
    drop(list);
    drop(sockets);
    match hear()? {
        Message::Ready { version } => tracing::info!(version, "upgrade: the successor is ready"),
        other => return Err(format!("says {other:?} instead of ready")),
    }
    *frozen = true;
    let (last, unsaved) = estate.freeze()?;
    let file = unsaved.map(|bytes| in_memory(&bytes)).transpose();
    let file = file.map_err(|error| format!("cannot be given the configuration: {error}"))?;
    say(&Message::Last { version: last.clone() }, &file.iter().map(AsFd::as_fd).collect::<Vec<_>>())?;
    match hear()? {
        Message::Ready { version } if version == last || last.is_none() => {}
        Message::Ready { version } => {
            let text = |version: Option<String>| version.unwrap_or_else(|| "none".to_owned());
            return Err(format!("serves version {} where this process serves {}", text(version), text(last)));
        }
        other => return Err(format!("says {other:?} instead of ready")),
    }
    if understood >= bequest::SCHEMA {
        // As late as can be, so that it is fresh. A successor does without, if it must.
        match estate.bequest().and_then(|bytes| in_memory(&bytes)) {
            Ok(file) => say(&Message::Bequest { schema: bequest::SCHEMA }, &[file.as_fd()])?,
            Err(error) => tracing::warn!("upgrade: what is known of nodes cannot be handed over: {error}"),
        }
    }
    say(&Message::Go, &[])?;
    match hear()? {
        Message::Serving => Ok(last),
        other => Err(format!("says {other:?} instead of serving")),
    }
}

fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("ringway-snapshot", rustix::fs::MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// Starts the program with the arguments and the environment of this process.
fn start(program: &Path, far: &OwnedFd) -> Result<i32, String> {
    let shown = program.display();
    let text = |text: OsString| CString::new(text.into_vec()).ok();
    let path = text(program.as_os_str().to_owned()).ok_or_else(|| format!("{shown}: not a path"))?;
    let arguments: Vec<CString> =
        [path.clone()].into_iter().chain(std::env::args_os().skip(1).filter_map(text)).collect();
    let environment: Vec<CString> = std::env::vars_os()
        .filter(|(name, _)| !OWN_VARIABLES.iter().any(|own| name == own))
        .chain([(VARIABLE.into(), PROTOCOL.to_string().into())])
        .filter_map(|(name, value)| {
            let mut pair = name;
            pair.push("=");
            pair.push(value);
            text(pair)
        })
        .collect();
    sys::spawn(&path, &arguments, &environment, far.as_fd())
        .map_err(|error| format!("cannot start {shown}: {error}"))
}

/// Said of one process, not of the next one.
const OWN_VARIABLES: [&str; 5] = [VARIABLE, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"];

/// Ends a successor that is none, and tells how it had ended by itself.
fn end(pid: i32) -> String {
    let Some(pid) = Pid::from_raw(pid) else { return CLOSED.to_owned() };
    let patience = Instant::now() + STEP * 10;
    let mut killed = false;
    loop {
        match waitpid(Some(pid), WaitOptions::NOHANG) {
            Ok(None) if !killed && Instant::now() > patience => {
                let _ = kill_process(pid, Signal::KILL);
                killed = true;
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(2)),
            Ok(Some((_, status))) if !killed => {
                return match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => {
                        format!("ended with exit code {code} before it was ready; the log says why")
                    }
                    (None, Some(signal)) => format!("was killed by signal {signal} before it was ready"),
                    (None, None) => CLOSED.to_owned(),
                };
            }
            Ok(Some(_)) | Err(_) => return "closed its end of the conversation".to_owned(),
        }
    }
}

/// The successor's side.
#[derive(Debug)]
pub(crate) struct Heir {
    link: Link,
    tie: Tie,
    /// A supervisor keeps the sockets: they are not this process's alone when it ends.
    pub(crate) kept: bool,
}

/// How long a predecessor may take for each of its steps. It has a limit of its own for the whole.
const PREDECESSOR_WAIT: Duration = Duration::from_secs(60);
/// How long configurations wait for the predecessor's last idle connections.
const QUIET_WAIT: Duration = Duration::from_secs(5);

impl Heir {
    /// Whether this process was started to take over, and what it takes over.
    pub(crate) fn from_environment() -> Result<Option<(Heir, Sockets)>, String> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let socket = sys::take_inherited(1).pop().ok_or_else(|| {
            format!("{VARIABLE} is set, but there is no socket to take over from: unset it to start afresh")
        })?;
        let mut heir = Heir { link: Link(socket), tie: Tie { signal: None, parent: 0 }, kept: false };
        let build = env!("CARGO_PKG_VERSION").to_owned();
        heir.say(&Message::Hello { protocol: PROTOCOL, build, bequest: bequest::SCHEMA })?;
        let (Message::Offer { sockets: count, tie, kept }, _) = heir.hear()? else {
            return Err("the predecessor offers nothing".to_owned());
        };
        (heir.tie, heir.kept) = (tie, kept);
        let (mut sockets, mut taken) = (Sockets::default(), 0);
        while taken < count.min(SOCKETS_MAX) {
            let (Message::Sockets(kinds), descriptors) = heir.hear()? else {
                return Err("the predecessor gives no sockets".to_owned());
            };
            if kinds.is_empty() || kinds.len() != descriptors.len() {
                return Err("not every socket arrived; is the limit of open files too low?".to_owned());
            }
            taken += kinds.len();
            for (kind, descriptor) in kinds.into_iter().zip(descriptors) {
                sockets.take(kind, descriptor);
            }
        }
        Ok(Some((heir, sockets)))
    }

    fn say(&self, message: &Message) -> Result<(), String> {
        self.link.send(message, &[]).map_err(|error| format!("the predecessor is gone: {error}"))
    }

    fn hear(&self) -> Result<(Message, Vec<OwnedFd>), String> {
        let deadline = Instant::now() + PREDECESSOR_WAIT;
        let stop = || (Instant::now() > deadline).then(|| "it is silent".to_owned());
        self.link.receive(stop).map_err(|reason| format!("the predecessor does not go on: {reason}"))
    }

    /// Tells that every core serves `version`.
    pub(crate) fn ready(&self, version: Option<String>) -> Result<(), String> {
        self.say(&Message::Ready { version })
    }

    /// What the predecessor serves last: the version, and the bytes where they are not on disk.
    pub(crate) fn last(&self) -> Result<(Option<String>, Option<Vec<u8>>), String> {
        let (Message::Last { version }, mut descriptors) = self.hear()? else {
            return Err("the predecessor does not tell its last version".to_owned());
        };
        let bytes = descriptors.pop().map(|descriptor| {
            let mut bytes = Vec::new();
            File::from(descriptor).read_to_end(&mut bytes).map(|_| bytes)
        });
        let bytes =
            bytes.transpose().map_err(|error| format!("cannot read the last configuration: {error}"))?;
        Ok((version, bytes))
    }

    /// Waits for the word to take connections; what the predecessor knew of nodes, if it told.
    pub(crate) fn wait_for_go(&self) -> Result<Option<Vec<u8>>, String> {
        let mut bequest = None;
        loop {
            match self.hear()? {
                (Message::Go, _) => return Ok(bequest),
                (Message::Bequest { schema: bequest::SCHEMA }, descriptors) => {
                    let mut bytes = Vec::new();
                    let read = descriptors.into_iter().map(|one| File::from(one).read_to_end(&mut bytes));
                    let is_whole = read.collect::<io::Result<Vec<_>>>().is_ok();
                    bequest = Some(bytes).filter(|_| is_whole);
                }
                (Message::Bequest { .. }, _) => {}
                (other, _) => return Err(format!("the predecessor says {other:?} instead of go")),
            }
        }
    }

    pub(crate) fn serving(&self) -> Result<(), String> {
        self.say(&Message::Serving)
    }

    /// Tells why it cannot take over.
    pub(crate) fn failed(&self, reason: &str) {
        // Nobody may be there to hear it.
        let _ = self.link.send(&Message::Failed(reason.to_owned()), &[]);
    }

    /// Returns when no request begins in the predecessor any more, or it is gone, or that has lasted too long.
    pub(crate) fn wait_for_quiet(&self) {
        let deadline = Instant::now() + QUIET_WAIT;
        let _ = self.link.receive(|| (Instant::now() > deadline).then(String::new));
    }

    /// Returns when the predecessor has ended; how it was bound to its parent.
    pub(crate) fn wait_for_end(&self) -> Tie {
        while self.link.receive(|| None).is_ok() {}
        self.tie
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_sockets_than_fit_one_message_arrive_with_what_they_are() {
        let (near, far) = Link::pair().unwrap();
        let far = Link(far);
        let listeners: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        for listener in &listeners {
            near.send(&Message::Sockets(vec![Kind::Http(7)]), &[listener.as_fd()]).unwrap();
        }
        let mut sockets = Sockets::default();
        for _ in &listeners {
            let (message, descriptors) = far.receive(|| None).unwrap();
            assert_eq!(message, Message::Sockets(vec![Kind::Http(7)]));
            for descriptor in descriptors {
                sockets.take(Kind::Http(7), descriptor);
            }
        }
        let addresses = |listener: &TcpListener| listener.local_addr().unwrap();
        assert_eq!(
            sockets.http.iter().map(|(_, socket)| addresses(socket)).collect::<Vec<_>>(),
            listeners.iter().map(addresses).collect::<Vec<_>>()
        );
        drop(near);
        assert_eq!(far.receive(|| None).unwrap_err(), CLOSED);
    }

    #[test]
    fn releases_that_know_nothing_of_bequests_are_understood_and_understand() {
        let old = br#"{"hello": {"protocol": 1, "build": "0.0.9"}}"#;
        let hello: Message = serde_json::from_slice(old).unwrap();
        assert_eq!(hello, Message::Hello { protocol: 1, build: "0.0.9".into(), bequest: 0 });
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Old {
            Hello { protocol: u32, build: String },
        }
        let now = Message::Hello { protocol: PROTOCOL, build: "x".into(), bequest: 7 };
        let Old::Hello { protocol, build } =
            serde_json::from_slice(&serde_json::to_vec(&now).unwrap()).unwrap();
        assert_eq!((protocol, &*build), (PROTOCOL, "x"));
    }

    #[test]
    fn a_silent_other_end_is_given_up_and_a_full_one_blocks_nobody() {
        let (near, _far) = Link::pair().unwrap();
        assert_eq!(near.receive(|| Some("enough".to_owned())).unwrap_err(), "enough");
        let full = (0..100_000).find_map(|_| near.send(&Message::Go, &[]).err());
        assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
    }
}
