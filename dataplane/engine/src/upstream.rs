//! Upstreams as the request path sees them: which node next, with what Host, how often again, and who is well.
//!
//! [`Roster`] is one core's state of one [`Cluster`]; [`Watch`] knows over the whole process who is well, [`Orders`] what operators want. Both live on across
//! versions, keyed by the cluster's key and the node's address.

mod address;
mod breaker;
mod budget;
mod chash;
mod cluster;
mod ewma;
mod finding;
mod hash;
mod health;
mod heap;
mod history;
mod least_conn;
mod memory;
mod names;
mod orders;
mod picker;
mod places;
mod ring;
mod roster;
mod round_robin;
mod silence;
mod standing;
mod tally;
mod warmth;
mod watch;
mod zones;

pub use address::Address;
pub use cluster::{Cluster, Endpoint, HostRule, Named, Timeouts};
pub use finding::{Finding, Lack, ProbeFault, Stage};
pub use hash::hash_of;
pub use health::{Health, Sickness};
pub use history::{Change, Changes, History};
pub use memory::{KnownHealth, KnownOrder, Memory};
pub use names::Names;
pub use orders::{Ordered, Orders};
pub use places::Places;
pub use roster::{Ask, NodeReport, Outcome, Roster, Ticket, Turn};
pub use silence::Suspicion;
pub use standing::{NodeStanding, Order, Resolved, Standing, Standings};
pub use tally::{FailureKind, Rows, Tally};
pub use watch::{HealthReport, Probe, Watch};
