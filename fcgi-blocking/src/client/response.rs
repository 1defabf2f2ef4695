//! A response as it comes, while the request's body still goes out.

use std::io;

use super::{
    CancelHandle, Chunk, Collected, away,
    exchange::{Chunks, Exchange},
    link::Place,
};
use crate::Error;

/// A response in progress. It borrows the connection until it is read to its end or dropped;
/// dropping it early aborts the request, of which nothing reaches a later one (H-11).
///
/// It is a [`Read`](io::Read) of STDOUT too. STDERR that comes in between is passed over then; it
/// is logged in any case.
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
            exchange.pending = first;
        }
        Ok(())
    }

    /// The next bytes, as soon as there are any; `None` once the application has done the
    /// request, when [`app_status`](Self::app_status) is known.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::Truncated`], [`Error::Protocol`], [`Error::Io`],
    /// [`Error::Body`], [`Error::Timeout`], [`Error::Cancelled`]; after one, `None`.
    pub fn chunk(&mut self) -> Result<Option<Chunk>, Error> {
        let Some((place, exchange)) = &mut self.running else { return Ok(None) };
        place.connection().map_or(Ok(None), |link| exchange.chunk(link))
    }

    /// The application's status, once the response was read to its end.
    #[must_use]
    pub fn app_status(&self) -> Option<u32> {
        self.running.as_ref()?.1.app_status()
    }

    /// Lets the request go on without its caller, in a thread of its own: its body is sent and its
    /// response read to the end, and dropped. The client's time limits hold: without a
    /// [`total_timeout`](super::Connector::total_timeout) it is given up after ten minutes. The client's
    /// next request waits for that end; the client may be dropped before it.
    ///
    /// No limit and no handle ends the read of a [body](super::Body::from_reader) that blocks: the
    /// connection is not free until that read returns.
    ///
    /// Where the system has no thread for it, the request is aborted.
    pub fn detach(mut self) {
        if let Some((place, exchange)) = self.running.take() {
            away::run(place, exchange);
        }
    }

    /// The whole response, of at most `limit` bytes of STDOUT and as many of STDERR.
    ///
    /// # Errors
    /// As for [`chunk`](Self::chunk); [`Error::TooLarge`].
    pub fn collect(mut self, limit: usize) -> Result<Collected, Error> {
        self.collect_all(limit)
    }

    /// Gives this request up from another thread.
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
            exchange.abort(link);
            link.session.forget(exchange.core.key());
        }
    }
}
