//! The user that PostgreSQL runs as: never root.
//!
//! An ordinary user runs it as itself. Root lends it to `postgres`, else to `nobody`; where neither exists or the kernel
//! does not let this root change users (some containers), there is no account and `up` does without PostgreSQL.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// A user other than this process's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Who shall run PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RunAs {
    /// The user who started `up`.
    Myself,
    /// Root lends it to this one.
    Other(Account),
}

impl RunAs {
    /// `Err` tells why nobody can.
    pub(super) fn choose() -> Result<RunAs, String> {
        if !rustix::process::geteuid().is_root() {
            return Ok(RunAs::Myself);
        }
        let account = ["postgres", "nobody"]
            .into_iter()
            .find_map(Account::named)
            .ok_or("PostgreSQL does not run as root, and there is no user postgres or nobody")?;
        match account.command("true").status() {
            Ok(status) if status.success() => Ok(RunAs::Other(account)),
            _ => {
                Err(format!("PostgreSQL does not run as root, and this root cannot become {}", account.name))
            }
        }
    }

    /// A command with that user's rights, started at the root of the file system, which everybody can enter.
    pub(super) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match self {
            RunAs::Myself => {
                let mut command = Command::new(program);
                command.current_dir("/");
                command
            }
            RunAs::Other(account) => account.command(program),
        }
    }

    /// Whether that user can enter the folder, through every folder above it.
    pub(super) fn can_enter(&self, dir: &Path) -> bool {
        let mut shell = self.command("sh");
        shell.args(["-c", "cd -- \"$0\""]).arg(dir).stdout(Stdio::null()).stderr(Stdio::null());
        shell.status().is_ok_and(|status| status.success())
    }

    /// Its number, for comparing owners.
    pub(super) fn uid(&self) -> u32 {
        match self {
            RunAs::Myself => rustix::process::geteuid().as_raw(),
            RunAs::Other(account) => account.uid,
        }
    }
}

impl Account {
    fn named(name: &str) -> Option<Account> {
        let number = |flag: &str| -> Option<u32> {
            let told = Command::new("id").args([flag, name]).stderr(Stdio::null()).output().ok()?;
            String::from_utf8(told.stdout).ok()?.trim().parse().ok().filter(|number| *number != 0)
        };
        Some(Account { name: name.to_owned(), uid: number("-u")?, gid: number("-g")? })
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.uid(self.uid).gid(self.gid).current_dir("/");
        command
    }
}
