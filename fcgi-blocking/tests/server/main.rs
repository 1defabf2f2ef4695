//! Tests the server against raw web servers.

#![allow(unreachable_pub, reason = "what the modules share")]

mod app;
mod cancel;
mod end;
mod lead;
mod limits;
mod many;
mod quiet;
mod streams;
