//! `run`: the load generator. Each thread has its own poller, connections and share of the rate; nothing is shared
//! on a request's path but two counters for the progress line.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::client::pace::Pace;
use crate::client::request::{Request, Target};
use crate::client::tally::Tally;
use crate::client::{Client, Plan};
use crate::duration;
use crate::poll::Poller;
use crate::progress::{Progress, bar};
use crate::report::Report;

/// How much too early a sleeping thread asks to be woken, at least and at most; the rest it spends looking.
const LEAD_MIN: Duration = Duration::from_micros(5);
const LEAD_MAX: Duration = Duration::from_micros(200);
/// Between connecting and the first request, so that handshakes are over.
const HEAD_START: Duration = Duration::from_millis(50);
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
const THREADS_MAX: usize = 256;
const CONNECTIONS_MAX: usize = 1_000_000;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Where to send requests: http://host:port/path
    url: String,
    /// Requests per second over all threads (open loop); without it, closed loop
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// How long to send for, such as 10s or 500ms [default: 10s, or no limit with --requests]
    #[arg(long, value_parser = duration::parse)]
    duration: Option<Duration>,
    /// Stop after so many requests
    #[arg(long)]
    requests: Option<u64>,
    /// Give a request up so long after it should have been sent
    #[arg(long, value_parser = duration::parse, default_value = "10s")]
    timeout: Duration,
    /// [default: GET, or POST with --body-bytes]
    #[arg(long)]
    method: Option<String>,
    /// "Name: value"; may be given several times
    #[arg(long = "header", value_name = "LINE")]
    headers: Vec<String>,
    #[arg(long, default_value_t = 0)]
    body_bytes: usize,
    /// Count an answer with any other body size as failed
    #[arg(long, value_name = "BYTES")]
    expect_bytes: Option<u64>,
    /// A new connection for every request
    #[arg(long)]
    new_connection: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Write a page with plots to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// No progress line
    #[arg(long)]
    quiet: bool,
}

#[derive(Debug, Default)]
struct Counters {
    succeeded: AtomicU64,
    failed: AtomicU64,
}

/// Exits with 0 when every answer was good, else with 1.
pub(crate) fn execute(arguments: &Arguments) -> Result<ExitCode> {
    check(arguments)?;
    let plan = plan(arguments)?;
    let counters = Arc::new(Counters::default());
    let start = Instant::now() + HEAD_START;
    let duration = arguments.duration.unwrap_or(match arguments.requests {
        Some(_) => Duration::from_secs(86_400),
        None => Duration::from_secs(10),
    });
    let (sender, receiver) = channel();
    for thread in 0..arguments.threads {
        let plan =
            Plan { connections: share(arguments.connections, arguments.threads, thread), ..plan.clone() };
        let pace = pace(arguments, thread, start, start + duration);
        let counters = Arc::clone(&counters);
        let sender = sender.clone();
        std::thread::Builder::new()
            .name(format!("client-{thread}"))
            .spawn(move || {
                let result = drive(plan, pace, &counters);
                // The receiver only goes away when the whole run has failed.
                let _ = sender.send(result);
            })
            .context("cannot start a thread")?;
    }
    drop(sender);
    let (tally, end) = collect(arguments, &receiver, &counters, start, duration)?;
    let report = Report {
        tally: &tally,
        elapsed: end.saturating_duration_since(start),
        requests_per_second_intended: arguments.rate,
        connections: arguments.connections,
        threads: arguments.threads,
    };
    if let Some(path) = &arguments.html {
        let page = report.html(&format!("Load on {}", arguments.url));
        fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if arguments.json {
        println!("{:#}", report.json());
    } else {
        print!("{}", report.table());
    }
    Ok(if tally.failed() == 0 && tally.succeeded > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(arguments: &Arguments) -> Result<()> {
    if !(1..=THREADS_MAX).contains(&arguments.threads) {
        bail!("--threads must be between 1 and {THREADS_MAX}");
    }
    if !(arguments.threads..=CONNECTIONS_MAX).contains(&arguments.connections) {
        bail!("--connections must be between the number of threads and {CONNECTIONS_MAX}");
    }
    if arguments.rate.is_some_and(|rate| !rate.is_finite() || rate <= 0.0) {
        bail!("--rate must be above zero");
    }
    Ok(())
}

fn plan(arguments: &Arguments) -> Result<Plan> {
    let target = Target::parse(&arguments.url)?;
    let method = arguments.method.as_deref().unwrap_or(if arguments.body_bytes > 0 { "POST" } else { "GET" });
    let request =
        Request::build(method, &target, &arguments.headers, arguments.body_bytes, arguments.new_connection)?;
    Ok(Plan {
        address: resolve(&target.host_port())?,
        request,
        connections: arguments.connections,
        new_connection: arguments.new_connection,
        timeout: arguments.timeout,
        body_bytes_expected: arguments.expect_bytes,
    })
}

fn resolve(host_port: &str) -> Result<SocketAddr> {
    let mut addresses = host_port.to_socket_addrs().with_context(|| format!("cannot resolve {host_port}"))?;
    addresses.next().with_context(|| format!("{host_port} has no address"))
}

/// The pace of one thread. Threads are shifted against each other so that together they keep the rate evenly.
fn pace(arguments: &Arguments, thread: usize, start: Instant, stop: Instant) -> Pace {
    let requests_max = arguments.requests.map_or(u64::MAX, |requests| {
        share(usize::try_from(requests).unwrap_or(usize::MAX), arguments.threads, thread) as u64
    });
    match arguments.rate {
        None => Pace::closed(start, stop, requests_max),
        Some(rate) => {
            let shift = Duration::try_from_secs_f64(thread as f64 / rate).unwrap_or_default();
            Pace::open(start + shift, stop, requests_max, rate / arguments.threads as f64)
        }
    }
}

/// What falls to one of `parts`, so that the parts add up to the whole.
fn share(whole: usize, parts: usize, part: usize) -> usize {
    whole / parts + usize::from(part < whole % parts)
}

fn drive(plan: Plan, pace: Pace, counters: &Counters) -> Result<(Tally, Instant)> {
    let mut poller = Poller::new().context("cannot create an epoll instance")?;
    let mut client = Client::new(plan, pace);
    client.open_all(&poller);
    let mut ready = Vec::new();
    let mut counted = (0, 0);
    let mut lead = Lead::default();
    loop {
        let now = Instant::now();
        client.start_due(&poller, now);
        let Some(wakeup) = client.next_wakeup(now) else { break };
        let wait = lead.shorten(wakeup.saturating_duration_since(now));
        poller.wait(Some(wait), &mut ready).context("waiting for sockets failed")?;
        if ready.is_empty() && !wait.is_zero() {
            lead.learn(now.elapsed().saturating_sub(wait));
        }
        for ready in &ready {
            client.on_ready(*ready);
        }
        let tally = client.tally();
        let seen = (tally.succeeded, tally.failed());
        if seen != counted {
            counters.succeeded.fetch_add(seen.0 - counted.0, Ordering::Relaxed);
            counters.failed.fetch_add(seen.1 - counted.1, Ordering::Relaxed);
            counted = seen;
        }
    }
    Ok((client.take_tally(), Instant::now()))
}

/// How early to wake up in order to be on time. An idle core takes some time to start again, in a virtual machine much
/// more than on bare metal; this follows what was seen, quickly up and slowly down.
#[derive(Debug)]
struct Lead {
    lead: Duration,
}

impl Default for Lead {
    fn default() -> Self {
        Self { lead: LEAD_MIN }
    }
}

impl Lead {
    fn shorten(&self, wait: Duration) -> Duration {
        wait.saturating_sub(self.lead)
    }

    fn learn(&mut self, overslept: Duration) {
        let slower = self.lead - self.lead / 64;
        // One long delay, by another program on this core, must not turn waiting into spinning.
        self.lead = slower.max(overslept.min(self.lead * 2)).clamp(LEAD_MIN, LEAD_MAX);
    }
}

/// Waits for all threads, showing how far they are.
fn collect(
    arguments: &Arguments,
    receiver: &Receiver<Result<(Tally, Instant)>>,
    counters: &Counters,
    start: Instant,
    duration: Duration,
) -> Result<(Tally, Instant)> {
    let mut progress = Progress::new(arguments.quiet || arguments.json);
    let mut total = Tally::default();
    let mut end = start;
    let mut threads = 0;
    loop {
        match receiver.recv_timeout(PROGRESS_EVERY) {
            Ok(result) => {
                let (tally, finished) = result?;
                total.merge(&tally);
                end = end.max(finished);
                threads += 1;
            }
            Err(RecvTimeoutError::Disconnected) if threads == arguments.threads => break,
            Err(RecvTimeoutError::Disconnected) => bail!("a client thread ended without a result"),
            Err(RecvTimeoutError::Timeout) => {
                let elapsed = start.elapsed();
                let succeeded = counters.succeeded.load(Ordering::Relaxed);
                let done =
                    arguments.requests.map_or(0.0, |requests| succeeded as f64 / requests.max(1) as f64);
                let failed = counters.failed.load(Ordering::Relaxed);
                progress.set(&format!(
                    "{} {:.1} s, {succeeded} good, {failed} failed, {:.0}/s",
                    bar(done.max(elapsed.as_secs_f64() / duration.as_secs_f64()), 30),
                    elapsed.as_secs_f64(),
                    succeeded as f64 / elapsed.as_secs_f64().max(1e-9),
                ));
            }
        }
    }
    progress.clear();
    Ok((total, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lead_follows_what_was_overslept() {
        let mut lead = Lead::default();
        let overslept = Duration::from_micros(60);
        for _ in 0..10 {
            lead.learn(overslept);
        }
        assert!(lead.lead >= overslept * 9 / 10 && lead.lead <= overslept, "{lead:?}");
        assert_eq!(lead.shorten(Duration::from_micros(20)), Duration::ZERO);
        lead.learn(Duration::from_secs(1));
        assert!(lead.lead <= overslept * 2, "{lead:?}");
        for _ in 0..1000 {
            lead.learn(Duration::ZERO);
        }
        assert_eq!(lead.lead, LEAD_MIN);
    }

    #[test]
    fn shares_add_up() {
        for (whole, parts) in [(10, 3), (3, 3), (64, 7), (2, 5)] {
            assert_eq!((0..parts).map(|part| share(whole, parts, part)).sum::<usize>(), whole);
        }
    }
}
