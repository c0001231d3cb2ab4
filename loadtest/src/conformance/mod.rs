//! `conformance`: rows of raw HTTP/1.1 against a gateway, judged on both of its sides.
//!
//! A row says what the client sends, what the origin answers, and every behaviour that the RFCs leave open; whoever shows
//! another one fails. The suite has its own client (`client`), its own origin (`origin`) and its own strict reading of
//! messages (`message`, `chunks`), and uses none of the gateway's code nor of this tool's other HTTP code.
//!
//! Rows run in lanes: each has its own source address on loopback, by which the gateway routes it to its own origin, so that
//! whatever reaches that origin belongs to the lane's present row. A gateway that runs already has one lane.

mod case;
mod chunks;
mod client;
mod gateway;
mod judge;
mod lane;
mod message;
mod origin;
mod report;
mod table;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use self::case::Case;
use self::gateway::Gateway;
use self::lane::{Lane, Run};
use self::report::{Finding, Report};

/// The target of the runner's own requests.
pub(crate) const PROBE: &str = "/probe";
/// Between two segments that must not travel together: long enough for the gateway to look at the first one.
pub(crate) const GAP: Duration = Duration::from_millis(2);
/// Positions at which the bytes of one row are cut, when it has more.
const CUTS_PER_ROW_MAX: usize = 100;
/// Up to this length bytes are cut at every position.
const CUT_EVERYWHERE_BYTES_MAX: usize = 200;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Test a gateway that runs already; it must forward everything to 127.0.0.1:<upstream-port>
    #[arg(long, value_name = "IP:PORT", requires = "upstream_port", conflicts_with = "peer")]
    target: Option<SocketAddr>,
    /// Port of the origin on 127.0.0.1 that the target forwards to
    #[arg(long, value_name = "PORT")]
    upstream_port: Option<u16>,
    /// What to start and test
    #[arg(long, value_enum, default_value = "ringway")]
    peer: Peer,
    /// Ringway's executable [default: beside this one, then in PATH]
    #[arg(long, value_name = "PATH")]
    ringway: Option<PathBuf>,
    /// Only rows whose "category/name" contains this
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Rows at the same time
    #[arg(long, value_name = "N", default_value = "16", value_parser = clap::value_parser!(u8).range(1..=64))]
    lanes: u8,
    /// Run each row again with its bytes cut in two at every position [default: for Ringway]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    cuts: Option<bool>,
    /// Seconds that the cut runs may take; what is left out is said
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    cuts_seconds: u64,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    /// List the rows and their sources, and run nothing
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Peer {
    Ringway,
    Nginx,
    Haproxy,
}

/// Runs the suite. The exit code is 1 when a row fails.
pub(crate) fn execute(arguments: &Arguments) -> Result<ExitCode> {
    let mut cases = table::all();
    cases.retain(|case| format!("{}/{}", case.category, case.name).contains(&arguments.only));
    if arguments.list {
        for case in &cases {
            println!("{}/{} - {}", case.category, case.name, case.source);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if cases.is_empty() {
        bail!("no row's name contains {:?}", arguments.only);
    }
    let begun = Instant::now();
    let (gateway, lanes) = Gateway::start(arguments)?;
    for lane in &lanes {
        lane.wait_until_served()
            .with_context(|| format!("{} does not forward to the origin", gateway.name))?;
    }
    for (case, lane) in cases.iter_mut().zip(lanes.iter().cycle()) {
        lane::fill_in(case, lane.target);
    }
    let mut report = Report::new(gateway.name.clone());
    let runs = run_all(&lanes, &cases);
    let passed: Vec<&(usize, Run)> = runs.iter().filter(|(_, run)| run.verdict.is_ok()).collect();
    let cuts = arguments.cuts.unwrap_or(arguments.target.is_none() && arguments.peer == Peer::Ringway);
    if cuts {
        let passing: Vec<(&Case, usize)> = passed
            .iter()
            .filter_map(|(at, run)| Some((cases.get(*at)?, *run.verdict.as_ref().ok()?)))
            .collect();
        let until = Instant::now() + Duration::from_secs(arguments.cuts_seconds);
        report.cuts = Some(run_cuts(&lanes, &passing, until));
    }
    for (at, run) in &runs {
        let Some(case) = cases.get(*at) else { continue };
        report.count(case.category, run.verdict.is_ok());
        if run.verdict.is_err() {
            report.findings.push(Finding::of(case, run));
        }
    }
    report.took = begun.elapsed();
    drop(gateway);
    if arguments.json {
        report.print_json();
    } else {
        report.print();
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs every row once; the runs come with the rows' places, in their order.
fn run_all(lanes: &[Lane], cases: &[Case]) -> Vec<(usize, Run)> {
    let next = AtomicUsize::new(0);
    let runs = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for lane in lanes {
            let (next, runs) = (&next, &runs);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(at) else { break };
                    let run = lane.run(case);
                    runs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((at, run));
                }
            });
        }
    });
    let mut runs = runs.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    runs.sort_by_key(|(at, _)| *at);
    runs
}

/// What came of the cut runs.
#[derive(Debug, Default)]
pub(crate) struct CutRuns {
    pub(crate) planned: usize,
    pub(crate) done: usize,
    pub(crate) findings: Vec<Finding>,
}

/// Runs the rows that passed again, cut at one position after the other, until the time is over. All rows come to their first
/// positions before any comes to its last.
fn run_cuts(lanes: &[Lane], passing: &[(&Case, usize)], until: Instant) -> CutRuns {
    let mut jobs: Vec<(usize, usize)> = Vec::new();
    for (at, (case, _)) in passing.iter().enumerate() {
        let length = lane::cut_length(case);
        let count =
            if length < CUT_EVERYWHERE_BYTES_MAX { length.saturating_sub(1) } else { CUTS_PER_ROW_MAX };
        jobs.extend((1..=count).map(|number| (at, number * length / (count + 1))));
    }
    // A stride that shares no factor with most lengths spreads the rows and the positions.
    let stride = (1..).map(|extra| jobs.len() * 5 / 8 + extra).find(|stride| coprime(*stride, jobs.len()));
    let (stride, planned) = (stride.unwrap_or(1), jobs.len());
    let next = AtomicUsize::new(0);
    let done = Mutex::new(CutRuns { planned, ..CutRuns::default() });
    std::thread::scope(|scope| {
        for lane in lanes {
            let (next, done, jobs) = (&next, &done, &jobs);
            scope.spawn(move || {
                while Instant::now() < until {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= planned {
                        break;
                    }
                    let Some((at, position)) = jobs.get(number * stride % planned) else { break };
                    let Some((case, expected)) = passing.get(*at) else { break };
                    let cut = lane::cut(case, *position);
                    let mut run = lane.run(&cut);
                    let served = case.outcomes.get(*expected).is_some_and(case::Outcome::is_whole);
                    if let Ok(place) = run.verdict
                        && place != *expected
                        && served
                    {
                        run.verdict = Err(vec![format!("another outcome ({place}) than uncut ({expected})")]);
                    }
                    let mut done = done.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    done.done += 1;
                    if run.verdict.is_err() {
                        done.findings.push(Finding::of(&cut, &run));
                    }
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn coprime(mut a: usize, mut b: usize) -> bool {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}
