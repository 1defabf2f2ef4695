//! The bytes of one connection, carried on as they come, in both directions.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    pin::pin,
    time::Duration,
};

use fcgi_engine::socket::{self, HangUp};
use fcgi_tokio::{Address, Target, Transport};
use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
    select,
    time::sleep,
};

use super::watch::{End, Watch};
use crate::trace::Direction;

/// The most that is read at once.
pub(super) const BLOCK: usize = 64 * 1024;
/// How often a connection with one closed direction is asked whether its peer is gone altogether,
/// which a runtime does not tell.
const LOOK: Duration = Duration::from_millis(50);
/// How often, and how long, a unix socket with a full backlog is tried again: a plain connect(2)
/// would wait there.
const RETRY: Duration = Duration::from_millis(5);
const RETRIES: u32 = 1000;

/// Connects to the application, as patiently as the web server would have been made to wait.
pub(super) async fn connect(address: &Address) -> io::Result<Transport> {
    let mut tries = 0;
    loop {
        let connected = match address.target() {
            Target::Unix(path) => UnixStream::connect(path).await.map(Transport::Unix),
            Target::Tcp(host_port) => TcpStream::connect(host_port).await.map(|stream| {
                // The bytes were put together by their sender already.
                let _ = stream.set_nodelay(true);
                Transport::Tcp(stream)
            }),
            _ => Err(io::ErrorKind::Unsupported.into()),
        };
        match connected {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && tries < RETRIES => {
                tries += 1;
                sleep(RETRY).await;
            }
            connected => return connected,
        }
    }
}

async fn ready(stream: &Transport, interest: Interest) -> io::Result<()> {
    match stream {
        Transport::Unix(stream) => stream.ready(interest).await.map(drop),
        Transport::Tcp(stream) => stream.ready(interest).await.map(drop),
    }
}

/// Reads what there is. A read that does not fill the buffer has emptied the socket: the runtime is
/// told so, and spares a second one.
fn try_read(stream: &Transport, buffer: &mut [u8]) -> io::Result<usize> {
    let mut some = None;
    let read = || match rustix::io::read(stream, &mut *buffer)? {
        n if 0 < n && n < buffer.len() => {
            some = Some(n);
            Err(io::ErrorKind::WouldBlock.into())
        }
        n => Ok(n),
    };
    let read = match stream {
        Transport::Unix(stream) => stream.try_io(Interest::READABLE, read),
        Transport::Tcp(stream) => stream.try_io(Interest::READABLE, read),
    };
    some.map_or(read, Ok)
}

fn try_write(stream: &Transport, bytes: &[u8]) -> io::Result<usize> {
    match stream {
        Transport::Unix(stream) => stream.try_write(bytes),
        Transport::Tcp(stream) => stream.try_write(bytes),
    }
}

/// Whether a socket call has to wait, and not more than that.
fn waits<T>(result: &io::Result<T>) -> bool {
    let kind = result.as_ref().err().map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted))
}

/// One direction of a connection.
struct Flow<'a> {
    from: &'a Transport,
    to: &'a Transport,
    direction: Direction,
    watch: &'a RefCell<Watch>,
    /// Shared by all connections: what is in it is written before anything is waited for.
    scratch: &'a RefCell<Box<[u8]>>,
    /// Nobody takes these bytes any more; they are read on, so that their sender is not stuck.
    lost: Cell<bool>,
}

impl Flow<'_> {
    /// Carries until the sender has no more, or has reset the connection.
    async fn run(&self) -> End {
        loop {
            if ready(self.from, Interest::READABLE).await.is_err() {
                return End::Reset;
            }
            let rest = {
                let mut scratch = self.scratch.borrow_mut();
                let read = try_read(self.from, &mut scratch);
                if waits(&read) {
                    continue;
                }
                let bytes = match read {
                    Ok(0) => return End::Closed,
                    Ok(n) => &scratch[..n],
                    Err(_) => return End::Reset,
                };
                if self.lost.get() {
                    continue;
                }
                // Noted before it is carried on, so that no answer comes before its question.
                self.watch.borrow_mut().bytes(self.direction, bytes);
                let written = try_write(self.to, bytes);
                match written {
                    _ if waits(&written) => bytes.to_vec(),
                    Ok(n) => bytes[n..].to_vec(),
                    Err(_) => {
                        self.lose();
                        continue;
                    }
                }
            };
            if !rest.is_empty() && self.write(&rest).await.is_err() {
                self.lose();
            }
        }
    }

    async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            ready(self.to, Interest::WRITABLE).await?;
            let written = try_write(self.to, bytes);
            if !waits(&written) {
                bytes = &bytes[written?..];
            }
        }
        Ok(())
    }

    fn lose(&self) {
        self.lost.set(true);
        // Where the system can, the sender learns of it at its next write, as it would have.
        let _ = socket::refuse_input(self.from);
    }
}

/// Ends when the peer is gone, and not only done with sending.
async fn gone(stream: &Transport) {
    while socket::hang_up(stream) != HangUp::Gone {
        sleep(LOOK).await;
    }
}

/// Carries one connection until both ends are done, or one of them is gone.
pub(super) async fn carry(
    web_server: Transport,
    application: Transport,
    watch: &RefCell<Watch>,
    scratch: &RefCell<Box<[u8]>>,
) {
    let flow =
        |from, to, direction| Flow { from, to, direction, watch, scratch, lost: Cell::new(false) };
    let up = flow(&web_server, &application, Direction::ToApplication);
    let down = flow(&application, &web_server, Direction::ToWebServer);
    let ended = {
        let (mut running_up, mut running_down) = (pin!(up.run()), pin!(down.run()));
        let (first, end) = select! {
            end = &mut running_up => (&up, end),
            end = &mut running_down => (&down, end),
        };
        watch.borrow_mut().end(first.direction, end);
        if end == End::Reset {
            end
        } else {
            if !first.lost.get() {
                socket::shutdown_write(first.to);
            }
            match first.direction {
                Direction::ToApplication => last(running_down, &down, first).await,
                Direction::ToWebServer => last(running_up, &up, first).await,
            }
        }
    };
    if ended == End::Reset {
        reset(&web_server);
        reset(&application);
    }
}

/// Has a socket closed with a reset. A unix socket has no such thing.
pub(super) fn reset(stream: &Transport) {
    if let Transport::Tcp(stream) = stream {
        let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
    }
}

/// The direction that is left when the other has ended.
async fn last(running: impl Future<Output = End>, flow: &Flow<'_>, first: &Flow<'_>) -> End {
    if flow.lost.get() {
        // Its reader has closed the other direction too.
        return End::Closed;
    }
    let lost = async {
        while !flow.lost.get() {
            sleep(LOOK).await;
        }
    };
    let end = select! {
        biased;
        end = running => end,
        // Who has sent all, and is gone, takes nothing either.
        () = gone(first.from) => return End::Closed,
        () = lost => return End::Closed,
    };
    flow.watch.borrow_mut().end(flow.direction, end);
    end
}
