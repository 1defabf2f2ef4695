//! A connection: the socket, the protocol's state, and what moves bytes between them.

use std::{
    io::{self, IoSlice},
    os::fd::AsFd,
    sync::Arc,
    time::Instant,
};

use bytes::Buf;
use fcgi_engine::{
    client::Settings,
    observe::{self, OpenConnection, RequestLog, Side},
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

/// Slices of one vectored write.
const MAX_SLICES: usize = 32;

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

/// What [`Link::read`] did.
#[derive(Debug)]
pub(crate) enum Read {
    /// Nothing has come, or the connection is paused.
    Nothing,
    Some,
    Eof,
    /// The connection broke.
    Gone(io::Error),
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
        let mut any = false;
        while !self.write_gone {
            let Some(mut queued) = self.connection.poll_transmit() else { break };
            let mut slices = [IoSlice::new(&[]); MAX_SLICES];
            let n = queued.chunks_vectored(&mut slices);
            match self.stream.write_vectored(&slices[..n]) {
                Ok(0) => self.write_gone = true,
                Ok(n) => {
                    queued.advance(n);
                    self.sent += n as u64;
                    any = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Wrote { any, blocked: true };
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::debug!(address = &*self.address, %error, "application takes no more");
                    self.write_gone = true;
                }
            }
        }
        Wrote { any, blocked: false }
    }

    /// Bytes that wait to be written.
    pub(crate) fn queued(&mut self) -> u64 {
        self.connection.poll_transmit().map_or(0, |queued| queued.remaining() as u64)
    }

    /// Reads once, what is there, into the connection's own window.
    pub(crate) fn read(&mut self) -> Read {
        if !self.connection.wants_read() {
            return Read::Nothing;
        }
        loop {
            return match self.stream.read(self.connection.recv_buffer()) {
                Ok(0) => Read::Eof,
                Ok(n) => match self.connection.handle_recv(n) {
                    Ok(()) => {
                        self.received += n as u64;
                        Read::Some
                    }
                    Err(overrun) => Read::Gone(io::Error::other(overrun)),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Read::Nothing,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Read::Gone(error),
            };
        }
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
