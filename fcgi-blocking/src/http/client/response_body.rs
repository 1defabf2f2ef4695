//! A response's body as it comes.

use std::{
    fmt,
    io::{self, Read},
};

use bytes::{Buf, Bytes};
use fcgi_engine::http::BodyCheck;
use fcgi_http::BodyLength;

use super::super::HttpError;
use crate::{client::Chunk, pool};

/// The body of a response, held against its Content-Length (CGI-6.3.5-1). It is a [`Read`].
///
/// It ends with an error when it is shorter or longer than that, when the application breaks off
/// or when it ends with a status other than 0 and has not said how long the body is.
/// Dropping it before its end aborts the request.
pub struct ResponseBody {
    /// Until its end.
    response: Option<Box<pool::Response>>,
    /// What came with the head.
    first: Bytes,
    /// What `Read` has taken and not handed out.
    rest: Bytes,
    check: BodyCheck,
}

impl ResponseBody {
    pub(super) fn new(response: pool::Response, first: Bytes, length: BodyLength) -> Self {
        let check = BodyCheck::new(response.address(), length);
        Self { response: Some(Box::new(response)), first, rest: Bytes::new(), check }
    }

    /// The next bytes, as soon as there are any; `None` at a good end.
    ///
    /// # Errors
    /// See the type; [`HttpError::Call`] with what the call meets. After one, `None`.
    pub fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        if !self.rest.is_empty() {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        loop {
            if let Some(error) = self.check.take_error() {
                self.response = None;
                return Err(error);
            }
            let bytes = if self.first.is_empty() {
                let Some(bytes) = self.stdout()? else { return Ok(None) };
                bytes
            } else {
                std::mem::take(&mut self.first)
            };
            if let Some(bytes) = self.check.accept(bytes) {
                return Ok(Some(bytes));
            }
        }
    }

    /// How many bytes are still to be read, where that is known.
    #[must_use]
    pub fn size_hint(&self) -> Option<u64> {
        Some(self.check.remaining()? + self.rest.len() as u64)
    }

    /// The next bytes of STDOUT; `None` at a good end.
    fn stdout(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            let Some(response) = &mut self.response else { return Ok(None) };
            match response.chunk() {
                Ok(Some(Chunk::Stdout(bytes))) if !bytes.is_empty() => return Ok(Some(bytes)),
                // STDERR is in the log.
                Ok(Some(_)) => {}
                Ok(None) => {
                    let app_status = response.app_status().unwrap_or_default();
                    self.response = None;
                    return self.check.end(app_status).map(|()| None);
                }
                Err(error) => {
                    self.response = None;
                    return Err(error.into());
                }
            }
        }
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
        self.rest = chunk;
        Ok(n)
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("check", &self.check).finish_non_exhaustive()
    }
}
