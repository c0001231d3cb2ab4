//! Ringway's control plane: reads the configuration from PostgreSQL or from a declarative file and pushes versioned
//! snapshots of it to the data plane on the same host.
//!
//! It holds nothing that its source does not: any number of them may run, and each may die at any time. One pipeline
//! serves both sources: [`source`] loads and parses, [`store`] validates, [`publish`] sends. What does not validate is refused
//! whole and told in the log, on the status socket ([`control`]), to the data plane, and in PostgreSQL's table `ringway.refusal`.
//!
//! Invariants: it never sees the data plane's code; a password never reaches a log or a status page.
#![forbid(unsafe_code)]

pub mod admin;
pub mod backoff;
pub mod board;
pub mod complaint;
pub mod config;
pub mod control;
pub mod metrics;
pub mod propagation;
pub mod publish;
pub mod run;
pub mod source;
pub mod store;
