//! `ringway import`: another gateway's configuration as Ringway's objects, and a list of everything that was left out.
//!
//! The YAML on standard output is for `ringway apply -f` or `--file`; the report on standard error names each thing that has no counterpart by
//! its place. Nothing is dropped silently: what a reader does not know it lists. What is written is valid, because the validator that the planes use
//! has judged it ([`settle`]), and a field that it refuses is taken out and listed.
//!
//! A route that loses something that kept requests away from it (a plugin, an access rule) is written closed, so that it answers by itself: it must not
//! become open to more than before because somebody overlooked a line, and neither must what it kept from the route around it. One that
//! loses a condition is written with `status: 0`, as if the condition never held.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use self::found::Found;
use crate::declared::text;
use crate::failure::{Doing as _, Failure};
use crate::terminal::{plain, say, warn};
use crate::yaml;

mod apisix;
mod found;
mod nginx;
mod openapi;
mod settle;

/// Something was left out; the objects are written all the same.
const LEFT_OUT: u8 = 3;

/// From what.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, Subcommand)]
enum From {
    /// nginx's configuration: servers, locations and upstreams; includes are followed
    Nginx(FileArgs),
    /// Answers of APISIX's Admin API, or its standalone file (YAML or JSON)
    Apisix(FileArgs),
    /// An OpenAPI 3 or Swagger 2 description (YAML or JSON): servers and paths
    Openapi(OpenapiArgs),
}

/// Where it stands and where it goes. Exit code 0: all of it has a counterpart, 3: something was left out, 1: it cannot be read.
#[derive(Debug, clap::Args)]
struct FileArgs {
    /// Files to read, `-` for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write the objects to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Keep routes open that lost a plugin, a condition or an access rule
    #[arg(long)]
    keep_enabled: bool,
    /// Objects and report as one JSON document
    #[arg(long)]
    json: bool,
}

/// The same, and what a description may lack.
#[derive(Debug, clap::Args)]
struct OpenapiArgs {
    #[command(flatten)]
    file: FileArgs,
    /// The backend, in place of the description's servers
    #[arg(long, value_name = "HOST:PORT")]
    upstream: Option<String>,
    /// Host of the routes [default: any]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
}

/// Reads, judges, writes.
pub(crate) fn run(args: &ImportArgs) -> Result<u8, Failure> {
    let mut found = Found::default();
    let file = match &args.from {
        From::Nginx(args) => {
            for path in &args.files {
                nginx::read(path, &mut found)?;
            }
            args
        }
        From::Apisix(args) => {
            for path in &args.files {
                apisix::read(&path.display().to_string(), &content(path)?, &mut found)?;
            }
            args
        }
        From::Openapi(args) => {
            let options = openapi::Options { upstream: args.upstream.as_deref(), host: args.host.as_deref() };
            for path in &args.file.files {
                openapi::read(&path.display().to_string(), &content(path)?, &options, &mut found)?;
            }
            &args.file
        }
    };
    settle::settle(&mut found);
    if !file.keep_enabled {
        found.close_opened();
    }
    written(file, &found)
}

fn content(path: &std::path::Path) -> Result<String, Failure> {
    text(path).doing(|| format!("read {}", path.display()))
}

fn written(args: &FileArgs, found: &Found) -> Result<u8, Failure> {
    let objects = found.document();
    let body = if args.json {
        let report: Vec<_> = found
            .left_out()
            .iter()
            .map(|left| json!({"at": left.at, "what": left.what, "why": left.why}))
            .collect();
        json!({"objects": objects, "left_out": report, "disabled": found.disabled(), "closed": found.closed(),
            "notes": found.notes()})
        .to_string()
    } else if found.count() == 0 {
        "# nothing was found that has a counterpart\nroutes: []".to_owned()
    } else {
        yaml::document(&objects).trim_end().to_owned()
    };
    match &args.output {
        Some(path) => std::fs::write(path, body + "\n").doing(|| format!("write {}", path.display()))?,
        None => say(&body),
    }
    if !args.json {
        report(found);
    }
    Ok(if found.left_out().is_empty() { 0 } else { LEFT_OUT })
}

fn report(found: &Found) {
    for left in found.left_out() {
        warn(&plain(&format!("left out  {}: {}: {}", left.at, left.what, left.why)));
    }
    for note in found.notes() {
        warn(&plain(&format!("note      {note}")));
    }
    for id in found.closed() {
        warn(&plain(&format!(
            "closed    routes/{id}: what was left out may have kept requests away from nodes; take its fault-injection away when that is done otherwise"
        )));
    }
    for id in found.disabled() {
        warn(&plain(&format!(
            "disabled  routes/{id}: it would get requests that its condition left to others; set status 1 when that is done otherwise"
        )));
    }
    let (objects, left) = (found.count(), found.left_out().len());
    let plural = |number: usize| if number == 1 { "" } else { "s" };
    warn(&format!("{objects} object{} written, {left} thing{} left out", plural(objects), plural(left)));
}

#[cfg(test)]
mod tests;
