//! What idle connections cost: a proxy's resident memory with thousands of them, less what it had before.
//!
//! Each connection carries one request, at a rate at which the upstream pool stays small, then all wait. At the end each is
//! asked once more: one that was closed meanwhile, or whose answer is wrong, makes the figure worthless. The process is a
//! fresh one, since no allocator gives everything back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, getrlimit};

use super::peer::Running;
use super::summary::IdleMeasurement;
use crate::client::pace::Pace;
use crate::client::request::{Request, Target};
use crate::client::{Client, Plan};
use crate::origin::server::{Server, ServerPlan};
use crate::poll::{Poller, Ready};
use crate::stop::Stop;
use crate::{affinity, memory, socket};

pub(crate) const CONNECTIONS: usize = 9_500;
/// More rounds than this tell nothing new of memory.
pub(crate) const ROUNDS_MAX: usize = 2;
const REQUESTS_PER_SECOND: f64 = 4_000.0;
/// Before the first look, so that what a process needs for its first requests does not count for connections.
const WARM_CONNECTIONS: usize = 64;
const WARM_REQUESTS: u64 = 2_000;
/// Longer than any peer keeps the buffers of a connection that has become idle.
const SETTLE: Duration = Duration::from_secs(4);
const TIMEOUT: Duration = Duration::from_secs(10);
const REPLY_BYTES: u64 = 128;
/// Files that are neither the clients' nor the upstream's connections.
const FILES_RESERVED: u64 = 500;
const WAIT_MAX: Duration = Duration::from_millis(50);

/// Where it is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) round: usize,
    pub(crate) label: &'a str,
    pub(crate) origin: SocketAddr,
    pub(crate) core: usize,
}

/// As many connections as the limit of files allows a proxy that holds two for each request.
pub(crate) fn connections() -> usize {
    let files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    usize::try_from(files.saturating_sub(FILES_RESERVED) / 2).unwrap_or(CONNECTIONS).min(CONNECTIONS)
}

/// Measures one freshly started proxy; client and backend are one thread on their own core.
pub(crate) fn measure(proxy: &Running, place: Place<'_>, stop: &Stop) -> Result<IdleMeasurement> {
    std::thread::scope(|scope| {
        let pinned = scope.spawn(|| {
            affinity::pin(place.core)?;
            Holder::new(proxy, place.origin, stop)?.measure(place)
        });
        pinned.join().unwrap_or_else(|_| bail!("the thread that holds connections panicked"))
    })
}

struct Holder<'a> {
    proxy: &'a Running,
    stop: &'a Stop,
    poller: Poller,
    server: Server,
    ready: Vec<Ready>,
}

impl<'a> Holder<'a> {
    fn new(proxy: &'a Running, origin: SocketAddr, stop: &'a Stop) -> Result<Self> {
        let poller = Poller::new().context("cannot create an epoll instance")?;
        let listener = socket::listener(origin).with_context(|| format!("cannot listen on {origin}"))?;
        let server = Server::new(listener, ServerPlan::new("idle", REPLY_BYTES)?);
        server.register(&poller)?;
        Ok(Self { proxy, stop, poller, server, ready: Vec::new() })
    }

    fn measure(mut self, place: Place<'_>) -> Result<IdleMeasurement> {
        let count = connections();
        let warm = self.client(WARM_CONNECTIONS, WARM_REQUESTS)?;
        drop(self.ask(warm, WARM_REQUESTS)?);
        self.settle(None)?;
        let bytes_before = memory::resident_bytes(self.proxy.pid)?;
        let client = self.client(count, count as u64)?;
        let mut client = self.ask(client, count as u64)?;
        self.settle(Some(&mut client))?;
        let bytes_held = memory::resident_bytes(self.proxy.pid)?;
        let opened = client.take_tally().opened;
        client.set_pace(pace(count as u64));
        let mut client = self.ask(client, count as u64)?;
        let tally = client.take_tally();
        if opened != count as u64 || tally.opened > 0 || tally.closed_idle > 0 {
            bail!(
                "{} of {count} idle connections were closed by the proxy",
                tally.closed_idle.max(tally.opened)
            );
        }
        Ok(IdleMeasurement {
            round: place.round,
            peer: place.label.to_owned(),
            connections: count,
            bytes_before,
            bytes_held,
        })
    }

    fn client(&self, connections: usize, requests: u64) -> Result<Client> {
        let target = Target { authority: "idle.test".to_owned(), path: "/".to_owned() };
        let plan = Plan {
            address: self.proxy.address,
            request: Request::build("GET", &target, &[], 0, false)?,
            connections,
            new_connection: false,
            timeout: TIMEOUT,
            body_bytes_expected: Some(REPLY_BYTES),
        };
        Ok(Client::new(plan, pace(requests)))
    }

    /// Runs the client until its requests are answered, each one well.
    fn ask(&mut self, mut client: Client, requests: u64) -> Result<Client> {
        loop {
            self.stop.check()?;
            let now = Instant::now();
            client.start_due(&self.poller, now);
            let Some(wakeup) = client.next_wakeup(now) else { break };
            self.turn(Some(&mut client), wakeup.saturating_duration_since(now))?;
        }
        let tally = client.tally();
        if tally.failed() > 0 || tally.succeeded != requests {
            bail!(
                "{} of {requests} requests were answered well; failed: {:?}",
                tally.succeeded,
                tally.failures
            );
        }
        Ok(client)
    }

    /// Lets time pass; who closes a connection meanwhile is seen.
    fn settle(&mut self, mut client: Option<&mut Client>) -> Result<()> {
        let until = Instant::now() + SETTLE;
        while let left = until.saturating_duration_since(Instant::now())
            && !left.is_zero()
        {
            self.stop.check()?;
            self.turn(client.as_deref_mut(), left)?;
        }
        Ok(())
    }

    fn turn(&mut self, mut client: Option<&mut Client>, wait: Duration) -> Result<()> {
        self.poller.wait(Some(wait.min(WAIT_MAX)), &mut self.ready).context("waiting for sockets failed")?;
        for ready in self.ready.drain(..) {
            if Server::owns(ready.token) {
                self.server.on_ready(&self.poller, ready);
            } else if let Some(client) = client.as_deref_mut() {
                client.on_ready(ready);
            }
        }
        Ok(())
    }
}

fn pace(requests: u64) -> Pace {
    let start = Instant::now();
    Pace::open(start, start + Duration::from_secs(3600), requests, REQUESTS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_connections_than_the_limit_of_files_allows() {
        assert!((1..=CONNECTIONS).contains(&connections()));
    }
}
