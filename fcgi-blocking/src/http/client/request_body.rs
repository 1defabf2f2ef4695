//! Turns a request's body into STDIN, with a known length if possible.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use fcgi_engine::http::{Gather, GatherStep, Gathered, UnknownLength, length_error};
use fcgi_http::{BodyLength, RequestBody};
use http::HeaderMap;

use super::super::{HttpError, body::Source};
use crate::client;

/// A body that is ready to be sent, and the value of CONTENT_LENGTH.
pub(super) fn prepare<B: Read + Send + 'static>(
    headers: &HeaderMap,
    body: B,
    unknown: UnknownLength,
) -> Result<(RequestBody, client::Body), HttpError> {
    let mut source = Source::new(body);
    let mut gather = Gather::new(headers, source.size_hint(), unknown)?;
    loop {
        match gather.step()? {
            GatherStep::Look if !source.is_at_hand() && !gather.is_worth_waiting() => {
                gather.handle_pending();
            }
            GatherStep::Look | GatherStep::Wait => {
                gather.handle_chunk(source.chunk().map_err(Into::into))?;
            }
            GatherStep::Done(length, gathered) => {
                let body = match gathered {
                    Gathered::Bytes(bytes) => bytes.into(),
                    Gathered::File(file, length) => {
                        Counted::new(Vec::new(), Source::new(file), Some(length)).into_body()
                    }
                    Gathered::Rest(head, length) => Counted::new(head, source, length).into_body(),
                };
                return Ok((length, body));
            }
        }
    }
}

/// A reader that fails if its length is not the declared one (FC-6.2-2, Q-4).
pub(super) struct Counted<B> {
    /// These are handed out first.
    head: std::vec::IntoIter<Bytes>,
    source: Source<B>,
    length: BodyLength,
    /// Bytes that `Read` took from the body and has not handed out yet.
    rest: Bytes,
}

impl<B: Read + Send + 'static> Counted<B> {
    pub(super) fn new(head: Vec<Bytes>, source: Source<B>, length: Option<u64>) -> Self {
        let (head, length) = (head.into_iter(), BodyLength::new(length));
        Self { head, source, length, rest: Bytes::new() }
    }

    pub(super) fn into_body(self) -> client::Body {
        client::Body::from_reader(self)
    }
}

impl<B: Read + 'static> Read for Counted<B> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.rest.is_empty() {
            let chunk = match self.head.next() {
                Some(chunk) => Some(chunk),
                None => self.source.chunk()?,
            };
            self.length.count(chunk.as_ref().map(Bytes::len)).map_err(length_error)?;
            self.rest = chunk.unwrap_or_default();
        }
        let n = self.rest.len().min(buf.len());
        self.rest.copy_to_slice(&mut buf[..n]);
        Ok(n)
    }
}
