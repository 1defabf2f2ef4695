//! Signals between the test's thread and the code under test, whether that waits in a future or in
//! a thread; and bytes that can be told apart.
//!
//! ```
//! use fcgi_testkit::signal::{Gate, background};
//!
//! let gate = Gate::default();
//! let waiting = background({
//!     let gate = gate.clone();
//!     move || gate.wait()
//! });
//! gate.open();
//! waiting.join();
//! ```

use std::{
    future::poll_fn,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// How long anything may take before a test fails instead of waiting for ever. No test depends on
/// its length.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A value that is changed in one place and waited for in another.
#[derive(Debug, Default)]
pub(crate) struct Shared<T> {
    value: Mutex<(T, Vec<Waker>)>,
    changed: Condvar,
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, (T, Vec<Waker>)> {
        // A test that failed has nothing half-done under the lock.
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads or changes the value; this wakes those who wait.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let mut guard = self.lock();
        let result = change(&mut guard.0);
        let wakers = std::mem::take(&mut guard.1);
        drop(guard);
        self.changed.notify_all();
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    /// Waits in a future until `take` returns something.
    pub(crate) fn poll<R>(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&mut T) -> Option<R>,
    ) -> Poll<R> {
        let mut guard = self.lock();
        if let Some(result) = take(&mut guard.0) {
            return Poll::Ready(result);
        }
        if !guard.1.iter().any(|waker| waker.will_wake(cx.waker())) {
            guard.1.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Waits in a thread until `take` returns something; `None` if that took too long.
    pub(crate) fn wait<R>(&self, mut take: impl FnMut(&mut T) -> Option<R>) -> Option<R> {
        let until = Instant::now() + PATIENCE;
        let mut guard = self.lock();
        loop {
            if let Some(result) = take(&mut guard.0) {
                return Some(result);
            }
            let left = until.checked_duration_since(Instant::now())?;
            guard =
                self.changed.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A gate that a handler waits at until the test opens it.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<Shared<usize>>);

impl Gate {
    /// Lets one waiter through, now or later.
    pub fn open(&self) {
        self.0.change(|open| *open += 1);
    }

    /// Waits in a future until it is let through.
    pub async fn pass(&self) {
        poll_fn(|cx| self.poll_pass(cx)).await;
    }

    pub(crate) fn poll_pass(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll(cx, take_one)
    }

    /// Waits in a thread until it is let through.
    ///
    /// # Panics
    /// When the test forgot to open it.
    pub fn wait(&self) {
        assert!(self.0.wait(take_one).is_some(), "nobody opens the gate");
    }
}

fn take_one(open: &mut usize) -> Option<()> {
    *open = open.checked_sub(1)?;
    Some(())
}

/// Polls until a condition without a signal is true; `what` completes "waited too long until".
///
/// # Panics
/// When that takes longer than [`PATIENCE`].
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited too long until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A thread that is waited for, but not for ever.
#[derive(Debug)]
pub struct Background<T>(std::sync::mpsc::Receiver<std::thread::Result<T>>);

/// Runs in a thread next to the test.
pub fn background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Background<T> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        // A test that has failed already does not listen.
        let _ = sender.send(result);
    });
    Background(receiver)
}

impl<T> Background<T> {
    /// Its result; its panic is the test's.
    ///
    /// # Panics
    /// When it did, or does not end within [`PATIENCE`].
    pub fn join(self) -> T {
        match self.0.recv_timeout(PATIENCE) {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => panic!("a thread of the test does not end"),
        }
    }
}

/// Bytes that show where they come from, so that lost, doubled or swapped ones are noticed.
pub fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A small generator of numbers, which are the same each time.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Starts at a seed, which must not be 0.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// The next number below `n`.
    pub fn below(&mut self, n: u32) -> u32 {
        (self.next() % u64::from(n)) as u32
    }
}
