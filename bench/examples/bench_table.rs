//! What criterion has measured last, as one table: time, how sure it is, and throughput where it applies.
//!
//! `cargo run -p ringway-bench --example bench_table [FOLDER] [SINCE]`: criterion's folder (`target/criterion`), and a file; what was measured before that
//! file was touched is left out. `make bench` ends with it.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::Value;

/// One bench.
struct Row {
    group: String,
    name: String,
    at: SystemTime,
    ns: f64,
    /// Of the middle 95 % of resampled medians.
    low_ns: f64,
    high_ns: f64,
    throughput: Option<(f64, Unit)>,
}

#[derive(Clone, Copy)]
enum Unit {
    Bytes,
    Elements,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap_or_else(|| "target/criterion".to_owned()));
    let touched = |file: String| std::fs::metadata(file).and_then(|file| file.modified()).ok();
    let since = arguments.next().and_then(touched).unwrap_or(SystemTime::UNIX_EPOCH);
    let mut rows = Vec::new();
    collect(&folder, since, &mut rows);
    if rows.is_empty() {
        eprintln!("bench_table: nothing in {} was measured since", folder.display());
        return ExitCode::FAILURE;
    }
    // As they were run, but each group in one piece.
    rows.sort_by_key(|row| row.at);
    let groups: Vec<String> = rows.iter().map(|row| row.group.clone()).collect();
    rows.sort_by_key(|row| groups.iter().position(|group| *group == row.group));
    print(&rows);
    ExitCode::SUCCESS
}

/// Every bench below a folder.
fn collect(folder: &Path, since: SystemTime, rows: &mut Vec<Row>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if entry.file_name() == "new" {
            rows.extend(read(&path).filter(|row| row.at >= since));
        } else if path.is_dir() {
            collect(&path, since, rows);
        }
    }
}

fn read(folder: &Path) -> Option<Row> {
    let json = |name: &str| -> Option<Value> {
        serde_json::from_slice(&std::fs::read(folder.join(name)).ok()?).ok()
    };
    let (about, estimates) = (json("benchmark.json")?, json("estimates.json")?);
    let text = |field: &str| about.get(field).and_then(Value::as_str);
    let names: Vec<&str> = [text("function_id"), text("value_str")].into_iter().flatten().collect();
    let median = estimates.get("median")?;
    let bound = |which: &str| median.pointer(&format!("/confidence_interval/{which}"))?.as_f64();
    let count = |unit: &str| about.get("throughput")?.get(unit)?.as_f64();
    let bytes = count("Bytes").map(|count| (count, Unit::Bytes));
    Some(Row {
        group: text("group_id")?.to_owned(),
        name: names.join(", "),
        at: std::fs::metadata(folder.join("estimates.json")).ok()?.modified().ok()?,
        ns: median.get("point_estimate")?.as_f64()?,
        low_ns: bound("lower_bound")?,
        high_ns: bound("upper_bound")?,
        throughput: bytes.or_else(|| Some((count("Elements")?, Unit::Elements))),
    })
}

fn print(rows: &[Row]) {
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(12);
    println!("{:width$}  {:>10}  {:>21}  {:>12}", "", "median", "95 % sure", "throughput");
    let mut group = "";
    for row in rows {
        if row.group != group {
            group = &row.group;
            println!("{group}");
        }
        let sure = format!("{} to {}", time(row.low_ns), time(row.high_ns));
        let throughput = row.throughput.map(|(count, unit)| rate(count / row.ns * 1e9, unit));
        println!(
            "  {:width$}{:>10}  {sure:>21}  {:>12}",
            row.name,
            time(row.ns),
            throughput.unwrap_or_default()
        );
    }
}

fn time(ns: f64) -> String {
    scaled(ns, &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")])
}

fn rate(per_second: f64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => scaled(per_second, &[(1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s"), (1.0, "B/s")]),
        Unit::Elements => scaled(per_second, &[(1e9, "G/s"), (1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")]),
    }
}

/// With three digits, in the largest unit of which there is one.
fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let (size, unit) =
        units.iter().find(|(size, _)| value >= *size).or(units.last()).copied().unwrap_or((1.0, ""));
    let value = value / size;
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$} {unit}")
}
