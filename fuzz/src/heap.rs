//! An allocator that knows which connection each block belongs to.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicIsize, AtomicU8, Ordering::Relaxed},
};

/// The owner of a block: the code that ran when it was allocated, wherever it is freed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// The harness, playing the application, the socket and libFuzzer's caller.
    Harness,
    /// A `ServerConnection`.
    Server,
    /// A `ClientConnection`.
    Client,
}

static OWNER: AtomicU8 = AtomicU8::new(0);
static LIVE: [AtomicIsize; 3] = [const { AtomicIsize::new(0) }; 3];

/// Bytes that are allocated now.
pub fn live(owner: Owner) -> usize {
    usize::try_from(LIVE[owner as usize].load(Relaxed)).unwrap_or(0)
}

/// Runs `f`; its allocations belong to `owner`.
pub fn owned<R>(owner: Owner, f: impl FnOnce() -> R) -> R {
    let before = OWNER.swap(owner as u8, Relaxed);
    let result = f();
    OWNER.store(before, Relaxed);
    result
}

/// Resets the counters for a new input, whatever an earlier, caught panic left behind.
pub(crate) fn reset() {
    OWNER.store(0, Relaxed);
    LIVE.iter().for_each(|live| live.store(0, Relaxed));
}

/// The system's allocator; each block has its owner in the byte before it.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

/// The layout with room for the owner in front, and how much room that is.
fn extended(layout: Layout) -> Option<(Layout, usize)> {
    let room = layout.align().max(16);
    let size = layout.size().checked_add(room)?;
    Some((Layout::from_size_align(size, layout.align()).ok()?, room))
}

/// Notes the owner of a block that was just allocated at `base`.
///
/// # Safety
/// `base` is null or starts a block of at least `room` + `size` bytes, and `room` > 0.
unsafe fn tag(base: *mut u8, room: usize, size: usize) -> *mut u8 {
    if base.is_null() {
        return base;
    }
    let owner = OWNER.load(Relaxed);
    LIVE[owner as usize].fetch_add(size as isize, Relaxed);
    // SAFETY: `room` bytes from `base` are ours.
    unsafe {
        base.add(room - 1).write(owner);
        base.add(room)
    }
}

// SAFETY: every block comes from `System` with a larger layout of the same alignment; `room` is a
// multiple of the alignment, so that the pointer handed out is aligned too.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((full, room)) = extended(layout) else { return std::ptr::null_mut() };
        // SAFETY: `full` has a size above 0; the block has `room` bytes in front.
        unsafe { tag(System.alloc(full), room, layout.size()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some((full, room)) = extended(layout) else { return std::ptr::null_mut() };
        // SAFETY: as in `alloc`.
        unsafe { tag(System.alloc_zeroed(full), room, layout.size()) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some((full, room)) = extended(layout) else { return };
        // SAFETY: the block was made by `tag`, from this layout.
        unsafe {
            let owner = block.sub(1).read();
            LIVE[owner as usize].fetch_sub(layout.size() as isize, Relaxed);
            System.dealloc(block.sub(room), full);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some((full, room)) = extended(layout) else { return std::ptr::null_mut() };
        let Some(new) = size.checked_add(room) else { return std::ptr::null_mut() };
        // SAFETY: the block was made by `tag`, from this layout; its first `room` bytes, the
        // owner among them, are kept.
        unsafe {
            let owner = block.sub(1).read();
            let base = System.realloc(block.sub(room), full, new);
            if base.is_null() {
                return base;
            }
            LIVE[owner as usize].fetch_add(size as isize - layout.size() as isize, Relaxed);
            base.add(room)
        }
    }
}
