//! Upstreams as the request path sees them: which node next, with what Host, how often again, and who is well.
//!
//! [`Roster`] is one core's state of one [`Cluster`]; the health checks decide over the whole process who is healthy. Both live on across
//! versions, keyed by the cluster's key and the node's address.

mod breaker;
mod budget;
mod chash;
mod cluster;
mod ewma;
mod hash;
mod heap;
mod least_conn;
mod picker;
mod places;
mod ring;
mod roster;
mod round_robin;
mod standing;
mod tally;

pub use cluster::{Cluster, Endpoint, HostRule, Timeouts};
pub use hash::{HashFacts, hash_of};
pub use places::Places;
pub use roster::{Ask, NodeReport, Outcome, Roster, Ticket};
pub use standing::{NodeStanding, Order, Standing, Standings};
pub use tally::{FailureKind, Rows, Tally};
