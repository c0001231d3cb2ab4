//! The clients: open loops that send by a timetable whatever happens, each on connections of its own kind.
//!
//! A request counts from the time when it was due, so that a gateway which stalls cannot hide the requests that were not
//! sent meanwhile (no coordinated omission). The rate is bounded; every request is kept one by one, because which
//! of them failed when decides whose fault it was.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::client::pace::Pace;
use crate::client::request::{Request, Target};
use crate::client::tally::Failure;
use crate::client::{Client, Event, Plan};
use crate::poll::Poller;

/// A scenario that runs longer than this hangs.
const RUN_MAX: Duration = Duration::from_secs(600);
/// From the due time on. Longer than the machine stalls, shorter than a person waits.
const TIMEOUT: Duration = Duration::from_secs(8);
const HEAD_START: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_millis(50);
/// The origin's default body.
const BODY_BYTES: u64 = 128;
const UPLOAD_BYTES: usize = 16 * 1024;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// GET on kept connections.
    Kept,
    /// GET, each on a connection of its own.
    Fresh,
    /// GET whose answer takes 250 ms, so that there are always requests in flight.
    Slow,
    /// POST of 16 KiB that comes back. Not idempotent: a gateway may not send it twice.
    Upload,
}

/// Every stream; what most scenarios want.
pub(crate) const ALL: &[Stream] = &[Stream::Kept, Stream::Fresh, Stream::Slow, Stream::Upload];
/// For faults of backends: a POST that was in flight on a node that dies is lost by the rules of HTTP (RFC 9110 section
/// 9.2.2: a proxy must not repeat it), and that is no fault of the gateway.
pub(crate) const IDEMPOTENT: &[Stream] = &[Stream::Kept, Stream::Fresh, Stream::Slow];

/// One request as it went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) stream: Stream,
    pub(crate) event: Event,
}

#[derive(Debug)]
pub(crate) struct Load {
    threads: Vec<JoinHandle<Result<Vec<Sent>>>>,
    stop: Arc<AtomicBool>,
    pub(crate) sent: Arc<AtomicU64>,
    pub(crate) failed: Arc<AtomicU64>,
}

impl Stream {
    fn path(self) -> &'static str {
        match self {
            Self::Kept | Self::Fresh => "/load",
            Self::Slow => "/delay/250",
            Self::Upload => "/echo",
        }
    }

    /// Of ten requests.
    fn share(self) -> f64 {
        match self {
            Self::Kept => 6.0,
            Self::Fresh => 2.0,
            Self::Slow | Self::Upload => 1.0,
        }
    }

    fn connections(self) -> usize {
        match self {
            Self::Kept => 16,
            Self::Upload => 8,
            // Enough for requests that wait for seconds.
            Self::Fresh | Self::Slow => 64,
        }
    }
}

impl Load {
    /// Starts sending to `address`, all streams together `rate` requests a second.
    pub(crate) fn start(address: SocketAddr, streams: &'static [Stream], rate: f64) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (sent, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let shares: f64 = streams.iter().map(|stream| stream.share()).sum();
        let mut threads = Vec::new();
        for stream in streams {
            let rate = rate * stream.share() / shares;
            let mut client = client(*stream, address, rate)?;
            client.keep_events();
            let (stop, counters) = (Arc::clone(&stop), [Arc::clone(&sent), Arc::clone(&failed)]);
            let run = move || drive(*stream, client, &stop, &counters);
            threads.push(std::thread::Builder::new().name("client".into()).spawn(run)?);
        }
        Ok(Self { threads, stop, sent, failed })
    }

    /// Ends the timetables, waits for what is under way, and gives every request, by the time it was due.
    pub(crate) fn finish(mut self) -> Result<Vec<Sent>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for thread in self.threads.drain(..) {
            all.extend(thread.join().map_err(|_| anyhow!("a client thread panicked"))??);
        }
        all.sort_by_key(|sent| sent.event.intended);
        Ok(all)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn client(stream: Stream, address: SocketAddr, rate: f64) -> Result<Client> {
    let target = Target { authority: "fault.test".into(), path: stream.path().into() };
    let (method, body_bytes) = if stream == Stream::Upload { ("POST", UPLOAD_BYTES) } else { ("GET", 0) };
    let new_connection = stream == Stream::Fresh;
    let plan = Plan {
        address,
        request: Request::build(method, &target, &[], body_bytes, new_connection)?,
        connections: stream.connections(),
        new_connection,
        timeout: TIMEOUT,
        body_bytes_expected: Some(if stream == Stream::Upload { UPLOAD_BYTES as u64 } else { BODY_BYTES }),
    };
    let start = Instant::now() + HEAD_START;
    Ok(Client::new(plan, Pace::open(start, start + RUN_MAX, u64::MAX, rate)))
}

fn drive(
    stream: Stream,
    mut client: Client,
    stop: &AtomicBool,
    counters: &[Arc<AtomicU64>; 2],
) -> Result<Vec<Sent>> {
    let mut poller = Poller::new().context("cannot create an epoll instance")?;
    client.open_all(&poller);
    let mut ready = Vec::new();
    let mut counted = (0, 0);
    loop {
        let now = Instant::now();
        if stop.load(Ordering::Relaxed) {
            client.stop(now);
        }
        client.start_due(&poller, now);
        let Some(wakeup) = client.next_wakeup(now) else { break };
        let wait = wakeup.saturating_duration_since(now).min(WAIT_MAX);
        poller.wait(Some(wait), &mut ready).context("waiting for sockets failed")?;
        for ready in &ready {
            client.on_ready(*ready);
        }
        let seen = (client.tally().succeeded, client.tally().failed());
        let [sent, failed] = counters;
        sent.fetch_add(seen.0 + seen.1 - counted.0 - counted.1, Ordering::Relaxed);
        failed.fetch_add(seen.1 - counted.1, Ordering::Relaxed);
        counted = seen;
    }
    Ok(client.take_events().into_iter().map(|event| Sent { stream, event }).collect())
}

/// Whether the connection failed, and not what came over it.
pub(crate) fn is_of_the_connection(failure: Failure) -> bool {
    matches!(
        failure,
        Failure::Connect
            | Failure::Reset
            | Failure::Closed
            | Failure::ShortBody
            | Failure::Malformed
            | Failure::Io
    )
}
