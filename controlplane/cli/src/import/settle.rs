//! The planes' own validator over what was found: what it refuses is taken out and listed, until it refuses nothing.
//!
//! So an import knows no list of supported fields that could grow old. A fault takes out the field that it names; an object whose fault
//! names no field, or one that it cannot be without, is taken out whole. Each turn takes something out, so that it ends.

use std::collections::BTreeSet;

use ringway_controlplane::store::Store;
use ringway_snapshot::{Fault, Kind};
use serde_json::{Map, Value};

use super::found::{Found, Key};

/// Fields that may keep requests away from a node.
const GUARDS: [&str; 4] = ["plugins", "plugin_config_id", "script", "script_id"];
/// Fields that leave requests to other routes.
const CONDITIONS: [&str; 5] = ["vars", "filter_func", "methods", "status", "service_protocol"];
/// Without these an object is another one.
const ESSENTIAL: [&str; 10] = [
    "uri",
    "uris",
    "host",
    "hosts",
    "nodes",
    "scheme",
    "remote_addr",
    "remote_addrs",
    "upstream_id",
    "service_id",
];

/// APISIX's plugins by which a consumer shows who it is. Without one nobody is let in by it.
const LOGINS: [&str; 8] = [
    "key-auth",
    "basic-auth",
    "jwt-auth",
    "hmac-auth",
    "ldap-auth",
    "wolf-rbac",
    "jwe-decrypt",
    "openid-connect",
];
/// Fields of a consumer that let nobody in and keep nobody out.
const REMARKS: [&str; 3] = ["desc", "labels", "name"];

/// See the module.
pub(super) fn settle(found: &mut Found) {
    let mut store = Store::default();
    for ((kind, id), fields) in found.objects() {
        store.put(kind.name(), id, &Value::Object(fields.clone()));
    }
    while let Err(faults) = store.snapshot(0, 0, 0) {
        // One a turn of each object: what the first takes out may hold what the second is about.
        let mut seen = BTreeSet::new();
        for fault in faults {
            let Some(kind) = Kind::from_name(&fault.kind) else { return };
            let key = (kind, fault.id.clone());
            if !seen.insert(key.clone()) {
                continue;
            }
            take_out(found, &key, &fault);
            match found.objects().get(&key) {
                Some(fields) => store.put(kind.name(), &key.1, &Value::Object(fields.clone())),
                None => store.remove(kind.name(), &key.1),
            }
        }
    }
}

fn take_out(found: &mut Found, key: &Key, fault: &Fault) {
    let (kind, id) = key;
    let path: Vec<&str> = fault.pointer.split('/').skip(1).collect();
    let (Some(fields), Some(first)) = (found.object_mut(key), path.first().copied()) else {
        whole(found, key, &fault.reason);
        return;
    };
    // `upstream/scheme` of a route is as essential as an upstream's own.
    let is_essential = path.iter().any(|name| ESSENTIAL.contains(name));
    let is_caller = matches!(kind, Kind::Consumer | Kind::Credential | Kind::ConsumerGroup);
    if is_caller {
        caller(found, key, &path, fault);
        return;
    }
    if is_essential || !removed(fields, &path) {
        whole(found, key, &format!("{}: {}", fault.pointer, fault.reason));
        return;
    }
    if GUARDS.contains(&first) {
        found.opens(*kind, id);
        if *kind == Kind::GlobalRule {
            found.note(format!(
                "global_rules/{id} was about every request: what it lost is done for none of the routes here"
            ));
        }
    }
    if CONDITIONS.contains(&first) && *kind == Kind::Route {
        found.widens(id);
    }
    found.leave_out(format!("{}/{id}", kind.name()), fault.pointer.clone(), fault.reason.clone());
}

/// Whoever calls must not be let in to more than before: what lets in may go, and remarks; with anything else, such as a plugin that keeps the
/// consumer from something, goes the consumer, which nobody is then let in as.
fn caller(found: &mut Found, key: &Key, path: &[&str], fault: &Fault) {
    let (kind, id) = key;
    let object = format!("{}/{id}", kind.name());
    let part = match path {
        ["plugins", name, ..] if *kind == Kind::Consumer && LOGINS.contains(name) => Some((
            path.get(..2).unwrap_or_default(),
            "; nobody is let in by it, and the rest of the consumer is as it was",
        )),
        [name, ..] if REMARKS.contains(name) => Some((path, "")),
        _ => None,
    };
    if let Some((part, note)) = part
        && found.object_mut(key).is_some_and(|fields| removed(fields, part))
    {
        found.leave_out(object, fault.pointer.clone(), format!("{}{note}", fault.reason));
        return;
    }
    let note = match kind {
        Kind::Consumer => {
            "; nobody is let in as this consumer: without that it might be let in to more than before"
        }
        Kind::ConsumerGroup => {
            "; its consumers are left out too: without that they might be let in to more than before"
        }
        _ => "; nobody is let in by it",
    };
    whole(found, key, &format!("{}: {}{note}", fault.pointer, fault.reason));
}

fn whole(found: &mut Found, key: &Key, why: &str) {
    let (kind, id) = key;
    found.leave_out(format!("{}/{id}", kind.name()), "the whole object", why);
    if *kind == Kind::GlobalRule {
        found.note(format!(
            "global_rules/{id} was about every request: what it did is done for none of the routes here"
        ));
    }
    found.remove(key);
}

/// Takes the field out that a pointer names, or the nearest around it that is there.
fn removed(fields: &mut Map<String, Value>, path: &[&str]) -> bool {
    let unescaped = |name: &str| name.replace("~1", "/").replace("~0", "~");
    let Some((first, rest)) = path.split_first() else { return false };
    let name = unescaped(first);
    match (fields.get_mut(&name), rest) {
        (None, _) => false,
        (Some(Value::Object(inner)), [_, ..]) if inner_has(inner, rest) => removed(inner, rest),
        (Some(_), _) => fields.remove(&name).is_some(),
    }
}

fn inner_has(inner: &Map<String, Value>, rest: &[&str]) -> bool {
    rest.first().is_some_and(|name| inner.contains_key(&name.replace("~1", "/").replace("~0", "~")))
}
