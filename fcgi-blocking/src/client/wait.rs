//! Waiting for a socket: with a limit, and until somebody cancels.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    thread,
    time::Instant,
};

use rustix::{
    event::{self, PollFd, PollFlags},
    io::Errno,
};

use super::cancel::{CancelHandle, Wake};
use crate::waker::{Waker, poll_timeout};

/// What ended a wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waited {
    /// The socket is ready for this. It may also be an error, which the next call reports.
    Ready(PollFlags),
    TimedOut,
    /// Somebody cancelled, or called the waker.
    Woken,
}

/// A socket, and what it must become ready for.
pub(crate) type On<'a> = (BorrowedFd<'a>, PollFlags);

/// Waits for the socket, if there is one, and for the handle, if there is one. `waker` is created
/// when it is needed, and kept for the next wait.
pub(crate) fn wait(
    on: Option<On<'_>>,
    until: Option<Instant>,
    cancel: Option<&CancelHandle>,
    waker: &mut Option<Arc<Waker>>,
) -> io::Result<Waited> {
    let Some(cancel) = cancel else { return poll(on, until, None) };
    let waker = match waker {
        Some(waker) => Arc::clone(waker),
        None => Arc::clone(waker.insert(Arc::new(Waker::new()?))),
    };
    wait_woken(on, until, Some(cancel), &waker)
}

/// [`wait`] with a waker that others can also call.
pub(crate) fn wait_woken(
    on: Option<On<'_>>,
    until: Option<Instant>,
    cancel: Option<&CancelHandle>,
    waker: &Arc<Waker>,
) -> io::Result<Waited> {
    let _registration = cancel.map(|cancel| cancel.wakes(Wake::Poll(Arc::clone(waker))));
    if cancel.is_some_and(CancelHandle::is_cancelled) {
        return Ok(Waited::Woken);
    }
    poll(on, until, Some(waker))
}

fn poll(on: Option<On<'_>>, until: Option<Instant>, waker: Option<&Waker>) -> io::Result<Waited> {
    // A descriptor that is polled for nothing still reports that its peer is gone, at once and for
    // ever.
    let on = on.filter(|(_, interest)| !interest.is_empty());
    loop {
        let timeout = poll_timeout(until);
        let polled = match (&on, waker) {
            (Some((fd, interest)), Some(waker)) => {
                let mut fds = [
                    PollFd::from_borrowed_fd(*fd, *interest),
                    PollFd::from_borrowed_fd(waker.as_fd(), PollFlags::IN),
                ];
                event::poll(&mut fds, timeout.as_ref())
                    .map(|_| (fds[0].revents(), !fds[1].revents().is_empty()))
            }
            (Some((fd, interest)), None) => {
                let mut fds = [PollFd::from_borrowed_fd(*fd, *interest)];
                event::poll(&mut fds, timeout.as_ref()).map(|_| (fds[0].revents(), false))
            }
            (None, Some(waker)) => {
                let mut fds = [PollFd::from_borrowed_fd(waker.as_fd(), PollFlags::IN)];
                event::poll(&mut fds, timeout.as_ref())
                    .map(|_| (PollFlags::empty(), !fds[0].revents().is_empty()))
            }
            (None, None) => {
                event::poll(&mut [], timeout.as_ref()).map(|_| (PollFlags::empty(), false))
            }
        };
        match polled {
            Ok((_, true)) => {
                if let Some(waker) = waker {
                    waker.drain();
                }
                return Ok(Waited::Woken);
            }
            Ok((ready, _)) if !ready.is_empty() => return Ok(Waited::Ready(ready)),
            Ok(_) if until.is_some_and(|until| Instant::now() >= until) => {
                return Ok(Waited::TimedOut);
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Parks the thread until that time, or until it is unparked. It may also return without a reason.
pub(crate) fn park(until: Option<Instant>) {
    match until {
        Some(until) => thread::park_timeout(until.saturating_duration_since(Instant::now())),
        None => thread::park(),
    }
}
