//! `hammer`: client and backend in one thread, so that on two cores one is left for the proxy between them alone.
//!
//! A closed loop saturates the proxy; CPU time per request then is the figure that carries over to other machines.
//! Every answer is checked, and at the end the backend's count must equal the client's: an answer that the backend
//! never gave, or a body that it never got, is a fault of the proxy whatever its status said.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::client::pace::Pace;
use crate::client::request::{Places, Request, Target};
use crate::client::tally::Tally;
use crate::client::{Client, Plan};
use crate::cpu::{MachineSample, MachineUse, TreeSample, TreeUse};
use crate::origin::server::{Counts, Server, ServerPlan};
use crate::poll::{Poller, Ready};
use crate::report::{duration_text, quantiles_json};
use crate::{affinity, duration, socket};

/// Probes per second until the proxy gives the first good answer.
const PROBE_RATE: f64 = 100.0;
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The proxy to send to: http://host:port/path (an IP address; nothing is resolved)
    target: String,
    /// Where the backend half listens; the proxy forwards to it
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    #[arg(long, value_parser = duration::parse, default_value = "5s")]
    duration: Duration,
    /// Not measured, at full load
    #[arg(long, value_parser = duration::parse, default_value = "500ms")]
    warmup: Duration,
    /// How long the proxy may take to give its first good answer
    #[arg(long, value_parser = duration::parse, default_value = "10s")]
    ready_within: Duration,
    /// Send a body of so many bytes, by POST
    #[arg(long, default_value_t = 0)]
    body_bytes: usize,
    /// The size that every answer must have
    #[arg(long, default_value_t = 128)]
    expect_bytes: u64,
    #[arg(long)]
    new_connection: bool,
    /// Spread GET requests over so many hosts (h000000.test and on) ...
    #[arg(long, value_name = "N", conflicts_with_all = ["body_bytes", "new_connection"])]
    hosts: Option<u32>,
    /// ... and, on each, over so many paths (/p000/item and on)
    #[arg(long, value_name = "N", default_value_t = 1, requires = "hosts")]
    paths: u32,
    /// Bind to this core
    #[arg(long)]
    core: Option<usize>,
    /// Measure the CPU time of this process and its descendants
    #[arg(long)]
    pid: Option<u32>,
    /// Print JSON instead of a table, after the line that says where it listens
    #[arg(long)]
    json: bool,
}

/// Exits with 1 when anything was not as it should be.
pub(crate) fn execute(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(core) = arguments.core {
        affinity::pin(core)?;
    }
    let plan = plan(arguments)?;
    let listener = socket::listener(arguments.listen)
        .with_context(|| format!("cannot listen on {}", arguments.listen))?;
    let mut hammer = Hammer::new(listener, arguments)?;
    println!("listening {}", hammer.server.address()?);
    let probes = hammer.probe(&plan, arguments.ready_within)?;
    let outcome = hammer.measure(plan, probes, arguments)?;
    if arguments.json {
        println!("{}", outcome.json());
    } else {
        print!("{}", outcome.table());
    }
    Ok(if outcome.problems().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn plan(arguments: &Arguments) -> Result<Plan> {
    if arguments.connections == 0 || arguments.duration.is_zero() {
        bail!("--connections and --duration must be above zero");
    }
    let target = Target::parse(&arguments.target)?;
    let method = if arguments.body_bytes > 0 { "POST" } else { "GET" };
    let address = target.host_port().parse().with_context(|| format!("{}: not IP:PORT", target.authority))?;
    Ok(Plan {
        address,
        request: match arguments.hosts {
            Some(hosts) => Request::spread(Places { hosts, paths: arguments.paths })?,
            None => Request::build(method, &target, &[], arguments.body_bytes, arguments.new_connection)?,
        },
        connections: arguments.connections,
        new_connection: arguments.new_connection,
        timeout: REQUEST_TIMEOUT,
        body_bytes_expected: Some(arguments.expect_bytes),
    })
}

#[derive(Debug)]
struct Hammer {
    poller: Poller,
    server: Server,
    ready: Vec<Ready>,
}

impl Hammer {
    fn new(listener: std::net::TcpListener, arguments: &Arguments) -> Result<Self> {
        let poller = Poller::new().context("cannot create an epoll instance")?;
        let server = Server::new(listener, ServerPlan::new("hammer", arguments.expect_bytes)?);
        server.register(&poller)?;
        Ok(Self { poller, server, ready: Vec::new() })
    }

    /// One turn of the loop that client and backend share.
    fn turn(&mut self, client: &mut Client, now: Instant, until: Instant) -> Result<()> {
        self.server.on_time(&self.poller, now);
        client.start_due(&self.poller, now);
        let wakeups = [client.next_wakeup(now), self.server.next_wakeup(), Some(until)];
        let wait = wakeups.into_iter().flatten().min().map(|at| at.saturating_duration_since(now));
        self.poller.wait(wait, &mut self.ready).context("waiting for sockets failed")?;
        for ready in self.ready.drain(..) {
            if Server::owns(ready.token) {
                self.server.on_ready(&self.poller, ready);
            } else {
                client.on_ready(ready);
            }
        }
        Ok(())
    }

    /// Asks, one request at a time, until the proxy gives a good answer. Gives the number of good answers.
    fn probe(&mut self, plan: &Plan, within: Duration) -> Result<u64> {
        let start = Instant::now();
        let deadline = start + within;
        let plan = Plan { connections: 1, timeout: PROBE_TIMEOUT, ..plan.clone() };
        let mut client = Client::new(plan, Pace::open(start, deadline, u64::MAX, PROBE_RATE));
        loop {
            let now = Instant::now();
            if client.tally().succeeded > 0 {
                return Ok(client.tally().succeeded);
            }
            if now >= deadline {
                let failures: Vec<String> = client
                    .tally()
                    .failures
                    .iter()
                    .map(|(failure, count)| format!("{count} {failure}"))
                    .collect();
                bail!("no good answer within {within:?}: {}", failures.join(", "));
            }
            self.turn(&mut client, now, deadline)?;
        }
    }

    fn measure(&mut self, plan: Plan, probes: u64, arguments: &Arguments) -> Result<Outcome> {
        // What failed probes left at the backend is no concern of the comparison below.
        let counts_before = self.server.counts();
        let start = Instant::now();
        let measured_from = start + arguments.warmup;
        let stop = measured_from + arguments.duration;
        let mut client = Client::new(plan, Pace::closed(start, stop, u64::MAX));
        client.open_all(&self.poller);
        while Instant::now() < measured_from {
            self.turn(&mut client, Instant::now(), measured_from)?;
        }
        let mut unmeasured = client.take_tally();
        let before = Sample::take(arguments.pid)?;
        while Instant::now() < stop {
            self.turn(&mut client, Instant::now(), stop)?;
        }
        let after = Sample::take(arguments.pid)?;
        let measured = client.take_tally();
        loop {
            let now = Instant::now();
            if client.is_finished(now) {
                break;
            }
            self.turn(&mut client, now, now + REQUEST_TIMEOUT)?;
        }
        unmeasured.merge(&client.take_tally());
        let counts = self.server.counts();
        Ok(Outcome {
            probes,
            wall: after.at - before.at,
            proxy: after.proxy.as_ref().zip(before.proxy.as_ref()).map(|(after, before)| after.since(before)),
            own: after.own.since(&before.own),
            machine: after.machine.since(&before.machine),
            measured,
            unmeasured,
            served: Counts {
                requests: counts.requests - counts_before.requests,
                status_requests: counts.status_requests - counts_before.status_requests,
                body_bytes: counts.body_bytes - counts_before.body_bytes,
                accepted: counts.accepted,
                malformed: counts.malformed,
            },
            sent_body_bytes: arguments.body_bytes as u64,
        })
    }
}

#[derive(Debug)]
struct Sample {
    at: Instant,
    proxy: Option<TreeSample>,
    own: TreeSample,
    machine: MachineSample,
}

impl Sample {
    fn take(pid: Option<u32>) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            proxy: pid.map(TreeSample::take).transpose()?,
            own: TreeSample::take(std::process::id())?,
            machine: MachineSample::take()?,
        })
    }
}

#[derive(Debug)]
struct Outcome {
    probes: u64,
    wall: Duration,
    proxy: Option<TreeUse>,
    own: TreeUse,
    machine: MachineUse,
    measured: Tally,
    /// Warm-up and what was under way at the end: not in the figures, but failures there count as well.
    unmeasured: Tally,
    served: Counts,
    sent_body_bytes: u64,
}

impl Outcome {
    /// Everything that makes the figures worthless.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (when, tally) in [("measured", &self.measured), ("warm-up or end", &self.unmeasured)] {
            for (failure, count) in &tally.failures {
                problems.push(format!("{count} {failure} ({when})"));
            }
        }
        if self.measured.succeeded == 0 {
            problems.push("no good answer while measuring".to_owned());
        }
        let answers = self.measured.succeeded + self.unmeasured.succeeded;
        // Nothing here asks for a status; whoever does probes the backend.
        let served = self.served.requests - self.served.status_requests;
        if problems.is_empty() && served != answers {
            problems.push(format!("{answers} answers, but the backend gave {served}"));
        }
        let body_bytes = answers.saturating_mul(self.sent_body_bytes);
        if problems.is_empty() && self.served.body_bytes != body_bytes {
            problems.push(format!("{body_bytes} bytes sent, but the backend got {}", self.served.body_bytes));
        }
        if self.served.malformed > 0 {
            problems.push(format!("the backend got {} malformed requests", self.served.malformed));
        }
        problems
    }

    fn cpu_ns_per_request(&self) -> Option<f64> {
        let requests = self.measured.succeeded;
        self.proxy.filter(|_| requests > 0).map(|proxy| proxy.run_ns as f64 / requests as f64)
    }

    fn cores(&self, ns: u64) -> f64 {
        ns as f64 / (self.wall.as_nanos() as f64).max(1.0)
    }

    fn foreign_ns(&self) -> u64 {
        let ours = self.own.run_ns + self.proxy.map_or(0, |proxy| proxy.run_ns);
        self.machine.busy_ns.saturating_sub(ours)
    }

    fn json(&self) -> Value {
        json!({
            "requests": self.measured.succeeded,
            "wall_ns": u64::try_from(self.wall.as_nanos()).unwrap_or(u64::MAX),
            "requests_per_second": self.measured.succeeded as f64 / self.wall.as_secs_f64().max(1e-9),
            "proxy_cpu_ns": self.proxy.map(|proxy| proxy.run_ns),
            "proxy_cpu_ns_per_request": self.cpu_ns_per_request(),
            "proxy_cores": self.proxy.map(|proxy| self.cores(proxy.run_ns)),
            "proxy_waiting_cores": self.proxy.map(|proxy| self.cores(proxy.wait_ns)),
            "proxy_tasks": self.proxy.map(|proxy| proxy.tasks),
            // Normal for threads that end when idle; what they used within the window is missing from the figure.
            "proxy_tasks_vanished": self.proxy.map(|proxy| proxy.tasks_vanished),
            "hammer_cores": self.cores(self.own.run_ns),
            // Without the proxy's process its time cannot be told from others'.
            "foreign_cores": self.proxy.map(|_| self.cores(self.foreign_ns())),
            "steal_cores": self.cores(self.machine.steal_ns),
            "latency_ns": quantiles_json(&self.measured.latency_ns),
            "connections_opened": self.measured.opened + self.unmeasured.opened,
            "connections_not_closed": self.measured.not_closed + self.unmeasured.not_closed,
            "origin_connections": self.served.accepted,
            "probes": self.probes,
            "problems": self.problems(),
        })
    }

    fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| text.push_str(&format!("{name:<14}{value}\n"));
        let requests = self.measured.succeeded;
        let rate = requests as f64 / self.wall.as_secs_f64().max(1e-9);
        line("requests", format!("{requests} in {:.2} s: {rate:.0}/s", self.wall.as_secs_f64()));
        if let (Some(proxy), Some(ns)) = (self.proxy, self.cpu_ns_per_request()) {
            let cores = self.cores(proxy.run_ns);
            line("proxy", format!("{} of CPU a request, {cores:.2} cores busy", duration_text(ns as u64)));
            if proxy.tasks_vanished > 0 {
                line("", format!("{} tasks of the proxy ended meanwhile, uncounted", proxy.tasks_vanished));
            }
            line("foreign", format!("{:.2} cores busy with other things", self.cores(self.foreign_ns())));
        }
        line("hammer", format!("{:.2} cores busy", self.cores(self.own.run_ns)));
        line("latency", {
            let quantile = |q| duration_text(self.measured.latency_ns.value_at_quantile(q));
            format!("p50 {}, p99 {}, p99.9 {}", quantile(0.5), quantile(0.99), quantile(0.999))
        });
        for problem in self.problems() {
            line("PROBLEM", problem);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tally::Failure;

    fn outcome() -> Outcome {
        let mut measured = Tally::default();
        for _ in 0..100 {
            measured.succeed(Duration::from_micros(50), 128);
        }
        Outcome {
            probes: 1,
            wall: Duration::from_millis(2),
            proxy: Some(TreeUse { run_ns: 1_500_000, wait_ns: 100_000, tasks: 1, tasks_vanished: 0 }),
            own: TreeUse { run_ns: 1_000_000, wait_ns: 100_000, tasks: 1, tasks_vanished: 0 },
            machine: MachineUse { busy_ns: 3_000_000, steal_ns: 0 },
            measured,
            unmeasured: Tally::default(),
            served: Counts { requests: 103, status_requests: 3, body_bytes: 6400, accepted: 1, malformed: 0 },
            sent_body_bytes: 64,
        }
    }

    #[test]
    fn a_clean_run_gives_cpu_per_request_and_foreign_load() {
        let json = outcome().json();
        assert_eq!(json["problems"], json!([]));
        assert_eq!(json["proxy_cpu_ns_per_request"], 15_000.0);
        assert_eq!(json["proxy_cores"], 0.75);
        assert_eq!(json["proxy_waiting_cores"], 0.05);
        assert_eq!(json["foreign_cores"], 0.25);
    }

    #[test]
    fn every_discrepancy_is_a_problem() {
        let problem = |spoil: fn(&mut Outcome)| {
            let mut outcome = outcome();
            spoil(&mut outcome);
            outcome.problems().join("; ")
        };
        assert!(problem(|o| o.served.requests = 102).contains("the backend gave 99"));
        assert!(problem(|o| o.served.body_bytes = 6399).contains("the backend got 6399"));
        assert!(
            problem(|o| o.unmeasured.fail(Failure::Status(502), Duration::ZERO)).contains("1 status_502")
        );
        assert!(problem(|o| o.measured.fail(Failure::WrongSize, Duration::ZERO)).contains("1 wrong_size"));
        assert!(problem(|o| o.measured = Tally::default()).contains("no good answer"));
    }
}
