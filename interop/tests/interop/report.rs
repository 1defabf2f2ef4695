//! The results, as `cargo xtask interop` reads them: one line each, its parts between tabs.
//!
//! ```text
//! version  PEER  VERSION
//! pair     SIDE  PAIR  TITLE
//! check    CHECK  TITLE
//! result   PAIR  CHECK  pass|value|deviation|fail  TEXT
//! ```

use std::{
    env,
    fs::File,
    io::Write,
    sync::{Arc, Mutex},
};

use fcgi_testkit::peers::Peer;

use crate::{Cell, checks::Check, pairs::Pair};

/// The variable that names the file to write, where one is wanted.
const RESULTS: &str = "FCGI_INTEROP_RESULTS";

/// A file of results, or none.
#[derive(Clone)]
pub(crate) struct Report(Option<Arc<Mutex<File>>>);

impl Report {
    /// Opens the file that the environment names.
    ///
    /// # Panics
    /// When it can't be created: whoever asked for it would read an old one.
    pub(crate) fn open() -> Self {
        let Some(path) = env::var_os(RESULTS) else { return Self(None) };
        let file = File::create(&path);
        let file = file.unwrap_or_else(|error| panic!("creating {path:?}: {error}"));
        let report = Self(Some(Arc::new(Mutex::new(file))));
        for peer in Peer::INTEROP {
            // Tools, and what is in no pair.
            if matches!(
                peer,
                Peer::Gcc
                    | Peer::Pip
                    | Peer::Fcgid
                    | Peer::SpawnFcgi
                    | Peer::Systemd
                    | Peer::Fcgiwrap
                    | Peer::GitHttp
                    | Peer::Uwsgi
            ) {
                continue;
            }
            if let Some(version) = peer.version() {
                report.line(&["version", peer.name(), &version]);
            }
        }
        report
    }

    /// Says another version.
    pub(crate) fn version(&self, name: &str, version: &str) {
        self.line(&["version", name, version]);
    }

    /// Names the columns and the rows of the tables, in their order.
    pub(crate) fn tables(&self, pairs: &[Pair], checks: &[Check]) {
        for pair in pairs {
            self.line(&["pair", pair.side.name(), pair.id, pair.title]);
        }
        for check in checks {
            self.line(&["check", check.id, check.title]);
        }
    }

    pub(crate) fn write(&self, pair: &Pair, check: &Check, outcome: &Result<Cell, String>) {
        let (kind, text) = match outcome {
            Ok(Cell::Pass) => ("pass", ""),
            Ok(Cell::Value(value)) => ("value", value.as_str()),
            Ok(Cell::Deviation { why }) => ("deviation", *why),
            Err(error) => ("fail", error.as_str()),
        };
        self.line(&["result", pair.id, check.id, kind, text]);
    }

    fn line(&self, parts: &[&str]) {
        let Some(file) = &self.0 else { return };
        let parts: Vec<String> =
            parts.iter().map(|part| part.replace(['\t', '\n', '\r'], " ")).collect();
        let mut file = file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // A lost line shows as a difference from the table in the tree.
        let _ = writeln!(file, "{}", parts.join("\t"));
    }
}
