//! What a request asks of the origin: its framing and the action its path names.

use crate::http::Fault;
use crate::http::head::{self, Fields};

/// The most that `/bytes/N` gives.
pub(crate) const REPLY_BYTES_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// The longest `/delay/MS`.
const DELAY_MS_MAX: u64 = 600_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Default,
    Bytes(u64),
    Echo,
    Status(u16),
    Delay {
        ms: u64,
    },
    /// The path names an action with a parameter that makes no sense.
    Refuse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestHead {
    pub(crate) action: Action,
    pub(crate) head_request: bool,
    pub(crate) keep_alive: bool,
    pub(crate) fields: Fields,
}

impl RequestHead {
    /// Reads a complete head.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let (start, fields) = head::split(bytes)?;
        let mut parts = start.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Fault::StartLine);
        };
        let keep_alive = match version {
            b"HTTP/1.1" => !fields.close,
            b"HTTP/1.0" => fields.keep_alive && !fields.close,
            _ => return Err(Fault::StartLine),
        };
        if method.is_empty() || target.is_empty() {
            return Err(Fault::StartLine);
        }
        Ok(Self { action: Action::of(target), head_request: method == b"HEAD", keep_alive, fields })
    }
}

impl Action {
    fn of(target: &[u8]) -> Self {
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        if let Some(count) = path.strip_prefix(b"/bytes/") {
            return number(count, 0..=REPLY_BYTES_MAX).map_or(Self::Refuse, Self::Bytes);
        }
        if let Some(status) = path.strip_prefix(b"/status/") {
            let status = number(status, 200..=599).and_then(|status| u16::try_from(status).ok());
            return status.map_or(Self::Refuse, Self::Status);
        }
        if let Some(ms) = path.strip_prefix(b"/delay/") {
            return number(ms, 0..=DELAY_MS_MAX).map_or(Self::Refuse, |ms| Self::Delay { ms });
        }
        if path == b"/echo" { Self::Echo } else { Self::Default }
    }
}

fn number(text: &[u8], range: std::ops::RangeInclusive<u64>) -> Option<u64> {
    let number = std::str::from_utf8(text).ok()?.parse().ok()?;
    range.contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(path: &str) -> Action {
        RequestHead::read(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).unwrap().action
    }

    #[test]
    fn paths_name_actions() {
        assert_eq!(action("/"), Action::Default);
        assert_eq!(action("/bytes/16384?x=/echo"), Action::Bytes(16384));
        assert_eq!(action("/bytes/-1"), Action::Refuse);
        assert_eq!(action("/status/503"), Action::Status(503));
        assert_eq!(action("/status/100"), Action::Refuse);
        assert_eq!(action("/delay/20"), Action::Delay { ms: 20 });
        assert_eq!(action("/echo"), Action::Echo);
        assert_eq!(action("/echoes"), Action::Default);
    }

    #[test]
    fn keep_alive_follows_version_and_connection() {
        let keep = |head: &str| RequestHead::read(head.as_bytes()).unwrap().keep_alive;
        assert!(keep("GET / HTTP/1.1\r\n\r\n"));
        assert!(!keep("GET / HTTP/1.1\r\nConnection: close\r\n\r\n"));
        assert!(!keep("GET / HTTP/1.0\r\n\r\n"));
        assert!(keep("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn malformed_start_lines_are_refused() {
        for line in ["GET /", "GET / HTTP/2", "GET  / HTTP/1.1", "GET / x HTTP/1.1", " / HTTP/1.1"] {
            assert_eq!(
                RequestHead::read(format!("{line}\r\n\r\n").as_bytes()),
                Err(Fault::StartLine),
                "{line}"
            );
        }
    }
}
