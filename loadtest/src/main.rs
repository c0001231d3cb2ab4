//! `ringway-loadtest`: drives a gateway, stands in for its backends, and compares it with its peers.
//!
//! Depends on none of the gateway's crates, so that a bug there cannot hide here.

#![forbid(unsafe_code)]

mod affinity;
mod balance;
mod chart;
mod churn;
mod client;
mod compare;
mod conformance;
mod cpu;
mod duration;
mod fault;
mod hammer;
mod hold;
mod http;
mod memory;
mod origin;
mod page;
mod poll;
mod progress;
mod report;
mod run;
mod socket;
mod stop;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[derive(Debug, Parser)]
#[command(name = "ringway-loadtest", version, about = "Drives, backs and compares HTTP gateways")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send requests, at a given rate (open loop) or as fast as answers come (closed loop)
    Run(run::Arguments),
    /// Serve as a backend that is never the bottleneck
    Origin(origin::Arguments),
    /// Be client and backend in one thread, so that a proxy on the other core is saturated
    Hammer(hammer::Arguments),
    /// Measure Ringway, nginx and HAProxy against each other: CPU time per request, one core each
    Compare(compare::Arguments),
    /// Show what each balancing algorithm makes of one slow backend of four
    Balance(balance::Arguments),
    /// Measure what constant change costs the requests at 100,000 routes, and how long a change takes to arrive
    Churn(churn::Arguments),
    /// Check that a gateway speaks HTTP/1.1 to the letter and cannot be desynchronised
    Conformance(conformance::Arguments),
    /// Break one part of a running gateway after the other under load, and report what clients and changes felt
    Fault(fault::Arguments),
    #[command(hide = true)]
    Hold(hold::Arguments),
}

fn main() -> ExitCode {
    raise_open_files();
    let result = match Arguments::parse().command {
        Command::Run(arguments) => run::execute(&arguments),
        Command::Origin(arguments) => origin::execute(&arguments).map(|()| ExitCode::SUCCESS),
        Command::Hammer(arguments) => hammer::execute(&arguments),
        Command::Compare(arguments) => compare::execute(&arguments),
        Command::Balance(arguments) => balance::execute(&arguments),
        Command::Churn(arguments) => churn::execute(&arguments),
        Command::Conformance(arguments) => conformance::execute(&arguments),
        Command::Fault(arguments) => fault::execute(&arguments),
        Command::Hold(arguments) => hold::execute(&arguments).map(|()| ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ringway-loadtest: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Many systems start with 1,024 files; the hard limit is what a process may have, and peers inherit it.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // A refusal shows itself when a connection cannot be made.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
