//! Upstreams as the request path sees them: which node next, with what Host, how often again.

mod balance;
mod cluster;
mod places;

pub use balance::RoundRobin;
pub use cluster::{Cluster, Endpoint, HostRule, Timeouts};
pub use places::Places;
