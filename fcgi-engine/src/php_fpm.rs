//! php-fpm's own pages: ping, and the status of a pool and its workers.
//!
//! The pool answers them itself, whatever scripts it has, at the paths set by `ping.path` and
//! `pm.status_path` in its configuration. An adapter sends a [`Page`]'s request and gives it the
//! answer.
//!
//! ```
//! use fcgi_engine::{client::Collected, php_fpm::Page};
//!
//! let ping = Page::ping("/ping");
//! let request = ping.request::<Vec<u8>>();
//! assert_eq!(request.begin().params.get_str("SCRIPT_NAME"), Some("/ping"));
//! let stdout = "Content-Type: text/plain\r\n\r\npong".into();
//! let mut answer = Collected::default();
//! answer.stdout = stdout;
//! assert_eq!(ping.read(answer, "unix:/run/fpm.sock")?, "pong");
//! # Ok::<(), fcgi_engine::http::HttpError>(())
//! ```

use std::{sync::Arc, time::Duration};

use fcgi_http::HeadLimits;
use http::StatusCode;
use serde::{Deserialize, Deserializer};

use crate::{
    client::{Collected, Request},
    http::{HeadReader, HttpError},
};

/// The largest page that is read, in bytes. Each worker takes some 500.
pub const LIMIT: usize = 16 << 20;

/// The fields of php-fpm's status page, under its own names. Newer versions may have more.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[non_exhaustive]
pub struct Status {
    /// The pool's name.
    pub pool: String,
    /// `static`, `dynamic` or `ondemand`.
    #[serde(rename = "process manager")]
    pub process_manager: String,
    /// When it was started, in seconds since 1970.
    #[serde(rename = "start time")]
    pub start_time: u64,
    /// The time since it was started.
    #[serde(rename = "start since", deserialize_with = "seconds")]
    pub start_since: Duration,
    /// Connections that it has accepted.
    #[serde(rename = "accepted conn")]
    pub accepted_conn: u64,
    /// Connections that wait to be accepted; always 0 for a unix socket, where it is not known.
    #[serde(rename = "listen queue")]
    pub listen_queue: u64,
    /// The most that ever waited.
    #[serde(rename = "max listen queue")]
    pub max_listen_queue: u64,
    /// The most that may wait.
    #[serde(rename = "listen queue len")]
    pub listen_queue_len: u64,
    /// Workers that have no request.
    #[serde(rename = "idle processes")]
    pub idle_processes: u64,
    /// Workers that have a request, including the request for this page.
    #[serde(rename = "active processes")]
    pub active_processes: u64,
    /// Workers.
    #[serde(rename = "total processes")]
    pub total_processes: u64,
    /// The most workers that were ever active at once.
    #[serde(rename = "max active processes")]
    pub max_active_processes: u64,
    /// How often the limit on workers was reached.
    #[serde(rename = "max children reached")]
    pub max_children_reached: u64,
    /// Requests that took longer than `request_slowlog_timeout`.
    #[serde(rename = "slow requests")]
    pub slow_requests: u64,
    /// The most memory that a request took, in bytes, if php-fpm reports it (8.4 and newer).
    #[serde(rename = "memory peak", default)]
    pub memory_peak: Option<u64>,
    /// The workers; only `full_status` has them.
    #[serde(default)]
    pub processes: Vec<Process>,
}

/// A worker. php-fpm also lists workers that do not run yet, with the state `(null)` and
/// meaningless figures; it does not count them.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[non_exhaustive]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// `Idle`, `Running`, `Reading headers`, `Finishing` and so on.
    pub state: String,
    /// When it was started, in seconds since 1970.
    #[serde(rename = "start time")]
    pub start_time: u64,
    /// The time since it was started.
    #[serde(rename = "start since", deserialize_with = "seconds")]
    pub start_since: Duration,
    /// Requests that it has served.
    pub requests: u64,
    /// How long its last request took, or how long its current one has run.
    #[serde(rename = "request duration", deserialize_with = "microseconds")]
    pub request_duration: Duration,
    /// That request's REQUEST_METHOD.
    #[serde(rename = "request method")]
    pub request_method: String,
    /// That request's REQUEST_URI.
    #[serde(rename = "request uri")]
    pub request_uri: String,
    /// That request's CONTENT_LENGTH.
    #[serde(rename = "content length")]
    pub content_length: u64,
    /// That request's user; `-` if it has none.
    pub user: String,
    /// That request's script; `-` if it has none.
    pub script: String,
    /// The share of a processor that it took, in percent; 0 while it runs.
    #[serde(rename = "last request cpu")]
    pub last_request_cpu: f64,
    /// The most memory that it took, in bytes; 0 while it runs.
    #[serde(rename = "last request memory")]
    pub last_request_memory: u64,
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

fn microseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_micros)
}

/// One of php-fpm's pages, which says a `T`.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a, T> {
    path: &'a str,
    query: &'static str,
    parse: fn(&str) -> serde_json::Result<T>,
}

impl<'a> Page<'a, String> {
    /// The ping page: whether the pool answers.
    #[must_use]
    pub const fn ping(path: &'a str) -> Self {
        Self { path, query: "", parse: |text| Ok(text.to_owned()) }
    }
}

impl<'a> Page<'a, Status> {
    /// The status of the pool, without [`Status::processes`].
    #[must_use]
    pub const fn status(path: &'a str) -> Self {
        Self { path, query: "json", parse: |text| serde_json::from_str(text) }
    }

    /// The status of the pool and of each worker.
    #[must_use]
    pub const fn full_status(path: &'a str) -> Self {
        Self { path, query: "json&full", parse: |text| serde_json::from_str(text) }
    }
}

impl<T> Page<'_, T> {
    /// The request to send.
    #[must_use]
    pub fn request<B: Default>(&self) -> Request<B> {
        let Self { path, query, .. } = *self;
        let uri = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        Request::responder()
            .param("SCRIPT_FILENAME", path)
            .param("SCRIPT_NAME", path)
            .param("REQUEST_METHOD", "GET")
            .param("REQUEST_URI", uri)
            .param("QUERY_STRING", query)
            .param("SERVER_PROTOCOL", "HTTP/1.1")
            .param("GATEWAY_INTERFACE", "CGI/1.1")
    }

    /// What the page says, from the answer of the application at this address.
    ///
    /// # Errors
    /// [`HttpError::Head`], [`HttpError::PageStatus`], [`HttpError::NoStatusPage`].
    pub fn read(&self, answer: Collected, address: &str) -> Result<T, HttpError> {
        let address: Arc<str> = address.into();
        let (head, body) = match HeadReader::whole(HeadLimits::default(), answer.stdout) {
            Ok(response) => response,
            Err(source) => return Err(HttpError::Head { address, source }),
        };
        let (path, status) = (self.path.to_owned(), head.parts.status);
        if status != StatusCode::OK {
            return Err(HttpError::PageStatus { address, path, status });
        }
        // The requests that workers had may hold any byte.
        let said = (self.parse)(&String::from_utf8_lossy(&body));
        said.map_err(|source| HttpError::NoStatusPage { address, path, source })
    }
}

/// Defines the functions that ask a pool for its pages.
#[doc(hidden)]
#[macro_export]
macro_rules! php_fpm_pages {
    ([$($async:ident)?; $($wait:tt)*], [$($generics:tt)*], $pool:ty) => {
        /// Checks that the pool answers. Returns the text of its answer, which is `pong` unless
        /// `ping.response` is set.
        ///
        /// # Errors
        /// See [`HttpError`].
        $(#[doc = $crate::dropping!($async "Dropping the future aborts the request.")])?
        pub $($async)? fn ping<$($generics)*>(
            pool: &$pool,
            path: &str,
        ) -> Result<String, HttpError> {
            ask(pool, Page::ping(path))$($wait)*
        }

        /// The status of the pool, without [`Status::processes`].
        ///
        /// # Errors
        /// See [`HttpError`].
        $(#[doc = $crate::dropping!($async "Dropping the future aborts the request.")])?
        pub $($async)? fn status<$($generics)*>(
            pool: &$pool,
            path: &str,
        ) -> Result<Status, HttpError> {
            ask(pool, Page::status(path))$($wait)*
        }

        /// The status of the pool and of each worker.
        ///
        /// # Errors
        /// See [`HttpError`].
        $(#[doc = $crate::dropping!($async "Dropping the future aborts the request.")])?
        pub $($async)? fn full_status<$($generics)*>(
            pool: &$pool,
            path: &str,
        ) -> Result<Status, HttpError> {
            ask(pool, Page::full_status(path))$($wait)*
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tests::assert_no_repetition;
    use std::io;

    #[test]
    fn errors_name_the_page_and_leave_their_source_to_the_chain() {
        let page = Page::status("/status");
        let answer =
            |stdout: &'static str| Collected { stdout: stdout.into(), ..Collected::default() };
        for (stdout, text) in [
            ("X: y\n\nnot json", "unix:/fpm: /status is not a php-fpm status page"),
            ("Status: 404 Not Found\n\n", "unix:/fpm: /status has status 404 Not Found"),
            ("no head", "unix:/fpm: read the response's head"),
        ] {
            let error = page.read(answer(stdout), "unix:/fpm").unwrap_err();
            assert_eq!(error.to_string(), text);
            assert_eq!(error.address(), Some("unix:/fpm"));
            assert_no_repetition(&error);
            assert_no_repetition(&io::Error::from(error));
        }
    }
}
