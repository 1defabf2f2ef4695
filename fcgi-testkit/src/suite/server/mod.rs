//! Tests the server against raw web servers.

mod abort;
mod ends;
mod failures;
mod listen;
mod management;
mod overload;
mod roles;
mod shutdown;
mod streams;
mod timeouts;

use std::{path::PathBuf, time::Duration};

use fcgi_engine::{Address, Error, Listener, server::Settings};
use tempfile::TempDir;

use super::{
    Case, Gate, Probe, Script, Serving, Step, Suite,
    signal::PATIENCE,
    wire::{Peer, unix_address},
};

pub(super) const CASES: &[&[(&str, Case)]] = &[
    roles::CASES,
    streams::CASES,
    abort::CASES,
    ends::CASES,
    failures::CASES,
    overload::CASES,
    management::CASES,
    listen::CASES,
    shutdown::CASES,
    timeouts::CASES,
];

/// Where a handler is a future, and can be dropped.
pub(super) const ASYNC_CASES: &[(&str, Case)] = timeouts::ASYNC_CASES;

/// A server of the adapter's on a unix socket in a temporary folder.
struct App {
    serving: Box<dyn Serving>,
    probe: Probe,
    path: PathBuf,
    _folder: TempDir,
}

impl Suite {
    fn app(&self, settings: Settings, script: Script) -> App {
        let (folder, path, address) = unix_address();
        let probe = script.probe();
        let serving = self.adapter.serve(Listener::bind(address).unwrap(), settings, script);
        App { serving, probe, path, _folder: folder }
    }

    /// On TCP, at a port that the system chooses.
    fn tcp_app(&self, settings: Settings, script: Script) -> Box<dyn Serving> {
        let address: Address = "tcp:127.0.0.1:0".parse().unwrap();
        self.adapter.serve(Listener::bind(address).unwrap(), settings, script)
    }
}

impl App {
    fn dial(&self) -> Peer {
        Peer::dial(self.serving.address())
    }

    /// Waits for the end of the shutdown.
    fn stopped(&mut self) {
        stopped(&mut *self.serving).unwrap();
    }
}

fn stopped(serving: &mut dyn Serving) -> Result<(), Error> {
    serving.ended(PATIENCE).expect("the server ends")
}

fn settings() -> Settings {
    Settings { web_server_addrs: None, ..Settings::from_env() }
}

fn hello() -> Script {
    Script::new([Step::say("hello")])
}

fn echo() -> Script {
    Script::new([Step::Stdin, Step::Data])
}

/// Says `started`, waits at the gate, says `done`.
fn gated(gate: &Gate) -> Script {
    Script::new([Step::say("started"), Step::Pass(gate.clone()), Step::say("done")])
}

/// Waits for ever after it has said `started`.
fn stuck() -> Script {
    Script::new(stuck_steps())
}

fn stuck_steps() -> [Step; 3] {
    [Step::say("started"), Step::Stuck, Step::Exit(5)]
}

/// A time limit that a test waits for. It is long enough for work that needs no time, on any
/// machine.
const SOON: Duration = Duration::from_secs(1);
/// A longer time limit of this kind.
const AMPLE: Duration = Duration::from_secs(4);
/// A time limit that never passes in a test.
const NEVER: Duration = Duration::from_secs(3600);
