//! What must hold of consumers, their credentials and their groups.
//!
//! Two that show the same to one plugin could not be told apart: of several the first by kind and id stays right, so that each of the
//! others is told with its name. What they show is told by nobody.

use super::Faults;
use crate::model::{Consumer, ConsumerGroup, Credential, Kind, Plugins, credential};
use crate::plugin::Login;
use crate::plugin::login::login_about;
use crate::snapshot::Entry;

/// What an object shows to plugins that tell consumers apart, as far as it can be read.
pub fn logins(entry: &Entry) -> impl Iterator<Item = Login> {
    let kind = entry.object.kind();
    let plugins = entry.object.plugins().filter(|_| matches!(kind, Kind::Consumer | Kind::Credential));
    let all = plugins.into_iter().flat_map(Plugins::iter);
    all.filter(|(name, _)| login_about(name).is_some())
        .filter_map(|(name, conf)| Login::read(name, &conf.value()).ok().flatten())
}

impl Faults<'_> {
    pub(super) fn consumer(&mut self, id: &str, consumer: &Consumer) {
        if consumer.username.as_deref().is_some_and(|name| name != id) {
            self.add("/username", format!("is not the consumer's id, {id:?}"));
        }
        for (name, conf) in consumer.plugins.iter() {
            if login_about(name).is_some() {
                self.login(name, &conf.value());
            } else {
                self.plugin(name, &conf.value());
            }
        }
        if let Some(id) = consumer.group_id.as_deref().filter(|id| !(self.is_known)(Kind::ConsumerGroup, id))
        {
            self.add("/group_id", format!("there is no consumer group {id:?}"));
        }
    }

    pub(super) fn credential(&mut self, id: &str, own: &Credential) {
        let consumer = credential(id).map_or("", |(consumer, _)| consumer);
        if !(self.is_known)(Kind::Consumer, consumer) {
            self.add("", format!("there is no consumer {consumer:?}"));
        }
        if own.plugins.iter().nth(1).is_some() {
            self.add("/plugins", "expect object to have at most 1 properties");
        }
        for (name, conf) in own.plugins.iter() {
            if login_about(name).is_some() {
                self.login(name, &conf.value());
            } else {
                self.add(
                    super::plugin_place(name),
                    "only supports auth type plugins in consumer credential: key-auth or basic-auth",
                );
            }
        }
    }

    pub(super) fn consumer_group(&mut self, group: &ConsumerGroup) {
        self.plugins(&group.plugins);
    }

    fn login(&mut self, name: &str, conf: &serde_json::Value) {
        let at = super::plugin_place(name);
        let login = match Login::read(name, conf) {
            Ok(Some(login)) => login,
            Ok(None) => return,
            Err((place, reason)) => return self.add(format!("{at}{place}"), reason),
        };
        let Some((kind, id)) = (self.holder)(login.claim()).filter(|holder| {
            let (kind, id) = holder;
            (*kind, &**id) != self.object
        }) else {
            return;
        };
        let identity = login.about().identity;
        let whose = match credential(&id) {
            Some((consumer, own)) if kind == Kind::Credential => {
                format!("credential: {own} of consumer: {consumer}")
            }
            _ => format!("consumer: {id}"),
        };
        self.add(
            format!("{at}/{identity}"),
            format!("duplicate {identity} of plugin {name} found with {whose}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use crate::parse::parse_object;
    use crate::validate::validate;

    fn faults(objects: &[(&str, &str, Value)]) -> Vec<String> {
        let entries = objects.iter().map(|(kind, id, spec)| parse_object(kind, id, spec).unwrap());
        validate(&entries.map(Arc::new).collect()).iter().map(ToString::to_string).collect()
    }

    fn key(key: &str) -> Value {
        json!({"plugins": {"key-auth": {"key": key}}})
    }

    #[test]
    fn consumers_with_credentials_and_a_group_are_valid() {
        let jack = json!({"username": "jack", "group_id": "g", "plugins": {"key-auth": {"key": "70707"},
            "basic-auth": {"username": "j", "password": "p"}, "proxy-rewrite": {"uri": "/"}}});
        let objects = [
            ("consumer_groups", "g", json!({"plugins": {"cors": {}, "key-auth": {}}})),
            ("consumers", "jack", jack),
            ("consumers", "anonymous", json!({})),
            ("credentials", "jack/credentials/1", key("another")),
            (
                "credentials",
                "jack/credentials/2",
                json!({"plugins": {"basic-auth": {"username": "k", "password": "p"}}}),
            ),
        ];
        assert_eq!(faults(&objects), Vec::<String>::new());
    }

    #[test]
    fn of_two_that_show_the_same_the_later_is_told_with_the_earliers_name_and_no_secret() {
        let told = faults(&[
            ("consumers", "a", key("70707")),
            ("consumers", "b", key("70707")),
            ("credentials", "a/credentials/1", key("70707")),
            ("credentials", "a/credentials/2", key("80808")),
            ("credentials", "b/credentials/2", key("80808")),
        ]);
        let text = told.join("\n");
        assert_eq!(told.len(), 3, "{text}");
        assert!(!text.contains("70707") && !text.contains("80808"), "{text}");
        for want in [
            "consumers/b at /plugins/key-auth/key: duplicate key of plugin key-auth found with consumer: a",
            "credentials/a/credentials/1 at /plugins/key-auth/key: duplicate key of plugin key-auth found with consumer: a",
            "credentials/b/credentials/2 at /plugins/key-auth/key: duplicate key of plugin key-auth found with credential: 2 of consumer: a",
        ] {
            assert!(told.iter().any(|fault| fault == want), "{want}: {text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (objects, want) in [
            (vec![("consumers", "a", json!({"username": "b"}))], "consumers/a at /username: is not"),
            (
                vec![("consumers", "a", json!({"group_id": "g"}))],
                "/group_id: there is no consumer group \"g\"",
            ),
            (
                vec![("consumers", "a", json!({"plugins": {"key-auth": {}}}))],
                "at /plugins/key-auth: property \"key\"",
            ),
            (vec![("consumers", "a", json!({"plugins": {"jwt-auth": {}}}))], "unknown plugin [jwt-auth]"),
            (vec![("credentials", "a/credentials/1", key("k"))], "there is no consumer \"a\""),
            (
                vec![
                    ("consumers", "a", json!({})),
                    ("credentials", "a/credentials/1", json!({"plugins": {"cors": {}}})),
                ],
                "/plugins/cors: only supports auth type plugins",
            ),
            (
                vec![
                    ("consumers", "a", json!({})),
                    (
                        "credentials",
                        "a/credentials/1",
                        json!({"plugins": {"key-auth": {"key": "k"},
                        "basic-auth": {"username": "u", "password": "p"}}}),
                    ),
                ],
                "/plugins: expect object to have at most 1",
            ),
            (
                vec![("consumer_groups", "g", json!({"plugins": {"key-auth": {"key": "k"}}}))],
                "/plugins/key-auth/key",
            ),
        ] {
            let told = faults(&objects).join("\n");
            assert!(told.contains(want) && told.lines().count() == 1, "{want}: {told}");
        }
    }
}
