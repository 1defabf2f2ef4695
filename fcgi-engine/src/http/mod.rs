//! What HTTP over FastCGI shares between all adapters, async or blocking.
//!
//! `fcgi-http` defines what the messages mean, and the adapters move them. This module makes the
//! decisions in between that need neither a socket nor a runtime, so that all adapters agree. Its
//! types never wait: they say what to do next, and their caller reports the result.
//!
//! - [`Call`] is one call of an HTTP client: the parameters ([`CallSettings`]), the Authorizer
//!   before it, the head of the response, local redirects. [`Gather`] prepares a request's body,
//!   [`Spool`] stores one of unknown length, and [`Incoming`] is the response's body.
//! - [`Reply`] is a server's answer to one request, from its parameters to its app status;
//!   [`InputBody`] checks the request's body against its length.
//! - [`HttpError`] is what can go wrong.
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
mod client;
mod error;
mod gather;
mod head;
mod reply;
mod scripts;
mod service;
mod settings;
mod spool;

pub use body::{Incoming, InputBody, length_error};
pub use call::{Answered, Authorized, Call, FileInfo, Received, get};
pub use error::HttpError;
pub use gather::{Gather, GatherStep, Gathered};
pub(crate) use head::HeadReader;
pub use reply::{Asked, Reply, ReplyStep};
pub use scripts::{Scripts, ScriptsBuilder};
pub use service::{ByRole, FilterData};
pub use settings::{CallSettings, UnknownLength, Variables};
pub use spool::{Spool, Spooled};

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
