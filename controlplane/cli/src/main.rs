//! `ringway`: the operator's tool.
//!
//! It starts a whole gateway on one machine (`up`), shows how it is (`status`), speaks to the data plane's admin socket
//! (`ctl`) and changes the configuration through the Admin API (`apply` and others). It holds no state of its own: what it shows, the planes told it. It refuses to be on the path of
//! a request.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::failure::Failure;

mod api;
mod apply;
mod completions;
mod ctl;
mod declared;
mod demo;
mod difference;
mod failure;
mod fleet;
mod history;
mod hold;
mod import;
mod object;
mod outcome;
mod plan;
mod socket;
mod status;
mod terminal;
mod top;
mod up;
mod validate;
mod yaml;

/// Ringway, an API gateway: a thread-per-core io_uring proxy fed by PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "ringway", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a whole gateway here: source, control plane, data plane and demonstration backends
    Up(up::UpArgs),
    /// Show both planes, their versions and what is wrong (exit code 0: in step, 1: degraded, 2: down)
    Status(status::StatusArgs),
    /// Watch this node live: cores, latencies, upstreams, the last change (`--once`, `--json` for scripts)
    Top(top::TopArgs),
    /// Send a command to the data plane's admin socket, for example `ringway ctl show cores`
    Ctl(ctl::CtlArgs),
    /// Let the data plane follow another source (the lineage that its refusal named)
    Adopt(ctl::AdoptArgs),
    /// Replace the data plane's process by a new one (of another executable) without losing a request
    Upgrade(ctl::UpgradeArgs),
    /// Let /readyz fail, and after a grace take no more connections
    Drain(ctl::DrainArgs),
    /// Take a drain back, as long as connections are still taken
    Undrain(ctl::UndrainArgs),
    /// Say which route a request would take, and why not the others
    Explain(ctl::ExplainArgs),
    /// Make what is stored as files say: shows what would change, asks, writes one transaction
    Apply(apply::ApplyArgs),
    /// Show what `apply` would change (exit code 0: nothing, 1: something, 2: it cannot be told)
    Diff(apply::DiffArgs),
    /// Write all that is stored as a file that `apply` takes
    Dump(apply::DumpArgs),
    /// Show the objects of a kind, or one
    Get(object::GetArgs),
    /// Write one object
    Put(object::PutArgs),
    /// Delete one object
    Delete(object::DeleteArgs),
    /// Show who changed what and when
    History(history::HistoryArgs),
    /// Make the content of an old revision the newest
    Rollback(history::RollbackArgs),
    /// Print a completion script, for example `ringway completions bash > /etc/bash_completion.d/ringway`
    Completions(completions::CompletionsArgs),
    /// Turn the configuration of nginx or APISIX, or an OpenAPI description, into objects, and list what was left out
    Import(import::ImportArgs),
    /// Say what is wrong with a declarative file
    Validate(validate::ValidateArgs),
    #[command(hide = true)]
    DemoBackend(up::DemoBackendArgs),
    #[command(hide = true)]
    Hold(hold::HoldArgs),
}

/// A hundred thousand objects are a million small blocks of memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let as_json = std::env::args_os().any(|argument| argument == "--json");
    let parsed = Cli::try_parse().unwrap_or_else(|error| misused(&error, as_json));
    let done = match &parsed.command {
        Verb::Up(args) => up::run(args).map(|()| 0),
        Verb::Status(args) => Ok(status::run(args)),
        Verb::Top(args) => top::run(args),
        Verb::Ctl(args) => ctl::run(args),
        Verb::Adopt(args) => ctl::adopt(args),
        Verb::Upgrade(args) => ctl::upgrade(args),
        Verb::Drain(args) => ctl::drain(args),
        Verb::Undrain(args) => ctl::undrain(args),
        Verb::Explain(args) => ctl::explain(args),
        Verb::Apply(args) => Ok(apply::apply(args)),
        Verb::Diff(args) => Ok(apply::diff(args)),
        Verb::Dump(args) => Ok(apply::dump(args)),
        Verb::Get(args) => Ok(object::get(args)),
        Verb::Put(args) => Ok(object::put(args)),
        Verb::Delete(args) => Ok(object::delete(args)),
        Verb::History(args) => Ok(history::history(args)),
        Verb::Rollback(args) => Ok(history::rollback(args)),
        Verb::Completions(args) => {
            completions::run(args, &Cli::command());
            Ok(0)
        }
        Verb::Import(args) => import::run(args),
        Verb::Validate(args) => Ok(validate::run(args)),
        Verb::DemoBackend(args) => up::demo_backend(args).map(|()| 0),
        Verb::Hold(args) => hold::run(args).map(|()| 0),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => told(&failure, as_json),
    }
}

/// What clap says: help and versions as they are, misuse also as JSON where that was asked for.
fn misused(error: &clap::Error, as_json: bool) -> ! {
    if as_json && error.use_stderr() {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        terminal::document(&serde_json::json!({ "error": line }));
    }
    error.exit()
}

fn told(failure: &Failure, as_json: bool) -> ExitCode {
    if as_json {
        terminal::document(&serde_json::json!({ "error": failure.to_string() }));
    }
    terminal::warn(&format!("ringway: {failure}"));
    ExitCode::FAILURE
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command that says something, by its words; a script for a shell is none.
    fn speaking(command: &clap::Command, path: &str, found: &mut Vec<(String, bool)>) {
        for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
            let path = format!("{path} {}", inner.get_name());
            if inner.has_subcommands() {
                speaking(inner, &path, found);
            } else {
                found.push((path, inner.get_arguments().any(|argument| argument.get_id() == "json")));
            }
        }
    }

    #[test]
    fn every_command_can_speak_json() {
        let mut found = Vec::new();
        speaking(&Cli::command(), "", &mut found);
        let without: Vec<&str> =
            found.iter().filter(|(_, has)| !has).map(|(path, _)| path.as_str()).collect();
        assert_eq!(without, [" completions"]);
        assert!(found.len() > 20, "{found:?}");
        Cli::command().debug_assert();
    }
}
