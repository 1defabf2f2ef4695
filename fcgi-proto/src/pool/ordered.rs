//! An ordered set in which one value may come and go without an allocation.

use alloc::collections::BTreeSet;

/// Distinct values in order. The same one is often removed and inserted again, with an otherwise
/// empty set: so one of them, whichever, is kept beside the tree.
#[derive(Debug)]
pub(super) struct Ordered<T> {
    beside: Option<T>,
    tree: BTreeSet<T>,
}

impl<T: Ord + Copy> Ordered<T> {
    pub(super) const fn new() -> Self {
        Self { beside: None, tree: BTreeSet::new() }
    }

    #[inline]
    pub(super) fn insert(&mut self, value: T) {
        if self.beside.is_none() {
            self.beside = Some(value);
        } else {
            self.tree.insert(value);
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, value: T) {
        if self.beside == Some(value) {
            self.beside = None;
        } else {
            self.tree.remove(&value);
        }
    }

    #[inline]
    pub(super) fn first(&self) -> Option<T> {
        match (self.beside, self.tree.first()) {
            (Some(beside), Some(&first)) => Some(beside.min(first)),
            (beside, first) => beside.or(first.copied()),
        }
    }

    #[inline]
    pub(super) fn last(&self) -> Option<T> {
        match (self.beside, self.tree.last()) {
            (Some(beside), Some(&last)) => Some(beside.max(last)),
            (beside, last) => beside.or(last.copied()),
        }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.tree.len() + usize::from(self.beside.is_some())
    }
}
