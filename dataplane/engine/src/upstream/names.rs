//! The addresses that names have, and when to look them up again.
//!
//! The last good answer is kept for as long as the name is used: a resolver that is down, or says that there is no such name, takes no node away.
//! Look-ups themselves are made elsewhere; this says which one is due. Invariant: one look-up of a name at a time.

use std::net::IpAddr;

use super::round_robin::mix;

/// Between two look-ups of a name.
const EVERY_MS: u64 = 10_000;
/// After the first failure of a name that has no address yet; doubles up to [`EVERY_MS`].
const AGAIN_MS: u64 = 500;

type HashMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::FixedState>;

/// See the module.
#[derive(Debug, Default)]
pub struct Names {
    names: HashMap<Box<str>, Name>,
}

#[derive(Debug, Default)]
struct Name {
    addresses: Vec<IpAddr>,
    due_ms: u64,
    under_way: bool,
    failures: u32,
    used: bool,
    /// A version that is about to be published uses it.
    expected: bool,
}

impl Names {
    /// Follows what names are used at present.
    pub fn follow<'n>(&mut self, used: impl Iterator<Item = &'n str>) {
        self.names.values_mut().for_each(|name| name.used = false);
        for name in used {
            match self.names.get_mut(name) {
                Some(known) => known.used = true,
                None => drop(self.names.insert(name.into(), Name { used: true, ..Name::default() })),
            }
        }
        self.names.retain(|_, name| name.used || name.expected);
    }

    /// Keeps the names that the next version uses, until [`Names::arrived`]. Gives those of them that are new.
    pub fn expect<'n>(&mut self, used: impl Iterator<Item = &'n str>) -> Vec<Box<str>> {
        let mut new = Vec::new();
        for name in used {
            match self.names.get_mut(name) {
                Some(known) => known.expected = true,
                None => {
                    new.push(name.into());
                    self.names.insert(name.into(), Name { expected: true, ..Name::default() });
                }
            }
        }
        new
    }

    /// The next version is the present one, whose names [`Names::follow`] is told.
    pub fn arrived(&mut self) {
        self.names.values_mut().for_each(|name| name.expected = false);
    }

    /// The names to look up now. Each has to be answered with [`Names::answered`].
    pub fn due(&mut self, now_ms: u64) -> Vec<Box<str>> {
        let due = self.names.iter_mut().filter(|(_, name)| !name.under_way && name.due_ms <= now_ms);
        due.map(|(text, name)| {
            name.under_way = true;
            text.clone()
        })
        .collect()
    }

    /// Takes an answer; `None` or an empty one is a failure. Tells whether the name has other addresses now.
    pub fn answered(&mut self, text: &str, answer: Option<Vec<IpAddr>>, now_ms: u64) -> bool {
        let Some(name) = self.names.get_mut(text) else { return false };
        name.under_way = false;
        // A twentieth more or less, so that look-ups of many names part.
        let jitter_ms = mix(now_ms ^ name.addresses.len() as u64 ^ text.len() as u64) % (EVERY_MS / 10);
        let Some(mut addresses) = answer.filter(|addresses| !addresses.is_empty()) else {
            name.failures = name.failures.saturating_add(1);
            let again_ms =
                if name.addresses.is_empty() { AGAIN_MS << name.failures.min(5) } else { EVERY_MS };
            name.due_ms = now_ms.saturating_add(again_ms.min(EVERY_MS));
            return false;
        };
        addresses.sort_unstable();
        addresses.dedup();
        name.failures = 0;
        name.due_ms = now_ms.saturating_add(EVERY_MS - EVERY_MS / 20).saturating_add(jitter_ms);
        let changed = name.addresses != addresses;
        name.addresses = addresses;
        changed
    }

    pub(super) fn remember(&self) -> Vec<(String, Vec<IpAddr>)> {
        let known = self.names.iter().filter(|(_, name)| !name.addresses.is_empty());
        known.map(|(text, name)| (text.to_string(), name.addresses.clone())).collect()
    }

    /// Takes over what another process knew of a name, until an answer comes. It is forgotten if nothing uses the name then.
    pub(super) fn recall(&mut self, text: &str, addresses: Vec<IpAddr>, now_ms: u64) {
        let name =
            self.names.entry(text.into()).or_insert_with(|| Name { due_ms: now_ms, ..Name::default() });
        if name.addresses.is_empty() {
            name.addresses = addresses;
        }
    }

    /// The addresses of a name, as far as they are known.
    pub fn addresses(&self, name: &str) -> &[IpAddr] {
        self.names.get(name).map_or(&[], |name| &name.addresses)
    }

    /// Whether a name has neither been found nor not been found yet.
    pub fn is_pending(&self, name: &str) -> bool {
        self.names.get(name).is_none_or(|name| name.addresses.is_empty() && name.failures == 0)
    }

    /// How often in a row a name could not be looked up.
    pub fn failures(&self, name: &str) -> u32 {
        self.names.get(name).map_or(0, |name| name.failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(last: &[u8]) -> Vec<IpAddr> {
        last.iter().map(|last| IpAddr::from([10, 0, 0, *last])).collect()
    }

    #[test]
    fn the_last_good_answer_stays_while_the_resolver_is_down() {
        let mut names = Names::default();
        names.follow(["a", "b"].into_iter());
        let mut due = names.due(0);
        due.sort();
        assert_eq!(due, ["a".into(), "b".into()]);
        assert!(names.due(60_000).is_empty(), "one at a time");
        assert!(names.answered("a", Some(ips(&[2, 1, 2])), 0));
        assert!(!names.answered("b", None, 0));
        assert_eq!(names.due(1_000), ["b".into()], "one without an address is tried again soon");
        assert!(names.answered("b", Some(ips(&[9])), 1_000));
        assert_eq!(names.addresses("a"), ips(&[1, 2]));
        let mut now_ms = 11_000;
        for answer in [None, Some(Vec::new()), None] {
            assert!(names.due(now_ms).contains(&"a".into()));
            assert!(!names.answered("a", answer, now_ms));
            assert!(names.due(now_ms + 9_000).iter().all(|name| &**name != "a"));
            now_ms += 10_000;
        }
        assert_eq!((names.addresses("a"), names.failures("a")), (&*ips(&[1, 2]), 3));
        names.due(now_ms);
        assert!(!names.answered("a", Some(ips(&[1, 2])), now_ms));
        names.due(now_ms + 20_000);
        assert!(names.answered("a", Some(ips(&[3])), now_ms + 20_000));
        names.follow(["b"].into_iter());
        assert!(names.addresses("a").is_empty() && !names.answered("a", Some(ips(&[1])), now_ms));
    }

    #[test]
    fn names_of_the_next_version_stay_until_it_is_followed() {
        let mut names = Names::default();
        names.follow(["a"].into_iter());
        assert_eq!(names.expect(["a", "b"].into_iter()), ["b".into()]);
        names.due(0);
        assert!(names.answered("b", Some(ips(&[1])), 0));
        names.follow(["a"].into_iter());
        assert_eq!(names.addresses("b"), ips(&[1]));
        names.arrived();
        names.follow(["a"].into_iter());
        assert!(names.addresses("b").is_empty());
    }
}
