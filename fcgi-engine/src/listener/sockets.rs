//! The listening sockets of a server.

use std::{io, task::Poll};

use super::{Listener, SocketFile, StdListener};
use crate::Address;

/// A listener's sockets, each as an adapter's `L`. They take turns, so that a busy one does not keep
/// the others waiting.
#[derive(Debug)]
pub struct Sockets<L> {
    sockets: Vec<Place<L>>,
    /// Which socket to ask first.
    next: usize,
}

#[derive(Debug)]
struct Place<L> {
    listener: L,
    address: Address,
    file: Option<SocketFile>,
}

impl<L> Sockets<L> {
    /// The sockets of a listener.
    pub fn new(listener: Listener, adopt: impl Fn(StdListener) -> L) -> Self {
        let places = listener.sockets.into_iter().map(|socket| Place {
            listener: adopt(socket.listener),
            address: socket.address,
            file: socket.file,
        });
        Self { sockets: places.collect(), next: 0 }
    }

    /// One socket that an adapter has made itself.
    pub fn one(listener: L, address: Address) -> Self {
        Self { sockets: vec![Place { listener, address, file: None }], next: 0 }
    }

    /// Where the first of them listens.
    pub fn local_addr(&self) -> &Address {
        &self.sockets[0].address
    }

    /// The sockets, and where each listens.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&L, &Address)> {
        self.sockets.iter().map(|place| (&place.listener, &place.address))
    }

    /// The sockets, and where each listens.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&mut L, &Address)> {
        self.sockets.iter_mut().map(|place| (&mut place.listener, &place.address))
    }

    /// Removes the files of our unix sockets, so that nobody finds them any more. Connections that
    /// were made before can still be accepted.
    pub fn hide(&mut self) {
        self.sockets.iter_mut().for_each(|place| place.file = None);
    }

    /// A connection that waits at one of the sockets, or an error with the socket's address.
    pub fn poll_accept<T>(
        &mut self,
        mut accept: impl FnMut(&mut L) -> Poll<io::Result<T>>,
    ) -> Poll<Result<T, (io::Error, Address)>> {
        let many = self.sockets.len();
        for turn in 0..many {
            let index = (self.next + turn) % many;
            let place = &mut self.sockets[index];
            if let Poll::Ready(accepted) = accept(&mut place.listener) {
                self.next = (index + 1) % many;
                return Poll::Ready(accepted.map_err(|error| (error, place.address.clone())));
            }
        }
        Poll::Pending
    }
}
