//! `ringway apply`, `diff` and `dump`: files and what is stored, brought in step.
//!
//! `apply` shows what would change and asks; without a terminal it has to be told `--yes`. All of it is one transaction on the revision that
//! was shown: if somebody else writes in between, nothing is written. `diff` ends as diff(1) does. `dump` writes what was
//! written, without times and defaults, so that applying it changes nothing.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use serde_json::json;

use crate::api::{ApiArgs, Question, Refused, Wait};
use crate::declared::{Declared, FilesArgs, Sent};
use crate::failure::{Doing as _, Failure};
use crate::outcome;
use crate::plan::{self, Plan, stored};
use crate::terminal::{say, warn};
use crate::yaml;

/// What to apply.
#[derive(Debug, clap::Args)]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// Delete what is stored and stands in none of the files
    #[arg(long)]
    prune: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Wait until every node serves it, such as 10s; at most 60s
    #[arg(long, value_name = "TIME")]
    wait: Option<Wait>,
    /// Plan and result as JSON; needs --yes
    #[arg(long, requires = "yes")]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// What to compare.
#[derive(Debug, clap::Args)]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// Tell also what is stored and stands in none of the files
    #[arg(long)]
    prune: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Where to dump to.
#[derive(Debug, clap::Args)]
pub(crate) struct DumpArgs {
    /// The file to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// JSON instead of YAML
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Applies; 0: it is as the files say, 1: it is not, or not everywhere.
pub(crate) fn apply(args: &ApplyArgs) -> u8 {
    outcome::told(args.json, applied(args), 1)
}

/// Compares; 0: same, 1: different, 2: it cannot be told.
pub(crate) fn diff(args: &DiffArgs) -> u8 {
    outcome::told(args.json, compared(args), 2)
}

/// Dumps.
pub(crate) fn dump(args: &DumpArgs) -> u8 {
    outcome::told(false, dumped(args), 1)
}

fn applied(args: &ApplyArgs) -> Result<u8, Refused> {
    let declared = Declared::read(&args.files)?;
    let api = args.api.find()?;
    let mut plan = Plan::ask(&api, &declared, args.prune)?;
    if !args.json {
        plan.show();
    }
    let nothing = plan.changes.is_empty();
    // With a wait, nothing is sent as well: whether every node serves it is still to be told.
    if nothing && args.wait.is_none() {
        if args.json {
            say(&json!({"plan": plan.document(), "result": null}).to_string());
        }
        return Ok(0);
    }
    if !nothing && !args.yes && !confirmed(args.files.reads_stdin())? {
        return Err(Failure::new("nothing was written").into());
    }
    let body = plan::body(plan.take_operations());
    let question = Question {
        method: "POST",
        path: "/v1/transaction".into(),
        body: Some(&body),
        if_match: plan.tag.as_deref(),
        wait: args.wait,
    };
    let answer = api.ask(&question, &Sent { declared: &declared, operations: plan::operations(&body) })?;
    if args.json {
        say(&json!({"plan": plan.document(), "result": answer.document}).to_string());
    } else if !nothing {
        let revision = answer.document["revision"].as_u64().unwrap_or_default();
        say(&format!("revision {revision} is written; `ringway rollback {}` takes it back", plan.revision));
    }
    Ok(outcome::everywhere(&answer, args.json))
}

/// Whether the person at the terminal agrees.
fn confirmed(stdin_is_used: bool) -> Result<bool, Failure> {
    if stdin_is_used || !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            "nothing was written: there is no terminal to ask at; give --yes if this is what you want",
        ));
    }
    let mut asked = std::io::stderr().lock();
    let _ = write!(asked, "write this? [y/N] ");
    let _ = asked.flush();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).doing(|| "read the answer".to_owned())?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

fn compared(args: &DiffArgs) -> Result<u8, Refused> {
    let declared = Declared::read(&args.files)?;
    let plan = Plan::ask(&args.api.find()?, &declared, args.prune)?;
    if args.json {
        say(&plan.document().to_string());
    } else if !plan.changes.is_empty() {
        plan.show();
    }
    Ok(u8::from(!plan.changes.is_empty()))
}

fn dumped(args: &DumpArgs) -> Result<u8, Refused> {
    let stored = stored(&args.api.find()?)?;
    let text = if args.json { format!("{stored:#}\n") } else { yaml::document(&stored) };
    let Some(path) = &args.output else {
        say(text.trim_end());
        return Ok(0);
    };
    std::fs::write(path, text).doing(|| format!("write {}", path.display()))?;
    let objects: usize =
        stored.as_object().into_iter().flatten().filter_map(|(_, list)| list.as_array()).map(Vec::len).sum();
    warn(&format!("{objects} objects in {}", path.display()));
    Ok(0)
}
