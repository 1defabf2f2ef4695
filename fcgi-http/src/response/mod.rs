//! The head of a CGI response: a web server reads it, an application writes it.
//!
//! An application answers with header lines, an empty line and a body, all on STDOUT. The lines
//! differ from HTTP: the status is a field, and a Location alone asks the web server to run another
//! path. [`HeadParser`] reads STDOUT as it comes, cut anywhere, within limits, and passes the body
//! on without copying it. [`HeadBlock`] writes a head.
//!
//! ```
//! use bytes::Bytes;
//! use fcgi_http::response::{HeadBlock, HeadLimits, HeadParser, Kind};
//!
//! let (response, ()) = http::Response::builder()
//!     .status(302)
//!     .header("Location", "https://www.example.org/")
//!     .header("Set-Cookie", "a=1")
//!     .header("Set-Cookie", "b=2")
//!     .body(())?
//!     .into_parts();
//! let block = HeadBlock::new(&response)?;
//! assert!(block.fits_record(), "one STDOUT record holds it");
//!
//! let mut parser = HeadParser::new(HeadLimits::default());
//! let mut stdout = block.into_bytes();
//! let mut rest = stdout.split_off(20);
//! assert!(parser.push(&mut stdout)?.is_none(), "more is needed");
//! let head = parser.push(&mut rest)?.ok_or("a whole head")?;
//! assert_eq!(head.kind, Kind::ClientRedirect);
//! assert_eq!(head.parts.headers.get_all("Set-Cookie").iter().count(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod fields;
mod page;
mod parser;
mod writer;

use bytes::Bytes;
use http::{StatusCode, response::Parts, uri::PathAndQuery};

pub use error::HeadError;
pub use page::page;
pub use parser::{HeadLimits, HeadParser};
pub(crate) use writer::BlockWriter;
pub use writer::{HeadBlock, HeadWriteError};

/// The head of a response.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Head {
    /// What the response is.
    pub kind: Kind,
    /// Status and header fields, without Status and the hop-by-hop fields (CGI-6.3.5-1). The
    /// version is HTTP/1.1, whatever the client speaks. The extensions include a [`ReasonPhrase`]
    /// if the application gave one.
    pub parts: Parts,
}

/// The text after the status code, as the application wrote it: printable bytes, spaces and tabs.
/// It is never empty. HTTP/2 has none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReasonPhrase(Bytes);

impl ReasonPhrase {
    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The standard text for a status, or that of its class if the status has none.
    #[must_use]
    pub fn standard(status: StatusCode) -> &'static str {
        status.canonical_reason().unwrap_or(match status.as_u16() {
            ..300 => "Success",
            300..400 => "Redirection",
            400..500 => "Client Error",
            500.. => "Server Error",
        })
    }
}

/// The kinds of CGI response (RFC 3875, 6.2).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// A response for the client, with a body.
    Document,
    /// `Location: /path` and nothing else: the web server runs this path itself and sends the
    /// result; [`redirected`](crate::request::redirected) makes the request. No body follows. A web
    /// server that does not do this can pass the head on, as a 302.
    LocalRedirect(PathAndQuery),
    /// A response with a 3xx status and a Location for the client to go to. A body may follow.
    ClientRedirect,
}
