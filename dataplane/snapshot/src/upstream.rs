//! What stands in an upstream's free fields: health checks, what consistent hashing hashes, and Ringway's own options.
//!
//! The model carries them as text, so that the bytes of a schema number stay; both planes read them here, with the same words
//! for what is wrong. Invariant: what [`crate::validate()`] let through reads without an error.

mod checks;
mod hash_on;
mod tuning;

pub use checks::{
    Active, ActiveHealthy, ActiveUnhealthy, CheckKind, Checks, Passive, PassiveHealthy, PassiveUnhealthy,
};
pub use hash_on::{HashOn, Piece, Variable};
pub use tuning::Tuning;

/// What is wrong, and where below the upstream.
pub type Wrong = (String, String);
