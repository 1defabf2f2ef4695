//! HTTP on the simulated runtime: one test for each rule, named after it.

mod authorizer;
mod kit;
mod records;
mod server;
#[path = "../support/mod.rs"]
mod support;
