//! The names of every async adapter, written once.

/// Defines what an adapter re-exports for its runtime, `$runtime`. `$package` is its name in
/// examples.
#[doc(hidden)]
#[macro_export]
macro_rules! adapter {
    ($runtime:ident, $package:literal) => {
        pub use ::fcgi_proto::{
            self as proto, FullRequest, Limits, Params, ProtocolError, Rejection, Role, Roles,
            Values, server::AbortReason,
        };
        pub use $crate::{
            Account, Address, AddressError, Error, Listener, ListenerBuilder, Phase, Target,
            is_fastcgi,
            server::{
                CANCELLED, EndOfFile, FAILED, Failed, Handler, InputStream, IntoAppStatus,
                OutputStream, PANICKED, Request,
            },
        };

        /// Serves requests; see [`fcgi_driver::server`].
        pub type Server = $crate::server::Server<$runtime>;
        /// A server that is ready to start; see [`serve()`].
        pub type Serve<H, S = ::std::future::Pending<()>> = $crate::server::Serve<$runtime, H, S>;
        /// What a server listens on: a [`Listener`], or one of std's. A runtime's own becomes one of
        /// std's by its `into_std`, if it has that.
        pub type Acceptor = $crate::Acceptor<$runtime>;
        /// A connection to an application; see [`client`].
        pub type Client = client::Client;
        /// Connections to one application, shared by many requests; see [`pool`].
        pub type Pool = pool::Pool;

        /// Serves requests with a handler. Await the result, as it is or [with a
        /// signal](Serve::with_graceful_shutdown). The settings are those of [`Server::from_env`].
        pub fn serve<H: Handler>(listener: impl Into<Acceptor>, handler: H) -> Serve<H> {
            Server::from_env().serve(listener, handler)
        }

        /// Serves HTTP requests with a tower service, such as an axum `Router`. Await the result;
        /// see [`Server::serve_http`]. The settings are those of [`Server::from_env`].
        ///
        /// ```no_run
        #[doc = concat!("use ", $package, " as fcgi;")]
        ///
        /// # async fn example() -> Result<(), fcgi::Error> {
        /// let app = tower::service_fn(async |request: http::Request<fcgi::http::Body>| {
        ///     let page = format!("Hello from {}\n", request.uri().path());
        ///     Ok::<_, std::convert::Infallible>(http::Response::new(page))
        /// });
        /// let listener = fcgi::Listener::from_env("unix:/run/app.sock")?;
        /// fcgi::serve_http(listener, app).with_graceful_shutdown(fcgi::shutdown_signal()).await
        /// # }
        /// ```
        #[cfg(feature = "http")]
        pub fn serve_http<S>(listener: impl Into<Acceptor>, service: S) -> Serve<http::Responder<S>>
        where
            http::Responder<S>: Handler,
        {
            Server::from_env().serve(listener, http::Responder::new(service))
        }

        /// Serves a tower service in the way in which the process was started: one request as a CGI
        /// program, otherwise FastCGI on systemd's sockets, descriptor 0, or the address in
        /// FCGI_ADDR. Await the result; see [`Server::serve_http_auto`]. The settings are those of
        /// [`Server::from_env`].
        #[cfg(feature = "http")]
        pub fn serve_http_auto<S>(service: S) -> Serve<http::Responder<S>>
        where
            http::Responder<S>: Handler,
        {
            Server::from_env().serve_auto(http::Responder::new(service))
        }

        /// Serves one connection over any stream, such as TLS, vsock, or a pipe in memory, to its
        /// end or until a [signal](Serve::with_graceful_shutdown). Await the result to run it; see
        /// [`Server::serve_connection`]. The settings are those of [`Server::from_env`].
        pub fn serve_connection<H: Handler>(io: impl Into<Transport>, handler: H) -> Serve<H> {
            Server::from_env().serve_connection(io, handler)
        }

        /// Calls applications, such as php-fpm.
        ///
        /// A [`Client`](client::Client) is one connection, which carries one request at a time. A
        /// [`Connector`](client::Connector) makes it, with time limits.
        ///
        /// ```no_run
        #[doc = concat!("use ", $package, " as fcgi;")]
        ///
        /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
        /// let mut client = fcgi::Client::connect("/run/php-fpm.sock").await?;
        /// let request = fcgi::client::Request::responder()
        ///     .param("SCRIPT_FILENAME", "/srv/index.php")
        ///     .param("REQUEST_METHOD", "GET");
        /// let answer = client.send(request).await?.collect(1 << 20).await?;
        /// println!("{}", String::from_utf8_lossy(&answer.stdout));
        /// # Ok(())
        /// # }
        /// ```
        pub mod client {
            pub use $crate::client::{Body, Chunk, Collected, Request};

            /// A connection to an application.
            pub type Client = $crate::client::Client<super::$runtime>;
            /// A response in progress.
            pub type Response<'a> = $crate::client::Response<'a, super::$runtime>;
            /// Settings for connecting, and time limits.
            pub type Connector = $crate::client::Connector<super::$runtime>;
        }

        /// Sends many requests over few connections to one application; see [`fcgi_driver::pool`].
        ///
        /// ```no_run
        #[doc = concat!("use ", $package, " as fcgi;")]
        ///
        /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
        /// let pool = fcgi::Pool::builder("/run/php-fpm.sock").max_connections(4).build()?;
        /// let request = fcgi::client::Request::responder()
        ///     .param("SCRIPT_FILENAME", "/srv/index.php")
        ///     .param("REQUEST_METHOD", "GET");
        /// let answer = pool.send(request).await?.collect(1 << 20).await?;
        /// println!("{}", String::from_utf8_lossy(&answer.stdout));
        /// # Ok(())
        /// # }
        /// ```
        pub mod pool {
            pub use $crate::pool::PoolStats;

            /// Connections to one application. Clones share them.
            pub type Pool = $crate::pool::Pool<super::$runtime>;
            /// Settings of a [`Pool`].
            pub type Builder = $crate::pool::Builder<super::$runtime>;
            /// A response in progress.
            pub type Response = $crate::pool::Response<super::$runtime>;
        }

        #[cfg(feature = "php-fpm")]
        pub use $crate::php_fpm;

        /// HTTP: serves any tower service behind a web server, and offers a client that is a tower
        /// service; see [`fcgi_driver::http`].
        #[cfg(feature = "http")]
        pub mod http {
            pub use $crate::http::{
                Authorizer, Body, BodyLengthError, BoxError, ByRole, Decision, EncodedSlashes,
                FileKind, FilterData, FilterFile, HeadError, HeadLimits, HeaderPolicy, HttpError,
                MetaVariables, MissingMeta, Mount, MountPoint, ParamsBuilder, ParamsError,
                PathSource, ReasonPhrase, RemoteAddr, RemoteAddrError, RequestError, Responder,
                Script, ScriptError, ScriptMap, Scripts, Target, UnknownLength, Variables,
            };
            #[cfg(feature = "php-fpm")]
            #[doc(hidden)]
            pub use $crate::php_fpm;

            /// Sends HTTP requests to an application.
            pub type HttpClient = $crate::http::HttpClient<super::$runtime>;
            /// Settings of an [`HttpClient`].
            pub type HttpClientBuilder = $crate::http::HttpClientBuilder<super::$runtime>;
            /// The body of a response.
            pub type ResponseBody = $crate::http::ResponseBody<super::$runtime>;
            /// An Authorizer's answer about a request.
            pub type Authorized<B> = $crate::http::Authorized<B, super::$runtime>;
        }

        #[cfg(all(doctest, feature = "http"))]
        #[doc = include_str!("../README.md")]
        struct ReadmeExample;
    };
}
