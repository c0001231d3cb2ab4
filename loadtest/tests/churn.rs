//! `churn` with the real executables and a real PostgreSQL, small and short.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::process::Command;

use serde_json::Value;

mod built;

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_ringway-loadtest");

#[test]
fn every_change_arrives_and_no_request_fails() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("not tested: it takes two cores");
        return;
    }
    let bin = built::planes(EXECUTABLE);
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("churn.html");
    let output = Command::new(EXECUTABLE)
        .args([
            "churn",
            "--routes",
            "1000",
            "--rounds",
            "1",
            "--duration",
            "1s",
            "--changes",
            "50",
            "--rate",
            "200",
        ])
        .args(["--quiet", "--json", "-", "--html"])
        .arg(&page)
        .arg("--bin-dir")
        .arg(bin)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let count = |name: &str| json[name]["count"].as_u64().unwrap();
    let changes = json["changes"].as_u64().unwrap();
    assert!(changes >= 10, "{json:#}");
    assert_eq!(count("commit_to_last_core_ns"), changes);
    assert!((1..=changes).contains(&json["versions"].as_u64().unwrap()), "{json:#}");
    assert!(count("without_ns") > 0 && count("with_ns") > 0, "{json:#}");
    assert!(json["stages"]["last_core_ns"]["count"].as_u64().unwrap() > 0, "{json:#}");
    assert!(json["stages"]["load_ns"]["p50"].as_u64().unwrap() > 0, "{json:#}");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("PostgreSQL") && page.contains("</svg>"), "{page}");
}
