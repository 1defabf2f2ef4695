//! A response on its way to STDOUT.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use fcgi_http::{
    BodyLength, HeadBlock,
    response::{self, HeadWriteError},
};
use http::{Method, Response, StatusCode, response::Parts};
use http_body::Body;
use tower_service::Service;

use super::BoxError;
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

/// The output of a future, or that it panicked.
pub(super) async fn catch<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(polled) => polled.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
}

/// Asks a clone of the service.
pub(super) async fn ask<S, Q>(service: &S, request: Q) -> Result<S::Response, BoxError>
where
    S: Service<Q, Error: Into<BoxError>> + Clone,
{
    let mut service = service.clone();
    poll_fn(|cx| service.poll_ready(cx).map_err(Into::into)).await?;
    service.call(request).await.map_err(Into::into)
}

impl Reply {
    /// A response to a request of this method.
    pub(super) fn new(stdout: OutputStream, method: Method) -> Self {
        Self { stdout, method, begun: false }
    }

    /// The app status, given what the code that answers came to. When it panicked before anything
    /// was sent, the web server gets a page: Apache takes nothing for an empty 200 (W-2).
    pub(super) async fn end(
        &mut self,
        answered: Option<Result<u32, Failed>>,
    ) -> Result<u32, Failed> {
        match answered {
            Some(status) => status,
            None => {
                tracing::error!("the service panicked");
                self.page(StatusCode::INTERNAL_SERVER_ERROR, PANICKED).await
            }
        }
    }

    /// The service failed.
    pub(super) async fn fail(&mut self, error: BoxError) -> Result<u32, Failed> {
        tracing::warn!(error = &*error as &dyn std::error::Error, "the service failed");
        self.page(StatusCode::INTERNAL_SERVER_ERROR, FAILED).await
    }

    /// A page that names its status, and with which app status the request ends. A response that
    /// has begun is cut instead.
    pub(super) async fn page(
        &mut self,
        status: StatusCode,
        app_status: u32,
    ) -> Result<u32, Failed> {
        if self.begun {
            return Err(Failed);
        }
        let (parts, text) = response::page(status).into_parts();
        let head = HeadBlock::new(&parts).map_err(|_| Failed)?;
        // Of a request that was aborted nothing is sent.
        let _ = async {
            self.begin(head).await?;
            if self.method != Method::HEAD {
                self.stdout.write_all(text).await?;
            }
            Ok::<(), Error>(())
        }
        .await;
        Ok(app_status)
    }

    /// The head alone.
    pub(super) async fn begin(&mut self, head: HeadBlock) -> Result<(), Error> {
        self.begun = true;
        self.stdout.write_record(head.into_bytes()).await
    }

    /// Sends a response; gives the app status.
    pub(super) async fn send<B>(
        &mut self,
        response: Response<B>,
        block: fn(&Parts) -> Result<HeadBlock, HeadWriteError>,
    ) -> Result<u32, Failed>
    where
        B: Body<Data: Send, Error: Into<BoxError>>,
    {
        let (mut parts, body) = response.into_parts();
        let mut body = pin!(body);
        let length = BodyLength::to_send(&mut parts, &self.method, body.size_hint().exact());
        let sized = length.map_err(HeadWriteError::from);
        let (mut length, head) = match sized.and_then(|length| Ok((length, block(&parts)?))) {
            Ok(sized) => sized,
            Err(error) => return self.fail(error.into()).await,
        };
        if length.is_dropped() {
            return self.begin(head).await.map(|()| 0).map_err(|_| Failed);
        }
        // The head goes out with what there is of the body, or at once if that is nothing yet.
        let mut next = match poll_fn(|cx| Poll::Ready(poll_data(&mut body, cx))).await {
            Poll::Ready(Err(error)) => return self.fail(error).await,
            Poll::Ready(chunk) => Some(chunk),
            Poll::Pending => None,
        };
        if self.begin(head).await.is_err() {
            return Err(Failed);
        }
        loop {
            let chunk = match next.take() {
                Some(chunk) => chunk,
                None => poll_fn(|cx| poll_data(&mut body, cx)).await,
            };
            let mut chunk = match chunk {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => return self.fail(error).await,
            };
            let counted = length.cut(&mut chunk);
            if self.stdout.write_all(chunk).await.is_err() {
                return Err(Failed);
            }
            if let Err(error) = counted {
                return self.fail(error.into()).await;
            }
        }
        match length.finish() {
            Ok(()) => Ok(0),
            Err(error) => self.fail(error.into()).await,
        }
    }
}

/// The next bytes of a body; trailers, which CGI does not have, are dropped.
fn poll_data<B>(
    body: &mut Pin<&mut B>,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Bytes>, BoxError>>
where
    B: Body<Error: Into<BoxError>>,
{
    loop {
        return match body.as_mut().poll_frame(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(Ok(None)),
            Poll::Ready(Some(Err(error))) => Poll::Ready(Err(error.into())),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(mut data) => Poll::Ready(Ok(Some(data.copy_to_bytes(data.remaining())))),
                Err(_) => continue,
            },
        };
    }
}
