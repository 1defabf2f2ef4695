//! What the programs need from smol besides `fcgi-smol`.

#![allow(dead_code, reason = "no program needs all of it")]

use std::{future::Future, io, time::Duration};

/// Runs a program. smol runs tasks, and so handlers, on SMOL_THREADS threads, or on one if it is
/// not set. So FCGI_THREADS=1 needs nothing else.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let one = std::env::var("FCGI_THREADS").is_ok_and(|threads| threads == "1");
    if one && std::env::var("SMOL_THREADS").is_ok_and(|threads| threads != "1") {
        return Err(io::Error::other("FCGI_THREADS=1, but SMOL_THREADS says otherwise"));
    }
    Ok(smol::block_on(future))
}

/// Runs a future in the background, until the result is dropped or ready.
pub(crate) fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> {
    smol::spawn(future)
}

pub(crate) async fn sleep(time: Duration) {
    smol::Timer::after(time).await;
}
