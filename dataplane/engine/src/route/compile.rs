//! Builds one host's index out of its patterns.
//!
//! Patterns are given in the order of their rules' ids. They are sorted by what they are searched under, so that each exact path and each
//! literal part is a run in which the order of the search stands already, and so that nodes that are visited together lie
//! together. Nothing is shared with other hosts: any of them can be built again alone.

use std::cmp::Reverse;
use std::sync::Arc;

use super::host::{Candidate, HostTable, SCANNED_MAX};
use super::nodes::Nodes;
use super::pattern::{self, Shape};
use super::rule::Shared;
use super::slots::{NONE, Slot, Slots, hash_text, tag_of, text};
use super::trie::hash_directory;

/// Collects the patterns of one host.
pub(super) struct Builder<T> {
    texts: Vec<u8>,
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
#[derive(Debug, Clone, Copy)]
struct Place {
    exact: bool,
    /// Of the exact path, or of the directory.
    hash: u64,
    /// Of what the literal part has beyond the directory.
    prefix_hash: u64,
    priority: i64,
    item: u32,
    start: u32,
    len: u32,
    directory_len: u32,
    literal_len: u32,
}

impl<T> Builder<T> {
    /// For that many patterns with that much text.
    pub(super) fn with_capacity(patterns: usize, text_bytes: usize) -> Builder<T> {
        Builder { texts: Vec::with_capacity(text_bytes), items: Vec::with_capacity(patterns) }
    }

    /// Makes room for these patterns. Most hosts of a table that has many get one rule, and then this is all they need.
    pub(super) fn reserve(&mut self, uris: &[Box<str>]) {
        self.items.reserve(uris.len());
        self.texts.reserve(uris.iter().map(|uri| uri.len() + 1).sum());
    }

    /// Adds a pattern, in the order of ids.
    pub(super) fn push(&mut self, rule: Arc<Shared<T>>, uri: &[u8], first_of_rule: bool) {
        let (start, len) = (number(self.texts.len()), number(uri.len()));
        self.texts.extend_from_slice(uri);
        // So that no two patterns begin at one place.
        self.texts.push(b'\n');
        self.items.push(Item { rule, start, len, first_of_rule });
    }

    /// How many patterns there are.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// So many builders of parts of the patterns, which keep their order.
    pub(super) fn part(self, count: usize, part_of: impl Fn(&[u8]) -> usize) -> Vec<Builder<T>> {
        let mut parts: Vec<Builder<T>> = Vec::new();
        parts.resize_with(count, || Builder::with_capacity(0, 0));
        let share = self.items.len() / count.max(1);
        for item in self.items {
            let pattern = text(&self.texts, item.start, item.len);
            let part = &mut parts[part_of(pattern)];
            if part.items.is_empty() {
                *part = Builder::with_capacity(share + share / 4, 0);
            }
            part.push(item.rule, pattern, item.first_of_rule);
        }
        parts
    }

    /// Whether there is nothing to build.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Builds the index.
    pub(super) fn finish(self) -> HostTable<T> {
        let texts = self.texts.into_boxed_slice();
        let items = self.items.iter().zip(0..);
        let mut places: Vec<Place> = items.map(|(item, index)| Place::of(item, index, &texts)).collect();
        places.sort_unstable_by_key(Place::order);
        part_collisions(&mut places, &texts);
        let mut items: Vec<Option<Item<T>>> = self.items.into_iter().map(Some).collect();
        let mut candidates: Vec<Candidate<T>> = Vec::with_capacity(places.len());
        let mut exact = Vec::new();
        let mut nodes = Nodes::new(&texts);
        let (mut root, mut group) = (NONE, NONE);
        for (rank, place) in places.iter().enumerate() {
            let Some(item) = items[place.item as usize].take() else { continue };
            let before = rank.checked_sub(1).map(|before| &places[before]);
            let same_directory = before.is_some_and(|before| place.shares(before, Place::directory, &texts));
            let same_literal =
                same_directory && before.is_some_and(|before| place.shares(before, Place::literal, &texts));
            let rank = number(rank);
            if place.exact && same_literal {
                if let Some(before) = candidates.last_mut() {
                    before.next = rank;
                }
            } else if place.exact {
                let slot = Slot { tag: tag_of(place.hash), value: rank, start: place.start, len: place.len };
                exact.push((place.hash, slot));
            } else {
                if !same_directory {
                    root = nodes.add_directory(place.hash, place.start, place.directory_len);
                }
                if !same_literal {
                    let prefix_len = place.literal_len - place.directory_len;
                    group = nodes.add_group(root, place.start + place.directory_len, prefix_len);
                }
                nodes.add_pattern(group, place.start, place.len);
            }
            candidates.push(item.candidate(place, group));
        }
        let exact_len = places.partition_point(|place| place.exact);
        let trie = nodes.finish(&mut candidates[exact_len..], number(exact_len));
        let exact = if exact_len > SCANNED_MAX { Slots::new(&exact) } else { Slots::default() };
        HostTable::new(texts, candidates.into_boxed_slice(), exact_len, exact, trie)
    }
}

impl<T> Item<T> {
    fn candidate(self, place: &Place, group: u32) -> Candidate<T> {
        let Item { rule, start, len, first_of_rule } = self;
        let (methods, conditions) = (rule.methods, rule.has_conditions());
        Candidate {
            rule,
            start,
            len,
            next: NONE,
            group,
            directory_len: place.directory_len,
            methods,
            conditions,
            first_of_rule,
        }
    }
}

impl Place {
    fn of<T>(item: &Item<T>, index: u32, texts: &[u8]) -> Place {
        let (start, len, priority) = (item.start, item.len, item.rule.priority);
        let pattern = text(texts, start, len);
        let (exact, directory, literal) = match pattern::shape(pattern) {
            Shape::Exact => (true, pattern, pattern),
            Shape::Tail { directory, literal } => (false, directory, literal),
        };
        Place {
            exact,
            hash: if exact { hash_text(pattern) } else { hash_directory(directory) },
            prefix_hash: hash_text(literal.get(directory.len()..).unwrap_or_default()),
            priority,
            item: index,
            start,
            len,
            directory_len: number(directory.len()),
            literal_len: number(literal.len()),
        }
    }

    fn order(&self) -> (bool, u64, u64, Reverse<i64>, Reverse<u32>, u32) {
        (!self.exact, self.hash, self.prefix_hash, Reverse(self.priority), Reverse(self.len), self.item)
    }

    fn directory<'t>(&self, texts: &'t [u8]) -> &'t [u8] {
        text(texts, self.start, self.directory_len)
    }

    fn literal<'t>(&self, texts: &'t [u8]) -> &'t [u8] {
        text(texts, self.start, self.literal_len)
    }

    /// Whether both are exact or both are not, and have this part in common.
    fn shares<'t>(&self, other: &Place, part: fn(&Place, &'t [u8]) -> &'t [u8], texts: &'t [u8]) -> bool {
        self.exact == other.exact && self.hash == other.hash && part(self, texts) == part(other, texts)
    }
}

/// Sorts runs of one hash by their texts where those differ, so that equal texts are neighbours also then.
fn part_collisions(places: &mut [Place], texts: &[u8]) {
    for run in places.chunk_by_mut(|a, b| (a.exact, a.hash) == (b.exact, b.hash)) {
        let sound = run.windows(2).all(|pair| match pair {
            [a, b] => {
                a.directory(texts) == b.directory(texts)
                    && (a.prefix_hash != b.prefix_hash || a.literal(texts) == b.literal(texts))
            }
            _ => true,
        });
        if !sound {
            run.sort_by(|a, b| {
                let by_text = a
                    .directory(texts)
                    .cmp(b.directory(texts))
                    .then_with(|| a.literal(texts).cmp(b.literal(texts)));
                by_text.then_with(|| a.order().cmp(&b.order()))
            });
        }
    }
}

/// A place in one host's texts or candidates. Frames are far smaller (`FRAME_BYTES_MAX`), so that the assertion cannot fail
/// on what came through one.
pub(super) fn number(value: usize) -> u32 {
    assert!(value < NONE as usize / 2, "one host's patterns are over 2 GiB");
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_that_collide_do_not_mix_patterns() {
        let texts = b"/b/:x/a/:x/b/:y/a/:z/a/p*/a/q*/a/p*";
        let place = |item, start, len, directory_len, literal_len, prefix_hash| Place {
            exact: false,
            hash: 1,
            prefix_hash,
            priority: 0,
            item,
            start,
            len,
            directory_len,
            literal_len,
        };
        let mut places = vec![
            place(0, 0, 5, 3, 3, 0),
            place(1, 5, 5, 3, 3, 0),
            place(2, 10, 5, 3, 3, 0),
            place(3, 15, 5, 3, 3, 0),
            place(4, 20, 5, 3, 4, 9),
            place(5, 25, 5, 3, 4, 9),
            place(6, 30, 5, 3, 4, 9),
        ];
        part_collisions(&mut places, texts);
        let items: Vec<u32> = places.iter().map(|place| place.item).collect();
        assert_eq!(items, [1, 3, 4, 6, 5, 0, 2]);
    }
}
