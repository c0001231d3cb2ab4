//! What stands in an upstream's free fields: health checks, what consistent hashing hashes, nodes that are Unix sockets, nodes' zones, and
//! Ringway's own options.
//!
//! The model carries them as text, so that the bytes of a schema number stay; both planes read them here, with the same words
//! for what is wrong. Invariant: what [`crate::validate()`] let through reads without an error.

mod checks;
mod hash_on;
mod tuning;
mod unix_socket;
mod zone;

pub use checks::{
    Active, ActiveHealthy, ActiveUnhealthy, CheckKind, Checks, Passive, PassiveHealthy, PassiveUnhealthy,
    tls_name,
};
pub use hash_on::{HashOn, Piece};
pub use tuning::Tuning;
pub use unix_socket::unix_path;
pub use zone::{is_zone, zone_of};

use crate::limits::HOST_BYTES_MAX;

/// What is wrong, and where below the upstream.
pub type Wrong = (String, String);

/// Whether it can be a host's name: labels of letters, digits, '-' and '_' (RFC 1123 section 2.1; '_' by custom).
pub fn is_host_name(name: &str) -> bool {
    let labels = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // All digits would be an address that is written wrongly.
    let last = labels.rsplit('.').next().unwrap_or_default();
    name.len() <= HOST_BYTES_MAX
        && labels.split('.').all(is_label)
        && !last.bytes().all(|b| b.is_ascii_digit())
}
