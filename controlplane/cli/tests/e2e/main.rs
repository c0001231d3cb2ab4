//! The promises that an operator sees, tried with the real executables and a real PostgreSQL.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says by panicking")]

mod browser;
mod change;
mod command;
mod dashboard;
mod fault;
mod fence;
mod inside;
mod live;
#[path = "../stand/mod.rs"]
mod stand;
mod start;
mod tls;
mod up;
