//! A connection: the socket, and the engine's session.

use std::{io, os::fd::AsFd, sync::Arc, thread::Thread, time::Instant};

use fcgi_engine::{
    client::{self, Carrier},
    socket,
};
use fcgi_proto::RequestKey;
use rustix::event::PollFlags;

use super::{
    CancelHandle, Wake,
    wait::{Waited, wait},
};
use crate::{Error, stream::Stream, waker::Waker};

pub(crate) type Session = client::Session<Wake>;
/// Where the connection of a client is.
pub(super) type Place = client::Place<Box<Link>, Thread>;

/// A connection to an application.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: Arc<Stream>,
    pub(crate) session: Session,
    /// Ends a wait; created when it is needed.
    pub(crate) waker: Option<Arc<Waker>>,
}

impl Link {
    pub(crate) fn new(stream: Stream, session: Session, waker: Option<Arc<Waker>>) -> Self {
        Self { stream: Arc::new(stream), session, waker }
    }

    /// Sends what can be sent, reads if `reads`, and passes on what has happened. See
    /// [`turn`](client::Session::turn).
    pub(crate) fn turn(&mut self, reads: bool) -> bool {
        self.turn_at(reads, Instant::now)
    }

    /// [`turn`](Self::turn), with the time.
    pub(crate) fn turn_at(&mut self, reads: bool, now: impl FnOnce() -> Instant) -> bool {
        self.session.turn(&mut self.stream.as_ref(), reads, now, |who| who.wake())
    }

    /// What to poll the socket for: readable if there is room for bytes, writable if it was full.
    pub(crate) fn interest(&self) -> PollFlags {
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::IN, self.session.wants_read());
        interest.set(PollFlags::OUT, self.session.is_blocked());
        interest
    }

    /// Waits until there are bytes to read, or until it is writable if it was full.
    pub(crate) fn wait(
        &mut self,
        until: Option<Instant>,
        cancel: Option<&CancelHandle>,
    ) -> Result<Waited, Error> {
        let on = (self.stream.as_fd(), self.interest());
        match wait(Some(on), until, cancel, &mut self.waker) {
            Ok(waited) => Ok(waited),
            Err(source) => Err(wait_failed(self.session.address(), source)),
        }
    }

    /// Moves bytes until `done` returns something; `None` once `until` has passed. `done` gets to
    /// know whether there is nothing more to read.
    pub(crate) fn wait_for<T>(
        &mut self,
        until: Option<Instant>,
        cancel: Option<&CancelHandle>,
        mut done: impl FnMut(&mut Session, bool) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        loop {
            let more = self.turn(true);
            if let Some(done) = done(&mut self.session, !more) {
                return Ok(Some(done));
            }
            let waited = if more { Waited::Woken } else { self.wait(until, cancel)? };
            // Don't read for ever from an application that never stops sending.
            CancelHandle::check(cancel, self.session.address())?;
            let late = more && until.is_some_and(|until| Instant::now() >= until);
            if late || matches!(waited, Waited::TimedOut) {
                return Ok(None);
            }
        }
    }

    /// Waits for the end of an aborted request, and notices if the application closes the
    /// connection meanwhile. The time of the next request counts from `started`.
    pub(crate) fn settle(
        &mut self,
        started: Instant,
        cancel: Option<&CancelHandle>,
    ) -> Result<(), Error> {
        let settling = self.session.settling(Instant::now(), Some(started));
        let settled = |session: &mut Session, quiet: bool| session.settled(|| quiet);
        let settled = self.wait_for(settling.until, cancel, settled)?;
        self.session.handle_settled(settled, settling)
    }

    /// Reads what has arrived and sends what can be sent, after a request was aborted. Returns
    /// whether the connection can be used again, if the request has ended; otherwise what to wait
    /// for.
    pub(crate) fn poll_drained(&mut self, key: RequestKey) -> Result<bool, PollFlags> {
        self.turn(true);
        let is_quiet = || !socket::is_readable(&*self.stream);
        self.session.drained(key, is_quiet).ok_or_else(|| self.interest())
    }
}

impl Carrier for Link {
    type Who = Wake;

    fn with<T>(&mut self, f: impl FnOnce(&mut Session, &dyn Fn() -> bool) -> T) -> T {
        let done = f(&mut self.session, &|| socket::is_readable(&*self.stream));
        if self.session.take_due() {
            self.turn(false);
        }
        done
    }
}

/// The system could not wait, because there was no descriptor or memory.
pub(crate) fn wait_failed(address: &Arc<str>, source: io::Error) -> Error {
    Error::Io { address: Arc::clone(address), doing: "wait for", source }
}
