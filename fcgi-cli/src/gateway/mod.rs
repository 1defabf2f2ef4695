//! `fcgi gateway`: a web server for one FastCGI application.

mod application;
mod body;
mod buffer;
mod client;
mod conditions;
mod cut;
mod descriptors;
mod failure;
mod files;
mod folder;
mod handover;
mod intake;
mod log;
mod php_fpm;
mod php_guard;
mod refusal;
mod root;
mod sample;
mod server;
mod service;
mod sink;
mod site;
mod socket;
mod store;
mod upstream;
mod watch;

use std::{io, net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{
    Args, ValueEnum,
    builder::{OsStringValueParser, TypedValueParser},
};
use fcgi_tokio::{self as fcgi, client::Connector};
use tokio::net::TcpListener;

use crate::args::{Param, param, seconds, size};
use application::Application;
use buffer::Buffering;
use descriptors::Descriptors;
use files::Files;
use handover::Handover;
pub(crate) use php_guard::PhpGuard;
use service::Service;
use sink::{ACCESS, complain};
use site::Site;
use store::Stores;
use upstream::Upstream;

/// Serve a FastCGI application to browsers
///
/// A web server for HTTP/1.1 and HTTP/2 without TLS (h2c), in front of any FastCGI application:
/// scripts are run by the application, other files of the root are sent as they are, and answers
/// go out as they come. Names that start with a dot, and what is outside of the root, are not
/// found. Without ADDR it starts a sample application of its own; with --php, a php-fpm.
///
/// The access log goes to stdout; errors and what the application writes to STDERR go to stderr.
/// SIGTERM and SIGINT let the requests under way finish; a second one ends at once.
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Gateway {
    /// The application: unix:PATH, /PATH, HOST:PORT or :PORT; without it, a sample application is started
    #[arg(value_name = "ADDR", conflicts_with = "php")]
    address: Option<fcgi::Address>,
    /// Start a private php-fpm for the root, as php -S would, and stop it at the end
    #[arg(long)]
    php: bool,
    /// A variable of the environment that --php's scripts see; may be given again. Default none
    #[arg(long, value_name = "NAME", value_parser = variable, requires = "php")]
    env: Vec<String>,
    /// Where to listen; may be given again. Port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    listen: Vec<String>,

    /// The folder of scripts and files; default the current one, and none for the sample
    #[arg(long, value_name = "DIR", help_heading = "What is served")]
    root: Option<PathBuf>,
    /// Where the application sees the root, if elsewhere, as in a container
    #[arg(long, value_name = "DIR", help_heading = "What is served", conflicts_with = "php")]
    app_root: Option<PathBuf>,
    /// Index files to try for a directory, in order; may be given again
    #[arg(
        long,
        value_name = "FILE",
        default_values = ["index.php", "index.html"],
        help_heading = "What is served"
    )]
    index: Vec<String>,
    /// What a script's name ends with; what follows it in a path is PATH_INFO. May be given again
    #[arg(long, value_name = "SUFFIX", default_value = ".php", help_heading = "What is served")]
    split: Vec<String>,
    /// The script, below the root, that answers for what is no file: a front controller
    #[arg(long, value_name = "FILE", help_heading = "What is served")]
    front: Option<String>,
    /// The application is no script: all paths below PREFIX are its own, / for the whole site
    ///
    /// Files of the root come first, if a root is given.
    #[arg(
        long,
        value_name = "PREFIX",
        help_heading = "What is served",
        conflicts_with_all = ["front", "php", "no_check"]
    )]
    mount: Option<String>,
    /// Ask the application even if the script is not in the root, which may then be elsewhere
    #[arg(long, help_heading = "What is served")]
    no_check: bool,
    /// Follow symbolic links out of the root
    #[arg(long, help_heading = "What is served")]
    follow_links: bool,
    /// The folder of files that the application may have sent by X-Accel-Redirect or X-Sendfile
    ///
    /// X-Accel-Redirect names a path below it, as in a URL; X-Sendfile a path below it, or an
    /// absolute one that leads there. Without this option, the fields are removed and logged.
    #[arg(long, value_name = "DIR", help_heading = "What is served")]
    sendfile_root: Option<PathBuf>,
    /// A parameter for each request, in place of one of that name; may be given again
    #[arg(
        long = "param",
        value_name = "NAME=VALUE",
        value_parser = OsStringValueParser::new().try_map(param),
        help_heading = "What is served"
    )]
    params: Vec<Param>,
    /// No access log
    #[arg(long, short)]
    quiet: bool,

    /// The largest head of a request, in bytes or with K, M; 431 beyond. At least 8K
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "64K",
        value_parser = head_size,
        help_heading = "Limits"
    )]
    max_head: u64,
    /// The most header fields of a request; 431 beyond
    #[arg(long, value_name = "N", default_value = "100", value_parser = fields, help_heading = "Limits")]
    max_fields: usize,
    /// The largest body of a request, in bytes or with K, M, G; 413 beyond
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "128M",
        value_parser = size,
        help_heading = "Limits"
    )]
    max_body: u64,
    /// Take in a whole request before the application is asked, and an answer as fast as it comes
    ///
    /// Then a slow client holds no connection to the application. A fast one still gets each piece
    /// of an answer at once. Bodies are kept in memory, up to 128K each, and then in temporary
    /// files. With off, both stream, and the application waits for its client.
    #[arg(
        long,
        value_name = "on|off",
        value_enum,
        default_value_t = Switch::On,
        hide_possible_values = true,
        help_heading = "Limits"
    )]
    buffering: Switch,
    /// The most of all bodies that is kept in temporary files; beyond it uploads get 503
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size, help_heading = "Limits")]
    store: u64,
    /// The most of one answer that is kept in a file; beyond it the application waits
    #[arg(long, value_name = "SIZE", default_value = "128M", value_parser = size, help_heading = "Limits")]
    store_each: u64,
    /// Clients' connections at once; more wait to be accepted
    #[arg(long, value_name = "N", default_value = "1024", value_parser = at_least_one, help_heading = "Limits")]
    max_clients: usize,
    /// Connections to the application at once; php-fpm needs a worker for each
    #[arg(long, value_name = "N", default_value = "8", value_parser = at_least_one, help_heading = "Limits")]
    connections: usize,
    /// Requests at once on one connection, if the application says that it multiplexes
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least_one, help_heading = "Limits")]
    multiplex: usize,
    /// Keep a connection to the application for further requests
    ///
    /// It saves a connect a request. It is safe for applications that are done when they answer,
    /// such as Go's and this project's; php-fpm goes on after fastcgi_finish_request(), and the
    /// next request on that connection waits for it.
    #[arg(long, help_heading = "Limits")]
    keep_conn: bool,
    /// Requests that may wait for a connection to the application; 503 beyond
    #[arg(long, value_name = "N", default_value = "1024", help_heading = "Limits")]
    max_waiting: usize,
    /// How long one waits for a connection to the application; then 503
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, help_heading = "Limits")]
    wait_timeout: Duration,
    /// Time limit for connecting to the application (504 when it passes)
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds, help_heading = "Limits")]
    connect_timeout: Duration,
    /// For the first byte of an answer; then 504
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds, help_heading = "Limits")]
    first_byte_timeout: Duration,
    /// For each next byte of an answer; then the answer is cut
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds, help_heading = "Limits")]
    next_byte_timeout: Duration,
    /// For a whole request to the application; default none
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = "Limits")]
    timeout: Option<Duration>,
    /// For a client's head, each next piece of its body, and taking each piece of an answer
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds, help_heading = "Limits")]
    client_timeout: Duration,
    /// For the requests under way when it is told to stop
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, help_heading = "Limits")]
    shutdown_timeout: Duration,
}

const AFTER_HELP: &str = "\
Answers of its own, each with a reason:
  400  what is no HTTP, or no path          413  a body larger than --max-body
  404  no such script or file               502  the application is not there, or breaks off
  405  a method that a file has not         503  the application, its queue or the gateway is full
  408  a client too slow with its body      504  the application is too slow
  412  a file that is not as it was named   501  a transfer coding other than chunked
  431  a head larger than --max-head, or with more fields than --max-fields

Exit status:
  0  stopped by SIGTERM or SIGINT
  2  usage, or no such root
  5  the address can't be listened at, or php-fpm can't be started

Examples:
  See it work, at http://127.0.0.1:8080/
    fcgi gateway
  A PHP project with a front controller, without any configuration
    fcgi gateway --php --root public --front index.php
  A php-fpm that runs already
    fcgi gateway unix:/run/php/php-fpm.sock --root /srv/www
  php-fpm in a container, which has the same files elsewhere
    fcgi gateway tcp:127.0.0.1:9000 --root public --app-root /var/www/html
  An application that is no script, in Go or Rust, for all paths
    fcgi gateway tcp:127.0.0.1:9000 --mount / --listen 0.0.0.0:80";

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Switch {
    On,
    Off,
}

fn variable(name: &str) -> Result<String, &'static str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let is_name = !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(is_plain);
    is_name.then(|| name.to_owned()).ok_or("expected the name of a variable")
}

fn head_size(text: &str) -> Result<u64, &'static str> {
    match size(text)? {
        size @ 0x2000..=0x100_0000 => Ok(size),
        _ => Err("expected 8K to 16M"),
    }
}

fn fields(text: &str) -> Result<usize, &'static str> {
    match text.parse() {
        Ok(number @ 1..=10_000) => Ok(number),
        _ => Err("expected a number from 1 to 10000"),
    }
}

fn at_least_one(text: &str) -> Result<usize, &'static str> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number, 1 or more"),
        Ok(n) => Ok(n),
    }
}

/// Why the gateway did not start, and its exit status.
struct Stopped(u8, String);

impl Stopped {
    fn usage(message: impl ToString) -> Self {
        Self(2, message.to_string())
    }

    fn io(message: impl ToString) -> Self {
        Self(5, message.to_string())
    }
}

impl Gateway {
    pub(crate) async fn run(self) -> ExitCode {
        let code = match self.serve().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(Stopped(code, message)) => {
                complain(&message);
                ExitCode::from(code)
            }
        };
        sink::flush();
        code
    }

    async fn serve(&self) -> Result<(), Stopped> {
        sink::start().map_err(|error| Stopped::io(format!("start a thread: {error}")))?;
        log::install();
        let descriptors = Descriptors::share(self.max_clients, self.connections);
        let mut signals = server::Signals::new()
            .map_err(|error| Stopped::io(format!("watch for signals: {error}")))?;
        let site = Arc::new(Site::new(self).map_err(|error| Stopped::usage(format!("{error:#}")))?);
        let handover = self.sendfile_root.as_deref().map(|path| {
            let failed = |error| Stopped::usage(format!("root {}: {error}", path.display()));
            Handover::new(path).map_err(failed)
        });
        let handover = handover.transpose()?;
        let mut listeners = Vec::new();
        let mut urls = Vec::new();
        for address in &self.listen {
            let (listener, local) = listen(address).await?;
            urls.push(format!("http://{local}/"));
            listeners.push(listener);
        }
        let application = Application::start(self, &site).await?;
        let what = site.describe(&application.name());
        let service = Service {
            files: Files::new(descriptors.files),
            upstream: Upstream::new(
                self.pool(application.address().clone()),
                Arc::clone(&site),
                &self.params,
                self.max_body,
                self.buffering(&descriptors),
                handover.is_some(),
            ),
            handover,
            site,
            client_timeout: self.client_timeout,
            max_fields: self.max_fields,
            quiet: self.quiet,
        };
        let verb = if urls.len() == 1 { "serves" } else { "serve" };
        ACCESS.line(format!("{} {verb} {what}", urls.join(" and ")));

        if descriptors.clients < self.max_clients {
            let Descriptors { limit, clients, .. } = descriptors;
            complain(&format!(
                "at most {clients} clients at once: a process may have {limit} files open"
            ));
        }
        let limits = server::Limits {
            clients: descriptors.clients,
            max_head: self.max_head as usize,
            max_fields: self.max_fields,
            client_timeout: self.client_timeout,
            shutdown_timeout: self.shutdown_timeout,
        };
        server::serve(listeners, Arc::new(service), &limits, &mut signals).await;
        application.stop().await;
        Ok(())
    }

    fn buffering(&self, descriptors: &Descriptors) -> Option<Buffering> {
        (self.buffering == Switch::On).then(|| Buffering {
            stores: Stores::new(self.store, descriptors.stored),
            max_body: self.max_body,
            answer: self.store_each,
        })
    }

    fn pool(&self, address: fcgi::Address) -> fcgi::Pool {
        let connector = Connector::new()
            .connect_timeout(Some(self.connect_timeout))
            .first_byte_timeout(Some(self.first_byte_timeout))
            .next_byte_timeout(Some(self.next_byte_timeout))
            .total_timeout(self.timeout);
        fcgi::Pool::builder(address)
            .connector(connector)
            .max_connections(self.connections)
            .max_idle(self.connections)
            .max_waiting(self.max_waiting)
            .wait_timeout(Some(self.wait_timeout))
            .multiplex(self.multiplex)
            .keep_conn(self.keep_conn)
            .build()
    }
}

async fn listen(address: &str) -> Result<(TcpListener, SocketAddr), Stopped> {
    let listener = TcpListener::bind(address).await.and_then(|listener| {
        let local = listener.local_addr()?;
        Ok((listener, local))
    });
    listener.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "; --listen HOST:PORT takes another",
            _ => "",
        };
        Stopped::io(format!("listen at {address}: {error}{hint}"))
    })
}
