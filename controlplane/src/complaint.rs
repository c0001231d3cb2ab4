//! Says a lasting trouble once, and then now and then, instead of at every attempt.
//!
//! A database that is down for an hour is one line when it goes, one a minute with the number of attempts, and one when it
//! is back. A trouble that changes its text is said at once.

use std::time::{Duration, Instant};

/// How often a lasting trouble is repeated.
const REPEAT_AFTER: Duration = Duration::from_secs(60);

/// The trouble at hand, if there is one.
#[derive(Debug, Default)]
pub struct Complaint {
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    text: String,
    said_at: Instant,
    since: Instant,
    attempts: u64,
}

impl Complaint {
    /// Takes note of a failure; the line to log, if it is time for one.
    pub fn about(&mut self, text: &str, now: Instant) -> Option<String> {
        match &mut self.current {
            Some(current) if current.text == text => {
                current.attempts += 1;
                if now.saturating_duration_since(current.said_at) < REPEAT_AFTER {
                    return None;
                }
                current.said_at = now;
                let since_s = now.saturating_duration_since(current.since).as_secs();
                Some(format!("{text} (for {since_s} s now, {} attempts; still trying)", current.attempts))
            }
            _ => {
                let since = self.current.take().map_or(now, |before| before.since);
                self.current = Some(Current { text: text.to_owned(), said_at: now, since, attempts: 1 });
                Some(text.to_owned())
            }
        }
    }

    /// The trouble is over; how long it lasted, if there was one.
    pub fn over(&mut self, now: Instant) -> Option<Duration> {
        self.current.take().map(|current| now.saturating_duration_since(current.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_trouble_is_said_once_a_minute_and_a_new_one_at_once() {
        let start = Instant::now();
        let mut complaint = Complaint::default();
        let mut said = Vec::new();
        for second in 0..130 {
            said.extend(complaint.about("refused", start + Duration::from_secs(second)));
        }
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[2].contains("for 120 s now, 121 attempts"), "{said:?}");
        let later = start + Duration::from_secs(131);
        assert_eq!(complaint.about("reset", later).as_deref(), Some("reset"));
        assert_eq!(complaint.over(later), Some(Duration::from_secs(131)));
        assert_eq!(complaint.over(later), None);
    }
}
