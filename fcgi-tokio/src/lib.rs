//! FastCGI for tokio, both ends of the wire.
//!
//! A [`Server`] answers the requests that nginx, Apache or HAProxy hand on; a [`Client`] sends
//! requests to php-fpm or any other application. The other adapters have the same names, so that
//! a program changes runtime by changing `use fcgi_tokio as fcgi`.
//!
//! ```no_run
//! use fcgi_tokio as fcgi;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let listener = fcgi::Listener::bind(&"unix:/run/app.sock".parse()?)?;
//!     fcgi::Server::new()
//!         .serve(listener, |request: fcgi::Request| async move {
//!             let name = request.param_str("QUERY_STRING").unwrap_or("world").to_owned();
//!             let page = format!("Content-Type: text/plain\r\n\r\nHello, {name}\n");
//!             request.stdout().write_all(page).await
//!         })
//!         .await?;
//!     Ok(())
//! }
//! ```
//!
//! # Features
//! - `http`: [`http`], with [`Server::serve_http`] for tower services and a client that is one.
//! - `php-fpm`: php-fpm's ping and status pages, and `http`.
//! - `metrics`: counters through the `metrics` facade; see docs/observability.md.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod runtime;

pub use fcgi_driver::{
    Address, AddressError, Error, Phase, is_fastcgi,
    server::{
        CANCELLED, FAILED, Failed, Handler, InputStream, IntoAppStatus, OutputStream, PANICKED,
        Request,
    },
};
pub use fcgi_proto as proto;
pub use fcgi_proto::{
    FullRequest, Limits, Params, ProtocolError, Rejection, Role, Roles, Values, server::AbortReason,
};
pub use runtime::{Timer, Tokio, Transport, TransportListener};

/// Serves requests; see [`fcgi_driver::server`].
pub type Server = fcgi_driver::server::Server<Tokio>;
/// Where a [`Server`] takes connections from.
pub type Listener = fcgi_driver::Listener<Tokio>;
/// A connection to an application; see [`client`].
pub type Client = client::Client;

/// Connections to one application, shared by many requests; see [`pool`].
pub type Pool = pool::Pool;

/// Calls applications: php-fpm and any other.
///
/// A [`Client`](client::Client) is one connection, which carries one request at a time; a
/// [`Connector`](client::Connector) makes it, with time limits.
///
/// ```no_run
/// use fcgi_tokio as fcgi;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let mut client = fcgi::Client::connect(&"unix:/run/php-fpm.sock".parse()?).await?;
/// let request = fcgi::client::Request::responder()
///     .param("SCRIPT_FILENAME", "/srv/index.php")
///     .param("REQUEST_METHOD", "GET");
/// let answer = client.send(request).await?.collect(1 << 20).await?;
/// println!("{}", String::from_utf8_lossy(&answer.stdout));
/// # Ok(())
/// # }
/// ```
pub mod client {
    use crate::Tokio;
    pub use fcgi_driver::client::{Body, Chunk, Collected, Request};

    /// A connection to an application.
    pub type Client = fcgi_driver::client::Client<Tokio>;
    /// A response in progress.
    pub type Response<'a> = fcgi_driver::client::Response<'a, Tokio>;
    /// How to connect and how long to wait.
    pub type Connector = fcgi_driver::client::Connector<Tokio>;
}

/// Many requests over few connections to one application; see [`fcgi_driver::pool`].
///
/// ```no_run
/// use fcgi_tokio as fcgi;
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = fcgi::Pool::builder("unix:/run/php-fpm.sock".parse()?).max_connections(4).build();
/// let request = fcgi::client::Request::responder()
///     .param("SCRIPT_FILENAME", "/srv/index.php")
///     .param("REQUEST_METHOD", "GET");
/// let answer = pool.send(request).await?.collect(1 << 20).await?;
/// println!("{}", String::from_utf8_lossy(&answer.stdout));
/// # Ok(())
/// # }
/// ```
pub mod pool {
    use crate::Tokio;
    pub use fcgi_driver::pool::PoolStats;

    /// Connections to one application, shared by all clones of this.
    pub type Pool = fcgi_driver::pool::Pool<Tokio>;
    /// Settings of a [`Pool`].
    pub type Builder = fcgi_driver::pool::Builder<Tokio>;
    /// A response in progress.
    pub type Response = fcgi_driver::pool::Response<Tokio>;
}

/// HTTP: any tower service behind a web server, and a client that is a tower service; see
/// [`fcgi_driver::http`].
#[cfg(feature = "http")]
pub mod http {
    use crate::Tokio;
    #[cfg(feature = "php-fpm")]
    pub use fcgi_driver::http::php_fpm;
    pub use fcgi_driver::http::{
        Authorizer, Body, BodyLengthError, BoxError, ByRole, Decision, EncodedSlashes, FileKind,
        FilterData, FilterFile, HeadError, HeadLimits, HeaderPolicy, HttpError, MetaVariables,
        Mount, ParamsBuilder, ParamsError, RequestError, Responder, Script, ScriptError, ScriptMap,
        Scripts, Target, UnknownLength, Variables,
    };

    /// Sends HTTP requests to an application.
    pub type HttpClient = fcgi_driver::http::HttpClient<Tokio>;
    /// Settings of an [`HttpClient`].
    pub type HttpClientBuilder = fcgi_driver::http::HttpClientBuilder<Tokio>;
    /// The body of a response.
    pub type ResponseBody = fcgi_driver::http::ResponseBody<Tokio>;
    /// What an Authorizer said of a request.
    pub type Authorized<B> = fcgi_driver::http::Authorized<B, Tokio>;
}

#[cfg(all(doctest, feature = "http"))]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
