//! The executables under test.
//!
//! `cargo test` builds those of packages that have integration tests, and only of the packages that were asked for, so that what lies in
//! the target folder may be missing or older than the source. A build first makes that impossible; where all
//! is fresh it takes no time.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

static BUILT: OnceLock<PathBuf> = OnceLock::new();

/// Their folder.
pub(crate) fn executables() -> PathBuf {
    BUILT.get_or_init(build).clone()
}

fn build() -> PathBuf {
    let bin = Path::new(env!("CARGO_BIN_EXE_ringway")).parent().unwrap().to_owned();
    // Without cargo (the test's executable was started by hand), or when all of the workspace's tests were just built, what
    // is there has to do.
    let is_built = std::env::var_os("RINGWAY_TESTS_BUILT").is_some();
    if let Some(cargo) = std::env::var_os("CARGO").filter(|_| !is_built) {
        let profile = match bin.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            other => other,
        };
        let output = Command::new(cargo)
            .args(["build", "--quiet", "--locked", "--workspace", "--bins", "--profile", profile])
            .arg("--target-dir")
            .arg(bin.parent().unwrap())
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    for name in ["ringway-dataplane", "ringway-controlplane"] {
        assert!(bin.join(name).is_file(), "{name} is missing in {}: cargo build --workspace", bin.display());
    }
    bin
}
