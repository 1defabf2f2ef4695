//! One test suite for every adapter.
//!
//! The adapters have the same names and do the same things, so they pass the same tests. The other
//! end of the wire is always a plain socket of the standard library on the test's thread, which
//! speaks hand-made records. The adapter under test is behind [`Adapter`]. An async adapter
//! implements [`AsyncAdapter`] in a few lines, and is wrapped in [`Async`].
//!
//! A test program of an adapter is a few lines (`harness = false`):
//!
//! ```no_run
//! # struct MyRuntime;
//! # impl fcgi_testkit::suite::Adapter for MyRuntime {
//! #     fn package(&self) -> &'static str { unimplemented!() }
//! #     fn is_async(&self) -> bool { unimplemented!() }
//! #     fn fewest_threads(&self) -> u64 { unimplemented!() }
//! #     fn serve(&self, _: fcgi_engine::Listener, _: fcgi_engine::server::Settings,
//! #         _: fcgi_testkit::suite::Script)
//! #         -> Box<dyn fcgi_testkit::suite::Serving> { unimplemented!() }
//! #     fn connect(&self, _: &fcgi_engine::Address, _: fcgi_engine::client::Settings)
//! #         -> Result<Box<dyn fcgi_testkit::suite::TestClient>, fcgi_engine::Error>
//! #         { unimplemented!() }
//! #     fn pool(&self, _: &fcgi_engine::Address, _: fcgi_engine::client::Settings,
//! #         _: fcgi_engine::pool::Settings)
//! #         -> Box<dyn fcgi_testkit::suite::TestPool> { unimplemented!() }
//! #     fn query_values(&self, _: &fcgi_engine::Address, _: fcgi_engine::client::Settings)
//! #         -> Result<fcgi_proto::Values, fcgi_engine::Error> { unimplemented!() }
//! # }
//! fn main() -> std::process::ExitCode {
//!     fcgi_testkit::suite::run(MyRuntime)
//! }
//! ```
//!
//! Five groups of cases, by the first part of their names: `server`, `client` and `pool` run the
//! adapter in this process; `programs` and `blackbox` run its example programs, the latter with raw
//! bytes for every rule that is visible from outside. A case's name ends in the ids of the rules
//! that it shows.

/// Cases by name: each is named after its group and its function.
macro_rules! cases {
    ($group:literal: $($case:ident),+ $(,)?) => {
        &[$((concat!($group, "::", stringify!($case)), $case as $crate::suite::Case)),+]
    };
}

mod adapter;
mod asynchronous;
mod blackbox;
mod client;
mod feed;
mod pool;
mod programs;
mod script;
mod server;

use std::{
    process::ExitCode,
    sync::{Arc, OnceLock},
};

use fcgi_engine::client::Settings;

pub use crate::signal::Gate;
pub use adapter::{
    Adapter, CancelPoint, Progress, Serving, TestBody, TestClient, TestPool, TestRequest,
    TestResponse,
};
pub use asynchronous::{Async, AsyncAdapter};
pub use feed::{FeedBody, Feeder, feed};
pub use script::{Event, Probe, Script, Step};

use crate::{harness, signal, wire};
use programs::Programs;

/// How many cases run at once: most of them are waiting most of the time.
const THREADS: usize = 8;

/// One test.
type Case = fn(&Suite);

/// The adapter under test, and its programs once they were built.
struct Suite {
    adapter: Box<dyn Adapter>,
    programs: OnceLock<Programs>,
}

impl Suite {
    fn programs(&self) -> &Programs {
        self.programs.get_or_init(|| Programs::build(self.adapter.package()))
    }
}

/// A client's defaults, without the limits that a slow machine could pass.
fn patient() -> Settings {
    let limit = signal::PATIENCE;
    Settings { connect: Some(limit), drain: limit, values: limit, ..Settings::new() }
}

/// Runs the suite on an adapter, as the command line asks (libtest's arguments).
pub fn run(adapter: impl Adapter) -> ExitCode {
    let groups =
        [server::CASES, client::CASES, pool::CASES, programs::CASES, blackbox::CASES].concat();
    let mut cases: Vec<_> = groups.into_iter().flatten().collect();
    if adapter.is_async() {
        cases.extend(server::ASYNC_CASES);
        cases.extend(client::ASYNC_CASES);
    }
    let suite = Arc::new(Suite { adapter: Box::new(adapter), programs: OnceLock::new() });
    harness::run_with_threads(
        THREADS,
        cases.into_iter().map(|&(name, case)| {
            let suite = Arc::clone(&suite);
            harness::Case::new(name, move || {
                case(&suite);
                Ok(())
            })
        }),
    )
}
