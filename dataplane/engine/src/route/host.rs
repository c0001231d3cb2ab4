//! One host's patterns, compiled, and the search among them.

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::captures::Captures;
use super::compile::number;
use super::explain::{Outcome, Steps};
use super::method::MethodSet;
use super::pattern::{self, Shape};
use super::rule::Shared;
use super::slots::{NONE, Slots, hash_text, tag_of, text};
use super::trie::{Candidates, Depths, Directory, Spot, Trie};
use crate::facts::{Facts, Known};

/// All that is asked of one host. Immutable; shared by the tables that agree on the host. Of a host with one pattern, which many
/// tables have one of for each route, all stands here, in this order, but its rule.
#[repr(C)]
pub(super) struct HostTable<T> {
    /// Those of exact paths first.
    candidates: SmallVec<[Candidate<T>; 1]>,
    texts: SmallVec<[u8; TEXT_BYTES_INLINE]>,
    exact_len: u32,
    exact_bytes_max: u32,
    /// Rules that have their first pattern here.
    rules: u32,
    /// Of the directories.
    depths: Depths,
    /// First candidate of each exact path; empty where there are few.
    exact: Slots,
    /// `None`: the other patterns are few, in the order of the search, and compared one by one.
    trie: Option<Trie>,
}

/// Text that costs no block of memory of its own: a usual pattern.
const TEXT_BYTES_INLINE: usize = 40;
/// Exact paths that are compared one by one, which for so few is as fast as hashing and takes no memory.
pub(super) const SCANNED_MAX: usize = 4;
/// Other patterns of one table that are. Tests have few patterns, and try both ways.
pub(super) const TAILS_SCANNED_MAX: usize = if cfg!(test) { 1 } else { 4 };
/// Other patterns of one directory that are.
pub(super) const RUN_MAX: usize = if cfg!(test) { 2 } else { 4 };

/// One pattern of one rule, with all that most requests need to know of it: a look into the rule would be one more wait for memory.
pub(super) struct Candidate<T> {
    pub(super) payload: T,
    pub(super) rule: Arc<Shared>,
    /// Where its pattern is among the texts, which are in the order of the rules' ids.
    pub(super) start: u32,
    pub(super) len: u32,
    /// The next one of the same exact path or trie node.
    pub(super) next: u32,
    /// Node of its literal part; `NONE` where there is none.
    pub(super) group: u32,
    /// Where its parameters may begin.
    pub(super) directory_len: u32,
    pub(super) methods: MethodSet,
    /// Whether the rule has conditions beside path and method.
    pub(super) conditions: bool,
    pub(super) first_of_rule: bool,
}

/// Bytes of a pattern without its payload.
#[cfg(test)]
pub(crate) const CANDIDATE_BYTES: usize = size_of::<Candidate<()>>();

impl<T> Candidate<T> {
    /// Whether a request fulfils the rule's conditions beside path and method.
    fn meets(&self, asked: &Asked<'_>) -> bool {
        !self.conditions || (self.rule.takes(asked.remote) && self.rule.holds(asked))
    }
}

/// What of a request is tested inside a host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) path: &'a [u8],
    pub(super) methods: MethodSet,
    pub(super) remote: IpAddr,
    pub(super) facts: Option<&'a Facts<'a>>,
}

impl<T> HostTable<T> {
    pub(super) fn new(
        texts: Vec<u8>,
        candidates: Vec<Candidate<T>>,
        exact_len: usize,
        exact: Slots,
        depths: Depths,
        trie: Option<Trie>,
    ) -> HostTable<T> {
        let exact_paths = candidates.iter().take(exact_len);
        let exact_bytes_max = exact_paths.map(|candidate| candidate.len).max().unwrap_or(0);
        let rules = number(candidates.iter().filter(|candidate| candidate.first_of_rule).count());
        let exact_len = number(exact_len);
        // `from_vec` keeps a block that is too large for what is in it.
        let texts = match texts.len() {
            0..=TEXT_BYTES_INLINE => SmallVec::from_slice(&texts),
            _ => SmallVec::from_vec(texts.into_boxed_slice().into_vec()),
        };
        let candidates = SmallVec::from_vec(candidates.into_boxed_slice().into_vec());
        HostTable { candidates, texts, exact_len, exact_bytes_max, rules, depths, exact, trie }
    }

    /// The candidate that takes the request, with its parameters.
    pub(super) fn find(&self, asked: Asked<'_>, captures: &mut Captures) -> Option<&Candidate<T>> {
        let hash = self.exact_hash(asked.path);
        let may_be = self.may_hold_exact(hash);
        // Before the exact path is looked into, so that memory is asked for its place and for those of the directories at once.
        if let Some(trie) = &self.trie {
            trie.list_directories(asked.path, self.depths, &mut captures.scratch);
        }
        if let Some(exact) = self.find_exact(asked, hash, may_be, captures) {
            return Some(exact);
        }
        if self.trie.is_none() {
            return self.tails().iter().find(|candidate| {
                asked.path.starts_with(self.directory(candidate)) && self.takes(candidate, asked, captures)
            });
        }
        while let Some((at, hash, may_be)) = captures.scratch.directories.pop() {
            captures.count_step();
            let found = if may_be { self.find_in(asked, (at, hash), captures) } else { None };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The candidate of this exact path, of that hash, that takes the request; `may_be` is what [`HostTable::may_hold_exact`] says.
    pub(super) fn find_exact(
        &self,
        asked: Asked<'_>,
        hash: u64,
        may_be: bool,
        captures: &mut Captures,
    ) -> Option<&Candidate<T>> {
        captures.count_step();
        if !may_be {
            return None;
        }
        let first = self.exact_chain(asked.path, hash)?;
        let found = View { host: self, asked }.admitted(first, NONE, &mut captures.scratch.steps)?;
        self.candidates.get(found as usize)
    }

    /// The candidate that takes the request among those whose literal part ends in this directory of the path.
    pub(super) fn find_in(
        &self,
        asked: Asked<'_>,
        directory: Directory,
        captures: &mut Captures,
    ) -> Option<&Candidate<T>> {
        let Some(trie) = &self.trie else {
            return self.tails_in(asked.path, directory.0).find(|tail| self.takes(tail, asked, captures));
        };
        match trie.spot(asked.path, directory, &self.texts)? {
            Spot::Run(first) => self.run(first).find(|candidate| self.takes(candidate, asked, captures)),
            Spot::Node(node) => {
                let view = View { host: self, asked };
                let scratch = &mut captures.scratch;
                let found = trie.find_from(node, asked.path, directory.0, &view, scratch)?;
                let candidate = self.candidates.get(found as usize)?;
                self.fits(candidate, asked.path, captures);
                Some(candidate)
            }
        }
    }

    /// Whether a directory of that hash may be one of ours. See [`Slots::may_hold`].
    pub(super) fn may_hold(&self, directory_hash: u64) -> bool {
        let in_trie = |trie: &Trie| trie.directories.may_hold(directory_hash);
        self.trie.as_ref().map_or(!self.tails().is_empty(), in_trie)
    }

    /// Whether an exact path of that hash may be one of ours. See [`Slots::may_hold`].
    pub(super) fn may_hold_exact(&self, hash: u64) -> bool {
        self.exact_len as usize <= SCANNED_MAX || self.exact.may_hold(hash)
    }

    /// Tells the candidates of this exact path, up to the one that takes the request.
    pub(super) fn explain_exact(&self, asked: Asked<'_>, steps: &mut Steps) -> bool {
        let mut exact = self.exact_chain(asked.path, self.exact_hash(asked.path));
        while let Some(candidate) = exact.and_then(|at| self.candidates.get(at as usize)) {
            if self.explain_one(candidate, asked, steps) {
                return true;
            }
            exact = Some(candidate.next);
        }
        false
    }

    /// Tells the candidates whose literal part begins the path and ends in this directory of it, up to the one that takes it.
    pub(super) fn explain_in(&self, asked: Asked<'_>, directory: Directory, steps: &mut Steps) -> bool {
        let begins = |candidate: &&Candidate<T>| asked.path.starts_with(self.literal(candidate));
        let Some(trie) = &self.trie else {
            let mut tails = self.tails_in(asked.path, directory.0).filter(begins);
            return tails.any(|candidate| self.explain_one(candidate, asked, steps));
        };
        match trie.spot(asked.path, directory, &self.texts) {
            None => false,
            Some(Spot::Run(first)) => {
                self.run(first).filter(begins).any(|candidate| self.explain_one(candidate, asked, steps))
            }
            Some(Spot::Node(node)) => {
                let groups = trie.groups_in(node, asked.path, directory.0, &self.texts);
                groups.into_iter().any(|first| {
                    let group = self.candidates.get(first as usize..).unwrap_or_default();
                    let number = group.first().map_or(NONE, |candidate| candidate.group);
                    group
                        .iter()
                        .take_while(|candidate| candidate.group == number)
                        .any(|candidate| self.explain_one(candidate, asked, steps))
                })
            }
        }
    }

    pub(super) fn exact_bytes_max(&self) -> usize {
        self.exact_bytes_max as usize
    }

    /// Of the directories.
    pub(super) fn depths(&self) -> Depths {
        self.depths
    }

    /// Candidates in the order of their rules' ids, and each rule's in the order it was given.
    pub(super) fn by_id(&self) -> Vec<&Candidate<T>> {
        let mut by_id: Vec<&Candidate<T>> = self.candidates.iter().collect();
        by_id.sort_unstable_by_key(|candidate| candidate.start);
        by_id
    }

    /// How many rules have their first pattern here, and how many patterns there are.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.rules as usize, self.candidates.len())
    }

    pub(super) fn candidates(&self) -> &[Candidate<T>] {
        &self.candidates
    }

    pub(super) fn pattern(&self, candidate: &Candidate<T>) -> &[u8] {
        text(&self.texts, candidate.start, candidate.len)
    }

    /// Bytes of the patterns.
    pub(super) fn text_bytes(&self) -> usize {
        self.texts.len()
    }

    /// Bytes of this and what hangs off it. A rule counts where its first pattern is.
    pub(super) fn memory_bytes(&self) -> usize {
        let rules = self.candidates.iter().filter(|candidate| candidate.first_of_rule).map(|candidate| {
            let rule = &candidate.rule;
            ARC_BYTES + size_of::<Shared>() + rule.id.len() + size_of_val(&*rule.remotes)
        });
        ARC_BYTES
            + size_of::<Self>()
            + if self.texts.spilled() { self.texts.len() } else { 0 }
            + if self.candidates.spilled() { size_of_val::<[Candidate<T>]>(&self.candidates) } else { 0 }
            + self.exact.memory_bytes()
            + self.trie.as_ref().map_or(0, Trie::memory_bytes)
            + rules.sum::<usize>()
    }

    /// The candidates that are not of exact paths.
    fn tails(&self) -> &[Candidate<T>] {
        self.candidates.get(self.exact_len as usize..).unwrap_or_default()
    }

    /// Those of them whose literal part ends in this directory of the path.
    fn tails_in(&self, path: &[u8], end: usize) -> impl Iterator<Item = &Candidate<T>> {
        let of_directory = move |tail: &&Candidate<T>| tail.directory_len as usize == end;
        self.tails().iter().filter(of_directory).filter(move |tail| path.starts_with(self.directory(tail)))
    }

    /// A candidate and those that follow it.
    fn run(&self, first: u32) -> impl Iterator<Item = &Candidate<T>> {
        let get = |at: u32| self.candidates.get(at as usize);
        std::iter::successors(get(first), move |candidate| get(candidate.next))
    }

    /// Whether a candidate whose directory begins the path takes the request, with its parameters.
    fn takes(&self, candidate: &Candidate<T>, asked: Asked<'_>, captures: &mut Captures) -> bool {
        captures.count_step();
        if !candidate.methods.intersects(asked.methods) {
            return false;
        }
        let takes = self.fits(candidate, asked.path, captures) && candidate.meets(&asked);
        if !takes {
            captures.forget();
        }
        takes
    }

    /// Whether a path fits what a candidate's pattern has beyond its directory; notes its parameters.
    fn fits(&self, candidate: &Candidate<T>, path: &[u8], captures: &mut Captures) -> bool {
        let directory_len = candidate.directory_len as usize;
        pattern::capture(self.pattern(candidate), path, directory_len, |name, place| {
            captures.push(name, place);
        })
    }

    fn directory(&self, candidate: &Candidate<T>) -> &[u8] {
        text(&self.texts, candidate.start, candidate.directory_len)
    }

    fn literal(&self, candidate: &Candidate<T>) -> &[u8] {
        match pattern::shape(self.pattern(candidate)) {
            Shape::Exact => self.pattern(candidate),
            Shape::Tail { literal, .. } => literal,
        }
    }

    /// The hash of a path, where it is needed.
    fn exact_hash(&self, path: &[u8]) -> u64 {
        let needed = self.exact_len as usize > SCANNED_MAX && path.len() <= self.exact_bytes_max as usize;
        if needed { hash_text(path) } else { 0 }
    }

    fn exact_chain(&self, path: &[u8], hash: u64) -> Option<u32> {
        if path.len() > self.exact_bytes_max as usize {
            return None;
        }
        if self.exact_len as usize > SCANNED_MAX {
            return self.exact.find(hash, tag_of(hash), path, &self.texts);
        }
        let few = self.candidates.get(..self.exact_len as usize).unwrap_or_default();
        let (at, _) = (0..).zip(few).find(|(_, candidate)| self.pattern(candidate) == path)?;
        Some(at)
    }

    fn explain_one(&self, candidate: &Candidate<T>, asked: Asked<'_>, steps: &mut Steps) -> bool {
        let wants_content = Cell::new(false);
        let mut facts = asked.facts.copied();
        if let Some(Facts { content: content @ Known::Unread(_), .. }) = &mut facts {
            *content = Known::Unread(&wants_content);
        }
        let asked = Asked { facts: facts.as_ref(), ..asked };
        let outcome = if !pattern::fits(self.pattern(candidate), asked.path) {
            Outcome::OtherPath
        } else if !candidate.methods.intersects(asked.methods) {
            Outcome::OtherMethod
        } else if !candidate.rule.takes(asked.remote) {
            Outcome::OtherRemote
        } else if !candidate.rule.holds(&asked) {
            if wants_content.get() { Outcome::UnknownContent } else { Outcome::OtherVars }
        } else {
            Outcome::Matched
        };
        let uri = String::from_utf8_lossy(self.pattern(candidate));
        steps.candidate(&candidate.rule.id, &uri, candidate.rule.priority, outcome);
        outcome == Outcome::Matched
    }
}

/// What stands before the value in an `Arc`'s allocation.
pub(super) const ARC_BYTES: usize = 16;

/// The candidates for one request.
struct View<'a, T> {
    host: &'a HostTable<T>,
    asked: Asked<'a>,
}

impl<T> Candidates for View<'_, T> {
    fn texts(&self) -> &[u8] {
        &self.host.texts
    }

    fn admitted(&self, first: u32, limit: u32, steps: &mut u64) -> Option<u32> {
        let mut at = first;
        // Chains ascend, and `NONE` is above every limit's predecessor.
        while at < limit {
            *steps = steps.saturating_add(1);
            let candidate = self.host.candidates.get(at as usize)?;
            if candidate.methods.intersects(self.asked.methods) && candidate.meets(&self.asked) {
                return Some(at);
            }
            at = candidate.next;
        }
        None
    }
}
