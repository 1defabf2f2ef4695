//! Asks a service, and sends its response to STDOUT.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use fcgi_engine::http::{Reply, ReplyStep};
use http_body::Body as HttpBody;
use tower_service::Service;

use super::{BoxError, frames::poll_data};
use crate::server::{self, Failed};

/// Calls a clone of the service.
pub(super) async fn ask<S, Q>(service: &S, request: Q) -> Result<S::Response, BoxError>
where
    S: Service<Q, Error: Into<BoxError>> + Clone,
{
    let mut service = service.clone();
    poll_fn(|cx| service.poll_ready(cx).map_err(Into::into)).await?;
    service.call(request).await.map_err(Into::into)
}

/// Sends the reply, with the body if it has one. Returns what the handler returns.
pub(super) async fn send<B>(
    mut reply: Reply,
    request: &server::Request,
    body: Option<B>,
) -> Result<u32, Failed>
where
    B: HttpBody<Error: Into<BoxError>>,
{
    let mut body = pin!(body);
    let mut stdout = request.stdout();
    loop {
        let written = match reply.step() {
            ReplyStep::End => return reply.end(),
            ReplyStep::Reject(rejection) => {
                request.reject(rejection);
                continue;
            }
            ReplyStep::Look => {
                match poll_fn(|cx| Poll::Ready(poll_body(body.as_mut(), cx))).await {
                    Poll::Ready(chunk) => reply.handle_body(chunk),
                    Poll::Pending => reply.handle_pending(),
                }
                continue;
            }
            ReplyStep::Read => {
                reply.handle_body(poll_fn(|cx| poll_body(body.as_mut(), cx)).await);
                continue;
            }
            ReplyStep::Record(head) => stdout.write_record(head).await,
            ReplyStep::Write(bytes) => stdout.write_chunk(bytes).await,
        };
        if written.is_err() {
            reply.handle_gone();
        }
    }
}

fn poll_body<B>(
    body: Pin<&mut Option<B>>,
    cx: &mut Context<'_>,
) -> Poll<Result<Option<Bytes>, BoxError>>
where
    B: HttpBody<Error: Into<BoxError>>,
{
    body.as_pin_mut().map_or(Poll::Ready(Ok(None)), |body| poll_data(body, cx))
}
