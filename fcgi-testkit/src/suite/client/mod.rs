//! Tests the client against raw applications, and against the adapter's own server.

mod cancel;
mod detach;
mod failures;
mod lost;
mod reuse;
mod streams;
mod timeouts;
mod values;

use bytes::Bytes;
use fcgi_engine::{
    Address, Error, Listener,
    client::{Collected, Settings},
    server,
};
use tempfile::TempDir;

use super::{
    Case, Script, Serving, Step, Suite, TestClient, TestRequest, patient,
    wire::{Peer, RawApp, unix_address},
};

pub(super) const CASES: &[&[(&str, Case)]] = &[
    streams::CASES,
    failures::CASES,
    lost::CASES,
    reuse::CASES,
    cancel::CASES,
    detach::CASES,
    values::CASES,
    timeouts::CASES,
];

/// For adapters where a body can be awaited while the response is read.
pub(super) const ASYNC_CASES: &[(&str, Case)] = streams::ASYNC_CASES;

/// The adapter's own server, which echoes.
struct Echo {
    serving: Box<dyn Serving>,
    _folder: TempDir,
}

impl Suite {
    fn echo(&self, settings: server::Settings) -> Echo {
        let exit = |status| [Step::Param("PREFIX"), Step::Stdin, Step::Data, Step::Exit(status)];
        let script = Script::new(exit(0)).when("EXIT", "4294967295", exit(u32::MAX));
        let (folder, _, address) = unix_address();
        let serving = self.adapter.serve(Listener::bind(address).unwrap(), settings, script);
        Echo { serving, _folder: folder }
    }

    fn client(&self, address: &Address) -> Box<dyn TestClient> {
        self.adapter.connect(address, patient()).unwrap()
    }

    /// A client, and the application's end of its connection.
    fn connected(&self, settings: Settings) -> (RawApp, Box<dyn TestClient>, Peer) {
        let app = RawApp::new();
        let client = self.adapter.connect(&app.address, settings).unwrap();
        let peer = app.accept();
        (app, client, peer)
    }
}

impl Echo {
    fn address(&self) -> &Address {
        self.serving.address()
    }
}

fn server_settings() -> server::Settings {
    server::Settings { web_server_addrs: None, ..server::Settings::from_env() }
}

fn post(body: &[u8]) -> TestRequest {
    let length = body.len().to_string();
    TestRequest::responder().param("CONTENT_LENGTH", length).stdin(body.to_vec())
}

fn call(client: &mut dyn TestClient, request: TestRequest) -> Result<Collected, Error> {
    client.send(request)?.collect(64 << 20)
}

/// The error of a call that must fail.
fn fails(client: &mut dyn TestClient, request: TestRequest) -> Error {
    match call(client, request) {
        Ok(answer) => panic!("a success: {answer:?}"),
        Err(error) => error,
    }
}

fn stdout(bytes: impl Into<Bytes>) -> Collected {
    let mut collected = Collected::default();
    collected.stdout = bytes.into();
    collected
}
