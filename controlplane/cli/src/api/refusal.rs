//! Why the Admin API did not do it, as one line that says what is wrong and what to do.
//!
//! The API speaks APISIX's words to APISIX's clients and tells the faults beside them as data; the data is read here, so that the line
//! names object and field. What only the caller knows (which object was meant, in which file it stands) it tells
//! through [`Named`].

use std::fmt;

use serde_json::{Value, json};

use super::http::{Place, Unanswered};
use crate::failure::Failure;
use crate::terminal::plain;

/// What the caller knows of the question's objects.
pub(crate) trait Named {
    /// The object of the operation with this number; without a number, the only one.
    fn object(&self, operation: Option<usize>) -> Option<String>;
    /// Where to correct an object.
    fn place(&self, object: &str) -> Option<String>;
}

/// A question that is about no object.
impl Named for () {
    fn object(&self, _: Option<usize>) -> Option<String> {
        None
    }

    fn place(&self, _: &str) -> Option<String> {
        None
    }
}

/// A question about one object.
impl Named for String {
    fn object(&self, _: Option<usize>) -> Option<String> {
        Some(self.clone())
    }

    fn place(&self, _: &str) -> Option<String> {
        None
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Refused {
    /// 0 where there was no answer.
    status: u16,
    line: String,
    /// What the API answered.
    document: Value,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Refused {
        Refused { status: 0, line: failure.to_string(), document: Value::Null }
    }
}

impl Refused {
    /// `method` tells whether anything can have been written.
    pub(super) fn unanswered(place: &Place, method: &str, why: &Unanswered) -> Refused {
        let line = match why {
            Unanswered::NoConnection(why) => format!(
                "cannot reach the Admin API at {place}: {}; is a control plane with a key running there? Give --dir or --server",
                plain(why)
            ),
            Unanswered::Broken(why) if method == "GET" => {
                format!("the Admin API at {place} did not answer: {}", plain(why))
            }
            Unanswered::Broken(why) => format!(
                "the Admin API at {place} did not answer: {}; whether it was written is not known: look (`ringway history`) before you repeat it",
                plain(why)
            ),
        };
        Refused { status: 0, line, document: Value::Null }
    }

    pub(super) fn not_the_api(place: &Place, status: u16) -> Refused {
        let line =
            format!("{place} answers {status} without JSON: that is not an Admin API; give another --server");
        Refused { status, line, document: Value::Null }
    }

    pub(super) fn of(place: &Place, status: u16, document: Value, named: &dyn Named) -> Refused {
        let text = plain(document["error_msg"].as_str().unwrap_or("no reason given"));
        let line = match status {
            401 => unauthorized(place, &document),
            400 => invalid(&document, &text, named),
            404 => match said_of(&text, named) {
                (Some(object), "Key not found") => {
                    // A credential is listed with those of its consumer.
                    let parts: Vec<&str> = object.split('/').collect();
                    match parts.as_slice() {
                        ["credentials", consumer] => {
                            format!(
                                "{consumer} has no credentials; `ringway get consumers` lists who is there"
                            )
                        }
                        ["credentials", consumer, ..] => {
                            format!(
                                "there is no {object}; `ringway get credentials {consumer}` lists what is there"
                            )
                        }
                        [kind, ..] => {
                            format!("there is no {object}; `ringway get {kind}` lists what is there")
                        }
                        [] => text.clone(),
                    }
                }
                (_, text) => text.to_owned(),
            },
            403 => text,
            409 => format!("refused, nothing was written: {text}"),
            412 => format!(
                "somebody else has changed the configuration meanwhile; nothing was written: run it again ({text})"
            ),
            413 => format!("{text}; apply it in parts"),
            503 => format!("{text}; try again when that is over"),
            _ => format!("the Admin API at {place} answers {status}: {text}"),
        };
        Refused { status, line, document }
    }

    /// The same with what only the caller knows to do about it.
    pub(crate) fn advised(self, advice: &str) -> Refused {
        Refused { line: format!("{}; {advice}", self.line), ..self }
    }

    /// For `--json`.
    pub(crate) fn document(&self) -> Value {
        json!({"error": self.line, "status": self.status, "answer": self.document})
    }
}

fn unauthorized(place: &Place, document: &Value) -> String {
    match document["description"].as_str().unwrap_or_default() {
        text if text.contains("viewer") => {
            "this key may only read (role viewer); give one of role admin in RINGWAY_ADMIN_KEY or with --key"
                .to_owned()
        }
        _ => format!(
            "the Admin API at {place} does not know this key; give another in RINGWAY_ADMIN_KEY or with --key"
        ),
    }
}

fn invalid(document: &Value, text: &str, named: &dyn Named) -> String {
    let faults = document["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let told = |name: &str| faults.first().and_then(|fault| fault[name].as_str()).map(plain);
    let (object, what) = match (told("kind"), told("id"), told("reason")) {
        (Some(kind), Some(id), Some(reason)) => {
            let object = format!("{kind}/{id}");
            let pointer = told("pointer").filter(|pointer| !pointer.is_empty());
            let what = match pointer {
                Some(pointer) => format!("{object} at {pointer}: {reason}"),
                None => format!("{object}: {reason}"),
            };
            (Some(object), what)
        }
        _ => match said_of(text, named) {
            (Some(object), text) => (Some(object.clone()), format!("{object}: {text}")),
            (None, text) => (None, text.to_owned()),
        },
    };
    let more = match faults.len() {
        0 | 1 => String::new(),
        count => format!(" (and {} more; --json tells all)", count - 1),
    };
    let place = object.as_deref().and_then(|object| named.place(object));
    let advice = place.map_or_else(String::new, |place| format!("; correct it in {place}"));
    format!("refused, nothing was written: {what}{more}{advice}")
}

/// `operation 3: ...` is the API's way to name an object of ours.
fn said_of<'t>(text: &'t str, named: &dyn Named) -> (Option<String>, &'t str) {
    let numbered = text.strip_prefix("operation ").and_then(|rest| rest.split_once(": "));
    match numbered.and_then(|(number, rest)| Some((number.parse().ok()?, rest))) {
        Some((number, rest)) => (named.object(Some(number)), rest),
        None => (named.object(None), text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Two;

    impl Named for Two {
        fn object(&self, operation: Option<usize>) -> Option<String> {
            ["upstreams/u", "routes/r"].get(operation?).map(|name| (*name).to_owned())
        }

        fn place(&self, object: &str) -> Option<String> {
            (object == "routes/r").then(|| "a.yaml".to_owned())
        }
    }

    fn line(status: u16, document: Value, named: &dyn Named) -> String {
        let place = Place::parse("127.0.0.1:9180").unwrap();
        let line = Refused::of(&place, status, document, named).to_string();
        assert_eq!(line.lines().count(), 1, "{line}");
        line
    }

    #[test]
    fn what_is_not_there_is_told_with_the_list_that_has_what_is() {
        let told = |object: &str| line(404, json!({"error_msg": "Key not found"}), &object.to_owned());
        assert_eq!(told("routes/r"), "there is no routes/r; `ringway get routes` lists what is there");
        assert_eq!(
            told("credentials/jack"),
            "jack has no credentials; `ringway get consumers` lists who is there"
        );
        let credential = told("credentials/jack/credentials/x");
        assert!(credential.ends_with("; `ringway get credentials jack` lists what is there"), "{credential}");
    }

    #[test]
    fn a_refusal_names_object_field_and_file() {
        let fault = json!({"kind": "routes", "id": "r", "pointer": "/uri", "reason": "is wrong"});
        assert_eq!(
            line(400, json!({"error_msg": "x", "errors": [fault, fault]}), &Two),
            "refused, nothing was written: routes/r at /uri: is wrong (and 1 more; --json tells all); correct it in a.yaml"
        );
        assert_eq!(
            line(400, json!({"error_msg": "operation 1: property \"uri\" is\nwrong"}), &Two),
            "refused, nothing was written: routes/r: property \"uri\" iswrong; correct it in a.yaml"
        );
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        for (status, document, want) in [
            (401, json!({"description": "wrong apikey"}), "RINGWAY_ADMIN_KEY"),
            (401, json!({"description": "invalid method for role viewer"}), "role viewer"),
            (
                404,
                json!({"error_msg": "operation 0: Key not found"}),
                "there is no upstreams/u; `ringway get upstreams`",
            ),
            (404, json!({"error_msg": "there is no revision 9: the last one is 2"}), "the last one is 2"),
            (412, json!({"error_msg": "..."}), "run it again"),
            (503, json!({"error_msg": "PostgreSQL: ..."}), "try again"),
            (500, Value::Null, "answers 500"),
        ] {
            let line = line(status, document, &Two);
            assert!(line.contains(want), "{status}: {line}");
        }
    }
}
