//! Wakers of tasks that wait for one thing, and a lock that wakes nobody while it is held.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
};

/// Remembers the task to wake. Returns the previous waker. Drop it where no lock is held: the last
/// waker of a task may drop the task.
#[must_use = "drop it without a lock"]
pub(crate) fn wait(slot: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match slot {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        slot => slot.replace(cx.waker().clone()),
    }
}

/// Wakers that are woken when this is dropped. Usually there is only one, which needs no
/// allocation.
#[derive(Debug, Default)]
pub(crate) struct Wakes {
    first: Option<Waker>,
    rest: Vec<Waker>,
}

impl Wakes {
    /// Whether there is nobody to wake, which is the usual case.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    fn push(&mut self, waker: Waker) {
        match &self.first {
            None => self.first = Some(waker),
            Some(_) => self.rest.push(waker),
        }
    }

    /// Takes the waker from a slot, to wake it later. Returns whether there was one.
    #[inline]
    pub(crate) fn take(&mut self, slot: &mut Option<Waker>) -> bool {
        let waker = slot.take();
        let waits = waker.is_some();
        if let Some(waker) = waker {
            self.push(waker);
        }
        waits
    }
}

impl Drop for Wakes {
    #[inline]
    fn drop(&mut self) {
        if let Some(first) = self.first.take() {
            first.wake();
            std::mem::take(&mut self.rest).into_iter().for_each(Waker::wake);
        }
    }
}

impl Extend<Waker> for Wakes {
    fn extend<T: IntoIterator<Item = Waker>>(&mut self, wakers: T) {
        wakers.into_iter().for_each(|waker| self.push(waker));
    }
}

/// State behind a [`lock`].
pub(crate) trait Wakeful {
    /// Values whose drop runs other people's code, such as [wakers](Wakes) or a socket.
    type Later;

    /// The values to drop once the lock is released, if there are any.
    fn later(&mut self) -> Option<Self::Later>;
}

/// Locks. When the lock is released, it wakes those whom its holder has noted. A waker is code of
/// the runtime, which may drop or poll something that takes this lock too.
#[inline]
pub(crate) fn lock<T: Wakeful>(mutex: &Mutex<T>) -> Locked<'_, T> {
    // Nothing panics while the lock is held.
    let guard = mutex.lock().unwrap_or_else(PoisonError::into_inner);
    Locked { guard, later: None }
}

/// See [`lock`]. The fields are dropped in this order.
pub(crate) struct Locked<'a, T: Wakeful> {
    guard: MutexGuard<'a, T>,
    later: Option<T::Later>,
}

impl<T: Wakeful> Deref for Locked<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.guard
    }
}

impl<T: Wakeful> DerefMut for Locked<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.guard
    }
}

impl<T: Wakeful> Drop for Locked<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some(later) = self.guard.later() {
            self.later = Some(later);
        }
    }
}
