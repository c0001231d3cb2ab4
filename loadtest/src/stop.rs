//! Ctrl-C and SIGTERM as a flag that long work looks at, so that it returns and everything that it holds is dropped:
//! processes end, folders go. The second signal ends the program at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Conventional for a program that a signal ended (128 + SIGINT).
const SECOND_SIGNAL_CODE: i32 = 130;
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Whether the user wants an end. Clones look at the same flag.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    wanted: Arc<AtomicBool>,
}

impl Stop {
    /// From now on the two signals set the flag in place of ending the program.
    pub(crate) fn on_signals() -> Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            flag::register_conditional_shutdown(signal, SECOND_SIGNAL_CODE, Arc::clone(&stop.wanted))
                .and_then(|_| flag::register(signal, Arc::clone(&stop.wanted)))
                .with_context(|| format!("cannot handle signal {signal}"))?;
        }
        Ok(stop)
    }

    /// Asks for an end, as a signal does.
    #[cfg(test)]
    pub(crate) fn set(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// An error once an end is wanted.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_set() {
            bail!("stopped by a signal");
        }
        Ok(())
    }

    /// Lets time pass.
    pub(crate) fn sleep(&self, duration: Duration) -> Result<()> {
        let until = Instant::now() + duration;
        loop {
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleeper_wakes_when_an_end_is_wanted() {
        let stop = Stop::default();
        assert!(stop.sleep(Duration::from_millis(1)).is_ok());
        stop.clone().set();
        assert!(stop.sleep(Duration::from_secs(3600)).is_err());
    }
}
