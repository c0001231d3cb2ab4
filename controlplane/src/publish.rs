//! Offers the newest configuration to the data plane and hears what became of it.
//!
//! One [`Offer`] stands at a time and the newest replaces it: nothing queues. A configuration is encoded once, whatever the number of
//! reconnects. While the data plane works on one, the next waits for its answer; what was refused is not offered again on
//! the same connection, but for a refusal that an operator can lift there (`adopt`), which is tried now and then.
//!
//! Invariants: the two `Hello`s come first; a ping goes out each second; silence of ten seconds ends the connection.

use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ringway_snapshot::frame::{FrameError, FrameKind, encode};
use ringway_snapshot::message::{Ack, Nack, Peer, Reason, ToControlplane, ToDataplane};
use ringway_snapshot::version::Refusal as VersionRefusal;
use ringway_snapshot::{Fault, Snapshot, Version};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::backoff::Backoff;
use crate::board::{Board, Refusal};
use crate::complaint::Complaint;
use crate::source::Times;

use self::wire::{Incoming, send};

mod wire;

/// How often the data plane is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(1);
/// Silence after which a connection is given up.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// The same while the data plane builds its table, which may keep it from answering. Were it given up then, it would be sent
/// the same again, for ever.
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// For the connection to be made and its Hello to come.
const HELLO_MAX: Duration = Duration::from_secs(5);
/// How often a version is offered again that an operator may since have allowed.
const OFFER_AGAIN_AFTER: Duration = Duration::from_secs(10);
const RETRY_MS_FIRST: u64 = 20;
/// The socket is on this host: a refused connection costs nothing, and a started data plane should not wait.
const RETRY_MS_MAX: u64 = 500;

/// What stands to be sent.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// The newest valid configuration.
    pub full: Option<Arc<Encoded>>,
    /// What the source has above it and this program refused.
    pub refused: Option<Arc<EncodedRefusal>>,
}

/// A configuration as it will travel.
#[derive(Debug)]
pub struct Encoded {
    /// Which.
    pub version: Version,
    /// How many objects.
    pub objects: usize,
    /// Whether its source takes a higher number when the data plane already has this one or a higher.
    pub renumbers: bool,
    frame: Vec<u8>,
    times: Times,
    encoded: std::time::Instant,
}

/// A refusal as it will travel.
#[derive(Debug)]
pub struct EncodedRefusal {
    version: Version,
    frame: Vec<u8>,
}

impl Encoded {
    /// Encodes a configuration; as large as it is, not on a thread that has other things to do.
    pub fn new(snapshot: Snapshot, renumbers: bool, times: Times) -> Result<Encoded, FrameError> {
        let (version, objects) = (snapshot.version, snapshot.entries.len());
        let frame = encode(FrameKind::ToDataplane, &ToDataplane::Full(snapshot))?;
        Ok(Encoded { version, objects, renumbers, frame, times, encoded: std::time::Instant::now() })
    }
}

impl EncodedRefusal {
    /// Encodes a refusal.
    pub fn new(refusal: &Refusal) -> Result<EncodedRefusal, FrameError> {
        let (version, faults) = (refusal.version, refusal.faults.clone());
        let frame = encode(FrameKind::ToDataplane, &ToDataplane::SourceRefused { version, faults })?;
        Ok(EncodedRefusal { version, frame })
    }
}

/// See the module.
#[derive(Debug)]
pub struct Publisher {
    socket: PathBuf,
    node: String,
    board: Arc<Board>,
    offer: watch::Receiver<Offer>,
    complaint: Complaint,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("cannot connect to {0}: {1}; is the data plane running?")]
    Connect(String, std::io::Error),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("silent for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("{0}")]
    Protocol(&'static str),
    #[error("the data plane reads schemas {0} to {1}, this program writes {own}", own = ringway_snapshot::frame::SCHEMA)]
    Schema(u16, u16),
}

/// One connection's state.
#[derive(Default)]
struct Link {
    served: Option<Version>,
    in_flight: Option<(Arc<Encoded>, std::time::Instant)>,
    refused: Option<(Version, Option<Instant>)>,
    told_refusal: Option<Version>,
    settled: bool,
}

impl Link {
    /// Whether the data plane is to be sent this.
    fn wants(&self, full: &Encoded) -> bool {
        let known = self.served == Some(full.version);
        let refused = self.refused.is_some_and(|(version, again_at)| {
            version == full.version && again_at.is_none_or(|at| Instant::now() < at)
        });
        // The file source has seen on the board what is served and is about to give this content a number above it.
        let outnumbered = full.renumbers
            && self.served.is_some_and(|served| {
                served.lineage == full.version.lineage && served.order() >= full.version.order()
            });
        !known && !refused && !outnumbered
    }
}

impl Publisher {
    /// Connects to nothing yet.
    pub fn new(socket: PathBuf, node: String, board: Arc<Board>, offer: watch::Receiver<Offer>) -> Publisher {
        Publisher { socket, node, board, offer, complaint: Complaint::default() }
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(RETRY_MS_FIRST, RETRY_MS_MAX);
        loop {
            let started = Instant::now();
            let Err(lost) = self.connection().await;
            let text = lost.to_string();
            self.board.dataplane_lost(text.clone());
            if let Some(line) = self.complaint.about(&text, std::time::Instant::now()) {
                tracing::warn!("data plane: {line}");
            }
            if started.elapsed() > SILENCE_MAX {
                backoff.reset();
            }
            sleep(backoff.wait()).await;
        }
    }

    async fn connection(&mut self) -> Result<std::convert::Infallible, Lost> {
        let name = self.socket.display().to_string();
        let connected = timeout(HELLO_MAX, UnixStream::connect(&self.socket)).await;
        let stream = connected
            .map_err(|_| Lost::Silent(HELLO_MAX))?
            .map_err(|error| Lost::Connect(name.clone(), error))?;
        let (read, mut write) = stream.into_split();
        let mut incoming = Incoming::start(read);
        let hello = encode(FrameKind::ToDataplane, &ToDataplane::Hello(Peer::this(self.node.clone())))?;
        send(&mut write, &hello).await?;
        let first = timeout(HELLO_MAX, incoming.next()).await.map_err(|_| Lost::Silent(HELLO_MAX))?;
        let ToControlplane::Hello(peer, served) = first? else {
            return Err(Lost::Protocol("the data plane's first message is not a Hello"));
        };
        let own = ringway_snapshot::frame::SCHEMA;
        if !(peer.schema_min..=peer.schema_max).contains(&own) {
            return Err(Lost::Schema(peer.schema_min, peer.schema_max));
        }
        let serves = served.map_or_else(|| "nothing yet".to_owned(), |version| version.to_string());
        let hail = format!("node {} of build {} serves {serves}", peer.node, peer.build);
        self.board.dataplane_hello(peer, served);
        let mut link = Link { served, ..Link::default() };
        let ping = encode(FrameKind::ToDataplane, &ToDataplane::Ping)?;
        let mut pings = interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            while let Some(frame) = self.due(&mut link) {
                send(&mut write, frame.bytes()).await?;
            }
            tokio::select! {
                message = incoming.next() => {
                    heard = Instant::now();
                    self.hear(&mut link, message?)?;
                    // Only now: one that says Hello and goes would otherwise be told as found and lost for ever.
                    if !mem::replace(&mut link.settled, true) {
                        self.complaint.over(std::time::Instant::now());
                        tracing::info!("connected to the data plane: {hail}");
                    }
                }
                changed = self.offer.changed() => {
                    changed.map_err(|_| Lost::Protocol("this program is ending"))?;
                }
                _ = pings.tick() => {
                    let silence_max = if link.in_flight.is_some() { ANSWER_MAX } else { SILENCE_MAX };
                    if heard.elapsed() > silence_max {
                        return Err(Lost::Silent(silence_max));
                    }
                    send(&mut write, &ping).await?;
                }
            }
        }
    }

    /// What is to be sent now.
    fn due(&mut self, link: &mut Link) -> Option<Outgoing> {
        if link.in_flight.is_some() {
            return None;
        }
        let offer = self.offer.borrow_and_update().clone();
        if let Some(full) = offer.full.filter(|full| link.wants(full)) {
            link.in_flight = Some((Arc::clone(&full), std::time::Instant::now()));
            return Some(Outgoing::Full(full));
        }
        // After the answer to the good one below it, so that the data plane does not take that one for the cure.
        let refused = offer.refused.filter(|refused| link.told_refusal != Some(refused.version))?;
        link.told_refusal = Some(refused.version);
        Some(Outgoing::Refusal(refused))
    }

    fn hear(&self, link: &mut Link, message: ToControlplane) -> Result<(), Lost> {
        match message {
            ToControlplane::Pong => {}
            ToControlplane::Hello(..) => return Err(Lost::Protocol("the data plane said Hello twice")),
            ToControlplane::Ack(ack) => {
                link.served = Some(ack.version);
                link.refused = None;
                if let Some((sent, at)) = link.in_flight.take_if(|(sent, _)| sent.version == ack.version) {
                    log_applied(&sent, at, &ack);
                }
                self.board.dataplane_ack(ack);
            }
            ToControlplane::Nack(nack) => {
                link.in_flight.take_if(|(sent, _)| sent.version == nack.version);
                let again_at = match &nack.reason {
                    Reason::Version(VersionRefusal::OtherLineage { .. }) | Reason::Damaged(_) => {
                        Some(Instant::now() + OFFER_AGAIN_AFTER)
                    }
                    Reason::Version(_) | Reason::Faults(_) => None,
                };
                let repeated = link.refused.is_some_and(|(version, _)| version == nack.version);
                link.refused = Some((nack.version, again_at));
                self.refused(nack, repeated);
            }
        }
        Ok(())
    }

    fn refused(&self, nack: Nack, repeated: bool) {
        let version = nack.version;
        let faults = match nack.reason {
            Reason::Faults(faults) => faults,
            Reason::Version(refusal) => vec![whole(&refusal.to_string())],
            Reason::Damaged(text) => vec![whole(&text)],
        };
        if !repeated {
            for fault in &faults {
                tracing::error!(%version, "the data plane refused: {fault}");
            }
        }
        let text = faults.first().map_or_else(|| "no reason given".to_owned(), ToString::to_string);
        self.board.dataplane_nack(Arc::new(Refusal { version, faults }), text);
    }
}

/// A frame in the order it has to go out.
enum Outgoing {
    Refusal(Arc<EncodedRefusal>),
    Full(Arc<Encoded>),
}

impl Outgoing {
    fn bytes(&self) -> &[u8] {
        match self {
            Outgoing::Refusal(refusal) => &refusal.frame,
            Outgoing::Full(full) => &full.frame,
        }
    }
}

/// A fault of the configuration as such.
fn whole(reason: &str) -> Fault {
    // PostgreSQL's text cannot hold the character 0, and this comes from another program.
    let reason = reason.replace('\0', " ");
    Fault { kind: "snapshot".to_owned(), id: String::new(), pointer: String::new(), reason }
}

/// One line with the time of each stage, from the commit to the last core.
fn log_applied(sent: &Encoded, sent_at: std::time::Instant, ack: &Ack) {
    let us = |from: std::time::Instant, to: std::time::Instant| {
        u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
    };
    tracing::info!(
        version = %ack.version,
        objects = sent.objects,
        bytes = sent.frame.len(),
        cores = ack.cores,
        committed_to_noticed_us = sent.times.committed_us_before,
        load_us = us(sent.times.noticed, sent.times.loaded),
        encode_us = us(sent.times.loaded, sent.encoded),
        wait_us = us(sent.encoded, sent_at),
        received_us = ack.received_us,
        decoded_us = ack.decoded_us,
        compiled_us = ack.compiled_us,
        first_core_us = ack.first_core_us,
        last_core_us = ack.last_core_us,
        ack_us = us(sent_at, std::time::Instant::now()),
        "applied"
    );
}
