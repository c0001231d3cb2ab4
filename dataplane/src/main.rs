//! Ringway's data plane: a thread-per-core HTTP proxy on io_uring.
//!
//! The main thread starts everything in the order in which a failure is cheapest, then waits for signals. See ARCHITECTURE.md for
//! what the threads do.
#![deny(unsafe_code)]

mod access;
mod admin;
mod answer;
mod bequest;
mod body;
mod buf;
mod config;
mod core;
mod disk;
mod door;
mod downstream;
mod drain;
mod feed;
mod guard;
mod handoff;
mod health;
mod helm;
mod io;
mod latency;
mod listener;
mod log;
mod look;
mod metrics;
mod mirror;
mod plugins;
mod pool;
mod proxy;
mod publish;
mod pump;
mod queue;
mod rescue;
mod rosters;
mod start;
mod state;
mod status;
mod supervisor;
mod sys;
mod topology;
mod tunnel;
mod watchdog;
mod worker;

use std::process::ExitCode;

use clap::Parser;

#[cfg(not(debug_assertions))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(debug_assertions)]
#[global_allocator]
static ALLOCATOR: sys::CountingAllocator = sys::CountingAllocator;

fn main() -> ExitCode {
    let flags = config::Flags::parse();
    if flags.small_pages
        && let Err(error) = sys::use_small_pages()
    {
        eprintln!("ringway-dataplane: cannot do without huge pages: {error}");
    }
    let (filter, format) = (&flags.observation.log, flags.observation.log_format);
    match log::begin(filter, format).and_then(|()| start::run(&flags)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringway-dataplane: {error}");
            ExitCode::FAILURE
        }
    }
}
