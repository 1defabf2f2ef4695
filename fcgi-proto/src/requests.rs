//! The requests of a connection, by id, each under a key with a generation.
//!
//! A key holds the slot of its request, so finding a request takes one step however many there are.
//! Each record carries an id of the peer's choice; a two-level index finds the slot of an id.

use alloc::{boxed::Box, vec::Vec};

use crate::RequestKey;

/// The slot of the first request, which needs no allocation.
const FIRST: u16 = u16::MAX;
/// The most slots that a connection without requests keeps.
const KEEP: usize = 16;
/// Ids in one page of the index.
const PAGE: usize = 64;

#[derive(Debug)]
pub(crate) struct Requests<T> {
    first: Option<(RequestKey, T)>,
    /// `None` until there was a second request: most connections have one at a time.
    beside: Option<Box<Beside<T>>>,
    generation: u64,
}

/// All requests except the first.
#[derive(Debug)]
struct Beside<T> {
    /// By slot.
    slots: Vec<Option<Box<(RequestKey, T)>>>,
    /// Slots that are empty.
    free: Vec<u16>,
    index: Index,
}

/// Maps ids to slots. Its memory is proportional to the requests, at most one page for each plus 8
/// KiB, whatever ids the peer uses.
#[derive(Debug, Default)]
struct Index(Vec<Option<Box<Page>>>);

#[derive(Debug)]
struct Page {
    places: [Option<Place>; PAGE],
    used: u8,
}

/// A slot number plus one.
type Place = core::num::NonZeroU16;

impl<T> Requests<T> {
    pub(crate) const fn new() -> Self {
        Self { first: None, beside: None, generation: 0 }
    }

    /// Adds a request under a free id.
    #[inline(always)]
    pub(crate) fn insert(&mut self, id: u16, request: T) -> RequestKey {
        self.insert_with(id, move || request)
    }

    /// Like [`insert`](Self::insert), for a request that is made in its place.
    #[inline(always)]
    pub(crate) fn insert_with(&mut self, id: u16, request: impl FnOnce() -> T) -> RequestKey {
        self.generation += 1;
        let generation = self.generation;
        if self.first.is_none() {
            let key = RequestKey { id, place: FIRST, generation };
            self.first.get_or_insert_with(|| (key, request()));
            return key;
        }
        self.beside.get_or_insert_with(Beside::new).insert(id, generation, request())
    }

    #[inline]
    pub(crate) fn key(&self, id: u16) -> Option<RequestKey> {
        self.find(id).map(|(key, _)| key)
    }

    /// An active request by its id.
    #[inline]
    pub(crate) fn find(&self, id: u16) -> Option<(RequestKey, &T)> {
        match &self.first {
            Some((key, request)) if key.id == id => Some((*key, request)),
            _ => {
                let beside = self.beside.as_ref()?;
                beside.get(beside.index.get(id)?).map(|entry| (entry.0, &entry.1))
            }
        }
    }

    /// Drops a request, which must be active, in place.
    #[inline]
    pub(crate) fn forget(&mut self, key: RequestKey) {
        if key.place == FIRST {
            self.first = None;
        } else {
            drop(self.remove(key));
        }
    }

    #[inline]
    pub(crate) fn get(&self, key: RequestKey) -> Option<&T> {
        let (found, request) = if key.place == FIRST {
            self.first.as_ref()?
        } else {
            self.beside.as_ref()?.get(key.place)?
        };
        (*found == key).then_some(request)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: RequestKey) -> Option<&mut T> {
        let (found, request) = if key.place == FIRST {
            self.first.as_mut()?
        } else {
            self.beside.as_mut()?.slots.get_mut(usize::from(key.place))?.as_deref_mut()?
        };
        (*found == key).then_some(request)
    }

    pub(crate) fn remove(&mut self, key: RequestKey) -> Option<T> {
        self.get(key)?;
        if key.place == FIRST {
            return self.first.take().map(|(_, request)| request);
        }
        let beside = self.beside.as_mut()?;
        let entry = beside.remove(key)?;
        if beside.is_empty() {
            if beside.slots.capacity() > KEEP {
                self.beside = None;
            } else {
                beside.index = Index::default();
            }
        }
        Some(entry.1)
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        let beside = self.beside.as_ref().map_or(0, |b| b.slots.len() - b.free.len());
        usize::from(self.first.is_some()) + beside
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none() && self.beside.as_ref().is_none_or(|beside| beside.is_empty())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (RequestKey, &mut T)> {
        let first = self.first.iter_mut().map(|(key, request)| (*key, request));
        let beside = self.beside.iter_mut().flat_map(|beside| beside.slots.iter_mut().flatten());
        first.chain(beside.map(|entry| (entry.0, &mut entry.1)))
    }
}

impl<T> Beside<T> {
    #[cold]
    fn new() -> Box<Self> {
        Box::new(Self { slots: Vec::new(), free: Vec::new(), index: Index::default() })
    }

    #[cold]
    fn insert(&mut self, id: u16, generation: u64, request: T) -> RequestKey {
        // There are fewer requests than ids, and 0 is never a request id: every slot is below FIRST.
        let place = self.free.pop().unwrap_or(self.slots.len() as u16);
        let key = RequestKey { id, place, generation };
        let entry = Some(Box::new((key, request)));
        match self.slots.get_mut(usize::from(place)) {
            Some(slot) => *slot = entry,
            None => self.slots.push(entry),
        }
        self.index.insert(id, place);
        key
    }

    fn get(&self, place: u16) -> Option<&(RequestKey, T)> {
        self.slots.get(usize::from(place))?.as_deref()
    }

    fn remove(&mut self, key: RequestKey) -> Option<Box<(RequestKey, T)>> {
        let entry = self.slots.get_mut(usize::from(key.place))?.take()?;
        self.index.remove(key.id);
        self.free.push(key.place);
        Some(entry)
    }

    fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }
}

impl Index {
    fn split(id: u16) -> (usize, usize) {
        (usize::from(id) / PAGE, usize::from(id) % PAGE)
    }

    fn get(&self, id: u16) -> Option<u16> {
        let (page, at) = Self::split(id);
        let place = self.0.get(page)?.as_ref()?.places.get(at)?;
        place.map(|place| place.get() - 1)
    }

    fn insert(&mut self, id: u16, place: u16) {
        let (page, at) = Self::split(id);
        if self.0.len() <= page {
            self.0.resize_with(page + 1, || None);
        }
        let Some(page) = self.0.get_mut(page) else { return };
        let page = page.get_or_insert_with(|| Box::new(Page { places: [None; PAGE], used: 0 }));
        page.used += 1;
        page.places[at] = Place::new(place + 1);
    }

    fn remove(&mut self, id: u16) {
        let (page, at) = Self::split(id);
        let Some(slot) = self.0.get_mut(page) else { return };
        let Some(page) = slot else { return };
        page.places[at] = None;
        page.used -= 1;
        if page.used == 0 {
            *slot = None;
        }
    }
}
