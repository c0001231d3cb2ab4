//! Offers the newest configuration to the data plane and hears what became of it.
//!
//! One [`Offer`] stands at a time and the newest replaces it: nothing queues, and however much changes meanwhile, one configuration
//! is under way. What the data plane has is known by its answers, so that only what differs is sent, in a delta computed at the last
//! moment; where it is not known, or the data plane does not take the delta, all is sent. To a data plane of schema 1 all is sent always.
//! While the data plane works on one, the next waits for its answer; what was refused is not offered again on
//! the same connection, but for a refusal that an operator can lift there (`adopt`), which is tried now and then.
//!
//! Invariants: the two `Hello`s come first; a ping goes out each second; silence of ten seconds ends the connection.

use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ringway_snapshot::frame::{
    FrameError, FrameKind, SCHEMA_CONSUMERS, SCHEMA_DELTA, SCHEMA_MIN, common_schema, encode_as,
};
use ringway_snapshot::message::{Ack, Nack, Peer, Reason, ToControlplane, ToDataplane};
use ringway_snapshot::version::Refusal as VersionRefusal;
use ringway_snapshot::{Delta, Fault, Snapshot, Version};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::backoff::Backoff;
use crate::board::{Board, Refusal};
use crate::complaint::Complaint;
use crate::propagation::Way;
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
/// How often a version is offered again that an operator may since have allowed; also how long a control plane that is behind another
/// one keeps quiet, in the hope to come up with it.
const OFFER_AGAIN_AFTER: Duration = Duration::from_secs(10);
const RETRY_MS_FIRST: u64 = 20;
/// The socket is on this host: a refused connection costs nothing, and a started data plane should not wait.
const RETRY_MS_MAX: u64 = 500;

/// What stands to be sent.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// The newest valid configuration.
    pub full: Option<Arc<Configuration>>,
    /// What the source has above it and this program refused.
    pub refused: Option<Arc<Refusal>>,
}

/// A configuration that may travel.
#[derive(Debug)]
pub struct Configuration {
    /// All of it.
    pub snapshot: Snapshot,
    /// Whether its source takes a higher number when the data plane already has this one or a higher.
    pub renumbers: bool,
    /// How long it took to come here.
    pub times: Times,
}

impl Configuration {
    fn version(&self) -> Version {
        self.snapshot.version
    }
}

/// See the module.
#[derive(Debug)]
pub struct Publisher {
    socket: PathBuf,
    node: String,
    board: Arc<Board>,
    offer: watch::Receiver<Offer>,
    /// What the data plane acknowledged last, on whichever connection.
    acknowledged: Option<Snapshot>,
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
    #[error(
        "the data plane speaks schemas {0} to {1}, this program {min} to {max}; update the older of the two",
        min = SCHEMA_MIN, max = ringway_snapshot::frame::SCHEMA
    )]
    Schema(u16, u16),
    #[error(
        "the configuration has {0}, which the data plane does not know: it speaks schemas up to {1}; update it"
    )]
    Kinds(&'static str, u16),
    #[error("encoding failed: {0}")]
    Encode(#[from] tokio::task::JoinError),
}

/// One connection's state.
#[derive(Default)]
struct Link {
    schema: u16,
    served: Option<Version>,
    in_flight: Option<Sent>,
    refused: Option<(Version, Option<Instant>)>,
    told_refusal: Option<Version>,
    /// Since when another control plane is ahead of this one.
    overtaken: Option<Instant>,
    /// A delta was not taken: what comes next comes whole.
    wants_all: bool,
    settled: bool,
}

/// What was sent and not answered yet.
struct Sent {
    configuration: Arc<Configuration>,
    at: std::time::Instant,
    bytes: usize,
    /// Objects of the delta; `None`: it was sent whole.
    changes: Option<usize>,
}

impl Link {
    /// Whether the data plane is to be sent this.
    fn wants(&self, full: &Configuration) -> bool {
        let known = self.served == Some(full.version());
        let refused = self.refused.is_some_and(|(version, again_at)| {
            version == full.version() && again_at.is_none_or(|at| Instant::now() < at)
        });
        // The file source has seen on the board what is served and is about to give this content a number above it.
        let outnumbered = full.renumbers
            && self.served.is_some_and(|served| {
                served.lineage == full.version().lineage && served.order() >= full.version().order()
            });
        // Another control plane is ahead: what it brought will come from our source too.
        let outdated = self.served.is_some_and(|served| {
            served.lineage == full.version().lineage && served.order() > full.version().order()
        });
        // A lasting difference is for the operator to know, who hears of it by the refusal.
        let quiet = outdated && self.overtaken.is_some_and(|at| at.elapsed() < OFFER_AGAIN_AFTER);
        !known && !refused && !outnumbered && !quiet
    }
}

impl Publisher {
    /// Connects to nothing yet.
    pub fn new(socket: PathBuf, node: String, board: Arc<Board>, offer: watch::Receiver<Offer>) -> Publisher {
        Publisher { socket, node, board, offer, acknowledged: None, complaint: Complaint::default() }
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
        let hello = ToDataplane::Hello(Peer::this(self.node.clone()));
        let hello = encode_as(SCHEMA_MIN, FrameKind::ToDataplane, &hello)?;
        send(&mut write, &hello).await?;
        let first = timeout(HELLO_MAX, incoming.next()).await.map_err(|_| Lost::Silent(HELLO_MAX))?;
        let ToControlplane::Hello(peer, served) = first? else {
            return Err(Lost::Protocol("the data plane's first message is not a Hello"));
        };
        let schema = common_schema(peer.schema_min, peer.schema_max)
            .ok_or(Lost::Schema(peer.schema_min, peer.schema_max))?;
        let serves = served.map_or_else(|| "nothing yet".to_owned(), |version| version.to_string());
        let hail = format!("node {} of build {} serves {serves}", peer.node, peer.build);
        self.board.dataplane_hello(peer, served);
        let mut link = Link { schema, served, ..Link::default() };
        let ping = encode_as(schema, FrameKind::ToDataplane, &ToDataplane::Ping)?;
        let mut pings = interval(PING_EVERY);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        loop {
            while let Some(frame) = self.due(&mut link).await? {
                send(&mut write, &frame).await?;
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

    /// The frame that is to be sent now.
    async fn due(&mut self, link: &mut Link) -> Result<Option<Vec<u8>>, Lost> {
        if link.in_flight.is_some() {
            return Ok(None);
        }
        let Offer { full, refused } = self.offer.borrow_and_update().clone();
        if let Some(full) = &full
            && link.served == Some(full.version())
        {
            // Brought by whomever, it is what the next delta starts from.
            self.acknowledged = Some(full.snapshot.clone());
            link.overtaken = None;
        }
        if let Some(configuration) = full.filter(|full| link.wants(full)) {
            let at = std::time::Instant::now();
            let base = self.acknowledged.clone().filter(|base| {
                link.schema >= SCHEMA_DELTA && !link.wants_all && link.served == Some(base.version)
            });
            let (target, schema) = (configuration.snapshot.clone(), link.schema);
            let near = base.as_ref().and_then(|base| Delta::between_near(base, &target));
            let (frame, changes) = match near.filter(|delta| delta.len() <= target.entries.len()) {
                Some(delta) => encode_delta(schema, delta)?,
                // Not on the thread that answers pings: there may be a million objects.
                None => {
                    let encoding =
                        tokio::task::spawn_blocking(move || encode_offer(schema, base.as_ref(), target));
                    encoding.await??
                }
            };
            link.in_flight = Some(Sent { configuration, at, bytes: frame.len(), changes });
            return Ok(Some(frame));
        }
        // After the answer to the good one below it, so that the data plane does not take that one for the cure.
        let Some(refused) = refused.filter(|refused| link.told_refusal != Some(refused.version)) else {
            return Ok(None);
        };
        link.told_refusal = Some(refused.version);
        let (version, faults) = (refused.version, refused.faults.clone());
        let message = ToDataplane::SourceRefused { version, faults };
        Ok(Some(encode_as(link.schema, FrameKind::ToDataplane, &message)?))
    }

    fn hear(&mut self, link: &mut Link, message: ToControlplane) -> Result<(), Lost> {
        match message {
            ToControlplane::Pong => {}
            ToControlplane::Hello(..) => return Err(Lost::Protocol("the data plane said Hello twice")),
            ToControlplane::Ack(ack) => {
                link.served = Some(ack.version);
                link.refused = None;
                (link.wants_all, link.overtaken) = (false, None);
                if let Some(sent) = link.in_flight.take_if(|sent| sent.configuration.version() == ack.version)
                {
                    log_applied(&sent, &ack);
                    self.board.propagated(&way(&sent, &ack), sent.bytes, sent.changes.is_some());
                    self.acknowledged = Some(sent.configuration.snapshot.clone());
                }
                self.board.dataplane_ack(ack);
            }
            ToControlplane::Serves(version) => {
                // What was acknowledged since this was written counts.
                let is_old = link.served.is_some_and(|served| {
                    served.lineage == version.lineage && served.order() > version.order()
                });
                if !is_old {
                    tracing::debug!(%version, "another control plane brought a version");
                    link.served = Some(version);
                    link.overtaken.get_or_insert_with(Instant::now);
                    self.board.dataplane_serves(version);
                }
            }
            ToControlplane::Nack(Nack { version, reason: Reason::Base(served) }) => {
                link.in_flight.take_if(|sent| sent.configuration.version() == version);
                tracing::debug!(%version, "the delta is not taken; everything is sent");
                link.wants_all = true;
                link.served = served;
            }
            ToControlplane::Nack(nack) => {
                link.in_flight.take_if(|sent| sent.configuration.version() == nack.version);
                if let Reason::Version(
                    VersionRefusal::Older { current, .. } | VersionRefusal::Diverged { current, .. },
                ) = &nack.reason
                {
                    link.served = Some(*current);
                }
                let again_at = match &nack.reason {
                    Reason::Version(VersionRefusal::OtherLineage { .. }) | Reason::Damaged(_) => {
                        Some(Instant::now() + OFFER_AGAIN_AFTER)
                    }
                    Reason::Version(_) | Reason::Faults(_) | Reason::Base(_) => None,
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
            Reason::Base(_) => vec![whole("the delta does not fit")],
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

/// A frame of the target: a delta where there is a base and that is less, else all of it. How many objects the delta names is told beside.
fn encode_offer(
    schema: u16,
    base: Option<&Snapshot>,
    target: Snapshot,
) -> Result<(Vec<u8>, Option<usize>), Lost> {
    let delta =
        base.map(|base| Delta::between(base, &target)).filter(|delta| delta.len() <= target.entries.len());
    match delta {
        Some(delta) => encode_delta(schema, delta),
        None => Ok((encode(schema, target.schema(), &ToDataplane::Full(target))?, None)),
    }
}

fn encode_delta(schema: u16, delta: Delta) -> Result<(Vec<u8>, Option<usize>), Lost> {
    let changes = delta.len();
    Ok((encode(schema, delta.schema(), &ToDataplane::Delta(delta))?, Some(changes)))
}

/// A frame for a data plane of one schema of what needs another.
fn encode(schema: u16, needed: u16, message: &ToDataplane) -> Result<Vec<u8>, Lost> {
    if needed > schema {
        let kinds = match needed {
            SCHEMA_CONSUMERS => "consumers, credentials or consumer groups",
            _ => "plugin configurations or global rules",
        };
        return Err(Lost::Kinds(kinds, schema));
    }
    Ok(encode_as(schema, FrameKind::ToDataplane, message)?)
}

/// A fault of the configuration as such.
fn whole(reason: &str) -> Fault {
    // PostgreSQL's text cannot hold the character 0, and this comes from another program.
    let reason = reason.replace('\0', " ");
    Fault { kind: "snapshot".to_owned(), id: String::new(), pointer: String::new(), reason }
}

/// How long each stage took.
fn way(sent: &Sent, ack: &Ack) -> Way {
    let times = &sent.configuration.times;
    let ends = [ack.received_us, ack.decoded_us, ack.compiled_us, ack.first_core_us, ack.last_core_us];
    Way {
        notice: times.committed_us_before.map(Duration::from_micros),
        load: times.loaded.saturating_duration_since(times.noticed),
        wait: sent.at.saturating_duration_since(times.loaded),
        dataplane: ends.map(Duration::from_micros),
        noticed_to_heard: times.noticed.elapsed(),
    }
}

/// One line with the time of each stage, from the commit to the last core.
fn log_applied(sent: &Sent, ack: &Ack) {
    let us = |from: std::time::Instant, to: std::time::Instant| {
        u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
    };
    let Configuration { snapshot, times, .. } = &*sent.configuration;
    tracing::info!(
        version = %ack.version,
        objects = snapshot.entries.len(),
        changes = sent.changes,
        bytes = sent.bytes,
        cores = ack.cores,
        committed_to_noticed_us = times.committed_us_before,
        load_us = us(times.noticed, times.loaded),
        wait_us = us(times.loaded, sent.at),
        received_us = ack.received_us,
        decoded_us = ack.decoded_us,
        compiled_us = ack.compiled_us,
        first_core_us = ack.first_core_us,
        last_core_us = ack.last_core_us,
        ack_us = us(sent.at, std::time::Instant::now()),
        "applied"
    );
}
