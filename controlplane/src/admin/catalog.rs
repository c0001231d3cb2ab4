//! What this release knows: `plugins/...` and `schema/...`.

use axum::http::{Method, StatusCode};
use ringway_snapshot::model::credential;
use ringway_snapshot::parse::parse_object;
use ringway_snapshot::validate::validate;
use ringway_snapshot::{Fault, Kind};
use serde_json::{Value, json};
use std::sync::Arc;

use super::answer::{Answer, Outcome};
use super::request::Asked;
use super::schema;

/// Answers below `plugins`.
pub(super) fn plugins(asked: &Asked, path: &[String]) -> Outcome {
    let method = &asked.method;
    match path {
        [reload] if reload == "reload" => {
            if method != Method::PUT {
                return Err(Answer::method(format!(
                    "please use PUT method to reload the plugins, {method} method is not allowed."
                )));
            }
            // Plugins are part of the program: there is nothing to load anew, and clients expect this word.
            Ok(Answer::plain("done"))
        }
        _ if method != Method::GET && method != Method::HEAD => {
            Err(Answer::method(format!("not supported `{method}` method for plugin")))
        }
        path => {
            let subsystem = asked.query.get("subsystem").unwrap_or("http");
            if !matches!(subsystem, "http" | "stream") {
                return Err(Answer::bad(format!("unsupported subsystem: {subsystem}")));
            }
            match path {
                [] if subsystem == "stream" => Ok(Answer::json(StatusCode::OK, &json!({}))),
                [list] if list == "list" && subsystem == "stream" => {
                    Ok(Answer::json(StatusCode::OK, &json!([])))
                }
                [list] if list == "list" => {
                    let mut all = ringway_snapshot::plugin::ALL.to_vec();
                    all.sort_by_key(|about| std::cmp::Reverse(about.priority));
                    let names: Vec<&str> = all.iter().map(|about| about.name).collect();
                    Ok(Answer::json(StatusCode::OK, &json!(names)))
                }
                [] => Ok(Answer::json(StatusCode::OK, &schema::plugins())),
                [name] if subsystem == "http" && schema::of_plugin(name).is_some() => of_plugin(asked, name),
                _ => Err(Answer::error(
                    StatusCode::NOT_FOUND,
                    format!("plugin not found in subsystem {subsystem}"),
                )),
            }
        }
    }
}

/// Answers below `schema`.
pub(super) fn schema(asked: &Asked, path: &[String]) -> Outcome {
    match (asked.method.as_str(), path) {
        ("POST", [validate, kind]) if validate == "validate" => validated(asked, kind),
        ("GET" | "HEAD", []) => Ok(Answer::json(StatusCode::OK, &schema::all())),
        ("GET" | "HEAD", [plugins, name]) if plugins == "plugins" => match schema::of_plugin(name) {
            Some(_) => of_plugin(asked, name),
            None => Err(Answer::error(StatusCode::NOT_FOUND, "plugin not found in subsystem http")),
        },
        ("GET" | "HEAD", [name]) => match schema::named(name) {
            Some(schema) => Ok(Answer::json(StatusCode::OK, schema)),
            None => Err(Answer::bad(format!("not found schema: {name}"))),
        },
        _ => Err(Answer::error(StatusCode::NOT_FOUND, "not found")),
    }
}

/// A plugin's schema, or with `schema_type=consumer` that of what consumers tell it.
fn of_plugin(asked: &Asked, name: &str) -> Outcome {
    let schema = match asked.query.get("schema_type") {
        Some("consumer") => schema::of_login(name),
        _ => schema::of_plugin(name),
    };
    schema.map(|schema| Answer::json(StatusCode::OK, schema)).ok_or_else(|| Answer::bad("not found schema"))
}

/// Checks one object by itself: its spelling and what this release acts on, but not what it refers to.
fn validated(asked: &Asked, name: &str) -> Outcome {
    let known = |kind: &Kind| kind.name() == name || schema::singular(*kind) == name;
    let Some(kind) = Kind::ALL.into_iter().find(known) else {
        return Err(Answer::error(StatusCode::NOT_FOUND, format!("Unsupported resource type: {name}")));
    };
    let object: Value = asked.json()?;
    schema::check(kind, &object).map_err(Answer::bad)?;
    let own = object.get(if kind == Kind::Consumer { "username" } else { "id" });
    let id = match own.and_then(super::item::id_text) {
        Some(own) if kind == Kind::Credential && credential(&own).is_none() => {
            format!("any/credentials/{own}")
        }
        Some(own) => own,
        None if kind == Kind::Credential => "any/credentials/new".to_owned(),
        None => "new".to_owned(),
    };
    let fault = |fault| Answer::faults(StatusCode::BAD_REQUEST, &[fault]);
    let mut object = object;
    if let Some(fields) = object.as_object_mut() {
        fields.remove("id");
    }
    let entry = parse_object(kind.name(), &id, &object).map_err(fault)?;
    let mut faults = validate(&[Arc::new(entry)].into_iter().collect());
    let is_reference =
        |fault: &Fault| fault.pointer.ends_with("_id") || fault.reason.starts_with("there is no consumer ");
    faults.retain(|fault| !is_reference(fault));
    if faults.is_empty() {
        Ok(Answer::empty(StatusCode::OK))
    } else {
        Err(Answer::faults(StatusCode::BAD_REQUEST, &faults))
    }
}
