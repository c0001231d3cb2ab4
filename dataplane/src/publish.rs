//! Hands a compiled view to every core, and frees old ones where no request is served. In the same way each core hears what is
//! known of nodes' health.
//!
//! A mailbox for each core holds at most one view, the latest; a byte on the core's wake socket tells it to look. The
//! core swaps between two polls of its tasks and reports. This side keeps a reference to every view that is still
//! in use, so that the last reference is never dropped on a core.
//!
//! Invariants: views are handed over in the order in which they are published; at most
//! [`ALIVE_MAX`] are alive, and past that the next publication waits and says so.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::atomic::AtomicCell;
use crossbeam::channel::{Receiver, Sender};
use ringway_engine::upstream::Standings;
use ringway_engine::view::View;
use ringway_snapshot::Version;

/// Views alive at once: the served one, the next one, and what slow requests still hold.
const ALIVE_MAX: usize = 8;
/// How long one publication waits for old views or slow cores before it says so and goes on.
const PATIENCE: Duration = Duration::from_secs(10);

/// Holds the latest of something until its core takes it.
struct Mailbox<T>(Arc<AtomicCell<Option<Arc<T>>>>);

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Mailbox(Arc::clone(&self.0))
    }
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Mailbox(Arc::new(AtomicCell::new(None)))
    }
}

impl<T> std::fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mailbox")
    }
}

/// The sending side, used by the feed thread alone.
#[derive(Debug)]
pub(crate) struct Publisher {
    cores: Vec<Outlet>,
    applied: Receiver<Applied>,
    alive: Vec<Arc<View>>,
}

/// One core's mailbox and bell, as the publisher holds them.
#[derive(Debug)]
struct Outlet {
    mailbox: Mailbox<View>,
    standings: Mailbox<Standings>,
    bell: UnixStream,
}

/// One core's mailbox and bell, as the core holds them.
#[derive(Debug)]
pub(crate) struct Inlet {
    core: usize,
    mailbox: Mailbox<View>,
    standings: Mailbox<Standings>,
    applied: Sender<Applied>,
    /// Readable when something is in the mailbox.
    pub(crate) bell: UnixStream,
}

/// A core has swapped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Applied {
    core: usize,
    version: Version,
    at: Instant,
}

/// When the first and the last core had swapped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) first: Instant,
    pub(crate) last: Instant,
}

/// A publication that did not reach every core in time. It stays in the mailboxes and will be applied.
#[derive(Debug, thiserror::Error)]
#[error("cores {missing:?} did not take version {version} within {} s; they are busy or stuck", PATIENCE.as_secs())]
pub(crate) struct SlowCores {
    version: Version,
    missing: Vec<usize>,
}

/// A publisher and the inlets of as many cores.
pub(crate) fn channel(cores: usize) -> std::io::Result<(Publisher, Vec<Inlet>)> {
    let (sender, applied) = crossbeam::channel::unbounded();
    let mut outlets = Vec::with_capacity(cores);
    let mut inlets = Vec::with_capacity(cores);
    for core in 0..cores {
        let (near, far) = UnixStream::pair()?;
        near.set_nonblocking(true)?;
        far.set_nonblocking(true)?;
        let mailbox = Mailbox::default();
        let standings = Mailbox::default();
        outlets.push(Outlet { mailbox: mailbox.clone(), standings: standings.clone(), bell: near });
        inlets.push(Inlet { core, mailbox, standings, applied: sender.clone(), bell: far });
    }
    Ok((Publisher { cores: outlets, applied, alive: Vec::new() }, inlets))
}

/// Tells every core what is known of nodes. Used by the health thread alone.
#[derive(Debug)]
pub(crate) struct Herald {
    cores: Vec<(Mailbox<Standings>, UnixStream)>,
    /// Kept until the next is told, so that a core never frees one.
    told: Vec<Arc<Standings>>,
}

impl Herald {
    /// Hands the latest to every core. Nobody waits for them to take it.
    pub(crate) fn tell(&mut self, standings: Standings) {
        let standings = Arc::new(standings);
        for (mailbox, bell) in &mut self.cores {
            mailbox.0.store(Some(Arc::clone(&standings)));
            // A full bell is a bell that rings already.
            let _ = bell.write(&[1]);
        }
        self.told.push(standings);
        self.told.retain(|old| Arc::strong_count(old) > 1);
    }
}

impl Publisher {
    /// Another thread's way to the same cores.
    pub(crate) fn herald(&self) -> std::io::Result<Herald> {
        let cores = self.cores.iter().map(|core| Ok((core.standings.clone(), core.bell.try_clone()?)));
        Ok(Herald { cores: cores.collect::<std::io::Result<_>>()?, told: Vec::new() })
    }

    /// Hands `view` to every core and waits until all have swapped.
    pub(crate) fn publish(&mut self, view: &Arc<View>) -> Result<Spread, SlowCores> {
        self.wait_for_room();
        self.alive.push(Arc::clone(view));
        while self.applied.try_recv().is_ok() {} // What late cores of an earlier publication said.
        for outlet in &mut self.cores {
            outlet.mailbox.0.store(Some(Arc::clone(view)));
            // A full bell is a bell that rings already.
            let _ = outlet.bell.write(&[1]);
        }
        let deadline = Instant::now() + PATIENCE;
        let mut missing: Vec<usize> = (0..self.cores.len()).collect();
        let mut spread: Option<Spread> = None;
        while !missing.is_empty() {
            let Ok(applied) = self.applied.recv_deadline(deadline) else {
                return Err(SlowCores { version: view.version, missing });
            };
            if applied.version == view.version {
                missing.retain(|core| *core != applied.core);
                let first = spread.map_or(applied.at, |spread| spread.first.min(applied.at));
                let last = spread.map_or(applied.at, |spread| spread.last.max(applied.at));
                spread = Some(Spread { first, last });
            }
        }
        let now = Instant::now();
        Ok(spread.unwrap_or(Spread { first: now, last: now }))
    }

    /// Frees views that no core and no request uses any more; returns how many are alive.
    pub(crate) fn sweep(&mut self) -> usize {
        self.alive.retain(|view| Arc::strong_count(view) > 1);
        self.alive.len()
    }

    /// How many views are alive, as of the last sweep.
    pub(crate) fn alive(&self) -> usize {
        self.alive.len()
    }

    fn wait_for_room(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.sweep() >= ALIVE_MAX {
            if Instant::now() >= deadline {
                tracing::warn!(
                    alive = self.alive.len(),
                    "old versions are still held by slow requests; publishing anyway"
                );
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Inlet {
    /// The view to swap to, if there is a new one.
    pub(crate) fn take(&self) -> Option<Arc<View>> {
        self.mailbox.0.take()
    }

    /// What is known of nodes, if that is new.
    pub(crate) fn take_standings(&self) -> Option<Arc<Standings>> {
        self.standings.0.take()
    }

    /// Tells the publisher that this core serves `version`.
    pub(crate) fn report(&self, version: Version) {
        // The publisher lives as long as the process; a closed channel means that it ends.
        let _ = self.applied.send(Applied { core: self.core, version, at: Instant::now() });
    }
}

#[cfg(test)]
mod tests {
    use ringway_snapshot::Snapshot;

    use super::*;

    fn view(revision: u64) -> Arc<View> {
        Arc::new(View::compile(&Snapshot::new(1, 1, revision, Vec::new())).unwrap())
    }

    #[test]
    fn every_core_gets_the_latest_view_and_old_ones_are_freed_here() {
        let (mut publisher, inlets) = channel(3).unwrap();
        let (told, tell) = crossbeam::channel::unbounded();
        let cores: Vec<_> =
            inlets
                .into_iter()
                .map(|inlet| {
                    let told = told.clone();
                    std::thread::spawn(move || {
                        let mut served = None;
                        while served.as_ref().is_none_or(|view: &Arc<View>| view.version.revision < 20) {
                            if let Some(view) = inlet.take() {
                                assert!(served.as_ref().is_none_or(
                                    |old: &Arc<View>| old.version.revision < view.version.revision
                                ));
                                inlet.report(view.version);
                                served = Some(view);
                            }
                            std::thread::yield_now();
                        }
                        told.send(()).unwrap();
                    })
                })
                .collect();
        for revision in 1..=20 {
            publisher.publish(&view(revision)).unwrap();
        }
        for core in cores {
            core.join().unwrap();
        }
        assert_eq!(tell.len(), 3);
        assert_eq!(publisher.sweep(), 0);
    }
}
