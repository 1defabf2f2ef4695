//! A FastCGI server as a CGI program: one request, passed between the descriptors of a CGI program
//! and a connection that the server serves like any other.
//!
//! [`start`] finds out as which of the two a process was started. As a CGI program the process is
//! its own web server: the [`Relay`] turns the environment and standard input into a FastCGI
//! request, and writes the response to standard output. A Responder's STDOUT is a CGI response
//! already (FC-6.2-1).
//!
//! ```no_run
//! use fcgi_engine::cgi::{self, Start};
//!
//! match cgi::start()? {
//!     Start::FastCgi(listener) => println!("listens at {}", listener.local_addr()),
//!     Start::Cgi(relay, connection) => {
//!         // Another thread serves the connection.
//!         relay.run()?;
//!         drop(connection);
//!     }
//!     _ => {}
//! }
//! # Ok::<(), fcgi_engine::Error>(())
//! ```

use std::{
    env,
    fs::File,
    io::{self, IoSlice, Read as _, Write as _},
    os::{
        fd::BorrowedFd,
        unix::{ffi::OsStrExt, net::UnixStream},
    },
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Input, Output, Params, RequestKey,
    Role,
    client::{Event, Outcome},
};
use rustix::{
    event::{self, PollFd, PollFlags},
    net, stdio,
};

use crate::{
    Error, Listener,
    pump::{self, Read, Socket, Wrote},
};

/// The largest read of standard input, in bytes.
const CHUNK: usize = 64 * 1024;

/// How a process was started.
#[derive(Debug)]
#[non_exhaustive]
pub enum Start {
    /// To serve FastCGI on these sockets.
    FastCgi(Listener),
    /// As a CGI program, for one request. The request comes over this connection while the relay
    /// runs.
    Cgi(Relay, UnixStream),
}

/// Finds out how the process was started. It is a CGI program if GATEWAY_INTERFACE is in the
/// environment and descriptor 0 is not a listening socket. Otherwise it is a FastCGI application,
/// with the listener that [`Listener::from_env`] finds without a default address.
///
/// A CGI program gives up descriptor 1: from then on, what the program prints goes to standard
/// error, which is the web server's log, and not into the response.
///
/// # Errors
/// As for [`Listener::from_env`]; [`Error::Io`] when a descriptor can't be created.
pub fn start() -> Result<Start, Error> {
    if env::var_os("GATEWAY_INTERFACE").is_none_or(|value| value.is_empty())
        || net::sockopt::socket_acceptconn(io::stdin()) == Ok(true)
    {
        return Listener::from_env("-").map(Start::FastCgi);
    }
    let (near, far) = UnixStream::pair().map_err(failed)?;
    Relay::new(far).map(|relay| Start::Cgi(relay, near)).map_err(failed)
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

    /// Relays the request and its response, and returns when the response is out. It blocks: give
    /// it a thread.
    ///
    /// # Errors
    /// [`Error::Io`] when the web server takes no more, or the response was cut off (W-12).
    pub fn run(self) -> Result<(), Error> {
        let Self { socket, params, stdin, stdout } = self;
        let unread = body_length(&params);
        let mut connection = ClientConnection::new(ClientConfig::default());
        let begin = BeginRequest { role: Role::Responder, keep_conn: false, params };
        let key = connection.begin(begin).map_err(|error| failed(io::Error::other(error)))?;
        let body = Body { unread, waiting: Bytes::new(), finished: false };
        Carrier { socket, connection, key, body, stdin, stdout }.run().map_err(failed)
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

/// A request's body in transit.
struct Body {
    /// Bytes still to be read from standard input.
    unread: u64,
    /// Bytes that the connection has no room for yet.
    waiting: Bytes,
    finished: bool,
}

/// An active request.
struct Carrier {
    socket: UnixStream,
    connection: ClientConnection,
    key: RequestKey,
    body: Body,
    stdin: File,
    stdout: File,
}

impl Carrier {
    fn run(mut self) -> io::Result<()> {
        loop {
            self.pass_body();
            let outcome = self.pass_answer()?;
            if let Some(outcome) = outcome {
                return match outcome {
                    Outcome::Complete { .. } => Ok(()),
                    _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer was cut")),
                };
            }
            let blocked = match pump::write(&mut Nonblocking(&self.socket), &mut self.connection) {
                Wrote::Done { blocked, .. } => blocked,
                // The answer that came before can still be read.
                Wrote::Gone(_) => {
                    pump::discard(&mut self.connection);
                    self.body.unread = 0;
                    false
                }
            };
            self.wait(blocked)?;
        }
    }

    /// Passes the connection as much of the body as it takes.
    fn pass_body(&mut self) {
        let Body { unread, waiting, finished } = &mut self.body;
        let Some(mut request) = self.connection.request(self.key) else { return };
        // If the answer ends before the body was read, nobody needs the rest (FC-6.2-1).
        if request.is_ended() || *finished {
            return;
        }
        let written = request.write(Input::Stdin, waiting);
        if written.is_ok() && waiting.is_empty() && *unread == 0 {
            *finished = request.finish(Input::Stdin).is_ok();
        }
    }

    /// Writes the part of the answer that has come. Returns the outcome once the answer has ended.
    fn pass_answer(&mut self) -> io::Result<Option<Outcome>> {
        let mut outcome = None;
        loop {
            while let Some(event) = self.connection.poll_event().map_err(io::Error::other)? {
                if let Event::Finished { outcome: how, .. } = event {
                    outcome = Some(how);
                }
            }
            let mut passed = false;
            for output in [Output::Stdout, Output::Stderr] {
                let Some(mut request) = self.connection.request(self.key) else { break };
                while let Poll::Ready(Some(bytes)) = request.read(output, usize::MAX) {
                    match output {
                        Output::Stdout => self.stdout.write_all(&bytes)?,
                        Output::Stderr => io::stderr().write_all(&bytes)?,
                    }
                    passed = true;
                }
            }
            // Reading has made room for more events.
            if !passed {
                pump::reclaim(&mut self.connection);
                return Ok(outcome);
            }
        }
    }

    /// Waits until bytes can be moved, and reads what has come.
    fn wait(&mut self, blocked: bool) -> io::Result<()> {
        let wants_body = self.body.unread > 0 && self.body.waiting.is_empty();
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
            match pump::read(&mut Nonblocking(&self.socket), &mut self.connection) {
                Read::Some { .. } | Read::Nothing => {}
                Read::Eof | Read::Gone(_) => self.connection.handle_eof(),
            }
        }
        Ok(())
    }

    fn read_body(&mut self) -> io::Result<()> {
        let Body { unread, waiting, .. } = &mut self.body;
        let most = usize::try_from(*unread).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = vec![0; most];
        match self.stdin.read(&mut chunk) {
            Ok(0) => *unread = 0,
            Ok(n) => {
                chunk.truncate(n);
                *unread -= n as u64;
                *waiting = Bytes::from(chunk);
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
