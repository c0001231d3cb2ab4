//! Who may call, compiled: consumers and their credentials, found by what a request shows.
//!
//! Finding one costs the same however many there are, and a change copies a small part of the tables. A request keeps the number of its
//! caller and not the caller: no core touches what another one counts. The numbers mean something within one line of views only.
//!
//! Secrets are compared in a time that tells nothing of where they differ. Which of a table's slots a key falls into is no secret that
//! would help to guess it. [`std::fmt::Debug`] prints none.

mod index;

use std::sync::Arc;

use ringway_snapshot::model::{Id, credential};
use ringway_snapshot::plugin::Login;
use smallvec::SmallVec;

use self::index::Index;
use crate::plugin::Layer;
use crate::upstream::Places;

/// A consumer as such, or by one of its credentials.
#[derive(Debug)]
pub struct Caller {
    /// The object's id: the consumer's name, or the credential's path.
    pub id: Id,
    /// The consumer's group.
    pub group: Option<Id>,
    /// What the consumer's label `custom_id` says.
    pub custom_id: Option<Box<str>>,
    /// Plugins of the consumer and its group.
    pub layer: Option<Arc<Layer>>,
    /// What it shows.
    pub logins: SmallVec<[Login; 1]>,
    /// Some of that came from the environment, where nobody has looked for others that show the same.
    pub by_reference: bool,
}

impl Caller {
    /// The consumer.
    pub fn name(&self) -> &str {
        credential(&self.id).map_or(&self.id, |(consumer, _)| consumer)
    }

    /// Its credential's own id.
    pub fn credential(&self) -> Option<&str> {
        credential(&self.id).map(|(_, own)| own)
    }

    fn has_key(&self, shown: &[u8]) -> bool {
        self.logins.iter().any(|login| matches!(login, Login::Key(key) if is_same(key.bytes(), shown)))
    }

    fn is_user(&self, shown: &[u8]) -> bool {
        self.logins.iter().any(|login| matches!(login, Login::Basic(name, _) if name.as_bytes() == shown))
    }

    fn has_password(&self, shown: &[u8]) -> bool {
        self.logins
            .iter()
            .any(|login| matches!(login, Login::Basic(_, password) if is_same(password.bytes(), shown)))
    }
}

/// All of them. Cloning it copies little.
#[derive(Debug, Clone, Default)]
pub struct Callers {
    places: Places<Caller>,
    ids: Index,
    keys: Index,
    users: Index,
    /// Several may show the same.
    may_collide: bool,
}

impl Callers {
    /// The caller of that number.
    pub fn get(&self, place: u32) -> Option<&Caller> {
        self.places.get(place).map(|caller| &**caller)
    }

    /// The number of the consumer of that name.
    pub fn named(&self, name: &str) -> Option<u32> {
        self.ids.find(name.as_bytes(), |place| self.get(place).is_some_and(|caller| *caller.id == *name))
    }

    /// Whose key it is. What several have is nobody's.
    pub fn by_key(&self, key: &[u8]) -> Option<u32> {
        self.only(&self.keys, key, |caller| caller.has_key(key))
    }

    /// Who has that name and that password.
    pub fn by_password(&self, name: &[u8], password: &[u8]) -> Option<u32> {
        let place = self.only(&self.users, name, |caller| caller.is_user(name))?;
        self.get(place).is_some_and(|caller| caller.has_password(password)).then_some(place)
    }

    /// Whether somebody else shows what this caller shows.
    pub(crate) fn is_ambiguous(&self, caller: &Caller) -> bool {
        self.may_collide
            && caller.logins.iter().any(|login| match login {
                Login::Key(key) => self.by_key(key.bytes()).is_none(),
                Login::Basic(name, _) => {
                    self.only(&self.users, name.as_bytes(), |other| other.is_user(name.as_bytes())).is_none()
                }
            })
    }

    fn only(&self, index: &Index, shown: &[u8], is_it: impl Fn(&Caller) -> bool) -> Option<u32> {
        let fits = |place: u32| self.get(place).is_some_and(&is_it);
        let found = index.find(shown, fits)?;
        let other = || index.find(shown, |place| place != found && fits(place));
        (!self.may_collide || other().is_none()).then_some(found)
    }

    /// Puts one in, in place of the one of the same id.
    pub(crate) fn put(&mut self, caller: Caller) -> u32 {
        self.remove(&caller.id);
        self.may_collide |= caller.by_reference;
        let caller = Arc::new(caller);
        let place = self.places.add(Arc::clone(&caller));
        self.ids.put(caller.id.as_bytes(), place);
        for login in &caller.logins {
            self.table(login).put(login.identity(), place);
        }
        place
    }

    /// Takes one out.
    pub(crate) fn remove(&mut self, id: &str) {
        let Some(place) = self.named(id) else { return };
        let Some(caller) = self.places.get(place).map(Arc::clone) else { return };
        self.ids.remove(caller.id.as_bytes(), place);
        for login in &caller.logins {
            self.table(login).remove(login.identity(), place);
        }
        self.places.remove(place);
    }

    fn table(&mut self, login: &Login) -> &mut Index {
        match login {
            Login::Key(_) => &mut self.keys,
            Login::Basic(..) => &mut self.users,
        }
    }
}

/// Whether both are the same, in a time that depends on their lengths alone.
fn is_same(secret: &[u8], shown: &[u8]) -> bool {
    if secret.len() != shown.len() {
        return false;
    }
    let differs = secret.iter().zip(shown).fold(0, |differs, (a, b)| std::hint::black_box(differs | (a ^ b)));
    differs == 0
}

#[cfg(test)]
mod tests {
    use ringway_snapshot::plugin::Login;
    use serde_json::json;

    use super::*;

    fn caller(id: &str, key: Option<&str>, user: Option<(&str, &str)>) -> Caller {
        let key = key.map(|key| Login::read("key-auth", &json!({"key": key})));
        let user = user.map(|(name, password)| {
            Login::read("basic-auth", &json!({"username": name, "password": password}))
        });
        let logins = key.into_iter().chain(user).map(|login| login.unwrap().unwrap()).collect();
        Caller { id: id.into(), group: None, custom_id: None, layer: None, logins, by_reference: false }
    }

    #[test]
    fn callers_are_found_by_what_they_show_while_others_come_and_go() {
        let mut callers = Callers::default();
        for n in 0..5_000 {
            let (key, user) = (format!("key-{n}"), format!("user-{n}"));
            callers.put(caller(&format!("c{n}"), Some(&key), Some((&user, &key))));
        }
        let before = callers.clone();
        for n in (0..5_000).step_by(2) {
            callers.remove(&format!("c{n}"));
        }
        callers.put(caller("c1", Some("other"), None));
        callers.put(caller("c3/credentials/a", Some("key-of-a"), None));
        let name = |callers: &Callers, place: Option<u32>| {
            place.and_then(|place| callers.get(place)).map(|caller| caller.id.to_string())
        };
        for n in 0..5_000 {
            let (key, user, id) = (format!("key-{n}"), format!("user-{n}"), format!("c{n}"));
            let found = |callers: &Callers| {
                (
                    name(callers, callers.by_key(key.as_bytes())),
                    name(callers, callers.by_password(user.as_bytes(), key.as_bytes())),
                )
            };
            assert_eq!(found(&before), (Some(id.clone()), Some(id.clone())));
            let there = (n % 2 == 1 && n != 1).then_some(id);
            assert_eq!(found(&callers), (there.clone(), there), "{n}");
            assert_eq!(callers.by_password(user.as_bytes(), b"wrong"), None);
        }
        assert_eq!(name(&callers, callers.by_key(b"other")).as_deref(), Some("c1"));
        let credential = callers.by_key(b"key-of-a").and_then(|place| callers.get(place)).unwrap();
        assert_eq!((credential.name(), credential.credential()), ("c3", Some("a")));
        assert_eq!(callers.by_key(b""), None);
    }

    #[test]
    fn what_several_show_is_nobodys_whoever_came_first() {
        let referring =
            |id: &str| Caller { by_reference: true, ..caller(id, Some("same"), Some(("name", "password"))) };
        for ids in [["a", "b"], ["b", "a"]] {
            let mut callers = Callers::default();
            callers.put(caller("a", Some("same"), Some(("name", "password"))));
            assert!(callers.by_key(b"same").is_some());
            callers.remove("a");
            for id in ids {
                callers.put(if id == "b" {
                    referring(id)
                } else {
                    caller(id, Some("same"), Some(("name", "password")))
                });
            }
            assert_eq!((callers.by_key(b"same"), callers.by_password(b"name", b"password")), (None, None));
            assert!(callers.is_ambiguous(&referring("b")));
            callers.remove("b");
            assert!(callers.by_key(b"same").is_some() && callers.by_password(b"name", b"password").is_some());
        }
    }

    #[test]
    fn nothing_that_is_printed_holds_a_secret() {
        let mut callers = Callers::default();
        callers.put(caller("jack", Some("70707"), Some(("jack", "80808"))));
        let text = format!("{callers:?}");
        assert!(text.contains("jack") && !text.contains("70707") && !text.contains("80808"), "{text}");
    }
}
