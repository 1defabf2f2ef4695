//! The suite that every adapter passes, on async-std.

use std::{future::Future, process::ExitCode};

use fcgi_testkit::suite::{self, Async, AsyncAdapter};

struct AsyncStd;

impl AsyncAdapter for AsyncStd {
    type Runtime = fcgi_async_std::AsyncStd;

    const PACKAGE: &'static str = "fcgi-async-std";
    // The main one, which waits for the one that runs it all, and async-io's.
    const FEWEST_THREADS: u64 = 3;

    fn block_on<F: Future>(future: F) -> F::Output {
        async_std::task::block_on(future)
    }
}

fn main() -> ExitCode {
    suite::run(Async(AsyncStd))
}
