//! The patterns of one host that have a parameter or a star, found by their literal part.
//!
//! A hash table leads from every directory (`/a/b/`) in which some literal part ends to its patterns. Few of them are a run of candidates in the
//! order of the search, which are compared one by one: a node for each of their segments would be as many further places in memory.
//! More hang below a node: the prefixes that end inside the next segment (`/a/b/foo*`) and, segment by segment, what follows a
//! parameter. A node keeps its first literal segment or prefix itself; only further ones are hashed.
//!
//! Invariants: a number below the number of candidates is a candidate, and lower ones of the same group come first;
//! `Node::least` is not above any candidate of its group at the node or below; `Extra::lengths` are distinct and descend.

use super::captures::Scratch;
use super::pattern::first_segment;
use super::slots::{HASH_START, NONE, Slots, hash_next, hash_to_slash, tag_of, text};

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
    /// The edge that was made first.
    pub(super) own: Edge,
    /// What few nodes have.
    pub(super) extra: u32,
}

/// Leads a literal segment further, or to where a prefix ends inside the next segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    /// [`edge_tag`] of the node it leads to; [`NONE`]: there is no edge.
    pub(super) to: u32,
    pub(super) start: u32,
    pub(super) len: u32,
}

/// What a node with more than one edge has.
#[derive(Debug, Default)]
pub(super) struct Extra {
    /// Lengths of all its prefixes.
    pub(super) lengths: Box<[u32]>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Trie {
    pub(super) directories: Slots,
    pub(super) nodes: Box<[Node]>,
    /// Literal segments and prefixes, by [`edge_tag`].
    pub(super) edges: Slots,
    pub(super) extras: Box<[Extra]>,
}

/// Where the patterns of a directory are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Spot {
    /// The first candidate of a run.
    Run(u32),
    /// A node.
    Node(u32),
}

/// In a directory's value: it is a candidate, not a node.
const RUN: u32 = 1 << 31;

/// The candidates as the trie sees them.
pub(super) trait Candidates {
    /// The texts of the host's patterns.
    fn texts(&self) -> &[u8];
    /// The first admitted candidate below `limit` of the chain that begins with `first`.
    fn admitted(&self, first: u32, limit: u32, steps: &mut u64) -> Option<u32>;
}

impl Node {
    pub(super) const EMPTY: Node = Node {
        param: NONE,
        end: NONE,
        rest: NONE,
        least: NONE,
        own: Edge { to: NONE, start: 0, len: 0 },
        extra: NONE,
    };
}

impl Edge {
    /// Where it leads if it is of this kind and text.
    pub(super) fn follow(&self, wanted: &[u8], whole: bool, texts: &[u8]) -> Option<u32> {
        let fits = self.to != NONE && self.is_whole() == whole && text(texts, self.start, self.len) == wanted;
        fits.then_some(self.to >> 1)
    }

    /// The length of its text if it is a prefix.
    pub(super) fn prefix_len(&self) -> Option<u32> {
        (self.to != NONE && !self.is_whole()).then_some(self.len)
    }

    fn is_whole(&self) -> bool {
        self.to & 1 == 1
    }
}

impl Spot {
    /// As a directory's value; numbers are below 2^31.
    pub(super) fn value(self) -> u32 {
        match self {
            Spot::Run(first) => first | RUN,
            Spot::Node(number) => number,
        }
    }

    fn of(value: u32) -> Spot {
        if value & RUN == 0 { Spot::Node(value) } else { Spot::Run(value & !RUN) }
    }
}

impl Trie {
    /// Where the patterns are whose literal part ends in this directory of the path.
    pub(super) fn spot(&self, path: &[u8], (end, hash): Directory, texts: &[u8]) -> Option<Spot> {
        self.directories.find(hash, tag_of(hash), path.get(..end)?, texts).map(Spot::of)
    }

    /// The candidate that takes the path, among those at and below the node of a directory of it.
    pub(super) fn find_from(
        &self,
        number: u32,
        path: &[u8],
        at: usize,
        host: &impl Candidates,
        scratch: &mut Scratch,
    ) -> Option<u32> {
        let root = self.node(number)?;
        let rest = path.get(at..).unwrap_or_default();
        // A prefix that ends inside the next segment is a longer literal part than the directory.
        self.prefixes(number, root, rest, host, scratch)
            .or_else(|| self.find_below(root, path, at, host, scratch))
    }

    /// The first candidates of the groups at a directory's node whose literal part begins the path, longest literal part first.
    pub(super) fn groups_in(&self, root: u32, path: &[u8], at: usize, texts: &[u8]) -> Vec<u32> {
        let Some(node) = self.node(root) else { return Vec::new() };
        let segment = first_segment(path.get(at..).unwrap_or_default());
        let prefixes = self
            .lengths_of(node, segment)
            .filter_map(|len| self.edge(root, node, segment.get(..len)?, false, texts));
        let groups = prefixes.chain([root]).filter_map(|group| self.node(group)).map(|node| node.least);
        groups.filter(|at| *at != NONE).collect()
    }

    /// Bytes on the heap.
    pub(super) fn memory_bytes(&self) -> usize {
        let lengths = self.extras.iter().map(|extra| size_of_val::<[u32]>(&extra.lengths));
        self.directories.memory_bytes()
            + self.edges.memory_bytes()
            + size_of_val::<[Node]>(&self.nodes)
            + size_of_val::<[Extra]>(&self.extras)
            + lengths.sum::<usize>()
    }

    /// Lists where directories of the path end, with their hashes. Whether one may be ours is only noted: a branch on it would wait
    /// for memory, and here all of it is asked for at once.
    pub(super) fn list_directories(&self, path: &[u8], depths: Depths, scratch: &mut Scratch) {
        scratch.directories.clear();
        for (at, hash) in directories(path, depths) {
            scratch.directories.push((at, hash, self.directories.may_hold(hash)));
        }
    }

    /// What is below a directory: parameters, and stars right behind its slash.
    fn find_below(
        &self,
        root: &Node,
        path: &[u8],
        at: usize,
        host: &impl Candidates,
        scratch: &mut Scratch,
    ) -> Option<u32> {
        let mut best = host.admitted(root.rest, NONE, &mut scratch.steps).unwrap_or(NONE);
        scratch.visits.clear();
        push_param(root, path, at, scratch);
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
            best = self.prefixes_below(number, node, rest, best, host, scratch);
            push_param(node, path, at, scratch);
            let segment = first_segment(rest);
            if let Some(child) = self.edge(number, node, segment, true, host.texts()) {
                scratch.visits.push((child, at.saturating_add(segment.len())));
            }
        }
        Some(best).filter(|best| *best != NONE)
    }

    /// The first admitted among prefixes that end in the segment that `rest` begins with, longest first.
    fn prefixes(
        &self,
        from: u32,
        node: &Node,
        rest: &[u8],
        host: &impl Candidates,
        scratch: &mut Scratch,
    ) -> Option<u32> {
        let segment = first_segment(rest);
        self.lengths_of(node, segment).find_map(|len| {
            scratch.steps = scratch.steps.saturating_add(1);
            let to = self.node(self.edge(from, node, segment.get(..len)?, false, host.texts())?)?;
            host.admitted(to.rest, NONE, &mut scratch.steps)
        })
    }

    /// The same below a parameter, where all are of one group: the lowest counts, not the longest.
    fn prefixes_below(
        &self,
        from: u32,
        node: &Node,
        rest: &[u8],
        best: u32,
        host: &impl Candidates,
        scratch: &mut Scratch,
    ) -> u32 {
        let segment = first_segment(rest);
        self.lengths_of(node, segment).fold(best, |best, len| {
            scratch.steps = scratch.steps.saturating_add(1);
            let to = segment.get(..len).and_then(|prefix| self.edge(from, node, prefix, false, host.texts()));
            to.and_then(|to| self.node(to))
                .and_then(|to| host.admitted(to.rest, best, &mut scratch.steps))
                .unwrap_or(best)
        })
    }

    /// Lengths of a node's prefixes that are no longer than the segment, longest first.
    fn lengths_of(&self, node: &Node, segment: &[u8]) -> impl Iterator<Item = usize> {
        let extra = self.extras.get(node.extra as usize);
        let own = if extra.is_none() { node.own.prefix_len() } else { None };
        let lengths = extra.map(|extra| &*extra.lengths).unwrap_or_default().iter().copied();
        let len_max = segment.len();
        own.into_iter().chain(lengths).map(|len| len as usize).filter(move |len| *len <= len_max)
    }

    fn node(&self, number: u32) -> Option<&Node> {
        self.nodes.get(number as usize)
    }

    fn edge(&self, from: u32, node: &Node, wanted: &[u8], whole: bool, texts: &[u8]) -> Option<u32> {
        if let Some(to) = node.own.follow(wanted, whole, texts) {
            return Some(to);
        }
        if node.extra == NONE {
            return None;
        }
        let tag = edge_tag(from, whole);
        self.edges.find(hash_edge(tag, wanted), tag, wanted, texts)
    }
}

/// Where a directory of a path ends, and its hash.
pub(super) type Directory = (usize, u64);

/// How deep directories lie, in slashes. Others than those need not be asked for, and so no memory for them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Depths {
    /// A bit for each depth; the last one stands for all deeper ones too.
    some: u64,
    max: u32,
}

impl Depths {
    pub(super) fn of(directory: &[u8]) -> Depths {
        let slashes = memchr::memchr_iter(b'/', directory).count();
        let max = u32::try_from(slashes).unwrap_or(u32::MAX - 1);
        Depths { some: 1 << max.min(63), max }
    }

    pub(super) fn and(self, other: Depths) -> Depths {
        Depths { some: self.some | other.some, max: self.max.max(other.max) }
    }

    fn has(self, depth: u32) -> bool {
        self.some >> depth.min(63) & 1 == 1
    }
}

/// The directories of a path that are as deep as one of those, from the shortest on.
pub(super) fn directories(path: &[u8], depths: Depths) -> Directories<'_> {
    Directories { path, depths, next: 0, at: 0, hash: HASH_START }
}

/// See [`directories`].
pub(super) struct Directories<'p> {
    path: &'p [u8],
    depths: Depths,
    /// The depth of the next one.
    next: u32,
    at: usize,
    hash: u64,
}

impl Iterator for Directories<'_> {
    type Item = Directory;

    #[inline]
    fn next(&mut self) -> Option<Directory> {
        while self.next <= self.depths.max {
            if self.next > 0 {
                let (len, hash) = hash_to_slash(self.hash, self.path.get(self.at..)?)?;
                self.at = self.at.saturating_add(len);
                self.hash = hash;
            }
            let depth = self.next;
            self.next = depth.saturating_add(1);
            if self.depths.has(depth) {
                return Some((self.at, self.hash));
            }
        }
        None
    }
}

/// Stands for a node and for the kind of an edge: a whole segment, or a prefix that ends inside one.
pub(super) fn edge_tag(from: u32, whole: bool) -> u32 {
    from << 1 | u32::from(whole)
}

/// The hash of an edge.
pub(super) fn hash_edge(tag: u32, text: &[u8]) -> u64 {
    hash_next(u64::from(tag), text)
}

/// The hash of a directory's text.
pub(super) fn hash_directory(directory: &[u8]) -> u64 {
    directory.split_inclusive(|byte| *byte == b'/').fold(HASH_START, hash_next)
}

fn push_param(node: &Node, path: &[u8], at: usize, scratch: &mut Scratch) {
    let segment = first_segment(path.get(at..).unwrap_or_default());
    if node.param != NONE && !segment.is_empty() {
        scratch.visits.push((node.param, at.saturating_add(segment.len())));
    }
}
