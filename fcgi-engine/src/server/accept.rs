//! The listening sockets of a server: what to accept, and what a failed accept means.

use std::{
    io,
    os::fd::BorrowedFd,
    task::Poll,
    time::{Duration, Instant},
};

use super::Tally;
use crate::{
    Address, Error, Listener,
    listener::{ListeningSocket, SocketFile, StdListener},
    socket::{self, HangUp, Peer},
};

/// The pause after an accept that failed for lack of descriptors or memory.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How many connections a server still accepts when it shuts down: more than wait in any backlog.
/// They came before the shutdown, and perhaps no other process would take them (W-13).
const LAST_ACCEPTS: usize = 8192;

/// A listener's sockets, each as an adapter's `L`. They take turns, so that a busy one does not keep
/// the others waiting.
#[derive(Debug)]
pub struct Sockets<L> {
    sockets: Vec<Place<L>>,
    /// Which socket to ask first.
    next: usize,
    paused_until: Option<Instant>,
    /// How many more to accept.
    left: usize,
    /// Nothing waited when the sockets were last asked. If nothing does now, they may be unusable.
    fruitless: bool,
}

#[derive(Debug)]
struct Place<L> {
    listener: L,
    address: Address,
    file: Option<SocketFile>,
}

impl<L> Sockets<L> {
    /// The sockets of a listener, which are made nonblocking before an adapter takes each over.
    ///
    /// # Errors
    /// [`Error::Io`] when one of them can't be used.
    pub fn adopt(
        listener: Listener,
        take: impl Fn(StdListener) -> io::Result<L>,
    ) -> Result<Self, Error> {
        let place = |ListeningSocket { listener, address, file }| match listener
            .set_nonblocking()
            .and_then(|()| take(listener))
        {
            Ok(listener) => Ok(Place { listener, address, file }),
            Err(error) => Err(accept_failed(&address, error)),
        };
        let sockets = listener.into_sockets().into_iter().map(place);
        Ok(Self::of(sockets.collect::<Result<_, _>>()?))
    }

    /// One socket that an adapter has made itself.
    pub fn one(listener: L, address: Address) -> Self {
        Self::of(vec![Place { listener, address, file: None }])
    }

    fn of(sockets: Vec<Place<L>>) -> Self {
        Self { sockets, next: 0, paused_until: None, left: usize::MAX, fruitless: false }
    }

    /// Where the first of them listens.
    pub fn local_addr(&self) -> &Address {
        &self.sockets[0].address
    }

    /// The sockets.
    pub fn iter(&self) -> impl Iterator<Item = &L> {
        self.sockets.iter().map(|place| &place.listener)
    }

    /// Until when nothing is accepted, since the system lacks something; `None` if it may be. The
    /// clock is read only in a pause.
    pub fn paused_until(&mut self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        self.paused_until = self.paused_until.take().filter(|at| now() < *at);
        self.paused_until
    }

    /// Whether it may accept a connection.
    pub fn accepts(&mut self, now: impl FnOnce() -> Instant) -> bool {
        self.left > 0 && self.paused_until(now).is_none()
    }

    /// The server shuts down. From now on only connections that wait already should be
    /// [accepted](Self::poll_accept) (W-13). The files of our unix sockets are removed, so that
    /// nobody finds them any more.
    pub fn hide(&mut self) {
        self.sockets.iter_mut().for_each(|place| place.file = None);
        self.left = LAST_ACCEPTS;
        // The last look must tell.
        self.fruitless = true;
    }

    /// A connection that waits at one of the sockets, with its peer, if it is to be served; `None`
    /// if it is gone or refused. Pending if none waits, or none may be [accepted](Self::accepts).
    ///
    /// Call it when a socket is ready. If that brings nothing twice in a row, or when the server shuts
    /// down, it asks the system whether somebody has shut a socket down: accept(2) on a unix socket
    /// does not tell.
    ///
    /// # Errors
    /// [`Error::Io`] when a socket is unusable.
    pub fn poll_accept<T>(
        &mut self,
        tally: &Tally,
        now: impl Fn() -> Instant,
        fd: impl Fn(&L) -> Option<BorrowedFd<'_>>,
        mut accept: impl FnMut(&mut L) -> Poll<io::Result<(T, Peer)>>,
    ) -> Poll<Result<Option<(T, Peer)>, Error>> {
        if !self.accepts(&now) {
            return Poll::Pending;
        }
        let many = self.sockets.len();
        for turn in 0..many {
            let index = (self.next + turn) % many;
            let place = &mut self.sockets[index];
            let Poll::Ready(accepted) = accept(&mut place.listener) else { continue };
            self.next = (index + 1) % many;
            self.left -= 1;
            self.fruitless = false;
            return Poll::Ready(match accepted {
                Ok(accepted) => Ok(tally.admits(accepted.1).then_some(accepted)),
                Err(error) => match error.kind() {
                    // It was gone before it was accepted.
                    io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::Interrupted => Ok(None),
                    io::ErrorKind::InvalidInput | io::ErrorKind::NotConnected => {
                        Err(accept_failed(&place.address, error))
                    }
                    _ => {
                        tracing::error!(%error, address = %place.address, "accept failed");
                        self.paused_until = Some(now() + ACCEPT_PAUSE);
                        Ok(None)
                    }
                },
            });
        }
        if std::mem::replace(&mut self.fruitless, true) {
            let is_shut = |place: &&Place<L>| {
                fd(&place.listener).is_some_and(|fd| socket::hang_up(fd) != HangUp::No)
            };
            if let Some(place) = self.sockets.iter().find(is_shut) {
                let shut = io::Error::new(io::ErrorKind::NotConnected, "somebody has shut it down");
                return Poll::Ready(Err(accept_failed(&place.address, shut)));
            }
        }
        Poll::Pending
    }
}

/// The error of a server that can't accept.
#[must_use]
pub fn accept_failed(address: &Address, source: io::Error) -> Error {
    Error::Io { address: address.to_string().into(), doing: "accept connections at", source }
}
