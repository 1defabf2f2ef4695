//! A response on its way to STDOUT.

use std::{
    fmt::Display,
    io::Read,
    panic::{AssertUnwindSafe, catch_unwind},
};

use fcgi_http::{
    BodyLength, HeadBlock,
    response::{self, HeadWriteError},
};
use http::{Method, Response, StatusCode, response::Parts};

use super::body::Source;
use crate::{
    Error,
    server::{FAILED, Failed, OutputStream, PANICKED},
};

/// Where a response goes, and whether it has begun.
#[derive(Debug)]
pub(super) struct Reply {
    stdout: OutputStream,
    method: Method,
    begun: bool,
}

impl Reply {
    /// A response to a request of this method.
    pub(super) fn new(stdout: OutputStream, method: Method) -> Self {
        Self { stdout, method, begun: false }
    }

    /// The app status, given what answers. When that panics before anything was sent, the web
    /// server gets a page: Apache takes nothing for an empty 200 (W-2).
    pub(super) fn answer(
        &mut self,
        answer: impl FnOnce(&mut Self) -> Result<u32, Failed>,
    ) -> Result<u32, Failed> {
        match catch_unwind(AssertUnwindSafe(|| answer(self))) {
            Ok(status) => status,
            Err(_) => {
                tracing::error!("the handler panicked");
                self.page(StatusCode::INTERNAL_SERVER_ERROR, PANICKED)
            }
        }
    }

    /// The handler, or its response's body, failed.
    pub(super) fn fail(&mut self, error: impl Display) -> Result<u32, Failed> {
        tracing::warn!(%error, "the handler failed");
        self.page(StatusCode::INTERNAL_SERVER_ERROR, FAILED)
    }

    /// A page that names its status, and with which app status the request ends. A response that
    /// has begun is cut instead.
    pub(super) fn page(&mut self, status: StatusCode, app_status: u32) -> Result<u32, Failed> {
        if self.begun {
            return Err(Failed);
        }
        let (parts, text) = response::page(status).into_parts();
        let head = HeadBlock::new(&parts).map_err(|_| Failed)?;
        // Of a request that was aborted nothing is sent.
        if self.begin(head).is_ok() && self.method != Method::HEAD {
            let _ = self.stdout.write_all(text);
        }
        Ok(app_status)
    }

    /// The head alone.
    pub(super) fn begin(&mut self, head: HeadBlock) -> Result<(), Error> {
        self.begun = true;
        self.stdout.write_record(head.into_bytes())
    }

    /// Sends a response; gives the app status.
    pub(super) fn send<B: Read + 'static>(
        &mut self,
        response: Response<B>,
        block: fn(&Parts) -> Result<HeadBlock, HeadWriteError>,
    ) -> Result<u32, Failed> {
        let (mut parts, body) = response.into_parts();
        let mut body = Source::new(body);
        let length = BodyLength::to_send(&mut parts, &self.method, body.size_hint());
        let sized = length.map_err(HeadWriteError::from);
        let (mut length, head) = match sized.and_then(|length| Ok((length, block(&parts)?))) {
            Ok(sized) => sized,
            Err(error) => return self.fail(error),
        };
        if length.is_dropped() {
            return self.begin(head).map(|()| 0).map_err(|_| Failed);
        }
        // The head goes out with the first bytes, and a body that fails at once is a page.
        let mut next = match body.chunk() {
            Ok(chunk) => Some(chunk),
            Err(error) => return self.fail(error),
        };
        if self.begin(head).is_err() {
            return Err(Failed);
        }
        loop {
            let chunk = match next.take() {
                Some(chunk) => Ok(chunk),
                None if body.may_wait() && self.stdout.flush().is_err() => return Err(Failed),
                None => body.chunk(),
            };
            let mut chunk = match chunk {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => return self.fail(error),
            };
            let counted = length.cut(&mut chunk);
            if self.stdout.write_all(chunk).is_err() {
                return Err(Failed);
            }
            if let Err(error) = counted {
                return self.fail(error);
            }
        }
        match length.finish() {
            Ok(()) => Ok(0),
            Err(error) => self.fail(error),
        }
    }
}
