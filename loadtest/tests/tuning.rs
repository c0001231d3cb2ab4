//! `tuning/check` on this host, and on made-up ones.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn check(arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tuning/check");
    Command::new(script).args(arguments).output().expect("the script starts")
}

/// Runs the check with `--json`; gives status and value by name, and the exit code.
fn check_json(arguments: &[&str]) -> (BTreeMap<String, (String, String)>, i32) {
    let output = check(&[arguments, &["--json"]].concat());
    let json: Value = serde_json::from_slice(&output.stdout).expect("valid JSON");
    let mut found = BTreeMap::new();
    for one in json["checks"].as_array().expect("a list of checks") {
        let text =
            |key: &str| one[key].as_str().unwrap_or_else(|| panic!("{key} is no text in {one}")).to_owned();
        assert!(["OK", "WARN", "N-A"].contains(&text("status").as_str()), "{one}");
        assert!(
            !text("reason").is_empty() && !text("source").is_empty() && !text("value").is_empty(),
            "{one}"
        );
        assert!(text("status") != "WARN" || !text("advice").is_empty(), "a warning without advice: {one}");
        let doubled = found.insert(text("name"), (text("status"), text("value")));
        assert!(doubled.is_none(), "{} is reported twice", text("name"));
    }
    let warnings = found.values().filter(|(status, _)| status == "WARN").count();
    assert_eq!(json["warnings"], warnings);
    (found, output.status.code().expect("an exit code"))
}

/// A host made of files.
struct Host {
    root: tempfile::TempDir,
}

impl Host {
    /// One that has nothing to be warned of.
    fn good() -> Self {
        let host = Self { root: tempfile::tempdir().unwrap() };
        for (path, text) in [
            ("proc/sys/kernel/osrelease", "6.1.0-13-amd64"),
            ("proc/sys/kernel/io_uring_disabled", "0"),
            ("proc/sys/kernel/numa_balancing", "0"),
            ("proc/sys/net/core/somaxconn", "16384"),
            ("proc/sys/net/ipv4/tcp_max_syn_backlog", "16384"),
            ("proc/sys/net/ipv4/tcp_syncookies", "1"),
            ("proc/sys/net/ipv4/ip_local_port_range", "10240\t65535"),
            ("proc/sys/net/ipv4/tcp_tw_reuse", "1"),
            ("proc/sys/net/ipv4/tcp_timestamps", "1"),
            ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "0"),
            ("proc/sys/net/ipv4/tcp_fastopen", "3"),
            ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456"),
            ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304"),
            ("proc/sys/net/netfilter/nf_conntrack_max", "1048576"),
            ("proc/sys/net/netfilter/nf_conntrack_count", "1000"),
            ("proc/self/status", "Name:\tsh\nSeccomp:\t0\nSeccomp_filters:\t0"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance"),
            ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance"),
            ("sys/devices/system/node/node0/cpulist", "0-1"),
            ("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never"),
            ("sys/class/net/eth0/device/vendor", "0x1"),
            ("sys/class/net/eth0/queues/rx-0/rps_cpus", "0"),
            ("sys/class/net/eth0/queues/rx-1/rps_cpus", "0"),
        ] {
            host.write(path, text);
        }
        host.limits("1048576", "8388608");
        host
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    fn limits(&self, files: &str, locked: &str) {
        self.write(
            "proc/self/limits",
            &format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max open files            {files:<20} {files:<20} files     \n\
                 Max locked memory         {locked:<20} {locked:<20} bytes     "
            ),
        );
    }

    fn check(&self) -> (BTreeMap<String, (String, String)>, i32) {
        check_json(&["--root", self.root.path().to_str().unwrap()])
    }

    /// The names of the checks that warn.
    fn warnings(&self) -> Vec<String> {
        let (found, code) = self.check();
        let warnings: Vec<String> =
            found.into_iter().filter(|(_, (status, _))| status == "WARN").map(|(name, _)| name).collect();
        assert_eq!(code, i32::from(!warnings.is_empty()));
        warnings
    }
}

#[test]
fn this_host_is_reported_as_valid_json() {
    let (found, code) = check_json(&[]);
    assert!(found.len() >= 20, "{found:?}");
    let warned = found.values().any(|(status, _)| status == "WARN");
    assert_eq!(code, i32::from(warned));
}

#[test]
fn a_sysctl_is_read_whole_and_not_only_its_first_digit() {
    // Only the real /proc gives a single byte to a shell that reads byte by byte.
    let (found, _) = check_json(&[]);
    let real = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    assert_eq!(found["somaxconn"].1, real.trim());
}

#[test]
fn a_good_host_has_no_warning() {
    let (found, code) = Host::good().check();
    for (name, (status, value)) in &found {
        assert_eq!(status, "OK", "{name}: {value}");
    }
    assert_eq!(code, 0);
}

#[test]
fn each_bad_setting_is_found_alone() {
    for (path, text, name) in [
        ("proc/sys/kernel/osrelease", "5.15.0-91-generic", "kernel"),
        ("proc/sys/kernel/osrelease", "6.0.19", "kernel"),
        ("proc/sys/kernel/io_uring_disabled", "1", "io_uring"),
        ("proc/sys/kernel/io_uring_disabled", "2", "io_uring"),
        ("proc/self/status", "Seccomp:\t2", "seccomp"),
        ("proc/sys/net/core/somaxconn", "128", "somaxconn"),
        ("proc/sys/net/ipv4/tcp_max_syn_backlog", "512", "tcp_max_syn_backlog"),
        ("proc/sys/net/ipv4/tcp_syncookies", "0", "tcp_syncookies"),
        ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999", "ip_local_port_range"),
        ("proc/sys/net/ipv4/tcp_tw_reuse", "2", "tcp_tw_reuse"),
        ("proc/sys/net/ipv4/tcp_timestamps", "0", "tcp_tw_reuse"),
        ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1", "tcp_slow_start_after_idle"),
        ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t212992", "tcp_rmem"),
        ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t212992", "tcp_wmem"),
        ("proc/sys/net/netfilter/nf_conntrack_max", "65536", "conntrack"),
        ("proc/sys/net/netfilter/nf_conntrack_count", "900000", "conntrack"),
        ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave", "governor"),
        ("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet", "clocksource"),
        ("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never", "transparent_hugepage"),
        ("sys/devices/system/cpu/cpu2/online", "1", "irq"),
    ] {
        let host = Host::good();
        host.write(path, text);
        assert_eq!(host.warnings(), [name], "{path} = {text:?}");
    }
}

#[test]
fn limits_and_nodes_are_judged_with_what_they_depend_on() {
    let host = Host::good();
    host.limits("1024", "65536");
    assert_eq!(host.warnings(), ["nofile"], "rings do not need locked memory on 6.1");
    host.write("proc/sys/kernel/osrelease", "5.10.0-28-amd64");
    assert_eq!(host.warnings(), ["kernel", "memlock", "nofile"]);

    let host = Host::good();
    host.limits("unlimited", "unlimited");
    host.write("sys/devices/system/node/node1/cpulist", "2-3");
    assert_eq!(host.warnings(), [""; 0], "two nodes without automatic balancing");
    host.write("proc/sys/kernel/numa_balancing", "1");
    assert_eq!(host.warnings(), ["numa"]);
}

#[test]
fn what_does_not_exist_is_not_judged() {
    let host = Host { root: tempfile::tempdir().unwrap() };
    let (found, code) = host.check();
    assert_eq!(code, 0, "{found:?}");
    assert_eq!(found["conntrack"].0, "N-A");
    assert_eq!(found["governor"].0, "N-A");
    assert_eq!(found["somaxconn"].0, "N-A");
}

#[test]
fn odd_characters_do_not_break_the_json() {
    let host = Host::good();
    host.write("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "a\"b\\c\td");
    let (found, _) = host.check();
    assert_eq!(found["governor"].1, "a\"b\\cd");
}

#[test]
fn every_check_explains_itself() {
    let (found, _) = check_json(&[]);
    for name in found.keys() {
        let output = check(&["--explain", name]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(name) && text.contains("why:") && text.contains("source:"), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in
        [&["--fast"][..], &["--explain", "nonsense"], &["--root"], &["--root", "/does/not/exist"]]
    {
        let output = check(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}
