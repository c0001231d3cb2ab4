//! Times of the access log as text, always in UTC. A second's text is made once and used for all its lines.

use std::io::Write;

use super::format::six_digits;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_S: u64 = 86_400;

/// The texts of the second that was last asked for.
#[derive(Debug, Default)]
pub(crate) struct Moments {
    second: Option<u64>,
    iso8601: Vec<u8>,
    common: Vec<u8>,
}

impl Moments {
    /// `2026-11-23T13:47:53.123456Z` (RFC 3339).
    pub(crate) fn iso8601(&mut self, unix_us: u64) -> &[u8] {
        self.turn_to(unix_us / 1_000_000);
        // "YYYY-MM-DDTHH:MM:SS" has 19 bytes.
        self.iso8601.truncate(19);
        self.iso8601.push(b'.');
        six_digits(unix_us % 1_000_000, &mut self.iso8601);
        self.iso8601.push(b'Z');
        &self.iso8601
    }

    /// `23/Nov/2026:13:47:53 +0000`.
    pub(crate) fn common(&mut self, unix_us: u64) -> &[u8] {
        self.turn_to(unix_us / 1_000_000);
        &self.common
    }

    fn turn_to(&mut self, second: u64) {
        if self.second.replace(second) == Some(second) {
            return;
        }
        let (year, month, day) = date(second / DAY_S);
        let (hour, minute, second) = (second % DAY_S / 3_600, second % 3_600 / 60, second % 60);
        let name = MONTHS.get(month).copied().unwrap_or_default();
        self.iso8601.clear();
        self.common.clear();
        // Writing to a Vec does not fail.
        let _ = write!(
            self.iso8601,
            "{year:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}",
            month + 1,
            day + 1
        );
        let _ =
            write!(self.common, "{:02}/{name}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000", day + 1);
    }
}

/// Year, month and day of a day since 1970, the last two from 0 on (Gregorian calendar).
fn date(days: u64) -> (u64, usize, u64) {
    let (mut year, mut left) = (1970, days);
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if left < length {
            break;
        }
        left -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    for (month, length) in lengths.into_iter().enumerate() {
        if left < length {
            return (year, month, left);
        }
        left -= length;
    }
    (year, 11, 30)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        let mut moments = Moments::default();
        for second in (0..4_102_444_800_u64).step_by(86_399 * 7) {
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(second);
            // "Sun, 06 Nov 1994 08:49:37 GMT"
            let known = httpdate::fmt_http_date(at);
            let common = String::from_utf8(moments.common(second * 1_000_000).to_vec()).unwrap();
            let expected =
                format!("{}/{}/{}:{} +0000", &known[5..7], &known[8..11], &known[12..16], &known[17..25]);
            assert_eq!(common, expected);
        }
        assert_eq!(moments.iso8601(951_782_399_000_007), b"2000-02-28T23:59:59.000007Z");
        assert_eq!(moments.iso8601(951_782_399_000_008), b"2000-02-28T23:59:59.000008Z");
        assert_eq!(moments.iso8601(951_782_400_000_000), b"2000-02-29T00:00:00.000000Z");
    }
}
