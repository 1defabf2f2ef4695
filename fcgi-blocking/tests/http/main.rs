//! HTTP on threads: the server against web servers made of raw bytes, the client against handlers.

mod authorizer;
mod client;
mod kit;
#[path = "../server/peer.rs"]
#[allow(dead_code, unreachable_pub, reason = "what the server's tests share")]
mod peer;
mod records;
mod server;
