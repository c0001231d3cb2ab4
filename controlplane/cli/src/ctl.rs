//! `ringway ctl` and `ringway adopt`: one command to the data plane's admin socket, its reply to the terminal.
//!
//! The words are the data plane's, not checked here, so that an older `ringway` can speak to a newer data
//! plane. Only the first word of the reply is looked at: `error:` makes the exit code 1.

use crate::failure::Failure;
use crate::socket::{self, Sockets};
use crate::terminal::say;

/// A command and where to send it.
#[derive(Debug, clap::Args)]
pub(crate) struct CtlArgs {
    #[command(flatten)]
    sockets: Sockets,
    /// The command's words; none: `help`. Several commands are separated by ';', `json` at the end gives JSON
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    words: Vec<String>,
}

/// A lineage and where to send it.
#[derive(Debug, clap::Args)]
pub(crate) struct AdoptArgs {
    #[command(flatten)]
    sockets: Sockets,
    /// The 16 hexadecimal digits that the refusal named
    lineage: String,
}

/// Sends the command and prints the reply.
pub(crate) fn run(args: &CtlArgs) -> Result<u8, Failure> {
    let line = if args.words.is_empty() { "help".to_owned() } else { args.words.join(" ") };
    send(&args.sockets, &line)
}

/// Lets the data plane follow another source.
pub(crate) fn adopt(args: &AdoptArgs) -> Result<u8, Failure> {
    let lineage = args.lineage.trim();
    if lineage.is_empty() || lineage.len() > 16 || !lineage.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Failure::new(format!("{lineage:?} is not a lineage: up to 16 hexadecimal digits")));
    }
    send(&args.sockets, &format!("adopt {lineage}"))
}

fn send(sockets: &Sockets, line: &str) -> Result<u8, Failure> {
    if line.contains(['\n', '\r']) {
        return Err(Failure::new("a command is one line"));
    }
    let reply =
        socket::command(&sockets.admin(), line).map_err(|unanswered| Failure::new(unanswered.to_string()))?;
    say(reply.trim_end_matches('\n'));
    Ok(u8::from(reply.starts_with("error:")))
}
