//! Executables of other packages, built before a test starts them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The folder of `executable`, with both planes built into it: cargo builds executables only of the package that is tested,
/// and what lies in the target folder may be older than the source. Where all is fresh it takes no time.
pub(crate) fn planes(executable: &str) -> PathBuf {
    let bin = Path::new(executable).parent().unwrap().to_owned();
    // Without cargo, or when all of the workspace was just built for its tests, what is there has to do.
    let is_built = std::env::var_os("RINGWAY_TESTS_BUILT").is_some();
    if let Some(cargo) = std::env::var_os("CARGO").filter(|_| !is_built) {
        let profile = match bin.file_name().unwrap().to_str().unwrap() {
            "debug" => "dev",
            other => other,
        };
        let output = Command::new(cargo)
            .args(["build", "--quiet", "--locked", "-p", "ringway-dataplane", "-p", "ringway-controlplane"])
            .args(["--bins", "--profile", profile, "--target-dir"])
            .arg(bin.parent().unwrap())
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    bin
}
