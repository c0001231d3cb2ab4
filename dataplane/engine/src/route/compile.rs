//! Builds one host's index out of its patterns.
//!
//! Patterns are given in the order of their rules' ids. They are sorted by what they are searched under, so that each exact path and each
//! literal part is a run in which the order of the search stands already, and so that nodes that are visited together lie
//! together. Nothing is shared with other hosts: any of them can be built again alone.

use std::cmp::Reverse;
use std::sync::Arc;

use super::host::{Candidate, HostTable, RUN_MAX, SCANNED_MAX, TAILS_SCANNED_MAX};
use super::nodes::Nodes;
use super::pattern::{self, Shape};
use super::rule::Shared;
use super::slots::{NONE, Slot, Slots, hash_text, tag_of, text};
use super::trie::{Depths, Trie, hash_directory};

/// Collects the patterns of one host.
pub(super) struct Builder<T> {
    texts: Vec<u8>,
    items: Vec<Item<T>>,
}

struct Item<T> {
    rule: Arc<Shared>,
    payload: T,
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

/// The order within one literal part: by priority, length and id.
type Rank = (Reverse<i64>, Reverse<u32>, u32);

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
    pub(super) fn push(&mut self, rule: Arc<Shared>, payload: T, uri: &[u8], first_of_rule: bool) {
        let (start, len) = (number(self.texts.len()), number(uri.len()));
        self.texts.extend_from_slice(uri);
        // So that no two patterns begin at one place.
        self.texts.push(b'\n');
        self.items.push(Item { rule, payload, start, len, first_of_rule });
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
            part.push(item.rule, item.payload, pattern, item.first_of_rule);
        }
        parts
    }

    /// Whether there is nothing to build.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Builds the index.
    pub(super) fn finish(self) -> HostTable<T> {
        let texts = self.texts;
        let items = self.items.iter().zip(0..);
        let mut places: Vec<Place> = items.map(|(item, index)| Place::of(item, index, &texts)).collect();
        places.sort_unstable_by_key(Place::order);
        part_collisions(&mut places, &texts);
        let exact_len = places.partition_point(|place| place.exact);
        let (exact, tails) = places.split_at_mut(exact_len);
        if tails.len() <= TAILS_SCANNED_MAX {
            tails.sort_by_key(Place::order_by_literal);
        }
        let depths = tails.iter().map(|place| Depths::of(place.directory(&texts)));
        let depths = depths.fold(Depths::default(), Depths::and);
        let mut items: Vec<Option<Item<T>>> = self.items.into_iter().map(Some).collect();
        let mut candidates: Vec<Candidate<T>> = Vec::with_capacity(exact.len() + tails.len());
        candidates.extend(exact.iter().chain(&*tails).filter_map(|place| {
            let item = items[place.item as usize].take()?;
            Some(item.candidate(place))
        }));
        let exact = chain_exact(exact, &texts, &mut candidates);
        let mut trie = None;
        if tails.len() > TAILS_SCANNED_MAX {
            trie = chain_tails(tails, &texts, &mut candidates[exact_len..], number(exact_len));
        }
        HostTable::new(texts, candidates, exact_len, exact, depths, trie)
    }
}

/// Links the candidates of each exact path, and lists the first ones where they are many.
fn chain_exact<T>(places: &[Place], texts: &[u8], candidates: &mut [Candidate<T>]) -> Slots {
    let mut slots = Vec::new();
    let mut rank = 0;
    for run in places.chunk_by(|a, b| a.shares(b, Place::directory, texts)) {
        let first = rank;
        rank += run.len();
        for (candidate, next) in candidates[first..rank - 1].iter_mut().zip(first + 1..) {
            candidate.next = number(next);
        }
        let Place { hash, start, len, .. } = run[0];
        slots.push((hash, Slot { tag: tag_of(hash), value: number(first), start, len }));
    }
    if places.len() > SCANNED_MAX { Slots::new(&slots) } else { Slots::default() }
}

/// The index of the patterns with a parameter or a star, whose candidates, numbered from `first` on, are linked.
fn chain_tails<T>(
    places: &[Place],
    texts: &[u8],
    candidates: &mut [Candidate<T>],
    first: u32,
) -> Option<Trie> {
    let mut nodes = Nodes::new(texts);
    let mut rank = 0;
    for run in places.chunk_by(|a, b| a.shares(b, Place::directory, texts)) {
        let Place { hash, start, directory_len, .. } = run[0];
        let own = &mut candidates[rank..rank + run.len()];
        let run_first = first + number(rank);
        rank += run.len();
        if run.len() <= RUN_MAX {
            nodes.add_run(hash, (start, directory_len), run_first, run.len());
            for (candidate, next) in own[..run.len() - 1].iter_mut().zip(run_first + 1..) {
                candidate.next = next;
            }
            continue;
        }
        let root = nodes.add_directory(hash, (start, directory_len));
        for (index, place) in run.iter().enumerate() {
            let before = index.checked_sub(1).map(|before| &run[before]);
            let group = match before {
                Some(before) if place.shares(before, Place::literal, texts) => own[index - 1].group,
                _ => {
                    let prefix_len = place.literal_len - place.directory_len;
                    nodes.add_group(root, place.start + place.directory_len, prefix_len)
                }
            };
            own[index].group = group;
            nodes.add_pattern(group, place.start, place.len);
        }
    }
    nodes.finish(candidates, first)
}

impl<T> Item<T> {
    fn candidate(self, place: &Place) -> Candidate<T> {
        let Item { rule, payload, start, len, first_of_rule } = self;
        let (methods, conditions) = (rule.methods, rule.has_conditions());
        Candidate {
            payload,
            rule,
            start,
            len,
            next: NONE,
            group: NONE,
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

    fn order(&self) -> (bool, u64, Reverse<u32>, u64, Rank) {
        (!self.exact, self.hash, Reverse(self.literal_len), self.prefix_hash, self.order_by_literal().1)
    }

    /// The order of the search among all that fit one path.
    fn order_by_literal(&self) -> (Reverse<u32>, Rank) {
        (Reverse(self.literal_len), (Reverse(self.priority), Reverse(self.len), self.item))
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
                    .then_with(|| b.literal_len.cmp(&a.literal_len))
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
        assert_eq!(items, [4, 6, 5, 1, 3, 0, 2]);
    }
}
