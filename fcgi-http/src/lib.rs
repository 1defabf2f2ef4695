//! CGI/1.1 (RFC 3875) on the [`http`] crate's types, as FastCGI carries it. No IO, no runtime.
//!
//! FastCGI moves parameters and streams. CGI defines what they mean: a request is a set of
//! meta-variables, and a response starts with a head in CGI's own form. This crate implements that,
//! for both ends, with defences against the known exploits:
//!
//! | | the web server's side | the application's side |
//! | --- | --- | --- |
//! | request | [`ParamsBuilder`] makes parameters, [`script`] finds the script | [`request::from_params`] |
//! | response | [`HeadParser`] reads the head | [`HeadBlock`] writes it |
//! | Authorizer | [`authorizer::params`], [`authorizer::AnswerParser`] | [`authorizer::allow`], [`authorizer::deny`] |
//! | body | [`BodyLength`] | [`BodyLength`] |
//!
//! ```
//! use bytes::Bytes;
//! use fcgi_http::{HeadParser, ParamsBuilder, RequestBody, Script};
//!
//! // The web server's side: a request becomes parameters …
//! let (request, ()) = http::Request::get("/app/users?id=7")
//!     .header("Host", "www.example.org")
//!     .body(())?
//!     .into_parts();
//! let script = Script::new("/app", "/users");
//! let params = ParamsBuilder::new().build(&request, &script, RequestBody::None)?;
//! assert_eq!(params.get_str("PATH_INFO"), Some("/users"));
//!
//! // … which the application reads …
//! let request = fcgi_http::request::from_params(params)?;
//! assert_eq!(request.uri, "/app/users?id=7");
//! assert_eq!(request.headers["host"], "www.example.org");
//!
//! // … and whose response the web server reads, head first.
//! let mut stdout = Bytes::from_static(b"Status: 404 Not Found\nContent-Type: text/plain\n\nno");
//! let head = HeadParser::new(Default::default()).push(&mut stdout)?.ok_or("a whole head")?;
//! assert_eq!(head.parts.status, 404);
//! assert_eq!(stdout, "no");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The page [`mapping`] lists what is mapped to what, and every policy with its default. Names such
//! as CGI-4.1-1, W-5 and H-14 come from the project's list of requirements, docs/requirements.md.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod authorizer;
pub mod body;
#[cfg(feature = "axum")]
mod extract;
mod hop;
pub mod request;
pub mod response;
pub mod script;
mod text;

#[cfg(doc)]
#[doc = include_str!("../docs/http.md")]
pub mod mapping {}

pub use body::{BodyLength, BodyLengthError};
pub use request::{MetaVariables, MountPoint, ParamsBuilder, PathSource, RemoteAddr, RequestBody};
pub use response::{Head, HeadBlock, HeadError, HeadLimits, HeadParser, Kind, ReasonPhrase};
pub use script::{Mount, Script, ScriptMap};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
