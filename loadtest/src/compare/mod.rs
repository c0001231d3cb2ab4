//! `compare`: Ringway, nginx and HAProxy under the same loads, as CPU time per request.
//!
//! One proxy worker on one core, `hammer` on another, peers in a new random order for every case of every round, a
//! fresh process per round (but the one with a million routes, which takes long to start) and a fresh pool of upstream
//! connections per measurement. When any answer had a wrong status or size, no table is printed: a proxy that fails is quick.

mod case;
mod html;
mod idle;
pub(crate) mod peer;
mod setup;
pub(crate) mod shuffle;
mod stand;
pub(crate) mod summary;
mod table;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::progress::{Progress, bar};
use crate::stop::Stop;
use crate::{affinity, duration, socket};
use case::{CASES, Case, Entrant, Figure};
use peer::{Peer, Running};
use shuffle::Shuffler;
use stand::Stand;
use summary::{Contest, IdleMeasurement, IdleRow, Measurement, Row};

const ROUNDS: usize = 5;
const DURATION: Duration = Duration::from_secs(2);
/// With `--short`.
const ROUNDS_SHORT: usize = 3;
const DURATION_SHORT: Duration = Duration::from_secs(1);
/// Until a proxy gives its first good answer; a million routes are read in this time.
const READY_WITHIN: Duration = Duration::from_secs(300);
/// Load that makes a proxy touch all that it has, before it is measured with many hosts or idle connections.
const FIRST_LOAD: Duration = Duration::from_millis(500);
/// Whether the hammer has ended; seldom, because that costs one of the cores under test.
const LOOK_EVERY: Duration = Duration::from_millis(20);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Fewer than 5 say little [default: 5, or 3 with --short]
    #[arg(long)]
    rounds: Option<usize>,
    /// Length of one measurement [default: 2s, or 1s with --short]
    #[arg(long, value_parser = duration::parse)]
    duration: Option<Duration>,
    /// Fewer and shorter rounds, for a first look
    #[arg(long)]
    short: bool,
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
    /// Another build's ringway executable, with its planes beside it; may be given several times
    #[arg(long, value_name = "NAME=EXECUTABLE", value_parser = Peer::parse_also)]
    also: Vec<Peer>,
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
    /// Write a page with plots to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// No progress line
    #[arg(long)]
    quiet: bool,
}

/// Everything that was measured.
#[derive(Debug, Default)]
struct Measured {
    measurements: Vec<Measurement>,
    idle: Vec<IdleMeasurement>,
    failures: Vec<String>,
}

impl Measured {
    fn count(&self) -> usize {
        self.measurements.len() + self.idle.len() + self.failures.len()
    }
}

/// Exits with 1, and prints no table, when anything failed.
pub(crate) fn execute(arguments: &Arguments) -> Result<ExitCode> {
    let comparison = Comparison::prepare(arguments)?;
    let measured = comparison.run()?;
    if !measured.failures.is_empty() {
        eprintln!("No table: {} measurements failed.", measured.failures.len());
        for failure in measured.failures {
            eprintln!("  {failure}");
        }
        return Ok(ExitCode::FAILURE);
    }
    let contests = comparison.contests();
    let rows = summary::rows(&measured.measurements, &contests);
    let idle = summary::idle_rows(&measured.idle, &contests);
    if let Some(path) = &arguments.html {
        let page = html::render(&comparison.about(), &contests, &rows, &idle);
        fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let json = comparison.json(&measured, &rows, &idle);
    let table = || format!("{}\n\n{}", comparison.about().join("\n"), table::render(&contests, &rows, &idle));
    match arguments.json.as_deref() {
        Some(path) if path == Path::new("-") => println!("{json:#}"),
        Some(path) => {
            fs::write(path, format!("{json:#}\n"))
                .with_context(|| format!("cannot write {}", path.display()))?;
            print!("{}", table());
        }
        None => print!("{}", table()),
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug)]
struct Comparison<'a> {
    arguments: &'a Arguments,
    cases: Vec<Case>,
    peers: Vec<Peer>,
    rounds: usize,
    duration: Duration,
    seed: u64,
    stop: Stop,
}

impl<'a> Comparison<'a> {
    fn prepare(arguments: &'a Arguments) -> Result<Self> {
        let (rounds, duration) =
            if arguments.short { (ROUNDS_SHORT, DURATION_SHORT) } else { (ROUNDS, DURATION) };
        let rounds = arguments.rounds.unwrap_or(rounds);
        let duration = arguments.duration.unwrap_or(duration);
        if rounds == 0 || duration.is_zero() {
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
        peers.extend(arguments.also.iter().chain(&arguments.targets).cloned());
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
        Ok(Self { arguments, cases, peers, rounds, duration, seed, stop })
    }

    /// All rounds, or as many as it takes until one has failures.
    fn run(&self) -> Result<Measured> {
        // Bound but not listening: nobody else gets the port between two measurements.
        let reserved = socket::reserved(self.origin_or_any())
            .with_context(|| format!("cannot bind to {}", self.arguments.origin))?;
        let origin = reserved.local_addr()?;
        let directory = tempfile::Builder::new().prefix("ringway-compare-").tempdir()?;
        let mut stand = Stand::new(directory.path(), self.arguments.proxy_core, origin);
        let mut shuffler = Shuffler::new(self.seed);
        let mut progress = Progress::new(self.arguments.quiet);
        let mut measured = Measured::default();
        let begun = Instant::now();
        for round in 0..self.rounds {
            stand.begin_round();
            for case in self.cases.iter().filter(|case| round < self.rounds_of(case)) {
                let mut order = case.entrants(&self.peers);
                stand.keep_for(&order);
                shuffler.shuffle(&mut order);
                for entrant in order {
                    let (done, label) = (measured.count(), &entrant.label);
                    progress.set(&self.progress_line(done, round, case, label, begun));
                    let result = self.one(&mut stand, round, *case, &entrant, &mut measured);
                    self.stop.check()?;
                    if let Err(error) = result {
                        let line = format!("round {}, {}, {label}: {error:#}", round + 1, case.name);
                        measured.failures.push(line);
                    }
                }
            }
            if !measured.failures.is_empty() {
                break;
            }
        }
        Ok(measured)
    }

    /// One entrant under one case.
    fn one(
        &self,
        stand: &mut Stand<'_>,
        round: usize,
        case: Case,
        entrant: &Entrant,
        measured: &mut Measured,
    ) -> Result<()> {
        let peer = self.peers.get(entrant.peer).context("no such peer")?;
        let origin = stand.origin;
        if case.figure == Figure::MemoryPerConnection {
            let running = stand.fresh(peer, entrant.setup)?;
            self.hammer(case, entrant, &running, origin, FIRST_LOAD)?;
            running.rest(&self.stop)?;
            let core = self.arguments.hammer_core;
            let place = idle::Place { round, label: &entrant.label, origin, core };
            measured.idle.push(idle::measure(&running, place, &self.stop)?);
            return Ok(());
        }
        let (running, is_new) = stand.running(peer, entrant)?;
        if is_new && entrant.setup.places().is_some() {
            // Its good answers prove that the configuration is there, and then it may still be busy with it.
            self.hammer(case, entrant, running, origin, FIRST_LOAD)?;
            running.rest(&self.stop)?;
        }
        let json = self.hammer(case, entrant, running, origin, self.duration)?;
        let read = Measurement::read(round, case.name, &entrant.label, json);
        measured.measurements.push(read.context("the hammer's report lacks a figure")?);
        Ok(())
    }

    /// Memory does not change from round to round as time on a processor does.
    fn rounds_of(&self, case: &Case) -> usize {
        match case.figure {
            Figure::CpuPerRequest => self.rounds,
            Figure::MemoryPerConnection => (self.rounds / 2).clamp(1, idle::ROUNDS_MAX),
        }
    }

    fn progress_line(&self, done: usize, round: usize, case: &Case, label: &str, begun: Instant) -> String {
        let all = self.cases.iter().map(|case| self.rounds_of(case) * case.entrants(&self.peers).len());
        let share = done as f64 / all.sum::<usize>().max(1) as f64;
        let (round, rounds, elapsed) = (round + 1, self.rounds, begun.elapsed().as_secs());
        format!("{} round {round} of {rounds}, {elapsed} s, {}, {label}", bar(share, 30), case.name)
    }

    fn contests(&self) -> Vec<Contest> {
        let contest = |case: &Case| Contest::new(*case, &self.peers, &self.arguments.baseline);
        self.cases.iter().map(contest).collect()
    }

    fn origin_or_any(&self) -> SocketAddr {
        if self.arguments.origin.port() == 0 {
            SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
        } else {
            self.arguments.origin
        }
    }

    /// One run of the hammer; gives its report. It is a process of its own, so that its sockets and its CPU time are its own.
    fn hammer(
        &self,
        case: Case,
        entrant: &Entrant,
        proxy: &Running,
        origin: SocketAddr,
        duration: Duration,
    ) -> Result<Value> {
        let mut command = Command::new(std::env::current_exe().context("cannot find this executable")?);
        command.arg("hammer").arg(format!("http://{}/", proxy.address)).arg("--json");
        let milliseconds = |duration: Duration| format!("{}ms", duration.as_millis());
        for (flag, value) in [
            ("--listen", origin.to_string()),
            ("--connections", case.connections.to_string()),
            ("--duration", milliseconds(duration)),
            ("--warmup", milliseconds(self.arguments.warmup)),
            ("--ready-within", milliseconds(READY_WITHIN)),
            ("--expect-bytes", case.reply_bytes.to_string()),
            ("--core", self.arguments.hammer_core.to_string()),
            ("--pid", proxy.pid.to_string()),
        ] {
            command.arg(flag).arg(value);
        }
        if case.body_bytes > 0 {
            command.arg("--body-bytes").arg(case.body_bytes.to_string());
        }
        if case.new_connection {
            command.arg("--new-connection");
        }
        if let Some(places) = entrant.setup.places() {
            command.arg("--hosts").arg(places.hosts.to_string()).arg("--paths").arg(places.paths.to_string());
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
        Ok(json)
    }

    /// Machine, versions and what else decides the figures.
    fn about(&self) -> Vec<String> {
        let mut lines = vec![machine_text()];
        for peer in &self.peers {
            let version = peer.version().unwrap_or_else(|| "version unknown".into());
            lines.push(format!("{}: {version}", peer.name));
        }
        let (rounds, seconds, seed) = (self.rounds, self.duration.as_secs_f64(), self.seed);
        lines.push(format!(
            "{rounds} rounds of {seconds} s; the proxy alone on one core, client and backend on another; order of the peers: --seed {seed}"
        ));
        lines
    }

    fn json(&self, measured: &Measured, rows: &[Row], idle: &[IdleRow]) -> Value {
        let peers: Vec<Value> =
            self.peers.iter().map(|peer| json!({"name": peer.name, "version": peer.version()})).collect();
        let single: Vec<Value> = measured
            .measurements
            .iter()
            .map(|one| json!({"round": one.round, "case": one.case, "peer": one.peer, "hammer": one.raw}))
            .collect();
        json!({
            "machine": machine_text(),
            "seed": self.seed,
            "rounds": self.rounds,
            "baseline": self.arguments.baseline,
            "duration_ns": u64::try_from(self.duration.as_nanos()).unwrap_or(u64::MAX),
            "peers": peers,
            "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
            "idle": idle.iter().map(IdleRow::json).collect::<Vec<_>>(),
            "measurements": single,
            "idle_measurements": measured.idle.iter().map(IdleMeasurement::json).collect::<Vec<_>>(),
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
