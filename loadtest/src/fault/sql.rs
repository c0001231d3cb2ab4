//! A session with PostgreSQL over its Unix socket: the simple query protocol and nothing else.
//!
//! Its own few lines in place of the driver that the control plane uses, so that a fault of that driver cannot hide; and
//! a read has a deadline, because the servers here are stopped and killed. It refuses passwords: the clusters here trust.
//! Messages: PostgreSQL documentation, chapter "Frontend/Backend Protocol", section "Message Formats".

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A whole answer is some hundred rows here.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A commit that waits for a standby which just died should not hold a scenario up for ever.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const PROTOCOL_3_0: i32 = 196_608;
/// The user that `initdb` makes here.
pub(crate) const USER: &str = "postgres";

/// Rows of text; NULL is an empty one.
pub(crate) type Rows = Vec<Vec<String>>;

#[derive(Debug)]
pub(crate) enum SqlError {
    /// The server said no; nothing of the transaction was kept.
    Refused(String),
    /// The connection broke: whether the transaction was kept is unknown.
    Broken(io::Error),
}

impl std::error::Error for SqlError {}

impl std::fmt::Display for SqlError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(text) => write!(f, "PostgreSQL refuses: {text}"),
            Self::Broken(error) => write!(f, "the session with PostgreSQL broke: {error}"),
        }
    }
}

impl From<io::Error> for SqlError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

#[derive(Debug)]
pub(crate) struct Session {
    stream: UnixStream,
}

impl Session {
    /// `folder` holds the server's socket.
    pub(crate) fn connect(folder: &Path, database: &str) -> Result<Self, SqlError> {
        let stream = UnixStream::connect(folder.join(".s.PGSQL.5432"))?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        let mut session = Self { stream };
        let mut body = PROTOCOL_3_0.to_be_bytes().to_vec();
        for text in ["user", USER, "database", database, ""] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        session.stream.write_all(&framed(None, &body))?;
        session.answer()?;
        Ok(session)
    }

    /// Runs statements; those of one call without BEGIN are one transaction.
    pub(crate) fn run(&mut self, statements: &str) -> Result<Rows, SqlError> {
        let mut body = statements.as_bytes().to_vec();
        body.push(0);
        self.stream.write_all(&framed(Some(b'Q'), &body))?;
        self.answer()
    }

    /// The first column of the first row.
    pub(crate) fn value(&mut self, query: &str) -> Result<String, SqlError> {
        let rows = self.run(query)?;
        Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()).unwrap_or_default())
    }

    /// Reads until the server waits for the next query.
    fn answer(&mut self) -> Result<Rows, SqlError> {
        let mut rows = Rows::new();
        let mut refusal = None;
        loop {
            let (kind, body) = self.message()?;
            match kind {
                b'Z' => return refusal.map_or(Ok(rows), |text| Err(SqlError::Refused(text))),
                b'D' => rows.push(columns(&body).ok_or_else(|| invalid("a row"))?),
                b'E' => {
                    let text = error_text(&body);
                    // During the start, and when it ends a session, the server closes behind its error.
                    if text.starts_with("FATAL") {
                        return Err(SqlError::Broken(io::Error::other(text)));
                    }
                    refusal = Some(text);
                }
                b'R' if body.get(..4) != Some(&[0; 4]) => return Err(invalid("a wish for a password").into()),
                _ => {}
            }
        }
    }

    fn message(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let [kind, length @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        let Some(length) = length.checked_sub(4).filter(|length| *length <= MESSAGE_BYTES_MAX) else {
            return Err(invalid("a message's length"));
        };
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok((kind, body))
    }
}

fn framed(kind: Option<u8>, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    let mut message: Vec<u8> = kind.into_iter().collect();
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(body);
    message
}

fn columns(body: &[u8]) -> Option<Vec<String>> {
    let (count, mut rest) = body.split_at_checked(2)?;
    let count = u16::from_be_bytes(count.try_into().ok()?);
    let mut row = Vec::new();
    for _ in 0..count {
        let (length, tail) = rest.split_at_checked(4)?;
        // Minus one, which does not fit, is NULL.
        let length = usize::try_from(i32::from_be_bytes(length.try_into().ok()?)).unwrap_or(0);
        let (value, tail) = tail.split_at_checked(length)?;
        row.push(String::from_utf8_lossy(value).into_owned());
        rest = tail;
    }
    Some(row)
}

/// Severity and text.
fn error_text(body: &[u8]) -> String {
    let field = |code: u8| {
        let found = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&code));
        String::from_utf8_lossy(found.and_then(|field| field.get(1..)).unwrap_or_default()).into_owned()
    };
    format!("{}: {}", field(b'V'), field(b'M'))
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("PostgreSQL sent {what} that makes no sense here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_errors_are_read() {
        let row = [&[0, 2][..], &[0, 0, 0, 1], b"a", &[255, 255, 255, 255]].concat();
        assert_eq!(columns(&row), Some(vec!["a".to_owned(), String::new()]));
        assert_eq!(columns(&row[..5]), None);
        assert_eq!(error_text(b"SERROR\0VERROR\0C42601\0Msyntax error\0\0"), "ERROR: syntax error");
    }
}
