//! What a request of a kept connection costs in allocations: at most two in our crates. One is its
//! parameters, one the queue of what is sent; hello itself and tokio make none.
//!
//! The allocator counts by thread. The server has one to itself; what speaks to it is a plain socket
//! on another.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use bytes::Bytes;
use fcgi_testkit::wire::{KEEP, Peer, complete, request, unix_address};
use fcgi_tokio as fcgi;

const HELLO: &str = "Content-Type: text/plain\r\n\r\nHello, world\n";
const REQUESTS: usize = 100;
/// The `metrics` facade allocates a key and labels for each count.
const MOST: usize = if cfg!(feature = "metrics") { 7 } else { 2 };

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // Const-initialised and without a destructor: usable at any time in a thread's life.
    ALLOCATIONS.with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call goes to `System` as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is `System`'s, which made `ptr`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's contract is `System`'s, which made `ptr`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Tells, as `hello`, how many allocations this thread has made.
async fn tell(request: fcgi::Request) -> Result<(), fcgi::Error> {
    match request.param_str("ALLOCATIONS") {
        Some(_) => {
            let made = ALLOCATIONS.with(Cell::get);
            request.stdout().write_all(made.to_string()).await
        }
        None => request.stdout().write_chunk(Bytes::from_static(HELLO.as_bytes())).await,
    }
}

#[test]
fn a_kept_request_makes_two_allocations() {
    let (_folder, _, address) = unix_address();
    let at = address.clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (bound, listens) = std::sync::mpsc::channel();
    let server = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = fcgi::Listener::bind(&at).unwrap();
            bound.send(()).unwrap();
            let stopped = async {
                let _ = stopped.await;
            };
            fcgi::serve(listener, tell).with_graceful_shutdown(stopped).await
        })
    });
    listens.recv().unwrap();
    let mut peer = Peer::dial(&address);
    let pairs: Vec<_> =
        (0..26).map(|n| (["HTTP_ACCEPT", "SERVER_NAME"][n % 2], "some value")).collect();
    let wire = request(1, KEEP, &pairs, b"");
    let hello = complete(HELLO);
    let mut made = || {
        peer.send(request(1, KEEP, &[("ALLOCATIONS", "")], b""));
        let told = String::from_utf8(peer.answer(1).stdout).unwrap();
        for _ in 0..REQUESTS {
            peer.send(&wire);
            assert_eq!(peer.answer(1), hello);
        }
        told.parse::<usize>().unwrap()
    };
    made();
    let before = made();
    let after = made();
    // The cost of the measurement itself.
    let telling = 10;
    let each = (after - before).saturating_sub(telling).div_ceil(REQUESTS);
    assert!(each <= MOST, "{} allocations in {REQUESTS} requests", after - before);
    drop(peer);
    stop.send(()).unwrap();
    server.join().unwrap().unwrap();
}
