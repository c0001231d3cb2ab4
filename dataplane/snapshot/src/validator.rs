//! Validation that follows a configuration from change to change.
//!
//! It keeps what is wrong with each object and who refers to whom, so that a change costs the objects that changed and, where one came
//! or went, those that refer to it. A configuration that is not valid is followed like any other: an operator may mend it in several
//! steps. Undoing a change is the opposite change.
//!
//! Invariant: after each change it says the same as [`validate`](crate::validate::validate) over all objects.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::limits::FAULTS_REPORTED_MAX;
use crate::model::{Id, Kind};
use crate::snapshot::{Entries, Entry};
use crate::sorted::Change;
use crate::validate::{Fault, logins, references, too_many, validate_entry};

type Key = (Kind, Id);

/// See the module.
#[derive(Debug, Default)]
pub struct Validator {
    services: HashMap<Id, BTreeSet<Key>>,
    plugin_configs: HashMap<Id, BTreeSet<Key>>,
    upstreams: HashMap<Id, BTreeSet<Key>>,
    consumers: HashMap<Id, BTreeSet<Key>>,
    consumer_groups: HashMap<Id, BTreeSet<Key>>,
    /// Who shows the same, by what stands for it.
    claims: HashMap<u128, BTreeSet<Key>>,
    faults: BTreeMap<Key, Vec<Fault>>,
    too_many: Option<Fault>,
}

impl Validator {
    /// Looks at a whole configuration.
    pub fn new(entries: &Entries) -> Validator {
        let mut validator = Validator::trusting(entries);
        for entry in entries {
            validator.look(entry, entries);
        }
        validator.too_many = too_many(entries);
        validator
    }

    /// Follows a configuration that was found valid by [`validate`](crate::validate::validate).
    pub fn trusting(entries: &Entries) -> Validator {
        let mut validator = Validator::default();
        for entry in entries {
            references(entry, |kind, id| validator.add_user(kind, id, entry));
            validator.claim(entry, &mut BTreeSet::new());
        }
        validator
    }

    /// Follows `changes`, which led to `now`.
    pub fn change(&mut self, changes: &[Change<'_, Entry>], now: &Entries) {
        let mut again: BTreeSet<Key> = BTreeSet::new();
        for change in changes {
            let Some(entry) = change.new.or(change.old) else { continue };
            let (kind, id) = entry.key();
            if let Some(old) = change.old {
                references(old, |kind, id| self.remove_user(kind, id, entry));
                self.disclaim(old, &mut again);
            }
            if let Some(new) = change.new {
                references(new, |kind, id| self.add_user(kind, id, entry));
                self.claim(new, &mut again);
            }
            if change.old.is_some() != change.new.is_some() {
                again.extend(self.users_of(kind, id).cloned());
            }
            again.insert((kind, id.into()));
        }
        for (kind, id) in again {
            self.faults.remove(&(kind, id.clone()));
            if let Some(entry) = now.get(&(kind, &id)) {
                self.look(entry, now);
            }
        }
        self.too_many = too_many(now);
    }

    /// What is wrong at present; at most [`FAULTS_REPORTED_MAX`] faults are told. None: it is valid.
    pub fn faults(&self) -> Vec<Fault> {
        let all = self.too_many.iter().chain(self.faults.values().flatten());
        all.take(FAULTS_REPORTED_MAX).cloned().collect()
    }

    /// The objects that name this one, in order.
    pub fn users_of(&self, kind: Kind, id: &str) -> impl Iterator<Item = &(Kind, Id)> {
        let users = match kind {
            Kind::Service => self.services.get(id),
            Kind::PluginConfig => self.plugin_configs.get(id),
            Kind::Upstream => self.upstreams.get(id),
            Kind::Consumer => self.consumers.get(id),
            Kind::ConsumerGroup => self.consumer_groups.get(id),
            _ => None,
        };
        users.into_iter().flatten()
    }

    fn look(&mut self, entry: &Entry, entries: &Entries) {
        let is_known = |kind: Kind, id: &str| entries.get(&(kind, id)).is_some();
        let holder = |claim: u128| self.claims.get(&claim)?.first().cloned();
        let faults = validate_entry(entry, &is_known, &holder);
        if !faults.is_empty() {
            self.faults.insert((entry.object.kind(), entry.id.clone()), faults);
        }
    }

    /// Notes what an object shows; whoever shows the same is to be looked at again.
    fn claim(&mut self, entry: &Entry, again: &mut BTreeSet<Key>) {
        for login in logins(entry) {
            let claimants = self.claims.entry(login.claim()).or_default();
            again.extend(claimants.iter().cloned());
            claimants.insert((entry.object.kind(), entry.id.clone()));
        }
    }

    fn disclaim(&mut self, entry: &Entry, again: &mut BTreeSet<Key>) {
        for login in logins(entry) {
            let Some(claimants) = self.claims.get_mut(&login.claim()) else { continue };
            claimants.remove(&(entry.object.kind(), entry.id.clone()));
            again.extend(claimants.iter().cloned());
            if claimants.is_empty() {
                self.claims.remove(&login.claim());
            }
        }
    }

    fn add_user(&mut self, kind: Kind, id: &str, user: &Entry) {
        let all = self.all_users(kind);
        let user = (user.object.kind(), user.id.clone());
        match all.get_mut(id) {
            Some(users) => drop(users.insert(user)),
            None => drop(all.insert(id.into(), BTreeSet::from([user]))),
        }
    }

    fn remove_user(&mut self, kind: Kind, id: &str, user: &Entry) {
        let all = self.all_users(kind);
        let Some(users) = all.get_mut(id) else { return };
        users.remove(&(user.object.kind(), user.id.clone()));
        if users.is_empty() {
            all.remove(id);
        }
    }

    fn all_users(&mut self, kind: Kind) -> &mut HashMap<Id, BTreeSet<Key>> {
        match kind {
            Kind::Service => &mut self.services,
            Kind::PluginConfig => &mut self.plugin_configs,
            Kind::Consumer => &mut self.consumers,
            Kind::ConsumerGroup => &mut self.consumer_groups,
            _ => &mut self.upstreams,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::parse::parse_object;
    use crate::validate::validate;

    /// Objects that refer to each other, to what is not there, and some that are wrong by themselves.
    fn object(kind: u8, id: u8, form: u8) -> Entry {
        let reference = (form / 2 % 4).to_string();
        let id = match kind % 8 {
            6 => format!("{}/credentials/{}", id % 4, id / 4),
            _ => id.to_string(),
        };
        let split = json!({"rules": [{"weighted_upstreams": [{"upstream_id": reference}, {"upstream_id": reference}]}]});
        let key = json!({"key-auth": {"key": (form % 3).to_string()}});
        let (kind, spec): (&str, Value) = match (kind % 8, form % 2) {
            (5, 0) => ("consumers", json!({"group_id": reference, "plugins": key})),
            (5, _) => ("consumers", json!({"username": if form == 7 { "x" } else { &id }, "plugins": key})),
            (6, _) => ("credentials", json!({"plugins": if form == 7 { json!({"cors": {}}) } else { key }})),
            (7, _) => ("consumer_groups", json!({"plugins": {if form == 7 { "nope" } else { "cors" }: {}}})),
            (0, _) => ("upstreams", json!({"nodes": {}, "retry_timeout": if form == 7 { -1 } else { 1 }})),
            (1, 0) => ("services", json!({"upstream_id": reference})),
            (1, _) => ("services", json!({"hosts": if form == 7 { json!([]) } else { json!(["h"]) }})),
            (2, 0) => ("plugin_configs", json!({"plugins": {"traffic-split": split}})),
            (2, _) => (
                "plugin_configs",
                json!({"plugins": {if form == 7 { "nope" } else { "proxy-rewrite" }: {"uri": "/"}}}),
            ),
            (3, 0) => ("routes", json!({"uri": "/", "plugins": {"traffic-split": split}})),
            (3, _) => ("routes", json!({"uri": "/", "plugin_config_id": reference})),
            (_, 0) => ("routes", json!({"uri": "/", "service_id": reference})),
            (_, _) => {
                ("routes", json!({"uri": if form == 7 { "bad" } else { "/" }, "upstream_id": reference}))
            }
        };
        parse_object(kind, &id, &spec).unwrap()
    }

    proptest! {
        #[test]
        fn after_any_changes_it_says_what_a_look_at_everything_says(
            rounds in prop::collection::vec(
                prop::collection::vec((0u8..8, 0u8..8, prop::option::weighted(0.6, 0u8..8)), 1..6), 1..12),
        ) {
            let mut entries = Entries::default();
            let mut validator = Validator::new(&entries);
            for round in rounds {
                let before = entries.clone();
                for (kind, id, form) in round {
                    match form {
                        Some(form) => drop(entries.put(Arc::new(object(kind, id, form)))),
                        None => drop(entries.remove(&object(kind, id, 0).key())),
                    }
                }
                validator.change(&before.changes(&entries), &entries);
                prop_assert_eq!(validator.faults(), validate(&entries));
                let fresh = Validator::new(&entries);
                prop_assert_eq!(validator.faults(), fresh.faults());
                prop_assert_eq!(&validator.services, &fresh.services);
                prop_assert_eq!(&validator.upstreams, &fresh.upstreams);
                prop_assert_eq!(&validator.plugin_configs, &fresh.plugin_configs);
                prop_assert_eq!(&validator.consumers, &fresh.consumers);
                prop_assert_eq!(&validator.consumer_groups, &fresh.consumer_groups);
                prop_assert_eq!(&validator.claims, &fresh.claims);
                // Undone and done again it says the same.
                validator.change(&entries.changes(&before), &before);
                prop_assert_eq!(validator.faults(), validate(&before));
                validator.change(&before.changes(&entries), &entries);
            }
        }
    }

    #[test]
    fn an_upstream_that_goes_while_it_is_referred_to_is_told_at_those_who_refer() {
        let all = [
            ("upstreams", "u", json!({"nodes": {}})),
            ("routes", "r", json!({"uri": "/", "upstream_id": "u"})),
        ];
        let before: Entries =
            all.iter().map(|(kind, id, spec)| Arc::new(parse_object(kind, id, spec).unwrap())).collect();
        let mut validator = Validator::trusting(&before);
        assert_eq!(
            validator.users_of(Kind::Upstream, "u").collect::<Vec<_>>(),
            [&(Kind::Route, Id::from("r"))]
        );
        let mut after = before.clone();
        after.remove(&(Kind::Upstream, "u"));
        validator.change(&before.changes(&after), &after);
        let faults = validator.faults();
        assert_eq!(faults.len(), 1);
        assert_eq!(faults[0].to_string(), "routes/r at /upstream_id: there is no upstream \"u\"");
    }
}
