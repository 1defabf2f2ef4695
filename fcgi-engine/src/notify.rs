//! Tells systemd, which started a service with `Type=notify`, how far it is. Without the feature
//! `sd-notify`, and where NOTIFY_SOCKET is not set, nobody is told.
//!
//! The service is ready with its first server, and stops with its last one: a program with several
//! servers binds all their listeners before it starts the first. A server of one connection, which
//! somebody else accepted, is not the service.
//!
//! ```
//! let serving = fcgi_engine::notify::serving();
//! // Until it takes no more connections.
//! drop(serving);
//! ```

#[cfg(feature = "sd-notify")]
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many servers take connections.
#[cfg(feature = "sd-notify")]
static SERVERS: Mutex<usize> = Mutex::new(0);

/// A server that takes connections. Dropped when it takes no more, and lets its requests finish.
#[derive(Debug)]
#[must_use = "the service stops with the last one that is dropped"]
pub struct Serving(());

/// The server takes connections: the first one to say so makes the service ready.
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

/// Held while systemd is told, so that it hears of them in their order.
#[cfg(feature = "sd-notify")]
fn servers() -> MutexGuard<'static, usize> {
    SERVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(feature = "sd-notify")]
fn tell(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd can't be told of the service's state");
    }
}
