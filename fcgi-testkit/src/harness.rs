//! A test's `main` for tests that need real peers (`harness = false`).
//!
//! A case whose peer is missing shows as ignored, with the reason before its name. It can't pass,
//! even if it is run with `--ignored`. With `FCGI_REQUIRE_PEERS=1` in the environment it fails
//! instead.
//!
//! ```no_run
//! use fcgi_testkit::harness::{self, Case};
//! use fcgi_testkit::peers::{Peer, PhpFpm, PhpFpmOptions};
//!
//! fn main() -> std::process::ExitCode {
//!     harness::run([
//!         Case::new("php_fpm_starts", || {
//!             PhpFpm::start(PhpFpmOptions::default())?;
//!             Ok(())
//!         })
//!         .needs(&[Peer::PhpFpm]),
//!     ])
//! }
//! ```

use std::env;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

pub use libtest_mimic::Failed;

use crate::peers::Peer;

/// The variable that makes a missing peer a failure, when it is `1`.
pub const REQUIRE_PEERS: &str = "FCGI_REQUIRE_PEERS";

/// One test.
pub struct Case {
    name: String,
    needs: Vec<Peer>,
    missing: Option<String>,
    run: Box<dyn FnOnce() -> Result<(), Failed> + Send>,
}

impl Case {
    /// A test that fails when `run` returns an error or panics. `?` turns
    /// every error that can be displayed into [`Failed`].
    pub fn new(
        name: impl Into<String>,
        run: impl FnOnce() -> Result<(), Failed> + Send + 'static,
    ) -> Self {
        Self { name: name.into(), needs: Vec::new(), missing: None, run: Box::new(run) }
    }

    /// Declares the peers that the test needs.
    pub fn needs(mut self, peers: &[Peer]) -> Self {
        self.needs.extend_from_slice(peers);
        self
    }

    /// Declares that something else is missing, and why.
    pub fn missing(mut self, reason: Option<String>) -> Self {
        self.missing = reason;
        self
    }

    fn into_trial(self, require_peers: bool) -> Trial {
        let provided = if is_interop() { Peer::INTEROP } else { Peer::TESTS };
        if let Some(peer) = self.needs.iter().find(|peer| !provided.contains(peer)) {
            let reason =
                format!("{peer} is in none of the lists that xtask installs for this test");
            return Trial::test(self.name, move || Err(reason.into()));
        }
        let missing: Vec<String> = self
            .needs
            .iter()
            .filter_map(|peer| peer.find().err())
            .map(|missing| missing.to_string())
            .chain(self.missing)
            .collect();
        if missing.is_empty() {
            return Trial::test(self.name, self.run);
        }
        let reason = missing.join("; ");
        let trial = Trial::test(self.name, {
            let reason = reason.clone();
            move || Err(reason.into())
        });
        if require_peers { trial } else { trial.with_kind(reason).with_ignored_flag(true) }
    }
}

/// Whether these are the tests that `cargo xtask interop` runs: cargo names their package.
fn is_interop() -> bool {
    env::var_os("CARGO_PKG_NAME").is_some_and(|name| name == "fcgi-interop")
}

/// Runs the cases that the command line selects, like libtest.
pub fn run(cases: impl IntoIterator<Item = Case>) -> ExitCode {
    run_with(Arguments::from_args(), cases)
}

/// Like [`run`], with this many cases at once unless the command line sets another number.
pub fn run_with_threads(threads: usize, cases: impl IntoIterator<Item = Case>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(threads);
    run_with(arguments, cases)
}

fn run_with(arguments: Arguments, cases: impl IntoIterator<Item = Case>) -> ExitCode {
    let require_peers = env::var_os(REQUIRE_PEERS).is_some_and(|value| value == "1");
    let trials = cases.into_iter().map(|case| case.into_trial(require_peers)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
