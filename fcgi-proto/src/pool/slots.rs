//! Values under keys that are never used again, each found in one step.

use alloc::vec::Vec;

/// A number that counts up, and the place of the value that it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    number: u64,
    place: u32,
}

impl Key {
    /// Below every key.
    pub(super) const MIN: Self = Self { number: 0, place: 0 };
}

#[derive(Debug)]
pub(super) struct Slots<T> {
    places: Vec<Option<(Key, T)>>,
    /// Places without a value.
    free: Vec<u32>,
    /// How many keys were given.
    keys: u64,
}

impl<T> Slots<T> {
    pub(super) const fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new(), keys: 0 }
    }

    pub(super) fn insert(&mut self, value: T) -> Key {
        self.keys += 1;
        let place = self.free.pop().unwrap_or(self.places.len() as u32);
        let key = Key { number: self.keys, place };
        match self.places.get_mut(place as usize) {
            Some(slot) => *slot = Some((key, value)),
            None => self.places.push(Some((key, value))),
        }
        key
    }

    #[inline]
    pub(super) fn get(&self, key: Key) -> Option<&T> {
        match self.places.get(key.place as usize)? {
            Some((found, value)) if *found == key => Some(value),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.places.get_mut(key.place as usize)? {
            Some((found, value)) if *found == key => Some(value),
            _ => None,
        }
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let slot = self.places.get_mut(key.place as usize)?;
        let (_, value) = slot.take_if(|(found, _)| *found == key)?;
        self.free.push(key.place);
        Some(value)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.places.iter().flatten().map(|(key, _)| *key)
    }
}
