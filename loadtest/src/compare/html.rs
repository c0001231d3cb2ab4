//! The comparison as a page: the ratio of every case with its range and each round's point, the memory of idle
//! connections, and the tables behind them.

use super::case::Figure;
use super::summary::{Contest, IdleRow, Row};
use super::table::{certainties, kilobytes, megabytes, notes, ratio_texts};
use crate::chart::{Bar, Group, legend, ranges};
use crate::page;
use crate::report::duration_text;

pub(crate) fn render(about: &[String], contests: &[Contest], rows: &[Row], idle: &[IdleRow]) -> String {
    let colours = colours(contests);
    let colour = |label: &str| colours.iter().position(|known| *known == label).unwrap_or(0);
    let mut parts = String::new();
    let ratios = ratio_groups(contests, rows, &colour);
    let keys: Vec<(&str, usize)> =
        colours.iter().enumerate().map(|(place, label)| (label.as_str(), place)).collect();
    if !ratios.is_empty() {
        let plot =
            ranges(&ratios, "CPU time per request, ratio to the baseline within the round", Some(1.0), 2);
        parts.push_str(&page::section(
            "CPU time per request",
            "Less is better. Each point is one round, the band their range, the stroke and the number the median. The baseline is 1; a red stroke is the goal.",
            &format!("{}<figure>{plot}</figure>", legend(&keys)),
        ));
    }
    if !idle.is_empty() {
        parts.push_str(&idle_section(idle, &colour));
    }
    for contest in contests.iter().filter(|contest| contest.case.figure == Figure::CpuPerRequest) {
        let remarks = page::remarks(&certainties(contest, rows).join("\n"));
        let body = format!("{}{remarks}", table(contest, rows));
        parts.push_str(&page::section(contest.case.name, contest.case.title, &body));
    }
    parts.push_str(&page::section("How far to trust it", "", &page::remarks(&notes(rows))));
    page::document("Ringway and its peers", None, about, &parts)
}

/// Every label once; its place is its colour.
fn colours(contests: &[Contest]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for label in contests.iter().flat_map(|contest| &contest.labels) {
        if !all.contains(label) {
            all.push(label.clone());
        }
    }
    all
}

fn ratio_groups(contests: &[Contest], rows: &[Row], colour: &dyn Fn(&str) -> usize) -> Vec<Group> {
    let group = |contest: &Contest| {
        let bars = rows.iter().filter(|row| row.case == contest.case.name).filter_map(|row| {
            Some(Bar {
                name: row.peer.clone(),
                colour: colour(&row.peer),
                median: row.ratio?.median,
                points: row.ratios.clone(),
            })
        });
        let bars: Vec<Bar> = bars.collect();
        let title = format!("{}: {}", contest.case.name, contest.case.title);
        (!bars.is_empty()).then_some(Group { title, goal: contest.case.goal, bars })
    };
    contests.iter().filter_map(group).collect()
}

fn idle_section(rows: &[IdleRow], colour: &dyn Fn(&str) -> usize) -> String {
    let connections = rows.iter().map(|row| row.connections).max().unwrap_or(0);
    let bars = rows.iter().map(|row| Bar {
        name: row.peer.clone(),
        colour: colour(&row.peer),
        median: row.bytes_per_connection.median / 1e3,
        points: row.all.iter().map(|bytes| bytes / 1e3).collect(),
    });
    let group = Group { title: format!("{connections} idle connections"), goal: None, bars: bars.collect() };
    let plot = ranges(&[group], "resident memory per connection, kB", None, 2);
    let heads = ["peer", "per connection", "ratio", "before", "with them", "rounds"];
    let cells = rows.iter().map(|row| {
        vec![
            row.peer.clone(),
            kilobytes(row.bytes_per_connection.median),
            ratio_texts(row.ratio).0,
            megabytes(row.bytes_before.median),
            megabytes(row.bytes_held.median),
            row.rounds.to_string(),
        ]
    });
    let cells: Vec<Vec<String>> = cells.collect();
    page::section(
        "Idle connections",
        "Resident memory of the whole peer with idle keep-alive connections less that without. What the kernel holds for sockets is the same for all and not in it; what a peer has set aside beforehand stands under \"before\".",
        &format!("<figure>{plot}</figure>{}", page::table(&heads, &cells)),
    )
}

fn table(contest: &Contest, rows: &[Row]) -> String {
    let ratio_head = format!("/ {}", contest.baseline);
    let heads =
        ["peer", "CPU / request", "range", &ratio_head, "range", "requests / s", "p99", "busy", "waiting"];
    let nanoseconds = |value: f64| duration_text(value as u64);
    let cells = rows.iter().filter(|row| row.case == contest.case.name).map(|row| {
        let (ratio, range) = ratio_texts(row.ratio);
        vec![
            row.peer.clone(),
            nanoseconds(row.cpu_ns_per_request.median),
            format!(
                "{} - {}",
                nanoseconds(row.cpu_ns_per_request.min),
                nanoseconds(row.cpu_ns_per_request.max)
            ),
            ratio,
            range,
            format!("{:.0}", row.requests_per_second.median),
            nanoseconds(row.p99_ns.median),
            format!("{:.2}", row.proxy_cores.median),
            format!("{:.2}", row.proxy_waiting_cores.median),
        ]
    });
    page::table(&heads, &cells.collect::<Vec<_>>())
}
