//! What the workspace's tests stand on: one suite that every adapter passes ([`suite`]), real
//! FastCGI peers started in a temporary folder ([`peers`]), a small HTTP client to talk to the
//! web servers among them ([`http`]), a test harness that shows a test whose peer is missing as
//! ignored, never as passed ([`harness`]), and a runtime in memory with a clock of its own
//! ([`sim`]).

#![forbid(unsafe_code)]

pub mod examples;
pub mod harness;
pub mod http;
pub mod peers;
pub mod sim;
pub mod suite;
