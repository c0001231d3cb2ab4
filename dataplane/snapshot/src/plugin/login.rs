//! How consumers and credentials show who they are: what plugins that tell consumers apart are told there, and not on routes.
//!
//! A value may be a reference to a variable of the data plane's environment, `$env://NAME`, or to a text in the JSON object that the variable
//! holds, `$env://NAME/FIELD`. It travels as a reference, and is resolved where requests are served ([`Login::resolved`]); as it stands it is
//! nobody's key. References to secret managers (`$secret://`) are refused by name. Secrets are never printed: neither what is wrong with one nor
//! [`std::fmt::Debug`] tells any of it.

use serde_json::{Map, Value};
use xxhash_rust::xxh3::Xxh3;

use super::{Meta, Wrong, at};

/// Of a plugin that tells consumers apart: what its configuration in consumers is.
#[derive(Debug, Clone, Copy)]
pub struct LoginAbout {
    /// The plugin.
    pub name: &'static str,
    /// The JSON schema of its configuration in consumers and credentials.
    pub schema: &'static str,
    /// The field by which it finds a consumer; no two may have the same.
    pub identity: &'static str,
    /// The field that nobody is told.
    pub secret: &'static str,
}

/// All of them.
pub const LOGINS: &[LoginAbout] = &[super::key_auth::LOGIN, super::basic_auth::LOGIN];

/// What a consumer or a credential shows.
#[derive(Clone, PartialEq)]
pub enum Login {
    /// `key-auth`: a key, which is name and secret in one.
    Key(Secret),
    /// `basic-auth`: a name and a password.
    Basic(Box<str>, Secret),
}

/// Text that is not printed.
#[derive(Clone, PartialEq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Its bytes, to compare them.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Tells the plugin alone: a name may be kept in the environment as well as a password.
impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (hidden)", self.about().name)
    }
}

impl Login {
    /// Reads what a consumer tells that plugin; `None` where it is told to be off. Only for plugins of [`LOGINS`].
    pub fn read(name: &str, conf: &Value) -> Result<Option<Login>, Wrong> {
        let Value::Object(fields) = conf else { return Err(at("", "expected a JSON object")) };
        let mut fields = fields.clone();
        let meta = Meta::read(fields.remove("_meta"))?;
        let login = match name {
            "key-auth" => Login::Key(Secret(text(&mut fields, "key")?)),
            _ => Login::Basic(text(&mut fields, "username")?, Secret(text(&mut fields, "password")?)),
        };
        match fields.keys().next() {
            Some(unknown) => Err(at(&format!("/{unknown}"), format!("unknown field {unknown:?}"))),
            None => Ok((!meta.disable).then_some(login)),
        }
    }

    /// With the values of the variables that it refers to; `None`: it refers to none. What is wrong with one is told with the field that
    /// refers to it, and without the value.
    pub fn resolved<'v>(
        &self,
        variable: impl Fn(&str) -> Option<&'v str>,
    ) -> Result<Option<Login>, (&'static str, String)> {
        let about = self.about();
        let value = |field, text: &str| {
            let Some(reference) = environment_reference(text) else { return Ok(None) };
            let found = read_variable(reference, &variable).map_err(|reason| (field, reason))?;
            Ok(Some(found))
        };
        Ok(match self {
            Login::Key(key) => value(about.secret, &key.0)?.map(|key| Login::Key(Secret(key))),
            Login::Basic(name, password) => {
                match (value(about.identity, name)?, value(about.secret, &password.0)?) {
                    (None, None) => None,
                    (own, secret) => Some(Login::Basic(
                        own.unwrap_or_else(|| name.clone()),
                        secret.map_or_else(|| password.clone(), Secret),
                    )),
                }
            }
        })
    }

    /// By what it is found.
    pub fn identity(&self) -> &[u8] {
        match self {
            Login::Key(key) => key.bytes(),
            Login::Basic(name, _) => name.as_bytes(),
        }
    }

    /// A number that stands for plugin and identity, so that these need not be kept twice.
    pub fn claim(&self) -> u128 {
        let mut hasher = Xxh3::new();
        hasher.update(self.about().name.as_bytes());
        hasher.update(&[0]);
        hasher.update(self.identity());
        hasher.digest128()
    }

    /// Of the plugin that asks for it.
    pub fn about(&self) -> &'static LoginAbout {
        match self {
            Login::Key(_) => &super::key_auth::LOGIN,
            Login::Basic(..) => &super::basic_auth::LOGIN,
        }
    }
}

/// What is known of a plugin that tells consumers apart; `None`: it is another one.
pub fn login_about(name: &str) -> Option<&'static LoginAbout> {
    LOGINS.iter().find(|about| about.name == name)
}

/// Stands in place of a secret.
const HIDDEN: &str = "(hidden)";
/// The same, of one that was another before.
const HIDDEN_ANEW: &str = "(hidden, changed)";

/// Puts `(hidden)` in place of the secrets of a consumer's or credential's JSON.
pub fn hide_secrets(object: &mut Value) {
    for about in LOGINS {
        if let Some(secret) = secret_of(object, about) {
            *secret = Value::from(HIDDEN);
        }
    }
}

/// The same before and after a change. That a secret is another one than before can still be seen.
pub fn hide_changed_secrets(before: &mut Value, after: &mut Value) {
    for about in LOGINS {
        let (before, after) = (secret_of(before, about), secret_of(after, about));
        let is_another = before.as_ref().zip(after.as_ref()).is_some_and(|(before, after)| before != after);
        if let Some(secret) = before {
            *secret = Value::from(HIDDEN);
        }
        if let Some(secret) = after {
            *secret = Value::from(if is_another { HIDDEN_ANEW } else { HIDDEN });
        }
    }
}

fn secret_of<'o>(object: &'o mut Value, about: &LoginAbout) -> Option<&'o mut Value> {
    object.get_mut("plugins")?.get_mut(about.name)?.get_mut(about.secret)
}

fn text(fields: &mut Map<String, Value>, name: &str) -> Result<Box<str>, Wrong> {
    let place = format!("/{name}");
    match fields.remove(name) {
        None => Err(at("", format!("property {name:?} is required"))),
        Some(Value::String(text)) if text.is_empty() => Err(at(&place, "is empty")),
        Some(Value::String(text)) if has_prefix(&text, MANAGER) => Err(at(
            &place,
            "is a reference to a secret manager, which is not supported by this release; refer to a variable of the data plane's environment ($env://NAME), or write the value itself",
        )),
        Some(Value::String(text)) if environment_reference(&text).is_some_and(|r| r.name.is_empty()) => {
            Err(at(&place, "names no variable: write $env://NAME or $env://NAME/FIELD"))
        }
        Some(Value::String(text)) => Ok(text.into()),
        Some(_) => Err(at(&place, "must be a string")),
    }
}

const MANAGER: &str = "$secret://";
const ENVIRONMENT: &str = "$env://";

fn has_prefix(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// A variable, and the field of the JSON object in it.
struct Reference<'t> {
    name: &'t str,
    field: Option<&'t str>,
}

fn environment_reference(text: &str) -> Option<Reference<'_>> {
    let whole = text.get(ENVIRONMENT.len()..).filter(|_| has_prefix(text, ENVIRONMENT))?;
    Some(match whole.split_once('/') {
        Some((name, field)) => Reference { name, field: Some(field) },
        None => Reference { name: whole, field: None },
    })
}

fn read_variable<'v>(
    reference: Reference<'_>,
    variable: impl Fn(&str) -> Option<&'v str>,
) -> Result<Box<str>, String> {
    let Reference { name, field } = reference;
    let value = variable(name)
        .ok_or_else(|| format!("the variable {name:?} is not set in the data plane's environment"))?;
    let found = match field {
        None => value.to_owned(),
        Some(field) => match serde_json::from_str::<Map<String, Value>>(value) {
            Ok(mut object) => match object.remove(field) {
                Some(Value::String(text)) => text,
                _ => return Err(format!("the JSON object in the variable {name:?} has no text {field:?}")),
            },
            Err(_) => return Err(format!("the variable {name:?} holds no JSON object")),
        },
    };
    // What looks like a reference was meant to be resolved by somebody, and must not become the key.
    if found.is_empty() || has_prefix(&found, ENVIRONMENT) || has_prefix(&found, MANAGER) {
        return Err(format!("what the variable {name:?} holds is empty or a reference itself"));
    }
    Ok(found.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_is_told_without_the_secret() {
        assert!(Login::read("key-auth", &json!({"key": "k-secret"})).unwrap().is_some());
        assert_eq!(Login::read("key-auth", &json!({"key": "k", "_meta": {"disable": true}})), Ok(None));
        for (name, conf, place) in [
            ("key-auth", json!({}), ""),
            ("key-auth", json!({"key": 70_707}), "/key"),
            ("key-auth", json!({"key": ""}), "/key"),
            ("key-auth", json!({"key": "$secret://vault/70707"}), "/key"),
            ("key-auth", json!({"key": "$ENV://"}), "/key"),
            ("basic-auth", json!({"username": "$env:///70707", "password": "70707"}), "/username"),
            ("key-auth", json!({"key": "70707", "hide_credentials": true}), "/hide_credentials"),
            ("basic-auth", json!({"username": "u"}), ""),
            ("basic-auth", json!({"username": "u", "password": ["70707"]}), "/password"),
            ("basic-auth", json!("70707"), ""),
        ] {
            let (found, reason) = Login::read(name, &conf).unwrap_err();
            assert_eq!(found, place, "{conf}");
            assert!(!reason.contains("70707"), "{reason}");
        }
        let login = Login::read("basic-auth", &json!({"username": "u", "password": "70707"})).unwrap();
        assert!(!format!("{login:?}").contains("70707"), "{login:?}");
    }

    #[test]
    fn references_are_resolved_or_said_to_be_wrong_without_the_value() {
        let variables = |name: &str| match name {
            "KEY" => Some("70707"),
            "JSON" => Some(r#"{"user": "u-70707", "n": 70707}"#),
            "EMPTY" => Some(""),
            "AGAIN" => Some("$env://KEY"),
            _ => None,
        };
        let key = |text: &str| Login::read("key-auth", &json!({"key": text})).unwrap().unwrap();
        let plain = key("plain");
        assert_eq!(plain.resolved(variables), Ok(None));
        assert_eq!(key("$ENV://KEY").resolved(variables), Ok(Some(key("70707"))));
        assert_eq!(key("$env://JSON/user").resolved(variables), Ok(Some(key("u-70707"))));
        let basic = |name: &str, password: &str| {
            Login::read("basic-auth", &json!({"username": name, "password": password})).unwrap().unwrap()
        };
        let both = basic("$env://JSON/user", "$Env://KEY").resolved(variables);
        assert_eq!(both, Ok(Some(basic("u-70707", "70707"))));
        assert_eq!(basic("u", "$env://KEY").resolved(variables), Ok(Some(basic("u", "70707"))));
        for (text, why) in [
            ("$env://NONE", "is not set"),
            ("$env://key", "is not set"),
            ("$env://KEY/user", "no JSON object"),
            ("$env://JSON/n", "no text"),
            ("$env://JSON/", "no text"),
            ("$env://EMPTY", "empty"),
            ("$env://AGAIN", "a reference itself"),
        ] {
            let (field, reason) = key(text).resolved(variables).unwrap_err();
            assert!(field == "key" && reason.contains(why) && !reason.contains("70707"), "{reason}");
        }
        assert_eq!(basic("u", "$env://NONE").resolved(variables).unwrap_err().0, "password");
        assert!(!format!("{both:?}").contains("70707"));
    }

    #[test]
    fn the_same_text_claims_something_else_for_another_plugin() {
        let key = Login::read("key-auth", &json!({"key": "a"})).unwrap().unwrap();
        let name = Login::read("basic-auth", &json!({"username": "a", "password": "b"})).unwrap().unwrap();
        let same = Login::read("basic-auth", &json!({"username": "a", "password": "c"})).unwrap().unwrap();
        assert_eq!(key.identity(), name.identity());
        assert!(key.claim() != name.claim() && name.claim() == same.claim());
    }

    #[test]
    fn secrets_are_hidden_and_nothing_else() {
        let mut object = json!({"username": "a", "plugins": {"key-auth": {"key": "k"},
            "basic-auth": {"username": "u", "password": "p"}, "cors": {"max_age": 1}}});
        hide_secrets(&mut object);
        assert_eq!(
            object,
            json!({"username": "a", "plugins": {"key-auth": {"key": "(hidden)"},
            "basic-auth": {"username": "u", "password": "(hidden)"}, "cors": {"max_age": 1}}})
        );
    }

    #[test]
    fn that_a_secret_is_another_one_is_told_without_either() {
        let object = |key: &str| json!({"plugins": {"key-auth": {"key": key}}});
        for (keys, told) in [(("70707", "80808"), HIDDEN_ANEW), (("70707", "70707"), HIDDEN)] {
            let (mut before, mut after) = (object(keys.0), object(keys.1));
            hide_changed_secrets(&mut before, &mut after);
            assert_eq!((before, after), (object(HIDDEN), object(told)));
        }
        let (mut before, mut after) = (Value::Null, object("70707"));
        hide_changed_secrets(&mut before, &mut after);
        assert_eq!(after, object(HIDDEN));
    }
}
