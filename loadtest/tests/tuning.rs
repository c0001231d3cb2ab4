//! `tuning/check` on this host, and on made-up ones; `tuning/apply` and `tuning/revert` on made-up ones only.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn script(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tuning").join(name))
}

fn check(arguments: &[&str]) -> Output {
    script("check").args(arguments).output().expect("the script starts")
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

    /// One that has something to set everywhere.
    fn bad() -> Self {
        let host = Self::good();
        for (path, text) in BAD {
            host.write(path, text);
        }
        host
    }

    /// Runs apply or revert here; gives what it says.
    fn run(&self, name: &str, arguments: &[&str]) -> String {
        let root = ["--root", self.root.path().to_str().unwrap()];
        let output = script(name).args(root).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Every file with what is in it.
    fn files(&self) -> BTreeMap<PathBuf, String> {
        let (mut files, mut folders) = (BTreeMap::new(), vec![self.root.path().to_owned()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let text = fs::read_to_string(&path).unwrap();
                    files.insert(path, text);
                }
            }
        }
        files
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap().trim().to_owned()
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

/// What apply has to set, before.
const BAD: [(&str, &str); 21] = [
    ("sys/class/net/eth0/device/numa_node", "1"),
    ("proc/sys/fs/nr_open", "65536"),
    ("proc/sys/kernel/numa_balancing", "1"),
    ("proc/sys/net/core/somaxconn", "128"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "512"),
    ("proc/sys/net/ipv4/tcp_syncookies", "0"),
    ("proc/sys/net/ipv4/ip_local_port_range", "32768 60999"),
    ("proc/sys/net/ipv4/tcp_tw_reuse", "2"),
    ("proc/sys/net/ipv4/tcp_timestamps", "0"),
    ("proc/sys/net/ipv4/tcp_slow_start_after_idle", "1"),
    ("proc/sys/net/ipv4/tcp_rmem", "4096 131072 212992"),
    ("proc/sys/net/ipv4/tcp_wmem", "4096 16384 212992"),
    ("proc/sys/net/netfilter/nf_conntrack_max", "65536"),
    ("sys/devices/system/cpu/online", "0-3"),
    ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave"),
    ("sys/devices/system/node/node1/cpulist", "2-3"),
    ("sys/kernel/mm/transparent_hugepage/enabled", "always"),
    ("sys/class/net/eth0/queues/tx-0/xps_cpus", "0"),
    ("sys/class/net/eth0/queues/tx-1/xps_cpus", "0"),
    ("sys/class/net/eth0/device/msi_irqs/40", "msix"),
    ("proc/irq/40/smp_affinity_list", "0-3"),
];

#[test]
fn a_dry_run_says_what_and_why_and_changes_nothing() {
    let host = Host::bad();
    let before = host.files();
    let said = host.run("apply", &["--dry-run"]);
    assert_eq!(host.files(), before);
    for wanted in [
        "/proc/sys/net/core/somaxconn: 128 -> 16384",
        "ip_local_port_range: 32768 60999 -> 10240 65535",
        "rx-0/rps_cpus: 0 -> f",
        "tx-1/xps_cpus: 0 -> a",
        "smp_affinity_list: 0-3 -> 0",
        "isolcpus=LIST",
        "eth0 is on node 1: keep the workers on its cores (--cpus 2-3 here",
        "LimitNOFILE=1048576",
    ] {
        assert!(said.contains(wanted), "{wanted:?} is not in\n{said}");
    }
    let lines = |word: &str| said.lines().filter(|line| line.contains(word)).count();
    assert_eq!(lines(" why: "), lines(" source: "));
    assert!(lines(" why: ") >= 20, "{said}");
}

#[test]
fn what_is_applied_passes_the_check_and_is_taken_back_to_the_last_byte() {
    let host = Host::bad();
    host.write("sys/devices/system/cpu/cpu2/online", "1");
    host.write("sys/devices/system/cpu/cpu3/online", "1");
    let before = host.files();
    assert!(host.warnings().len() >= 12, "{:?}", host.warnings());
    let said = host.run("apply", &[]);
    assert!(!said.contains("CANNOT"), "{said}");
    assert_eq!(host.warnings(), [""; 0], "{said}");
    assert_eq!(host.read("sys/class/net/eth0/queues/tx-0/xps_cpus"), "5");
    assert_eq!(host.read("proc/sys/net/ipv4/tcp_rmem"), "4096 131072 6291456");
    let applied = host.files();
    assert!(host.run("apply", &[]).contains("0 settings changed"), "a second time there is nothing to do");
    assert_eq!(host.files(), applied);
    assert!(host.run("revert", &["--dry-run"]).contains("WOULD  /proc/sys/net/core/somaxconn: 16384 -> 128"));
    assert_eq!(host.files(), applied);
    let said = host.run("revert", &[]);
    assert_eq!(host.files(), before, "{said}");
    assert!(host.run("revert", &[]).contains("Nothing to take back"));
}

#[test]
fn the_value_from_before_the_first_run_is_the_one_that_comes_back() {
    let host = Host::bad();
    host.run("apply", &[]);
    host.write("proc/sys/net/core/somaxconn", "64");
    host.run("apply", &[]);
    assert_eq!(host.read("proc/sys/net/core/somaxconn"), "16384");
    host.run("revert", &[]);
    assert_eq!(host.read("proc/sys/net/core/somaxconn"), "128");
}

#[test]
fn what_somebody_else_has_changed_since_is_left_alone() {
    let host = Host::bad();
    host.run("apply", &[]);
    host.write("proc/sys/net/core/somaxconn", "30000");
    let said = host.run("revert", &[]);
    assert!(said.contains("LEFT   /proc/sys/net/core/somaxconn is 30000"), "{said}");
    assert_eq!(host.read("proc/sys/net/core/somaxconn"), "30000");
    assert_eq!(host.read("proc/sys/net/ipv4/tcp_tw_reuse"), "2");
}

#[test]
fn what_cannot_be_written_is_said_and_everything_else_is_set() {
    let host = Host::bad();
    let path = host.path("proc/sys/net/ipv4/tcp_tw_reuse");
    fs::remove_file(&path).unwrap();
    // Nobody may write that one, root neither.
    std::os::unix::fs::symlink("/proc/sys/kernel/osrelease", &path).unwrap();
    let said = host.run("apply", &[]);
    assert!(said.contains("CANNOT tcp_tw_reuse") && said.contains("set it on the host"), "{said}");
    assert_eq!(host.read("proc/sys/net/ipv4/tcp_slow_start_after_idle"), "0");
}

#[test]
fn many_cores_make_masks_of_several_words() {
    for (old, cpus, mask) in [
        ("00000000,00000000", "0-63", "ffffffff,ffffffff"),
        ("0,00000000", "0-33", "3,ffffffff"),
        ("000", "0,2-3,9", "20d"),
    ] {
        let host = Host::bad();
        host.write("sys/class/net/eth0/queues/rx-0/rps_cpus", old);
        host.run("apply", &["--cpus", cpus]);
        assert_eq!(host.read("sys/class/net/eth0/queues/rx-0/rps_cpus"), mask, "{cpus}");
    }
}

#[test]
fn queues_are_set_by_ethtool_and_taken_back() {
    let host = Host::bad();
    let (tool, count) = (host.path("ethtool"), host.path("count"));
    fs::write(&count, "2\n").unwrap();
    let text = format!(
        "#!/bin/sh\nif [ \"$1\" = -L ]; then echo \"$4\" >{count}; else\n\
         printf 'Channel parameters for eth0:\\nPre-set maximums:\\nCombined: 8\\nCurrent hardware settings:\\n'; echo \"Combined: $(cat {count})\"; fi\n",
        count = count.display()
    );
    fs::write(&tool, text).unwrap();
    fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for (name, expected) in [("apply", "4"), ("apply", "4"), ("revert", "2")] {
        let root = ["--root", host.root.path().to_str().unwrap()];
        let output = script(name).args(root).env("RINGWAY_ETHTOOL", &tool).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(host.read("count"), expected, "{output:?}");
    }
}

#[test]
fn wrong_usage_of_apply_and_revert_exits_with_2() {
    for (name, arguments) in [
        ("apply", &["--fast"][..]),
        ("apply", &["--cpus", "3-1"]),
        ("apply", &["--cpus", "a"]),
        ("apply", &["--root", "/does/not/exist"]),
        ("apply", &["--state"]),
        ("revert", &["--fast"]),
    ] {
        let output = script(name).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{name} {arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{name} {arguments:?}");
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
