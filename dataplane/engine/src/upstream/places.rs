//! The clusters of a view, and its callers, by a number that stays theirs from one view to the next, so that a route need not be compiled again when its
//! upstream changes: it names the place, and the next view has another cluster there.
//!
//! Cloning copies a list of chunks, changing one copies one chunk. The numbers mean something within one line of views only; what
//! outlives a version is kept by key or address.

use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub struct Places<T> {
    chunks: Vec<Chunk<T>>,
    free: Vec<u32>,
    len: u32,
}

type Chunk<T> = Arc<Vec<Option<Arc<T>>>>;

impl<T> Clone for Places<T> {
    fn clone(&self) -> Self {
        Places { chunks: self.chunks.clone(), free: self.free.clone(), len: self.len }
    }
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Places { chunks: Vec::new(), free: Vec::new(), len: 0 }
    }
}

const CHUNK_LEN: u32 = 256;

impl<T> Places<T> {
    /// What is at a place.
    pub fn get(&self, place: u32) -> Option<&Arc<T>> {
        let chunk = self.chunks.get((place / CHUNK_LEN) as usize)?;
        chunk.get((place % CHUNK_LEN) as usize)?.as_ref()
    }

    /// Gives one a place.
    pub fn add(&mut self, item: Arc<T>) -> u32 {
        if let Some(place) = self.free.pop() {
            self.put(place, Some(item));
            return place;
        }
        let place = self.len;
        self.len = self.len.saturating_add(1);
        if place.is_multiple_of(CHUNK_LEN) {
            self.chunks.push(Arc::new(Vec::with_capacity(CHUNK_LEN as usize)));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            Arc::make_mut(chunk).push(Some(item));
        }
        place
    }

    /// Puts another one at a place.
    pub fn replace(&mut self, place: u32, item: Arc<T>) {
        self.put(place, Some(item));
    }

    /// Frees a place.
    pub fn remove(&mut self, place: u32) {
        self.put(place, None);
        self.free.push(place);
    }

    fn put(&mut self, place: u32, item: Option<Arc<T>>) {
        if let Some(chunk) = self.chunks.get_mut((place / CHUNK_LEN) as usize)
            && let Some(slot) = Arc::make_mut(chunk).get_mut((place % CHUNK_LEN) as usize)
        {
            *slot = item;
        }
    }
}
