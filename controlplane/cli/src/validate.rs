//! `ringway validate`: says what is wrong with a declarative file before anybody serves it.
//!
//! The same code judges it that the control plane's file source runs, so that what passes here is not refused
//! there. It reads one file and asks nobody.

use std::path::PathBuf;

use ringway_controlplane::source::file;

use serde_json::json;

use crate::terminal::{document, plain, say};

/// Which file.
#[derive(Debug, clap::Args)]
pub(crate) struct ValidateArgs {
    /// A declarative file (YAML or JSON)
    file: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Prints what is wrong and gives the exit code.
pub(crate) fn run(args: &ValidateArgs) -> u8 {
    let judged = file::check(&args.file);
    if args.json {
        let name = args.file.display().to_string();
        document(&match &judged {
            Ok(objects) => json!({"file": name, "valid": true, "objects": objects, "faults": []}),
            Err(faults) => json!({"file": name, "valid": false, "objects": null, "faults": faults}),
        });
        return u8::from(judged.is_err());
    }
    match judged {
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
