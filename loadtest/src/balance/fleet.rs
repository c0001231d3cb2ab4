//! The backends: origins on threads of this process, each as late as it is told, and what each was asked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::origin::server::{Server, ServerPlan};
use crate::poll::Poller;
use crate::socket;

const BODY_BYTES: u64 = super::BODY_BYTES;
const WAIT_MAX: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Fleet {
    nodes: Vec<Node>,
    stop: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Node {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Fleet {
    pub(super) fn start(delays_ms: &[u64]) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut fleet = Self { nodes: Vec::new(), stop };
        for (number, delay_ms) in delays_ms.iter().enumerate() {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let plan =
                ServerPlan { delay_ms: *delay_ms, ..ServerPlan::new(&format!("node-{number}"), BODY_BYTES)? };
            let server = Server::new(socket::listener(any).context("cannot listen")?, plan);
            let address = server.address()?;
            let requests = Arc::new(AtomicU64::new(0));
            let (counter, stop) = (Arc::clone(&requests), Arc::clone(&fleet.stop));
            let thread = std::thread::Builder::new()
                .name(format!("node-{number}"))
                .spawn(move || serve(server, &counter, &stop))?;
            fleet.nodes.push(Node { address, requests, thread: Some(thread) });
        }
        Ok(fleet)
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.nodes.iter().map(|node| node.address)
    }

    /// Answered so far, by node.
    pub(super) fn requests(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.requests.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.nodes.iter_mut().filter_map(|node| node.thread.take()) {
            let _ = thread.join();
        }
    }
}

fn serve(mut server: Server, counter: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let mut poller = Poller::new().context("cannot create an epoll instance")?;
    server.register(&poller)?;
    let mut ready = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        server.on_time(&poller, now);
        let wait =
            server.next_wakeup().map_or(WAIT_MAX, |at| at.saturating_duration_since(now).min(WAIT_MAX));
        poller.wait(Some(wait), &mut ready).context("waiting for sockets failed")?;
        ready.iter().for_each(|ready| server.on_ready(&poller, *ready));
        counter.store(server.counts().requests, Ordering::Relaxed);
    }
    Ok(())
}
