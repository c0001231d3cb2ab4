//! What the program knows about itself, for its status socket, systemd and the tables of nodes and refusals.
//!
//! Each part notes its own state here and reads nobody else's but through the two watches: what is told to other nodes, and what the
//! data plane serves. What only the source can answer, the state of the fleet, is asked for through a queue that it
//! reads. No lock is held across a wait.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ringway_snapshot::message::{Ack, Peer};
use ringway_snapshot::{Fault, Version};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use crate::propagation::{Propagation, Way};

/// Questions for the fleet that wait at once.
const FLEET_QUESTIONS_MAX: usize = 8;
/// For the source to answer one; it may be loading.
const FLEET_ANSWER_MAX: Duration = Duration::from_secs(4);

/// A configuration that was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which. The digest is 0 where the objects could not be read.
    pub version: Version,
    /// Object by object; never empty.
    pub faults: Vec<Fault>,
}

impl Refusal {
    /// One line for a table of nodes: the first fault, and how many more there are.
    pub fn line(&self) -> String {
        let first = match self.faults.first() {
            // A fault of the configuration as such belongs to no object.
            Some(fault) if fault.id.is_empty() => fault.reason.clone(),
            Some(fault) => fault.to_string(),
            None => "no reason given".to_owned(),
        };
        let more = self.faults.len().saturating_sub(1);
        let more = if more == 0 { String::new() } else { format!(" (and {more} more)") };
        format!("revision {}: {first}{more}", self.version.revision)
    }
}

/// What this node tells the others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// What the data plane serves, as far as it has said.
    pub served: Option<Served>,
    /// Build of the data plane while it is connected.
    pub dataplane_build: Option<String>,
    /// What is refused at present, by this program or by the data plane.
    pub refusal: Option<Arc<Refusal>>,
}

/// A version that the data plane serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// Which.
    pub version: Version,
    /// Since when, as far as this program has seen.
    pub since: Instant,
}

/// A question for the fleet, and where its answer goes.
pub type FleetQuestion = oneshot::Sender<Result<Value, String>>;

/// State of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceState {
    /// Not reached yet.
    Starting,
    /// Reads what is current.
    Connected,
    /// Reads what a standby has; there is no primary.
    Standby,
    /// Out of reach, or it refuses us.
    Disconnected,
}

impl SourceState {
    fn name(self) -> &'static str {
        match self {
            SourceState::Starting => "starting",
            SourceState::Connected => "connected",
            SourceState::Standby => "reading a standby",
            SourceState::Disconnected => "disconnected",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Board {
    node: String,
    source_kind: &'static str,
    source_detail: String,
    feed_socket: String,
    admin: OnceLock<(SocketAddr, bool)>,
    notes: Mutex<Notes>,
    report: watch::Sender<Report>,
    served: watch::Sender<Option<Version>>,
    fleet: mpsc::Sender<FleetQuestion>,
    fleet_questions: Mutex<Option<mpsc::Receiver<FleetQuestion>>>,
}

#[derive(Debug)]
struct Notes {
    source: SourceState,
    source_since: Instant,
    source_error: Option<String>,
    version: Option<(Version, usize)>,
    refused: Option<Arc<Refusal>>,
    dataplane: Option<Peer>,
    dataplane_error: Option<String>,
    dataplane_refused: Option<Arc<Refusal>>,
    last_ack: Option<Ack>,
    propagation: Propagation,
}

/// What the metrics page tells.
#[derive(Debug)]
pub struct Facts {
    /// Name of this node.
    pub node: String,
    /// The source is read.
    pub source_connected: bool,
    /// It is a standby.
    pub source_standby: bool,
    /// The last valid configuration, and its objects.
    pub version: Option<(Version, usize)>,
    /// The source's last revision is refused.
    pub refused: bool,
    /// The data plane is connected.
    pub dataplane_connected: bool,
    /// It refuses what it was offered.
    pub dataplane_refused: bool,
    /// What it serves.
    pub served: Option<Version>,
    /// How long changes took.
    pub propagation: Propagation,
}

impl Board {
    /// An empty board.
    pub fn new(node: &str, source_kind: &'static str, source_detail: String, feed_socket: String) -> Board {
        let notes = Notes {
            source: SourceState::Starting,
            source_since: Instant::now(),
            source_error: None,
            version: None,
            refused: None,
            dataplane: None,
            dataplane_error: None,
            dataplane_refused: None,
            last_ack: None,
            propagation: Propagation::default(),
        };
        let (fleet, questions) = mpsc::channel(FLEET_QUESTIONS_MAX);
        Board {
            node: node.to_owned(),
            source_kind,
            source_detail,
            feed_socket,
            admin: OnceLock::new(),
            notes: Mutex::new(notes),
            report: watch::Sender::new(Report::default()),
            served: watch::Sender::new(None),
            fleet,
            fleet_questions: Mutex::new(Some(questions)),
        }
    }

    /// Name of this node.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Where the Admin API listens, for who is on this host.
    pub fn admin_at(&self, address: SocketAddr, tls: bool) {
        let _ = self.admin.set((address, tls));
    }

    /// The last valid configuration of the source.
    pub fn version(&self) -> Option<Version> {
        self.notes().version.map(|(version, _)| version)
    }

    /// Why the data plane is not connected; `None` while it is.
    pub fn dataplane_trouble(&self) -> Option<String> {
        let notes = self.notes();
        match notes.dataplane {
            Some(_) => None,
            None => Some(notes.dataplane_error.clone().unwrap_or_else(|| "it was not there yet".to_owned())),
        }
    }

    /// Follows what this node tells the others.
    pub fn report(&self) -> watch::Receiver<Report> {
        self.report.subscribe()
    }

    /// Where questions for the fleet arrive; for the one source that can answer them.
    pub fn fleet_questions(&self) -> Option<mpsc::Receiver<FleetQuestion>> {
        self.fleet_questions.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// All nodes, as the source knows them; where it does not, why.
    pub async fn fleet(&self) -> Value {
        let answer = match tokio::time::timeout(FLEET_ANSWER_MAX, self.ask_fleet()).await {
            Ok(answer) => answer,
            Err(_) => Err("the source is busy and does not answer; try again".to_owned()),
        };
        match answer {
            Ok(mut fleet) => {
                fleet["asked"] = json!(self.node);
                fleet
            }
            Err(error) => json!({ "asked": self.node, "error": error }),
        }
    }

    async fn ask_fleet(&self) -> Result<Value, String> {
        let nobody = || format!("the source is a {}, which knows no other nodes", self.source_kind);
        if self.fleet_questions.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Err(nobody());
        }
        let (answer, answered) = oneshot::channel();
        self.fleet.send(answer).await.map_err(|_| nobody())?;
        answered.await.map_err(|_| nobody())?
    }

    /// Follows what the data plane last said that it serves.
    pub fn served(&self) -> watch::Receiver<Option<Version>> {
        self.served.subscribe()
    }

    /// The source's state has changed, or its trouble has.
    pub fn source(&self, state: SourceState, error: Option<String>) {
        let mut notes = self.notes();
        if notes.source != state {
            notes.source = state;
            notes.source_since = Instant::now();
        }
        notes.source_error = error;
    }

    /// The source has a configuration that is valid.
    pub fn accepted(&self, version: Version, objects: usize) {
        let mut notes = self.notes();
        notes.version = Some((version, objects));
        notes.refused = None;
        if notes.dataplane_refused.as_ref().is_some_and(|refusal| refusal.version != version) {
            notes.dataplane_refused = None;
        }
        self.tell(&notes);
    }

    /// The source has a configuration that is not valid.
    pub fn refused(&self, refusal: Arc<Refusal>) {
        let mut notes = self.notes();
        notes.refused = Some(refusal);
        self.tell(&notes);
    }

    /// The data plane has said who it is and what it serves.
    pub fn dataplane_hello(&self, peer: Peer, version: Option<Version>) {
        let mut notes = self.notes();
        notes.dataplane = Some(peer);
        notes.dataplane_error = None;
        self.served.send_replace(version);
        self.tell(&notes);
    }

    /// The data plane is gone or was never there.
    pub fn dataplane_lost(&self, error: String) {
        let mut notes = self.notes();
        notes.dataplane = None;
        notes.dataplane_error = Some(error);
        self.tell(&notes);
    }

    /// Every core runs a version.
    pub fn dataplane_ack(&self, ack: Ack) {
        let mut notes = self.notes();
        notes.last_ack = Some(ack);
        notes.dataplane_error = None;
        notes.dataplane_refused = None;
        self.served.send_replace(Some(ack.version));
        self.tell(&notes);
    }

    /// How long a configuration of this program's took to every core.
    pub fn propagated(&self, way: &Way, bytes: usize, is_delta: bool) {
        self.notes().propagation.record(way, bytes, is_delta);
    }

    /// What the metrics page tells.
    pub fn facts(&self) -> Facts {
        let notes = self.notes();
        Facts {
            node: self.node.clone(),
            source_connected: matches!(notes.source, SourceState::Connected | SourceState::Standby),
            source_standby: notes.source == SourceState::Standby,
            version: notes.version,
            refused: notes.refused.is_some(),
            dataplane_connected: notes.dataplane.is_some(),
            dataplane_refused: notes.dataplane_refused.is_some(),
            served: *self.served.borrow(),
            propagation: notes.propagation.clone(),
        }
    }

    /// The data plane runs what another control plane brought.
    pub fn dataplane_serves(&self, version: Version) {
        self.served.send_replace(Some(version));
    }

    /// The data plane refused a version.
    pub fn dataplane_nack(&self, refusal: Arc<Refusal>, text: String) {
        let mut notes = self.notes();
        notes.dataplane_refused = Some(refusal);
        notes.propagation.refused += 1;
        notes.dataplane_error = Some(text);
        self.tell(&notes);
    }

    /// One line for systemd.
    pub fn line(&self) -> String {
        let notes = self.notes();
        let version = notes.version.map_or_else(|| "none".to_owned(), |(version, _)| version.to_string());
        let dataplane = if notes.dataplane.is_some() { "connected" } else { "disconnected" };
        let refused = if notes.refused.is_some() { "; the source's last revision is refused" } else { "" };
        format!("source {}; version {version}; data plane {dataplane}{refused}", notes.source.name())
    }

    /// All of it, as the status socket tells it.
    pub fn document(&self) -> Value {
        let notes = self.notes();
        let served = *self.served.borrow();
        json!({
            "build": env!("CARGO_PKG_VERSION"),
            "node": self.node,
            "pid": std::process::id(),
            "source": {
                "kind": self.source_kind,
                "detail": self.source_detail,
                "state": notes.source.name(),
                "since_ms_ago": u64::try_from(notes.source_since.elapsed().as_millis()).unwrap_or(u64::MAX),
                "last_error": notes.source_error,
            },
            "admin": self.admin.get().map(|(address, _)| address),
            "admin_tls": self.admin.get().is_some_and(|(_, tls)| *tls),
            "version": notes.version.map(|(version, objects)| version_document(&version, Some(objects))),
            "refused": notes.refused.as_deref().map(refusal_document),
            "dataplane": {
                "socket": self.feed_socket,
                "state": if notes.dataplane.is_some() { "connected" } else { "disconnected" },
                "node": notes.dataplane.as_ref().map(|peer| &peer.node),
                "build": notes.dataplane.as_ref().map(|peer| &peer.build),
                "version": served.map(|version| version_document(&version, None)),
                "last_error": notes.dataplane_error,
                "refused": notes.dataplane_refused.as_deref().map(refusal_document),
                "last_ack": notes.last_ack.as_ref().map(ack_document),
            },
        })
    }

    fn tell(&self, notes: &Notes) {
        let served = *self.served.borrow();
        let refusal = notes.refused.clone().or_else(|| notes.dataplane_refused.clone());
        let dataplane_build = notes.dataplane.as_ref().map(|peer| peer.build.clone());
        self.report.send_if_modified(|report| {
            let before = report.served.map(|served| served.version);
            let since = Instant::now();
            let served = if served == before {
                report.served
            } else {
                served.map(|version| Served { version, since })
            };
            let wanted = Report { served, dataplane_build, refusal };
            let changed = *report != wanted;
            *report = wanted;
            changed
        });
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A version as status documents have it.
pub fn version_document(version: &Version, objects: Option<usize>) -> Value {
    json!({
        "lineage": format!("{:016x}", version.lineage),
        "timeline": version.timeline,
        "revision": version.revision,
        "digest": version.digest.to_string(),
        "text": version.to_string(),
        "objects": objects,
    })
}

fn refusal_document(refusal: &Refusal) -> Value {
    json!({
        "version": refusal.version.to_string(),
        "revision": refusal.version.revision,
        "faults": refusal.faults,
    })
}

fn ack_document(ack: &Ack) -> Value {
    json!({
        "version": ack.version.to_string(),
        "cores": ack.cores,
        "received_us": ack.received_us,
        "decoded_us": ack.decoded_us,
        "compiled_us": ack.compiled_us,
        "first_core_us": ack.first_core_us,
        "last_core_us": ack.last_core_us,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(revision: u64, reason: &str) -> Arc<Refusal> {
        let fault =
            Fault { kind: "routes".into(), id: "1".into(), pointer: "/uri".into(), reason: reason.into() };
        Arc::new(Refusal { version: Version { revision, ..Version::default() }, faults: vec![fault] })
    }

    #[test]
    fn the_sources_refusal_stands_before_the_data_planes_and_each_is_healed_by_its_own() {
        let board = Board::new("n1", "file", "f".into(), "s".into());
        let watch = board.report();
        let told = || watch.borrow().refusal.as_ref().map(|refusal| refusal.faults[0].reason.clone());
        board.dataplane_nack(refusal(4, "nack"), "nack".into());
        assert_eq!(told().as_deref(), Some("nack"));
        board.refused(refusal(5, "source"));
        assert_eq!(told().as_deref(), Some("source"));
        board.accepted(Version { revision: 6, ..Version::default() }, 3);
        assert_eq!(told(), None);
        let document = board.document();
        assert_eq!(document["version"]["text"], "0000000000000000:0:6");
        assert_eq!(document["version"]["objects"], 3);
        assert!(document["refused"].is_null() && document["dataplane"]["refused"].is_null());
    }
}
