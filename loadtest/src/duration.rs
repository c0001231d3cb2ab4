//! Durations as people write them on a command line: `500ms`, `10s`, `2m`, `1.5s`; a bare number is seconds.

use std::time::Duration;

/// A day; longer is a typing mistake.
const SECONDS_MAX: f64 = 86_400.0;

/// For clap's `value_parser`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit {unit:?}: use us, ms, s, m or h")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{number:?} is not a number"))?;
    let seconds = number * scale;
    if !(0.0..=SECONDS_MAX).contains(&seconds) {
        return Err("must be between 0 and 24 hours".to_owned());
    }
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_understood() {
        for (text, ms) in [("500ms", 500), ("10s", 10_000), ("2m", 120_000), ("1.5s", 1_500), ("3", 3_000)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(parse("250us"), Ok(Duration::from_micros(250)));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "s", "-1s", "1d", "NaN", "inf", "1e9s", "10 s"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
