//! The whole table: hosts, the order in which they are searched, and change by replacing single hosts.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::hash_map::Entry;
use smallvec::{SmallVec, smallvec};

use super::captures::Captures;
use super::compile::Builder;
use super::explain::{Step, Steps};
use super::host::Asked;
use super::host_map::{HostEntry, HostMap, HostName, HostPattern, Lengths, host_name, lower_case};
use super::method::MethodSet;
use super::rule::{Parts, Removal, Rule, Shared};
use super::shards::{Coming, Host, Leaving};
use crate::facts::Facts;

/// With a fixed hash, so that the same rules always make the same table.
type HashMap<K, V> = hashbrown::HashMap<K, V, FixedState>;

/// An immutable routing table. See the module [`route`](crate::route) for the order of the search.
pub struct Table<T> {
    names: HostMap<T>,
    suffixes: HostMap<T>,
    /// Lengths that suffixes have; may also hold lengths that they had before an update.
    suffix_lengths: Lengths,
    any: Option<Host<T>>,
    hostless: Option<Host<T>>,
    rules: usize,
    patterns: usize,
}

/// What is asked of a table.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// The request's method token.
    pub method: &'a [u8],
    /// The request's host in any case; a port and a final dot are left out here. Empty: none.
    pub host: &'a [u8],
    /// The path as [`path::normalize`](super::path::normalize) gives it, without the query.
    pub path: &'a [u8],
    /// The client's address.
    pub remote: IpAddr,
    /// What `vars` are about; without it a route that has some takes nothing.
    pub facts: Option<&'a Facts<'a>>,
}

/// A route that takes a request. It reads the rule's memory only when asked.
pub struct Match<'t, T> {
    rule: &'t Shared,
    payload: &'t T,
    uri: &'t [u8],
}

/// One pattern of one rule at one host.
pub struct Listed<'t, T> {
    /// The route's id.
    pub id: &'t str,
    /// The host pattern; `None`: a route without a host.
    pub host: Option<Box<str>>,
    /// The path pattern.
    pub uri: &'t [u8],
    /// The route's priority.
    pub priority: i64,
    /// The rule's payload.
    pub payload: &'t T,
}

impl<T: Clone> Table<T> {
    /// Builds a table. Ids are unique; rules may come in any order, in that of their ids it is faster.
    pub fn compile(rules: impl IntoIterator<Item = Rule<T>>) -> Table<T> {
        let mut rules: Vec<Parts<T>> = rules.into_iter().map(Parts::from).collect();
        sort_by_id(&mut rules);
        let mut hosts = Hosts { list: Vec::new(), places: HashMap::default() };
        for rule in rules {
            hosts.add(&rule);
        }
        let changes =
            hosts.list.into_iter().map(|(pattern, builder)| (pattern, Some(Host::build(builder)))).collect();
        Table::empty().replace(changes)
    }

    /// The table without the rules in `removed` and with those in `added`; a rule that changes is in both. Only what either touches is
    /// built again, hosts or parts of large ones; all else is shared with `self`.
    pub fn update(&self, removed: &[Removal], added: Vec<Rule<T>>) -> Table<T> {
        let mut rules: Vec<Parts<T>> = added.into_iter().map(Parts::from).collect();
        sort_by_id(&mut rules);
        let mut changes: HashMap<HostPattern, (Vec<Leaving<'_>>, Vec<Coming<'_, T>>)> = HashMap::default();
        for Removal { id, hosts, uris } in removed {
            for pattern in patterns(hosts) {
                changes.entry(pattern).or_default().0.push(Leaving { id, uris });
            }
        }
        for rule in &rules {
            for (index, pattern) in patterns(&rule.hosts).into_iter().enumerate() {
                changes.entry(pattern).or_default().1.push(Coming { rule, first_host: index == 0 });
            }
        }
        let changes = changes.into_iter().map(|(pattern, (mut gone, come))| {
            gone.sort_unstable_by_key(|leaving| leaving.id);
            let host = Host::changed(self.host(&pattern), &gone, &come);
            (pattern, host)
        });
        self.replace(changes.collect())
    }
}

impl<T> Table<T> {
    /// The payload of the rule that takes the request; its parameters are then in `captures`.
    pub fn find<'t>(&'t self, query: &Query<'_>, captures: &mut Captures) -> Option<&'t T> {
        self.lookup(query, captures).map(|found| found.payload())
    }

    /// The rule that takes the request; its parameters are then in `captures`.
    pub fn lookup<'t>(&'t self, query: &Query<'_>, captures: &mut Captures) -> Option<Match<'t, T>> {
        captures.clear();
        let asked = query.asked();
        self.search_hosts(query.host, |_, host| {
            let (table, candidate) = host.find(asked, captures)?;
            Some(Match { rule: &candidate.rule, payload: &candidate.payload, uri: table.pattern(candidate) })
        })
    }

    /// Which hosts and routes a lookup considers, in order, and what comes of each.
    pub fn explain(&self, query: &Query<'_>) -> Vec<Step> {
        let mut steps = Steps::default();
        let asked = query.asked();
        self.search_hosts(query.host, |pattern, host| {
            steps.host(pattern().text());
            host.explain(asked, &mut steps).then_some(())
        });
        steps.into_list()
    }

    /// How many rules it holds.
    pub fn len(&self) -> usize {
        self.rules
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.rules == 0
    }

    /// How many patterns it holds, counted at each host.
    pub fn patterns(&self) -> usize {
        self.patterns
    }

    /// Every pattern of every rule at every host, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = Listed<'_, T>> {
        self.hosts().flat_map(|(pattern, host)| {
            let text = pattern.text().map(String::into_boxed_str);
            let all = host
                .tables()
                .iter()
                .flat_map(|table| table.candidates().iter().map(move |candidate| (table, candidate)));
            all.map(move |(table, candidate)| Listed {
                id: &candidate.rule.id,
                host: text.clone(),
                uri: table.pattern(candidate),
                priority: candidate.rule.priority,
                payload: &candidate.payload,
            })
        })
    }

    /// Bytes that the table keeps on the heap, without what payloads point to and the allocator's own overhead. Hosts that
    /// other tables share count in each.
    pub fn memory_bytes(&self) -> usize {
        let single = self.any.iter().chain(&self.hostless).map(Host::memory_bytes);
        self.names.memory_bytes() + self.suffixes.memory_bytes() + single.sum::<usize>()
    }

    fn empty() -> Table<T> {
        Table {
            names: HostMap::new(Vec::new()),
            suffixes: HostMap::new(Vec::new()),
            suffix_lengths: Lengths::default(),
            any: None,
            hostless: None,
            rules: 0,
            patterns: 0,
        }
    }

    /// Calls `visit` with the hosts that a request's host fits, from the most specific on, until it gives something.
    fn search_hosts<'t, R>(
        &'t self,
        host: &[u8],
        mut visit: impl FnMut(&dyn Fn() -> HostPattern, &'t Host<T>) -> Option<R>,
    ) -> Option<R> {
        // Where no route names a host, the request's need not be read.
        let matters = !self.names.is_empty() || !self.suffixes.is_empty();
        if let Some(name) = Some(host).filter(|_| matters).and_then(host_name) {
            // Nearly all stand there in lower case already, and need no copy.
            let lower;
            let has_upper = name.iter().fold(false, |found, byte| found | byte.is_ascii_uppercase());
            let name = if has_upper {
                lower = lower_case(name);
                lower.get(..name.len()).unwrap_or_default()
            } else {
                name
            };
            if let Some(found) = self
                .names
                .get(name)
                .and_then(|host| visit(&|| HostPattern::Name(HostName::from_slice(name)), host))
            {
                return Some(found);
            }
            if !self.suffixes.is_empty() {
                for at in 0..name.len() {
                    let suffix = name.get(at..).unwrap_or_default();
                    if !self.suffix_lengths.contains(suffix) {
                        continue;
                    }
                    if let Some(found) = self
                        .suffixes
                        .get(suffix)
                        .and_then(|host| visit(&|| HostPattern::Suffix(HostName::from_slice(suffix)), host))
                    {
                        return Some(found);
                    }
                }
            }
        }
        if let Some(found) = self.any.as_ref().and_then(|host| visit(&|| HostPattern::Any, host)) {
            return Some(found);
        }
        self.hostless.as_ref().and_then(|host| visit(&|| HostPattern::None, host))
    }

    fn host(&self, pattern: &HostPattern) -> Option<&Host<T>> {
        match pattern {
            HostPattern::Name(name) => self.names.get(name),
            HostPattern::Suffix(suffix) => self.suffixes.get(suffix),
            HostPattern::Any => self.any.as_ref(),
            HostPattern::None => self.hostless.as_ref(),
        }
    }

    fn hosts(&self) -> impl Iterator<Item = (HostPattern, &Host<T>)> {
        let names = self.names.iter().map(|entry| (HostPattern::Name(entry.name.clone()), &entry.table));
        let suffixes =
            self.suffixes.iter().map(|entry| (HostPattern::Suffix(entry.name.clone()), &entry.table));
        let any = self.any.iter().map(|host| (HostPattern::Any, host));
        let hostless = self.hostless.iter().map(|host| (HostPattern::None, host));
        names.chain(suffixes).chain(any).chain(hostless)
    }

    /// The table with these hosts' tables in place of what it has for them.
    fn replace(&self, changes: Vec<(HostPattern, Option<Host<T>>)>) -> Table<T> {
        let (mut names, mut suffixes) = (Vec::new(), Vec::new());
        let mut suffix_lengths = self.suffix_lengths;
        let (mut any, mut hostless) = (self.any.clone(), self.hostless.clone());
        let (mut rules, mut patterns) = (self.rules, self.patterns);
        for (pattern, table) in changes {
            let (old_rules, old_patterns) = self.host(&pattern).map_or((0, 0), Host::counts);
            let (new_rules, new_patterns) = table.as_ref().map_or((0, 0), Host::counts);
            rules = rules + new_rules - old_rules;
            patterns = patterns + new_patterns - old_patterns;
            match pattern {
                HostPattern::Name(name) => names.push((name, table)),
                HostPattern::Suffix(suffix) => {
                    suffix_lengths.insert(&suffix);
                    suffixes.push((suffix, table));
                }
                HostPattern::Any => any = table,
                HostPattern::None => hostless = table,
            }
        }
        Table {
            names: changed(&self.names, names),
            suffixes: changed(&self.suffixes, suffixes),
            suffix_lengths,
            any,
            hostless,
            rules,
            patterns,
        }
    }
}

impl<'t, T> Match<'t, T> {
    /// The rule's payload.
    pub fn payload(&self) -> &'t T {
        self.payload
    }

    /// The route's id.
    pub fn id(&self) -> &'t str {
        &self.rule.id
    }

    /// The pattern that fits.
    pub fn uri(&self) -> &'t [u8] {
        self.uri
    }
}

impl Query<'_> {
    fn asked(&self) -> Asked<'_> {
        Asked {
            path: self.path,
            methods: MethodSet::of_token(self.method),
            remote: self.remote.to_canonical(),
            facts: self.facts,
        }
    }
}

/// The hosts of a table that is built from nothing.
struct Hosts<T> {
    list: Vec<(HostPattern, Builder<T>)>,
    places: HashMap<HostPattern, usize>,
}

impl<T: Clone> Hosts<T> {
    fn add(&mut self, rule: &Parts<T>) {
        for (index, pattern) in patterns(&rule.hosts).into_iter().enumerate() {
            let place = match self.places.entry(pattern) {
                Entry::Occupied(found) => *found.get(),
                Entry::Vacant(vacant) => {
                    self.list.push((vacant.key().clone(), Builder::with_capacity(0, 0)));
                    *vacant.insert(self.list.len() - 1)
                }
            };
            push_all(&mut self.list[place].1, rule, index == 0);
        }
    }
}

fn push_all<T: Clone>(builder: &mut Builder<T>, rule: &Parts<T>, first_host: bool) {
    builder.reserve(&rule.uris);
    for (index, uri) in rule.uris.iter().enumerate() {
        let first = first_host && index == 0;
        builder.push(Arc::clone(&rule.shared), rule.payload.clone(), uri.as_bytes(), first);
    }
}

/// A rule's hosts as they are matched, each once.
fn patterns(hosts: &[Box<str>]) -> SmallVec<[HostPattern; 1]> {
    if hosts.is_empty() {
        return smallvec![HostPattern::None];
    }
    let mut patterns = SmallVec::with_capacity(hosts.len());
    for host in hosts {
        let pattern = HostPattern::read(host);
        if !patterns.contains(&pattern) {
            patterns.push(pattern);
        }
    }
    patterns
}

fn sort_by_id<T>(rules: &mut [Parts<T>]) {
    if !rules.is_sorted_by(|a, b| a.shared.id <= b.shared.id) {
        rules.sort_by(|a, b| a.shared.id.cmp(&b.shared.id));
    }
}

fn changed<T>(map: &HostMap<T>, changes: Vec<(HostName, Option<Host<T>>)>) -> HostMap<T> {
    if changes.is_empty() {
        return map.clone();
    }
    if map.is_empty() {
        let entries = changes.into_iter().filter_map(|(name, table)| Some(HostEntry { name, table: table? }));
        return HostMap::new(entries.collect());
    }
    map.with(changes)
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        self.replace(Vec::new())
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table::empty()
    }
}

impl<T> fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("rules", &self.rules)
            .field("patterns", &self.patterns)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Match<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = String::from_utf8_lossy(self.uri);
        f.debug_struct("Match").field("id", &self.rule.id).field("uri", &uri).finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Listed<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = String::from_utf8_lossy(self.uri);
        f.debug_struct("Listed")
            .field("id", &self.id)
            .field("host", &self.host)
            .field("uri", &uri)
            .finish_non_exhaustive()
    }
}
