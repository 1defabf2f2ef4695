//! The suite that every adapter passes, on tokio's sockets and threads.

use std::{future::Future, process::ExitCode, sync::LazyLock};

use fcgi_testkit::suite::{self, Async, AsyncAdapter};
use tokio::runtime::{Builder, Runtime};

struct Tokio;

impl AsyncAdapter for Tokio {
    type Runtime = fcgi_tokio::Tokio;

    const PACKAGE: &'static str = "fcgi-tokio";
    const FEWEST_THREADS: u64 = 1;

    fn block_on<F: Future>(future: F) -> F::Output {
        static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
            Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap()
        });
        RUNTIME.block_on(future)
    }
}

fn main() -> ExitCode {
    suite::run(Async(Tokio))
}
