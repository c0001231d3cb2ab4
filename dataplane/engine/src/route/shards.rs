//! One host's patterns, in one table or, where there are many, in shards of which a change builds only the ones it touches.
//!
//! A pattern lies in the shard of its exact path or of its directory (the whole segments of its literal part), by hash. A lookup asks one
//! table for the exact path and one for each directory of the path, so that it asks the same questions in the same order
//! whatever the number of shards, and a hundred thousand routes on one host are as cheap to change as on a thousand. Only patterns that
//! all lie directly in one directory (`/a*`, `/b*`, ...) cannot be parted.
//!
//! Invariants: a rule's patterns of one directory are in one shard, in the order in which they were given; the number of shards is a
//! power of two.

use std::sync::Arc;

use super::captures::Captures;
use super::compile::Builder;
use super::explain::Steps;
use super::host::{Asked, Candidate, HostTable};
use super::pattern::{self, Shape};
use super::rule::Parts;
use super::slots::hash_text;
use super::trie::{Depths, directories, hash_directory};

/// The patterns of one host.
pub(super) enum Host<T> {
    /// Few.
    One(Arc<HostTable<T>>),
    /// Many.
    Many(Arc<Shards<T>>),
}

/// See the module.
pub(super) struct Shards<T> {
    tables: Box<[Arc<HostTable<T>>]>,
    rules: usize,
    patterns: usize,
    /// Of the longest exact path and of the directories; may also be of those there were before changes.
    exact_bytes_max: usize,
    depths: Depths,
}

/// Patterns of a shard that is built anew. Tests part what is far smaller, so that each of them tries hosts of both kinds.
const SHARD_PATTERNS: usize = if cfg!(test) { 2 } else { 256 };
/// Patterns up to which a host is one table.
const ONE_PATTERNS_MAX: usize = 4 * SHARD_PATTERNS;
/// Patterns of a shard, on average, above which a host is parted anew; so it is with an eighth of [`SHARD_PATTERNS`].
const SHARD_PATTERNS_MAX: usize = 4 * SHARD_PATTERNS;
/// Shards of one host; they then grow.
const SHARDS_MAX: usize = 1 << 12;

/// A rule that leaves a host.
#[derive(Clone, Copy)]
pub(super) struct Leaving<'a> {
    pub(super) id: &'a str,
    pub(super) uris: &'a [Box<str>],
}

/// A rule that comes to a host.
pub(super) struct Coming<'a, T> {
    pub(super) rule: &'a Parts<T>,
    /// Of the hosts it has, this is the first.
    pub(super) first_host: bool,
}

impl<T> Host<T> {
    /// Builds what was collected.
    pub(super) fn build(builder: Builder<T>) -> Host<T> {
        if builder.len() <= ONE_PATTERNS_MAX {
            return Host::One(Arc::new(builder.finish()));
        }
        let count = (builder.len() / SHARD_PATTERNS).next_power_of_two().min(SHARDS_MAX);
        let parts = builder.part(count, |pattern| shard_of(pattern, count));
        Host::many(parts.into_iter().map(|part| Arc::new(part.finish())).collect())
    }

    fn many(tables: Box<[Arc<HostTable<T>>]>) -> Host<T> {
        let sum = |count: fn((usize, usize)) -> usize| tables.iter().map(|table| count(table.counts())).sum();
        let (rules, patterns) = (sum(|(rules, _)| rules), sum(|(_, patterns)| patterns));
        let exact_bytes_max = tables.iter().map(|table| table.exact_bytes_max()).max().unwrap_or(0);
        let depths = tables.iter().fold(Depths::default(), |depths, table| depths.and(table.depths()));
        Host::Many(Arc::new(Shards { tables, rules, patterns, exact_bytes_max, depths }))
    }

    /// The candidate that takes the request, with its parameters.
    pub(super) fn find(
        &self,
        asked: Asked<'_>,
        captures: &mut Captures,
    ) -> Option<(&HostTable<T>, &Candidate<T>)> {
        match self {
            Host::One(table) => table.find(asked, captures).map(|candidate| (&**table, candidate)),
            Host::Many(shards) => shards.find(asked, captures),
        }
    }

    /// Tells every candidate whose literal part begins the path, in the order of the search, up to the one that takes it.
    pub(super) fn explain(&self, asked: Asked<'_>, steps: &mut Steps) -> bool {
        let count = self.tables().len();
        let exact = self.tables().get(place(hash_text(asked.path), count));
        let depths = match self {
            Host::One(table) => table.depths(),
            Host::Many(shards) => shards.depths,
        };
        exact.is_some_and(|table| table.explain_exact(asked, steps))
            || directories(asked.path, depths).collect::<Vec<_>>().into_iter().rev().any(|directory| {
                let table = self.tables().get(place(directory.1, count));
                table.is_some_and(|table| table.explain_in(asked, directory, steps))
            })
    }

    /// The tables it consists of.
    pub(super) fn tables(&self) -> &[Arc<HostTable<T>>] {
        match self {
            Host::One(table) => std::slice::from_ref(table),
            Host::Many(shards) => &shards.tables,
        }
    }

    /// How many rules have their first pattern here, and how many patterns there are.
    pub(super) fn counts(&self) -> (usize, usize) {
        match self {
            Host::One(table) => table.counts(),
            Host::Many(shards) => (shards.rules, shards.patterns),
        }
    }

    /// Bytes on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        let own = match self {
            Host::One(_) => 0,
            Host::Many(shards) => size_of::<Shards<T>>() + size_of_val(&*shards.tables),
        };
        own + self.tables().iter().map(|table| table.memory_bytes()).sum::<usize>()
    }
}

impl<T: Clone> Host<T> {
    /// The host without some rules and with others, both in the order of ids; `None`: nothing is left.
    pub(super) fn changed(
        old: Option<&Host<T>>,
        gone: &[Leaving<'_>],
        come: &[Coming<'_, T>],
    ) -> Option<Host<T>> {
        let Some(Host::Many(shards)) = old else {
            let builder = merge(old.map_or(&[], Host::tables), gone, come, |_| true);
            return (!builder.is_empty()).then(|| Host::build(builder));
        };
        let count = shards.tables.len();
        let more: usize = come.iter().map(|coming| coming.rule.uris.len()).sum();
        let over = shards.patterns + more > count * SHARD_PATTERNS_MAX && count < SHARDS_MAX;
        let under = shards.patterns < count * SHARD_PATTERNS / 8;
        if over || under {
            let builder = merge(&shards.tables, gone, come, |_| true);
            return (!builder.is_empty()).then(|| Host::build(builder));
        }
        let left = gone.iter().flat_map(|leaving| leaving.uris);
        let touched = left.chain(come.iter().flat_map(|coming| &coming.rule.uris));
        let mut touched: Vec<usize> = touched.map(|uri| shard_of(uri.as_bytes(), count)).collect();
        touched.sort_unstable();
        touched.dedup();
        let mut next = Shards { tables: shards.tables.clone(), ..**shards };
        for shard in touched {
            let Some(old) = shards.tables.get(shard) else { continue };
            let own = std::slice::from_ref(old);
            let builder = merge(own, gone, come, |uri| shard_of(uri.as_bytes(), count) == shard);
            next.put(shard, old, Arc::new(builder.finish()));
        }
        (next.patterns > 0).then(|| Host::Many(Arc::new(next)))
    }
}

impl<T> Shards<T> {
    /// Puts a table in another one's place. Looks at no third one: there may be thousands, in memory that was not touched for long.
    fn put(&mut self, shard: usize, old: &HostTable<T>, new: Arc<HostTable<T>>) {
        let (old, now) = (old.counts(), new.counts());
        self.rules = self.rules + now.0 - old.0;
        self.patterns = self.patterns + now.1 - old.1;
        self.exact_bytes_max = self.exact_bytes_max.max(new.exact_bytes_max());
        self.depths = self.depths.and(new.depths());
        if let Some(table) = self.tables.get_mut(shard) {
            *table = new;
        }
    }

    fn find(&self, asked: Asked<'_>, captures: &mut Captures) -> Option<(&HostTable<T>, &Candidate<T>)> {
        let count = self.tables.len();
        let mut exact = None;
        if asked.path.len() <= self.exact_bytes_max {
            let hash = hash_text(asked.path);
            let table = self.tables.get(place(hash, count));
            exact = table.map(|table| (table, hash, table.may_hold_exact(hash)));
        }
        let mut listed = std::mem::take(&mut captures.scratch.directories);
        listed.clear();
        // As in one table: whether the path or a directory may be ours is noted for all of them before the first is looked into.
        for (at, hash) in directories(asked.path, self.depths) {
            let may_be = self.tables.get(place(hash, count)).is_some_and(|table| table.may_hold(hash));
            listed.push((at, hash, may_be));
        }
        let mut found = exact.and_then(|(table, hash, may_be)| {
            Some((&**table, table.find_exact(asked, hash, may_be, captures)?))
        });
        while found.is_none()
            && let Some((at, hash, may_be)) = listed.pop()
        {
            captures.count_step();
            let table = self.tables.get(place(hash, count)).filter(|_| may_be);
            found = table.and_then(|table| Some((&**table, table.find_in(asked, (at, hash), captures)?)));
        }
        captures.scratch.directories = listed;
        found
    }
}

impl<T> Clone for Host<T> {
    fn clone(&self) -> Self {
        match self {
            Host::One(table) => Host::One(Arc::clone(table)),
            Host::Many(shards) => Host::Many(Arc::clone(shards)),
        }
    }
}

/// The patterns of some tables without the rules that leave and with those that come.
fn merge<T: Clone>(
    old: &[Arc<HostTable<T>>],
    gone: &[Leaving<'_>],
    come: &[Coming<'_, T>],
    is_ours: impl Fn(&str) -> bool,
) -> Builder<T> {
    let patterns = old.iter().map(|table| table.candidates().len()).sum::<usize>() + come.len();
    let mut builder = Builder::with_capacity(patterns, old.iter().map(|table| table.text_bytes()).sum());
    let mut come = come.iter().peekable();
    let mut known: Vec<(&HostTable<T>, &Candidate<T>)> = Vec::with_capacity(patterns);
    for table in old {
        known.extend(table.by_id().into_iter().map(|candidate| (&**table, candidate)));
    }
    if old.len() > 1 {
        // Stable, so that the patterns of a rule that share a directory, and so a table, keep their order.
        known.sort_by(|(_, a), (_, b)| a.rule.id.cmp(&b.rule.id));
    }
    let push_all = |builder: &mut Builder<T>, coming: &Coming<'_, T>| {
        for (index, uri) in coming.rule.uris.iter().enumerate().filter(|(_, uri)| is_ours(uri)) {
            let Parts { shared, payload, .. } = coming.rule;
            let first = coming.first_host && index == 0;
            builder.push(Arc::clone(shared), payload.clone(), uri.as_bytes(), first);
        }
    };
    for (table, candidate) in known {
        let id = &*candidate.rule.id;
        while let Some(next) = come.next_if(|next| *next.rule.shared.id < *id) {
            push_all(&mut builder, next);
        }
        if gone.binary_search_by(|leaving| leaving.id.cmp(id)).is_err() {
            let (rule, payload) = (Arc::clone(&candidate.rule), candidate.payload.clone());
            builder.push(rule, payload, table.pattern(candidate), candidate.first_of_rule);
        }
    }
    come.for_each(|next| push_all(&mut builder, next));
    builder
}

fn shard_of(pattern: &[u8], shards: usize) -> usize {
    let hash = match pattern::shape(pattern) {
        Shape::Exact => hash_text(pattern),
        Shape::Tail { directory, .. } => hash_directory(directory),
    };
    place(hash, shards)
}

fn place(hash: u64, shards: usize) -> usize {
    // Neither the bits of a slot's tag nor those by which slots are chosen.
    (hash >> 32) as usize & shards.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::super::{MethodSet, Rule};
    use super::*;

    fn parts(n: usize) -> Parts<usize> {
        let uris = vec![format!("/svc{n}/:id").into(), format!("/health{n}").into()];
        let (hosts, methods, remotes) = (Vec::new(), MethodSet::ALL, Vec::new());
        Parts::from(Rule {
            id: format!("{n:04}").into(),
            hosts,
            uris,
            methods,
            remotes,
            vars: None,
            priority: 0,
            payload: n,
        })
    }

    fn build(rules: &[Parts<usize>]) -> Option<Host<usize>> {
        let come: Vec<Coming<'_, usize>> =
            rules.iter().map(|rule| Coming { rule, first_host: true }).collect();
        Host::changed(None, &[], &come)
    }

    #[test]
    fn a_change_of_a_large_host_builds_the_shards_of_its_patterns_and_shares_the_others() {
        let rules: Vec<Parts<usize>> = (0..100).map(parts).collect();
        let old = build(&rules).unwrap();
        assert_eq!((old.counts(), old.tables().len()), ((100, 200), 128));
        let gone = Leaving { id: "0050", uris: &rules[50].uris };
        let come = Coming { rule: &rules[50], first_host: true };
        let new = Host::changed(Some(&old), &[gone], &[come]).unwrap();
        let shared = old.tables().iter().zip(new.tables()).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert!((126..128).contains(&shared), "{shared}");
        assert_eq!(new.counts(), (100, 200));
    }

    #[test]
    fn a_host_is_parted_when_it_grows_and_joined_when_it_shrinks() {
        let rules: Vec<Parts<usize>> = (0..1_000).map(parts).collect();
        let mut host = build(&rules[..3]);
        assert_eq!(host.as_ref().unwrap().tables().len(), 1);
        for rule in &rules[3..] {
            host = Host::changed(host.as_ref(), &[], &[Coming { rule, first_host: true }]);
        }
        let grown = host.as_ref().unwrap();
        assert_eq!(grown.counts(), (1_000, 2_000));
        assert!(grown.tables().len() >= 2_000 / SHARD_PATTERNS_MAX, "{}", grown.tables().len());
        for rule in &rules[1..] {
            let gone = Leaving { id: &rule.shared.id, uris: &rule.uris };
            host = Host::changed(host.as_ref(), &[gone], &[]);
        }
        let left = host.as_ref().unwrap();
        assert_eq!(left.counts(), (1, 2));
        assert!(left.tables().len() <= 8, "{}", left.tables().len());
        let gone = Leaving { id: "0000", uris: &rules[0].uris };
        assert!(Host::changed(host.as_ref(), &[gone], &[]).is_none());
    }
}
