//! What went wrong with the database, as one line that says what to do.
//!
//! PostgreSQL's own message is kept, because operators look it up; what it does not say (which role, which grant) is added.

use std::io;
use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

use super::tls;

/// What is told where a connection ended without a word.
pub(super) const CLOSED: &str = "the connection to PostgreSQL was closed";

/// Where the one row of `ringway.head` was deleted. The history knows the last revision.
pub(crate) const NO_HEAD: &str = "table ringway.head has no row: it was deleted by hand, and nothing can be written or told apart \
    without it; restore it with INSERT INTO ringway.head (revision, timeline, lineage) \
    SELECT coalesce((SELECT max(revision) FROM ringway.change), 0) + 1, ringway.wal_timeline(), system_identifier \
    FROM pg_control_system()";

/// One failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Trouble {
    /// The line to log.
    pub text: String,
    /// What kind it is.
    pub cause: Cause,
}

/// What kind of failure, as far as anything depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The server does not answer: try again soon.
    OutOfReach,
    /// The server answers no: somebody has to change something, so there is no hurry.
    Refused,
    /// The server only reads. What wanted to write goes without.
    ReadOnly,
}

impl Trouble {
    /// The server does not answer.
    pub fn out_of_reach(text: impl Into<String>) -> Trouble {
        Trouble { text: text.into(), cause: Cause::OutOfReach }
    }

    /// Something has to be changed by somebody.
    pub fn refused(text: impl Into<String>) -> Trouble {
        Trouble { text: text.into(), cause: Cause::Refused }
    }

    /// No answer within a limit.
    pub fn timeout(doing: &str, limit: Duration) -> Trouble {
        let limit_s = limit.as_secs();
        Trouble::out_of_reach(format!(
            "no answer from PostgreSQL for {limit_s} s while {doing}; is the host up, and the network between?"
        ))
    }

    /// Where nothing says yet what to do: this.
    #[must_use]
    pub fn with_advice(self, advice: &str) -> Trouble {
        let text = if self.text.contains(';') { self.text } else { format!("{}; {advice}", self.text) };
        Trouble { text, cause: self.cause }
    }

    /// The same, with what was being done in front.
    #[must_use]
    pub fn at(self, place: &str) -> Trouble {
        Trouble { text: format!("{place}: {}", self.text), cause: self.cause }
    }
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(told) => from_server(told),
            None => from_client(&error),
        }
    }
}

/// What the server said.
fn from_server(told: &DbError) -> Trouble {
    let message = one_line(told.message());
    let code = told.code();
    let advice = match *code {
        SqlState::INVALID_AUTHORIZATION_SPECIFICATION if message.contains("client certificate") => {
            "; give sslcert and sslkey in the database URL"
        }
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "; check user and password of the database URL and pg_hba.conf"
        }
        SqlState::UNDEFINED_DATABASE => "; create it, or correct the database URL",
        SqlState::INSUFFICIENT_PRIVILEGE => "; grant it to the role of the database URL",
        SqlState::TOO_MANY_CONNECTIONS => {
            "; raise max_connections or the role's limit, or end other sessions"
        }
        SqlState::CANNOT_CONNECT_NOW => "; nothing to do, unless it lasts: then see the server's log",
        SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN => "; start it again, if nobody does",
        SqlState::QUERY_CANCELED | SqlState::LOCK_NOT_AVAILABLE => {
            "; see in pg_stat_activity and pg_locks what keeps the server"
        }
        SqlState::DISK_FULL | SqlState::OUT_OF_MEMORY => "; give the server more of it",
        SqlState::READ_ONLY_SQL_TRANSACTION => {
            let text =
                format!("{message}; is default_transaction_read_only on for server, database or role?");
            return Trouble { text, cause: Cause::ReadOnly };
        }
        _ => "",
    };
    let text = format!("{message}{advice} (SQLSTATE {})", code.code());
    let class = code.code().get(..2).unwrap_or_default();
    // 08 connection, 57 shut down or cancelled, 40 serialization, 53 resources, 58 system: these pass by themselves.
    if matches!(class, "08" | "57" | "40" | "53" | "58") {
        Trouble::out_of_reach(text)
    } else {
        Trouble::refused(text)
    }
}

/// What went wrong on the way to it. `error connecting to server`, and below it why: the last cause says most.
fn from_client(error: &tokio_postgres::Error) -> Trouble {
    if error.is_closed() {
        return Trouble::out_of_reach(CLOSED);
    }
    let mut text = error.to_string();
    let mut advice = None;
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text = next.to_string();
        if let Some(io) = next.downcast_ref::<io::Error>() {
            let tls = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            advice = tls.map_or_else(|| of_io(io), tls::advice).or(advice);
            if tls.is_none() && is_end(io) {
                return Trouble::out_of_reach(CLOSED);
            }
        }
        cause = next.source();
    }
    let text = one_line(&text);
    match (advice, text.as_str()) {
        (Some(advice), _) => Trouble::out_of_reach(format!("{text}; {advice}")),
        (None, "server does not support TLS") => Trouble::refused(
            "the server offers no TLS; set ssl = on there, or sslmode=disable in the database URL",
        ),
        (None, "password missing") => {
            Trouble::refused("the server asks for a password, and the database URL has none")
        }
        (None, _) if text.contains("channel binding") => Trouble::refused(format!(
            "{text}; channel_binding=require in the database URL needs TLS and a server that asks for SCRAM"
        )),
        (None, _) if text.contains("lookup address") => {
            Trouble::out_of_reach(format!("{text}; check the host's name in the database URL"))
        }
        (None, _) => Trouble::out_of_reach(text),
    }
}

/// An end has several faces, depending on who wrote last; one text, so that it is not told as something new each time.
fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof
    )
}

fn of_io(error: &io::Error) -> Option<&'static str> {
    Some(match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "does PostgreSQL run there, and listen on this address (listen_addresses)?"
        }
        io::ErrorKind::NotFound => "does PostgreSQL run, and is this one of its unix_socket_directories?",
        io::ErrorKind::TimedOut => "is the host up, and no firewall between?",
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "check the network",
        io::ErrorKind::PermissionDenied => "this program's user may not use that socket",
        _ => return None,
    })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
