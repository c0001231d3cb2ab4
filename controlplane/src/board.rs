//! What the program knows about itself, for its status socket, systemd and the table of refusals.
//!
//! Each part notes its own state here and reads nobody else's but through the two watches: what is refused at present, and what the
//! data plane serves. No lock is held across a wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ringway_snapshot::message::{Ack, Peer};
use ringway_snapshot::{Fault, Version};
use serde_json::{Value, json};
use tokio::sync::watch;

/// A configuration that was refused, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which. The digest is 0 where the objects could not be read.
    pub version: Version,
    /// Object by object; never empty.
    pub faults: Vec<Fault>,
}

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
    notes: Mutex<Notes>,
    refusal: watch::Sender<Option<Arc<Refusal>>>,
    served: watch::Sender<Option<Version>>,
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
        };
        Board {
            node: node.to_owned(),
            source_kind,
            source_detail,
            feed_socket,
            notes: Mutex::new(notes),
            refusal: watch::Sender::new(None),
            served: watch::Sender::new(None),
        }
    }

    /// Name of this node.
    pub fn node(&self) -> &str {
        &self.node
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

    /// Follows what is refused at present, by this program or by the data plane.
    pub fn refusal(&self) -> watch::Receiver<Option<Arc<Refusal>>> {
        self.refusal.subscribe()
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
        self.tell_refusal(&notes);
    }

    /// The source has a configuration that is not valid.
    pub fn refused(&self, refusal: Arc<Refusal>) {
        let mut notes = self.notes();
        notes.refused = Some(refusal);
        self.tell_refusal(&notes);
    }

    /// The data plane has said who it is and what it serves.
    pub fn dataplane_hello(&self, peer: Peer, version: Option<Version>) {
        let mut notes = self.notes();
        notes.dataplane = Some(peer);
        notes.dataplane_error = None;
        self.served.send_replace(version);
    }

    /// The data plane is gone or was never there.
    pub fn dataplane_lost(&self, error: String) {
        let mut notes = self.notes();
        notes.dataplane = None;
        notes.dataplane_error = Some(error);
    }

    /// Every core runs a version.
    pub fn dataplane_ack(&self, ack: Ack) {
        let mut notes = self.notes();
        notes.last_ack = Some(ack);
        notes.dataplane_error = None;
        notes.dataplane_refused = None;
        self.served.send_replace(Some(ack.version));
        self.tell_refusal(&notes);
    }

    /// The data plane refused a version.
    pub fn dataplane_nack(&self, refusal: Arc<Refusal>, text: String) {
        let mut notes = self.notes();
        notes.dataplane_refused = Some(refusal);
        notes.dataplane_error = Some(text);
        self.tell_refusal(&notes);
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

    fn tell_refusal(&self, notes: &Notes) {
        let wanted = notes.refused.clone().or_else(|| notes.dataplane_refused.clone());
        self.refusal.send_if_modified(|refusal| {
            let changed = *refusal != wanted;
            *refusal = wanted;
            changed
        });
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn version_document(version: &Version, objects: Option<usize>) -> Value {
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
        let watch = board.refusal();
        let told = || watch.borrow().as_ref().map(|refusal| refusal.faults[0].reason.clone());
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
