//! `fault`: the real executables under load, one fault at a time, and what clients and changes felt of it.
//!
//! Starts everything itself in a temporary folder: two PostgreSQL servers, both planes, backends. Ends everything that it
//! started, also on Ctrl-C and SIGTERM. Traffic stays on loopback and is bounded in rate and time.

pub(crate) mod ask;
pub(crate) mod cluster;
mod commits;
mod cut;
mod dns;
mod judge;
mod load;
mod page;
mod plot;
mod probe;
pub(crate) mod process;
mod report;
mod rig;
mod scenario;
mod scenarios;
pub(crate) mod sql;
mod stage;
mod teller;
mod watch;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::progress::Progress;
use crate::stop::Stop;
use cluster::Programs;
use report::{Report, Row, Series};
use rig::{Rig, Workshop};
use scenario::{Outcome, Scenario};
use stage::{Effort, Line, Stage};

const EXECUTABLES: [&str; 2] = ["ringway-dataplane", "ringway-controlplane"];
const RATE_MAX: f64 = 20_000.0;
const CHANGES_MAX: f64 = 1000.0;
/// Before the fault and at the end.
const STEADY: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// List the faults and end
    #[arg(long)]
    list: bool,
    /// Only this fault; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// A selection of faults, each shorter: about a minute in all
    #[arg(long)]
    short: bool,
    /// The whole table so many times
    #[arg(long, default_value_t = 1, value_name = "N")]
    repeat: usize,
    /// Write everything to this file as JSON; - for standard output, instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with plots to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Folder of ringway-dataplane and ringway-controlplane [default: this executable's]
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// Requests a second, all clients together
    #[arg(long, default_value_t = 600.0)]
    rate: f64,
    /// Transactions a second
    #[arg(long, default_value_t = 10.0)]
    changes: f64,
    /// No progress line
    #[arg(long)]
    quiet: bool,
}

/// Exits with 1 when anything failed that should not.
pub(crate) fn execute(arguments: &Arguments) -> Result<ExitCode> {
    if arguments.list {
        for scenario in scenarios::ALL {
            let short = if scenario.short { "  (also in --short)" } else { "" };
            println!("{:<22} {}{short}", scenario.name, scenario.title);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = choose(arguments)?;
    let executables = executables(arguments.bin_dir.as_deref())?;
    // Behind the choice: a wrong name costs nothing.
    let stop = Stop::on_signals()?;
    process::adopt_orphans();
    // Short, because a Unix socket's path has 107 bytes at most.
    let folder = tempfile::Builder::new().prefix("rwfault-").tempdir_in("/tmp")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let programs = Programs::prepare(&folder.path().join("pg"))?;
    let workshop = Workshop { programs, executables, stop };
    let rows = run_all(arguments, &chosen, &workshop, folder.path())?;
    let report = Report::new(rows, workshop.executables.clone());
    if let Some(path) = &arguments.html {
        fs::write(path, page::render(&report)).with_context(|| format!("cannot write {}", path.display()))?;
    }
    match arguments.json.as_deref() {
        Some(path) if path == Path::new("-") => println!("{:#}", report.json()),
        Some(path) => {
            fs::write(path, format!("{:#}\n", report.json()))
                .with_context(|| format!("cannot write {}", path.display()))?;
            print!("{}", report.table());
        }
        None => print!("{}", report.table()),
    }
    Ok(if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn choose(arguments: &Arguments) -> Result<Vec<&'static Scenario>> {
    if !(1.0..=RATE_MAX).contains(&arguments.rate) || !(0.1..=CHANGES_MAX).contains(&arguments.changes) {
        bail!("--rate must be between 1 and {RATE_MAX}, --changes between 0.1 and {CHANGES_MAX}");
    }
    if arguments.repeat == 0 {
        bail!("--repeat must be above zero");
    }
    if arguments.only.is_empty() {
        let chosen = scenarios::ALL.iter().filter(|scenario| scenario.short || !arguments.short);
        return Ok(chosen.collect());
    }
    let find = |name: &String| {
        let found = scenarios::ALL.iter().find(|scenario| scenario.name == name);
        found.with_context(|| format!("there is no fault {name:?}; --list tells which there are"))
    };
    arguments.only.iter().map(find).collect()
}

/// The folder of both planes' executables.
pub(crate) fn executables(given: Option<&Path>) -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this executable")?;
    let folder =
        given.map_or_else(|| own.parent().map(Path::to_path_buf), |folder| Some(folder.to_path_buf()));
    let folder = folder.context("this executable is in no folder")?;
    let folder = folder.canonicalize().with_context(|| format!("there is no {}", folder.display()))?;
    for name in EXECUTABLES {
        if !folder.join(name).is_file() {
            bail!("no {name} in {}: build it, or give --bin-dir", folder.display());
        }
    }
    Ok(folder)
}

fn run_all(
    arguments: &Arguments,
    chosen: &[&'static Scenario],
    workshop: &Workshop,
    folder: &Path,
) -> Result<Vec<Row>> {
    let effort = Effort {
        requests_per_second: arguments.rate,
        changes_per_second: arguments.changes,
        is_short: arguments.short,
    };
    let mut progress = Progress::new(arguments.quiet);
    let total = chosen.len() * arguments.repeat;
    let mut rows = Vec::new();
    for round in 0..arguments.repeat {
        for scenario in chosen {
            let number = rows.len();
            progress.set(&format!("{}: starting everything", scenario.name));
            let line = Line { progress: &mut progress, name: scenario.name, number, total };
            let begun = Instant::now();
            let place = folder.join(number.to_string());
            let result = run_one(scenario, effort, workshop, place.clone(), line);
            workshop.stop.check()?;
            // A scenario that could not be carried out is a failure of its own, and the others go on.
            let row = match result {
                Ok(row) => row,
                Err(error) => Row::broken(scenario, &format!("{error:#}")),
            };
            rows.push(Row { round, took: begun.elapsed(), ..row });
            let _ = fs::remove_dir_all(&place);
        }
    }
    Ok(rows)
}

fn run_one(
    scenario: &'static Scenario,
    effort: Effort,
    workshop: &Workshop,
    folder: PathBuf,
    line: Line<'_>,
) -> Result<Row> {
    if let Some(reason) = scenario.needs.missing() {
        return Ok(Row::skipped(scenario, reason));
    }
    let rig = Rig::start(workshop, folder, scenario.needs)?;
    let mut stage = Stage::begin(rig, scenario, effort, line)?;
    stage.hold(STEADY)?;
    if let Outcome::Skipped(reason) = (scenario.run)(&mut stage)? {
        return Ok(Row::skipped(scenario, reason));
    }
    stage.caught_up()?;
    stage.hold(STEADY)?;
    stage.pause_changes()?;
    stage.caught_up()?;
    let (ended, record) = stage.end()?;
    let (begun, marks, excuses) = (ended.begun, ended.marks.clone(), ended.excuses.clone());
    let (verdict, done) = judge::judge(ended, &record)?;
    let series = Series::new(begun, &record, &done, &marks, &excuses);
    Ok(Row::judged(scenario, verdict, series))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn chosen(arguments: &[&str]) -> Result<Vec<&'static str>> {
        let program = Program::parse_from(["fault"].iter().chain(arguments));
        Ok(choose(&program.arguments)?.iter().map(|scenario| scenario.name).collect())
    }

    #[test]
    fn faults_are_chosen_by_name() {
        assert_eq!(chosen(&[]).unwrap().len(), scenarios::ALL.len());
        assert!(chosen(&["--short"]).unwrap().len() < scenarios::ALL.len());
        assert_eq!(chosen(&["--only", "disk-full"]).unwrap(), ["disk-full"]);
        assert!(chosen(&["--only", "nonsense"]).unwrap_err().to_string().contains("--list"));
        assert!(chosen(&["--rate", "1e9"]).is_err());
    }
}
