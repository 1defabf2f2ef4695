//! `fcgi tap`: a recording proxy between a web server and an application.

mod body;
mod carry;
pub(crate) mod exchange;
pub(crate) mod filter;
pub(crate) mod mask;
pub(crate) mod packets;
mod page;
pub(crate) mod pcapng;
pub(crate) mod report;
pub(crate) mod watch;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fs::{self, File},
    io::{self, IsTerminal, Write},
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::ExitCode,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use clap::Args;
use fcgi_engine::{
    Listener,
    listener::{SocketFile, StdListener},
};
use fcgi_tokio::{Address, Target, Transport, TransportListener};
use serde_json::json;
use tokio::{
    net::{TcpListener, UnixListener},
    select,
    task::{LocalSet, spawn_local},
    time::{MissedTickBehavior, interval, sleep},
};

use crate::{
    causes,
    exit::Exit,
    place::Place,
    report::{self as results, Form},
    signals::Signals,
    sink::Sink,
    stream,
};
use exchange::Outcome;
use filter::Filter;
use packets::Packets;
use pcapng::Output;
use report::Report;
use watch::{Clock, Outputs, Recording, Watch};

/// Record what crosses between a web server and an application
///
/// Configure the web server to connect to the address of --listen. The tap relays each of its
/// connections to ADDR: every byte as it comes, every close, half-close and reset. Each request
/// prints a line on stdout when it has ended: its number, method, path, status, times and sizes.
/// Its STDERR is printed before that.
///
/// Cookies, credentials and other secrets become asterisks, on screen and in files: the values of
/// parameters, headers and fields of a form or a query whose names contain password, token, secret,
/// cookie, authorization and the like. Bodies of other types are not masked.
///
/// Output never holds the proxy up: if nobody reads it, or the disk is full, lines and packets are
/// dropped, and stderr says how many.
#[derive(Args)]
#[command(after_long_help = AFTER_HELP)]
pub(crate) struct Tap {
    /// Where the web server connects: unix:PATH, /PATH, HOST:PORT or :PORT
    #[arg(long, value_name = "ADDR")]
    listen: Address,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    show: Show,
    /// Record to a file for Wireshark and tshark; - is stdout
    #[arg(long, value_name = "FILE.pcapng")]
    write: Option<PathBuf>,
    /// Show requests on a web page at this address: a port of loopback, or HOST:PORT
    #[arg(long, value_name = "[HOST:]PORT", value_parser = web)]
    web: Option<SocketAddr>,
    /// Let other machines see the page, with the token in the printed URL
    #[arg(long, requires = "web")]
    web_remote: bool,
}

/// The address of the page.
fn web(text: &str) -> Result<SocketAddr, &'static str> {
    let port = text.strip_prefix(':').unwrap_or(text);
    if let Ok(port) = port.parse() {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    let text = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let text = text.as_deref().unwrap_or(port);
    text.parse().map_err(|_| "expected a port, IP:PORT or localhost:PORT")
}

/// The forms of a filter, for the help of the subcommands that have one.
macro_rules! filters {
    () => {
        "\
Filters:
  TEXT            the path holds TEXT; * stands for anything
  method=POST     the method
  path=/api/*     the whole path with its query
  status=404,5xx  the response's status, or `cut` or `aborted`
  status>=400     the same, as a number
  ms>=250         it took that long, in milliseconds
  stderr          it wrote to STDERR
  NAME=VALUE      a parameter, in capitals
  !FILTER         requests that do not match"
    };
}
pub(crate) use filters;

/// What is shown of requests, by the tap and of a recording.
#[derive(Args)]
pub(crate) struct Show {
    /// Show every record, not only a line per request
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Print only requests like this; of several filters, all must match
    ///
    /// It does not affect what --write records.
    #[arg(long = "filter", value_name = "FILTER")]
    pub(crate) filters: Vec<Filter>,
    /// Also show cookies, credentials and passwords
    #[arg(long)]
    pub(crate) show_secrets: bool,
    /// Print one JSON object per line
    #[arg(long)]
    pub(crate) json: bool,
}

const AFTER_HELP: &str = concat!(
    filters!(),
    "

Examples:
  See the traffic of nginx (fastcgi_pass unix:/run/tap.sock) and php-fpm:
    fcgi tap --listen /run/tap.sock /run/php/php-fpm.sock -v
  Record, then read it again, or with tshark:
    fcgi tap --listen 127.0.0.1:9001 127.0.0.1:9000 --write day.pcapng
    fcgi decode day.pcapng --filter 'status>=500'
    tshark -r day.pcapng -d tcp.port==9000,fcgi -Y fcgi

A unix socket is port 9000 in a recording. SIGINT or SIGTERM ends the tap when active
requests have ended; a second one ends it at once."
);

/// How many bytes may wait to be written.
const LINES: usize = 1 << 20;
const PACKETS: usize = 16 << 20;
/// How often dropped lines and packets are reported.
const TELL: Duration = Duration::from_secs(1);
/// How long the exit waits for output to be written.
const AT_THE_END: Duration = Duration::from_secs(1);

static STDOUT: Sink = Sink::new(LINES);
static STDERR: Sink = Sink::new(LINES);
static RECORDING: Sink = Sink::new(PACKETS);
/// Packets that could not be written.
static FAILED: AtomicU64 = AtomicU64::new(0);

/// Prints one line on stderr, which nobody may be reading.
fn complain(line: &str) {
    STDERR.line(format!("fcgi tap: {line}"));
}

/// Why the tap could not start.
struct Stopped(Exit, String);

impl Tap {
    pub(crate) async fn run(self) -> ExitCode {
        let code = match LocalSet::new().run_until(self.start()).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(Stopped(exit, message)) if self.show.json && self.prints() => {
                let form = Form { json: true, ..Form::default() };
                let result = results::Report::new("tap", exit, message).field("event", "end");
                result.finish(form, false)
            }
            Err(Stopped(exit, message)) => {
                complain(&message);
                exit.into()
            }
        };
        // If a thread could not be started, there is nothing to flush.
        STDOUT.flush(AT_THE_END);
        RECORDING.flush(AT_THE_END);
        tell_of_drops();
        STDERR.flush(AT_THE_END);
        code
    }

    /// Whether stdout gets lines, and not the recording.
    fn prints(&self) -> bool {
        self.write.as_deref() != Some(Path::new("-"))
    }

    async fn start(&self) -> Result<(), Stopped> {
        let io =
            |what: String| move |error: io::Error| Stopped(Exit::Io, format!("{what}: {error}"));
        spawn(&STDERR, "stderr", io::stderr()).map_err(io("start a thread".to_owned()))?;
        let application =
            self.place.find().map_err(|error| Stopped(Exit::Usage, error.to_string()))?;
        let recording = self.recording(&application)?;
        let to_stdout = self.prints();
        if to_stdout {
            spawn(&STDOUT, "stdout", io::stdout()).map_err(io("start a thread".to_owned()))?;
        }
        let signals = Signals::catch().map_err(io("watch for signals".to_owned()))?;
        let listener = listen(&self.listen, &application)
            .map_err(|error| Stopped(Exit::Io, error.report().to_string()))?;
        // An address gives one socket.
        let socket = listener.into_sockets().swap_remove(0);
        let nonblocking = socket.listener.set_nonblocking();
        nonblocking.map_err(io(format!("listen at {}", self.listen)))?;
        let listener = match socket.listener {
            StdListener::Unix(unix) => UnixListener::from_std(unix).map(TransportListener::Unix),
            StdListener::Tcp(tcp) => TcpListener::from_std(tcp).map(TransportListener::Tcp),
            _ => Err(io::ErrorKind::Unsupported.into()),
        };
        let listener = listener.map_err(io(format!("listen at {}", self.listen)))?;
        complain(&format!("{} is carried on to {application}", socket.address));

        let page = self.page(&application)?;
        let clock = Clock::start();
        let colour = to_stdout
            && anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
            && io::stdout().is_terminal();
        let outputs = Outputs {
            report: self.show.report(
                clock.now(),
                colour,
                Box::new(move |line| {
                    if to_stdout {
                        STDOUT.line(line);
                    }
                }),
            ),
            show_secrets: self.show.show_secrets,
            record: recording.then(|| -> Recording {
                Box::new(|time, packet| RECORDING.push(pcapng::packet(time, &packet)))
            }),
            page,
            complain: Box::new(complain),
            requests: Cell::new(0),
            copy: Cell::default(),
        };
        let proxy = Rc::new(Proxy {
            application,
            clock,
            outputs: Rc::new(outputs),
            scratch: RefCell::new(vec![0; carry::BLOCK].into()),
            connections: Cell::new(0),
            open: RefCell::default(),
        });
        let listener = (listener, socket.file);
        proxy.serve(listener, signals).await;
        proxy.tell(self, to_stdout);
        Ok(())
    }

    /// Starts the page, if it is wanted.
    fn page(&self, application: &Address) -> Result<Option<page::Feed>, Stopped> {
        let Some(local) = self.web else { return Ok(None) };
        if !local.ip().is_loopback() && !self.web_remote {
            let what = format!(
                "others than this machine could see the page at {local}: give --web-remote too, or \
                 a port of 127.0.0.1"
            );
            return Err(Stopped(Exit::Usage, what));
        }
        let (feed, url) = page::start(local, application.clone())
            .map_err(|error| Stopped(Exit::Io, format!("the page at {local}: {error}")))?;
        complain(&format!("the page is at {url}"));
        Ok(Some(feed))
    }

    /// Opens the recording and starts its thread; true if there is one.
    fn recording(&self, application: &Address) -> Result<bool, Stopped> {
        let Some(path) = &self.write else { return Ok(false) };
        let failed =
            |error: io::Error| Stopped(Exit::Usage, format!("write {}: {error}", path.display()));
        let output = if path == Path::new("-") {
            Output::Other(Box::new(io::stdout()))
        } else {
            Output::new(File::create(path).map_err(failed)?).map_err(failed)?
        };
        let mut output = output;
        let description = format!("{} carried on to {application}", self.listen);
        output.write(&pcapng::start(&description)).map_err(failed)?;
        let name = path.display().to_string();
        let mut said = false;
        let write = move |block: &[u8]| {
            let Err(error) = output.write(block) else { return true };
            FAILED.fetch_add(1, Ordering::Relaxed);
            if !std::mem::replace(&mut said, true) {
                complain(&format!("write {name}: {error}; the proxy goes on without it"));
            }
            false
        };
        thread::Builder::new()
            .name("recording".to_owned())
            .spawn(move || RECORDING.run(write, tell_of_packets))
            .map_err(|error| Stopped(Exit::Io, format!("start a thread: {error}")))?;
        Ok(true)
    }
}

impl Show {
    /// The report, which prints with `print`.
    pub(crate) fn report(
        &self,
        start: exchange::Time,
        colour: bool,
        print: Box<dyn Fn(String)>,
    ) -> Report {
        Report {
            print,
            json: self.json,
            records: self.verbose,
            colour: colour && !self.json,
            filters: self.filters.clone(),
            start,
        }
    }
}

/// Starts a thread that writes lines.
fn spawn(sink: &'static Sink, name: &str, mut out: impl Write + Send + 'static) -> io::Result<()> {
    // An error means that nobody reads it any more.
    let write = move |line: &[u8]| out.write_all(line).and_then(|()| out.flush()).is_ok();
    let spawned =
        thread::Builder::new().name(name.to_owned()).spawn(move || sink.run(write, tell_of_lines));
    spawned.map(drop)
}

fn tell_of_lines(dropped: u64) {
    if dropped > 0 {
        complain(&format!("{dropped} lines were dropped: stdout is not read fast enough"));
    }
}

fn tell_of_packets(dropped: u64) {
    if dropped > 0 {
        complain(&format!(
            "{dropped} packets were not recorded: the file is not written fast enough"
        ));
    }
}

fn tell_of_drops() {
    tell_of_lines(STDOUT.take_dropped());
    tell_of_packets(RECORDING.take_dropped());
    let failed = FAILED.swap(0, Ordering::Relaxed);
    if failed > 0 {
        complain(&format!("{failed} packets were not recorded: the file can't be written"));
    }
}

/// Listens. Whoever may connect to the application's unix socket may connect to this one, as far as
/// we can set that, and nobody else at any time.
fn listen(listen: &Address, application: &Address) -> Result<Listener, fcgi_engine::Error> {
    let model = match (listen.target(), application.target()) {
        (Target::Unix(_), Target::Unix(model)) => fs::metadata(model).ok(),
        _ => None,
    };
    let Some(model) = model else { return Listener::bind(listen) };
    let builder = || Listener::builder(listen).mode(model.mode() & 0o777);
    // Only root can change the owner, and others only to a group of theirs. The mode may still help.
    builder()
        .owner(model.uid())
        .group(model.gid())
        .bind()
        .or_else(|_| builder().group(model.gid()).bind())
        .or_else(|_| builder().bind())
}

/// All connections.
struct Proxy {
    application: Address,
    clock: Clock,
    outputs: Rc<Outputs>,
    scratch: RefCell<Box<[u8]>>,
    connections: Cell<u64>,
    open: RefCell<HashMap<u64, Rc<RefCell<Watch>>>>,
}

impl Proxy {
    /// Accepts until a signal, then waits for active requests.
    async fn serve(
        self: &Rc<Self>,
        listener: (TransportListener, Option<SocketFile>),
        mut signals: Signals,
    ) {
        let mut tell = interval(TELL);
        tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            select! {
                accepted = accept(&listener.0) => match accepted {
                    Ok((stream, peer)) => drop(spawn_local(Rc::clone(self).carry(stream, peer))),
                    Err(error) => {
                        complain(&format!("accept a connection: {error}"));
                        sleep(stream::BREATH).await;
                    }
                },
                _ = signals.next() => break,
                _ = tell.tick() => tell_of_drops(),
            }
        }
        // Nobody can find the socket any more.
        drop(listener);
        let is_busy = || self.open.borrow().values().any(|watch| watch.borrow().is_busy());
        while is_busy() {
            select! {
                _ = signals.next() => break,
                () = sleep(stream::BREATH) => {}
            }
        }
        let now = self.clock.now();
        for watch in self.open.borrow().values() {
            watch.borrow_mut().cut(Outcome::Open, now);
        }
    }

    /// Relays one connection, from its start to its end.
    async fn carry(self: Rc<Self>, web_server: Transport, peer: Option<SocketAddr>) {
        let number = self.connections.get() + 1;
        self.connections.set(number);
        let application = match stream::connect(&self.application).await {
            Ok(application) => application,
            Err(error) => {
                let to = &self.application;
                let likely = causes::of_connect(&error, to).map(|cause| format!(": {cause}"));
                let likely = likely.unwrap_or_default();
                complain(&format!("connection {number}: connect to {to}: {error}{likely}"));
                stream::reset(&web_server);
                return;
            }
        };
        let to = match &application {
            Transport::Tcp(stream) => stream.peer_addr().ok(),
            _ => None,
        };
        let packets = self.outputs.record.is_some().then(|| Packets::new(number, peer, to));
        let watch = Watch::new(number, self.clock, Rc::clone(&self.outputs), packets);
        let watch = Rc::new(RefCell::new(watch));
        self.open.borrow_mut().insert(number, Rc::clone(&watch));
        carry::carry(web_server, application, &watch, &self.scratch).await;
        watch.borrow_mut().close();
        self.open.borrow_mut().remove(&number);
    }

    /// Prints the final message.
    fn tell(&self, tap: &Tap, to_stdout: bool) {
        let (requests, connections) = (self.outputs.requests.get(), self.connections.get());
        if tap.show.json && to_stdout {
            let end = json!({
                "v": 1,
                "command": "tap",
                "event": "end",
                "ok": true,
                "requests": requests,
                "connections": connections,
                "exit_status": 0,
            });
            STDOUT.line(end.to_string());
        }
        let mut text = format!("{requests} requests on {connections} connections");
        if let Some(path) = tap.write.as_deref().filter(|_| to_stdout) {
            let port = match self.application.target() {
                Target::Tcp(host_port) => {
                    host_port.rsplit(':').next().unwrap_or_default().to_owned()
                }
                _ => packets::PORT.to_string(),
            };
            let path = path.display();
            text.push_str(&format!(
                "; tshark -r {path} -d tcp.port=={port},fcgi reads the recording"
            ));
        }
        complain(&text);
    }
}

async fn accept(listener: &TransportListener) -> io::Result<(Transport, Option<SocketAddr>)> {
    match listener {
        TransportListener::Unix(unix) => {
            let (stream, _) = unix.accept().await?;
            Ok((Transport::Unix(stream), None))
        }
        TransportListener::Tcp(tcp) => {
            let (stream, peer) = tcp.accept().await?;
            // The sender has already combined the bytes.
            let _ = stream.set_nodelay(true);
            Ok((Transport::Tcp(stream), Some(peer)))
        }
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}
