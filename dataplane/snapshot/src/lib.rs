//! The contract between the control plane and the data plane.
//!
//! The logical configuration [`model`] (Apache APISIX's objects), its [`validate`] rules, the [`Version`] that
//! orders configurations and the [`frame`]s that carry them over the local socket. Both planes link this crate,
//! so that both refuse the same things with the same words.
//!
//! Invariants: no socket, clock, thread or randomness; decoding untrusted bytes never panics and never
//! allocates more than [`limits`] allow; the bytes of a schema number never change once released.
#![forbid(unsafe_code)]

pub mod body_path;
pub mod cidr;
pub mod delta;
pub mod expression;
pub mod frame;
pub mod json;
pub mod limits;
mod log_rate;
pub mod message;
pub mod model;
pub mod parse;
pub mod pattern;
pub mod plugin;
pub mod replacement;
pub mod snapshot;
pub mod sorted;
pub mod template;
pub mod upstream;
pub mod validate;
pub mod validator;
pub mod variable;
pub mod version;

pub use body_path::BodyPath;
pub use cidr::Cidr;
pub use delta::Delta;
pub use expression::Expression;
pub use log_rate::LogRate;
pub use model::{
    Consumer, ConsumerGroup, Credential, GlobalRule, Kind, Object, PluginConfig, Route, Service, Upstream,
};
pub use plugin::Plugin;
pub use snapshot::{Entries, Entry, Snapshot};
pub use validate::Fault;
pub use validator::Validator;
pub use variable::Variable;
pub use version::{Digest, Version};
