//! The patterns of one host that have a parameter or a star, found by their literal part.
//!
//! A hash table leads from every directory (`/a/b/`) in which some literal part ends to a node. Below it hang the prefixes
//! that end inside the next segment (`/a/b/foo*`) and, segment by segment, what follows a parameter. Every text that is looked up
//! is compared in full, so that a path made to collide in the hash finds nothing.
//!
//! Invariants: a number below the number of candidates is a candidate, and lower ones of the same group come first;
//! `Node::least` is not above any candidate below the node; `Node::lengths` are distinct and descend.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::captures::Scratch;
use super::pattern::first_segment;

/// No candidate, no node.
pub(super) const NONE: u32 = u32::MAX;

/// Where hashing a path begins.
pub(super) const HASH_START: u64 = 0x9e37_79b9_7f4a_7c15;

/// A directory or a run of whole segments below one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    /// The node one nonempty segment on, whatever the segment.
    pub(super) param: u32,
    /// First candidate whose pattern ends here.
    pub(super) end: u32,
    /// First candidate that takes any rest here.
    pub(super) rest: u32,
    /// Lowest candidate of this group here or further on.
    pub(super) least: u32,
    /// Which of [`Trie::lengths`] are the lengths of prefixes that end in the next segment.
    pub(super) lengths: u32,
}

impl Node {
    pub(super) const EMPTY: Node = Node { param: NONE, end: NONE, rest: NONE, least: NONE, lengths: NONE };
}

/// Leads from a directory to its node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Directory {
    pub(super) node: u32,
    pub(super) start: u32,
    pub(super) len: u32,
}

/// Leads from a node to the one a literal segment further on, or to the one of a prefix inside the segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) start: u32,
    pub(super) len: u32,
    pub(super) whole: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Trie {
    pub(super) directories: HashTable<Directory>,
    pub(super) nodes: Box<[Node]>,
    pub(super) edges: HashTable<Edge>,
    pub(super) lengths: Box<[Box<[u32]>]>,
    /// Slashes in the deepest directory.
    pub(super) depth_max: usize,
}

/// The candidates as the trie sees them.
pub(super) trait Candidates {
    /// The pattern texts that `start` and `len` point into.
    fn text(&self, start: u32, len: u32) -> &[u8];
    /// The first admitted candidate below `limit` of the chain that begins with `first`.
    fn admitted(&self, first: u32, limit: u32, steps: &mut u64) -> Option<u32>;
}

impl Trie {
    /// The candidate that takes the path.
    pub(super) fn find(&self, path: &[u8], host: &impl Candidates, scratch: &mut Scratch) -> Option<u32> {
        self.list_directories(path, &mut scratch.directories);
        while let Some((at, hash)) = scratch.directories.pop() {
            scratch.steps = scratch.steps.saturating_add(1);
            let Some(root) = self.directory(path, at, hash, host) else { continue };
            let rest = path.get(at..).unwrap_or_default();
            // A prefix that ends inside the next segment is a longer literal part than the directory.
            if let Some(found) = self
                .prefixes(root, rest, host, scratch)
                .or_else(|| self.find_below(root, path, at, host, scratch))
            {
                return Some(found);
            }
        }
        None
    }

    /// The nodes whose literal part begins the path, longest first, each with its lowest candidate.
    pub(super) fn groups(&self, path: &[u8], host: &impl Candidates) -> Vec<u32> {
        let mut scratch = Scratch::default();
        let mut groups = Vec::new();
        self.list_directories(path, &mut scratch.directories);
        while let Some((at, hash)) = scratch.directories.pop() {
            let Some(root) = self.directory(path, at, hash, host) else { continue };
            let segment = first_segment(path.get(at..).unwrap_or_default());
            for len in self.lengths_of(root, segment) {
                groups.extend(segment.get(..len).and_then(|text| self.edge(root, text, false, host)));
            }
            groups.push(root);
        }
        groups
            .into_iter()
            .filter_map(|node| self.node(node))
            .map(|node| node.least)
            .filter(|at| *at != NONE)
            .collect()
    }

    /// Bytes on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        let lists = self.lengths.iter().map(|list| size_of_val::<[u32]>(list)).sum::<usize>();
        self.directories.allocation_size()
            + self.edges.allocation_size()
            + size_of_val::<[Node]>(&self.nodes)
            + size_of_val::<[Box<[u32]>]>(&self.lengths)
            + lists
    }

    fn list_directories(&self, path: &[u8], directories: &mut smallvec::SmallVec<[(usize, u64); 16]>) {
        directories.clear();
        let (mut at, mut hash) = (0, HASH_START);
        directories.push((at, hash));
        for slash in memchr::memchr_iter(b'/', path).take(self.depth_max) {
            let end = slash.saturating_add(1);
            hash = hash_next(hash, path.get(at..end).unwrap_or_default());
            at = end;
            directories.push((at, hash));
        }
    }

    /// What is below a directory: parameters, and stars right behind its slash.
    fn find_below(
        &self,
        root: u32,
        path: &[u8],
        at: usize,
        host: &impl Candidates,
        scratch: &mut Scratch,
    ) -> Option<u32> {
        let node = self.node(root)?;
        let mut best = host.admitted(node.rest, NONE, &mut scratch.steps).unwrap_or(NONE);
        scratch.visits.clear();
        push_param(node, path, at, scratch);
        while let Some((number, end)) = scratch.visits.pop() {
            scratch.steps = scratch.steps.saturating_add(1);
            let Some(node) = self.node(number).filter(|node| node.least < best) else { continue };
            if end >= path.len() {
                best = host.admitted(node.end, best, &mut scratch.steps).unwrap_or(best);
                continue;
            }
            let at = end.saturating_add(1);
            let rest = path.get(at..).unwrap_or_default();
            best = host.admitted(node.rest, best, &mut scratch.steps).unwrap_or(best);
            best = self.prefixes_below(number, rest, best, host, scratch);
            push_param(node, path, at, scratch);
            let segment = first_segment(rest);
            if let Some(child) = self.edge(number, segment, true, host) {
                scratch.visits.push((child, at.saturating_add(segment.len())));
            }
        }
        Some(best).filter(|best| *best != NONE)
    }

    /// The first admitted among prefixes that end in the segment that `rest` begins with, longest first.
    fn prefixes(&self, from: u32, rest: &[u8], host: &impl Candidates, scratch: &mut Scratch) -> Option<u32> {
        let segment = first_segment(rest);
        self.lengths_of(from, segment).find_map(|len| {
            scratch.steps = scratch.steps.saturating_add(1);
            let to = self.node(self.edge(from, segment.get(..len)?, false, host)?)?;
            host.admitted(to.rest, NONE, &mut scratch.steps)
        })
    }

    /// The same below a parameter, where all are of one group: the lowest counts, not the longest.
    fn prefixes_below(
        &self,
        from: u32,
        rest: &[u8],
        best: u32,
        host: &impl Candidates,
        scratch: &mut Scratch,
    ) -> u32 {
        let segment = first_segment(rest);
        self.lengths_of(from, segment).fold(best, |best, len| {
            scratch.steps = scratch.steps.saturating_add(1);
            let to = segment.get(..len).and_then(|text| self.edge(from, text, false, host));
            to.and_then(|to| self.node(to))
                .and_then(|to| host.admitted(to.rest, best, &mut scratch.steps))
                .unwrap_or(best)
        })
    }

    fn lengths_of(&self, node: u32, segment: &[u8]) -> impl Iterator<Item = usize> {
        let list = self.node(node).and_then(|node| self.lengths.get(node.lengths as usize));
        let len_max = segment.len();
        list.into_iter().flatten().map(|len| *len as usize).filter(move |len| *len <= len_max)
    }

    fn node(&self, number: u32) -> Option<&Node> {
        self.nodes.get(number as usize)
    }

    fn directory(&self, path: &[u8], end: usize, hash: u64, host: &impl Candidates) -> Option<u32> {
        let text = path.get(..end)?;
        let found = self.directories.find(hash, |entry| host.text(entry.start, entry.len) == text)?;
        Some(found.node)
    }

    fn edge(&self, from: u32, text: &[u8], whole: bool, host: &impl Candidates) -> Option<u32> {
        let found = self.edges.find(hash_edge(from, text, whole), |edge| {
            edge.from == from && edge.whole == whole && host.text(edge.start, edge.len) == text
        })?;
        Some(found.to)
    }
}

fn push_param(node: &Node, path: &[u8], at: usize, scratch: &mut Scratch) {
    let segment = first_segment(path.get(at..).unwrap_or_default());
    if node.param != NONE && !segment.is_empty() {
        scratch.visits.push((node.param, at.saturating_add(segment.len())));
    }
}

/// The hash of a text.
pub(super) fn hash_text(text: &[u8]) -> u64 {
    let mut hasher = FixedState::with_seed(HASH_START).build_hasher();
    hasher.write(text);
    hasher.finish()
}

/// The hash of a directory from that of the one it lies in.
pub(super) fn hash_next(hash: u64, segment: &[u8]) -> u64 {
    let mut hasher = FixedState::with_seed(hash).build_hasher();
    hasher.write(segment);
    hasher.finish()
}

/// The hash of a directory's text.
pub(super) fn hash_directory(directory: &[u8]) -> u64 {
    directory.split_inclusive(|byte| *byte == b'/').fold(HASH_START, hash_next)
}

pub(super) fn hash_edge(from: u32, text: &[u8], whole: bool) -> u64 {
    hash_next(u64::from(from) << 1 | u64::from(whole), text)
}
