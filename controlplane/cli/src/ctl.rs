//! `ringway ctl`, `explain`, `adopt`, `upgrade`, `drain` and `undrain`: one command to the data plane's admin socket, its reply to the terminal.
//!
//! The words are the data plane's, not checked here, so that an older `ringway` can speak to a newer data
//! plane. Only the first word of the reply is looked at: `error:` makes the exit code 1.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::failure::{Doing as _, Failure};
use crate::socket::{self, ANSWER_WAIT, Sockets};
use crate::terminal::{document, say};

/// `upgrade` answers when the new process serves, or does not.
const UPGRADE_WAIT: Duration = Duration::from_secs(120);

/// A command and where to send it.
#[derive(Debug, clap::Args)]
pub(crate) struct CtlArgs {
    #[command(flatten)]
    sockets: Sockets,
    /// The command's words; none: `help`. Several commands are separated by ';', `json` at the end gives JSON
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    words: Vec<String>,
    /// Replies and errors as JSON, a document a line
    #[arg(long)]
    json: bool,
}

/// A request that is not sent.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    method: String,
    host: String,
    path: String,
    /// More words for the data plane, such as `from 10.0.0.1` for the client's address
    #[arg(value_name = "MORE")]
    more: Vec<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    sockets: Sockets,
}

/// A lineage and where to send it.
#[derive(Debug, clap::Args)]
pub(crate) struct AdoptArgs {
    #[command(flatten)]
    sockets: Sockets,
    /// The 16 hexadecimal digits that the refusal named
    lineage: String,
    /// The reply as JSON, errors too
    #[arg(long)]
    json: bool,
}

/// What to start in place of the running data plane.
#[derive(Debug, clap::Args)]
pub(crate) struct UpgradeArgs {
    #[command(flatten)]
    sockets: Sockets,
    /// The new executable [default: the file that the running one was started from, as it is now]
    executable: Option<PathBuf>,
    /// Seconds to wait for the outcome; the data plane has its own limit, --upgrade-timeout-s
    #[arg(long, default_value = "120", value_name = "SECONDS")]
    wait_s: u64,
    /// The reply as JSON, errors too
    #[arg(long)]
    json: bool,
}

/// When connections are no longer taken.
#[derive(Debug, clap::Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    sockets: Sockets,
    /// Seconds in which connections are still taken [default: the data plane's --drain-grace-s]
    seconds: Option<u32>,
    /// The reply as JSON, errors too
    #[arg(long)]
    json: bool,
}

/// Where to take a drain back.
#[derive(Debug, clap::Args)]
pub(crate) struct UndrainArgs {
    #[command(flatten)]
    sockets: Sockets,
    /// The reply as JSON, errors too
    #[arg(long)]
    json: bool,
}

/// Replaces the data plane's process.
pub(crate) fn upgrade(args: &UpgradeArgs) -> Result<u8, Failure> {
    let line = match &args.executable {
        None => "upgrade".to_owned(),
        Some(path) => {
            // The data plane has another working directory.
            let path = std::path::absolute(path).doing(|| format!("find {}", path.display()))?;
            let text = path.to_str().filter(|text| !text.contains(';'));
            let text = text
                .ok_or_else(|| Failure::new(format!("{}: not a path for a command line", path.display())))?;
            format!("upgrade {text}")
        }
    };
    send_within(&args.sockets, &line, Duration::from_secs(args.wait_s), args.json)
}

/// Asks which route a request takes.
pub(crate) fn explain(args: &ExplainArgs) -> Result<u8, Failure> {
    let words = [&args.method, &args.host, &args.path].into_iter().chain(&args.more);
    let mut line = "explain".to_owned();
    for word in words {
        // The socket's commands are words between spaces, separated by semicolons.
        if word.is_empty() || word.contains(|c: char| c == ';' || c.is_whitespace()) {
            return Err(Failure::new(format!(
                "{word:?} cannot be asked for: spaces and semicolons stand percent-encoded in a path"
            )));
        }
        line.push(' ');
        line.push_str(word);
    }
    if args.json {
        line.push_str(" json");
    }
    send(&args.sockets, &line, args.json)
}

/// Begins a drain.
pub(crate) fn drain(args: &DrainArgs) -> Result<u8, Failure> {
    let line = args.seconds.map_or_else(|| "drain".to_owned(), |seconds| format!("drain {seconds}"));
    send(&args.sockets, &line, args.json)
}

/// Takes a drain back.
pub(crate) fn undrain(args: &UndrainArgs) -> Result<u8, Failure> {
    send(&args.sockets, "undrain", args.json)
}

/// Sends the command and prints the reply.
pub(crate) fn run(args: &CtlArgs) -> Result<u8, Failure> {
    // Behind the first word everything is a word of the command to clap.
    let is_flag = |word: &&String| *word == "--json";
    let as_json = args.json || args.words.iter().any(|word| is_flag(&word));
    let words: Vec<&str> = args.words.iter().filter(|word| !is_flag(word)).map(String::as_str).collect();
    let line = if words.is_empty() { "help".to_owned() } else { words.join(" ") };
    let wait = if line.trim_start().starts_with("upgrade") { UPGRADE_WAIT } else { ANSWER_WAIT };
    if !as_json {
        return send_within(&args.sockets, &line, wait, false);
    }
    let mut code = 0;
    for command in line.split(';').map(str::trim).filter(|command| !command.is_empty()) {
        // The rest of an `upgrade` is a path.
        let asks = command.ends_with(" json") || command.starts_with("upgrade");
        let command = if asks { command.to_owned() } else { format!("{command} json") };
        code = code.max(send_within(&args.sockets, &command, wait, true)?);
    }
    Ok(code)
}

/// Lets the data plane follow another source.
pub(crate) fn adopt(args: &AdoptArgs) -> Result<u8, Failure> {
    let lineage = args.lineage.trim();
    if lineage.is_empty() || lineage.len() > 16 || !lineage.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Failure::new(format!("{lineage:?} is not a lineage: up to 16 hexadecimal digits")));
    }
    send(&args.sockets, &format!("adopt {lineage}"), args.json)
}

fn send(sockets: &Sockets, line: &str, as_json: bool) -> Result<u8, Failure> {
    send_within(sockets, line, ANSWER_WAIT, as_json)
}

fn send_within(sockets: &Sockets, line: &str, wait: Duration, as_json: bool) -> Result<u8, Failure> {
    if line.contains(['\n', '\r']) {
        return Err(Failure::new("a command is one line"));
    }
    let reply = socket::command_within(&sockets.admin(), line, wait)
        .map_err(|unanswered| Failure::new(unanswered.to_string()))?;
    let reply = reply.trim_end_matches('\n');
    if as_json {
        document(&told(reply));
    } else {
        say(reply);
    }
    Ok(u8::from(reply.starts_with("error:")))
}

/// A reply as a document: itself where it is one, else its text.
fn told(reply: &str) -> Value {
    match reply.strip_prefix("error:") {
        Some(error) => json!({ "error": error.trim() }),
        None => serde_json::from_str(reply).unwrap_or_else(|_| json!({ "reply": reply })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_can_be_a_document() {
        assert_eq!(told("{\"a\": 1}"), json!({"a": 1}));
        assert_eq!(told("error: no such node"), json!({"error": "no such node"}));
        assert_eq!(
            told("shutting down: open requests are finished first")["reply"],
            "shutting down: open requests are finished first"
        );
    }
}
