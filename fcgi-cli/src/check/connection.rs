//! A connection of a case: what was sent and what came.

use std::{
    io,
    time::{Duration, Instant},
};

use fcgi_tokio::{
    Address, Transport,
    proto::record::{Framer, Piece, RecordHeader, RecordType},
};
use tokio::{io::Interest, select, time::sleep_until};

use crate::stream::{self, ready, try_read, try_write, waits};

/// How many bytes of each direction are kept for display.
const KEPT: usize = 4096;

/// A record that came.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) kind: RecordType,
    pub(super) id: u16,
    pub(super) content: Vec<u8>,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    Record(Came),
    /// The connection ended, between records or not.
    Closed {
        reset: bool,
        whole: bool,
    },
    /// Nothing came in time.
    Silence,
    /// The bytes are not a record.
    Broken(String),
}

/// One connection.
pub(super) struct Connection {
    stream: Transport,
    framer: Framer,
    header: Option<RecordHeader>,
    content: Vec<u8>,
    /// Bytes that were read but not parsed yet.
    unread: Vec<u8>,
    /// Bytes to write.
    unsent: Vec<u8>,
    ended: Option<bool>,
    /// The other end takes no more.
    pub(super) deaf: bool,
    pub(super) sent: Log,
    pub(super) received: Log,
}

/// Bytes to show if a case fails.
#[derive(Default)]
pub(super) struct Log {
    pub(super) start: Vec<u8>,
    pub(super) total: u64,
}

impl Log {
    fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = KEPT.saturating_sub(self.start.len());
        self.start.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

impl Connection {
    pub(super) async fn open(address: &Address, limit: Duration) -> io::Result<Self> {
        let connected = tokio::time::timeout(limit, stream::connect(address)).await;
        let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(Self {
            stream,
            framer: Framer::new(),
            header: None,
            content: Vec::new(),
            unread: Vec::new(),
            unsent: Vec::new(),
            ended: None,
            deaf: false,
            sent: Log::default(),
            received: Log::default(),
        })
    }

    /// Queues bytes, which are sent while the next records are awaited.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.sent.push(bytes);
        self.unsent.extend_from_slice(bytes);
    }

    /// Sends everything that is queued, and reads what comes meanwhile. True if all was sent.
    pub(super) async fn flush(&mut self, until: Instant) -> bool {
        while !self.unsent.is_empty() && !self.deaf && self.ended.is_none() {
            if !self.turn(until).await {
                return false;
            }
        }
        self.unsent.is_empty()
    }

    /// Shuts down the sending side.
    pub(super) fn half_close(&self) {
        fcgi_driver::runtime::Transport::shutdown_write(&self.stream);
    }

    /// The next record.
    pub(super) async fn next(&mut self, until: Instant) -> Next {
        loop {
            match self.parse() {
                Ok(Some(came)) => return Next::Record(came),
                Ok(None) => {}
                Err(what) => return Next::Broken(what),
            }
            if let Some(reset) = self.ended {
                return Next::Closed { reset, whole: self.framer.is_at_boundary() };
            }
            if !self.turn(until).await {
                return Next::Silence;
            }
        }
    }

    /// Moves some bytes; `false` when the time is over.
    async fn turn(&mut self, until: Instant) -> bool {
        let interest = if self.unsent.is_empty() || self.deaf {
            Interest::READABLE
        } else {
            Interest::READABLE | Interest::WRITABLE
        };
        select! {
            _ = ready(&self.stream, interest) => {}
            () = sleep_until(until.into()) => return false,
        }
        if !self.unsent.is_empty() && !self.deaf {
            let written = try_write(&self.stream, &self.unsent);
            if !waits(&written) {
                match written {
                    Ok(n) => drop(self.unsent.drain(..n)),
                    Err(_) => self.deaf = true,
                }
            }
        }
        let mut block = vec![0; 64 * 1024];
        let read = try_read(&self.stream, &mut block);
        if !waits(&read) {
            match read {
                Ok(0) => self.ended = Some(false),
                Ok(n) => {
                    self.received.push(&block[..n]);
                    self.unread.extend_from_slice(&block[..n]);
                }
                Err(_) => self.ended = Some(true),
            }
        }
        true
    }

    fn parse(&mut self) -> Result<Option<Came>, String> {
        let mut at = 0;
        let found = loop {
            let (used, piece) = match self.framer.next(&self.unread[at..], usize::MAX) {
                Ok(next) => next,
                Err(error) => return Err(error.to_string()),
            };
            let bytes = &self.unread[at..at + used];
            match piece {
                Some(Piece::Header(header)) => {
                    self.header = Some(header);
                    self.content.clear();
                }
                Some(Piece::Content(_)) => self.content.extend_from_slice(bytes),
                Some(Piece::End) => {
                    if let Some(header) = self.header.take() {
                        let content = std::mem::take(&mut self.content);
                        let RecordHeader { record_type: kind, request_id: id, .. } = header;
                        break Some(Came { kind, id, content });
                    }
                }
                None => {
                    at += used;
                    break None;
                }
            }
            at += used;
        };
        self.unread.drain(..at);
        Ok(found)
    }
}
