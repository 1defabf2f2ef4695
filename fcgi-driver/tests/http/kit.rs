//! Services, bodies and requests that tests put together.

use std::{
    collections::VecDeque,
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use fcgi_driver::{
    Error,
    client::{Chunk, Collected, Request},
    http::{Body, BoxError, Responder},
    server::Server,
};
use fcgi_testkit::sim;
use http::{Response, response::Builder};
use http_body::Frame;
use http_body_util::{BodyExt, Full};

use crate::support::{builder, call, ms, serve};

/// Any body, as tests' services answer with.
pub(crate) type AnyBody = http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>;

pub(crate) fn full(bytes: impl Into<Bytes>) -> AnyBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A response with a body.
pub(crate) fn answer(head: Builder, body: impl Into<Bytes>) -> Response<AnyBody> {
    head.body(full(body)).unwrap()
}

/// What a body does next.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Data(&'static str),
    Sleep(u64),
    Fail,
    Panic,
}

/// A body of unknown length.
pub(crate) fn steps(steps: impl IntoIterator<Item = Step>) -> AnyBody {
    Steps { steps: steps.into_iter().collect(), sleeping: None }.boxed_unsync()
}

struct Steps {
    steps: VecDeque<Step>,
    sleeping: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl http_body::Body for Steps {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(sleeping) = &mut self.sleeping {
                std::task::ready!(sleeping.as_mut().poll(cx));
                self.sleeping = None;
            }
            return Poll::Ready(match self.steps.pop_front() {
                None => None,
                Some(Step::Data(data)) => Some(Ok(Frame::data(data.into()))),
                Some(Step::Fail) => Some(Err("the body failed".into())),
                Some(Step::Panic) => panic!("the body panicked"),
                Some(Step::Sleep(n)) => {
                    self.sleeping = Some(Box::pin(sim::sleep(ms(n))));
                    continue;
                }
            });
        }
    }
}

/// A service made of a function.
pub(crate) fn service<F, Fut, B>(
    f: F,
) -> impl tower::Service<http::Request<Body>, Response = Response<B>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ Sync
+ 'static
where
    F: Fn(http::Request<Body>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<B>> + Send + 'static,
    B: 'static,
{
    tower::service_fn(move |request| {
        let answered = f(request);
        async move { Ok(answered.await) }
    })
}

/// A request as nginx sends it.
pub(crate) fn get(path: &str) -> Request {
    of_method("GET", path)
}

pub(crate) fn of_method(method: &str, path: &str) -> Request {
    Request::responder()
        .param("REQUEST_METHOD", method)
        .param("REQUEST_URI", path)
        .param("SERVER_PROTOCOL", "HTTP/1.1")
}

pub(crate) fn post(body: &'static str) -> Request {
    of_method("POST", "/").param("CONTENT_LENGTH", body.len().to_string()).stdin(body)
}

/// Calls our server, whose requests this function answers.
pub(crate) fn ask<F, Fut, B>(request: Request, f: F) -> Collected
where
    F: Fn(http::Request<Body>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    sim::run(1, async move {
        serve(Server::new(), Responder::new(service(f)));
        call(&builder().build().unwrap(), request).await.unwrap()
    })
}

/// The same, for a response that may be cut: its bytes, and the app status unless it is.
pub(crate) fn ask_whatever<F, Fut, B>(request: Request, f: F) -> (Bytes, Option<u32>)
where
    F: Fn(http::Request<Body>) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Response<B>> + Send + 'static,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    sim::run(1, async move {
        serve(Server::new(), Responder::new(service(f)));
        let mut response = builder().build().unwrap().send(request).await.unwrap();
        let mut stdout = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(Chunk::Stdout(bytes))) => stdout.extend_from_slice(&bytes),
                Ok(Some(Chunk::Stderr(_))) => {}
                Ok(None) => return (stdout.into(), response.app_status()),
                Err(Error::Truncated { .. }) => return (stdout.into(), None),
                Err(error) => panic!("{error}"),
            }
        }
    })
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// The whole body of a request, or what is wrong with it.
pub(crate) async fn read(body: Body) -> Result<Bytes, fcgi_driver::Error> {
    body.collect().await.map(|body| body.to_bytes())
}
