//! A response that owns its place on a connection.

use std::{io, time::Instant};

use fcgi_engine::pool::{Reached, Sending};

use super::lease::Lease;
use crate::{
    Error,
    client::{
        Body, CancelHandle, Chunk, Collected, away,
        exchange::{Chunks, Exchange},
    },
};

/// A response in progress, of a request that a [`Pool`](super::Pool) sent. Its connection goes
/// back to the pool as soon as the response was read to its end. Dropping it early aborts the
/// request, of which nothing reaches a later one (H-11): the connection is used again once the
/// application has ended the request, or closed after
/// [`drain_timeout`](crate::client::Connector::drain_timeout); one that is not kept is closed
/// at once. The drop does not wait.
///
/// It is a [`Read`](io::Read) of STDOUT too. STDERR that comes in between is passed over then; it
/// is logged in any case.
#[derive(Debug)]
#[must_use = "dropping a response aborts its request; `detach` lets it go on"]
pub struct Response {
    /// Until the end of the response.
    lease: Option<Lease>,
    exchange: Exchange,
}

impl Response {
    pub(super) fn new(lease: Lease, exchange: Exchange) -> Self {
        Self { lease: Some(lease), exchange }
    }

    /// Waits for something to hand out. The connection is kept if that is an error: to try again.
    pub(super) fn first(&mut self) -> Result<(), Error> {
        if let Some(lease) = &mut self.lease {
            self.exchange.pending = lease.chunk(&mut self.exchange)?;
        }
        if self.exchange.core.is_over() {
            self.finish();
        }
        Ok(())
    }

    /// Back into the queue, if the request that failed is sent again.
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

    /// The next bytes, as soon as there are any; `None` once the application has done the
    /// request, when [`app_status`](Self::app_status) is known.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::Truncated`], [`Error::Protocol`], [`Error::Io`],
    /// [`Error::Body`], [`Error::Timeout`], [`Error::Cancelled`]; after one, `None`.
    pub fn chunk(&mut self) -> Result<Option<Chunk>, Error> {
        if let Some(pending) = self.exchange.pending.take() {
            return Ok(Some(pending));
        }
        let Some(lease) = &mut self.lease else { return Ok(None) };
        let chunk = lease.chunk(&mut self.exchange);
        if self.exchange.core.is_over() {
            self.finish();
        }
        chunk
    }

    /// Where the application is.
    #[cfg(feature = "http")]
    pub(crate) fn address(&self) -> std::sync::Arc<str> {
        std::sync::Arc::clone(self.exchange.core.address())
    }

    /// The application's status, once the response was read to its end.
    #[must_use]
    pub fn app_status(&self) -> Option<u32> {
        self.exchange.app_status()
    }

    /// The whole response, of at most `limit` bytes of STDOUT and as many of STDERR.
    ///
    /// # Errors
    /// As for [`chunk`](Self::chunk); [`Error::TooLarge`].
    pub fn collect(mut self, limit: usize) -> Result<Collected, Error> {
        self.collect_all(limit)
    }

    /// Lets the request go on without its caller, in a thread of its own: its body is sent and its
    /// response read to the end, and dropped. It keeps its place on a connection until then, as if
    /// its caller read it, and the time limits hold: without a
    /// [`total_timeout`](crate::client::Connector::total_timeout) it is given up after ten minutes.
    /// [`Pool::close`](super::Pool::close) does not end it.
    ///
    /// No limit and no handle ends the read of a [body](crate::client::Body::from_reader) that
    /// blocks: the request keeps its place until that read returns. Detach such a request only if
    /// its reader ends by itself, as a file does.
    ///
    /// Where the system has no thread for it, the request is aborted.
    pub fn detach(mut self) {
        if self.lease.is_some() {
            self.exchange.core.detach(Instant::now());
            away::spawn(move || while let Ok(Some(_)) = self.chunk() {});
        }
    }

    /// Gives this request up from another thread.
    #[must_use]
    pub fn cancel_handle(&self) -> CancelHandle {
        self.exchange.cancel_handle()
    }

    /// The request is over, well or not: its connection goes back, or is given up with it.
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

    fn exchange(&mut self) -> Option<&mut Exchange> {
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
