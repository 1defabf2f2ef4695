//! A request's body becomes STDIN, of a known length where that can be.

use std::{
    fs::File,
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use fcgi_engine::http::{Spool, Spooled, UnknownLength, length_error, read_piece};
use fcgi_http::{BodyLength, RequestBody};
use futures_core::Stream;
use http::{HeaderMap, header::CONTENT_LENGTH};
use http_body::Body;

use super::super::{BoxError, HttpError};
use crate::client;

/// The most of a body that is looked at before the request is sent, in bytes, without waiting.
const AT_HAND: usize = 64 * 1024;

/// A body ready to be sent, and what CONTENT_LENGTH is to say.
pub(super) async fn prepare<B>(
    headers: &HeaderMap,
    body: B,
    unknown: UnknownLength,
) -> Result<(RequestBody, client::Body), HttpError>
where
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let declared = RequestBody::from_headers(headers)?;
    let exact = body.size_hint().exact();
    let mut pump = Pump { body: Box::pin(body), ended: false };
    // Bytes at hand can be sent once more on a fresh connection, and small bodies of unknown
    // length mostly are.
    let mut head = Vec::new();
    let mut held = 0;
    while held < AT_HAND && !pump.ended {
        match poll_fn(|cx| Poll::Ready(pump.poll_data(cx))).await {
            Poll::Pending => break,
            Poll::Ready(chunk) => {
                let chunk = chunk.map_err(HttpError::RequestBody)?;
                held += chunk.as_ref().map_or(0, Bytes::len);
                head.extend(chunk);
            }
        }
    }
    if pump.ended {
        let bytes = concat(head);
        let length = match (bytes.len() as u64, headers.contains_key(CONTENT_LENGTH)) {
            (0, false) => RequestBody::None,
            (length, _) => RequestBody::Length(length),
        };
        return Ok((length, bytes.into()));
    }
    let length = match (exact, declared) {
        (Some(length), _) | (None, RequestBody::Length(length)) => Some(length),
        _ => None,
    };
    match (length, unknown) {
        (Some(length), _) => {
            let stream = Counted::new(Joined::new(head, pump), Some(length));
            Ok((RequestBody::Length(length), client::Body::from_stream(stream)))
        }
        (None, UnknownLength::Stream) => {
            let stream = Joined::new(head, pump);
            Ok((RequestBody::Unknown, client::Body::from_stream(stream)))
        }
        (None, UnknownLength::Spool { memory, limit }) => spool(head, pump, memory, limit).await,
    }
}

fn concat(mut chunks: Vec<Bytes>) -> Bytes {
    match chunks.len() {
        0 => Bytes::new(),
        1 => chunks.remove(0),
        _ => chunks.concat().into(),
    }
}

async fn spool<B>(
    head: Vec<Bytes>,
    mut pump: Pump<B>,
    memory: usize,
    limit: u64,
) -> Result<(RequestBody, client::Body), HttpError>
where
    B: Body<Error: Into<BoxError>>,
{
    let mut spool = Spool::new(memory, limit);
    for chunk in head {
        spool.push(&chunk)?;
    }
    while let Some(chunk) =
        poll_fn(|cx| pump.poll_data(cx)).await.map_err(HttpError::RequestBody)?
    {
        spool.push(&chunk)?;
    }
    let (length, kept) = spool.finish()?;
    let body = match kept {
        Spooled::Bytes(bytes) => bytes.into(),
        Spooled::File(file) => client::Body::from_stream(Counted::new(Pieces(file), Some(length))),
    };
    Ok((RequestBody::Length(length), body))
}

/// The data of a body, without its trailers.
struct Pump<B> {
    body: Pin<Box<B>>,
    ended: bool,
}

impl<B: Body<Error: Into<BoxError>>> Pump<B> {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, BoxError>> {
        loop {
            if self.ended || self.body.is_end_stream() {
                self.ended = true;
                return Poll::Ready(Ok(None));
            }
            let frame = match ready!(self.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Err(error.into()));
                }
                None => {
                    self.ended = true;
                    return Poll::Ready(Ok(None));
                }
            };
            if let Ok(mut data) = frame.into_data() {
                if data.has_remaining() {
                    return Poll::Ready(Ok(Some(data.copy_to_bytes(data.remaining()))));
                }
            }
        }
    }
}

/// What was at hand of a body, then the rest.
struct Joined<B> {
    head: std::vec::IntoIter<Bytes>,
    pump: Pump<B>,
}

impl<B> Joined<B> {
    fn new(head: Vec<Bytes>, pump: Pump<B>) -> Self {
        Self { head: head.into_iter(), pump }
    }
}

impl<B: Body<Error: Into<BoxError>>> Stream for Joined<B> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(chunk) = self.head.next() {
            return Poll::Ready(Some(Ok(chunk)));
        }
        self.pump.poll_data(cx).map(|chunk| chunk.map_err(io::Error::other).transpose())
    }
}

/// A stream that fails when it is not as long as was declared (FC-6.2-2, Q-4).
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
        let chunk = ready!(Pin::new(&mut self.stream).poll_next(cx));
        let counted = match &chunk {
            Some(Ok(bytes)) => self.length.accept(bytes.len()).map(drop),
            Some(Err(_)) => Ok(()),
            None => self.length.finish(),
        };
        Poll::Ready(match counted {
            Ok(()) => chunk,
            Err(error) => Some(Err(length_error(error))),
        })
    }
}

/// A file from where it stands to its end, piece by piece.
pub(super) struct Pieces(pub(super) File);

impl Stream for Pieces {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(match read_piece(&mut self.0) {
            Ok(piece) if piece.is_empty() => None,
            read => Some(read),
        })
    }
}
