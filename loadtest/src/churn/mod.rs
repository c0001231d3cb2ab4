//! `churn`: what a hundred changes a second cost the requests at 100,000 routes, and how long a change takes to arrive.
//!
//! Rounds of three phases each, in a new random order each time: without changes, with changes that nobody hears because the control
//! plane stands still, and with changes that arrive. So what the machine and PostgreSQL do to the requests is told apart from what
//! the gateway does. An open loop at a fixed rate all the while, so that what a change delays is seen in everything that was due meanwhile.
//! Real executables, a real PostgreSQL, changes by SQL. Prints nothing but what failed when an answer was wrong or a change never arrived.

mod changes;
mod load;
mod report;
mod rig;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::client::Plan;
use crate::client::request::{Places, Request};
use crate::client::tally::Tally;
use crate::compare::shuffle::Shuffler;
use crate::cpu::{MachineSample, TreeSample};
use crate::fault::cluster::Programs;
use crate::progress::{Progress, bar};
use crate::stop::Stop;
use crate::{affinity, duration, socket};
use changes::{Changes, Committer};
use load::{Driver, Load};
use report::{Arm, Phase, Report};
use rig::{Order, Rig};

/// Counted for nobody: between two phases.
const BETWEEN: usize = 0;
/// After a phase's changes have begun or ended, before it counts.
const SETTLE: Duration = Duration::from_secs(1);
/// At rest everything together uses less than this share of a core for so long.
const REST_WINDOW: Duration = Duration::from_millis(500);
const REST_SHARE: u32 = 20;
const REST_WITHIN: Duration = Duration::from_secs(120);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const ROUTES_MAX: u32 = 1_000_000;
const CHANGES_MAX: f64 = 1000.0;
const RATE_MAX: f64 = 50_000.0;
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Length of a phase: each round has one without changes, one with changes that nobody hears, and one with changes
    #[arg(long, value_parser = duration::parse, default_value = "8s")]
    duration: Duration,
    /// A multiple of 100
    #[arg(long, default_value_t = 100_000)]
    routes: u32,
    /// Transactions a second
    #[arg(long, default_value_t = 100.0)]
    changes: f64,
    /// Requests a second (open loop)
    #[arg(long, default_value_t = 2_000.0)]
    rate: f64,
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Folder of ringway-dataplane and ringway-controlplane [default: this executable's]
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// The serving core has this to itself ...
    #[arg(long, default_value_t = 0)]
    gateway_core: usize,
    /// ... and everything else shares this one
    #[arg(long, default_value_t = 1)]
    other_core: usize,
    /// Write everything to this file as JSON; - for standard output, instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with plots to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// No progress line
    #[arg(long)]
    quiet: bool,
}

/// Exits with 1, and prints no table, when anything failed.
pub(crate) fn execute(arguments: &Arguments) -> Result<ExitCode> {
    check(arguments)?;
    let executables = crate::fault::executables(arguments.bin_dir.as_deref())?;
    let stop = Stop::on_signals()?;
    // What is started from here on runs there, too.
    affinity::pin(arguments.other_core)?;
    // Short, because a Unix socket's path has 107 bytes at most.
    let folder = tempfile::Builder::new().prefix("rwchurn-").tempdir_in("/tmp")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let mut progress = Progress::new(arguments.quiet);
    progress.set("starting PostgreSQL and both planes, writing the routes");
    let programs = Programs::prepare(&folder.path().join("template"))?;
    let reserved = socket::reserved(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let origin = reserved.local_addr()?;
    let order = Order {
        executables: &executables,
        programs: &programs,
        folder: folder.path().to_path_buf(),
        origin,
        routes: arguments.routes,
        gateway_core: arguments.gateway_core,
        other_core: arguments.other_core,
    };
    let rig = Rig::start(order, &stop)?;
    progress.set("waiting until all of that rests");
    rest(&stop)?;
    let report = measure(arguments, &rig, origin, &stop, &mut progress)?;
    drop(progress);
    write(arguments, &report)
}

fn write(arguments: &Arguments, report: &Report) -> Result<ExitCode> {
    let problems = report.problems();
    if !problems.is_empty() {
        eprintln!("No table:");
        for problem in problems {
            eprintln!("  {problem}");
        }
        return Ok(ExitCode::FAILURE);
    }
    if let Some(path) = &arguments.html {
        fs::write(path, report.html()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    match arguments.json.as_deref() {
        Some(path) if path == Path::new("-") => println!("{:#}", report.json()),
        Some(path) => {
            let text = format!("{:#}\n", report.json());
            fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
            print!("{}", report.table());
        }
        None => print!("{}", report.table()),
    }
    Ok(ExitCode::SUCCESS)
}

fn check(arguments: &Arguments) -> Result<()> {
    if arguments.rounds == 0 || arguments.duration.is_zero() || arguments.connections == 0 {
        bail!("--rounds, --duration and --connections must be above zero");
    }
    if !(rig::PATHS..=ROUTES_MAX).contains(&arguments.routes) || !arguments.routes.is_multiple_of(rig::PATHS)
    {
        bail!("--routes must be a multiple of {} and at most {ROUTES_MAX}", rig::PATHS);
    }
    if !(0.1..=CHANGES_MAX).contains(&arguments.changes) || !(1.0..=RATE_MAX).contains(&arguments.rate) {
        bail!("--changes must be between 0.1 and {CHANGES_MAX}, --rate between 1 and {RATE_MAX}");
    }
    let allowed = affinity::allowed()?;
    for core in [arguments.gateway_core, arguments.other_core] {
        if !allowed.contains(&core) {
            bail!("core {core} is not one of {allowed:?}: choose with --gateway-core and --other-core");
        }
    }
    if arguments.gateway_core == arguments.other_core {
        bail!("the gateway needs a core of its own");
    }
    Ok(())
}

fn measure(
    arguments: &Arguments,
    rig: &Rig,
    origin: SocketAddr,
    stop: &Stop,
    progress: &mut Progress,
) -> Result<Report> {
    let places = Places { hosts: arguments.routes / rig::PATHS, paths: rig::PATHS };
    let plan = Plan {
        address: rig.http,
        request: Request::spread(places)?,
        connections: arguments.connections,
        new_connection: false,
        timeout: REQUEST_TIMEOUT,
        body_bytes_expected: Some(load::REPLY_BYTES),
    };
    let load = Load { plan, requests_per_second: arguments.rate, core: arguments.other_core };
    let driver = Driver::start(load, origin, 1 + Arm::ALL.len() * arguments.rounds)?;
    let mut shuffler = Shuffler::new(Shuffler::random_seed());
    let (mut phases, mut changes) = (Vec::new(), Changes::default());
    for round in 0..arguments.rounds {
        let mut order = Arm::ALL;
        shuffler.shuffle(&mut order);
        for arm in order {
            let number = phases.len() + 1;
            let hall = Hall { arguments, rig, driver: &driver, stop };
            let text = format!("round {} of {}, {}", round + 1, arguments.rounds, arm.name());
            let mut show = |done: f64| {
                let done = ((number - 1) as f64 + done) / (Arm::ALL.len() * arguments.rounds) as f64;
                progress.set(&format!("{} {text}", bar(done, 30)));
            };
            phases.push(hall.phase(round, arm, number, &mut changes, &mut show)?);
        }
    }
    let has_priority = driver.has_priority;
    let mut tallies = driver.finish()?.into_iter();
    let unmeasured = tallies.next().unwrap_or_default();
    for (phase, tally) in phases.iter_mut().zip(tallies) {
        phase.tally = tally;
    }
    let applied = changes::applied(&rig.control_log());
    Ok(Report {
        phases,
        unmeasured,
        changes,
        applied,
        has_priority,
        routes: arguments.routes,
        changes_per_second: arguments.changes,
        requests_per_second: arguments.rate,
        gateway_core: arguments.gateway_core,
        other_core: arguments.other_core,
    })
}

/// Waits until PostgreSQL and both planes have nothing to do: a new configuration is also written to disk.
fn rest(stop: &Stop) -> Result<()> {
    let deadline = Instant::now() + REST_WITHIN;
    loop {
        let before = TreeSample::take(std::process::id())?;
        stop.sleep(REST_WINDOW)?;
        let used = TreeSample::take(std::process::id())?.since(&before);
        if Duration::from_nanos(used.run_ns) < REST_WINDOW / REST_SHARE {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!("PostgreSQL or the planes are busy without any request or change");
        }
    }
}

/// Where phases take place.
struct Hall<'a> {
    arguments: &'a Arguments,
    rig: &'a Rig,
    driver: &'a Driver,
    stop: &'a Stop,
}

impl Hall<'_> {
    fn phase(
        &self,
        round: usize,
        arm: Arm,
        number: usize,
        changes: &mut Changes,
        show: &mut dyn FnMut(f64),
    ) -> Result<Phase> {
        show(0.0);
        let Arguments { routes, changes: per_second, duration, .. } = *self.arguments;
        let session = (arm != Arm::Without).then(|| self.rig.session()).transpose()?;
        let first = (changes.heard.len() + changes.unheard.len()) as u64;
        if arm == Arm::Unheard {
            self.rig.hold_control();
        }
        let committer =
            session.map(|session| Committer::start(session, routes, per_second, first)).transpose()?;
        self.stop.sleep(SETTLE)?;
        let serving = rig::serving_thread(self.rig.data_pid())?;
        let before = Sample::take(serving)?;
        self.driver.enter(number);
        while let elapsed = before.at.elapsed()
            && elapsed < duration
        {
            show(elapsed.as_secs_f64() / duration.as_secs_f64());
            if !self.driver.is_alive() {
                bail!("the load has ended");
            }
            self.stop.sleep(LOOK_EVERY.min(duration.saturating_sub(elapsed)))?;
        }
        self.driver.enter(BETWEEN);
        let after = Sample::take(serving)?;
        if let Some(committer) = committer {
            let done = committer.finish()?;
            self.rig.release_control();
            if let Some(last) = done.last() {
                self.rig.served(last.revision, self.stop)?;
            }
            if arm == Arm::Unheard { &mut changes.unheard } else { &mut changes.heard }.extend(done);
        }
        self.stop.sleep(SETTLE)?;
        let wall_ns = (after.at - before.at).as_nanos() as f64;
        let (own, serving) = (after.own.since(&before.own), after.serving.since(&before.serving));
        let machine = after.machine.since(&before.machine);
        Ok(Phase {
            round,
            arm,
            tally: Tally::default(),
            serving_cores: serving.run_ns as f64 / wall_ns,
            serving_waiting_cores: serving.wait_ns as f64 / wall_ns,
            foreign_cores: machine.busy_ns.saturating_sub(own.run_ns) as f64 / wall_ns,
        })
    }
}

/// Time on the processors at one moment.
struct Sample {
    at: Instant,
    own: TreeSample,
    serving: TreeSample,
    machine: MachineSample,
}

impl Sample {
    fn take(serving_thread: u32) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            // PostgreSQL and both planes are children of this program.
            own: TreeSample::take(std::process::id())?,
            serving: TreeSample::of_thread(serving_thread)?,
            machine: MachineSample::take()?,
        })
    }
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

    #[test]
    fn senseless_arguments_are_refused() {
        for wrong in [
            &["--routes", "150"][..],
            &["--rounds", "0"],
            &["--changes", "0"],
            &["--rate", "1e9"],
            &["--gateway-core", "1"],
            &["--gateway-core", "5000"],
        ] {
            let program = Program::parse_from([&["churn"], wrong].concat());
            assert!(check(&program.arguments).is_err(), "{wrong:?}");
        }
    }
}
