//! The settings of an HTTP client: what its requests say to the application.

use std::{fmt, sync::Arc};

use fcgi_http::{
    Head, HeadLimits, Kind, ParamsBuilder, RequestBody, Script, authorizer, request::ParamsError,
};
use fcgi_proto::Params;
use http::{Extensions, Method, request::Parts, uri::PathAndQuery};

use super::{HttpError, Scripts};

/// What to do with a request body of unknown length, such as a chunked one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum UnknownLength {
    /// Read it whole before the request is sent, and send its CONTENT_LENGTH: php-fpm reads no body
    /// without one. What exceeds `memory` goes to a temporary file without a name, in the
    /// folder of [`std::env::temp_dir`]; more than `limit` is [`HttpError::RequestTooLarge`].
    ///
    /// The task or thread that sends the request also writes and reads the file, in pieces of the
    /// body's own size and of 64 KiB. It blocks for as long as the page cache takes, or the disk if
    /// the cache is full.
    Spool {
        /// How much to keep in memory, in bytes.
        memory: usize,
        /// The limit of the whole body, in bytes.
        limit: u64,
    },
    /// Send it as it comes, without CONTENT_LENGTH. For applications that read STDIN to its end.
    Stream,
}

impl Default for UnknownLength {
    /// Spooled: 256 KiB in memory, 256 MiB in all.
    fn default() -> Self {
        Self::Spool { memory: 256 * 1024, limit: 256 << 20 }
    }
}

/// Parameters that an Authorizer adds to a request, in the request's extensions. An `HttpClient`
/// replaces parameters of the same names with them.
#[derive(Clone, Debug, Default)]
pub struct Variables(pub Params);

impl Variables {
    /// Adds these to the request; they replace those of the same names (FC-6.3-2).
    pub(super) fn add(mut variables: Params, extensions: &mut Extensions) {
        if let Some(Self(before)) = extensions.remove() {
            variables = authorizer::merge(&before, &variables);
        }
        extensions.insert(Self(variables));
    }
}

/// Settings of an HTTP client, in any adapter.
pub struct CallSettings {
    /// What decides which script serves a request.
    pub scripts: Box<dyn Scripts>,
    /// The parameters that all requests share.
    pub params: ParamsBuilder,
    /// What to do with a body of unknown length.
    pub unknown_length: UnknownLength,
    /// How many local redirects to follow.
    pub redirects: usize,
    /// Limits on the head of a response.
    pub head: HeadLimits,
}

/// By default, one application that is not a file serves the whole site.
impl Default for CallSettings {
    fn default() -> Self {
        Self::new(|parts: &Parts| Ok(Script::new("", parts.uri.path())))
    }
}

impl CallSettings {
    /// The default settings with these scripts.
    pub fn new(scripts: impl Scripts) -> Self {
        Self {
            scripts: Box::new(scripts),
            params: ParamsBuilder::new(),
            unknown_length: UnknownLength::default(),
            redirects: 10,
            head: HeadLimits::default(),
        }
    }

    /// The script that serves a request: the request's own, or the one that [`Scripts`] choose.
    pub(super) fn script(&self, parts: &Parts) -> Result<Script, HttpError> {
        match parts.extensions.get::<Script>() {
            Some(script) => Ok(script.clone()),
            None => Ok(self.scripts.script(parts)?),
        }
    }

    /// The request's parameters, including the variables in its extensions.
    pub(super) fn tell(
        &self,
        parts: &Parts,
        script: &Script,
        length: RequestBody,
    ) -> Result<Params, ParamsError> {
        let shared = parts.extensions.get::<Arc<ParamsBuilder>>().map(|builder| &**builder);
        let own = shared.or_else(|| parts.extensions.get::<ParamsBuilder>());
        let builder = own.unwrap_or(&self.params);
        let params = builder.build(parts, script, length)?;
        Ok(match parts.extensions.get::<Variables>() {
            Some(Variables(variables)) => authorizer::merge(&params, variables),
            None => params,
        })
    }

    /// The target of a local redirect, if it should be followed: only for GET and HEAD
    /// (CGI-6.2.2-1).
    pub(super) fn local_redirect(&self, method: &Method, head: &Head) -> Option<PathAndQuery> {
        let followed = self.redirects > 0 && (method == Method::GET || method == Method::HEAD);
        match &head.kind {
            Kind::LocalRedirect(location) if followed => Some(location.clone()),
            _ => None,
        }
    }
}

impl fmt::Debug for CallSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallSettings")
            .field("unknown_length", &self.unknown_length)
            .field("redirects", &self.redirects)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

/// The builder methods for an HTTP client's settings, for a type with the fields `settings` and
/// `scripts`.
#[doc(hidden)]
#[macro_export]
macro_rules! http_client_setters {
    ($client:ty) => {
        /// Creates the client.
        ///
        /// # Errors
        /// [`HttpError::Config`] if the root or the front controller makes no sense;
        /// [`Error::Address`] in [`HttpError::Call`] if the text is not an address.
        pub fn build(self) -> Result<$client, HttpError> {
            let Self { pool, scripts, mut settings, authorizer } = self;
            settings.scripts = scripts.build()?;
            Ok(HttpClient(Arc::new(Inner { pool: pool?, settings, authorizer })))
        }

        /// The document root whose scripts are called, as the application sees it. This side does
        /// not look at the files; see
        /// [`ScriptMap::resolve_unseen`](::fcgi_http::ScriptMap::resolve_unseen). Default: the
        /// application is not a file, and gets each path as its PATH_INFO.
        #[must_use]
        pub fn root(mut self, root: impl AsRef<::std::path::Path>) -> Self {
            self.scripts.set_root(root.as_ref());
            self
        }

        /// The front controller: the script below the [root](Self::root), such as `index.php`, that
        /// serves each request for a path without a script.
        #[must_use]
        pub fn front(mut self, script: impl AsRef<::std::ffi::OsStr>) -> Self {
            self.scripts.set_front(script.as_ref());
            self
        }

        /// Sets what decides which script serves a request, instead of [`root`](Self::root) and
        /// [`front`](Self::front): a [`ScriptMap`](::fcgi_http::ScriptMap), a
        /// [`Mount`](::fcgi_http::Mount), or a function.
        #[must_use]
        pub fn scripts(mut self, scripts: impl $crate::http::Scripts) -> Self {
            self.scripts.set(scripts);
            self
        }

        $crate::setters! {
            /// Asks this Authorizer before each request and each local redirect: its variables are
            /// merged into the request, or the client gets its response. Default none.
            authorizer(authorizer: $client) { self.authorizer = Some(authorizer) }

            /// The parameters of all requests: the server's name and address, the header policy,
            /// and your own parameters. Default
            /// [`ParamsBuilder::new`](fcgi_http::ParamsBuilder::new).
            params(params: ::fcgi_http::ParamsBuilder) { self.settings.params = params }

            /// What to do with a body of unknown length. Default: spool it.
            unknown_length(unknown: $crate::http::UnknownLength) {
                self.settings.unknown_length = unknown
            }

            /// How many local redirects of one request to follow. With 0 they are returned with
            /// status 302. Default 10.
            redirect_limit(limit: usize) { self.settings.redirects = limit }

            /// Limits on the head of a response. Default
            /// [`HeadLimits::default`](fcgi_http::HeadLimits::default).
            head_limits(limits: ::fcgi_http::HeadLimits) { self.settings.head = limits }
        }
    };
}
