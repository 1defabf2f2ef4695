//! Ends a call from another thread.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::Thread,
};

use crate::{Error, waker::Waker};

/// Cancels a request from another thread. The call that is blocked on the request, or else the next
/// one, returns [`Error::Cancelled`](crate::Error::Cancelled), and the application gets an
/// ABORT_REQUEST. It does nothing once the request has ended.
///
/// A handle that was made with [`new`](Self::new) can be given to several calls, such as one that
/// connects and one that sends, or to the requests of many threads. It cancels all of them, and
/// also those that begin later.
///
/// ```no_run
/// use std::{thread, time::Duration};
/// use fcgi_blocking as fcgi;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut client = fcgi::Client::connect("/run/php-fpm.sock")?;
/// let cancel = client.cancel_handle();
/// thread::spawn(move || {
///     thread::sleep(Duration::from_secs(5)); // or until the user presses Escape
///     cancel.cancel();
/// });
/// let request = fcgi::client::Request::responder().param("SCRIPT_FILENAME", "/srv/slow.php");
/// match client.send(request) {
///     Err(fcgi::Error::Cancelled { .. }) => println!("given up"),
///     answer => println!("{}", answer?.collect(1 << 20)?.app_status),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct CancelHandle(Arc<State>);

#[derive(Debug, Default)]
struct State {
    cancelled: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    calls: Vec<(u64, Wake)>,
    next: u64,
}

/// How a blocked call is woken.
#[derive(Debug)]
pub(crate) enum Wake {
    /// The call polls this.
    Poll(Arc<Waker>),
    /// The call's thread is parked.
    Park(Thread),
}

impl Wake {
    /// Makes the call check again.
    pub(crate) fn wake(&self) {
        match self {
            Self::Poll(waker) => waker.wake(),
            Self::Park(thread) => thread.unpark(),
        }
    }
}

impl CancelHandle {
    /// Creates a handle for later calls.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels, for good. It never blocks.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        for (_, wake) in &self.waiting().calls {
            wake.wake();
        }
    }

    /// Whether [`cancel`](Self::cancel) was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// Whether a call to this address may go on.
    pub(crate) fn check(handle: Option<&Self>, address: &Arc<str>) -> Result<(), Error> {
        if handle.is_some_and(Self::is_cancelled) {
            return Err(Error::Cancelled { address: Arc::clone(address) });
        }
        Ok(())
    }

    /// Makes [`cancel`](Self::cancel) wake a call until the guard is dropped. Check
    /// [`is_cancelled`](Self::is_cancelled) after calling this: an earlier cancel wakes nobody.
    pub(crate) fn wakes(&self, wake: Wake) -> Registration<'_> {
        let mut waiting = self.waiting();
        let call = waiting.next;
        waiting.next += 1;
        waiting.calls.push((call, wake));
        Registration { handle: self, call }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A blocked call that is registered with a handle.
#[derive(Debug)]
pub(crate) struct Registration<'a> {
    handle: &'a CancelHandle,
    call: u64,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.handle.waiting().calls.retain(|(call, _)| *call != self.call);
    }
}
