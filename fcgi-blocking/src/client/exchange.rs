//! One request and its response, independent of who moves the bytes.

use std::{sync::OnceLock, task::Poll, time::Instant};

use fcgi_engine::client::{self, Carrier, Chunk, Limit};
use rustix::event::PollFlags;

use super::{Body, CancelHandle, link::Link, wait::Waited};
use crate::Error;

/// A request that was begun.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) core: Box<client::Exchange>,
    bodies: Option<Box<[Body; 2]>>,
    pub(crate) cancel: OnceLock<CancelHandle>,
}

/// What [`Exchange::step`] found.
#[derive(Debug)]
pub(crate) enum Step {
    /// The next chunk, or the end.
    Done(Option<Chunk>),
    /// The reader must be asked for more bytes; hold no lock then.
    Reader,
    /// Nothing, until the socket is ready.
    Wait,
}

impl Exchange {
    pub(crate) fn new(
        core: Box<client::Exchange>,
        bodies: Option<Box<[Body; 2]>>,
        cancel: Option<CancelHandle>,
    ) -> Self {
        let cancel = cancel.map_or_else(OnceLock::new, OnceLock::from);
        Self { core, bodies, cancel }
    }

    /// The next bytes or the end, on a connection that nobody else uses. It has left the connection
    /// then.
    pub(crate) fn chunk(&mut self, link: &mut Link) -> Result<Option<Chunk>, Error> {
        let chunk = self.next_chunk(link);
        if self.core.is_over() {
            link.leave(&mut self.core);
        }
        chunk
    }

    /// The next bytes or the end. The request must [leave](Carrier::leave) the connection once it is
    /// over.
    pub(crate) fn next_chunk(&mut self, link: &mut Link) -> Result<Option<Chunk>, Error> {
        self.hand_out(|exchange| exchange.next(link))
    }

    /// Hands out what is at hand, or what `next` waits for.
    pub(crate) fn hand_out(
        &mut self,
        next: impl FnOnce(&mut Self) -> Result<Option<Chunk>, Error>,
    ) -> Result<Option<Chunk>, Error> {
        if let Some(chunk) = self.core.at_hand() {
            return Ok(chunk);
        }
        let next = next(self);
        self.core.hand_out(next, Instant::now)
    }

    fn next(&mut self, link: &mut Link) -> Result<Option<Chunk>, Error> {
        loop {
            let mut now = self.core.just_begun();
            match self.step(link, &mut now)? {
                Step::Done(chunk) => return Ok(chunk),
                // Read what has arrived, before the body's reader may block.
                Step::Reader => {
                    if !link.turn(true) {
                        self.read_body()?;
                    }
                }
                Step::Wait => {
                    let now = now.unwrap_or_else(Instant::now);
                    let limit = link.session.limit(&mut self.core, now);
                    match link.wait(limit.map(|limit| limit.at), self.cancel.get())? {
                        Waited::Ready(ready) => {
                            link.turn(ready != PollFlags::OUT);
                        }
                        Waited::TimedOut => self.check_limit(limit)?,
                        Waited::Woken => {}
                    }
                }
            }
        }
    }

    /// Does what can be done without waiting. `now` is the time, if it is known; it is read once,
    /// unless something is done in between.
    pub(crate) fn step(
        &mut self,
        link: &mut Link,
        now: &mut Option<Instant>,
    ) -> Result<Step, Error> {
        loop {
            CancelHandle::check(self.cancel.get(), self.core.address())?;
            if let Some(end) = self.core.come_end() {
                return end.map(Step::Done);
            }
            if let Poll::Ready(polled) = link.session.poll(&mut self.core, Instant::now) {
                return polled.map(Step::Done);
            }
            if self.fill()? || link.turn_at(false, || *now.get_or_insert_with(Instant::now)) {
                *now = None;
                continue;
            }
            let sent = link.session.is_writable() && !link.session.is_blocked();
            let asks = sent && self.core.wants_body().is_some();
            return Ok(if asks { Step::Reader } else { Step::Wait });
        }
    }

    pub(crate) fn cancel_handle(&self) -> CancelHandle {
        self.cancel.get_or_init(CancelHandle::new).clone()
    }

    /// Hands over what is in memory of the body that is being sent; true if there was anything.
    fn fill(&mut self) -> Result<bool, Error> {
        let Some(piece) = self.body().and_then(Body::at_hand) else { return Ok(false) };
        self.core.handle_body(Ok(piece))?;
        Ok(true)
    }

    /// Reads from the reader that [`Step::Reader`] reported. It may block.
    pub(crate) fn read_body(&mut self) -> Result<(), Error> {
        let Some(piece) = self.body().map(Body::read) else { return Ok(()) };
        self.core.handle_body(piece)
    }

    /// The body whose next piece can be sent.
    fn body(&mut self) -> Option<&mut Body> {
        let input = self.core.wants_body()?;
        Some(&mut self.bodies.as_mut()?[input as usize])
    }

    pub(crate) fn check_limit(&self, limit: Option<Limit>) -> Result<(), Error> {
        match limit {
            Some(limit) if Instant::now() >= limit.at => Err(self.core.passed(limit)),
            _ => Ok(()),
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.core.give_up(Instant::now);
    }
}

/// A source of chunks.
pub(crate) trait Chunks {
    fn next_chunk(&mut self) -> Result<Option<Chunk>, Error>;
    /// The request, unless it was detached.
    fn exchange_mut(&mut self) -> Option<&mut Exchange>;

    /// The bytes of STDOUT only, as from a reader.
    fn read_stdout(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            let chunk = self.next_chunk()?;
            let Some(exchange) = self.exchange_mut() else { return Ok(0) };
            if let Some(bytes) = exchange.core.cut(chunk, buf.len()) {
                buf[..bytes.len()].copy_from_slice(&bytes);
                return Ok(bytes.len());
            }
        }
    }
}
