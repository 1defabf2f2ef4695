//! What a service reports to systemd (`Type=notify`). A datagram socket takes the place of
//! systemd's.

use std::{
    io::ErrorKind,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::Running;
use crate::{
    listening::listens,
    suite::{Case, Suite, signal::until, wire::*},
};

pub(super) const CASES: &[(&str, Case)] = cases!["programs":
    systemd_hears_of_a_server_that_listens_and_of_one_that_leaves,
    systemd_hears_of_two_servers_as_one_service,
    systemd_hears_nothing_of_a_cgi_request,
    a_server_that_cannot_listen_is_never_ready,
];

/// Takes the place of systemd.
struct Systemd {
    socket: UnixDatagram,
    folder: TempDir,
}

impl Systemd {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        // Longer than any working service needs.
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { socket, folder }
    }

    /// Starts a service that reports here, on a socket that exists once it has reported.
    fn start(&self, suite: &Suite, name: &str, admin: Option<PathBuf>) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let address = format!("unix:{}/app.sock", folder.path().display());
        let mut command = suite.programs().command(name);
        command.arg(&address).args(admin).stdin(Stdio::null()).stderr(Stdio::null());
        Running { child: self.told_by(&mut command).spawn().unwrap(), address, folder }
    }

    fn told_by<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"))
    }

    /// Waits for the next message.
    fn next(&self) -> String {
        let mut buffer = [0; 200];
        let length = loop {
            match self.socket.recv(&mut buffer) {
                // The process was stopped for a while.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received.expect("systemd hears nothing"),
            }
        };
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    }

    /// All messages that were not received yet.
    fn rest(&self) -> Vec<String> {
        self.socket.set_nonblocking(true).unwrap();
        let mut buffer = [0; 200];
        std::iter::from_fn(|| {
            let length = self.socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..length]).trim().to_owned())
        })
        .collect()
    }
}

fn systemd_hears_of_a_server_that_listens_and_of_one_that_leaves(suite: &Suite) {
    let systemd = Systemd::new();
    let mut echo = systemd.start(suite, "echo", None);
    assert_eq!(systemd.next(), "READY=1");
    // It listens by now.
    let mut peer = echo.dial();
    let pairs = [("ECHO_SLEEP_MS", "3000")];
    peer.send([request(1, KEEP, &pairs, b""), record(Type::GetValues, 0, b"")].concat());
    assert_eq!(peer.record().kind, Type::GetValuesResult);
    echo.signal("-TERM");
    // It reports this when it begins to shut down, while its request still runs.
    assert_eq!(systemd.next(), "STOPPING=1");
    assert!(echo.child.try_wait().unwrap().is_none(), "it has left before its request");
    assert_eq!(peer.answer(1).app_status, 0);
    assert_eq!(echo.exit_status().code(), Some(0));
    assert!(systemd.rest().is_empty());
}

fn systemd_hears_of_two_servers_as_one_service(suite: &Suite) {
    let systemd = Systemd::new();
    let admin = systemd.folder.path().join("admin.sock");
    let mut app = systemd.start(suite, "app", Some(admin.clone()));
    assert_eq!(systemd.next(), "READY=1");
    until("both listen", || app.listens() && listens(&admin));
    // A server that has answered runs.
    for address in [app.address.clone(), format!("unix:{}", admin.display())] {
        let mut peer = Peer::dial(&address.parse().unwrap());
        peer.send(request(1, CLOSE, &[], b""));
        assert_eq!(peer.answer(1).app_status, 0);
    }
    app.signal("-TERM");
    assert_eq!(app.exit_status().code(), Some(0));
    assert_eq!(systemd.rest(), ["STOPPING=1"]);
}

fn systemd_hears_nothing_of_a_cgi_request(suite: &Suite) {
    let systemd = Systemd::new();
    let mut command = super::cgi::cgi(suite, "GET", "/");
    assert!(systemd.told_by(&mut command).output().unwrap().status.success());
    assert!(systemd.rest().is_empty());
}

fn a_server_that_cannot_listen_is_never_ready(suite: &Suite) {
    let systemd = Systemd::new();
    let mut command = suite.programs().command("hello");
    command.arg("unix:/no/such/folder/app.sock").stdin(Stdio::null()).stderr(Stdio::null());
    assert!(!systemd.told_by(&mut command).status().unwrap().success());
    assert!(systemd.rest().is_empty());
}
