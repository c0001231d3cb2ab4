//! The figures as one SVG: latencies by algorithm, and who got how much. Self-contained; readable on a light and a dark page.

use super::{NODES, Row, SLOW};

const WIDTH: f64 = 760.0;
const LABEL: f64 = 100.0;
const PANEL: f64 = 270.0;
const GAP: f64 = 90.0;
const TOP: f64 = 74.0;
const ROW: f64 = 58.0;
const BAR: f64 = 12.0;
const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#222}.small{font-size:11px;fill:#555}.head{font-weight:600}\
.p50{fill:#9ecae1}.p90{fill:#4292c6}.p99{fill:#084594}.n{fill:#74c476}.n1{fill:#41ab5d}.n2{fill:#238b45}.slow{fill:#e6550d}";

/// Draws the rows.
pub(super) fn render(rows: &[Row], caption: &str) -> String {
    let height = TOP + ROW * rows.len() as f64 + 40.0;
    let slowest = rows.iter().map(|row| row.p99_ms).fold(1.0, f64::max);
    let shares_at = LABEL + PANEL + GAP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n<style>{STYLE}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"22\" class=\"head\">One slow backend of four</text>\n\
         <text x=\"12\" y=\"40\" class=\"small\">{}</text>\n\
         <text x=\"{LABEL}\" y=\"62\" class=\"head\">latency: p50, p90, p99</text>\n\
         <text x=\"{shares_at}\" y=\"62\" class=\"head\">share of each backend (orange: slow)</text>\n",
        escape(caption)
    );
    for (number, row) in rows.iter().enumerate() {
        let y = TOP + ROW * number as f64;
        svg.push_str(&format!("<text x=\"12\" y=\"{:.0}\">{}</text>\n", y + 26.0, escape(row.algorithm)));
        let latencies = [("p50", row.p50_ms), ("p90", row.p90_ms), ("p99", row.p99_ms)];
        for (place, (class, ms)) in latencies.into_iter().enumerate() {
            let (top, width) = (y + 4.0 + place as f64 * (BAR + 2.0), ms / slowest * PANEL);
            svg.push_str(&format!(
                "<rect class=\"{class}\" x=\"{LABEL}\" y=\"{top:.0}\" width=\"{width:.1}\" height=\"{BAR}\"/>\
                 <text class=\"small\" x=\"{:.1}\" y=\"{:.0}\">{ms:.0} ms</text>\n",
                LABEL + width + 5.0,
                top + BAR - 2.0,
            ));
        }
        svg.push_str(&shares(row, shares_at, y + 10.0));
    }
    svg.push_str("</svg>\n");
    svg
}

fn shares(row: &Row, from: f64, top: f64) -> String {
    let classes = ["n", "n1", "n2", "slow"];
    let (mut svg, mut x) = (String::new(), from);
    for (node, share) in row.shares.iter().enumerate().take(NODES) {
        let width = share * PANEL;
        let class = if node == SLOW { "slow" } else { classes.get(node).copied().unwrap_or("n") };
        svg.push_str(&format!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{top:.0}\" width=\"{width:.1}\" height=\"22\"/>\n"
        ));
        if width > 34.0 {
            svg.push_str(&format!(
                "<text class=\"small\" style=\"fill:#fff\" x=\"{:.1}\" y=\"{:.0}\">{:.0} %</text>\n",
                x + 6.0,
                top + 15.0,
                share * 100.0
            ));
        }
        x += width;
    }
    let slow = row.shares.get(SLOW).copied().unwrap_or(0.0) * 100.0;
    svg.push_str(&format!(
        "<text class=\"small\" x=\"{from}\" y=\"{:.0}\">slow: {slow:.1} %</text>\n",
        top + 36.0
    ));
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
