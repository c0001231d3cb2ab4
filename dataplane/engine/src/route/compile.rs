//! Builds one host's index out of its patterns.
//!
//! Patterns are given in the order of their rules' ids. Time is that of sorting them; nothing is shared with other hosts, so that
//! any of them can be built again alone.

use std::cmp::Reverse;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::host::{Candidate, HostTable};
use super::pattern::{self, Piece, Shape};
use super::rule::Shared;
use super::trie::{Directory, Edge, NONE, Node, Trie, hash_directory, hash_edge, hash_text};

/// Collects the patterns of one host.
pub(super) struct Builder<T> {
    text: Vec<u8>,
    items: Vec<Item<T>>,
}

struct Item<T> {
    rule: Arc<Shared<T>>,
    start: u32,
    len: u32,
    /// One of a rule's patterns is, over all hosts.
    first_of_rule: bool,
}

/// Where a pattern stands in the order of the search.
#[derive(Clone, Copy)]
struct Slot {
    exact: bool,
    group: u32,
    priority: i64,
    len: u32,
    item: u32,
}

impl<T> Default for Builder<T> {
    fn default() -> Self {
        Builder { text: Vec::new(), items: Vec::new() }
    }
}

impl<T> Builder<T> {
    /// For that many patterns with that much text.
    pub(super) fn with_capacity(patterns: usize, text_bytes: usize) -> Builder<T> {
        Builder { text: Vec::with_capacity(text_bytes), items: Vec::with_capacity(patterns) }
    }

    /// Adds a pattern, in the order of ids.
    pub(super) fn push(&mut self, rule: Arc<Shared<T>>, uri: &[u8], first_of_rule: bool) {
        let (start, len) = (number(self.text.len()), number(uri.len()));
        self.text.extend_from_slice(uri);
        self.items.push(Item { rule, start, len, first_of_rule });
    }

    /// Whether there is nothing to build.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Builds the index.
    pub(super) fn finish(self) -> HostTable<T> {
        let text = self.text.into_boxed_slice();
        let mut growing = Growing::new(&text);
        let mut slots = Vec::with_capacity(self.items.len());
        for (index, item) in self.items.iter().enumerate() {
            let (exact, group) = growing.group(item.start, item.len);
            slots.push(Slot {
                exact,
                group,
                priority: item.rule.priority,
                len: item.len,
                item: number(index),
            });
        }
        slots.sort_unstable_by_key(|slot| {
            (!slot.exact, slot.group, Reverse(slot.priority), Reverse(slot.len), slot.item)
        });
        let mut candidates = candidates(self.items, &slots);
        // From the last to the first, so that each goes in front of its chain.
        for (rank, slot) in slots.iter().enumerate().rev() {
            let candidate = &mut candidates[rank];
            let head = growing.head(slot, candidate.start, candidate.len, number(rank));
            candidate.next = std::mem::replace(head, number(rank));
        }
        let (exact, trie) = growing.finish();
        HostTable::new(text, candidates.into_boxed_slice(), exact, trie)
    }
}

fn candidates<T>(items: Vec<Item<T>>, slots: &[Slot]) -> Vec<Candidate<T>> {
    let mut items: Vec<Option<Item<T>>> = items.into_iter().map(Some).collect();
    let in_order = slots.iter().filter_map(|slot| {
        let Item { rule, start, len, first_of_rule } = items[slot.item as usize].take()?;
        let (methods, remotes) = (rule.methods, !rule.remotes.is_empty());
        let group = if slot.exact { NONE } else { slot.group };
        Some(Candidate {
            rule,
            start,
            len,
            next: NONE,
            group,
            item: slot.item,
            methods,
            remotes,
            first_of_rule,
        })
    });
    in_order.collect()
}

/// The index while it is built.
struct Growing<'t> {
    text: &'t [u8],
    exact: HashTable<u32>,
    exact_groups: Vec<ExactGroup>,
    directories: HashTable<Directory>,
    nodes: Vec<Node>,
    edges: HashTable<Edge>,
    lengths: Vec<Vec<u32>>,
    depth_max: usize,
}

struct ExactGroup {
    start: u32,
    len: u32,
    head: u32,
}

impl<'t> Growing<'t> {
    fn new(text: &'t [u8]) -> Growing<'t> {
        Growing {
            text,
            exact: HashTable::new(),
            exact_groups: Vec::new(),
            directories: HashTable::new(),
            nodes: Vec::new(),
            edges: HashTable::new(),
            lengths: Vec::new(),
            depth_max: 0,
        }
    }

    /// What a pattern is searched under: an exact path (`true`) or the node where its literal part ends.
    fn group(&mut self, start: u32, len: u32) -> (bool, u32) {
        let pattern = slice(self.text, start, len);
        let Shape::Tail { literal, directory } = pattern::shape(pattern) else {
            return (true, self.exact_group(start, len));
        };
        let root = self.directory(start, number(directory.len()));
        let prefix_bytes = literal.len() - directory.len();
        if prefix_bytes == 0 {
            return (false, root);
        }
        (false, self.child(root, start + number(directory.len()), number(prefix_bytes), false))
    }

    /// Where the chain of a candidate begins. Its nodes are made on the way and told of the candidate.
    fn head(&mut self, slot: &Slot, start: u32, len: u32, rank: u32) -> &mut u32 {
        if slot.exact {
            return &mut self.exact_groups[slot.group as usize].head;
        }
        let pattern = slice(self.text, start, len);
        let Shape::Tail { literal, directory } = pattern::shape(pattern) else {
            unreachable!("a pattern keeps its shape");
        };
        let mut node = slot.group;
        self.nodes[node as usize].least = rank;
        if literal.len() > directory.len() {
            return &mut self.nodes[node as usize].rest;
        }
        let mut at = start + number(directory.len());
        for piece in pattern::pieces(pattern, directory) {
            match piece {
                Piece::Rest(_) => return &mut self.nodes[node as usize].rest,
                Piece::Prefix(text) => {
                    let child = self.child(node, at, number(text.len()), false);
                    self.nodes[child as usize].least = rank;
                    return &mut self.nodes[child as usize].rest;
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
            self.nodes[node as usize].least = rank;
        }
        &mut self.nodes[node as usize].end
    }

    fn exact_group(&mut self, start: u32, len: u32) -> u32 {
        let Growing { text, exact, exact_groups, .. } = self;
        let path = slice(text, start, len);
        let of = |group: &u32| {
            let group = &exact_groups[*group as usize];
            slice(text, group.start, group.len)
        };
        match exact.entry(hash_text(path), |group| of(group) == path, |group| hash_text(of(group))) {
            Entry::Occupied(found) => *found.get(),
            Entry::Vacant(vacant) => {
                let group = number(exact_groups.len());
                vacant.insert(group);
                exact_groups.push(ExactGroup { start, len, head: NONE });
                group
            }
        }
    }

    fn directory(&mut self, start: u32, len: u32) -> u32 {
        let Growing { text, directories, nodes, depth_max, .. } = self;
        let wanted = slice(text, start, len);
        let of = |entry: &Directory| slice(text, entry.start, entry.len);
        match directories.entry(
            hash_directory(wanted),
            |entry| of(entry) == wanted,
            |entry| hash_directory(of(entry)),
        ) {
            Entry::Occupied(found) => found.get().node,
            Entry::Vacant(vacant) => {
                let node = number(nodes.len());
                vacant.insert(Directory { node, start, len });
                nodes.push(Node::EMPTY);
                *depth_max = (*depth_max).max(memchr::memchr_iter(b'/', wanted).count());
                node
            }
        }
    }

    fn child(&mut self, from: u32, start: u32, len: u32, whole: bool) -> u32 {
        let Growing { text, edges, nodes, .. } = self;
        let wanted = slice(text, start, len);
        let of = |edge: &Edge| slice(text, edge.start, edge.len);
        let entry = edges.entry(
            hash_edge(from, wanted, whole),
            |edge| edge.from == from && edge.whole == whole && of(edge) == wanted,
            |edge| hash_edge(edge.from, of(edge), edge.whole),
        );
        let to = match entry {
            Entry::Occupied(found) => return found.get().to,
            Entry::Vacant(vacant) => {
                let to = number(nodes.len());
                vacant.insert(Edge { from, to, start, len, whole });
                nodes.push(Node::EMPTY);
                to
            }
        };
        if !whole {
            self.note_length(from, len);
        }
        to
    }

    fn param(&mut self, from: u32) -> u32 {
        let next = number(self.nodes.len());
        let param = &mut self.nodes[from as usize].param;
        if *param != NONE {
            return *param;
        }
        *param = next;
        self.nodes.push(Node::EMPTY);
        next
    }

    fn note_length(&mut self, node: u32, len: u32) {
        let next = number(self.lengths.len());
        let list = &mut self.nodes[node as usize].lengths;
        if *list == NONE {
            *list = next;
            self.lengths.push(Vec::new());
        }
        let list = &mut self.lengths[*list as usize];
        if let Err(place) = list.binary_search_by_key(&Reverse(len), |known| Reverse(*known)) {
            list.insert(place, len);
        }
    }

    /// The exact paths with their first candidates, and the rest where there is any.
    fn finish(self) -> (HashTable<u32>, Option<Box<Trie>>) {
        let Growing { text, mut exact, exact_groups, mut directories, nodes, mut edges, lengths, depth_max } =
            self;
        exact.shrink_to_fit(|group| {
            let group = &exact_groups[*group as usize];
            hash_text(slice(text, group.start, group.len))
        });
        for value in &mut exact {
            *value = exact_groups[*value as usize].head;
        }
        if nodes.is_empty() {
            return (exact, None);
        }
        directories.shrink_to_fit(|entry| hash_directory(slice(text, entry.start, entry.len)));
        edges.shrink_to_fit(|edge| hash_edge(edge.from, slice(text, edge.start, edge.len), edge.whole));
        let lengths = lengths.into_iter().map(Vec::into_boxed_slice).collect();
        let nodes = nodes.into_boxed_slice();
        (exact, Some(Box::new(Trie { directories, nodes, edges, lengths, depth_max })))
    }
}

fn slice(text: &[u8], start: u32, len: u32) -> &[u8] {
    let start = start as usize;
    &text[start..start + len as usize]
}

/// A place in one host's text or candidates. Frames are far smaller (`FRAME_BYTES_MAX`), so that the assertion cannot fail
/// on what came through one.
fn number(value: usize) -> u32 {
    assert!(value < NONE as usize, "one host's patterns are over 4 GiB");
    value as u32
}
