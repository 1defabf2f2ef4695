//! Sends a response to STDOUT.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
};

use fcgi_engine::http::{Reply, ReplyStep};
use http_body::Body as HttpBody;
use tower_service::Service;

use super::{Body, BoxError, frames::poll_data};
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

/// Sends a response.
pub(super) async fn send<B>(reply: &mut Reply, request: &server::Request, mut body: Pin<&mut B>)
where
    B: HttpBody<Error: Into<BoxError>>,
{
    let mut stdout = request.stdout();
    loop {
        let written = match reply.step() {
            ReplyStep::End => return,
            ReplyStep::Reject(rejection) => {
                request.reject(rejection);
                continue;
            }
            ReplyStep::Look => {
                match poll_fn(|cx| Poll::Ready(poll_data(body.as_mut(), cx))).await {
                    Poll::Ready(chunk) => reply.handle_body(chunk),
                    Poll::Pending => reply.handle_pending(),
                }
                continue;
            }
            ReplyStep::Read => {
                reply.handle_body(poll_fn(|cx| poll_data(body.as_mut(), cx)).await);
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

/// Awaits the handler's answer, and sends what is then left to send. Returns what the handler
/// returns.
pub(super) async fn finish(
    mut reply: Reply,
    request: &server::Request,
    answer: impl AsyncFnOnce(&mut Reply),
) -> Result<u32, Failed> {
    answer(&mut reply).await;
    send(&mut reply, request, pin!(Body::empty())).await;
    reply.end()
}
