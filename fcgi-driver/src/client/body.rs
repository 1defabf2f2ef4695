//! The bytes of STDIN or DATA of a request.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use fcgi_engine::client::{PieceReader, Pieces};
use futures_core::Stream;

#[cfg(feature = "tokio")]
use crate::io::FromTokio;

fcgi_engine::client_body!(Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>);

impl Body {
    /// Chunks as they come. An error aborts the request.
    pub fn from_stream(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Self {
        Self(Pieces::Source(Box::pin(stream)))
    }

    /// All bytes of a reader. An error aborts the request.
    pub fn from_reader(reader: impl futures_io::AsyncRead + Send + 'static) -> Self {
        Self::from_stream(ReaderStream(Some(PieceReader::new(Box::pin(reader)))))
    }

    /// All bytes of a reader of tokio. An error aborts the request.
    #[cfg(feature = "tokio")]
    pub fn from_tokio_reader(reader: impl tokio::io::AsyncRead + Send + 'static) -> Self {
        Self::from_reader(FromTokio(Box::pin(reader)))
    }

    pub(crate) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let Pieces::Source(stream) = &mut self.0 else {
            return Poll::Ready(self.0.take().map(Ok));
        };
        let chunk = ready!(stream.as_mut().poll_next(cx));
        if !matches!(chunk, Some(Ok(_))) {
            self.0 = Pieces::Empty;
        }
        Poll::Ready(chunk)
    }
}

/// A reader as a stream, until it has ended or failed.
struct ReaderStream<R>(Option<PieceReader<Pin<Box<R>>>>);

impl<R: futures_io::AsyncRead> Stream for ReaderStream<R> {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(reader) = &mut self.0 else { return Poll::Ready(None) };
        let piece =
            ready!(reader.poll_piece(|reader, buffer| reader.as_mut().poll_read(cx, buffer)));
        if !matches!(piece, Ok(Some(_))) {
            self.0 = None;
        }
        Poll::Ready(piece.transpose())
    }
}
