//! A response that owns its place on a connection.

use std::{io, time::Instant};

use super::lease::Lease;
use crate::{
    Error,
    client::{
        Body, CancelHandle, Chunk, away,
        exchange::{Chunks, Exchange},
    },
};

fcgi_engine::pool_response! {
    /// A response in progress, for a request that a [`Pool`](super::Pool) sent. Its connection goes
    /// back to the pool as soon as the response was read to its end.
    ///
    /// Dropping it early aborts the request. The drop does not wait. None of the aborted response's
    /// bytes reach a later request (H-11): the connection is only used again once the application has
    /// ended the request. If that takes longer than
    /// [`drain_timeout`](crate::client::Connector::drain_timeout), the connection is closed. A
    /// connection that is not kept is closed at once.
    ///
    /// It is also a [`Read`](io::Read) of STDOUT. That skips STDERR in between, which is logged in any
    /// case.
    #[derive(Debug)]
    [;], [], Response: Lease, Exchange;
    next(lease, exchange) { lease.chunk(exchange) }
    /// [`Error::Cancelled`] after a [handle](Self::cancel_handle) cancelled it.
}

impl Response {
    /// Detaches the request from its caller. A new thread sends its body, reads its response to the
    /// end, and drops it. The request keeps its place on a connection until then, and the time
    /// limits still apply. Without a [`total_timeout`](crate::client::Connector::total_timeout) it
    /// is aborted after ten minutes. [`Pool::close`](super::Pool::close) does not end it.
    ///
    /// If a read of the [body](crate::client::Body::from_reader) blocks, no limit and no handle
    /// ends it: the request keeps its place until that read returns. Detach such a request only if
    /// its reader ends by itself, as a file does.
    ///
    /// If the system can't start a thread, the request is aborted.
    pub fn detach(mut self) {
        if self.lease.is_some() {
            self.exchange.core.detach(Instant::now());
            away::spawn(move || while let Ok(Some(_)) = self.chunk() {});
        }
    }

    /// A handle that aborts this request from another thread.
    #[must_use]
    pub fn cancel_handle(&self) -> CancelHandle {
        self.exchange.cancel_handle()
    }
}

impl Chunks for Response {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, Error> {
        self.chunk()
    }

    fn exchange_mut(&mut self) -> Option<&mut Exchange> {
        self.exchange_mut()
    }
}

impl io::Read for Response {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_stdout(buf)
    }
}
