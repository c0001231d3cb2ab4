//! What a client sends, brought to the form in which it is stored, or refused in APISIX's words.
//!
//! The id comes from the path or from the body and stands in neither afterwards; times are the row's. What is checked here is spelling
//! and types; the meaning is checked by [`super::work`] together with what is around the object.

use ringway_snapshot::Kind;
use ringway_snapshot::model::credential;
use serde_json::{Value, json};

use super::answer::Answer;
use super::item::{Fields, id_text};
use super::schema::{self, singular};

/// Fields that only this API writes.
const FORBIDDEN: [&str; 2] = ["create_time", "update_time"];

/// Where the id comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming<'a> {
    /// The path, or else the body.
    Given(Option<&'a str>),
    /// The body, below what this consumer has.
    Of(&'a str),
    /// Neither may have one.
    Made(&'a str),
}

/// Reads a whole object. `times` may be written only by PATCH.
pub(super) fn read(
    kind: Kind,
    naming: Naming<'_>,
    body: Value,
    times: bool,
) -> Result<(String, Fields), Answer> {
    let word = singular(kind).replace('_', " ");
    let Value::Object(mut fields) = body else {
        return Err(Answer::bad(match body {
            Value::Null => "missing configurations".to_owned(),
            other => format!("invalid configuration: {}", wrong_type(&other)),
        }));
    };
    let own = fields.get("id").cloned();
    let id = match (naming, &own) {
        (Naming::Made(_), Some(_)) => return Err(Answer::bad(format!("wrong {word} id, do not need it"))),
        (Naming::Made(id), None) => json!(id),
        (Naming::Given(Some(id)), Some(own)) if kind != Kind::Consumer && !is_called(kind, id, own) => {
            return Err(Answer::bad(format!("wrong {word} id")));
        }
        (Naming::Given(Some(id)), _) => json!(id),
        (Naming::Of(consumer), Some(own)) => {
            let own = id_text(own).ok_or_else(|| Answer::bad(format!("wrong {word} id")))?;
            json!(format!("{consumer}/credentials/{own}"))
        }
        (Naming::Of(_), None) => return Err(Answer::bad(format!("missing {word} id"))),
        (Naming::Given(None), Some(own)) => own.clone(),
        (Naming::Given(None), None) if kind == Kind::Consumer => Value::Null,
        (Naming::Given(None), None) => return Err(Answer::bad(format!("missing {word} id"))),
    };
    if !times {
        forbid_times(&fields)?;
    }
    match (kind, id.as_str()) {
        (Kind::Consumer, _) => {}
        // Its path is its consumer's and its own; only that is its own to be judged.
        (Kind::Credential, Some(path)) => {
            fields.insert("id".to_owned(), json!(path.rsplit('/').next()));
        }
        _ => {
            fields.insert("id".to_owned(), id.clone());
        }
    }
    let whole = Value::Object(fields);
    schema::check(kind, &whole).map_err(Answer::bad)?;
    let Value::Object(mut fields) = whole else { return Err(Answer::bad("missing configurations")) };
    if kind == Kind::Route && fields.contains_key("remote_addr") && fields.contains_key("remote_addrs") {
        return Err(Answer::bad("only one of remote_addr or remote_addrs is allowed"));
    }
    fields.remove("id");
    if kind == Kind::Consumer {
        return Ok((consumer(&id, &fields)?, fields));
    }
    let id = id_text(&id).ok_or_else(|| Answer::bad(format!("wrong {word} id")))?;
    Ok((id, fields))
}

/// Whether that is the object's id in its own JSON: of a credential the part that is its own will do.
fn is_called(kind: Kind, id: &str, own: &Value) -> bool {
    let short = credential(id).map(|(_, short)| short).filter(|_| kind == Kind::Credential);
    id_text(own).is_some_and(|own| own == id || short == Some(&*own))
}

fn consumer(id: &Value, fields: &Fields) -> Result<String, Answer> {
    let username = fields.get("username").and_then(Value::as_str).unwrap_or_default();
    match id {
        Value::String(id) if id != username => Err(Answer::bad("wrong username")),
        _ => Ok(username.to_owned()),
    }
}

fn forbid_times(fields: &Fields) -> Result<(), Answer> {
    let nested = fields.get("upstream").and_then(Value::as_object);
    for fields in [Some(fields), nested].into_iter().flatten() {
        if let Some(name) = FORBIDDEN.into_iter().find(|name| fields.contains_key(*name)) {
            return Err(Answer::bad(format!("the property is forbidden: {name}")));
        }
    }
    Ok(())
}

fn wrong_type(value: &Value) -> String {
    let found = match value {
        Value::Null => "nil",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) | Value::Object(_) => "table",
    };
    format!("wrong type: expected object, got {found}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(kind: Kind, naming: Naming<'_>, body: Value) -> String {
        format!("{:?}", read(kind, naming, body, false).unwrap_err())
    }

    #[test]
    fn the_id_comes_from_the_path_or_the_body() {
        let body = json!({"id": 1, "plugins": {}});
        assert_eq!(read(Kind::Service, Naming::Given(None), body.clone(), false).unwrap().0, "1");
        assert_eq!(read(Kind::Service, Naming::Given(Some("1")), body.clone(), false).unwrap().0, "1");
        assert!(refused(Kind::Service, Naming::Given(Some("2")), body.clone()).contains("wrong service id"));
        assert!(refused(Kind::Service, Naming::Made("9"), body).contains("wrong service id, do not need it"));
        assert!(
            refused(Kind::PluginConfig, Naming::Given(None), json!({})).contains("missing plugin config id")
        );
        let (id, fields) = read(Kind::Service, Naming::Made("9"), json!({"desc": "x"}), false).unwrap();
        assert_eq!((id.as_str(), Value::Object(fields)), ("9", json!({"desc": "x"})));
    }

    #[test]
    fn a_consumer_is_called_by_its_name() {
        let body = json!({"username": "jack"});
        assert_eq!(read(Kind::Consumer, Naming::Given(None), body.clone(), false).unwrap().0, "jack");
        assert_eq!(read(Kind::Consumer, Naming::Given(Some("jack")), body.clone(), false).unwrap().0, "jack");
        assert!(refused(Kind::Consumer, Naming::Given(Some("jill")), body).contains("wrong username"));
        let nameless = refused(Kind::Consumer, Naming::Given(None), json!({"id": "jack"}));
        assert!(nameless.contains("username"), "{nameless}");
    }

    #[test]
    fn a_credential_is_called_by_its_path_and_its_body() {
        let body = |id: Value| json!({"id": id, "plugins": {"key-auth": {"key": "k"}}});
        let path = "jack/credentials/a.1";
        for (naming, id) in [
            (Naming::Given(Some(path)), json!("a.1")),
            (Naming::Given(Some(path)), json!(path)),
            (Naming::Of("jack"), json!("a.1")),
        ] {
            assert_eq!(read(Kind::Credential, naming, body(id), false).unwrap().0, path);
        }
        let other = refused(Kind::Credential, Naming::Given(Some(path)), body(json!("b")));
        assert!(other.contains("wrong credential id"), "{other}");
        let nameless = refused(Kind::Credential, Naming::Of("jack"), json!({"plugins": {}}));
        assert!(nameless.contains("missing credential id"), "{nameless}");
        for (plugins, want) in [
            (
                json!({"key-auth": {}}),
                r#"invalid plugins configuration: failed to check the configuration of plugin key-auth err: property \\\"key\\\" is required"#,
            ),
            (json!({"cors": {}}), "only supports auth type plugins in consumer credential"),
            (
                json!({"key-auth": {"key": "k"}, "basic-auth": {}}),
                "expect object to have at most 1 properties",
            ),
            (json!({"nope": {}}), "unknown plugin [nope]"),
            (json!({"key-auth": "k"}), "invalid plugin conf"),
        ] {
            let told = refused(Kind::Credential, Naming::Given(Some(path)), json!({"plugins": plugins}));
            assert!(told.contains(want), "{want}: {told}");
        }
    }

    #[test]
    fn times_are_the_rows() {
        let body = json!({"upstream": {"nodes": {}, "update_time": 1}});
        assert!(
            refused(Kind::Service, Naming::Given(Some("1")), body.clone())
                .contains("the property is forbidden")
        );
        assert!(read(Kind::Service, Naming::Given(Some("1")), body, true).is_ok());
    }
}
