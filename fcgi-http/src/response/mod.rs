//! The head of a CGI response: read by a web server, written by an application.
//!
//! An application answers with header lines, an empty line and a body, all on STDOUT. The lines are
//! not HTTP's: the status is a field of its own, and a Location alone asks the web server to run
//! another path. [`HeadParser`] takes STDOUT as it comes, in any cut, inside limits, and hands the
//! body on without copying it; [`HeadBlock`] is the other direction.
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

mod fields;
mod page;
mod parser;
mod writer;

use bytes::Bytes;
use http::{StatusCode, response::Parts, uri::PathAndQuery};

pub use page::page;
pub use parser::{HeadError, HeadLimits, HeadParser};
pub(crate) use writer::BlockWriter;
pub use writer::{HeadBlock, HeadWriteError};

/// The head of a response.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Head {
    /// What the response is.
    pub kind: Kind,
    /// Status and header fields, with Status and the hop-by-hop fields taken out (CGI-6.3.5-1). The
    /// version is HTTP/1.1, whatever the client speaks. A [`ReasonPhrase`] is among the extensions
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

    /// The standard text for a status; for one without a standard text, that of its class.
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
    /// `Location: /path` and nothing else: the web server runs this path itself and answers with
    /// what comes of it; [`redirected`](crate::request::redirected) makes the request. No body
    /// follows. A web server that does not do so can pass the head on, which is a 302.
    LocalRedirect(PathAndQuery),
    /// A response with a status of 3xx and a Location for the client to go to; a body may follow.
    ClientRedirect,
}
