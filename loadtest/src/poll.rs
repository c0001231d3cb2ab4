//! Readiness by edge-triggered epoll: one registration for a socket's whole life, so that waiting costs no further
//! call.
//!
//! Edge-triggered means that whoever is told of readiness must go on until the kernel says `WouldBlock`, or gives
//! less than was asked for on a stream that has not ended. Waits are exact to the kernel's nanosecond timers
//! (`epoll_pwait2`): pacing at 1 ms steps would show up in every percentile.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::thread::set_current_timer_slack;

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 512;
/// The kernel's default of 50 µs is what an idle desktop wants; a pacer wants its timer to fire when it said.
const TIMER_SLACK_NS: NonZeroU64 = NonZeroU64::MIN;

pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
}

impl std::fmt::Debug for Poller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Poller").field("epoll", &self.epoll).finish_non_exhaustive()
    }
}

/// A registered socket that is ready: for writing, and for reading as well if it says so.
///
/// `ended` must be remembered: the end of the stream may have come together with the last bytes, and then a short read
/// is not the end of what there is to read, and nobody will say so again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) token: u64,
    pub(crate) readable: bool,
    pub(crate) ended: bool,
}

impl Poller {
    /// A poller for the calling thread, whose timers it also makes precise.
    pub(crate) fn new() -> io::Result<Self> {
        // A kernel that refuses costs precision only.
        let _ = set_current_timer_slack(Some(TIMER_SLACK_NS));
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS_MAX),
        })
    }

    /// Registers a socket until it is closed.
    pub(crate) fn add(&self, source: impl AsFd, token: u64) -> io::Result<()> {
        let flags =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(&self.epoll, source, epoll::EventData::new_u64(token), flags)?;
        Ok(())
    }

    /// Waits for readiness, at most for `timeout`, and puts what is ready into `ready`.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        self.events.clear();
        ready.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ended = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        ready.extend(self.events.iter().map(|event| {
            let flags = event.flags;
            Ready {
                token: event.data.u64(),
                readable: flags.intersects(epoll::EventFlags::IN | ended),
                ended: flags.intersects(ended),
            }
        }));
        Ok(())
    }
}
