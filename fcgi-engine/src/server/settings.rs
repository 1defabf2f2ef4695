//! A server's settings, with their defaults.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use fcgi_proto::{ServerConfig, Values};

use crate::{Phase, socket::Peer};

/// What an end of file over TCP means while a request is being answered. A close and a half-close
/// look the same there (W-17).
///
/// A unix socket tells the two apart, so this setting does not apply to it: a peer that has closed
/// is gone, and one that has only shut down its sending side is answered (FC-3.5-2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum EndOfFile {
    /// The web server is gone: handlers are cancelled if
    /// [`cancel_on_disconnect`](Settings::cancel_on_disconnect) says so. nginx, Apache, lighttpd,
    /// HAProxy, Caddy and h2o never half-close. A request has half a second for its answer, and again
    /// after each part of it that was taken, for clients that do (FC-3.5-2).
    #[default]
    Gone,
    /// The web server may still read: a request with complete input is answered. If the web server
    /// is gone, a write will show it. For clients that shut down their sending side after a
    /// request.
    HalfClosed,
}

/// A server's settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Settings of each connection: limits, roles, the page of a refusal.
    pub config: ServerConfig,
    /// How many connections there may be. Default 10,000.
    pub max_connections: usize,
    /// How many requests there may be on all connections. Default 10,000.
    pub max_requests: usize,
    /// The only addresses to accept connections from; `None` accepts all (FC-3.2-1).
    pub web_server_addrs: Option<Vec<IpAddr>>,
    /// Whether a handler is cancelled when its web server is gone (W-8). Default true.
    pub cancel_on_disconnect: bool,
    /// How long a handler whose request was aborted may run on before it is dropped. Default zero.
    pub abort_grace: Duration,
    /// What an end of file over TCP means. Default [`EndOfFile::Gone`].
    pub end_of_file: EndOfFile,
    /// How long a handler may run in all. Default no limit.
    pub handler: Option<Duration>,
    /// How long the first record of a connection may take. Default 30 s.
    pub first_record: Option<Duration>,
    /// How long PARAMS may take from their BEGIN_REQUEST. Default 30 s.
    pub params: Option<Duration>,
    /// How long input may take that a handler waits for. Default 60 s.
    pub stdin: Option<Duration>,
    /// How long a kept connection may wait for its next request. Default no limit.
    pub idle: Option<Duration>,
    /// How long a write may make no progress. Default 120 s.
    pub write_stall: Option<Duration>,
    /// How long a shutdown waits for active requests. Default 30 s.
    pub shutdown: Duration,
    /// How long a shutdown keeps connections open that have no request, for one that may be on its
    /// way. Default 100 ms.
    pub shutdown_grace: Duration,
    /// Where HTTP services find the path. Default REQUEST_URI.
    #[cfg(feature = "http")]
    pub path: fcgi_http::PathSource,
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}

impl Settings {
    /// The defaults, and FCGI_WEB_SERVER_ADDRS from the environment.
    #[must_use]
    pub fn from_env() -> Self {
        Self::new().web_server_addrs_of(&std::env::var("FCGI_WEB_SERVER_ADDRS").unwrap_or_default())
    }

    /// Accepts connections only from the IP addresses in a list like that of FCGI_WEB_SERVER_ADDRS,
    /// separated by commas; an empty list admits everybody. An entry that is not an address admits
    /// nobody, and is logged.
    #[must_use]
    pub fn web_server_addrs_of(self, list: &str) -> Self {
        if list.trim().is_empty() {
            return Self { web_server_addrs: None, ..self };
        }
        let mut addrs = Vec::new();
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            match entry.parse() {
                Ok(addr) => addrs.push(addr),
                Err(_) => tracing::warn!(entry, "not an IP address in FCGI_WEB_SERVER_ADDRS"),
            }
        }
        Self { web_server_addrs: Some(addrs), ..self }
    }

    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            config: ServerConfig::default(),
            max_connections: 10_000,
            max_requests: 10_000,
            web_server_addrs: None,
            cancel_on_disconnect: true,
            abort_grace: Duration::ZERO,
            end_of_file: EndOfFile::default(),
            handler: None,
            first_record: Some(Duration::from_secs(30)),
            params: Some(Duration::from_secs(30)),
            stdin: Some(Duration::from_secs(60)),
            idle: None,
            write_stall: Some(Duration::from_secs(120)),
            shutdown: Duration::from_secs(30),
            shutdown_grace: Duration::from_millis(100),
            #[cfg(feature = "http")]
            path: fcgi_http::PathSource::RequestUri,
        }
    }

    /// The limit of a phase; `None` for a client's phases.
    #[must_use]
    pub fn limit(&self, phase: Phase) -> Option<Duration> {
        match phase {
            Phase::FirstRecord => self.first_record,
            Phase::Params => self.params,
            Phase::Stdin => self.stdin,
            Phase::NextRequest => self.idle,
            Phase::Write => self.write_stall,
            Phase::Handler => self.handler,
            _ => None,
        }
    }

    /// The configuration of one connection, including the answer to GET_VALUES (FC-4.1-2).
    /// FCGI_MAX_REQS is the limit of one connection, because HAProxy reads it so; and when a
    /// request is refused HAProxy closes its connection, with all other requests on it (W-14).
    #[must_use]
    pub fn connection(&self) -> ServerConfig {
        let number = |n: usize| Some(u32::try_from(n).unwrap_or(u32::MAX));
        let values = Values {
            max_conns: number(self.max_connections),
            max_reqs: number(self.max_requests.min(self.config.limits.requests.max(1))),
            mpxs_conns: None,
        };
        ServerConfig { values, ..self.config }
    }

    /// Whether to accept a connection from this peer (FC-3.2-1).
    #[must_use]
    pub fn admits(&self, peer: Peer) -> bool {
        self.web_server_addrs.as_ref().is_none_or(|addrs| match peer {
            Peer::Unix | Peer::Stream => false,
            // Either may be an IPv4 address inside an IPv6 one.
            Peer::Tcp(peer) => {
                let peer = peer.ip().to_canonical();
                addrs.iter().any(|addr| addr.to_canonical() == peer)
            }
        })
    }
}

/// When a grace that begins now ends. One that is too long for the clock ends in a year.
pub(super) fn grace_end(now: Instant, grace: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    now.checked_add(grace).or_else(|| now.checked_add(YEAR)).unwrap_or(now)
}

/// The methods of an adapter's builder that create it, with its `with(settings)`, and those that set
/// the [`Settings`] in `self.settings`.
#[doc(hidden)]
#[macro_export]
macro_rules! server_setters {
    () => {
        /// The defaults. This reads nothing from the environment.
        #[must_use]
        pub fn new() -> Self {
            Self::with($crate::server::Settings::new())
        }

        /// The same as [`new`](Self::new).
        #[must_use]
        pub fn builder() -> Self {
            Self::new()
        }

        /// The defaults, with FCGI_WEB_SERVER_ADDRS from the environment (FC-3.2-1): the only
        /// addresses to accept connections from.
        #[must_use]
        pub fn from_env() -> Self {
            Self::with($crate::server::Settings::from_env())
        }

        $crate::setters! {
            /// The roles offered; other requests get UNKNOWN_ROLE (FC-5.1-2). Default all three.
            roles(roles: ::fcgi_proto::Roles) { self.settings.config.roles = roles }

            /// What one connection may cost. Default
            /// [`Limits::server`](fcgi_proto::Limits::server).
            limits(limits: ::fcgi_proto::Limits) { self.settings.config.limits = limits }

            /// Whether a refused Responder request carries a `Status: 503` page (W-2). Default
            /// true.
            rejection_body(on: bool) { self.settings.config.rejection_body = on }

            /// Whether a request that ends before anything was written gets a `Status: 500` page
            /// (W-15), because its handler failed, panicked, took too long or just returned.
            /// Default true.
            failure_body(on: bool) { self.settings.config.failure_body = on }

            /// How many connections there may be; FCGI_MAX_CONNS reports this. Requests on further
            /// ones get OVERLOADED. Default 10,000.
            max_connections(n: usize) { self.settings.max_connections = n }

            /// How many requests there may be on all connections. Further ones get OVERLOADED.
            /// FCGI_MAX_REQS reports the limit of one connection: the smaller of this and
            /// [`Limits::requests`](fcgi_proto::Limits::requests). Default 10,000.
            max_requests(n: usize) { self.settings.max_requests = n }

            /// The only addresses to accept connections from; `None` accepts all. A list also
            /// refuses connections over unix sockets (FC-3.2-1). Default `None`; `from_env` reads
            /// FCGI_WEB_SERVER_ADDRS.
            web_server_addrs(addrs: Option<Vec<::std::net::IpAddr>>) {
                self.settings.web_server_addrs = addrs
            }

            /// Whether a handler is cancelled when its web server is gone. nginx goes when its own
            /// client does (W-8). If false, the handler runs on and its output is dropped;
            /// ABORT_REQUEST still cancels it. Default true.
            cancel_on_disconnect(on: bool) { self.settings.cancel_on_disconnect = on }

            /// What an end of file over TCP means while a request is being answered. TCP does not
            /// distinguish a web server that is gone from one that only sends no more. A unix
            /// socket does, so the setting does not apply to it. Default
            /// [`EndOfFile::Gone`](fcgi_engine::server::EndOfFile::Gone), since no known web server
            /// half-closes: a request is cancelled after half a second without a part of its answer. Set
            /// [`EndOfFile::HalfClosed`](fcgi_engine::server::EndOfFile::HalfClosed) for clients
            /// that do (W-17).
            end_of_file(means: ::fcgi_engine::server::EndOfFile) {
                self.settings.end_of_file = means
            }

            /// Where the services of `serve_http` find the path that they route by: the whole path
            /// of REQUEST_URI, or SCRIPT_NAME and PATH_INFO for an application below a path of the
            /// site. Default [`PathSource::RequestUri`](::fcgi_http::PathSource::RequestUri).
            #[cfg(feature = "http")]
            path(source: ::fcgi_http::PathSource) { self.settings.path = source }

            /// How long a new connection may be silent (H-16). Default 30 s.
            first_record_timeout(limit) { self.settings.first_record }

            /// How long PARAMS may take from their BEGIN_REQUEST (H-16). Default 30 s.
            params_timeout(limit) { self.settings.params }

            /// How long STDIN or DATA may be silent while a handler waits for it. After that the
            /// request fails, as after `handler_timeout`. Default 60 s.
            stdin_timeout(limit) { self.settings.stdin }

            /// How long a kept connection may be idle. Default no limit: the web server decides.
            idle_timeout(limit) { self.settings.idle }

            /// How long a write may make no progress. Default 120 s.
            write_timeout(limit) { self.settings.write_stall }

            /// How long a shutdown waits for requests before it cancels them. Default 30 s; `None`
            /// cancels none.
            shutdown_timeout(limit or MAX) { self.settings.shutdown }

            /// How long a shutdown keeps connections open that have no request, for one that may be
            /// on its way (W-13). Default 100 ms; `None` waits until the web server closes them, or
            /// for `shutdown_timeout`.
            shutdown_grace(limit or MAX) { self.settings.shutdown_grace }
        }
    };
}
