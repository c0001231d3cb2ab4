//! `show latency`: percentiles of how long requests and nodes took, of all cores together and of each.

use serde_json::{Map, Value, json};

use crate::latency::{Counts, Summary, Window};
use crate::state::State;

/// The document: a window, in it the whole and each core, in those requests and tries at nodes.
pub(super) fn document(state: &State) -> Value {
    let windows = state.latencies.windows(&state.cores, state.started);
    windows.iter().map(|window| (window.name.to_owned(), of(window))).collect::<Map<_, _>>().into()
}

fn of(window: &Window) -> Value {
    let both = |[request, upstream]: &[Counts; 2]| (request.summary(), upstream.summary());
    let cores = window.cores.iter().enumerate().map(|(core, counts)| {
        let (request, upstream) = both(counts);
        json!({ "core": core, "request": request, "upstream": upstream })
    });
    let (request, upstream) = both(&window.whole);
    json!({
        "seconds": window.seconds,
        "request": request,
        "upstream": upstream,
        "cores": cores.collect::<Value>(),
    })
}

/// The same as a table.
pub(super) fn text(state: &State) -> String {
    let windows = state.latencies.windows(&state.cores, state.started);
    let head = ["", "", "", "count", "mean", "p50", "p90", "p99", "p99.9", "max"].map(str::to_owned);
    let mut lines = vec![line(&head)];
    for window in &windows {
        let whole = ("all".to_owned(), &window.whole);
        let cores = window.cores.iter().enumerate().map(|(core, counts)| (format!("core {core}"), counts));
        for (who, counts) in std::iter::once(whole).chain(cores) {
            for (what, counts) in ["request", "upstream"].iter().zip(counts) {
                lines.push(row(window.name, &who, what, &counts.summary()));
            }
        }
    }
    lines.join("\n")
}

fn row(window: &str, who: &str, what: &str, summary: &Summary) -> String {
    let times =
        [summary.mean_us, summary.p50_us, summary.p90_us, summary.p99_us, summary.p999_us, summary.max_us];
    let mut cells = vec![window.to_owned(), who.to_owned(), what.to_owned(), summary.count.to_string()];
    cells.extend(times.map(time));
    line(&cells)
}

fn line(cells: &[String]) -> String {
    let mut text = String::new();
    for (place, cell) in cells.iter().enumerate() {
        // Words to the left, numbers to the right.
        text += &if place < 3 { format!("{cell:<12}") } else { format!("{cell:>10}") };
    }
    text.trim_end().to_owned()
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us}us"),
        1_000..1_000_000 => format!("{:.2}ms", us as f64 / 1e3),
        _ => format!("{:.2}s", us as f64 / 1e6),
    }
}
