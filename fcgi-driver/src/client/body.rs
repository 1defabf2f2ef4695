//! The bytes of STDIN or DATA of a request.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use fcgi_engine::client::{PIECE, Pieces};
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
        Self::from_stream(ReaderStream { reader: Box::pin(reader), done: false })
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

struct ReaderStream<R> {
    reader: Pin<Box<R>>,
    done: bool,
}

impl<R: futures_io::AsyncRead> Stream for ReaderStream<R> {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.done {
            return Poll::Ready(None);
        }
        let mut buffer = vec![0; PIECE];
        match ready!(this.reader.as_mut().poll_read(cx, &mut buffer)) {
            Ok(0) => {
                this.done = true;
                Poll::Ready(None)
            }
            Ok(n) => {
                buffer.truncate(n);
                Poll::Ready(Some(Ok(buffer.into())))
            }
            Err(error) => {
                this.done = true;
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}
