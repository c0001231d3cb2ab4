//! Says a lasting trouble once, and then now and then, instead of at every attempt.
//!
//! A database that is down for an hour is one line when it goes, one a minute with the number of attempts, and one when it
//! is back. A trouble that changes its text is said at once, but one that alternates between texts is not said at each change.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How often a lasting trouble is repeated.
const REPEAT_AFTER: Duration = Duration::from_secs(60);

/// Texts of one trouble that are remembered.
const TEXTS_MAX: usize = 8;

/// The trouble at hand, if there is one.
#[derive(Debug, Default)]
pub struct Complaint {
    current: Option<Current>,
}

#[derive(Debug)]
struct Current {
    /// What was said, and when; the latest last.
    said: VecDeque<(String, Instant)>,
    since: Instant,
    attempts: u64,
}

impl Complaint {
    /// Takes note of a failure; the line to log, if it is time for one.
    pub fn about(&mut self, text: &str, now: Instant) -> Option<String> {
        let first = Current { said: VecDeque::new(), since: now, attempts: 0 };
        let current = self.current.get_or_insert(first);
        current.attempts += 1;
        let before = current.said.iter().position(|(said, _)| said == text);
        if let Some((_, said_at)) = before.and_then(|place| current.said.get(place))
            && now.saturating_duration_since(*said_at) < REPEAT_AFTER
        {
            return None;
        }
        match before {
            Some(place) => drop(current.said.remove(place)),
            None if current.said.len() >= TEXTS_MAX => drop(current.said.pop_front()),
            None => {}
        }
        current.said.push_back((text.to_owned(), now));
        if before.is_none() {
            return Some(text.to_owned());
        }
        let since_s = now.saturating_duration_since(current.since).as_secs();
        Some(format!("{text} (for {since_s} s now, {} attempts; still trying)", current.attempts))
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
    #[test]
    fn one_that_alternates_is_said_once_a_minute_for_each_text() {
        let start = Instant::now();
        let mut complaint = Complaint::default();
        let said = (0..100).filter_map(|second| {
            complaint
                .about(if second % 2 == 0 { "reset" } else { "closed" }, start + Duration::from_secs(second))
        });
        assert_eq!(said.count(), 4);
        // However many texts there are, no more than some are kept.
        for text in 0..100 {
            assert!(complaint.about(&text.to_string(), start).is_some());
        }
        assert!(complaint.current.is_some_and(|current| current.said.len() == TEXTS_MAX));
    }
}
