//! `compare`: Ringway, nginx and HAProxy under the same loads, as CPU time per request.
//!
//! One proxy worker on one core, `hammer` on another, peers in a new random order for every case of every round, a
//! fresh process per round and a fresh pool of upstream connections per measurement. When any answer had a wrong
//! status or size, no table is printed: a proxy that fails is quick.

mod case;
pub(crate) mod peer;
mod shuffle;
mod summary;
mod table;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::progress::{Progress, bar};
use crate::stop::Stop;
use crate::{affinity, duration, socket};
use case::{CASES, Case};
use peer::{Peer, Running};
use shuffle::Shuffler;
use summary::{Measurement, Row};

/// Whether the hammer has ended; seldom, because that costs one of the cores under test.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Fewer than 5 say little
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of one measurement
    #[arg(long, value_parser = duration::parse, default_value = "2s")]
    duration: Duration,
    #[arg(long, value_parser = duration::parse, default_value = "500ms")]
    warmup: Duration,
    /// Only this case; may be given several times
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// Only this peer; may be given several times
    #[arg(long = "peer", value_name = "NAME")]
    peers: Vec<String>,
    /// A proxy that runs already and forwards to --origin; may be given several times
    #[arg(long = "target", value_name = "NAME=IP:PORT=PID", value_parser = Peer::parse_target)]
    targets: Vec<Peer>,
    /// Where the backend listens; port 0 lets the kernel choose, which does not go with --target
    #[arg(long, default_value = "127.0.0.1:0")]
    origin: SocketAddr,
    /// The ringway executable [default: the one beside this one, then PATH]
    #[arg(long)]
    ringway: Option<PathBuf>,
    /// Ratios are to this peer
    #[arg(long, default_value = "nginx")]
    baseline: String,
    #[arg(long, default_value_t = 0)]
    proxy_core: usize,
    #[arg(long, default_value_t = 1)]
    hammer_core: usize,
    /// Repeat the order of an earlier comparison
    #[arg(long)]
    seed: Option<u64>,
    /// Write everything measured to this file as JSON; - for standard output, instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[arg(long)]
    quiet: bool,
}

/// Exits with 1, and prints no table, when anything failed.
pub(crate) fn execute(arguments: &Arguments) -> Result<ExitCode> {
    let comparison = Comparison::prepare(arguments)?;
    let (measurements, failures) = comparison.run()?;
    if !failures.is_empty() {
        eprintln!("No table: {} measurements failed.", failures.len());
        for failure in failures {
            eprintln!("  {failure}");
        }
        return Ok(ExitCode::FAILURE);
    }
    let cases: Vec<&'static str> = comparison.cases.iter().map(|case| case.name).collect();
    let peers: Vec<String> = comparison.peers.iter().map(|peer| peer.name.clone()).collect();
    let rows = summary::rows(&measurements, &cases, &peers, &arguments.baseline);
    let json = comparison.json(&measurements, &rows);
    match arguments.json.as_deref() {
        Some(path) if path == Path::new("-") => println!("{json:#}"),
        Some(path) => {
            fs::write(path, format!("{json:#}\n"))
                .with_context(|| format!("cannot write {}", path.display()))?;
            print!("{}", comparison.table(&rows));
        }
        None => print!("{}", comparison.table(&rows)),
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug)]
struct Comparison<'a> {
    arguments: &'a Arguments,
    cases: Vec<Case>,
    peers: Vec<Peer>,
    seed: u64,
    stop: Stop,
}

impl<'a> Comparison<'a> {
    fn prepare(arguments: &'a Arguments) -> Result<Self> {
        if arguments.rounds == 0 || arguments.duration.is_zero() {
            bail!("--rounds and --duration must be above zero");
        }
        let allowed = affinity::allowed()?;
        for core in [arguments.proxy_core, arguments.hammer_core] {
            if !allowed.contains(&core) {
                bail!("core {core} is not one of {allowed:?}: choose with --proxy-core and --hammer-core");
            }
        }
        if arguments.proxy_core == arguments.hammer_core {
            bail!("the proxy and the hammer need a core each");
        }
        if !arguments.targets.is_empty() && arguments.origin.port() == 0 {
            bail!("--target needs --origin: the address that the target forwards to");
        }
        let cases = choose_cases(&arguments.cases)?;
        let (mut peers, missing) = Peer::find_all(arguments.ringway.as_deref());
        peers.extend(arguments.targets.iter().cloned());
        for line in missing {
            eprintln!("skipped {line}");
        }
        if !arguments.peers.is_empty() {
            peers.retain(|peer| arguments.peers.contains(&peer.name));
        }
        if peers.is_empty() {
            bail!("there is nothing to compare");
        }
        if !peers.iter().any(|peer| peer.name == arguments.baseline) {
            eprintln!("no ratios: {} is not among the peers", arguments.baseline);
        }
        let seed = arguments.seed.unwrap_or_else(Shuffler::random_seed);
        // From here on there are processes and a folder that a signal must not leave behind.
        let stop = Stop::on_signals()?;
        Ok(Self { arguments, cases, peers, seed, stop })
    }

    /// All rounds, or as many as it takes until one has failures.
    fn run(&self) -> Result<(Vec<Measurement>, Vec<String>)> {
        // Bound but not listening: nobody else gets the port between two measurements.
        let reserved = socket::reserved(self.origin_or_any())
            .with_context(|| format!("cannot bind to {}", self.arguments.origin))?;
        let origin = reserved.local_addr()?;
        let directory = tempfile::Builder::new().prefix("ringway-compare-").tempdir()?;
        let mut shuffler = Shuffler::new(self.seed);
        let mut progress = Progress::new(self.arguments.quiet);
        let (mut measurements, mut failures) = (Vec::new(), Vec::new());
        let total = self.arguments.rounds * self.cases.len() * self.peers.len();
        for round in 0..self.arguments.rounds {
            let running = self.start_all(&directory.path().join(format!("round-{round}")), origin)?;
            for case in &self.cases {
                let mut order: Vec<&Running> = running.iter().collect();
                shuffler.shuffle(&mut order);
                for peer in order {
                    let done = measurements.len() + failures.len();
                    progress.set(&format!(
                        "{} round {} of {}, {}, {}",
                        bar(done as f64 / total as f64, 30),
                        round + 1,
                        self.arguments.rounds,
                        case.name,
                        peer.name
                    ));
                    let result = self.hammer(round, *case, peer, origin);
                    self.stop.check()?;
                    match result {
                        Ok(measurement) => measurements.push(measurement),
                        Err(error) => {
                            failures.push(format!(
                                "round {}, {}, {}: {error:#}",
                                round + 1,
                                case.name,
                                peer.name
                            ));
                        }
                    }
                }
            }
            if !failures.is_empty() {
                break;
            }
        }
        Ok((measurements, failures))
    }

    fn origin_or_any(&self) -> SocketAddr {
        if self.arguments.origin.port() == 0 {
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
        } else {
            self.arguments.origin
        }
    }

    fn start_all(&self, directory: &Path, origin: SocketAddr) -> Result<Vec<Running>> {
        let start = |peer: &Peer| peer.start(self.arguments.proxy_core, &directory.join(&peer.name), origin);
        self.peers.iter().map(start).collect()
    }

    /// One measurement. The hammer is a process of its own, so that its sockets and its CPU time are its own.
    fn hammer(&self, round: usize, case: Case, peer: &Running, origin: SocketAddr) -> Result<Measurement> {
        let milliseconds = |duration: Duration| format!("{}ms", duration.as_millis());
        let mut command = Command::new(std::env::current_exe().context("cannot find this executable")?);
        command.arg("hammer").arg(format!("http://{}/", peer.address));
        command.arg("--listen").arg(origin.to_string());
        command.arg("--connections").arg(case.connections.to_string());
        command.arg("--duration").arg(milliseconds(self.arguments.duration));
        command.arg("--warmup").arg(milliseconds(self.arguments.warmup));
        command.arg("--expect-bytes").arg(case.reply_bytes.to_string());
        command.arg("--body-bytes").arg(case.body_bytes.to_string());
        command.arg("--core").arg(self.arguments.hammer_core.to_string());
        command.arg("--pid").arg(peer.pid.to_string());
        command.arg("--json");
        if case.new_connection {
            command.arg("--new-connection");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut hammer = command.spawn().context("cannot start the hammer")?;
        // Its report is smaller than a pipe, so that it ends without a reader.
        while hammer.try_wait()?.is_none() {
            if let Err(stopped) = self.stop.sleep(LOOK_EVERY) {
                let _ = hammer.kill();
                let _ = hammer.wait();
                return Err(stopped);
            }
        }
        let output = hammer.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let json: Option<Value> = text.lines().nth(1).and_then(|line| serde_json::from_str(line).ok());
        let Some(json) = json else {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        };
        if !output.status.success() {
            bail!("{}", json.get("problems").unwrap_or(&Value::Null));
        }
        Measurement::read(round, case.name, &peer.name, json).context("the hammer's report lacks a figure")
    }

    fn table(&self, rows: &[Row]) -> String {
        let mut text = format!("{}\n", machine_text());
        for peer in &self.peers {
            text.push_str(&format!(
                "{}: {}\n",
                peer.name,
                peer.version().unwrap_or_else(|| "version unknown".into())
            ));
        }
        text.push('\n');
        text.push_str(&table::render(&self.cases, rows, &self.arguments.baseline));
        text.push_str(&format!("Order of the peers: --seed {}\n", self.seed));
        text
    }

    fn json(&self, measurements: &[Measurement], rows: &[Row]) -> Value {
        let peers: Vec<Value> =
            self.peers.iter().map(|peer| json!({"name": peer.name, "version": peer.version()})).collect();
        let single: Vec<Value> = measurements
            .iter()
            .map(|one| json!({"round": one.round, "case": one.case, "peer": one.peer, "hammer": one.raw}))
            .collect();
        json!({
            "machine": machine_text(),
            "seed": self.seed,
            "rounds": self.arguments.rounds,
            "baseline": self.arguments.baseline,
            "duration_ns": u64::try_from(self.arguments.duration.as_nanos()).unwrap_or(u64::MAX),
            "peers": peers,
            "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
            "measurements": single,
        })
    }
}

fn choose_cases(names: &[String]) -> Result<Vec<Case>> {
    if names.is_empty() {
        return Ok(CASES.to_vec());
    }
    let find = |name: &String| {
        Case::find(name).with_context(|| format!("there is no case {name:?}; there are {}", Case::names()))
    };
    names.iter().map(find).collect()
}

/// Processor, cores and kernel, in words.
pub(crate) fn machine_text() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{}, {cores} cores, Linux {}", model.trim_start_matches([' ', '\t', ':']), kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_chosen_by_name() {
        assert_eq!(choose_cases(&[]).unwrap().len(), CASES.len());
        assert_eq!(choose_cases(&["post-64k".into()]).unwrap()[0].body_bytes, 65_536);
        let error = choose_cases(&["fast".into()]).unwrap_err().to_string();
        assert!(error.contains("keepalive-64"), "{error}");
    }
}
