//! Parameters of a matched path, and the memory that a lookup works in.
//!
//! One value serves any number of lookups one after the other; what it has allocated it keeps. It holds places,
//! not bytes: the path is given again to read a value.

use std::ops::Range;

use smallvec::SmallVec;

/// Parameters that the last lookup found, by name.
#[derive(Debug, Default)]
pub struct Captures {
    names: SmallVec<[u8; 64]>,
    found: SmallVec<[Found; 8]>,
    pub(super) scratch: Scratch,
}

#[derive(Debug, Clone)]
struct Found {
    name: Range<usize>,
    value: Range<usize>,
}

/// Where a lookup keeps what it has still to try.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Directories of the path: where each ends, its hash, and whether it may be one of the table's.
    pub(super) directories: SmallVec<[(usize, u64, bool); 16]>,
    /// Trie nodes to visit, with where the path is read up to.
    pub(super) visits: SmallVec<[(u32, usize); 32]>,
    /// Probes, nodes and candidates so far.
    pub(super) steps: u64,
}

impl Captures {
    /// No parameters.
    pub fn new() -> Captures {
        Captures::default()
    }

    /// The value of a parameter, read from the path that was looked up. Of equal names the last counts.
    pub fn get<'p>(&self, name: &str, path: &'p [u8]) -> Option<&'p [u8]> {
        let found =
            self.found.iter().rfind(|found| self.names.get(found.name.clone()) == Some(name.as_bytes()))?;
        path.get(found.value.clone())
    }

    /// All names and values in the pattern's order, read from the path that was looked up.
    pub fn iter<'p>(&self, path: &'p [u8]) -> impl Iterator<Item = (&[u8], &'p [u8])> {
        self.found.iter().filter_map(move |found| {
            Some((self.names.get(found.name.clone())?, path.get(found.value.clone())?))
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// How many hash probes, trie nodes and candidates the last lookup took: its cost, whatever the clock says.
    pub fn steps(&self) -> u64 {
        self.scratch.steps
    }

    pub(super) fn count_step(&mut self) {
        self.scratch.steps = self.scratch.steps.saturating_add(1);
    }

    pub(super) fn clear(&mut self) {
        self.forget();
        self.scratch.steps = 0;
    }

    /// Forgets the parameters of a candidate that does not take the request after all.
    pub(super) fn forget(&mut self) {
        self.names.clear();
        self.found.clear();
    }

    pub(super) fn push(&mut self, name: &[u8], value: Range<usize>) {
        let start = self.names.len();
        self.names.extend_from_slice(name);
        self.found.push(Found { name: start..self.names.len(), value });
    }
}
