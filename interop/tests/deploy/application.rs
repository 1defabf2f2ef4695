//! The application, started in the ways that the page names, and what it has to answer.

use std::{
    fs,
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, net::UnixListener},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use fcgi_testkit::{
    http::{HttpConnection, Reply},
    peers::{self, WebServer, WebServerKind},
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::page::adapted;

/// No test depends on it: it turns a hang into a failure.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_deploy-app"))
}

/// A process that is killed when nobody needs it any more.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let name = format!("{command:?}");
        command.spawn().map(Self).with_context(|| format!("starting {name}"))
    }

    /// The application, with a listening socket as its descriptor 0.
    pub(crate) fn on_socket(socket: &UnixListener) -> Result<Self> {
        let socket = OwnedFd::from(socket.try_clone().context("copying the socket")?);
        let mut command = Command::new(program());
        Self::start(command.env_remove("FCGI_ADDR").stdin(Stdio::from(socket)))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.0.try_wait().is_ok_and(|status| status.is_some())
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) -> Result<()> {
        terminate(self.id())
    }

    /// Waits for its end, which has to be a good one.
    pub(crate) fn ends_well(mut self) -> Result<()> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().context("waiting for the application")? {
                ensure!(status.success(), "the application ended with {status}");
                return Ok(());
            }
            ensure!(started.elapsed() < LIMIT, "the application does not end");
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn terminate(id: u32) -> Result<()> {
    let id = Pid::from_raw(id.try_into().context("a process id")?).context("a process id")?;
    kill_process(id, Signal::TERM).context("sending SIGTERM")
}

/// The folder of a test, which web servers' users can enter, with a document root.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
}

impl Place {
    pub(crate) fn new() -> Result<Self> {
        let dir = peers::scratch()?;
        let files = dir.path().join("public/static");
        fs::create_dir_all(&files).context("creating the document root")?;
        fs::write(files.join("file.txt"), "a file\n").context("writing a file")?;
        Ok(Self { dir })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// A socket that every user may connect to, as the web server is another one.
    pub(crate) fn socket(&self) -> Result<UnixListener> {
        let path = self.path("app.sock");
        let socket = UnixListener::bind(&path).context("listening")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).context("opening it")?;
        Ok(socket)
    }

    /// nginx with the page's file in front of `app.sock`, or of another address.
    pub(crate) fn nginx(&self, address: Option<&str>) -> Result<WebServer> {
        self.nginx_with(address, "")
    }

    /// The same with more in its `server` block.
    pub(crate) fn nginx_with(&self, address: Option<&str>, more: &str) -> Result<WebServer> {
        let address = address.map_or_else(|| self.text("app.sock"), str::to_owned);
        let unix = if address.starts_with('/') { "unix:" } else { "" };
        let site = adapted(
            "nginx.conf",
            &[
                ("unix:/run/app/app.sock", &format!("{unix}{address}")),
                ("/srv/app/public", &self.text("public")),
                ("include fastcgi_params", "include /etc/nginx/fastcgi_params"),
                ("listen 80;", &format!("listen 127.0.0.1:@PORT@;\n{more}")),
            ],
        )?;
        let user = if rustix::process::geteuid().is_root() { "user root root;" } else { "" };
        let server = WebServer::with_config(WebServerKind::Nginx, |dir, port| {
            let dir = dir.display();
            let site = site.replace("@PORT@", &port.to_string());
            format!(
                "{user}\npid {dir}/pid;\nerror_log {dir}/log warn;\nevents {{}}\nhttp {{\n\
                 access_log off;\nclient_body_temp_path {dir}/body;\nproxy_temp_path {dir}/proxy;\n\
                 fastcgi_temp_path {dir}/fastcgi;\nuwsgi_temp_path {dir}/uwsgi;\n\
                 scgi_temp_path {dir}/scgi;\n{site}\n}}\n"
            )
        })?;
        Ok(server)
    }
}

/// What every web server has to do with the application behind it.
pub(crate) fn serves(server: &WebServer) -> Result<()> {
    let outcome = serves_all(server.port());
    outcome.with_context(|| format!("the server's log: {}", server.log()))
}

fn serves_all(port: u16) -> Result<()> {
    is(&first(port, "/")?, 200, "hello from the application\n")?;
    let path = "/articles/new%20one?page=2&page=3";
    is(&get(port, path)?, 200, path)?;

    let body = vec![b'x'; 300_000];
    let mut request = format!(
        "POST /echo HTTP/1.1\r\nHost: example.org\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend(&body);
    let mut connection = connect(port)?;
    connection.send(&request).context("sending the body")?;
    let echo = connection.read_reply().context("POST /echo")?;
    ensure!(echo.head.status == 200 && echo.body == body, "POST /echo: {:?}", echo.head);

    // No web server hands the connection over to a FastCGI application.
    let mut connection = connect(port)?;
    connection.send(
        b"GET / HTTP/1.1\r\nHost: example.org\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    )?;
    let status = connection.read_reply().context("asking for a websocket")?.head.status;
    ensure!(status != 101, "a websocket went through");
    Ok(())
}

fn connect(port: u16) -> Result<HttpConnection> {
    HttpConnection::connect(("127.0.0.1", port)).context("connecting to the web server")
}

/// GET on a connection of its own.
pub(crate) fn get(port: u16, path: &str) -> Result<Reply> {
    connect(port)?.get(path).with_context(|| format!("GET {path}"))
}

/// The first GET: the application may still be starting, which is an answer of 5xx until then.
pub(crate) fn first(port: u16, path: &str) -> Result<Reply> {
    let started = Instant::now();
    loop {
        match get(port, path) {
            Ok(reply) if reply.head.status < 500 => return Ok(reply),
            outcome if started.elapsed() < LIMIT => drop(outcome),
            Ok(reply) => bail!("GET {path}: {:?}", reply.head),
            Err(error) => return Err(error),
        }
        thread::sleep(PAUSE);
    }
}

pub(crate) fn is(reply: &Reply, status: u16, body: &str) -> Result<()> {
    let came = String::from_utf8_lossy(&reply.body);
    ensure!(
        reply.head.status == status && came == body,
        "status {} with {came:?}, not {status} with {body:?}",
        reply.head.status
    );
    Ok(())
}
