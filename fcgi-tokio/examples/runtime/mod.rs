//! What the programs need from tokio besides `fcgi-tokio`.

#![allow(dead_code, reason = "no program needs all of it")]

use std::{future::Future, io, time::Duration};

use tokio::runtime::Builder;

/// Runs a program: on one thread if FCGI_THREADS=1, otherwise on one for each core.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let mut builder = match std::env::var("FCGI_THREADS").as_deref() {
        Ok("1") => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    Ok(builder.enable_all().build()?.block_on(future))
}

/// Runs a future in the background, until the result is dropped or ready.
pub(crate) fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> {
    let task = tokio::spawn(future);
    async move {
        match task.await {
            Ok(output) => output,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
}

pub(crate) async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}
