//! Turns requests into parameters, and back.
//!
//! A web server uses [`ParamsBuilder`]: it has the request's head, knows the connection, and must
//! decide which header fields an application may see. An application uses [`from_params`]: it has
//! the parameters that some web server sent, and needs a request's head, or a clear error.
//! [`MetaVariables`] are what CGI adds to HTTP; `from_params` puts them into the request's
//! extensions.
//!
//! ```
//! use fcgi_http::{MetaVariables, ParamsBuilder, RequestBody, Script, request};
//!
//! let (parts, ()) = http::Request::post("/app/upload?name=a")
//!     .header("Cookie", "a=1")
//!     .header("Cookie", "b=2")
//!     .header("Proxy", "http://evil.example/")
//!     .body(())?
//!     .into_parts();
//! let params = ParamsBuilder::new()
//!     .remote_addr("192.0.2.7:4711".parse()?)
//!     .build(&parts, &Script::new("/app", "/upload"), RequestBody::Length(3))?;
//! assert_eq!(params.get_str("CONTENT_LENGTH"), Some("3"));
//! assert_eq!(params.get_str("HTTP_COOKIE"), Some("a=1; b=2"));
//! assert_eq!(params.get_str("HTTP_PROXY"), None, "httpoxy");
//!
//! let parts = request::from_params(params)?;
//! assert_eq!(parts.uri, "/app/upload?name=a");
//! let meta = parts.extensions.get::<MetaVariables>().ok_or("always there")?;
//! assert_eq!(meta.remote_addr(), Some("192.0.2.7".parse()?));
//! assert_eq!(meta.content_length()?, Some(3));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;
mod from_params;
mod meta;
mod path_source;
mod policy;
mod redirect;
mod to_params;

pub use error::RequestError;
pub use from_params::{from_params, from_params_by};
pub use meta::{MetaVariables, MissingMeta, RemoteAddr, RemoteAddrError};
pub use path_source::{MountPoint, PathSource};
pub use policy::HeaderPolicy;
pub use redirect::redirected;
pub use to_params::{ParamsBuilder, ParamsError, RequestBody, is_host};
