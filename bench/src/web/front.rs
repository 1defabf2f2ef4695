//! The web servers, each with its own configuration for one application.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use fcgi_testkit::peers::Peer;

use super::CONNECTIONS;
use crate::Options;
use crate::candidates::{command, exec};
use crate::cpu::Placement;
use crate::process::Server;

/// A web server.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Front {
    Nginx,
    Gateway,
    Caddy,
}

/// Which connections to the application are kept.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Keep {
    Not,
    /// One, since the application does not serve a second one meanwhile.
    One,
    All,
}

/// What wrk requests.
#[derive(Clone)]
pub(super) struct Target {
    /// Where the application listens.
    socket: PathBuf,
    /// The folder of its scripts, if it has some.
    scripts: Option<PathBuf>,
    url: String,
    /// The length of the answer's body.
    length: usize,
}

impl Target {
    /// An application that answers every path with the greeting.
    pub(super) fn application(socket: &Path) -> Target {
        Target { socket: socket.to_owned(), scripts: None, url: "/hello".to_owned(), length: 13 }
    }

    /// A script of php-fpm.
    pub(super) fn php(socket: &Path, scripts: &Path, script: &str) -> Target {
        let length = script.split_once("n=").and_then(|(_, n)| n.parse().ok()).unwrap_or(13);
        let scripts = Some(scripts.to_owned());
        Target { socket: socket.to_owned(), scripts, url: format!("/{script}"), length }
    }

    /// A static file in its place.
    pub(super) fn file(self, name: &str) -> Target {
        let length = if name == "small.txt" { 1 << 10 } else { 1 << 20 };
        Target { url: format!("/{name}"), length, ..self }
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }
}

/// What a web server serves.
pub(super) struct Site {
    pub(super) target: Target,
    /// The folder of static files.
    pub(super) files: PathBuf,
    pub(super) keep: Keep,
}

impl Site {
    fn root(&self) -> &Path {
        self.target.scripts.as_deref().unwrap_or(&self.files)
    }

    fn is_file(&self) -> bool {
        !self.target.url.starts_with("/hello") && self.target.scripts.is_none()
    }
}

/// A running web server.
pub(super) struct Running {
    pub(super) server: Server,
    pub(super) port: u16,
}

impl Front {
    pub(super) fn name(self) -> &'static str {
        match self {
            Front::Nginx => "nginx",
            Front::Gateway => "fcgi gateway",
            Front::Caddy => "Caddy",
        }
    }

    /// Starts it on the server's processor.
    pub(super) fn start(
        self,
        options: &Options,
        dir: &Path,
        site: &Site,
        cpus: Placement,
    ) -> Result<Running> {
        // The port was free a moment ago. If somebody takes it meanwhile, the start fails with an
        // error.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let dir = dir.join(format!("front-{port}"));
        fs::create_dir(&dir)?;
        let command = match self {
            Front::Nginx => nginx(&dir, site, port)?,
            Front::Gateway => gateway(options, site, port)?,
            Front::Caddy => caddy(&dir, site, port)?,
        };
        Ok(Running { server: Server::start_on(command, port, cpus)?, port })
    }
}

/// The parameters that nginx sends: those of Debian's `fastcgi.conf`.
const PARAMS: &str = "
    fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name;
    fastcgi_param QUERY_STRING $query_string;
    fastcgi_param REQUEST_METHOD $request_method;
    fastcgi_param CONTENT_TYPE $content_type;
    fastcgi_param CONTENT_LENGTH $content_length;
    fastcgi_param SCRIPT_NAME $fastcgi_script_name;
    fastcgi_param REQUEST_URI $request_uri;
    fastcgi_param DOCUMENT_URI $document_uri;
    fastcgi_param DOCUMENT_ROOT $document_root;
    fastcgi_param SERVER_PROTOCOL $server_protocol;
    fastcgi_param REQUEST_SCHEME $scheme;
    fastcgi_param GATEWAY_INTERFACE CGI/1.1;
    fastcgi_param SERVER_SOFTWARE nginx/$nginx_version;
    fastcgi_param REMOTE_ADDR $remote_addr;
    fastcgi_param REMOTE_PORT $remote_port;
    fastcgi_param SERVER_ADDR $server_addr;
    fastcgi_param SERVER_PORT $server_port;
    fastcgi_param SERVER_NAME $server_name;
    fastcgi_param REDIRECT_STATUS 200;";

/// nginx with one process, whose processor time is measured.
fn nginx(dir: &Path, site: &Site, port: u16) -> Result<Command> {
    let program = Peer::Nginx.find()?;
    let (kept, keep) = match site.keep {
        Keep::Not => (String::new(), "off"),
        Keep::One => ("keepalive 1;".to_owned(), "on"),
        Keep::All => (format!("keepalive {CONNECTIONS};"), "on"),
    };
    let pass = format!(
        "fastcgi_pass application; fastcgi_keep_conn {keep}; fastcgi_connect_timeout 5s;{PARAMS}"
    );
    let location = if site.is_file() { "location = /application" } else { "location /" };
    let (dir_, root, socket) = (dir.display(), site.root().display(), site.target.socket.display());
    let conf = format!(
        "daemon off; master_process off; worker_processes 1; pid {dir_}/nginx.pid;
error_log {dir_}/error.log crit;
events {{ worker_connections 512; }}
http {{
  access_log off; sendfile on; tcp_nopush on; keepalive_requests 10000000;
  client_body_temp_path {dir_}/body; proxy_temp_path {dir_}/proxy;
  fastcgi_temp_path {dir_}/fastcgi; uwsgi_temp_path {dir_}/uwsgi; scgi_temp_path {dir_}/scgi;
  upstream application {{ server unix:{socket}; {kept} }}
  server {{ listen 127.0.0.1:{port}; server_name localhost; root {root}; {location} {{ {pass} }} }}
}}
"
    );
    let file = dir.join("nginx.conf");
    fs::write(&file, conf)?;
    let log = dir.join("error.log");
    let args: [&OsStr; 6] = [
        "-p".as_ref(),
        dir.as_os_str(),
        "-c".as_ref(),
        file.as_os_str(),
        "-e".as_ref(),
        log.as_os_str(),
    ];
    exec(&program, &args)
}

fn gateway(options: &Options, site: &Site, port: u16) -> Result<Command> {
    let program = command(options)?;
    let mut address = OsString::from("unix:");
    address.push(&site.target.socket);
    let listen = format!("127.0.0.1:{port}");
    let connections = CONNECTIONS.to_string();
    let mut args: Vec<&OsStr> =
        ["gateway", "--quiet", "--listen", &listen, "--connections"].map(OsStr::new).into();
    args.push(OsStr::new(&connections));
    // nginx passes every path of the application on, without a look at its files.
    if site.target.scripts.is_some() || site.is_file() {
        args.extend([OsStr::new("--root"), site.root().as_os_str()]);
    }
    if site.target.scripts.is_none() {
        args.extend(["--mount", "/"].map(OsStr::new));
    }
    if site.keep != Keep::Not {
        args.push(OsStr::new("--keep-conn"));
    }
    args.push(&address);
    exec(&program, &args)
}

fn caddy(dir: &Path, site: &Site, port: u16) -> Result<Command> {
    let program = Peer::Caddy.find()?;
    if site.keep != Keep::Not {
        bail!("it keeps no connection to an application");
    }
    let (root, socket) = (site.root().display(), site.target.socket.display());
    let handlers = if site.is_file() {
        "file_server".to_owned()
    } else if site.target.scripts.is_some() {
        format!("php_fastcgi unix/{socket}")
    } else {
        format!("reverse_proxy unix/{socket} {{\n transport fastcgi {{\n root {root}\n }}\n}}")
    };
    let conf = format!(
        "{{\n admin off\n auto_https off\n}}\n\
         http://127.0.0.1:{port} {{\n root * {root}\n {handlers}\n}}\n"
    );
    let file = dir.join("Caddyfile");
    fs::write(&file, conf)?;
    let args: [&OsStr; 5] = [
        "run".as_ref(),
        "--config".as_ref(),
        file.as_os_str(),
        "--adapter".as_ref(),
        "caddyfile".as_ref(),
    ];
    let mut command = exec(&program, &args)?;
    command.env("GOMAXPROCS", "1").env("HOME", dir).env("XDG_CONFIG_HOME", dir);
    Ok(command)
}
