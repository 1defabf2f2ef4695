//! Bodies that are checked against their declared length.

use std::{
    io, mem,
    sync::Arc,
    task::{Poll, ready},
};

use bytes::Bytes;
use fcgi_http::{BodyLength, BodyLengthError};

use super::HttpError;
use crate::{Error, client::Chunk};

/// The body of a response on its way to the caller, checked against its head (CGI-6.3.5-1).
///
/// Call [`poll_chunk`](Self::poll_chunk) for bytes. While it is pending, pass the response's next
/// chunk to [`handle_chunk`](Self::handle_chunk). All bytes that came are handed out before the
/// error that followed them.
#[derive(Debug)]
pub struct Incoming {
    address: Arc<str>,
    length: BodyLength,
    ready: Bytes,
    /// What follows the ready bytes, if that is known.
    end: Option<Result<(), HttpError>>,
    /// The end was handed out.
    over: bool,
}

impl Incoming {
    /// A body of this length, from the application at this address, starting with these bytes.
    #[must_use]
    pub fn new(address: Arc<str>, length: BodyLength, first: Bytes) -> Self {
        let mut body = Self { address, length, ready: Bytes::new(), end: None, over: false };
        body.push(first);
        body
    }

    /// The next bytes, or the end, which is good or an error. Pending while more has to come first.
    pub fn poll_chunk(&mut self) -> Poll<Result<Option<Bytes>, HttpError>> {
        if !self.ready.is_empty() {
            return Poll::Ready(Ok(Some(mem::take(&mut self.ready))));
        }
        match self.end.take() {
            Some(end) => {
                self.over = true;
                Poll::Ready(end.map(|()| None))
            }
            None if self.over => Poll::Ready(Ok(None)),
            None => Poll::Pending,
        }
    }

    /// Takes the next chunk of the response, its end with the app status, or the error that ended
    /// it.
    pub fn handle_chunk(&mut self, chunk: Result<Option<Chunk>, Error>, app_status: Option<u32>) {
        match chunk {
            Ok(Some(Chunk::Stdout(bytes))) => self.push(bytes),
            // STDERR is in the log.
            Ok(Some(Chunk::Stderr(_))) => {}
            Ok(None) => {
                let end = self.finish(app_status.unwrap_or_default());
                self.end.get_or_insert(end);
            }
            Err(error) => {
                self.end.get_or_insert(Err(error.into()));
            }
        }
    }

    /// Takes back the rest of the bytes that were handed out last, to hand them out next.
    pub fn give_back(&mut self, rest: Bytes) {
        if self.ready.is_empty() {
            self.ready = rest;
        } else {
            self.ready = [&rest[..], &self.ready[..]].concat().into();
        }
    }

    /// Whether to take the next chunk as soon as it comes. A caller that has read as many bytes as
    /// Content-Length says may not ask again, but the connection should be kept.
    #[must_use]
    pub fn looks_ahead(&self) -> bool {
        self.end.is_none() && !self.over && self.remaining() == Some(0)
    }

    /// Whether nothing more of the response is needed.
    #[must_use]
    pub const fn has_end(&self) -> bool {
        self.over || self.end.is_some()
    }

    /// Whether only a good end is left to hand out.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.ready.is_empty() && (self.over || matches!(self.end, Some(Ok(()))))
    }

    /// Bytes still to be handed out, if that is known.
    #[must_use]
    pub fn remaining(&self) -> Option<u64> {
        let more = if self.length.is_dropped() { Some(0) } else { self.length.remaining() };
        Some(more? + self.ready.len() as u64)
    }

    fn push(&mut self, mut bytes: Bytes) {
        if self.end.is_some() {
            return;
        }
        if let Err(source) = self.length.cut(&mut bytes) {
            let address = Arc::clone(&self.address);
            self.end = Some(Err(HttpError::Body { address, source }));
        }
        if self.ready.is_empty() {
            self.ready = bytes;
        } else {
            self.ready = [&self.ready[..], &bytes].concat().into();
        }
    }

    /// The request has ended with this status. The body is bad if it is too short. It is also bad
    /// if only its end determines its length and the status is not 0: it may be truncated.
    fn finish(&self, app_status: u32) -> Result<(), HttpError> {
        let address = Arc::clone(&self.address);
        let endless = self.length.declared().is_none() && !self.length.is_dropped();
        match self.length.finish() {
            Err(source) => Err(HttpError::Body { address, source }),
            Ok(()) if app_status != 0 && endless => {
                Err(HttpError::AppStatus { address, app_status })
            }
            Ok(()) => Ok(()),
        }
    }
}

/// A request's body from STDIN, or a Filter's file from DATA, checked against its length.
#[derive(Debug)]
pub struct InputBody {
    length: BodyLength,
    /// The bytes to hand out next.
    first: Option<Bytes>,
}

impl InputBody {
    /// A body of this many bytes, or of unknown length; `None` if it is known that there is no
    /// body. `look` returns what has come of the stream so far: most requests without a length have
    /// no body, and the stream's end has come already.
    pub fn new(
        declared: Option<u64>,
        look: impl FnOnce() -> Poll<Result<Option<Bytes>, Error>>,
    ) -> Option<Self> {
        let mut body = Self { length: BodyLength::new(declared), first: None };
        if declared.is_none_or(|declared| declared == 0) {
            match look() {
                Poll::Ready(Ok(None)) => return None,
                Poll::Pending if body.is_complete() => return None,
                Poll::Ready(Ok(first)) => body.first = first,
                Poll::Ready(Err(_)) | Poll::Pending => {}
            }
        }
        Some(body)
    }

    /// The next bytes, or the end, from what `read` finds on the stream. `read` may wait until all
    /// declared bytes have come. After that anything more is an error, but it is not waited for,
    /// nor is the end of the stream, since some web servers never send it (W-16).
    ///
    /// # Errors
    /// Errors of `read`; [`Error::InputLength`] for more or fewer bytes than declared (FC-6.2-2).
    pub fn poll(
        &mut self,
        read: impl FnOnce(bool) -> Poll<Result<Option<Bytes>, Error>>,
    ) -> Poll<Result<Option<Bytes>, Error>> {
        let chunk = match self.first.take() {
            Some(first) => Some(first),
            None => match read(!self.is_complete()) {
                Poll::Pending if self.is_complete() => None,
                polled => ready!(polled)?,
            },
        };
        let counted = self.length.count(chunk.as_ref().map(Bytes::len));
        Poll::Ready(counted.map(|()| chunk).map_err(|error| {
            let (declared, seen) = match error {
                BodyLengthError::TooLong { declared, seen }
                | BodyLengthError::TooShort { declared, seen } => (declared, seen),
                // Errors of header fields, which don't occur here.
                _ => (0, 0),
            };
            Error::InputLength { declared, seen }
        }))
    }

    /// Bytes still missing, if the length is declared.
    #[must_use]
    pub const fn remaining(&self) -> Option<u64> {
        self.length.remaining()
    }

    fn is_complete(&self) -> bool {
        self.length.remaining() == Some(0)
    }
}

/// The error when a caller's body differs from its declared length.
#[must_use]
pub fn length_error(error: BodyLengthError) -> io::Error {
    let kind = match error {
        BodyLengthError::TooShort { .. } => io::ErrorKind::UnexpectedEof,
        _ => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}
