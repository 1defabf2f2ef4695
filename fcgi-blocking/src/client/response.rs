//! A response, received while the body of the request is still sent.

use std::io;

use fcgi_engine::client::Carrier;

use super::{
    CancelHandle, Chunk, away,
    exchange::{Chunks, Exchange},
    link::Place,
};
use crate::Error;

/// A response in progress. It borrows the connection until it is read to its end or dropped.
/// Dropping it early aborts the request, and none of the response's bytes reach a later request
/// (H-11).
///
/// It is also a [`Read`](io::Read) of STDOUT. That skips STDERR in between, which is logged in any
/// case.
#[derive(Debug)]
#[must_use = "dropping a response aborts its request; `detach` lets it go on"]
pub struct Response<'a> {
    /// `None` once it was detached.
    running: Option<(&'a mut Place, Exchange)>,
}

impl<'a> Response<'a> {
    pub(super) fn new(place: &'a mut Place, exchange: Exchange) -> Self {
        Self { running: Some((place, exchange)) }
    }

    /// Waits for something to hand out.
    pub(super) fn first(&mut self) -> Result<(), Error> {
        let first = self.chunk()?;
        if let Some(exchange) = self.exchange_mut() {
            exchange.core.hold(first);
        }
        Ok(())
    }

    fn exchange(&self) -> Option<&Exchange> {
        self.running.as_ref().map(|(_, exchange)| exchange)
    }

    fcgi_engine::response_methods! {
        [;],
        chunk(response) {
            let Some((place, exchange)) = &mut response.running else { return Ok(None) };
            place.connection().map_or(Ok(None), |link| exchange.chunk(link))
        }
        /// [`Error::Cancelled`](crate::Error::Cancelled) after a [handle](Self::cancel_handle)
        /// cancelled it.
    }

    /// Detaches the request from its caller. A new thread sends its body, reads its response to the
    /// end, and drops it. The client's time limits still apply. Without a
    /// [`total_timeout`](super::Connector::total_timeout) the request is aborted after ten minutes.
    /// The client's next request waits until it has ended. The client may be dropped earlier.
    ///
    /// If a read of the [body](super::Body::from_reader) blocks, no limit and no handle ends it:
    /// the connection is not free until that read returns.
    ///
    /// If the system can't start a thread, the request is aborted.
    pub fn detach(mut self) {
        if let Some((place, exchange)) = self.running.take() {
            away::run(place, exchange);
        }
    }

    /// A handle that aborts this request from another thread.
    #[must_use]
    pub fn cancel_handle(&self) -> CancelHandle {
        self.exchange().map_or_else(CancelHandle::new, Exchange::cancel_handle)
    }
}

impl Chunks for Response<'_> {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, Error> {
        self.chunk()
    }

    fn exchange_mut(&mut self) -> Option<&mut Exchange> {
        self.running.as_mut().map(|(_, exchange)| exchange)
    }
}

impl io::Read for Response<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_stdout(buf)
    }
}

impl Drop for Response<'_> {
    fn drop(&mut self) {
        let Some((place, exchange)) = &mut self.running else { return };
        if let Some(link) = place.connection() {
            link.leave(&mut exchange.core);
        }
    }
}
