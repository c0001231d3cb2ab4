//! One control plane's connection: frames in, frames out.
//!
//! Reading, checking and decoding happen on this connection's thread, so that the feed thread only ever waits for whole
//! configurations and deltas. Silence for [`SILENCE_MAX`] ends the connection: a control plane pings every second.
//!
//! The first `Hello` goes out in the lowest schema number, and once the peer's is here everything in the highest that both know. What another
//! control plane brought is told with the answer to the next ping, so that a peer that does not read keeps nobody else waiting.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam::channel::Sender;
use ringway_snapshot::frame::{self, FrameKind, HEADER_BYTES, Header, SCHEMA_DELTA, SCHEMA_MIN};
use ringway_snapshot::message::{Peer, ToControlplane, ToDataplane};
use ringway_snapshot::{Delta, Fault, Snapshot, Version};

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
    pub(crate) content: Content,
    pub(crate) started: Instant,
    pub(crate) received: Instant,
    pub(crate) decoded: Instant,
    pub(crate) reply: Reply,
}

/// What is offered.
#[derive(Debug)]
pub(crate) enum Content {
    /// All of it.
    Full(Snapshot),
    /// What it has otherwise than what is served.
    Delta(Delta),
}

impl Content {
    pub(crate) fn version(&self) -> Version {
        match self {
            Content::Full(snapshot) => snapshot.version,
            Content::Delta(delta) => delta.version,
        }
    }
}

/// Where the answer goes.
#[derive(Debug, Clone)]
pub(crate) struct Reply(Arc<Line>);

#[derive(Debug)]
struct Line {
    stream: Mutex<UnixStream>,
    schema: AtomicU16,
}

impl Reply {
    pub(super) fn new(stream: UnixStream) -> Reply {
        Reply(Arc::new(Line { stream: Mutex::new(stream), schema: AtomicU16::new(SCHEMA_MIN) }))
    }

    /// Sends one message. A control plane that is gone offers again when it is back, so errors are its matter.
    pub(crate) fn send(&self, message: &ToControlplane) {
        let sent = frame::encode_as(self.schema(), FrameKind::ToControlplane, message)
            .map_err(io::Error::other)
            .and_then(|bytes| self.0.stream.lock().unwrap_or_else(PoisonError::into_inner).write_all(&bytes));
        if let Err(error) = sent {
            tracing::debug!("a control plane is gone before its answer: {error}");
        }
    }

    fn schema(&self) -> u16 {
        self.0.schema.load(Relaxed)
    }

    /// Speaks as both sides can from now on.
    fn agree(&self, peer: &Peer) -> io::Result<()> {
        let Peer { schema_min, schema_max, .. } = *peer;
        let schema = frame::common_schema(schema_min, schema_max).ok_or_else(|| {
            let own = format!("{SCHEMA_MIN} to {}", frame::SCHEMA);
            io::Error::other(format!(
                "the control plane speaks schemas {schema_min} to {schema_max}, this data plane {own}; update the older of the two"
            ))
        })?;
        self.0.schema.store(schema, Relaxed);
        Ok(())
    }
}

/// Serves one control plane until it goes or misbehaves.
pub(crate) fn serve(stream: UnixStream, state: &State, events: &Sender<Event>) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SEND_MAX))?;
    let reply = Reply::new(stream.try_clone()?);
    let (served, adopted) = {
        let feed = state.feed();
        (feed.view.as_ref().map(|view| view.version), feed.adopted)
    };
    reply.send(&ToControlplane::Hello(Peer::this(state.node.clone()), served));
    let mut told = served;
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
        let decoded = Instant::now();
        let content = match message {
            ToDataplane::Hello(peer) => {
                reply.agree(&peer)?;
                let Peer { node, build, .. } = peer;
                tracing::info!(node, build, schema = reply.schema(), "a control plane connected");
                continue;
            }
            ToDataplane::Ping => {
                reply.send(&ToControlplane::Pong);
                tell_what_is_served(state, &reply, &mut told);
                continue;
            }
            ToDataplane::SourceRefused { version, faults } => {
                if events.send(Event::SourceRefused { version, faults }).is_err() {
                    return Ok(());
                }
                continue;
            }
            ToDataplane::Full(snapshot) => Content::Full(snapshot),
            ToDataplane::Delta(_) if header.schema < SCHEMA_DELTA => {
                return Err(io::Error::other(format!("schema {} has no deltas", header.schema)));
            }
            ToDataplane::Delta(delta) => Content::Delta(delta),
        };
        // It is answered with what is then served.
        told = Some(content.version());
        let event =
            Event::Offer(Box::new(Offer { content, started, received, decoded, reply: reply.clone() }));
        if payload.capacity() > KEPT_BYTES_MAX {
            payload = Vec::new();
        }
        if events.send(event).is_err() {
            return Ok(());
        }
    }
}

/// Tells what another control plane has brought since the last time, to a peer that knows the message.
fn tell_what_is_served(state: &State, reply: &Reply, told: &mut Option<Version>) {
    let served = state.feed().view.as_ref().map(|view| view.version);
    if let Some(version) = served.filter(|_| *told != served && reply.schema() >= SCHEMA_DELTA) {
        reply.send(&ToControlplane::Serves(version));
        *told = served;
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

/// One answer as a control plane hears it.
#[cfg(test)]
pub(super) fn read_answer(stream: &mut UnixStream) -> ToControlplane {
    stream.set_read_timeout(Some(SILENCE_MAX)).unwrap();
    let (header, _) = read_header(stream).unwrap();
    let mut payload = Vec::new();
    read_payload(stream, header.payload_bytes, &mut payload).unwrap();
    header.open(FrameKind::ToControlplane, &payload).unwrap()
}
