//! Plots as inline SVG: medians with their ranges and single points, and latencies by percentile.
//!
//! Colours are classes (`k0` to `k4`), which `page.css` decides. Every axis says what it shows and in which unit. It draws
//! what it is given, in that order, and judges nothing.

use crate::page::escape;

pub(crate) const COLOURS: usize = 5;
const WIDTH: f64 = 940.0;
const RIGHT: f64 = 26.0;
const BOTTOM: f64 = 40.0;

/// One line of a plot of ranges.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) colour: usize,
    pub(crate) median: f64,
    pub(crate) points: Vec<f64>,
}

/// Lines that belong together.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) title: String,
    pub(crate) goal: Option<f64>,
    pub(crate) bars: Vec<Bar>,
}

/// One curve of latencies: the value at each percentile.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    pub(crate) name: String,
    pub(crate) colour: usize,
    /// Quantile (0 to 1) and nanoseconds.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Groups of lines over one axis from zero: the range of the points as a band, the median as a stroke and a number. `one`
/// is where a broken line stands, such as the ratio 1.
pub(crate) fn ranges(groups: &[Group], label: &str, one: Option<f64>, decimals: usize) -> String {
    const LEFT: f64 = 150.0;
    const ROW: f64 = 19.0;
    const TITLE: f64 = 26.0;
    const NUMBERS: f64 = 60.0;
    let values = groups.iter().flat_map(|group| {
        let bars = group.bars.iter().flat_map(|bar| bar.points.iter().copied().chain([bar.median]));
        bars.chain(group.goal)
    });
    let high = values.chain(one).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let step = round_step(high / 8.0);
    let high = (high / step).ceil() * step;
    let right = WIDTH - RIGHT - NUMBERS;
    let x = |value: f64| LEFT + (right - LEFT) * (value / high).clamp(0.0, 1.0);
    let rows: f64 = groups.iter().map(|group| TITLE + ROW * group.bars.len() as f64).sum();
    let (floor, height) = (rows + 6.0, rows + 6.0 + BOTTOM);
    let mut svg = begin(height, label);
    for tick in 0..=((high / step).round() as u32) {
        let value = f64::from(tick) * step;
        svg.push_str(&vertical("grid", x(value), 4.0, floor));
        svg.push_str(&text("tick", x(value), floor + 15.0, "middle", &short(value)));
    }
    if let Some(one) = one {
        svg.push_str(&vertical("one", x(one), 4.0, floor));
    }
    let mut y = 0.0;
    for group in groups {
        y += TITLE;
        svg.push_str(&text("title", 4.0, y - 5.0, "start", &group.title));
        if let Some(goal) = group.goal {
            svg.push_str(&vertical("goal", x(goal), y - 2.0, y + ROW * group.bars.len() as f64 - 2.0));
        }
        for bar in &group.bars {
            let (middle, class) = (y + ROW / 2.0, format!("k{}", bar.colour % COLOURS));
            svg.push_str(&text("name", LEFT - 12.0, middle + 4.0, "end", &bar.name));
            let low = bar.points.iter().copied().fold(bar.median, f64::min);
            let top = bar.points.iter().copied().fold(bar.median, f64::max);
            svg.push_str(&format!(
                "<line class=\"range {class}\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>",
                x(low),
                x(top)
            ));
            for point in &bar.points {
                svg.push_str(&format!(
                    "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{middle:.1}\" r=\"2.2\"/>",
                    x(*point)
                ));
            }
            svg.push_str(&vertical(&format!("median {class}"), x(bar.median), middle - 6.0, middle + 6.0));
            svg.push_str(&text(
                "value",
                WIDTH - RIGHT,
                middle + 4.0,
                "end",
                &format!("{:.decimals$}", bar.median),
            ));
            y += ROW;
        }
    }
    svg.push_str(&text("label", f64::midpoint(LEFT, right), height - 6.0, "middle", label));
    svg + "</svg>"
}

/// Latency by percentile, both logarithmic: what is rare takes as much room as what is common.
pub(crate) fn percentiles(curves: &[Curve], label: &str) -> String {
    const LEFT: f64 = 78.0;
    const TOP: f64 = 12.0;
    const HEIGHT: f64 = 320.0;
    /// The curves end here, or where there are no more values.
    const NINES_MAX: f64 = 5.0;
    /// What is less than this share of the most is drawn at the floor.
    const SHARE_MIN: f64 = 1e-5;
    let values = || curves.iter().flat_map(|curve| curve.points.iter().map(|(_, ns)| ns.max(1.0)));
    let high = values().fold(1.0, f64::max);
    let low = values().fold(f64::INFINITY, f64::min).max(high * SHARE_MIN);
    if curves.iter().all(|curve| curve.points.is_empty()) {
        return "<p class=\"small\">Nothing was measured.</p>".to_owned();
    }
    let (first, last) = (low.log10().floor(), (high * 1.0001).log10().ceil());
    let nines = |quantile: f64| -(1.0 - quantile).max(1e-9).log10();
    let most = curves.iter().flat_map(|curve| curve.points.iter().map(|(quantile, _)| nines(*quantile)));
    let most = most.fold(2.0, f64::max).min(NINES_MAX);
    let floor = HEIGHT - BOTTOM;
    let x = |quantile: f64| LEFT + (WIDTH - RIGHT - LEFT) * (nines(quantile) / most).clamp(0.0, 1.0);
    let y = |ns: f64| {
        floor - (floor - TOP) * ((ns.max(1.0).log10() - first) / (last - first).max(1.0)).clamp(0.0, 1.0)
    };
    let mut svg = begin(HEIGHT, label);
    for ns in ticks(first, last) {
        let (at, words) = (y(ns), crate::report::duration_text(ns.round() as u64));
        svg.push_str(&horizontal("grid", LEFT, WIDTH - RIGHT, at));
        svg.push_str(&text("tick", LEFT - 6.0, at + 4.0, "end", &words));
    }
    for (quantile, name) in [
        (0.0, "0"),
        (0.5, "50"),
        (0.9, "90"),
        (0.99, "99"),
        (0.999, "99.9"),
        (0.9999, "99.99"),
        (0.99999, "99.999"),
    ] {
        if nines(quantile) <= most + 0.01 {
            svg.push_str(&vertical("grid", x(quantile), TOP, floor));
            svg.push_str(&text("tick", x(quantile), floor + 15.0, "middle", name));
        }
    }
    for curve in curves {
        let mut path = String::new();
        for (quantile, ns) in curve.points.iter().filter(|(quantile, _)| nines(*quantile) <= most) {
            let letter = if path.is_empty() { 'M' } else { 'L' };
            path.push_str(&format!("{letter}{:.1} {:.1}", x(*quantile), y(*ns)));
        }
        svg.push_str(&format!("<path class=\"k{}\" d=\"{path}\"/>", curve.colour % COLOURS));
    }
    svg.push_str(&text("label", f64::midpoint(LEFT, WIDTH - RIGHT), HEIGHT - 6.0, "middle", "percentile"));
    svg.push_str(&format!(
        "<text class=\"label\" transform=\"translate(13 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text></svg>",
        f64::midpoint(TOP, floor),
        escape(label)
    ));
    let keys: Vec<(&str, usize)> = curves.iter().map(|curve| (curve.name.as_str(), curve.colour)).collect();
    svg + &legend(&keys)
}

/// Round values between two powers of ten; over many only the powers themselves.
fn ticks(first: f64, last: f64) -> Vec<f64> {
    let digits: &[f64] = if last - first > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let decades = 0..=((last - first) as i32);
    let all = decades
        .flat_map(|decade| digits.iter().map(move |digit| digit * 10f64.powf(first + f64::from(decade))));
    all.filter(|ns| *ns <= 10f64.powf(last) * 1.001).collect()
}

/// What the colours mean.
pub(crate) fn legend(keys: &[(&str, usize)]) -> String {
    let keys: String = keys
        .iter()
        .map(|(name, colour)| format!("<span class=\"key k{}\">{}</span>", colour % COLOURS, escape(name)))
        .collect();
    format!("<p>{keys}</p>")
}

/// The points of a curve: dense where it matters.
pub(crate) fn curve_points(histogram: &hdrhistogram::Histogram<u64>) -> Vec<(f64, f64)> {
    let count = histogram.len();
    let mut points = Vec::new();
    for step in 0..=200_u32 {
        let quantile = 1.0 - 10f64.powf(-f64::from(step) / 40.0);
        // What is told of fewer values than one is no measurement.
        if (1.0 - quantile) * (count as f64) < 1.0 {
            break;
        }
        points.push((quantile, histogram.value_at_quantile(quantile) as f64));
    }
    points
}

fn begin(height: f64, label: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{}\">", escape(label))
}

fn vertical(class: &str, x: f64, from: f64, to: f64) -> String {
    format!("<line class=\"{class}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{from:.1}\" y2=\"{to:.1}\"/>")
}

fn horizontal(class: &str, from: f64, to: f64, y: f64) -> String {
    format!("<line class=\"{class}\" x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>")
}

fn text(class: &str, x: f64, y: f64, anchor: &str, words: &str) -> String {
    let words = escape(words);
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{words}</text>")
}

/// A tick's value without needless digits.
fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// 1, 2 or 5 times a power of ten.
fn round_step(rough: f64) -> f64 {
    let power = 10f64.powf(rough.log10().floor());
    let digit = [1.0, 2.0, 5.0].into_iter().find(|digit| rough / power <= digit * 1.000_001).unwrap_or(10.0);
    digit * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_show_every_point_the_median_and_the_goal() {
        let bar = |name: &str, colour, median, points: &[f64]| Bar {
            name: name.into(),
            colour,
            median,
            points: points.into(),
        };
        let groups = [Group {
            title: "case <1>".into(),
            goal: Some(0.62),
            bars: vec![bar("ours", 0, 0.7, &[0.69, 0.7, 0.81]), bar("theirs", 1, 1.0, &[1.0])],
        }];
        let svg = ranges(&groups, "ratio", Some(1.0), 2);
        assert_eq!(svg.matches("<circle").count(), 4);
        assert_eq!(svg.matches("class=\"goal\"").count(), 1);
        for wanted in ["case &lt;1&gt;", ">0.70</text>", ">ratio</text>", ">ours</text>"] {
            assert!(svg.contains(wanted), "{wanted} is not in\n{svg}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(ranges(&[], "none", None, 2).ends_with("</svg>"));
    }

    #[test]
    fn curves_end_where_there_are_no_more_values() {
        let mut histogram = hdrhistogram::Histogram::<u64>::new(3).unwrap();
        for value in 1..=1000 {
            histogram.record(value * 1000).unwrap();
        }
        let points = curve_points(&histogram);
        assert!(points.iter().all(|(quantile, _)| *quantile <= 0.9991));
        let (_, median) = points.iter().find(|(quantile, _)| *quantile >= 0.5).unwrap();
        assert!((median / 510_000.0 - 1.0).abs() < 0.05, "{median}");
        let svg = percentiles(&[Curve { name: "a".into(), colour: 0, points }], "latency");
        for wanted in [">99.9</text>", ">50</text>", ">percentile</text>", ">latency</text>", "1.00 ms"] {
            assert!(svg.contains(wanted), "{wanted} is not in\n{svg}");
        }
        assert!(!svg.contains(">99.99</text>") && !svg.contains("NaN"), "{svg}");
        assert!(percentiles(&[], "latency").contains("Nothing was measured"));
    }

    #[test]
    fn steps_are_round() {
        for (rough, step) in [(0.13, 0.2), (0.02, 0.02), (3.0, 5.0), (7.0, 10.0)] {
            assert!((round_step(rough) / step - 1.0).abs() < 1e-9, "{rough}");
        }
        assert_eq!(short(0.25), "0.25");
        assert_eq!(short(100.0), "100");
    }
}
