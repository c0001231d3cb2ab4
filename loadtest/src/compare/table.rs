//! The comparison as text: one block a case, and beneath it all that a reader needs to judge how far to trust it.

use super::case::Figure;
use super::summary::{Contest, IdleRow, Row, Spread};
use crate::report::duration_text;

/// More foreign load than this, in cores, makes a measurement worth a remark.
const FOREIGN_CORES_NOTED: f64 = 0.1;
/// A proxy that neither ran nor was ready to run for this much was not saturated, and batches less than one that is.
const WANTED_CORES_EXPECTED: f64 = 0.9;

pub(crate) fn render(contests: &[Contest], rows: &[Row], idle: &[IdleRow]) -> String {
    let mut text = String::new();
    for contest in contests.iter().filter(|contest| contest.case.figure == Figure::CpuPerRequest) {
        text.push_str(&format!("{}: {}\n", contest.case.name, contest.case.title));
        text.push_str(&format!(
            "  {:<16}{:>12}{:>24}{:>13}{:>18}{:>12}{:>10}{:>7}{:>9}\n",
            "peer",
            "CPU/request",
            "(range)",
            format!("/{}", contest.baseline),
            "(range)",
            "requests/s",
            "p99",
            "busy",
            "waiting"
        ));
        for row in rows.iter().filter(|row| row.case == contest.case.name) {
            text.push_str(&line(row));
        }
        for line in certainties(contest, rows) {
            text.push_str(&format!("  {line}\n"));
        }
        text.push('\n');
    }
    if let Some(contest) = contests.iter().find(|contest| contest.case.figure == Figure::MemoryPerConnection)
    {
        text.push_str(&idle_block(contest, idle));
    }
    text.push_str(&notes(rows));
    text
}

fn idle_block(contest: &Contest, rows: &[IdleRow]) -> String {
    let connections = rows.iter().map(|row| row.connections).max().unwrap_or(0);
    let mut text = format!("{}: {connections} {}\n", contest.case.name, contest.case.title);
    text.push_str(&format!(
        "  {:<16}{:>12}{:>24}{:>13}{:>18}{:>12}{:>12}\n",
        "peer",
        "/connection",
        "(range)",
        format!("/{}", contest.baseline),
        "(range)",
        "before",
        "with them"
    ));
    for row in rows {
        let (each, (ratio, ratio_range)) = (&row.bytes_per_connection, ratio_texts(row.ratio));
        text.push_str(&format!(
            "  {:<16}{:>12}{:>24}{ratio:>13}{ratio_range:>18}{:>12}{:>12}\n",
            row.peer,
            kilobytes(each.median),
            format!("({} - {})", kilobytes(each.min), kilobytes(each.max)),
            megabytes(row.bytes_before.median),
            megabytes(row.bytes_held.median),
        ));
    }
    text.push('\n');
    text
}

pub(crate) fn kilobytes(bytes: f64) -> String {
    format!("{:.2} kB", bytes / 1e3)
}

pub(crate) fn megabytes(bytes: f64) -> String {
    format!("{:.1} MB", bytes / 1e6)
}

/// Median and range.
pub(crate) fn ratio_texts(ratio: Option<Spread>) -> (String, String) {
    ratio.map_or_else(
        || ("-".to_owned(), "-".to_owned()),
        |ratio| (format!("{:.3}", ratio.median), format!("({:.3} - {:.3})", ratio.min, ratio.max)),
    )
}

fn line(row: &Row) -> String {
    let nanoseconds = |value: f64| duration_text(value as u64);
    let cpu = &row.cpu_ns_per_request;
    let (ratio, ratio_range) = ratio_texts(row.ratio);
    format!(
        "  {:<16}{:>12}{:>24}{:>13}{:>18}{:>12.0}{:>10}{:>7.2}{:>9.2}\n",
        row.peer,
        nanoseconds(cpu.median),
        format!("({} - {})", nanoseconds(cpu.min), nanoseconds(cpu.max)),
        ratio,
        ratio_range,
        row.requests_per_second.median,
        nanoseconds(row.p99_ns.median),
        row.proxy_cores.median,
        row.proxy_waiting_cores.median,
    )
}

/// How sure the ratios are, a line for each peer but the baseline.
pub(crate) fn certainties(contest: &Contest, rows: &[Row]) -> Vec<String> {
    let baseline = &contest.baseline;
    let others = rows.iter().filter(|row| row.case == contest.case.name && row.peer != *baseline);
    let line = |row: &Row| {
        let ((low, high), ratio, pairs) = (row.confidence?, row.ratio?.median, row.ratios.len());
        let goal = contest.case.goal.map_or_else(String::new, |goal| format!("; the goal is {goal:.2}"));
        Some(format!(
            "{} needs {ratio:.3} of what {baseline} needs; with 95 % confidence {low:.3} to {high:.3} (median of {pairs} pairs){goal}",
            row.peer
        ))
    };
    others.filter_map(line).collect()
}

/// What a reader needs to judge how far to trust the figures, a line each.
pub(crate) fn notes(rows: &[Row]) -> String {
    let mut text = String::new();
    if rows.is_empty() {
        return text;
    }
    let foreign = rows.iter().map(|row| row.foreign_cores.max).fold(0.0, f64::max);
    let rounds = rows.iter().map(|row| row.rounds).min().unwrap_or(0);
    text.push_str(&format!("Medians of {rounds} rounds; ratios were taken within each round.\n"));
    text.push_str(&format!("Foreign load: at most {foreign:.2} cores in any measurement.\n"));
    if foreign > FOREIGN_CORES_NOTED {
        let share = rows.iter().filter(|row| row.foreign_cores.median > FOREIGN_CORES_NOTED).count();
        text.push_str(&format!(
            "NOTE: other programs were busy ({share} of {} rows had more than {FOREIGN_CORES_NOTED} cores at the median); \
             trust the ratios less.\n",
            rows.len()
        ));
    }
    for row in rows.iter().filter(|row| row.tasks_vanished > 0) {
        text.push_str(&format!(
            "NOTE: {} tasks of {} ended during {}; what they used there is not in its CPU time.\n",
            row.tasks_vanished, row.peer, row.case
        ));
    }
    let idle: Vec<String> = rows
        .iter()
        .filter(|row| row.proxy_cores.median + row.proxy_waiting_cores.median < WANTED_CORES_EXPECTED)
        .map(|row| format!("{}/{}", row.case, row.peer))
        .collect();
    if !idle.is_empty() {
        text.push_str(&format!(
            "NOTE: not saturated (under {WANTED_CORES_EXPECTED} cores): {}\n",
            idle.join(", ")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::case::CASES;
    use super::*;

    #[test]
    fn a_row_shows_median_range_ratio_and_its_reservations() {
        let spread = |median: f64| Spread { median, min: median / 2.0, max: median * 2.0 };
        let row = Row {
            case: CASES[0].name,
            peer: "ours".into(),
            rounds: 5,
            cpu_ns_per_request: spread(7_250.0),
            ratio: Some(spread(0.725)),
            ratios: vec![0.725],
            confidence: Some((0.71, 0.74)),
            requests_per_second: spread(100_000.0),
            proxy_cores: spread(0.5),
            proxy_waiting_cores: spread(0.2),
            foreign_cores: spread(0.2),
            p99_ns: spread(1_000_000.0),
            tasks_vanished: 2,
        };
        let idle = IdleRow {
            peer: "ours".into(),
            rounds: 1,
            connections: 9_500,
            bytes_per_connection: spread(2_340.0),
            all: vec![2_340.0],
            ratio: None,
            bytes_before: spread(10e6),
            bytes_held: spread(32e6),
        };
        let contests = [CASES[0], CASES[8]].map(|case| Contest {
            case,
            labels: vec!["ours".into()],
            baseline: "nginx".into(),
        });
        let text = render(&contests, &[row], &[idle]);
        for expected in [
            "7.25 µs",
            "ours needs 0.725 of what nginx needs; with 95 % confidence 0.710 to 0.740 (median of 1 pairs)",
            "0.725",
            "/nginx",
            "(0.362 - 1.450)",
            "100000",
            "keepalive-64",
            "of 5 rounds",
            "idle: 9500 idle keep-alive",
            "2.34 kB",
            "32.0 MB",
        ] {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        assert!(text.contains("2 tasks of ours ended during keepalive-64"), "{text}");
        assert!(text.contains("other programs were busy"), "{text}");
        assert!(text.contains("not saturated (under 0.9 cores): keepalive-64/ours"), "{text}");
    }
}
