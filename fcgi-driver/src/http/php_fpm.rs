//! php-fpm's own pages: whether a pool answers, and how its workers are doing.
//!
//! They are answered by the pool that is asked, whatever scripts it has, at the paths that its
//! configuration gives as `ping.path` and `pm.status_path`.
//!
//! ```no_run
//! use fcgi_tokio as fcgi; // or any other adapter, with its feature `php-fpm`
//! use fcgi::http::php_fpm;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = fcgi::Pool::new("unix:/run/php/php-fpm.sock".parse()?);
//! assert_eq!(php_fpm::ping(&pool, "/ping").await?, "pong");
//! let status = php_fpm::full_status(&pool, "/status").await?;
//! println!("{} of {} workers are busy", status.active_processes, status.total_processes);
//! for process in &status.processes {
//!     println!("{}: {} {}", process.pid, process.state, process.request_uri);
//! }
//! # Ok(())
//! # }
//! ```

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fcgi_http::{HeadLimits, HeadParser};
use http::StatusCode;
use serde::{Deserialize, Deserializer};

use super::HttpError;
use crate::{client::Request, pool::Pool, runtime::Runtime};

/// The most that a page may have, in bytes: some 500 for each worker.
const LIMIT: usize = 16 << 20;

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
    /// The workers, from [`full_status`].
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
        address: String,
        /// The page's path.
        path: String,
        /// The status.
        status: StatusCode,
    },
    /// The status page is no JSON, or lacks something.
    #[error("{address}: {path} is no status page of php-fpm")]
    Json {
        /// The application's address.
        address: String,
        /// The page's path.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Asks whether the pool answers; gives the text of its answer, which is `pong` unless
/// `ping.response` says otherwise.
///
/// # Errors
/// See [`PageError`].
///
/// # Cancellation safety
/// Dropping the future aborts the request.
pub async fn ping<R: Runtime>(pool: &Pool<R>, path: &str) -> Result<String, PageError> {
    let body = page(pool, path, "").await?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// Asks how the pool is doing, without [`Status::processes`].
///
/// # Errors
/// See [`PageError`].
///
/// # Cancellation safety
/// Dropping the future aborts the request.
pub async fn status<R: Runtime>(pool: &Pool<R>, path: &str) -> Result<Status, PageError> {
    parse(pool, path, &page(pool, path, "json").await?)
}

/// Asks how the pool and each of its workers are doing.
///
/// # Errors
/// See [`PageError`].
///
/// # Cancellation safety
/// Dropping the future aborts the request.
pub async fn full_status<R: Runtime>(pool: &Pool<R>, path: &str) -> Result<Status, PageError> {
    parse(pool, path, &page(pool, path, "json&full").await?)
}

fn parse<R: Runtime>(pool: &Pool<R>, path: &str, json: &[u8]) -> Result<Status, PageError> {
    // What a worker's client asked for may hold any byte.
    serde_json::from_str(&String::from_utf8_lossy(json)).map_err(|source| PageError::Json {
        address: pool.address().to_string(),
        path: path.to_owned(),
        source,
    })
}

/// The body of a page.
async fn page<R: Runtime>(pool: &Pool<R>, path: &str, query: &str) -> Result<Bytes, PageError> {
    let uri = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let request = Request::responder()
        .param("SCRIPT_FILENAME", path)
        .param("SCRIPT_NAME", path)
        .param("REQUEST_METHOD", "GET")
        .param("REQUEST_URI", uri)
        .param("QUERY_STRING", query)
        .param("SERVER_PROTOCOL", "HTTP/1.1")
        .param("GATEWAY_INTERFACE", "CGI/1.1");
    let response = pool.send(request).await.map_err(HttpError::from)?;
    let mut stdout = response.collect(LIMIT).await.map_err(HttpError::from)?.stdout;
    let mut parser = HeadParser::new(HeadLimits::default());
    let address: Arc<str> = pool.address().to_string().into();
    let failed = |source| HttpError::Head { address: Arc::clone(&address), source };
    let head = match parser.push(&mut stdout).map_err(failed)? {
        Some(head) => head,
        None => {
            let bytes = 0;
            let cut = fcgi_http::HeadError::Truncated { bytes };
            return Err(failed(parser.finish().err().unwrap_or(cut)).into());
        }
    };
    if head.parts.status != StatusCode::OK {
        let (address, path, status) = (address.to_string(), path.to_owned(), head.parts.status);
        return Err(PageError::Status { address, path, status });
    }
    Ok(stdout)
}
