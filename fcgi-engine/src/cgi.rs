//! A FastCGI server as a CGI program: one request, passed between the descriptors of a CGI program
//! and a connection that the server serves like any other.
//!
//! [`Source::auto`] finds out as which of the two a process was started. As a CGI program the process is
//! its own web server: the [`Relay`] turns the environment and standard input into a FastCGI
//! request, and writes the response to standard output. A Responder's STDOUT is a CGI response
//! already (FC-6.2-1).
//!
//! ```no_run
//! use fcgi_engine::{Listener, cgi::Source};
//!
//! match Source::<Listener, ()>::auto() {
//!     Source::Listener(listener) => println!("listens at {}", listener.local_addr()),
//!     Source::Cgi(relay, connection) => {
//!         // Another thread serves the connection.
//!         relay.run()?;
//!         drop(connection);
//!     }
//!     Source::Connection(()) => {}
//!     Source::Failed(error) => return Err(error),
//! }
//! # Ok::<(), fcgi_engine::Error>(())
//! ```

use std::{
    env, fmt,
    fs::File,
    io::{self, IoSlice, Read as _, Write as _},
    os::{
        fd::BorrowedFd,
        unix::{ffi::OsStrExt, net::UnixStream},
    },
    sync::Arc,
    task::Poll,
    thread,
    time::Instant,
};

use fcgi_proto::{BeginRequest, Params, Role};
use rustix::{
    event::{self, PollFd, PollFlags},
    net, stdio,
};

use crate::{
    Error, Listener,
    client::{Chunk, Exchange, Session, Settings},
    pump::Socket,
};

/// The largest read of standard input, in bytes.
const CHUNK: usize = 64 * 1024;

/// Where a server's requests come from: an adapter's listener `L`, or its connection `C`.
pub enum Source<L, C> {
    /// These listening sockets.
    Listener(L),
    /// Only this connection.
    Connection(C),
    /// A CGI program's environment and standard input, for one request. It comes over this
    /// connection while the relay runs.
    Cgi(Relay, UnixStream),
    /// There is none, for this reason.
    Failed(Error),
}

impl<L: From<Listener>, C> Source<L, C> {
    /// Finds out how the process was started. It is a CGI program if GATEWAY_INTERFACE is in the
    /// environment and descriptor 0 is not a listening socket. Otherwise it is a FastCGI
    /// application, with the listener that [`Listener::from_env`] finds without a default address.
    ///
    /// A CGI program gives up descriptor 1: from then on, what the program prints goes to standard
    /// error, which is the web server's log, and not into the response.
    #[must_use]
    pub fn auto() -> Self {
        if env::var_os("GATEWAY_INTERFACE").is_none_or(|value| value.is_empty())
            || net::sockopt::socket_acceptconn(io::stdin()) == Ok(true)
        {
            let listener = Listener::from_env("-");
            return listener.map_or_else(Self::Failed, |listener| Self::Listener(listener.into()));
        }
        let relay = UnixStream::pair().and_then(|(near, far)| Ok((Relay::new(far)?, near)));
        relay.map_or_else(
            |error| Self::Failed(failed(error)),
            |(relay, near)| Self::Cgi(relay, near),
        )
    }
}

impl<L: fmt::Debug, C: fmt::Debug> fmt::Debug for Source<L, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listener(listener) => listener.fmt(f),
            Self::Connection(connection) => connection.fmt(f),
            Self::Cgi(relay, _) => relay.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

/// An error of a CGI request.
#[must_use]
pub fn failed(source: io::Error) -> Error {
    Error::Io { address: Arc::from("the web server"), doing: "answer the CGI request of", source }
}

/// The web server's end of a CGI request, still to be relayed.
#[derive(Debug)]
pub struct Relay {
    socket: UnixStream,
    params: Params,
    stdin: File,
    stdout: File,
}

impl Relay {
    fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let own = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3).map(File::from);
        let (stdin, stdout) = (own(stdio::stdin())?, own(stdio::stdout())?);
        stdio::dup2_stdout(stdio::stderr())?;
        let mut params = Params::new();
        for (name, value) in env::vars_os() {
            params.push(name.as_bytes(), value.as_bytes());
        }
        Ok(Self { socket, params, stdin, stdout })
    }

    /// The thread for [`run`](Self::run), for the adapter to start.
    pub fn thread() -> thread::Builder {
        thread::Builder::new().name("fcgi-cgi".to_owned())
    }

    /// How the relay's thread has ended.
    ///
    /// # Errors
    /// That of [`run`](Self::run), or [`Error::Io`] if it panicked.
    pub fn ended(joined: thread::Result<Result<(), Error>>) -> Result<(), Error> {
        joined.unwrap_or_else(|_| Err(failed(io::Error::other("its thread panicked"))))
    }

    /// Relays the request and its response, and returns when the response is out. It blocks: give
    /// it a [thread](Self::thread).
    ///
    /// # Errors
    /// [`Error::Io`] when the web server takes no more, or the response was cut off (W-12).
    pub fn run(self) -> Result<(), Error> {
        let Self { socket, params, stdin, stdout } = self;
        let unread = body_length(&params);
        // The web server has its own limits.
        let settings =
            Settings { first_byte: None, next_byte: None, total: None, ..Settings::new() };
        let mut session = Session::new(Arc::from("this process"), settings);
        let begin = BeginRequest { role: Role::Responder, keep_conn: false, params };
        let now = Instant::now();
        let exchange =
            session.begin(&begin, true, now, now).map_err(|error| failed(error.into()))?;
        Carried { socket, session, exchange, unread, stdin, stdout }.run()
    }
}

/// How many bytes of standard input belong to the request: the number in CONTENT_LENGTH, and none
/// without it (RFC 3875, 4.2), unless the web server passes on a body of unknown length.
fn body_length(params: &Params) -> u64 {
    match params.get_str("CONTENT_LENGTH").filter(|length| !length.is_empty()) {
        // A value that is not a number is refused later, when the parameters are read.
        Some(length) => length.trim().parse().unwrap_or(0),
        None if params.get("HTTP_TRANSFER_ENCODING").is_some() => u64::MAX,
        None => 0,
    }
}

/// An active request.
struct Carried {
    socket: UnixStream,
    session: Session<()>,
    exchange: Box<Exchange>,
    /// Bytes of the body still to be read from standard input.
    unread: u64,
    stdin: File,
    stdout: File,
}

impl Carried {
    fn run(mut self) -> Result<(), Error> {
        loop {
            if self.pass_answer()? {
                return Ok(());
            }
            self.session.write(&mut Nonblocking(&self.socket), Instant::now);
            self.wait().map_err(failed)?;
        }
    }

    /// Writes the part of the answer that has come; true once it has ended well.
    fn pass_answer(&mut self) -> Result<bool, Error> {
        loop {
            self.session.handle_events(|()| ());
            match self.session.poll(&mut self.exchange, Instant::now) {
                Poll::Pending if self.unread == 0 && self.exchange.wants_body().is_some() => {
                    self.exchange.handle_body(Ok(None))?;
                }
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(None)) => return Ok(true),
                Poll::Ready(Ok(Some(Chunk::Stdout(bytes)))) => {
                    self.stdout.write_all(&bytes).map_err(failed)?;
                }
                Poll::Ready(Ok(Some(Chunk::Stderr(bytes)))) => {
                    io::stderr().write_all(&bytes).map_err(failed)?;
                }
                Poll::Ready(Err(error)) => return Err(failed(error.into())),
            }
        }
    }

    /// Waits until bytes can be moved, and reads what has come.
    fn wait(&mut self) -> io::Result<()> {
        let blocked = self.session.is_blocked();
        // Nobody needs the rest of a body that the application does not take.
        let wants_body = self.session.is_writable() && self.exchange.wants_body().is_some();
        let interest = |wanted, flags| if wanted { flags } else { PollFlags::empty() };
        let (socket_ready, stdin_ready) = {
            let mut fds = [
                PollFd::new(&self.socket, PollFlags::IN | interest(blocked, PollFlags::OUT)),
                // No event is asked for: poll(2) reports by itself when the reader is gone.
                PollFd::new(&self.stdout, PollFlags::empty()),
                PollFd::new(&self.stdin, PollFlags::IN),
            ];
            let fds = if wants_body { &mut fds[..] } else { &mut fds[..2] };
            match event::poll(fds, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if fds[1].revents().intersects(PollFlags::ERR) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let ready = |n: usize| fds.get(n).is_some_and(|fd| !fd.revents().is_empty());
            (ready(0), ready(2))
        };
        if stdin_ready {
            self.read_body()?;
        }
        if socket_ready {
            self.session.read(&mut Nonblocking(&self.socket));
        }
        Ok(())
    }

    fn read_body(&mut self) -> io::Result<()> {
        let most = usize::try_from(self.unread).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![0; most];
        match self.stdin.read(&mut chunk) {
            Ok(0) => self.unread = 0,
            Ok(n) => {
                chunk.truncate(n);
                self.unread -= n as u64;
                self.exchange.handle_body(Ok(Some(chunk.into()))).map_err(io::Error::other)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another process may have made the terminal or socket nonblocking: poll(2) waits.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The far end of the socket pair.
struct Nonblocking<'a>(&'a UnixStream);

impl Socket for Nonblocking<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.write_vectored(slices)
    }
}
