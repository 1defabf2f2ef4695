//! A response, received while the body of the request is still sent.

use std::{
    fmt,
    future::poll_fn,
    task::{Context, Poll},
};

use fcgi_engine::client::Carrier;

use super::{Chunk, Exchange, away, connection::Place};
use crate::{Error, runtime::Runtime};

/// Makes the response of a client or a pool a stream and a reader: for a type with `poll_chunk` and
/// `exchange_mut`.
macro_rules! response {
    ([$($generics:tt)*] $response:ty) => {
        impl<$($generics)*> $response {
            /// Bytes of STDOUT, for a reader.
            fn poll_bytes(
                &mut self,
                cx: &mut ::std::task::Context<'_>,
                max: usize,
            ) -> ::std::task::Poll<::std::io::Result<::bytes::Bytes>> {
                loop {
                    let chunk = ::std::task::ready!(self.poll_chunk(cx))?;
                    let Some(exchange) = self.exchange_mut() else {
                        return ::std::task::Poll::Ready(Ok(::bytes::Bytes::new()));
                    };
                    if let Some(bytes) = exchange.core.cut(chunk, max) {
                        return ::std::task::Poll::Ready(Ok(bytes));
                    }
                }
            }
        }

        $crate::io::byte_reader!([$($generics)*] $response);

        impl<$($generics)*> ::futures_core::Stream for $response {
            type Item = Result<$crate::client::Chunk, $crate::Error>;

            fn poll_next(
                self: ::std::pin::Pin<&mut Self>,
                cx: &mut ::std::task::Context<'_>,
            ) -> ::std::task::Poll<Option<Self::Item>> {
                self.get_mut().poll_chunk(cx).map(Result::transpose)
            }
        }
    };
}

pub(crate) use response;

/// A response in progress. It borrows the connection until it is read to its end or dropped.
/// Dropping it early aborts the request, and none of the response's bytes reach a later request
/// (H-11).
///
/// It is also a [`Stream`](futures_core::Stream) of chunks and a [`futures_io::AsyncRead`] of
/// STDOUT, and with the feature `tokio` an `AsyncRead` of tokio. A reader skips STDERR, which is
/// logged in any case.
#[must_use = "dropping a response aborts its request; `detach` lets it go on"]
pub struct Response<'a, R: Runtime> {
    /// `None` once it was detached.
    pub(super) running: Option<(&'a mut Place<R>, Exchange<R>)>,
}

impl<R: Runtime> Response<'_, R> {
    fcgi_engine::response_methods! {
        [async; .await],
        chunk(response) { poll_fn(|cx| response.poll_chunk(cx)).await }
    }

    /// Detaches the request from its caller. A new task sends its body, reads its response to the
    /// end, and drops it. The client's time limits still apply. Without a
    /// [`total_timeout`](super::Connector::total_timeout) the request is aborted after ten minutes.
    /// The client's next request waits until it has ended. The client may be dropped earlier.
    ///
    /// If no runtime can run the task, the request is aborted.
    pub fn detach(mut self) {
        if let Some((place, exchange)) = self.running.take() {
            away::run(place, exchange);
        }
    }

    fn exchange(&self) -> Option<&Exchange<R>> {
        self.running.as_ref().map(|(_, exchange)| exchange)
    }

    fn exchange_mut(&mut self) -> Option<&mut Exchange<R>> {
        self.running.as_mut().map(|(_, exchange)| exchange)
    }

    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Chunk>, Error>> {
        let Some((place, exchange)) = &mut self.running else { return Poll::Ready(Ok(None)) };
        match place.connection() {
            Some(connection) => connection.poll_exchange(cx, exchange),
            None => Poll::Ready(Ok(None)),
        }
    }
}

response!([R: Runtime] Response<'_, R>);

impl<R: Runtime> fmt::Debug for Response<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("running", &self.running).finish_non_exhaustive()
    }
}

impl<R: Runtime> Drop for Response<'_, R> {
    fn drop(&mut self) {
        let Some((place, exchange)) = &mut self.running else { return };
        if let Some(connection) = place.connection() {
            connection.leave(&mut exchange.core);
        }
    }
}
