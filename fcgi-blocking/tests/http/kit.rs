//! Bodies and requests that tests put together.

use std::io::{self, Read};

use fcgi::{
    Handler, Server,
    http::{Body, IntoAnswer, Responder},
};
use fcgi_blocking as fcgi;
use http::{Request, Response, response::Builder};

use crate::app::{Answer, App, KEEP, request, serve};

/// What a body's reader does next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Data(&'static str),
    Fail,
    Panic,
}

/// A reader that does this, one step at a time.
pub(crate) fn steps(steps: impl IntoIterator<Item = Step>) -> Steps {
    Steps(steps.into_iter().collect::<Vec<_>>().into_iter())
}

pub(crate) struct Steps(std::vec::IntoIter<Step>);

impl Read for Steps {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.next() {
            None => Ok(0),
            Some(Step::Data(data)) => {
                buf[..data.len()].copy_from_slice(data.as_bytes());
                Ok(data.len())
            }
            Some(Step::Fail) => Err(io::Error::other("the body failed")),
            Some(Step::Panic) => panic!("the body panicked"),
        }
    }
}

pub(crate) fn ok() -> Builder {
    Response::builder()
}

/// A response with a body at hand.
pub(crate) fn answer(head: Builder, body: impl Into<Body>) -> Response<Body> {
    head.body(body.into()).unwrap()
}

pub(crate) type Pairs<'a> = Vec<(&'a str, &'a str)>;

/// The parameters of a request as nginx sends it.
pub(crate) fn get(path: &str) -> Pairs<'_> {
    of_method("GET", path)
}

pub(crate) fn of_method<'a>(method: &'a str, path: &'a str) -> Pairs<'a> {
    vec![("REQUEST_METHOD", method), ("REQUEST_URI", path), ("SERVER_PROTOCOL", "HTTP/1.1")]
}

/// Serves a function.
pub(crate) fn app<A, B>(f: impl Fn(Request<Body>) -> A + Send + Sync + 'static) -> App
where
    A: IntoAnswer<Answer = Response<B>>,
    B: Read + 'static,
{
    serve(Server::new().threads(4), handler(f))
}

pub(crate) fn handler<A, B>(f: impl Fn(Request<Body>) -> A + Send + Sync + 'static) -> impl Handler
where
    A: IntoAnswer<Answer = Response<B>>,
    B: Read + 'static,
{
    Responder::new(f)
}

/// What a web server gets for one request, which this function answers.
pub(crate) fn ask<A, B>(
    pairs: &[(&str, &str)],
    stdin: &str,
    f: impl Fn(Request<Body>) -> A + Send + Sync + 'static,
) -> Answer
where
    A: IntoAnswer<Answer = Response<B>>,
    B: Read + 'static,
{
    let app = app(f);
    let mut peer = app.dial();
    peer.send(request(1, KEEP, pairs, stdin.as_bytes()));
    peer.answer(1)
}

/// The same, for a response that may be cut: STDOUT's bytes, and the app status unless it is.
pub(crate) fn ask_whatever<A, B>(
    pairs: &[(&str, &str)],
    f: impl Fn(Request<Body>) -> A + Send + Sync + 'static,
) -> (Vec<u8>, Option<u32>)
where
    A: IntoAnswer<Answer = Response<B>>,
    B: Read + 'static,
{
    let app = app(f);
    let mut peer = app.dial();
    peer.send(request(1, KEEP, pairs, b""));
    let mut answer = Answer::default();
    while let Some(record) = peer.try_record().unwrap() {
        if answer.take(&record) {
            return (answer.stdout, Some(answer.app_status));
        }
    }
    (answer.stdout, None)
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
