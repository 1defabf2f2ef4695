//! The server against web servers made of raw bytes.

#![allow(unreachable_pub, reason = "what the modules share")]

mod cancel;
mod end;
mod limits;
mod many;
mod peer;
mod streams;
