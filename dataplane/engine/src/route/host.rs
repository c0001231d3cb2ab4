//! One host's patterns, compiled, and the search among them.

use std::net::IpAddr;
use std::sync::Arc;

use super::captures::Captures;
use super::compile::number;
use super::explain::{Outcome, Steps};
use super::method::MethodSet;
use super::pattern;
use super::rule::Shared;
use super::slots::{NONE, Slots, hash_text, tag_of, text};
use super::trie::{Candidates, Directory, Trie};
use crate::facts::Facts;

/// All that is asked of one host. Immutable; shared by the tables that agree on the host.
pub(super) struct HostTable<T> {
    texts: Box<[u8]>,
    /// Those of exact paths first.
    candidates: Box<[Candidate<T>]>,
    exact_len: u32,
    exact_bytes_max: u32,
    /// Rules that have their first pattern here.
    rules: u32,
    /// First candidate of each exact path; empty where there are few.
    exact: Slots,
    trie: Option<Trie>,
}

/// Exact paths that are compared one by one, which for so few is as fast as hashing and takes no memory.
pub(super) const SCANNED_MAX: usize = 4;

/// One pattern of one rule.
pub(super) struct Candidate<T> {
    pub(super) rule: Arc<Shared<T>>,
    /// Where its pattern is among the texts, which are in the order of the rules' ids.
    pub(super) start: u32,
    pub(super) len: u32,
    /// The next one of the same exact path or trie node.
    pub(super) next: u32,
    /// Node of its literal part; `NONE` for an exact path.
    pub(super) group: u32,
    /// Where its parameters may begin.
    pub(super) directory_len: u32,
    pub(super) methods: MethodSet,
    /// Whether the rule has conditions beside path and method.
    pub(super) conditions: bool,
    pub(super) first_of_rule: bool,
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
        texts: Box<[u8]>,
        candidates: Box<[Candidate<T>]>,
        exact_len: usize,
        exact: Slots,
        trie: Option<Trie>,
    ) -> HostTable<T> {
        let exact_paths = candidates.iter().take(exact_len);
        let exact_bytes_max = exact_paths.map(|candidate| candidate.len).max().unwrap_or(0);
        let rules = number(candidates.iter().filter(|candidate| candidate.first_of_rule).count());
        HostTable { texts, candidates, exact_len: number(exact_len), exact_bytes_max, rules, exact, trie }
    }

    /// The candidate that takes the request, with its parameters.
    pub(super) fn find(&self, asked: Asked<'_>, captures: &mut Captures) -> Option<&Candidate<T>> {
        let hash = self.exact_hash(asked.path);
        let may_be = self.may_hold_exact(hash);
        // Before the exact path is looked into, so that memory is asked for its place and for those of the directories at once.
        if let Some(trie) = &self.trie {
            trie.list_directories(asked.path, &mut captures.scratch);
        }
        if let Some(exact) = self.find_exact(asked, hash, may_be, captures) {
            return Some(exact);
        }
        let view = View { host: self, asked };
        let found = self.trie.as_ref()?.find_listed(asked.path, &view, &mut captures.scratch)?;
        self.captured(found, asked, captures)
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
        let view = View { host: self, asked };
        let found = self.trie.as_ref()?.find_in(asked.path, directory, &view, &mut captures.scratch)?;
        self.captured(found, asked, captures)
    }

    /// Whether a directory of that hash may be one of ours. See [`Slots::may_hold`].
    pub(super) fn may_hold(&self, directory_hash: u64) -> bool {
        self.trie.as_ref().is_some_and(|trie| trie.directories.may_hold(directory_hash))
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
        let groups = self.trie.as_ref().map(|trie| trie.groups_in(asked.path, directory, &self.texts));
        groups.unwrap_or_default().into_iter().any(|first| {
            let group = self.candidates.get(first as usize..).unwrap_or_default();
            let number = group.first().map_or(NONE, |candidate| candidate.group);
            group
                .iter()
                .take_while(|candidate| candidate.group == number)
                .any(|candidate| self.explain_one(candidate, asked, steps))
        })
    }

    pub(super) fn exact_bytes_max(&self) -> usize {
        self.exact_bytes_max as usize
    }

    /// Slashes in the deepest directory.
    pub(super) fn depth_max(&self) -> usize {
        self.trie.as_ref().map_or(0, |trie| trie.depth_max)
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
            ARC_BYTES + size_of::<Shared<T>>() + rule.id.len() + size_of_val(&*rule.remotes)
        });
        ARC_BYTES
            + size_of::<Self>()
            + self.texts.len()
            + size_of_val::<[Candidate<T>]>(&self.candidates)
            + self.exact.memory_bytes()
            + self.trie.as_ref().map_or(0, Trie::memory_bytes)
            + rules.sum::<usize>()
    }

    fn captured(&self, found: u32, asked: Asked<'_>, captures: &mut Captures) -> Option<&Candidate<T>> {
        let candidate = self.candidates.get(found as usize)?;
        let directory_len = candidate.directory_len as usize;
        pattern::capture(self.pattern(candidate), asked.path, directory_len, |name, place| {
            captures.push(name, place);
        });
        Some(candidate)
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
        let outcome = if !pattern::fits(self.pattern(candidate), asked.path) {
            Outcome::OtherPath
        } else if !candidate.methods.intersects(asked.methods) {
            Outcome::OtherMethod
        } else if !candidate.rule.takes(asked.remote) {
            Outcome::OtherRemote
        } else if !candidate.rule.holds(&asked) {
            Outcome::OtherVars
        } else {
            Outcome::Matched
        };
        let uri = String::from_utf8_lossy(self.pattern(candidate));
        steps.candidate(&candidate.rule.id, &uri, candidate.rule.priority, outcome);
        outcome == Outcome::Matched
    }
}

/// What stands before the value in an `Arc`'s allocation.
const ARC_BYTES: usize = 16;

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
            let admits = candidate.methods.intersects(self.asked.methods)
                && (!candidate.conditions
                    || (candidate.rule.takes(self.asked.remote) && candidate.rule.holds(&self.asked)));
            if admits {
                return Some(at);
            }
            at = candidate.next;
        }
        None
    }
}
