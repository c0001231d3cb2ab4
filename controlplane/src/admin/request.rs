//! One request, read: path segments, query, who asks, conditions, body.
//!
//! Refuses what cannot be read in exactly one way: bad percent-encoding, unknown waits, bodies over their limit. A body is
//! collected whole before anything is done with it, within a deadline.

use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::header::{CONTENT_LENGTH, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use serde::de::DeserializeOwned;

use super::answer::Answer;
use super::key::Actor;
use super::unique;

/// Bytes of a body that holds one object.
pub(super) const OBJECT_BODY_BYTES_MAX: usize = 1_572_864;
/// Bytes of a body that holds many objects.
pub(super) const MANY_BODY_BYTES_MAX: usize = 64 << 20;
/// For a body to arrive.
const BODY_MAX: Duration = Duration::from_secs(60);
/// The longest that `?wait=` may be.
const WAIT_MS_MAX: u64 = 60_000;
/// The longest that `?ttl=` may be, some 126 years.
const TTL_S_MAX: u32 = 4_000_000_000;
/// Parameters of one query.
const PARAMETERS_MAX: usize = 64;

/// The query's parameters in their order.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

/// One request.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    pub(super) query: Query,
    pub(super) actor: Actor,
    pub(super) body: Bytes,
}

/// A condition on the revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    /// None.
    Always,
    /// The object is there, whatever its revision.
    Exists,
    /// The object is not there.
    Absent,
    /// The object has one of these revisions.
    Revisions(Vec<u64>),
}

impl Query {
    /// Reads what stands behind the question mark.
    pub(super) fn parse(uri: &Uri) -> Result<Query, Answer> {
        let mut pairs = Vec::new();
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            if pairs.len() >= PARAMETERS_MAX {
                return Err(Answer::bad(format!("the query has more than {PARAMETERS_MAX} parameters")));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decode = |text: &str| {
                decode(&text.replace('+', " "))
                    .ok_or_else(|| Answer::bad(format!("the query's {text:?} is not percent-encoded UTF-8")))
            };
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Query(pairs))
    }

    /// The value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// A number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Answer> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let parsed = text.parse().map(Some);
        parsed.map_err(|_| Answer::bad(format!("{name} must be a whole number of 0 or more, found {text:?}")))
    }

    /// After how many seconds an object is to be removed.
    pub(super) fn ttl_s(&self) -> Result<Option<f64>, Answer> {
        let Some(text) = self.get("ttl") else { return Ok(None) };
        match text.parse::<u32>() {
            Ok(seconds) if (1..=TTL_S_MAX).contains(&seconds) => Ok(Some(f64::from(seconds))),
            _ => Err(Answer::bad(format!(
                "ttl is a whole number of seconds, 1 to {TTL_S_MAX}; found {text:?}"
            ))),
        }
    }

    /// How long the answer may wait for the nodes: `5s`, `500ms`, or seconds.
    pub(super) fn wait(&self) -> Result<Option<Duration>, Answer> {
        let Some(text) = self.get("wait") else { return Ok(None) };
        let (digits, unit_ms) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
            (Some(digits), _) => (digits, 1),
            (None, Some(digits)) => (digits, 1_000),
            (None, None) => (text, 1_000),
        };
        let ms = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms));
        match ms {
            Some(ms) if ms <= WAIT_MS_MAX => Ok(Some(Duration::from_millis(ms))),
            _ => Err(Answer::bad(format!(
                "wait is a time such as 5s or 500ms, at most {WAIT_MS_MAX}ms; found {text:?}"
            ))),
        }
    }
}

impl Asked {
    /// The body as JSON. As with APISIX, texts may hold line ends and tabs as they are: many examples do.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Answer> {
        json(&self.body)
    }

    /// The same of a body that may hold many objects: not on the thread that answers pings.
    pub(super) async fn json_aside<T: DeserializeOwned + Send + 'static>(&self) -> Result<T, Answer> {
        let body = self.body.clone();
        let read = tokio::task::spawn_blocking(move || json(&body)).await;
        read.map_err(|error| Answer::unavailable(format!("reading the body failed: {error}")))?
    }

    /// `If-Match` and `If-None-Match` (RFC 9110 sections 13.1.1 and 13.1.2). A tag is a revision.
    pub(super) fn condition(&self) -> Result<Condition, Answer> {
        let field = |name| -> Result<Option<&str>, Answer> {
            let Some(value) = self.headers.get(name) else { return Ok(None) };
            value.to_str().map(|text| Some(text.trim())).map_err(|_| Answer::bad("a condition is not text"))
        };
        match (field(IF_MATCH)?, field(IF_NONE_MATCH)?) {
            (None, None) => Ok(Condition::Always),
            (None, Some("*")) => Ok(Condition::Absent),
            (Some("*"), None) => Ok(Condition::Exists),
            (Some(tags), None) => tags
                .split(',')
                .map(|tag| tag.trim().trim_matches('"').parse::<u64>())
                .collect::<Result<_, _>>()
                .map(Condition::Revisions)
                .map_err(|_| {
                    Answer::bad(format!("If-Match holds revisions (modifiedIndex), found {tags:?}"))
                }),
            _ => Err(Answer::bad("give If-Match with a revision, or If-None-Match: *")),
        }
    }
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Answer> {
    let as_it_is = serde_json::from_slice(body);
    let escaped = if as_it_is.is_err() { escaped(body) } else { None };
    if let Some(place) = unique::twice(escaped.as_deref().unwrap_or(body)) {
        return Err(Answer::bad(format!("invalid request body: {place} stands there twice")));
    }
    let read = escaped.map_or(as_it_is, |escaped| serde_json::from_slice(&escaped));
    read.map_err(|error| {
        let reason = if body.is_empty() { "empty request body".to_owned() } else { error.to_string() };
        Answer::bad(format!("invalid request body: {reason}"))
    })
}

impl Condition {
    /// Whether it holds for the object's revision.
    pub(super) fn check(&self, revision: Option<u64>) -> Result<(), Answer> {
        let holds = match (self, revision) {
            (Condition::Always, _) | (Condition::Exists, Some(_)) | (Condition::Absent, None) => true,
            (Condition::Revisions(listed), Some(revision)) => listed.contains(&revision),
            _ => false,
        };
        if holds {
            return Ok(());
        }
        let state =
            revision.map_or_else(|| "it does not exist".to_owned(), |now| format!("its revision is {now}"));
        let answer = Answer::error(
            StatusCode::PRECONDITION_FAILED,
            format!("the object is not in the state that the request demands: {state}; nothing was written"),
        );
        Err(match revision {
            Some(revision) => answer.tagged(revision),
            None => answer,
        })
    }
}

/// The decoded segments of a path.
pub(super) fn segments(path: &str) -> Result<Vec<String>, Answer> {
    let decoded =
        path.split('/').filter(|segment| !segment.is_empty()).map(decode).collect::<Option<Vec<_>>>();
    decoded.ok_or_else(|| Answer::bad("the path is not percent-encoded UTF-8"))
}

/// Collects a body.
pub(super) async fn body(parts: &Parts, body: Body, bytes_max: usize) -> Result<Bytes, Answer> {
    let too_large = |bytes: &str| {
        Answer::error(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "invalid request body: request size {bytes} is greater than the maximum size {bytes_max} allowed"
            ),
        )
    };
    let told = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if let Some(bytes) = told.filter(|bytes| *bytes > bytes_max) {
        return Err(too_large(&bytes.to_string()));
    }
    match tokio::time::timeout(BODY_MAX, to_bytes(body, bytes_max)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if error.to_string().contains("length limit") => {
            tracing::debug!("a request body ended: {error}");
            Err(too_large("of the body"))
        }
        Ok(Err(error)) => Err(Answer::bad(format!("invalid request body: {error}"))),
        Err(_) => Err(Answer::error(
            StatusCode::REQUEST_TIMEOUT,
            format!("invalid request body: it did not arrive within {} s", BODY_MAX.as_secs()),
        )),
    }
}

/// The same JSON with the control characters inside of its texts escaped; `None` where there are none.
fn escaped(body: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut inside, mut backslash, mut found) =
        (Vec::with_capacity(body.len()), false, false, false);
    for &byte in body {
        let control = inside && byte < 0x20;
        found |= control;
        match byte {
            _ if control => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
        inside ^= byte == b'"' && !backslash;
        backslash = inside && byte == b'\\' && !backslash;
    }
    found.then_some(out)
}

/// Percent-decoding (RFC 3986 section 2.1).
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let value = digit(rest.next())? * 16 + digit(rest.next())?;
        bytes.push(u8::try_from(value).ok()?);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(&format!("/?{text}").parse().unwrap()).unwrap()
    }

    #[test]
    fn queries_are_decoded() {
        let query = query("label=a%3Ab&name=x+y&empty&page=2");
        assert_eq!(query.get("label"), Some("a:b"));
        assert_eq!(query.get("name"), Some("x y"));
        assert_eq!(query.get("empty"), Some(""));
        assert_eq!(query.number("page").unwrap(), Some(2));
        assert!(query.number("name").is_err());
        assert!(Query::parse(&"/?a=%zz".parse().unwrap()).is_err());
    }

    #[test]
    fn control_characters_inside_of_texts_are_escaped_and_nothing_else_is() {
        let body = b"{\"a\":\t\"x\\\\\", \"b\": \"y\nz\\\"\n\"}";
        let read: serde_json::Value = serde_json::from_slice(&escaped(body).unwrap()).unwrap();
        assert_eq!(read, serde_json::json!({"a": "x\\", "b": "y\nz\"\n"}));
        assert_eq!(escaped(b"{\n\"a\": 1}"), None);
    }

    #[test]
    fn a_wait_is_a_time() {
        for (text, ms) in [("wait=5s", 5_000), ("wait=500ms", 500), ("wait=2", 2_000)] {
            assert_eq!(query(text).wait().unwrap(), Some(Duration::from_millis(ms)));
        }
        for text in ["wait=", "wait=-1", "wait=61s", "wait=x"] {
            assert!(query(text).wait().is_err(), "{text}");
        }
    }

    #[test]
    fn a_ttl_is_whole_seconds() {
        assert_eq!(query("ttl=60").ttl_s().unwrap(), Some(60.0));
        assert_eq!(query("page=1").ttl_s().unwrap(), None);
        for text in ["ttl=", "ttl=0", "ttl=-1", "ttl=1.5", "ttl=4000000001", "ttl=x"] {
            assert!(query(text).ttl_s().is_err(), "{text}");
        }
    }

    #[test]
    fn conditions_look_at_the_revision() {
        assert!(Condition::Always.check(None).is_ok());
        assert!(Condition::Exists.check(None).is_err() && Condition::Exists.check(Some(1)).is_ok());
        assert!(Condition::Absent.check(None).is_ok() && Condition::Absent.check(Some(1)).is_err());
        let listed = Condition::Revisions(vec![4, 5]);
        assert!(
            listed.check(Some(5)).is_ok() && listed.check(Some(6)).is_err() && listed.check(None).is_err()
        );
    }
}
