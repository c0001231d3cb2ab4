//! Small plots as inline SVG, for a page that needs nothing else: bars of rates, and steps of revisions.
//!
//! All plots of a scenario have one width and one time axis, so that they read as one picture. Every axis has a label with
//! its unit. Colours are classes, so that the page's style sheet decides them.

use super::report::{BUCKET, Series};

const WIDTH: f64 = 920.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 34.0;
const TICKS_X: f64 = 10.0;
const TICKS_Y: f64 = 4.0;

/// Axes from zero (or `low`) to a round value.
struct Frame {
    height: f64,
    seconds: f64,
    low: f64,
    high: f64,
    svg: String,
}

/// Good answers a second over time.
pub(crate) fn requests(series: &Series) -> String {
    rates(series, &[(0, "good")], "good answers / s", "Good answers per second by the time they were due")
}

/// Failed and excused requests a second over time.
pub(crate) fn failures(series: &Series) -> String {
    if series.buckets.iter().all(|[_, failed, excused]| failed + excused == 0) {
        return "<p class=\"none\">No request failed.</p>".to_owned();
    }
    let kinds = [(1, "failed"), (2, "excused")];
    let plot = rates(
        series,
        &kinds,
        "failed / s",
        "Failed and excused requests per second by the time they were due",
    );
    let keys = "<span class=\"key failed\">failed</span> <span class=\"key excused\">excused</span>";
    format!("{plot}<figcaption>Failures: {keys}</figcaption>")
}

/// What each core ran and what was committed, as revisions over time.
pub(crate) fn versions(series: &Series) -> String {
    let revisions = series.cores.iter().flatten().filter_map(|(_, revision)| *revision);
    let all: Vec<u64> = revisions.chain(series.commits.iter().map(|(_, revision)| *revision)).collect();
    let (Some(low), Some(high)) = (all.iter().min(), all.iter().max()) else {
        return "<p class=\"none\">No version was seen.</p>".to_owned();
    };
    let mut frame = Frame::new(150.0, series.seconds, *low as f64, (*high as f64).max(*low as f64 + 4.0));
    frame.begin(series, "Revision committed and revision of each core over time");
    let commits: Vec<(f64, Option<u64>)> =
        series.commits.iter().map(|(at, revision)| (*at, Some(*revision))).collect();
    frame.steps(&commits, "committed");
    for (core, line) in series.cores.iter().enumerate() {
        frame.steps(line, &format!("core core{}", core % 4));
    }
    frame.end("revision")
}

fn rates(series: &Series, kinds: &[(usize, &str)], label: &str, title: &str) -> String {
    let per_second = 1.0 / BUCKET.as_secs_f64();
    let count = |bucket: &[u32; 3]| {
        kinds.iter().filter_map(|(kind, _)| bucket.get(*kind)).map(|count| f64::from(*count)).sum::<f64>()
    };
    let high = series.buckets.iter().map(count).fold(0.0, f64::max) * per_second;
    let mut frame = Frame::new(120.0, series.seconds, 0.0, high.max(1.0));
    frame.begin(series, title);
    for (index, bucket) in series.buckets.iter().enumerate() {
        let mut below = 0.0;
        for (kind, class) in kinds {
            let value = bucket.get(*kind).map_or(0.0, |count| f64::from(*count) * per_second);
            if value > 0.0 {
                frame.bar(index, below, below + value, class);
            }
            below += value;
        }
    }
    frame.end(label)
}

impl Frame {
    fn new(height: f64, seconds: f64, low: f64, high: f64) -> Self {
        Self { height, seconds: seconds.max(1.0), low, high, svg: String::new() }
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (seconds / self.seconds).clamp(0.0, 1.0)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low).max(f64::EPSILON);
        self.height - BOTTOM - (self.height - BOTTOM - TOP) * share.clamp(0.0, 1.0)
    }

    /// The background: times of fault, grid, ticks.
    fn begin(&mut self, series: &Series, title: &str) {
        let step = round_step((self.high - self.low) / TICKS_Y);
        // The axis ends on a tick.
        self.low = (self.low / step).floor() * step;
        self.high = (self.high / step).ceil() * step;
        let (bottom, floor) = (self.height - BOTTOM, self.height);
        self.svg = format!("<svg viewBox=\"0 0 {WIDTH} {floor}\" role=\"img\" aria-label=\"{title}\">");
        for (from, to) in faults(series) {
            let (x, width) = (self.x(from), self.x(to) - self.x(from));
            self.svg.push_str(&format!(
                "<rect class=\"fault\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{:.1}\"/>",
                bottom - TOP
            ));
        }
        let mut value = self.low;
        while value <= self.high + step / 2.0 {
            let y = self.y(value);
            self.svg.push_str(&format!(
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value:.0}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 3.5
            ));
            value += step;
        }
        let step = round_step(self.seconds / TICKS_X);
        let mut at = 0.0;
        while at <= self.seconds {
            let x = self.x(at);
            self.svg.push_str(&format!(
                "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom}\" y2=\"{:.1}\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{at:.0}</text>",
                bottom + 4.0,
                bottom + 15.0
            ));
            at += step;
        }
    }

    fn bar(&mut self, index: usize, from: f64, to: f64, class: &str) {
        let width = BUCKET.as_secs_f64();
        let (x, next) = (self.x(index as f64 * width), self.x((index + 1) as f64 * width));
        let (top, bottom) = (self.y(to), self.y(from));
        self.svg.push_str(&format!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\"/>",
            // A little more, or rounding leaves gaps between neighbours.
            (next - x + 0.5).max(1.0),
            (bottom - top).max(1.0)
        ));
    }

    /// A line that stays until the next value, and is drawn to the right edge.
    fn steps(&mut self, points: &[(f64, Option<u64>)], class: &str) {
        let mut path = String::new();
        let mut drawn = false;
        for (index, (at, revision)) in points.iter().enumerate() {
            let Some(revision) = revision else {
                drawn = false;
                continue;
            };
            let next = points.get(index + 1).map_or(self.seconds, |(at, _)| *at);
            let y = self.y(*revision as f64);
            let first = if drawn { "L" } else { "M" };
            path.push_str(&format!("{first}{:.1} {y:.1}L{:.1} {y:.1}", self.x(*at), self.x(next)));
            drawn = true;
        }
        self.svg.push_str(&format!("<path class=\"{class}\" d=\"{path}\"/>"));
    }

    /// The axes and their labels.
    fn end(mut self, label: &str) -> String {
        let bottom = self.height - BOTTOM;
        let middle = (TOP + bottom) / 2.0;
        self.svg.push_str(&format!(
            "<line class=\"axis\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{bottom}\" y2=\"{bottom}\"/>\
             <line class=\"axis\" x1=\"{LEFT}\" x2=\"{LEFT}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text class=\"label\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">time since the first request, s</text>\
             <text class=\"label\" transform=\"translate(14 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{label}</text></svg>",
            WIDTH - RIGHT,
            (LEFT + WIDTH - RIGHT) / 2.0,
            self.height - 4.0,
        ));
        self.svg
    }
}

/// From each fault to its end.
fn faults(series: &Series) -> Vec<(f64, f64)> {
    let mut spans = Vec::new();
    let mut since = None;
    for (at, is_fault, _) in &series.marks {
        match since {
            None if *is_fault => since = Some(*at),
            Some(from) if !is_fault => {
                spans.push((from, *at));
                since = None;
            }
            _ => {}
        }
    }
    spans.extend(since.map(|from| (from, series.seconds)));
    spans
}

/// 1, 2 or 5 times a power of ten, and at least 1.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.max(1.0).log10().floor());
    let digit = rough.max(1.0) / power;
    let rounded = match digit {
        digit if digit <= 1.0 => 1.0,
        digit if digit <= 2.0 => 2.0,
        digit if digit <= 5.0 => 5.0,
        _ => 10.0,
    };
    rounded * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series() -> Series {
        Series {
            seconds: 12.3,
            buckets: vec![[60, 0, 0], [50, 3, 7]],
            cores: vec![
                vec![(0.0, Some(5)), (1.0, Some(9))],
                vec![(0.0, Some(5)), (2.0, None), (3.0, Some(7))],
            ],
            commits: vec![(0.5, 9)],
            marks: vec![(1.0, true, "killed".into()), (2.0, false, "back".into())],
        }
    }

    #[test]
    fn every_plot_has_both_axes_labelled_with_units() {
        let series = series();
        for (svg, label) in [
            (requests(&series), "good answers / s"),
            (failures(&series), "failed / s"),
            (versions(&series), "revision"),
        ] {
            assert!(svg.contains("time since the first request, s"), "{svg}");
            assert!(svg.contains(&format!("{label}</text>")), "{svg}");
            assert_eq!(svg.matches("class=\"fault\"").count(), 1);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn a_restart_breaks_the_line() {
        let svg = versions(&series());
        let line = svg.split("class=\"core core1\"").nth(1).unwrap();
        assert_eq!(line.split("/>").next().unwrap().matches('M').count(), 2);
    }

    #[test]
    fn nothing_seen_is_no_plot() {
        assert!(failures(&Series::default()).contains("No request failed"));
        assert!(versions(&Series::default()).contains("No version"));
        assert!(requests(&Series::default()).contains("</svg>"));
    }

    #[test]
    fn ticks_are_round() {
        for (rough, step) in [(0.2, 1.0), (1.3, 2.0), (3.0, 5.0), (7.0, 10.0), (130.0, 200.0)] {
            assert_eq!(round_step(rough), step, "{rough}");
        }
    }
}
