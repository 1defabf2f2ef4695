//! Two servers in front of one application, and what they answer.

use std::{
    env,
    ffi::OsStr,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use fcgi_testkit::{
    http::HttpConnection,
    peers::{WebServer, WebServerKind},
};

/// No test depends on it: it turns a hang into a failure.
const LIMIT: Duration = Duration::from_secs(60);
/// Fields that each server has its own of, or that belong to the connection.
const OWN: [&str; 6] =
    ["server", "date", "connection", "keep-alive", "transfer-encoding", "content-length"];
/// Of a file, each server has its own validators too, and the gateway compressed ones.
const OWN_OF_FILES: [&str; 5] = ["etag", "last-modified", "accept-ranges", "content-type", "vary"];

/// A process that is killed when nobody needs it any more.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let name = format!("{command:?}");
        command.spawn().map(Self).with_context(|| format!("starting {name}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    while !is_so() {
        ensure!(started.elapsed() < LIMIT, "not in time: {what}");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// nginx and `fcgi gateway` in front of the same application.
pub(crate) struct Both {
    nginx: WebServer,
    gateway: u16,
    _process: Process,
}

impl Both {
    /// nginx gets the directives of a `server` block, the gateway its arguments.
    pub(crate) fn start<A: AsRef<OsStr>>(site: &str, arguments: &[A]) -> Result<Self> {
        let user = if rustix::process::geteuid().is_root() { "user root root;" } else { "" };
        let nginx = WebServer::with_config(WebServerKind::Nginx, |dir, port| {
            let dir = dir.display();
            format!(
                "{user}\npid {dir}/pid;\nerror_log {dir}/log warn;\nevents {{}}\nhttp {{\n\
                 access_log off;\nclient_body_temp_path {dir}/body;\nproxy_temp_path {dir}/proxy;\n\
                 fastcgi_temp_path {dir}/fastcgi;\nuwsgi_temp_path {dir}/uwsgi;\n\
                 scgi_temp_path {dir}/scgi;\nclient_max_body_size 64m;\n\
                 server {{\nlisten 127.0.0.1:{port};\n{site}\n}}\n}}\n"
            )
        })?;
        let mut command = Command::new(command()?);
        command.args(["gateway", "--quiet", "--listen", "127.0.0.1:0"]).args(arguments);
        let mut process = Process::start(command.stdout(Stdio::piped()))?;
        let mut line = String::new();
        let stdout = process.0.stdout.take().context("its output")?;
        BufReader::new(stdout).read_line(&mut line).context("reading the gateway's address")?;
        let gateway = line
            .strip_prefix("http://127.0.0.1:")
            .and_then(|rest| rest.split('/').next()?.parse().ok())
            .with_context(|| format!("the gateway said {line:?}"))?;
        Ok(Self { nginx, gateway, _process: process })
    }

    /// The roots of both, for programs that ask by themselves.
    pub(crate) fn urls(&self) -> [String; 2] {
        [self.nginx.port(), self.gateway].map(|port| format!("http://127.0.0.1:{port}"))
    }

    /// Sends it to both. The answers have to be the same.
    pub(crate) fn same(&self, request: &Request) -> Result<()> {
        let [nginx, gateway] = [self.nginx.port(), self.gateway].map(|port| request.send(port));
        let what = &request.line;
        let nginx = nginx.with_context(|| format!("{what}: nginx: {}", self.nginx.log()))?;
        let gateway = gateway.with_context(|| format!("{what}: fcgi gateway"))?;
        ensure!(
            nginx == gateway,
            "{what}:\nnginx: {}\nfcgi gateway: {}",
            nginx.shown(),
            gateway.shown()
        );
        Ok(())
    }
}

/// A request, and what is compared of its answer.
pub(crate) struct Request {
    line: String,
    fields: String,
    body: Vec<u8>,
    file: bool,
}

impl Request {
    /// `METHOD /path`.
    pub(crate) fn new(line: &str) -> Self {
        Self { line: line.to_owned(), fields: String::new(), body: Vec::new(), file: false }
    }

    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        self.fields += &format!("{name}: {value}\r\n");
        self
    }

    pub(crate) fn body(mut self, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.field("Content-Type", kind).field("Content-Length", &length)
    }

    /// The servers send a file of their own.
    pub(crate) fn file(mut self) -> Self {
        self.file = true;
        self
    }

    fn send(&self, port: u16) -> Result<Answer> {
        let mut connection = HttpConnection::connect(("127.0.0.1", port)).context("connecting")?;
        let reply = if let Some(path) = self.line.strip_prefix("HEAD ") {
            connection.head(path)
        } else {
            let head = format!(
                "{} HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\n{}\r\n",
                self.line, self.fields
            );
            connection.send(&[head.as_bytes(), &self.body].concat()).context("sending")?;
            connection.read_reply()
        };
        let reply = reply.context("reading the answer")?;
        let own = |name: &str| OWN.contains(&name) || self.file && OWN_OF_FILES.contains(&name);
        let mut fields = reply.head.fields;
        fields.retain(|(name, _)| !own(name));
        // Of one name they stay in their order.
        fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Answer { status: reply.head.status, fields, body: reply.body })
    }
}

#[derive(PartialEq)]
struct Answer {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn shown(&self) -> String {
        let body = String::from_utf8_lossy(&self.body[..self.body.len().min(1500)]);
        format!("{} {:?}, {} bytes:\n{body}", self.status, self.fields, self.body.len())
    }
}

/// Has cargo build the command, as it has built this test.
fn command() -> Result<PathBuf> {
    let test = env::current_exe().context("this test's program")?;
    let built = test.parent().and_then(Path::parent).context("the folder of this build")?;
    let release = built.file_name().is_some_and(|name| name == "release");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--locked", "--quiet", "--package", "fcgi-cli", "--bin", "fcgi"]);
    if release {
        build.arg("--release");
    }
    build.arg("--target-dir").arg(built.parent().context("the target folder")?);
    let status = build.status().context("starting cargo")?;
    ensure!(status.success(), "`{build:?}` failed");
    Ok(built.join("fcgi"))
}
