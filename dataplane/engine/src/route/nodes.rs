//! A trie while it is built.
//!
//! Directories, their groups and the groups' patterns are added in the order of the search, and nodes are made on the way; the chains of
//! candidates are linked at the end, from the last to the first.

use std::cmp::Reverse;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::compile::number;
use super::host::Candidate;
use super::pattern::{self, Piece, Shape};
use super::slots::{NONE, Slot, Slots, tag_of, text};
use super::trie::{Edge, Extra, Node, Spot, Trie, edge_tag, hash_edge};

/// See the module's documentation.
pub(super) struct Nodes<'t> {
    texts: &'t [u8],
    nodes: Vec<Node>,
    /// Each node's parent, up to the group's own node.
    parents: Vec<u32>,
    directories: Vec<(u64, Slot)>,
    edges: HashTable<Slot>,
    extras: Vec<Vec<u32>>,
    /// Where each pattern ends: its node, and whether it takes any rest there. Those of runs have no node.
    ends: Vec<(u32, bool)>,
}

impl<'t> Nodes<'t> {
    pub(super) fn new(texts: &'t [u8]) -> Nodes<'t> {
        Nodes {
            texts,
            nodes: Vec::new(),
            parents: Vec::new(),
            directories: Vec::new(),
            edges: HashTable::new(),
            extras: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// A directory that was not added before, whose patterns are the candidates from `first` on.
    pub(super) fn add_run(&mut self, hash: u64, (start, len): (u32, u32), first: u32, patterns: usize) {
        let value = Spot::Run(first).value();
        self.directories.push((hash, Slot { tag: tag_of(hash), value, start, len }));
        self.ends.extend(std::iter::repeat_n((NONE, true), patterns));
    }

    /// A directory that was not added before.
    pub(super) fn add_directory(&mut self, hash: u64, (start, len): (u32, u32)) -> u32 {
        let root = self.node(NONE);
        let value = Spot::Node(root).value();
        self.directories.push((hash, Slot { tag: tag_of(hash), value, start, len }));
        root
    }

    /// The node of the patterns whose literal part is the directory and that prefix of a segment.
    pub(super) fn add_group(&mut self, root: u32, start: u32, len: u32) -> u32 {
        if len == 0 {
            return root;
        }
        let group = self.child(root, start, len, false);
        // What is below is a group of its own.
        self.parents[group as usize] = NONE;
        group
    }

    /// The next pattern of a group.
    pub(super) fn add_pattern(&mut self, group: u32, start: u32, len: u32) {
        let pattern = text(self.texts, start, len);
        let Shape::Tail { directory, literal } = pattern::shape(pattern) else { return };
        if literal.len() > directory.len() {
            self.ends.push((group, true));
            return;
        }
        let mut node = group;
        let mut rest = false;
        let mut at = start + number(directory.len());
        for piece in pattern::pieces(pattern, directory.len()) {
            match piece {
                Piece::Rest(_) => rest = true,
                Piece::Prefix(text) => {
                    node = self.child(node, at, number(text.len()), false);
                    rest = true;
                }
                Piece::Param(name) => {
                    node = self.param(node);
                    at += number(name.len()) + 2;
                }
                Piece::Literal(text) => {
                    node = self.child(node, at, number(text.len()), true);
                    at += number(text.len()) + 1;
                }
            }
        }
        self.ends.push((node, rest));
    }

    /// Links the candidates, which are the patterns that were added, numbered from `first` on.
    pub(super) fn finish<T>(mut self, candidates: &mut [Candidate<T>], first: u32) -> Option<Trie> {
        if self.directories.is_empty() {
            return None;
        }
        for (index, (candidate, (end, rest))) in candidates.iter_mut().zip(&self.ends).enumerate().rev() {
            if *end == NONE {
                continue;
            }
            let rank = first + number(index);
            let node = &mut self.nodes[*end as usize];
            let head = if *rest { &mut node.rest } else { &mut node.end };
            candidate.next = std::mem::replace(head, rank);
            let mut above = *end;
            while above != NONE {
                self.nodes[above as usize].least = rank;
                above = self.parents[above as usize];
            }
        }
        let edges = self.edges.iter().map(|edge| (self.hash(edge), *edge)).collect::<Vec<_>>();
        let extras = self.extras.into_iter();
        Some(Trie {
            directories: Slots::new(&self.directories),
            nodes: self.nodes.into_boxed_slice(),
            edges: Slots::new(&edges),
            extras: extras.map(|lengths| Extra { lengths: lengths.into() }).collect(),
        })
    }

    fn node(&mut self, parent: u32) -> u32 {
        let node = number(self.nodes.len());
        self.nodes.push(Node::EMPTY);
        self.parents.push(parent);
        node
    }

    fn param(&mut self, from: u32) -> u32 {
        let known = self.nodes[from as usize].param;
        if known != NONE {
            return known;
        }
        let param = self.node(from);
        self.nodes[from as usize].param = param;
        param
    }

    fn child(&mut self, from: u32, start: u32, len: u32, whole: bool) -> u32 {
        let wanted = text(self.texts, start, len);
        let own = self.nodes[from as usize].own;
        if own.to == NONE {
            let child = self.node(from);
            self.nodes[from as usize].own = Edge { to: edge_tag(child, whole), start, len };
            return child;
        }
        if let Some(child) = own.follow(wanted, whole, self.texts) {
            return child;
        }
        let tag = edge_tag(from, whole);
        let next = number(self.nodes.len());
        let of = |edge: &Slot| text(self.texts, edge.start, edge.len);
        let hash_of = |edge: &Slot| hash_edge(edge.tag, of(edge));
        match self.edges.entry(hash_edge(tag, wanted), |edge| edge.tag == tag && of(edge) == wanted, hash_of)
        {
            Entry::Occupied(found) => return found.get().value,
            Entry::Vacant(vacant) => drop(vacant.insert(Slot { tag, value: next, start, len })),
        }
        let lengths = self.lengths(from);
        if !whole && let Err(place) = lengths.binary_search_by_key(&Reverse(len), |known| Reverse(*known)) {
            lengths.insert(place, len);
        }
        self.node(from)
    }

    /// The lengths of a node's prefixes; from now on they stand apart from its own edge.
    fn lengths(&mut self, node: u32) -> &mut Vec<u32> {
        let next = number(self.extras.len());
        let node = &mut self.nodes[node as usize];
        if node.extra == NONE {
            node.extra = next;
            self.extras.push(Vec::from_iter(node.own.prefix_len()));
        }
        &mut self.extras[node.extra as usize]
    }

    fn hash(&self, edge: &Slot) -> u64 {
        hash_edge(edge.tag, text(self.texts, edge.start, edge.len))
    }
}
