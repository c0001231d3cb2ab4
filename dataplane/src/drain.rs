//! The phases in which a data plane leaves: it is told, it says so, it takes nothing new, it finishes what it has.
//!
//! 1. *Serving*.
//! 2. *Leaving*: `/readyz` fails, everything else is as before, so that load balancers notice first. Can be taken back.
//! 3. *Closing*: the listeners close, answers carry `Connection: close`, connections without a request end a little later.
//!
//! Invariant: with a successor that has taken the sockets over, nothing is done to a socket itself, because it is the
//! successor's too: only this process's descriptors are closed, and no path is removed.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use crate::state::State;

/// Connections without a request get this long for one that is on its way.
pub(crate) const IDLE_GRACE: Duration = Duration::from_secs(1);
/// With a successor they end spread over the time from [`IDLE_GRACE`] to this, so that their clients do not come back all at once.
pub(crate) const IDLE_SPREAD: Duration = Duration::from_secs(3);
/// Handshakes that have begun when a listener is to close get this long to end.
pub(crate) const HANDSHAKES_WAIT: Duration = Duration::from_millis(250);

/// How far this process is on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    Leaving,
    Closing,
}

/// What an accept loop beside the cores does at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    Paused,
    Closed,
}

/// The life of the process as every thread sees it. Written by the main thread alone.
#[derive(Debug)]
pub(crate) struct Life {
    phase: AtomicU8,
    successor: AtomicBool,
    /// Sockets that a supervisor keeps for the next process: left as they are.
    kept: AtomicBool,
    accepting: AtomicBool,
    asking: AtomicBool,
    feeding: AtomicBool,
    /// Operator's commands whose reply is not written yet.
    pub(crate) replying: AtomicUsize,
}

impl Life {
    /// No connection is taken before the configuration on disk is on every core, which says [`Life::accept`]; an heir takes
    /// nothing in before its predecessor says so.
    pub(crate) fn new(heir: bool) -> Life {
        Life {
            phase: AtomicU8::new(0),
            successor: AtomicBool::new(false),
            kept: AtomicBool::new(false),
            accepting: AtomicBool::new(false),
            asking: AtomicBool::new(!heir),
            feeding: AtomicBool::new(!heir),
            replying: AtomicUsize::new(0),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Serving,
            1 => Phase::Leaving,
            _ => Phase::Closing,
        }
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        let number = match phase {
            Phase::Serving => 0,
            Phase::Leaving => 1,
            Phase::Closing => 2,
        };
        self.phase.store(number, Relaxed);
    }

    /// Whether connections end with their next answer.
    pub(crate) fn is_closing(&self) -> bool {
        self.phase.load(Relaxed) == 2
    }

    /// Whether another process goes on with the listening sockets.
    pub(crate) fn has_successor(&self) -> bool {
        self.successor.load(Relaxed)
    }

    /// Whether somebody goes on with the listening sockets, or will.
    pub(crate) fn leaves_sockets(&self) -> bool {
        self.has_successor() || self.kept.load(Relaxed)
    }

    pub(crate) fn keep_sockets(&self) {
        self.kept.store(true, Relaxed);
    }

    /// From now on another process takes what comes.
    pub(crate) fn succeeded(&self) {
        self.successor.store(true, Relaxed);
        self.set_phase(Phase::Closing);
    }

    /// Cores may take connections.
    pub(crate) fn accept(&self) {
        self.accepting.store(true, Relaxed);
    }

    pub(crate) fn is_accepting(&self) -> bool {
        self.accepting.load(Relaxed)
    }

    /// The status endpoint and the operator's socket answer.
    pub(crate) fn answer(&self) {
        self.asking.store(true, Relaxed);
    }

    /// Control planes may connect, or not at present.
    pub(crate) fn feed(&self, open: bool) {
        self.feeding.store(open, Relaxed);
    }

    /// For the status endpoint and the operator's socket.
    pub(crate) fn status_door(&self) -> Door {
        self.door(self.asking.load(Relaxed))
    }

    /// For control planes.
    pub(crate) fn feed_door(&self) -> Door {
        self.door(self.feeding.load(Relaxed))
    }

    fn door(&self, open: bool) -> Door {
        match open {
            _ if self.has_successor() => Door::Closed,
            true => Door::Open,
            false => Door::Paused,
        }
    }
}

/// What is still open in the cores that live.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// Cores that still take connections.
    pub(crate) listening: usize,
    pub(crate) connections: u64,
    /// Of them, those with a request in hand.
    pub(crate) busy: u64,
}

impl Left {
    pub(crate) fn of(state: &State) -> Left {
        let mut left = Left::default();
        // Nobody counts down what a dead core had.
        for core in state.cores.iter().filter(|core| !core.dead.load(Relaxed)) {
            left.listening += usize::from(core.listening.load(Relaxed));
            left.connections += core.counters.connections.get();
            left.busy += core.counters.busy.get();
        }
        left
    }

    /// No request can begin any more.
    pub(crate) fn is_quiet(self) -> bool {
        self.listening == 0 && self.connections <= self.busy
    }

    /// Nothing is open.
    pub(crate) fn is_nothing(self) -> bool {
        self.listening == 0 && self.connections == 0
    }
}
