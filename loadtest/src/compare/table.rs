//! The comparison as text: one block a case, and beneath it all that a reader needs to judge how far to trust it.

use super::case::Case;
use super::summary::Row;
use crate::report::duration_text;

/// More foreign load than this, in cores, makes a measurement worth a remark.
const FOREIGN_CORES_NOTED: f64 = 0.1;
/// A proxy that neither ran nor was ready to run for this much was not saturated, and batches less than one that is.
const WANTED_CORES_EXPECTED: f64 = 0.9;

pub(crate) fn render(cases: &[Case], rows: &[Row], baseline: &str) -> String {
    let mut text = String::new();
    for case in cases {
        text.push_str(&format!("{}: {}\n", case.name, case.title));
        text.push_str(&format!(
            "  {:<14}{:>12}{:>24}{:>10}{:>18}{:>12}{:>10}{:>7}{:>9}\n",
            "peer",
            "CPU/request",
            "(range)",
            format!("/{baseline}"),
            "(range)",
            "requests/s",
            "p99",
            "busy",
            "waiting"
        ));
        for row in rows.iter().filter(|row| row.case == case.name) {
            text.push_str(&line(row));
        }
        text.push('\n');
    }
    text.push_str(&notes(rows));
    text
}

fn line(row: &Row) -> String {
    let nanoseconds = |value: f64| duration_text(value as u64);
    let cpu = &row.cpu_ns_per_request;
    let (ratio, ratio_range) = row.ratio.map_or_else(
        || ("-".to_owned(), "-".to_owned()),
        |ratio| (format!("{:.3}", ratio.median), format!("({:.3} - {:.3})", ratio.min, ratio.max)),
    );
    format!(
        "  {:<14}{:>12}{:>24}{:>10}{:>18}{:>12.0}{:>10}{:>7.2}{:>9.2}\n",
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

fn notes(rows: &[Row]) -> String {
    let mut text = String::new();
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
    use super::super::summary::Spread;
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
            requests_per_second: spread(100_000.0),
            proxy_cores: spread(0.5),
            proxy_waiting_cores: spread(0.2),
            foreign_cores: spread(0.2),
            p99_ns: spread(1_000_000.0),
            tasks_vanished: 2,
        };
        let text = render(&CASES[..1], &[row], "nginx");
        for expected in
            ["7.25 µs", "0.725", "/nginx", "(0.362 - 1.450)", "100000", "keepalive-64", "of 5 rounds"]
        {
            assert!(text.contains(expected), "{expected:?} is not in\n{text}");
        }
        assert!(text.contains("2 tasks of ours ended during keepalive-64"), "{text}");
        assert!(text.contains("other programs were busy"), "{text}");
        assert!(text.contains("not saturated (under 0.9 cores): keepalive-64/ours"), "{text}");
    }
}
