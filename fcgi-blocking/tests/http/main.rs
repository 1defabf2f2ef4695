//! HTTP on threads: the server against web servers made of raw bytes, the client against handlers.

#[path = "../server/app.rs"]
#[allow(dead_code, unreachable_pub, reason = "what the server's tests share")]
mod app;
mod authorizer;
mod client;
mod kit;
mod length;
#[cfg(feature = "php-fpm")]
mod php_fpm;
mod records;
mod server;
