//! A connection: the socket, and what the engine makes of it.

use std::{io, os::fd::AsFd, sync::Arc, time::Instant};

use fcgi_engine::client::{self, Settings, Wrote};
use fcgi_proto::BeginRequest;
use rustix::event::PollFlags;

use super::{
    Body, CancelHandle, Wake,
    exchange::Exchange,
    wait::{Waited, wait},
};
use crate::{Error, stream::Stream, waker::Waker};

pub(crate) type Session = client::Session<Wake>;

/// A connection to an application.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: Arc<Stream>,
    pub(crate) session: Session,
    /// Ends a wait; made when it is needed.
    pub(crate) waker: Option<Arc<Waker>>,
}

impl Link {
    pub(crate) fn new(
        stream: Stream,
        address: Arc<str>,
        settings: Settings,
        waker: Option<Arc<Waker>>,
    ) -> Self {
        Self { stream: Arc::new(stream), session: Session::new(address, settings), waker }
    }

    /// Begins a request, whose time counts from `started`. It takes the bodies only if it can.
    pub(crate) fn begin(
        &mut self,
        begin: &BeginRequest,
        bodies: impl FnOnce() -> [Body; 2],
        started: Instant,
        cancel: Option<CancelHandle>,
    ) -> Result<Exchange, Error> {
        let core = self.session.begin(begin, started, Instant::now())?;
        Ok(Exchange::new(core, begin, self.session.span(), bodies(), cancel))
    }

    /// Gives a request up, unless it has ended, and sends what can be sent of that without waiting.
    /// What comes of it is still noted, until it is forgotten.
    pub(crate) fn abort(&mut self, exchange: &mut Exchange) {
        exchange.core.give_up(Instant::now);
        if self.session.abort(exchange.core.key()) {
            self.write();
        }
    }

    pub(crate) fn is_reusable(&self) -> bool {
        self.session.is_reusable()
    }

    /// Hands on what has happened.
    pub(crate) fn handle_events(&mut self) {
        self.session.handle_events(|who| who.wake());
    }

    /// Writes what is queued until the socket is full.
    pub(crate) fn write(&mut self) -> Wrote {
        self.session.write(&mut self.stream.as_ref(), Instant::now())
    }

    /// Takes in what has come; says whether there is anything new, the end included.
    pub(crate) fn read(&mut self) -> bool {
        self.session.read(&mut self.stream.as_ref())
    }

    /// What the socket is to be ready for: bytes, if there is room for them, and room, if it was
    /// full.
    pub(crate) fn interest(&self) -> PollFlags {
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::IN, self.session.wants_read());
        interest.set(PollFlags::OUT, self.session.is_blocked());
        interest
    }

    /// Waits until there are bytes to read, or to write if that was blocked.
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

    /// Takes in what there is and sends what can be sent, until `done` says that it is.
    pub(crate) fn wait_for<T>(
        &mut self,
        until: Option<Instant>,
        cancel: Option<&CancelHandle>,
        mut done: impl FnMut(&mut Session) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        loop {
            self.handle_events();
            self.write();
            if self.read() {
                continue;
            }
            if let Some(done) = done(&mut self.session) {
                return Ok(Some(done));
            }
            match self.wait(until, cancel)? {
                Waited::Ready(_) => {}
                Waited::TimedOut => return Ok(None),
                Waited::Woken => {
                    if cancel.is_some_and(CancelHandle::is_cancelled) {
                        let address = Arc::clone(self.session.address());
                        return Err(Error::Cancelled { address });
                    }
                }
            }
        }
    }

    /// Waits for the end of a request that was aborted, and notices a connection that the
    /// application has closed meanwhile.
    pub(crate) fn settle(&mut self, cancel: Option<&CancelHandle>) -> Result<(), Error> {
        let until = Instant::now().checked_add(self.session.settings().drain);
        if self.wait_for(until, cancel, |session| session.settled())? == Some(true) {
            return Ok(());
        }
        self.session.close();
        Err(self.session.closed())
    }

    /// Takes in what has come, and sends what can be sent, after a request was aborted: whether the
    /// connection is at rest once that has ended. Else what is to be waited for.
    pub(crate) fn poll_settled(&mut self) -> Result<bool, PollFlags> {
        self.write();
        self.read();
        self.handle_events();
        self.session.settled().ok_or_else(|| self.interest())
    }

    /// Whether a connection at rest is fit for a request that is about to be sent: it was not
    /// closed, and nothing came that nobody asked for.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.is_reusable() && !self.read()
    }
}

/// The system could not wait, for want of a descriptor or of memory.
pub(crate) fn wait_failed(address: &Arc<str>, source: io::Error) -> Error {
    Error::Io { address: Arc::clone(address), doing: "wait for", source }
}
