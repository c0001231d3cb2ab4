//! `ringway up`: the lines that it prints are pasted into a shell, as a user would.

use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use crate::stand::{Cluster, Folder, Process, ask, executables, wait_until};

/// A running `up` in a folder of its own.
struct Up {
    process: Process,
    dir: PathBuf,
}

impl Up {
    fn start(folder: &Folder, more: &[&str], environment: &[(&str, &str)]) -> Up {
        let dir = folder.path.join("d");
        let shown = dir.display().to_string();
        let fixed = ["up", "--dir", &shown, "--workers", "2"];
        let ports = ["--listen", "127.0.0.1:0", "--status", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let arguments: Vec<&str> = fixed.iter().chain(&ports).chain(more).copied().collect();
        let log = folder.path.join("up.log");
        let process = Process::start(&executables().join("ringway"), &arguments, environment, &log);
        let mut up = Up { process, dir };
        wait_until("`up` to say that it is up", || {
            let text = up.process.log();
            assert!(!up.has_ended(), "it has ended: {text}");
            text.contains("Ctrl-C stops everything").then_some(())
        });
        up
    }

    fn has_ended(&mut self) -> bool {
        self.process.ended().is_some()
    }

    /// Output lines that start with this word, without indentation.
    fn lines(&self, word: &str) -> Vec<String> {
        let text = self.process.log();
        text.lines().map(str::trim).filter(|line| line.starts_with(word)).map(ToOwned::to_owned).collect()
    }

    fn stop(mut self) -> String {
        self.process.signal(Signal::INT);
        let code = self.process.wait().code();
        assert_eq!(code, Some(0), "{}", self.process.log());
        let left = wait_until("nothing to be left running", || {
            let left = processes_with(&self.dir);
            left.is_empty().then_some(left)
        });
        assert_eq!(left, Vec::<String>::new());
        self.process.log()
    }

    fn status(&self) -> (Option<i32>, String) {
        let output = Command::new(executables().join("ringway"))
            .args(["status", "--json", "--dir"])
            .arg(&self.dir)
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Command lines of processes that name the folder, other than zombies.
fn processes_with(dir: &std::path::Path) -> Vec<String> {
    let dir = dir.display().to_string();
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&dir))
        .collect()
}

/// What a user gets who pastes the line.
fn paste(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).current_dir("/").output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The Admin API that the banner names takes the key that it shows, and what is written there is served.
fn over_the_admin_api(up: &Up, hello: &str) {
    let line = up.lines("admin:").pop().expect("a line for the Admin API");
    let words: Vec<&str> = line.split_whitespace().collect();
    let (url, key) = (words[1].trim_end_matches(','), words[3]);
    let file = std::fs::metadata(up.dir.join("admin.key")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o777, 0o600);
    let curl = |more: &str| paste(&format!("curl -sS -H 'X-API-KEY: {key}' {more}"));
    let answer = curl(&format!("-X PATCH '{url}/routes/hello?wait=30s' -d '{{\"status\": 0}}'"));
    assert!(answer.contains("\"everywhere\":true"), "{answer}");
    assert!(!paste(hello).contains("\"backend\""), "the disabled route still serves");
    curl(&format!("-X PATCH '{url}/routes/hello?wait=30s' -d '{{\"status\": null}}'"));
    assert!(paste(hello).contains("\"backend\""));
    assert!(paste(&format!("curl -sS {url}/routes")).contains("missing apikey"));
    // The tool finds address and key in the folder.
    let get = paste(&format!(
        "'{}' get route hello --dir '{}'",
        executables().join("ringway").display(),
        up.dir.display()
    ));
    assert!(get.contains("uri: /hello\n"), "{get}");
}

#[test]
fn up_with_postgresql_prints_lines_that_work_and_keeps_what_psql_inserted() {
    let folder = Folder::new();
    let up = Up::start(&folder, &[], &[]);
    let first = up.process.log().lines().next().unwrap_or_default().to_owned();
    assert!(first.starts_with("source: PostgreSQL") && first.contains("private cluster"), "{first}");

    let curls = up.lines("curl");
    assert_eq!(curls.len(), 4, "{curls:?}");
    for line in curls.iter().take(3) {
        assert!(paste(&format!("{line} -sS --fail")).contains("\"backend\""), "{line}");
    }
    let hello = format!("{} -sS", curls[3]);
    assert!(!paste(&hello).contains("\"backend\""), "the route is there before it was inserted");
    let psql = up.lines("psql");
    paste(&psql[0]);
    wait_until("the inserted route to serve", || paste(&hello).contains("\"backend\"").then_some(()));
    wait_until("a status that is in step", || (up.status().0 == Some(0)).then_some(()));
    over_the_admin_api(&up, &hello);

    let second =
        Command::new(executables().join("ringway")).arg("up").arg("--dir").arg(&up.dir).output().unwrap();
    let told = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(second.status.code() == Some(1) && told.contains("another `ringway up`"), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");

    let text = up.stop();
    let order: Vec<_> = ["stopped the data plane", "stopped the control plane", "stopped PostgreSQL"]
        .map(|line| text.find(line).unwrap_or_else(|| panic!("{line} is not in {text}")))
        .into();
    assert!(order.is_sorted(), "{text}");

    let up = Up::start(&folder, &[], &[]);
    let hello = format!("{} -sS --fail", up.lines("curl")[3]);
    assert!(paste(&hello).contains("\"backend\""), "the inserted route was not kept");
    up.stop();

    let up = Up::start(&folder, &["--fresh"], &[]);
    let hello = format!("{} -sS", up.lines("curl")[3]);
    assert!(!paste(&hello).contains("\"backend\""), "--fresh has kept a route");
    up.stop();
}

#[test]
fn up_without_postgresql_serves_a_file_that_can_be_edited() {
    let folder = Folder::new();
    let up = Up::start(&folder, &[], &[("RINGWAY_POSTGRES_BIN", "")]);
    let first = up.process.log().lines().next().unwrap_or_default().to_owned();
    assert!(first.starts_with("source: the declarative file"), "{first}");
    let curls = up.lines("curl");
    assert_eq!(curls.len(), 3, "{curls:?}");
    for line in &curls {
        assert!(paste(&format!("{line} -sS --fail")).contains("\"backend\""), "{line}");
    }
    let file = up.dir.join("ringway.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(
        &file,
        text.replace("routes:\n", "routes:\n  - {id: new, uri: /new, upstream_id: demo}\n"),
    )
    .unwrap();
    let new = format!("{}new -sS", curls[0].replace("curl -i ", "curl "));
    wait_until("the new route to serve", || paste(&new).contains("\"backend\"").then_some(()));
    up.stop();
}

#[test]
fn up_starts_again_what_dies() {
    let folder = Folder::new();
    let up = Up::start(&folder, &[], &[("RINGWAY_POSTGRES_BIN", "")]);
    let line = format!("{} -sS --fail --retry 60 --retry-connrefused --retry-delay 1", up.lines("curl")[0]);
    let pid = std::fs::read_to_string(up.dir.join("run/dataplane.pid")).unwrap();
    let pid: i32 = pid.split(' ').next().unwrap().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    wait_until("a line that says so", || {
        up.process.log().contains("the data plane was killed by signal 9; starting it again").then_some(())
    });
    assert!(paste(&line).contains("\"backend\""));
    up.stop();
}

/// The data plane's process, as it says itself.
fn serving_process(up: &Up) -> Option<u64> {
    let reply = ask(&up.dir.join("run/admin.sock"), Some("show info json"))?;
    serde_json::from_str::<serde_json::Value>(&reply).ok()?["pid"].as_u64()
}

#[test]
fn up_follows_an_upgraded_data_plane_and_starts_it_again_and_stops_it() {
    let folder = Folder::new();
    let up = Up::start(&folder, &["--no-demo"], &[("RINGWAY_POSTGRES_BIN", "")]);
    let mut present = serving_process(&up).unwrap();
    for round in 0..3 {
        let upgraded = Command::new(executables().join("ringway"))
            .args(["upgrade", "--dir"])
            .arg(&up.dir)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&upgraded.stdout).into_owned();
        assert!(upgraded.status.success() && told.starts_with("upgraded: "), "{told}");
        let next = wait_until("the next process", || serving_process(&up).filter(|next| *next != present));
        wait_until("`up` to follow", || {
            up.process.log().contains(&format!("process {next} serves in place of {present}")).then_some(())
        });
        wait_until("the end of the one before", || {
            (!std::path::Path::new(&format!("/proc/{present}")).exists()).then_some(())
        });
        present = next;
        wait_until("a status that is in step", || (up.status().0 == Some(0)).then_some(()));
        assert!(!up.process.log().contains("starting it again"), "round {round}: {}", up.process.log());
    }
    let refused = Command::new(executables().join("ringway"))
        .args(["upgrade", "/bin/false", "--dir"])
        .arg(&up.dir)
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(serving_process(&up), Some(present));
    // A successor that dies is started again as any child is.
    let pid = rustix::process::Pid::from_raw(i32::try_from(present).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    wait_until("another process", || serving_process(&up).filter(|next| *next != present));
    let present = serving_process(&up).unwrap();
    let upgraded =
        Command::new(executables().join("ringway")).args(["upgrade", "--dir"]).arg(&up.dir).status();
    assert!(upgraded.unwrap().success());
    wait_until("the next process", || serving_process(&up).filter(|next| *next != present));
    up.stop();
}

#[test]
fn up_that_is_killed_takes_everything_with_it_and_starts_again() {
    let folder = Folder::new();
    let up = Up::start(&folder, &[], &[]);
    let dir = up.dir.clone();
    up.process.kill();
    wait_until("everything to be gone", || processes_with(&dir).is_empty().then_some(()));
    let up = Up::start(&folder, &[], &[]);
    let line = format!("{} -sS --fail", up.lines("curl")[0]);
    assert!(paste(&line).contains("\"backend\""), "{line}");
    up.stop();
}

#[test]
fn up_with_a_database_of_the_users_fills_it_when_it_is_empty_and_leaves_it_alone_when_not() {
    let cluster = Cluster::start();
    let folder = Folder::new();
    let up = Up::start(&folder, &["--database-url", &cluster.url()], &[]);
    let first = up.process.log().lines().next().unwrap_or_default().to_owned();
    assert!(first.starts_with("source: PostgreSQL at "), "{first}");
    let line = format!("{} -sS --fail", up.lines("curl")[0]);
    assert!(paste(&line).contains("\"backend\""), "{line}");
    up.stop();

    let sql = cluster.sql();
    sql.run("DELETE FROM ringway.resource WHERE kind <> 'upstreams'");
    let before = sql.number("SELECT revision FROM ringway.head");
    let up = Up::start(&folder, &["--database-url", &cluster.url()], &[]);
    wait_until("a status that is in step", || (up.status().0 == Some(0)).then_some(()));
    assert_eq!(sql.number("SELECT count(*) FROM ringway.resource"), 3, "the upstreams alone");
    up.stop();
    // Unless its ports were taken meanwhile: then the upstream is corrected.
    assert!(sql.number("SELECT revision FROM ringway.head") <= before + 1);
}

#[test]
fn up_with_a_file_of_the_users_serves_it_and_starts_no_demonstration() {
    let folder = Folder::new();
    let file = folder.path.join("routes.json");
    std::fs::write(&file, r#"{"routes": [{"id": 1, "uri": "/gone", "upstream": {"nodes": {}}}]}"#).unwrap();
    let up = Up::start(&folder, &["--file", &file.display().to_string()], &[]);
    let text = up.process.log();
    assert!(text.starts_with("source: the declarative file") && !text.contains("backends:"), "{text}");
    let gateway = up.lines("gateway:")[0].split_whitespace().nth(1).unwrap().to_owned();
    assert!(paste(&format!("curl -sS {gateway}/gone")).contains("no usable node"), "a route without nodes");
    up.stop();
}
