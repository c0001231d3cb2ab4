//! How consumers and credentials show who they are: what plugins that tell consumers apart are told there, and not on routes.
//!
//! References to secrets (`$secret://`, `$env://`) are refused by name: read as they stand, they would be the key itself. Secrets are
//! never printed: neither what is wrong with one nor [`std::fmt::Debug`] tells any of it.

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
#[derive(Debug, Clone, PartialEq)]
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
        Some(Value::String(text)) if is_reference(&text) => Err(at(
            &place,
            "is a reference to a secret, which is not supported by this release; write the value itself",
        )),
        Some(Value::String(text)) => Ok(text.into()),
        Some(_) => Err(at(&place, "must be a string")),
    }
}

fn is_reference(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.starts_with("$secret://") || text.starts_with("$env://")
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
            ("key-auth", json!({"key": "$ENV://70707"}), "/key"),
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
