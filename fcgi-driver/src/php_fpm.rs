//! php-fpm's own pages: ping, and the status of a pool and its workers.
//!
//! The pool answers them itself, whatever scripts it has, at the paths set by `ping.path` and
//! `pm.status_path` in its configuration.
//!
//! ```no_run
//! use fcgi_tokio as fcgi; // or any other adapter, with its feature `php-fpm`
//! use fcgi::php_fpm;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pool = fcgi::Pool::new("/run/php/php-fpm.sock")?;
//! assert_eq!(php_fpm::ping(&pool, "/ping").await?, "pong");
//! let status = php_fpm::full_status(&pool, "/status").await?;
//! println!("{} of {} workers are busy", status.active_processes, status.total_processes);
//! for process in &status.processes {
//!     println!("{}: {} {}", process.pid, process.state, process.request_uri);
//! }
//! # Ok(())
//! # }
//! ```

pub use fcgi_engine::php_fpm::{Process, Status};
use fcgi_engine::{
    http::HttpError,
    php_fpm::{LIMIT, Page},
};

use crate::{pool::Pool, runtime::Runtime};

fcgi_engine::php_fpm_pages!([async; .await], [R: Runtime], Pool<R>);

async fn ask<R: Runtime, T>(pool: &Pool<R>, page: Page<'_, T>) -> Result<T, HttpError> {
    let answer = pool.send(page.request()).await?.collect(LIMIT).await?;
    page.read(answer, &pool.address().to_string())
}
