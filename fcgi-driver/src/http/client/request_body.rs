//! Turns a request's body into STDIN, with a known length if possible.

use std::{
    fs::File,
    future::poll_fn,
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use fcgi_engine::{
    client::PieceReader,
    http::{Gather, GatherStep, Gathered, UnknownLength, length_error},
};
use fcgi_http::{BodyLength, RequestBody};
use futures_core::Stream;
use http::HeaderMap;
use http_body::Body;

use super::super::{BoxError, HttpError, frames::poll_data};
use crate::client;

/// A body that is ready to be sent, and the value of CONTENT_LENGTH.
pub(super) async fn prepare<B>(
    headers: &HeaderMap,
    body: B,
    unknown: UnknownLength,
) -> Result<(RequestBody, client::Body), HttpError>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let mut gather = Gather::new(headers, body.size_hint().exact(), unknown)?;
    // Most requests have no body, which needs no box.
    let mut body = (!body.is_end_stream()).then(|| Box::pin(body));
    let (length, gathered) = loop {
        let step = gather.step()?;
        match (step, body.as_mut().filter(|body| !body.is_end_stream())) {
            (GatherStep::Done(length, gathered), _) => break (length, gathered),
            // The caller of a body need not poll it to its end.
            (_, None) => gather.handle_chunk(Ok(None))?,
            (GatherStep::Look, Some(body)) => {
                match poll_fn(|cx| Poll::Ready(poll_data(body.as_mut(), cx))).await {
                    Poll::Ready(chunk) => gather.handle_chunk(chunk)?,
                    Poll::Pending => gather.handle_pending(),
                }
            }
            (GatherStep::Wait, Some(body)) => {
                gather.handle_chunk(poll_fn(|cx| poll_data(body.as_mut(), cx)).await)?;
            }
        }
    };
    let body = match gathered {
        Gathered::Bytes(bytes) => bytes.into(),
        Gathered::File(file, length) => {
            client::Body::from_stream(Counted::new(FilePieces::new(file), Some(length)))
        }
        Gathered::Rest(head, length) => {
            let rest = Joined { head, body };
            client::Body::from_stream(Counted::new(rest, length))
        }
    };
    Ok((length, body))
}

/// The bytes of a body that were available at once, then the rest.
struct Joined<B> {
    head: Bytes,
    /// `None` if there is no more.
    body: Option<Pin<Box<B>>>,
}

impl<B: Body<Error: Into<BoxError>>> Stream for Joined<B> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.head.is_empty() {
            return Poll::Ready(Some(Ok(mem::take(&mut self.head))));
        }
        let Some(body) = self.body.as_mut().filter(|body| !body.is_end_stream()) else {
            return Poll::Ready(None);
        };
        let chunk = ready!(poll_data(body.as_mut(), cx));
        Poll::Ready(chunk.map_err(io::Error::other).transpose())
    }
}

/// A stream that fails if its length is not the declared one (FC-6.2-2, Q-4).
pub(super) struct Counted<S> {
    stream: S,
    length: BodyLength,
}

impl<S> Counted<S> {
    pub(super) fn new(stream: S, length: Option<u64>) -> Self {
        Self { stream, length: BodyLength::new(length) }
    }
}

impl<S: Stream<Item = io::Result<Bytes>> + Unpin> Stream for Counted<S> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let chunk = ready!(Pin::new(&mut self.stream).poll_next(cx)).transpose()?;
        let counted = self.length.count(chunk.as_ref().map(Bytes::len));
        Poll::Ready(counted.map_err(length_error).map(|()| chunk).transpose())
    }
}

/// A file from its current position to its end, piece by piece.
pub(super) struct FilePieces(PieceReader<File>);

impl FilePieces {
    pub(super) fn new(file: File) -> Self {
        Self(PieceReader::new(file))
    }
}

impl Stream for FilePieces {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.read_piece().transpose())
    }
}
