//! Reports the service's state to systemd, for a unit with `Type=notify`. Without the feature
//! `sd-notify`, or if NOTIFY_SOCKET is not set, this does nothing.
//!
//! The service is ready with its first server and stops with its last one. A program with several
//! servers should bind all their listeners before it starts the first. A server for a single
//! connection that somebody else accepted does not count.
//!
//! ```
//! let serving = fcgi_engine::notify::serving();
//! // Hold it while the server takes connections.
//! drop(serving);
//! ```

#[cfg(feature = "sd-notify")]
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many servers take connections.
#[cfg(feature = "sd-notify")]
static SERVERS: Mutex<usize> = Mutex::new(0);

/// A server that takes connections. Drop it when the server takes no more and lets its requests
/// finish.
#[derive(Debug)]
#[must_use = "the service stops with the last one that is dropped"]
pub struct Serving(());

/// Reports that a server takes connections. The first report makes the service ready.
pub fn serving() -> Serving {
    #[cfg(feature = "sd-notify")]
    {
        let mut servers = servers();
        *servers += 1;
        if *servers == 1 {
            tell(sd_notify::NotifyState::Ready);
        }
    }
    Serving(())
}

impl Drop for Serving {
    fn drop(&mut self) {
        #[cfg(feature = "sd-notify")]
        {
            let mut servers = servers();
            *servers -= 1;
            if *servers == 0 {
                tell(sd_notify::NotifyState::Stopping);
            }
        }
    }
}

/// Held while systemd is notified, so that reports arrive in order.
#[cfg(feature = "sd-notify")]
fn servers() -> MutexGuard<'static, usize> {
    SERVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(feature = "sd-notify")]
fn tell(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "can't report the service's state to systemd");
    }
}
