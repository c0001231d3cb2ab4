//! `fault-injection`: requests that are held for a while, or answered at once, so that clients show what they make of it.

use serde::Deserialize;
use serde_json::Value;

use super::headers::Headers;
use super::{About, Wrong, at, typed};
use crate::expression::Expression;
use crate::limits::{DELAY_S_MAX, EXPRESSION_TESTS_MAX, FAULT_VARS_MAX};
use crate::template::Template;

/// See [`About`].
pub const ABOUT: About = About { name: "fault-injection", priority: 11000, schema: SCHEMA, upstreams: false };

const SCHEMA: &str = r#"{"type": "object", "minProperties": 1, "properties": {
  "abort": {"type": "object", "required": ["http_status"], "properties": {
    "http_status": {"type": "integer", "minimum": 200},
    "headers": {"type": "object", "minProperties": 1},
    "body": {"type": "string", "minLength": 0},
    "percentage": {"type": "integer", "minimum": 0, "maximum": 100},
    "vars": {"type": "array", "maxItems": 20, "items": {"type": "array"}}}},
  "delay": {"type": "object", "required": ["duration"], "properties": {
    "duration": {"type": "number", "minimum": 0},
    "percentage": {"type": "integer", "minimum": 0, "maximum": 100},
    "vars": {"type": "array", "maxItems": 20, "items": {"type": "array"}}}}}}"#;

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub struct FaultInjection {
    /// Answered at once.
    pub abort: Option<Abort>,
    /// Held for a while, before that.
    pub delay: Option<Delay>,
}

/// An answer of the plugin's own.
#[derive(Debug, Clone, PartialEq)]
pub struct Abort {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: Template,
    /// Its fields.
    pub headers: Headers,
    /// Who gets it.
    pub whom: Whom,
}

/// A pause.
#[derive(Debug, Clone, PartialEq)]
pub struct Delay {
    /// How long.
    pub ms: u64,
    /// Who gets it.
    pub whom: Whom,
}

/// Which requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Whom {
    /// One of them has to hold; none given: all.
    pub vars: Box<[Expression]>,
    /// Of those so many in a hundred.
    pub percentage: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    abort: Option<AbortFields>,
    delay: Option<DelayFields>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AbortFields {
    http_status: u16,
    body: Option<String>,
    headers: Option<Value>,
    percentage: Option<u8>,
    vars: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DelayFields {
    duration: f64,
    percentage: Option<u8>,
    vars: Option<Vec<Value>>,
}

impl FaultInjection {
    pub(super) fn read(conf: Value) -> Result<FaultInjection, Wrong> {
        let fields: Fields = typed(conf)?;
        if fields.abort.is_none() && fields.delay.is_none() {
            return Err(at("", "expect object to have at least 1 properties"));
        }
        let abort = fields.abort.map(Abort::read).transpose();
        let abort = abort.map_err(|(place, reason)| (format!("/abort{place}"), reason))?;
        let delay = fields.delay.as_ref().map(Delay::read).transpose();
        let delay = delay.map_err(|(place, reason)| (format!("/delay{place}"), reason))?;
        Ok(FaultInjection { abort, delay })
    }
}

impl Abort {
    fn read(fields: AbortFields) -> Result<Abort, Wrong> {
        if !(200..=599).contains(&fields.http_status) {
            return Err(at("/http_status", "must be 200 to 599"));
        }
        let body = Template::read(fields.body.as_deref().unwrap_or_default(), false);
        Ok(Abort {
            status: fields.http_status,
            body: body.map_err(|reason| at("/body", reason))?,
            headers: Headers::read(fields.headers, false)?,
            whom: Whom::read(fields.percentage, fields.vars.as_deref())?,
        })
    }
}

impl Delay {
    fn read(fields: &DelayFields) -> Result<Delay, Wrong> {
        if !(0.0..=DELAY_S_MAX).contains(&fields.duration) {
            return Err(at("/duration", format!("must be 0 to {DELAY_S_MAX} seconds")));
        }
        let ms = std::time::Duration::from_secs_f64(fields.duration).as_millis();
        let whom = Whom::read(fields.percentage, fields.vars.as_deref())?;
        Ok(Delay { ms: u64::try_from(ms).unwrap_or(u64::MAX), whom })
    }
}

impl Whom {
    fn read(percentage: Option<u8>, vars: Option<&[Value]>) -> Result<Whom, Wrong> {
        if percentage.is_some_and(|percentage| percentage > 100) {
            return Err(at("/percentage", "must be 0 to 100"));
        }
        let mut tests_left = EXPRESSION_TESTS_MAX;
        let one = |(index, rules): (usize, &Value)| {
            Expression::read_within(rules, &mut tests_left)
                .map_err(|(place, reason)| (format!("/vars/{index}{place}"), reason))
        };
        let vars = vars.unwrap_or_default();
        if vars.len() > FAULT_VARS_MAX {
            return Err(at("/vars", format!("has more than {FAULT_VARS_MAX} expressions")));
        }
        let vars = vars.iter().enumerate().map(one).collect::<Result<_, _>>()?;
        Ok(Whom { vars, percentage: percentage.unwrap_or(100).into() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_are_bounded_together() {
        let many = |tests: usize| -> Vec<Value> { (0..tests).map(|_| json!(["arg_a", "~~", "x"])).collect() };
        let read = |vars: Value| FaultInjection::read(json!({"abort": {"http_status": 403, "vars": vars}}));
        let half = EXPRESSION_TESTS_MAX / 2;
        assert!(read(json!([many(half), many(half)])).is_ok());
        assert_eq!(read(json!([many(half), many(half + 1)])).unwrap_err().0, format!("/abort/vars/1/{half}"));
        assert!(read(json!(vec![many(1); FAULT_VARS_MAX])).is_ok());
        assert_eq!(read(json!(vec![many(1); FAULT_VARS_MAX + 1])).unwrap_err().0, "/abort/vars");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        assert!(
            FaultInjection::read(json!({"abort": {"http_status": 403, "vars": [[["arg_a", "==", "1"]]]}}))
                .is_ok()
        );
        for (conf, place) in [
            (json!({}), ""),
            (json!({"abort": {"http_status": 100}}), "/abort/http_status"),
            (json!({"abort": {"http_status": 200, "percentage": 101}}), "/abort/percentage"),
            (json!({"abort": {"http_status": 200, "vars": [["a", "b"]]}}), "/abort/vars/0"),
            (json!({"delay": {"duration": -1}}), "/delay/duration"),
            (json!({"delay": {"duration": "1"}}), "/delay/duration"),
            (json!({"delay": {"duration": 1e9}}), "/delay/duration"),
        ] {
            assert_eq!(FaultInjection::read(conf.clone()).unwrap_err().0, place, "{conf}");
        }
    }
}
