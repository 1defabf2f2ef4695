//! The application's side of a connection: all decisions of an adapter, except how to wait.
//!
//! ```
//! use fcgi_engine::server::IntoAppStatus;
//!
//! assert_eq!(().into_app_status()?, 0);
//! let error = Err::<(), _>("no database").into_app_status().unwrap_err();
//! assert_eq!(error.to_string(), "no database");
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```

mod accept;
mod begun;
mod failure;
mod handles;
mod job;
mod notes;
mod requests;
mod session;
mod settings;
mod spare;
mod streams;
mod tally;
mod turn;

use std::{error::Error, time::Duration};

pub use accept::{ACCEPT_PAUSE, Sockets, accept_failed};
pub use failure::{catch_panic, log_failure};
pub use handles::{CHUNK, piece, pieces};
pub use job::{HandlerEnd, Job};
pub use notes::{ConnectionSpan, Ended, Notes, RequestSpan};
pub use requests::{Awaited, Waiters};
pub use session::Session;
pub use settings::{EndOfFile, Settings};
pub use streams::Write;
pub use tally::Tally;
pub use turn::{Duplex, Turn};

/// The app status of a handler that panicked, as of a Rust program that does.
pub const PANICKED: u32 = 101;
/// The app status of a handler that was stopped: its request was aborted or took too long.
pub const CANCELLED: u32 = 1;
/// The app status of a handler that [`Failed`].
pub const FAILED: u32 = 1;

/// How long a peer may be silent after the end of our answer before its socket is closed. Closing
/// at once would lose the response for a peer that still sends.
pub const LINGER: Duration = Duration::from_secs(2);
/// How long such a peer may go on sending, in all.
pub const LONGEST_LINGER: Duration = Duration::from_secs(30);

/// A handler failed: what it has written, if anything, is not its whole response. This differs from
/// an app status other than 0, which may well end a complete response.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the handler failed")]
pub struct Failed;

/// What a handler may return: nothing, an app status, or a result. The error of a result is logged
/// with its causes, and the request ends as [`Failed`]. It may be any [`Error`] that is `Send + Sync`,
/// a text, or anything that converts into such a boxed error, as `anyhow::Error` does.
///
/// A plain `Box<dyn Error>` is not accepted, as in tower and axum: it can't change threads.
#[diagnostic::on_unimplemented(
    message = "a handler of requests can't return `{Self}`",
    label = "this handler's result can't end a request",
    note = "a handler returns `()`, an app status (`u32`), or a `Result` of either whose error is \
            `Send + Sync`: an error type, a text, `anyhow::Error`",
    note = "write `Box<dyn Error + Send + Sync>` in place of `Box<dyn Error>`"
)]
pub trait IntoAppStatus {
    /// The app status.
    ///
    /// # Errors
    /// Why the response is incomplete.
    fn into_app_status(self) -> Result<u32, Box<dyn Error + Send + Sync>>;
}

impl IntoAppStatus for () {
    fn into_app_status(self) -> Result<u32, Box<dyn Error + Send + Sync>> {
        Ok(0)
    }
}

impl IntoAppStatus for u32 {
    fn into_app_status(self) -> Result<u32, Box<dyn Error + Send + Sync>> {
        Ok(self)
    }
}

#[diagnostic::do_not_recommend]
impl<T: IntoAppStatus, E: Into<Box<dyn Error + Send + Sync>>> IntoAppStatus for Result<T, E> {
    fn into_app_status(self) -> Result<u32, Box<dyn Error + Send + Sync>> {
        match self {
            Ok(status) => status.into_app_status(),
            Err(error) => Err(error.into()),
        }
    }
}
