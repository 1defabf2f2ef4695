//! Our client as a web server has it: hyper takes HTTP requests, an [`HttpClient`] sends them to
//! the application.

use std::{convert::Infallible, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use fcgi_tokio::{
    self as fcgi,
    http::{BoxError, HttpClient, ParamsBuilder, Script},
};
use http::{Request, Response, request::Parts};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, runtime::Runtime};

use crate::{app::runtime, run::LIMIT};

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

impl Gateway {
    pub(crate) fn start(backend: Backend) -> Result<Self> {
        // Long-lived connections, so that their number says who kept them.
        let pool = fcgi::Pool::builder(&backend.address)
            .max_connections(backend.connections)
            .multiplex(backend.multiplex)
            .keep_conn(true)
            .max_age(None)
            .idle_timeout(Duration::from_secs(1))
            .wait_timeout(Some(LIMIT))
            .build()?;
        let file = backend.script.map(|path| path.into_os_string().into_encoded_bytes());
        let client = HttpClient::new(pool, move |request: &Parts| {
            // The application's one script, or the application itself.
            let name = if file.is_some() { "/interop.php" } else { "" };
            let mut script = Script::new(name, request.uri.path());
            script.script_filename.clone_from(&file);
            Ok(script)
        });
        let runtime = runtime()?;
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
        let port = listener.local_addr()?.port();
        runtime.spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let client = client.clone();
                let service = service_fn(move |request| {
                    let client = client.clone();
                    async move { Ok::<_, Infallible>(answer(&client, request, peer).await) }
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

/// Passes a request on; says with an error's own status what failed.
async fn answer(
    client: &HttpClient,
    mut request: Request<Incoming>,
    peer: SocketAddr,
) -> Response<UnsyncBoxBody<Bytes, BoxError>> {
    request.extensions_mut().insert(ParamsBuilder::new().remote_addr(peer));
    match client.send(request).await {
        Ok(response) => response.map(|body| body.map_err(Into::into).boxed_unsync()),
        Err(error) => {
            let page = Full::from(format!("{error}\n"));
            let mut response = Response::new(page.map_err(Into::into).boxed_unsync());
            *response.status_mut() = error.status();
            response
        }
    }
}
