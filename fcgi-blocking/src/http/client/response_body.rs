//! A response's body, read piece by piece.

use std::{
    fmt,
    io::{self, Read},
    task::Poll,
};

use bytes::{Buf, Bytes};
use fcgi_engine::http::Incoming;

use super::super::HttpError;
use crate::pool;

/// The body of a response, checked against its Content-Length (CGI-6.3.5-1). It is a [`Read`].
///
/// It ends with an error if it is shorter or longer than its Content-Length, if the application
/// breaks off, or if it has no Content-Length and the application ends with a status other
/// than 0. Dropping the body before its end aborts the request.
#[must_use = "dropping a body before its end aborts the request"]
pub struct ResponseBody {
    /// `None` after the end.
    response: Option<Box<pool::Response>>,
    incoming: Incoming,
}

impl ResponseBody {
    pub(super) fn new(response: pool::Response, incoming: Incoming) -> Self {
        let response = (!incoming.has_end()).then(|| Box::new(response));
        Self { response, incoming }
    }

    /// Detaches the request from its caller; see
    /// [`pool::Response::detach`](crate::pool::Response::detach).
    pub fn detach(self) {
        if let Some(response) = self.response {
            response.detach();
        }
    }

    /// Waits for the next bytes. Returns `None` at the end of a complete body.
    ///
    /// # Errors
    /// The errors that the type describes; [`HttpError::Call`] with an error of the call. Calls
    /// after an error return `None`.
    pub fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            if let Poll::Ready(next) = self.incoming.poll_chunk() {
                return next;
            }
            let Some(response) = &mut self.response else { return Ok(None) };
            let chunk = response.chunk();
            self.incoming.handle_chunk(chunk, response.app_status());
            if self.incoming.has_end() {
                self.response = None;
            }
        }
    }

    /// The number of bytes that are still to come, if it is known.
    #[must_use]
    pub fn size_hint(&self) -> Option<u64> {
        self.incoming.remaining()
    }
}

impl Read for ResponseBody {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let Some(mut chunk) = self.chunk()? else { return Ok(0) };
        let n = chunk.len().min(buf.len());
        chunk.copy_to_slice(&mut buf[..n]);
        self.incoming.give_back(chunk);
        Ok(n)
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("incoming", &self.incoming).finish_non_exhaustive()
    }
}
