//! What HTTP over FastCGI has in common in all adapters, async or blocking.
//!
//! `fcgi-http` says what the messages mean; the adapters move them. In between are the decisions
//! that need neither a socket nor a runtime, and that must not differ from one adapter to another:
//! what a request tells the application ([`CallSettings`]), when a head has come ([`HeadReader`]),
//! whether a body is what its head said ([`BodyCheck`]), where a body of unknown length is kept
//! ([`Spool`]), and what can go wrong ([`HttpError`]).
//!
//! ```
//! use fcgi_engine::http::{Spool, Spooled};
//!
//! let mut spool = Spool::new(4, 1000);
//! spool.push(&b"in memory or "[..])?;
//! spool.push(&b"in a file"[..])?;
//! let (length, kept) = spool.finish()?;
//! assert_eq!(length, 22);
//! assert!(matches!(kept, Spooled::File(_)), "it is more than 4 bytes");
//! # Ok::<(), fcgi_engine::http::HttpError>(())
//! ```

mod body;
mod call;
mod error;
mod head;
mod scripts;
mod spool;

pub use body::{BodyCheck, input_length, length_error};
pub use call::{CallSettings, DRAINED, UnknownLength, Variables, filter_params};
pub use error::HttpError;
pub use head::HeadReader;
pub use scripts::Scripts;
pub use spool::{PIECE, Spool, Spooled, read_piece};

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
