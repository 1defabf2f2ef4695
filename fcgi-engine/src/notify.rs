//! Tells systemd, which started a service with `Type=notify`, how far it is. Without the feature
//! `sd-notify`, and where NOTIFY_SOCKET is not set, nobody is told.
//!
//! ```
//! fcgi_engine::notify::ready();
//! ```

/// The server takes connections.
pub fn ready() {
    #[cfg(feature = "sd-notify")]
    tell(sd_notify::NotifyState::Ready);
}

/// The server takes no more connections, and lets its requests finish.
pub fn stopping() {
    #[cfg(feature = "sd-notify")]
    tell(sd_notify::NotifyState::Stopping);
}

#[cfg(feature = "sd-notify")]
fn tell(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd can't be told of the service's state");
    }
}
