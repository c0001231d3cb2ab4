//! Which share of a route's requests the access log has: the label `ringway.access-log` of a route, `off` or a number from 0 to 1.
//!
//! Other labels of a route that begin with `ringway.` are refused, so that a misspelt one does not look like one that is set.

use std::str::FromStr;

use crate::model::Labels;

const LABEL: &str = "ringway.access-log";
const PREFIX: &str = "ringway.";

/// A share, in parts of 2^32 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRate(u32);

impl LogRate {
    /// None of them.
    pub const OFF: LogRate = LogRate(0);
    /// All of them.
    pub const ALL: LogRate = LogRate(u32::MAX);

    /// What a route's labels say; nothing where they do not, or where it is not valid.
    pub fn of(labels: &Labels) -> Option<LogRate> {
        // Most routes have no labels at all.
        labels.get(LABEL).and_then(|value| value.parse().ok())
    }

    /// Whether a request that drew this number, of all numbers, is among the share.
    pub fn takes(self, drawn: u32) -> bool {
        drawn < self.0 || self == LogRate::ALL
    }

    /// What is wrong with a route's labels: which, and why.
    pub(crate) fn check(labels: &Labels) -> Vec<(String, String)> {
        let own = labels.iter().filter(|(name, _)| name.starts_with(PREFIX));
        let wrong = own.filter_map(|(name, value)| {
            let reason = match name {
                LABEL => value.parse::<LogRate>().err()?,
                _ => format!("is not an option of a route; there is {LABEL}"),
            };
            Some((format!("/labels/{}", name.replace('~', "~0").replace('/', "~1")), reason))
        });
        wrong.collect()
    }
}

impl FromStr for LogRate {
    type Err = String;

    fn from_str(text: &str) -> Result<LogRate, String> {
        if text == "off" {
            return Ok(LogRate::OFF);
        }
        let rate: f64 = text.parse().map_err(|_| "must be off or a number from 0 to 1".to_owned())?;
        if !(0.0..=1.0).contains(&rate) {
            return Err("must be off or a number from 0 to 1".to_owned());
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "from 0 to 2^32 - 1, checked above"
        )]
        Ok(LogRate((rate * f64::from(u32::MAX)).round() as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_takes_its_share_and_what_is_none_is_refused() {
        let half: LogRate = "0.5".parse().unwrap();
        assert!(half.takes(0) && half.takes(u32::MAX / 2) && !half.takes(u32::MAX / 2 + 2));
        assert!(LogRate::ALL.takes(u32::MAX) && !LogRate::OFF.takes(0));
        assert_eq!(("off".parse(), "1".parse()), (Ok(LogRate::OFF), Ok(LogRate::ALL)));
        for wrong in ["on", "1.1", "-0.1", "NaN", ""] {
            assert!(wrong.parse::<LogRate>().is_err(), "{wrong}");
        }
        let labels: Labels = [("ringway.access-log", "2"), ("ringway.x/y", "1"), ("team", "a")]
            .map(|(a, b)| (a.into(), b.into()))
            .into_iter()
            .collect();
        let places: Vec<String> = LogRate::check(&labels).into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, ["/labels/ringway.access-log", "/labels/ringway.x~1y"]);
    }
}
