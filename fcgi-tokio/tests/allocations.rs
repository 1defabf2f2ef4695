//! What a request of a kept connection costs in allocations: at most two in our crates. One is its
//! parameters, one the queue of what is sent; hello itself and tokio make none. That holds for
//! requests that come together too, and a large body needs a buffer
//! once, or as many as its handler keeps.
//!
//! The allocator counts by thread. The server has one to itself; what speaks to it is a plain socket
//! on another.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    collections::VecDeque,
};

use bytes::Bytes;
use fcgi_testkit::wire::{KEEP, Peer, complete, request, unix_address};
use fcgi_tokio as fcgi;

const HELLO: &str = "Content-Type: text/plain\r\n\r\nHello, world\n";
const REQUESTS: usize = 100;
/// The `metrics` facade allocates a key and labels for each count. A request that is counted or traced
/// has a log, which is one more.
const MOST: usize = if cfg!(feature = "metrics") { 8 } else { 2 };

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    /// Those of a buffer for a large body.
    static BUFFERS: Cell<usize> = const { Cell::new(0) };
}

fn count(size: usize) {
    // Const-initialised and without a destructor: usable at any time in a thread's life.
    ALLOCATIONS.with(|allocations| allocations.set(allocations.get() + 1));
    if size > 32 * 1024 {
        BUFFERS.with(|buffers| buffers.set(buffers.get() + 1));
    }
}

// SAFETY: every call goes to `System` as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is `System`'s, which made `ptr`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: the caller's contract is `System`'s, which made `ptr`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Tells, as `hello`, how many allocations this thread has made; for a body, how many buffers it took.
async fn tell(request: fcgi::Request) -> Result<(), fcgi::Error> {
    if request.param_str("ALLOCATIONS").is_some() {
        let made = ALLOCATIONS.with(Cell::get);
        return request.stdout().write_all(made.to_string()).await;
    }
    if let Some(keeps) = request.param_str("BUFFERS").and_then(|keeps| keeps.parse().ok()) {
        let before = BUFFERS.with(Cell::get);
        let (mut stdin, mut kept) = (request.stdin(), VecDeque::new());
        while let Some(chunk) = stdin.chunk().await? {
            kept.push_back(chunk);
            kept.drain(..kept.len().saturating_sub(keeps));
        }
        let made = BUFFERS.with(Cell::get) - before;
        return request.stdout().write_all(made.to_string()).await;
    }
    request.stdout().write_chunk(Bytes::from_static(HELLO.as_bytes())).await
}

/// Runs a test with a connection to a server that has a thread to itself.
fn with_peer(test: impl FnOnce(&mut Peer)) {
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
    test(&mut peer);
    drop(peer);
    stop.send(()).unwrap();
    server.join().unwrap().unwrap();
}

/// Allocations for each of a number of requests, which the given function sends and checks.
fn each(peer: &mut Peer, requests: usize, mut send: impl FnMut(&mut Peer)) -> usize {
    let mut made = || {
        peer.send(request(1, KEEP, &[("ALLOCATIONS", "")], b""));
        let told = String::from_utf8(peer.answer(1).stdout).unwrap();
        send(peer);
        told.parse::<usize>().unwrap()
    };
    made();
    let before = made();
    let after = made();
    // The cost of the measurement itself.
    let telling = 10;
    (after - before).saturating_sub(telling).div_ceil(requests)
}

fn hello(id: u16) -> Vec<u8> {
    let pairs: Vec<_> =
        (0..26).map(|n| (["HTTP_ACCEPT", "SERVER_NAME"][n % 2], "some value")).collect();
    request(id, KEEP, &pairs, b"")
}

#[test]
fn a_kept_request_makes_two_allocations() {
    with_peer(|peer| {
        let made = each(peer, REQUESTS, |peer| {
            for _ in 0..REQUESTS {
                peer.send(hello(1));
                assert_eq!(peer.answer(1), complete(HELLO));
            }
        });
        assert!(made <= MOST, "{made} allocations for each of {REQUESTS} requests");
    });
}

#[test]
fn requests_that_come_together_make_no_more() {
    with_peer(|peer| {
        let ids = 1..=16;
        let together: Vec<u8> = ids.clone().flat_map(hello).collect();
        let made = each(peer, REQUESTS * 16, |peer| {
            for _ in 0..REQUESTS {
                peer.send(&together);
                for id in ids.clone() {
                    assert_eq!(peer.answer(id), complete(HELLO));
                }
            }
        });
        // The queue grows several times, but for all of them.
        let most = MOST + usize::from(cfg!(feature = "metrics"));
        assert!(made <= most, "{made} allocations for each of 16 requests");
    });
}

#[test]
fn a_large_body_needs_a_buffer_once() {
    with_peer(|peer| {
        let made = buffers(peer, "0");
        assert!(made <= 8, "{made} buffers for 4 MiB");
    });
}

/// An echo whose web server reads slowly keeps what it has read until it is sent.
#[test]
fn a_large_body_of_which_some_is_kept_needs_a_buffer_for_each_of_those() {
    with_peer(|peer| {
        let made = buffers(peer, "6");
        assert!(made <= 16, "{made} buffers for 4 MiB, 6 of which are kept");
    });
}

/// How many buffers a body of 4 MiB takes, if the handler keeps so many chunks.
fn buffers(peer: &mut Peer, keeps: &str) -> usize {
    let body = vec![b'x'; 4 << 20];
    peer.send(request(1, KEEP, &[("BUFFERS", keeps)], &body));
    String::from_utf8(peer.answer(1).stdout).unwrap().parse().unwrap()
}
