//! What went wrong with the database, as one line that says what to do.
//!
//! PostgreSQL's own message is kept, because operators look it up; what it does not say (which role, which grant) is added.

use std::time::Duration;

use tokio_postgres::error::SqlState;

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
        Trouble::out_of_reach(format!("no answer from PostgreSQL for {} s while {doing}", limit.as_secs()))
    }

    /// The same, with what was being done in front.
    #[must_use]
    pub fn at(self, place: &str) -> Trouble {
        Trouble { text: format!("{place}: {}", self.text), cause: self.cause }
    }
}

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            // `error connecting to server`, and below it why: the last cause says most.
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(next) = cause {
                text = next.to_string();
                cause = next.source();
            }
            return Trouble::out_of_reach(text);
        };
        let message = one_line(db.message());
        let code = db.code();
        let advice = match *code {
            SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                "; check user and password of the database URL and pg_hba.conf"
            }
            SqlState::UNDEFINED_DATABASE => "; create it, or correct the database URL",
            SqlState::INSUFFICIENT_PRIVILEGE => "; grant it to the role of the database URL",
            SqlState::TOO_MANY_CONNECTIONS => "; raise max_connections or the role's limit",
            SqlState::READ_ONLY_SQL_TRANSACTION => {
                return Trouble { text: message, cause: Cause::ReadOnly };
            }
            _ => "",
        };
        let text = format!("{message}{advice} (SQLSTATE {})", code.code());
        let class = code.code().get(..2).unwrap_or_default();
        // 08 connection, 57 shut down or cancelled, 40 serialization, 53 resources, 58 system: these pass by themselves.
        if matches!(class, "08" | "57" | "40" | "58") || *code == SqlState::TOO_MANY_CONNECTIONS {
            Trouble::out_of_reach(text)
        } else {
            Trouble::refused(text)
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
