//! A request whose node says nothing is sent to another node beside it, and the first answer wins.
//!
//! Two things lead here: the node has said nothing to anybody for too long, so that it is likely to hang (`ringway.silence-ms`); or the
//! request has waited for as long as its upstream allows before it is tried twice (`ringway.hedge-ms`). Nothing is taken back: a node that was only slow may
//! still answer first. What did not win is closed.
//!
//! Only idempotent requests without a body get a second try, and none that may not be tried again. Of others it is only told that their
//! node is silent.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use ringway_engine::exchange::UpstreamFault;
use ringway_engine::upstream::{Address, Cluster, Suspicion};
use smallvec::SmallVec;

use crate::buf::Room;
use crate::core::Core;
use crate::downstream::Downstream;
use crate::pool::{self, Upstream};
use crate::proxy::{Tries, connect_fault, next_node, send_fault, write_head};
use crate::pump::{Broken, Waits};
use crate::rosters::Lease;

/// A request that waits for its answer, and whatever another try of it needs.
pub(crate) struct Asking<'r, 'c> {
    pub(crate) connection: &'r Downstream,
    pub(crate) core: &'c Rc<Core>,
    pub(crate) cluster: &'c Arc<Cluster>,
    pub(crate) tries: &'r mut Tries,
    pub(crate) waits: Waits,
    /// How long the first node has been waited for.
    pub(crate) waited: Duration,
}

/// One try.
struct Running<'c> {
    /// `None`: it has failed.
    upstream: Option<Box<Upstream>>,
    /// `None`: the caller's.
    lease: Option<Lease<'c>>,
    begun: Instant,
}

/// Another try whose connection is being made.
struct Opening<'c> {
    lease: Lease<'c>,
    task: Pin<Box<dyn Future<Output = Result<Box<Upstream>, UpstreamFault>>>>,
}

/// When to look whether another try is to begin.
struct Checks {
    hedge_at: Option<Instant>,
    look_at: Option<Instant>,
}

enum Event {
    /// The read of this try is over.
    Ended(usize),
    Opened(Result<Box<Upstream>, UpstreamFault>),
    Time,
}

impl<'c> Asking<'_, 'c> {
    /// Waits for the beginning of an answer. Gives the connection on which it comes; `lease` is then its node's, or that of the node whose try was the
    /// last to fail.
    pub(crate) async fn seek(
        mut self,
        first: Box<Upstream>,
        lease: &mut Lease<'c>,
    ) -> Result<Box<Upstream>, Broken> {
        let begun = Instant::now().checked_sub(self.waited).unwrap_or_else(Instant::now);
        self.tries.excluded.push(lease.index());
        let mut running: SmallVec<[Running<'c>; 2]> =
            SmallVec::from_iter([Running { upstream: Some(first), lease: None, begun }]);
        let mut opening: Option<Opening<'c>> = None;
        let mut checks = Checks {
            hedge_at: self.cluster.tuning.hedge_ms.map(|ms| begun + Duration::from_millis(ms.into())),
            look_at: lease.patience().map(|patience| begun + patience),
        };
        loop {
            let last_due = running
                .iter()
                .filter(|running| running.upstream.is_some())
                .map(|r| r.begun + self.waits.read);
            let wake_at = last_due.chain(checks.hedge_at).chain(checks.look_at).min();
            match next(&mut running, &mut opening, wake_at).await {
                Event::Ended(which) => {
                    let Some(upstream) = running.get_mut(which).and_then(|ended| ended.upstream.take())
                    else {
                        continue;
                    };
                    let brings = upstream.socket.reader.has_bytes();
                    let is_last = opening.is_none() && running.iter().all(|other| other.upstream.is_none());
                    // Also what has failed, when there is nothing else: it says how.
                    if brings || is_last {
                        take_lease(&mut running, which, lease);
                        if brings {
                            lease.heard(running.len() > 1);
                        }
                        self.tries.excluded.retain(|excluded| *excluded != lease.index());
                        return Ok(upstream);
                    }
                    // A kept connection that its node closed says nothing against the node.
                    if upstream.requests == 1
                        && let Some(lease) = lease_of(&mut running, which, lease)
                    {
                        lease.failed(UpstreamFault::Closed);
                    }
                }
                Event::Opened(opened) => {
                    let Some(Opening { lease: mut beside, .. }) = opening.take() else { continue };
                    match opened {
                        Ok(upstream) => {
                            checks.look_at = beside.patience().map(|patience| Instant::now() + patience);
                            running.push(Running {
                                upstream: Some(upstream),
                                lease: Some(beside),
                                begun: Instant::now(),
                            });
                        }
                        Err(fault) => {
                            beside.failed(fault);
                            if running.iter().all(|running| running.upstream.is_none()) {
                                // It was the last hope: its cause is what the client and the log are told.
                                std::mem::swap(lease, &mut beside);
                                return Err(Broken::Upstream { fault, sent: true, stale: false });
                            }
                            // The next look finds another node, if there is one.
                            checks.look_at = Some(Instant::now());
                        }
                    }
                }
                Event::Time => {
                    let expired = self.on_time(&mut running, &mut opening, lease, &mut checks);
                    if let Some(last) = expired
                        && opening.is_none()
                        && running.iter().all(|running| running.upstream.is_none())
                    {
                        take_lease(&mut running, last, lease);
                        let fault = UpstreamFault::ReadTimeout;
                        return Err(Broken::Upstream { fault, sent: true, stale: false });
                    }
                }
            }
        }
    }

    /// Does what is due. Tells which try has lasted as long as it may, the last one of several.
    fn on_time(
        &mut self,
        running: &mut [Running<'c>],
        opening: &mut Option<Opening<'c>>,
        own: &mut Lease<'c>,
        checks: &mut Checks,
    ) -> Option<usize> {
        let expired = self.expire(running, own);
        let now = Instant::now();
        let may = opening.is_none() && self.may_go_beside();
        if checks.hedge_at.is_some_and(|at| at <= now) {
            checks.hedge_at = None;
            if may && own.may_go_beside() {
                *opening = self.open_another();
            }
        }
        if checks.look_at.is_some_and(|at| at <= now) {
            checks.look_at = None;
            let newest = running.len().saturating_sub(1);
            let Some(lease) = lease_of(running, newest, own) else { return expired };
            match lease.suspicion(may) {
                Suspicion::None { again_ms } => {
                    checks.look_at = now.checked_add(Duration::from_millis(again_ms));
                }
                Suspicion::Some | Suspicion::Strong if may && opening.is_none() && lease.may_go_beside() => {
                    *opening = self.open_another();
                }
                Suspicion::Some | Suspicion::Strong => {}
            }
        }
        expired
    }

    /// Whether the request may be sent to two nodes.
    fn may_go_beside(&self) -> bool {
        let exchange = &self.connection.exchange;
        let may_repeat = exchange.may_retry(&UpstreamFault::ReadTimeout, true, true);
        may_repeat && self.connection.head.body.is_empty() && self.tries.left > 1
    }

    /// Ends tries that have lasted as long as they may.
    fn expire(&self, running: &mut [Running<'c>], own: &mut Lease<'c>) -> Option<usize> {
        let now = Instant::now();
        let mut last = None;
        for (which, one) in running.iter_mut().enumerate() {
            if one.upstream.is_none() || one.begun + self.waits.read > now {
                continue;
            }
            last = Some(which);
            one.upstream = None;
            match &mut one.lease {
                Some(lease) => lease.failed(UpstreamFault::ReadTimeout),
                None => own.failed(UpstreamFault::ReadTimeout),
            }
        }
        last
    }

    /// Begins a try at another node, if there is one.
    fn open_another(&mut self) -> Option<Opening<'c>> {
        let (lease, endpoint) = next_node(self.core, self.cluster, self.tries, false)?;
        self.tries.left -= 1;
        self.tries.excluded.push(lease.index());
        self.core.count(|counters| counters.retries.up());
        let mut head = self.core.buffers.take_empty(Room::Head);
        write_head(self.connection, self.cluster, endpoint, &mut head);
        let (core, waits) = (Rc::clone(self.core), self.waits);
        // A task of its own: it goes on to its end, whoever wins meanwhile, so that nothing of it is dropped under way.
        let task = monoio::spawn(open(core, endpoint.address.clone(), head, waits));
        Some(Opening { lease, task: Box::pin(task) })
    }
}

/// A new connection with the request sent on it, and the read of its answer armed.
async fn open(
    core: Rc<Core>,
    address: Address,
    head: Vec<u8>,
    waits: Waits,
) -> Result<Box<Upstream>, UpstreamFault> {
    core.count(|counters| counters.upstream_connects.up());
    let connected = pool::connect(&core, &address, waits.connect).await;
    let mut upstream = connected.map_err(|error| connect_fault(&error))?;
    let end = head.len();
    let written = upstream.socket.writer.write_all(head, 0..end, waits.send).await;
    core.buffers.give(written.buffer);
    written.result.map_err(|error| send_fault(&error))?;
    upstream.socket.reader.arm(core.buffers.take(upstream.room));
    Ok(upstream)
}

/// Whatever comes first.
async fn next(
    running: &mut [Running<'_>],
    opening: &mut Option<Opening<'_>>,
    wake_at: Option<Instant>,
) -> Event {
    let wait = wake_at.map_or(Duration::from_secs(3_600), |at| at.saturating_duration_since(Instant::now()));
    let mut time = pin!(monoio::time::sleep(wait));
    poll_fn(|context| {
        for (which, one) in running.iter_mut().enumerate() {
            if one.upstream.as_mut().is_some_and(|upstream| upstream.socket.reader.poll_ready(context)) {
                return Poll::Ready(Event::Ended(which));
            }
        }
        if let Some(opening) = opening
            && let Poll::Ready(opened) = opening.task.as_mut().poll(context)
        {
            return Poll::Ready(Event::Opened(opened));
        }
        time.as_mut().poll(context).map(|()| Event::Time)
    })
    .await
}

fn lease_of<'a, 'c>(
    running: &'a mut [Running<'c>],
    which: usize,
    own: &'a mut Lease<'c>,
) -> Option<&'a mut Lease<'c>> {
    running.get_mut(which).map(|running| running.lease.as_mut().unwrap_or(own))
}

/// Makes the lease of a try the caller's.
fn take_lease<'c>(running: &mut [Running<'c>], which: usize, own: &mut Lease<'c>) {
    if let Some(lease) = running.get_mut(which).and_then(|running| running.lease.as_mut()) {
        std::mem::swap(lease, own);
    }
}
