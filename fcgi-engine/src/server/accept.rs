//! What a failed accept means.

use std::{
    io,
    time::{Duration, Instant},
};

use crate::{Address, Error};

/// The pause after an accept that failed for lack of descriptors or memory.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many connections a server still accepts when it shuts down: more than wait in any backlog.
/// They came before the shutdown, and perhaps no other process would take them (W-13).
pub const LAST_ACCEPTS: usize = 8192;

/// Decides what a failed accept at this address means: `None` to go on at once, since the
/// connection was gone before it was accepted; or a time until which to pause, since the system
/// lacks something, which is logged.
///
/// # Errors
/// The listener itself is unusable.
pub fn accept_again(
    error: io::Error,
    address: &Address,
    now: Instant,
) -> Result<Option<Instant>, Error> {
    match error.kind() {
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::Interrupted => Ok(None),
        io::ErrorKind::InvalidInput | io::ErrorKind::NotConnected => {
            Err(accept_failed(address, error))
        }
        _ => {
            tracing::error!(%error, %address, "accept failed");
            Ok(Some(now + ACCEPT_PAUSE))
        }
    }
}

/// The error of a server that can't accept.
#[must_use]
pub fn accept_failed(address: &Address, source: io::Error) -> Error {
    Error::Io { address: address.to_string().into(), doing: "accept connections at", source }
}
