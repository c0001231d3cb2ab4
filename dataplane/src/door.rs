//! Waits at a listening socket of a thread of its own, in a way that can be paused and ended from elsewhere.
//!
//! shutdown(2) would end a waiting accept(2) too, but it acts on the socket, which a successor may have taken over.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::drain::Door;

/// How often the door is looked at while nobody comes.
const LOOK_EVERY_MS: i64 = 100;

/// Waits for a connection; `false` when the door is closed for good. The accept that follows must not block: another process
/// may have been faster.
pub(crate) fn wait(listener: &impl AsFd, door: impl Fn() -> Door) -> bool {
    let step = Timespec { tv_sec: 0, tv_nsec: LOOK_EVERY_MS * 1_000_000 };
    loop {
        match door() {
            Door::Closed => return false,
            Door::Paused => std::thread::sleep(Duration::from_millis(5)),
            Door::Open => {
                let mut waiting = [PollFd::new(listener, PollFlags::IN)];
                // An interrupted wait is one that found nothing.
                if matches!(poll(&mut waiting, Some(&step)), Ok(1..)) && door() == Door::Open {
                    return true;
                }
            }
        }
    }
}
