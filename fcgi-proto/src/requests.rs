//! The requests of a connection, by id, each under a key with a generation.

use alloc::{boxed::Box, collections::BTreeMap};

use crate::RequestKey;

/// The first request needs no allocation; the rest are in a tree.
#[derive(Debug)]
pub(crate) struct Requests<T> {
    first: Option<(RequestKey, T)>,
    rest: BTreeMap<u16, Box<(RequestKey, T)>>,
    generation: u64,
}

impl<T> Requests<T> {
    pub(crate) const fn new() -> Self {
        Self { first: None, rest: BTreeMap::new(), generation: 0 }
    }

    /// Adds a request under an id that is free.
    pub(crate) fn insert(&mut self, id: u16, request: T) -> RequestKey {
        self.generation += 1;
        let key = RequestKey { id, generation: self.generation };
        if self.first.is_none() {
            self.first = Some((key, request));
        } else {
            self.rest.insert(id, Box::new((key, request)));
        }
        key
    }

    pub(crate) fn key(&self, id: u16) -> Option<RequestKey> {
        match &self.first {
            Some((key, _)) if key.id == id => Some(*key),
            _ => self.rest.get(&id).map(|entry| entry.0),
        }
    }

    pub(crate) fn get(&self, key: RequestKey) -> Option<&T> {
        match &self.first {
            Some((k, request)) if *k == key => Some(request),
            _ => self.rest.get(&key.id).filter(|entry| entry.0 == key).map(|entry| &entry.1),
        }
    }

    pub(crate) fn get_mut(&mut self, key: RequestKey) -> Option<&mut T> {
        match &mut self.first {
            Some((k, request)) if *k == key => Some(request),
            _ => {
                self.rest.get_mut(&key.id).filter(|entry| entry.0 == key).map(|entry| &mut entry.1)
            }
        }
    }

    pub(crate) fn remove(&mut self, key: RequestKey) -> Option<T> {
        if self.first.as_ref().is_some_and(|(k, _)| *k == key) {
            return self.first.take().map(|(_, request)| request);
        }
        self.get(key)?;
        self.rest.remove(&key.id).map(|entry| entry.1)
    }

    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (RequestKey, &mut T)> {
        self.first
            .iter_mut()
            .map(|(key, request)| (*key, request))
            .chain(self.rest.values_mut().map(|entry| (entry.0, &mut entry.1)))
    }
}
