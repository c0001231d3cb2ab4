//! Where configurations come in: the disk at start, then control planes over the local socket.
//!
//! One thread decides and publishes; one short-lived thread for each control plane's connection reads, checks and
//! decodes frames. A configuration is taken whole or refused whole, with a reason the control plane and the operator see.
//!
//! Invariants: the served version only goes up (see [`Version::admit`]); an `Ack` is sent after every core has swapped; what is
//! served is soon on disk.

mod connection;
mod socket;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use ringway_engine::site::Site;
use ringway_engine::view::View;
use ringway_snapshot::frame::{self, FrameKind};
use ringway_snapshot::message::{Ack, Nack, Reason, ToControlplane};
use ringway_snapshot::validate::validate;
use ringway_snapshot::version::Admission;
use ringway_snapshot::{Delta, Fault, Snapshot, Validator, Version};

use self::connection::{Content, Offer, Reply};
pub(crate) use self::connection::{Event, Frozen};
pub(crate) use self::socket::{bind_private, is_trusted, listen};
use crate::disk::Keeper;
use crate::publish::{Publisher, SlowCores};
use crate::state::{RefusalNews, State};

/// How often old views are looked for while nothing happens.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// How long a version waits for names that no version before it used.
const NAMES_WAIT: Duration = Duration::from_secs(2);

/// The feed thread's own state.
#[derive(Debug)]
pub(crate) struct FeedLoop {
    state: Arc<State>,
    publisher: Publisher,
    keeper: Keeper,
    served: Option<Served>,
    /// Published, but some core has not swapped yet: acknowledged when the last one has.
    late: Option<(Ack, Reply)>,
    /// Nothing new is taken, because a successor is about to.
    frozen: bool,
}

/// The configuration that is served, as the next delta needs it.
#[derive(Debug)]
struct Served {
    snapshot: Snapshot,
    /// Made when there is time, at the latest for the first delta.
    validator: Option<Validator>,
    view: Arc<View>,
}

/// A configuration that may take the place of the served one.
struct Accepted {
    snapshot: Snapshot,
    validator: Option<Validator>,
    view: View,
}

impl FeedLoop {
    pub(crate) fn new(state: Arc<State>, publisher: Publisher, keeper: Keeper) -> FeedLoop {
        FeedLoop { state, publisher, keeper, served: None, late: None, frozen: false }
    }

    /// Serves the last good snapshot on disk, if there is one: the newest that is whole and that this release accepts.
    pub(crate) fn boot(&mut self) {
        let mut complaints = Vec::new();
        for (name, read) in self.keeper.disk().generations() {
            let (snapshot, age) = match read {
                Ok(found) => found,
                Err(reason) => {
                    tracing::error!("skipping {name}: {reason}");
                    complaints.push(format!("{name} was skipped: {reason}"));
                    continue;
                }
            };
            match check(&self.state.site, &snapshot) {
                Ok(view) => {
                    self.serve_from_disk(&snapshot, view, age, complaints.is_empty());
                    break;
                }
                Err(faults) => {
                    log_faults(&format!("{name} is refused"), snapshot.version, &faults);
                    complaints.push(format!("{name} was refused: {}", summary(&faults)));
                }
            }
        }
        if !complaints.is_empty() {
            self.state.feed().disk_error = Some(complaints.join("; "));
        }
    }

    fn serve_from_disk(&mut self, snapshot: &Snapshot, view: View, age: Option<Duration>, is_newest: bool) {
        let (version, routes) = (snapshot.version, view.counts.routes);
        let accepted = Accepted { snapshot: snapshot.clone(), validator: None, view };
        if let Err(slow) = self.serve(accepted, Duration::ZERO).1 {
            tracing::warn!("{slow}");
        }
        tracing::info!(%version, routes, "serving the last good snapshot from disk");
        let mut feed = self.state.feed();
        feed.booted_from_disk = true;
        feed.age_at_boot = age;
        if is_newest {
            feed.saved = Some(version);
        }
        drop(feed);
        if !is_newest {
            // What is bad gives way to what is served.
            self.keeper.keep(snapshot);
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
                Ok(Event::Thaw) => self.thaw(),
                Ok(Event::Stop(done)) => {
                    self.keeper.finish();
                    drop(done);
                    return;
                }
                Err(RecvTimeoutError::Timeout) => self.prepare(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.settle();
            let alive = self.publisher.sweep();
            self.state.feed().views_alive = alive;
        }
    }

    /// Does in advance what the first delta needs.
    fn prepare(&mut self) {
        if let Some(served) = &mut self.served {
            served.validator.get_or_insert_with(|| Validator::trusting(&served.snapshot.entries));
        }
    }

    /// Serves what the predecessor serves, from these bytes or from disk; what it serves then.
    pub(crate) fn inherit(&mut self, last: Option<&str>, bytes: Option<&[u8]>) -> Option<String> {
        let served = self.served();
        if served.as_deref() == last {
            return served;
        }
        match bytes.map(|bytes| frame::decode::<Snapshot>(FrameKind::Disk, bytes)) {
            Some(Ok(snapshot)) => match check(&self.state.site, &snapshot) {
                Ok(view) => self.serve_from_disk(&snapshot, view, None, false),
                Err(faults) => {
                    log_faults("the predecessor's configuration is refused", snapshot.version, &faults);
                }
            },
            Some(Err(error)) => tracing::error!("the predecessor's configuration is damaged: {error}"),
            None => self.boot(),
        }
        self.served()
    }

    /// The version that is served, in words.
    pub(crate) fn served(&self) -> Option<String> {
        self.state.feed().view.as_ref().map(|view| view.version.to_string())
    }

    /// Has the disk written, for the last time: from now on it is the successor's.
    fn freeze(&mut self) -> Frozen {
        self.frozen = true;
        self.keeper.finish();
        let served = self.served.as_ref().map(|served| &served.snapshot);
        let saved = self.state.feed().saved;
        let unsaved = served.filter(|served| saved != Some(served.version));
        let unsaved =
            unsaved.and_then(|served| frame::encode_as(served.schema(), FrameKind::Disk, served).ok());
        Frozen { version: served.map(|served| served.version), unsaved }
    }

    fn thaw(&mut self) {
        self.frozen = false;
        if let Err(error) = self.keeper.resume(Arc::clone(&self.state)) {
            tracing::error!("cannot start the thread that writes snapshots: {error}");
        }
        let saved = self.state.feed().saved;
        if let Some(served) = self.served.as_ref().filter(|served| saved != Some(served.snapshot.version)) {
            self.keeper.keep(&served.snapshot);
        }
    }

    fn offer(&mut self, offer: Offer) {
        if self.frozen {
            return; // Its control plane offers it again to the process that serves then.
        }
        self.late = None;
        let Offer { content, started, received, decoded, reply } = offer;
        let version = content.version();
        let is_delta = matches!(content, Content::Delta(_));
        let accepted = match self.accept(content) {
            Ok(Some(accepted)) => accepted,
            Ok(None) => {
                let ack = self.ack(version, [started, received, decoded, decoded, decoded, decoded]);
                return self.accepted(ack, &reply);
            }
            Err(reason) => return self.refused(Nack { version, reason }, &reply),
        };
        let compiled = Instant::now();
        let (old, swapped) = self.serve(accepted, NAMES_WAIT);
        self.state.feed().count(is_delta);
        match swapped {
            Ok((first, last)) => {
                let ack = self.ack(version, [started, received, decoded, compiled, first, last]);
                let last_core_us = ack.last_core_us;
                tracing::info!(%version, last_core_us, delta = is_delta, "every core serves a new version");
                self.accepted(ack, &reply);
            }
            Err(slow) => {
                tracing::error!("{slow}");
                let now = Instant::now();
                self.late =
                    Some((self.ack(version, [started, received, decoded, compiled, now, now]), reply));
            }
        }
        if let Some(served) = &self.served {
            self.keeper.keep(&served.snapshot);
        }
        // Only now: freeing a large one takes longer than applying a small change.
        drop(old);
    }

    /// Admits, validates and compiles; `None`: it is served already.
    fn accept(&mut self, content: Content) -> Result<Option<Accepted>, Reason> {
        if let Content::Full(snapshot) = &content {
            snapshot.check_integrity().map_err(|reason| Reason::Damaged(reason.to_owned()))?;
        }
        if self.admit(&content.version())? == Admission::Same {
            return Ok(None);
        }
        match content {
            Content::Full(snapshot) => {
                let view = check(&self.state.site, &snapshot).map_err(Reason::Faults)?;
                Ok(Some(Accepted { snapshot, validator: None, view }))
            }
            Content::Delta(delta) => self.follow(&delta).map(Some),
        }
    }

    /// Makes of what is served and a delta what comes next. Costs what changed.
    fn follow(&mut self, delta: &Delta) -> Result<Accepted, Reason> {
        let Some(served) = &mut self.served else { return Err(Reason::Base(None)) };
        let older = &served.snapshot;
        let newer = delta.apply(older).map_err(|error| {
            tracing::info!(version = %delta.version, "a delta is not used, the full configuration is asked for: {error}");
            Reason::Base(Some(older.version))
        })?;
        let mut validator = served.validator.take().unwrap_or_else(|| Validator::trusting(&older.entries));
        validator.change(&older.entries.changes(&newer.entries), &newer.entries);
        let faults = validator.faults();
        let compiled =
            if faults.is_empty() { served.view.update(older, &newer, &validator) } else { Err(faults) };
        match compiled {
            Ok(view) => Ok(Accepted { snapshot: newer, validator: Some(validator), view }),
            Err(faults) => {
                validator.change(&newer.entries.changes(&older.entries), &older.entries);
                served.validator = Some(validator);
                Err(Reason::Faults(faults))
            }
        }
    }

    /// Acknowledges what the last core has taken late.
    fn settle(&mut self) {
        let everywhere = |version| self.state.cores.iter().all(|core| core.served_version() == Some(version));
        if let Some((ack, reply)) = self.late.take_if(|(ack, _)| everywhere(ack.version)) {
            self.accepted(ack, &reply);
        }
    }

    fn admit(&self, offered: &Version) -> Result<Admission, Reason> {
        let served = self.served.as_ref().map(|served| served.snapshot.version);
        admit(served, self.state.feed().adopted, offered)
    }

    /// Publishes and remembers a view; gives back the one before. New names are waited for so long.
    fn serve(
        &mut self,
        accepted: Accepted,
        wait: Duration,
    ) -> (Option<Served>, Result<(Instant, Instant), SlowCores>) {
        let Accepted { snapshot, validator, view } = accepted;
        self.state.ward.resolve(&view, self.state.uptime_ms(), wait);
        let view = Arc::new(view);
        let spread = self.publisher.publish(&view);
        let mut feed = self.state.feed();
        feed.view = Some(Arc::clone(&view));
        feed.entries = snapshot.entries.clone();
        feed.applied_at = Some(Instant::now());
        feed.booted_from_disk = false;
        feed.adopted = None;
        feed.views_alive = self.publisher.alive();
        drop(feed);
        self.state.ward.arrived(&view);
        for (id, why) in view.unusable() {
            let old = self.served.as_ref().and_then(|old| old.view.unusable().get(id));
            if old != Some(why) {
                tracing::warn!("nobody gets in by {id}: {why}");
            }
        }
        let old = self.served.replace(Served { snapshot, validator, view });
        (old, spread.map(|spread| (spread.first, spread.last)))
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
        let mut feed = self.state.feed();
        feed.stages = Some(ack);
        // What was refused stays told until something newer is accepted.
        feed.last_refusal.take_if(|refusal| refusal.version.order() <= ack.version.order());
        drop(feed);
        reply.send(&ToControlplane::Ack(ack));
    }

    fn refused(&self, nack: Nack, reply: &Reply) {
        let (text, faults) = match &nack.reason {
            // Nothing is wrong with the configuration: it comes again, whole.
            Reason::Base(_) => return reply.send(&ToControlplane::Nack(nack)),
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
}

/// Whether a version may take the place of the served one; `adopted` is the lineage that the operator lets in.
fn admit(served: Option<Version>, adopted: Option<u64>, offered: &Version) -> Result<Admission, Reason> {
    match served {
        None => Ok(Admission::Newer),
        Some(served) if served.lineage != offered.lineage && adopted == Some(offered.lineage) => {
            Ok(Admission::Newer)
        }
        Some(served) => served.admit(offered).map_err(Reason::Version),
    }
}

/// Validates and compiles, for a gateway there.
fn check(site: &Site, snapshot: &Snapshot) -> Result<View, Vec<Fault>> {
    let faults = validate(&snapshot.entries);
    if faults.is_empty() { View::compile_at(site, snapshot) } else { Err(faults) }
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
