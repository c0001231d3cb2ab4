//! `balance`: what each balancing algorithm makes of one slow backend of four, as a table and a picture.
//!
//! One gateway of one core, four backends in this process, one of which answers later than the others. Each algorithm gets the same load
//! for the same time, one after the other: an open loop, each request on a connection of its own, so that consistent hashing by
//! the client's port sees as many keys as requests.

mod fleet;
mod picture;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::client::pace::Pace;
use crate::client::request::{Request, Target};
use crate::client::tally::Tally;
use crate::client::{Client, Plan};
use crate::compare::peer::{self, Running};
use crate::duration::parse;
use crate::poll::Poller;
use crate::progress::Progress;
use crate::stop::Stop;
use fleet::Fleet;

pub(crate) const ALGORITHMS: [&str; 4] = ["roundrobin", "least_conn", "ewma", "chash"];
pub(crate) const NODES: usize = 4;
/// The one that is slow.
pub(crate) const SLOW: usize = 3;
const BODY_BYTES: u64 = 128;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Until the gateway has its configuration.
const READY_WITHIN: Duration = Duration::from_secs(30);
const CONNECTIONS: usize = 512;
const WAIT_MAX: Duration = Duration::from_millis(50);
const RATE_MAX: f64 = 20_000.0;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Requests a second
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// For each algorithm
    #[arg(long, default_value = "10s", value_parser = parse)]
    duration: Duration,
    /// How late the three other backends answer
    #[arg(long, default_value_t = 5, value_name = "MS")]
    fast_ms: u64,
    /// How late the slow one does
    #[arg(long, default_value_t = 200, value_name = "MS")]
    slow_ms: u64,
    /// Write the picture to this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write everything to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The executable `ringway` [default: beside this one, or in PATH]
    #[arg(long, value_name = "FILE")]
    ringway: Option<PathBuf>,
    /// No progress line
    #[arg(long)]
    quiet: bool,
}

/// What one algorithm did.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) algorithm: &'static str,
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    /// Of all requests, by node.
    pub(crate) shares: [f64; NODES],
}

/// Exits with 1 when a request failed.
pub(crate) fn execute(arguments: &Arguments) -> Result<ExitCode> {
    if !(1.0..=RATE_MAX).contains(&arguments.rate) || arguments.duration.is_zero() {
        bail!("--rate must be between 1 and {RATE_MAX}, and --duration above zero");
    }
    let stop = Stop::on_signals()?;
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let mut delays_ms = [arguments.fast_ms; NODES];
    delays_ms[SLOW] = arguments.slow_ms;
    let fleet = Fleet::start(&delays_ms)?;
    let (listen, status) = peer::free_addresses()?;
    let command = gateway(arguments, folder.path(), (listen, status), &fleet)?;
    let _running = Running::launch("ringway", command, listen, &folder.path().join("log"))?;
    await_ready(listen, &stop)?;
    let mut progress = Progress::new(arguments.quiet);
    let mut rows = Vec::new();
    for algorithm in ALGORITHMS {
        progress.set(&format!("{algorithm}: {:.0} requests/s", arguments.rate));
        rows.push(measure(arguments, algorithm, listen, &fleet, &stop)?);
    }
    progress.clear();
    print!("{}", table(&rows));
    if let Some(path) = &arguments.svg {
        let caption = format!(
            "{NODES} backends: three answer after {} ms, one after {} ms; {:.0} requests/s, one core",
            arguments.fast_ms, arguments.slow_ms, arguments.rate
        );
        write(path, &picture::render(&rows, &caption))?;
    }
    if let Some(path) = &arguments.json {
        write(path, &format!("{:#}\n", document(arguments, &rows)))?;
    }
    let is_good = rows.iter().all(|row| row.failed == 0);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn gateway(
    arguments: &Arguments,
    folder: &Path,
    (listen, status): (SocketAddr, SocketAddr),
    fleet: &Fleet,
) -> Result<Command> {
    let executable = arguments.ringway.clone().or_else(peer::find_ringway);
    let executable =
        executable.context("no ringway beside this executable or in PATH; build it or give --ringway")?;
    let nodes: serde_json::Map<String, Value> =
        fleet.addresses().map(|address| (address.to_string(), json!(1))).collect();
    let route = |algorithm: &&str| {
        json!({"id": algorithm, "uri": format!("/{algorithm}"), "upstream": {
            "type": algorithm, "hash_on": "vars", "key": "remote_port", "nodes": nodes,
        }})
    };
    let routes: Vec<Value> = ALGORITHMS.iter().map(route).collect();
    let file = folder.join("routes.yaml");
    // JSON is YAML too.
    write(&file, &json!({ "routes": routes }).to_string())?;
    let mut command = Command::new(executable);
    command.arg("up").arg("--file").arg(file).arg("--dir").arg(folder.join("state"));
    command.arg("--listen").arg(listen.to_string()).arg("--status").arg(status.to_string());
    command.args(["--workers", "1", "--no-demo"]);
    Ok(command)
}

fn measure(
    arguments: &Arguments,
    algorithm: &'static str,
    listen: SocketAddr,
    fleet: &Fleet,
    stop: &Stop,
) -> Result<Row> {
    let before = fleet.requests();
    let start = Instant::now();
    let pace = Pace::open(start, start + arguments.duration, u64::MAX, arguments.rate);
    let tally = drive(Client::new(plan(algorithm, listen)?, pace), stop)?;
    let counts = fleet.requests();
    let counts: Vec<f64> = counts.iter().zip(before).map(|(after, before)| (after - before) as f64).collect();
    let total: f64 = counts.iter().sum();
    let mut shares = [0.0; NODES];
    for (share, count) in shares.iter_mut().zip(counts) {
        *share = count / total.max(1.0);
    }
    let ms = |quantile: f64| tally.latency_ns.value_at_quantile(quantile) as f64 / 1e6;
    Ok(Row {
        algorithm,
        requests: tally.succeeded + tally.failed(),
        failed: tally.failed(),
        p50_ms: ms(0.5),
        p90_ms: ms(0.9),
        p99_ms: ms(0.99),
        shares,
    })
}

fn plan(algorithm: &str, listen: SocketAddr) -> Result<Plan> {
    let target = Target { authority: "balance.test".into(), path: format!("/{algorithm}") };
    Ok(Plan {
        address: listen,
        request: Request::build("GET", &target, &[], 0, true)?,
        connections: CONNECTIONS,
        new_connection: true,
        timeout: TIMEOUT,
        body_bytes_expected: Some(BODY_BYTES),
    })
}

/// Waits until the gateway has its configuration.
fn await_ready(listen: SocketAddr, stop: &Stop) -> Result<()> {
    let until = Instant::now() + READY_WITHIN;
    while Instant::now() < until {
        let start = Instant::now();
        let pace = Pace::open(start, start + TIMEOUT, 1, RATE_MAX);
        if drive(Client::new(plan(ALGORITHMS[0], listen)?, pace), stop)?.succeeded > 0 {
            return Ok(());
        }
        stop.sleep(WAIT_MAX)?;
    }
    bail!("the gateway gave no good answer within {} s", READY_WITHIN.as_secs())
}

fn drive(mut client: Client, stop: &Stop) -> Result<Tally> {
    let mut poller = Poller::new().context("cannot create an epoll instance")?;
    let mut ready = Vec::new();
    loop {
        stop.check()?;
        let now = Instant::now();
        client.start_due(&poller, now);
        let Some(wakeup) = client.next_wakeup(now) else { return Ok(client.take_tally()) };
        let wait = wakeup.saturating_duration_since(now).min(WAIT_MAX);
        poller.wait(Some(wait), &mut ready).context("waiting for sockets failed")?;
        ready.iter().for_each(|ready| client.on_ready(*ready));
    }
}

/// How far the busiest of the three equal backends is above their mean.
fn imbalance(row: &Row) -> f64 {
    let equal = || row.shares.iter().enumerate().filter(|(node, _)| *node != SLOW).map(|(_, share)| *share);
    let mean = equal().sum::<f64>() / (NODES - 1) as f64;
    equal().fold(0.0, f64::max) / mean.max(f64::MIN_POSITIVE) - 1.0
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<12}{:>10}{:>8}{:>10}{:>10}{:>10}{:>12}{:>12}\n",
        "algorithm", "requests", "failed", "p50 ms", "p90 ms", "p99 ms", "slow gets", "imbalance"
    );
    for row in rows {
        text.push_str(&format!(
            "{:<12}{:>10}{:>8}{:>10.1}{:>10.1}{:>10.1}{:>10.1} %{:>10.1} %\n",
            row.algorithm,
            row.requests,
            row.failed,
            row.p50_ms,
            row.p90_ms,
            row.p99_ms,
            row.shares.get(SLOW).copied().unwrap_or(0.0) * 100.0,
            imbalance(row) * 100.0,
        ));
    }
    text.push_str("\nimbalance: how far the busiest of the three equal backends is above their mean.\n");
    text
}

fn document(arguments: &Arguments, rows: &[Row]) -> Value {
    let row = |row: &Row| {
        json!({
            "algorithm": row.algorithm, "requests": row.requests, "failed": row.failed,
            "p50_ms": row.p50_ms, "p90_ms": row.p90_ms, "p99_ms": row.p99_ms,
            "shares": row.shares, "imbalance": imbalance(row),
        })
    };
    json!({
        "rate": arguments.rate, "fast_ms": arguments.fast_ms, "slow_ms": arguments.slow_ms,
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imbalance_is_that_of_the_equal_ones() {
        let row = |shares| Row {
            algorithm: "ewma",
            requests: 100,
            failed: 0,
            p50_ms: 1.0,
            p90_ms: 2.0,
            p99_ms: 3.0,
            shares,
        };
        assert!(imbalance(&row([0.3, 0.3, 0.3, 0.1])).abs() < 1e-9);
        assert!((imbalance(&row([0.45, 0.2, 0.25, 0.1])) - 0.5).abs() < 1e-9);
        let rows = [row([0.3, 0.3, 0.3, 0.1])];
        assert!(table(&rows).contains("10.0 %"));
        let picture = picture::render(&rows, "a < b");
        assert!(picture.starts_with("<svg") && picture.contains("a &lt; b") && !picture.contains("NaN"));
    }
}
