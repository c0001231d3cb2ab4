//! The clusters of a view by a number that stays theirs from one view to the next, so that a route need not be compiled again when its
//! upstream changes: it names the place, and the next view has another cluster there.
//!
//! Cloning copies a list of chunks, changing one copies one chunk. The numbers mean something within one line of views only; what
//! outlives a version is kept by key or address.

use std::sync::Arc;

use super::Cluster;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Places {
    chunks: Vec<Arc<Vec<Option<Arc<Cluster>>>>>,
    free: Vec<u32>,
    len: u32,
}

const CHUNK_LEN: u32 = 256;

impl Places {
    /// The cluster at a place.
    pub fn get(&self, place: u32) -> Option<&Arc<Cluster>> {
        let chunk = self.chunks.get((place / CHUNK_LEN) as usize)?;
        chunk.get((place % CHUNK_LEN) as usize)?.as_ref()
    }

    /// Gives a cluster a place.
    pub fn add(&mut self, cluster: Arc<Cluster>) -> u32 {
        if let Some(place) = self.free.pop() {
            self.put(place, Some(cluster));
            return place;
        }
        let place = self.len;
        self.len = self.len.saturating_add(1);
        if place.is_multiple_of(CHUNK_LEN) {
            self.chunks.push(Arc::new(Vec::with_capacity(CHUNK_LEN as usize)));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            Arc::make_mut(chunk).push(Some(cluster));
        }
        place
    }

    /// Puts another cluster at a place.
    pub fn replace(&mut self, place: u32, cluster: Arc<Cluster>) {
        self.put(place, Some(cluster));
    }

    /// Frees a place.
    pub fn remove(&mut self, place: u32) {
        self.put(place, None);
        self.free.push(place);
    }

    fn put(&mut self, place: u32, cluster: Option<Arc<Cluster>>) {
        if let Some(chunk) = self.chunks.get_mut((place / CHUNK_LEN) as usize)
            && let Some(slot) = Arc::make_mut(chunk).get_mut((place % CHUNK_LEN) as usize)
        {
            *slot = cluster;
        }
    }
}
