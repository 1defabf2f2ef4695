//! What the programs need from async-std besides `fcgi-async-std`.

#![allow(dead_code, reason = "no program needs all of it")]

use std::{future::Future, io, time::Duration};

use async_global_executor::GlobalExecutorConfig;

/// Runs a program. If FCGI_THREADS=1, its tasks, and so its handlers, run on one thread. Otherwise
/// there are as many as ASYNC_STD_THREAD_COUNT says, or one for each core.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> io::Result<T> {
    if std::env::var("FCGI_THREADS").is_ok_and(|threads| threads == "1") {
        // Whoever starts async-std's executor first decides.
        let one = GlobalExecutorConfig::default().with_min_threads(1).with_max_threads(1);
        async_global_executor::init_with_config(one);
    }
    Ok(async_std::task::block_on(future))
}

/// Runs a future in the background, until the result is dropped or ready.
pub(crate) fn spawn<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> impl Future<Output = T> {
    async_std::task::spawn(future)
}

pub(crate) async fn sleep(time: Duration) {
    async_std::task::sleep(time).await;
}
