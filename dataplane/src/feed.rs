//! Where configurations come in: the disk at start, then control planes over the local socket.
//!
//! One thread decides and publishes; one short-lived thread for each control plane's connection reads, checks and
//! decodes frames. A configuration is taken whole or refused whole, with a reason the control plane and the operator see.
//!
//! Invariants: the served version only goes up (see [`Version::admit`]); an `Ack` is sent after every core has swapped; what is
//! served is soon on disk.

mod connection;
mod socket;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use ringway_engine::view::View;
use ringway_snapshot::frame::{self, FrameKind};
use ringway_snapshot::message::{Ack, Nack, Reason, ToControlplane};
use ringway_snapshot::validate::validate;
use ringway_snapshot::version::Admission;
use ringway_snapshot::{Fault, Snapshot, Version};

pub(crate) use self::connection::{Event, Frozen};
use self::connection::{Offer, Reply};
pub(crate) use self::socket::{bind_private, is_trusted, listen};
use crate::disk::Disk;
use crate::publish::{Publisher, SlowCores};
use crate::state::{RefusalNews, State};

/// How often old views are looked for while nothing happens.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// Writing the disk may take one part in so many of the time.
const DISK_DUTY: u32 = 10;

/// The feed thread's own state.
#[derive(Debug)]
pub(crate) struct FeedLoop {
    state: Arc<State>,
    publisher: Publisher,
    disk: Disk,
    /// Served, and not on disk yet.
    unsaved: Option<Snapshot>,
    save_after: Instant,
    /// Published, but some core has not swapped yet: acknowledged when the last one has.
    late: Option<(Ack, Reply)>,
    /// Nothing new is taken, because a successor is about to.
    frozen: bool,
}

impl FeedLoop {
    pub(crate) fn new(state: Arc<State>, publisher: Publisher, disk: Disk) -> FeedLoop {
        FeedLoop {
            state,
            publisher,
            disk,
            unsaved: None,
            save_after: Instant::now(),
            late: None,
            frozen: false,
        }
    }

    /// Serves the last good snapshot on disk, if there is one.
    pub(crate) fn boot(&mut self) {
        if let Some(snapshot) = self.disk.load() {
            self.start(snapshot, false);
        }
    }

    fn start(&mut self, snapshot: Snapshot, unsaved: bool) {
        let version = snapshot.version;
        let compiled = check(&snapshot);
        if unsaved && compiled.is_ok() {
            self.unsaved = Some(snapshot);
        }
        match compiled {
            Ok(view) => {
                let routes = view.counts.routes;
                if let Err(slow) = self.serve(view) {
                    tracing::warn!("{slow}");
                }
                self.state.feed().booted_from_disk = true;
                tracing::info!(%version, routes, "serving the last good snapshot from disk");
            }
            Err(faults) => log_faults("the snapshot on disk is refused", version, &faults),
        }
    }

    /// Works until every sender is gone.
    pub(crate) fn run(mut self, events: &Receiver<Event>) {
        loop {
            match events.recv_timeout(SWEEP_EVERY) {
                Ok(Event::Offer(offer)) => self.offer(*offer),
                Ok(Event::SourceRefused { version, faults }) => self.source_refused(version, faults),
                Ok(Event::Freeze(reply)) => {
                    let _ = reply.send(self.freeze()); // Who asked may have given up.
                }
                Ok(Event::Thaw) => self.frozen = false,
                Ok(Event::Stop(done)) => {
                    if !self.frozen {
                        self.save();
                    }
                    drop(done);
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // A successor may write there.
            if Instant::now() >= self.save_after && !self.frozen {
                self.save();
            }
            self.settle();
            let alive = self.publisher.sweep();
            self.state.feed().views_alive = alive;
        }
    }

    /// Serves what the predecessor serves, from these bytes or from disk; what it serves then.
    pub(crate) fn inherit(&mut self, last: Option<&str>, bytes: Option<&[u8]>) -> Option<String> {
        let served = self.served();
        if served.as_deref() == last {
            return served;
        }
        let snapshot = match bytes.map(|bytes| frame::decode::<Snapshot>(FrameKind::Disk, bytes)) {
            Some(Ok(snapshot)) => Some(snapshot),
            Some(Err(error)) => {
                tracing::error!("the predecessor's configuration is damaged: {error}");
                None
            }
            None => self.disk.load(),
        };
        if let Some(snapshot) = snapshot {
            self.start(snapshot, bytes.is_some());
        }
        self.served()
    }

    /// The version that is served, in words.
    pub(crate) fn served(&self) -> Option<String> {
        self.state.feed().view.as_ref().map(|view| view.version.to_string())
    }

    fn freeze(&mut self) -> Frozen {
        self.frozen = true;
        self.save();
        let unsaved =
            self.unsaved.as_ref().and_then(|snapshot| frame::encode(FrameKind::Disk, snapshot).ok());
        Frozen { version: self.state.feed().view.as_ref().map(|view| view.version), unsaved }
    }

    fn offer(&mut self, offer: Offer) {
        if self.frozen {
            return; // Its control plane offers it again to the process that serves then.
        }
        self.late = None;
        let Offer { snapshot, started, received, decoded, reply } = offer;
        let version = snapshot.version;
        let answer = match self.admit(&snapshot) {
            Err(reason) => Err(reason),
            Ok(Admission::Same) => {
                Ok(self.ack(version, [started, received, decoded, decoded, decoded, decoded]))
            }
            Ok(Admission::Newer) => match check(&snapshot) {
                Err(faults) => Err(Reason::Faults(faults)),
                Ok(view) => {
                    let compiled = Instant::now();
                    let swapped = self.serve(view);
                    self.unsaved = Some(snapshot);
                    match swapped {
                        Ok((first, last)) => {
                            Ok(self.ack(version, [started, received, decoded, compiled, first, last]))
                        }
                        Err(slow) => {
                            tracing::error!("{slow}");
                            let now = Instant::now();
                            let ack = self.ack(version, [started, received, decoded, compiled, now, now]);
                            self.late = Some((ack, reply));
                            return;
                        }
                    }
                }
            },
        };
        match answer {
            Ok(ack) => self.accepted(ack, &reply),
            Err(reason) => self.refused(Nack { version, reason }, &reply),
        }
    }

    /// Acknowledges what the last core has taken late.
    fn settle(&mut self) {
        let everywhere = |version| self.state.cores.iter().all(|core| core.served_version() == Some(version));
        if let Some((ack, reply)) = self.late.take_if(|(ack, _)| everywhere(ack.version)) {
            self.accepted(ack, &reply);
        }
    }

    fn admit(&self, snapshot: &Snapshot) -> Result<Admission, Reason> {
        snapshot.check_integrity().map_err(|reason| Reason::Damaged(reason.to_owned()))?;
        let offered = snapshot.version;
        let feed = self.state.feed();
        match feed.view.as_ref().map(|view| view.version) {
            None => Ok(Admission::Newer),
            Some(served) if served.lineage != offered.lineage && feed.adopted == Some(offered.lineage) => {
                Ok(Admission::Newer)
            }
            Some(served) => served.admit(&offered).map_err(Reason::Version),
        }
    }

    /// Publishes and remembers a view.
    fn serve(&mut self, view: View) -> Result<(Instant, Instant), SlowCores> {
        let view = Arc::new(view);
        let spread = self.publisher.publish(&view);
        let mut feed = self.state.feed();
        feed.view = Some(view);
        feed.applied_at = Some(Instant::now());
        feed.booted_from_disk = false;
        feed.adopted = None;
        feed.views_alive = self.publisher.alive();
        spread.map(|spread| (spread.first, spread.last))
    }

    fn ack(
        &self,
        version: Version,
        [started, received, decoded, compiled, first, last]: [Instant; 6],
    ) -> Ack {
        let us = |at: Instant| {
            u64::try_from(at.saturating_duration_since(started).as_micros()).unwrap_or(u64::MAX)
        };
        Ack {
            version,
            cores: u32::try_from(self.state.cores.len()).unwrap_or(u32::MAX),
            received_us: us(received),
            decoded_us: us(decoded),
            compiled_us: us(compiled),
            first_core_us: us(first),
            last_core_us: us(last),
        }
    }

    fn accepted(&mut self, ack: Ack, reply: &Reply) {
        if self.unsaved.is_some() {
            tracing::info!(version = %ack.version, last_core_us = ack.last_core_us, "every core serves a new version");
        }
        let mut feed = self.state.feed();
        feed.stages = Some(ack);
        // What was refused stays told until something newer is accepted.
        feed.last_refusal.take_if(|refusal| refusal.version.order() <= ack.version.order());
        drop(feed);
        reply.send(&ToControlplane::Ack(ack));
    }

    fn refused(&self, nack: Nack, reply: &Reply) {
        let (text, faults) = match &nack.reason {
            Reason::Version(refusal) => (refusal.to_string(), Vec::new()),
            Reason::Damaged(reason) => (reason.clone(), Vec::new()),
            Reason::Faults(faults) => (summary(faults), faults.clone()),
        };
        tracing::error!(version = %nack.version, "a configuration is refused, the old one keeps serving: {text}");
        for fault in &faults {
            tracing::error!(version = %nack.version, "{fault}");
        }
        self.state.feed().last_refusal =
            Some(RefusalNews { by: "data plane", version: nack.version, text, faults });
        reply.send(&ToControlplane::Nack(nack));
    }

    fn source_refused(&self, version: Version, faults: Vec<Fault>) {
        log_faults("the control plane refused a revision; the old one keeps serving", version, &faults);
        let text = summary(&faults);
        self.state.feed().last_refusal = Some(RefusalNews { by: "control plane", version, text, faults });
    }

    /// Writes what is served to disk. A large snapshot under constant change is written now and then, not each time.
    fn save(&mut self) {
        let Some(snapshot) = self.unsaved.take() else { return };
        let started = Instant::now();
        let outcome = self.disk.store(&snapshot);
        self.save_after = Instant::now() + started.elapsed() * DISK_DUTY;
        let mut feed = self.state.feed();
        match outcome {
            Ok(()) => feed.disk_error = None,
            Err(error) => {
                let text = format!(
                    "the last good snapshot cannot be written: {error}; free space or repair the folder"
                );
                if feed.disk_error.as_ref() != Some(&text) {
                    tracing::error!("{text}");
                }
                feed.disk_error = Some(text);
                drop(feed);
                self.unsaved = Some(snapshot); // Tried again after the pause.
                self.save_after = self.save_after.max(Instant::now() + Duration::from_secs(1));
            }
        }
    }
}

/// Validates and compiles.
fn check(snapshot: &Snapshot) -> Result<View, Vec<Fault>> {
    let faults = validate(&snapshot.entries);
    if faults.is_empty() { View::compile(snapshot) } else { Err(faults) }
}

fn summary(faults: &[Fault]) -> String {
    match faults {
        [] => "no reason was given".to_owned(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

fn log_faults(what: &str, version: Version, faults: &[Fault]) {
    tracing::error!(%version, "{what}");
    for fault in faults {
        tracing::error!(%version, "{fault}");
    }
}
