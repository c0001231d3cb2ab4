//! Watches that every core's loop turns, and tells the supervisor so.
//!
//! A core is stuck when its loop has not turned for `--stuck-after-ms`, counted in this thread's own looks: time in
//! which the whole process stood still (a stopped machine, a debugger) is nobody's fault and does not count.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::state::State;
use crate::supervisor;

/// How often each core is looked at; several times a turn's usual length.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Watches until the process ends or another one takes its place.
pub(crate) fn watch(state: &State, stuck_after: Duration) {
    let alive_every = supervisor::alive_every();
    let mut told = Instant::now();
    let mut still: Vec<(u64, Duration)> = vec![(0, Duration::ZERO); state.cores.len()];
    let mut dead: Vec<bool> = vec![false; state.cores.len()];
    while !state.life.has_successor() {
        std::thread::sleep(LOOK_EVERY.min(alive_every.unwrap_or(LOOK_EVERY)));
        for (number, core) in state.cores.iter().enumerate() {
            let (Some((turned, stands)), Some(dead)) = (still.get_mut(number), dead.get_mut(number)) else {
                continue;
            };
            if core.dead.load(Relaxed) {
                if !std::mem::replace(dead, true) {
                    tracing::error!(
                        core = number,
                        "a core has died: the others serve on; restart or upgrade this process"
                    );
                }
                core.stuck_ms.store(0, Relaxed);
                continue;
            }
            let now = core.turned_ms.load(Relaxed);
            if now == *turned {
                *stands += LOOK_EVERY;
            } else {
                if *stands >= stuck_after {
                    tracing::warn!(
                        core = number,
                        stuck_ms = ms(*stands),
                        "a core that was stuck turns again"
                    );
                }
                (*turned, *stands) = (now, Duration::ZERO);
            }
            let stuck_ms = if *stands >= stuck_after { ms(*stands) } else { 0 };
            if stuck_ms > 0 && core.stuck_ms.load(Relaxed) == 0 {
                tracing::error!(
                    core = number,
                    cpu = core.cpu,
                    stuck_ms,
                    "a core is stuck: its connections stand still"
                );
            }
            core.stuck_ms.store(stuck_ms, Relaxed);
        }
        state.latencies.take(&state.cores, Instant::now());
        if alive_every.is_some_and(|every| told.elapsed() >= every) && state.not_alive().is_none() {
            told = Instant::now();
            supervisor::alive();
        }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
