//! A connection: the socket, the protocol's state, and what moves bytes between them.

use std::{io, os::fd::AsFd, sync::Arc, time::Instant};

use bytes::Buf;
use fcgi_engine::{
    client::Settings,
    observe::{self, OpenConnection, RequestLog, Side},
    pump::{self, Read},
};
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, RequestKey, UsageError,
};
use rustix::event::PollFlags;

use super::{
    CancelHandle,
    wait::{Waited, wait},
};
use crate::{Error, stream::Stream, waker::Waker};

/// A connection to an application.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: Arc<Stream>,
    pub(crate) connection: ClientConnection,
    pub(crate) address: Arc<str>,
    pub(crate) settings: Settings,
    /// Ends a wait; made when it is needed.
    pub(crate) waker: Option<Arc<Waker>>,
    /// The application takes no more bytes, but may still have sent some.
    pub(crate) write_gone: bool,
    /// Not to be used again.
    pub(crate) closed: bool,
    /// Bytes so far.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    span: tracing::Span,
    _open: OpenConnection,
}

/// What [`Link::write`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wrote {
    /// Some bytes went out.
    pub(crate) any: bool,
    /// The socket is full.
    pub(crate) blocked: bool,
}

impl Link {
    pub(crate) fn new(
        stream: Stream,
        address: Arc<str>,
        settings: Settings,
        waker: Option<Arc<Waker>>,
    ) -> Self {
        Self {
            stream: Arc::new(stream),
            connection: ClientConnection::new(ClientConfig { limits: settings.limits }),
            span: observe::connection_span(Side::Client, &address),
            address,
            settings,
            waker,
            write_gone: false,
            closed: false,
            sent: 0,
            received: 0,
            _open: OpenConnection::new(Side::Client),
        }
    }

    /// Starts a request.
    pub(crate) fn begin(
        &mut self,
        request: &BeginRequest,
    ) -> Result<(RequestKey, RequestLog), UsageError> {
        let key = self.connection.begin(request)?;
        let _entered = self.span.enter();
        let (role, params) = (request.role, &request.params);
        Ok((key, RequestLog::begin(Side::Client, key.id(), role, params, Instant::now)))
    }

    pub(crate) fn is_reusable(&self) -> bool {
        !self.closed && !self.write_gone && self.connection.is_reusable()
    }

    /// Writes what is queued until the socket is full.
    pub(crate) fn write(&mut self) -> Wrote {
        if self.write_gone {
            return Wrote { any: false, blocked: false };
        }
        match pump::write(&mut self.stream.as_ref(), &mut self.connection) {
            pump::Wrote::Done { bytes, blocked } => {
                self.sent += bytes as u64;
                Wrote { any: bytes > 0, blocked }
            }
            pump::Wrote::Gone(error) => {
                tracing::debug!(address = &*self.address, %error, "application takes no more");
                self.write_gone = true;
                Wrote { any: false, blocked: false }
            }
        }
    }

    /// Bytes that wait to be written.
    pub(crate) fn queued(&mut self) -> u64 {
        self.connection.poll_transmit().map_or(0, |queued| queued.remaining() as u64)
    }

    /// Reads once, what is there, into the connection's own window.
    pub(crate) fn read(&mut self) -> Read {
        let read = pump::read(&mut self.stream.as_ref(), &mut self.connection);
        if let Read::Some { bytes, .. } = read {
            self.received += bytes as u64;
        }
        read
    }

    /// What the socket is to be ready for: bytes, if there is room for them, and room, if it was
    /// full.
    pub(crate) fn interest(&self, blocked: bool) -> PollFlags {
        let mut interest = PollFlags::empty();
        interest.set(PollFlags::IN, self.connection.wants_read());
        interest.set(PollFlags::OUT, blocked);
        interest
    }

    /// Waits until there are bytes to read, or to write if that was blocked.
    pub(crate) fn wait(
        &mut self,
        blocked: bool,
        until: Option<Instant>,
        cancel: Option<&CancelHandle>,
    ) -> Result<Waited, Error> {
        let on = (self.stream.as_fd(), self.interest(blocked));
        wait(Some(on), until, cancel, &mut self.waker)
            .map_err(|source| wait_failed(&self.address, source))
    }

    /// Whether a connection at rest is fit for a request that is about to be sent: it was not
    /// closed, and nothing came that nobody asked for.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.is_reusable() && matches!(self.read(), Read::Nothing)
    }
}

/// The system could not wait, for want of a descriptor or of memory.
pub(crate) fn wait_failed(address: &Arc<str>, source: io::Error) -> Error {
    Error::Io { address: Arc::clone(address), doing: "wait for", source }
}
