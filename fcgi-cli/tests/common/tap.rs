//! A tap under test.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
};

use fcgi_testkit::wire::{KEEP, Peer, RawApp, Type, answer, record, request};
use fcgi_tokio::Address;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{
    fcgi,
    gateway::{Text, collect, until},
};

/// A running `fcgi tap`, which listens in a folder of its own. Dropping it kills it.
pub(crate) struct Tap {
    child: Child,
    pub(crate) address: Address,
    pub(crate) folder: TempDir,
    stdout: Option<Text>,
    stderr: Text,
}

impl Tap {
    /// In front of `application`, on a unix socket.
    pub(crate) fn start(application: impl ToString, args: &[&str]) -> Self {
        Self::spawn(fcgi(), None, &[&[&*application.to_string()], args].concat(), true)
    }

    /// The same, on a free port.
    pub(crate) fn start_on_tcp(application: impl ToString, args: &[&str]) -> Self {
        let listen = Some("127.0.0.1:0");
        Self::spawn(fcgi(), listen, &[&[&*application.to_string()], args].concat(), true)
    }

    /// One whose output nobody reads.
    pub(crate) fn start_unread(application: impl ToString, args: &[&str]) -> Self {
        Self::spawn(fcgi(), None, &[&[&*application.to_string()], args].concat(), false)
    }

    /// One with a limit: `f` for a file's blocks of 512 bytes, `n` for descriptors.
    pub(crate) fn start_within(limit: &str, application: impl ToString, args: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        let script = format!("trap '' XFSZ; ulimit -{limit}; exec \"$0\" \"$@\"");
        shell.args(["-c", &script]).arg(fcgi().get_program());
        Self::spawn(shell, None, &[&[&*application.to_string()], args].concat(), true)
    }

    /// One with a umask. Its system calls on files and sockets go into `calls`.
    pub(crate) fn start_traced(strace: &Path, umask: &str, application: impl ToString) -> Self {
        let mut shell = Command::new("sh");
        let calls = "trace=bind,listen,chmod,fchmod,fchmodat,chown,fchown,lchown,fchownat";
        // As a grandchild: signals are the tap's.
        let script =
            format!("umask {umask}; exec \"$STRACE\" -D -f -e {calls} -o calls \"$0\" \"$@\"");
        shell.env("STRACE", strace).args(["-c", &script]).arg(fcgi().get_program());
        Self::spawn(shell, None, &[&*application.to_string()], true)
    }

    fn spawn(mut command: Command, listen: Option<&str>, args: &[&str], read: bool) -> Self {
        let folder = fcgi_testkit::peers::scratch().expect("a folder");
        let socket = folder.path().join("tap.sock");
        let listen = listen.map_or_else(|| socket.display().to_string(), str::to_owned);
        let mut child = command
            .args(["tap", "--listen", &listen])
            .args(args)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("fcgi tap runs");
        let stdout = read.then(|| collect(child.stdout.take().expect("piped")));
        let stderr = collect(child.stderr.take().expect("piped"));
        let mut tap = Self { child, address: Address::unix(socket), folder, stdout, stderr };
        until("it listens", || {
            let ended = tap.child.try_wait().expect("it can be waited for");
            assert_eq!(ended, None, "{}", tap.stderr());
            tap.stderr().contains(" is carried on to ")
        });
        let said = tap.stderr();
        let said = said.strip_prefix("fcgi tap: ").and_then(|said| said.split(' ').next());
        tap.address = said.expect("its address").parse().expect("an address");
        tap
    }

    /// A web server's connection.
    pub(crate) fn connect(&self) -> Peer {
        Peer::dial(&self.address)
    }

    pub(crate) fn stdout(&self) -> String {
        let stdout = self.stdout.as_ref().expect("it is read");
        stdout.lock().expect("stdout").clone()
    }

    /// Its stdout, once that has this many lines.
    pub(crate) fn lines(&self, count: usize) -> Vec<String> {
        until("all lines are printed", || self.stdout().lines().count() >= count);
        let stdout = self.stdout();
        assert_eq!(stdout.lines().count(), count, "{stdout}");
        stdout.lines().map(str::to_owned).collect()
    }

    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().expect("stderr").clone()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Ends it as an operator does. Returns its exit status.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the tap ends", || {
            status = self.child.try_wait().expect("it can be waited for");
            status.is_some()
        });
        // Then all of its output has been read too.
        for text in self.stdout.iter().chain([&self.stderr]) {
            until("all is read", || Arc::strong_count(text) == 1);
        }
        status.expect("it has ended")
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers every request with STDERR and a page, and keeps the connection.
pub(crate) fn page(stderr: &'static str, page: &'static str) -> impl ToString {
    RawApp::new().serve(move |mut peer| {
        while let Some((id, _, _)) = peer.try_request() {
            let error = match stderr {
                "" => Vec::new(),
                text => record(Type::Stderr, id, text.as_bytes()),
            };
            if peer.try_send([error, answer(id, page.as_bytes())].concat()).is_err() {
                return;
            }
        }
    })
}

pub(crate) fn echo() -> impl ToString {
    RawApp::new().serve(|mut peer| peer.echo())
}

/// A request for a path, from a client with credentials.
pub(crate) fn get(id: u16, uri: &str) -> Vec<u8> {
    let pairs = [
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_URI", uri),
        ("HTTP_COOKIE", "session=hidden"),
        ("HTTP_AUTHORIZATION", "Basic aGlkZGVu"),
        ("DB_PASSWORD", "hidden"),
    ];
    request(id, KEEP, &pairs, b"")
}

pub(crate) const PAGE: &str =
    "Status: 404 Not Found\r\nSet-Cookie: id=hidden\r\n\r\nnothing here\n";

/// `fcgi decode` of these bytes, from stdin.
pub(crate) fn decode(bytes: &[u8]) -> (String, String, Option<i32>) {
    decode_by(fcgi().args(["decode", "-"]), bytes)
}

/// The same, with a limit (`v` for KiB of memory, `t` for seconds of processor time).
pub(crate) fn decode_within(limit: &str, bytes: &[u8]) -> (String, String, Option<i32>) {
    let script = format!("ulimit -{limit}; exec \"$0\" decode -");
    decode_by(Command::new("sh").args(["-c", &script]).arg(fcgi().get_program()), bytes)
}

fn decode_by(command: &mut Command, bytes: &[u8]) -> (String, String, Option<i32>) {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut stdin = child.stdin.take().expect("piped");
    let bytes = bytes.to_vec();
    // It may end before it has read all.
    let writer = thread::spawn(move || drop(stdin.write_all(&bytes)));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("written");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code())
}
