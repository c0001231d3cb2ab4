//! The rules of this code base that a compiler does not check: who may depend on whom, how long a file and a
//! function may be, where `unsafe` may stand, and what the sans-IO crates must never name.
//!
//! A failure lists every breach with file and line. The rules themselves are told in ARCHITECTURE.md.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, TargetKind};

use crate::source::{Source, functions, has_word};

#[path = "house_rules/source.rs"]
mod source;

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
/// The one file that may hold `unsafe`.
const SYS: &str = "dataplane/src/sys.rs";
/// Crates that own no socket, clock, thread or randomness.
const SANS_IO: [&str; 2] = ["ringway-snapshot", "ringway-engine"];

fn metadata() -> Metadata {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.toml");
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    MetadataCommand::new()
        .manifest_path(manifest)
        // Other systems' crates are in Cargo.lock, but nobody has fetched them.
        .other_options(vec!["--locked".into(), "--offline".into(), "--filter-platform".into(), platform])
        .exec()
        .expect("cargo metadata")
}

fn members(metadata: &Metadata) -> Vec<&Package> {
    metadata.workspace_packages()
}

fn root(metadata: &Metadata) -> PathBuf {
    metadata.workspace_root.clone().into_std_path_buf()
}

/// All Rust sources of the workspace, by their path from its root.
fn sources(metadata: &Metadata) -> Vec<Source> {
    let root = root(metadata);
    let mut dirs: Vec<PathBuf> = members(metadata)
        .iter()
        .filter_map(|package| package.manifest_path.parent().map(|dir| dir.as_std_path().to_owned()))
        .collect();
    dirs.push(root.join("fuzz"));
    let mut found = BTreeMap::new();
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                dirs.push(path);
            } else if name.ends_with(".rs") {
                let shown = path.strip_prefix(&root).unwrap().display().to_string();
                found.insert(shown.clone(), Source::new(shown, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.into_values().collect()
}

fn hold(breaches: &[String]) {
    assert!(breaches.is_empty(), "{} breaches:\n{}", breaches.len(), breaches.join("\n"));
}

/// Names of the packages that are linked into `name`, itself left out.
fn linked_into<'a>(metadata: &'a Metadata, name: &str) -> BTreeSet<&'a str> {
    let nodes: BTreeMap<_, _> =
        metadata.resolve.as_ref().unwrap().nodes.iter().map(|node| (&node.id, node)).collect();
    let start = members(metadata).into_iter().find(|package| package.name.as_str() == name).unwrap();
    let mut seen = BTreeSet::from([&start.id]);
    let mut todo = vec![&start.id];
    while let Some(id) = todo.pop() {
        for dependency in &nodes[id].deps {
            let linked = dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            if linked && seen.insert(&dependency.pkg) {
                todo.push(&dependency.pkg);
            }
        }
    }
    seen.remove(&start.id);
    seen.into_iter().map(|id| metadata[id].name.as_str()).collect()
}

#[test]
fn crates_depend_in_one_direction() {
    let metadata = metadata();
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("ringway-snapshot", &[][..]),
        ("ringway-engine", &["ringway-snapshot"]),
        ("ringway-dataplane", &["ringway-engine", "ringway-snapshot"]),
        // Of the engine only its route module, to plan a change with the code that will route it.
        ("ringway-controlplane", &["ringway-engine", "ringway-snapshot"]),
        ("ringway", &["ringway-controlplane", "ringway-snapshot"]),
        ("ringway-bench", &["ringway-engine", "ringway-snapshot"]),
        ("ringway-loadtest", &[]),
    ]);
    let mut breaches = Vec::new();
    for package in members(&metadata) {
        let Some(allowed) = allowed.get(package.name.as_str()) else {
            breaches.push(format!("{} has no place in the order of crates: give it one here", package.name));
            continue;
        };
        let ours = package.dependencies.iter().filter(|dependency| dependency.path.is_some());
        for dependency in ours.filter(|dependency| !allowed.contains(&dependency.name.as_str())) {
            breaches.push(format!("{} must not depend on {}", package.name, dependency.name));
        }
    }
    hold(&breaches);
}

#[test]
fn the_sans_io_crates_link_no_runtime_and_the_planes_do_not_mix_theirs() {
    let metadata = metadata();
    let mut breaches = Vec::new();
    for name in SANS_IO {
        let linked = linked_into(&metadata, name);
        for runtime in [
            "monoio",
            "tokio",
            "mio",
            "io-uring",
            "async-io",
            "socket2",
            "rand",
            "getrandom",
            "rustls",
            "ring",
        ] {
            if linked.contains(runtime) {
                breaches.push(format!("{runtime} is linked into {name}"));
            }
        }
    }
    for (name, foreign) in [
        ("ringway-dataplane", "tokio-postgres"),
        ("ringway-controlplane", "monoio"),
        ("ringway", "monoio"),
        ("ringway-loadtest", "ringway-snapshot"),
    ] {
        if linked_into(&metadata, name).contains(foreign) {
            breaches.push(format!("{foreign} is linked into {name}"));
        }
    }
    hold(&breaches);
}

#[test]
fn only_the_route_module_of_the_engine_is_used_by_the_control_plane() {
    let metadata = metadata();
    let breaches: Vec<String> = sources(&metadata)
        .iter()
        .filter(|source| source.path.starts_with("controlplane/") && !source.path.contains("/tests/"))
        .flat_map(|source| {
            source.lines().filter_map(|(number, line)| {
                let rest = line.split("ringway_engine").nth(1)?;
                (!rest.starts_with("::route")).then(|| format!("{}:{number}: {line}", source.path))
            })
        })
        .collect();
    hold(&breaches);
}

#[test]
fn unsafe_stands_in_one_file_and_is_forbidden_everywhere_else() {
    let metadata = metadata();
    let root = root(&metadata);
    let mut breaches = Vec::new();
    for package in members(&metadata).iter().filter(|package| package.name != "ringway-dataplane") {
        let targets = package.targets.iter().filter(|target| {
            target.kind.iter().any(|kind| matches!(kind, TargetKind::Lib | TargetKind::Bin))
        });
        for target in targets {
            let text = std::fs::read_to_string(&target.src_path).unwrap();
            if !text.contains("#![forbid(unsafe_code)]") {
                breaches.push(format!("{} does not forbid unsafe code", target.src_path));
            }
        }
    }
    for source in sources(&metadata).iter().filter(|source| source.path != SYS) {
        for (number, _) in source.lines().filter(|(_, line)| has_word(line, "unsafe")) {
            breaches.push(format!("{}:{number}: unsafe outside of {SYS}", source.path));
        }
    }
    assert!(root.join("dataplane/src").is_dir(), "the data plane has moved: this test has to follow");
    hold(&breaches);
}

#[test]
fn the_sans_io_crates_name_no_socket_clock_thread_or_randomness() {
    let metadata = metadata();
    let banned = [
        "monoio",
        "tokio",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "UnixStream",
        "UnixListener",
        "Instant",
        "SystemTime",
        "std::thread",
        "std::fs",
        "std::env",
        "std::process",
        "rand",
        "getrandom",
    ];
    let mut breaches = Vec::new();
    for source in sources(&metadata) {
        let sans_io = ["dataplane/snapshot/src/", "dataplane/engine/src/"];
        // Their tests may take the time.
        let test = source.path.contains("/tests/") || source.path.ends_with("/tests.rs");
        if test || !sans_io.iter().any(|dir| source.path.starts_with(dir)) {
            continue;
        }
        for (number, line) in source.lines() {
            for word in banned.iter().filter(|word| has_word(line, word)) {
                breaches
                    .push(format!("{}:{number}: {word} in a crate without input and output", source.path));
            }
        }
    }
    hold(&breaches);
}

#[test]
fn files_and_functions_stay_short() {
    let metadata = metadata();
    let mut breaches = Vec::new();
    for source in sources(&metadata) {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            breaches.push(format!("{}: {lines} lines; the limit is {FILE_LINES_MAX}", source.path));
        }
        // What is one table of rows may be as long as the rule that it tests.
        let is_test = source.path.contains("/tests/") || source.path.contains("/conformance/table/");
        for function in functions(&source) {
            if function.lines > FUNCTION_LINES_MAX && !is_test {
                breaches.push(format!(
                    "{}:{}: fn {} has {} lines; the limit is {FUNCTION_LINES_MAX}",
                    source.path, function.at, function.name, function.lines
                ));
            }
        }
    }
    hold(&breaches);
}

#[test]
fn every_file_says_what_it_is_for_and_is_named_after_it() {
    let metadata = metadata();
    let mut breaches = Vec::new();
    for source in sources(&metadata) {
        // Attributes of the crate may stand before it.
        let first = source.text.lines().find(|line| !line.is_empty() && !line.starts_with("#!["));
        if !first.is_some_and(|line| line.starts_with("//! ")) {
            breaches.push(format!("{}: does not begin with a module doc (`//! `)", source.path));
        }
        let stem = Path::new(&source.path).file_stem().unwrap().to_string_lossy().into_owned();
        let parts: Vec<&str> = source.path.split('/').collect();
        for vague in ["utils", "util", "common", "helpers", "helper", "misc"] {
            if stem == vague || parts.contains(&vague) {
                breaches.push(format!("{}: {vague:?} names nothing", source.path));
            }
        }
    }
    hold(&breaches);
}

#[test]
fn nothing_is_left_to_be_done_later() {
    let metadata = metadata();
    // Put together, so that this file does not breach its own rule.
    let banned =
        [["to", "do!"], ["FIX", "ME"], ["XX", "X"], ["unimple", "mented!"]].map(|parts| parts.concat());
    let mut breaches = Vec::new();
    for source in sources(&metadata) {
        for (number, line) in source.text.lines().enumerate() {
            for word in banned.iter().filter(|word| has_word(line, word)) {
                breaches.push(format!("{}:{}: {word}", source.path, number + 1));
            }
        }
    }
    hold(&breaches);
}
