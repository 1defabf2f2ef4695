//! A response that owns its place on a connection.

use std::{io, time::Instant};

use fcgi_engine::pool::{Reached, Sending};

use super::lease::Lease;
use crate::{
    Error,
    client::{
        Body, CancelHandle, Chunk, away,
        exchange::{Chunks, Exchange},
    },
};

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
#[must_use = "dropping a response aborts its request; `detach` lets it go on"]
pub struct Response {
    /// `None` after the end of the response.
    lease: Option<Lease>,
    exchange: Exchange,
}

impl Response {
    pub(super) fn new(lease: Lease, exchange: Exchange) -> Self {
        Self { lease: Some(lease), exchange }
    }

    /// Waits for something to hand out. After an error the connection is kept, to try again.
    pub(super) fn first(&mut self) -> Result<(), Error> {
        if let Some(lease) = &mut self.lease {
            let first = lease.chunk(&mut self.exchange)?;
            self.exchange.core.hold(first);
        }
        if self.exchange.core.is_over() {
            self.finish();
        }
        Ok(())
    }

    /// Queues the request that failed again, if it can be sent again.
    pub(super) fn again(
        mut self,
        sending: &mut Sending<Body>,
        error: Error,
    ) -> Result<Lease, Error> {
        let Some(mut lease) = self.lease.take() else { return Err(error) };
        let reached = Reached::of(&self.exchange.core);
        if let Err(error) = lease.inner.judge(sending, error, reached) {
            self.lease = Some(lease);
            return Err(error);
        }
        Ok(lease)
    }

    fcgi_engine::response_methods! {
        [;],
        chunk(response) {
            let Some(lease) = &mut response.lease else { return Ok(None) };
            let chunk = lease.chunk(&mut response.exchange);
            if response.exchange.core.is_over() {
                response.finish();
            }
            chunk
        }
        /// [`Error::Cancelled`] after a [handle](Self::cancel_handle) cancelled it.
    }

    fn exchange(&self) -> Option<&Exchange> {
        Some(&self.exchange)
    }

    /// The address of the application.
    #[cfg(feature = "http")]
    pub(crate) fn address(&self) -> std::sync::Arc<str> {
        std::sync::Arc::clone(self.exchange.core.address())
    }

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

    /// Called at the end of the request, successful or not. Gives the connection back, or closes
    /// it.
    fn finish(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.finish(&mut self.exchange);
        }
    }
}

impl Chunks for Response {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, Error> {
        self.chunk()
    }

    fn exchange_mut(&mut self) -> Option<&mut Exchange> {
        Some(&mut self.exchange)
    }
}

impl io::Read for Response {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_stdout(buf)
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        self.finish();
    }
}
