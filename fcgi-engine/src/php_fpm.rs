//! php-fpm's own pages: whether a pool answers, and how its workers are doing.
//!
//! The pool that is asked answers them itself, whatever scripts it has, at the paths that its
//! configuration gives as `ping.path` and `pm.status_path`. An adapter sends a [`Page`]'s request and
//! hands its answer back.
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
//! let body = ping.body(answer, "unix:/run/fpm.sock")?;
//! assert_eq!(body, "pong");
//! # Ok::<(), fcgi_engine::php_fpm::PageError>(())
//! ```

use std::{fmt, io, sync::Arc, time::Duration};

use bytes::Bytes;
use fcgi_http::{HeadError, HeadLimits, HeadParser};
use http::StatusCode;
use serde::{Deserialize, Deserializer};

use crate::{
    client::{Collected, Request},
    http::HttpError,
    text::chain,
};

/// The most that a page may have, in bytes: some 500 for each worker.
pub const LIMIT: usize = 16 << 20;

/// What php-fpm's status page says, with the words that it has. Newer ones may say more.
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
    /// Since it was started.
    #[serde(rename = "start since", deserialize_with = "seconds")]
    pub start_since: Duration,
    /// Connections that it has accepted.
    #[serde(rename = "accepted conn")]
    pub accepted_conn: u64,
    /// Connections that wait to be accepted; of a unix socket not known, and 0.
    #[serde(rename = "listen queue")]
    pub listen_queue: u64,
    /// The most that ever waited.
    #[serde(rename = "max listen queue")]
    pub max_listen_queue: u64,
    /// The most that may wait.
    #[serde(rename = "listen queue len")]
    pub listen_queue_len: u64,
    /// Workers without a request.
    #[serde(rename = "idle processes")]
    pub idle_processes: u64,
    /// Workers with a request, the one for this page included.
    #[serde(rename = "active processes")]
    pub active_processes: u64,
    /// Workers.
    #[serde(rename = "total processes")]
    pub total_processes: u64,
    /// The most workers that ever had a request.
    #[serde(rename = "max active processes")]
    pub max_active_processes: u64,
    /// How often there were as many workers as there may be.
    #[serde(rename = "max children reached")]
    pub max_children_reached: u64,
    /// Requests that took longer than `request_slowlog_timeout`.
    #[serde(rename = "slow requests")]
    pub slow_requests: u64,
    /// The most memory that a request took, in bytes, where php-fpm says so (8.4 and newer).
    #[serde(rename = "memory peak", default)]
    pub memory_peak: Option<u64>,
    /// The workers, from `full_status`.
    #[serde(default)]
    pub processes: Vec<Process>,
}

/// A worker. php-fpm lists those too that do not run yet, with the state `(null)` and figures that
/// mean nothing; it does not count them.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[non_exhaustive]
pub struct Process {
    /// Its process id.
    pub pid: u32,
    /// `Idle`, `Running`, `Reading headers`, `Finishing` and their like.
    pub state: String,
    /// When it was started, in seconds since 1970.
    #[serde(rename = "start time")]
    pub start_time: u64,
    /// Since it was started.
    #[serde(rename = "start since", deserialize_with = "seconds")]
    pub start_since: Duration,
    /// Requests that it has had.
    pub requests: u64,
    /// How long its last request took, or has taken yet.
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
    /// That request's user; `-` when there is none.
    pub user: String,
    /// That request's script; `-` when there is none.
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

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// The call failed, or its answer is no response.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Another status than 200: most likely there is no such page, and no such script.
    #[error("{address}: {path} has status {status}")]
    Status {
        /// The application's address.
        address: Arc<str>,
        /// The page's path.
        path: String,
        /// The status.
        status: StatusCode,
    },
    /// The status page is no JSON, or lacks something.
    #[error("{address}: {path} is no status page of php-fpm")]
    Json {
        /// The application's address.
        address: Arc<str>,
        /// The page's path.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl From<crate::Error> for PageError {
    fn from(error: crate::Error) -> Self {
        Self::Http(error.into())
    }
}

impl From<PageError> for io::Error {
    fn from(error: PageError) -> Self {
        match error {
            PageError::Http(error) => error.into(),
            PageError::Status { status, .. } => {
                let missing = status == StatusCode::NOT_FOUND;
                let kind = if missing { io::ErrorKind::NotFound } else { io::ErrorKind::Other };
                Self::new(kind, error)
            }
            PageError::Json { .. } => Self::new(io::ErrorKind::InvalidData, error),
        }
    }
}

impl PageError {
    /// Whether a time limit passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Http(error) if error.is_timeout())
    }

    /// Whether there is no connection to php-fpm; see [`Error::is_connect`](crate::Error::is_connect).
    #[must_use]
    pub fn is_connect(&self) -> bool {
        matches!(self, Self::Http(error) if error.is_connect())
    }

    /// Whether php-fpm has certainly not begun with the request; see
    /// [`Error::is_unprocessed`](crate::Error::is_unprocessed).
    #[must_use]
    pub fn is_unprocessed(&self) -> bool {
        matches!(self, Self::Http(error) if error.is_unprocessed())
    }

    /// Whether php-fpm refused the request; see [`Error::is_rejected`](crate::Error::is_rejected).
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        matches!(self, Self::Http(error) if error.is_rejected())
    }

    /// Where php-fpm is.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        match self {
            Self::Http(error) => error.address(),
            Self::Status { address, .. } | Self::Json { address, .. } => Some(address),
        }
    }

    /// The error and what caused it, on one line.
    pub fn report(&self) -> impl fmt::Display {
        chain(self)
    }
}

/// One of php-fpm's pages.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    path: &'a str,
    query: &'static str,
}

impl<'a> Page<'a> {
    /// Whether the pool answers.
    #[must_use]
    pub const fn ping(path: &'a str) -> Self {
        Self { path, query: "" }
    }

    /// How the pool is doing, without [`Status::processes`].
    #[must_use]
    pub const fn status(path: &'a str) -> Self {
        Self { path, query: "json" }
    }

    /// How the pool and each of its workers are doing.
    #[must_use]
    pub const fn full_status(path: &'a str) -> Self {
        Self { path, query: "json&full" }
    }

    /// What to send.
    #[must_use]
    pub fn request<B: Default>(&self) -> Request<B> {
        let Self { path, query } = *self;
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

    /// The page's body, from the answer of the application at this address.
    ///
    /// # Errors
    /// It is no response, or another status than 200.
    pub fn body(&self, answer: Collected, address: &str) -> Result<Bytes, PageError> {
        let address: Arc<str> = address.into();
        let mut stdout = answer.stdout;
        let mut parser = HeadParser::new(HeadLimits::default());
        let head = parser.push(&mut stdout).and_then(|head| match head {
            Some(head) => Ok(head),
            None => Err(parser.finish().err().unwrap_or(HeadError::Truncated { bytes: 0 })),
        });
        let status = match head {
            Ok(head) => head.parts.status,
            Err(source) => return Err(HttpError::Head { address, source }.into()),
        };
        if status != StatusCode::OK {
            return Err(PageError::Status { address, path: self.path.to_owned(), status });
        }
        Ok(stdout)
    }

    /// The text of a ping's answer.
    ///
    /// # Errors
    /// As for [`body`](Self::body).
    pub fn text(&self, answer: Collected, address: &str) -> Result<String, PageError> {
        Ok(String::from_utf8_lossy(&self.body(answer, address)?).into_owned())
    }

    /// What a status page says.
    ///
    /// # Errors
    /// As for [`body`](Self::body); [`PageError::Json`].
    pub fn parse(&self, answer: Collected, address: &str) -> Result<Status, PageError> {
        // What a worker's client asked for may hold any byte.
        serde_json::from_str(&self.text(answer, address)?).map_err(|source| PageError::Json {
            address: address.into(),
            path: self.path.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::tests::assert_no_repetition;

    #[test]
    fn errors_name_the_page_and_leave_their_source_to_the_chain() {
        let page = Page::status("/status");
        let answer =
            |stdout: &'static str| Collected { stdout: stdout.into(), ..Collected::default() };
        for (stdout, text) in [
            ("X: y\n\nnot json", "unix:/fpm: /status is no status page of php-fpm"),
            ("Status: 404 Not Found\n\n", "unix:/fpm: /status has status 404 Not Found"),
            ("no head", "unix:/fpm: read the response's head"),
        ] {
            let error = page.parse(answer(stdout), "unix:/fpm").unwrap_err();
            assert_eq!(error.to_string(), text);
            assert_eq!(error.address(), Some("unix:/fpm"));
            assert_no_repetition(&error);
            assert_no_repetition(&io::Error::from(error));
        }
    }
}
