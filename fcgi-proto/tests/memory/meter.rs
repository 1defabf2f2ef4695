//! The heap of a thread. The allocator counts per thread, so that the tests of this binary don't see
//! each other.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(delta: isize) {
    // Const-initialised and without a destructor: usable at any time in a thread's life.
    let live = LIVE.with(|live| {
        live.set(live.get() + delta);
        live.get()
    });
    PEAK.with(|peak| peak.set(peak.get().max(live)));
}

// SAFETY: every call goes to `System` as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's contract is `System`'s, which made `ptr`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // The old block and the new one may be there at the same time.
        count(new_size as isize);
        count(-(layout.size() as isize));
        // SAFETY: the caller's contract is `System`'s, which made `ptr`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Heap of this thread since `start`.
pub(crate) struct Meter {
    base: isize,
}

impl Meter {
    pub(crate) fn start() -> Self {
        let base = LIVE.with(Cell::get);
        PEAK.with(|peak| peak.set(base));
        Self { base }
    }

    pub(crate) fn live(&self) -> usize {
        usize::try_from(LIVE.with(Cell::get) - self.base).unwrap_or(0)
    }

    pub(crate) fn peak(&self) -> usize {
        usize::try_from(PEAK.with(Cell::get) - self.base).unwrap_or(0)
    }
}

/// What dropping it gives back.
pub(crate) fn heap_of<T>(value: T) -> usize {
    let before = LIVE.with(Cell::get);
    drop(value);
    usize::try_from(before - LIVE.with(Cell::get)).unwrap()
}
