//! Turns a request's body into STDIN, with a known length if possible.

use std::io::Read;

use fcgi_engine::http::{Gather, GatherStep, Gathered, UnknownLength};
use fcgi_http::RequestBody;
use http::HeaderMap;

use super::super::{
    Body, HttpError,
    body::{Source, size_hint},
};
use crate::client;

/// A body that is ready to be sent, and the value of CONTENT_LENGTH.
pub(super) fn prepare<B: Read + Send + 'static>(
    headers: &HeaderMap,
    body: B,
    unknown: UnknownLength,
) -> Result<(RequestBody, client::Body), HttpError> {
    let mut gather = Gather::new(headers, size_hint(&body), unknown)?;
    let mut source = Source::new(body);
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
                        client::Body::from_reader(Body::sized(file, length))
                    }
                    Gathered::Rest(head, length) => {
                        client::Body::from_reader(Body::after(head, source, length))
                    }
                };
                return Ok((length, body));
            }
        }
    }
}
