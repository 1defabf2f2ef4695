//! The basis of the workspace's tests: one suite that every adapter passes ([`suite`]), real
//! FastCGI peers started in a temporary folder ([`peers`]), a small HTTP client for the web servers
//! among them ([`http`]), a test harness that shows a test whose peer is missing as ignored, never
//! as passed ([`harness`]), an in-memory runtime with its own clock ([`sim`]), raw peers that speak
//! hand-made records ([`wire`]), signals between a test and its threads ([`signal`]), what the
//! system knows of sockets ([`listening`]), programs to run ([`program`]), the log of the code under
//! test ([`logs`]), counts of system calls ([`strace`]), and models that `fcgi-engine`'s tests and
//! fuzz targets share ([`engine_client`], [`engine_pool`], [`engine_server`]).

#![forbid(unsafe_code)]

pub mod duplex;
pub mod engine_client;
pub mod engine_pool;
pub mod engine_server;
pub mod examples;
pub mod harness;
pub mod http;
pub mod listening;
pub mod logs;
pub mod peers;
pub mod program;
pub mod signal;
pub mod sim;
pub mod strace;
pub mod suite;
pub mod wire;
