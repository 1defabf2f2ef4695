//! A response as it comes, while the request's body still goes out.

use std::io;

use super::{
    CancelHandle, Chunk, Client, Collected,
    exchange::{Chunks, Exchange},
};
use crate::Error;

/// A response in progress. It borrows the connection until it is read to its end or dropped;
/// dropping it early aborts the request, of which nothing reaches a later one (H-11).
///
/// It is a [`Read`](io::Read) of STDOUT too. STDERR that comes in between is passed over then; it
/// is logged in any case.
#[derive(Debug)]
pub struct Response<'a> {
    client: &'a mut Client,
    exchange: Exchange,
}

impl<'a> Response<'a> {
    pub(super) fn new(client: &'a mut Client, exchange: Exchange) -> Self {
        Self { client, exchange }
    }

    /// Waits for something to hand out.
    pub(super) fn first(&mut self) -> Result<(), Error> {
        self.exchange.pending = self.chunk()?;
        Ok(())
    }

    /// The next bytes, as soon as there are any; `None` once the application has done the
    /// request, when [`app_status`](Self::app_status) is known.
    ///
    /// # Errors
    /// [`Error::Rejected`], [`Error::Truncated`], [`Error::Protocol`], [`Error::Io`],
    /// [`Error::Body`], [`Error::Timeout`], [`Error::Cancelled`]; after one, `None`.
    pub fn chunk(&mut self) -> Result<Option<Chunk>, Error> {
        self.exchange.chunk(&mut self.client.link)
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

    /// Gives this request up from another thread.
    #[must_use]
    pub fn cancel_handle(&self) -> CancelHandle {
        self.exchange.cancel_handle()
    }
}

impl Chunks for Response<'_> {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, Error> {
        self.chunk()
    }

    fn exchange(&mut self) -> &mut Exchange {
        &mut self.exchange
    }
}

impl io::Read for Response<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_stdout(buf)
    }
}

impl Drop for Response<'_> {
    fn drop(&mut self) {
        self.exchange.abort(&mut self.client.link);
        self.client.link.session.forget(self.exchange.core.key());
    }
}
