//! Which proxies run at the moment: started when first needed, kept for the cases that need the same, ended before others.
//!
//! A new round starts everything afresh, so that the luck of one process (where its memory lies) does not last. The one
//! with a million routes stays: it takes longer to start than all its measurements.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};

use super::case::Entrant;
use super::peer::{Peer, Running};
use super::setup::Setup;

#[derive(Debug)]
pub(crate) struct Stand<'a> {
    directory: &'a Path,
    core: usize,
    pub(crate) origin: SocketAddr,
    started: Vec<Started>,
    /// Folders given out so far.
    folders: usize,
}

#[derive(Debug)]
struct Started {
    peer: usize,
    setup: Setup,
    running: Running,
}

impl<'a> Stand<'a> {
    pub(crate) fn new(directory: &'a Path, core: usize, origin: SocketAddr) -> Self {
        Self { directory, core, origin, started: Vec::new(), folders: 0 }
    }

    pub(crate) fn begin_round(&mut self) {
        self.started.retain(|started| started.setup == Setup::Routes);
    }

    /// Ends whatever these do not need.
    pub(crate) fn keep_for(&mut self, entrants: &[Entrant]) {
        self.started.retain(|started| {
            let needed =
                entrants.iter().any(|entrant| entrant.peer == started.peer && entrant.setup == started.setup);
            needed || started.setup == Setup::Routes
        });
    }

    /// The entrant's process, and whether it was started just now.
    pub(crate) fn running(&mut self, peer: &Peer, entrant: &Entrant) -> Result<(&Running, bool)> {
        let is_it = |started: &Started| started.peer == entrant.peer && started.setup == entrant.setup;
        let is_new = !self.started.iter().any(is_it);
        if is_new {
            let running = self.fresh(peer, entrant.setup)?;
            self.started.push(Started { peer: entrant.peer, setup: entrant.setup, running });
        }
        let started = self.started.iter().find(|started| is_it(started)).context("was just started")?;
        Ok((&started.running, is_new))
    }

    /// A process that nobody else uses.
    pub(crate) fn fresh(&mut self, peer: &Peer, setup: Setup) -> Result<Running> {
        self.folders += 1;
        peer.start(setup, self.core, &self.directory.join(self.folders.to_string()), self.origin)
    }
}
