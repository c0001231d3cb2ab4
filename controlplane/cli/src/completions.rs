//! `ringway completions`: what a shell reads to complete the commands and flags of this tool.

use clap_complete::Shell;

use crate::terminal::say;

/// For which shell.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    shell: Known,
}

/// The shells whose scripts are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

/// Prints the script.
pub(crate) fn run(args: &CompletionsArgs, whole: &clap::Command) {
    // What only this program starts is no command for people.
    let shown = whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let mut command = clap::Command::new("ringway").subcommands(shown);
    let shell = match args.shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "ringway", &mut script);
    say(String::from_utf8_lossy(&script).trim_end());
}
