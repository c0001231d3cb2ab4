//! The fault scenarios with the real executables, in their short form.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod built;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_ringway-loadtest");
const DEADLINE: Duration = Duration::from_secs(120);

fn fault(arguments: &[&str]) -> Output {
    let bin = built::planes(EXECUTABLE);
    Command::new(EXECUTABLE).arg("fault").arg("--bin-dir").arg(bin).args(arguments).output().unwrap()
}

/// Temporary folders of a run, by its process.
fn open_files_below(pid: u32, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/tmp").into_iter().flatten().flatten().map(|entry| entry.path());
    let ours = entries.filter(|path| path.to_string_lossy().starts_with(prefix));
    // A folder belongs to the run whose control plane writes into it.
    let is_of = |path: &PathBuf| {
        children(pid).iter().any(|child| command_line(*child).contains(&*path.to_string_lossy()))
    };
    ours.filter(is_of).collect()
}

fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn command_line(pid: u32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

fn wait_until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(begun.elapsed() < DEADLINE, "waited for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn no_fault_of_the_short_form_costs_a_request_or_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    let output = fault(&["--short", "--quiet", "--json", "-", "--html", page.to_str().unwrap()]);
    let text = String::from_utf8_lossy(&output.stdout);
    let report: serde_json::Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    let rows = report["rows"].as_array().unwrap();
    for row in rows {
        assert!(row["result"] == "ok" || row["result"] == "skipped", "{}", without_series(row));
    }
    assert!(rows.iter().filter(|row| row["result"] == "ok").count() >= 6, "{text}");
    for row in rows.iter().filter(|row| row["result"] == "ok") {
        assert!(row["requests"].as_u64().unwrap() > 500, "{}", without_series(row));
        assert!(row["changes"].as_u64().unwrap() > 5, "{}", without_series(row));
    }
    assert_eq!(output.status.code(), Some(0));
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.matches("<svg").count() >= 12 && !html.contains("http://"));
}

fn without_series(row: &serde_json::Value) -> String {
    let mut row = row.clone();
    row.as_object_mut().unwrap().remove("series");
    format!("{row:#}")
}

#[test]
fn a_signal_ends_everything_that_was_started() {
    let bin = built::planes(EXECUTABLE);
    for signal in ["TERM", "INT"] {
        let mut run = Command::new(EXECUTABLE)
            .args(["fault", "--only", "controlplane-stop", "--quiet", "--bin-dir"])
            .arg(&bin)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = run.id();
        let folder = wait_until("a control plane", || {
            let folder = open_files_below(pid, "/tmp/rwfault-").pop()?;
            let is_there =
                children(pid).iter().any(|child| command_line(*child).contains("ringway-controlplane"));
            is_there.then_some(folder)
        });
        let started = children(pid);
        assert!(started.len() >= 6, "{started:?}");
        let sent = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().unwrap();
        assert!(sent.success());
        let status = run.wait().unwrap();
        assert_eq!(status.code(), Some(2), "{signal}");
        for child in started {
            assert!(
                !command_line(child).contains(&*folder.to_string_lossy()),
                "{child} runs on after {signal}"
            );
        }
        assert!(!folder.exists(), "{} is left after {signal}", folder.display());
    }
}

#[test]
fn faults_are_listed_and_a_wrong_name_is_refused() {
    let listed = Command::new(EXECUTABLE).args(["fault", "--list"]).output().unwrap();
    let text = String::from_utf8_lossy(&listed.stdout);
    assert!(text.lines().count() >= 19 && text.contains("controlplane-kill"), "{text}");
    let wrong = Command::new(EXECUTABLE).args(["fault", "--only", "earthquake"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn a_comparison_that_is_stopped_leaves_no_folder() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("not tested: a comparison needs two cores");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let origin = Command::new(EXECUTABLE)
        .args(["origin", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut origin = Ended(origin);
    let mut line = String::new();
    let stdout = origin.0.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    let address = line.trim().strip_prefix("listening ").unwrap();
    let target = format!("itself={address}={}", origin.0.id());
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut run = Command::new(EXECUTABLE)
        .args(["compare", "--peer", "itself", "--target", &target, "--origin", &unused.to_string()])
        .args(["--rounds", "1", "--duration", "60s", "--quiet"])
        .env("TMPDIR", folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let hammer = wait_until("the hammer", || {
        children(run.id()).into_iter().find(|child| command_line(*child).contains("hammer"))
    });
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(Command::new("kill").arg(run.id().to_string()).status().unwrap().success());
    assert_eq!(run.wait().unwrap().code(), Some(2));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    assert!(!command_line(hammer).contains("hammer"));
}

/// Killed with its test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
