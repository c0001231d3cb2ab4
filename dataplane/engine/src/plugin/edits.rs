//! Changes of a head's fields, in the order in which plugins made them.
//!
//! Names and values lie in one buffer, which the next request of the connection uses again. Setting or removing a field undoes what was
//! said of it before.

use std::ops::Range;

use smallvec::SmallVec;

use crate::facts::is_same;
use crate::http1::NameValue;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    bytes: Vec<u8>,
    list: SmallVec<[Edit; 4]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Edit {
    what: What,
    name: Range<usize>,
    value: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Set,
    Add,
    Remove,
}

/// Edits as the encoders take them.
#[derive(Debug, Default)]
pub struct Lists<'e> {
    /// Replace every field of that name.
    pub set: SmallVec<[NameValue<'e>; 8]>,
    /// Beside any field of that name.
    pub add: SmallVec<[NameValue<'e>; 4]>,
    /// Not passed on.
    pub remove: SmallVec<[&'e [u8]; 4]>,
}

impl<'e> Lists<'e> {
    /// What replaces fields, what is added, what is not passed on.
    pub fn slices(&self) -> (&[NameValue<'e>], &[NameValue<'e>], &[&'e [u8]]) {
        (&self.set, &self.add, &self.remove)
    }
}

impl Edits {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Forgets them, keeping the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
    }

    /// Replaces a field.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        self.set_with(name, |out| out.extend_from_slice(value));
    }

    /// Replaces a field by what is written.
    pub fn set_with(&mut self, name: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.forget(name);
        self.push(What::Set, name, write);
    }

    /// Adds a field by what is written.
    pub fn add_with(&mut self, name: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        self.push(What::Add, name, write);
    }

    /// Takes a field away.
    pub fn remove(&mut self, name: &[u8]) {
        self.forget(name);
        self.push(What::Remove, name, |_| {});
    }

    /// The value that a field was set to last.
    pub fn value(&self, name: &[u8]) -> Option<&[u8]> {
        let is_it = |edit: &&Edit| edit.what == What::Set && self.of(&edit.name).eq_ignore_ascii_case(name);
        self.list.iter().rfind(is_it).map(|edit| self.of(&edit.value))
    }

    /// Whether what was there of a field has gone, or made room for what was set.
    pub fn replaces(&self, name: &[u8]) -> bool {
        self.list.iter().any(|edit| edit.what != What::Add && is_same(self.of(&edit.name), name))
    }

    /// The values that a field was given, without those that were there. `_` in the name stands for `-` too.
    pub fn values(&self, name: &[u8]) -> impl Iterator<Item = &[u8]> {
        let is_it = move |edit: &&Edit| edit.what != What::Remove && is_same(self.of(&edit.name), name);
        self.list.iter().filter(is_it).map(|edit| self.of(&edit.value))
    }

    /// As the encoders take them.
    pub fn lists(&self) -> Lists<'_> {
        let mut lists = Lists::default();
        for edit in &self.list {
            let (name, value) = (self.of(&edit.name), self.of(&edit.value));
            match edit.what {
                What::Set => lists.set.push((name, value)),
                What::Add => lists.add.push((name, value)),
                What::Remove => lists.remove.push(name),
            }
        }
        lists
    }

    fn of(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    fn forget(&mut self, name: &[u8]) {
        let bytes = &self.bytes;
        let is_it =
            |edit: &Edit| bytes.get(edit.name.clone()).is_some_and(|known| known.eq_ignore_ascii_case(name));
        self.list.retain(|edit| !is_it(edit));
    }

    fn push(&mut self, what: What, name: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        let middle = self.bytes.len();
        write(&mut self.bytes);
        let end = self.bytes.len();
        self.list.push(Edit { what, name: start..middle, value: middle..end });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_last_of_a_field_holds() {
        let mut edits = Edits::default();
        edits.add_with(b"a", |out| out.push(b'0'));
        edits.set(b"A", b"1");
        edits.remove(b"b");
        edits.set(b"b", b"2");
        edits.set(b"c", b"3");
        edits.remove(b"C");
        edits.add_with(b"d", |out| out.push(b'4'));
        let lists = edits.lists();
        assert_eq!(lists.set.as_slice(), [(&b"A"[..], &b"1"[..]), (b"b", b"2")]);
        assert_eq!(lists.add.as_slice(), [(&b"d"[..], &b"4"[..])]);
        assert_eq!(lists.remove.as_slice(), [&b"C"[..]]);
        assert_eq!(edits.value(b"B"), Some(&b"2"[..]));
    }
}
