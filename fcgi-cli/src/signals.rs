//! Signals that end the command.

use std::{future::Future, future::pending, process::ExitCode};

use tokio::signal::unix::{SignalKind, signal};

/// Waits for SIGINT or SIGTERM. Returns its name and number.
pub(crate) async fn signalled() -> (&'static str, u8) {
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (Ok(mut interrupt), Ok(mut terminate)) = signals else { return pending().await };
    tokio::select! {
        _ = interrupt.recv() => ("SIGINT", 2),
        _ = terminate.recv() => ("SIGTERM", 15),
    }
}

/// Runs a command that has nothing to clean up when a signal comes. The system ends such a process,
/// except the first process of a container, which only gets the signals that it waits for.
pub(crate) async fn plain(work: impl Future<Output = ExitCode>) -> ExitCode {
    if std::process::id() != 1 {
        return work.await;
    }
    tokio::select! {
        code = work => code,
        (_, number) = signalled() => ExitCode::from(128 + number),
    }
}
