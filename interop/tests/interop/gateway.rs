//! Our client as a web server has it: hyper takes HTTP requests, a [`fcgi::Pool`] sends them to
//! the application, `fcgi-http` says what becomes of them.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use anyhow::Result;
use bytes::Bytes;
use fcgi_http::{HeadParser, ParamsBuilder, RequestBody, Script};
use fcgi_tokio::{self as fcgi, client::Chunk};
use futures_core::Stream;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, runtime::Runtime};

use crate::{app::runtime, run::LIMIT};

/// Bodies of unknown length are read before they are sent, up to this.
const SPOOL: usize = 64 << 20;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How the gateway calls its application.
pub(crate) struct Backend {
    pub(crate) address: String,
    /// Connections at once: no more than the application has workers.
    pub(crate) connections: usize,
    /// Requests at once on each.
    pub(crate) multiplex: usize,
    /// SCRIPT_FILENAME, for an application that runs scripts.
    pub(crate) script: Option<PathBuf>,
}

/// A running gateway.
pub(crate) struct Gateway {
    port: u16,
    _runtime: Runtime,
}

struct Shared {
    pool: fcgi::Pool,
    script: Option<Vec<u8>>,
}

impl Gateway {
    pub(crate) fn start(backend: Backend) -> Result<Self> {
        // Long-lived connections, so that their number says who kept them.
        let pool = fcgi::Pool::builder(backend.address.parse()?)
            .max_connections(backend.connections)
            .multiplex(backend.multiplex)
            .max_age(None)
            .idle_timeout(Duration::from_secs(1))
            .wait_timeout(Some(LIMIT))
            .build();
        let script = backend.script.map(|path| path.into_os_string().into_encoded_bytes());
        let shared = Arc::new(Shared { pool, script });
        let runtime = runtime()?;
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
        let port = listener.local_addr()?.port();
        runtime.spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                let service = service_fn(move |request| {
                    let shared = Arc::clone(&shared);
                    async move { Ok::<_, Error>(shared.answer(request, peer).await) }
                });
                // How a connection ends is its client's business.
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(Self { port, _runtime: runtime })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Shared {
    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Response<UnsyncBoxBody<Bytes, Error>> {
        self.call(request, peer).await.unwrap_or_else(|error| {
            let page = Full::from(format!("{error}\n")).map_err(Into::into).boxed_unsync();
            let mut response = Response::new(page);
            *response.status_mut() = http::StatusCode::BAD_GATEWAY;
            response
        })
    }

    async fn call(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<Response<UnsyncBoxBody<Bytes, Error>>, Error> {
        let (head, body) = request.into_parts();
        let mut length = RequestBody::from_headers(&head.headers)?;
        let stdin = if length == RequestBody::Unknown {
            let spooled = http_body_util::Limited::new(body, SPOOL).collect().await?.to_bytes();
            length = RequestBody::Length(spooled.len() as u64);
            fcgi::client::Body::from(spooled)
        } else {
            fcgi::client::Body::from_stream(body.map_err(io::Error::other).into_data_stream())
        };
        let mut script = Script::new("", head.uri.path());
        if let Some(file) = &self.script {
            script = Script::new("/interop.php", head.uri.path());
            script.script_filename = Some(file.clone());
        }
        let mut call = fcgi::client::Request::responder().stdin(stdin);
        call.params = ParamsBuilder::new().remote_addr(peer).build(&head, &script, length)?;
        let mut response = self.pool.send(call).await?;
        let mut parser = HeadParser::new(Default::default());
        loop {
            match response.chunk().await? {
                Some(Chunk::Stdout(mut bytes)) => {
                    if let Some(head) = parser.push(&mut bytes)? {
                        let body = Answer { first: bytes, response };
                        return Ok(Response::from_parts(head.parts, body.boxed_unsync()));
                    }
                }
                Some(Chunk::Stderr(_)) => {}
                None => {
                    parser.finish()?;
                    return Err("the response has no head".into());
                }
            }
        }
    }
}

/// The rest of a response, as it comes.
struct Answer {
    first: Bytes,
    response: fcgi::pool::Response,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        if !this.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut this.first)))));
        }
        loop {
            match ready!(Pin::new(&mut this.response).poll_next(cx)) {
                Some(Ok(Chunk::Stdout(bytes))) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Ok(Chunk::Stderr(_))) => {}
                // The page that came with the refusal is whole.
                Some(Err(fcgi::Error::Rejected { .. })) => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            }
        }
    }
}
