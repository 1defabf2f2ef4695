//! A response, received while the body of the request is still sent.

use std::io;

use super::{
    CancelHandle, Chunk, Collected, away,
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
        if let Some(exchange) = self.exchange() {
            exchange.core.hold(first);
        }
        Ok(())
    }

    /// Waits for the next bytes. Returns `None` once the application has finished the request;
    /// [`app_status`](Self::app_status) is known then.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::Truncated`], [`Error::Protocol`], [`Error::Io`],
    /// [`Error::Body`], [`Error::Timeout`], [`Error::Cancelled`]. Calls after an error return
    /// `None`.
    pub fn chunk(&mut self) -> Result<Option<Chunk>, Error> {
        let Some((place, exchange)) = &mut self.running else { return Ok(None) };
        place.connection().map_or(Ok(None), |link| exchange.chunk(link))
    }

    /// The application's status, if the response was read to its end.
    #[must_use]
    pub fn app_status(&self) -> Option<u32> {
        self.running.as_ref()?.1.core.app_status()
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

    /// Reads the whole response, of at most `limit` bytes of STDOUT and `limit` bytes of STDERR.
    ///
    /// # Errors
    /// Those of [`chunk`](Self::chunk), and [`Error::TooLarge`].
    pub fn collect(mut self, limit: usize) -> Result<Collected, Error> {
        self.collect_all(limit)
    }

    /// A handle that aborts this request from another thread.
    #[must_use]
    pub fn cancel_handle(&self) -> CancelHandle {
        match &self.running {
            Some((_, exchange)) => exchange.cancel_handle(),
            None => CancelHandle::new(),
        }
    }
}

impl Chunks for Response<'_> {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, Error> {
        self.chunk()
    }

    fn exchange(&mut self) -> Option<&mut Exchange> {
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
            exchange.leave(link);
        }
    }
}
