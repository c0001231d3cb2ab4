//! The promises that an operator sees, tried with the real executables and a real PostgreSQL.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says by panicking")]

mod change;
mod command;
mod fault;
mod fence;
mod inside;
#[path = "../stand/mod.rs"]
mod stand;
mod start;
mod tls;
mod up;
