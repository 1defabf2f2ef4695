//! A gateway under test, and an application behind it.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use fcgi_testkit::http::{HttpConnection, Reply, pattern};
use fcgi_tokio as fcgi;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::{Notify, Semaphore};

use super::fcgi as command;

/// Generous, since the machine may be busy. The event comes long before.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) type Text = Arc<Mutex<String>>;

/// A running `fcgi gateway`. Dropping it kills it.
pub(crate) struct Gateway {
    child: Child,
    /// What it said when it started.
    pub(crate) line: String,
    pub(crate) port: u16,
    stdout: Text,
    stderr: Text,
}

impl Gateway {
    /// Starts it on a free port of its own choice.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::spawn(command(), args)
    }

    /// Starts it with a variable in its environment.
    pub(crate) fn start_with_env(name: &str, value: &str, args: &[&str]) -> Self {
        let mut command = command();
        command.env(name, value);
        Self::spawn(command, args)
    }

    /// Starts it with a limit on its descriptors.
    pub(crate) fn start_with_files(limit: u32, args: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
        shell.args(["-c", &script]).arg(command().get_program());
        Self::spawn(shell, args)
    }

    /// Starts a program that runs it, with `--listen 127.0.0.1:0` among the arguments.
    pub(crate) fn spawn(mut command: Command, args: &[&str]) -> Self {
        command.args(["gateway", "--listen", "127.0.0.1:0"]).args(args);
        Self::run(command)
    }

    /// Starts a complete command. Its first line must name a port of 127.0.0.1.
    pub(crate) fn run(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("fcgi gateway runs");
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        let stderr: ChildStderr = child.stderr.take().expect("piped");
        let stderr = collect(stderr);
        let mut line = String::new();
        stdout.read_line(&mut line).expect("stdout can be read");
        let (_, rest) = line.split_once("http://127.0.0.1:").unwrap_or_default();
        let port = rest.split('/').next();
        let port = port.and_then(|port| port.parse().ok());
        let Some(port) = port else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("it did not start: {line:?} {:?}", stderr.lock().expect("stderr"));
        };
        Self { child, line, port, stdout: collect(stdout), stderr }
    }

    pub(crate) fn connect(&self) -> HttpConnection {
        HttpConnection::connect(("127.0.0.1", self.port)).expect("it accepts")
    }

    pub(crate) fn get(&self, target: &str) -> Reply {
        self.connect().get(target).unwrap_or_else(|error| panic!("GET {target}: {error}"))
    }

    /// A request without a body.
    pub(crate) fn ask(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Reply {
        let mut connection = self.connect();
        connection.send_head(method, target, fields).expect("send");
        connection.read_reply().unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }

    /// The access log so far.
    pub(crate) fn access_log(&self) -> String {
        self.stdout.lock().expect("stdout").clone()
    }

    /// The error log so far.
    pub(crate) fn error_log(&self) -> String {
        self.stderr.lock().expect("stderr").clone()
    }

    pub(crate) fn pid(&self) -> i32 {
        Pid::from_child(&self.child).as_raw_nonzero().get()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Waits for its end, and for the rest of its output.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the gateway ends", || {
            status = self.child.try_wait().expect("it can be waited for");
            status.is_some()
        });
        for text in [&self.stdout, &self.stderr] {
            until("all is read", || Arc::strong_count(text) == 1);
        }
        status.expect("it has ended")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // SIGTERM first, so that it can end what it started.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn collect(mut from: impl Read + Send + 'static) -> Text {
    let text = Text::default();
    let to = Arc::clone(&text);
    thread::spawn(move || {
        let mut block = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut block) {
            to.lock().expect("a log").push_str(&String::from_utf8_lossy(&block[..n]));
        }
    });
    text
}

/// The body as text.
pub(crate) fn text(reply: &Reply) -> String {
    String::from_utf8_lossy(&reply.body).into_owned()
}

/// When the files of a [`Root`] were modified, in milliseconds since 1970.
pub(crate) const MODIFIED: u64 = 1_000_000_000_500;

pub(crate) fn set_modified(file: &Path, milliseconds: u64) {
    let file = std::fs::File::options().write(true).open(file).expect("a file");
    let time = std::time::UNIX_EPOCH + Duration::from_millis(milliseconds);
    file.set_modified(time).expect("its time can be set");
}

/// A folder of scripts and files: `/index.html`, `/page.txt`, `/app.php`, `/sub/index.php`,
/// `/plain/index.html`, `/.secret`, and `secret.txt` beside the root.
pub(crate) struct Root {
    folder: TempDir,
}

pub(crate) const PAGE: &str = "0123456789\n";
pub(crate) const SECRET: &str = "a secret";

impl Root {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("www");
        for dir in ["sub", "plain", ".git"] {
            std::fs::create_dir_all(root.join(dir)).expect("a folder");
        }
        for (name, text) in [
            ("index.html", "<h1>home</h1>"),
            ("page.txt", PAGE),
            ("app.php", SECRET),
            ("UPPER.PHP", SECRET),
            ("sub/index.php", SECRET),
            ("plain/index.html", "<h1>plain</h1>"),
            (".secret", SECRET),
            (".git/config", SECRET),
            ("../secret.txt", SECRET),
        ] {
            std::fs::write(root.join(name), text).expect("a file");
            set_modified(&root.join(name), MODIFIED);
        }
        Self { folder }
    }

    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("www")
    }

    pub(crate) fn arg(&self) -> String {
        self.path().display().to_string()
    }
}

/// An application in this process. What it does depends on the end of SCRIPT_NAME and PATH_INFO:
///
/// | path | does |
/// | --- | --- |
/// | `hold` | sends `first\n` and, once released, `last\n` |
/// | `hang` | sends nothing until it is cancelled |
/// | `endless` | sends bytes until it is cancelled |
/// | `overloaded` | refuses the request |
/// | `stderr` | writes to STDERR, with an escape sequence |
/// | `to-page`, `to-app`, `to-itself` | redirect inside |
/// | `cut`, `cut-known` | ends with a status, after a part of a body of unknown or known length |
/// | `reason` | answers with the Status that the query is |
/// | `bytes` | answers with as many bytes of the pattern as the query says, without their length |
/// | `field` | answers with the fields that the query is, `%0A` between them, and a body |
/// | `early` | answers without reading STDIN |
/// | `noisy` | writes lines to STDERR until it is cancelled |
/// | anything else | answers with its parameters and STDIN's length, or STDIN itself for `echo` |
pub(crate) struct App {
    pub(crate) address: String,
    pub(crate) state: Arc<State>,
    _runtime: tokio::runtime::Runtime,
    _folder: TempDir,
}

#[derive(Default)]
pub(crate) struct State {
    /// Requests that have come.
    pub(crate) asked: AtomicUsize,
    /// Handlers that were dropped before their end.
    pub(crate) cancelled: AtomicUsize,
    release: Release,
}

struct Release(Semaphore);

impl Default for Release {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl State {
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(crate) fn cancelled(&self) -> usize {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Lets one `hold` go on.
    pub(crate) fn release(&self) {
        self.release.0.add_permits(1);
    }
}

struct Guard<'a>(&'a State, bool);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl App {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = fcgi::Address::unix(folder.path().join("app"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let state = Arc::new(State::default());
        let _guard = runtime.enter();
        let listener = fcgi::Listener::bind(&address).expect("bind");
        let server = fcgi::Server::new().web_server_addrs(None);
        let shared = Arc::clone(&state);
        let serve = server.serve(listener, move |request: fcgi::Request| {
            let state = Arc::clone(&shared);
            async move {
                state.asked.fetch_add(1, Ordering::SeqCst);
                let mut guard = Guard(&state, false);
                let status = answer(&request, &state).await;
                guard.1 = true;
                status
            }
        });
        runtime.spawn(serve);
        Self { address: address.to_string(), state, _runtime: runtime, _folder: folder }
    }
}

async fn answer(request: &fcgi::Request, state: &State) -> Result<u32, fcgi::Error> {
    let param = |name| request.param_str(name).unwrap_or_default();
    let path = format!("{}{}", param("SCRIPT_NAME"), param("PATH_INFO"));
    let mut out = request.stdout();
    let head = "Content-Type: text/plain\r\n\r\n";
    match path.rsplit('/').next().unwrap_or_default() {
        "hold" => {
            out.write_all(format!("{head}first\n")).await?;
            let released = state.release.0.acquire().await;
            released.expect("nobody closes it").forget();
            out.write_all("last\n").await?;
        }
        "hang" => Notify::new().notified().await,
        "endless" => {
            out.write_all(head).await?;
            loop {
                out.write_all(vec![b'x'; 16 * 1024]).await?;
            }
        }
        "overloaded" => request.reject(fcgi::Rejection::Overloaded),
        "stderr" => {
            request.stderr().write_all("red \x1b[31m\nsecond \"line\"\n").await?;
            out.write_all(head).await?;
        }
        "to-page" => out.write_all("Location: /page.txt\r\n\r\n").await?,
        "to-app" => out.write_all("Location: /app.php/landed?by=redirect\r\n\r\n").await?,
        "to-itself" => out.write_all(format!("Location: {path}\r\n\r\n")).await?,
        "cut" => {
            out.write_all(format!("{head}half")).await?;
            return Ok(7);
        }
        "cut-known" => {
            out.write_all("Content-Type: text/plain\r\nContent-Length: 100\r\n\r\nhalf").await?;
            return Ok(7);
        }
        "reason" => {
            let status = param("QUERY_STRING").replace("%20", " ");
            out.write_all(format!("Status: {status}\r\n{head}")).await?;
        }
        "bytes" => {
            out.write_all(head).await?;
            let all: u64 = param("QUERY_STRING").parse().unwrap_or_default();
            for at in (0..all).step_by(10_000) {
                let end = all.min(at + 10_000);
                out.write_all((at..end).map(pattern).collect::<Vec<_>>()).await?;
            }
        }
        "field" => {
            let field = param("QUERY_STRING").replace("%20", " ").replace("%0A", "\r\n");
            let field = field.replace("%25", "%");
            let more = "Content-Disposition: attachment\r\nSet-Cookie: a=b\r\nETag: \"mine\"";
            out.write_all(format!("{field}\r\n{more}\r\n{head}of the application")).await?;
        }
        "early" => out.write_all(format!("Status: 403\r\n{head}no\n")).await?,
        "noisy" => {
            let mut stderr = request.stderr();
            loop {
                stderr.write_all("a line that nobody wants to read\n".repeat(500)).await?;
            }
        }
        "no-head" => out.write_all("this is no head\n\n").await?,
        "echo" => {
            out.write_all(head).await?;
            let mut stdin = request.stdin();
            while let Some(bytes) = stdin.chunk().await? {
                out.write_all(bytes).await?;
            }
        }
        _ => {
            let mut length = 0;
            let mut stdin = request.stdin();
            while let Some(bytes) = stdin.chunk().await? {
                length += bytes.len();
            }
            let mut body = head.as_bytes().to_vec();
            for (name, value) in request.params() {
                body.extend([name, b"=", value, b"\n"].concat());
            }
            body.extend(format!("STDIN={length}\n").bytes());
            out.write_all(body).await?;
        }
    }
    Ok(0)
}

/// A symbolic link.
pub(crate) fn link(target: &Path, name: &Path) {
    std::os::unix::fs::symlink(target, name).expect("a symbolic link");
}

/// A client that speaks HTTP/2 by prior knowledge.
pub(crate) struct Http2(hyper::client::conn::http2::SendRequest<Full<Bytes>>);

impl Http2 {
    pub(crate) async fn connect(gateway: &Gateway) -> Self {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", gateway.port)).await;
        let io = TokioIo::new(stream.expect("it accepts"));
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        let (sender, connection) = handshake.expect("HTTP/2");
        tokio::spawn(connection);
        Self(sender)
    }

    /// Begins a GET. The future waits for the head of the answer.
    pub(crate) fn get(
        &mut self,
        path: &str,
    ) -> impl Future<Output = hyper::Result<http::Response<hyper::body::Incoming>>> + use<> {
        let uri = format!("http://www.example.org{path}");
        let request = http::Request::get(uri).body(Full::default());
        self.0.send_request(request.expect("a request"))
    }

    /// Begins a HEAD. The future waits for the head of the answer.
    pub(crate) fn head(
        &mut self,
        path: &str,
    ) -> impl Future<Output = hyper::Result<http::Response<hyper::body::Incoming>>> + use<> {
        let uri = format!("http://www.example.org{path}");
        let request = http::Request::head(uri).body(Full::default());
        self.0.send_request(request.expect("a request"))
    }

    /// The same as [`get`](Self::get) with so many header fields.
    pub(crate) fn get_with_fields(
        &mut self,
        path: &str,
        number: usize,
    ) -> impl Future<Output = hyper::Result<http::Response<hyper::body::Incoming>>> + use<> {
        let uri = format!("http://www.example.org{path}");
        let fields = (0..number).map(|n| format!("x-{n}"));
        let request = fields.fold(http::Request::get(uri), |it, name| it.header(name, "y"));
        self.0.send_request(request.body(Full::default()).expect("a request"))
    }

    /// Begins a POST. The future waits for the head of the answer.
    pub(crate) fn post(
        &mut self,
        path: &str,
        body: &'static str,
    ) -> impl Future<Output = hyper::Result<http::Response<hyper::body::Incoming>>> + use<> {
        let uri = format!("http://www.example.org{path}");
        let body = Full::new(Bytes::from_static(body.as_bytes()));
        self.0.send_request(http::Request::post(uri).body(body).expect("a request"))
    }
}

/// Runs on a runtime.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}
