//! The sans-IO core of the data plane: HTTP/1, routing, balancing, and what one exchange may do next.
//!
//! It takes bytes and gives back bytes and decisions. Invariants: no socket, no clock, no thread, no async, no
//! randomness, no allocation per request in steady state, no panic on any input.
#![forbid(unsafe_code)]

pub mod consumer;
pub mod exchange;
pub mod facts;
pub mod http1;
pub mod plugin;
pub mod route;
pub mod site;
pub mod upstream;
pub mod view;
