//! What the workspace's tests stand on: one suite that every adapter passes ([`suite`]), real
//! FastCGI peers started in a temporary folder ([`peers`]), a small HTTP client to talk to the
//! web servers among them ([`http`]), a test harness that shows a test whose peer is missing as
//! ignored, never as passed ([`harness`]), a runtime in memory with a clock of its own ([`sim`]),
//! raw peers that speak records made by hand ([`wire`]), what a test and its threads tell each
//! other ([`signal`]), what the system knows of sockets ([`listening`]), programs to run ([`program`]), what
//! the code under test logs ([`logs`]), system calls counted ([`strace`]), and models that `fcgi-engine`'s tests and fuzz targets share ([`engine_client`],
//! [`engine_pool`], [`engine_server`]).

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
