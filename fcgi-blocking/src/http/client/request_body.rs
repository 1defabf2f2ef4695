//! A request's body becomes STDIN, of a known length where that can be.

use std::io::{self, Read};

use bytes::{Buf, Bytes, BytesMut};
use fcgi_engine::http::{Spool, Spooled, UnknownLength, length_error};
use fcgi_http::{BodyLength, RequestBody};
use http::{HeaderMap, header::CONTENT_LENGTH};

use super::super::{HttpError, body::Source};
use crate::client;

/// The most of a body of known length that is read before the request is sent, in bytes.
const AT_HAND: u64 = 64 * 1024;

/// A body ready to be sent, and what CONTENT_LENGTH is to say.
pub(super) fn prepare<B: Read + Send + 'static>(
    headers: &HeaderMap,
    body: B,
    unknown: UnknownLength,
) -> Result<(RequestBody, client::Body), HttpError> {
    let declared = RequestBody::from_headers(headers)?;
    let mut source = Source::new(body);
    if let Some(bytes) = source.take_bytes() {
        return Ok(whole(headers, bytes));
    }
    let length = match (source.size_hint(), declared) {
        (Some(length), _) | (None, RequestBody::Length(length)) => Some(length),
        _ => None,
    };
    match (length, unknown) {
        // Bytes at hand can be sent once more on a fresh connection.
        (Some(length), _) if length <= AT_HAND => {
            let (mut bytes, mut counter) = (BytesMut::new(), BodyLength::exactly(length));
            while let Some(chunk) = source.chunk().map_err(failed)? {
                counter.accept(chunk.len()).map_err(|error| failed(length_error(error)))?;
                bytes.extend_from_slice(&chunk);
            }
            counter.finish().map_err(|error| failed(length_error(error)))?;
            Ok(whole(headers, bytes.freeze()))
        }
        (Some(length), _) => {
            let reader = Counted::new(Bytes::new(), source, Some(length));
            Ok((RequestBody::Length(length), client::Body::from_reader(reader)))
        }
        (None, UnknownLength::Stream) => {
            let Some(first) = source.chunk().map_err(failed)? else {
                return Ok(whole(headers, Bytes::new()));
            };
            let reader = Counted::new(first, source, None);
            Ok((RequestBody::Unknown, client::Body::from_reader(reader)))
        }
        (None, UnknownLength::Spool { memory, limit }) => {
            let mut spool = Spool::new(memory, limit);
            while let Some(chunk) = source.chunk().map_err(failed)? {
                spool.push(&chunk)?;
            }
            Ok(match spool.finish()? {
                (_, Spooled::Bytes(bytes)) => whole(headers, bytes),
                (length, Spooled::File(file)) => {
                    let source = Source::new(file);
                    let reader = Counted::new(Bytes::new(), source, Some(length));
                    (RequestBody::Length(length), client::Body::from_reader(reader))
                }
            })
        }
    }
}

fn failed(error: io::Error) -> HttpError {
    HttpError::RequestBody(error.into())
}

/// A body that is at hand; an empty one that was not declared is none.
fn whole(headers: &HeaderMap, bytes: Bytes) -> (RequestBody, client::Body) {
    let length = match (bytes.len() as u64, headers.contains_key(CONTENT_LENGTH)) {
        (0, false) => RequestBody::None,
        (length, _) => RequestBody::Length(length),
    };
    (length, bytes.into())
}

/// A reader that fails when it is not as long as was declared (FC-6.2-2, Q-4).
pub(super) struct Counted<B> {
    /// Handed out next.
    rest: Bytes,
    source: Source<B>,
    length: BodyLength,
}

impl<B: Read + 'static> Counted<B> {
    pub(super) fn new(first: Bytes, source: Source<B>, length: Option<u64>) -> Self {
        Self { rest: first, source, length: BodyLength::new(length) }
    }
}

impl<B: Read + 'static> Read for Counted<B> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            match self.source.chunk()? {
                Some(chunk) => {
                    self.length.accept(chunk.len()).map_err(length_error)?;
                    self.rest = chunk;
                }
                None => self.length.finish().map_err(length_error)?,
            }
        }
        let n = self.rest.len().min(buf.len());
        self.rest.copy_to_slice(&mut buf[..n]);
        Ok(n)
    }
}
