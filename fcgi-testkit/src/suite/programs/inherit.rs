//! The sockets that an application was started with, by systemd, a web server, or a shell.

use std::{
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{
            fs::PermissionsExt,
            net::{UnixDatagram, UnixListener},
        },
    },
    path::Path,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::Running;
use crate::listening;
use crate::suite::{
    Case, Suite,
    signal::until,
    wire::{Peer, *},
};

pub(in crate::suite) const CASES: &[(&str, Case)] = cases![
    "programs":
    systemds_socket_is_served_before_all_others,
    systemds_sockets_are_told_apart_by_name,
    another_processs_sockets_are_left_alone,
    what_systemd_passed_by_mistake_is_named,
    descriptor_0_is_served_when_it_listens_fc_2_2_1,
    the_environments_address_is_served_before_the_programs,
    a_sockets_children_inherit_nothing,
];

/// A folder with places for sockets.
struct Places(TempDir);

impl Places {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> String {
        format!("unix:{}/{name}", self.0.path().display())
    }

    fn listen(&self, name: &str) -> OwnedFd {
        UnixListener::bind(self.0.path().join(name)).unwrap().into()
    }

    fn exists(&self, name: &str) -> bool {
        self.0.path().join(name).exists()
    }
}

/// `app` with sockets from descriptor 3 on, as systemd passes them: through a shell, which knows the
/// process's id before it becomes the program.
fn passed(suite: &Suite, sockets: [Option<OwnedFd>; 2], pid: &str) -> Command {
    let script = format!("exec 3<&0 4<&1 </dev/null >&2; LISTEN_PID={pid} exec \"$0\" \"$@\"",);
    let app = suite.programs().command("app");
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(app.get_program());
    let count = sockets.iter().flatten().count();
    command.env("LISTEN_FDS", count.to_string());
    let [first, second] = sockets.map(|socket| socket.map_or(Stdio::null(), Stdio::from));
    command.stdin(first).stdout(second);
    command
}

/// The program, once its address takes connections.
fn start(mut command: Command, address: &str) -> Running {
    let child = command.spawn().unwrap();
    let folder = tempfile::tempdir().unwrap();
    Running { child, address: address.to_owned(), folder }
}

/// The answer of an application at an address that takes connections already.
fn ask(address: &str) -> String {
    let mut peer = Peer::dial(&address.parse().unwrap());
    peer.send(request(1, CLOSE, &[], b""));
    let page = String::from_utf8(peer.answer(1).stdout).unwrap();
    page.strip_prefix("Content-Type: text/plain\r\n\r\nHello, world\n").unwrap().to_owned()
}

fn ends(mut app: Running) {
    app.signal("-TERM");
    assert_eq!(app.exit_status().code(), Some(0));
}

fn systemds_socket_is_served_before_all_others(suite: &Suite) {
    let places = Places::new();
    let (passed_one, zero) = (places.listen("passed"), places.listen("zero"));
    drop(zero);
    let mut command = passed(suite, [Some(passed_one), None], "$$");
    command.env("FCGI_ADDR", places.at("environment")).arg(places.at("default"));
    let app = start(command, &places.at("passed"));
    assert_eq!(ask(&app.address), "site\n");
    ends(app);
    assert!(places.exists("passed"), "it is systemd's");
    assert!(!places.exists("environment") && !places.exists("default"));
}

fn systemds_sockets_are_told_apart_by_name(suite: &Suite) {
    let places = Places::new();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("tcp:{}", tcp.local_addr().unwrap());
    // Both are the site's without a second listener.
    let sockets = [Some(places.listen("one")), Some(OwnedFd::from(tcp.try_clone().unwrap()))];
    let mut command = passed(suite, sockets, "$$");
    command.env("LISTEN_FDNAMES", "site:admin").arg(places.at("default"));
    let app = start(command, &places.at("one"));
    assert_eq!((ask(&app.address), ask(&port)), ("site\n".to_owned(), "site\n".to_owned()));
    ends(app);
    // The same two, by their names.
    let sockets = [Some(places.listen("two")), Some(OwnedFd::from(tcp))];
    let mut command = passed(suite, sockets, "$$");
    command.env("LISTEN_FDNAMES", "site:admin");
    command.args([places.at("default"), places.at("default admin")]);
    let app = start(command, &places.at("two"));
    assert_eq!((ask(&app.address), ask(&port)), ("site\n".to_owned(), "admin\n".to_owned()));
    ends(app);
    // A name that nothing was passed under is bound.
    let mut command = passed(suite, [Some(places.listen("three")), None], "$$");
    command.env("LISTEN_FDNAMES", "site").args([places.at("default"), places.at("admin")]);
    let app = start(command, &places.at("three"));
    assert_eq!(ask(&app.address), "site\n");
    until("it listens", || places.exists("admin"));
    ends(app);
    assert!(!places.exists("default") && !places.exists("admin"));
}

fn another_processs_sockets_are_left_alone(suite: &Suite) {
    let places = Places::new();
    for pid in ["1", "0", "nonsense", "''"] {
        let mut command = passed(suite, [Some(places.listen(pid)), None], pid);
        command.arg(places.at("default"));
        let app = start(command, &places.at("default"));
        until("it listens", || listens(&places, "default"));
        assert_eq!(ask(&app.address), "site\n", "LISTEN_PID={pid}");
        ends(app);
    }
}

/// Whether somebody accepts there, which the path does not say: that is there a moment before.
fn listens(places: &Places, name: &str) -> bool {
    listening::listens(&places.0.path().join(name))
}

fn what_systemd_passed_by_mistake_is_named(suite: &Suite) {
    let places = Places::new();
    let datagram = UnixDatagram::bind(places.0.path().join("datagram")).unwrap();
    let mut command = passed(suite, [Some(datagram.into()), None], "$$");
    command.env("LISTEN_FDNAMES", "wrong").arg(places.at("default")).stderr(Stdio::piped());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("\"wrong\"") && said.contains("ListenStream="), "{said}");
    assert!(!places.exists("default"), "it does not listen anywhere else instead");
}

fn descriptor_0_is_served_when_it_listens_fc_2_2_1(suite: &Suite) {
    let places = Places::new();
    let mut command = suite.programs().command("app");
    command.env("FCGI_ADDR", places.at("environment")).arg(places.at("default"));
    command.stdin(Stdio::from(places.listen("zero")));
    let app = start(command, &places.at("zero"));
    assert_eq!(ask(&app.address), "site\n");
    let pid = app.child.id();
    let zero = std::fs::read_link(format!("/proc/{pid}/fd/0")).unwrap();
    assert_eq!(zero, Path::new("/dev/null"), "it is taken over");
    ends(app);
    assert!(places.exists("zero") && !places.exists("environment"));
}

fn the_environments_address_is_served_before_the_programs(suite: &Suite) {
    let places = Places::new();
    for (given, served) in [("environment", "environment"), ("", "default")] {
        let mut command = suite.programs().command("app");
        command.arg(places.at("default")).stdin(Stdio::null());
        let address = if given.is_empty() { String::new() } else { places.at(given) };
        command.env("FCGI_ADDR", address);
        let app = start(command, &places.at(served));
        until("it listens", || listens(&places, served));
        assert_eq!(ask(&app.address), "site\n");
        let mode = std::fs::metadata(places.0.path().join(served)).unwrap().permissions().mode();
        assert_eq!(mode & 0o700, 0o700);
        ends(app);
        assert!(!places.exists("environment") && !places.exists("default"));
    }
}

fn a_sockets_children_inherit_nothing(suite: &Suite) {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    let places = Places::new();
    let mut command = passed(suite, [Some(places.listen("passed")), None], "$$");
    command.arg(places.at("default"));
    let app = start(command, &places.at("passed"));
    assert_eq!(ask(&app.address), "site\n");
    let info = std::fs::read_to_string(format!("/proc/{}/fdinfo/3", app.child.id())).unwrap();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
    let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
    assert_ne!(flags & CLOSE_ON_EXEC, 0, "{flags:o}");
    ends(app);
}
