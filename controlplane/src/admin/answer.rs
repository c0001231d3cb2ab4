//! What the Admin API answers: a status, a JSON document that ends with a newline, a few header fields.
//!
//! Errors have the shape that APISIX's clients read: `{"error_msg": "..."}`. A text names the field and the reason; it never
//! holds a key, a password or the database's URL.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Response, StatusCode};
use ringway_snapshot::Fault;
use serde_json::{Value, json};

use super::work::Committed;
use crate::source::postgresql::{Cause, Trouble};

/// Seconds after which it is worth trying again.
const RETRY_AFTER_S: u16 = 2;

/// One answer.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    body: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// What is wrong, as data; goes out only where it is wanted.
    errors: Option<Value>,
    /// What a write committed, for who waits until it is served.
    committed: Option<Box<Committed>>,
}

/// A handler's result: errors are answers too.
pub(super) type Outcome = Result<Answer, Answer>;

impl Answer {
    /// A document.
    pub(super) fn json(status: StatusCode, document: &Value) -> Answer {
        Answer::text(status, document.to_string())
    }

    /// JSON that is text already.
    pub(super) fn text(status: StatusCode, mut json: String) -> Answer {
        json.push('\n');
        Answer { body: Some(json), ..Answer::empty(status) }
    }

    /// A word that is no JSON.
    pub(super) fn plain(word: &str) -> Answer {
        let answer = Answer { body: Some(word.to_owned()), ..Answer::empty(StatusCode::OK) };
        answer.with(CONTENT_TYPE, "text/plain")
    }

    /// No body.
    pub(super) fn empty(status: StatusCode) -> Answer {
        Answer { status, body: None, headers: Vec::new(), errors: None, committed: None }
    }

    /// An error.
    pub(super) fn error(status: StatusCode, text: impl Into<String>) -> Answer {
        Answer::json(status, &json!({"error_msg": text.into()}))
    }

    /// 400.
    pub(super) fn bad(text: impl Into<String>) -> Answer {
        Answer::error(StatusCode::BAD_REQUEST, text)
    }

    /// 404 in APISIX's words.
    pub(super) fn not_found() -> Answer {
        Answer::json(
            StatusCode::NOT_FOUND,
            &json!({"message": "Key not found", "error_msg": "Key not found"}),
        )
    }

    /// 405.
    pub(super) fn method(text: impl Into<String>) -> Answer {
        Answer::error(StatusCode::METHOD_NOT_ALLOWED, text)
    }

    /// What is wrong with a configuration: the first fault in the words that APISIX's clients expect, and all of them as data.
    pub(super) fn faults(status: StatusCode, faults: &[Fault]) -> Answer {
        let text = faults.first().map_or_else(|| "the configuration is not valid".to_owned(), said);
        Answer { errors: Some(json!(faults)), ..Answer::error(status, text) }
    }

    /// 400 in APISIX's words, which do not name the object, and the fault, which does.
    pub(super) fn bad_object(text: impl Into<String>, fault: &Fault) -> Answer {
        Answer { errors: Some(json!([fault])), ..Answer::bad(text) }
    }

    /// With one more header field.
    pub(super) fn with(mut self, name: HeaderName, value: &str) -> Answer {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// With the revision for `If-Match`.
    pub(super) fn tagged(self, revision: u64) -> Answer {
        self.with(ETAG, &format!("\"{revision}\""))
    }

    /// The answer to a write.
    pub(super) fn written(status: StatusCode, document: &Value, committed: Committed) -> Answer {
        Answer { committed: Some(Box::new(committed)), ..Answer::json(status, document) }
    }

    /// What a write committed.
    pub(super) fn committed(&self) -> Option<Committed> {
        self.committed.as_deref().copied()
    }

    /// Changes the document.
    pub(super) fn complete(&mut self, change: impl FnOnce(&mut Value)) {
        let mut document: Value =
            serde_json::from_str(self.body.as_deref().unwrap_or_default()).unwrap_or_default();
        change(&mut document);
        self.body = Some(format!("{document}\n"));
    }

    /// The same with another status.
    pub(super) fn but(self, status: StatusCode) -> Answer {
        Answer { status, ..self }
    }

    /// An error's text.
    pub(super) fn text_of_error(&self) -> String {
        let document: Value =
            serde_json::from_str(self.body.as_deref().unwrap_or_default()).unwrap_or_default();
        document["error_msg"].as_str().unwrap_or_default().to_owned()
    }

    /// The same error with words in front of its text.
    pub(super) fn prefixed(mut self, words: &str) -> Answer {
        let text = format!("{words}{}", self.text_of_error());
        self.complete(|document| document["error_msg"] = json!(text));
        self
    }

    /// The same with the faults as data beside its text. Not for APISIX's clients by themselves: some compare the whole body.
    pub(super) fn with_errors(mut self) -> Answer {
        if self.body.is_some()
            && let Some(errors) = self.errors.take()
        {
            self.complete(|document| document["errors"] = errors);
        }
        self
    }

    /// Its status.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// As it goes out.
    pub(super) fn into_response(self) -> Response<Body> {
        let mut response = Response::new(self.body.map_or_else(Body::empty, Body::from));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().entry(CONTENT_TYPE).or_insert(json);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

/// The database's troubles. What passes by itself is 503, what it refuses to store is 400.
impl From<Trouble> for Answer {
    fn from(trouble: Trouble) -> Answer {
        let text = match trouble.cause {
            Cause::ReadOnly => format!("PostgreSQL only reads at present: {trouble}; nothing was written"),
            Cause::OutOfReach | Cause::Refused => format!("PostgreSQL: {trouble}; nothing was written"),
        };
        Answer::unavailable(text)
    }
}

impl From<tokio_postgres::Error> for Answer {
    fn from(error: tokio_postgres::Error) -> Answer {
        let class = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
        if class == "55P03" {
            return Answer::unavailable(
                "another session holds a lock on the configuration's tables; see in pg_stat_activity and pg_locks who; nothing was written",
            );
        }
        // 22 data exception, 23 constraint: what was sent cannot be stored.
        if class.starts_with("22") || class.starts_with("23") {
            let trouble = Trouble::from(error);
            return Answer::bad(format!("invalid configuration: cannot be stored: {trouble}"));
        }
        Trouble::from(error).into()
    }
}

impl Answer {
    /// 503 with the advice to try again.
    pub(super) fn unavailable(text: impl Into<String>) -> Answer {
        Answer::error(StatusCode::SERVICE_UNAVAILABLE, text).with(RETRY_AFTER, &RETRY_AFTER_S.to_string())
    }
}

/// A fault in the words of APISIX's JSON schema: each segment of the pointer is a property or an item.
pub(super) fn said(fault: &Fault) -> String {
    let segments: Vec<String> = fault
        .pointer
        .split('/')
        .skip(1)
        .map(|segment| segment.replace("~1", "/").replace("~0", "~"))
        .collect();
    if let [field, plugin, rest @ ..] = segments.as_slice()
        && field == "plugins"
    {
        return format!(
            "failed to check the configuration of plugin {plugin} err: {}",
            nested(rest, &fault.reason)
        );
    }
    if segments.first().is_some_and(|field| field == "vars") {
        return format!("failed to validate the 'vars' expression: {}", fault.reason);
    }
    format!("invalid configuration: {}", nested(&segments, &fault.reason))
}

fn nested(segments: &[String], reason: &str) -> String {
    segments.iter().rev().fold(reason.to_owned(), |inner, segment| match segment.parse::<u64>() {
        Ok(index) => format!("failed to validate item {}: {inner}", index.saturating_add(1)),
        Err(_) => format!("property \"{segment}\" validation failed: {inner}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_told_property_by_property() {
        let fault = |pointer: &str| Fault {
            kind: "routes".into(),
            id: "1".into(),
            pointer: pointer.into(),
            reason: "is wrong".into(),
        };
        assert_eq!(said(&fault("")), "invalid configuration: is wrong");
        assert_eq!(
            said(&fault("/hosts/0")),
            "invalid configuration: property \"hosts\" validation failed: failed to validate item 1: is wrong"
        );
        assert_eq!(
            said(&fault("/plugins/a~1b/count")),
            "failed to check the configuration of plugin a/b err: property \"count\" validation failed: is wrong"
        );
    }
}
