//! One control plane's connection: frames in, frames out.
//!
//! Reading, checking and decoding happen on this connection's thread, so that the feed thread only ever waits for whole
//! snapshots. Silence for [`SILENCE_MAX`] ends the connection: a control plane pings every second.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use ringway_snapshot::frame::{self, FrameKind, HEADER_BYTES, Header};
use ringway_snapshot::message::{Peer, ToControlplane, ToDataplane};
use ringway_snapshot::{Fault, Snapshot, Version};

use crate::drain::Door;
use crate::state::State;

const SILENCE_MAX: Duration = Duration::from_secs(10);
const SEND_MAX: Duration = Duration::from_secs(5);

/// What the feed thread is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// A control plane offers a configuration.
    Offer(Box<Offer>),
    /// A control plane could not accept what its source has.
    SourceRefused { version: Version, faults: Vec<Fault> },
    /// Save, take nothing more for the time being, and tell what is served.
    Freeze(Sender<Frozen>),
    /// Take configurations again.
    Thaw,
    /// Save and end; dropping the sender tells that it is done.
    Stop(Sender<()>),
}

/// What is served while nothing new is taken.
#[derive(Debug)]
pub(crate) struct Frozen {
    pub(crate) version: Option<Version>,
    /// The configuration as it would stand on disk, where it could not be written.
    pub(crate) unsaved: Option<Vec<u8>>,
}

/// A configuration with the times of its arrival.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) snapshot: Snapshot,
    pub(crate) started: Instant,
    pub(crate) received: Instant,
    pub(crate) decoded: Instant,
    pub(crate) reply: Reply,
}

/// Where the answer goes.
#[derive(Debug, Clone)]
pub(crate) struct Reply(Arc<Mutex<UnixStream>>);

impl Reply {
    /// Sends one message. A control plane that is gone offers again when it is back, so errors are its matter.
    pub(crate) fn send(&self, message: &ToControlplane) {
        let sent = frame::encode(FrameKind::ToControlplane, message)
            .map_err(io::Error::other)
            .and_then(|bytes| self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(&bytes));
        if let Err(error) = sent {
            tracing::debug!("a control plane is gone before its answer: {error}");
        }
    }
}

/// Serves one control plane until it goes or misbehaves.
pub(crate) fn serve(stream: UnixStream, state: &State, events: &Sender<Event>) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SEND_MAX))?;
    let reply = Reply(Arc::new(Mutex::new(stream.try_clone()?)));
    let (served, adopted) = {
        let feed = state.feed();
        (feed.view.as_ref().map(|view| view.version), feed.adopted)
    };
    reply.send(&ToControlplane::Hello(Peer::this(state.node.clone()), served));
    let mut stream = stream;
    let mut payload = Vec::new();
    loop {
        let (header, started) = read_header(&mut stream)?;
        read_payload(&mut stream, header.payload_bytes, &mut payload)?;
        let received = Instant::now();
        let message = header.open(FrameKind::ToDataplane, &payload).map_err(io::Error::other)?;
        let adopts = {
            let mut feed = state.feed();
            feed.heard_at = Some(received);
            feed.adopted.is_some() && feed.adopted != adopted
        };
        if state.life.feed_door() != Door::Open {
            // Another process takes configurations, or will in a moment.
            return Ok(());
        }
        if adopts {
            // A control plane offers what was refused again when it connects again.
            return Ok(());
        }
        let event = match message {
            ToDataplane::Hello(peer) => {
                tracing::info!(node = peer.node, build = peer.build, "a control plane connected");
                continue;
            }
            ToDataplane::Ping => {
                reply.send(&ToControlplane::Pong);
                continue;
            }
            ToDataplane::Full(snapshot) => {
                let (decoded, reply) = (Instant::now(), reply.clone());
                Event::Offer(Box::new(Offer { snapshot, started, received, decoded, reply }))
            }
            ToDataplane::SourceRefused { version, faults } => Event::SourceRefused { version, faults },
        };
        if payload.capacity() > KEPT_BYTES_MAX {
            payload = Vec::new();
        }
        if events.send(event).is_err() {
            return Ok(());
        }
    }
}

/// A larger payload buffer is freed after use.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// A payload is read in steps of so many bytes, so that a false length does not reserve memory that never fills.
const STEP_BYTES: u64 = 16 << 20;

fn read_header(stream: &mut UnixStream) -> io::Result<(Header, Instant)> {
    let mut bytes = [0; HEADER_BYTES];
    let (first, rest) = bytes.split_at_mut(1);
    stream.read_exact(first)?;
    let started = Instant::now();
    stream.read_exact(rest)?;
    Ok((Header::decode(&bytes).map_err(io::Error::other)?, started))
}

fn read_payload(stream: &mut UnixStream, bytes: usize, payload: &mut Vec<u8>) -> io::Result<()> {
    payload.clear();
    while payload.len() < bytes {
        let left = u64::try_from(bytes - payload.len()).unwrap_or(u64::MAX);
        if stream.take(left.min(STEP_BYTES)).read_to_end(payload)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}
