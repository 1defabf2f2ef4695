//! The suite that every adapter passes, on smol.

use std::{future::Future, process::ExitCode};

use fcgi_testkit::suite::{self, Async, AsyncAdapter};

struct Smol;

impl AsyncAdapter for Smol {
    type Runtime = fcgi_smol::Smol;

    const PACKAGE: &'static str = "fcgi-smol";
    // The main one, which waits for the one that runs it all, and async-io's.
    const FEWEST_THREADS: u64 = 3;

    fn block_on<F: Future>(future: F) -> F::Output {
        smol::block_on(future)
    }
}

fn main() -> ExitCode {
    suite::run(Async(Smol))
}
