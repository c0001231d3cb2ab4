//! `ringway validate`: says what is wrong with a declarative file before anybody serves it.
//!
//! The same code judges it that the control plane's file source runs, so that what passes here is not refused
//! there. It reads one file and asks nobody.

use std::path::PathBuf;

use ringway_controlplane::source::file;

use crate::terminal::{plain, say};

/// Which file.
#[derive(Debug, clap::Args)]
pub(crate) struct ValidateArgs {
    /// A declarative file (YAML or JSON)
    file: PathBuf,
}

/// Prints what is wrong and gives the exit code.
pub(crate) fn run(args: &ValidateArgs) -> u8 {
    match file::check(&args.file) {
        Ok(objects) => {
            say(&format!("{}: valid, {objects} objects", args.file.display()));
            0
        }
        Err(faults) => {
            faults.iter().for_each(|fault| say(&plain(&fault.to_string())));
            1
        }
    }
}
