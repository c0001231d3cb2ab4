//! A reading as lines for a terminal of any width: the head, what is wrong, rates, latencies, the last change, cores, nodes.
//!
//! Words that do not fit go to the next line, columns that do not fit are left out, the least important first. Nothing hangs on colour
//! alone: every state is a word.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::reading::{Core, Node, Reading};
use super::table::{Cell, Column, table};

/// Rows that the fixed part may take of a low screen; the rest belongs to cores and nodes.
const HEAD_ROWS_MAX_PERCENT: usize = 60;
/// Cells of a core's bar.
const BAR_CELLS: usize = 10;
/// Steps of a spark.
const SPARKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Sparks shown.
const SPARKS_MAX: usize = 24;

/// By what nodes are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    #[default]
    Name,
    Requests,
    Failures,
    Open,
}

impl Sort {
    pub(super) fn next(self) -> Sort {
        match self {
            Sort::Name => Sort::Requests,
            Sort::Requests => Sort::Failures,
            Sort::Failures => Sort::Open,
            Sort::Open => Sort::Name,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Sort::Name => "name",
            Sort::Requests => "requests",
            Sort::Failures => "failures",
            Sort::Open => "open",
        }
    }
}

/// What is shown, and how.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) reading: &'a Reading,
    /// Requests a second of the readings so far, the newest last.
    pub(super) history: &'a [f64],
    pub(super) sort: Sort,
    pub(super) paused: bool,
    /// Lines of cores and nodes above the screen.
    pub(super) scroll: usize,
}

/// Draws it; returns how far it can be scrolled.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View<'_>) -> usize {
    let (width, height) = (usize::from(frame.area().width), usize::from(frame.area().height));
    let mut head = head(view, width);
    head.truncate((height * HEAD_ROWS_MAX_PERCENT / 100).max(2));
    let foot = foot(view, width);
    let rows = |lines: &[Line<'_>]| Constraint::Length(u16::try_from(lines.len()).unwrap_or(u16::MAX));
    let [above, middle, below] =
        Layout::vertical([rows(&head), Constraint::Min(0), rows(&foot)]).areas(frame.area());
    let body = body(view, width);
    let scroll_max = body.len().saturating_sub(usize::from(middle.height));
    let shown = body.into_iter().skip(view.scroll.min(scroll_max)).collect::<Vec<_>>();
    frame.render_widget(Paragraph::new(head), above);
    frame.render_widget(Paragraph::new(shown), middle);
    frame.render_widget(Paragraph::new(foot), below);
    scroll_max
}

/// All of it as text, for `--once`.
pub(super) fn text(view: &View<'_>, width: usize) -> Vec<String> {
    let lines = head(view, width).into_iter().chain(body(view, width));
    lines.map(|line| line.to_string().trim_end().to_owned()).collect()
}

fn head(view: &View<'_>, width: usize) -> Vec<Line<'static>> {
    let reading = view.reading;
    let mut lines = Vec::new();
    let verdict = match reading.verdict {
        "in step" => good(),
        "degraded" => warning(),
        _ => bad(),
    };
    let revision = reading.version.as_deref().and_then(|version| version.rsplit(':').next());
    let serves = match (revision, reading.routes) {
        (Some(revision), Some(routes)) => format!("revision {revision}, {} routes", grouped(routes)),
        (Some(revision), None) => format!("revision {revision}"),
        (None, _) => "no configuration".to_owned(),
    };
    let mut title = vec![
        vec![strong("ringway"), plain(" "), strong(&reading.node)],
        vec![Span::styled(reading.verdict, verdict.add_modifier(Modifier::BOLD))],
        vec![plain(serves)],
        vec![dim(format!("{}, up {}", reading.build, reading.up_s.map_or("-".to_owned(), span)))],
    ];
    if view.paused {
        title.push(vec![Span::styled("paused", warning().add_modifier(Modifier::REVERSED))]);
    }
    lines.extend(flow(title, width));
    lines.extend(reading.problems.iter().map(|problem| {
        Line::from(vec![Span::styled("! ", bad()), plain(cut(problem, width.saturating_sub(2)))])
    }));
    lines.push(Line::default());
    lines.extend(flow(traffic(view), width));
    lines.extend(latencies(reading, width));
    lines.extend(change(reading, width));
    lines.push(Line::default());
    lines
}

fn traffic(view: &View<'_>) -> Vec<Vec<Span<'static>>> {
    let (reading, rates) = (view.reading, &view.reading.rates);
    let each = |name: &str, rate: Option<f64>, style: Style| {
        let style = if rate.is_some_and(|rate| rate > 0.0) { style } else { Style::new() };
        vec![dim(format!("{name} ")), Span::styled(per_s(rate), style)]
    };
    let mut all = vec![vec![dim("requests "), strong(&per_s(rates.requests)), dim("/s")]];
    if view.history.len() > 1 {
        all.push(vec![Span::styled(sparks(view.history), Style::new().fg(Color::Cyan))]);
    }
    all.push(each("2xx", rates.ok, good()));
    all.push(each("3xx", rates.redirected, Style::new()));
    all.push(each("4xx", rates.client_errors, warning()));
    all.push(each("5xx", rates.server_errors, bad()));
    all.push(each("retries", rates.retries, warning()));
    let busy = reading.busy.map_or_else(String::new, |busy| format!(" ({} busy)", grouped(busy)));
    let connections = reading.connections.map_or("-".to_owned(), grouped);
    all.push(vec![dim("connections "), plain(format!("{connections}{busy}"))]);
    all
}

fn latencies(reading: &Reading, width: usize) -> Vec<Line<'static>> {
    let time = |us: Option<u64>| us.map_or("-".to_owned(), time);
    reading
        .latencies
        .iter()
        .flat_map(|latency| {
            let each = |name: &str, us| vec![dim(format!("{name} ")), plain(time(us))];
            let items = vec![
                vec![dim(format!("{:8}", latency.what))],
                each("p50", latency.p50_us),
                each("p90", latency.p90_us),
                each("p99", latency.p99_us),
                each("p99.9", latency.p999_us),
                vec![dim(format!("({})", latency.window))],
            ];
            flow(items, width)
        })
        .collect()
}

fn change(reading: &Reading, width: usize) -> Vec<Line<'static>> {
    let Some(change) = &reading.change else { return Vec::new() };
    let how = if change.from_disk && change.stages_us.is_empty() { " from disk" } else { "" };
    let ago = change.ago_ms.map_or("-".to_owned(), |ms| span(ms / 1_000));
    let mut items = vec![vec![dim("change  ")], vec![plain(format!("{ago} ago{how}"))]];
    for (stage, us) in &change.stages_us {
        items.push(vec![dim(format!("{} ", stage.replace('_', " "))), plain(time(*us))]);
    }
    flow(items, width)
}

fn body(view: &View<'_>, width: usize) -> Vec<Line<'static>> {
    let reading = view.reading;
    let mut lines = table(&core_columns(), &reading.cores.iter().collect::<Vec<_>>(), width);
    if lines.is_empty() && reading.nodes.is_empty() {
        return lines;
    }
    lines.push(Line::default());
    let mut nodes: Vec<&Node> = reading.nodes.iter().collect();
    let by = |key: fn(&Node) -> f64| {
        move |one: &&Node, other: &&Node| key(other).total_cmp(&key(one)).then_with(|| named(one, other))
    };
    match view.sort {
        Sort::Name => nodes.sort_by(named),
        Sort::Requests => nodes.sort_by(by(|node| node.requests_per_s.unwrap_or_default())),
        Sort::Failures => {
            nodes.sort_by(by(|node| node.failures_per_s.unwrap_or_default() * 1e12 + number(node.failures)))
        }
        Sort::Open => nodes.sort_by(by(|node| number(node.open))),
    }
    if nodes.is_empty() {
        lines.push(Line::from(dim("no upstreams")));
    } else {
        lines.extend(table(&node_columns(), &nodes, width));
    }
    lines
}

fn named(one: &&Node, other: &&Node) -> std::cmp::Ordering {
    (&one.upstream, &one.address).cmp(&(&other.upstream, &other.address))
}

fn core_columns() -> Vec<Column<Core>> {
    vec![
        Column::right("CORE", 0, |core| Cell::of(core.core.to_string())),
        Column::right("CPU", 6, |core| Cell::of(core.cpu.map_or("-".to_owned(), |cpu| cpu.to_string()))),
        Column::left("BUSY", 1, |core| match core.busy_percent {
            None => Cell::of("-"),
            Some(percent) => {
                let style = if percent > 90.0 { warning() } else { good() };
                Cell::styled(format!("{} {percent:3.0} %", bar(percent)), style)
            }
        }),
        Column::right("REQ/S", 0, |core| Cell::of(per_s(core.requests_per_s))),
        Column::right("CONNS", 2, |core| Cell::of(core.connections.map_or("-".to_owned(), grouped))),
        Column::right("OPEN", 4, |core| Cell::of(core.open.map_or("-".to_owned(), grouped))),
        Column::right("REVISION", 3, |core| {
            Cell::of(core.revision.map_or("-".to_owned(), |revision| revision.to_string()))
        }),
        Column::left("LOOP", 5, |core| match (&core.trouble, core.turned_ms_ago) {
            (Some(trouble), _) => Cell::styled(trouble.clone(), bad()),
            (None, Some(ms)) => Cell::of(format!("turned {ms} ms ago")),
            (None, None) => Cell::of("-"),
        }),
    ]
}

fn node_columns() -> Vec<Column<Node>> {
    vec![
        Column::left("UPSTREAM", 0, |node| Cell::of(node.upstream.clone())),
        Column::left("NODE", 0, |node| Cell::of(node.address.clone())),
        Column::left("STATE", 0, |node| {
            let style = match node.state.as_str() {
                "ready" => good(),
                "drain" | "ejected" => warning(),
                _ => bad(),
            };
            Cell::styled(node.state.clone(), style)
        }),
        Column::right("WEIGHT", 6, |node| Cell::of(node.weight.to_string())),
        Column::right("OPEN", 5, |node| Cell::of(grouped(node.open))),
        Column::right("REQ/S", 1, |node| Cell::of(per_s(node.requests_per_s))),
        Column::right("FAIL/S", 2, |node| {
            let fails = node.failures_per_s.is_some_and(|rate| rate > 0.0);
            Cell::styled(per_s(node.failures_per_s), if fails { bad() } else { Style::new() })
        }),
        Column::right("FAILED", 4, |node| Cell::of(grouped(node.failures))),
        Column::left("WHY", 3, |node| Cell::of(node.why.clone())),
    ]
}

/// Items with gaps between, over as many lines as they need.
fn flow(items: Vec<Vec<Span<'static>>>, width: usize) -> Vec<Line<'static>> {
    const GAP: usize = 2;
    let mut lines: Vec<Line<'static>> = Vec::new();
    for item in items {
        let item = Line::from(item);
        match lines.last_mut() {
            Some(line) if line.width() + GAP + item.width() <= width => {
                line.push_span(Span::raw(" ".repeat(GAP)));
                line.extend(item.spans);
            }
            _ => lines.push(item),
        }
    }
    lines
}

fn foot(view: &View<'_>, width: usize) -> Vec<Line<'static>> {
    let key = |key: &str, what: String| {
        vec![
            Span::styled(format!(" {key} "), Style::new().add_modifier(Modifier::REVERSED)),
            plain(format!(" {what}")),
        ]
    };
    let pause = if view.paused { "go on" } else { "pause" };
    let items = vec![
        key("q", "quit".to_owned()),
        key("p", pause.to_owned()),
        key("s", format!("sort: {}", view.sort.name())),
        key("↑↓", "scroll".to_owned()),
    ];
    let mut lines = flow(items, width);
    lines.truncate(1);
    lines
}

fn bar(percent: f64) -> String {
    let eighths = (percent / 100.0 * (BAR_CELLS * 8) as f64).round() as usize;
    let full = (eighths / 8).min(BAR_CELLS);
    let part = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let part = if full < BAR_CELLS { part.get(eighths % 8).copied().unwrap_or_default() } else { "" };
    let empty = BAR_CELLS - full - part.chars().count();
    format!("{}{part}{}", "█".repeat(full), "·".repeat(empty))
}

fn sparks(history: &[f64]) -> String {
    let shown = history.get(history.len().saturating_sub(SPARKS_MAX)..).unwrap_or_default();
    let most = shown.iter().copied().fold(1.0, f64::max);
    let spark = |rate: &f64| {
        let step = (rate / most * (SPARKS.len() - 1) as f64).round() as usize;
        SPARKS.get(step).copied().unwrap_or('█')
    };
    shown.iter().map(spark).collect()
}

fn cut(text: &str, width: usize) -> String {
    super::table::cut(text, width)
}

fn plain(text: impl Into<String>) -> Span<'static> {
    Span::raw(text.into())
}

fn dim(text: impl Into<String>) -> Span<'static> {
    Span::styled(text.into(), Style::new().fg(Color::DarkGray))
}

fn strong(text: &str) -> Span<'static> {
    Span::styled(text.to_owned(), Style::new().add_modifier(Modifier::BOLD))
}

fn good() -> Style {
    Style::new().fg(Color::Green)
}

fn warning() -> Style {
    Style::new().fg(Color::Yellow)
}

fn bad() -> Style {
    Style::new().fg(Color::Red)
}

/// A rate: a tenth where it is small.
pub(super) fn per_s(rate: Option<f64>) -> String {
    match rate {
        None => "-".to_owned(),
        Some(rate) if rate == 0.0 => "0".to_owned(),
        Some(rate) if rate < 10.0 => format!("{rate:.1}"),
        Some(rate) => grouped(rate.round() as u64),
    }
}

/// Digits in groups of three.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn time(us: u64) -> String {
    let number = number(us);
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{:.2} ms", number / 1e3),
        10_000..1_000_000 => format!("{:.0} ms", number / 1e3),
        _ => format!("{:.2} s", number / 1e6),
    }
}

fn span(s: u64) -> String {
    match s {
        0..100 => format!("{s} s"),
        100..6_000 => format!("{} min", s / 60),
        6_000..172_800 => format!("{} h", s / 3_600),
        _ => format!("{} d", s / 86_400),
    }
}
