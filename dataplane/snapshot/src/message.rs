//! What the planes say to each other over the local socket.
//!
//! The data plane listens. On a new connection both sides send their `Hello`, in the lowest schema number; from then on the highest
//! that both know. The control plane sends a `Delta` where it knows what the data plane has, else `Full`, whenever it has a version that
//! the data plane has not, and the data plane answers each with `Ack` or `Nack`. A delta that starts elsewhere is answered with
//! [`Reason::Base`], and `Full` follows. What one control plane brought, the data plane tells the others (`Serves`). `Ping` is
//! answered with `Pong`, so that each side notices when the other hangs.

use serde::{Deserialize, Serialize};

use crate::delta::Delta;
use crate::snapshot::Snapshot;
use crate::validate::Fault;
use crate::version::{Refusal, Version};

/// Who speaks, and what it can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Name of the node (host name unless configured).
    pub node: String,
    /// Version of the program.
    pub build: String,
    /// Lowest schema number it reads.
    pub schema_min: u16,
    /// Highest schema number it reads and writes.
    pub schema_max: u16,
}

impl Peer {
    /// This build on a node of that name.
    pub fn this(node: String) -> Peer {
        Peer {
            node,
            build: env!("CARGO_PKG_VERSION").to_owned(),
            schema_min: crate::frame::SCHEMA_MIN,
            schema_max: crate::frame::SCHEMA,
        }
    }
}

/// From a control plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToDataplane {
    /// First message of a connection.
    Hello(Peer),
    /// A whole configuration.
    Full(Snapshot),
    /// Are you there? Also: the control plane is.
    Ping,
    /// The source's present revision was refused by the control plane; nothing else changes.
    SourceRefused {
        /// The version that was refused; its digest is 0.
        version: Version,
        /// Why, object by object.
        faults: Vec<Fault>,
    },
    /// What leads from what the data plane serves to a newer configuration. From schema 2 on.
    Delta(Delta),
}

/// From the data plane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ToControlplane {
    /// First message of a connection: who, and what is being served (`None` before the first configuration).
    Hello(Peer, Option<Version>),
    /// Every core runs it.
    Ack(Ack),
    /// It was refused; the old one keeps serving.
    Nack(Nack),
    /// Answer to a ping.
    Pong,
    /// Another control plane has brought this version, and every core runs it. From schema 2 on.
    Serves(Version),
}

/// Every core runs this version. Times in microseconds since the frame's first byte was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Which.
    pub version: Version,
    /// Cores that run it: all of them.
    pub cores: u32,
    /// When the frame had been read whole.
    pub received_us: u64,
    /// When it was decoded and checked.
    pub decoded_us: u64,
    /// When the routing table was built.
    pub compiled_us: u64,
    /// When the first core had swapped.
    pub first_core_us: u64,
    /// When the last core had swapped.
    pub last_core_us: u64,
}

/// Why a configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// The version rule forbids it.
    Version(Refusal),
    /// Objects are wrong; the list may be cut at `FAULTS_REPORTED_MAX`.
    Faults(Vec<Fault>),
    /// The frame or the set of objects is damaged.
    Damaged(String),
    /// The delta does not lead on from what is served, which is this. The full configuration does. From schema 2 on.
    Base(Option<Version>),
}

/// A configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nack {
    /// Which.
    pub version: Version,
    /// Why.
    pub reason: Reason,
}
