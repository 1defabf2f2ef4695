//! HTTP on the simulated runtime: one test for each rule, named after it.

mod authorizer;
mod client;
mod kit;
mod length;
mod php_fpm;
mod records;
mod responses;
mod roles;
mod server;
#[path = "../support/mod.rs"]
mod support;
